//! Real sshd.

use super::{tool_path, trees};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the volume's own sshd did with a login.
#[derive(Debug)]
pub(crate) struct Login {
    /// `ssh -n user@host true` ended with 0.
    pub(crate) accepted: bool,
    /// What sshd and the client said.
    pub(crate) log: String,
}

impl Login {
    /// The word of volrescue's verdict.
    pub(crate) fn word(&self) -> &'static str {
        if self.accepted { "accept" } else { "refuse" }
    }
}

/// Logs in as `user` with the build's key; `options` say where in an image the root is.
pub(crate) fn login(target: &Path, user: &str, options: &str) -> Result<Login> {
    oracle(target, user, &trees()?.join("login_key"), options)
}

/// Logs in with another private key, and the certificate beside it.
pub(crate) fn login_with(tree: &Path, user: &str, key: &Path) -> Result<Login> {
    oracle(tree, user, key, "")
}

/// `sshd -t` of the volume's own sshd: does it take its configuration and host keys? /dev and /run, made where they lack,
/// are covered in a namespace of its own; nothing else of the tree changes.
pub(crate) fn takes_its_configuration(tree: &Path) -> Result<bool> {
    const ASK: &str = r#"
        for directory in dev run; do [ -d "$1/$directory" ] || mkdir "$1/$directory"; done
        mount -t tmpfs -o mode=755 run "$1/run" && mkdir -m 755 "$1/run/sshd" || exit 99
        mount -t tmpfs -o mode=755 dev "$1/dev" || exit 99
        for node in null:3 zero:5 random:8 urandom:9; do
            mknod -m 666 "$1/dev/${node%:*}" c 1 "${node#*:}" || exit 99
        done
        chroot "$1" /usr/sbin/sshd -t || exit 1"#;
    let output = Command::new("timeout")
        .args(["--signal", "KILL", "20", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--propagation", "private", "--", "sh", "-c", ASK, "sh"])
        .arg(tree)
        .env("PATH", tool_path())
        .stdin(Stdio::null())
        .output()
        .context("running sshd -t")?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(99) => bail!("sshd -t cannot be asked: {}", String::from_utf8_lossy(&output.stderr)),
        // Killed while it waits for a FIFO, or refused.
        _ => Ok(false),
    }
}

fn oracle(target: &Path, user: &str, key: &Path, options: &str) -> Result<Login> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/oracle"))
        .arg(target)
        .arg(user)
        .arg(key)
        .arg(options)
        .env("PATH", tool_path())
        .stdin(Stdio::null())
        .output()
        .context("running scripts/oracle")?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let accepted = match (output.status.success(), output.stdout.trim_ascii()) {
        (true, b"accept") => true,
        (true, b"refuse") => false,
        _ => bail!("the judge failed ({}): {log}", output.status),
    };
    Ok(Login { accepted, log })
}
