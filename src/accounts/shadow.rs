//! shadow(5).

use super::passwd::Secret;
use bstr::{BString, ByteSlice};

/// One usable line; days are counted from 1970-01-01.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowEntry {
    /// Login name.
    pub name: BString,
    /// The hash: never print it.
    pub password: Secret,
    /// Day of the last change; 0 asks for a change at the next login.
    pub last_change: Option<i64>,
    /// Days before it may be changed.
    pub min: Option<i64>,
    /// Days after which it must be changed.
    pub max: Option<i64>,
    /// Days of warning.
    pub warn: Option<i64>,
    /// Days after `max` in which it is still taken.
    pub inactive: Option<i64>,
    /// Day on which the account expires.
    pub expire: Option<i64>,
    /// The line in the file, counted from 1.
    pub line: u32,
}

impl ShadowEntry {
    /// `true` if sshd without PAM takes the account for locked (`LOCKED_PASSWD_PREFIX "!"` on Linux).
    #[must_use]
    pub fn is_locked_for_sshd(&self) -> bool {
        self.password.0.starts_with(b"!")
    }
}

/// The usable lines of a shadow file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    /// In the order of the file.
    pub entries: Vec<ShadowEntry>,
}

impl Shadow {
    /// Reads the lines that glibc would use; others are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let entries =
            text.split_str("\n").zip(1..).filter_map(|(line, number)| parse_line(line, number)).collect();
        Self { entries }
    }

    /// getspnam(3).
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&ShadowEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

fn parse_line(line: &[u8], number: u32) -> Option<ShadowEntry> {
    let line = line.trim_ascii_start();
    if line.is_empty() || matches!(line[0], b'#' | b'+' | b'-') {
        return None;
    }
    let fields: Vec<&[u8]> = line.split_str(":").collect();
    if fields.len() < 8 {
        return None;
    }
    let days = |at: usize| -> Option<Option<i64>> {
        match fields.get(at).copied().unwrap_or_default() {
            b"" => Some(None),
            field => field.to_str().ok()?.parse().ok().map(Some),
        }
    };
    Some(ShadowEntry {
        name: BString::from(fields[0]),
        password: Secret(BString::from(fields[1])),
        last_change: days(2)?,
        min: days(3)?,
        max: days(4)?,
        warn: days(5)?,
        inactive: days(6)?,
        expire: days(7)?,
        line: number,
    })
}
