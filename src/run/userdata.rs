//! `userdata`: the cloud-init document on standard output, its caveats on standard error.

use super::keys;
use crate::accounts::is_valid_name;
use crate::cli::UserdataArgs;
use crate::error::{ExitCode, Refusal};
use crate::report::output;
use crate::userdata::{CAVEATS, EC2_LIMIT, document};

/// Runs the command.
pub(super) fn userdata(args: &UserdataArgs) -> ExitCode {
    match text(args) {
        Ok(text) => {
            output::stderr(CAVEATS);
            super::print(&text);
            ExitCode::Accepted
        }
        Err(refusal) => super::refuse("userdata", false, &refusal),
    }
}

fn text(args: &UserdataArgs) -> Result<String, Refusal> {
    if !is_valid_name(args.user.as_bytes()) {
        return Err(Refusal::usage(format!("--user {}: no valid user name", args.user.escape_debug())));
    }
    let given = keys::read_all(&args.keys)?;
    for note in &given.dropped {
        output::stderr(&format!("volrescue: {}\n", crate::report::escape::words(note)));
    }
    let text = document(&args.user, &given.keys);
    if text.len() > EC2_LIMIT {
        return Err(Refusal::usage(format!("the document has {} bytes; EC2 takes {EC2_LIMIT}", text.len()))
            .hint("Give fewer keys."));
    }
    Ok(text)
}
