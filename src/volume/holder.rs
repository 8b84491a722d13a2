//! Who holds a device or an image: said by name before it is refused.

#![expect(clippy::disallowed_methods, reason = "reads /proc and /sys of the helper, never the volume")]

use super::block::{BlockDevice, mounts_device};
use super::proc::{Process, SeenMount, all_mounts, names, pids, swaps, text};
use crate::sys::block::{LoopStatus, loop_status};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything that holds `device`, its partitions, or (for a partition) the disk as a whole. A phrase each.
pub(super) fn of_device(device: &BlockDevice) -> Vec<String> {
    let mounts = all_mounts();
    let mut family = vec![device.clone()];
    match &device.disk {
        Some(disk) => family.push(BlockDevice::disk(disk)),
        None => family.extend(device.partitions()),
    }
    let mut found = Vec::new();
    for member in &family {
        let of = if member == device { String::new() } else { format!("{} is ", member.node().display()) };
        found.extend(used_as(member, &mounts).into_iter().map(|how| format!("{of}{how}")));
    }
    if found.is_empty() {
        found.extend(family.iter().flat_map(openers).map(|process| format!("held open by {process}")));
    }
    found.dedup();
    found
}

/// "mounted on /data", "used as swap", "part of rootvg-root (dm-0), which is mounted on /srv".
pub(super) fn used_as(device: &BlockDevice, mounts: &[SeenMount]) -> Vec<String> {
    let mut found = mounted(device, mounts);
    if swaps().iter().any(|swap| BlockDevice::of_node(swap).is_some_and(|s| s.name == device.name)) {
        found.push("used as swap".to_owned());
    }
    for holder in device.holders() {
        let uses = mounted(&holder, mounts);
        let uses = if uses.is_empty() { String::new() } else { format!(", which is {}", uses.join(" and ")) };
        found.push(format!("part of {}{uses}", holder.words()));
    }
    found.extend(loops_of_device(device).into_iter().map(|name| format!("{BOUND} {name}")));
    found
}

/// How what was made of the device is closed, and what could be given in its place; `None` where nothing was.
pub(super) fn way_on(device: &BlockDevice) -> Option<String> {
    let family = device.partitions().into_iter().chain([device.clone()]);
    let holder = family.flat_map(|member| member.holders()).next()?;
    let attribute = |name: &str| text(&holder.sys().join(name));
    let node = holder.node().display().to_string();
    let (close, instead) = way_of(&node, attribute("dm/name").as_deref(), attribute("dm/uuid").as_deref());
    Some(format!("If nothing here needs it, close it: {close}. Or give {instead} itself as target."))
}

/// The command that closes a device, and its usual name. Device-mapper's ids begin with the subsystem that made them.
fn way_of(node: &str, name: Option<&str>, id: Option<&str>) -> (String, String) {
    let Some(name) = name else {
        return (format!("mdadm --stop {node}"), node.to_owned());
    };
    let mapper = format!("/dev/mapper/{name}");
    match id.and_then(|id| id.split_once('-')).map(|(maker, _)| maker) {
        Some("LVM") => {
            // vg-lv, where a dash of either name is doubled.
            let plain = name.replace("--", "\0");
            let (group, volume) = plain.split_once('-').unwrap_or((&plain, ""));
            let (group, volume) = (group.replace('\0', "-"), volume.replace('\0', "-"));
            (format!("vgchange -an {group}"), format!("/dev/{group}/{volume}"))
        }
        Some("CRYPT") => (format!("cryptsetup close {name}"), mapper),
        Some("mpath") => (format!("multipath -f {name}"), mapper),
        _ => (format!("dmsetup remove {name}"), mapper),
    }
}

/// Where the device is mounted, in any mount namespace.
fn mounted(device: &BlockDevice, mounts: &[SeenMount]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for SeenMount { line, process } in mounts.iter().filter(|m| mounts_device(&m.line, device)) {
        let point = line.point.display();
        let words = match process {
            None => format!("mounted on {point}"),
            // A namespace that was copied from ours shows what ours shows.
            Some(_) if found.iter().any(|f| f.starts_with("mounted on ")) => continue,
            Some(process) => format!("mounted on {point} by {process}"),
        };
        if !found.contains(&words) {
            found.push(words);
        }
    }
    found
}

/// How a loop device is told in [`used_as`].
const BOUND: &str = "bound to the loop device";

/// The loop devices that are bound to a file with this identity.
fn loops(matches: impl Fn(&LoopStatus) -> bool) -> Vec<(String, LoopStatus)> {
    let bound = |name: &String| {
        name.starts_with("loop") && Path::new("/sys/block").join(name).join("loop/backing_file").exists()
    };
    let status = |name: &String| {
        let device = fs::File::open(Path::new("/dev").join(name)).ok()?;
        loop_status(&device).ok()
    };
    let all = names(Path::new("/sys/block")).into_iter().filter(bound);
    let bound = all.filter_map(|name| Some((format!("/dev/{name}"), status(&name)?)));
    bound.filter(|(_, status)| matches(status)).collect()
}

