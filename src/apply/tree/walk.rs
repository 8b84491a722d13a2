//! The walk of a tree in jobs that any thread can take: enter a directory, read on in one, look at some of its names.
//!
//! Jobs wait on a stack. The rest of a directory is put there before what its first part holds, so that the walk stays
//! depth first and what waits is bounded: for every level about one piece of a directory. A job holds its directory
//! open while that many descriptors are to be had, and opens it again by its names otherwise.

use super::batch::PendingEntry;
use super::desk::Desk;
use super::inodes::{Inodes, Seen, User, is_read};
use super::place::Place;
use super::{Fate, Pass};
use crate::plan::TreeOwners;
use crate::root::{Crossing, Directory, Root, entries, open_resolving};
use crate::sys::inode::{Statx, statx};
use crate::view::LookError;
use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// How many directories are held open by what waits, at most.
const OPEN: usize = 256;
/// From this depth on less is read of a directory at once: what waits is kept for every level.
const DEEP: u32 = 48;
/// Bytes of a directory read at once there.
const DEEP_CHUNK: usize = 4 << 10;
/// The longest record of a directory: less room than this is not worth another call.
const RECORD: usize = 512;
/// Names looked at in one job.
const NAMES: usize = 512;
/// How many owners are compared with what the kernel says and then taken from elsewhere, in one job.
const OWNERS_AGREED: usize = 8;

/// What every job needs to know.
pub(super) struct Context<'a> {
    pub(super) root: &'a Root,
    pub(super) top: &'a Directory,
    pub(super) path: &'a Path,
    pub(super) device: u64,
    pub(super) to: (u32, u32),
    pub(super) owners: &'a TreeOwners,
    pub(super) pass: Pass,
    /// What is to change is asked for what chown takes away.
    pub(super) gather: bool,
    /// Who uses the filesystem; `None` where the kernel must be asked for each name.
    user: Option<User>,
    /// Where to look before that, once it was opened.
    inodes: Arc<OnceLock<Option<Inodes>>>,
    open: Arc<AtomicUsize>,
    budget: usize,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        (root, top, path, device): (&'a Root, &'a Directory, &'a Path, u64),
        (to, owners): ((u32, u32), &'a TreeOwners),
        (pass, gather): (Pass, bool),
        (user, inodes): (Option<User>, Arc<OnceLock<Option<Inodes>>>),
    ) -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let budget = usize::try_from(limit / 4).unwrap_or(OPEN).min(OPEN);
        let open = Arc::default();
        Self { root, top, path, device, to, owners, pass, gather, user, inodes, open, budget }
    }

    /// From now on inodes are read many at once where that can be done. In a small tree it would cost more than it spares.
    pub(super) fn read_inodes(&self) {
        if let Some(user) = self.user {
            self.inodes.get_or_init(|| Inodes::of(self.top, self.device, user));
        }
    }

    fn fate(&self, stat: &Statx) -> Fate {
        match self.owners {
            _ if (stat.uid, stat.gid) == self.to => Fate::Right,
            TreeOwners::All => Fate::Take,
            // Who owns a device node owns the device.
            TreeOwners::Of { .. } if matches!(stat.mode & 0o170_000, 0o020_000 | 0o060_000) => Fate::Keep,
            TreeOwners::Of { uids } if uids.contains(&stat.uid) => Fate::Take,
            TreeOwners::Of { .. } if stat.uid == self.to.0 => Fate::Right,
            TreeOwners::Of { .. } => Fate::Keep,
        }
    }
}

/// An open directory of the tree, counted.
#[derive(Debug)]
struct Dir {
    directory: Directory,
    open: Arc<AtomicUsize>,
}

impl Dir {
    fn new(context: &Context<'_>, fd: OwnedFd) -> Arc<Self> {
        context.open.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { directory: Directory::new(fd), open: Arc::clone(&context.open) })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A directory that a job will need; open if there was a descriptor for it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) place: Arc<Place>,
    /// Its inode number; `None` where it was not looked at.
    ino: Option<u64>,
    dir: Option<Arc<Dir>>,
}

