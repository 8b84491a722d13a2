//! The options before a key (`sshauthopt_parse`; `auth_parse_options` up to 7.6).

use crate::sshd::Build;
use crate::sshd::build::Family;
use bstr::{BString, ByteSlice};
use std::net::IpAddr;

/// Longest host name in a permission (`NI_MAXHOST`).
const MAX_HOST: usize = 1025;
/// Largest number of a tun device (`SSH_TUNID_MAX`).
const MAX_TUNNEL: i64 = 0x7fff_ffff - 2;

/// The options that can change a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `command="..."`.
    pub command: Option<BString>,
    /// `from="..."`.
    pub from: Option<BString>,
    /// Further `from="..."`: up to 7.6 each of them must match (later versions refuse a second one).
    pub more_from: Vec<BString>,
    /// `expiry-time="..."`, as seconds since the epoch (UTC is taken for the instance's local time), the earliest if
    /// there are several: the line is refused when now is later.
    pub expiry: Option<i64>,
    /// The expiry was given in UTC (`Z`), so it does not depend on the instance's time zone.
    pub expiry_is_utc: bool,
    /// `cert-authority`.
    pub cert_authority: bool,
    /// `principals="..."`.
    pub principals: Option<BString>,
    /// `restrict`, and not given back: no terminal.
    pub no_pty: bool,
    /// Every `environment="NAME=value"`.
    pub environment: Vec<BString>,
    /// `no-touch-required`: a security key need not be touched.
    pub no_touch_required: bool,
    /// `verify-required`: a security key must have asked for PIN or finger.
    pub verify_required: bool,
    /// What `permitopen=` and `permitlisten=` name in place of a port, from 7.8: the line is refused where /etc/services
    /// has no such name.
    pub services: Vec<BString>,
}

impl Options {
    /// What is wrong with a `from` list, whoever the client is: sshd then refuses the line. `None` if nothing is.
    #[must_use]
    pub fn from_problem(&self) -> Option<String> {
        self.from.iter().chain(&self.more_from).find_map(|list| from_problem(list))
    }
}

/// See [`Options::from_problem`]; also for other lists of the same form (`addr_match_list` = -2).
#[must_use]
pub fn from_problem(list: &[u8]) -> Option<String> {
    if list.is_empty() {
        return Some("the from list is empty".into());
    }
    let mut positive = false;
    for item in list.split(|&byte| byte == b',') {
        let pattern = item.strip_prefix(b"!").unwrap_or(item);
        if pattern.is_empty() {
            return Some("the from list has an empty item".into());
        }
        positive |= pattern.len() == item.len();
        if has_inconsistent_mask(pattern) {
            return Some(
                "the from list has a network whose address has host bits set, or a mask too long".into(),
            );
        }
    }
    (!positive).then(|| "the from list has only negated items".into())
}

/// An address with a mask that does not fit it.
fn has_inconsistent_mask(pattern: &[u8]) -> bool {
    let Some((address, mask)) = pattern.split_once_str("/") else { return false };
    let (Ok(address), Ok(mask)) = (str::from_utf8(address), str::from_utf8(mask)) else { return false };
    let (Ok(address), Ok(mask)) = (address.parse::<IpAddr>(), mask.parse::<u32>()) else { return false };
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    if mask > 128 {
        return false; // taken for a pattern of names
    }
    mask > width || (mask < width && bits & (u128::MAX >> (128 - (width - mask))) != 0)
}

/// Reads the options at the start of `text` (the rest of the line may follow).
///
/// # Errors
/// Why this sshd refuses the line.
pub(super) fn parse(text: &[u8], build: &Build) -> Result<Options, String> {
    parse_at(text, build).map_err(|(_, why)| why)
}

/// The same; the error also tells where the option begins that it is about.
pub(super) fn parse_at(text: &[u8], build: &Build) -> Result<Options, (usize, String)> {
    let mut reader = Reader { rest: text, modern: build.at_least(7, 7) };
    let mut options = Options::default();
    while !reader.at_end() {
        let start = text.len() - reader.rest.len();
        reader.item(&mut options, build).map_err(|why| (start, why))?;
        match reader.rest.first() {
            None | Some(b' ' | b'\t') => break,
            Some(b',') => reader.rest = &reader.rest[1..],
            Some(_) => return Err((start, "an option that this sshd does not know".into())),
        }
        if reader.modern && reader.rest.is_empty() {
            return Err((start, "the options end with a comma".into()));
        }
    }
    if reader.modern && options.principals.is_some() && !options.cert_authority {
        let at = text.to_ascii_lowercase().find(b"principals=").unwrap_or(0);
        return Err((at, "principals= on a line without cert-authority".into()));
    }
    Ok(options)
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The parser of 7.7.
    modern: bool,
}

