//! The only door to files of the volume: every path is resolved inside it (openat2(2)).
//!
//! A [`Root`] takes canonical paths, as [`crate::view::walk()`] gives them, and follows no symbolic link at all. What
//! it finds is held by file descriptors: a [`Handle`] is one inode, a [`Directory`] is a place where names can be made
//! and taken away. Whatever changes something goes through one of them, so that a path that turns into something else
//! in the meantime is met as an error and never as another file.
//!
//! Nothing that could block or act is opened: of FIFOs, sockets and device nodes only the inode is looked at.

use crate::error::Refusal;
use crate::sys::block::stop_filesystem;
use crate::view::{FileKind, LookError, Stat};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::FileStat;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

mod directory;
pub mod entries;
mod handle;

pub use directory::{Directory, NewFile, Placing, temp_name};
pub use handle::{Handle, Xattrs};

/// How often a lookup is repeated that the kernel asks to repeat (EAGAIN: something was renamed at the same time).
const ATTEMPTS: usize = 128;
/// The longest piece of a path given to the kernel at once; `PATH_MAX` is 4096 with the NUL.
const PIECE: usize = 4000;

/// Whether a lookup may pass from one mounted filesystem to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// Never: the Root is one filesystem.
    Never,
    /// Lookups may, as a login path on a running system leads through mounts. Walks of trees never do.
    LoginPath,
}

/// A time stamp: seconds and nanoseconds since the epoch.
pub type Time = (i64, i64);

/// Everything that stat(2) tells and that undoing may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The facts a verdict can hang on.
    pub stat: Stat,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
}

/// The volume's tree, as seen from a directory that is its `/`.
///
/// Where the tree consists of several filesystems, those below `/` are [grafted](Root::graft): a path is looked up from
/// the directory of the filesystem that it lies on, and no lookup passes from one to another.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    crossing: Crossing,
    stat: Stat,
    grafts: Vec<Graft>,
}

/// Another filesystem of the same tree.
#[derive(Debug)]
struct Graft {
    point: PathBuf,
    dir: OwnedFd,
}

impl Root {
    /// Takes an open directory (`O_PATH` is enough) as `/`.
    ///
    /// # Errors
    /// A [`Refusal`] (3) where the kernel has no openat2 or the descriptor is no directory.
    pub fn new(dir: OwnedFd, crossing: Crossing) -> Result<Self> {
        let stat = attributes(&nix::sys::stat::fstat(&dir).context("looking at the root directory")?).stat;
        if !stat.is_dir() {
            return Err(Refusal::target(format!("the root is {}, not a directory", stat.kind.words())).into());
        }
        let root = Self { dir, crossing, stat, grafts: Vec::new() };
        match root.open_piece(root.dir.as_fd(), b".", OFlag::O_PATH) {
            Ok(_) => Ok(root),
            Err(Errno::ENOSYS) => Err(no_openat2().into()),
            Err(errno) => Err(errno).context("opening the root directory"),
        }
    }

    /// Takes an open directory (`O_PATH` is enough) as what the tree has at the canonical path `point` and below.
    pub fn graft(&mut self, point: PathBuf, dir: OwnedFd) {
        self.grafts.push(Graft { point, dir });
    }

