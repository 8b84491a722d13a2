//! One inode of the volume, held but not opened.

#![expect(
    clippy::disallowed_methods,
    reason = "by /proc/self/fd of the inode that is held, never by its name"
)]

use super::{Attributes, Directory, Time, attributes, entries, look_error, look_io_error};
use crate::permissions::acl;
use crate::sys;
use crate::view::{FileKind, LookError, Stat};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, UtimensatFlags, fstat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::fchownat;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// All extended attributes of an inode, by name.
pub type Xattrs = Vec<(OsString, Vec<u8>)>;

/// The most bytes of one extended attribute (`XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 64 << 10;

/// An inode held by an `O_PATH` descriptor: whatever becomes of its name, it stays the same file.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Handle {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The one name by which system calls that refuse an `O_PATH` descriptor reach exactly this inode.
    fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// stat(2), with the time stamps.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn attributes(&self) -> Result<Attributes, LookError> {
        fstat(&self.fd).map(|raw| attributes(&raw)).map_err(look_error)
    }

    /// stat(2).
    ///
    /// # Errors
    /// [`LookError`].
    pub fn stat(&self) -> Result<Stat, LookError> {
        self.attributes().map(|attributes| attributes.stat)
    }

    /// Opens the inode for reading: a regular file or a directory; nothing else is ever opened.
    ///
    /// # Errors
    /// [`LookError::Kind`] for anything else.
    pub fn open(&self) -> Result<File, LookError> {
        let stat = self.stat()?;
        if !matches!(stat.kind, FileKind::Regular | FileKind::Directory) {
            return Err(LookError::Kind(stat.kind));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let open = |flags| nix::fcntl::open(&self.proc_path(), flags, Mode::empty());
        // Looking must not move the access time where that can be had.
        match open(flags | OFlag::O_NOATIME) {
            Err(Errno::EPERM) => open(flags),
            opened => opened,
        }
        .map(File::from)
        .map_err(look_error)
    }

    /// The whole content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`LookError::Kind`], [`LookError::TooLarge`].
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, LookError> {
        let stat = self.stat()?;
        if !stat.is_file() {
            return Err(LookError::Kind(stat.kind));
        }
        if stat.size > limit {
            return Err(LookError::TooLarge { size: stat.size, limit });
        }
        let mut content = Vec::new();
        self.open()?
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| look_io_error(&error))?;
        match content.len() as u64 {
            size if size > limit => Err(LookError::TooLarge { size, limit }),
            _ => Ok(content),
        }
    }

    /// Adds bytes at the end of a regular file, in place. For files that are thrown away: an error may leave a part of
    /// them behind.
    ///
    /// # Errors
    /// Anything but a regular file is not opened; else as write(2).
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if !self.stat().is_ok_and(|stat| stat.is_file()) {
            return Err(Errno::EINVAL.into());
        }
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(&self.proc_path(), flags, Mode::empty())?;
        File::from(file).write_all(bytes)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`LookError::Kind`] if it is none.
    pub fn read_link(&self) -> Result<PathBuf, LookError> {
        let stat = self.stat()?;
        if stat.kind != FileKind::Symlink {
            return Err(LookError::Kind(stat.kind));
        }
        nix::fcntl::readlinkat(&self.fd, "").map(PathBuf::from).map_err(look_error)
    }

    /// The names in a directory, sorted bytewise.
    ///
    /// # Errors
    /// [`LookError::Kind`], [`LookError::TooLarge`] above `limit` names.
    pub fn list(&self, limit: usize) -> Result<Vec<OsString>, LookError> {
        let stat = self.stat()?;
        if !stat.is_dir() {
            return Err(LookError::Kind(stat.kind));
        }
        let dir = self.open()?;
        let mut names = Vec::new();
        let mut buffer = vec![0; entries::CHUNK];
        loop {
            let chunk = entries::read_chunk(&dir, &mut buffer).map_err(look_error)?;
            if chunk.is_empty() {
                break;
            }
            for entry in entries::parse(chunk) {
                if names.len() == limit {
                    return Err(LookError::TooLarge { size: names.len() as u64 + 1, limit: limit as u64 });
                }
                names.push(OsString::from_vec(entry.name.to_bytes().to_vec()));
            }
        }
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        Ok(names)
    }

    /// The inode as a directory in which names can be made.
    ///
    /// # Errors
    /// [`LookError::Kind`] if it is none.
    pub fn into_directory(self) -> Result<Directory, LookError> {
        let stat = self.stat()?;
        if !stat.is_dir() {
            return Err(LookError::Kind(stat.kind));
        }
        Ok(Directory::new(self.open()?.into()))
    }

    /// An extended attribute; `None` where the inode, or the filesystem, has none of that name.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn xattr(&self, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>, LookError> {
        match xattr::get_deref(self.proc_path(), name.as_ref()) {
            Ok(Some(value)) if value.len() > XATTR_MAX => {
                Err(LookError::TooLarge { size: value.len() as u64, limit: XATTR_MAX as u64 })
            }
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(None),
            Err(error)
                if error.raw_os_error() == Some(Errno::EINVAL as i32)
                    && [acl::ACCESS, acl::DEFAULT].iter().any(|list| *list == name.as_ref()) =>
            {
                Err(LookError::MalformedAcl)
            }
            Err(error) => Err(look_io_error(&error)),
            Ok(value) => Ok(value),
        }
    }

    /// All extended attributes, by name.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn xattrs(&self) -> Result<Xattrs, LookError> {
        let names = match xattr::list_deref(self.proc_path()) {
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => return Ok(Vec::new()),
            Err(error) => return Err(look_io_error(&error)),
            Ok(names) => names,
        };
        let mut all = Vec::new();
        for name in names {
            if let Some(value) = self.xattr(&name)? {
                all.push((name, value));
            }
        }
        all.sort();
        Ok(all)
    }

    /// The flags of chattr(1); 0 where there are none to be had.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn flags(&self) -> Result<u32, LookError> {
        if !matches!(self.stat()?.kind, FileKind::Regular | FileKind::Directory) {
            return Ok(0);
        }
        match sys::inode::flags(self.open()?.as_fd()) {
            Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => Ok(0),
            flags => flags.map_err(look_error),
        }
    }

    /// Sets the flags of chattr(1).
    ///
    /// # Errors
    /// As ioctl_iflags(2), and for anything but a regular file or directory.
    pub fn set_flags(&self, flags: u32) -> io::Result<()> {
        self.check_writable()?;
        let file = self.open().map_err(io::Error::other)?;
        Ok(sys::inode::set_flags(file.as_fd(), flags)?)
    }

    /// chmod; not possible for a symbolic link.
    ///
    /// # Errors
    /// As chmod(2).
    pub fn chmod(&self, mode: u32) -> io::Result<()> {
        self.check_writable()?;
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        Ok(nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            &self.proc_path(),
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )?)
    }

    /// chown of the inode itself, a link included. Of a file it clears set-id bits and capabilities.
    ///
    /// # Errors
    /// As chown(2).
    pub fn chown(&self, uid: u32, gid: u32) -> io::Result<()> {
        self.check_writable()?;
        Ok(fchownat(&self.fd, "", Some(uid.into()), Some(gid.into()), AtFlags::AT_EMPTY_PATH)?)
    }

    /// Sets an extended attribute, or takes it away; its absence is then no error.
    ///
    /// # Errors
    /// As setxattr(2).
    pub fn set_xattr(&self, name: impl AsRef<OsStr>, value: Option<&[u8]>) -> io::Result<()> {
        self.check_writable()?;
        match value {
            Some(value) => xattr::set_deref(self.proc_path(), name.as_ref(), value),
            None => match xattr::remove_deref(self.proc_path(), name.as_ref()) {
                // A kernel with SELinux labels whatever is made and takes no label away.
                Err(_) if name.as_ref() == "security.selinux" => Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ENODATA as i32) => Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(()),
                done => done,
            },
        }
    }

    /// Sets access and modification time.
    ///
    /// # Errors
    /// As utimensat(2).
    pub fn set_times(&self, atime: Time, mtime: Time) -> io::Result<()> {
        self.check_writable()?;
        let spec = |(seconds, nanoseconds): Time| TimeSpec::new(seconds, nanoseconds);
        Ok(utimensat(
            nix::fcntl::AT_FDCWD,
            &self.proc_path(),
            &spec(atime),
            &spec(mtime),
            UtimensatFlags::FollowSymlink,
        )?)
    }

    /// Nothing is ever written on a filesystem that the kernel makes up.
    fn check_writable(&self) -> io::Result<()> {
        super::directory::check_real_filesystem(self.fd.as_fd())
    }
}
