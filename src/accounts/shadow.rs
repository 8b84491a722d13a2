//! shadow(5).

use super::field::{self, Fields};
use super::passwd::Secret;
use bstr::BString;

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
        let entries = field::lines(text).filter_map(|(number, line)| parse_line(line, number)).collect();
        Self { entries }
    }

    /// getspnam(3).
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&ShadowEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

impl ShadowEntry {
    /// The line that putspent(3) would write, with its newline; an absent number is an empty field.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let numbers = [self.last_change, self.min, self.max, self.warn, self.inactive, self.expire];
        let numbers = numbers.map(|days| days.map(|days| days.to_string()).unwrap_or_default());
        let mut fields: Vec<&[u8]> = vec![&self.name, &self.password.0];
        fields.extend(numbers.iter().map(String::as_bytes));
        fields.push(b"");
        field::to_line(&fields)
    }
}

fn parse_line(line: &[u8], number: u32) -> Option<ShadowEntry> {
    let mut fields = Fields(field::usable(line)?);
    let mut entry = ShadowEntry {
        name: fields.string().into(),
        password: Secret(fields.string().into()),
        last_change: fields.days()?,
        min: fields.days()?,
        max: fields.days()?,
        warn: None,
        inactive: None,
        expire: None,
        line: number,
    };
    fields.0 = field::skip_spaces(fields.0);
    // The old form ends here.
    if !fields.0.is_empty() {
        entry.warn = fields.days()?;
        entry.inactive = fields.days()?;
        entry.expire = fields.days()?;
        if !fields.0.is_empty() {
            // The flag must be a number or nothing: a carriage return at the end spoils the line.
            let (flag, rest) = field::strtou32(fields.0)?;
            flag.filter(|_| rest.is_empty())?;
        }
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_or_dropped_as_glibc_does() {
        for taken in [
            "root:*:1:0:99999:7:::",
            "  lead:*:1:0:99999:7:::",
            "old:*:1:2:3",
            "old:*:1:2:3:",
            "old:*:1:2:3: ",
            "exp:*:1:2:3:4:5:6",
            "flag:*:1:2:3:4:5:6:7",
            "allempty:*:::::::",
            "last:*:1:0:99999:7::",
        ] {
            // The last of these ends before the expiry field.
            let wanted = !taken.starts_with("last");
            assert_eq!(!Shadow::parse(taken.as_bytes()).entries.is_empty(), wanted, "{taken}");
        }
        for dropped in [
            "old3:*:1:2",
            "old4:*:1:2:",
            "w:*:1:2:3:4",
            "w5:*:1:2:3:4:",
            "flagx:*:1:2:3:4:5:6:x",
            "nine:*:1:2:3:4:5:6:7:8",
            "neg:*:-5:-1:::::",
            "big:*:4294967296::::::",
            "sp:*:1:2:3 :4:5:6:",
            "spe:*: :2:3:4:5:6:",
            "cr:*:1:0:99999:7:::\r",
            "cr5:*:1:0:99999\r",
            "x",
            "y:",
            "z:*",
            "#c:*:1::::::",
            "+x:*:1::::::",
        ] {
            assert_eq!(Shadow::parse(dropped.as_bytes()).entries, [], "{dropped}");
        }
    }

    #[test]
    fn numbers_go_through_a_c_int() {
        let entry = |text: &str| Shadow::parse(text.as_bytes()).entries.pop().unwrap();
        assert_eq!(entry("a:*:0:4294967295:2147483648:4:::").min, None);
        assert_eq!(entry("a:*:0:4294967295:2147483648:4:::").max, Some(-2_147_483_648));
        assert_eq!(entry("a:*:0:0:99999:7:::").to_line(), b"a:*:0:0:99999:7:::\n");
        assert_eq!(entry("a:*:0:::::99:").to_line(), b"a:*:0:::::99:\n");
    }
}
