//! Tools of the trade that work on the volume here: found, started, bound to this process, heard, and ended.
//!
//! A tool is started through a stage of this program, which asks the kernel to end it when this process ends and then
//! becomes it. It is in a session of its own: a ^C on the terminal reaches this process alone, which knows what to do.

#![expect(clippy::disallowed_methods, reason = "starts programs of the helper")]

use super::export;
use crate::error::{ExitCode, Refusal};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup, execv, getppid};
use std::ffi::{CString, OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The hidden command of this program that becomes a tool.
const COMMAND: &str = "tool";
/// The program itself, whatever became of its name.
const SELF: &str = "/proc/self/exe";
/// Names the process that the tool is bound to.
const PARENT: &str = "VOLRESCUE_TOOL_PARENT";
/// What is kept of a tool's words, in bytes. A badly damaged filesystem makes a checker talk for hours.
const SAID_LIMIT: u64 = 256 << 10;

/// A program of the helper and the package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) program: &'static str,
    /// As most distributions call it.
    pub(super) package: &'static str,
}

/// What becomes of the tool when this process ends before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bond {
    /// It is killed: it only reads.
    Kill,
    /// It gets SIGTERM, upon which it brings what it writes to a good end.
    Terminate,
    /// Nothing: half of its work would be worse than none or all. It ends by itself.
    Outlives,
}

impl Bond {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Terminate => "terminate",
            Self::Outlives => "outlives",
        }
    }

    fn signal(self) -> Option<Signal> {
        match self {
            Self::Kill => Some(Signal::SIGKILL),
            Self::Terminate => Some(Signal::SIGTERM),
            Self::Outlives => None,
        }
    }
}

/// What came of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The exit status; `None` if a signal ended it.
    pub(super) status: Option<i32>,
    /// What it wrote, to either output.
    pub(super) text: String,
    /// This process was asked to stop meanwhile.
    pub(super) stopped: bool,
}

impl Tool {
    /// Where it is on this helper.
    ///
    /// # Errors
    /// [`Refusal`] (3) that names the package.
    pub(super) fn find(self) -> Result<PathBuf, Refusal> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"].map(PathBuf::from);
        let places = std::env::split_paths(&path).filter(|place| place.is_absolute()).chain(usual);
        let is_program = |path: &PathBuf| {
            path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
        };
        places.map(|place| place.join(self.program)).find(is_program).ok_or_else(|| {
            Refusal::target(format!("{} is needed and not on this machine", self.program))
                .hint(format!("Install the package {} here and run this again.", self.package))
        })
    }

    /// Runs it to its end. It keeps `held` open as long as it runs, so that no one else takes the volume while a tool
    /// that outlives this process is still at work. `stop` is asked from time to time.
    ///
    /// # Errors
    /// As [`Self::find`], and when it can't be started.
    pub(super) fn run(
        self,
        words: &[&OsStr],
        bond: Bond,
        held: impl AsFd,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Said> {
        let program = self.find()?;
        let (mut reader, writer) = std::io::pipe().context("making a pipe")?;
        let errors = writer.try_clone().context("making a pipe")?;
        // Unlike all other descriptors of this process, this one is inherited.
        let held = dup(held).context("lending the volume to a tool")?;
        let mut command = command(bond.word(), &[]);
        command.arg(&program).args(words).stdin(Stdio::null()).stdout(writer).stderr(errors);
        let child = command.spawn();
        // The command holds the ends of the pipe that are to be closed.
        drop(command);
        drop(held);
        let mut child = child.context("starting a tool: this program can't run itself")?;
        let said = std::thread::spawn(move || {
            let mut kept = Vec::new();
            let _ = reader.by_ref().take(SAID_LIMIT).read_to_end(&mut kept);
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            kept
        });
        let mut stopped = false;
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for a tool")? {
                break status;
            }
            if !stopped && stop() {
                stopped = true;
                match (bond.signal(), i32::try_from(child.id())) {
                    (Some(signal), Ok(pid)) => {
                        kill(Pid::from_raw(pid), signal).context("ending a tool")?;
                    }
                    _ => tracing::warn!("{} is not to be interrupted; waiting for its end", self.program),
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = said.join().unwrap_or_default();
        Ok(Said { status: status.code(), text: String::from_utf8_lossy(&said).into_owned(), stopped })
    }
}

impl Said {
    /// Its last words, for a message: at most `count` lines that say something.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].iter().map(ToString::to_string).collect()
    }

    /// The lines that tell what went wrong, where they can be told; else its last words.
    pub(super) fn telling(&self, count: usize) -> Vec<String> {
        let mut lines = self.last(usize::MAX);
        let is_telling = |line: &String| {
            let line = line.to_ascii_lowercase();
            ["error", "failed", "inconsistency", "fatal"].iter().any(|word| line.contains(word))
        };
        lines.retain(is_telling);
        lines.dedup();
        lines.truncate(count);
        if lines.is_empty() { self.last(count) } else { lines }
    }

    /// That it was stopped, as an error.
    pub(super) fn interrupted(&self, changed: bool) -> Refusal {
        let code = if changed { ExitCode::Failed } else { ExitCode::Interrupted };
        Refusal::new(code, "stopped by a signal while the filesystem was checked")
            .hint("Run the same command again: the checker begins anew.")
    }
}

