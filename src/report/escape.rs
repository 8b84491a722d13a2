//! Names from a hostile volume, made harmless for a terminal and exact for a machine.
//!
//! On a terminal, control characters, bidirectional overrides and characters without width appear as `\xNN` or
//! `\u{NNNN}`; bytes that are not UTF-8 as `\xNN`; a backslash as `\\`. In JSON only the last two are escaped (JSON
//! itself takes care of control characters), so the bytes can be had back.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path or name for a terminal.
#[must_use]
pub fn path(path: &Path) -> String {
    bytes(path.as_os_str().as_bytes())
}

/// Bytes of the volume for a terminal.
#[must_use]
pub fn bytes(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut out, c, true);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// A sentence that may quote the volume, for a terminal: as [`bytes`], but a backslash stays as it is.
#[must_use]
pub fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut out, c, false);
    }
    out
}

fn push(out: &mut String, c: char, escape_backslash: bool) {
    match c {
        '\\' if escape_backslash => out.push_str("\\\\"),
        c if (c as u32) < 0x100 && c.is_control() => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if is_invisible(c) => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
        c => out.push(c),
    }
}

/// Controls, format characters (bidi, zero width, tags, soft hyphen) and line separators.
pub(super) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A path for JSON: UTF-8 stays, other bytes become `\xNN`, a backslash `\\`.
#[must_use]
pub fn json(path: &OsStr) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.as_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_turn_the_text() {
        assert_eq!(bytes(b"a\x1b[2Jb"), "a\\x1b[2Jb");
        assert_eq!(bytes("x\u{202e}y\u{200b}".as_bytes()), "x\\u{202e}y\\u{200b}");
        assert_eq!(bytes(b"new\nline"), "new\\x0aline");
        assert_eq!(bytes(b"\xff\\"), "\\xff\\\\");
        assert_eq!(bytes("caf\u{e9}".as_bytes()), "caf\u{e9}");
    }

    #[test]
    fn json_names_are_reversible() {
        assert_eq!(json(OsStr::from_bytes(b"a\xff\\x")), "a\\xff\\\\x");
    }
}
