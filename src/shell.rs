//! A shell of the helper's in which the volume is mounted, and that leaves nothing when it ends.
//!
//! ```text
//! this process -> enclosure   mount namespace of its own; shows a directory target on a mount point
//!                  -> init      process 1 of a pid namespace, which ends with the shell
//!                      -> shell   and what the operator starts in it, also in the background
//! ```
//!
//! The kernel ends what is left in a pid namespace with its process 1. Each process asks to be killed when its parent
//! ends, so that a SIGKILL of this process ends all of them, and their mounts with them.
//!
//! Only programs of the helper run: the volume is mounted noexec, nosuid and nodev. Except with `--chroot`: then the shell is
//! the volume's own, in network, ipc and uts namespaces too, and it and all that it starts are held as sshd is by `prove`
//! ([`crate::inside`]): the volume is their `/`, and set-user-id bits and device nodes of the volume stay without effect.

#![expect(clippy::disallowed_methods, reason = "starts the helper's shell")]

use crate::error::{ExitCode, Refusal};
use crate::inside::enter;
use crate::volume::{enter_namespace, mounts_at, pick_point};
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, fstat};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The hidden command of this program that does the stages.
pub const COMMAND: &str = "enclose";
/// The variable of the shell that holds the volume's path.
pub const VARIABLE: &str = "VOLRESCUE_ROOT";
/// The program itself, whatever became of its name.
const SELF: &str = "/proc/self/exe";
/// The stages.
const MOUNT: &str = "mount";
const CHROOT: &str = "chroot";
const INIT: &str = "init";
const BECOME: &str = "become";
/// A volume that is mounted where it is to be seen.
const MOUNTED: &str = "mounted";
/// A directory to be shown for reading alone.
const READ_ONLY: &str = "read-only";
/// A directory to be shown for changing.
const WRITABLE: &str = "writable";

/// What is to be seen in the shell.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// The volume is mounted here, for this process.
    Mount(&'a Path),
    /// A directory of the helper, with its device and inode number: what is found at the path must be this. Mounts below
    /// it are not shown.
    Directory {
        /// Where it is.
        path: &'a Path,
        /// Device and inode number.
        id: (u64, u64),
        /// Whether it may be changed.
        writable: bool,
    },
}

/// Whose shell it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The helper's, with the volume at a path.
    Helpers,
    /// The volume's own, with the volume as its `/`.
    Volumes,
}

/// Where the volume will be seen, and what has to be told to the stages.
#[derive(Debug)]
pub struct Enclosure {
    point: PathBuf,
    whose: Whose,
    words: Vec<OsString>,
}

impl Enclosure {
    /// Chooses the place. Enters the private mount namespace, if that was not done.
    ///
    /// # Errors
    /// A [`Refusal`] (3) where there is no namespace or no directory to mount on.
    pub fn new(shown: Shown<'_>, whose: Whose, needed: &[PathBuf]) -> Result<Self> {
        enter_namespace()?;
        let mut words: Vec<OsString> = Vec::new();
        let point = match shown {
            Shown::Mount(point) => {
                words.extend([MOUNTED.into(), point.into()]);
                point.to_owned()
            }
            Shown::Directory { path, id: (device, inode), writable } => {
                let needed: Vec<PathBuf> = needed.iter().cloned().chain([path.to_owned()]).collect();
                let point = pick_point(&needed)?;
                words.extend([if writable { WRITABLE } else { READ_ONLY }.into(), OsString::from(&point)]);
                words.extend([path.into(), device.to_string().into(), inode.to_string().into()]);
                point
            }
        };
        Ok(Self { point, whose, words })
    }

