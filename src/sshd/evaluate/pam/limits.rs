//! pam_limits: limits that leave no room for a login (limits.conf(5)).

use crate::accounts::PasswdEntry;
use crate::finding::Location;
use crate::view::{TEXT_LIMIT, View, read_following};
use bstr::{BString, ByteSlice};
use std::path::{Path, PathBuf};

/// Descriptors without which sshd's own session process fails (measured with 9.2: 11 refuses, 12 lets in).
const FEWEST_FILES: u64 = 12;

/// A limit in force that ends every session.
pub(super) struct Limit {
    pub(super) at: Location,
    pub(super) text: String,
}

/// What the limits mean for a login.
pub(super) enum Verdict {
    Fits,
    Refuses(Limit),
    /// A program may fit into this or not.
    Unknown(Limit),
}

/// KiB of address space in which no shell runs, and in which any does.
const ADDRESS_SPACE: std::ops::Range<u64> = 2048..65_536;

/// How closely a line is about the user; the closer one is in force, among equals the later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Everybody,
    Group,
    User,
}

/// The limit that refuses; `Err` names the file without which pam_limits fails.
pub(super) fn refuses(
    view: &dyn View,
    named: Option<&str>,
    user: &PasswdEntry,
    groups: &[BString],
) -> Result<Verdict, PathBuf> {
    let first = PathBuf::from(named.unwrap_or("/etc/security/limits.conf"));
    let mut texts = vec![(first.clone(), read_following(view, &first, TEXT_LIMIT).map_err(|_| first)?)];
    if named.is_none() {
        let directory = Path::new("/etc/security/limits.d");
        for name in view.list(directory).unwrap_or_default() {
            let path = directory.join(&name);
            if name.as_encoded_bytes().ends_with(b".conf")
                && let Ok(text) = read_following(view, &path, TEXT_LIMIT)
            {
                texts.push((path, text));
            }
        }
    }
    let mut force: [Option<(Nearness, u64, Limit)>; 4] = [None, None, None, None];
    for (file, text) in &texts {
        for (line, number) in text.lines().zip(1..) {
            let line = line.to_str_lossy();
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = line.split_whitespace();
            let (Some(domain), Some(kind), Some(item), Some(value)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let Some(nearness) = nearness(domain, user, groups) else { continue };
            let item = match item {
                "maxlogins" => 0,
                "nproc" => 1,
                "nofile" => 2,
                "as" => 3,
                _ => continue,
            };
            // A soft limit may be raised, but nobody does before the shell starts.
            if !matches!(kind, "hard" | "soft" | "-") {
                continue;
            }
            let Ok(value) = value.parse::<u64>() else {
                if force[item].as_ref().is_none_or(|(known, ..)| nearness >= *known) {
                    force[item] = None;
                }
                continue;
            };
            let limit = Limit { at: Location { file: file.clone(), line: number }, text: line.to_owned() };
            if force[item].as_ref().is_none_or(|(known, ..)| nearness >= *known) {
                force[item] = Some((nearness, value, limit));
            }
        }
    }
    let [logins, processes, files, space] = force;
    let refusing = logins
        .filter(|(_, value, _)| *value == 0)
        .or(processes.filter(|(_, value, _)| *value == 0 && user.uid != 0))
        .or(files.filter(|(_, value, _)| *value < FEWEST_FILES));
    Ok(match (refusing, space) {
        (Some((_, _, limit)), _) => Verdict::Refuses(limit),
        (None, Some((_, value, limit))) if value < ADDRESS_SPACE.start => Verdict::Refuses(limit),
        (None, Some((_, value, limit))) if value < ADDRESS_SPACE.end => Verdict::Unknown(limit),
        _ => Verdict::Fits,
    })
}

/// `*` and groups are not about root.
fn nearness(domain: &str, user: &PasswdEntry, groups: &[BString]) -> Option<Nearness> {
    if user.name == domain {
        return Some(Nearness::User);
    }
    if user.uid == 0 {
        return None;
    }
    if domain == "*" {
        return Some(Nearness::Everybody);
    }
    if let Some(group) = domain.strip_prefix('@') {
        return groups.iter().any(|of_user| *of_user == group).then_some(Nearness::Group);
    }
    let (from, to) = domain.split_once(':')?;
    let from = if from.is_empty() { 0 } else { from.parse().ok()? };
    let to = if to.is_empty() { u32::MAX } else { to.parse().ok()? };
    (from..=to).contains(&user.uid).then_some(Nearness::User)
}
