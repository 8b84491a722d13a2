//! Progress of long work: a bar on a terminal; elsewhere, for people who ask with `-v`, a line from time to time.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// What takes no longer than this shows no bar.
const QUIET: Duration = Duration::from_millis(500);
/// How often a line is written where there is no bar.
const EVERY: Duration = Duration::from_secs(10);

/// A counter of entries.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    entries: u64,
    start: Instant,
    next_line: Duration,
}

impl Progress {
    /// Shown on stderr if that is a terminal and `wanted`.
    #[must_use]
    pub fn new(wanted: bool, what: &'static str) -> Self {
        let shown = wanted && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        Self { bar: counting(target, what), what, entries: 0, start: Instant::now(), next_line: EVERY }
    }

    /// So many more entries are done.
    pub fn add(&mut self, entries: u64) {
        self.entries += entries;
        let elapsed = self.start.elapsed();
        // A short run shows nothing at all.
        if elapsed > QUIET {
            self.bar.set_position(self.entries);
        }
        if elapsed >= self.next_line && self.bar.is_hidden() {
            tracing::info!("{}", line(self.what, self.entries, elapsed));
            self.next_line = elapsed + EVERY;
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar that counts to an end that nobody knows.
fn counting(target: ProgressDrawTarget, what: &'static str) -> ProgressBar {
    // A width of 0 means no digits after the point.
    let template = "{spinner} {msg}: {human_pos} entries, {per_sec:0}, {elapsed}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, target).with_message(what).with_style(style)
}

/// What the bar says, in words.
fn line(what: &str, entries: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs().max(1);
    format!("{what}: {entries} entries in {seconds} s, {} a second", entries / seconds)
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

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal that remembers what is written to it.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_tells_whole_entries_a_second() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bar = counting(target, "changing owners");
        std::thread::sleep(Duration::from_millis(30));
        bar.set_position(32_426);
        bar.tick();
        let drawn = terminal.0.lock().unwrap().clone();
        let last = drawn.rsplit("changing owners: ").next().unwrap_or_default();
        assert!(last.starts_with("32,426 entries, "), "{drawn:?}");
        assert!(last.contains("/s, ") && !last.contains('.'), "{drawn:?}");
    }

    #[test]
    fn a_line_tells_entries_time_and_rate() {
        let said = line("changing owners", 250_000, Duration::from_millis(10_020));
        assert_eq!(said, "changing owners: 250000 entries in 10 s, 25000 a second");
    }
}
