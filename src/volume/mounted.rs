//! A mounted root: from the decision which it is to the proof that it was let go of.

use super::candidate::RootCandidate;
use super::checker::{self, Checked};
use super::disk::{Access, Disk};
use super::filesystem::{self, Replay};
use super::follow::Extras;
use super::loopdev::LoopDevice;
use super::mapped::stop_assembled;
use super::mount::{Mount, Writes};
use super::scratch::{self, OnProgress, Scratch};
use super::search::{Opened, bind, block_size};
use super::stack::Part;
use crate::error::Refusal;
use crate::probe::{Detail, Kind, Layout, Slot, Superblock, Window, probe};
use crate::root::{Crossing, Root};
use crate::sys::block::{LoopSetup, btrfs_forget};
use crate::sys::bytes::FileBytes;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What may happen to the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountMode {
    /// Nothing. A journal that waits for replay is replayed in a throw-away copy, if there can be one.
    ReadOnly,
    /// A journal that waits for replay is replayed on the volume itself; nothing else is written (`--replay`).
    Replay,
    /// Everything that is asked for.
    ReadWrite,
    /// The same, once the filesystem's own checker has been over it (`--fsck`).
    Checked,
}

impl MountMode {
    /// How the volume has to be opened for it.
    #[must_use]
    pub fn access(self) -> Access {
        match self {
            Self::ReadOnly => Access::ReadOnly,
            Self::Replay | Self::ReadWrite | Self::Checked => Access::ReadWrite,
        }
    }

    /// Whether the mounts take writes in the end.
    pub(super) fn writes(self) -> Writes {
        match self {
            Self::ReadOnly | Self::Replay => Writes::Refused,
            Self::ReadWrite | Self::Checked => Writes::Taken,
        }
    }
}

/// What became of the filesystem's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Journal {
    /// It was empty.
    Clean,
    /// It waits for replay: what is seen is older than what was written.
    Dirty,
    /// It was replayed, on the volume or in a copy.
    Replayed,
}

/// What is known of the root.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RootInfo {
    /// The name that `--root` takes for it.
    #[serde(skip)]
    pub id: String,
    /// The kind of its filesystem.
    pub filesystem: String,
    /// The filesystem's id.
    pub uuid: Option<String>,
    /// The filesystem's name.
    pub label: Option<String>,
    /// The number of its partition.
    pub partition: Option<u32>,
    /// The logical volume that it lies on: `vg/lv`.
    pub logical_volume: Option<String>,
    /// The path of its btrfs subvolume.
    pub subvolume: Option<String>,
    /// Its journal.
    pub journal: Journal,
    /// Whether its subvolume refuses writes, as snapshots do.
    #[serde(skip)]
    pub is_read_only: bool,
    /// The name of the system in it.
    #[serde(skip)]
    pub os: Option<String>,
}

/// A filesystem that boot mounts below the root.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Branch {
    /// Where: a canonical path of the volume.
    pub point: PathBuf,
    /// The kind of its filesystem, or "bind".
    pub filesystem: String,
    /// The filesystem's id.
    pub uuid: Option<String>,
    /// The filesystem's name.
    pub label: Option<String>,
    /// The number of its partition.
    pub partition: Option<u32>,
    /// The logical volume that it lies on: `vg/lv`.
    #[serde(default)]
    pub logical_volume: Option<String>,
    /// The path or number of its btrfs subvolume; of a bind mount the directory that is shown.
    pub subvolume: Option<String>,
    /// The device or image, where it is not that of the root.
    pub device: Option<PathBuf>,
}

/// How a volume was let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmounted {
    /// Unmounted, and looked at again: nothing waits, no one holds it.
    Clean,
    /// It was a directory: there was nothing to unmount.
    NotMounted,
}

/// A root that can be worked on. It is to be ended by [`Self::close`], which tells whether the volume is free.
#[derive(Debug)]
pub struct MountedRoot {
    /// What is known of it.
    pub info: RootInfo,
    /// The other filesystems of the tree, in the order in which they were mounted.
    pub branches: Vec<Branch>,
    /// What the checkers came to that were run.
    pub checked: Vec<Checked>,
    /// What the operator should know, such as why no copy could be made.
    pub notes: Vec<String>,
    pub(super) inner: Inner,
}

#[derive(Debug)]
pub(super) enum Inner {
    Directory(OwnedFd),
    Mounted(Box<Mounted>),
}

/// In the order in which it must be let go of.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) extras: Extras,
    pub(super) mount: Mount,
    pub(super) device: LoopDevice,
    /// Keeps the copy alive that `device` is bound to.
    pub(super) scratch: Option<Scratch>,
    pub(super) others: Vec<Part>,
    pub(super) disk: Disk,
    pub(super) layout: Layout,
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) kind: Kind,
    pub(super) mode: MountMode,
    pub(super) replay: Replay,
}

