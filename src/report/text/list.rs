//! The disks of `list`, drawn as trees.

use super::layout::{bytes, visible_width, wrap};
use super::{BOLD, GREEN, YELLOW};
use crate::report::escape;
use crate::report::output::Style;
use crate::volume::{ListedDisk, ListedPart, RootCandidate};
use std::fmt::Write as _;

/// The disks of `list`, each with what is on it.
#[must_use]
pub fn list(disks: &[ListedDisk], style: Style) -> String {
    let mut out = String::new();
    if disks.is_empty() {
        return "No disks are attached here.\n".into();
    }
    for disk in disks {
        let mut head = format!("{}  {}", escape::path(&disk.device), bytes(disk.size));
        for extra in [&disk.volume, &disk.model, &disk.name].into_iter().flatten() {
            let _ = write!(head, "  {}", escape::words(extra));
        }
        if disk.read_only {
            head.push_str("  read-only");
        }
        let _ = writeln!(out, "{}", wrap(&style.paint(BOLD, &head), 0, 4, style));
        out.push_str(&tree(&branches(disk, None, style), "  ", style));
        for note in &disk.notes {
            let _ = writeln!(out, "{}", wrap(&format!("note: {}", escape::words(note)), 2, 8, style));
        }
        let verdict = match (&disk.why_not, disk.rescuable) {
            (_, true) => {
                style.paint(GREEN, &format!("could be rescued: volrescue diagnose {}", disk.device.display()))
            }
            (Some(why), false) => format!("can't be rescued: {}", escape::words(why)),
            (None, false) => "holds no filesystem that could be a root".into(),
        };
        let _ = writeln!(out, "{}", wrap(&verdict, 2, 4, style));
    }
    out
}

/// A line of a tree, and what hangs on it.
struct Branch {
    line: String,
    branches: Vec<Branch>,
}

/// The partitions of a disk, or what lies in one of its parts.
fn branches(disk: &ListedDisk, inside: Option<usize>, style: Style) -> Vec<Branch> {
    let parts = disk.parts.iter().enumerate().filter(|(_, part)| part.inside == inside);
    parts
        .map(|(index, part)| Branch {
            line: part_line(part, disk, style),
            branches: below(disk, index, style),
        })
        .collect()
}

fn part_line(part: &ListedPart, disk: &ListedDisk, style: Style) -> String {
    let name = match (&part.logical_volume, part.number) {
        (Some(id), _) => escape::words(id),
        (None, Some(number)) => number.to_string(),
        (None, None) => "the whole disk".to_owned(),
    };
    let mut line = format!("{name}  {}  {}", bytes(part.size), escape::words(&part.content));
    let purpose = part.purpose.as_ref().filter(|_| part.logical_volume.is_none());
    let pairs = [("label", part.label.as_ref()), ("uuid", part.uuid.as_ref()), ("for", purpose)];
    for (what, value) in pairs {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(line, "  {what} {}", escape::words(value));
        }
    }
    if let Some(mirror) = &part.mirror {
        let _ = write!(line, "  mirror of {}", escape::words(mirror));
    }
    if let Some(root) = disk.roots.iter().find(|root| root.subvolume.is_none() && is_on(root, part)) {
        let _ = write!(line, "  {}", system(root, style));
    }
    for used in &part.used {
        let _ = write!(line, "  {}", escape::words(used));
    }
    if let Some(fault) = &part.fault {
        let _ = write!(line, "  {}", style.paint(YELLOW, &escape::words(fault)));
    }
    line
}

/// The subvolumes in a part that are systems, and its logical volumes.
fn below(disk: &ListedDisk, index: usize, style: Style) -> Vec<Branch> {
    let part = &disk.parts[index];
    let subvolumes = disk.roots.iter().filter(|root| is_on(root, part)).filter_map(|root| {
        let name = root.subvolume.as_ref()?;
        let line = format!("subvolume {}  {}", escape::words(name), system(root, style));
        Some(Branch { line, branches: Vec::new() })
    });
    subvolumes.chain(branches(disk, Some(index), style)).collect()
}

fn is_on(root: &RootCandidate, part: &ListedPart) -> bool {
    (root.partition, &root.logical_volume) == (part.number, &part.logical_volume)
}

/// What a root is a root of.
fn system(root: &RootCandidate, style: Style) -> String {
    style.paint(BOLD, &root.os.as_deref().map_or_else(|| "a system without a name".into(), escape::words))
}