/// The command that does a stage of this module, or of [`export`], with these words.
pub(super) fn command(stage: &str, words: &[OsString]) -> Command {
    let mut command = Command::new(SELF);
    command.args([COMMAND, stage, "--"]).args(words);
    command.env(PARENT, std::process::id().to_string()).env("LC_ALL", "C");
    command
}

/// Becomes a tool, which returns only if it fails, or the keeper of an image.
#[must_use]
pub fn stage(name: &str, words: &[OsString]) -> u8 {
    let done = if name == export::KEEPER { keep(words) } else { Err(become_tool(name, words)) };
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "volrescue: {error:#}");
        127
    })
}

/// The keeper outlives its parent: it sees to a good end then.
fn keep(words: &[OsString]) -> Result<u8> {
    nix::unistd::setsid().context("leaving the terminal")?;
    parent_lives()?;
    export::keep(words)
}

/// The parent may have ended before it could be asked for.
fn parent_lives() -> Result<()> {
    let parent = std::env::var(PARENT).unwrap_or_default();
    anyhow::ensure!(getppid().as_raw().to_string() == parent, "the process that asked is gone");
    Ok(())
}

fn become_tool(bond: &str, words: &[OsString]) -> anyhow::Error {
    let become_it = || -> Result<()> {
        let [program, ..] = words else { anyhow::bail!("this command is for volrescue's own use") };
        // A child of a fork is no leader of a group, so this works.
        nix::unistd::setsid().context("leaving the terminal")?;
        let bond = [Bond::Kill, Bond::Terminate, Bond::Outlives].into_iter().find(|one| one.word() == bond);
        if let Some(signal) = bond.context("this command is for volrescue's own use")?.signal() {
            nix::sys::prctl::set_pdeathsig(signal).context("binding a tool to its parent")?;
        }
        parent_lives()?;
        let text = |word: &OsString| CString::new(word.as_bytes()).context("an argument has a zero byte");
        let all = words.iter().map(text).collect::<Result<Vec<CString>>>()?;
        // Not by the library's exec: with SIGPIPE ignored, as it is here, a tool that talks to a process that has ended
        // goes on.
        execv(&text(program)?, &all).with_context(|| format!("starting {}", Path::new(program).display()))?;
        Ok(())
    };
    become_it().err().unwrap_or_else(|| anyhow::anyhow!("the tool was not started"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let refusal = Tool { program: "no-such-checker", package: "checkers" }.find().unwrap_err();
        assert_eq!(refusal.code, ExitCode::Target);
        assert!(refusal.message.contains("no-such-checker") && refusal.hint.unwrap().contains("checkers"));
    }

    #[test]
    fn the_last_words_are_those_that_say_something() {
        let said = Said { status: Some(4), text: "one\n\n two\nthree\n\n".into(), stopped: false };
        assert_eq!(said.last(2), ["two", "three"]);
        assert_eq!(said.last(9).len(), 3);
        assert_eq!(said.telling(1), ["three"]);
        let said = Said { text: "reading\nERROR: a node\nERROR: a node\n12 bytes\n".into(), ..said };
        assert_eq!(said.telling(3), ["ERROR: a node"]);
    }
}