impl MountedRoot {
    pub(super) fn directory(directory: OwnedFd, info: RootInfo) -> Self {
        let inner = Inner::Directory(directory);
        Self { info, branches: Vec::new(), checked: Vec::new(), notes: Vec::new(), inner }
    }

    /// Its root directory, open with O_PATH.
    ///
    /// # Errors
    /// It was closed.
    pub fn fd(&self) -> Result<BorrowedFd<'_>> {
        match &self.inner {
            Inner::Directory(directory) => Ok(directory.as_fd()),
            Inner::Mounted(mounted) => mounted.mount.root().context("the volume is not mounted"),
        }
    }

    /// A door to it. All doors must be dropped before [`Self::close`]: an open descriptor keeps the volume busy.
    ///
    /// # Errors
    /// As [`Root::new`].
    pub fn root(&self) -> Result<Root> {
        let crossing = match &self.inner {
            // Below a directory, mounted filesystems are a part of what sshd sees there.
            Inner::Directory(_) => Crossing::LoginPath,
            Inner::Mounted(_) => Crossing::Never,
        };
        let mut root =
            Root::new(self.fd()?.try_clone_to_owned().context("opening the root directory")?, crossing)?;
        if let Inner::Mounted(mounted) = &self.inner {
            mounted.extras.graft(&mut root)?;
        }
        Ok(root)
    }

    /// What `--fsck` runs on its filesystem, but for the device; `None` for a directory.
    #[must_use]
    pub fn checker(&self) -> Option<String> {
        match &self.inner {
            Inner::Directory(_) => None,
            Inner::Mounted(mounted) => {
                let slot = mounted.layout.slots.iter().find(|slot| slot.start == mounted.start)?;
                slot.content.superblock().map(checker::command)
            }
        }
    }

    /// Where it is mounted for this process, if it is; for the tools of the trade that take a path.
    #[must_use]
    pub fn mount_point(&self) -> Option<&Path> {
        match &self.inner {
            Inner::Directory(_) => None,
            Inner::Mounted(mounted) => Some(mounted.mount.point()),
        }
    }

    /// Writes everything, unmounts, unbinds, and looks again: at the superblock, and whether the device can be had.
    ///
    /// # Errors
    /// What is not as it should be; the volume may be mounted still, until this process ends.
    pub fn close(self) -> Result<Unmounted> {
        let mounted = match self.inner {
            Inner::Directory(directory) => {
                let file = std::fs::File::from(directory);
                drop(file);
                return Ok(Unmounted::NotMounted);
            }
            Inner::Mounted(mounted) => *mounted,
        };
        let Mounted { extras, mount, device, scratch, others, disk, start, size, kind, .. } = mounted;
        let path = device.path().to_owned();
        let written = extras.close()?;
        mount.close()?;
        device.close()?;
        forget(kind, &path);
        drop(scratch);
        for one in written {
            let held = one.other.map_or(&disk, |other| &others[other].disk);
            if held.access == Access::ReadWrite {
                check_clean(held, one.start, one.size)?;
            }
        }
        if disk.access == Access::ReadWrite {
            check_clean(&disk, start, size)?;
        }
        let mut disks: Vec<Disk> = others.into_iter().map(|other| other.disk).chain([disk]).collect();
        disks.sort_by_key(|disk| std::cmp::Reverse(disk.order));
        let had_array = disks.iter().any(Disk::is_array);
        let devices: Vec<PathBuf> = disks.iter().filter_map(Disk::device).map(Path::to_owned).collect();
        disks.into_iter().try_for_each(Disk::release)?;
        if had_array {
            stop_assembled(&devices, &BTreeSet::new())?;
        }
        Ok(Unmounted::Clean)
    }
}

/// The kernel remembers each btrfs device it has seen; a loop device that is no more should not be among them.
#[expect(clippy::disallowed_methods, reason = "a device of the helper's")]
pub(super) fn forget(kind: Kind, device: &Path) {
    if kind == Kind::Btrfs
        && let (Some(device), Ok(control)) = (
            device.to_str(),
            nix::fcntl::open("/dev/btrfs-control", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty()),
        )
    {
        // Newer kernels have forgotten already.
        let _ = btrfs_forget(&control, device);
    }
}

