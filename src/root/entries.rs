//! Reading a directory piece by piece, however large it is, so that it can be left and taken up again.

use crate::sys;
use nix::unistd::{Whence, lseek};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Bytes read from a directory at once.
pub const CHUNK: usize = 64 << 10;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// `d_type`; 0 where the filesystem does not say.
    pub kind: u8,
    /// Inode number.
    pub ino: u64,
    /// Where reading goes on after it.
    pub next: i64,
}

/// `d_type` of a directory.
pub const DT_DIR: u8 = 4;
/// `d_type` of what the filesystem does not say.
pub const DT_UNKNOWN: u8 = 0;

/// Reads the next entries into `buffer` and gives the filled part; empty at the end.
///
/// # Errors
/// As getdents64(2).
pub fn read_chunk(dir: impl AsFd, buffer: &mut [u8]) -> nix::Result<&[u8]> {
    let length = sys::inode::getdents(dir, buffer)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Goes on reading where an entry's `next` says.
///
/// # Errors
/// As lseek(2).
pub fn seek(dir: impl AsFd, next: i64) -> nix::Result<()> {
    lseek(dir, next, Whence::SeekSet).map(drop)
}

/// The entries in what [`read_chunk`] gave, without `.` and `..`.
pub fn parse(mut chunk: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        loop {
            // struct linux_dirent64: d_ino (8), d_off (8), d_reclen (2), d_type (1), d_name.
            let ino = u64::from_ne_bytes(chunk.get(..8)?.try_into().ok()?);
            let next = i64::from_ne_bytes(chunk.get(8..16)?.try_into().ok()?);
            let length = usize::from(u16::from_ne_bytes(chunk.get(16..18)?.try_into().ok()?));
            let kind = *chunk.get(18)?;
            let name = CStr::from_bytes_until_nul(chunk.get(19..length)?).ok()?;
            chunk = chunk.get(length..)?;
            if name != c"." && name != c".." {
                return Some(Entry { name, kind, ino, next });
            }
        }
    })
}