    /// The device number of the root directory.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.stat.dev
    }

    /// Whether lookups may pass mount points.
    #[must_use]
    pub fn crossing(&self) -> Crossing {
        self.crossing
    }

    /// The root directory itself.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Makes everything written so far durable (syncfs(2)).
    ///
    /// # Errors
    /// As the filesystem answers, also for what went wrong while it wrote on its own time.
    pub fn sync(&self) -> Result<()> {
        for point in
            std::iter::once(Path::new("/")).chain(self.grafts.iter().map(|graft| graft.point.as_path()))
        {
            let top = self.directory(point).with_context(|| format!("opening {}", point.display()))?;
            let synced = nix::unistd::syncfs(top.as_fd());
            // The volume is mounted for us alone then. Who asks next is not told of the failure any more.
            if synced == Err(Errno::EIO) && self.crossing == Crossing::Never {
                let _ = stop_filesystem(top.as_fd());
            }
            synced
                .with_context(|| format!("writing {} and what is below it to the disk", point.display()))?;
        }
        Ok(())
    }

    /// The inode itself, as lstat(2).
    ///
    /// # Errors
    /// [`LookError`].
    pub fn lstat(&self, path: &Path) -> Result<Stat, LookError> {
        self.handle(path)?.stat()
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`LookError::Kind`] if it is no link.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf, LookError> {
        self.handle(path)?.read_link()
    }

    /// The whole content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`LookError::Kind`] for anything else, which is not opened; [`LookError::TooLarge`].
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
        self.handle(path)?.read(limit)
    }

    /// The names in a directory, sorted bytewise.
    ///
    /// # Errors
    /// [`LookError::Kind`] if it is no directory; [`LookError::TooLarge`] above `limit` names.
    pub fn list(&self, path: &Path, limit: usize) -> Result<Vec<OsString>, LookError> {
        self.handle(path)?.list(limit)
    }

    /// An extended attribute, `None` if there is none of that name.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn xattr(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, LookError> {
        self.handle(path)?.xattr(name)
    }

    /// The inode at `path`, not opened (`O_PATH`).
    ///
    /// # Errors
    /// [`LookError`].
    pub fn handle(&self, path: &Path) -> Result<Handle, LookError> {
        Ok(Handle::new(self.open(path, OFlag::O_PATH)?))
    }

    /// The directory at `path`.
    ///
    /// # Errors
    /// [`LookError::NotDirectory`], or as the kernel answers.
    pub fn directory(&self, path: &Path) -> Result<Directory, LookError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        match self.open(path, flags | OFlag::O_NOATIME) {
            Err(LookError::Errno(errno)) if errno == Errno::EPERM as i32 => self.open(path, flags),
            opened => opened,
        }
        .map(Directory::new)
    }

    /// The directory at a relative path below an open one.
    ///
    /// # Errors
    /// As [`Root::directory`].
    pub(crate) fn directory_below(&self, dir: &Directory, path: &Path) -> Result<Directory, LookError> {
        let names: Vec<&OsStr> = path.iter().collect();
        if path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(LookError::Errno(Errno::EINVAL as i32));
        }
        self.open_below(dir.as_fd(), &names, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(Directory::new)
    }

    /// The directory that holds `path`, and the name in it.
    ///
    /// # Errors
    /// [`LookError`]; `/` itself has no name: [`LookError::Kind`].
    pub fn parent(&self, path: &Path) -> Result<(Directory, OsString), LookError> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.directory(parent)?, name.to_os_string())),
            _ => Err(LookError::Kind(FileKind::Directory)),
        }
    }

    /// Opens an absolute path of the volume. Longer ones than the kernel takes are opened piece by piece.
    fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, LookError> {
        let names = names(path)?;
        let over = self.grafts.iter().filter(|graft| path.starts_with(&graft.point));
        match over.max_by_key(|graft| graft.point.components().count()) {
            Some(graft) => {
                let above = graft.point.components().count() - 1;
                self.open_below(graft.dir.as_fd(), &names[above..], flags)
            }
            None => self.open_below(self.dir.as_fd(), &names, flags),
        }
    }

    /// Opens names below an open directory, following no link.
    pub(crate) fn open_below(
        &self,
        dir: BorrowedFd<'_>,
        names: &[&OsStr],
        flags: OFlag,
    ) -> Result<OwnedFd, LookError> {
        let mut held: Option<OwnedFd> = None;
        let mut ahead = names;
        loop {
            let mut piece = Vec::new();
            let mut taken = 0;
            for name in ahead {
                if name.len() > 255 {
                    return Err(LookError::NameTooLong);
                }
                if piece.len() + name.len() + 1 > PIECE {
                    break;
                }
                if taken > 0 {
                    piece.push(b'/');
                }
                piece.extend_from_slice(name.as_bytes());
                taken += 1;
            }
            if piece.is_empty() {
                piece.push(b'.');
            }
            ahead = &ahead[taken..];
            let from = held.as_ref().map_or(dir, |fd| fd.as_fd());
            let piece_flags = if ahead.is_empty() { flags } else { OFlag::O_PATH | OFlag::O_DIRECTORY };
            let opened = self.open_piece(from, &piece, piece_flags).map_err(look_error)?;
            if ahead.is_empty() {
                return Ok(opened);
            }
            held = Some(opened);
        }
    }

    fn open_piece(&self, dir: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let mut resolve = ResolveFlag::RESOLVE_IN_ROOT
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_SYMLINKS;
        if self.crossing == Crossing::Never {
            resolve |= ResolveFlag::RESOLVE_NO_XDEV;
        }
        open_resolving(dir, path, flags, resolve)
    }
}

