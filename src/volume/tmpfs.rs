//! A place in memory that only this process and its children see, for files of tools that take nothing but paths.

use super::mount::enter_namespace;
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};

/// Directories that every helper has; one of them is covered, for this process alone, as long as it lasts.
const POINTS: [&str; 5] = ["/media", "/srv", "/opt", "/mnt", "/tmp"];

/// A tmpfs of this process's own namespace. Nothing of it outlives the process.
#[derive(Debug)]
pub struct PrivateTmpfs {
    point: Option<PathBuf>,
}

impl PrivateTmpfs {
    /// Mounts one. What lies below the covered directory can't be reached meanwhile.
    ///
    /// # Errors
    /// Where the kernel does not allow it.
    pub fn mount() -> Result<Self> {
        enter_namespace()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        for point in POINTS {
            if mount(Some("tmpfs"), point, Some("tmpfs"), flags, Some("size=1m,mode=0700")).is_ok() {
                return Ok(Self { point: Some(PathBuf::from(point)) });
            }
        }
        bail!("none of {} takes a tmpfs", POINTS.join(", "))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.point.as_deref().unwrap_or(Path::new("/nonexistent"))
    }

    /// Takes it away with all that is in it.
    ///
    /// # Errors
    /// If something still uses it.
    pub fn unmount(mut self) -> Result<()> {
        match self.point.take() {
            Some(point) => umount2(&point, MntFlags::UMOUNT_NOFOLLOW)
                .with_context(|| format!("unmounting {}", point.display())),
            None => Ok(()),
        }
    }
}

impl Drop for PrivateTmpfs {
    fn drop(&mut self) {
        if let Some(point) = self.point.take()
            && let Err(errno) = umount2(&point, MntFlags::UMOUNT_NOFOLLOW)
        {
            tracing::error!("{}: the tmpfs stays until this process ends: {errno}", point.display());
        }
    }
}
