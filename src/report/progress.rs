//! Progress of long work: a bar on a terminal, silence elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// A counter of entries.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shown on stderr if that is a terminal and `wanted`.
    #[must_use]
    pub fn new(wanted: bool, what: &'static str) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        let template = "{spinner} {msg}: {human_pos} entries, {per_sec}, {elapsed}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar }
    }

    /// So many entries are done.
    pub fn set(&self, entries: u64) {
        // A short run shows nothing at all.
        if self.bar.elapsed() > Duration::from_millis(500) {
            self.bar.set_position(entries);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
