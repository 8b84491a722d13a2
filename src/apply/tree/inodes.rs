//! Inodes by their numbers, many at once: out of the inode table of a mounted ext filesystem or xfs, or a btrfs
//! subvolume's tree.
//!
//! A name costs a system call and leaves an inode in the kernel's memory, which unmounting has to give up again; the
//! table costs one read for some sixty inodes. Only regular files and the like are looked for so: a directory has to be
//! opened in any case.
//!
//! ext4 keeps its table in the page cache of the block device, and changes an inode there in the same call that changes
//! it in memory (`ext4_mark_iloc_dirty`): what is read is what the kernel has. xfs and btrfs write what has changed later.
//! What is read there only tells what may stay: what would change is asked of the kernel by name, with its attributes. On
//! a volume of our own nothing is late but the changes of this run. On a running system btrfs is made to write what it has
//! before the walk: what others change later may not be seen, even where the walk comes by after it. xfs can't be made to.
//!
//! A number in a directory is not what a name leads to where something is mounted on it; so there must be no mounts below.
//! On a running system nothing is kept from one piece of work to the next: what is read is younger than the name that led
//! there. It may be another inode's a moment later, as after any look: who changes an owner there looks again.
//!
//! xfs also tells of many inodes by ioctl_xfs_bulkstat(2), but takes as long for that as for as many names.

use super::walk::Told;
use crate::probe::ReadAt;
use crate::probe::inode_table::{InodeTable, TableInode, btrfs_inodes};
use crate::root::Directory;
use crate::root::entries::{DT_DIR, DT_UNKNOWN};
use crate::sys;
use crate::sys::block::TreeItems;
use crate::sys::bytes::{FileBytes, fill_at};
use crate::sys::inode::{Statx, statx};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, XFS_SUPER_MAGIC, fstatfs};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Read at once, in bytes.
const WINDOW: usize = 16 << 10;
/// How many windows a thread remembers.
const WINDOWS: usize = 8;
/// So many more names that were asked for all the same than such that were not, and reading does not pay.
const LOSING: i32 = 256;
/// Items of a subvolume asked for at once, at least: an inode has about two, its own and its name's.
const ITEMS: u32 = 16;
/// Of so many pieces of work one is read all the same then: what follows may be another tree.
const AGAIN: u32 = 32;

/// The inodes of the filesystem that a walk is on.
#[derive(Debug)]
pub(super) struct Inodes {
    source: Source,
    /// `st_dev` of all of them.
    number: u64,
    current: bool,
}

/// Who uses a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Nobody but this process.
    Us,
    /// A running system; it may be made to write what it has changed, or not.
    Others { may_write: bool },
}

#[derive(Debug)]
enum Source {
    Table {
        device: File,
        table: InodeTable,
    },
    /// Something in the subvolume.
    Subvolume(OwnedFd),
}

