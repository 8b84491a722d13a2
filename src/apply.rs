//! Doing what a plan says, through Root, after its inverse is in the journal.
//!
//! Each action is checked once more before it is done: what is already as it should be is left alone, and what is
//! neither as planned nor as wanted is skipped and named. An error ends the work; what was done is in the journal.

use crate::journal::record::{Changed, Hex, Intent, Inverse, Made, ParentBefore, Text};
use crate::journal::{Journal, sha256};
use crate::plan::{Action, Applied, Before, Change, Outcome, REPLACED_LIMIT};
use crate::root::{Attributes, Directory, Handle, NewFile, Placing, Root, temp_name};
use crate::view::{FileKind, LookError};
use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

mod accounts_lock;
pub(crate) mod inode;
mod tree;

pub use accounts_lock::AccountsLock;
pub use tree::{Kept, Survey, TreeResult, survey_tree};

/// Who looks on while long work goes on.
pub trait Watch {
    /// So many more entries were looked at; the last ones under `current`.
    fn tick(&mut self, entries: u64, current: &Path);
    /// `true` to end at the next safe point.
    fn stop(&mut self) -> bool;
    /// By how many threads a tree is walked; `None` for as many as pay.
    fn threads(&self) -> Option<usize> {
        None
    }
}

/// Nobody looks on.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn tick(&mut self, _: u64, _: &Path) {}

    fn stop(&mut self) -> bool {
        false
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// Every action with its outcome; `Planned` for those that an error or a signal left undone.
    pub applied: Vec<Applied>,
    /// What was seen in trees, by their top.
    pub trees: Vec<(PathBuf, TreeResult)>,
    /// It was stopped by [`Watch::stop`].
    pub stopped: bool,
    /// The error that ended it. If the volume was at fault, an action has failed with the same words.
    pub error: Option<anyhow::Error>,
}

impl Report {
    /// `true` if anything changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.applied
            .iter()
            .any(|applied| applied.outcome == Outcome::Changed || applied.entries.unwrap_or(0) > 0)
    }
}

/// Does the actions in their order. The caller ends the journal.
pub fn apply(root: &Root, actions: &[Action], journal: &mut Journal, watch: &mut dyn Watch) -> Report {
    let mut report = Report::default();
    for action in actions {
        if report.error.is_some() || report.stopped || watch.stop() {
            report.stopped |= report.error.is_none();
            report.applied.push(Applied { action: action.clone(), outcome: Outcome::Planned, entries: None });
            continue;
        }
        let mut step =
            Applier { root, action, journal: &mut *journal, watch: &mut *watch, report: &mut report };
        match step.apply() {
            Ok((outcome, entries)) => {
                report.applied.push(Applied { action: action.clone(), outcome, entries });
            }
            Err(error) => {
                let outcome = Outcome::Failed(format!("{error:#}"));
                report.applied.push(Applied { action: action.clone(), outcome, entries: None });
                report.error = Some(error);
            }
        }
    }
    // What the journal calls done is to be there after a power cut.
    if report.changed()
        && let Err(error) = root.sync()
    {
        report.error.get_or_insert(error);
    }
    report
}

/// An outcome, and for a tree how many entries changed.
type Done = (Outcome, Option<u64>);

struct Applier<'a> {
    root: &'a Root,
    action: &'a Action,
    journal: &'a mut Journal,
    watch: &'a mut dyn Watch,
    report: &'a mut Report,
}

/// What was found where an action is to be done, if it is there to be looked at.
enum Look<T> {
    Found(T),
    Meanwhile(String),
}

