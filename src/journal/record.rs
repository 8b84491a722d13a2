//! The records of a journal.

use crate::root::{Attributes, Time, Xattrs};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// The first.
    Begin(Box<Begin>),
    /// Something is about to change.
    Intent(Box<Intent>),
    /// Owners in a tree are about to change.
    Tree(Batch),
    /// An intent was carried out.
    Done {
        /// The number of the intent's line.
        of: u64,
        /// How many things changed.
        changes: u64,
    },
    /// An intent failed, perhaps half-way.
    Failed {
        /// The number of the intent's line.
        of: u64,
        /// How many things changed all the same.
        changes: u64,
        /// The cause.
        why: String,
    },
    /// The last of the run itself.
    End {
        /// How it ended.
        ending: Ending,
        /// How many things changed.
        changes: u64,
    },
    /// What a run that stopped at an error left half-way was put in order.
    Settled {},
    /// The run was undone.
    Undone {
        /// By this run.
        by: String,
    },
}

/// What the run is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Version of the form of this file.
    pub schema: u32,
    /// The run's id.
    pub run: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since the epoch.
    pub started: i64,
    /// Nanoseconds beyond them: they order the runs of one second.
    #[serde(default)]
    pub started_nanoseconds: u32,
    /// Process on the helper.
    pub pid: u32,
    /// "repair" or "undo".
    pub command: String,
    /// The target as it was given.
    pub target: String,
    /// What it is: "block", "image", "directory" or "live".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The device or image behind it, canonical.
    pub device: Option<String>,
    /// What tells it from others with the same UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Kind of the root filesystem.
    pub filesystem: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Number of the partition it lies on.
    pub partition: Option<u32>,
    /// The subvolume that is the root.
    pub subvolume: Option<String>,
    /// The other filesystems of the tree, which changed paths may lie on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<crate::volume::Branch>,
    /// The login users.
    pub users: Vec<String>,
    /// The run that this one undoes.
    pub undoes: Option<String>,
    /// Name of the lock that was held.
    pub lock: String,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All that was to be done was tried.
    Complete,
    /// Stopped by an error.
    Failed,
    /// Stopped by a signal, or killed and settled later.
    Interrupted,
}

/// What is about to be done, and how it is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Canonical path in the volume.
    pub path: Text,
    /// The action's name.
    pub action: String,
    /// What is there before, for people.
    pub from: String,
    /// What is to be there, for people.
    pub to: String,
    /// How it is taken back.
    pub undo: Inverse,
    /// The directory whose names change.
    pub parent: Option<ParentBefore>,
}

/// How something is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Inverse {
    /// Bits, owner or an attribute of what stays the same inode.
    Attributes {
        /// All of it, before.
        before: State,
        /// What changes.
        after: Changed,
    },
    /// Something new.
    Created {
        /// The name it has until it is complete.
        temp: Text,
        /// What it will be.
        after: Made,
    },
    /// A regular file or a link that gives way to a new file.
    Replaced {
        /// Attributes of what was there.
        before: State,
        /// Where its content is, if it was a file.
        saved: Option<Saved>,
        /// Its target, if it was a link.
        target: Option<Text>,
        /// The name that the new file has until it is complete.
        temp: Text,
        /// What will be there.
        after: Made,
    },
    /// A regular file or a link that goes away.
    Removed {
        /// Its attributes.
        before: State,
        /// Where its content is, if it was a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<Saved>,
        /// Its target, if it was a link.
        target: Option<Text>,
        /// The name that it has on its way back.
        temp: Text,
    },
    /// The owners in a tree; the batches that follow have the old ones.
    Tree {
        /// New owner.
        uid: u32,
        /// New group.
        gid: u32,
    },
}

/// The attributes of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Flags of chattr(1).
    pub flags: u32,
    /// All extended attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(Text, Hex)>,
}

impl State {
    /// What was seen, as it is recorded.
    #[must_use]
    pub fn new(attributes: &Attributes, flags: u32, xattrs: &Xattrs) -> Self {
        Self {
            mode: attributes.stat.mode,
            uid: attributes.stat.uid,
            gid: attributes.stat.gid,
            atime: attributes.atime,
            mtime: attributes.mtime,
            flags,
            xattrs: xattrs
                .iter()
                .map(|(name, value)| (Text::from(name.as_os_str()), Hex(value.clone())))
                .collect(),
        }
    }