fn loops_of_device(device: &BlockDevice) -> Vec<String> {
    let Ok(metadata) = fs::metadata(device.node()) else { return Vec::new() };
    let bound = loops(|status| status.rdevice != 0 && status.rdevice == metadata.rdev());
    bound.into_iter().map(|(name, _)| name).collect()
}

/// Who uses the bytes of the device by another way: through another loop device that is bound to the device, or to the
/// same file as it, or as the device that it is bound to. The kernel's exclusive open says nothing of these.
pub(super) fn of_same_bytes(device: &BlockDevice) -> Vec<String> {
    let disk = BlockDevice::disk(device.disk_name());
    let own = fs::File::open(disk.node()).ok().and_then(|node| loop_status(&node).ok());
    let bound = loops(|_| true);
    let mut others: Vec<BlockDevice> = Vec::new();
    // What is bound to one of these is bound to the device, if by some steps.
    let mut reached = vec![disk.clone()];
    while let Some(at) = reached.pop() {
        let members = at.partitions().into_iter().chain([at.clone()]);
        let numbers: Vec<u64> =
            members.filter_map(|member| Some(fs::metadata(member.node()).ok()?.rdev())).collect();
        for (name, status) in &bound {
            let other = BlockDevice::disk(name.trim_start_matches("/dev/"));
            let stacked = status.rdevice != 0 && numbers.contains(&status.rdevice);
            let same = stacked || own.as_ref().is_some_and(|own| overlap(own, status));
            if same && other != disk && !others.contains(&other) {
                others.push(other.clone());
                reached.push(other);
            }
        }
    }
    let backing = own.filter(|own| own.rdevice != 0).and_then(|own| BlockDevice::of_rdev(own.rdevice));
    if others.is_empty() && backing.is_none() {
        return Vec::new();
    }
    let mounts = all_mounts();
    let mut found = Vec::new();
    for other in &others {
        let members = other.partitions().into_iter().chain([other.clone()]);
        let uses: Vec<String> = members.flat_map(|member| uses(&member, &mounts)).collect();
        if !uses.is_empty() {
            let uses = uses.join(" and ");
            found.push(format!("the same bytes are in {}, which is {uses}", other.node().display()));
        }
    }
    if let Some(backing) = backing {
        let uses: Vec<String> =
            uses(&backing, &mounts).into_iter().filter(|how| !how.starts_with(BOUND)).collect();
        if !uses.is_empty() {
            found.push(format!(
                "it is a part of {}, which is {}",
                backing.node().display(),
                uses.join(" and ")
            ));
        }
    }
    found
}

/// What the device is used as apart from loop devices, or else who has it open.
fn uses(device: &BlockDevice, mounts: &[SeenMount]) -> Vec<String> {
    let used: Vec<String> =
        used_as(device, mounts).into_iter().filter(|how| !how.starts_with(BOUND)).collect();
    if used.is_empty() {
        return openers(device).iter().map(|process| format!("held open by {process}")).collect();
    }
    used
}

/// Whether two loop devices show some of the same bytes.
fn overlap(one: &LoopStatus, other: &LoopStatus) -> bool {
    let same = if one.rdevice == 0 {
        other.rdevice == 0 && (one.device, one.inode) == (other.device, other.inode)
    } else {
        one.rdevice == other.rdevice
    };
    let end = |of: &LoopStatus| match of.size_limit {
        0 => u64::MAX,
        limit => of.offset.saturating_add(limit),
    };
    same && one.offset < end(other) && other.offset < end(one)
}

/// Whether all that holds the volume are loop devices on their way out: to be unbound with their last user, and no
/// process or mount is one. A run that was killed leaves them for as long as the kernel writes what it had not written.
fn are_fading(bound: &[(String, LoopStatus)], mounts: &[SeenMount]) -> bool {
    let unused = |name: &str| {
        let disk = BlockDevice::disk(name.trim_start_matches("/dev/"));
        mounted(&disk, mounts).is_empty() && openers(&disk).is_empty()
    };
    !bound.is_empty() && bound.iter().all(|(name, status)| status.autoclear && unused(name))
}

/// How long it is worth to wait for what holds a device or image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It stays: a mount, swap, another device.
    Firm,
    /// Nobody is to be seen, or somebody who may only be passing by, as udev is.
    Passing,
    /// Only what a run that has just died left.
    Fading,
}

/// What kind of hold the device is under.
pub(super) fn hold_of_device(device: &BlockDevice) -> Hold {
    let mounts = all_mounts();
    let disk = BlockDevice::disk(device.disk_name());
    let family: Vec<BlockDevice> = disk.partitions().into_iter().chain([disk]).collect();
    let numbers: Vec<u64> =
        family.iter().filter_map(|member| Some(fs::metadata(member.node()).ok()?.rdev())).collect();
    let bound = loops(|status| status.rdevice != 0 && numbers.contains(&status.rdevice));
    let is_firm = |member: &BlockDevice| {
        let loops_apart = used_as(member, &mounts).into_iter().filter(|how| !how.starts_with(BOUND));
        loops_apart.count() > 0
    };
    if family.iter().any(is_firm) {
        Hold::Firm
    } else if are_fading(&bound, &mounts) {
        Hold::Fading
    } else if bound.iter().any(|(_, status)| !status.autoclear) {
        Hold::Firm
    } else {
        Hold::Passing
    }
}

