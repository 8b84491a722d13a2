//! Text for people: the volume in two lines, the path as `namei -l` shows it with a mark on each line, the plan, what
//! became of it, and the next step. Fits 80 columns.

mod changes;
mod diagnosis;
mod layout;
mod list;
mod proof;
mod volume;

pub use changes::{actions, undone};
pub use diagnosis::{diagnosis, predicted, result};
pub(super) use diagnosis::{fix_words, letters};
pub use layout::{bytes, counted};
pub use list::list;
pub use proof::proof;
pub(super) use proof::proof_words;
pub use volume::volume;

use super::output::Style;
use super::{Report, Unmount, escape};
use crate::error::Refusal;
use crate::finding::CheckId;
use crate::plan::Outcome;
use layout::wrap;
use std::fmt::Write as _;

const RED: &str = "31;1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// The most lines of a transcript that are shown to people.
const TRANSCRIPT: usize = 40;

/// A remark, on lines of its own.
#[must_use]
pub fn note(text: &str, style: Style) -> String {
    format!("{}\n", wrap(&format!("note: {}", escape::words(text)), 0, 6, style))
}

/// What was kept, notes, how the volume was let go, and the next step.
#[must_use]
pub fn ending(report: &Report, style: Style) -> String {
    let mut out = String::new();
    if !report.kept.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(BOLD, "Kept, as they belong to others:"));
        for kept in &report.kept {
            let named = report.names.passwd.by_uid(kept.owner);
            let former = report.former_ids.iter().find(|(uid, _)| *uid == kept.owner);
            let name = match (named, former) {
                (Some(entry), _) => escape::words(&entry.name.to_string()),
                (None, Some((_, whose))) => format!("a former id of {}", escape::words(whose)),
                (None, None) => "an id that no account has".to_owned(),
            };
            // Root's are taken anyway, but for device nodes.
            let option = match kept.owner {
                0 => "device nodes; to take them: --chown all".to_owned(),
                owner => format!("to take them: --chown-from {owner}"),
            };
            let text = format!(
                "{} of {} ({name}), as {}; {option}",
                counted(kept.entries, "entry", "entries"),
                kept.owner,
                escape::path(&kept.example),
            );
            let _ = writeln!(out, "{}", wrap(&text, 2, 4, style));
        }
    }
    for text in &report.notes {
        out.push_str(&note(text, style));
    }
    match &report.unmount {
        Unmount::Failed(why) => {
            let _ = writeln!(
                out,
                "\n{}",
                wrap(
                    &style.paint(RED, &format!("The volume could not be let go: {}", escape::words(why))),
                    0,
                    2,
                    style
                )
            );
        }
        Unmount::Clean if report.command != "diagnose" && !report.dry_run => {
            let _ = writeln!(out, "\nThe volume is unmounted and clean.");
        }
        Unmount::Clean | Unmount::NotMounted => {}
    }
    if let Some(run) =
        report.run.as_ref().filter(|_| report.actions.iter().any(|one| one.outcome == Outcome::Changed))
    {
        let _ = writeln!(out, "To take this run back: volrescue undo {run}");
    }
    if let Some(page) = &report.page {
        let _ = writeln!(out, "Report: {}", escape::path(page));
    }
    out
}

/// What the operator does next.
#[must_use]
pub fn next(step: &str, style: Style) -> String {
    format!("{}\n", wrap(&format!("Next: {}", escape::words(step)), 0, 6, style))
}

/// An error in one paragraph: path and cause, then the next step.
#[must_use]
pub fn error(refusal: &Refusal, style: Style) -> String {
    let mut text = format!("{} {}", style.paint(RED, "volrescue:"), escape::words(&refusal.message));
    if let Some(hint) = &refusal.hint {
        let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
        let _ = write!(text, "{end} {}", escape::words(hint));
    }
    format!("{}\n", wrap(&text, 0, 2, style))
}

/// The table of all checks.
#[must_use]
pub fn checks(style: Style) -> String {
    let mut out = String::new();
    for check in CheckId::ALL {
        let _ = writeln!(out, "{} (fixed by: {})", style.paint(BOLD, check.name()), check.fixed_by().word());
        let _ = writeln!(out, "{}", wrap(check.meaning(), 4, 4, style));
    }
    out
}
