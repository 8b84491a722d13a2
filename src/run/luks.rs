//! Keys for what is encrypted: from files, or typed on the terminal.

#![expect(clippy::disallowed_methods, reason = "key files are paths of the helper")]

use super::signals::{Stop, interrupted};
use crate::error::Refusal;
use crate::report::output;
use crate::volume::Keys;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Stdin, stdin};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// The largest key file that cryptsetup takes unless it is told otherwise.
const LARGEST: u64 = 8 << 20;
/// The longest passphrase that it takes.
const LONGEST: usize = 512;

/// The keys of one run.
pub(super) struct LuksKeys<'a> {
    files: Vec<Vec<u8>>,
    stop: &'a Stop,
}

impl<'a> LuksKeys<'a> {
    /// Reads the key files.
    ///
    /// # Errors
    /// [`Refusal`] (2): one can't be read, is empty or too large.
    pub(super) fn read(paths: &[PathBuf], stop: &'a Stop) -> Result<Self, Refusal> {
        let files = paths.iter().map(|path| {
            let shown = path.display();
            let mut bytes = Vec::new();
            File::open(path)
                .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
                .map_err(|error| Refusal::usage(format!("the key file {shown} can't be read: {error}")))?;
            if bytes.is_empty() || bytes.len() as u64 > LARGEST {
                let what = if bytes.is_empty() { "empty" } else { "larger than 8 MiB" };
                return Err(Refusal::usage(format!("the key file {shown} is {what}"))
                    .hint("--luks-key wants the file that holds the passphrase or the key itself."));
            }
            Ok(bytes)
        });
        Ok(Self { files: files.collect::<Result<_, _>>()?, stop })
    }
}

impl Keys for LuksKeys<'_> {
    fn files(&self) -> Vec<Vec<u8>> {
        self.files.clone()
    }

    fn can_ask(&self) -> bool {
        self.files.is_empty() && stdin().is_terminal()
    }

    fn ask(&mut self, what: &str, wrong: bool) -> Result<Vec<u8>> {
        let again = if wrong { "That does not open it. " } else { "" };
        output::stderr(&format!("{again}Passphrase for {what}: "));
        let silence = Silence::of(stdin())?;
        let typed = line(self.stop);
        drop(silence);
        output::stderr("\n");
        typed
    }
}

/// A terminal that shows nothing of what is typed until this is dropped.
struct Silence {
    terminal: Stdin,
    before: Termios,
}

impl Silence {
    fn of(terminal: Stdin) -> Result<Self> {
        let before = tcgetattr(&terminal).context("asking how the terminal is set")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).context("making the terminal silent")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is nobody to tell who could see it.
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// A line of the terminal without its end. A signal ends the wait.
fn line(stop: &Stop) -> Result<Vec<u8>> {
    let terminal = stdin();
    let mut typed = Vec::new();
    while typed.len() < LONGEST {
        if stop.asked() {
            return Err(interrupted().into());
        }
        let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(200_u8)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno).context("waiting for the passphrase"),
        }
        let mut byte = [0];
        match nix::unistd::read(&terminal, &mut byte) {
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => typed.extend(byte),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("reading the passphrase"),
        }
    }
    Ok(typed)
}
