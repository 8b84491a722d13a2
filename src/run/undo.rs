//! `undo`: find the volume that a run changed, wherever it is attached now, and put everything back.

use super::ask;
use super::session::{self, Mode, Session};
use super::signals::{Stop, Watcher};
use crate::cli::{TargetArgs, UndoArgs};
use crate::error::{ExitCode, Refusal};
use crate::journal::{self, Journal, LoadedRun, RunState};
use crate::plan::Outcome;
use crate::report::output::{self, Style};
use crate::report::{Report, UndoneStep, text};
use crate::undo::{UndoOptions, UndoOutcome, UndoReport};
use crate::volume::{self, Follow, Live, RootInfo, Target, TargetKind};
use anyhow::Result;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Runs the command.
pub(super) fn undo(args: &UndoArgs) -> ExitCode {
    let json = args.output.json;
    if let Err(refusal) = ask::must_be_possible(args.yes, args.dry_run, false) {
        return super::refuse("undo", json, &refusal);
    }
    let mut report = Report { command: "undo", dry_run: args.dry_run, ..Report::default() };
    if let Err(error) = work(args, &mut report) {
        report.error = Some(session::refusal_of(&error));
    }
    session::finish(&report, json, true)
}

fn work(args: &UndoArgs, report: &mut Report) -> Result<()> {
    let stop = Stop::listen()?;
    let state = session::state_dir(&args.state);
    let mut run = journal::load(&state, &args.run)?;
    report.undoes = Some(run.begin.run.clone());
    crate::undo::check(&run, args.force)?;
    let given = match &args.target {
        Some(target) => target.clone(),
        None => find(&run)?,
    };
    // In a directory there is nothing to choose; what is wrong with the target is said where it is opened.
    let is_directory = Target::find(OsStr::new(&given), Live::Allowed)
        .is_ok_and(|target| matches!(target.kind, TargetKind::Directory | TargetKind::Live));
    let target = TargetArgs {
        targets: vec![given],
        partition: run.begin.partition.filter(|_| !is_directory),
        root: run
            .begin
            .subvolume
            .clone()
            // A logical volume has no number: its filesystem names it.
            .or_else(|| run.begin.uuid.clone().filter(|_| run.begin.partition.is_none()))
            .filter(|_| !is_directory),
        with: if args.with.is_empty() { others(&run) } else { args.with.clone() },
        allow_backing: args.allow_backing,
        luks_key: args.luks_key.clone(),
        live: args.live,
    };
    let mode = if args.dry_run { Mode::Look } else { Mode::Change };
    let points: Vec<PathBuf> = run.begin.mounts.iter().map(|mount| mount.point.clone()).collect();
    let follow = Follow::Recorded(&points);
    // Another volume, a twin above all, is not even mounted for writing.
    let is_right =
        |info: &RootInfo, device: &str| session::must_be(&run, args.target.is_some(), info, device);
    let needed = std::slice::from_ref(&state);
    let session = Session::open_if(&target, mode, needed, follow, &is_right, &stop, report)?;
    let mut change = || -> Result<()> {
        session.look(report);
        session.must_have_mounts(&run)?;
        if args.dry_run || !args.yes {
            let plan = look_first(&session, &mut run, args, &stop)?;
            tell(&plan, report);
            if args.dry_run {
                return Ok(());
            }
            show(report, args.output.json);
            if !ask::ask("Put all this back?", &stop)? {
                return Err(Refusal::new(ExitCode::Refused, "not confirmed; nothing was changed").into());
            }
            report.undone.clear();
        }
        let mut lock = session.lock(&state)?;
        // Another undo may have been faster. What is refused leaves no run behind.
        run = journal::load(&state, &args.run)?;
        crate::undo::check(&run, args.force)?;
        let mut info = session.run_info(report);
        info.undoes = Some(run.begin.run.clone());
        let paths = run.paths()?;
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let _accounts = session.lock_accounts(&paths, &stop, report)?;
        let mut journal = Journal::create(&state, &info, &mut lock)?;
        report.run = journal.run_id().map(str::to_owned);
        let options = UndoOptions { force: args.force, dry_run: false };
        let mut watch = Watcher::new(&stop, "putting back");
        let done = crate::undo::undo(session.root(), &mut run, options, &mut journal, &mut watch)?;
        watch.finish();
        tell(&done, report);
        ending(done, &args.run)
    };
    let changed = change();
    session.close(report, changed)
}

fn look_first(session: &Session, run: &mut LoadedRun, args: &UndoArgs, stop: &Stop) -> Result<UndoReport> {
    let options = UndoOptions { force: args.force, dry_run: true };
    let mut watch = Watcher::new(stop, "looking");
    let plan = crate::undo::undo(session.root(), run, options, &mut Journal::none(), &mut watch)?;
    watch.finish();
    stop.check()?;
    Ok(plan)
}

fn show(report: &Report, on_stderr: bool) {
    let style = Style::of_stdout();
    let shown = format!("{}{}", text::volume(report, style), text::undone(report, style));
    if on_stderr {
        output::stderr(&shown);
    } else {
        super::print(&shown);
    }
}

