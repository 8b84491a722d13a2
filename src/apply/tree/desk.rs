//! What one thread of a walk keeps from one piece of work to the next: room to read, directories that are open near by,
//! a working directory of its own.

#![expect(clippy::disallowed_methods, reason = "/proc is asked about the thread itself")]

use super::inodes::Windows;
use super::walk::{Context, Hold, Opened};
use crate::apply::inode::CAPABILITY;
use crate::apply::os;
use crate::root::{Directory, entries};
use anyhow::Result;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, fchdir};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How many levels above its last work a thread keeps a directory open, where it has come that deep.
const STEP: u32 = 64;

/// A thread's own things.
#[derive(Debug)]
pub(super) struct Desk {
    /// For [`entries::read_chunk`].
    pub(super) buffer: Vec<u8>,
    /// The directory that was opened last, and one at most [`STEP`] levels above it.
    near: [Option<Hold>; 2],
    /// The thread has a working directory of its own.
    own: bool,
    /// What it has read of the inode table.
    pub(super) windows: Windows,
    time: Option<File>,
}

impl Desk {
    /// For a thread that shares its working directory with others.
    pub(super) fn shared() -> Self {
        Self::new(false, None)
    }

    /// For a thread that does nothing but walk.
    pub(super) fn own() -> Self {
        Self::new(unshare(CloneFlags::CLONE_FS).is_ok(), File::open("/proc/thread-self/schedstat").ok())
    }

    fn new(own: bool, time: Option<File>) -> Self {
        Self { buffer: vec![0; entries::CHUNK], near: [None, None], own, windows: Windows::default(), time }
    }

    /// The directory of a hold; `None` if it went away. One that was closed is opened from the nearest open one above
    /// it: a chain of ten thousand would otherwise be walked from its top ten thousand times, down and up again.
    pub(super) fn open(&mut self, context: &Context<'_>, hold: &Hold) -> Result<Option<Opened>> {
        if let Some(opened) = hold.opened() {
            return Ok(Some(opened));
        }
        let last = self.near[0].as_ref().filter(|last| Arc::ptr_eq(&last.place, &hold.place));
        if let Some(opened) = last.and_then(Hold::opened) {
            return Ok(Some(opened));
        }
        let above = |near: &&Hold| near.place.common_depth(&hold.place) == near.place.depth();
        let from = self.near.iter().flatten().filter(above).max_by_key(|near| near.place.depth()).cloned();
        let depth = from.as_ref().map_or(0, |from| from.place.depth());
        let from = if hold.place.depth() - depth > 2 * STEP {
            let step = Hold::closed(hold.place.above(STEP));
            let Some(opened) = step.open_from(context, from.as_ref())? else { return Ok(None) };
            let step = step.with(opened);
            self.near[1] = Some(step.clone());
            Some(step)
        } else {
            from
        };
        let Some(opened) = hold.open_from(context, from.as_ref())? else { return Ok(None) };
        self.near[0] = Some(hold.clone().with(opened.clone()));
        Ok(Some(opened))
    }

    /// Takes a directory for that of the names that follow.
    pub(super) fn stand_in<'d>(&'d mut self, directory: &'d Directory) -> Standing<'d> {
        Standing { directory, inside: self.own && fchdir(directory).is_ok() }
    }

    /// How long this thread has run, and how long it has waited for a processor.
    pub(super) fn times(&self) -> Option<(Duration, Duration)> {
        let mut text = [0; 64];
        let length = self.time.as_ref()?.read_at(&mut text, 0).ok()?;
        let mut numbers = std::str::from_utf8(text.get(..length)?).ok()?.split_ascii_whitespace();
        let mut next = || Some(Duration::from_nanos(numbers.next()?.parse().ok()?));
        Some((next()?, next()?))
    }
}

/// A directory in which names are asked for what no call tells by a descriptor and a name before Linux 6.13. The borrow
/// sees to it that the thread stands in no other meanwhile.
pub(super) struct Standing<'d> {
    pub(super) directory: &'d Directory,
    /// It is the thread's working directory, from where a name costs half of what a path in /proc does.
    inside: bool,
}

impl Standing<'_> {
    /// `security.capability` of a single name, not through a link.
    pub(super) fn capability(&self, name: &CStr) -> io::Result<Option<Vec<u8>>> {
        let name = Path::new(os(name.to_bytes()));
        let value = if self.inside {
            xattr::get(name, CAPABILITY)
        } else {
            // Sound because what follows the descriptor is a single name, and the call follows no link there.
            let directory = PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_fd().as_raw_fd()));
            xattr::get(directory.join(name), CAPABILITY)
        };
        match value {
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
                _ => Err(error),
            },
            value => value,
        }
    }
}

impl Drop for Desk {
    /// A thread may go a moment after it was waited for; it must not hold the volume meanwhile.
    fn drop(&mut self) {
        if self.own {
            // `/` is always there.
            let _ = chdir("/");
        }
    }
}
