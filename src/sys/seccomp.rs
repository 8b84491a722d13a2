//! A seccomp(2) filter for programs that are not trusted and are root in a sandbox: it takes away what no namespace and no
//! capability does.
//!
//! - Kernel keyrings are those of the user id, whatever the namespaces: root inside would read and change root's keys.
//! - A user namespace gives back every capability, and with them mounts, whose memory nobody counts.
//! - Memory files, System V memory and io_uring are memory of no process: they would pass by the watch over it.
//! - An ioctl types on the terminal that the process shares with the operator (TIOCSTI; TIOCLINUX pastes on a console).
//! - A process of a real-time class would keep the helper's processors for itself.
//!
//! A call that is taken away looks as on a kernel that never had it (ENOSYS), so that programs go on without.

#![expect(unsafe_code, reason = "a prctl that no crate wraps")]

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};

/// Offsets in `struct seccomp_data` (linux/seccomp.h); of the first argument the lower half.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "big") { 20 } else { 16 };
/// Of the second argument the lower half.
const SECOND_ARGUMENT: u32 = FIRST_ARGUMENT + 8;
/// `TIOCSTI` and `TIOCLINUX` (asm-generic/ioctls.h).
const TYPING: [u32; 2] = [0x5412, 0x541c];
/// `CLONE_NEWUSER` (sched.h).
const NEW_USER: u32 = 0x1000_0000;

/// The system calls of one architecture, as an audit record numbers it (linux/audit.h).
struct Calls {
    architecture: u32,
    /// Numbers from here on are those of another ABI of the same architecture (x32).
    end: u32,
    /// As if the kernel did not have them.
    absent: &'static [u32],
    /// Whose first argument must not ask for a user namespace.
    flagged: &'static [u32],
    /// ioctl.
    ioctl: u32,
}

#[cfg(target_arch = "x86_64")]
const ALL: [Calls; 2] = [
    Calls {
        architecture: 0xc000_003e,
        end: 0x4000_0000,
        // add_key, request_key, keyctl, setns, perf_event_open, sched_setscheduler, sched_setattr, memfd_create, bpf,
        // userfaultfd, io_uring_setup, clone3, memfd_secret, shmget
        absent: &[248, 249, 250, 308, 298, 144, 314, 319, 321, 323, 425, 435, 447, 29],
        // clone, unshare
        flagged: &[56, 272],
        ioctl: 16,
    },
    // The same calls as a 32-bit program numbers them; ipc (117) is the older way to shmget (395).
    Calls {
        architecture: 0x4000_0003,
        end: u32::MAX,
        absent: &[286, 287, 288, 346, 336, 156, 351, 356, 357, 374, 425, 435, 447, 395, 117],
        flagged: &[120, 310],
        ioctl: 54,
    },
];

/// The generic table of the newer architectures (asm-generic/unistd.h).
#[cfg(not(target_arch = "x86_64"))]
const ALL: [Calls; 1] = [Calls {
    architecture: if cfg!(target_arch = "riscv64") { 0xc000_00f3 } else { 0xc000_00b7 },
    end: u32::MAX,
    absent: &[217, 218, 219, 268, 241, 119, 274, 279, 280, 282, 425, 435, 447, 194],
    flagged: &[220, 97],
    ioctl: 29,
}];

/// Takes the calls away from this thread and from all that it starts. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// As prctl(2): EINVAL on a kernel without filters.
pub fn confine() -> nix::Result<()> {
    let program = program();
    let filter = sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        filter: program.as_ptr().cast_mut(),
    };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: the kernel copies the filter, of which pointer and length are those of a vector that lives until after the
    // call, and writes nothing.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) }).map(drop)
}

fn program() -> Vec<sock_filter> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    // Goes on with the next step where it holds, else leaves out so many.
    let test = |how: u32, value, skip| step(libc::BPF_JMP | how | libc::BPF_K, 0, skip, value);
    let end = |how: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, how);
    let fail = |errno: Errno| end(libc::SECCOMP_RET_ERRNO | (errno as u32));
    let mut all = vec![load(ARCHITECTURE)];
    for calls in &ALL {
        let mut part = vec![load(NUMBER)];
        part.extend([test(libc::BPF_JGE, calls.end, 1), fail(Errno::ENOSYS)]);
        for &number in calls.absent {
            part.extend([test(libc::BPF_JEQ, number, 1), fail(Errno::ENOSYS)]);
        }
        for &number in calls.flagged {
            part.extend([test(libc::BPF_JEQ, number, 4), load(FIRST_ARGUMENT)]);
            part.extend([test(libc::BPF_JSET, NEW_USER, 1), fail(Errno::EPERM)]);
            part.push(end(libc::SECCOMP_RET_ALLOW));
        }
        part.extend([test(libc::BPF_JEQ, calls.ioctl, 5), load(SECOND_ARGUMENT)]);
        for command in TYPING {
            part.extend([test(libc::BPF_JEQ, command, 1), fail(Errno::EPERM)]);
        }
        part.push(end(libc::SECCOMP_RET_ALLOW));
        all.push(test(libc::BPF_JEQ, calls.architecture, u8::try_from(part.len()).unwrap_or(u8::MAX)));
        all.extend(part);
    }
    // An architecture that this helper was not said to run.
    all.push(fail(Errno::ENOSYS));
    all
}
