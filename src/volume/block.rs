//! Block devices of the helper, as /sys shows them.

#![expect(clippy::disallowed_methods, reason = "reads /sys and /dev of the helper, never the volume")]

use super::proc::{MountLine, names, own_mounts, text};
use crate::sys::block::{directory_of_number, node_of_name};
use nix::sys::stat::makedev;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A block device by the kernel's name for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockDevice {
    /// "nvme1n1p1"
    pub(super) name: String,
    /// The name of the disk that it is a partition of.
    pub(super) disk: Option<String>,
}

impl BlockDevice {
    /// The device of this number; `None` if /sys does not know it.
    pub(super) fn of_number(major: u32, minor: u32) -> Option<Self> {
        Self::of_rdev(makedev(major.into(), minor.into()))
    }

    /// The device of a `st_rdev`; `None` if /sys does not know it.
    pub(super) fn of_rdev(rdev: u64) -> Option<Self> {
        let path = directory_of_number(rdev).ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        let parent = || Some(path.parent()?.file_name()?.to_str()?.to_owned());
        let disk = if path.join("partition").exists() { parent() } else { None };
        Some(Self { name, disk })
    }

    /// The device behind a node in /dev.
    pub(super) fn of_node(node: &Path) -> Option<Self> {
        let rdev = fs::metadata(node).ok().filter(is_block)?.rdev();
        Self::of_rdev(rdev)
    }

    /// A whole disk.
    pub(super) fn disk(name: &str) -> Self {
        Self { name: name.to_owned(), disk: None }
    }

    /// Its directory in /sys.
    pub(super) fn sys(&self) -> PathBuf {
        let block = Path::new("/sys/block");
        match &self.disk {
            Some(disk) => block.join(disk).join(&self.name),
            None => block.join(&self.name),
        }
    }

    /// Its usual node.
    pub(super) fn node(&self) -> PathBuf {
        node_of_name(&self.name)
    }

    /// The name of the disk itself or of the disk it is on.
    pub(super) fn disk_name(&self) -> &str {
        self.disk.as_deref().unwrap_or(&self.name)
    }

    /// Major and minor number.
    pub(super) fn number(&self) -> Option<(u32, u32)> {
        let text = text(&self.sys().join("dev"))?;
        let (major, minor) = text.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// The partitions that the kernel sees on it.
    pub(super) fn partitions(&self) -> Vec<Self> {
        let sys = self.sys();
        let is_partition = |name: &String| sys.join(name).join("partition").exists();
        let partitions = names(&sys).into_iter().filter(is_partition);
        partitions.map(|name| Self { name, disk: Some(self.name.clone()) }).collect()
    }

    /// The devices that are made of it: device-mapper, md, bcache.
    pub(super) fn holders(&self) -> Vec<Self> {
        names(&self.sys().join("holders")).iter().map(|name| Self::disk(name)).collect()
    }

    /// The devices that it is made of.
    pub(super) fn slaves(&self) -> Vec<Self> {
        let node = |name: &String| Self::of_node(&node_of_name(name));
        names(&self.sys().join("slaves")).iter().filter_map(node).collect()
    }

    /// "rootvg-home (dm-3)", "md0".
    pub(super) fn words(&self) -> String {
        let name = &self.name;
        text(&self.sys().join("dm/name")).map_or_else(|| name.clone(), |dm| format!("{dm} ({name})"))
    }

    /// The serial number: for an EBS volume its id without the dash.
    pub(super) fn serial(&self) -> Option<String> {
        text(&self.sys().join("device/serial")).or_else(|| text(&self.sys().join("serial")))
    }
}

fn is_block(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_block_device()
}

/// Whether the mount is of this device: by number, or, where a filesystem has numbers of its own (btrfs), by source.
pub(super) fn mounts_device(line: &MountLine, device: &BlockDevice) -> bool {
    device.number().is_some_and(|number| number == line.device)
        || (line.device.0 == 0
            && line.source.starts_with("/dev")
            && BlockDevice::of_node(&line.source).is_some_and(|source| source.name == device.name))
}

/// The names of the disks that carry the helper's own root filesystem.
pub(super) fn own_disks() -> BTreeSet<String> {
    let root = own_mounts().into_iter().rfind(|line| line.point == Path::new("/"));
    let device = root.and_then(|line| {
        BlockDevice::of_number(line.device.0, line.device.1).or_else(|| BlockDevice::of_node(&line.source))
    });
    let mut disks = BTreeSet::new();
    let mut todo: Vec<BlockDevice> = device.into_iter().collect();
    while let Some(device) = todo.pop() {
        if disks.insert(device.disk_name().to_owned()) {
            todo.extend(device.slaves());
            todo.extend(BlockDevice::disk(device.disk_name()).slaves());
        }
    }
    disks
}
