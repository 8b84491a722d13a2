//! Opening a volume exclusively, finding its root, mounting it privately, letting go of it.
//!
//! [`Target::find`] says what the operator named, [`Volume::open`] takes it so that no one else can use it,
//! [`Volume::mount_root`] finds the root and mounts it, [`MountedRoot::close`] lets go and looks again. The volume is
//! reached through loop devices that the kernel unbinds by itself, mounted in a namespace that no one else sees: a
//! process that is killed at any point leaves nothing behind.

mod block;
mod candidate;
mod checker;
mod directory;
mod disk;
mod export;
mod filesystem;
mod follow;
mod format;
mod holder;
mod identity;
mod list;
mod loopdev;
mod luks;
mod mapped;
mod mount;
mod mounted;
mod proc;
mod scratch;
mod search;
mod stack;
mod target;
mod tmpfs;
mod tool;
mod twin;

pub use candidate::{Choice, RootCandidate};
pub use checker::{Checked, Health};
pub use disk::Access;
pub use follow::Follow;
pub use format::BackingFile;
pub use identity::identity;
pub use list::{ListedDisk, ListedPart, list};
pub use luks::{Keys, NoKeys};
pub use mount::{enter_namespace, pick_point};
pub use mounted::{Branch, IsRight, Journal, MountMode, MountedRoot, RootInfo, Unmounted};
pub use proc::mounts_at;
pub use scratch::{OnProgress, Progress};
pub use target::{BackingFiles, Live, Target, TargetKind, volume_id};
pub use tmpfs::PrivateTmpfs;
pub use tool::stage as tool;

use crate::error::Refusal;
use crate::probe::{Layout, TableError, layout};
use crate::root::{Crossing, Root};
use anyhow::{Context, Result};
use disk::Disk;
use stack::Part;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A volume that no one else can use meanwhile. Dropped, it is let go of.
#[derive(Debug)]
pub struct Volume {
    target: Target,
    content: Content,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Content {
    Disk(Disk, Layout),
    Directory(OwnedFd),
}

/// What the report says of a target.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TargetInfo {
    /// What the operator wrote.
    pub given: String,
    /// What it is.
    pub kind: TargetKind,
    /// The path of the device, image or directory on the helper.
    pub device: String,
    /// Size in bytes of a disk or image; of an image in a format of its own the size of the disk in it.
    pub size: Option<u64>,
    /// The format of an image that is not raw.
    pub format: Option<crate::probe::Format>,
    /// The files below such an image, the next one first.
    pub backing: Vec<BackingFile>,
}

impl Volume {
    /// Opens the target and reads its layout. Nothing is written.
    ///
    /// # Errors
    /// [`Refusal`]: in use, or the helper's own disk (4); not to be opened or understood (3).
    pub fn open(target: &Target, access: Access) -> Result<Self> {
        check_helper()?;
        let mut notes = Vec::new();
        let content = match target.kind {
            TargetKind::Directory | TargetKind::Live => {
                Content::Directory(directory::open_directory(target, access)?)
            }
            TargetKind::Block | TargetKind::Image => {
                mapped::stop_orphans();
                let disk = Disk::open(target, access)?;
                let layout = layout(&disk, disk.sector_size).map_err(|error| unreadable(target, error))?;
                notes.extend(layout.table.notes.iter().cloned());
                Content::Disk(disk, layout)
            }
        };
        Ok(Self { target: target.clone(), content, notes })
    }

    /// What the report says of the target.
    #[must_use]
    pub fn info(&self) -> TargetInfo {
        let disk = match &self.content {
            Content::Disk(disk, _) => Some(disk),
            Content::Directory(_) => None,
        };
        TargetInfo {
            given: self.target.given.to_string_lossy().into_owned(),
            kind: self.target.kind,
            device: self.target.path.to_string_lossy().into_owned(),
            size: disk.map(|disk| disk.size),
            format: disk.and_then(Disk::format),
            backing: disk.map(|disk| disk.backing().to_vec()).unwrap_or_default(),
        }
    }