impl Inodes {
    /// The inodes of the filesystem of this directory, which `st_dev` calls so; `None` where they are not to be read.
    /// Nothing depends on it: without them the kernel is asked for each name.
    pub(super) fn of(top: &Directory, number: u64, user: User) -> Option<Self> {
        let kind: FsType = fstatfs(top).ok()?.filesystem_type();
        let source = match kind {
            BTRFS_SUPER_MAGIC => {
                match user {
                    User::Us => {}
                    User::Others { may_write: true } => sys::block::btrfs_commit(top).ok()?,
                    User::Others { may_write: false } => return None,
                }
                Source::Subvolume(top.as_fd().try_clone_to_owned().ok()?)
            }
            // The bytes of another filesystem may look like a table.
            EXT4_SUPER_MAGIC => table(sys::block::open_number(number).ok()?, InodeTable::read_ext)?,
            XFS_SUPER_MAGIC if user == User::Us => {
                let device = sys::block::open_number(number).ok()?;
                // xfs goes past the device's page cache: what was read before it was mounted may be older than its log.
                posix_fadvise(&device, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok()?;
                table(device, InodeTable::read_xfs)?
            }
            _ => return None,
        };
        Some(Self { source, number, current: kind == EXT4_SUPER_MAGIC })
    }

    /// Whether they are as the kernel has them, at any time.
    pub(super) fn are_current(&self) -> bool {
        self.current
    }
}

/// The table of the filesystem on a block device.
fn table(device: File, read: fn(&dyn ReadAt) -> io::Result<Option<InodeTable>>) -> Option<Source> {
    let size = sys::block::size(&device).ok()?;
    let table = read(&FileBytes { file: &device, size }).ok()??;
    Some(Source::Table { device, table })
}

/// Whether entries of that kind are looked for among what is read.
pub(super) fn is_read(told: Told) -> bool {
    ![DT_DIR, DT_UNKNOWN].contains(&told.kind)
}

/// What one thread has read lately.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Pieces of a table by their first byte.
    read: Vec<(u64, Box<[u8]>)>,
    next: usize,
    /// Inodes of a subvolume, by their numbers.
    run: Vec<(u64, TableInode)>,
    items: Option<TreeItems>,
    /// How many were found in what was read of a subvolume last.
    used: u32,
    /// How many more names were spared than read in vain.
    balance: i32,
    /// For how many pieces of work nothing was read.
    passed: u32,
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
        self.run.clear();
        for (at, _) in &mut self.read {
            *at = u64::MAX;
        }
    }

    /// Whether reading pays for a piece of work. Where inodes are not current, one that changes is asked of the kernel all
    /// the same, and xfs reads it a second time for that.
    pub(super) fn pays(&mut self, inodes: &Inodes) -> bool {
        if inodes.current || self.balance > -LOSING {
            return true;
        }
        self.passed = (self.passed + 1) % AGAIN;
        self.passed == 0
    }

    /// Counts a name that need not be asked for, or was read in vain.
    pub(super) fn count(&mut self, told: Told, spared: bool) {
        if is_read(told) {
            let by = if spared { 1 } else { -1 };
            self.balance = (self.balance + by).clamp(-2 * LOSING, 2 * LOSING);
        }
    }

    /// An inode of that `d_type`; `None` where the kernel has to be asked.
    pub(super) fn look(&mut self, inodes: &Inodes, told: Told) -> Option<Seen> {
        if is_read(told) { self.seen(inodes, told) } else { None }
    }

    /// The owner of an open directory, if its inode is read as the kernel has it. In a table it mostly lies by those of its
    /// entries, and the kernel has it already: less is read than for a name. In a subvolume it would be searched for by
    /// itself.
    pub(super) fn agree_on(&mut self, inodes: &Inodes, directory: &Directory) -> Option<(u32, u32)> {
        let Source::Table { .. } = inodes.source else { return None };
        let stat = statx(directory, c".").ok()?;
        let read = self.seen(inodes, Told { ino: stat.ino, kind: DT_DIR })?;
        (read.stat == stat).then_some((stat.uid, stat.gid))
    }

    fn seen(&mut self, inodes: &Inodes, told: Told) -> Option<Seen> {
        let Told { ino, kind } = told;
        let inode = match &inodes.source {
            Source::Table { device, table } => self.in_table(device, table, ino),
            Source::Subvolume(inside) => self.in_subvolume(inside, ino),
        }?;
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

    fn in_table(&mut self, device: &File, table: &InodeTable, ino: u64) -> Option<TableInode> {
        let position = table.position(ino)?;
        let start = position - position % WINDOW as u64;
        let from = usize::try_from(position - start).ok()?;
        let window = self.window(device, start)?;
        table.inode(ino, window.get(from..from + table.inode_size())?)
    }

    fn window(&mut self, device: &File, start: u64) -> Option<&[u8]> {
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
        let filled = fill_at(device, bytes, start).ok()?;
        bytes.get_mut(filled..)?.fill(0);
        *at = start;
        Some(bytes)
    }

    fn in_subvolume(&mut self, inside: &OwnedFd, ino: u64) -> Option<TableInode> {
        let within = |run: &[(u64, TableInode)]| {
            run.first().is_some_and(|(first, _)| *first <= ino)
                && run.last().is_some_and(|(last, _)| ino <= *last)
        };
        if !within(&self.run) {
            // Where the last were of little use the next will be, too.
            let most = std::mem::take(&mut self.used).saturating_mul(8).max(ITEMS);
            let (items, count) = self.items.get_or_insert_default().search(inside, ino, most).ok()?;
            self.run = btrfs_inodes(items, count);
        }
        let found = self.run.binary_search_by_key(&ino, |(number, _)| *number).ok()?;
        self.used = self.used.saturating_add(1);
        self.run.get(found).map(|(_, inode)| *inode)
    }
}
