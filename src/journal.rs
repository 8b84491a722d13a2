//! The write-ahead journal of a run, on the helper: what is needed to take every change back, durable before the
//! change is made.
//!
//! A run has a directory `<state>/<run id>/` (0700) with `journal.jsonl` (0600): one JSON object a line, each with a
//! CRC-32 of the rest of its line and a number without gaps, so that damage is known for what it is. Old contents lie
//! beside it in `saved/` (0600) and never in a line: no line holds a secret. The records are those of [`record`].

#![expect(clippy::disallowed_methods, reason = "the journal lies on the helper, not on the volume")]

use crate::error::Refusal;
use anyhow::{Context, Result, anyhow};
use ssh_key::sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) mod clock;
mod line;
mod load;
mod lock;
mod prune;
pub mod record;

pub use load::{LoadedRun, RunState, RunSummary, Step, history, load, state_now};
pub use lock::VolumeLock;
pub use prune::{Pruned, prune};
use record::{Batch, Begin, Ending, Intent, Record, Saved};

/// The version of the journal's form; one that we do not know is not undone.
pub const SCHEMA: u32 = 1;
/// Where runs are journaled if nobody says otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/volrescue";
/// The file of a run's records.
const FILE: &str = "journal.jsonl";
/// The same before the first record is durable.
const UNBORN: &str = "journal.new";
/// How many records a run has that came to its end: a journal that lost its last ones would else look like that of a
/// killed run.
const ENDED: &str = "ended";
/// The same before it is durable.
const ENDING: &str = "ended.new";
/// The directory of a run's saved contents.
const SAVED: &str = "saved";

/// What a run is about, for its first record.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// "repair" or "undo".
    pub command: String,
    /// The target as it was given.
    pub given: String,
    /// What it is: "block", "image", "directory" or "live".
    pub kind: Option<String>,
    /// The device or image behind it.
    pub device: Option<String>,
    /// What tells it from others with the same UUID, by [`crate::volume::identity`].
    pub identity: Option<String>,
    /// Kind of the root filesystem.
    pub filesystem: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Number of the partition it lies on.
    pub partition: Option<u32>,
    /// The subvolume that is the root.
    pub subvolume: Option<String>,
    /// The other filesystems of the tree.
    pub mounts: Vec<crate::volume::Branch>,
    /// The login users.
    pub users: Vec<String>,
    /// For an undo: the run that is undone.
    pub undoes: Option<String>,
}

/// The journal of the present run.
#[derive(Debug)]
pub struct Journal {
    /// `None` where nothing is recorded.
    to: Option<Open>,
    changes: u64,
}

#[derive(Debug)]
struct Open {
    dir: PathBuf,
    id: String,
    file: File,
    next: u64,
    saved: u32,
    /// How many bytes the file's whole lines have, and how many of them are known to be durable.
    length: u64,
    durable: u64,
    /// It could not be made durable once.
    broken: bool,
}

impl Journal {
    /// Records nothing: for a dry run, and where undo is given up on purpose.
    #[must_use]
    pub fn none() -> Self {
        Self { to: None, changes: 0 }
    }

