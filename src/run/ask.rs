//! A question on the terminal.

use super::signals::{Stop, interrupted};
use crate::error::Refusal;
use crate::report::output;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{BufRead, IsTerminal};
use std::os::fd::AsFd;

/// Can somebody be asked? stdin must be a terminal that no key is read from.
///
/// # Errors
/// A usage error that names the options to give instead.
pub(super) fn must_be_possible(yes: bool, dry_run: bool, key_on_stdin: bool) -> Result<(), Refusal> {
    if yes || dry_run || (std::io::stdin().is_terminal() && !key_on_stdin) {
        return Ok(());
    }
    Err(Refusal::usage("there is no terminal to ask on")
        .hint("Give --yes to go ahead without a question, or --dry-run to see the plan only."))
}

/// Asks; anything but y or yes is a no.
///
/// # Errors
/// When a signal ends the wait, or the terminal cannot be read.
pub(super) fn ask(question: &str, stop: &Stop) -> Result<bool> {
    output::stderr(&format!("{question} [y/N] "));
    let stdin = std::io::stdin();
    loop {
        if stop.asked() {
            output::stderr("\n");
            return Err(interrupted().into());
        }
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(200u8)) {
            Ok(0) | Err(Errno::EINTR) => {}
            // The terminal was closed; its SIGHUP may still be on the way.
            Ok(_) if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) => {
                return Err(interrupted().into());
            }
            Ok(_) => break,
            Err(errno) => return Err(errno).context("waiting for an answer"),
        }
    }
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}
