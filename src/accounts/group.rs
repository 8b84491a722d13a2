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
    pub members: Vec<BString>,
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
        let lists = |entry: &&GroupEntry| entry.members.iter().any(|member| member == user);
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
        let members = bstr::join(",", &self.members);
        field::to_line(&[&self.name, &self.password.0, gid.as_bytes(), &members])
    }
}

/// One line, whatever it begins with.
fn parse_line(line: &[u8], number: u32) -> Option<GroupEntry> {
    let mut fields = Fields(line);
    Some(GroupEntry {
        name: fields.string().into(),
        password: Secret(fields.string().into()),
        gid: fields.id()?,
        members: members(fields.0),
        line: number,
    })
}

/// Only blanks before a member are passed over, not those behind it.
fn members(list: &[u8]) -> Vec<BString> {
    let members = list.split_str(",").map(field::skip_spaces);
    members.filter(|member| !member.is_empty()).map(BString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_lose_leading_blanks_only() {
        let group = Group::parse(b"g:x:7: u, v ,w\r\nnone:x:6\nempty:x:11:,,u,,\ncr:x:1:\r\ncolon:x:9:u:v\n");
        let members = |name: &str| group.by_name(name.as_bytes()).unwrap().members.clone();
        assert_eq!(members("g"), ["u", "v ", "w\r"]);
        assert_eq!(members("none"), Vec::<BString>::new());
        assert_eq!(members("empty"), ["u"]);
        assert_eq!(members("cr"), Vec::<BString>::new());
        assert_eq!(members("colon"), ["u:v"]);
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
