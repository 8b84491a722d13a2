//! The owners of a tree, from its batches.

use super::{UndoOptions, UndoOutcome, UndoStep, Undoer, gone};
use crate::apply::inode::{CAPABILITY, LOCKING, SET_ID, restore_privilege, to_io, unlocked};
use crate::journal::record::{Batch, BatchDir, Group, Text};
use crate::root::{Directory, Handle, Root};
use crate::sys::inode::statx;
use crate::view::{FileKind, LookError};
use anyhow::{Context, Result};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What became of the entries of a tree.
#[derive(Debug, Default)]
pub(super) struct TreeCount {
    /// A directory of it.
    pub(super) path: PathBuf,
    restored: u64,
    conflicts: u64,
    example: Option<(PathBuf, String)>,
}

impl TreeCount {
    pub(super) fn into_step(self, path: PathBuf, back_to: String, options: UndoOptions) -> UndoStep {
        let outcome = match &self.example {
            Some((path, is)) => UndoOutcome::Conflict(format!(
                "{} entries are neither what the run made them nor what they were; for instance {} is {is}",
                self.conflicts,
                path.display()
            )),
            None if self.restored == 0 => UndoOutcome::Already,
            None if options.dry_run => UndoOutcome::Planned,
            None => UndoOutcome::Restored,
        };
        UndoStep { path, what: "chown-tree".into(), back_to, outcome, entries: Some(self.restored) }
    }
}

/// What became of one entry.
enum Entry {
    Restored,
    Already,
    Conflict(String),
}

impl Undoer<'_> {
    /// Takes a batch back. No entry is in it twice, so the order does not matter.
    pub(super) fn batch(&mut self, batch: &Batch, count: &mut TreeCount) -> Result<()> {
        each_directory(self.root, batch, |directory, path, dir| {
            let directory = match directory {
                Err(error) => {
                    let names = dir.groups.iter().map(|group| group.names.len() as u64).sum();
                    count.conflict(names, path.to_path_buf(), error.to_string());
                    return Ok(());
                }
                Ok(directory) => directory,
            };
            if count.path.as_os_str().is_empty() {
                count.path = path.to_path_buf();
            }
            for group in &dir.groups {
                for name in &group.names {
                    let at = || path.join(name.to_os_string());
                    match self.entry(directory, name, group, batch.to) {
                        Ok(Entry::Restored) => count.restored += 1,
                        Ok(Entry::Already) => {}
                        Ok(Entry::Conflict(is)) => count.conflict(1, at(), is),
                        Err(error) => {
                            return Err(error).with_context(|| format!("restoring {}", at().display()));
                        }
                    }
                }
                self.watch.tick(group.names.len() as u64, path);
            }
            Ok(())
        })
    }

    fn entry(&self, directory: &Directory, name: &Text, group: &Group, to: (u32, u32)) -> io::Result<Entry> {
        let handle = match directory.handle(OsStr::from_bytes(&name.0)) {
            Err(error) if gone(&error) => return Ok(Entry::Conflict("gone".into())),
            handle => handle.map_err(to_io)?,
        };
        let stat = handle.stat().map_err(to_io)?;
        let owner = (stat.uid, stat.gid);
        let file = stat.kind == FileKind::Regular;
        let lost = group.mode.is_some_and(|mode| file && lost_bits(mode, stat.mode));
        let bare = match &group.caps {
            Some(caps) if file => handle.xattr(CAPABILITY).map_err(to_io)?.as_ref() != Some(&caps.0),
            _ => false,
        };
        let flags = match group.flags {
            Some(before) => handle.flags().map_err(to_io)? | before,
            None => 0,
        };
        let unlocked_still = group.flags.is_some() && handle.flags().map_err(to_io)? != flags;
        if owner == group.from && !lost && !bare && !unlocked_still {
            return Ok(Entry::Already);
        }
        if owner != group.from && owner != to && !self.options.force {
            return Ok(Entry::Conflict(format!("{}:{}", owner.0, owner.1)));
        }
        if self.options.dry_run {
            return Ok(Entry::Restored);
        }
        // An entry may have become immutable for other reasons since; it stays so.
        let flags =
            if flags == 0 && owner != group.from { locking(directory, name, &handle)? } else { flags };
        let mode = if lost { group.mode.unwrap_or(stat.mode) } else { stat.mode };
        unlocked(&[(&handle, flags)], || {
            if owner != group.from {
                handle.chown(group.from.0, group.from.1)?;
            }
            let caps = group.caps.as_ref().map(|caps| caps.0.as_slice()).filter(|_| file);
            restore_privilege(&handle, stat.kind, mode, caps)
        })?;
        Ok(Entry::Restored)
    }
}

/// The flags of what is locked by some. Asking for them costs an open, so that statx is asked first whether there are any.
fn locking(directory: &Directory, name: &Text, handle: &Handle) -> io::Result<u32> {
    let told = CString::new(name.0.as_slice()).ok().and_then(|name| statx(directory, &name).ok());
    if told.is_some_and(|told| told.flags & LOCKING == 0) {
        return Ok(0);
    }
    match handle.flags() {
        Err(LookError::Kind(_)) => Ok(0),
        flags => flags.map_err(to_io),
    }
}

/// Whether a mode is the old one without its set-id bits.
pub(super) fn lost_bits(before: u32, now: u32) -> bool {
    before & SET_ID != 0 && now != before && now & !SET_ID == before & !SET_ID
}

impl TreeCount {
    fn conflict(&mut self, entries: u64, path: PathBuf, is: String) {
        self.conflicts += entries;
        self.example.get_or_insert((path, is));
    }
}

/// Opens the directories of a batch one by one, each told and, where it lies below, opened from the one before it.
/// One that is gone is given as the error that says so.
pub(super) fn each_directory(
    root: &Root,
    batch: &Batch,
    mut visit: impl FnMut(Result<&Directory, &LookError>, &Path, &BatchDir) -> Result<()>,
) -> Result<()> {
    let mut path = PathBuf::new();
    let mut last: Option<Directory> = None;
    for dir in &batch.dirs {
        for _ in 0..dir.up {
            path.pop();
        }
        let below = dir.path.to_path();
        path.push(&below);
        let opened = match &last {
            Some(last) if dir.up == 0 && below.is_relative() => root.directory_below(last, &below),
            _ => root.directory(&path),
        };
        match opened {
            Err(error) if gone(&error) => {
                last = None;
                visit(Err(&error), &path, dir)?;
            }
            opened => {
                let directory = opened.with_context(|| format!("opening {}", path.display()))?;
                visit(Ok(&directory), &path, dir)?;
                last = Some(directory);
            }
        }
    }
    Ok(())
}
