//! What /proc and /sys of the helper say of mounts, swap and block devices.

#![expect(clippy::disallowed_methods, reason = "reads /proc and /sys of the helper, never the volume")]

use crate::sys::mounts::{parse_mountinfo, unescape};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) use crate::sys::mounts::{MountLine, own_mounts};

/// The mount that is seen at `point` and those on it, the upper ones first, each with whether it refuses writes. What the
/// helper had mounted below the point before is covered and is none of them.
#[must_use]
pub fn mounts_at(point: &Path) -> Vec<(PathBuf, bool)> {
    tree_at(own_mounts(), point)
}

fn tree_at(mounts: Vec<MountLine>, point: &Path) -> Vec<(PathBuf, bool)> {
    let Some(top) = mounts.iter().rposition(|line| line.point == point) else { return Vec::new() };
    let mut ids = vec![mounts[top].id];
    let mut found = vec![(mounts[top].point.clone(), mounts[top].read_only)];
    // A mount is listed before those that were mounted on it.
    for line in mounts.into_iter().skip(top + 1) {
        if ids.contains(&line.parent) {
            ids.push(line.id);
            found.push((line.point, line.read_only));
        }
    }
    found
}

/// A mount, and who sees it: `None` for this process, else a process of another mount namespace.
#[derive(Clone, Debug)]
pub(super) struct SeenMount {
    pub(super) line: MountLine,
    pub(super) process: Option<Process>,
}

/// A process of the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

impl Process {
    /// The process with this number.
    pub(super) fn of(pid: u32) -> Self {
        Self { pid, name: text(&PathBuf::from(format!("/proc/{pid}/comm"))).unwrap_or_default() }
    }
}

/// The numbers of all processes that can be seen.
pub(super) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The mounts of every mount namespace that has a process.
pub(super) fn all_mounts() -> Vec<SeenMount> {
    let mut seen: Vec<SeenMount> =
        own_mounts().into_iter().map(|line| SeenMount { line, process: None }).collect();
    let mut spaces = vec![fs::read_link("/proc/thread-self/ns/mnt").unwrap_or_default()];
    for pid in pids() {
        let Ok(space) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if spaces.contains(&space) {
            continue;
        }
        spaces.push(space);
        let process = Process::of(pid);
        let bytes = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let lines = parse_mountinfo(&bytes).into_iter();
        seen.extend(lines.map(|line| SeenMount { line, process: Some(process.clone()) }));
    }
    seen
}

/// The devices and files that are swapped to.
pub(super) fn swaps() -> Vec<PathBuf> {
    let bytes = fs::read("/proc/swaps").unwrap_or_default();
    let lines = bytes.split(|&b| b == b'\n').skip(1);
    lines.filter_map(|line| line.split(|&b| b == b' ' || b == b'\t').next()).map(unescape).collect()
}

/// A small file of /proc or /sys, without blanks around it; `None` if it can't be read or is empty.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The names in a directory of /proc or /sys, sorted; none if it is not there.
pub(super) fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| natural(name));
    names
}

/// sda2 before sda10.
fn natural(name: &str) -> (String, u64, String) {
    let end = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[end.len()..].parse().unwrap_or(0);
    (end.to_owned(), number, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mount_covers_is_not_on_it() {
        let text = b"20 1 8:1 / / rw - ext4 /dev/a rw\n21 20 8:2 / /mnt/old rw - ext4 /dev/b rw\n\
                     22 20 7:0 / /mnt ro,nosuid - ext4 /dev/loop0 ro\n23 22 7:1 / /mnt/home rw - ext4 /dev/loop1 rw\n\
                     24 20 8:3 / /srv rw - ext4 /dev/c rw\n";
        let at = |point: &str| tree_at(parse_mountinfo(text), Path::new(point));
        assert_eq!(at("/mnt"), [(PathBuf::from("/mnt"), true), (PathBuf::from("/mnt/home"), false)]);
        assert_eq!(at("/nowhere"), []);
    }

    #[test]
    fn devices_are_sorted_as_people_count() {
        let mut names = ["sda10", "sda2", "sda"].map(str::to_owned);
        names.sort_by_key(|n| natural(n));
        assert_eq!(names, ["sda", "sda2", "sda10"]);
    }
}
