//! What a killed or failed run left half-way in the one step it was at: temporary names, lifted flags, set-id bits not
//! yet put back. A repair that follows would not miss them, so they are put in order first.

use super::step::sweep;
use super::tree::{each_directory, lost_bits};
use super::{gone, relock};
use crate::apply::inode::{CAPABILITY, restore_privilege, to_io, unlocked};
use crate::journal::record::{Batch, Ending, Group, Intent, Inverse};
use crate::journal::{LoadedRun, Step};
use crate::root::{Handle, Root};
use crate::view::FileKind;
use anyhow::{Context, Result};
use std::io;
use std::path::Path;

/// Puts in order what a run that was killed, or that stopped at an error, left half-way, and notes that in its journal,
/// so that it is done once. Of steps that it had finished only the locking flags are put back, which may not have got to
/// the disk before the volume lost its power: nothing else that a repair finds would show that they are missing. Gives the
/// number of things put in order.
///
/// # Errors
/// As the filesystem answers.
pub fn settle(root: &Root, run: &mut LoadedRun) -> Result<u64> {
    let failed = run.ending == Some(Ending::Failed);
    if run.undone_by.is_some() || run.settled || (run.ending.is_some() && !failed) {
        return Ok(0);
    }
    let mut settled = 0;
    for index in (0..run.len()).rev() {
        let part = if run.is_finished(index) { Part::Flags } else { Part::All };
        match run.step(index)? {
            Step::Batch(batch) => settled += settle_batch(root, &batch, part)?,
            Step::Intent(intent) => {
                let path = intent.path.to_path();
                settled += settle_intent(root, &path, &intent, part)
                    .with_context(|| format!("putting {} in order", path.display()))?;
            }
        }
    }
    root.sync()?;
    if failed { run.mark_settled() } else { run.mark_interrupted() }?;
    Ok(settled)
}

/// The same for an undo that was killed or that failed: `of` is the run that it took back, and of it all steps are put in
/// order that are not known to have been taken back.
///
/// # Errors
/// As [`settle`].
pub fn settle_undo(root: &Root, undo: &mut LoadedRun, of: &LoadedRun) -> Result<u64> {
    let failed = undo.ending == Some(Ending::Failed);
    if undo.settled || (undo.ending.is_some() && !failed) {
        return Ok(0);
    }
    let mut settled = 0;
    for index in (0..of.len()).rev() {
        match of.step(index)? {
            // That they are done is only said of their tree.
            Step::Batch(batch) if !undo.has_finished(batch.of) => {
                settled += settle_batch(root, &batch, Part::All)?;
            }
            Step::Intent(intent) if !undo.has_finished(of.number(index)) => {
                let path = intent.path.to_path();
                settled += settle_intent(root, &path, &intent, Part::All)
                    .with_context(|| format!("putting {} in order", path.display()))?;
            }
            _ => {}
        }
    }
    root.sync()?;
    if failed { undo.mark_settled() } else { undo.mark_interrupted() }?;
    Ok(settled)
}

/// What of a step is put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Everything: it may be half-way.
    All,
    /// It was done, and later steps may have gone on from there.
    Flags,
}

fn settle_intent(root: &Root, path: &Path, intent: &Intent, part: Part) -> io::Result<u64> {
    let mut settled = 0;
    if let Some(before) = &intent.parent {
        let directory = match root.parent(path) {
            Err(error) if gone(&error) => return Ok(0),
            parent => parent.map_err(to_io)?.0,
        };
        let itself = directory.itself().map_err(to_io)?;
        if let (
            Inverse::Created { temp, .. } | Inverse::Replaced { temp, .. } | Inverse::Removed { temp, .. },
            Part::All,
        ) = (&intent.undo, part)
        {
            settled += u64::from(sweep(&directory, &itself, itself.flags().map_err(to_io)?, temp)?);
        }
        settled += u64::from(relock(&itself, before.flags)?);
    }
    let handle = match root.handle(path) {
        Err(error) if gone(&error) => return Ok(settled),
        handle => handle.map_err(to_io)?,
    };
    match &intent.undo {
        Inverse::Attributes { before, after } => {
            if after.owner.is_some() && part == Part::All {
                let caps = before.xattr(CAPABILITY);
                settled += u64::from(put_back(&handle, Some(before.mode), caps, None)?);
            }
            settled += u64::from(relock(&handle, before.flags)?);
        }
        // The old file or the new one: either is to be as locked as the old one was.
        Inverse::Replaced { before, saved: Some(_), .. } if handle.stat().map_err(to_io)?.is_file() => {
            settled += u64::from(relock(&handle, before.flags)?);
        }
        _ => {}
    }
    Ok(settled)
}

/// Only entries of which chown takes something away can be half-way.
fn settle_batch(root: &Root, batch: &Batch, part: Part) -> Result<u64> {
    let concerns = |group: &Group| {
        group.flags.is_some() || part == Part::All && (group.mode.is_some() || group.caps.is_some())
    };
    if !batch.dirs.iter().flat_map(|dir| &dir.groups).any(concerns) {
        return Ok(0);
    }
    let mut settled = 0;
    each_directory(root, batch, |directory, path, dir| {
        let Ok(directory) = directory else { return Ok(()) };
        for group in dir.groups.iter().filter(|group| concerns(group)) {
            for name in &group.names {
                let handle = match directory.handle(&name.to_os_string()) {
                    Err(error) if gone(&error) => continue,
                    handle => handle?,
                };
                let (mode, caps) = match part {
                    Part::All => (group.mode, group.caps.as_ref().map(|caps| caps.0.as_slice())),
                    Part::Flags => (None, None),
                };
                let put = put_back(&handle, mode, caps, group.flags).with_context(|| {
                    format!("putting {} in order", path.join(name.to_os_string()).display())
                })?;
                settled += u64::from(put);
            }
        }
        Ok(())
    })?;
    Ok(settled)
}

/// Puts set-id bits, capabilities and locking flags back; `true` if any were gone.
fn put_back(handle: &Handle, mode: Option<u32>, caps: Option<&[u8]>, flags: Option<u32>) -> io::Result<bool> {
    let stat = handle.stat().map_err(to_io)?;
    let file = stat.kind == FileKind::Regular;
    let lost = mode.filter(|mode| file && lost_bits(*mode, stat.mode));
    let bare = match caps {
        Some(caps) if file => handle.xattr(CAPABILITY).map_err(to_io)?.as_deref() != Some(caps),
        _ => false,
    };
    let mut put = lost.is_some() || bare;
    if put {
        let now = handle.flags().map_err(to_io)?;
        unlocked(&[(handle, now)], || {
            restore_privilege(handle, stat.kind, lost.unwrap_or(0), caps.filter(|_| bare))
        })?;
    }
    if let Some(flags) = flags {
        put |= relock(handle, flags)?;
    }
    Ok(put)
}
