//! `history`: the runs recorded on this helper.

use super::session;
use crate::cli::HistoryArgs;
use crate::error::{ExitCode, Refusal};
use crate::journal;
use crate::report::history;
use crate::report::output::Style;
use anyhow::Result;
use std::path::Path;

/// Runs the command.
pub(super) fn history(args: &HistoryArgs) -> ExitCode {
    let state = session::state_dir(&args.state);
    let printed = match &args.run {
        None if args.prune.is_some() => prune(args, &state),
        None => journal::history(&state).map(|runs| {
            if args.output.json {
                super::pretty(&history::json(&runs))
            } else {
                history::text(&runs, Style::of_stdout())
            }
        }),
        Some(run) => journal::load(&state, run).and_then(|run| {
            let now = journal::state_now(&state, &run);
            if args.output.json {
                Ok(super::pretty(&history::run_json(&run, now)?))
            } else {
                history::run_text(&run, now)
            }
        }),
    };
    match printed {
        Ok(text) => {
            super::print(&text);
            ExitCode::Accepted
        }
        Err(error) => {
            let refusal = error.downcast_ref::<Refusal>().cloned();
            let refusal = refusal.unwrap_or_else(|| Refusal::target(format!("{error:#}")));
            super::refuse("history", args.output.json, &refusal)
        }
    }
}

/// Removes runs, and tells which.
fn prune(args: &HistoryArgs, state: &Path) -> Result<String> {
    const DAY: i64 = 24 * 60 * 60;
    let before = args.prune.flatten().map(|days| session::now() - i64::from(days) * DAY);
    let pruned = journal::prune(state, before)?;
    if args.output.json {
        return Ok(super::pretty(&history::pruned_json(&pruned, &journal::history(state)?)));
    }
    Ok(history::pruned_text(&pruned))
}
