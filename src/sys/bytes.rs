//! Open files and devices as bytes.

use crate::probe::ReadAt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An open file or device as bytes.
#[derive(Clone, Copy, Debug)]
pub struct FileBytes<'a> {
    /// Open for reading.
    pub file: &'a File,
    /// Its size in bytes: what a device says is not in its metadata.
    pub size: u64,
}

impl ReadAt for FileBytes<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        let filled = fill_at(self.file, &mut bytes, offset)?;
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// Fills the buffer from `offset` on, and says how far; less than the whole only where the file ends.
///
/// # Errors
/// What the file or device says, but for an interruption.
pub fn fill_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