/// A directory of a job at work.
#[derive(Clone, Debug)]
pub(super) struct Opened(Arc<Dir>);

impl Opened {
    pub(super) fn directory(&self) -> &Directory {
        &self.0.directory
    }
}

impl Hold {
    /// A directory known by its names only.
    pub(super) fn closed(place: Arc<Place>) -> Self {
        Self { place, ino: None, dir: None }
    }

    /// The same, held open.
    pub(super) fn with(self, opened: Opened) -> Self {
        Self { dir: Some(opened.0), ..self }
    }

    /// The directory, if it is open.
    pub(super) fn opened(&self) -> Option<Opened> {
        self.dir.as_ref().map(|dir| Opened(Arc::clone(dir)))
    }

    /// The same for what waits: without the descriptor if too many are open.
    fn waiting(&self, context: &Context<'_>) -> Self {
        let spare = context.open.load(Ordering::Relaxed) < context.budget;
        Self { place: Arc::clone(&self.place), ino: self.ino, dir: self.dir.clone().filter(|_| spare) }
    }

    /// Opens the directory by its names from the top, or from an open one above it; `None` if it went away.
    pub(super) fn open_from(&self, context: &Context<'_>, from: Option<&Hold>) -> Result<Option<Opened>> {
        let (from, above) = match from {
            Some(Hold { place, dir: Some(dir), .. }) => (dir.directory.as_fd(), place.depth()),
            _ => (context.top.as_fd(), 0),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let path = || self.place.path(context.path);
        let names = self.place.names_below(above);
        let fd = match context.root.open_below(from, &names, flags | OFlag::O_NOATIME) {
            Err(LookError::Errno(errno)) if errno == Errno::EPERM as i32 => {
                context.root.open_below(from, &names, flags)
            }
            opened => opened,
        };
        let fd = match fd {
            Err(LookError::NotFound | LookError::NotDirectory | LookError::Loop) => return Ok(None),
            fd => fd.with_context(|| format!("opening {} again", path().display()))?,
        };
        let stat = statx(&fd, c".").with_context(|| format!("looking at {}", path().display()))?;
        if stat.dev != context.device || self.ino.is_some_and(|ino| ino != stat.ino) {
            bail!("{} was replaced while the tree was walked", path().display());
        }
        Ok(Some(Opened(Dir::new(context, fd))))
    }
}

/// A piece of the walk.
#[derive(Debug)]
pub(super) enum Job {
    /// Read a directory from its beginning; without name it is the top.
    Enter { parent: Hold, name: Option<CString> },
    /// Read on.
    Read { hold: Hold, next: i64 },
    /// Look at some names of a large directory.
    Look { hold: Hold, names: Vec<(CString, Told)> },
}

/// What a directory tells of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) ino: u64,
    /// `d_type`.
    pub(super) kind: u8,
}

/// What a job found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many entries were looked at.
    pub(super) seen: u64,
    pub(super) unchanged: u64,
    /// Entries that are to change and have one name.
    pub(super) changed: u64,
    /// Where another filesystem begins.
    pub(super) elsewhere: u64,
    /// Entries of other owners: how many, and the first by name.
    pub(super) kept: BTreeMap<u32, (u64, CString)>,
    /// Files with several names that are to change.
    pub(super) linked: Vec<(CString, Seen)>,
    /// Files with several names of other owners.
    pub(super) kept_linked: Vec<(CString, Seen)>,
    /// What is to change, to be journaled.
    pub(super) taken: Vec<PendingEntry>,
    /// The directory of all these.
    pub(super) hold: Option<Hold>,
    /// What is to be done next; the last first.
    pub(super) jobs: Vec<Job>,
}

impl Job {
    /// The whole tree.
    pub(super) fn top() -> Self {
        Self::Enter { parent: Hold::closed(Place::top()), name: None }
    }

