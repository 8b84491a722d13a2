//! A batch of entries: looked at for what chown takes away, recorded, changed.

use super::desk::{Desk, Standing};
use super::inodes::Seen;
use super::place::Place;
use super::walk::{Context, Hold};
use crate::apply::inode::{LOCKING, SET_ID, restore_privilege, to_io, unlocked};
use crate::apply::os;
use crate::journal::record::{Batch, BatchDir, Group, Hex, Text};
use crate::root::{Crossing, Directory, kind};
use crate::view::{FileKind, LookError};
use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::fchownat;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An entry that is to change hands.
#[derive(Debug)]
pub(super) struct PendingEntry {
    name: CString,
    owner: (u32, u32),
    mode: u32,
    nlink: u32,
    ino: u64,
    flags: u32,
    may_have_capability: bool,
    /// All flags of chattr(1), where some forbid the change.
    all_flags: Option<u32>,
    caps: Option<Vec<u8>>,
}

impl PendingEntry {
    pub(super) fn new(name: CString, seen: &Seen) -> Self {
        let stat = &seen.stat;
        Self {
            name,
            owner: (stat.uid, stat.gid),
            mode: stat.mode,
            nlink: stat.nlink,
            ino: stat.ino,
            flags: stat.flags,
            may_have_capability: seen.may_have_capability,
            all_flags: None,
            caps: None,
        }
    }

    pub(super) fn with_name(self, name: CString) -> Self {
        Self { name, ..self }
    }

    pub(super) fn owner(&self) -> u32 {
        self.owner.0
    }

    pub(super) fn ino(&self) -> u64 {
        self.ino
    }

    fn kind(&self) -> FileKind {
        kind(self.mode)
    }

    /// Permission bits that chown would take away.
    fn lost_mode(&self) -> Option<u32> {
        let loses = self.kind() == FileKind::Regular && self.mode & SET_ID != 0;
        loses.then_some(self.mode & 0o7777)
    }

    /// Finds out what chown would take away: capabilities, and flags that forbid it.
    pub(super) fn look_closer(
        &mut self,
        standing: &Standing<'_>,
        place: &Arc<Place>,
        path: &Path,
    ) -> Result<()> {
        let looking = |name: &CStr| format!("looking at {}", place.path_of(path, name).display());
        if self.may_have_capability && self.kind() == FileKind::Regular {
            self.caps = standing.capability(&self.name).with_context(|| looking(&self.name))?;
        }
        if self.flags & LOCKING != 0 {
            let handle = standing.directory.handle(os(self.name.to_bytes()));
            let flags = handle.and_then(|handle| handle.flags());
            self.all_flags = match flags {
                Err(LookError::NotFound) => None,
                flags => Some(flags.with_context(|| looking(&self.name))?),
            };
        }
        Ok(())
    }

    /// Whether it is still what was looked at: the same inode of the same owner, with as many names (a directory's are
    /// its own), and with the bits that chown takes away as they are recorded.
    fn is_still(&self, ino: u64, owner: (u32, u32), (kind, mode): (FileKind, u32), nlink: u64) -> bool {
        ino == self.ino
            && owner == self.owner
            && kind == self.kind()
            && mode & SET_ID == self.mode & SET_ID
            && (kind == FileKind::Directory || nlink == u64::from(self.nlink))
    }

    /// `true` if one system call does it.
    fn is_plain(&self) -> bool {
        self.lost_mode().is_none() && self.caps.is_none() && self.all_flags.is_none()
    }
}

/// Entries of one directory.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) hold: Hold,
    pub(super) entries: Vec<PendingEntry>,
}

/// Pieces that are journaled together.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pieces: Vec<Piece>,
    entries: usize,
}

