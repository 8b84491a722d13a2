//! Numbers, times and names in the values of sshd_config, in the notations that sshd takes.
//!
//! Sources: openssh-portable `misc.c` (`convtime`, `a2port`, `parse_ipqos`), `openbsd-compat/fmt_scaled.c`, `log.c`,
//! and `strtol`, `sscanf` of C.

use bstr::ByteSlice;

/// The largest `int`.
pub(super) const INT_MAX: i64 = i32::MAX as i64;

/// The words of a flag.
pub(super) const FLAG: &[(&str, i64)] = &[("yes", 1), ("no", 0)];
pub(super) const IGNORE_RHOSTS: &[(&str, i64)] = &[("yes", 1), ("no", 0), ("shosts-only", 2)];
pub(super) const ADDRESS_FAMILY: &[(&str, i64)] = &[("inet", 4), ("inet6", 6), ("any", 0)];
pub(super) const PERMIT_ROOT_LOGIN: &[(&str, i64)] =
    &[("without-password", 1), ("prohibit-password", 1), ("forced-commands-only", 2), ("yes", 3), ("no", 0)];
pub(super) const COMPRESSION: &[(&str, i64)] = &[("yes", 1), ("delayed", 1), ("no", 0)];
pub(super) const GATEWAY_PORTS: &[(&str, i64)] = &[("clientspecified", 2), ("yes", 1), ("no", 0)];
pub(super) const TCP_FORWARDING: &[(&str, i64)] =
    &[("yes", 1), ("all", 1), ("no", 0), ("remote", 2), ("local", 3)];
pub(super) const PRIVSEP: &[(&str, i64)] = &[("yes", 1), ("sandbox", 2), ("nosandbox", 1), ("no", 0)];
pub(super) const EXPOSE_METHODS: &[(&str, i64)] = &[("never", 0), ("pam-only", 1), ("pam-and-env", 2)];

/// The value of a word, in any case of letters.
pub(super) fn word_of(words: &[(&str, i64)], text: &[u8]) -> Option<i64> {
    words.iter().find(|(word, _)| word.as_bytes().eq_ignore_ascii_case(text)).map(|&(_, value)| value)
}

/// Leading blanks, a sign and digits, as strtol(3) takes them: the value (saturated) and what is left.
fn leading_integer(text: &[u8], radix: u32) -> Option<(i64, &[u8])> {
    let text = text.trim_start_with(|c| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let end = digits.iter().position(|&byte| !(byte as char).is_digit(radix)).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let value = digits[..end].iter().fold(0_i64, |value, &byte| {
        let digit = i64::from((byte as char).to_digit(radix).unwrap_or(0));
        value.saturating_mul(i64::from(radix)).saturating_add(digit)
    });
    Some((if negative { -value } else { value }, &digits[end..]))
}

/// A number between the bounds and nothing else (`strtonum`); else sshd's word for what is wrong.
pub(super) fn number(text: &[u8], least: i64, most: i64) -> Result<i64, &'static str> {
    match leading_integer(text, 10) {
        Some((value, [])) if value < least => Err("too small"),
        Some((value, [])) if value > most => Err("too large"),
        Some((value, [])) => Ok(value),
        _ => Err("invalid"),
    }
}

/// What `atoi` makes of a text; before 7.7 integers were read so.
pub(super) fn lenient_integer(text: &[u8]) -> i64 {
    leading_integer(text, 10).map_or(0, |(value, _)| value)
}

/// Seconds: `90`, `10m`, `1h30m`.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let (value, after) = leading_integer(rest, 10)?;
        let unit = match after.first().map(u8::to_ascii_lowercase) {
            None | Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            Some(b'w') => 604_800,
            Some(_) => return None,
        };
        if !(0..=INT_MAX / unit).contains(&value) {
            return None;
        }
        total += value * unit;
        if total > INT_MAX {
            return None;
        }
        rest = after.get(1..).unwrap_or_default();
    }
    Some(total)
}

/// A size with an optional scale (`1G`), or the text of the error number.
pub(super) fn scaled(text: &[u8]) -> Result<i64, &'static str> {
    const INVALID: &str = "Invalid argument";
    const RANGE: &str = "Numerical result out of range";
    let text = text.trim_start_with(|c| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, digits) = match text.split_first() {
        Some((sign @ (b'-' | b'+'), rest)) => (*sign == b'-', rest),
        _ => (false, text),
    };
    if digits.first().is_some_and(|byte| b"+-".contains(byte)) {
        return Err(INVALID);
    }
    let end = digits.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(digits.len());
    let (whole, fraction) = digits[..end].split_once_str(".").unwrap_or((&digits[..end], b""));
    if fraction.contains(&b'.') {
        return Err(INVALID);
    }
    if whole.len() >= 19 {
        return Err(RANGE);
    }
    let value = i128::from(leading_integer(whole, 10).map_or(0, |(value, _)| value));
    let sign = if negative { -1 } else { 1 };
    let rest = &digits[end..];
    let Some((scale, after)) = rest.split_first() else {
        return i64::try_from(sign * value).map_err(|_| RANGE);
    };
    let power = b"BKMGTPE".iter().position(|unit| *unit == scale.to_ascii_uppercase()).ok_or(INVALID)?;
    if after.first().is_some_and(u8::is_ascii_alphanumeric) {
        return Err(INVALID);
    }
    let factor = 1_i128 << (10 * power);
    let digits = &fraction[..fraction.len().min(17)];
    let part = i128::from(leading_integer(digits, 10).map_or(0, |(value, _)| value));
    let part = part * factor / 10_i128.pow(u32::try_from(digits.len()).unwrap_or(0));
    i64::try_from(sign * (value * factor + part)).map_err(|_| RANGE)
}

