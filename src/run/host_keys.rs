//! `--fix host-keys`: new host keys by the helper's ssh-keygen, made in memory that belongs to nobody else.

#![expect(
    clippy::disallowed_methods,
    reason = "ssh-keygen runs here, in a tmpfs of this run's own namespace"
)]

use crate::error::Refusal;
use crate::finding::{CheckId, Finding, FixedBy};
use crate::os::OsFacts;
use crate::plan::{Action, Before, Change};
use crate::report::UserReport;
use crate::sshd::evaluate::{System, kind_of_name};
use crate::view::{LookError, View, follow};
use crate::volume::PrivateTmpfs;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes the host keys that are missing or unusable, as actions; nothing is made for a dry run. `with_config`: lines of
/// the configuration are mended too.
///
/// # Errors
/// When ssh-keygen is missing or fails.
pub(super) fn make(
    view: &dyn View,
    os: &OsFacts,
    system: &System,
    user: Option<&UserReport>,
    with_config: bool,
    dry_run: bool,
) -> Result<Vec<Action>> {
    let Some(user) = user else { return Ok(Vec::new()) };
    let mut files: Vec<String> =
        user.before.effective.host_keys.iter().map(|key| key.value.to_string()).collect();
    let findings = user.before.findings.iter();
    let unusable: Vec<&Path> = findings
        .filter(|finding| finding.check == CheckId::HostKeysUnusable)
        .filter_map(|finding| finding.path.as_deref())
        .collect();
    // Lines that name no key become comments, and then the usual names are in force.
    let no_key = |finding: &Finding| {
        finding.check == CheckId::HostKeysUnusable && finding.fixed_by == FixedBy::SshdConfig
    };
    let named = files.len();
    if with_config && named == user.before.findings.iter().filter(|finding| no_key(finding)).count() {
        files.clear();
    }
    if files.is_empty() {
        files = ["rsa", "ecdsa", "ed25519"].map(|kind| format!("/etc/ssh/ssh_host_{kind}_key")).to_vec();
    }
    let mode = os.host_key_mode(&system.group);
    let mut actions = Vec::new();
    for file in &files {
        let path = PathBuf::from(file);
        let Some(place) = place(view, &path) else { continue };
        let before = existing(view, &place);
        // Under a name that tells no kind a key is made only where nothing is.
        let Some(kind) = kind_of_name(&path).or((before == Some(Before::Absent)).then_some("ed25519")) else {
            continue;
        };
        let bits = user.before.effective.required_rsa_size.value;
        if kind == "rsa" && bits > MOST_BITS {
            continue;
        }
        let before = match before {
            Some(Before::Regular { .. }) if !unusable.contains(&place.as_path()) => continue,
            Some(before) => before,
            None => continue,
        };
        let (private, public) = if dry_run { (Vec::new(), Vec::new()) } else { generate(kind, bits)? };
        let mut public_name = place.clone().into_os_string();
        public_name.push(".pub");
        let public_path = PathBuf::from(public_name);
        let public_before = existing(view, &public_path);
        let why = "no usable host key of this kind";
        let write = |path: &Path, before: Before, content: Vec<u8>, mode: u32, gid: u32| Action {
            path: path.to_path_buf(),
            change: Change::WriteFile { before, content, mode, uid: 0, gid, xattrs: Vec::new() },
            why: why.into(),
        };
        actions.push(write(&place, before, private, mode.mode, mode.gid));
        if let Some(before) = public_before {
            actions.push(write(&public_path, before, public, 0o644, 0));
        }
    }
    Ok(actions)
}

fn place(view: &dyn View, path: &Path) -> Option<PathBuf> {
    let directory = follow(view, path.parent()?).ok().filter(|found| found.stat.is_dir())?;
    Some(directory.path.join(path.file_name()?))
}

/// What is there, if it may be replaced at all.
fn existing(view: &dyn View, path: &Path) -> Option<Before> {
    match view.lstat(path) {
        Err(LookError::NotFound) => Some(Before::Absent),
        Ok(stat) if stat.is_file() && stat.nlink == 1 => {
            Some(Before::Regular { ino: stat.ino, size: stat.size, mtime: stat.mtime })
        }
        _ => None,
    }
}

/// Of more than this many bits no RSA key is made: it takes minutes, and keys of the other kinds serve as well.
const MOST_BITS: u32 = 8192;
/// What ssh-keygen makes without being told.
const USUAL_BITS: u32 = 3072;

/// `bits`: what RequiredRSASize asks for.
fn generate(kind: &str, bits: u32) -> Result<(Vec<u8>, Vec<u8>)> {
    let scratch = PrivateTmpfs::mount().context("making a place in memory for new host keys")?;
    let file = scratch.path().join("key");
    let mut command = Command::new("ssh-keygen");
    if kind == "rsa" {
        command.args(["-b", &bits.max(USUAL_BITS).to_string()]);
    }
    let output = command
        .args(["-q", "-N", "", "-C", "", "-t", kind, "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let output = output.map_err(|error| {
        Refusal::target(format!("ssh-keygen can't be run: {error}"))
            .hint("Install the package openssh-client on this helper.")
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Refusal::target(format!("ssh-keygen failed for a key of type {kind}: {words}")).into());
    }
    let private = std::fs::read(&file).context("reading the new host key")?;
    let public =
        std::fs::read(file.with_extension("pub")).context("reading the new host key's public half")?;
    scratch.unmount()?;
    Ok((private, public))
}
