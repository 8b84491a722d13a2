//! The keys of the command line: read from files of the helper before any volume is touched.

#![expect(clippy::disallowed_methods, reason = "these are files of the helper that the operator named")]

use crate::error::Refusal;
use crate::keys::{KeyForm, PrivateKeyText, PublicKey, read_key};
use crate::plan::{Action, Change};
use anyhow::{Context, Result};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// No key file is larger: 1 MiB.
const KEY_FILE_LIMIT: u64 = 1 << 20;

/// What the files of `--key` hold.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// The keys, each once.
    pub(super) keys: Vec<PublicKey>,
    /// Where options stood before a key, which are not taken: in words.
    pub(super) dropped: Vec<String>,
}

/// Reads all keys of `--key`.
///
/// # Errors
/// A usage error that names the file, what it is instead, and what to give.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Given, Refusal> {
    let mut given = Given::default();
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(Refusal::usage("--key - is given twice, and standard input is read once")
            .hint("Give all the keys there, a line each, and --key - once."));
    }
    for file in files {
        for key in read_one(file, &mut given.dropped)? {
            if !given.keys.iter().any(|known| known.same_key(&key)) {
                given.keys.push(key);
            }
        }
    }
    Ok(given)
}

fn read_one(file: &Path, dropped: &mut Vec<String>) -> Result<Vec<PublicKey>, Refusal> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let content = read_bounded(file).map_err(|error| {
        Refusal::usage(format!("{name}: the key file can't be read: {error:#}"))
            .hint("Give the path of a public key file, or - for standard input.")
    })?;
    match read_key(&content) {
        Ok(KeyForm::Public(keys)) => {
            dropped.extend(crate::keys::options_in(&content).iter().map(|options| {
                format!(
                    "{name}: the options before the key are not taken, so that it is not bound by them here: {options}"
                )
            }));
            Ok(keys)
        }
        Ok(KeyForm::NeedsSshKeygen) => {
            let line = public_half(&content).map_err(|error| {
                Refusal::usage(format!(
                    "{name}: the public half of this private key can't be read: {error:#}"
                ))
                .hint("Give the public key itself (the .pub file, or the output of ssh-keygen -y).")
            })?;
            match read_key(&line) {
                Ok(KeyForm::Public(keys)) => Ok(keys),
                _ => Err(Refusal::usage(format!("{name}: ssh-keygen gave no public key"))),
            }
        }
        Err(words) => Err(Refusal::usage(format!("{name}: {words}"))),
    }
}

fn read_bounded(file: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(KEY_FILE_LIMIT + 1).read_to_end(&mut content)?;
    } else {
        // Not blocking, so that a FIFO or a terminal device can't hold us.
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(file)?;
        anyhow::ensure!(!file.metadata()?.is_dir(), "it is a directory");
        file.take(KEY_FILE_LIMIT + 1).read_to_end(&mut content)?;
    }
    anyhow::ensure!(content.len() as u64 <= KEY_FILE_LIMIT, "it is larger than 1 MiB");
    Ok(content)
}

/// A private key that the operator gave to log in with.
pub(super) struct PrivateKey {
    /// As it stands in its file.
    pub(super) text: String,
    /// Its public half.
    pub(super) public: PublicKey,
}