    /// The value of [`VARIABLE`].
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Runs the shell to its end and gives its exit status. `stop` is asked from time to time and ends everything. With
    /// `only_stderr` what is written to the shell's standard output goes to standard error.
    ///
    /// # Errors
    /// A [`Refusal`]: the shell can't be had (3); it was stopped (130).
    pub fn run(&self, only_stderr: bool, stop: &mut dyn FnMut() -> bool) -> Result<u8> {
        let terminal = Terminal::remember();
        let mut command = Command::new(SELF);
        let stage = if self.whose == Whose::Volumes { CHROOT } else { MOUNT };
        command.arg(COMMAND).arg(stage).arg("--").args(&self.words);
        command.env(PARENT, std::process::id().to_string()).env(VARIABLE, &self.point);
        if only_stderr {
            let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("lending standard error")?;
            command.stdout(Stdio::from(stderr));
        }
        let mut child = command.spawn().context("starting the shell: this program can't run itself")?;
        let mut stopped = false;
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for the shell")? {
                break status;
            }
            if stop() {
                stopped = true;
                child.kill().context("ending the shell")?;
                break child.wait().context("waiting for the shell")?;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        terminal.take_back();
        match status.code() {
            Some(code) if code == i32::from(NO_SHELL) => {
                Err(Refusal::target("the shell could not be started")
                    .hint("The line above says why. In a container, run volrescue with --privileged.")
                    .into())
            }
            Some(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            None if stopped => Err(Refusal::new(ExitCode::Interrupted, "stopped by a signal").into()),
            None => Ok(killed(status.signal())),
        }
    }
}

/// As shells count a death by a signal.
fn killed(signal: Option<i32>) -> u8 {
    u8::try_from(signal.unwrap_or(0)).unwrap_or(0).saturating_add(128)
}

/// The exit status of a stage that failed. No shell ends with it by itself: it is none of those that POSIX names.
const NO_SHELL: u8 = 119;
/// Names the process whose end ends the stage.
const PARENT: &str = "VOLRESCUE_SHELL_PARENT";

/// The process group that the terminal belonged to before the shell made itself its owner.
struct Terminal(Option<Pid>);

impl Terminal {
    fn remember() -> Self {
        let stdin = std::io::stdin();
        Self(stdin.is_terminal().then(|| nix::unistd::tcgetpgrp(&stdin).ok()).flatten())
    }

    /// A shell in another pid namespace can't name the group to give the terminal back to.
    fn take_back(&self) {
        let Some(group) = self.0 else { return };
        let mut only = SigSet::empty();
        // A background process that touches the terminal is stopped, unless it blocks this signal.
        only.add(Signal::SIGTTOU);
        let gave = only
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
            .and_then(|old| nix::unistd::tcsetpgrp(std::io::stdin(), group).and(old.thread_set_mask()));
        if let Err(errno) = gave {
            tracing::warn!("the terminal was not given back: {errno}");
        }
    }
}

/// Does one stage, in the process that was started for it. Gives its exit status.
#[must_use]
pub fn stage(name: &str, words: &[OsString]) -> u8 {
    let done = end_with_parent().and_then(|()| match name {
        MOUNT => enclose(words, Whose::Helpers),
        CHROOT => enclose(words, Whose::Volumes),
        BECOME => become_volumes(words),
        _ => init(words),
    });
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "volrescue: {error:#}");
        NO_SHELL
    })
}

/// The parent may have ended before it could be asked for. From inside a new pid namespace it has no number, but the
/// /proc of the namespace before is still there.
fn end_with_parent() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("binding this process to its parent")?;
    let parent = std::env::var(PARENT).context("this command is for volrescue's own use")?;
    let by_number = getppid().as_raw();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    let alive = state.is_some_and(|state| !matches!(state, 'Z' | 'X'));
    ensure!(alive && (by_number == 0 || by_number.to_string() == parent), "the process that asked is gone");
    Ok(())
}

