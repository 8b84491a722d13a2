//! passwd(5).

use bstr::{BString, ByteSlice};

/// One usable line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswdEntry {
    /// Login name.
    pub name: BString,
    /// The password field: `x` where shadow has it. May be a hash: never print it.
    pub password: Secret,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Full name and the like.
    pub gecos: BString,
    /// Home directory, as written.
    pub home: BString,
    /// Login shell, as written; empty means /bin/sh.
    pub shell: BString,
    /// The line in the file, counted from 1.
    pub line: u32,
}

/// Bytes that must not be printed: a password hash.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub BString);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The usable lines of a passwd file, in order; the first that matches is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwd {
    /// In the order of the file.
    pub entries: Vec<PasswdEntry>,
}

impl Passwd {
    /// Reads the lines that glibc would use; others are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let entries =
            text.split_str("\n").zip(1..).filter_map(|(line, number)| parse_line(line, number)).collect();
        Self { entries }
    }

    /// getpwnam(3).
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&PasswdEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// getpwuid(3).
    #[must_use]
    pub fn by_uid(&self, uid: u32) -> Option<&PasswdEntry> {
        self.entries.iter().find(|entry| entry.uid == uid)
    }
}

fn parse_line(line: &[u8], number: u32) -> Option<PasswdEntry> {
    let line = line.trim_ascii_start();
    if line.is_empty() || matches!(line[0], b'#' | b'+' | b'-') {
        return None;
    }
    let fields: Vec<&[u8]> = line.splitn_str(7, ":").collect();
    if fields.len() < 4 {
        return None;
    }
    let field = |at: usize| BString::from(fields.get(at).copied().unwrap_or_default());
    Some(PasswdEntry {
        name: field(0),
        password: Secret(field(1)),
        uid: super::id_field(fields[2])?,
        gid: super::id_field(fields[3])?,
        gecos: field(4),
        home: field(5),
        shell: field(6),
        line: number,
    })
}
