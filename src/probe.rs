//! What the bytes of a disk say: partition tables and superblocks. Pure.
//!
//! The bytes come through [`ReadAt`], so that a test can give a slice and [`crate::volume`] a device. They are hostile:
//! every field is read with bounds, every count is capped, every chain is cut.

use std::io;

mod bytes;
mod container;
mod demands;
mod ext_copy;
mod image;
pub mod inode_table;
mod layout;
mod luks;
mod lvm;
mod mbr;
mod md;
mod partition;
mod superblock;

pub use demands::lacking;
pub use image::{Backing, DiskImage, Format, disk_image};
pub use layout::{Layout, Slot, layout};
pub use luks::Encrypted;
pub use lvm::{Found as FoundLogical, Logical, Physicals, Piece, volumes as logical_volumes};
pub use md::Member;
pub use partition::{Partition, PartitionType, Table, TableError, TableKind};
pub use superblock::{Btrfs, Content, Detail, Ext, ExtCopy, Kind, Superblock, Xfs, probe};

/// Something that has bytes at offsets: a device, an image, a slice in a test.
pub trait ReadAt {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Up to `length` bytes from `offset`; fewer only where the end is reached.
    ///
    /// # Errors
    /// What the device says.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let end = start.saturating_add(length).min(self.len());
        Ok(self.get(start..end).unwrap_or_default().to_vec())
    }
}

/// A part of something larger, as if it began at 0.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    inner: &'a dyn ReadAt,
    offset: u64,
    size: u64,
}

impl<'a> Window<'a> {
    /// The `size` bytes at `offset`, cut where `inner` ends.
    #[must_use]
    pub fn new(inner: &'a dyn ReadAt, offset: u64, size: u64) -> Self {
        Self { inner, offset, size: size.min(inner.size().saturating_sub(offset)) }
    }
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window")
            .field("offset", &self.offset)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl ReadAt for Window<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        match self.offset.checked_add(offset) {
            Some(start) if left > 0 => self.inner.read_at(start, length.min(left)),
            _ => Ok(Vec::new()),
        }
    }
}
