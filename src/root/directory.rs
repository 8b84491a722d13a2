//! A directory of the volume in which names are made, replaced and taken away.

use super::{Attributes, Handle, Time, Xattrs, look_error, open_resolving};
use crate::permissions::acl;
use crate::sys::inode::{APPEND_ONLY, IMMUTABLE};
use crate::view::LookError;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, ResolveFlag, renameat, renameat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::fstatfs;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The start of every name that we make on the way to another; what remains after a crash can be known by it.
const TEMP_PREFIX: &str = ".volrescue-";

/// Filesystems that the kernel makes up (statfs(2), linux/magic.h): nothing there is part of a volume.
const PSEUDO: [i64; 22] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0x1980_0202, // mqueue
    0x9584_58f6, // hugetlbfs
    0x4249_4e4d, // binfmt_misc
    0x0187,      // autofs
    0x6e73_6673, // nsfs
    0x6573_5543, // fusectl
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
];

/// A regular file to be made, complete before its name is seen.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// The whole content.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All its extended attributes; one that the directory's default ACL would add is taken away.
    pub xattrs: &'a Xattrs,
    /// The flags of chattr(1).
    pub flags: u32,
    /// Access and modification time, where the present is not meant.
    pub times: Option<(Time, Time)>,
}

/// A name that no one guesses beforehand, for what is renamed or removed soon.
#[must_use]
pub fn temp_name() -> OsString {
    // The keys of RandomState come from getrandom(2).
    let token = RandomState::new().build_hasher().finish();
    OsString::from(format!("{TEMP_PREFIX}{token:016x}"))
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The inode of one name, or of the directory itself by `.`.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn handle(&self, name: &OsStr) -> Result<Handle, LookError> {
        single(name).map_err(look_error)?;
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_SYMLINKS;
        open_resolving(self.fd.as_fd(), name.as_bytes(), OFlag::O_PATH, resolve)
            .map(Handle::new)
            .map_err(look_error)
    }

    /// The directory's own inode.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn itself(&self) -> Result<Handle, LookError> {
        self.handle(OsStr::new("."))
    }

    /// stat(2) of one name, never through a link.
    ///
    /// # Errors
    /// [`LookError`].
    pub fn attributes(&self, name: &OsStr) -> Result<Attributes, LookError> {
        single(name).map_err(look_error)?;
        nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map(|raw| super::attributes(&raw))
            .map_err(look_error)
    }

    /// Makes a directory as `temp`, with owner, bits and attributes, and only then gives it its name.
    ///
    /// # Errors
    /// EEXIST if the name is taken, and as mkdir(2), chown(2), chmod(2), setxattr(2).
    pub fn make_directory(
        &self,
        name: &OsStr,
        temp: &OsStr,
        (mode, uid, gid): (u32, u32, u32),
        xattrs: &Xattrs,
    ) -> io::Result<()> {
        self.check(&[name, temp])?;
        nix::sys::stat::mkdirat(&self.fd, temp, Mode::S_IRWXU)?;
        let made = (|| {
            let handle = self.handle(temp).map_err(io::Error::other)?;
            dress(&handle, uid, gid, xattrs, &[acl::ACCESS, acl::DEFAULT])?;
            handle.chmod(mode)?;
            self.rename_new(temp, name)
        })();
        if made.is_err() {
            // The first error is the one to tell; a name that stays behind is in the journal.
            drop(self.remove_directory(temp));
        }
        made?;
        self.sync()
    }

    /// Makes a symbolic link, as [`Directory::make_directory`].
    ///
    /// # Errors
    /// EEXIST if the name is taken, and as symlink(2), chown(2).
    pub fn make_link(
        &self,
        name: &OsStr,
        temp: &OsStr,
        target: &Path,
        (uid, gid): (u32, u32),
        xattrs: &Xattrs,
        placing: Placing,
    ) -> io::Result<()> {
        self.check(&[name, temp])?;
        nix::unistd::symlinkat(target, &self.fd, temp)?;
        let made = (|| {
            let handle = self.handle(temp).map_err(io::Error::other)?;
            dress(&handle, uid, gid, xattrs, &[])?;
            self.place(temp, name, placing)
        })();
        if made.is_err() {
            drop(self.unlink(temp));
        }
        made?;
        self.sync()
    }

    /// Writes a file beside, complete and durable, and renames it over `name`, or to `name` where that must be free.
    ///
    /// # Errors
    /// As the system calls it takes; nothing half-written has the name then.
    pub fn write_file(
        &self,
        name: &OsStr,
        temp: &OsStr,
        new: &NewFile<'_>,
        placing: Placing,
    ) -> io::Result<()> {
        self.check(&[name, temp])?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(&self.fd, temp, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let made: io::Result<Handle> = (|| {
            let mut file = File::from(fd);
            let handle = self.handle(temp).map_err(io::Error::other)?;
            // Some flags (no copy on write) only take on an empty file.
            let own = handle.flags().map_err(io::Error::other)?;
            let wanted = own & !KEPT_FLAGS | new.flags & KEPT_FLAGS & !LOCKING_FLAGS;
            if wanted != own {
                handle.set_flags(wanted)?;
            }
            file.write_all(new.content)?;
            dress(&handle, new.uid, new.gid, new.xattrs, &[acl::ACCESS])?;
            handle.chmod(new.mode)?;
            if let Some((atime, mtime)) = new.times {
                handle.set_times(atime, mtime)?;
            }
            file.sync_all()?;
            self.place(temp, name, placing)?;
            Ok(handle)
        })();
        if made.is_err() {
            drop(self.unlink(temp));
        }
        let handle = made?;
        if new.flags & LOCKING_FLAGS != 0 {
            let own = handle.flags().map_err(io::Error::other)?;
            handle.set_flags(own | new.flags & LOCKING_FLAGS)?;
        }
        self.sync()
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn unlink(&self, name: &OsStr) -> io::Result<()> {
        self.check(&[name])?;
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn remove_directory(&self, name: &OsStr) -> io::Result<()> {
        self.check(&[name])?;
        Ok(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.fd)?)
    }

    /// Refuses a filesystem that the kernel makes up, before many names are changed.
    pub(crate) fn check_real(&self) -> io::Result<()> {
        check_real_filesystem(self.fd.as_fd())
    }

    /// Refuses names with a slash and filesystems that the kernel makes up.
    fn check(&self, names: &[&OsStr]) -> io::Result<()> {
        for name in names {
            single(name)?;
        }
        check_real_filesystem(self.fd.as_fd())
    }

    fn place(&self, temp: &OsStr, name: &OsStr, placing: Placing) -> io::Result<()> {
        match placing {
            Placing::New => self.rename_new(temp, name),
            Placing::Over => Ok(renameat(&self.fd, temp, &self.fd, name)?),
        }
    }

    fn rename_new(&self, temp: &OsStr, name: &OsStr) -> io::Result<()> {
        match renameat2(&self.fd, temp, &self.fd, name, RenameFlags::RENAME_NOREPLACE) {
            // Not every filesystem knows the flag (NFS); there it is looked first.
            Err(Errno::EINVAL) => match self.attributes(name) {
                Err(LookError::NotFound) => Ok(renameat(&self.fd, temp, &self.fd, name)?),
                Err(error) => Err(io::Error::other(error)),
                Ok(_) => Err(Errno::EEXIST.into()),
            },
            renamed => Ok(renamed?),
        }
    }
}

/// Whether a name must be free before something gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// It must be free.
    New,
    /// What has it is replaced.
    Over,
}

