//! Inodes by their numbers, out of the inode table of a mounted ext filesystem.
//!
//! A name costs a system call and leaves an inode in the kernel's memory, which unmounting has to give up again; the
//! table costs one read for some sixty inodes. What is read is what the kernel has: ext4 keeps its tables in the page
//! cache of the block device, and changes an inode there in the same call that changes it in memory
//! (`ext4_mark_iloc_dirty`). Only regular files and the like are read so: a directory has to be opened in any case.
//!
//! A number in a directory is not what a name leads to where something is mounted on it; so there must be no mounts below.
//! On a running system nothing is kept from one piece of work to the next: what is read is younger than the name that led
//! there. It may be another inode's a moment later, as after any look: who changes an owner there looks again.
//!
//! xfs tells of many inodes at once by ioctl_xfs_bulkstat(2), but takes as long for that as for as many names.

use super::walk::Told;
use crate::probe::inode_table::{InodeTable, TableInode};
use crate::root::Directory;
use crate::root::entries::{DT_DIR, DT_UNKNOWN};
use crate::sys;
use crate::sys::bytes::{FileBytes, fill_at};
use crate::sys::inode::Statx;
use nix::sys::statfs::{EXT4_SUPER_MAGIC, fstatfs};
use std::fs::File;

/// Read at once, in bytes.
const WINDOW: usize = 16 << 10;
/// How many windows a thread remembers.
const WINDOWS: usize = 8;

/// The inode table of the filesystem that a walk is on.
#[derive(Debug)]
pub(super) struct Inodes {
    device: File,
    number: u64,
    table: InodeTable,
}

impl Inodes {
    /// The table of the filesystem of this directory, on the block device of this number (`st_dev`); `None` where there is
    /// none to be read. Nothing depends on it: without a table the kernel is asked for each name.
    pub(super) fn of(top: &Directory, number: u64) -> Option<Self> {
        // The bytes of another filesystem may look like a table.
        if fstatfs(top).ok()?.filesystem_type() != EXT4_SUPER_MAGIC {
            return None;
        }
        let device = sys::block::open_number(number).ok()?;
        let size = sys::block::size(&device).ok()?;
        let table = InodeTable::read(&FileBytes { file: &device, size }).ok()??;
        Some(Self { device, number, table })
    }
}

/// What one thread has read of a table lately.
#[derive(Debug, Default)]
pub(super) struct Windows {
    read: Vec<(u64, Box<[u8]>)>,
    next: usize,
}

/// An entry that was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) stat: Statx,
    pub(super) may_have_capability: bool,
}

impl Windows {
    /// What was read so far is not told any more.
    pub(super) fn forget(&mut self) {
        for (at, _) in &mut self.read {
            *at = u64::MAX;
        }
    }

    /// An inode of that `d_type`; `None` where the kernel has to be asked.
    pub(super) fn look(&mut self, inodes: &Inodes, told: Told) -> Option<Seen> {
        let Told { ino, kind } = told;
        if [DT_DIR, DT_UNKNOWN].contains(&kind) {
            return None;
        }
        let position = inodes.table.position(ino)?;
        let start = position - position % WINDOW as u64;
        let from = usize::try_from(position - start).ok()?;
        let window = self.window(inodes, start)?;
        let inode = TableInode::parse(window.get(from..from + inodes.table.inode_size())?)?;
        // S_IFMT of the mode is `d_type` (dirent.h, IFTODT): a name that leads to something else is the kernel's to judge.
        if inode.mode >> 12 != u32::from(kind) {
            return None;
        }
        let stat = Statx {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            nlink: inode.nlink,
            ino,
            dev: inodes.number,
            flags: inode.flags & (crate::view::IMMUTABLE | crate::view::APPEND_ONLY),
            mount_root: false,
        };
        Some(Seen { stat, may_have_capability: inode.may_have_capability })
    }

    fn window(&mut self, inodes: &Inodes, start: u64) -> Option<&[u8]> {
        if let Some(found) = self.read.iter().position(|(at, _)| *at == start) {
            return self.read.get(found).map(|(_, bytes)| &**bytes);
        }
        if self.read.len() < WINDOWS {
            self.read.push((u64::MAX, vec![0; WINDOW].into()));
            self.next = self.read.len() - 1;
        } else {
            self.next = (self.next + 1) % WINDOWS;
        }
        let (at, bytes) = self.read.get_mut(self.next)?;
        *at = u64::MAX;
        // At the end of the device there may be less.
        let filled = fill_at(&inodes.device, bytes, start).ok()?;
        bytes.get_mut(filled..)?.fill(0);
        *at = start;
        Some(bytes)
    }
}
