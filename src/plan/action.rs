//! One change, complete enough to check before it, to do it, and to take it back.

use crate::permissions::acl;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The most bytes of a file that is replaced or removed: it is saved for an undo.
pub const REPLACED_LIMIT: u64 = 64 << 20;

/// What is there before a file is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Before {
    /// Nothing.
    Absent,
    /// A regular file of this size and modification time (seconds), to be replaced.
    Regular {
        /// Inode number.
        ino: u64,
        /// Bytes.
        size: u64,
        /// Seconds since the epoch.
        mtime: i64,
    },
    /// A symbolic link that dangles or loops, to be replaced.
    Link {
        /// Its target.
        target: PathBuf,
    },
}

impl Before {
    /// In words fit for a report.
    fn words(&self) -> String {
        match self {
            Self::Absent => "absent".into(),
            Self::Regular { size, .. } => format!("{size} bytes"),
            Self::Link { target } => format!("link to {}", target.display()),
        }
    }
}

/// Whose entries of a tree change hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "policy")]
pub enum TreeOwners {
    /// Entries of these uids; the group follows where the owner does. Everything else is kept and counted.
    Of {
        /// User ids whose entries are taken.
        uids: Vec<u32>,
    },
    /// Literally everything, owner and group, as `chown -R user:group`.
    All,
}

/// What is done to `Action::path`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// chmod: the low twelve bits.
    SetMode {
        /// Bits before.
        from: u32,
        /// Bits after.
        to: u32,
    },
    /// chown, never through a link; set-id bits and capabilities stay.
    SetOwner {
        /// uid and gid before.
        from: (u32, u32),
        /// uid and gid after.
        to: (u32, u32),
    },
    /// An extended attribute (an ACL, a label); `None` is absence.
    SetXattr {
        /// Full name, "security.selinux".
        name: String,
        /// Value before.
        from: Option<Vec<u8>>,
        /// Value after.
        to: Option<Vec<u8>>,
    },
    /// mkdir; the parent exists by then.
    CreateDirectory {
        /// Bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Attributes set before it is seen.
        xattrs: Vec<(String, Vec<u8>)>,
    },
    /// symlink (from /etc/skel).
    CreateLink {
        /// Where it points.
        target: PathBuf,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// unlink of a symbolic link: one that dangles or loops, to make room for what belongs there, or one that keeps the
    /// user out.
    RemoveLink {
        /// Where it points.
        target: PathBuf,
    },
    /// unlink of a regular file whose presence keeps the user out; its content is saved.
    RemoveFile {
        /// What is there before.
        before: Before,
    },
    /// A regular file, made or atomically replaced. A replaced file's other xattrs, ACL and flags are kept.
    WriteFile {
        /// What is there before.
        before: Before,
        /// The whole new content.
        content: Vec<u8>,
        /// Bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Attributes set before it is seen, over those kept.
        xattrs: Vec<(String, Vec<u8>)>,
    },
    /// chown of everything below `path`, itself left out; DESIGN's policies.
    ChownTree {
        /// New owner.
        uid: u32,
        /// New group.
        gid: u32,
        /// Whose entries.
        owners: TreeOwners,
    },
}

impl Change {
    /// The stable word for reports and the journal.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::SetMode { .. } => "set-mode",
            Self::SetOwner { .. } => "set-owner",
            Self::SetXattr { .. } => "set-xattr",
            Self::CreateDirectory { .. } => "create-directory",
            Self::CreateLink { .. } => "create-link",
            Self::RemoveLink { .. } => "remove-link",
            Self::RemoveFile { .. } => "remove-file",
            Self::WriteFile { before: Before::Absent, .. } => "create-file",
            Self::WriteFile { .. } => "replace-file",
            Self::ChownTree { .. } => "chown-tree",
        }
    }

    /// What is there before and after, in words fit for a report: never any content.
    #[must_use]
    pub fn from_to(&self) -> (String, String) {
        let ids = |(uid, gid): (u32, u32)| format!("{uid}:{gid}");
        match self {
            Self::SetMode { from, to } => (format!("{from:04o}"), format!("{to:04o}")),
            Self::SetOwner { from, to } => (ids(*from), ids(*to)),
            Self::SetXattr { name, from, to } => {
                let words = |value: &Option<Vec<u8>>| match value {
                    None => format!("no {name}"),
                    Some(value) if name == "security.selinux" => {
                        String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
                    }
                    Some(value) if name == acl::ACCESS || name == acl::DEFAULT => acl::Acl::parse(value)
                        .map_or_else(|| format!("an unreadable {name}"), |list| list.words()),
                    Some(value) => format!("{name} of {} bytes", value.len()),
                };
                (words(from), words(to))
            }
            Self::CreateDirectory { mode, uid, gid, .. } => {
                ("absent".into(), format!("{mode:04o} {uid}:{gid}"))
            }
            Self::CreateLink { target, uid, gid } => {
                ("absent".into(), format!("link to {} {uid}:{gid}", target.display()))
            }
            Self::RemoveLink { target } => (format!("link to {}", target.display()), "absent".into()),
            Self::RemoveFile { before } => (before.words(), "absent".into()),
            Self::WriteFile { before, content, mode, uid, gid, .. } => {
                (before.words(), format!("{} bytes {mode:04o} {uid}:{gid}", content.len()))
            }
            Self::ChownTree { uid, gid, owners } => {
                let from = match owners {
                    TreeOwners::All => "any owner".into(),
                    TreeOwners::Of { uids } => {
                        format!("owner {}", uids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
                    }
                };
                (from, format!("{uid}:{gid}"))
            }
        }
    }
}

impl std::fmt::Debug for Change {
    /// As [`Change::from_to`]: content may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = self.from_to();
        write!(f, "{}({from} -> {to})", self.word())
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Canonical path in the volume; the last component is never followed.
    pub path: PathBuf,
    /// What is done to it.
    pub change: Change,
    /// Why, in words for the report.
    pub why: String,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not done: `--dry-run`, or not yet.
    Planned,
    /// Done.
    Changed,
    /// It already was so.
    Unchanged,
    /// Not done, for a reason.
    Skipped(String),
    /// Tried in vain.
    Failed(String),
}

/// An action and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The action.
    pub action: Action,
    /// What became of it.
    pub outcome: Outcome,
    /// For a tree: how many entries changed.
    pub entries: Option<u64>,
}