impl Applier<'_> {
    fn apply(&mut self) -> Result<Done> {
        let simple = |outcome| (outcome, None);
        match &self.action.change {
            Change::SetMode { from, to } => self.set_mode(*from, *to).map(simple),
            Change::SetOwner { from, to } => self.set_owner(*from, *to).map(simple),
            Change::SetXattr { name, from, to } => {
                self.set_xattr(name, from.as_deref(), to.as_deref()).map(simple)
            }
            Change::CreateDirectory { .. } | Change::CreateLink { .. } => self.create().map(simple),
            Change::RemoveLink { .. } | Change::RemoveFile { .. } => self.remove().map(simple),
            Change::WriteFile { .. } => self.write_file().map(simple),
            Change::ChownTree { .. } => self.chown_tree(),
        }
    }

    fn path(&self) -> &Path {
        &self.action.path
    }

    /// The inode at the action's path, with its attributes.
    fn look(&self) -> Result<Look<(Handle, Attributes)>> {
        let found = self.root.handle(self.path()).and_then(|handle| {
            let attributes = handle.attributes()?;
            Ok((handle, attributes))
        });
        look(found).with_context(|| format!("looking at {}", self.path().display()))
    }

    fn set_mode(&mut self, from: u32, to: u32) -> Result<Outcome> {
        let (handle, now) = match self.look()? {
            Look::Found(found) => found,
            Look::Meanwhile(what) => return Ok(Outcome::Skipped(what)),
        };
        let is = now.stat;
        if is.kind == FileKind::Symlink {
            return Ok(meanwhile(is.kind.words()));
        }
        match is.mode {
            mode if mode == to => Ok(Outcome::Unchanged),
            mode if mode == from => {
                let after = Changed { mode: Some(to), ..Changed::default() };
                self.change_inode(&handle, &now, after, || handle.chmod(to))
            }
            mode => Ok(meanwhile(format!("{mode:04o}"))),
        }
    }

    fn set_owner(&mut self, from: (u32, u32), to: (u32, u32)) -> Result<Outcome> {
        let (handle, now) = match self.look()? {
            Look::Found(found) => found,
            Look::Meanwhile(what) => return Ok(Outcome::Skipped(what)),
        };
        match (now.stat.uid, now.stat.gid) {
            owner if owner == to => Ok(Outcome::Unchanged),
            owner if owner == from => {
                let after = Changed { owner: Some(to), ..Changed::default() };
                self.change_inode(&handle, &now, after, || inode::chown_keeping(&handle, to.0, to.1))
            }
            (uid, gid) => Ok(meanwhile(format!("{uid}:{gid}"))),
        }
    }

    fn set_xattr(&mut self, name: &str, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<Outcome> {
        let (handle, now) = match self.look()? {
            Look::Found(found) => found,
            Look::Meanwhile(what) => return Ok(Outcome::Skipped(what)),
        };
        let is =
            handle.xattr(name).with_context(|| format!("reading {name} of {}", self.path().display()))?;
        match is.as_deref() {
            value if value == to => Ok(Outcome::Unchanged),
            value if value == from => {
                let hex = to.map(|value| Hex(value.to_vec()));
                let after = Changed { xattr: Some((name.to_owned(), hex)), ..Changed::default() };
                self.change_inode(&handle, &now, after, || handle.set_xattr(name, to))
            }
            _ => Ok(meanwhile(format!("another {name}"))),
        }
    }

    /// Journals, lifts the locking flags, changes, and puts them back.
    fn change_inode(
        &mut self,
        handle: &Handle,
        now: &Attributes,
        after: Changed,
        change: impl FnOnce() -> io::Result<()>,
    ) -> Result<Outcome> {
        let before =
            inode::state(handle, now).with_context(|| format!("reading {}", self.path().display()))?;
        let flags = before.flags;
        let number = self.intend(Inverse::Attributes { before, after }, None)?;
        let done = inode::unlocked(&[(handle, flags)], change);
        self.finish(number, done)
    }

    fn intend(&mut self, undo: Inverse, parent: Option<ParentBefore>) -> Result<u64> {
        let (from, to) = self.action.change.from_to();
        let action = self.action.change.word().to_owned();
        self.journal.intent(Intent { path: self.path().into(), action, from, to, undo, parent })
    }

    fn finish(&mut self, number: u64, done: io::Result<()>) -> Result<Outcome> {
        match done {
            Ok(()) => {
                self.journal.done(number, 1)?;
                Ok(Outcome::Changed)
            }
            Err(error) => {
                self.journal.failed(number, 0, error.to_string())?;
                Err(error).with_context(|| format!("changing {}", self.path().display()))
            }
        }
    }

    /// The directory of the action's path, its state, and the name in it.
    fn parent(&self) -> Result<Look<Place>> {
        let found = self.root.parent(self.path()).and_then(|(directory, name)| {
            let itself = directory.itself()?;
            let attributes = itself.attributes()?;
            let flags = itself.flags()?;
            let before = ParentBefore { atime: attributes.atime, mtime: attributes.mtime, flags };
            Ok(Place { directory, itself, before, name })
        });
        look(found).with_context(|| format!("looking at the directory of {}", self.path().display()))
    }

    fn create(&mut self) -> Result<Outcome> {
        let place = match self.parent()? {
            Look::Found(place) => place,
            Look::Meanwhile(what) => return Ok(Outcome::Skipped(what)),
        };
        let none = Vec::new();
        let (after, xattrs) = match &self.action.change {
            Change::CreateLink { target, uid, gid } => {
                let target = Some(Text::from(target.as_path()));
                (Made { mode: 0o777, uid: *uid, gid: *gid, content: None, target }, &none)
            }
            Change::CreateDirectory { mode, uid, gid, xattrs } => {
                (Made { mode: *mode, uid: *uid, gid: *gid, content: None, target: None }, xattrs)
            }
            _ => return Ok(Outcome::Skipped("nothing to create".into())),
        };
        match look(self.root.handle(self.path()))? {
            Look::Found(handle) => {
                return Ok(match inode::is_made(&handle, &after) {
                    Ok(true) => Outcome::Unchanged,
                    _ => meanwhile(
                        handle.stat().map_or("there".to_owned(), |stat| stat.kind.words().to_owned()),
                    ),
                });
            }
            Look::Meanwhile(_) => {}
        }
        let temp = temp_name();
        let (mode, uid, gid) = (after.mode, after.uid, after.gid);
        let target = after.target.as_ref().map(Text::to_path);
        let xattrs = inode::to_xattrs(xattrs);
        let number =
            self.intend(Inverse::Created { temp: temp.as_os_str().into(), after }, Some(place.before))?;
        let done = inode::unlocked(&[(&place.itself, place.before.flags)], || match &target {
            None => place.directory.make_directory(&place.name, &temp, (mode, uid, gid), &xattrs),
            Some(to) => place.directory.make_link(&place.name, &temp, to, (uid, gid), &xattrs, Placing::New),
        });
        self.finish(number, done)
    }

    fn remove(&mut self) -> Result<Outcome> {
        let place = match self.parent()? {
            Look::Found(place) => place,
            Look::Meanwhile(what) => return Ok(Outcome::Skipped(what)),
        };
        let (handle, now) = match self.look()? {
            Look::Found(found) => found,
            Look::Meanwhile(_) => return Ok(Outcome::Unchanged),
        };
        let reading = || format!("reading {}", self.action.path.display());
        let (saved, link) = match &self.action.change {
            Change::RemoveLink { .. } if now.stat.kind != FileKind::Symlink => {
                return Ok(meanwhile(now.stat.kind.words()));
            }
            Change::RemoveLink { target } => {
                let is = handle.read_link().with_context(reading)?;
                if is != *target {
                    return Ok(meanwhile(format!("a link to {}", is.display())));
                }
                (None, Some(target.as_path().into()))
            }
            Change::RemoveFile { before: Before::Regular { ino, size, mtime } } => {
                if !now.stat.is_file() {
                    return Ok(meanwhile(now.stat.kind.words()));
                }
                if (now.stat.ino, now.stat.size, now.stat.mtime) != (*ino, *size, *mtime) {
                    return Ok(meanwhile("another file"));
                }
                let old = handle.read(REPLACED_LIMIT).with_context(reading)?;
                (Some(self.journal.save(&old)?), None)
            }
            _ => return Ok(Outcome::Skipped("nothing to remove".into())),
        };
        let before = inode::state(&handle, &now).with_context(reading)?;
        let flags = before.flags;
        let temp = temp_name().as_os_str().into();
        let undo = Inverse::Removed { before, saved, target: link, temp };
        let number = self.intend(undo, Some(place.before))?;
        let done = inode::unlocked(&[(&place.itself, place.before.flags), (&handle, flags)], || {
            place.directory.unlink(&place.name)?;
            place.directory.sync()
        });
        self.finish(number, done)
    }

    fn write_file(&mut self) -> Result<Outcome> {
        let Change::WriteFile { before, content, mode, uid, gid, xattrs } = &self.action.change else {
            return Ok(Outcome::Skipped("nothing to write".into()));
        };
        let place = match self.parent()? {
            Look::Found(place) => place,
            Look::Meanwhile(what) => return Ok(Outcome::Skipped(what)),
        };
        let after = Made {
            mode: *mode,
            uid: *uid,
            gid: *gid,
            content: Some((content.len() as u64, sha256(content))),
            target: None,
        };
        let there = match self.look()? {
            Look::Found(found) => Some(found),
            Look::Meanwhile(_) => None,
        };
        if let Some((handle, _)) = &there
            && inode::is_made(handle, &after).with_context(|| format!("reading {}", self.path().display()))?
            && inode::has_xattrs(handle, xattrs)?
        {
            return Ok(Outcome::Unchanged);
        }
        let there = match (before, there) {
            (Before::Absent, None) => None,
            (Before::Regular { ino, size, mtime }, Some((handle, now)))
                if now.stat.is_file()
                    && (now.stat.ino, now.stat.size, now.stat.mtime) == (*ino, *size, *mtime) =>
            {
                Some((handle, now))
            }
            (Before::Link { target }, Some((handle, now)))
                if now.stat.kind == FileKind::Symlink && handle.read_link().is_ok_and(|is| is == *target) =>
            {
                Some((handle, now))
            }
            (_, None) => return Ok(meanwhile("absent")),
            (Before::Absent, Some((_, now))) => return Ok(meanwhile(now.stat.kind.words())),
            (_, Some((_, now))) if !now.stat.is_file() => return Ok(meanwhile(now.stat.kind.words())),
            (_, Some(_)) => return Ok(meanwhile("another file")),
        };
        let temp = temp_name();
        let mut all = inode::to_xattrs(xattrs);
        let mut new = NewFile {
            content,
            mode: *mode,
            uid: *uid,
            gid: *gid,
            xattrs: &Vec::new(),
            flags: 0,
            times: None,
        };
        let (number, locked, placing) = match &there {
            None => {
                let undo = Inverse::Created { temp: temp.as_os_str().into(), after };
                (
                    self.intend(undo, Some(place.before))?,
                    vec![(&place.itself, place.before.flags)],
                    Placing::New,
                )
            }
            Some((handle, now)) => {
                let reading = || format!("reading {}", self.action.path.display());
                let before = inode::state(handle, now).with_context(reading)?;
                let (saved, target) = match now.stat.kind {
                    FileKind::Symlink => {
                        (None, Some(Text::from(handle.read_link().with_context(reading)?.as_path())))
                    }
                    _ => {
                        let old = handle.read(REPLACED_LIMIT).with_context(reading)?;
                        (Some(self.journal.save(&old)?), None)
                    }
                };
                if saved.is_some() {
                    new.flags = before.flags;
                    inode::keep_xattrs(&mut all, before.xattrs());
                }
                let flags = before.flags;
                let undo = Inverse::Replaced { before, saved, target, temp: temp.as_os_str().into(), after };
                let number = self.intend(undo, Some(place.before))?;
                (number, vec![(&place.itself, place.before.flags), (handle, flags)], Placing::Over)
            }
        };
        new.xattrs = &all;
        let done = inode::unlocked(&locked, || place.directory.write_file(&place.name, &temp, &new, placing));
        self.finish(number, done)
    }

    fn chown_tree(&mut self) -> Result<Done> {
        let Change::ChownTree { uid, gid, owners } = &self.action.change else {
            return Ok((Outcome::Skipped("no tree".into()), None));
        };
        let top = match look(self.root.directory(self.path()))
            .with_context(|| format!("opening {}", self.path().display()))?
        {
            Look::Found(top) => top,
            Look::Meanwhile(what) => return Ok((Outcome::Skipped(what), None)),
        };
        let mut tree = tree::Tree::new(self.root, &self.action.path, &top, (*uid, *gid), owners, self.watch)?;
        let number = std::cell::Cell::new(None);
        let intent = |journal: &mut Journal| {
            let (from, to) = self.action.change.from_to();
            let undo = Inverse::Tree { uid: *uid, gid: *gid };
            let action = self.action.change.word().to_owned();
            let path = self.action.path.as_path().into();
            let of = journal.intent(Intent { path, action, from, to, undo, parent: None })?;
            number.set(Some(of));
            Ok(of)
        };
        let done = tree.chown(self.journal, &intent);
        let result = tree.into_result();
        let changed = result.changed;
        self.report.stopped |= result.stopped;
        self.report.trees.push((self.action.path.clone(), result));
        match (done, number.get()) {
            (Ok(()), None) => Ok((Outcome::Unchanged, Some(0))),
            (Ok(()), Some(of)) => {
                self.journal.done(of, changed)?;
                Ok((Outcome::Changed, Some(changed)))
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(of)) => {
                // The first error is the one to tell: if the journal was at fault, it is at fault again.
                drop(self.journal.failed(of, changed, format!("{error:#}")));
                Err(error)
            }
        }
    }
}

/// Where a name is made.
struct Place {
    directory: Directory,
    itself: Handle,
    before: ParentBefore,
    name: OsString,
}

fn meanwhile(is: impl AsRef<str>) -> Outcome {
    Outcome::Skipped(format!("changed meanwhile: it is {}", is.as_ref()))
}

/// Tells what is not there, or not what it was, from what can't be looked at.
fn look<T>(found: Result<T, LookError>) -> Result<Look<T>> {
    match found {
        Ok(found) => Ok(Look::Found(found)),
        Err(
            error @ (LookError::NotFound
            | LookError::NotDirectory
            | LookError::Loop
            | LookError::Kind(_)
            | LookError::OtherFilesystem),
        ) => Ok(Look::Meanwhile(format!("changed meanwhile: {error}"))),
        Err(error) => Err(error.into()),
    }
}

/// A name of the volume's bytes.
fn os(name: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}
