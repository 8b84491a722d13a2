//! `list`: the disks attached here. Nothing is mounted or held.

use crate::cli::ListArgs;
use crate::error::ExitCode;
use crate::report::json;
use crate::report::output::Style;
use crate::report::text;
use crate::volume;

/// Runs the command.
pub(super) fn list(args: &ListArgs) -> ExitCode {
    let disks = volume::list();
    if args.output.json {
        super::print(&super::pretty(&json::list(&disks)));
    } else {
        super::print(&text::list(&disks, Style::of_stdout()));
    }
    ExitCode::Accepted
}
