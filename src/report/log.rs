//! What happens, for people who ask with `-v`: tracing's events as lines on stderr. Errors are always shown.
//!
//! The log is no record; the journal is.

use super::{escape, output};
use std::fmt::{Debug, Write as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Shows events of this program from now on: 0 errors, 1 what is done, 2 and more everything.
pub fn start(verbosity: u8) {
    let most = match verbosity {
        0 => Level::ERROR,
        1 => Level::INFO,
        _ => Level::TRACE,
    };
    // A second call in one process changes nothing, which is all that tests need.
    let _ = tracing::subscriber::set_global_default(Lines { most });
}

#[derive(Debug)]
struct Lines {
    most: Level,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.target().starts_with("volrescue")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let word = if *event.metadata().level() == Level::ERROR { "error: " } else { "" };
        output::stderr(&format!("volrescue: {word}{}\n", escape::words(&line.0)));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}
