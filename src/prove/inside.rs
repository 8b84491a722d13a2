//! The processes of the sandbox that become something else: the client, process 1, and sshd.

#![expect(clippy::disallowed_methods, reason = "becomes the helper's ssh, or the volume's sshd")]

use super::{COMMAND, SELF};
use crate::inside::enter;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The words behind `--`.
fn words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// Becomes the helper's ssh.
pub(super) fn client() -> u8 {
    complain(&Command::new("ssh").args(words()).exec());
    127
}

/// Process 1: starts sshd, takes the dead, and ends with sshd.
pub(super) fn init() -> u8 {
    let child = match Command::new(SELF).args([COMMAND, "sshd", "--"]).args(words()).spawn() {
        Ok(child) => child,
        Err(error) => {
            complain(&error);
            return 1;
        }
    };
    // Only sshd's own processes hold the connection from now on.
    let Ok(null) = open("/dev/null", OFlag::O_RDWR, Mode::empty()) else { return 1 };
    let let_go = nix::unistd::dup2_stdin(&null).and_then(|()| nix::unistd::dup2_stdout(&null));
    if let_go.is_err() {
        return 1;
    }
    let sshd = Pid::from_raw(i32::try_from(child.id()).unwrap_or(-1));
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == sshd => return 0,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Makes the overlay this process's `/`, gives up what sshd does not need, and becomes sshd.
pub(super) fn sshd() -> u8 {
    let words = words();
    let [root, program, arguments @ ..] = words.as_slice() else { return 2 };
    if let Err(error) = enter(Path::new(root), &[]) {
        complain(&format!("{error:#}"));
        return 1;
    }
    let mut sshd = Command::new(program);
    sshd.args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    complain(&format!("{}: {}", Path::new(program).display(), sshd.exec()));
    127
}

/// Standard error is the transcript.
fn complain(what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
