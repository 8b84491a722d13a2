//! What no crate wraps of a process's own rights and of a network namespace: prctl(2) `PR_CAPBSET_DROP`, and the flag that
//! brings an interface up (netdevice(7)).

#![expect(unsafe_code, reason = "a prctl and two ioctls that no crate wraps")]

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
