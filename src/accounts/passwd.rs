//! passwd(5).

use super::field::{self, Fields};
use bstr::BString;

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
        let entries = field::lines(text).filter_map(|(number, line)| parse_line(line, number)).collect();
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

impl PasswdEntry {
    /// The line that putpwent(3) would write, with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let fields: [&[u8]; 7] = [
            &self.name,
            &self.password.0,
            uid.as_bytes(),
            gid.as_bytes(),
            &self.gecos,
            &self.home,
            &self.shell,
        ];
        field::to_line(&fields)
    }
}

fn parse_line(line: &[u8], number: u32) -> Option<PasswdEntry> {
    let mut fields = Fields(field::usable(line)?);
    Some(PasswdEntry {
        name: fields.string().into(),
        password: Secret(fields.string().into()),
        uid: fields.id()?,
        gid: fields.id()?,
        gecos: fields.string().into(),
        home: fields.string().into(),
        shell: fields.0.into(),
        line: number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &[u8]) -> Option<PasswdEntry> {
        Passwd::parse(text).entries.into_iter().next()
    }

    #[test]
    fn lines_are_taken_or_dropped_as_glibc_does() {
        for taken in [
            &b"  lead:x:1:1:g:/h:/s"[..],
            b"\x0bvt:x:2:2:g:/h:/s",
            b"short:x:5:5",
            b"plus:x:+7: 8::/:/s",
            b":x:14:14::/:/s",
            b"sp ace :x:18:18::/:/s",
            b"last:x:4294967295:21:g:/h:/s",
            b"open:x:1:1:g:/h",
        ] {
            assert!(entry(taken).is_some(), "{}", bstr::BStr::new(taken));
        }
        for dropped in [
            &b"#c:x:3:3"[..],
            b"  # c:x:3:3",
            b"short:x:5",
            b"nogid:x:6:",
            b"neg:x:-1:2::/:/s",
            b"big:x:4294967296:1::/:/s",
            b"junk:x:9a:9::/:/s",
            b"w:x:17 :17::/:/s",
            b"hex:x:0x10:20::/:/s",
            b"cr:x:1:1\r",
            b"+nis:x:13:13::/:/s",
            b"+",
            b"-foo",
            b"\0x:x:19:19::/:/s",
        ] {
            assert_eq!(entry(dropped), None, "{}", bstr::BStr::new(dropped));
        }
    }

    #[test]
    fn a_shell_keeps_further_colons_and_a_carriage_return() {
        assert_eq!(entry(b"a:x:1:1:g:/h:/s:more").unwrap().shell, "/s:more");
        assert_eq!(entry(b"a:x:1:1:g:/h:/s\r\n").unwrap().shell, "/s\r");
        assert_eq!(entry(b"a:x:1:1:g\0z:/h:/s").unwrap().home, "");
    }

    #[test]
    fn the_first_of_two_lines_is_in_force() {
        let passwd = Passwd::parse(b"# c\ndup:x:15:15::/:/s\ndup:x:16:16::/:/s\n");
        let dup = passwd.by_name(b"dup").unwrap();
        assert_eq!((dup.uid, dup.line), (15, 2));
        assert_eq!(dup.to_line(), b"dup:x:15:15::/:/s\n");
    }

    #[test]
    fn a_hash_is_not_debug_printed() {
        assert!(!format!("{:?}", entry(b"a:$6$s:1:1")).contains("$6$"));
    }
}
