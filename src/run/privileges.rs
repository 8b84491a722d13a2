//! What this process and its children may do: no more than the work needs, from the start.
//!
//! The shell that `shell` gives is the operator's own, so nothing is taken from it.

use crate::cli::Command;
use crate::error::Refusal;
use crate::root;
use crate::sys::process::{keep_capabilities, limit_capabilities};
use nix::errno::Errno;

/// The capabilities that are used (linux/capability.h): `CHOWN`, `DAC_OVERRIDE`, `DAC_READ_SEARCH`, `FOWNER`, `FSETID`,
/// `LINUX_IMMUTABLE`, `SETFCAP` and `MAC_ADMIN` (labels that the helper's policy does not know) to change files;
/// `SYS_ADMIN` for mounts, loop devices, namespaces and `trusted.` attributes; `SYS_PTRACE` to name who holds a device;
/// `MKNOD`, `NET_ADMIN`, `SYS_RESOURCE`, `SETPCAP`, `KILL`, `SETGID`, `SETUID`, `NET_BIND_SERVICE`, `SYS_CHROOT`,
/// `SYS_NICE`, `AUDIT_WRITE` and `AUDIT_CONTROL` for the sandbox of `prove` and the sshd in it.
const USED: [u32; 22] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 18, 19, 21, 23, 24, 27, 29, 30, 31, 33];

/// Gives up what is not needed. What cannot be given up is said with `-v`, and no reason to stop: root in a container may
/// lack the right to it.
pub(super) fn reduce(command: &Command) {
    if matches!(command, Command::Shell(_) | Command::Enclose(_)) {
        return;
    }
    let told = |what: &str, done: nix::Result<()>| match done {
        // Who is not root has nothing to give up.
        Err(Errno::EPERM) if !nix::unistd::geteuid().is_root() => {}
        Err(errno) => tracing::warn!(%errno, "{what}"),
        Ok(()) => {}
    };
    told("no program can be kept from gaining rights", nix::sys::prctl::set_no_new_privs());
    told("programs that are started keep all capabilities", keep_capabilities(&USED));
    told("all capabilities are kept", limit_capabilities(&USED));
}

/// Refuses a kernel without openat2 at once, before anything is opened or mounted.
pub(super) fn check_kernel(command: &Command) -> Option<(&'static str, bool, Refusal)> {
    let (name, json) = match command {
        Command::Diagnose(args) => ("diagnose", args.output.json),
        Command::Repair(args) => ("repair", args.output.json),
        Command::Prove(args) => ("prove", args.output.json),
        Command::Shell(args) => ("shell", args.output.json),
        Command::Undo(args) => ("undo", args.output.json),
        _ => return None,
    };
    root::check_kernel().err().map(|refusal| (name, json, refusal))
}
