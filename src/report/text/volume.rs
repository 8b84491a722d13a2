//! The volume in two lines, with what is mounted below its root and what its checkers came to.

use super::layout::{bytes, wrap};
use super::{BOLD, GREEN, TRANSCRIPT, YELLOW};
use crate::report::output::Style;
use crate::report::{Report, escape};
use crate::volume::{Branch, Checked, Health};
use std::fmt::Write as _;

/// The volume: what was opened, which filesystem is its root, what system it holds.
#[must_use]
pub fn volume(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let Some(target) = &report.target else { return out };
    let mut line = escape::words(&target.given);
    if let Some(device) = target.device.as_ref().filter(|device| device.to_string_lossy() != target.given) {
        let _ = write!(line, " ({})", escape::path(device));
    }
    if let Some(size) = target.size {
        let _ = write!(line, ", {}", bytes(size));
    }
    if let Some(format) = target.format {
        let _ = write!(line, ", {} image", format.name());
    }
    let below = target.backing.iter().fold(String::new(), |mut below, one| {
        let line = format!("over {} ({}), which is not written", escape::path(&one.path), one.format.name());
        let _ = writeln!(below, "{}", wrap(&line, 2, 4, style));
        below
    });
    if let Some(root) = &report.root {
        if let Some(partition) = root.partition {
            let _ = write!(line, ", partition {partition}");
        }
        if let Some(logical) = &root.logical_volume {
            let _ = write!(line, ", logical volume {}", escape::words(logical));
        }
        if !root.filesystem.is_empty() {
            let _ = write!(line, ", {}", root.filesystem);
        }
        if let Some(subvolume) = &root.subvolume {
            let _ = write!(line, ", subvolume {}", escape::words(subvolume));
        }
        if let Some(label) = root.label.as_ref().filter(|label| !label.is_empty()) {
            let _ = write!(line, ", label {}", escape::words(label));
        }
        let name = root.os_name.as_deref().or(root.os_id.as_deref()).unwrap_or("unknown system");
        let sshd =
            root.sshd.as_deref().map_or("no sshd found".to_owned(), |version| format!("OpenSSH {version}"));
        let second = format!(
            "{}, {sshd}, SELinux {}, journal {}",
            escape::words(name),
            root.selinux,
            if root.journal.is_empty() { "clean" } else { root.journal }
        );
        let _ = writeln!(out, "{}", wrap(&style.paint(BOLD, &line), 0, 2, style));
        out.push_str(&below);
        let _ = writeln!(out, "{}", wrap(&second, 2, 2, style));
        for branch in &root.mounts {
            let _ = writeln!(out, "{}", wrap(&mounted(branch), 2, 4, style));
        }
        report.checked.iter().for_each(|one| out.push_str(&checked(one, style)));
    } else {
        let _ = writeln!(out, "{}", wrap(&style.paint(BOLD, &line), 0, 2, style));
        out.push_str(&below);
    }
    out
}

/// A filesystem below the root.
fn mounted(branch: &Branch) -> String {
    let mut line = format!("{}: {}", escape::path(&branch.point), branch.filesystem);
    let texts = [
        ("logical volume", &branch.logical_volume),
        ("subvolume", &branch.subvolume),
        ("label", &branch.label),
    ];
    for (name, text) in texts {
        let name = if branch.filesystem == "bind" { "of" } else { name };
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            let _ = write!(line, ", {name} {}", escape::words(text));
        }
    }
    match (branch.partition, &branch.device) {
        (Some(partition), Some(device)) => {
            let _ = write!(line, ", partition {partition} of {}", escape::path(device));
        }
        (Some(partition), None) => {
            let _ = write!(line, ", partition {partition}");
        }
        (None, Some(device)) => {
            let _ = write!(line, ", {}", escape::path(device));
        }
        (None, None) => {}
    }
    line
}

/// What a filesystem's own checker came to, in its own words where it mended something.
fn checked(one: &Checked, style: Style) -> String {
    let outcome = match one.outcome {
        Health::Clean => style.paint(GREEN, "nothing to mend"),
        Health::Repaired => style.paint(YELLOW, "mended"),
    };
    let line = format!("{} on {}: {outcome}", one.command, escape::words(&one.place));
    let mut out = format!("{}\n", wrap(&line, 2, 4, style));
    if one.outcome == Health::Repaired {
        for line in one.said.iter().skip(one.said.len().saturating_sub(TRANSCRIPT)) {
            let _ = writeln!(out, "      {}", escape::words(line));
        }
    }
    out
}
