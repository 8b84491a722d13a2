//! How a run can end: the exit codes of the contract, and the refusal that carries one.

use std::fmt;

/// The exit codes, as documented for automations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// Every user's verdict is `accept`.
    Accepted = 0,
    /// A verdict is `refuse` or `unknown`.
    Refused = 1,
    /// The command line is wrong, or a question can't be asked without a terminal.
    Usage = 2,
    /// The target can't be opened or understood.
    Target = 3,
    /// Refused for safety: in use, locked, a twin, `/` without `--live`, an ambiguous undo.
    Unsafe = 4,
    /// Failed while changing; the journal says what was done.
    Failed = 5,
    /// Stopped by a signal before anything changed.
    Interrupted = 130,
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// What we will not do, why, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The exit code.
    pub code: ExitCode,
    /// Path and cause, one sentence in lower case without full stop.
    pub message: String,
    /// The next step, a sentence.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    #[must_use]
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// Usage (2).
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// The target can't be opened or understood (3).
    #[must_use]
    pub fn target(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Target, message)
    }

    /// Refused for safety (4).
    #[must_use]
    pub fn unsafe_(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Unsafe, message)
    }

    /// Failed while changing (5).
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, message)
    }

    /// Says what to do instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
