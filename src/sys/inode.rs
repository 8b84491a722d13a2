//! What the kernel tells of inodes that no crate wraps: statx(2), getdents64(2), and the flags of chattr(1).

#![expect(unsafe_code, reason = "three system calls that no crate wraps")]

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

pub use crate::view::{APPEND_ONLY, IMMUTABLE};

/// The flags of chattr(1) (`FS_IOC_GETFLAGS`) of an opened regular file or directory.
///
/// # Errors
/// As ioctl_iflags(2): ENOTTY or EOPNOTSUPP where the filesystem has none.
pub fn flags(fd: BorrowedFd<'_>) -> nix::Result<u32> {
    let mut flags: libc::c_uint = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and the kernel writes one unsigned int (whatever
    // size the request number says, see ioctl_iflags(2)) into `flags`, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    Errno::result(result).map(|_| flags)
}

/// Sets the flags of chattr(1) (`FS_IOC_SETFLAGS`).
///
/// # Errors
/// As ioctl_iflags(2).
pub fn set_flags(fd: BorrowedFd<'_>, flags: u32) -> nix::Result<()> {
    let flags: libc::c_uint = flags;
    // SAFETY: as for reading; the kernel only reads one unsigned int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) };
    Errno::result(result).map(drop)
}

/// What a walk wants to know of an entry, in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statx {
    /// Type and permission bits (`stx_mode`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Inode number.
    pub ino: u64,
    /// Device, encoded as `st_dev`.
    pub dev: u64,
    /// [`IMMUTABLE`] and [`APPEND_ONLY`], where the filesystem reports them here.
    pub flags: u32,
    /// It is the root of another mount (Linux 5.8 and later).
    pub mount_root: bool,
}

/// statx(2) of one name in an open directory, never through a link.
///
/// # Errors
/// As statx(2).
pub fn statx(dir: impl AsFd, name: &CStr) -> nix::Result<Statx> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_TYPE
        | libc::STATX_MODE
        | libc::STATX_UID
        | libc::STATX_GID
        | libc::STATX_NLINK
        | libc::STATX_INO;
    // The system call itself: std knows the C library's statx as a weak symbol, and link-time optimisation of a static
    // binary lets that win, which leaves the address null.
    // SAFETY: `name` is NUL-terminated, the descriptor is open, and the kernel writes one struct statx into `buffer`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC,
            mask,
            buffer.as_mut_ptr(),
        )
    };
    Errno::result(result)?;
    // SAFETY: zeroed before, and every bit pattern is a valid struct of integers.
    let raw = unsafe { buffer.assume_init() };
    let attributes = raw.stx_attributes & raw.stx_attributes_mask;
    let has = |bit: libc::c_int| attributes & u64::from(bit.unsigned_abs()) != 0;
    let mut flags = 0;
    if has(libc::STATX_ATTR_IMMUTABLE) {
        flags |= IMMUTABLE;
    }
    if has(libc::STATX_ATTR_APPEND) {
        flags |= APPEND_ONLY;
    }
    Ok(Statx {
        mode: raw.stx_mode.into(),
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        nlink: raw.stx_nlink,
        ino: raw.stx_ino,
        dev: libc::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        flags,
        mount_root: has(libc::STATX_ATTR_MOUNT_ROOT),
    })
}

/// getdents64(2): fills the buffer with directory records and says how many bytes; 0 at the end.
///
/// # Errors
/// As getdents64(2).
pub fn getdents(dir: impl AsFd, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into the exclusively borrowed buffer.
    let result = unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_fd().as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    Errno::result(result).map(|length| usize::try_from(length).unwrap_or(0))
}
