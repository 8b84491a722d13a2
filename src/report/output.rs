//! Writing to stdout and stderr: colours only where a person sees them, and a closed pipe is no error.

use std::io::{IsTerminal, Write};

/// How text may be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours may be used.
    pub colour: bool,
    /// Columns of the terminal; 80 where there is none.
    pub columns: usize,
}

impl Style {
    /// What stdout takes; `NO_COLOR` and `TERM=dumb` are honoured.
    #[must_use]
    pub fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: terminal && !plain, columns: 80 }
    }

    /// Wraps `text` in an SGR code, where colours may be used.
    #[must_use]
    pub fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes to stdout. That nobody reads any more is the reader's choice and no error.
///
/// # Errors
/// Anything else: a full disk, a closed descriptor.
pub fn stdout(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes to stderr; a closed stderr is nobody's fault.
pub fn stderr(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
