//! group(5).

use super::field::{self, Fields};
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
    pub members: Members,
    /// The line in the file, counted from 1.
    pub line: u32,
}

/// The usable lines of a group file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// In the order of the file.
    pub entries: Vec<GroupEntry>,
    /// What initgroups(3) reads besides, and lookups do not: comments and compat lines that look like entries.
    hidden: Vec<GroupEntry>,
}

impl Group {
    /// Reads the lines that glibc would use; others are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut group = Self::default();
        for (number, line) in field::lines(text) {
            match field::usable(line) {
                Some(line) => group.entries.extend(parse_line(line, number)),
                None => group.hidden.extend(parse_line(line, number)),
            }
        }
        group
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

    /// The groups that list the user, as getgrouplist(3) adds them to the primary one: unlike a lookup by name, it
    /// takes a line for an entry even if a `#`, `+` or `-` begins it.
    #[must_use]
    pub fn gids_of(&self, user: &[u8]) -> Vec<u32> {
        let lists = |entry: &&GroupEntry| entry.members.contains(user);
        let mut listed: Vec<&GroupEntry> = self.entries.iter().chain(&self.hidden).filter(lists).collect();
        listed.sort_by_key(|entry| entry.line);
        let mut seen = std::collections::HashSet::new();
        listed.iter().map(|entry| entry.gid).filter(|gid| seen.insert(*gid)).collect()
    }
}

impl GroupEntry {
    /// The line that putgrent(3) would write, with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let gid = self.gid.to_string();
        field::to_line(&[&self.name, &self.password.0, gid.as_bytes(), &self.members.to_bytes()])
    }
}

/// One line, whatever it begins with.
fn parse_line(line: &[u8], number: u32) -> Option<GroupEntry> {
    let mut fields = Fields(line);
    Some(GroupEntry {
        name: fields.string().into(),
        password: Secret(fields.string().into()),
        gid: fields.id()?,
        members: Members::parse(fields.0),
        line: number,
    })
}

/// The names of a list, kept as it is written: a million of them cost no more than their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BString);

impl Members {
    /// The list as it stands in a line, between commas.
    pub(super) fn parse(list: &[u8]) -> Self {
        Self(list.into())
    }

    /// The names in order. Only blanks before a member are passed over, not those behind it.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_str(",").map(field::skip_spaces).filter(|member| !member.is_empty())
    }

    /// Whether the name is one of them.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        // Searched for, not split: this is asked of long lists, and often.
        let plain = name.first().is_some_and(|first| !field::is_space(*first)) && !name.contains(&b',');
        plain
            && self.0.find_iter(name).any(|at| {
                let before = self.0[..at].rsplit(|byte| *byte == b',').next().unwrap_or_default();
                before.iter().all(|byte| field::is_space(*byte))
                    && matches!(self.0.get(at + name.len()), None | Some(b','))
            })
    }

    /// The list as shadow-utils would write it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        bstr::join(",", self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_lose_leading_blanks_only() {
        let group = Group::parse(b"g:x:7: u, v ,w\r\nnone:x:6\nempty:x:11:,,u,,\ncr:x:1:\r\ncolon:x:9:u:v\n");
        let members = |name: &str| {
            let entry = group.by_name(name.as_bytes()).unwrap();
            entry.members.iter().map(|member| member.to_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(members("g"), ["u", "v ", "w\r"]);
        assert_eq!(members("none"), [""; 0]);
        assert_eq!(members("empty"), ["u"]);
        assert_eq!(members("cr"), [""; 0]);
        assert_eq!(members("colon"), ["u:v"]);
        let list = Members::parse(b" u, v ,,w\r,uu");
        for (name, is_in) in
            [("u", true), ("v ", true), ("v", false), ("uu", true), ("w", false), ("", false)]
        {
            assert_eq!(list.contains(name.as_bytes()), is_in, "{name:?}");
            assert_eq!(list.iter().any(|member| member == name.as_bytes()), is_in, "{name:?}");
        }
        assert!(!list.contains(b" v ") && !list.contains(b"u, v "));
    }

    #[test]
    fn initgroups_reads_comments_and_compat_lines_too() {
        let text = b"  lead:x:1:u\n#com:x:2:u\n  #com2:x:3:u\n+nis:x:4:u\n-nis:x:5:u\nsp:x:7: u, v ,w\ncr:x:8:a,u\r\n\
            dup:x:9:u\ntwo:x:10:u,u\nneg:x:-1:u\nbig:x:99999999999:u\nnul:x:12:u\0,v\nnulb:x:13\0:u\n:x:14:u\n+\nlast:x:15:u";
        let group = Group::parse(text);
        assert_eq!(group.gids_of(b"u"), [1, 2, 3, 4, 5, 7, 9, 10, 12, 14, 15]);
        for name in ["#com", "com", "+nis", "nis", "big", "neg"] {
            assert_eq!(group.by_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(group.by_name(b"lead").unwrap().gid, 1);
    }
}