    /// Does it.
    pub(super) fn run(self, context: &Context<'_>, desk: &mut Desk) -> Result<Found> {
        let mut found = Found::default();
        match self {
            Self::Enter { parent, name } => {
                if let Some((hold, opened)) = enter(context, desk, &parent, name, &mut found)? {
                    drop(parent);
                    read(context, desk, &hold, &opened, &mut found)?;
                }
            }
            Self::Read { hold, next } => {
                if let Some(opened) = desk.open(context, &hold)? {
                    entries::seek(opened.directory(), next)?;
                    let hold = hold.with(opened.clone());
                    read(context, desk, &hold, &opened, &mut found)?;
                }
            }
            Self::Look { hold, names } => {
                if let Some(opened) = desk.open(context, &hold)? {
                    let hold = hold.with(opened.clone());
                    look(context, desk, &hold, &opened, &names, &mut found)?;
                }
            }
        }
        Ok(found)
    }
}

/// Opens a directory by its name in another.
fn enter(
    context: &Context<'_>,
    desk: &mut Desk,
    parent: &Hold,
    name: Option<CString>,
    found: &mut Found,
) -> Result<Option<(Hold, Opened)>> {
    let (place, fd) = match name {
        None => {
            let fd = open_directory(context.top.as_fd(), c".")
                .with_context(|| format!("opening {}", context.path.display()))?;
            (Arc::clone(&parent.place), fd)
        }
        Some(name) => {
            let Some(opened) = desk.open(context, parent)? else { return Ok(None) };
            let fd = match open_directory(opened.directory().as_fd(), &name) {
                // It became something else, or went away: nothing to walk.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                Err(Errno::EXDEV) => {
                    found.elsewhere += 1;
                    return Ok(None);
                }
                fd => fd.with_context(|| {
                    format!("opening {}", parent.place.path_of(context.path, &name).display())
                })?,
            };
            (parent.place.child(name), fd)
        }
    };
    let stat = statx(&fd, c".")?;
    if stat.dev != context.device {
        found.elsewhere += 1;
        return Ok(None);
    }
    let opened = Opened(Dir::new(context, fd));
    Ok(Some((Hold { place, ino: Some(stat.ino), dir: None }.with(opened.clone()), opened)))
}

/// Reads a piece of an open directory and looks at it, or leaves that to several jobs.
fn read(
    context: &Context<'_>,
    desk: &mut Desk,
    hold: &Hold,
    opened: &Opened,
    found: &mut Found,
) -> Result<()> {
    let size = if hold.place.depth() > DEEP { DEEP_CHUNK } else { entries::CHUNK };
    let mut buffer = std::mem::take(&mut desk.buffer);
    let mut filled = 0;
    let mut end = false;
    // To the end, so that a small directory is done with in one job.
    while let Some(room) = buffer.get_mut(filled..size).filter(|room| room.len() >= RECORD) {
        let length = entries::read_chunk(opened.directory(), room)
            .with_context(|| format!("reading {}", hold.place.path(context.path).display()))?
            .len();
        if length == 0 {
            end = true;
            break;
        }
        filled += length;
    }
    let mut names = Vec::new();
    let mut next = 0;
    for entry in entries::parse(buffer.get(..filled).unwrap_or_default()) {
        next = entry.next;
        names.push((entry.name, Told { ino: entry.ino, kind: entry.kind }));
    }
    // In the order of the inode table a disk is read forwards, and each of its blocks once.
    names.sort_unstable_by_key(|(name, told)| (*told, *name));
    if !end {
        found.jobs.push(Job::Read { hold: hold.waiting(context), next });
    }
    if names.len() <= NAMES {
        look(context, desk, hold, opened, &names, found)?;
    } else {
        for names in names.chunks(NAMES).rev() {
            let names = names.iter().map(|(name, told)| (CString::from(*name), *told)).collect();
            found.jobs.push(Job::Look { hold: hold.waiting(context), names });
        }
    }
    desk.buffer = buffer;
    Ok(())
}

