//! The walk: depth first, a piece of a directory at a time, with a bounded number of open directories.

use super::place::Place;
use crate::root::{Directory, Root, entries, open_resolving};
use crate::sys::inode::{Statx, statx};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// How many directories are open at most.
const OPEN: usize = 48;
/// How many ancestors are opened again together, on the way back up.
const REOPEN: usize = 24;
/// Bytes of a directory read at once where the walk is deep: what waits is kept for every level.
const DEEP_CHUNK: usize = 4 << 10;

/// One piece of a directory.
pub(super) struct Seen {
    pub(super) place: Arc<Place>,
    pub(super) entries: Vec<(CString, Statx)>,
    /// Entries where another filesystem begins.
    pub(super) elsewhere: u64,
}

/// A directory on the way down.
struct Frame {
    place: Arc<Place>,
    fd: Option<OwnedFd>,
    ino: u64,
    /// Where reading goes on; `None` at the end.
    next: Option<i64>,
    /// Subdirectories that were read but not entered.
    ahead: Vec<CString>,
}

pub(super) struct Walk<'a> {
    root: &'a Root,
    top: &'a Directory,
    path: &'a Path,
    device: u64,
    stack: Vec<Frame>,
    /// The first frame that is open; those above it are closed.
    first_open: usize,
    buffer: Vec<u8>,
    elsewhere: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Root, top: &'a Directory, path: &'a Path, device: u64) -> Result<Self> {
        let mut walk = Self {
            root,
            top,
            path,
            device,
            stack: Vec::new(),
            first_open: 0,
            buffer: vec![0; entries::CHUNK],
            elsewhere: 0,
        };
        let place = Place::top();
        let fd = open_directory(top.as_fd(), c".").with_context(|| format!("opening {}", path.display()))?;
        let ino = statx(&fd, c".")?.ino;
        walk.stack.push(Frame { place, fd: Some(fd), ino, next: Some(0), ahead: Vec::new() });
        Ok(walk)
    }

    /// The next piece of some directory; `None` at the end of the tree.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Seen>> {
        while let Some(frame) = self.stack.last_mut() {
            if let Some(name) = frame.ahead.pop() {
                self.enter(name)?;
            } else if frame.next.is_some() {
                if let Some(seen) = self.read()? {
                    return Ok(Some(seen));
                }
            } else {
                self.stack.pop();
                self.first_open = self.first_open.min(self.stack.len());
            }
        }
        Ok(None)
    }

    /// Goes down into a directory of the last frame.
    fn enter(&mut self, name: CString) -> Result<()> {
        self.reopen()?;
        let Some(Frame { place, fd: Some(parent), .. }) = self.stack.last() else { return Ok(()) };
        let opened = open_directory(parent.as_fd(), &name);
        let fd = match opened {
            // It became something else, or went away: nothing to walk.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(Errno::EXDEV) => {
                self.elsewhere += 1;
                return Ok(());
            }
            opened => {
                opened.with_context(|| format!("opening {}", place.path_of(self.path, &name).display()))?
            }
        };
        let stat = statx(&fd, c".")?;
        if stat.dev != self.device {
            self.elsewhere += 1;
            return Ok(());
        }
        let place = place.child(name);
        self.stack.push(Frame { place, fd: Some(fd), ino: stat.ino, next: Some(0), ahead: Vec::new() });
        if self.stack.len() - self.first_open > OPEN {
            if let Some(frame) = self.stack.get_mut(self.first_open) {
                frame.fd = None;
            }
            self.first_open += 1;
        }
        Ok(())
    }

    /// Opens the last frame again if it was closed, and some of those before it, which will be next.
    fn reopen(&mut self) -> Result<()> {
        let last = self.stack.len().saturating_sub(1);
        if self.stack.get(last).is_none_or(|frame| frame.fd.is_some()) {
            return Ok(());
        }
        let first = last.saturating_sub(REOPEN);
        let mut above: Option<OwnedFd> = None;
        for index in first..=last {
            let Some(frame) = self.stack.get_mut(index) else { break };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let (dir, names) = match &above {
                None => (self.top.as_fd(), frame.place.names_below(0)),
                Some(fd) => (fd.as_fd(), frame.place.names_below(frame.place.depth().saturating_sub(1))),
            };
            let fd = self
                .root
                .open_below(dir, &names, flags)
                .with_context(|| format!("opening {} again", frame.place.path(self.path).display()))?;
            let stat = statx(&fd, c".")?;
            if (stat.ino, stat.dev) != (frame.ino, self.device) {
                bail!("{} was replaced while the tree was walked", frame.place.path(self.path).display());
            }
            if let Some(next) = frame.next {
                entries::seek(&fd, next)?;
            }
            above = Some(fd.try_clone()?);
            frame.fd = Some(fd);
        }
        self.first_open = first;
        Ok(())
    }

    /// Reads a piece of the last frame's directory.
    fn read(&mut self) -> Result<Option<Seen>> {
        self.reopen()?;
        let size = if self.stack.len() > OPEN { DEEP_CHUNK } else { entries::CHUNK };
        let Some(frame) = self.stack.last_mut() else { return Ok(None) };
        let Some(fd) = &frame.fd else { return Ok(None) };
        let reading = || format!("reading {}", frame.place.path(self.path).display());
        let buffer = self.buffer.get_mut(..size).unwrap_or_default();
        let chunk = entries::read_chunk(fd, buffer).with_context(reading)?;
        if chunk.is_empty() {
            frame.next = None;
            return Ok(None);
        }
        let mut seen = Seen {
            place: Arc::clone(&frame.place),
            entries: Vec::new(),
            elsewhere: std::mem::take(&mut self.elsewhere),
        };
        for entry in entries::parse(chunk) {
            frame.next = Some(entry.next);
            let stat = match statx(fd, entry.name) {
                Err(Errno::ENOENT) => continue,
                stat => stat.with_context(|| {
                    format!("looking at {}", frame.place.path_of(self.path, entry.name).display())
                })?,
            };
            if stat.dev != self.device || stat.mount_root {
                seen.elsewhere += 1;
                continue;
            }
            let name = CString::from(entry.name);
            if stat.mode & 0o170_000 == 0o040_000 {
                frame.ahead.push(name.clone());
            }
            seen.entries.push((name, stat));
        }
        Ok(Some(seen))
    }
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
