//! What no crate wraps of a process's own rights and of a network namespace: prctl(2) `PR_CAPBSET_DROP`, capset(2), and
//! the flag that brings an interface up (netdevice(7)).

#![expect(unsafe_code, reason = "a prctl, capget, capset and two ioctls that no crate wraps")]

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsFd, AsRawFd};

/// The highest capability number that is tried; the kernel says where its own end.
const LAST: u32 = 63;

/// Takes every capability that is not in `keep` out of the bounding set: no program that is executed from now on has
/// it, root or not (capabilities(7)).
///
/// # Errors
/// As prctl(2).
pub fn keep_capabilities(keep: &[u32]) -> nix::Result<()> {
    for capability in (0..=LAST).filter(|capability| !keep.contains(capability)) {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory of this process.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        match Errno::result(result) {
            // Beyond the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            other => other.map(drop)?,
        }
    }
    Ok(())
}

/// Takes every capability that is not in `keep` from this process itself: out of its effective, permitted and inheritable
/// sets, never to be had again but by executing a program as root. Meant for a process of one thread.
///
/// # Errors
/// As capset(2).
pub fn limit_capabilities(keep: &[u32]) -> nix::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h): two sets of three 32-bit words.
    const VERSION: u32 = 0x2008_0522;
    let mut header = [VERSION, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: the kernel reads a header of two words and writes two structures of three words; both arrays are these.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) })?;
    for (at, set) in sets.iter_mut().enumerate() {
        let half = u32::from(at >= 3) * 32;
        let kept = keep.iter().filter(|capability| (half..half + 32).contains(*capability));
        *set &= kept.fold(0, |kept, capability| kept | 1 << (capability - half));
    }
    // SAFETY: as before; the kernel only reads both.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) }).map(drop)
}

/// Brings the interface `lo` up, in the network namespace of `socket`.
///
/// # Errors
/// As netdevice(7).
pub fn bring_loopback_up(socket: impl AsFd) -> nix::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: zeros are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the descriptor is open, the name ends with a NUL, and the kernel writes into the request, which outlives
    // the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request) })?;
    let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: the flags are the member of the union that the call before has filled in.
    unsafe { request.ifr_ifru.ifru_flags |= up };
    // SAFETY: as before; the kernel only reads the request.
    Errno::result(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}
