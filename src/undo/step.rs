//! Single steps of a run: what was changed, made, replaced or removed.

use super::tree::lost_bits;
use super::{UndoOutcome, UndoStep, Undoer, gone, relock};
use crate::apply::inode::{
    self, CAPABILITY, LOCKING, has_content, is_made, restore, restore_privilege, to_io, unlocked,
};
use crate::journal::record::{Changed, Intent, Inverse, Made, ParentBefore, Saved, State, Text};
use crate::root::{Directory, Handle, NewFile, Placing};
use crate::view::{FileKind, LookError};
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::io;

type Taken = Result<UndoOutcome>;

/// The directory in which names are put back.
struct Parent {
    directory: Directory,
    itself: Handle,
    flags: u32,
    name: OsString,
}

impl Undoer<'_> {
    pub(super) fn intent(&mut self, intent: &Intent) -> Result<UndoStep> {
        let outcome = self
            .take_back(intent)
            .with_context(|| format!("restoring {}", intent.path.to_path().display()))?;
        Ok(self.step(intent, outcome))
    }

    pub(super) fn step(&self, intent: &Intent, outcome: UndoOutcome) -> UndoStep {
        UndoStep {
            path: intent.path.to_path(),
            what: intent.action.clone(),
            back_to: intent.from.clone(),
            outcome,
            entries: None,
        }
    }

    fn take_back(&mut self, intent: &Intent) -> Taken {
        if let Inverse::Attributes { before, after } = &intent.undo {
            return self.attributes(intent, before, after);
        }
        let path = intent.path.to_path();
        let parent = match self.root.parent(&path).and_then(|(directory, name)| {
            let itself = directory.itself()?;
            let flags = itself.flags()?;
            Ok(Parent { directory, itself, flags, name })
        }) {
            // Where nothing was and nothing can be, nothing is to be done.
            Err(error) if gone(&error) && matches!(intent.undo, Inverse::Created { .. }) => {
                return Ok(UndoOutcome::Already);
            }
            Err(error) if gone(&error) => {
                return Ok(UndoOutcome::Conflict(format!("its directory: {error}")));
            }
            parent => parent?,
        };
        let there = match parent.directory.handle(&parent.name) {
            Err(LookError::NotFound) => None,
            there => Some(there?),
        };
        let outcome = match &intent.undo {
            Inverse::Created { temp, after } => self.created(&parent, there.as_ref(), temp, after),
            Inverse::Replaced { before, saved, target, temp, after } => {
                let old =
                    Old { before, saved: saved.as_ref(), target: target.as_ref(), temp, made: Some(after) };
                self.replaced(&parent, there.as_ref(), &old)
            }
            Inverse::Removed { before, saved, target, temp } => {
                let old = Old { before, saved: saved.as_ref(), target: target.as_ref(), temp, made: None };
                self.replaced(&parent, there.as_ref(), &old)
            }
            Inverse::Attributes { .. } | Inverse::Tree { .. } => Ok(UndoOutcome::Already),
        }?;
        if let (Some(before), UndoOutcome::Restored | UndoOutcome::Already) = (&intent.parent, &outcome)
            && !self.options.dry_run
        {
            restore_parent(&parent.itself, before)?;
        }
        Ok(outcome)
    }

    fn attributes(&self, intent: &Intent, before: &State, after: &Changed) -> Taken {
        let handle = match self.root.handle(&intent.path.to_path()) {
            Err(error) if gone(&error) => return Ok(UndoOutcome::Conflict(error.to_string())),
            handle => handle?,
        };
        let stat = handle.stat()?;
        let owner = (stat.uid, stat.gid);
        let file = stat.kind == FileKind::Regular;
        let old_owner = (before.uid, before.gid);
        let mut old = true;
        let mut new = true;
        let mut is = String::new();
        if let Some(mode) = after.mode {
            old &= stat.mode == before.mode;
            new &= stat.mode == mode;
            is = format!("{:04o}", stat.mode);
        }
        if let Some(to) = after.owner {
            let caps = before.xattr(CAPABILITY);
            let bare = file && caps.is_some() && handle.xattr(CAPABILITY)?.as_deref() != caps;
            let lost = file && lost_bits(before.mode, stat.mode);
            old &= owner == old_owner && !bare && !lost;
            // Between chown and what puts set-id bits back, a killed run leaves the old or the new owner without them.
            new &= owner == to || owner == old_owner;
            is = format!("{}:{}", owner.0, owner.1);
        }
        if let Some((name, value)) = &after.xattr {
            let now = handle.xattr(name)?;
            old &= now.as_deref() == before.xattr(name);
            new &= now.as_deref() == value.as_ref().map(|value| value.0.as_slice());
            is = format!("another {name}");
        }
        if old {
            if !self.options.dry_run && relock(&handle, before.flags)? {
                return Ok(UndoOutcome::Restored);
            }
            return Ok(UndoOutcome::Already);
        }
        if !new && !self.options.force {
            return Ok(UndoOutcome::Conflict(format!("it is {is}, which the run did not make")));
        }
        if self.options.dry_run {
            return Ok(UndoOutcome::Planned);
        }
        let flags = handle.flags()?;
        unlocked(&[(&handle, flags)], || {
            if after.owner.is_some() {
                if owner != old_owner {
                    handle.chown(before.uid, before.gid)?;
                }
                let mode = if lost_bits(before.mode, stat.mode) { before.mode } else { stat.mode };
                let caps = before.xattr(CAPABILITY).filter(|_| file);
                restore_privilege(&handle, stat.kind, mode, caps)?;
            }
            if let Some((name, _)) = &after.xattr {
                handle.set_xattr(name, before.xattr(name))?;
            }
            if after.mode.is_some() {
                handle.chmod(before.mode)?;
            }
            Ok(())
        })?;
        relock(&handle, before.flags)?;
        Ok(UndoOutcome::Restored)
    }

    fn created(&self, parent: &Parent, there: Option<&Handle>, temp: &Text, after: &Made) -> Taken {
        self.sweep(parent, temp)?;
        let Some(there) = there else { return Ok(UndoOutcome::Already) };
        if !is_made(there, after)? && !self.options.force {
            let stat = there.stat()?;
            return Ok(UndoOutcome::Conflict(format!(
                "it is {} {}, which the run did not make so",
                stat.kind.words(),
                stat.mode_owner()
            )));
        }
        let directory = there.stat()?.is_dir();
        if directory && !there.list(1).is_ok_and(|names| names.is_empty()) {
            // What the run itself put there is gone by now; in a dry run it is not.
            return Ok(match self.options.dry_run {
                true => UndoOutcome::Planned,
                false => UndoOutcome::Conflict("the directory is not empty".into()),
            });
        }
        if self.options.dry_run {
            return Ok(UndoOutcome::Planned);
        }
        let flags = there.flags()?;
        if flags & LOCKING != 0 {
            there.set_flags(flags & !LOCKING)?;
        }
        unlocked(&[(&parent.itself, parent.flags)], || {
            match directory {
                true => parent.directory.remove_directory(&parent.name),
                false => parent.directory.unlink(&parent.name),
            }?;
            parent.directory.sync()
        })?;
        Ok(UndoOutcome::Restored)
    }

    fn replaced(&self, parent: &Parent, there: Option<&Handle>, old: &Old<'_>) -> Taken {
        self.sweep(parent, old.temp)?;
        if let Some(there) = there
            && old.is_there(there)?
        {
            // Never replaced, or put back already and stopped before the attributes were complete.
            let now = inode::state(there, &there.attributes()?)?;
            if old.same_attributes(&now) {
                return Ok(UndoOutcome::Already);
            }
            if self.options.dry_run {
                return Ok(UndoOutcome::Planned);
            }
            let flags = there.flags()?;
            unlocked(&[(there, flags)], || restore(there, old.before))?;
            relock(there, old.before.flags)?;
            return Ok(UndoOutcome::Restored);
        }
        let ours = match (there, old.made) {
            (Some(there), Some(made)) => is_made(there, made)?,
            (there, None) => there.is_none(),
            (None, Some(_)) => false,
        };
        if !ours && !self.options.force {
            let is = there.map_or(Ok("absent".to_owned()), |there| {
                there.stat().map(|stat| format!("{} {}", stat.kind.words(), stat.mode_owner()))
            })?;
            return Ok(UndoOutcome::Conflict(format!("it is {is}, which the run did not make so")));
        }
        let content = match old.saved.map(|saved| self.run.saved(saved)) {
            None => None,
            Some(Ok(content)) => Some(content),
            Some(Err(error)) => return Ok(UndoOutcome::Failed(format!("{error:#}"))),
        };
        if self.options.dry_run {
            return Ok(UndoOutcome::Planned);
        }
        let placing = if there.is_some() { Placing::Over } else { Placing::New };
        let mut locked = vec![(&parent.itself, parent.flags)];
        if let Some(there) = there {
            locked.push((there, there.flags()?));
        }
        let temp = second(old.temp);
        let xattrs = old.before.xattrs();
        let before = old.before;
        unlocked(&locked, || match (&content, old.target) {
            (Some(content), _) => {
                let new = NewFile {
                    content,
                    mode: before.mode,
                    uid: before.uid,
                    gid: before.gid,
                    xattrs: &xattrs,
                    flags: before.flags,
                    times: Some((before.atime, before.mtime)),
                };
                parent.directory.write_file(&parent.name, &temp, &new, placing)
            }
            (None, Some(target)) => {
                let owner = (before.uid, before.gid);
                let target = target.to_path();
                parent.directory.make_link(&parent.name, &temp, &target, owner, &xattrs, placing)?;
                let link = parent.directory.handle(&parent.name).map_err(to_io)?;
                link.set_times(before.atime, before.mtime)
            }
            (None, None) => Err(io::Error::other("the journal does not say what was there")),
        })?;
        Ok(UndoOutcome::Restored)
    }

    /// Removes what a killed run, or a killed undo, left under a name of its own.
    fn sweep(&self, parent: &Parent, temp: &Text) -> io::Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        sweep(&parent.directory, &parent.itself, parent.flags, temp).map(drop)
    }
}

