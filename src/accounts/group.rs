//! group(5).

use super::passwd::Secret;
use bstr::{BString, ByteSlice};

/// One usable line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Group name.
    pub name: BString,
    /// The password field.
    pub password: Secret,
    /// Group id.
    pub gid: u32,
    /// Member names as listed; users who have it as primary group need not be here.
    pub members: Vec<BString>,
    /// The line in the file, counted from 1.
    pub line: u32,
}

/// The usable lines of a group file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// In the order of the file.
    pub entries: Vec<GroupEntry>,
}

impl Group {
    /// Reads the lines that glibc would use; others are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let entries =
            text.split_str("\n").zip(1..).filter_map(|(line, number)| parse_line(line, number)).collect();
        Self { entries }
    }

    /// getgrnam(3).
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&GroupEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// getgrgid(3).
    #[must_use]
    pub fn by_gid(&self, gid: u32) -> Option<&GroupEntry> {
        self.entries.iter().find(|entry| entry.gid == gid)
    }

    /// The groups that list the user, as getgrouplist(3) adds them to the primary one.
    #[must_use]
    pub fn gids_of(&self, user: &[u8]) -> Vec<u32> {
        let listed = self.entries.iter().filter(|entry| entry.members.iter().any(|member| member == user));
        let mut gids: Vec<u32> = Vec::new();
        for entry in listed {
            if !gids.contains(&entry.gid) {
                gids.push(entry.gid);
            }
        }
        gids
    }
}

fn parse_line(line: &[u8], number: u32) -> Option<GroupEntry> {
    let line = line.trim_ascii_start();
    if line.is_empty() || matches!(line[0], b'#' | b'+' | b'-') {
        return None;
    }
    let fields: Vec<&[u8]> = line.splitn_str(4, ":").collect();
    if fields.len() < 3 {
        return None;
    }
    let members = fields.get(3).copied().unwrap_or_default();
    let members = members.split_str(",").map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    Some(GroupEntry {
        name: BString::from(fields[0]),
        password: Secret(BString::from(fields[1])),
        gid: super::id_field(fields[2])?,
        members: members.map(BString::from).collect(),
        line: number,
    })
}
