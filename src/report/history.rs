//! The runs of this helper, as a table, and one run record by record.

use super::escape;
use super::json::SCHEMA;
use super::output::Style;
use super::text::counted;
use crate::journal::clock::readable;
use crate::journal::record::{Group, Intent, Inverse};
use crate::journal::{LoadedRun, Pruned, RunState, RunSummary, Step};
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

/// One run: what it was about, and everything that its journal holds of it, in words.
///
/// # Errors
/// If a record can't be read.
pub fn run_text(run: &LoadedRun, state: RunState) -> Result<String> {
    let mut out = String::new();
    let begin = &run.begin;
    let _ =
        writeln!(out, "{}  {}  {}", begin.run, escape::words(&begin.command), escape::words(&begin.target));
    let _ = writeln!(out, "  {}, begun {} by process {}", state.word(), readable(begin.started), begin.pid);
    if let Some(uuid) = &begin.uuid {
        let kind = begin.filesystem.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  on {} {}", escape::words(kind), escape::words(uuid));
    }
    for user in &begin.users {
        let _ = writeln!(out, "  user {}", escape::words(user));
    }
    if let Some(of) = &begin.undoes {
        let _ = writeln!(out, "  took back run {}", escape::words(of));
    }
    if let Some(by) = &run.undone_by {
        let _ = writeln!(out, "  undone by run {}", escape::words(by));
    }
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
                if let Some(saved) = saved(run, &intent) {
                    let _ = writeln!(out, "          saved as {saved}");
                }
            }
            Step::Batch(batch) => {
                for (path, dir) in batch.directories() {
                    for group in &dir.groups {
                        let _ = writeln!(
                            out,
                            "  {mark} {} of {} in {}",
                            counted(group.names.len() as u64, "entry", "entries"),
                            before(group),
                            escape::path(&path)
                        );
                        for name in &group.names {
                            let _ = writeln!(out, "          {}", escape::bytes(&name.0));
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

/// What the entries were before: owner, and what else is put back.
fn before(group: &Group) -> String {
    let mut words = format!("{}:{}", group.from.0, group.from.1);
    if let Some(mode) = group.mode {
        let _ = write!(words, ", mode {mode:04o}");
    }
    if let Some(flags) = group.flags {
        let _ = write!(words, ", flags {flags:#x}");
    }
    if group.caps.is_some() {
        words.push_str(", with capabilities");
    }
    words
}

/// The file on the helper that has the old content.
fn saved(run: &LoadedRun, intent: &Intent) -> Option<String> {
    match &intent.undo {
        Inverse::Replaced { saved: Some(saved), .. } | Inverse::Removed { saved: Some(saved), .. } => {
            Some(escape::path(&run.saved_path(saved)))
        }
        _ => None,
    }
}

/// One run for a machine.
///
/// # Errors
/// If a record can't be read.
pub fn run_json(run: &LoadedRun, state: RunState) -> Result<Value> {
    let mut steps = Vec::new();
    for index in 0..run.len() {
        match run.step(index)? {
            Step::Intent(intent) => steps.push(json!({
                "action": intent.action,
                "path": escape::json(intent.path.to_path().as_os_str()),
                "from": intent.from,
                "to": intent.to,
                "saved": saved(run, &intent),
                "done": run.is_finished(index),
            })),
            Step::Batch(batch) => {
                let entries: usize =
                    batch.dirs.iter().flat_map(|dir| &dir.groups).map(|group| group.names.len()).sum();
                let directories: Vec<Value> = batch
                    .directories()
                    .flat_map(|(path, dir)| {
                        let path = escape::json(path.as_os_str());
                        dir.groups.iter().map(move |group| {
                            let names: Vec<_> =
                                group.names.iter().map(|name| escape::json(&name.to_os_string())).collect();
                            json!({
                                "path": path,
                                "owner": group.from.0,
                                "group": group.from.1,
                                "mode": group.mode.map(|mode| format!("{mode:04o}")),
                                "flags": group.flags,
                                "names": names,
                            })
                        })
                    })
                    .collect();
                steps.push(json!({
                    "action": "chown-tree",
                    "entries": entries,
                    "directories": directories,
                    "done": run.is_finished(index),
                }));
            }
        }
    }
    let begin = &run.begin;
    Ok(json!({
        "schema": SCHEMA,
        "command": "history",
        "version": env!("CARGO_PKG_VERSION"),
        "run": begin.run,
        "state": state.word(),
        "started": begin.started,
        "users": begin.users,
        "undoes": begin.undoes,
        "undone_by": run.undone_by,
        "target": begin.target,
        "uuid": begin.uuid,
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
