//! One short function a command: the pipeline, and the only module that knows all the others.

use crate::cli::{Cli, Command};
use crate::error::{ExitCode, Refusal};
use crate::report::output::{self, Style};
use crate::report::{json, log, text};
use clap::Parser;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};

mod ask;
mod diagnose;
mod generate;
mod history;
mod host_keys;
mod keys;
mod list;
mod luks;
mod page;
mod privileges;
mod prove;
mod repair;
mod session;
mod shell;
mod signals;
mod targets;
mod undo;
mod userdata;

/// Runs the command line and gives the exit code. Everything is printed by then.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&args, &error).number(),
    };
    log::start(cli.command.verbosity());
    privileges::reduce(&cli.command);
    if let Some((command, json, refusal)) = privileges::check_kernel(&cli.command) {
        return refuse(command, json, &refusal).number();
    }
    let code = match cli.command {
        Command::List(args) => list::list(&args),
        Command::Diagnose(args) => diagnose::diagnose(&args),
        Command::Repair(args) => repair::repair(&args),
        Command::Prove(args) => prove::prove(&args),
        Command::Shell(args) => shell::shell(&args),
        Command::Undo(args) => undo::undo(&args),
        Command::History(args) => history::history(&args),
        Command::Checks(args) => {
            let json = args.output.json;
            print(&if json { pretty(&json::checks()) } else { text::checks(Style::of_stdout()) });
            ExitCode::Accepted
        }
        Command::Userdata(args) => userdata::userdata(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Enclose(args) => return crate::shell::stage(&args.stage, &args.words),
        Command::Sandbox(args) => return crate::prove::stage(&args.stage),
        Command::Tool(args) => return crate::volume::tool(&args.bond, &args.words),
    };
    let printed = !UNPRINTED.load(Ordering::Relaxed);
    let untold = if CHANGED.load(Ordering::Relaxed) { ExitCode::Failed } else { ExitCode::Target };
    if printed { code.number() } else { code.max(untold).number() }
}

/// Prints an error in the form that was asked for.
fn refuse(command: &'static str, json: bool, refusal: &Refusal) -> ExitCode {
    if json {
        print(&pretty(&json::failure(command, refusal)));
    }
    output::stderr(&text::error(refusal, Style { colour: false, columns: 80 }));
    refusal.code
}

/// Set where something could not be printed: an exit code of success would be a lie.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// Set where a volume was changed: that this could not be told is then a failure while changing.
static CHANGED: AtomicBool = AtomicBool::new(false);

fn print(text: &str) {
    if let Err(error) = output::stdout(text)
        && !UNPRINTED.swap(true, Ordering::Relaxed)
    {
        output::stderr(&format!("volrescue: standard output can't be written: {error}\n"));
    }
}

fn pretty(value: &serde_json::Value) -> String {
    json::to_text(value, true)
}

/// What clap says, in the parts of a refusal: its tips are hints.
fn words_of(error: &clap::Error, command: &str) -> Refusal {
    let text = error.render().to_string();
    let said = text.lines().map(str::trim);
    let said = said.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let (tips, said): (Vec<&str>, Vec<&str>) =
        said.filter(|line| !line.is_empty()).partition(|line| line.starts_with("tip: "));
    let message = said.join(" ").trim_start_matches("error: ").to_owned();
    let of = if command == "volrescue" { String::new() } else { format!("{command} ") };
    let tips: String = tips
        .iter()
        .map(|tip| tip.trim_start_matches("tip: "))
        .map(|tip| format!("{}{}. ", tip[..1].to_uppercase(), &tip[1..]))
        .collect();
    Refusal::usage(message).hint(format!("{tips}See: volrescue {of}--help"))
}

/// A command line that clap does not take; help and version end well.
fn usage(args: &[OsString], error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print(&error.render().to_string());
        return ExitCode::Accepted;
    }
    let command = args.get(1).and_then(|word| word.to_str());
    let known = ["list", "diagnose", "repair", "prove", "undo", "history", "shell", "checks", "userdata"];
    let command = known.into_iter().find(|name| Some(*name) == command).unwrap_or("volrescue");
    if args.iter().any(|word| word == "--json") {
        print(&pretty(&json::failure(command, &words_of(error, command))));
    }
    output::stderr(&error.render().to_string());
    ExitCode::Usage
}