/// The flags of chattr(1) that a replaced file hands on: s, u, c, S, i, a, d, A, C.
const KEPT_FLAGS: u32 = 0x0080_00ff;
/// Those under which nothing more can be done to a file.
const LOCKING_FLAGS: u32 = IMMUTABLE | APPEND_ONLY;

/// Owner and extended attributes of something new; `inherited` names go where they are not asked for.
fn dress(handle: &Handle, uid: u32, gid: u32, xattrs: &Xattrs, inherited: &[&str]) -> io::Result<()> {
    handle.chown(uid, gid)?;
    for name in inherited {
        if !xattrs.iter().any(|(other, _)| other == name) {
            handle.set_xattr(name, None)?;
        }
    }
    for (name, value) in xattrs {
        handle.set_xattr(name, Some(value)).map_err(|error| {
            io::Error::new(error.kind(), format!("setting {}: {error}", Path::new(name).display()))
        })?;
    }
    Ok(())
}

/// One name, no path.
fn single(name: &OsStr) -> nix::Result<()> {
    let bytes = name.as_bytes();
    match bytes.is_empty() || bytes.contains(&b'/') || bytes == b".." {
        true => Err(Errno::EINVAL),
        false => Ok(()),
    }
}

/// Refuses what lies on a filesystem that the kernel makes up.
pub(super) fn check_real_filesystem(fd: BorrowedFd<'_>) -> io::Result<()> {
    let magic = filesystem_magic(fd)?;
    match PSEUDO.contains(&magic) {
        true => Err(io::Error::new(
            io::ErrorKind::ReadOnlyFilesystem,
            "it lies on a filesystem that the kernel makes up; nothing is written there",
        )),
        false => Ok(()),
    }
}

fn filesystem_magic(fd: BorrowedFd<'_>) -> nix::Result<i64> {
    Ok(fstatfs(fd)?.filesystem_type().0 & 0xffff_ffff)
}
