//! Directories that hold a mounted root, the running system's among them: nothing is mounted, nothing is unmounted.

#![expect(clippy::disallowed_methods, reason = "the target is a directory of the helper")]

use super::disk::Access;
use super::mounted::{Journal, RootInfo};
use super::target::Target;
use crate::error::Refusal;
use crate::probe::{Superblock, probe};
use crate::sys::bytes::FileBytes;
use crate::sys::mounts::{MountLine, mount_of};
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Opens the directory of the target.
pub(super) fn open_directory(target: &Target, access: Access) -> Result<OwnedFd> {
    let shown = target.path.display();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(&target.path, flags, Mode::empty()).with_context(|| format!("opening {shown}"))?;
    let read_only = fstatvfs(&directory).is_ok_and(|s| s.flags().contains(FsFlags::ST_RDONLY));
    if read_only && access == Access::ReadWrite {
        return Err(Refusal::target(format!(
            "{shown} is mounted read-only, so nothing can be repaired in it"
        ))
        .hint("Remount it (mount -o remount,rw), or look at it with: volrescue diagnose")
        .into());
    }
    Ok(directory)
}

/// What can be said of the filesystem that the directory is on.
pub(super) fn describe(directory: &OwnedFd) -> RootInfo {
    let line = mount_of(directory);
    let superblock = line.as_ref().and_then(|line| superblock(&line.source));
    let subvolume = |line: &MountLine| {
        let name = line.root.to_string_lossy().trim_start_matches('/').to_owned();
        (line.kind == "btrfs" && !name.is_empty()).then_some(name)
    };
    RootInfo {
        id: "directory".to_owned(),
        filesystem: line.as_ref().map_or_else(|| "unknown".to_owned(), |line| line.kind.clone()),
        uuid: superblock.as_ref().and_then(|s| s.uuid.clone()),
        label: superblock.and_then(|s| s.label),
        partition: None,
        logical_volume: None,
        subvolume: line.as_ref().and_then(subvolume),
        journal: Journal::Clean,
        is_read_only: false,
        os: None,
    }
}

/// A mounted device may be read beside its filesystem: its id and name do not change.
pub(super) fn superblock(source: &Path) -> Option<Superblock> {
    std::fs::metadata(source).ok().filter(|m| m.file_type().is_block_device())?;
    let file = File::open(source).ok()?;
    let size = crate::sys::block::size(&file).ok()?;
    probe(&FileBytes { file: &file, size }).ok()?.superblock().cloned()
}