fn check_clean(disk: &Disk, start: u64, size: u64) -> Result<()> {
    let bytes = FileBytes { file: disk.file(), size: disk.size };
    let content = probe(&Window::new(&bytes, start, size)).context("reading the superblock again")?;
    let Some(superblock) = content.superblock() else {
        bail!("the superblock can't be found again after unmounting");
    };
    if superblock.dirty() == Some(true) {
        return Err(Refusal::failed("it is unmounted, but its journal is still not empty")
            .hint(
                "The kernel's log (dmesg) says why: most often the disk refused a write. Nothing is lost as long as the \
                 journal is kept: the next mount writes what is in it to its place. Copy a failing disk before you do \
                 more with it.",
            )
            .into());
    }
    if let Detail::Ext(ext) = &superblock.detail
        && (!ext.valid || ext.errors)
    {
        return Err(Refusal::failed("it is unmounted, but its filesystem is not marked as clean")
            .hint("The kernel's log (dmesg) says what it met. To let e2fsck mend it first: volrescue repair --fsck")
            .into());
    }
    Ok(())
}

/// Says whether the root that was found is the right one. Asked before anything is written.
pub type IsRight<'a> = &'a dyn Fn(&RootInfo) -> Result<()>;

/// Takes the root that was found from looking at it to working on it.
pub(super) fn proceed(
    opened: Opened,
    candidate: RootCandidate,
    mut parts: Vec<Part>,
    mode: MountMode,
    mut checked: Vec<Checked>,
    is_right: IsRight<'_>,
    progress: OnProgress<'_>,
) -> Result<MountedRoot> {
    let mut notes = Vec::new();
    let mut info = RootInfo {
        id: candidate.id,
        filesystem: candidate.filesystem.to_owned(),
        uuid: candidate.uuid,
        label: candidate.label,
        partition: candidate.partition,
        logical_volume: candidate.logical_volume,
        subvolume: candidate.subvolume,
        journal: opened.journal,
        is_read_only: false,
        os: candidate.os,
    };
    if let Err(refusal) = is_right(&info) {
        opened.close()?;
        return Err(refusal);
    }
    let Part { disk, layout, .. } = parts.remove(candidate.part);
    let (start, size, kind) = (opened.slot.start, opened.slot.size, opened.superblock.kind);
    let Settled { mount, device, scratch, journal, replay } =
        settle(opened, &disk, &layout, mode, progress, Told { notes: &mut notes, checked: &mut checked })?;
    info.journal = journal;
    if kind == Kind::Btrfs {
        info.is_read_only = super::candidate::is_read_only(&mount);
    }
    if info.is_read_only {
        notes.push(format!(
            "the root is the read-only subvolume {}, as snapper and transactional-update keep it: repair changes nothing on \
             it, only on the subvolumes that are mounted over it",
            info.subvolume.as_deref().unwrap_or_default()
        ));
    }
    let extras = Extras::default();
    let mounted = Mounted {
        extras,
        mount,
        device,
        scratch,
        others: parts,
        disk,
        layout,
        start,
        size,
        kind,
        mode,
        replay,
    };
    Ok(MountedRoot { info, branches: Vec::new(), checked, notes, inner: Inner::Mounted(Box::new(mounted)) })
}

/// What there is to tell of the way to a mount.
pub(super) struct Told<'a> {
    pub(super) notes: &'a mut Vec<String>,
    pub(super) checked: &'a mut Vec<Checked>,
}

/// A filesystem that is mounted as it will be worked on.
pub(super) struct Settled {
    pub(super) mount: Mount,
    pub(super) device: LoopDevice,
    pub(super) scratch: Option<Scratch>,
    pub(super) journal: Journal,
    pub(super) replay: Replay,
}

/// Takes a filesystem from looking at it to working on it.
pub(super) fn settle(
    opened: Opened,
    disk: &Disk,
    layout: &Layout,
    mode: MountMode,
    progress: OnProgress<'_>,
    told: Told<'_>,
) -> Result<Settled> {
    let dirty = opened.journal == Journal::Dirty;
    let replayed = if dirty { Journal::Replayed } else { opened.journal };
    let done = |opened: Opened, journal, replay| Settled {
        mount: opened.mount,
        device: opened.device,
        scratch: None,
        journal,
        replay,
    };
    Ok(match mode {
        MountMode::ReadOnly | MountMode::Replay if !dirty => {
            let journal = opened.journal;
            done(opened, journal, Replay::Skip)
        }
        MountMode::ReadOnly => {
            let (mount, device, scratch) = replay_in_copy(opened, disk, layout, progress, told.notes)?;
            let (journal, replay) = match scratch {
                Some(_) => (Journal::Replayed, Replay::Scratch),
                None => (Journal::Dirty, Replay::Skip),
            };
            Settled { mount, device, scratch, journal, replay }
        }
        MountMode::Replay => {
            let opened = remount(opened, disk, layout, Replay::ReadWrite)?;
            done(remount(opened, disk, layout, Replay::ReadOnly)?, Journal::Replayed, Replay::ReadOnly)
        }
        MountMode::ReadWrite => {
            done(remount(opened, disk, layout, Replay::ReadWrite)?, replayed, Replay::ReadWrite)
        }
        MountMode::Checked => {
            let Opened { mount, device, slot, superblock, journal, subvolume } = opened;
            let point = mount.point().to_owned();
            let path = device.path().to_owned();
            mount.close()?;
            device.close()?;
            forget(superblock.kind, &path);
            let slot = checker::check(disk, layout, &slot, &point, progress, told.checked)?;
            let superblock = slot.content.superblock().context("the checked filesystem is gone")?.clone();
            let (device, mount) = mount_for_writing(disk, layout, &slot, &superblock, &point, subvolume)?;
            done(Opened { mount, device, slot, superblock, journal, subvolume }, replayed, Replay::ReadWrite)
        }
    })
}