impl Reader<'_> {
    fn at_end(&self) -> bool {
        matches!(self.rest.first(), None | Some(b' ' | b'\t'))
    }

    /// Takes one option, or nothing where none is known (the caller sees that by what follows).
    fn item(&mut self, options: &mut Options, build: &Build) -> Result<(), String> {
        if self.flag("restrict") {
            options.no_pty = true;
        } else if self.flag("cert-authority") {
            options.cert_authority = true;
        } else if let Some(on) = self.switch("pty") {
            options.no_pty = !on;
        } else if ["port-forwarding", "agent-forwarding", "x11-forwarding", "user-rc"]
            .iter()
            .any(|name| self.switch(name).is_some())
        {
        } else if let Some(on) = self.switch_since("touch-required", build, (8, 2)) {
            options.no_touch_required = !on;
        } else if let Some(on) = self.switch_since("verify-required", build, (8, 4)) {
            options.verify_required = on;
        } else if self.value_of("command") {
            self.once(options.command.is_some(), "command")?;
            options.command = Some(self.quoted(true)?);
        } else if self.value_of("principals") {
            self.once(options.principals.is_some(), "principals")?;
            options.principals = Some(self.quoted(true)?);
        } else if self.value_of("from") {
            self.once(options.from.is_some(), "from")?;
            let list = self.quoted(true)?;
            if options.from.is_some() {
                options.more_from.push(list);
            } else {
                options.from = Some(list);
            }
        } else if self.modern && self.value_of("expiry-time") {
            self.expiry(options, build)?;
        } else if self.value_of("environment") {
            let setting = self.quoted(true)?;
            let name = setting.find_byte(b'=').map(|end| &setting[..end]);
            let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            if self.modern && !name.is_some_and(|name| !name.is_empty() && name.iter().all(fits)) {
                return Err("environment= is not of the form NAME=value".into());
            }
            options.environment.push(setting);
        } else if self.value_of("permitopen") {
            let permission = self.quoted(true)?;
            options.services.extend(check_permission(&permission, build)?);
        } else if build.at_least(7, 8) && self.value_of("permitlisten") {
            let mut permission = self.quoted(true)?;
            if !permission.contains(&b':') {
                permission.splice(0..0, *b"*:");
            }
            options.services.extend(check_permission(&permission, build)?);
        } else if self.value_of("tunnel") {
            let device = self.quoted(self.modern)?;
            if !device.eq_ignore_ascii_case(b"any") && number(&device, MAX_TUNNEL).is_none() {
                return Err("tunnel= names no tun device".into());
            }
        }
        Ok(())
    }

    /// A prefix is enough, as in OpenSSH: what follows is looked at later.
    fn flag(&mut self, name: &str) -> bool {
        let matched =
            self.rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        if matched {
            self.rest = &self.rest[name.len()..];
        }
        matched
    }

    /// `name` or `no-name`.
    fn switch(&mut self, name: &str) -> Option<bool> {
        let before = self.rest;
        let negated = self.flag("no-");
        if self.flag(name) {
            return Some(!negated);
        }
        self.rest = before;
        None
    }

    fn switch_since(&mut self, name: &str, build: &Build, since: (u32, u32)) -> Option<bool> {
        if build.at_least(since.0, since.1) { self.switch(name) } else { None }
    }

    /// `name=`; the old parser knows it only with the quote.
    fn value_of(&mut self, name: &str) -> bool {
        let end = if self.modern { &b"="[..] } else { b"=\"" };
        let after = self.rest.get(name.len()..).unwrap_or_default();
        if !after.starts_with(end) || !self.rest[..name.len()].eq_ignore_ascii_case(name.as_bytes()) {
            return false;
        }
        self.rest = &after[1..];
        true
    }

    fn once(&self, given: bool, name: &str) -> Result<(), String> {
        if given && self.modern { Err(format!("{name}= is given twice")) } else { Ok(()) }
    }

    /// A value in double quotes; `\"` stands for a quote.
    fn quoted(&mut self, escapes: bool) -> Result<BString, String> {
        let Some(mut rest) = self.rest.strip_prefix(b"\"") else {
            return Err("a value without double quotes".into());
        };
        let mut value = Vec::new();
        loop {
            match rest {
                [b'"', after @ ..] => {
                    self.rest = after;
                    return Ok(value.into());
                }
                [b'\\', b'"', after @ ..] if escapes => {
                    value.push(b'"');
                    rest = after;
                }
                [byte, after @ ..] => {
                    value.push(*byte);
                    rest = after;
                }
                [] => return Err("a quote that is not closed".into()),
            }
        }
    }

    fn expiry(&mut self, options: &mut Options, build: &Build) -> Result<(), String> {
        let text = self.quoted(true)?;
        let (time, utc) = absolute_time(&text, build)
            .ok_or("expiry-time= is not of the form YYYYMMDD[HHMM[SS]] that this sshd reads")?;
        if options.expiry.is_none_or(|earlier| time < earlier) {
            options.expiry = Some(time);
            options.expiry_is_utc = utc;
        }
        Ok(())
    }
}