/// Removes the temporary names of a step; `true` if there were any.
pub(super) fn sweep(directory: &Directory, itself: &Handle, flags: u32, temp: &Text) -> io::Result<bool> {
    let mut swept = false;
    for temp in [temp.to_os_string(), second(temp)] {
        let Ok(there) = directory.attributes(&temp) else { continue };
        let removed = unlocked(&[(itself, flags)], || match there.stat.kind {
            FileKind::Directory => directory.remove_directory(&temp),
            _ => directory.unlink(&temp),
        });
        match removed {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            removed => removed?,
        }
        swept = true;
    }
    Ok(swept)
}

/// The temporary name that an undo uses: known beforehand, so that what a killed one leaves is found.
fn second(temp: &Text) -> OsString {
    let mut name = temp.to_os_string();
    name.push(OsStr::new("-undo"));
    name
}

/// The time stamps and flags of a directory whose names are as they were.
pub(super) fn restore_parent(itself: &Handle, before: &ParentBefore) -> io::Result<()> {
    let now = itself.attributes().map_err(to_io)?;
    if (now.atime, now.mtime) != (before.atime, before.mtime) {
        let flags = itself.flags().map_err(to_io)?;
        unlocked(&[(itself, flags)], || itself.set_times(before.atime, before.mtime))?;
    }
    relock(itself, before.flags).map(drop)
}

/// A file or link as it was.
struct Old<'a> {
    before: &'a State,
    saved: Option<&'a Saved>,
    target: Option<&'a Text>,
    temp: &'a Text,
    /// What the run put in its place.
    made: Option<&'a Made>,
}

impl Old<'_> {
    /// Whether the old content or target is there.
    fn is_there(&self, there: &Handle) -> Result<bool, LookError> {
        match (self.saved, self.target) {
            (Some(saved), _) => has_content(there, saved.size, &saved.sha256),
            (None, Some(target)) => Ok(there.stat()?.kind == FileKind::Symlink
                && Text::from(there.read_link()?.as_path()) == *target),
            (None, None) => Ok(false),
        }
    }

    /// Whether the attributes are the old ones; access times move by themselves.
    fn same_attributes(&self, now: &State) -> bool {
        let before = self.before;
        (now.mode, now.uid, now.gid, now.mtime, now.flags & LOCKING, &now.xattrs)
            == (before.mode, before.uid, before.gid, before.mtime, before.flags & LOCKING, &before.xattrs)
    }
}