fn tell(done: &UndoReport, report: &mut Report) {
    report
        .notes
        .extend(done.damage.iter().map(|damage| format!("the journal of the run is damaged: {damage}")));
    for step in &done.steps {
        let outcome = match &step.outcome {
            UndoOutcome::Restored => Outcome::Changed,
            UndoOutcome::Already => Outcome::Unchanged,
            UndoOutcome::Planned => Outcome::Planned,
            UndoOutcome::Conflict(why) => Outcome::Skipped(format!("changed since the run: {why}")),
            UndoOutcome::Failed(why) => Outcome::Failed(why.clone()),
        };
        report.undone.push(UndoneStep {
            path: step.path.clone(),
            what: step.what.clone(),
            back_to: step.back_to.clone(),
            outcome,
            entries: step.entries,
        });
    }
}

fn ending(done: UndoReport, run: &str) -> Result<()> {
    let complete = done.is_complete();
    let (changed, conflicts) = (done.changed(), done.conflicts());
    if let Some(error) = done.error {
        return Err(Refusal::failed(format!("{error:#}")).hint("Run the same undo again to go on.").into());
    }
    if done.stopped {
        let refusal = if changed {
            Refusal::failed("stopped by a signal before everything was put back")
        } else {
            super::signals::interrupted()
        };
        return Err(refusal.hint("Run the same undo again to go on.").into());
    }
    if conflicts > 0 {
        return Err(Refusal::failed(format!(
            "{} changed since the run and left as it is",
            crate::report::text::counted(conflicts as u64, "thing was", "things were")
        ))
        .hint(format!("To take the old state all the same: volrescue undo {run} --force"))
        .into());
    }
    if !complete {
        return Err(Refusal::failed("not everything could be put back")
            .hint("See the steps that failed.")
            .into());
    }
    Ok(())
}

/// Where the other volumes of the run are now: a disk by its filesystem, an image where it was.
fn others(run: &LoadedRun) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    for mount in &run.begin.mounts {
        let Some(device) = &mount.device else { continue };
        let mut place = device.display().to_string();
        if device.starts_with("/dev") {
            let has = |disk: &volume::ListedDisk| {
                mount.uuid.is_some() && disk.parts.iter().any(|part| part.uuid == mount.uuid)
            };
            let disks: Vec<_> = volume::list().into_iter().filter(has).collect();
            if let [one] = disks.as_slice() {
                place = one.device.display().to_string();
            }
        }
        if !others.contains(&place) {
            others.push(place);
        }
    }
    others
}

/// Where the run's volume is now: a directory or an image where it was, a disk wherever it is attached, known by its
/// filesystem.
fn find(run: &LoadedRun) -> Result<String> {
    let begin = &run.begin;
    let there = begin.device.clone().unwrap_or_else(|| begin.target.clone());
    let Some(uuid) = &begin.uuid else { return Ok(there) };
    if begin.kind.as_deref().is_some_and(|kind| kind != "block") {
        return Ok(there);
    }
    let mut places: Vec<String> = Vec::new();
    for disk in volume::list() {
        let has = disk.parts.iter().any(|part| part.uuid.as_ref() == Some(uuid));
        if has {
            // A node is no name that lasts: where several match, only a serial number decides.
            let identity = volume::identity(&disk.device);
            if identity.is_some_and(|is| !is.starts_with('/') && Some(&is) == begin.identity.as_ref()) {
                return Ok(disk.device.display().to_string());
            }
            places.push(disk.device.display().to_string());
        }
    }
    match places.as_slice() {
        [] => Ok(there),
        [one] => Ok(one.clone()),
        several => Err(Refusal::unsafe_(format!(
            "several disks attached here carry the filesystem {uuid}: {}",
            several.join(", ")
        ))
        .hint("Name the one to change with --target.")
        .into()),
    }
}

/// Brings what earlier runs on this volume left half-way in order, so that a repair starts from something whole. Gives how many things
/// were put in order: the volume is written then, even if the repair finds nothing to do.
///
/// # Errors
/// A [`Refusal`]: the state directory can't be read (3); something can't be put in order (5).
pub(super) fn settle_earlier(session: &Session, state: &Path, report: &mut Report) -> Result<u64> {
    let mut all = 0;
    for summary in journal::history(state)? {
        let Some(begin) = &summary.begin else { continue };
        if !matches!(summary.state, RunState::Interrupted | RunState::Failed) || !session.is(begin) {
            continue;
        }
        let Ok(mut run) = journal::load(state, &summary.run) else { continue };
        let taken_back = begin.undoes.clone().unwrap_or_else(|| summary.run.clone());
        let settled = match &begin.undoes {
            None => crate::undo::settle(session.root(), &mut run),
            Some(of) => match journal::load(state, of) {
                Ok(of) => crate::undo::settle_undo(session.root(), &mut run, &of),
                // Pruned.
                Err(_) => Ok(0),
            },
        };
        let settled = settled.map_err(|error| {
            Refusal::failed(format!(
                "what run {} left half-way can't be put in order: {error:#}",
                summary.run
            ))
            .hint(format!("Take that run back first: volrescue undo {taken_back}"))
        })?;
        if settled > 0 {
            report.notes.push(format!(
                "run {} did not get to its end; what it left half-way is in order again",
                summary.run
            ));
        }
        all += settled;
    }
    Ok(all)
}
