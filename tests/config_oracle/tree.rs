//! A tree with some files laid over it, as a [`View`].

use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use volrescue::selinux::Policy;
use volrescue::sshd::build::Build;
use volrescue::view::{FileKind, LookError, Stat, View};

/// The tree, with /etc taken from elsewhere and /etc/ssh from a third place: as the mounts of the test lay them.
pub(crate) struct Laid {
    pub(crate) tree: PathBuf,
    pub(crate) etc: PathBuf,
    pub(crate) ssh: PathBuf,
}

impl Laid {
    fn real(&self, path: &Path) -> PathBuf {
        if let Ok(rest) = path.strip_prefix("/etc/ssh") {
            return self.ssh.join(rest);
        }
        if let Ok(rest) = path.strip_prefix("/etc") {
            return self.etc.join(rest);
        }
        self.tree.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn error(error: &std::io::Error) -> LookError {
    match error.kind() {
        std::io::ErrorKind::NotFound => LookError::NotFound,
        std::io::ErrorKind::NotADirectory => LookError::NotDirectory,
        _ => LookError::Errno(error.raw_os_error().unwrap_or(5)),
    }
}

impl View for Laid {
    fn lstat(&self, path: &Path) -> Result<Stat, LookError> {
        let found = std::fs::symlink_metadata(self.real(path)).map_err(|e| error(&e))?;
        let kind = found.file_type();
        let kind = match () {
            () if kind.is_dir() => FileKind::Directory,
            () if kind.is_symlink() => FileKind::Symlink,
            () if kind.is_fifo() => FileKind::Fifo,
            () if kind.is_socket() => FileKind::Socket,
            () if kind.is_char_device() => FileKind::CharDevice,
            () if kind.is_block_device() => FileKind::BlockDevice,
            () => FileKind::Regular,
        };
        Ok(Stat {
            kind,
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            nlink: found.nlink(),
            size: found.len(),
            dev: found.dev(),
            ino: found.ino(),
            mtime: found.mtime(),
        })
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, LookError> {
        std::fs::read_link(self.real(path)).map_err(|e| error(&e))
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
        let stat = self.lstat(path)?;
        match stat.kind {
            FileKind::Regular if stat.size > limit => Err(LookError::TooLarge { size: stat.size, limit }),
            FileKind::Regular => std::fs::read(self.real(path)).map_err(|e| error(&e)),
            kind => Err(LookError::Kind(kind)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, LookError> {
        let entries = std::fs::read_dir(self.real(path)).map_err(|e| error(&e))?;
        let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        Ok(names)
    }

    fn xattr(&self, _path: &Path, _name: &str) -> Result<Option<Vec<u8>>, LookError> {
        Ok(None)
    }

    fn selinux(&self) -> Rc<Policy> {
        Rc::new(Policy::read(self))
    }

    fn sshd(&self) -> Build {
        Build::detect(self)
    }
}