/// What kind of hold the image is under.
pub(super) fn hold_of_image(metadata: &fs::Metadata) -> Hold {
    let bound = loops(|status| status.device == metadata.dev() && status.inode == metadata.ino());
    let mounts = all_mounts();
    let is_mounted = |name: &str| {
        let disk = BlockDevice::disk(name.trim_start_matches("/dev/"));
        !mounted(&disk, &mounts).is_empty()
            || disk.partitions().iter().any(|p| !mounted(p, &mounts).is_empty())
    };
    if bound.is_empty() || bound.iter().any(|(name, status)| !status.autoclear || is_mounted(name)) {
        Hold::Firm
    } else if are_fading(&bound, &mounts) {
        Hold::Fading
    } else {
        Hold::Passing
    }
}

/// Everything that holds the image: loop devices, swap.
pub(super) fn of_image(path: &Path, metadata: &fs::Metadata) -> Vec<String> {
    let mut found = Vec::new();
    let bound = loops(|status| status.device == metadata.dev() && status.inode == metadata.ino());
    let mounts = if bound.is_empty() { Vec::new() } else { all_mounts() };
    for (device, _) in bound {
        let name = device.trim_start_matches("/dev/");
        let disk = BlockDevice::disk(name);
        let mut uses = mounted(&disk, &mounts);
        uses.extend(disk.partitions().iter().flat_map(|p| mounted(p, &mounts)));
        let uses = if uses.is_empty() { String::new() } else { format!(", which is {}", uses.join(" and ")) };
        found.push(format!("{BOUND} {device}{uses}"));
    }
    let same = |swap: &Path| {
        fs::metadata(swap).is_ok_and(|m| (m.dev(), m.ino()) == (metadata.dev(), metadata.ino()))
    };
    if swaps().iter().any(|swap| same(swap)) {
        found.push(format!("{} is used as swap", path.display()));
    }
    found
}

/// The process that holds a lock of flock(2) on the inode, as /proc/locks has it.
pub(super) fn of_lock(metadata: &fs::Metadata) -> Option<Process> {
    let locks = text(Path::new("/proc/locks"))?;
    let pid = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().filter(|f| *f != "->").collect();
        let inode = fields.get(5)?.rsplit(':').next()?.parse::<u64>().ok()?;
        let pid = fields.get(4)?.parse::<u32>().ok()?;
        (fields.get(1) == Some(&"FLOCK") && inode == metadata.ino()).then_some(pid)
    })?;
    pids().contains(&pid).then(|| Process::of(pid))
}

/// The processes, other than this one, that have the device's node open.
fn openers(device: &BlockDevice) -> Vec<Process> {
    let node = device.node();
    let others = pids().into_iter().filter(|&pid| pid != std::process::id());
    others.filter(|&pid| descriptors(pid).any(|target| target == node)).take(3).map(Process::of).collect()
}

fn descriptors(pid: u32) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok())
}

/// Who keeps the filesystem with this `st_dev` busy: open files, working directories, mounts elsewhere.
pub(super) fn of_filesystem(dev: u64) -> Vec<String> {
    let on_it = |path: &Path| fs::metadata(path).is_ok_and(|m| m.dev() == dev);
    let mut found = Vec::new();
    for pid in pids() {
        let directory = std::path::PathBuf::from(format!("/proc/{pid}"));
        let entries = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten();
        let open = entries.map(|e| e.path()).find(|fd| on_it(fd));
        let working = || ["cwd", "root", "exe"].iter().map(|n| directory.join(n)).find(|link| on_it(link));
        if let Some(link) = open.or_else(working) {
            let file = fs::read_link(&link).unwrap_or_default();
            let who = if pid == std::process::id() {
                "volrescue itself".to_owned()
            } else {
                Process::of(pid).to_string()
            };
            found.push(format!("{who} has {} open", file.display()));
        }
    }
    found.truncate(5);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_udev_opened_is_closed_by_its_own_tool() {
        let way = |name, id| way_of("/dev/dm-3", Some(name), Some(id));
        let words = |close: &str, instead: &str| (close.to_owned(), instead.to_owned());
        assert_eq!(way("my--vg-ho--me", "LVM-abc"), words("vgchange -an my-vg", "/dev/my-vg/ho-me"));
        assert_eq!(way("root", "CRYPT-LUKS2-x-root"), words("cryptsetup close root", "/dev/mapper/root"));
        assert_eq!(way("mpatha", "mpath-3600"), words("multipath -f mpatha", "/dev/mapper/mpatha"));
        assert_eq!(way_of("/dev/md127", None, None), words("mdadm --stop /dev/md127", "/dev/md127"));
    }
}
