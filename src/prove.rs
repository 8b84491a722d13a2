//! A login through the volume's own sshd, in a sandbox. Beside `shell --chroot` the one place where a program of
//! the volume runs.
//!
//! ```text
//! this process -> sandbox   mount, network, ipc and uts namespaces; tmpfs, overlay over the volume, loopback
//!                  -> client   the helper's ssh
//!                  -> init     process 1 of a pid namespace, which ends with it
//!                      -> sshd   mount namespace whose / is the overlay, few capabilities; then the volume's sshd
//! ```
//!
//! The volume is the lower layer of an overlay and is never written; what sshd and the session write goes to memory and is
//! gone with the sandbox. Each process asks the kernel to be killed when its parent ends, so that a SIGKILL of this
//! process ends all of them, and their mounts with them. sshd is handed one connection (`sshd -i`): it needs no port, and
//! a ListenAddress that this helper does not have is no reason to refuse.
//!
//! root inside has neither the capabilities nor the mounts to reach the helper: no `CAP_SYS_ADMIN`, `CAP_SYS_PTRACE`,
//! `CAP_MKNOD` or `CAP_DAC_READ_SEARCH`, a /proc that shows its own processes only (`subset=pid`), no /sys, and no
//! interface but loopback. A filter takes away the system calls that reach further all the same ([`crate::sys::seccomp`]).
//! Memory, processes and time are watched from outside.

#![expect(clippy::disallowed_methods, reason = "starts the processes of the sandbox")]

use crate::error::Refusal;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

mod inside;
mod sandbox;

/// The hidden command of this program that does the stages.
pub const COMMAND: &str = "sandbox";
/// The program itself, whatever became of its name.
const SELF: &str = "/proc/self/exe";
/// What the sandbox says is at most this long, in bytes.
const SAID_LIMIT: u64 = 4 << 20;
/// How much longer than the sandbox's own limit is waited for it.
const GRACE: Duration = Duration::from_secs(3);

/// A login that is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The volume's root directory on the helper: a mount point or a directory.
    pub lower: PathBuf,
    /// Its device and inode number: what is found at the path must be this.
    pub lower_id: (u64, u64),
    /// Canonical paths of the volume where its further filesystems are mounted, the upper ones first.
    pub branches: Vec<PathBuf>,
    /// The volume's sshd.
    pub program: PathBuf,
    /// Values of `-o` that its unit starts it with.
    pub options: Vec<String>,
    /// The login name.
    pub user: String,
    /// The key to log in with.
    pub key: Key,
    /// The most seconds that it may take.
    pub seconds: u64,
}

