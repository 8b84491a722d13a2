//! `shell`: a shell of the helper's with the volume mounted in it, for this shell alone.

use super::session::{self, Mode, Session};
use super::signals::Stop;
use super::targets;
use crate::cli::ShellArgs;
use crate::error::ExitCode;
use crate::report::output::{self, Style};
use crate::report::{Report, text};
use crate::shell::{Enclosure, Shown, Whose};
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
        let whose = if args.chroot { Whose::Volumes } else { Whose::Helpers };
        let enclosure = Enclosure::new(shown, whose, &needed)?;
        stop.check()?;
        greet(args, session.mount_point().is_none(), enclosure.point(), report);
        let status = enclosure.run(args.output.json, &mut || stop.asked())?;
        tracing::info!("the shell ended with {status}");
        report.shell_status = Some(status);
        Ok(())
    })();
    session.close(report, worked)
}

/// What the operator has to know before the first command; on stderr, as all of this is talk.
fn greet(args: &ShellArgs, directory: bool, point: &Path, report: &mut Report) {
    let style = Style { colour: false, columns: 80 };
    let mut words = text::volume(report, style);
    let how = if args.writable { "WRITABLE" } else { "read-only" };
    let mut say = |what: &str| words.push_str(&text::note(what, style));
    if args.chroot {
        say(
            "CHROOT: THE VOLUME'S OWN PROGRAMS RUN NOW, ON THIS MACHINE, AS ROOT. If you don't trust them, leave with exit",
        );
        say(
            "they have no network, no devices, no mounts and no processes of this machine; their memory and time have no limit",
        );
        say(&format!(
            "the volume is /, {how}, and only this shell sees it; /tmp, /run and /dev are in memory; leave with exit"
        ));
    } else {
        say(&format!(
            "the volume is at {} (${}), {how}, and only this shell sees it; leave with exit",
            point.display(),
            crate::shell::VARIABLE
        ));
    }
    if args.writable {
        say("what you change here is in no journal: volrescue undo can't take it back");
    }
    if directory {
        say("filesystems mounted below the directory are not shown");
    }
    if !args.chroot {
        say(
            "the tools are this helper's; an absolute symbolic link on the volume leads them into this helper",
        );
    }
    report.notes.iter().for_each(|note| say(note));
    if !args.output.json {
        // Said by now.
        report.notes.clear();
    }
    output::stderr(&words);
}
