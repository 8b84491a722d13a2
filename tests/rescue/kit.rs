//! What the trials share: images and trees to break, real sshd as the judge, the program under test, and a way to see
//! every difference.

pub(crate) mod judge;
pub(crate) mod manifest;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod volume;

use crate::Needs;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The login user of the trees.
pub(crate) const USER: &str = "admin";

/// Why trials that need this cannot run here.
pub(crate) fn lacking(needs: Needs) -> Option<String> {
    if needs == Needs::Nothing {
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".into());
    }
    let unshare = Command::new("unshare").args(["--mount", "--propagation", "private", "true"]).output();
    if !unshare.is_ok_and(|output| output.status.success()) {
        return Some("needs mount namespaces".into());
    }
    if needs == Needs::Loop && !Path::new("/dev/loop-control").exists() {
        return Some("needs loop devices".into());
    }
    None
}

/// Whether the kernel has device-mapper. Its node alone says nothing: the tools make it.
pub(crate) fn has_mapper() -> bool {
    fs::File::open("/dev/mapper/control").is_ok()
}

/// The directory of `target` that holds the trees; made by `scripts/prepare --trees` if that has not been run.
pub(crate) fn trees() -> Result<&'static Path> {
    static TREES: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let made = TREES.get_or_init(|| {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(repository);
        let output = Command::new(repository.join("scripts/prepare"))
            .arg("--trees")
            .env("CARGO_TARGET_DIR", target)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("scripts/prepare: {error}"))?;
        if output.status.success() {
            Ok(target.join("trees"))
        } else {
            Err(format!("scripts/prepare --trees failed: {}", String::from_utf8_lossy(&output.stderr)))
        }
    });
    match made {
        Ok(path) => Ok(path),
        Err(message) => bail!("{message}"),
    }
}

/// The key that the healthy trees accept; its public half.
pub(crate) fn public_key() -> Result<PathBuf> {
    Ok(trees()?.join("login_key.pub"))
}

/// A directory of this trial's own, removed with everything in it.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rescue-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("VOLRESCUE_KEEP").is_some() {
            return;
        }
        // What a recipe made immutable must be freed first. What still resists stays below target/tmp.
        if fs::remove_dir_all(&self.path).is_err() {
            let _ = Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(&self.path).output();
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs a shell script in a mount namespace of its own; what it mounts is gone when it ends.
pub(crate) fn script(body: &str, variables: &[(&str, &Path)]) -> Result<String> {
    let output = Command::new("timeout")
        .args([
            "--signal",
            "KILL",
            "300",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            body,
        ])
        .env("PATH", tool_path())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .context("running unshare")?;
    if !output.status.success() {
        bail!("{}: {}\nin the script: {body}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("the script's output")
}

/// The same for what changes the tree at `$ROOT`, with everything else read-only: a link of the tree, absolute as the links
/// of volumes are, would else lead a careless recipe to the machine's own files.
pub(crate) fn script_on_tree(body: &str, variables: &[(&str, &Path)]) -> Result<String> {
    const CONFINE: &str = r#"
        mount --bind "$ROOT" "$ROOT"
        for point in /dev /run /; do mount -o remount,bind,ro "$point" 2>/dev/null || [ "$point" != / ]; done
    "#;
    script(&format!("{CONFINE}\n{body}"), variables)
}

/// PATH with the directories of the administrator's tools.
pub(crate) fn tool_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