/// Whether this kernel can keep a path inside a volume at all.
///
/// # Errors
/// A [`Refusal`] (3) where it cannot.
pub fn check_kernel() -> Result<(), Refusal> {
    // A container's filter may say EPERM of calls that it does not know; here nothing else could.
    match openat2(nix::fcntl::AT_FDCWD, ".", OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC)) {
        Err(Errno::ENOSYS | Errno::EPERM) => Err(no_openat2()),
        _ => Ok(()),
    }
}

fn no_openat2() -> Refusal {
    Refusal::target("this kernel has no openat2, which keeps every path inside the volume")
        .hint("Use a helper with Linux 5.6 or later; in a container, one whose filter lets openat2 through.")
}

/// One openat2(2), repeated a bounded number of times where the kernel asks for it.
pub(crate) fn open_resolving(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
    for _ in 0..ATTEMPTS {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done,
        }
    }
    Err(Errno::EAGAIN)
}

/// The components of an absolute, normal path.
fn names(path: &Path) -> Result<Vec<&OsStr>, LookError> {
    if !path.is_absolute() {
        return Err(LookError::Errno(Errno::EINVAL as i32));
    }
    path.components()
        .filter_map(|component| match component {
            Component::RootDir | Component::CurDir => None,
            Component::Normal(name) => Some(Ok(name)),
            Component::ParentDir | Component::Prefix(_) => Some(Err(LookError::Errno(Errno::EINVAL as i32))),
        })
        .collect()
}

/// The kernel's answer in the words of a [`crate::view::View`].
pub(crate) fn look_error(errno: Errno) -> LookError {
    match errno {
        Errno::ENOENT => LookError::NotFound,
        Errno::ENOTDIR => LookError::NotDirectory,
        Errno::ELOOP => LookError::Loop,
        Errno::ENAMETOOLONG => LookError::NameTooLong,
        Errno::EXDEV => LookError::OtherFilesystem,
        other => LookError::Errno(other as i32),
    }
}

/// As [`look_error`], for what the standard library says.
pub(crate) fn look_io_error(error: &std::io::Error) -> LookError {
    look_error(Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32)))
}

/// The kind of an inode by its `st_mode`.
#[must_use]
pub(crate) fn kind(mode: u32) -> FileKind {
    match mode & 0o170_000 {
        0o040_000 => FileKind::Directory,
        0o120_000 => FileKind::Symlink,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        0o020_000 => FileKind::CharDevice,
        0o060_000 => FileKind::BlockDevice,
        _ => FileKind::Regular,
    }
}

pub(crate) fn attributes(raw: &FileStat) -> Attributes {
    Attributes {
        stat: Stat {
            kind: kind(raw.st_mode),
            mode: raw.st_mode & 0o7777,
            uid: raw.st_uid,
            gid: raw.st_gid,
            nlink: raw.st_nlink,
            size: u64::try_from(raw.st_size).unwrap_or(0),
            dev: raw.st_dev,
            ino: raw.st_ino,
            mtime: raw.st_mtime,
        },
        atime: (raw.st_atime, raw.st_atime_nsec),
        mtime: (raw.st_mtime, raw.st_mtime_nsec),
    }
}
