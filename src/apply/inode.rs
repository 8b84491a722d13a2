//! What applying and undoing do to one inode.

use crate::journal::record::{Made, State, Text};
use crate::journal::sha256;
use crate::root::{Attributes, Handle, Xattrs};
use crate::sys::inode::{APPEND_ONLY, IMMUTABLE};
use crate::view::{FileKind, LookError};
use std::ffi::OsString;
use std::io;

/// The flags that forbid a change.
pub(crate) const LOCKING: u32 = IMMUTABLE | APPEND_ONLY;
/// The xattr of file capabilities (capabilities(7)).
pub(crate) const CAPABILITY: &str = "security.capability";
/// Set-user-id and set-group-id.
pub(crate) const SET_ID: u32 = 0o6000;

/// Everything about an inode that can be put back.
pub(crate) fn state(handle: &Handle, now: &Attributes) -> Result<State, LookError> {
    Ok(State::new(now, handle.flags()?, &handle.xattrs()?))
}

/// Does something while the locking flags of some inodes are lifted, and puts them back in any case.
pub(crate) fn unlocked<T>(inodes: &[(&Handle, u32)], work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let locked = || inodes.iter().filter(|(_, flags)| flags & LOCKING != 0);
    let mut done =
        locked().try_for_each(|(handle, flags)| handle.set_flags(flags & !LOCKING)).and_then(|()| work());
    for (handle, flags) in locked() {
        if let Err(error) = handle.set_flags(*flags) {
            let cause = done.err().map_or(String::new(), |cause| format!("{cause}; then "));
            done = Err(io::Error::new(error.kind(), format!("{cause}putting back the inode flags: {error}")));
        }
    }
    done
}

/// chown that keeps set-id bits and file capabilities, which the kernel takes away.
pub(crate) fn chown_keeping(handle: &Handle, uid: u32, gid: u32) -> io::Result<()> {
    let stat = handle.stat().map_err(to_io)?;
    let caps = match stat.kind {
        FileKind::Regular => handle.xattr(CAPABILITY).map_err(to_io)?,
        _ => None,
    };
    handle.chown(uid, gid)?;
    restore_privilege(handle, stat.kind, stat.mode, caps.as_deref())
}

/// Puts set-id bits and capabilities back where they are gone.
pub(crate) fn restore_privilege(
    handle: &Handle,
    kind: FileKind,
    mode: u32,
    caps: Option<&[u8]>,
) -> io::Result<()> {
    if mode & SET_ID != 0 && kind != FileKind::Symlink && handle.stat().map_err(to_io)?.mode != mode {
        handle.chmod(mode)?;
    }
    if let Some(caps) = caps
        && handle.xattr(CAPABILITY).map_err(to_io)?.as_deref() != Some(caps)
    {
        handle.set_xattr(CAPABILITY, Some(caps))?;
    }
    Ok(())
}

/// Whether something is what a run makes: kind, content or target, bits and owner.
pub(crate) fn is_made(handle: &Handle, made: &Made) -> Result<bool, LookError> {
    let stat = handle.stat()?;
    if (stat.uid, stat.gid) != (made.uid, made.gid) {
        return Ok(false);
    }
    if let Some(target) = &made.target {
        return Ok(stat.kind == FileKind::Symlink && Text::from(handle.read_link()?.as_path()) == *target);
    }
    Ok(stat.mode == made.mode
        && match &made.content {
            None => stat.is_dir(),
            Some((size, sum)) => has_content(handle, *size, sum)?,
        })
}

/// Whether a regular file has the content of this size and checksum.
pub(crate) fn has_content(handle: &Handle, size: u64, sum: &str) -> Result<bool, LookError> {
    let stat = handle.stat()?;
    Ok(stat.is_file() && stat.size == size && sha256(&handle.read(size)?) == sum)
}

/// Whether all these attributes are there.
pub(crate) fn has_xattrs(handle: &Handle, xattrs: &[(String, Vec<u8>)]) -> Result<bool, LookError> {
    for (name, value) in xattrs {
        if handle.xattr(name)?.as_ref() != Some(value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The attributes of a plan in the form of Root.
pub(crate) fn to_xattrs(xattrs: &[(String, Vec<u8>)]) -> Xattrs {
    xattrs.iter().map(|(name, value)| (OsString::from(name), value.clone())).collect()
}

/// Adds the attributes of a replaced file to those asked for. Those that seal the old content do not fit the new.
pub(crate) fn keep_xattrs(asked: &mut Xattrs, old: Xattrs) {
    for (name, value) in old {
        let seals = name == "security.ima" || name == "security.evm";
        if !seals && !asked.iter().any(|(other, _)| *other == name) {
            asked.push((name, value));
        }
    }
}

/// Puts an inode's owner, attributes, bits, times and flags back; locking flags are lifted by the caller.
pub(crate) fn restore(handle: &Handle, before: &State) -> io::Result<()> {
    let stat = handle.stat().map_err(to_io)?;
    if (stat.uid, stat.gid) != (before.uid, before.gid) {
        handle.chown(before.uid, before.gid)?;
    }
    let old = before.xattrs();
    let now = handle.xattrs().map_err(to_io)?;
    for (name, _) in now.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name)) {
        handle.set_xattr(name, None)?;
    }
    for (name, value) in &old {
        if !now.iter().any(|(other, is)| other == name && is == value) {
            handle.set_xattr(name, Some(value))?;
        }
    }
    if stat.kind != FileKind::Symlink && handle.stat().map_err(to_io)?.mode != before.mode {
        handle.chmod(before.mode)?;
    }
    // chmod leaves capabilities alone, chown does not, and both came before.
    handle.set_times(before.atime, before.mtime)
}

/// The errors of looking where changing is what fails.
pub(crate) fn to_io(error: LookError) -> io::Error {
    match error {
        LookError::Errno(errno) => io::Error::from_raw_os_error(errno),
        LookError::NotFound => io::Error::from(io::ErrorKind::NotFound),
        other => io::Error::other(other),
    }
}