/// The lines with the branches drawn before them. What is broken at the right edge goes on behind them.
fn tree(branches: &[Branch], before: &str, style: Style) -> String {
    let mut out = String::new();
    let count = branches.len();
    for (index, branch) in branches.iter().enumerate() {
        let (mark, rest) = if index + 1 == count { ("`- ", "   ") } else { ("|- ", "|  ") };
        let columns = style.columns.saturating_sub(before.len() + 3).max(20);
        let text = fields(&branch.line, 4, Style { columns, ..style });
        for (number, line) in text.lines().enumerate() {
            // Under a branch that has branches of its own, its line goes on beside them.
            let beside =
                if branch.branches.is_empty() { line.to_owned() } else { line.replacen("    ", "|   ", 1) };
            let (mark, line) = if number == 0 { (mark, line) } else { (rest, beside.as_str()) };
            let _ = writeln!(out, "{before}{mark}{}", line.trim_end());
        }
        out.push_str(&tree(&branch.branches, &format!("{before}{rest}"), style));
    }
    out
}

/// Breaks between fields, which two blanks part; within one only where it alone is longer than a line.
fn fields(text: &str, rest: usize, style: Style) -> String {
    let mut out = String::new();
    let mut column = 0;
    for field in text.split("  ") {
        let width = visible_width(field);
        if column > 0 && column + 2 + width > style.columns {
            let _ = write!(out, "\n{}", " ".repeat(rest));
            column = rest;
        } else if column > 0 {
            out.push_str("  ");
            column += 2;
        }
        if column + width > style.columns {
            let columns = style.columns - column.min(style.columns);
            out.push_str(&wrap(field, 0, rest, Style { columns, ..style }));
        } else {
            out.push_str(field);
        }
        column += width;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: Option<u32>, volume: Option<&str>, content: &str, inside: Option<usize>) -> ListedPart {
        ListedPart {
            number,
            logical_volume: volume.map(str::to_owned),
            inside,
            mirror: None,
            device: None,
            start: 0,
            size: 1 << 30,
            purpose: number.map(|_| "Linux filesystem".to_owned()),
            content: content.to_owned(),
            is_encrypted: false,
            rescuable: true,
            uuid: Some("5922a930-b6fb-4e28-a936-997c8295a4bc".to_owned()),
            label: None,
            partition_uuid: None,
            used: Vec::new(),
            fault: None,
        }
    }

    fn system_on(part: &ListedPart, subvolume: Option<&str>) -> RootCandidate {
        let mut root = RootCandidate::at(part.number, part.logical_volume.clone());
        root.os = Some("Debian GNU/Linux 12 (bookworm)".to_owned());
        root.subvolume = subvolume.map(str::to_owned);
        root
    }

    #[test]
    fn a_disk_is_drawn_as_a_tree_in_any_width() {
        let parts = vec![
            part(Some(1), None, "btrfs", None),
            part(Some(2), None, "LVM2 physical volume", None),
            part(None, Some("vg/root"), "ext4", Some(1)),
            part(None, Some("vg/home"), "xfs", Some(1)),
        ];
        let roots = vec![
            system_on(&parts[0], Some("@")),
            system_on(&parts[0], Some("@/.snapshots/1/snapshot")),
            system_on(&parts[2], None),
        ];
        let disk = ListedDisk {
            device: "/dev/nvme1n1".into(),
            size: 8 << 30,
            sector_size: Some(512),
            model: Some("Amazon Elastic Block Store".to_owned()),
            serial: None,
            volume: Some("vol-0123456789abcdef0".to_owned()),
            name: None,
            read_only: false,
            table: None,
            parts,
            roots,
            rescuable: true,
            why_not: None,
            notes: Vec::new(),
        };
        let drawn = |columns| list(std::slice::from_ref(&disk), Style { colour: false, columns });
        assert_eq!(
            drawn(60),
            "/dev/nvme1n1  8.0 GiB  vol-0123456789abcdef0  Amazon Elastic
    Block Store
  |- 1  1.0 GiB  btrfs
  |  |   uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
  |  |   for Linux filesystem
  |  |- subvolume @  Debian GNU/Linux 12 (bookworm)
  |  `- subvolume @/.snapshots/1/snapshot
  |         Debian GNU/Linux 12 (bookworm)
  `- 2  1.0 GiB  LVM2 physical volume
     |   uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
     |   for Linux filesystem
     |- vg/root  1.0 GiB  ext4
     |      uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
     |      Debian GNU/Linux 12 (bookworm)
     `- vg/home  1.0 GiB  xfs
            uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
  could be rescued: volrescue diagnose /dev/nvme1n1
"
        );
        for columns in [60, 80, 140] {
            let text = drawn(columns);
            assert!(text.lines().all(|line| line.len() <= columns && line.trim_end() == line), "{text}");
        }
        assert_eq!(drawn(140).lines().count(), 8);
    }
}
