//! Several targets: each in a process of its own, some at a time, one line of JSON each.

#![expect(clippy::disallowed_methods, reason = "each target is worked by this same program")]

use super::signals::Stop;
use crate::cli::{LoginArgs, OutputArgs, TargetArgs};
use crate::error::{ExitCode, Refusal};
use crate::report::output;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a child says on stdout and stderr, being gathered.
type Readers = [JoinHandle<Vec<u8>>; 2];

/// Tells a child whose job it does.
const PARENT: &str = "VOLRESCUE_PARENT";

/// A child of [`run_all`] ends with its parent, at the next safe point.
///
/// # Errors
/// If the parent is gone already.
pub(super) fn end_with_parent() -> Result<(), Refusal> {
    let Some(parent) = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return Ok(());
    };
    let asked = nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGTERM);
    if asked.is_err() || nix::unistd::getppid().as_raw() != parent {
        return Err(super::signals::interrupted());
    }
    Ok(())
}

/// One target and the arguments that work it.
#[derive(Debug)]
pub(super) struct Job {
    /// As it was typed.
    pub target: String,
    /// The whole command line after the program.
    pub args: Vec<OsString>,
}

/// Runs the jobs, `at_a_time` in parallel, and prints what each said when it is done. The highest exit code counts.
pub(super) fn run_all(
    command: &'static str,
    jobs: Vec<Job>,
    at_a_time: u16,
    json: bool,
    keys: &[u8],
) -> ExitCode {
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => return super::refuse(command, json, &Refusal::failed(format!("{error:#}"))),
    };
    let mut known: Vec<PathBuf> = Vec::new();
    for job in &jobs {
        let path = std::fs::canonicalize(&job.target).unwrap_or_else(|_| PathBuf::from(&job.target));
        if known.contains(&path) {
            let refusal = Refusal::usage(format!("{}: the target is given twice", job.target));
            return super::refuse(command, json, &refusal);
        }
        known.push(path);
    }
    let mut waiting: VecDeque<Job> = jobs.into();
    let mut running: Vec<(Job, Child, Readers)> = Vec::new();
    let mut highest = ExitCode::Accepted;
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < usize::from(at_a_time) && !stop.asked() {
            let Some(job) = waiting.pop_front() else { break };
            match start(&job, keys) {
                Ok((child, readers)) => running.push((job, child, readers)),
                Err(error) => {
                    let refusal =
                        Refusal::failed(format!("{}: this program can't run itself: {error}", job.target));
                    highest = highest.max(line(command, &job, json, &refusal));
                }
            }
        }
        if stop.asked() {
            // Each child ends at its next safe point.
            for (_, child, _) in &running {
                if let Ok(pid) = i32::try_from(child.id()) {
                    let _ =
                        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
                }
            }
            for job in waiting.drain(..) {
                let refusal = Refusal::new(
                    ExitCode::Interrupted,
                    format!("{}: not begun: stopped by a signal", job.target),
                );
                highest = highest.max(line(command, &job, json, &refusal));
            }
        }
        let done = running.iter_mut().position(|(_, child, _)| !matches!(child.try_wait(), Ok(None)));
        let Some(done) = done else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let (job, mut child, [said, errors]) = running.swap_remove(done);
        let said = said.join().unwrap_or_default();
        let errors = errors.join().unwrap_or_default();
        let code = child.wait().ok().and_then(|status| status.code());
        print(&job, &said, json);
        output::stderr(&String::from_utf8_lossy(&errors));
        let code = match code {
            Some(code) => exit_code(code),
            None => {
                line(command, &job, json, &Refusal::failed(format!("{}: its process was killed", job.target)))
            }
        };
        highest = highest.max(code);
    }
    highest
}

fn start(job: &Job, keys: &[u8]) -> std::io::Result<(Child, Readers)> {
    let stdin = if keys.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child =
        Command::new("/proc/self/exe").args(&job.args).stdin(stdin).stdout(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = std::io::Write::write_all(&mut stdin, keys);
    }
    let readers = [reader(child.stdout.take()), reader(child.stderr.take())];
    Ok((child, readers))
}

fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut said);
        }
        said
    })
}

fn print(job: &Job, said: &[u8], json: bool) {
    let text = String::from_utf8_lossy(said);
    if json {
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(document) => super::print(&crate::report::json::to_text(&document, false)),
            Err(_) => super::print(&text),
        }
    } else {
        super::print(&format!("=== {}\n{text}\n", crate::report::escape::words(&job.target)));
    }
}

fn line(command: &'static str, job: &Job, json: bool, refusal: &Refusal) -> ExitCode {
    if json {
        let document = crate::report::json::failure_of(command, Some(job.target.clone()), refusal);
        super::print(&crate::report::json::to_text(&document, false));
    } else {
        output::stderr(&format!("volrescue: {}\n", crate::report::escape::words(&refusal.message)));
    }
    refusal.code
}

fn exit_code(code: i32) -> ExitCode {
    match code {
        0 => ExitCode::Accepted,
        1 => ExitCode::Refused,
        2 => ExitCode::Usage,
        3 => ExitCode::Target,
        4 => ExitCode::Unsafe,
        130 => ExitCode::Interrupted,
        _ => ExitCode::Failed,
    }
}

/// What `--key -` reads, once for all targets.
pub(super) fn keys_on_stdin(keys: &[PathBuf]) -> Result<Vec<u8>, Refusal> {
    let mut content = Vec::new();
    if keys.iter().any(|key| key == Path::new("-")) {
        std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin().lock(), 1 << 20), &mut content)
            .map_err(|error| Refusal::usage(format!("standard input: {error}")))?;
    }
    Ok(content)
}

/// The options of [`TargetArgs`], but the targets themselves.
pub(super) fn push_target(line: &mut Vec<OsString>, args: &TargetArgs) {
    if let Some(partition) = args.partition {
        line.push(format!("--partition={partition}").into());
    }
    if let Some(root) = &args.root {
        line.push(format!("--root={root}").into());
    }
    for with in &args.with {
        push_path(line, "--with=", Path::new(with));
    }
    if args.allow_backing {
        line.push("--allow-backing".into());
    }
    for key in &args.luks_key {
        push_path(line, "--luks-key=", key);
    }
    if args.live {
        line.push("--live".into());
    }
}

/// The options of [`LoginArgs`] and [`OutputArgs`].
pub(super) fn push_login(line: &mut Vec<OsString>, login: &LoginArgs, output: OutputArgs) {
    for user in &login.users {
        line.push(format!("--user={user}").into());
    }
    for key in &login.keys {
        push_path(line, "--key=", key);
    }
    if output.json {
        line.push("--json".into());
    }
    line.extend((0..output.verbose).map(|_| OsString::from("-v")));
}

/// An option whose value is a path.
pub(super) fn push_path(line: &mut Vec<OsString>, option: &str, path: &Path) {
    let mut word = OsString::from(option);
    word.push(path);
    line.push(word);
}
