//! gshadow(5).

use super::field::{self, Fields};
use super::group::Members;
use super::passwd::Secret;
use bstr::BString;

/// One usable line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShadowEntry {
    /// Group name.
    pub name: BString,
    /// The hash: never print it.
    pub password: Secret,
    /// Those who may change the members.
    pub administrators: Members,
    /// Member names.
    pub members: Members,
    /// The line in the file, counted from 1.
    pub line: u32,
}

impl GroupShadowEntry {
    /// The line that putsgent(3) would write, with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let (administrators, members) = (self.administrators.to_bytes(), self.members.to_bytes());
        field::to_line(&[&self.name, &self.password.0, &administrators, &members])
    }
}

/// The usable lines of a gshadow file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupShadow {
    /// In the order of the file.
    pub entries: Vec<GroupShadowEntry>,
}

impl GroupShadow {
    /// Reads the lines that glibc would use; others are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let entries = field::lines(text).filter_map(|(number, line)| parse_line(line, number)).collect();
        Self { entries }
    }

    /// getsgnam(3).
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&GroupShadowEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

fn parse_line(line: &[u8], number: u32) -> Option<GroupShadowEntry> {
    let mut fields = Fields(field::usable(line)?);
    let name = fields.string().into();
    if fields.0.is_empty() {
        return None;
    }
    Some(GroupShadowEntry {
        name,
        password: Secret(fields.string().into()),
        administrators: Members::parse(fields.string()),
        members: Members::parse(fields.0),
        line: number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_and_members_are_told_apart() {
        let text = b"root:*::\nsudo:!:a,b: c,d\n# x:!::\n+::::\nshort\n";
        let gshadow = GroupShadow::parse(text);
        assert_eq!(gshadow.entries.len(), 2);
        let sudo = gshadow.by_name(b"sudo").unwrap();
        assert_eq!(sudo.administrators.iter().collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(sudo.members.iter().collect::<Vec<_>>(), [b"c", b"d"]);
        assert_eq!(sudo.to_line(), b"sudo:!:a,b:c,d\n");
    }
}
