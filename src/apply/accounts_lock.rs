//! The lock of the account files of the running system, as glibc's `lckpwdf` and shadow-utils take it: a write lock on
//! `.pwd.lock`, and for each file a `<file>.lock`, a hard link to a file with the number of the process that holds it.

#![expect(clippy::disallowed_methods, reason = "the running system is locked where its own tools lock it")]

use crate::error::Refusal;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The files that shadow-utils lock, in the order in which useradd does.
const FILES: [&str; 6] = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];
/// How long another holder is waited for, as long as lckpwdf(3) does.
const PATIENCE: Duration = Duration::from_secs(15);

/// Held while account files of the running system change; given back when it is dropped. A lock whose process is dead
/// is recognised as such by shadow-utils and here.
#[derive(Debug)]
pub struct AccountsLock {
    /// The POSIX lock ends when this is closed.
    _pwd: Option<File>,
    locks: Vec<PathBuf>,
}

impl AccountsLock {
    /// Locks those account files in `etc` that are among `paths`; nothing if there are none. Waits 15 seconds for
    /// another holder, or until `stop`.
    ///
    /// # Errors
    /// A [`Refusal`] (4) if another process keeps the lock; as creating files.
    pub fn take(etc: &Path, paths: &[&Path], stop: &mut dyn FnMut() -> bool) -> Result<Self> {
        let mut lock = Self { _pwd: None, locks: Vec::new() };
        let wanted = |name: &&&str| paths.contains(&Path::new("/etc").join(name).as_path());
        let names: Vec<&str> = FILES.iter().filter(wanted).copied().collect();
        if names.is_empty() {
            return Ok(lock);
        }
        let until = Instant::now() + PATIENCE;
        let path = etc.join(".pwd.lock");
        let pwd = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        wait(&path, until, stop, || write_lock(&pwd))?;
        lock._pwd = Some(pwd);
        for name in names {
            let path = etc.join(format!("{name}.lock"));
            wait(&path, until, stop, || link_lock(etc, name, &path))?;
            lock.locks.push(path);
        }
        Ok(lock)
    }
}

impl Drop for AccountsLock {
    fn drop(&mut self) {
        for path in self.locks.drain(..).rev() {
            // One that can't be removed names a process that is soon dead, and is taken for stale then.
            drop(fs::remove_file(path));
        }
    }
}

/// Tries until it succeeds; `Some` holder means not yet.
fn wait(
    path: &Path,
    until: Instant,
    stop: &mut dyn FnMut() -> bool,
    mut attempt: impl FnMut() -> io::Result<Option<i32>>,
) -> Result<()> {
    loop {
        let Some(holder) = attempt().with_context(|| format!("locking {}", path.display()))? else {
            return Ok(());
        };
        if Instant::now() >= until || stop() {
            return Err(Refusal::unsafe_(format!(
                "the account files are being changed: process {holder} holds {}",
                path.display()
            ))
            .hint("Wait for it, or end it, and try again.")
            .into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The lock of lckpwdf(3).
fn write_lock(file: &File) -> io::Result<Option<i32>> {
    let mut whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(None),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            fcntl(file, FcntlArg::F_GETLK(&mut whole))?;
            Ok(Some(whole.l_pid))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The lock of shadow-utils on one file. A lock of a dead process, or one that names none, is removed.
fn link_lock(etc: &Path, name: &str, lock: &Path) -> io::Result<Option<i32>> {
    let me = std::process::id();
    let own = etc.join(format!("{name}.{me}"));
    // Left by a process of the same number that was killed here.
    drop(fs::remove_file(&own));
    let linked = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&own)?;
        // shadow-utils read a number that ends with NUL.
        file.write_all(format!("{me}\0").as_bytes())?;
        for _ in 0..2 {
            match fs::hard_link(&own, lock) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => match holder(lock)? {
                    Some(pid) => return Ok(Some(pid)),
                    None => fs::remove_file(lock)?,
                },
                linked => return linked.map(|()| None),
            }
        }
        // Others were faster, twice.
        holder(lock)
    })();
    drop(fs::remove_file(&own));
    linked
}

/// The living process that a lock names.
fn holder(lock: &Path) -> io::Result<Option<i32>> {
    let text = match fs::read(lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let digits: String =
        text.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
    let pid = digits.parse::<i32>().ok().filter(|pid| *pid > 0);
    Ok(pid.filter(|pid| kill(Pid::from_raw(*pid), None) != Err(Errno::ESRCH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc(name: &str) -> PathBuf {
        let etc = std::env::temp_dir().join(format!("volrescue-accounts-lock-{}-{name}", std::process::id()));
        fs::create_dir_all(&etc).unwrap();
        etc
    }

    fn names(etc: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(etc)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_files_that_change_are_locked_and_given_back_and_a_dead_holder_is_no_holder() {
        let etc = etc("free");
        // No process has the highest number there may be.
        fs::write(etc.join("group.lock"), "4194304\0").unwrap();
        let paths = [Path::new("/etc/passwd"), Path::new("/etc/group"), Path::new("/home/u")];
        let lock = AccountsLock::take(&etc, &paths, &mut || false).unwrap();
        assert_eq!(names(&etc), [".pwd.lock", "group.lock", "passwd.lock"]);
        let mine = format!("{}\0", std::process::id());
        assert_eq!(fs::read_to_string(etc.join("group.lock")).unwrap(), mine);
        drop(lock);
        assert_eq!(names(&etc), [".pwd.lock"]);
        fs::remove_dir_all(etc).unwrap();
    }

    #[test]
    fn a_living_holder_is_named_and_nothing_is_left() {
        let etc = etc("held");
        fs::write(etc.join("shadow.lock"), format!("{}\0", std::process::id())).unwrap();
        let paths = [Path::new("/etc/passwd"), Path::new("/etc/shadow")];
        let error = AccountsLock::take(&etc, &paths, &mut || true).unwrap_err();
        let refusal = error.downcast_ref::<Refusal>().unwrap();
        assert_eq!(refusal.code.number(), 4);
        assert!(refusal.message.contains(&format!("process {} holds", std::process::id())), "{refusal:?}");
        assert_eq!(names(&etc), [".pwd.lock", "shadow.lock"]);
        fs::remove_dir_all(etc).unwrap();
    }
}
