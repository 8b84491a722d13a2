//! A batch of entries: looked at for what chown takes away, recorded, changed.

use super::place::Place;
use crate::apply::inode::{CAPABILITY, LOCKING, SET_ID, restore_privilege, to_io, unlocked};
use crate::apply::os;
use crate::journal::record::{Batch, BatchDir, Group, Hex, Text};
use crate::root::{Crossing, Directory, Root, kind};
use crate::sys::inode::Statx;
use crate::view::{FileKind, LookError};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::fchownat;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An entry that is to change hands.
#[derive(Debug)]
pub(super) struct PendingEntry {
    name: CString,
    owner: (u32, u32),
    mode: u32,
    ino: u64,
    flags: u32,
    /// All flags of chattr(1), where some forbid the change.
    all_flags: Option<u32>,
    caps: Option<Vec<u8>>,
}

impl PendingEntry {
    pub(super) fn new(name: CString, stat: &Statx) -> Self {
        Self {
            name,
            owner: (stat.uid, stat.gid),
            mode: stat.mode,
            ino: stat.ino,
            flags: stat.flags,
            all_flags: None,
            caps: None,
        }
    }

    pub(super) fn with_name(self, name: CString) -> Self {
        Self { name, ..self }
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

    /// `true` if one system call does it.
    fn is_plain(&self) -> bool {
        self.lost_mode().is_none() && self.caps.is_none() && self.all_flags.is_none()
    }
}

/// Entries by their directory, in the order of the walk.
#[derive(Debug, Default)]
pub(super) struct Pending {
    dirs: Vec<(Arc<Place>, Vec<PendingEntry>)>,
    entries: usize,
    changed: usize,
}

impl Pending {
    pub(super) fn push(&mut self, place: Arc<Place>, entries: Vec<PendingEntry>) {
        self.entries += entries.len();
        match self.dirs.last_mut() {
            Some((last, to)) if Arc::ptr_eq(last, &place) => to.extend(entries),
            _ => self.dirs.push((place, entries)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// How many entries were not changed in the end.
    pub(super) fn missed(&self) -> u64 {
        (self.entries - self.changed) as u64
    }

    /// Finds out what chown would take away: capabilities, and flags that forbid it.
    pub(super) fn look_closer(&mut self, root: &Root, top: &Directory, path: &Path) -> Result<()> {
        let mut opener = Opener { root, top, path, last: None };
        for (place, entries) in &mut self.dirs {
            let wanted =
                |entry: &PendingEntry| entry.kind() == FileKind::Regular || entry.flags & LOCKING != 0;
            if !entries.iter().any(wanted) {
                continue;
            }
            let Some(dir) = opener.open(place)? else { continue };
            for entry in entries.iter_mut().filter(|entry| wanted(entry)) {
                let looking = || format!("looking at {}", place.path_of(path, &entry.name).display());
                if entry.kind() == FileKind::Regular {
                    entry.caps = capability(dir, &entry.name).with_context(looking)?;
                }
                if entry.flags & LOCKING != 0 {
                    let flags = dir.handle(os(entry.name.to_bytes())).and_then(|handle| handle.flags());
                    entry.all_flags = match flags {
                        Err(LookError::NotFound) => None,
                        flags => Some(flags.with_context(looking)?),
                    };
                }
            }
        }
        Ok(())
    }

    /// What the journal has to know before anything changes.
    pub(super) fn record(&self, of: u64, to: (u32, u32), path: &Path) -> Batch {
        let mut before: Option<&Arc<Place>> = None;
        let dirs = self.dirs.iter().map(|(place, entries)| {
            let (up, down) = match before.replace(place) {
                None => (0, Text::from(place.path(path).as_path())),
                Some(last) => {
                    let common = last.common_depth(place);
                    let down: PathBuf = place.names_below(common).into_iter().collect();
                    (last.depth() - common, Text::from(down.as_path()))
                }
            };
            BatchDir { up, path: down, groups: groups(entries) }
        });
        Batch { of, to, dirs: dirs.collect() }
    }

    /// Changes the owners, and puts back what that takes away.
    pub(super) fn change(&mut self, root: &Root, top: &Directory, path: &Path, to: (u32, u32)) -> Result<()> {
        let mut opener = Opener { root, top, path, last: None };
        for (place, entries) in &self.dirs {
            let Some(directory) = opener.open(place)? else { continue };
            directory.check_real().with_context(|| format!("changing {}", place.path(path).display()))?;
            for entry in entries {
                // On a running system names may change hands between looking and changing; on a volume of our own
                // they do not, and one call is enough.
                let done = match root.crossing() {
                    Crossing::Never if entry.is_plain() => chown_name(directory, entry, to),
                    _ => chown_inode(directory, entry, to),
                };
                match done {
                    Ok(true) => self.changed += 1,
                    Ok(false) => {}
                    Err(error) => {
                        return Err(error).with_context(|| {
                            format!("changing {}", place.path_of(path, &entry.name).display())
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// The entries of one directory by what has to be known to put them back.
fn groups(entries: &[PendingEntry]) -> Vec<Group> {
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

/// Opens the directories of a batch, each from the one before it where it lies below: a chain of ten thousand would
/// otherwise be walked from its top ten thousand times.
struct Opener<'a> {
    root: &'a Root,
    top: &'a Directory,
    path: &'a Path,
    last: Option<(Arc<Place>, Directory)>,
}

impl Opener<'_> {
    /// `None` if it went away.
    fn open(&mut self, place: &Arc<Place>) -> Result<Option<&Directory>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let (from, above) = match &self.last {
            Some((last, directory)) if last.common_depth(place) == last.depth() => (directory, last.depth()),
            _ => (self.top, 0),
        };
        match self.root.open_below(from.as_fd(), &place.names_below(above), flags) {
            Err(LookError::NotFound | LookError::NotDirectory | LookError::Loop) => Ok(None),
            opened => {
                let opened =
                    opened.with_context(|| format!("opening {}", place.path(self.path).display()))?;
                Ok(Some(&self.last.insert((Arc::clone(place), Directory::new(opened))).1))
            }
        }
    }
}

/// `security.capability` of one name in an open directory, not through a link.
fn capability(dir: &Directory, name: &CString) -> io::Result<Option<Vec<u8>>> {
    // Sound because what follows the descriptor is a single name, and the call does not follow a link there.
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    path.push(os(name.to_bytes()));
    match xattr::get(&path, CAPABILITY) {
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
        value => value,
    }
}

/// chown of a name; `false` if it is gone.
fn chown_name(dir: &Directory, entry: &PendingEntry, (uid, gid): (u32, u32)) -> io::Result<bool> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    match fchownat(dir, entry.name.as_c_str(), Some(uid.into()), Some(gid.into()), flags) {
        Err(Errno::ENOENT) => Ok(false),
        done => Ok(done.map(|()| true)?),
    }
}

/// chown of the inode that was looked at; `false` if the name is another's now.
fn chown_inode(dir: &Directory, entry: &PendingEntry, (uid, gid): (u32, u32)) -> io::Result<bool> {
    let handle = match dir.handle(os(entry.name.to_bytes())) {
        Err(LookError::NotFound) => return Ok(false),
        handle => handle.map_err(to_io)?,
    };
    let stat = handle.stat().map_err(to_io)?;
    if (stat.ino, stat.uid, stat.gid) != (entry.ino, entry.owner.0, entry.owner.1) {
        return Ok(false);
    }
    unlocked(&[(&handle, entry.all_flags.unwrap_or(0))], || {
        handle.chown(uid, gid)?;
        let mode = entry.lost_mode().unwrap_or(0);
        restore_privilege(&handle, stat.kind, mode, entry.caps.as_deref())
    })?;
    Ok(true)
}