/// Reads a private key that ssh can use without asking for anything.
///
/// # Errors
/// A usage error that says what the file is instead.
pub(super) fn read_private(file: &Path) -> Result<PrivateKey, Refusal> {
    let name = file.display();
    let content = read_bounded(file)
        .map_err(|error| Refusal::usage(format!("{name}: the key file can't be read: {error:#}")))?;
    let text = String::from_utf8_lossy(&content).into_owned();
    let other =
        "Give a private key of OpenSSH's or PEM form, or leave --key out: a key is then made for this login.";
    if text.starts_with("PuTTY-User-Key-File") {
        return Err(Refusal::usage(format!("{name}: ssh can't use a key of PuTTY's form"))
            .hint("Convert a copy: puttygen FILE -O private-openssh -o COPY"));
    }
    if !text.contains("PRIVATE KEY-----") {
        return Err(
            Refusal::usage(format!("{name}: it is no private key, and only one can log in")).hint(other)
        );
    }
    if text.contains("ENCRYPTED") || crate::keys::is_encrypted(&text) {
        return Err(Refusal::usage(format!(
            "{name}: it is encrypted, and nobody is asked for the passphrase"
        ))
        .hint("Take the passphrase off a copy (ssh-keygen -p -N '' -f COPY), or leave --key out."));
    }
    let public = match read_key(&content) {
        Ok(KeyForm::Public(mut keys)) if keys.len() == 1 => keys.pop(),
        Ok(KeyForm::NeedsSshKeygen) => public_half(&content).ok().and_then(|line| match read_key(&line) {
            Ok(KeyForm::Public(mut keys)) => keys.pop(),
            _ => None,
        }),
        _ => None,
    };
    let Some(public) = public else {
        return Err(Refusal::usage(format!("{name}: the private key can't be read")).hint(other));
    };
    Ok(PrivateKey { text, public })
}

/// Asks the helper's ssh-keygen for the public half of a PEM key, which goes through a pipe and never to a file.
fn public_half(private: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ssh-keygen of this helper (package openssh-client)")?;
    if let Some(mut stdin) = child.stdin.take() {
        // ssh-keygen may have seen enough before the end.
        let _ = stdin.write_all(private);
    }
    let output = child.wait_with_output().context("waiting for ssh-keygen")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().last().unwrap_or("it gave no reason");
        let encrypted = words.contains("passphrase");
        anyhow::bail!("{}", if encrypted { "it is encrypted with a passphrase" } else { last });
    }
    Ok(output.stdout)
}

/// A pair for `--generate-key`: made before the plan, written when the plan is agreed to.
pub(super) struct Pair {
    /// What goes into the volume.
    pub(super) public: PublicKey,
    private: PrivateKeyText,
    file: PathBuf,
}

/// Makes a pair in memory.
///
/// # Errors
/// A usage error if FILE exists: a file is never overwritten.
pub(super) fn make_pair(file: &Path, comment: &str) -> Result<Pair, Refusal> {
    if file.as_os_str() == "-" {
        return Err(Refusal::usage("--generate-key - would make a file of that name")
            .hint("Give the path of a file that does not exist yet."));
    }
    if std::fs::symlink_metadata(file).is_ok() {
        return Err(exists(file));
    }
    let (private, public) = crate::keys::generate_ed25519(comment)
        .map_err(|error| Refusal::failed(format!("making an Ed25519 key failed: {error}")))?;
    Ok(Pair { public, private, file: file.to_path_buf() })
}

impl Pair {
    /// Where the private half goes.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Does this action put the public half into a file?
    pub(super) fn is_in(&self, action: &Action) -> bool {
        let line = self.public.to_line();
        match &action.change {
            Change::WriteFile { content, .. } => content.windows(line.len()).any(|window| window == line),
            _ => false,
        }
    }

    /// Takes the private half away again.
    pub(super) fn withdraw(&self) {
        // It was made by this run a moment ago; what is there if that fails is of no harm.
        let _ = std::fs::remove_file(&self.file);
    }

    /// Writes the private half, 0600, where nothing is yet.
    ///
    /// # Errors
    /// A usage error if FILE exists or cannot be made.
    pub(super) fn write(&self) -> Result<(), Refusal> {
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        let written = created.and_then(|mut out| {
            out.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            self.private.write(|text| out.write_all(text))?;
            out.sync_all()
        });
        if written.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::AlreadyExists) {
            // Half a key is no key, and would be in the way of the next try.
            let _ = std::fs::remove_file(&self.file);
        }
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&self.file),
            _ => {
                Refusal::usage(format!("{}: the private key can't be written: {error}", self.file.display()))
                    .hint("Give a path in a directory of this helper that can be written.")
            }
        })
    }
}

fn exists(file: &Path) -> Refusal {
    Refusal::usage(format!("{}: the file exists and is not overwritten", file.display()))
        .hint("Give another name, or --key with the public half of that key.")
}
