//! login.defs(5), as shadow-utils reads it.

use crate::view::{self, View};
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;
use std::path::Path;

/// The most drop-in files that are read.
const MAX_DROP_INS: usize = 100;

/// The settings of a volume; absent ones have the defaults of useradd(8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginDefs {
    values: BTreeMap<BString, BString>,
}

impl LoginDefs {
    /// Reads one file.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut defs = Self::default();
        defs.add(text);
        defs
    }

    /// Reads /etc/login.defs, or where that is missing /usr/etc/login.defs, and the drop-ins of /etc/login.defs.d.
    /// What is missing or cannot be read counts as empty.
    #[must_use]
    pub fn of(view: &dyn View) -> Self {
        let mut defs = Self::default();
        let read = |path: &Path| view::read_following(view, path, view::TEXT_LIMIT);
        let main = read(Path::new("/etc/login.defs")).or_else(|_| read(Path::new("/usr/etc/login.defs")));
        defs.add(&main.unwrap_or_default());
        for directory in ["/usr/etc/login.defs.d", "/etc/login.defs.d"] {
            let Ok(found) = view::follow(view, Path::new(directory)) else { continue };
            let names = view.list(&found.path).unwrap_or_default();
            let named = names.iter().filter(|name| name.as_encoded_bytes().ends_with(b".defs"));
            for name in named.take(MAX_DROP_INS) {
                defs.add(&read(&found.path.join(name)).unwrap_or_default());
            }
        }
        defs
    }

    fn add(&mut self, text: &[u8]) {
        let blank = |byte: char| byte == ' ' || byte == '\t';
        for line in text.lines() {
            let line = line[..line.find_byte(0).unwrap_or(line.len())].trim_ascii();
            if line.first().is_none_or(|byte| *byte == b'#') {
                continue;
            }
            let Some(end) = line.find_byteset(b" \t") else { continue };
            let value = line[end..].trim_start_with(|byte| blank(byte) || byte == '"');
            let value = value.split_str("\"").next().unwrap_or_default();
            self.values.insert(line[..end].into(), value.into());
        }
    }

    /// The text of a setting; the last line that sets it counts.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name.as_bytes().as_bstr()).map(|value| value.as_slice())
    }

    /// A number as strtol(3) with base 0 takes it: `0x` hexadecimal, `0` octal, else decimal. `None` if unset or no number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let text = self.text(name)?.to_str().ok()?.trim_start();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16),
            None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
            None => digits.parse(),
        };
        value.ok().filter(|value| *value >= 0).map(|value| sign * value)
    }

    fn id(&self, name: &str, default: u32) -> u32 {
        self.number(name).and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    }

    /// `UID_MIN` and `UID_MAX`: the uids of people.
    #[must_use]
    pub fn uids(&self) -> (u32, u32) {
        (self.id("UID_MIN", 1000), self.id("UID_MAX", 60_000))
    }

    /// `GID_MIN` and `GID_MAX`.
    #[must_use]
    pub fn gids(&self) -> (u32, u32) {
        (self.id("GID_MIN", 1000), self.id("GID_MAX", 60_000))
    }

    /// `SYS_UID_MIN` and `SYS_UID_MAX`: what useradd(8) gives to services.
    #[must_use]
    pub fn system_uids(&self) -> (u32, u32) {
        (self.id("SYS_UID_MIN", 101), self.id("SYS_UID_MAX", self.uids().0.saturating_sub(1)))
    }

    /// `SYS_GID_MIN` and `SYS_GID_MAX`.
    #[must_use]
    pub fn system_gids(&self) -> (u32, u32) {
        (self.id("SYS_GID_MIN", 101), self.id("SYS_GID_MAX", self.gids().0.saturating_sub(1)))
    }

    /// Minimum, maximum and count of subordinate ids; `kind` is `UID` or `GID`.
    #[must_use]
    pub fn subids(&self, kind: &str) -> (u64, u64, u64) {
        let number = |name: &str, default: u64| {
            self.number(&format!("SUB_{kind}_{name}"))
                .and_then(|value| u64::try_from(value).ok())
                .unwrap_or(default)
        };
        (number("MIN", 100_000), number("MAX", 600_100_000), number("COUNT", 65_536))
    }

    /// `PASS_MIN_DAYS`, `PASS_MAX_DAYS` and `PASS_WARN_AGE`; `None` is an empty field in shadow.
    #[must_use]
    pub fn password_days(&self) -> [Option<i64>; 3] {
        ["PASS_MIN_DAYS", "PASS_MAX_DAYS", "PASS_WARN_AGE"]
            .map(|name| self.number(name).filter(|days| (0..=99_999_999).contains(days)))
    }

    /// The mode of a new home: `HOME_MODE`, else what `UMASK` (022) leaves of 0777.
    #[must_use]
    pub fn home_mode(&self) -> u32 {
        let bits = |name: &str| self.number(name).and_then(|mode| u32::try_from(mode).ok());
        bits("HOME_MODE").unwrap_or_else(|| 0o777 & !bits("UMASK").unwrap_or(0o022)) & 0o7777
    }

    /// `USERGROUPS_ENAB`: has every user a group of their own? `None` if the volume does not say.
    #[must_use]
    pub fn user_groups(&self) -> Option<bool> {
        self.text("USERGROUPS_ENAB").map(|value| value.eq_ignore_ascii_case(b"yes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    #[test]
    fn settings_are_read_as_shadow_utils_does() {
        let defs = LoginDefs::parse(
            b"# UID_MIN 5\nUID_MIN 500\n  UID_MIN\t \"1001\" # no comment here\nUID_MAX\nUMASK 077\r\nHOME_MODE\t0700\n\
              PASS_MAX_DAYS 99999\nPASS_MIN_DAYS -1\nPASS_WARN_AGE x\nUSERGROUPS_ENAB Yes\nSUB_UID_COUNT 0x10\n",
        );
        assert_eq!(defs.uids(), (1001, 60_000));
        assert_eq!(defs.home_mode(), 0o700);
        assert_eq!(defs.password_days(), [None, Some(99_999), None]);
        assert_eq!(defs.user_groups(), Some(true));
        assert_eq!(defs.subids("UID"), (100_000, 600_100_000, 16));
        assert_eq!(LoginDefs::parse(b"UMASK 027").home_mode(), 0o750);
        assert_eq!(LoginDefs::default().home_mode(), 0o755);
    }

    #[test]
    fn drop_ins_and_the_vendors_file_are_read() {
        let mut tree = MemTree::new();
        tree.file("/usr/etc/login.defs", 0o644, 0, 0, b"UID_MIN 1100\nUMASK 027\n");
        tree.file("/etc/login.defs.d/a.defs", 0o644, 0, 0, b"UID_MIN 1200\n");
        tree.file("/etc/login.defs.d/a.bak", 0o644, 0, 0, b"UID_MIN 1300\n");
        let defs = LoginDefs::of(&tree);
        assert_eq!((defs.uids().0, defs.home_mode()), (1200, 0o750));
    }
}