/// Why a line is refused whose `permitopen=` or `permitlisten=` has a port that is none.
pub const BAD_PORT: &str = "permitopen= or permitlisten= with a bad port";

/// `host:port`, also with brackets and with a slash (`hpdelim`); the port a number or `*`, else the name of a service.
fn check_permission(permission: &[u8], build: &Build) -> Result<Option<BString>, String> {
    let bad_host = || Err("permitopen= or permitlisten= without a host and a port".into());
    let end = if permission.starts_with(b"[") {
        match permission.find_byte(b']') {
            Some(bracket) => bracket + 1,
            None => return bad_host(),
        }
    } else {
        permission.find_byteset(b":/").unwrap_or(permission.len())
    };
    let Some(b':' | b'/') = permission.get(end) else { return bad_host() };
    let port = &permission[end + 1..];
    if end >= MAX_HOST {
        return bad_host();
    }
    match number(port, 65535) {
        Some(number) if number > 0 => Ok(None),
        None if port == b"*" => Ok(None),
        // The name of a service has a letter in it (RFC 6335, section 5.1).
        None if build.at_least(7, 8) && port.iter().any(u8::is_ascii_alphabetic) => Ok(Some(port.into())),
        _ => Err(BAD_PORT.into()),
    }
}

/// `strtonum` from 0.
fn number(text: &[u8], largest: i64) -> Option<i64> {
    let text = str::from_utf8(text).ok()?.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let value = text.parse::<i64>().ok()?;
    (0..=largest).contains(&value).then_some(value)
}