/// Unmounts it and mounts it again in another way, through a loop device that takes writes only if the mount does.
fn remount(opened: Opened, disk: &Disk, layout: &Layout, replay: Replay) -> Result<Opened> {
    let Opened { mount, device, slot, superblock, journal, subvolume } = opened;
    filesystem::check(&slot, &superblock, replay)?;
    let point = mount.point().to_owned();
    let path = device.path().to_owned();
    mount.close()?;
    device.close()?;
    forget(superblock.kind, &path);
    let access = if replay == Replay::ReadWrite { Access::ReadWrite } else { Access::ReadOnly };
    let device = bind(disk, layout, &slot, &superblock, access)?;
    let mount = filesystem::mount(&device, superblock.kind, &point, replay, subvolume)
        .map_err(|error| filesystem::explain(error, &slot, &superblock))?;
    Ok(Opened { mount, device, slot, superblock, journal, subvolume })
}

fn mount_for_writing(
    disk: &Disk,
    layout: &Layout,
    slot: &Slot,
    superblock: &Superblock,
    point: &Path,
    subvolume: Option<u64>,
) -> Result<(LoopDevice, Mount)> {
    filesystem::check(slot, superblock, Replay::ReadWrite)?;
    let device = bind(disk, layout, slot, superblock, Access::ReadWrite)?;
    let mount = filesystem::mount(&device, superblock.kind, point, Replay::ReadWrite, subvolume)
        .map_err(|error| filesystem::explain(error, slot, superblock))?;
    Ok((device, mount))
}

/// Mounts a copy in which the journal was replayed; where there can be none, the volume as it was, with a note why.
fn replay_in_copy(
    opened: Opened,
    disk: &Disk,
    layout: &Layout,
    progress: OnProgress<'_>,
    notes: &mut Vec<String>,
) -> Result<(Mount, LoopDevice, Option<Scratch>)> {
    let mut stopped = false;
    let copied = scratch::copy(disk, opened.slot.start, opened.slot.size, &mut |p| {
        let go_on = progress(p);
        stopped = go_on.is_break();
        go_on
    });
    let copy = match copied {
        Ok(copy) => copy,
        Err(_) if stopped => {
            opened.close()?;
            return Err(Refusal::new(
                crate::error::ExitCode::Interrupted,
                "stopped while copying the volume",
            )
            .into());
        }
        Err(error) => {
            notes.push(format!("the journal could not be replayed in a copy: {error:#}"));
            return Ok((opened.mount, opened.device, None));
        }
    };
    let Opened { mount, device, slot, superblock, subvolume, .. } = opened;
    let point = mount.point().to_owned();
    let path = device.path().to_owned();
    // Before the copy is bound: btrfs must not see two devices of one id.
    mount.close()?;
    device.close()?;
    forget(superblock.kind, &path);
    let size = block_size(layout, &slot, &superblock);
    let setup = LoopSetup { offset: copy.offset, size: slot.size, read_only: false, block_size: size };
    let device = LoopDevice::attach(&copy.file, &setup)?;
    match filesystem::mount(&device, superblock.kind, &point, Replay::Scratch, subvolume) {
        Ok(mount) => Ok((mount, device, Some(copy))),
        Err(error) => {
            let error = filesystem::explain(error, &slot, &superblock);
            notes.push(format!("the journal could not be replayed in a copy: {error:#}"));
            device.close()?;
            let device = bind(disk, layout, &slot, &superblock, Access::ReadOnly)?;
            let mount = filesystem::mount(&device, superblock.kind, &point, Replay::Skip, subvolume)
                .map_err(|error| filesystem::explain(error, &slot, &superblock))?;
            Ok((mount, device, None))
        }
    }
}
