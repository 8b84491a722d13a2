//! The disks that are attached to the helper and what is on them, by reading only. What could be rescued is mounted for a
//! moment, for this process alone, to see which system it is.

#![expect(clippy::disallowed_methods, reason = "opens the helper's disks for reading")]

use super::block::{BlockDevice, own_disks};
use super::candidate::RootCandidate;
use super::disk::{Access, Disk};
use super::holder::used_as;
use super::proc::{SeenMount, all_mounts, names, text};
use super::stack::Part;
use super::target::volume_of;
use super::{BackingFiles, Target, TargetKind, enter_namespace, pick_point, search};
use crate::probe::{Content, Kind, Layout, Slot, TableKind, layout};
use crate::sys::bytes::FileBytes;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A disk of the helper.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedDisk {
    /// Its node: `/dev/nvme1n1`.
    pub device: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: Option<u32>,
    /// What the maker calls it.
    pub model: Option<String>,
    /// The serial number.
    pub serial: Option<String>,
    /// The EBS volume id.
    pub volume: Option<String>,
    /// What a loop device is bound to, or how a mapped device is called.
    pub name: Option<String>,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Its partition table; `None` if it could not be read.
    pub table: Option<TableKind>,
    /// Its partitions, or one for the whole disk.
    pub parts: Vec<ListedPart>,
    /// What could be the root of a machine: one for each, of btrfs one for each subvolume. Empty where it was not looked.
    pub roots: Vec<RootCandidate>,
    /// Whether volrescue could work on it.
    pub rescuable: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// A partition, or a whole disk without a table.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedPart {
    /// Its number; `None` for the whole disk and for a logical volume.
    pub number: Option<u32>,
    /// The logical volume that it is: `vg/lv`.
    pub logical_volume: Option<String>,
    /// Which of `parts`, counted from 0, it lies in: a logical volume in its physical volume.
    pub inside: Option<usize>,
    /// The array that it is one mirror of.
    pub mirror: Option<String>,
    /// Its node, where the kernel sees the partition too.
    pub device: Option<PathBuf>,
    /// First byte.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// What the table says that it is for.
    pub purpose: Option<String>,
    /// What it holds: `ext4`, `swap`, `nothing`.
    pub content: String,
    /// Whether a key opens it.
    pub is_encrypted: bool,
    /// Whether it is a filesystem that can be repaired.
    pub rescuable: bool,
    /// The filesystem's id.
    pub uuid: Option<String>,
    /// The filesystem's name.
    pub label: Option<String>,
    /// PARTUUID.
    pub partition_uuid: Option<String>,
    /// What uses it on the helper: `mounted on /`.
    pub used: Vec<String>,
    /// What is wrong with its extent.
    pub fault: Option<String>,
}

/// The disks of the helper: hardware, bound loop devices, device-mapper and md.
#[must_use]
pub fn list() -> Vec<ListedDisk> {
    let own = own_disks();
    let mounts = all_mounts();
    let disks = names(Path::new("/sys/block")).into_iter().map(|name| BlockDevice::disk(&name));
    let mut listed: Vec<ListedDisk> = disks.filter_map(|disk| listed(&disk, &own, &mounts)).collect();
    for disk in listed.iter_mut().filter(|disk| disk.parts.iter().any(|part| part.rescuable)) {
        // What a loop device is bound to can be given itself, and mostly another tool is at work on it.
        if disk.rescuable && !is_loop(disk) {
            match roots(disk) {
                Ok((roots, failures)) => {
                    disk.roots = roots;
                    disk.notes.extend(failures);
                }
                Err(error) => disk.notes.push(format!("which system is on it could not be seen: {error:#}")),
            }
        }
    }
    listed
}

fn is_loop(disk: &ListedDisk) -> bool {
    disk.device.to_str().is_some_and(|node| node.starts_with("/dev/loop"))
}

/// The systems on a disk that nothing uses.
fn roots(disk: &ListedDisk) -> Result<(Vec<RootCandidate>, Vec<String>)> {
    enter_namespace()?;
    let target = Target {
        given: disk.device.clone().into(),
        kind: TargetKind::Block,
        path: disk.device.clone(),
        follow: BackingFiles::InDirectory,
    };
    let held = Disk::open(&target, Access::ReadOnly)?;
    let layout = layout(&held, held.sector_size)?;
    let point = pick_point(&[])?;
    let parts = [Part::new(held, layout.clone(), true)];
    let found = search::all_roots(&parts, &layout, &point);
    let [Part { disk, .. }] = parts;
    disk.release()?;
    found
}

