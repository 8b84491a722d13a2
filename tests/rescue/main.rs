//! volrescue as its users run it: the real program, on real images with real filesystems, judged by real sshd.
//!
//! The trials come from tables, so this is one binary with its own harness. Most need root, loop devices and a Debian
//! tree (`scripts/prepare`); where these are not to be had the trials are listed as ignored with the reason, and with
//! `VOLRESCUE_ROOT_TESTS=require` they fail.

#![expect(clippy::disallowed_methods, reason = "a test sets up and looks at the volume from outside")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "scripts/differential prints its own report")]

mod acl;
mod answers;
mod bad_input;
mod cli;
mod differential;
mod elsewhere;
mod fixes;
mod formats;
mod fsck;
mod hostile_home;
mod inode_table;
mod kill;
mod kit;
mod labels;
mod layouts;
mod loose;
mod matrix;
mod oracle;
mod page;
mod poor_helper;
mod prove;
mod prove_sandbox;
mod readonly;
mod shell;
mod stacked;

use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

/// What a trial needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing: any user, any place.
    Nothing,
    /// Root, and a Debian tree; mounts in a namespace of its own.
    Root,
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
    // scripts/differential
    if std::env::var_os("VOLRESCUE_DIFFERENTIAL").is_some() {
        return match differential::run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    // scripts/layouts
    if std::env::var_os("VOLRESCUE_LAYOUTS").is_some() {
        return match layouts::run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    // scripts/round-trip
    if std::env::var_os("VOLRESCUE_ROUND_TRIP").is_some() {
        return match differential::round_trip::run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let required = std::env::var_os("VOLRESCUE_ROOT_TESTS").is_some_and(|value| value == "require");
    let lacking = [Needs::Root, Needs::Loop].map(kit::lacking);
    let trials = [
        acl::cases(),
        cli::cases(),
        elsewhere::cases(),
        oracle::cases(),
        page::cases(),
        differential::cases(),
        differential::round_trip::cases(),
        poor_helper::cases(),
        loose::cases(),
        fixes::cases(),
        formats::cases(),
        fsck::cases(),
        readonly::cases(),
        hostile_home::cases(),
        answers::cases(),
        bad_input::cases(),
        inode_table::cases(),
        kill::cases(),
        labels::cases(),
        layouts::cases(),
        shell::cases(),
        stacked::cases(),
        prove::cases(),
        prove_sandbox::cases(),
        matrix::cases(),
    ]
    .into_iter()
    .flatten()
    .map(|case| {
        let lacking = match case.needs {
            Needs::Nothing => None,
            Needs::Root => lacking[0].clone(),
            Needs::Loop => lacking[1].clone(),
        };
        let run = case.run;
        let words = lacking.clone();
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