/// The integers of `%d:%d:%d`, as many as sscanf(3) converts.
pub(super) fn colon_integers(text: &[u8], most: usize) -> Vec<i64> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some((value, after)) = leading_integer(rest, 10) {
        values.push(value.clamp(-INT_MAX - 1, INT_MAX));
        match after.strip_prefix(b":") {
            Some(next) if values.len() < most => rest = next,
            _ => break,
        }
    }
    values
}

/// An octal mask of at most 0777; what follows it does not matter.
pub(super) fn octal_mask(text: &[u8]) -> Option<i64> {
    leading_integer(text, 8).map(|(value, _)| value).filter(|value| (0..=0o777).contains(value))
}

/// A value of IPQoS; C's notation for hexadecimal and octal numbers went with 10.0.
pub(super) fn is_ip_qos(text: &[u8], c_notation: bool) -> bool {
    const NAMES: &[&str] = &[
        "none",
        "af11",
        "af12",
        "af13",
        "af21",
        "af22",
        "af23",
        "af31",
        "af32",
        "af33",
        "af41",
        "af42",
        "af43",
        "cs0",
        "cs1",
        "cs2",
        "cs3",
        "cs4",
        "cs5",
        "cs6",
        "cs7",
        "ef",
        "le",
        "lowdelay",
        "throughput",
        "reliability",
    ];
    if NAMES.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(text)) {
        return true;
    }
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', digits @ ..] if c_notation => (digits, 16),
        [b'0', _, ..] if c_notation => (text, 8),
        _ => (text, 10),
    };
    let signed = radix == 16 && digits.first().is_some_and(|byte| !byte.is_ascii_hexdigit());
    !signed && matches!(leading_integer(digits, radix), Some((0..=255, [])))
}

/// A value of SyslogFacility.
pub(super) fn is_facility(text: &[u8]) -> bool {
    const NAMES: &[&str] = &[
        "DAEMON", "USER", "AUTH", "AUTHPRIV", "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5",
        "LOCAL6", "LOCAL7",
    ];
    NAMES.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(text))
}

/// A value of LogLevel.
pub(super) fn is_log_level(text: &[u8]) -> bool {
    const NAMES: &[&str] =
        &["SILENT", "QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3"];
    NAMES.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(text))
}

/// A value of FingerprintHash.
pub(super) fn is_hash(text: &[u8]) -> bool {
    ["MD5", "SHA1", "SHA256", "SHA384", "SHA512"]
        .iter()
        .any(|name| name.as_bytes().eq_ignore_ascii_case(text))
}

/// The host of `host:port` and the port's text, as `hpdelim` cuts them; `None` for what it does not take.
pub(super) fn host_and_port(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let end = if text.starts_with(b"[") {
        text.find_byte(b']')? + 1
    } else {
        text.find_byteset(b":/").unwrap_or(text.len())
    };
    let host = &text[..end];
    let host = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    match text.get(end) {
        None => Some((host, None)),
        Some(b':') => Some((host, Some(&text[end + 1..]))),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_and_sizes_are_read_as_sshd_does() {
        for (text, expected) in [
            ("120", Some(120)),
            ("2m", Some(120)),
            ("1h30m", Some(5400)),
            ("1x", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(time(b"99999999999"), None);
        assert_eq!(scaled(b"1G"), Ok(1 << 30));
        assert_eq!(scaled(b"1.5k"), Ok(1536));
        assert_eq!(scaled(b"15"), Ok(15));
        assert!(scaled(b"1Gb").is_err() && scaled(b"x").is_err());
        assert_eq!(colon_integers(b"10:30:100x", 3), [10, 30, 100]);
        assert_eq!(colon_integers(b"10:", 3), [10]);
    }

    #[test]
    fn hosts_and_ports_are_cut_as_sshd_does() {
        assert_eq!(host_and_port(b"a:22"), Some((&b"a"[..], Some(&b"22"[..]))));
        assert_eq!(host_and_port(b"[::1]:22"), Some((&b"::1"[..], Some(&b"22"[..]))));
        assert_eq!(host_and_port(b"a"), Some((&b"a"[..], None)));
        assert_eq!(host_and_port(b"a/22"), None);
        assert_eq!(host_and_port(b"[a"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text: Vec<u8>) {
            let _ = (time(&text), scaled(&text), colon_integers(&text, 3), octal_mask(&text));
            let _ = (is_ip_qos(&text, true), host_and_port(&text), number(&text, 0, INT_MAX), lenient_integer(&text));
        }

        #[test]
        fn no_digits_make_it_panic(text in "[-+]?[0-9.]{0,40}[A-Za-z]?") {
            let _ = (time(text.as_bytes()), scaled(text.as_bytes()), colon_integers(text.as_bytes(), 3));
        }
    }
}
