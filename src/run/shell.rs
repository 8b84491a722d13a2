//! `shell`: a shell of the helper's with the volume mounted in it, for this shell alone.

use super::session::{self, Mode, Session};
use super::signals::Stop;
use super::targets;
use crate::cli::ShellArgs;
use crate::error::ExitCode;
use crate::report::output::{self, Style};
use crate::report::{Report, text};
use crate::shell::{Enclosure, Shown};
use anyhow::Result;
use std::path::Path;

/// Runs the command.
pub(super) fn shell(args: &ShellArgs) -> ExitCode {
    let mut report = Report { command: "shell", ..Report::default() };
    if let Err(error) = open(args, &mut report) {
        report.error = Some(session::refusal_of(&error));
    }
    session::finish(&report, args.output.json, false)
}

fn open(args: &ShellArgs, report: &mut Report) -> Result<()> {
    let stop = Stop::listen()?;
    targets::end_with_parent()?;
    let state = session::state_dir(&args.state);
    let needed = [state.clone()];
    let mode = if args.writable { Mode::Change } else { Mode::Look };
    let session = Session::open(&args.target, mode, &needed, &stop, report)?;
    let worked = (|| {
        // Held as long as the shell lasts: no repair may plan over what is being changed by hand.
        let _lock = args.writable.then(|| session.lock(&state)).transpose()?;
        session.look(report);
        let (path, id) = session.place()?;
        let shown = match session.mount_point() {
            Some(point) => Shown::Mount(point),
            None => Shown::Directory { path: &path, id, writable: args.writable },
        };
        let enclosure = Enclosure::new(shown, &needed)?;
        stop.check()?;
        greet(args, session.mount_point().is_none(), enclosure.point(), report);
        let status = enclosure.run(args.output.json, &mut || stop.asked())?;
        tracing::info!("the shell ended with {status}");
        Ok(())
    })();
    session.close(report, worked)
}

/// What the operator has to know before the first command; on stderr, as all of this is talk.
fn greet(args: &ShellArgs, directory: bool, point: &Path, report: &mut Report) {
    let style = Style { colour: false, columns: 80 };
    let mut words = text::volume(report, style);
    let how = if args.writable { "WRITABLE" } else { "read-only" };
    words.push_str(&text::note(
        &format!(
            "the volume is at {0} (${1}), {how}, and only this shell sees it; leave with exit",
            point.display(),
            crate::shell::VARIABLE
        ),
        style,
    ));
    if args.writable {
        words.push_str(&text::note(
            "what you change here is in no journal: volrescue undo can't take it back",
            style,
        ));
    }
    if directory {
        words.push_str(&text::note("filesystems mounted below the directory are not shown", style));
    }
    words.push_str(&text::note(
        "the tools are this helper's; an absolute symbolic link on the volume leads them into this helper",
        style,
    ));
    for note in &report.notes {
        words.push_str(&text::note(note, style));
    }
    if !args.output.json {
        // Said by now.
        report.notes.clear();
    }
    output::stderr(&words);
}
