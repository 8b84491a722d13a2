//! What may be seen of a volume, without saying how it is read.
//!
//! The pure floor asks its questions of a [`View`]: the [`crate::inventory::Inventory`] answers them from a mounted
//! volume, [`crate::plan::Overlay`] answers them as they would be after a plan, and tests answer from memory.
//! Paths are absolute in the volume, and a `View` never follows a symbolic link: [`walk()`] does, inside the volume,
//! and remembers what it passed.

use crate::selinux::Policy;
use crate::sshd::build::Build;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[cfg(test)]
pub(crate) mod memory;
mod walk;

pub use walk::{MAX_LINKS, Walk, WalkStep, walk, walk_no_follow};

/// What an inode is (inode(7), `S_IFMT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of inode(7)")]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl FileKind {
    /// The words people use for it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
        }
    }

    /// The first letter of a line of `ls -l`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Regular => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::Fifo => 'p',
            Self::Socket => 's',
            Self::CharDevice => 'c',
            Self::BlockDevice => 'b',
        }
    }
}

/// The facts of one inode that a verdict can hang on (stat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: `st_mode & 07777`.
    pub mode: u32,
    /// Owner, as a number of the volume.
    pub uid: u32,
    /// Group, as a number of the volume.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u64,
    /// Size in bytes.
    pub size: u64,
    /// Device and inode number: the identity of the file while the volume is mounted.
    pub dev: u64,
    /// See `dev`.
    pub ino: u64,
    /// Last modification, seconds since the epoch.
    pub mtime: i64,
}

impl Stat {
    /// `true` for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// `true` for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::Regular
    }

    /// "0755 1000:1000", the form of the `is` and `wants` fields of a finding.
    #[must_use]
    pub fn mode_owner(&self) -> String {
        format!("{:04o} {}:{}", self.mode, self.uid, self.gid)
    }
}

/// Why something could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookError {
    /// No such file or directory (ENOENT).
    NotFound,
    /// A component that should be a directory is something else (ENOTDIR).
    NotDirectory,
    /// Too many symbolic links (ELOOP).
    Loop,
    /// A name or path is too long (ENAMETOOLONG).
    NameTooLong,
    /// Not of the kind that was asked for; nothing was opened.
    Kind(FileKind),
    /// Larger than the caller is prepared to read.
    TooLarge {
        /// Size in bytes, as the inode says.
        size: u64,
        /// The bound, in bytes.
        limit: u64,
    },
    /// A text of more lines than this.
    TooManyLines(usize),
    /// Lies on another filesystem than the one that is being looked at.
    OtherFilesystem,
    /// Its ACL is not one that the kernel understands (EINVAL): neither read nor asked, nor may the mode be set.
    MalformedAcl,
    /// Any other error number (errno(3)).
    Errno(i32),
}

impl std::fmt::Display for LookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such file or directory"),
            Self::NotDirectory => f.write_str("a component of the path is not a directory"),
            Self::Loop => f.write_str("too many levels of symbolic links"),
            Self::NameTooLong => f.write_str("the name is too long"),
            Self::Kind(kind) => write!(f, "it is {}", kind.words()),
            Self::TooLarge { size, limit } => {
                write!(f, "it has {size} bytes, more than the {limit} that are read")
            }
            Self::TooManyLines(limit) => write!(f, "it has more than {limit} lines"),
            Self::OtherFilesystem => f.write_str("it lies on another filesystem"),
            Self::MalformedAcl => f.write_str("its ACL is malformed (setfacl -b takes it away)"),
            Self::Errno(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl std::error::Error for LookError {}

/// A volume as it can be looked at.
///
/// Every path is absolute, normal (no `.`, `..`, doubled or trailing slash) and free of symbolic links in all
/// components but the last; the last is never followed either. An answer does not change during the life of a view.
pub trait View {
    /// The inode itself, as lstat(2).
    ///
    /// # Errors
    /// [`LookError`], as the kernel would answer.
    fn lstat(&self, path: &Path) -> Result<Stat, LookError>;

    /// The target of a symbolic link, as it is written there.
    ///
    /// # Errors
    /// [`LookError::Kind`] if it is no link.
    fn read_link(&self, path: &Path) -> Result<PathBuf, LookError>;

    /// The whole content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`LookError::Kind`] for anything but a regular file, [`LookError::TooLarge`] above the limit.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError>;

    /// The names in a directory, sorted bytewise, without `.` and `..`.
    ///
    /// # Errors
    /// [`LookError::Kind`] if it is no directory, [`LookError::TooLarge`] above [`LIST_LIMIT`] names.
    fn list(&self, path: &Path) -> Result<Vec<OsString>, LookError>;

    /// An extended attribute, `None` where the inode has none of that name.
    ///
    /// # Errors
    /// [`LookError`], as the kernel would answer.
    fn xattr(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, LookError>;

    /// The flags of chattr(1) of a regular file or a directory; 0 where there are none.
    ///
    /// # Errors
    /// [`LookError`], as the kernel would answer.
    fn flags(&self, _path: &Path) -> Result<u32, LookError> {
        Ok(0)
    }

    /// The SELinux policy of the volume, read once in the life of a view.
    fn selinux(&self) -> Rc<Policy>;

    /// The volume's sshd, as [`Build::detect`] finds it; the databases of packages are read once in the life of a view.
    fn sshd(&self) -> Build;
}

/// `FS_IMMUTABLE_FL` (linux/fs.h): nothing about the inode may change.
pub const IMMUTABLE: u32 = 0x10;
/// `FS_APPEND_FL`: it may only grow.
pub const APPEND_ONLY: u32 = 0x20;

/// The most names of one directory that [`View::list`] gives.
pub const LIST_LIMIT: usize = 100_000;

/// The most bytes of a configuration or account file that are read: 16 MiB.
pub const TEXT_LIMIT: u64 = 16 << 20;

/// The most bytes and lines of a file of accounts (passwd, group, shadow): what is made of a line takes many times its
/// size in memory.
pub const ACCOUNTS_LIMIT: u64 = 8 << 20;
const ACCOUNTS_LINES: usize = 100_000;

/// What following a path led to: the canonical path and its inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path without links, dots or doubled slashes.
    pub path: PathBuf,
    /// The inode there.
    pub stat: Stat,
}

/// Follows `path` inside the volume, as stat(2) of root would.
///
/// # Errors
/// [`LookError`], as the kernel would answer.
pub fn follow(view: &dyn View, path: &Path) -> Result<Found, LookError> {
    let walk = walk(view, path);
    walk.end
}

/// Follows `path` and reads the file of accounts there, as root would.
///
/// # Errors
/// As [`read_following`], and for more lines than are taken.
pub fn read_accounts(view: &dyn View, path: &Path) -> Result<Vec<u8>, LookError> {
    read_accounts_at(view, &follow(view, path)?.path)
}

/// As [`read_accounts`], of a canonical path.
///
/// # Errors
/// [`LookError`].
pub fn read_accounts_at(view: &dyn View, path: &Path) -> Result<Vec<u8>, LookError> {
    let text = view.read(path, ACCOUNTS_LIMIT)?;
    if text.iter().filter(|byte| **byte == b'\n').count() > ACCOUNTS_LINES {
        return Err(LookError::TooManyLines(ACCOUNTS_LINES));
    }
    Ok(text)
}

/// Follows `path` and reads the regular file there, as root would.
///
/// # Errors
/// [`LookError`], as the kernel would answer, and for what is too large or no regular file.
pub fn read_following(view: &dyn View, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
    let found = follow(view, path)?;
    view.read(&found.path, limit)
}
