//! Taking a run back, from its journal, the last step first.
//!
//! Before something is restored it is looked at: it must still be what the run made it, or already be what it was.
//! Anything else is a conflict and is left alone unless forced. So an undo can be stopped anywhere and begun again, and
//! a run that was killed is undone like a finished one: what it only intended is found as it was.

use crate::apply::{Watch, inode};
use crate::error::Refusal;
use crate::journal::record::{Ending, Inverse};
use crate::journal::{Journal, LoadedRun, Step};
use crate::root::Root;
use crate::view::LookError;
use anyhow::Result;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

mod settle;
mod step;
mod tree;

pub use settle::{settle, settle_undo};
use tree::TreeCount;

/// How far an undo may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndoOptions {
    /// Take the old state also where something else changed it since.
    pub force: bool,
    /// Only look.
    pub dry_run: bool,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndoOutcome {
    /// It is as it was before the run.
    Restored,
    /// It already was.
    Already,
    /// It would be restored.
    Planned,
    /// It is neither what the run made it nor what it was; it was left alone.
    Conflict(String),
    /// It can't be restored.
    Failed(String),
}

/// One thing that the run changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoStep {
    /// Where.
    pub path: PathBuf,
    /// What is taken back, by the action's name.
    pub what: String,
    /// What was there before the run, for people.
    pub back_to: String,
    /// What became of it.
    pub outcome: UndoOutcome,
    /// For a tree: how many entries changed hands back.
    pub entries: Option<u64>,
}

/// What became of an undo.
#[derive(Debug, Default)]
pub struct UndoReport {
    /// Every step, in the order in which it was taken back.
    pub steps: Vec<UndoStep>,
    /// What is damaged or missing in the journal.
    pub damage: Vec<String>,
    /// It was stopped by [`Watch::stop`].
    pub stopped: bool,
    /// The error that ended it.
    pub error: Option<anyhow::Error>,
}

impl UndoReport {
    /// `true` if everything is, or in a dry run would be, as it was before the run.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let good = |step: &UndoStep| {
            matches!(step.outcome, UndoOutcome::Restored | UndoOutcome::Already | UndoOutcome::Planned)
        };
        self.damage.is_empty() && !self.stopped && self.error.is_none() && self.steps.iter().all(good)
    }

    /// `true` if anything was restored.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| step.outcome == UndoOutcome::Restored || step.entries.unwrap_or(0) > 0)
    }

    /// How many conflicts there are.
    #[must_use]
    pub fn conflicts(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.outcome, UndoOutcome::Conflict(_))).count()
    }
}

/// Whether a run may be taken back, before anything is begun for it.
///
/// # Errors
/// A [`Refusal`] if the run is itself an undo (3), or is undone already and that is not `force`d (4).
pub fn check(run: &LoadedRun, force: bool) -> Result<(), Refusal> {
    if run.begin.command == "undo" {
        return Err(Refusal::target(format!("run {} is itself an undo", run.begin.run))
            .hint("To have the repair again, repair again."));
    }
    match &run.undone_by {
        Some(by) if !force => {
            Err(Refusal::unsafe_(format!("run {} was already undone by run {by}", run.begin.run)))
        }
        _ => Ok(()),
    }
}

/// Takes back what `run` changed. A complete undo is noted in the run's journal; `journal` is that of the undo itself,
/// and ends here.
///
/// # Errors
/// As [`check`]. What happens to the steps is in the report.
pub fn undo(
    root: &Root,
    run: &mut LoadedRun,
    options: UndoOptions,
    journal: &mut Journal,
    watch: &mut dyn Watch,
) -> Result<UndoReport> {
    check(run, options.force)?;
    let mut report = UndoReport { damage: run.damage.clone(), ..UndoReport::default() };
    let mut trees: HashMap<u64, TreeCount> = HashMap::new();
    let mut planned: HashSet<PathBuf> = HashSet::new();
    for index in (0..run.len()).rev() {
        if watch.stop() {
            report.stopped = true;
            break;
        }
        let taken = run.step(index).and_then(|step| {
            let mut undoer = Undoer { root, run, options, watch: &mut *watch };
            let number = run.number(index);
            match step {
                Step::Batch(batch) => {
                    undoer.batch(&batch, trees.entry(batch.of).or_default())?;
                    Ok(None)
                }
                Step::Intent(intent) if matches!(intent.undo, Inverse::Tree { .. }) => {
                    let count = trees.remove(&number).unwrap_or_default();
                    Ok(Some(count.into_step(intent.path.to_path(), intent.from.clone(), options)))
                }
                // In a dry run what comes before on the same path is found as a later step left it.
                Step::Intent(intent) if options.dry_run && !planned.insert(intent.path.to_path()) => {
                    Ok(Some(undoer.step(&intent, UndoOutcome::Planned)))
                }
                Step::Intent(intent) => undoer.intent(&intent).map(Some),
            }
        });
        match taken {
            Ok(None) => {}
            Ok(Some(step)) => {
                let changes = step.entries.unwrap_or(u64::from(step.outcome == UndoOutcome::Restored));
                if let Err(error) = journal.done(run.number(index), changes) {
                    report.error = Some(error);
                }
                report.steps.push(step);
            }
            Err(error) => report.error = Some(error),
        }
        if report.error.is_some() {
            break;
        }
    }
    // Trees whose own record is lost, or that were not undone to their beginning.
    for (_, count) in trees {
        let path = count.path.clone();
        report.steps.push(count.into_step(path, String::new(), options));
    }
    finish(root, run, options, journal, &mut report);
    Ok(report)
}

/// Makes the undo durable, and only then says so in both journals.
fn finish(
    root: &Root,
    run: &mut LoadedRun,
    options: UndoOptions,
    journal: &mut Journal,
    report: &mut UndoReport,
) {
    if options.dry_run {
        return;
    }
    if report.changed()
        && let Err(error) = root.sync()
    {
        report.error.get_or_insert(error);
    }
    let ending = match &report.error {
        Some(_) => Ending::Failed,
        None if report.stopped => Ending::Interrupted,
        None => Ending::Complete,
    };
    let marked = match journal.run_id() {
        Some(by) if report.is_complete() => run.mark_undone(by),
        None if report.is_complete() => run.mark_undone("without a journal"),
        _ => Ok(()),
    };
    if let Err(error) = marked.and_then(|()| journal.end(ending)) {
        report.error.get_or_insert(error);
    }
}

/// What taking back one step needs.
struct Undoer<'a> {
    root: &'a Root,
    run: &'a LoadedRun,
    options: UndoOptions,
    watch: &'a mut dyn Watch,
}

/// Tells what is gone from what can't be looked at.
fn gone(error: &LookError) -> bool {
    matches!(
        error,
        LookError::NotFound | LookError::NotDirectory | LookError::Loop | LookError::OtherFilesystem
    )
}

/// Puts locking flags back that were lifted and are not there any more.
fn relock(handle: &crate::root::Handle, before: u32) -> std::io::Result<bool> {
    let wanted = before & inode::LOCKING;
    if wanted == 0 {
        return Ok(false);
    }
    let now = handle.flags().map_err(inode::to_io)?;
    if now & wanted == wanted {
        return Ok(false);
    }
    handle.set_flags(now | wanted)?;
    Ok(true)
}
