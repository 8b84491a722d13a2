//! One question, one answer: would sshd let this user in with these keys?

use super::build::Build;
use crate::accounts::{Group, Passwd, PasswdEntry, Shadow};
use crate::finding::{Finding, Verdict};
use crate::keys::PublicKey;
use crate::view::{Stat, View};
use bstr::BString;
use std::path::PathBuf;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Login name.
    pub user: BString,
    /// The keys that the client would offer, each alone; none: would any key in the files be accepted?
    pub keys: &'a [PublicKey],
    /// Seconds since the epoch, for expiry.
    pub now: i64,
    /// The client's address, where the question names one.
    pub address: Option<std::net::IpAddr>,
    /// The client's host name, where the question names one.
    pub host: Option<BString>,
}

/// What of the volume every question needs, read once.
#[derive(Clone, Debug)]
pub struct System {
    /// The sshd of the volume.
    pub build: Build,
    /// Its configuration.
    pub config: super::config::Config,
    /// /etc/passwd.
    pub passwd: Passwd,
    /// /etc/group.
    pub group: Group,
    /// /etc/shadow.
    pub shadow: Shadow,
}

/// One line of the picture of the path, from `/` down to the key line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathNode {
    /// The canonical path.
    pub path: PathBuf,
    /// The inode, `None` where nothing is there.
    pub stat: Option<Stat>,
    /// Where it points, if it is a link.
    pub link: Option<PathBuf>,
}

/// The answer for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvaluation {
    /// "SHA256:..." as ssh-keygen -l prints it.
    pub fingerprint: String,
    /// "ssh-ed25519".
    pub algorithm: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// The file and line that sshd would accept it by.
    pub found: Option<crate::finding::Location>,
}

/// One file of keys that sshd would open for the user, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The word of AuthorizedKeysFile.
    pub pattern: BString,
    /// The path after tokens, not yet followed.
    pub path: PathBuf,
    /// `true` if the pattern gives other users the same file.
    pub shared: bool,
}

/// One step of the trace: what sshd did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceStep {
    /// What is decided ("StrictModes: owner and mode of /home/admin").
    pub step: String,
    /// What was read, and where.
    pub detail: String,
    /// Did it pass?
    pub passed: bool,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Accept only if every key is accepted.
    pub verdict: Verdict,
    /// What was found, in sshd's order.
    pub findings: Vec<Finding>,
    /// What is missing for a decision, in words; not empty where the verdict is unknown.
    pub unknown: Vec<String>,
    /// Each key that was asked for.
    pub keys: Vec<KeyEvaluation>,
    /// The files of keys.
    pub key_files: Vec<KeyFile>,
    /// The user's entry, where there is one.
    pub user: Option<PasswdEntry>,
    /// What is in force.
    pub effective: super::config::Effective,
    /// The path from `/` to the file of keys, as namei(1) shows it.
    pub path: Vec<PathNode>,
    /// Every step.
    pub trace: Vec<TraceStep>,
}

impl System {
    /// Reads what every question needs.
    #[must_use]
    pub fn read(_view: &dyn View) -> Self {
        unimplemented!()
    }
}

/// Answers one question.
#[must_use]
pub fn evaluate(_view: &dyn View, _system: &System, _question: &Question<'_>) -> Evaluation {
    unimplemented!()
}