    /// Begins a run: its directory, and the first record, durable.
    ///
    /// # Errors
    /// A [`Refusal`] (3) if the state directory can't be made or written.
    pub fn create(state: &Path, info: &RunInfo, lock: &mut VolumeLock) -> Result<Self> {
        let refuse = |what: &str, path: &Path, error: &std::io::Error| state_refusal(what, path, error);
        make_state(state)?;
        let (secs, nanoseconds) = clock::now();
        let stamp = clock::stamp(secs);
        let (id, dir) = loop {
            let token = crate::root::temp_name().to_string_lossy().into_owned();
            let id = format!("{stamp}-{}", &token[token.len() - 4..]);
            let dir = state.join(&id);
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refuse("making", &dir, &error).into()),
                Ok(()) => break (id, dir),
            }
        };
        // Under its name only once its first record is whole: a run that was killed before has changed nothing, and is
        // not in the history.
        let path = dir.join(UNBORN);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| refuse("making", &path, &error))?;
        let mut journal = Self { to: Some(Open::new(dir.clone(), id.clone(), file)), changes: 0 };
        let begin = Begin {
            schema: SCHEMA,
            run: id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: secs,
            started_nanoseconds: nanoseconds,
            pid: std::process::id(),
            command: info.command.clone(),
            target: info.given.clone(),
            kind: info.kind.clone(),
            device: info.device.clone(),
            identity: info.identity.clone(),
            filesystem: info.filesystem.clone(),
            uuid: info.uuid.clone(),
            partition: info.partition,
            subvolume: info.subvolume.clone(),
            mounts: info.mounts.clone(),
            users: info.users.clone(),
            undoes: info.undoes.clone(),
            lock: lock.key().to_owned(),
        };
        journal.append(&Record::Begin(Box::new(begin))).and_then(|_| journal.sync()).map_err(|error| {
            Refusal::target(format!("{error:#}")).hint("Name another directory with --state-dir.")
        })?;
        let born = dir.join(FILE);
        fs::rename(&path, &born).map_err(|error| refuse("making", &born, &error))?;
        sync_directory(&dir)?;
        sync_directory(state)?;
        lock.name_run(&id)?;
        Ok(journal)
    }

    /// The run's id; `None` if nothing is recorded.
    #[must_use]
    pub fn run_id(&self) -> Option<&str> {
        self.to.as_ref().map(|open| open.id.as_str())
    }

    /// How many changes were reported as done.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Saves old content, durable, for an intent that will name it.
    ///
    /// # Errors
    /// As writing a file.
    pub fn save(&mut self, content: &[u8]) -> Result<Saved> {
        let sha256 = sha256(content);
        let Some(open) = &mut self.to else {
            return Ok(Saved { file: String::new(), size: content.len() as u64, sha256 });
        };
        let saved = open.dir.join(SAVED);
        match DirBuilder::new().mode(0o700).create(&saved) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("making {}", saved.display()));
            }
            _ => {}
        }
        let file = format!("{:03}", open.saved);
        open.saved += 1;
        let path = saved.join(&file);
        (|| {
            let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            to.write_all(content)?;
            to.sync_all()
        })()
        .with_context(|| format!("writing {}", path.display()))?;
        sync_directory(&saved)?;
        sync_directory(&open.dir)?;
        Ok(Saved { file, size: content.len() as u64, sha256 })
    }

    /// Records what is about to be done and how it is taken back; durable when this returns.
    ///
    /// # Errors
    /// As writing a file. The effect must not happen then.
    pub fn intent(&mut self, intent: Intent) -> Result<u64> {
        let number = self.append(&Record::Intent(Box::new(intent)))?;
        self.sync()?;
        Ok(number)
    }

    /// Records the old owners of a part of a tree; durable when this returns.
    ///
    /// # Errors
    /// As [`Journal::intent`].
    pub fn batch(&mut self, batch: Batch) -> Result<()> {
        self.append(&Record::Tree(batch))?;
        self.sync()
    }

    /// The effect of an intent is there, with so many changes.
    ///
    /// # Errors
    /// As writing a file.
    pub fn done(&mut self, of: u64, changes: u64) -> Result<()> {
        self.changes += changes;
        self.append(&Record::Done { of, changes }).map(drop)
    }

    /// The effect of an intent could not be had, or only in part.
    ///
    /// # Errors
    /// As writing a file.
    pub fn failed(&mut self, of: u64, changes: u64, why: String) -> Result<()> {
        self.changes += changes;
        self.append(&Record::Failed { of, changes, why }).map(drop)
    }

    /// The run is over.
    ///
    /// # Errors
    /// As writing a file.
    pub fn end(&mut self, ending: Ending) -> Result<()> {
        let changes = self.changes;
        self.append(&Record::End { ending, changes })?;
        match &mut self.to {
            // That was told when it broke; it looks like the journal of a killed run, and is taken for one.
            Some(open) if open.broken => Ok(()),
            Some(open) => {
                open.sync()?;
                note_end(&open.dir, open.next)
            }
            None => Ok(()),
        }
    }

    /// Takes the run out of the history again: it changed nothing, so there is nothing to take back.
    ///
    /// # Errors
    /// As removing a file, or if something was begun after all.
    pub fn discard(self) -> Result<()> {
        let Some(open) = self.to else { return Ok(()) };
        anyhow::ensure!(self.changes == 0 && open.next == 1, "run {} has records", open.id);
        let path = open.dir.join(FILE);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        fs::remove_dir(&open.dir).with_context(|| format!("removing {}", open.dir.display()))
    }

    /// Adds a line; gives its number.
    fn append(&mut self, record: &Record) -> Result<u64> {
        self.to.as_mut().map_or(Ok(0), |open| open.append(record))
    }

    fn sync(&mut self) -> Result<()> {
        self.to.as_mut().map_or(Ok(()), Open::sync)
    }
}

impl Open {
    fn new(dir: PathBuf, id: String, file: File) -> Self {
        Self { dir, id, file, next: 0, saved: 0, length: 0, durable: 0, broken: false }
    }

    fn append(&mut self, record: &Record) -> Result<u64> {
        // Nothing follows a gap: what is durable is whole, and the run is known for one that did not come to its end.
        if self.broken {
            return Ok(self.next);
        }
        let line = line::to_line(self.next, record)?;
        if let Err(error) = self.file.write_all(&line) {
            // Half a line may be there.
            self.broken = self.file.set_len(self.length).is_err();
            return Err(error).with_context(|| format!("writing {}", self.dir.join(FILE).display()));
        }
        self.length += line.len() as u64;
        self.next += 1;
        Ok(self.next - 1)
    }

    fn sync(&mut self) -> Result<()> {
        let path = || self.dir.join(FILE).display().to_string();
        anyhow::ensure!(!self.broken, "{} could not be synced before", path());
        match self.file.sync_data() {
            Ok(()) => {
                self.durable = self.length;
                Ok(())
            }
            Err(error) => {
                // The kernel takes the pages for written now (fsync(2)), whether they are or not, and a later sync
                // would say nothing. Only lines that had no effect yet are given up; where even that fails, they are
                // a damaged end, which undo names.
                self.broken = true;
                drop(self.file.set_len(self.durable).and_then(|()| self.file.sync_data()));
                Err(error).with_context(|| format!("syncing {}", path()))
            }
        }
    }
}

/// SHA-256 in hexadecimal digits: how content is known again without being kept in a line.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn state_refusal(what: &str, path: &Path, error: &std::io::Error) -> Refusal {
    Refusal::target(format!("{what} {}: {error}", path.display()))
        .hint("Runs are journaled there so that they can be undone; name another directory with --state-dir.")
}

/// Makes the state directory, for root's eyes only.
fn make_state(state: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|error| state_refusal("making the state directory", state, &error).into())
}

/// Notes, durable, how many records there are up to the end of a run.
fn note_end(dir: &Path, records: u64) -> Result<()> {
    let path = dir.join(ENDING);
    (|| {
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        to.write_all(format!("{records}\n").as_bytes())?;
        to.sync_all()?;
        fs::rename(&path, dir.join(ENDED))
    })()
    .with_context(|| format!("writing {}", path.display()))?;
    sync_directory(dir)
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).with_context(|| format!("syncing {}", path.display()))
}

/// Reads a whole file of the helper.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| anyhow!("reading {}: {error}", path.display()))
}
