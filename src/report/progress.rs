//! Progress of long work: a bar on a terminal, silence elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// What takes no longer than this shows no bar.
const QUIET: Duration = Duration::from_millis(500);

/// A counter of entries.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    entries: u64,
}

impl Progress {
    /// Shown on stderr if that is a terminal and `wanted`.
    #[must_use]
    pub fn new(wanted: bool, what: &'static str) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        let template = "{spinner} {msg}: {human_pos} entries, {per_sec}, {elapsed}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Self { bar, entries: 0 }
    }

    /// So many more entries are done.
    pub fn add(&mut self, entries: u64) {
        self.entries += entries;
        // A short run shows nothing at all.
        if self.bar.elapsed() > QUIET {
            self.bar.set_position(self.entries);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// How far a copy of the volume has come, or that a checker is at work on it.
#[derive(Debug)]
pub struct CopyProgress {
    bar: ProgressBar,
}

impl CopyProgress {
    /// Shown on stderr if that is a terminal.
    #[must_use]
    pub fn new() -> Self {
        let shown = std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template =
            "copying, to replay the journal in the copy: {bytes} of {total_bytes}, {bytes_per_sec}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar }
    }

    /// So many bytes are done.
    pub fn set(&self, done: u64, total: u64) {
        if self.bar.elapsed() > QUIET {
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
    }

    /// This program is at work, and does not say how far it is.
    pub fn busy(&self, program: &'static str) {
        if self.bar.message() != program {
            self.bar.reset_elapsed();
            self.bar.set_message(program);
            let template = "{spinner} {msg} checks the filesystem, {elapsed}";
            self.bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
        }
        if self.bar.elapsed() > QUIET {
            self.bar.tick();
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for CopyProgress {
    fn default() -> Self {
        Self::new()
    }
}
