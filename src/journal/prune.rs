//! Removing runs from the history.

use super::{ENDED, ENDING, FILE, LoadedRun, RunState, SAVED, VolumeLock, history, load, sync_directory};
use crate::error::{ExitCode, Refusal};
use crate::journal::record::Ending;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What was removed, and what was not though it was old enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The runs that are gone, the oldest first.
    pub removed: Vec<String>,
    /// Those that were kept, and why.
    pub kept: Vec<(String, String)>,
}

/// Removes the runs that are undone, with the undos of runs that are undone or gone. With `before`, in seconds since the
/// epoch, also every run that began earlier. Never one that is being worked on, that is damaged, or that left something
/// half-way which the next repair puts in order by it.
///
/// # Errors
/// A [`Refusal`] (3) if the state directory can't be read; as removing a file.
pub fn prune(state: &Path, before: Option<i64>) -> Result<Pruned> {
    let runs = history(state)?;
    let in_use: HashSet<&str> =
        runs.iter().filter(|run| run.state != RunState::Undone).map(|run| run.run.as_str()).collect();
    let mut pruned = Pruned::default();
    for run in &runs {
        let Some(begin) = &run.begin else {
            pruned.kept.push((run.run.clone(), "its journal is damaged".into()));
            continue;
        };
        let spent = run.state == RunState::Undone
            || begin.undoes.as_ref().is_some_and(|undoes| !in_use.contains(undoes.as_str()));
        let old = before.is_some_and(|before| begin.started < before);
        if !(spent || old) {
            continue;
        }
        // Whoever repairs or undoes on this volume reads its journals.
        let lock = match VolumeLock::take(state, &begin.lock) {
            Ok(lock) => lock,
            Err(error) if is_taken(&error) => {
                pruned.kept.push((run.run.clone(), "its volume is being worked on".into()));
                continue;
            }
            Err(error) => return Err(error),
        };
        if !spent && begin.command != "undo" && is_half_way(&load(state, &run.run)?) {
            pruned.kept.push((run.run.clone(), "it was stopped half-way: undo it, or repair again".into()));
        } else {
            remove(&state.join(&run.run))?;
            pruned.removed.push(run.run.clone());
        }
        drop(lock);
    }
    if !pruned.removed.is_empty() {
        sync_directory(state)?;
    }
    Ok(pruned)
}

fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == ExitCode::Unsafe)
}

/// Whether the next repair on the volume still needs it.
fn is_half_way(run: &LoadedRun) -> bool {
    match run.ending {
        None => true,
        Some(Ending::Failed) => !run.settled,
        Some(Ending::Complete | Ending::Interrupted) => false,
    }
}

/// The records go last: while there are any, the run is in the history and can be removed again.
fn remove(dir: &Path) -> Result<()> {
    let saved = dir.join(SAVED);
    match fs::read_dir(&saved) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        entries => (|| {
            for entry in entries? {
                fs::remove_file(entry?.path())?;
            }
            fs::remove_dir(&saved)
        })()
        .with_context(|| format!("removing {}", saved.display()))?,
    }
    for name in [ENDING, ENDED] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.with_context(|| format!("removing {}", dir.join(name).display()))?,
        }
    }
    fs::remove_file(dir.join(FILE)).with_context(|| format!("removing {}", dir.join(FILE).display()))?;
    fs::remove_dir(dir).with_context(|| format!("removing {}", dir.display()))
}
