//! One run at a time on a volume: a flock(2) on the helper, which ends with the process that holds it.

use super::{make_state, state_refusal};
use crate::error::Refusal;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The directory of the locks, beside the runs.
pub(super) const LOCKS: &str = "locks";

/// Held while a run may write on a volume.
#[derive(Debug)]
pub struct VolumeLock {
    file: Flock<File>,
    key: String,
}

impl VolumeLock {
    /// Takes the lock of a volume, known by its filesystem's UUID or, without one, by its device.
    ///
    /// # Errors
    /// A [`Refusal`]: 4 with the holder's process and run if it is taken, 3 if the state directory can't be written.
    pub fn take(state: &Path, volume: &str) -> Result<Self> {
        make_state(state)?;
        let dir = state.join(LOCKS);
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(state_refusal("making", &dir, &error).into());
            }
            _ => {}
        }
        let key = key(volume);
        let path = dir.join(&key);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| state_refusal("opening", &path, &error))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let holder = holder(&mut file);
                return Err(Refusal::unsafe_(format!("another run works on this volume: {holder}"))
                    .hint("Wait for it, or end it, and try again.")
                    .into());
            }
            Err((_, errno)) => return Err(state_refusal("locking", &path, &errno.into()).into()),
        };
        let mut lock = Self { file, key };
        lock.write(&format!("process {}\n", std::process::id()))?;
        Ok(lock)
    }

    /// The lock's name.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Says for others which run holds it.
    pub(super) fn name_run(&mut self, run: &str) -> Result<()> {
        self.write(&format!("process {}, run {run}\n", std::process::id()))
    }

    fn write(&mut self, text: &str) -> Result<()> {
        (|| {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())
        })()
        .context("writing the lock")
    }
}

/// Which run holds a lock at present.
pub(super) fn held_by(state: &Path, key: &str) -> Option<String> {
    let file = OpenOptions::new().read(true).open(state.join(LOCKS).join(key)).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((mut file, Errno::EWOULDBLOCK)) => Some(holder(&mut file)),
        _ => None,
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match Read::take(file, 200).read_to_string(&mut text) {
        Ok(1..) => text.trim_end().to_owned(),
        _ => "a process that has not said its name yet".to_owned(),
    }
}

/// A file name out of whatever names a volume.
fn key(volume: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let key: String = volume.chars().map(safe).take(100).collect();
    if key.is_empty() { "unnamed".to_owned() } else { key }
}
