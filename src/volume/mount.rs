//! Mounts that no one else sees and that end with this process.

#![expect(clippy::disallowed_methods, reason = "looks at mount points of the helper")]

use super::holder;
use super::retry;
use crate::error::Refusal;
use crate::sys::block::stop_filesystem;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fstat};
use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sys_mount::MountFlags;

thread_local! {
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

/// Moves this thread, and every thread and process that it starts from now on, into a mount namespace of their own, of
/// which the helper sees nothing. The kernel takes the mounts away with the last of them: this is what unmounts after a
/// SIGKILL. What the helper unmounts meanwhile is unmounted here too (where its mounts are shared, as systemd has them),
/// or the copies here would keep its other disks busy. To be called before other threads are started; later calls do
/// nothing.
///
/// # Errors
/// [`Refusal`] (3) where the kernel does not allow it.
pub fn enter_namespace() -> Result<()> {
    if ENTERED.get() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| {
        Refusal::target(format!("no mount namespace can be had here: {errno}"))
            .hint("Run volrescue as root; in a container, give it the capability SYS_ADMIN or run it with --privileged.")
    })?;
    // Without this, what is mounted here is seen outside wherever / is shared, as systemd has it.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .context("making the mounts of this process private")?;
    ENTERED.set(true);
    Ok(())
}

/// Whether a mount takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    Refused,
    Taken,
}

/// A mounted filesystem. It is to be ended by [`Self::close`], which tells whether it was.
#[derive(Debug)]
pub(super) struct Mount {
    mounted: bool,
    point: PathBuf,
    root: Option<OwnedFd>,
    device: u64,
    writes: Writes,
}

impl Mount {
    /// Mounts `source` on `point`, over what is there, for this process only.
    pub(super) fn new(
        source: &Path,
        point: &Path,
        kind: &str,
        writes: Writes,
        options: &str,
    ) -> io::Result<Self> {
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        // Reading a file must not change it either.
        flags |= match writes {
            Writes::Refused => MountFlags::RDONLY,
            Writes::Taken => MountFlags::NOATIME,
        };
        let builder = sys_mount::Mount::builder().fstype(kind).flags(flags).data(options);
        builder.mount(source, point)?;
        Self::mounted(point, writes)
    }

    /// Shows the directory `source` at `point` too, with the flags of the mount that it is on.
    pub(super) fn bind(source: &Path, point: &Path, writes: Writes) -> io::Result<Self> {
        mount(Some(source), point, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Self::mounted(point, writes)
    }

    fn mounted(point: &Path, writes: Writes) -> io::Result<Self> {
        let mut mount = Self { mounted: true, point: point.to_owned(), root: None, device: 0, writes };
        let root = open(point, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        mount.device = fstat(&root)?.st_dev;
        mount.root = Some(root);
        Ok(mount)
    }

    /// The root directory, open with O_PATH.
    pub(super) fn root(&self) -> io::Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| Errno::EBADF.into())
    }

    /// Where it is mounted, in this namespace.
    pub(super) fn point(&self) -> &Path {
        &self.point
    }

    /// Writes everything and unmounts.
    ///
    /// # Errors
    /// Writing failed, or something still uses it after two seconds: the message names what.
    pub(super) fn close(mut self) -> Result<()> {
        let synced = self.sync();
        self.root = None;
        self.unmount()?;
        synced
    }

    fn sync(&self) -> Result<()> {
        let (Writes::Taken, Some(root)) = (self.writes, &self.root) else { return Ok(()) };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(root, ".", flags, Mode::empty()).context("opening the volume to sync it")?;
        let synced = nix::unistd::syncfs(&directory);
        if synced == Err(Errno::EIO) {
            // Best effort: what can't be stopped is unmounted as it is.
            let _ = stop_filesystem(&directory);
        }
        synced.map_err(|errno| {
            Refusal::failed(format!("writing the last data to it: {errno}"))
                .hint(
                    "The kernel's log (dmesg) names the disk and what it refused. Copy a failing disk before you do more \
                     with it; then repair again, or undo.",
                )
                .into()
        })
    }

    fn unmount(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.mounted) {
            return Ok(());
        }
        // Never lazily: what is unmounted is to be unmounted when this returns.
        let unmount = || umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW);
        let done = retry(Duration::from_secs(2), || match unmount() {
            Err(Errno::EBUSY) => None,
            done => Some(done),
        });
        match done {
            Some(done) => done.with_context(|| format!("unmounting {}", self.point.display())),
            None => {
                let holders = holder::of_filesystem(self.device);
                let by = if holders.is_empty() { String::new() } else { format!(": {}", holders.join(", ")) };
                Err(Refusal::failed(format!("it is still in use and can't be unmounted{by}"))
                    .hint("Do not detach it before what holds it is gone.")
                    .into())
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.root = None;
        if let Err(error) = self.unmount() {
            tracing::error!("{error:#}");
        }
    }
}

/// A directory of the helper to mount over: one that exists, and under which nothing lies that is needed.
///
/// # Errors
/// [`Refusal`] (3) if there is none.
pub fn pick_point(needed: &[PathBuf]) -> Result<PathBuf> {
    const PLACES: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/run", "/tmp"];
    let here = std::env::current_dir();
    let needed: Vec<PathBuf> =
        needed.iter().map(|p| p.as_path()).chain(here.as_deref().ok()).map(real).collect();
    let free = |place: &&Path| {
        fs::symlink_metadata(place).is_ok_and(|m| m.is_dir())
            && !needed.iter().any(|path| path.starts_with(place))
    };
    PLACES.map(Path::new).iter().copied().find(|place| free(place)).map(Path::to_owned).ok_or_else(|| {
        Refusal::target(format!("there is no directory to mount on: none of {} is free", PLACES.join(", ")))
            .hint("Make an empty directory /mnt.")
            .into()
    })
}

/// The path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = PathBuf::new();
    for ancestor in absolute.ancestors() {
        if let Ok(found) = fs::canonicalize(ancestor) {
            return found.join(rest);
        }
        let name = PathBuf::from(ancestor.file_name().unwrap_or_default());
        rest = if rest.as_os_str().is_empty() { name } else { name.join(rest) };
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_over_what_is_needed() {
        let point =
            pick_point(&[PathBuf::from("/mnt/state/not/there/yet"), PathBuf::from("/media")]).unwrap();
        assert!(!point.starts_with("/mnt") && !point.starts_with("/media"), "{}", point.display());
        assert!(point.is_dir());
    }
}
