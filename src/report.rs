//! The only code that prints: text for people, one JSON document for machines.
//!
//! Everything that comes from the volume is escaped here, and only here, before it reaches a terminal ([`escape`]).

use crate::accounts::{Group, Passwd};
use crate::error::Refusal;
use crate::finding::Verdict;
use crate::plan::{Applied, Outcome};
use crate::prove::Login;
use crate::sshd::Evaluation;
use std::path::PathBuf;

pub mod escape;
pub mod history;
pub mod json;
pub mod log;
pub mod output;
pub mod page;
pub mod progress;
pub mod text;

/// Everything there is to say about one run on one target.
#[derive(Debug, Default)]
pub struct Report {
    /// "diagnose", "repair", "undo".
    pub command: &'static str,
    /// The journal's name for the run; `None` where nothing was journaled.
    pub run: Option<String>,
    /// What the shell of `shell` ended with. It is not the exit status of volrescue, whose numbers mean other things.
    pub shell_status: Option<u8>,
    /// What was opened.
    pub target: Option<TargetSummary>,
    /// The target as it was typed, where it could not be opened.
    pub given: Option<String>,
    /// The filesystem that holds `/`.
    pub root: Option<RootSummary>,
    /// Each user that was asked about.
    pub users: Vec<UserReport>,
    /// Other accounts that would accept every key that was given.
    pub accepted_for: Vec<String>,
    /// The plan, with what became of it.
    pub actions: Vec<Applied>,
    /// What an undo put back.
    pub undone: Vec<UndoneStep>,
    /// The run that was undone.
    pub undoes: Option<String>,
    /// Entries that were not taken.
    pub kept: Vec<KeptSummary>,
    /// Uids that the users once had, as the volume's backups know them: uid, and whose by which file.
    pub former_ids: Vec<(u32, String)>,
    /// Filesystems that their own checker has been over.
    pub checked: Vec<crate::volume::Checked>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
    /// How the volume was let go.
    pub unmount: Unmount,
    /// Why the run ended early.
    pub error: Option<Refusal>,
    /// After `--dry-run`: the verdict that the plan would bring, user by user.
    pub predicted: Vec<Verdict>,
    /// The plan was only shown.
    pub dry_run: bool,
    /// The steps of sshd are asked for.
    pub explain: bool,
    /// Names for ids, from the volume.
    pub names: Names,
    /// The page that was written of this run.
    pub page: Option<PathBuf>,
}

/// What was opened.
#[derive(Clone, Debug)]
pub struct TargetSummary {
    /// As it was typed.
    pub given: String,
    /// "image", "block", "directory", "live".
    pub kind: &'static str,
    /// The device or file behind it.
    pub device: Option<PathBuf>,
    /// Bytes; `None` for a directory.
    pub size: Option<u64>,
    /// The format of an image that is not raw.
    pub format: Option<crate::probe::Format>,
    /// The files below such an image.
    pub backing: Vec<crate::volume::BackingFile>,
}

/// The filesystem that holds `/`.
#[derive(Clone, Debug, Default)]
pub struct RootSummary {
    /// "ext4", "xfs", "btrfs"; what statfs says for a directory.
    pub filesystem: String,
    /// Filesystem id.
    pub uuid: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// Number in the partition table.
    pub partition: Option<u32>,
    /// Logical volume, as "vg/lv".
    pub logical_volume: Option<String>,
    /// btrfs subvolume.
    pub subvolume: Option<String>,
    /// `ID` of os-release.
    pub os_id: Option<String>,
    /// `VERSION_ID`.
    pub os_version: Option<String>,
    /// `PRETTY_NAME`.
    pub os_name: Option<String>,
    /// "9.2p1".
    pub sshd: Option<String>,
    /// "enforcing", "permissive", "disabled".
    pub selinux: &'static str,
    /// "clean", "dirty", "replayed".
    pub journal: &'static str,
    /// The other filesystems of the tree that the login path leads through.
    pub mounts: Vec<crate::volume::Branch>,
}

/// One user.
#[derive(Debug)]
pub struct UserReport {
    /// Login name.
    pub name: String,
    /// How it was chosen, in words.
    pub chosen_by: String,
    /// Before the repair; what diagnose found.
    pub before: Evaluation,
    /// After it; `None` for diagnose.
    pub after: Option<Evaluation>,
    /// The login that was tried; `None` where nothing was to be proved.
    pub proof: Option<Proof>,
}

/// A login through the volume's own sshd.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What came of it.
    pub login: Login,
    /// A key of the user's was used, and none made for this login.
    pub own_key: bool,
}

impl UserReport {
    /// The evaluation that counts: after a repair the one that verified it.
    #[must_use]
    pub fn last(&self) -> &Evaluation {
        self.after.as_ref().unwrap_or(&self.before)
    }

    /// The verdict that counts: a login is stronger than any evaluation.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.proof {
            Some(proof) if proof.login.accepted => Verdict::Accept,
            Some(_) => Verdict::Refuse,
            None => self.last().verdict,
        }
    }
}

/// One thing that an undo put back, or would.
#[derive(Clone, Debug)]
pub struct UndoneStep {
    /// Where.
    pub path: PathBuf,
    /// The action that was taken back.
    pub what: String,
    /// What is there again.
    pub back_to: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Entries of a tree.
    pub entries: Option<u64>,
}

/// Entries of one owner that were left alone.
#[derive(Clone, Debug)]
pub struct KeptSummary {
    /// User id.
    pub owner: u32,
    /// How many entries.
    pub entries: u64,
    /// One of them.
    pub example: PathBuf,
}

/// How the volume was let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unmount {
    /// Unmounted, and it looks clean.
    Clean,
    /// Nothing of ours was mounted.
    #[default]
    NotMounted,
    /// It could not be let go; why.
    Failed(String),
}

impl Unmount {
    /// The word of the JSON contract.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::NotMounted => "not-mounted",
            Self::Failed(_) => "failed",
        }
    }
}

/// The volume's names for its ids.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// /etc/passwd.
    pub passwd: Passwd,
    /// /etc/group.
    pub group: Group,
}

impl Names {
    /// The user's name, or the number.
    #[must_use]
    pub fn user(&self, uid: u32) -> String {
        self.passwd.by_uid(uid).map_or_else(|| uid.to_string(), |entry| entry.name.to_string())
    }

    /// The group's name, or the number.
    #[must_use]
    pub fn group(&self, gid: u32) -> String {
        self.group.by_gid(gid).map_or_else(|| gid.to_string(), |entry| entry.name.to_string())
    }
}