    /// What the operator should know of it, such as that the backup of the partition table was used.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The path of the device, image or directory on the helper.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.target.path
    }

    /// Its partitions and what they hold; `None` for a directory.
    #[must_use]
    pub fn layout(&self) -> Option<&Layout> {
        match &self.content {
            Content::Disk(_, layout) => Some(layout),
            Content::Directory(_) => None,
        }
    }

    /// Finds the root and mounts it, for this process only. The volumes `with` may hold a part of the tree, or of what
    /// the root lies on. What is encrypted is opened with `keys`. `is_right` may refuse the root that was found before
    /// anything is written. `progress` is told when something takes long.
    ///
    /// # Errors
    /// [`Refusal`]: volumes beside a directory (2); no root, several roots and no choice, a filesystem that can't be
    /// mounted, no key (3); a btrfs that the helper has mounted, one mirror of several that would be written (4).
    pub fn mount_root(
        self,
        with: Vec<Self>,
        how: &Mounting<'_>,
        keys: &mut dyn Keys,
        is_right: IsRight<'_>,
        progress: OnProgress<'_>,
    ) -> Result<MountedRoot> {
        let Self { target, content, mut notes } = self;
        let Mounting { choice, mode, needed } = *how;
        let target_kind = target.kind;
        let mut mounted = match content {
            Content::Directory(_) if mode == MountMode::Checked => {
                let shown = target.path.display();
                return Err(Refusal::usage(format!("--fsck can't check what {shown} is mounted from"))
                    .hint("Unmount it and give the disk as target, or leave --fsck out.")
                    .into());
            }
            Content::Directory(directory) => {
                let mounted =
                    in_directory(&target, choice, directory).map_err(|error| with_path(error, &target))?;
                if !with.is_empty() {
                    return Err(Refusal::usage("the target is a directory, so --with can't be followed")
                        .hint("Mount the other filesystem where it belongs in the directory, or give the disks.")
                        .into());
                }
                is_right(&mounted.info)?;
                mounted
            }
            Content::Disk(disk, layout) => {
                if mode.access() == Access::ReadWrite && disk.access == Access::ReadOnly {
                    anyhow::bail!("the volume was opened for reading only");
                }
                enter_namespace()?;
                let mut needed = needed.to_vec();
                needed.push(target.path.clone());
                needed.extend(std::env::var_os("TMPDIR").map(PathBuf::from));
                let point = mount::pick_point(&needed)?;
                let mut parts = vec![Part::new(disk, layout, true)];
                beside(with, &mut parts, &mut notes)?;
                let mut checked = Vec::new();
                let find = |parts: &[Part]| search::find_root(&target, parts, choice, &point);
                let mut found = stack::open_up(&mut parts, keys, &mut notes, find);
                if mode == MountMode::Checked && found.is_err() {
                    let mut is_healed = false;
                    for part in parts.iter_mut().filter(|part| part.may_hold_root) {
                        let Part { disk, layout, .. } = part;
                        is_healed |=
                            checker::heal(disk, layout, choice, &point, &mut *progress, &mut checked)
                                .map_err(|error| with_path(error, &target))?;
                    }
                    if is_healed {
                        found = find(&parts);
                    }
                }
                found
                    .and_then(|(opened, root)| {
                        mounted::proceed(opened, root, parts, mode, checked, is_right, progress)
                    })
                    .map_err(|error| with_path(error, &target))?
            }
        };
        mounted.notes.splice(0..0, notes);
        if target_kind == TargetKind::Block {
            mounted.notes.extend(twin::note(&mounted.info));
        }
        Ok(mounted)
    }
}

/// How a root is to be found and mounted.
#[derive(Clone, Copy, Debug)]
pub struct Mounting<'a> {
    /// Which filesystem is the root, where several could be.
    pub choice: &'a Choice,
    /// What may happen to it; the volume must be open with [`MountMode::access`].
    pub mode: MountMode,
    /// Paths of the helper that are still needed, and so not mounted over.
    pub needed: &'a [PathBuf],
}

/// Adds the volumes that were given beside the root's.
fn beside(with: Vec<Volume>, parts: &mut Vec<Part>, notes: &mut Vec<String>) -> Result<()> {
    for volume in with {
        notes.extend(volume.notes);
        match volume.content {
            Content::Disk(disk, layout) => parts.push(Part::new(disk, layout, false)),
            Content::Directory(_) => {
                let shown = volume.target.path.display();
                return Err(Refusal::usage(format!(
                    "--with {shown}: a disk or an image is wanted, not a directory"
                ))
                .hint("Give the device that is mounted there, unmounted.")
                .into());
            }
        }
    }
    Ok(())
}

fn in_directory(target: &Target, choice: &Choice, directory: OwnedFd) -> Result<MountedRoot> {
    let shown = target.path.display();
    if choice.partition.is_some() || choice.root.is_some() {
        return Err(Refusal::usage(format!(
            "{shown} is a directory: there is no partition or root to choose"
        ))
        .hint("Leave out --partition and --root.")
        .into());
    }
    let os =
        candidate::root_in(directory.try_clone().context("opening the directory")?, Crossing::LoginPath)?;
    let Some(os) = os else {
        let tree = directory.try_clone().context("opening the directory")?;
        let lacks = candidate::lack(&Root::new(tree, Crossing::LoginPath)?);
        return Err(Refusal::target(format!("{shown} holds no root filesystem: {lacks}"))
            .hint("Give the directory that a root is mounted on, or the disk itself.")
            .into());
    };
    let info = RootInfo { os, ..directory::describe(&directory) };
    Ok(MountedRoot::directory(directory, info))
}

/// A refusal names the path, wherever it comes from.
fn with_path(error: anyhow::Error, target: &Target) -> anyhow::Error {
    let shown = target.path.display().to_string();
    match error.downcast::<Refusal>() {
        Ok(refusal) if refusal.message.contains(&shown) => refusal.into(),
        Ok(refusal) => Refusal { message: format!("{shown}: {}", refusal.message), ..refusal }.into(),
        Err(error) => error.context(format!("working on {shown}")),
    }
}

/// What this machine must have.
#[expect(clippy::disallowed_methods, reason = "the helper's own /")]
fn check_helper() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Refusal::target("volrescue must run as root: it opens disks and mounts them")
            .hint("Run it again with sudo.")
            .into());
    }
    // Root::new says it when the kernel has no openat2.
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/", flags, nix::sys::stat::Mode::empty()).context("opening /")?;
    Root::new(root, Crossing::Never).map(drop)
}

fn unreadable(target: &Target, error: TableError) -> anyhow::Error {
    let shown = target.path.display();
    match error {
        TableError::Read(error) => Refusal::target(format!("{shown} can't be read: {error}"))
            .hint("The device may be failing; the kernel's messages tell more: dmesg")
            .into(),
        TableError::Damaged(why) => Refusal::target(format!(
            "the partition table of {shown} can't be used: {why}"
        ))
        .hint("Mend the table with gdisk, on a copy if you can, or give the partition itself as target.")
        .into(),
    }
}

/// Tries until there is an answer, at first at short intervals, at most for `limit`.
fn retry<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(answer) = attempt() {
            return Some(answer);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