/// Shows the volume, makes a pid namespace, and waits for its process 1.
fn enclose(words: &[OsString], whose: Whose) -> Result<u8> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    if let [how, point, path, device, inode] = words {
        let number = |word: &OsStr| word.to_str().and_then(|word| word.parse::<u64>().ok());
        let id = number(device).zip(number(inode)).context("this command is for volrescue's own use")?;
        show(Path::new(path), id, Path::new(point), how == WRITABLE)?;
    }
    let mut spaces = CloneFlags::CLONE_NEWPID;
    let mut handed: Option<&OsString> = None;
    if whose == Whose::Volumes {
        let point = words.get(1).context("this command is for volrescue's own use")?;
        allow_programs(Path::new(point))?;
        spaces |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
        handed = Some(point);
    }
    unshare(spaces).context("making namespaces")?;
    if whose == Whose::Volumes {
        nix::unistd::sethostname("volrescue-chroot").context("naming the namespace")?;
    }
    let mut init = Command::new(SELF)
        .args([COMMAND, INIT, "--"])
        .args(handed)
        .env(PARENT, std::process::id().to_string())
        .spawn()
        .context("starting the shell")?;
    wait(&mut init)
}

fn wait(child: &mut Child) -> Result<u8> {
    let status = child.wait().context("waiting for the shell")?;
    Ok(status.code().map_or_else(|| killed(status.signal()), |code| u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Mounts the directory on `point`, with nothing of what is mounted below it.
fn show(path: &Path, id: (u64, u64), point: &Path, writable: bool) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory =
        open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))?;
    let stat = fstat(&directory).with_context(|| format!("looking at {}", path.display()))?;
    ensure!((stat.st_dev, stat.st_ino) == id, "another directory is at {} now", path.display());
    let through = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let none = None::<&str>;
    mount(Some(&through), point, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("showing {} on {}", path.display(), point.display()))?;
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    flags |= MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    mount(none, point, none, flags, none).with_context(|| format!("restricting {}", point.display()))
}

/// Lifts noexec from the volume's mounts, for this mount namespace alone.
fn allow_programs(point: &Path) -> Result<()> {
    for (at, read_only) in mounts_at(point) {
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        flags.set(MsFlags::MS_RDONLY, read_only);
        mount(None::<&str>, &at, None::<&str>, flags, None::<&str>)
            .with_context(|| format!("allowing programs on {}", at.display()))?;
    }
    Ok(())
}

/// Process 1: starts the shell, takes the dead, and ends with it.
fn init(words: &[OsString]) -> Result<u8> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context("mounting /proc")?;
    let mut command = match words {
        [] => Command::new(shell()),
        // It keeps what the other must not have, so it does not become that itself.
        [point, ..] => {
            let mut command = Command::new(SELF);
            command.args([COMMAND, BECOME, "--"]).arg(point);
            command
        }
    };
    if words.is_empty() {
        command.env_remove(PARENT);
    } else {
        command.env(PARENT, std::process::id().to_string());
    }
    let child = command.spawn().context("starting the shell")?;
    let shell = Pid::from_raw(i32::try_from(child.id()).context("waiting for the shell")?);
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == shell => {
                return Ok(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == shell => {
                return Ok(killed(Some(signal as i32)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for the shell"),
        }
    }
}

/// Goes into the volume and becomes its shell.
fn become_volumes(words: &[OsString]) -> Result<u8> {
    let [point] = words else { bail!("this command is for volrescue's own use") };
    let terminal = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    enter(Path::new(point), &["tmp"])?;
    let shell = ["/bin/bash", "/bin/sh"].map(Path::new).into_iter().find(|path| path.is_file());
    let shell = shell.context("the volume has neither /bin/bash nor /bin/sh")?;
    let error = Command::new(shell)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("SHELL", shell)
        .env("TERM", terminal)
        .env("PS1", "[volume] \\w \\$ ")
        .env(VARIABLE, "/")
        .exec();
    Err(error).with_context(|| format!("starting {} of the volume", shell.display()))
}

/// The operator's own shell, else the best that is there.
fn shell() -> PathBuf {
    let own = std::env::var_os("SHELL").map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = ["/bin/bash", "/bin/sh"].map(PathBuf::from);
    let found = own.into_iter().chain(usual).find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from("/bin/sh"))
}