/// Looks at names of an open directory and decides over each.
fn look<N: AsRef<CStr>>(
    context: &Context<'_>,
    desk: &mut Desk,
    hold: &Hold,
    opened: &Opened,
    names: &[(N, Told)],
    found: &mut Found,
) -> Result<()> {
    let dir = opened.directory();
    let inodes = context.inodes.get().and_then(Option::as_ref);
    let mut inodes = inodes.filter(|inodes| desk.windows.pays(inodes));
    let current = inodes.is_some_and(Inodes::are_current);
    if context.root.crossing() == Crossing::LoginPath {
        desk.windows.forget();
    }
    let mut agreed = Vec::new();
    // The directory's own inode is at hand; where it is read as the kernel has it, so are those of its owner.
    if let Some(inodes) = inodes.filter(|_| names.iter().any(|(_, told)| is_read(*told)))
        && let Some(owner) = desk.windows.agree_on(inodes, dir)
    {
        agreed.push(owner);
    }
    let before = found.jobs.len();
    for (name, told) in names {
        let name = name.as_ref();
        let read = inodes.and_then(|inodes| desk.windows.look(inodes, *told));
        let owner = read.map(|read| (read.stat.uid, read.stat.gid));
        let stays = read.is_some_and(|seen| context.fate(&seen.stat) != Fate::Take);
        let may_tell = current || stays;
        let tells = may_tell && owner.is_some_and(|owner| agreed.contains(&owner));
        if inodes.is_some() {
            desk.windows.count(*told, tells);
        }
        let seen = match read {
            Some(seen) if tells => seen,
            read => {
                let stat = match statx(dir, name) {
                    Err(Errno::ENOENT) => continue,
                    stat => stat.with_context(|| {
                        format!("looking at {}", hold.place.path_of(context.path, name).display())
                    })?,
                };
                // In every piece of work what was read is compared once with what the kernel says, and for every other
                // owner: a mount may map some of them.
                let agrees = read.is_some_and(|read| read.stat == stat);
                if let Some(owner) = owner.filter(|_| agrees && may_tell && agreed.len() < OWNERS_AGREED) {
                    agreed.push(owner);
                }
                inodes = inodes.filter(|_| agrees || read.is_none());
                Seen {
                    stat,
                    may_have_capability: read.is_none_or(|read| !agrees || read.may_have_capability),
                }
            }
        };
        let stat = seen.stat;
        if stat.dev != context.device || stat.mount_root {
            found.elsewhere += 1;
            continue;
        }
        found.seen += 1;
        let directory = stat.mode & 0o170_000 == 0o040_000;
        if directory {
            found.jobs.push(Job::Enter { parent: hold.waiting(context), name: Some(name.into()) });
        }
        let linked = stat.nlink > 1 && !directory;
        match (context.fate(&stat), context.pass) {
            (Fate::Take, _) if linked => found.linked.push((name.into(), seen)),
            (_, Pass::Links { .. }) => {}
            (Fate::Take, Pass::Everything) => {
                found.changed += 1;
                if context.gather {
                    found.taken.push(PendingEntry::new(name.into(), &seen));
                }
            }
            (Fate::Right, Pass::Everything) => found.unchanged += 1,
            (Fate::Keep, Pass::Everything) if linked => found.kept_linked.push((name.into(), seen)),
            (Fate::Keep, Pass::Everything) => match found.kept.get_mut(&stat.uid) {
                Some((entries, first)) => {
                    *entries += 1;
                    if name < first.as_c_str() {
                        *first = name.into();
                    }
                }
                None => drop(found.kept.insert(stat.uid, (1, name.into()))),
            },
        }
    }
    // The last is done first, and a disk is to be read forwards.
    if let Some(directories) = found.jobs.get_mut(before..) {
        directories.reverse();
    }
    if !found.taken.is_empty() {
        let standing = desk.stand_in(dir);
        for entry in &mut found.taken {
            entry.look_closer(&standing, &hold.place, context.path)?;
        }
    }
    found.hold = Some(hold.waiting(context));
    Ok(())
}

/// Opens a directory by one name, never through a link, never onto another mount.
fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    match open_resolving(dir, name.to_bytes(), flags | OFlag::O_NOATIME, resolve) {
        Err(Errno::EPERM) => open_resolving(dir, name.to_bytes(), flags, resolve),
        opened => opened,
    }
}
