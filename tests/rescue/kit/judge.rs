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
