//! The plan, what became of it, and what an undo put back.

use super::layout::{counted, wrap};
use super::{BOLD, GREEN, RED, YELLOW};
use crate::plan::{Applied, Change, Outcome};
use crate::report::output::Style;
use crate::report::{Report, escape};
use std::fmt::Write as _;

/// The plan, or what became of it.
#[must_use]
pub fn actions(applied: &[Applied], style: Style) -> String {
    let mut out = String::new();
    let all_planned = applied.iter().all(|one| one.outcome == Outcome::Planned);
    let head = match (applied.len(), all_planned) {
        (0, _) => "Nothing had to change.".to_owned(),
        (1, true) => "Plan, 1 change:".to_owned(),
        (n, true) => format!("Plan, {n} changes:"),
        (_, false) => {
            let count = |is: fn(&Outcome) -> bool| applied.iter().filter(|one| is(&one.outcome)).count();
            let changed = count(|outcome| *outcome == Outcome::Changed);
            let left = count(|outcome| !matches!(outcome, Outcome::Changed | Outcome::Unchanged));
            match (changed, left) {
                (0, 0) => "Nothing had to change.".to_owned(),
                (1, 0) => "1 change made:".to_owned(),
                (changed, 0) => format!("{changed} changes made:"),
                (0, 1) => "The 1 change was not made:".to_owned(),
                (changed, left) => format!("{changed} of {} changes made, {left} not:", changed + left),
            }
        }
    };
    let _ = writeln!(out, "\n{}", style.paint(BOLD, &head));
    for one in applied.iter().filter(|one| one.outcome != Outcome::Unchanged) {
        let (mark, code) = mark_of_outcome(&one.outcome);
        let mark = if code.is_empty() { mark.to_owned() } else { style.paint(code, mark) };
        let (from, to) = one.action.change.from_to();
        let what = match &one.action.change {
            Change::ChownTree { .. } => format!("everything below, {from} -> {to}"),
            Change::CreateDirectory { .. } | Change::CreateLink { .. } => to,
            Change::WriteFile { .. } if from == "absent" => to,
            _ => format!("{from} -> {to}"),
        };
        let entries = one
            .entries
            .map_or_else(String::new, |entries| format!(", {}", counted(entries, "entry", "entries")));
        let path = escape::path(&one.action.path);
        let word = one.action.change.word();
        let _ = writeln!(out, "{}", wrap(&format!("{mark}  {word:16} {path}"), 2, 23, style));
        let _ = writeln!(out, "{}", wrap(&format!("{}{entries}", escape::words(&what)), 23, 23, style));
        if matches!(one.action.change, Change::WriteFile { .. } | Change::RemoveFile { .. }) {
            let _ = writeln!(out, "{}", wrap(&escape::words(&one.action.why), 23, 23, style));
        }
        if let Outcome::Skipped(why) | Outcome::Failed(why) = &one.outcome {
            let _ = writeln!(out, "{}", wrap(&escape::words(why), 23, 23, style));
        }
    }
    out
}

/// What an undo put back, or would.
#[must_use]
pub fn undone(report: &Report, style: Style) -> String {
    let Some(run) = &report.undoes else { return String::new() };
    let mut out = String::new();
    if report.undone.is_empty() && report.error.is_some() {
        return out;
    }
    if report.undone.is_empty() {
        let _ = writeln!(out, "\nRun {run} changed nothing that could be put back.");
        return out;
    }
    let _ = writeln!(out, "\n{}", style.paint(BOLD, &format!("Undo of run {run}:")));
    for step in &report.undone {
        let (mark, code) = mark_of_outcome(&step.outcome);
        let mark = if code.is_empty() { mark.to_owned() } else { style.paint(code, mark) };
        let path = escape::path(&step.path);
        let _ = writeln!(out, "{}", wrap(&format!("{mark}  {:16} {path}", step.what), 2, 23, style));
        let entries = step
            .entries
            .map_or_else(String::new, |entries| format!(", {}", counted(entries, "entry", "entries")));
        let _ = writeln!(
            out,
            "{}",
            wrap(&format!("back to {}{entries}", escape::words(&step.back_to)), 23, 23, style)
        );
        if let Outcome::Skipped(why) | Outcome::Failed(why) = &step.outcome {
            let _ = writeln!(out, "{}", wrap(&escape::words(why), 23, 23, style));
        }
    }
    out
}

fn mark_of_outcome(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Planned => ("  ", ""),
        Outcome::Changed => ("ok", GREEN),
        Outcome::Unchanged => (" =", ""),
        Outcome::Skipped(_) => (" -", YELLOW),
        Outcome::Failed(_) => ("NO", RED),
    }
}
