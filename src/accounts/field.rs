//! Lines and fields as glibc's `files` service takes them: C strings cut at the newline, numbers by strtoul(3).
//!
//! Measured against getpwent(3), getgrent(3), getspent(3) and getgrouplist(3) of glibc 2.36.

use bstr::ByteSlice;

/// The lines of a file with their numbers, counted from 1; each ends at its first NUL, as a C string does.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    text.lines_with_terminator().zip(1..).map(|(line, number)| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        (number, &line[..line.find_byte(0).unwrap_or(line.len())])
    })
}

/// isspace(3) in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Without leading blanks.
pub(super) fn skip_spaces(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    &text[start..]
}

/// What a lookup sees of a line: leading blanks are skipped; a comment, an empty line or a compat line is none.
pub(super) fn usable(line: &[u8]) -> Option<&[u8]> {
    let line = skip_spaces(line);
    match line.first() {
        None | Some(b'#' | b'+' | b'-') => None,
        Some(_) => Some(line),
    }
}

/// Fields joined by colons, with a newline.
pub(super) fn to_line(fields: &[&[u8]]) -> Vec<u8> {
    let mut line = bstr::join(":", fields);
    line.push(b'\n');
    line
}

/// The rest of a line, field by field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Up to the next colon or the end.
    pub(super) fn string(&mut self) -> &'a [u8] {
        let (field, rest) = self.0.split_once_str(":").unwrap_or((self.0, b""));
        self.0 = rest;
        field
    }

    /// A number that must be there; the colon after it need not.
    pub(super) fn id(&mut self) -> Option<u32> {
        let (value, rest) = strtou32(self.0)?;
        self.0 = after_colon(rest)?;
        value
    }

    /// A number that may be left out, though the line must not end before it; -1, as left out.
    pub(super) fn days(&mut self) -> Option<Option<i64>> {
        if self.0.is_empty() {
            return None;
        }
        let (value, rest) = match strtou32(self.0) {
            None => (None, self.0),
            // The value goes through a C int.
            Some((value, rest)) => (Some(i64::from(value?.cast_signed())).filter(|days| *days != -1), rest),
        };
        self.0 = after_colon(rest)?;
        Some(value)
    }
}

fn after_colon(rest: &[u8]) -> Option<&[u8]> {
    match rest.split_first() {
        None => Some(rest),
        Some((b':', rest)) => Some(rest),
        Some(_) => None,
    }
}

/// strtoul(3), base 10, and what is left; the value is `None` where it does not fit 32 bits (the line is then dropped).
/// No digits at all: `None`.
pub(super) fn strtou32(text: &[u8]) -> Option<(Option<u32>, &[u8])> {
    let text = skip_spaces(text);
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let magnitude = digits[..length]
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    let value = magnitude.map(|value| if negative { value.wrapping_neg() } else { value });
    Some((value.and_then(|value| u32::try_from(value).ok()), &digits[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_strtoul_takes_them() {
        let value = |text: &[u8]| strtou32(text).and_then(|(value, _)| value);
        for (text, id) in [("-0", 0), ("4294967295", u32::MAX), ("0001", 1), ("\t5", 5), ("+4", 4)] {
            assert_eq!(value(text.as_bytes()), Some(id), "{text}");
        }
        assert_eq!(value(b"-18446744073709551615"), Some(1));
        for text in ["-1", "4294967296", "-4294967295", "18446744073709551616", "+-3", "+ 3", "", "x"] {
            assert_eq!(value(text.as_bytes()), None, "{text}");
        }
        assert_eq!(strtou32(b"0x10"), Some((Some(0), &b"x10"[..])));
    }

    #[test]
    fn a_line_ends_at_its_first_nul_and_the_last_newline_starts_no_line() {
        let seen: Vec<_> = lines(b"a\0b\n\nc\n").collect();
        assert_eq!(seen, [(1, &b"a"[..]), (2, b""), (3, b"c")]);
        assert_eq!(lines(b"a\nb").last(), Some((2, &b"b"[..])));
    }
}
