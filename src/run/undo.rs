//! `undo`.
use crate::cli::UndoArgs;
use crate::error::ExitCode;
pub(super) fn undo(args: &UndoArgs) -> ExitCode {
    super::refuse("undo", args.output.json, &super::unavailable("undo"))
}
