//! Where a filesystem keeps its inodes, and what one of them says: what can be read without a name and a call for each.
//!
//! ext and xfs have them at places that follow from their numbers; btrfs tells a range of them by
//! `BTRFS_IOC_TREE_SEARCH_V2`.

use super::ReadAt;
use std::io;

mod btrfs;
mod ext;
mod xfs;

pub use btrfs::inodes as btrfs_inodes;
use ext::ExtTable;
use xfs::XfsTable;

/// `FS_IMMUTABLE_FL`.
const IMMUTABLE: u32 = 0x10;
/// `FS_APPEND_FL`.
const APPEND_ONLY: u32 = 0x20;

/// The places of the inodes of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InodeTable(Shape);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Ext(ExtTable),
    Xfs(XfsTable),
}

/// What an inode of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInode {
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// As chattr(1) shows them; of xfs and btrfs only "immutable" (0x10) and "append only" (0x20).
    pub flags: u32,
    /// There may be a file capability among its extended attributes.
    pub may_have_capability: bool,
}

impl InodeTable {
    /// Reads superblock and group descriptors of ext2, ext3 or ext4; `None` where there is none, or its inodes are not to be
    /// found or read this simply.
    ///
    /// # Errors
    /// What the device says.
    pub fn read_ext(device: &dyn ReadAt) -> io::Result<Option<Self>> {
        Ok(ExtTable::read(device)?.map(|ext| Self(Shape::Ext(ext))))
    }

    /// The same of xfs.
    ///
    /// # Errors
    /// What the device says.
    pub fn read_xfs(device: &dyn ReadAt) -> io::Result<Option<Self>> {
        Ok(XfsTable::read(device)?.map(|xfs| Self(Shape::Xfs(xfs))))
    }

    /// Bytes of an inode.
    #[must_use]
    pub fn inode_size(&self) -> usize {
        match &self.0 {
            Shape::Ext(ext) => ext.inode_size(),
            Shape::Xfs(xfs) => xfs.inode_size(),
        }
    }

    /// The first byte of an inode on the device; `None` for a number that no inode has.
    #[must_use]
    pub fn position(&self, inode: u64) -> Option<u64> {
        match &self.0 {
            Shape::Ext(ext) => ext.position(inode),
            Shape::Xfs(xfs) => xfs.position(inode),
        }
    }

    /// Reads the bytes of the inode of this number; `None` if it is not in use.
    #[must_use]
    pub fn inode(&self, number: u64, bytes: &[u8]) -> Option<TableInode> {
        match &self.0 {
            Shape::Ext(_) => ext::inode(bytes),
            Shape::Xfs(xfs) => xfs.inode(number, bytes),
        }
    }
}