/// The key to log in with.
#[derive(Clone, Serialize, Deserialize)]
pub enum Key {
    /// A private key of the user's, as text; nothing is added to the volume's files.
    Own(String),
    /// One made for this login alone. Its public half is added, in the overlay, to these files (paths of the volume)
    /// as far as they exist.
    Made(Vec<PathBuf>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(_) => f.write_str("Own(..)"),
            Self::Made(files) => f.debug_tuple("Made").field(files).finish(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Login {
    /// `ssh -n USER@host true` ended with 0.
    pub accepted: bool,
    /// The client's exit status; `None` if it was ended from outside.
    pub status: Option<i32>,
    /// Why it was ended before its end, in words.
    pub ended: Option<String>,
    /// What the client said, bounded.
    pub client: String,
    /// What sshd said, bounded.
    pub server: String,
}

/// The answer of the sandbox: a login, or why none could be tried.
type Answer = Result<Login, String>;

/// Tries the login. `stop` is asked from time to time and ends everything.
///
/// # Errors
/// A [`Refusal`] where no sandbox can be had or it was stopped.
pub fn login(request: &Request, stop: &mut dyn FnMut() -> bool) -> Result<Login> {
    let mut sandbox = Command::new(SELF)
        .args([COMMAND, "login"])
        .env(PARENT, std::process::id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the sandbox: this program can't run itself")?;
    if let Some(mut stdin) = sandbox.stdin.take() {
        // A sandbox that ended already tells why itself.
        let _ = stdin.write_all(serde_json::to_string(request)?.as_bytes());
    }
    let said = gather(sandbox.stdout.take(), SAID_LIMIT);
    let errors = gather(sandbox.stderr.take(), SAID_LIMIT);
    let limit = Instant::now() + Duration::from_secs(request.seconds) + GRACE;
    let mut stopped = false;
    while matches!(sandbox.try_wait(), Ok(None)) {
        stopped = stop();
        if stopped || Instant::now() > limit {
            end(&mut sandbox);
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (said, errors) = (said.join().unwrap_or_default(), errors.join().unwrap_or_default());
    if stopped {
        return Err(Refusal::new(crate::error::ExitCode::Interrupted, "stopped by a signal").into());
    }
    match serde_json::from_slice::<Answer>(&said) {
        Ok(Ok(login)) => Ok(login),
        Ok(Err(why)) => Err(Refusal::target(format!("no login could be tried: {why}"))
            .hint("prove needs root, ssh (package openssh-client), and Linux 5.8 or later with overlayfs.")
            .into()),
        Err(_) => {
            let words = String::from_utf8_lossy(&errors);
            let last = words.lines().last().unwrap_or("it gave no reason");
            Err(Refusal::target(format!("the sandbox ended without an answer: {last}"))
                .hint("Repeat it with -v, and look at the kernel's messages: dmesg")
                .into())
        }
    }
}

/// Does one stage of the sandbox, in the process that was started for it. Gives the exit status.
#[must_use]
pub fn stage(name: &str) -> u8 {
    if let Err(errno) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        tracing::error!("this process would outlive its parent: {errno}");
        return 1;
    }
    if name != "sshd" && !parent_lives() {
        return 1;
    }
    match name {
        "login" => sandbox::stage(),
        "client" => inside::client(),
        "init" => inside::init(),
        _ => inside::sshd(),
    }
}

/// Whether the parent lives that was asked for at the start: one that ended before this process could bind itself to it
/// kills nobody. Where a new pid namespace begins the parent has no number, so it is looked for in the /proc outside. sshd
/// needs no such look: its parent is process 1, with which everything ends.
fn parent_lives() -> bool {
    let parent = std::env::var(PARENT).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Names the process whose end ends this one.
const PARENT: &str = "VOLRESCUE_SANDBOX_PARENT";

/// Reads a pipe to its end and keeps so many bytes of it.
fn gather(pipe: Option<impl Read + Send + 'static>, limit: u64) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            // An end by a signal is an end.
            let _ = pipe.by_ref().take(limit).read_to_end(&mut kept);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        kept
    })
}

/// Kills a process and waits for it.
fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::error!("a process of the sandbox can't be ended: {error}");
    }
}

/// The architecture of a program (the `e_machine` of elf(5)), by the word that Linux has for it; `None` if the bytes are
/// no ELF header.
#[must_use]
pub fn architecture(header: &[u8]) -> Option<String> {
    let (b"\x7fELF", class, order) = (header.get(..4)?, header.get(4)?, header.get(5)?) else { return None };
    let machine: [u8; 2] = header.get(18..20)?.try_into().ok()?;
    let machine = if *order == 2 { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    Some(match (machine, class, order) {
        (62, 2, _) => "x86_64".into(),
        (62, _, _) => "x32".into(),
        (3, _, _) => "x86".into(),
        (183, _, _) => "aarch64".into(),
        (40, _, _) => "arm".into(),
        (243, 2, _) => "riscv64".into(),
        (21, _, 1) => "powerpc64le".into(),
        (21, _, _) => "powerpc64".into(),
        (22, _, _) => "s390x".into(),
        (258, _, _) => "loongarch64".into(),
        (other, _, _) => format!("machine number {other}"),
    })
}

/// Whether this helper runs programs of that architecture without emulation.
#[must_use]
pub fn runs_here(architecture: &str) -> bool {
    let here = std::env::consts::ARCH;
    architecture == here || (here == "x86_64" && architecture == "x86")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_is_read_from_the_header() {
        let own = std::fs::read(SELF).unwrap();
        assert_eq!(architecture(&own).as_deref(), Some(std::env::consts::ARCH));
        let mut arm = own[..20].to_vec();
        (arm[18], arm[19]) = (183, 0);
        assert_eq!(architecture(&arm).as_deref(), Some("aarch64"));
        assert_eq!((architecture(b"#!/bin/sh\n"), architecture(b"\x7fELF")), (None, None));
        assert!(!runs_here("s390x"));
    }

    #[test]
    fn a_private_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::Own("secret".into())), "Own(..)");
    }
}
