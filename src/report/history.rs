//! The runs of this helper, as a table, and one run record by record.

use super::escape;
use super::json::SCHEMA;
use super::output::Style;
use crate::journal::{LoadedRun, Pruned, RunSummary, Step};
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The table.
#[must_use]
pub fn text(runs: &[RunSummary], style: Style) -> String {
    if runs.is_empty() {
        return "No runs are recorded here.\n".into();
    }
    let mut out = String::new();
    for run in runs {
        // As the report of the run counted them.
        let changes = if run.actions == 1 { "change" } else { "changes" };
        let _ = write!(
            out,
            "{}  {:11} {:6} {changes}",
            style.paint("1", &run.run),
            run.state.word(),
            run.actions
        );
        if run.entries > 0 {
            let _ = write!(out, ", {} entries of trees", run.entries);
        }
        if let Some(begin) = &run.begin {
            let users = begin.users.iter().map(|user| escape::words(user)).collect::<Vec<_>>().join(", ");
            let _ = write!(out, "  {}", escape::words(&begin.command));
            let _ = write!(out, "\n    {}", escape::words(&begin.target));
            if let Some(uuid) = &begin.uuid {
                let _ =
                    write!(out, "  {} {}", begin.filesystem.as_deref().unwrap_or(""), escape::words(uuid));
            }
            if !users.is_empty() {
                let _ = write!(out, "  user {users}");
            }
            if let Some(undoes) = &begin.undoes {
                let _ = write!(out, "  of {}", escape::words(undoes));
            }
        }
        out.push('\n');
    }
    out
}

/// The table for a machine.
#[must_use]
pub fn json(runs: &[RunSummary]) -> Value {
    let runs: Vec<Value> = runs.iter().map(summary).collect();
    json!({ "schema": SCHEMA, "command": "history", "version": env!("CARGO_PKG_VERSION"), "runs": runs, "error": null })
}

fn summary(run: &RunSummary) -> Value {
    let begin = run.begin.as_ref();
    json!({
        "run": run.run,
        "state": run.state.word(),
        "changes": run.changes,
        "actions": run.actions,
        "entries": run.entries,
        "command": begin.map(|begin| &begin.command),
        "started": begin.map(|begin| begin.started),
        "target": begin.map(|begin| &begin.target),
        "filesystem": begin.and_then(|begin| begin.filesystem.as_ref()),
        "uuid": begin.and_then(|begin| begin.uuid.as_ref()),
        "users": begin.map(|begin| &begin.users),
        "undoes": begin.and_then(|begin| begin.undoes.as_ref()),
    })
}

/// One run, a line a change.
///
/// # Errors
/// If a record can't be read.
pub fn run_text(run: &LoadedRun) -> Result<String> {
    let mut out = String::new();
    let begin = &run.begin;
    let _ =
        writeln!(out, "{}  {}  {}", begin.run, escape::words(&begin.command), escape::words(&begin.target));
    for damage in &run.damage {
        let _ = writeln!(out, "  damaged: {}", escape::words(damage));
    }
    for index in 0..run.len() {
        let mark = if run.is_finished(index) { "done   " } else { "begun  " };
        match run.step(index)? {
            Step::Intent(intent) => {
                let path = escape::path(&intent.path.to_path());
                let _ = writeln!(out, "  {mark} {:16} {path}", intent.action);
                let _ = writeln!(
                    out,
                    "          {} -> {}",
                    escape::words(&intent.from),
                    escape::words(&intent.to)
                );
            }
            Step::Batch(batch) => {
                for dir in &batch.dirs {
                    for group in &dir.groups {
                        let path = escape::path(&dir.path.to_path());
                        let (uid, gid) = group.from;
                        let _ =
                            writeln!(out, "  {mark} {} entries of {uid}:{gid} in {path}", group.names.len());
                    }
                }
            }
        }
    }
    Ok(out)
}

/// One run for a machine.
///
/// # Errors
/// If a record can't be read.
pub fn run_json(run: &LoadedRun) -> Result<Value> {
    let mut steps = Vec::new();
    for index in 0..run.len() {
        match run.step(index)? {
            Step::Intent(intent) => steps.push(json!({
                "action": intent.action,
                "path": escape::json(intent.path.to_path().as_os_str()),
                "from": intent.from,
                "to": intent.to,
                "done": run.is_finished(index),
            })),
            Step::Batch(batch) => {
                let entries: usize =
                    batch.dirs.iter().flat_map(|dir| &dir.groups).map(|group| group.names.len()).sum();
                steps.push(
                    json!({ "action": "chown-tree", "entries": entries, "done": run.is_finished(index) }),
                );
            }
        }
    }
    Ok(json!({
        "schema": SCHEMA,
        "command": "history",
        "version": env!("CARGO_PKG_VERSION"),
        "run": run.begin.run,
        "target": run.begin.target,
        "uuid": run.begin.uuid,
        "damage": run.damage,
        "steps": steps,
        "error": null,
    }))
}

/// What `history --prune` removed and what it kept.
#[must_use]
pub fn pruned_text(pruned: &Pruned) -> String {
    let mut out = String::new();
    for run in &pruned.removed {
        let _ = writeln!(out, "removed {run}");
    }
    for (run, why) in &pruned.kept {
        let _ = writeln!(out, "kept    {run}: {why}");
    }
    if out.is_empty() {
        out.push_str("Nothing to remove.\n");
    }
    out
}

/// The same for a machine, with the runs that are left.
#[must_use]
pub fn pruned_json(pruned: &Pruned, left: &[RunSummary]) -> Value {
    let mut document = json(left);
    document["removed"] = json!(pruned.removed);
    document["kept"] = pruned.kept.iter().map(|(run, why)| json!({ "run": run, "why": why })).collect();
    document
}