impl Pending {
    pub(super) fn push(&mut self, piece: Piece) {
        self.entries += piece.entries.len();
        self.pieces.push(piece);
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Finds out what chown would take away, for pieces of which the walk has not asked it.
    pub(super) fn look_closer(&mut self, context: &Context<'_>, desk: &mut Desk) -> Result<()> {
        for piece in &mut self.pieces {
            let Some(opened) = desk.open(context, &piece.hold)? else { continue };
            let standing = desk.stand_in(opened.directory());
            for entry in &mut piece.entries {
                entry.look_closer(&standing, &piece.hold.place, context.path)?;
            }
        }
        Ok(())
    }

    /// What the journal has to know before anything changes.
    pub(super) fn record(&self, of: u64, to: (u32, u32), path: &Path) -> Batch {
        let mut before: Option<&Arc<Place>> = None;
        // A large directory comes in several pieces.
        let dirs = self.pieces.chunk_by(|a, b| Arc::ptr_eq(&a.hold.place, &b.hold.place));
        let dirs = dirs.filter_map(|pieces| {
            let place = &pieces.first()?.hold.place;
            let (up, down) = match before.replace(place) {
                None => (0, Text::from(place.path(path).as_path())),
                Some(last) => {
                    let common = last.common_depth(place);
                    let down: PathBuf = place.names_below(common).into_iter().collect();
                    (last.depth() - common, Text::from(down.as_path()))
                }
            };
            let entries = pieces.iter().flat_map(|piece| &piece.entries);
            Some(BatchDir { up, path: down, groups: groups(entries) })
        });
        Batch { of, to, dirs: dirs.collect() }
    }

    /// Changes the owners, and puts back what that takes away; adds what was changed to `changed`.
    pub(super) fn change(&self, context: &Context<'_>, desk: &mut Desk, changed: &mut u64) -> Result<()> {
        self.pieces.iter().try_for_each(|piece| piece.change(context, desk, changed))
    }
}

impl Piece {
    /// As [`Pending::change`].
    pub(super) fn change(&self, context: &Context<'_>, desk: &mut Desk, changed: &mut u64) -> Result<()> {
        let Some(opened) = desk.open(context, &self.hold)? else { return Ok(()) };
        let directory = opened.directory();
        for entry in &self.entries {
            // On a running system names may change hands between looking and changing; on a volume of our own
            // they do not, and one call is enough.
            let done = match context.root.crossing() {
                _ if !entry.is_plain() => chown_inode(directory, entry, context.device, context.to),
                Crossing::Never => chown_name(directory, entry, context.to),
                Crossing::LoginPath => chown_held(directory, entry, context.device, context.to),
            };
            let done = done.with_context(|| {
                format!("changing {}", self.hold.place.path_of(context.path, &entry.name).display())
            })?;
            *changed += u64::from(done);
        }
        Ok(())
    }
}

/// The entries of one directory by what has to be known to put them back.
fn groups<'a>(entries: impl Iterator<Item = &'a PendingEntry>) -> Vec<Group> {
    let mut groups: BTreeMap<_, Vec<Text>> = BTreeMap::new();
    for entry in entries {
        let key = (entry.owner, entry.lost_mode(), entry.caps.as_ref(), entry.all_flags);
        groups.entry(key).or_default().push(Text(entry.name.to_bytes().to_vec()));
    }
    let group = |((from, mode, caps, flags), names): ((_, _, Option<&Vec<u8>>, _), _)| Group {
        from,
        mode,
        caps: caps.map(|caps| Hex(caps.clone())),
        flags,
        names,
    };
    groups.into_iter().map(group).collect()
}

/// chown of a name; `false` if it is gone.
fn chown_name(dir: &Directory, entry: &PendingEntry, (uid, gid): (u32, u32)) -> io::Result<bool> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    match fchownat(dir, entry.name.as_c_str(), Some(uid.into()), Some(gid.into()), flags) {
        Err(Errno::ENOENT) => Ok(false),
        done => Ok(done.map(|()| true)?),
    }
}

/// chown of the inode that was looked at, held meanwhile; `false` if the name is another's now.
fn chown_held(
    dir: &Directory,
    entry: &PendingEntry,
    device: u64,
    (uid, gid): (u32, u32),
) -> io::Result<bool> {
    // A single name, and nothing is followed or opened: openat2 would find nothing more to refuse.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let held = match openat(dir, entry.name.as_c_str(), flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(false),
        held => held?,
    };
    let stat = fstat(&held)?;
    // On the device of a real filesystem it is real itself.
    let owner = (stat.st_uid, stat.st_gid);
    if stat.st_dev != device
        || !entry.is_still(stat.st_ino, owner, (kind(stat.st_mode), stat.st_mode), stat.st_nlink)
    {
        return Ok(false);
    }
    fchownat(&held, "", Some(uid.into()), Some(gid.into()), AtFlags::AT_EMPTY_PATH)?;
    Ok(true)
}

/// As [`chown_held`], and puts back what chown takes away.
fn chown_inode(
    dir: &Directory,
    entry: &PendingEntry,
    device: u64,
    (uid, gid): (u32, u32),
) -> io::Result<bool> {
    let handle = match dir.handle(os(entry.name.to_bytes())) {
        Err(LookError::NotFound) => return Ok(false),
        handle => handle.map_err(to_io)?,
    };
    let stat = handle.stat().map_err(to_io)?;
    if stat.dev != device
        || !entry.is_still(stat.ino, (stat.uid, stat.gid), (stat.kind, stat.mode), stat.nlink)
    {
        return Ok(false);
    }
    unlocked(&[(&handle, entry.all_flags.unwrap_or(0))], || {
        handle.chown(uid, gid)?;
        let mode = entry.lost_mode().unwrap_or(0);
        restore_privilege(&handle, stat.kind, mode, entry.caps.as_deref())
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::inode::Statx;

    /// On a running system a name found may be linked to, or get set-id bits, before its owner changes: the journal says
    /// nothing of them then.
    #[test]
    fn what_is_not_as_it_was_looked_at_is_left_alone() {
        let stat =
            Statx { mode: 0o100_644, uid: 5, gid: 6, nlink: 1, ino: 7, dev: 8, flags: 0, mount_root: false };
        let seen = |stat| Seen { stat, may_have_capability: false };
        let file = PendingEntry::new(c"a".into(), &seen(stat));
        let regular = |mode| (FileKind::Regular, mode);
        assert!(file.is_still(7, (5, 6), regular(0o100_600), 1));
        assert!(!file.is_still(7, (5, 6), regular(0o100_644), 2));
        assert!(!file.is_still(7, (5, 6), regular(0o104_644), 1));
        assert!(!file.is_still(7, (5, 6), (FileKind::Symlink, 0o120_777), 1));
        assert!(!file.is_still(9, (5, 6), regular(0o100_644), 1));
        assert!(!file.is_still(7, (0, 6), regular(0o100_644), 1));
        let directory = PendingEntry::new(c"d".into(), &seen(Statx { mode: 0o040_755, nlink: 2, ..stat }));
        assert!(directory.is_still(7, (5, 6), (FileKind::Directory, 0o040_755), 3));
    }
}