/// `parse_absolute_time`: seconds since the epoch, and whether UTC was asked for.
fn absolute_time(text: &[u8], build: &Build) -> Option<(i64, bool)> {
    let knows_utc = build.at_least(9, 1) || (build.family == Family::RedHat && build.at_least(8, 7));
    let ends = |suffix: &[u8]| {
        text.len() > suffix.len() && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    let (digits, utc) = match () {
        () if knows_utc && ends(b"Z") => (&text[..text.len() - 1], true),
        () if knows_utc && ends(b"UTC") => (&text[..text.len() - 3], true),
        () => (text, false),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let part = |from: usize, to: usize| {
        digits
            .get(from..to)
            .map_or(0, |part| part.iter().fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
    let fits =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 62;
    let seconds = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    (fits && seconds > 0).then_some((seconds, utc))
}

/// Days from 1970-01-01 (Gregorian); a day beyond the month's end counts on, as mktime(3) does.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::testing::build;

    fn ok(text: &str, version: (u32, u32)) -> Options {
        parse(text.as_bytes(), &build(version)).unwrap()
    }

    fn refused(text: &str, version: (u32, u32)) -> bool {
        parse(text.as_bytes(), &build(version)).is_err()
    }

    #[test]
    fn names_are_case_insensitive_and_empty_items_are_tolerated() {
        for text in
            ["no-pty", "NO-PTY", ",no-pty", "no-pty,,no-user-rc", "no-X11-forwarding,restrict", "No-Pty, x"]
        {
            assert!(ok(text, (9, 2)).no_pty, "{text}");
        }
        assert!(!ok("restrict,pty", (9, 2)).no_pty);
    }

    #[test]
    fn wrong_quotes_lose_the_line() {
        for text in ["command='x'", "command=x", "command=\u{201c}x\u{201d}", "from=\"1.2.3.4", "command"] {
            assert!(refused(text, (9, 2)) && refused(text, (7, 4)), "{text}");
        }
        assert_eq!(ok(r#"command="a \"b\" c" k"#, (9, 2)).command.unwrap(), r#"a "b" c"#);
    }

    #[test]
    fn duplicates_deny_since_7_7() {
        assert!(refused(r#"command="a",command="b""#, (7, 7)));
        assert_eq!(ok(r#"command="a",command="b" "#, (7, 6)).command.unwrap(), "b");
        assert!(refused(r#"from="a",from="b""#, (9, 2)));
        assert_eq!(ok(r#"from="a",from="b" "#, (7, 4)).more_from, ["b"]);
        assert!(ok(r#"permitopen="a:1",permitopen="b:*""#, (9, 2)).command.is_none());
    }

    #[test]
    fn options_are_known_from_their_version_on() {
        for (text, since) in [
            (r#"expiry-time="20990101" "#, (7, 7)),
            (r#"permitlisten="8080" "#, (7, 8)),
            ("no-touch-required ", (8, 2)),
            ("verify-required ", (8, 4)),
        ] {
            assert!(refused(text, (since.0, since.1 - 1)), "{text}");
            assert!(!refused(text, since), "{text}");
        }
        assert!(refused("nosuchoption", (9, 2)) && refused("ptyx", (9, 2)));
    }

    #[test]
    fn expiry_is_read_as_sshd_does() {
        assert_eq!(ok(r#"expiry-time="20200101""#, (9, 2)).expiry, Some(1_577_836_800));
        assert_eq!(ok(r#"expiry-time="202002291230""#, (9, 2)).expiry, Some(1_582_979_400));
        assert_eq!(ok(r#"expiry-time="20240301000001Z""#, (9, 2)).expiry, Some(1_709_251_201));
        assert!(ok(r#"expiry-time="20240301z""#, (9, 1)).expiry_is_utc);
        assert_eq!(
            ok(r#"expiry-time="20990101",expiry-time="20200101""#, (9, 2)).expiry,
            Some(1_577_836_800)
        );
        for text in ["2099-01-01", "209901", "20991301", "20990100", "2099010a", "19600101", "", "Z"] {
            assert!(refused(&format!("expiry-time=\"{text}\""), (9, 2)), "{text}");
        }
        assert!(refused(r#"expiry-time="20990101Z""#, (9, 0)));
        let el9 = Build { family: Family::RedHat, ..build((8, 7)) };
        assert!(parse(br#"expiry-time="20990101Z""#, &el9).is_ok());
    }

    #[test]
    fn values_are_checked_since_7_7() {
        assert!(refused(r#"environment="A B=c""#, (9, 2)) && refused(r#"environment="A""#, (9, 2)));
        assert!(!refused(r#"environment="A B=c" "#, (7, 4)));
        assert!(refused(r#"principals="a""#, (7, 7)) && !refused(r#"principals="a" "#, (7, 6)));
        assert!(!refused(r#"principals="a",cert-authority"#, (9, 2)));
        for bad in [
            "permitopen=\"h\"",
            "permitopen=\"h:0\"",
            "permitopen=\"[::1\"",
            "tunnel=\"x\"",
            "permitopen=\"h:\"",
        ] {
            assert!(refused(bad, (9, 2)), "{bad}");
        }
        for good in [
            "permitopen=\"[::1]:80\"",
            "permitopen=\"h/80\"",
            "tunnel=\"ANY\"",
            "tunnel=\"0\"",
            "permitlisten=\"a:1\"",
        ] {
            assert!(!refused(good, (9, 2)), "{good}");
        }
    }

    #[test]
    fn a_from_list_that_can_never_match_is_named() {
        for bad in ["", "127.0.0.1/8", "10.0.0.0/33", "a,,b", "!10.0.0.1", "::1/64"] {
            assert!(from_problem(bad.as_bytes()).is_some(), "{bad}");
        }
        for good in [
            "127.0.0.0/8",
            "10.0.0.1",
            "*.example.org,!bad.example.org",
            "0.0.0.0/0",
            "::/0",
            "::1/128",
            "a/b",
        ] {
            assert_eq!(from_problem(good.as_bytes()), None, "{good}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"(no-|pty|,|command=|from=|expiry-time=|tunnel=|permitopen=|"|\\|[0-9:/\[\] ]|\PC){0,12}"#) {
            for version in [(7, 4), (7, 7), (10, 0)] {
                let _ = parse(text.as_bytes(), &build(version)).map(|options| options.from_problem());
            }
        }
    }
}
