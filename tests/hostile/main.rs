//! Volumes made to harm, each met by every command: the helper's files stay what they were, nothing hangs, panics or eats
//! the memory, the report names what is wrong, and what a repair changed is put back by its undo.
//!
//! The trees lie in a tmpfs in a mount namespace of the trial's own. There the whole machine is read-only, but for an
//! overlay over /etc, /home, /root and /tmp: its upper layer is empty for as long as nobody changes, makes or removes
//! anything in them, not even for a moment.

#![expect(clippy::disallowed_methods, reason = "a test sets up and looks at the volume from outside")]
#![expect(clippy::print_stdout, reason = "figures on request")]

mod disks;
mod images;
mod kit;
mod links;
mod own;
mod trees;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

/// What a trial needs of the machine besides root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Mount namespaces, tmpfs and overlayfs.
    Namespace,
    /// The same, and loop devices.
    Loop,
}

/// One trial of a table.
struct Case {
    name: String,
    needs: Needs,
    run: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        needs: Needs,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), needs, run: Box::new(run) }
    }
}

fn main() -> ExitCode {
    if let Some(report) = std::env::var_os(kit::MEASURE) {
        return kit::measure(report.as_ref());
    }
    let arguments = Arguments::from_args();
    let required = std::env::var_os("VOLRESCUE_ROOT_TESTS").is_some_and(|value| value == "require");
    let trials = [trees::cases(), links::cases(), disks::cases(), images::cases(), own::cases()]
        .into_iter()
        .flatten()
        .map(|case| {
            let lacking = kit::lacking(case.needs);
            let words = lacking.clone();
            let run = case.run;
            let trial = Trial::test(case.name, move || match words {
                Some(reason) => Err(Failed::from(reason)),
                None => run().map_err(|error| Failed::from(format!("{error:#}"))),
            });
            match lacking {
                Some(reason) if !required => trial.with_kind(reason).with_ignored_flag(true),
                _ => trial,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