    /// The extended attributes in the form of Root.
    #[must_use]
    pub fn xattrs(&self) -> Xattrs {
        self.xattrs.iter().map(|(name, value)| (name.to_os_string(), value.0.clone())).collect()
    }

    /// One extended attribute.
    #[must_use]
    pub fn xattr(&self, name: &str) -> Option<&[u8]> {
        self.xattrs.iter().find(|(other, _)| other.0 == name.as_bytes()).map(|(_, value)| value.0.as_slice())
    }
}

/// What changes of an inode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// New bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// New owner and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
    /// New value of an extended attribute, or its absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xattr: Option<(String, Option<Hex>)>,
}

/// What a run makes, well enough to know it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Permission bits; a link has none.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size and checksum of a regular file.
    pub content: Option<(u64, String)>,
    /// Target of a link. Neither content nor target: a directory.
    pub target: Option<Text>,
}

/// The time stamps and flags of a directory whose names change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentBefore {
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Flags of chattr(1).
    pub flags: u32,
}

/// Old content, kept beside the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Name in the directory `saved`.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// Old owners of entries of a tree: the directories in the order of the walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The number of the intent's line.
    pub of: u64,
    /// New owner and group.
    pub to: (u32, u32),
    /// Directories.
    pub dirs: Vec<BatchDir>,
}

impl Batch {
    /// The directories by their whole paths.
    pub fn directories(&self) -> impl Iterator<Item = (PathBuf, &BatchDir)> {
        self.dirs.iter().scan(PathBuf::new(), |path, dir| {
            for _ in 0..dir.up {
                path.pop();
            }
            path.push(dir.path.to_path());
            Some((path.clone(), dir))
        })
    }
}

/// Entries of one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchDir {
    /// How many components of the last directory's path go away before `path` is added; the first path is absolute.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub up: u32,
    /// See `up`.
    pub path: Text,
    /// Entries that have the same before.
    pub groups: Vec<Group>,
}

/// Entries with the same old owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Owner and group before.
    pub from: (u32, u32),
    /// Permission bits, where chown takes some of them away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// `security.capability`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<Hex>,
    /// Flags of chattr(1), where they are lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// Their names.
    pub names: Vec<Text>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Bytes of a path or name, as text: what is no UTF-8 stands as `\xff`, a backslash as `\\`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// As a path.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        PathBuf::from(self.to_os_string())
    }

    /// As a name.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        OsString::from_vec(self.0.clone())
    }
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&Path> for Text {
    fn from(path: &Path) -> Self {
        path.as_os_str().into()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let mut parts = chunk.valid().split('\\');
            f.write_str(parts.next().unwrap_or_default())?;
            for part in parts {
                write!(f, "\\\\{part}")?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains('\\') => serializer.serialize_str(text),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unescape(&text).map(Self).ok_or_else(|| D::Error::custom("a name with a broken escape"))
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    while let Some(part) = parts.next() {
        if let Some(digits) = part.strip_prefix('x') {
            let (digits, rest) = digits.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            bytes.extend_from_slice(rest.as_bytes());
        } else if part.is_empty() {
            bytes.push(b'\\');
            bytes.extend_from_slice(parts.next()?.as_bytes());
        } else {
            return None;
        }
    }
    Some(bytes)
}

/// Bytes in hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hex(pub Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> =
            digits.chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect();
        bytes.map(Self).ok_or_else(|| D::Error::custom("no hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_name_comes_back_from_a_line(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let json = serde_json::to_string(&(Text(name.clone()), Hex(name.clone()))).unwrap();
            let (text, hex): (Text, Hex) = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&text.0, &name);
            prop_assert_eq!(&hex.0, &name);
        }
    }

    #[test]
    fn names_stay_readable() {
        assert_eq!(Text(b"caf\xc3\xa9 \xff\\".to_vec()).to_string(), "caf\u{e9} \\xff\\\\");
    }
}