fn listed(disk: &BlockDevice, own: &BTreeSet<String>, mounts: &[SeenMount]) -> Option<ListedDisk> {
    let sys = disk.sys();
    let size = text(&sys.join("size"))?.parse::<u64>().ok()?.checked_mul(512)?;
    if size == 0 || ["ram", "zram", "fd"].iter().any(|prefix| disk.name.starts_with(prefix)) {
        return None;
    }
    let serial = disk.serial();
    let sector_size = text(&sys.join("queue/logical_block_size")).and_then(|t| t.parse().ok());
    let layout = read(&disk.node(), size, sector_size);
    let mut listed = ListedDisk {
        device: disk.node(),
        size,
        sector_size,
        model: text(&sys.join("device/model")),
        volume: volume_of(disk),
        serial,
        name: text(&sys.join("loop/backing_file")).or_else(|| text(&sys.join("dm/name"))),
        read_only: text(&sys.join("ro")).is_some_and(|t| t == "1"),
        table: layout.as_ref().ok().map(|l| l.table.kind),
        parts: Vec::new(),
        roots: Vec::new(),
        rescuable: false,
        why_not: None,
        notes: Vec::new(),
    };
    let mut used = used_as(disk, mounts);
    match &layout {
        Ok(layout) => {
            let kernel = disk.partitions();
            let part = |slot: &Slot| listed_part(slot, disk, &kernel, mounts);
            listed.parts = layout.slots.iter().map(part).collect();
            for (part, slot) in listed.parts.iter_mut().zip(&layout.slots) {
                part.inside = layout.slots.iter().position(|outer| holds(outer, slot));
            }
            listed.notes.clone_from(&layout.table.notes);
            for part in listed.parts.iter().filter(|p| p.number.is_some()) {
                used.extend(
                    part.used.iter().map(|u| format!("partition {} is {u}", part.number.unwrap_or(0))),
                );
            }
        }
        Err(why) => listed.why_not = Some(why.clone()),
    }
    if own.contains(&disk.name) {
        listed.why_not = Some("it carries the root of this machine".to_owned());
    } else if !used.is_empty() {
        listed.why_not = Some(format!("it is in use: {}", used.join(", ")));
    } else if listed.why_not.is_none() && !listed.parts.iter().any(|p| p.rescuable) {
        listed.why_not = Some(match listed.parts.as_slice() {
            parts if parts.iter().any(|part| part.is_encrypted) => {
                listed.rescuable = true;
                listed.notes.push(
                    "what is encrypted is opened with --luks-key FILE, or a passphrase that is typed".into(),
                );
                return Some(listed);
            }
            [only] if only.number.is_none() => format!("it holds {}", only.content),
            _ => "no partition holds a filesystem that can be repaired".to_owned(),
        });
    }
    listed.rescuable = listed.why_not.is_none();
    Some(listed)
}

/// Whether a physical volume holds the beginning of a logical one; one that is in pieces elsewhere is put under the first.
fn holds(outer: &Slot, inner: &Slot) -> bool {
    let is_physical =
        outer.logical.is_none() && outer.content.superblock().is_some_and(|s| s.kind == Kind::Lvm2);
    let first = inner.logical.as_ref().and_then(|logical| logical.pieces.first()?.stripes.first().copied());
    let start = first.map_or(inner.start, |(_, start)| start);
    is_physical && inner.logical.is_some() && outer.start <= start && start - outer.start < outer.size
}

/// The layout, or why there is none.
fn read(node: &Path, size: u64, sector_size: Option<u32>) -> Result<Layout, String> {
    let file = File::open(node).map_err(|error| format!("it can't be opened: {error}"))?;
    layout(&FileBytes { file: &file, size }, sector_size).map_err(|error| error.to_string())
}

fn listed_part(slot: &Slot, disk: &BlockDevice, kernel: &[BlockDevice], mounts: &[SeenMount]) -> ListedPart {
    let partition = slot.partition.as_ref();
    let is_it = |device: &&BlockDevice| {
        let number = text(&device.sys().join("partition")).and_then(|t| t.parse::<u32>().ok());
        number.is_some() && number == partition.map(|p| p.number)
    };
    let device = kernel.iter().find(is_it);
    let superblock = slot.content.superblock();
    ListedPart {
        number: partition.map(|p| p.number),
        inside: None,
        mirror: slot.mirror.as_ref().map(crate::probe::Member::words),
        is_encrypted: superblock.is_some_and(|s| matches!(s.kind, Kind::Luks1 | Kind::Luks2)),
        device: device.map(BlockDevice::node),
        start: slot.start,
        size: slot.size,
        purpose: match &slot.logical {
            Some(logical) => Some(format!("logical volume {}", logical.id())),
            None => partition.map(|p| p.kind.name.to_owned()).filter(|name| !name.is_empty()),
        },
        logical_volume: slot.logical.as_ref().map(crate::probe::Logical::id),
        content: slot.content.words(),
        rescuable: matches!(&slot.content, Content::Found(s) if s.kind.is_rescuable())
            && partition.is_none_or(|p| p.fault.is_none()),
        uuid: superblock.and_then(|s| s.uuid.clone()),
        label: superblock.and_then(|s| s.label.clone()).or_else(|| partition.and_then(|p| p.label.clone())),
        partition_uuid: partition.and_then(|p| p.uuid.clone()),
        used: match (partition, device) {
            (Some(_), Some(device)) => used_as(device, mounts),
            (None, _) => used_as(disk, mounts),
            (Some(_), None) => Vec::new(),
        },
        fault: match &slot.logical {
            Some(logical) => logical.fault.clone(),
            None => partition.and_then(|p| p.fault.clone()),
        },
    }
}
