//! The program under test, run as a user runs it.

use super::Scratch;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The binary that cargo built, or another one: `VOLRESCUE_PROGRAM`, for instance the static release build.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("VOLRESCUE_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_volrescue").into(), PathBuf::from)
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit status; -1 when a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    words: String,
}

/// Runs volrescue with these arguments and no terminal.
pub(crate) fn volrescue<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Run> {
    volrescue_under(&[], arguments)
}

/// The same, run by another program.
pub(crate) fn volrescue_under<S: AsRef<OsStr>>(wrapper: &[&str], arguments: &[S]) -> Result<Run> {
    let words = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = Command::new("timeout")
        .args(["--signal", "KILL", "120"])
        .args(wrapper)
        .arg(program())
        .args(arguments)
        .env_remove("VOLRESCUE_STATE_DIR")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .context("running volrescue")?;
    Ok(Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        words,
    })
}

/// Runs a whole command line with this on its standard input.
pub(crate) fn run_with_input<S: AsRef<OsStr>>(words: &[S], input: &str) -> Result<Run> {
    let mut child = Command::new("timeout")
        .args(["--foreground", "--signal", "KILL", "120"])
        .args(words)
        .env_remove("VOLRESCUE_STATE_DIR")
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running timeout")?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, input.as_bytes()).context("writing its standard input")?;
    }
    let output = child.wait_with_output()?;
    Ok(Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        words: words.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" "),
    })
}

impl Run {
    /// Everything, for a failure's message.
    pub(crate) fn transcript(&self) -> String {
        format!(
            "$ volrescue {}\n[{}]\n{}\n{}",
            self.words,
            self.code,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }

    /// Standard error on one line: where it is wrapped depends on the lengths of paths.
    pub(crate) fn said(&self) -> String {
        self.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Fails unless it ended with one of these codes.
    pub(crate) fn expect(self, codes: &[i32]) -> Result<Self> {
        ensure!(codes.contains(&self.code), "exit status not in {codes:?}\n{}", self.transcript());
        Ok(self)
    }

    /// The one JSON document.
    pub(crate) fn json(&self) -> Result<Document> {
        let value: Value = serde_json::from_str(&self.stdout)
            .with_context(|| format!("standard output is not one JSON document\n{}", self.transcript()))?;
        ensure!(value["schema"] == 1, "schema is not 1\n{}", self.transcript());
        Ok(Document { value, transcript: self.transcript() })
    }
}

/// A report in schema 1, with the first user's part at hand.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    transcript: String,
}

impl Document {
    /// The first user's verdict.
    pub(crate) fn verdict(&self) -> Result<&str> {
        self.value["users"][0]["verdict"].as_str().with_context(|| format!("no verdict\n{}", self.transcript))
    }

    /// The first user's findings of this severity.
    pub(crate) fn checks(&self, severity: &str) -> BTreeSet<&str> {
        self.value["users"][0]["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|finding| finding["severity"] == severity)
            .filter_map(|finding| finding["check"].as_str())
            .collect()
    }

    /// All findings of the first user.
    pub(crate) fn all_checks(&self) -> BTreeSet<&str> {
        let mut checks = self.checks("blocks");
        checks.extend(self.checks("advises"));
        checks
    }

    /// (word, path) of the actions with this outcome.
    pub(crate) fn actions(&self, outcome: &str) -> Vec<(&str, &Path)> {
        self.value["actions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|action| action["outcome"] == outcome)
            .filter_map(|action| Some((action["action"].as_str()?, Path::new(action["path"].as_str()?))))
            .collect()
    }

    /// The run's id.
    pub(crate) fn run(&self) -> Result<&str> {
        self.value["run"].as_str().with_context(|| format!("no run id\n{}", self.transcript))
    }

    /// A verdict `refuse` names what blocks; `accept` names nothing that does.
    pub(crate) fn ensure_consistent(&self) -> Result<()> {
        let blocks = self.checks("blocks");
        match (self.verdict()?, blocks.is_empty()) {
            ("refuse", true) => bail!("refuse without a finding that blocks\n{}", self.transcript),
            ("accept", false) => bail!("accept, but {blocks:?} blocks\n{}", self.transcript),
            _ => Ok(()),
        }
    }

    /// Everything, for a failure's message.
    pub(crate) fn transcript(&self) -> &str {
        &self.transcript
    }
}

/// `diagnose --json` of one user with the build's key, for the judge's client.
pub(crate) fn diagnose(target: &Path, user: &str) -> Result<Document> {
    let key = super::public_key()?;
    let document = volrescue(&[
        "diagnose".as_ref(),
        "--json".as_ref(),
        "--from".as_ref(),
        "127.0.0.1,localhost".as_ref(),
        "--user".as_ref(),
        user.as_ref(),
        "--key".as_ref(),
        key.as_os_str(),
        target.as_os_str(),
    ])?
    .expect(&[0, 1])?
    .json()?;
    document.ensure_consistent()?;
    Ok(document)
}

/// `repair --yes --json` of the default user with the build's key, journaled in `scratch`.
pub(crate) fn repair(target: &Path, scratch: &Scratch, options: &[&str]) -> Result<Run> {
    let key = super::public_key()?;
    let state = scratch.join("state");
    let mut arguments: Vec<&OsStr> =
        ["repair", "--yes", "--json", "--user", super::USER, "--key"].map(OsStr::new).to_vec();
    arguments.push(key.as_os_str());
    arguments.push(OsStr::new("--state-dir"));
    arguments.push(state.as_os_str());
    arguments.extend(options.iter().map(OsStr::new));
    arguments.push(target.as_os_str());
    volrescue(&arguments)
}
