//! How each filesystem is mounted, when its journal waits for replay, and what its refusals mean.

use super::checker;
use super::loopdev::LoopDevice;
use super::mount::{Mount, Writes};
use super::proc::text;
use crate::error::Refusal;
use crate::probe::{Detail, Ext, Kind, Slot, Superblock, lacking};
use nix::errno::Errno;
use std::io;
use std::path::Path;

/// What a mount does with a journal that waits for replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// Leaves it, and sees the filesystem as it was before. Read-only.
    Skip,
    /// Replays it; refused by the kernel where the device is read-only. The mount is read-only.
    ReadOnly,
    /// The same, in a copy that needs to survive nothing: without waiting for the disk under it.
    Scratch,
    /// Replays it. The mount takes writes.
    ReadWrite,
}

/// The driver's name. One driver has all three of ext.
pub(super) fn driver(kind: Kind) -> &'static str {
    match kind {
        Kind::Xfs => "xfs",
        Kind::Btrfs => "btrfs",
        _ => "ext4",
    }
}

/// Mounts it.
pub(super) fn mount(
    device: &LoopDevice,
    kind: Kind,
    point: &Path,
    replay: Replay,
    subvolume: Option<u64>,
) -> io::Result<Mount> {
    let writes = if replay == Replay::ReadWrite { Writes::Taken } else { Writes::Refused };
    let mount = |options: &str| Mount::new(device.path(), point, driver(kind), writes, options);
    match kind {
        Kind::Xfs => match replay {
            Replay::Skip => mount("norecovery,nouuid"),
            _ => mount("nouuid"),
        },
        Kind::Btrfs => {
            let subvolume = subvolume.map_or_else(String::new, |id| format!("subvolid={id}"));
            let with = |option: &str| {
                let both = [option, subvolume.as_str()];
                both.iter().copied().filter(|o| !o.is_empty()).collect::<Vec<_>>().join(",")
            };
            match replay {
                Replay::Skip => {}
                Replay::Scratch => return mount(&with("nobarrier")),
                Replay::ReadOnly | Replay::ReadWrite => return mount(&with("")),
            }
            // Before Linux 5.9 the option had no prefix.
            match mount(&with("rescue=nologreplay")) {
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                    mount(&with("nologreplay"))
                }
                done => done,
            }
        }
        _ => match replay {
            Replay::Skip => mount("noload"),
            // Zeroing inode tables is not what this mount is for.
            Replay::ReadWrite => mount("noinit_itable"),
            Replay::ReadOnly => mount(""),
            Replay::Scratch => mount("barrier=0"),
        },
    }
}

/// Whether a mount failed because a journal waits for replay on a device that takes no writes.
pub(super) fn needs_replay(error: &io::Error) -> bool {
    matches!(Errno::from_raw(error.raw_os_error().unwrap_or(0)), Errno::EROFS | Errno::EACCES)
}

/// Whether a mount failed in a way in which damage shows, which a checker may mend.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO | Errno::EINVAL)
}

/// Whether the superblock itself says that nothing but a checker helps.
pub(super) fn needs_checker(superblock: &Superblock) -> bool {
    match &superblock.detail {
        Detail::Ext(ext) => ext.copy.is_some(),
        Detail::Xfs(xfs) => xfs.incompat.iter().any(|feature| feature == "needsrepair"),
        _ => false,
    }
}

/// Whether all of the filesystem is there.
///
/// # Errors
/// [`Refusal`] (3) that says what is missing.
pub(super) fn check_extent(slot: &Slot, superblock: &Superblock) -> Result<(), Refusal> {
    let place = format!("the {} on {}", superblock.kind.name(), slot.words());
    if let Some(fault) = slot.partition.as_ref().and_then(|p| p.fault.as_ref()) {
        return Err(Refusal::target(format!("{} can't be used: {fault}", slot.words())).hint(
            "If this is a copy, make it again and check that it is complete; else mend the table with gdisk.",
        ));
    }
    if let Some(size) = superblock.size().filter(|size| *size > slot.size) {
        return Err(Refusal::target(format!(
            "{place} is cut off: it has {size} bytes, and only {} of them are there",
            slot.size
        ))
        .hint("Make the copy again, and check that it is complete."));
    }
    Ok(())
}

/// What keeps this filesystem from being mounted at all, known before it is tried.
///
/// # Errors
/// [`Refusal`] (3) that names it.
pub(super) fn check(slot: &Slot, superblock: &Superblock, replay: Replay) -> Result<(), Refusal> {
    check_extent(slot, superblock)?;
    let place = format!("the {} on {}", superblock.kind.name(), slot.words());
    match &superblock.detail {
        Detail::Ext(ext) if ext.external_journal => Err(elsewhere(&place, "journal")),
        Detail::Ext(Ext { copy: Some(copy), .. }) => Err(Refusal::target(format!(
            "{place} has a ruined first superblock; a good copy of it is in block {}",
            copy.block
        ))
        .hint(checker::advice(superblock))),
        Detail::Ext(ext) if ext.errors && replay == Replay::ReadWrite => {
            Err(Refusal::target(format!("{place} is marked as having errors, so it is not written to"))
                .hint(checker::advice(superblock)))
        }
        Detail::Xfs(xfs) if xfs.external_log => Err(elsewhere(&place, "log")),
        Detail::Xfs(_) if needs_checker(superblock) => {
            Err(Refusal::target(format!("{place} is marked as needing repair"))
                .hint(checker::advice(superblock)))
        }
        Detail::Btrfs(btrfs) if btrfs.devices > 1 => {
            Err(Refusal::target(format!("{place} spans {} devices, of which this is one", btrfs.devices))
                .hint("Attach all of them, mount the filesystem yourself, and give the directory as target."))
        }
        _ => Ok(()),
    }
}

fn elsewhere(place: &str, what: &str) -> Refusal {
    Refusal::target(format!("{place} has its {what} on another device"))
        .hint("Attach both, mount the filesystem yourself, and give the directory as target.")
}

/// Why the kernel did not mount it, in words that help.
pub(super) fn explain(error: io::Error, slot: &Slot, superblock: &Superblock) -> anyhow::Error {
    let kind = superblock.kind;
    let place = format!("the {} on {}", kind.name(), slot.words());
    let driver = driver(kind);
    let refusal = match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENODEV => Refusal::target(format!("this machine's kernel has no driver for {place}"))
            .hint(format!("Load it (modprobe {driver}) or use a helper whose kernel has it.")),
        Errno::EINVAL | Errno::EOPNOTSUPP => {
            let release = text(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
            let (lacking, all) = (lacking(superblock, &release), superblock.features());
            let features = match (lacking.is_empty(), all.is_empty()) {
                (false, _) => format!(": it uses {}", lacking.join("; ")),
                (true, false) => format!("; its features are {}", all.join(", ")),
                (true, true) => String::new(),
            };
            Refusal::target(format!("this machine's kernel ({release}) does not take {place}{features}"))
            .hint(if lacking.is_empty() {
                format!("dmesg has the kernel's reason. If it is damage: {}", checker::advice(superblock))
            } else {
                "Use a helper with the same system as the volume or a newer one; dmesg has the kernel's reason.".into()
            })
        }
        Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO => {
            Refusal::target(format!("{place} is damaged: {error}")).hint(checker::advice(superblock))
        }
        Errno::EPERM | Errno::EACCES => {
            Refusal::target(format!("the kernel does not let us mount {place}: {error}"))
                .hint("Run volrescue as root; in a container, run it with --privileged.")
        }
        _ => return anyhow::Error::from(error).context(format!("mounting {place}")),
    };
    refusal.into()
}
