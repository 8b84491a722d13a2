//! Changing one entry of an account file and no other byte.
//!
//! Comments, lines that nobody understands, NIS lines, carriage returns and a missing last newline stay as they are. A
//! new line has no carriage return even in a file full of them: glibc takes that byte for part of the shell, and
//! drops the whole line in shadow.

use super::field;
use bstr::ByteSlice;

/// Adds `line`, which ends with a newline, before the first compat line (`+` or `-`; what follows one could be hidden by
/// it), else at the end. A last line without newline gets one first, so that nothing is glued to it.
#[must_use]
pub fn insert(text: &[u8], line: &[u8]) -> Vec<u8> {
    let mut at = text.len();
    let mut start = 0;
    for existing in text.lines_with_terminator() {
        if matches!(field::skip_spaces(existing).first(), Some(b'+' | b'-')) {
            at = start;
            break;
        }
        start += existing.len();
    }
    let (before, after) = text.split_at(at);
    let newline: &[u8] = if before.is_empty() || before.ends_with(b"\n") { b"" } else { b"\n" };
    [before, newline, line, after].concat()
}

/// Puts `line`, which ends with a newline, in the place of line `number`, counted from 1. `None` if there is no such line.
#[must_use]
pub fn replace_line(text: &[u8], number: u32, line: &[u8]) -> Option<Vec<u8>> {
    let (before, _, after) = split_at_line(text, number)?;
    Some([before, line, after].concat())
}

/// Sets field `index`, counted from 0, of line `number`. `None` if the line has no such field, or `value` cannot be one.
#[must_use]
pub fn set_field(text: &[u8], number: u32, index: usize, value: &[u8]) -> Option<Vec<u8>> {
    if value.find_byteset(b":\n\0").is_some() {
        return None;
    }
    let (before, line, after) = split_at_line(text, number)?;
    let (line, newline) = chop(line);
    let start = match index {
        0 => line.len() - field::skip_spaces(line).len(),
        _ => line.find_iter(":").nth(index - 1)? + 1,
    };
    let length = line[start..].find_byte(b':').unwrap_or(line.len() - start);
    Some([before, &line[..start], value, &line[start + length..], newline, after].concat())
}

/// Adds `user` to the member list, field `index` counted from 0 and the last of the line (3 in group and gshadow).
/// `None` if there is no such line, or it is cut short before the list.
#[must_use]
pub fn add_member(text: &[u8], number: u32, index: usize, user: &[u8]) -> Option<Vec<u8>> {
    let (before, line, after) = split_at_line(text, number)?;
    let (line, newline) = chop(line);
    let visible = &line[..line.find_byte(0).unwrap_or(line.len())];
    let list = match visible.find_iter(":").nth(index - 1) {
        Some(colon) => colon + 1,
        // "name:x:4" has an empty list; the colon comes with the first member.
        None if visible.len() == line.len() && visible.find_iter(":").count() + 1 == index => {
            return Some([before, line, b":", user, newline, after].concat());
        }
        None => return None,
    };
    let members = &line[list..];
    let in_front =
        field::skip_spaces(members).is_empty() || members.ends_with(b"\r") || visible.len() != line.len();
    let line = if in_front {
        // What follows a NUL is not seen, a lone carriage return must not become part of the name, and one that ends
        // the line goes on ending it.
        let comma: &[u8] = if members.is_empty() { b"" } else { b"," };
        [&line[..list], user, comma, members].concat()
    } else {
        let comma: &[u8] = if members.ends_with(b",") { b"" } else { b"," };
        [line, comma, user].concat()
    };
    Some([before, &line, newline, after].concat())
}

fn split_at_line(text: &[u8], number: u32) -> Option<(&[u8], &[u8], &[u8])> {
    let mut start = 0;
    for (line, at) in text.lines_with_terminator().zip(1_u32..) {
        if at == number {
            let (before, rest) = text.split_at(start);
            let (line, after) = rest.split_at(line.len());
            return Some((before, line, after));
        }
        start += line.len();
    }
    None
}

fn chop(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(line.len() - usize::from(line.ends_with(b"\n")))
}

#[cfg(test)]
mod tests {
    use super::super::{Group, GroupShadow, Members, Passwd, Shadow};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_line_comes_before_the_first_compat_line() {
        assert_eq!(insert(b"a\n+::::::\n", b"n\n"), b"a\nn\n+::::::\n");
        assert_eq!(insert(b"a\n  -bad\nb\n+", b"n\n"), b"a\nn\n  -bad\nb\n+");
        assert_eq!(insert(b"+", b"n\n"), b"n\n+");
        assert_eq!(insert(b"", b"n\n"), b"n\n");
    }

    #[test]
    fn nothing_is_glued_to_a_last_line_without_newline() {
        assert_eq!(insert(b"a:x", b"n\n"), b"a:x\nn\n");
        assert_eq!(insert(b"a:x\r", b"n\n"), b"a:x\r\nn\n");
    }

    #[test]
    fn a_new_line_in_a_file_with_carriage_returns_has_none() {
        let text = insert(b"a:x:1:1::/:/bin/sh\r\n", b"n:x:2:2::/:/bin/sh\n");
        assert_eq!(text, b"a:x:1:1::/:/bin/sh\r\nn:x:2:2::/:/bin/sh\n");
        assert_eq!(Passwd::parse(&text).by_name(b"n").unwrap().shell, "/bin/sh");
    }

    #[test]
    fn one_field_changes_alone() {
        let text = b"a:1:2\n b:1:2:\r\nc:1";
        assert_eq!(set_field(text, 2, 1, b"*").unwrap(), b"a:1:2\n b:*:2:\r\nc:1");
        assert_eq!(set_field(text, 2, 0, b"z").unwrap(), b"a:1:2\n z:1:2:\r\nc:1");
        assert_eq!(set_field(text, 3, 1, b"").unwrap(), b"a:1:2\n b:1:2:\r\nc:");
        assert_eq!(set_field(text, 3, 2, b"x"), None);
        assert_eq!(set_field(text, 4, 0, b"x"), None);
        assert_eq!(set_field(text, 1, 0, b"x:y"), None);
        assert_eq!(replace_line(text, 3, b"n\n").unwrap(), b"a:1:2\n b:1:2:\r\nn\n");
    }

    #[test]
    fn a_member_is_added_where_glibc_reads_it() {
        for (line, wanted) in [
            (&b"adm:x:4:\n"[..], &b"adm:x:4:u\n"[..]),
            (b"adm:x:4", b"adm:x:4:u"),
            (b"adm:x:4:a,b\n", b"adm:x:4:a,b,u\n"),
            (b"adm:x:4:a,\n", b"adm:x:4:a,u\n"),
            (b"adm:x:4:\r\n", b"adm:x:4:u,\r\n"),
            (b"adm:x:4:a\r\n", b"adm:x:4:u,a\r\n"),
            (b"adm:x:4:a\0b\n", b"adm:x:4:u,a\0b\n"),
        ] {
            let text = add_member(line, 1, 3, b"u").unwrap();
            assert_eq!(bstr::BStr::new(&text), bstr::BStr::new(wanted));
            assert_eq!(Group::parse(&text).gids_of(b"u"), [4]);
        }
        assert_eq!(add_member(b"adm:x\n", 1, 3, b"u"), None);
        assert_eq!(add_member(b"adm:x:4\0:\n", 1, 3, b"u"), None);
        let text = add_member(b"adm:!::\n", 1, 3, b"u").unwrap();
        assert_eq!(GroupShadow::parse(&text).by_name(b"adm").unwrap().members, Members::parse(b"u"));
    }

    /// Files made of what account files are made of, good and bad.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"\n",
            b":",
            b",",
            b"\r\n",
            b"+",
            b"-",
            b"#",
            b" ",
            b"\0",
            b"\xff",
            b"a:x:1:1:g:/h:/s\n",
            b"b:x:0:4:5:6:::\n",
            b"g:x:9:a,b",
            b"x",
            b"77",
        ];
        let piece = proptest::sample::select(pieces);
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    /// Takes away what `insert` may add: the line, and the newline that a last line lacked.
    fn without(text: &[u8], line: &[u8]) -> Vec<Vec<u8>> {
        let at = text.find(line).unwrap();
        let (before, after) = (&text[..at], &text[at + line.len()..]);
        let chopped = before.strip_suffix(b"\n").unwrap_or(before);
        vec![[before, after].concat(), [chopped, after].concat()]
    }

    proptest! {
        #[test]
        fn a_new_entry_is_found_and_every_other_byte_stays(text in text()) {
            let line = b"newuser:x:1000:1000:g:/home/newuser:/bin/sh\n";
            let after = insert(&text, line);
            prop_assert!(without(&after, line).contains(&text));
            let found = Passwd::parse(&after).by_name(b"newuser").cloned().unwrap();
            prop_assert_eq!(&found.to_line()[..], &line[..]);
            prop_assert_eq!(Passwd::parse(&after).entries.len(), Passwd::parse(&text).entries.len() + 1);
            let shadow = b"newuser:*:20000:0:99999:7:::\n";
            let after = insert(&text, shadow);
            prop_assert_eq!(&Shadow::parse(&after).by_name(b"newuser").unwrap().to_line()[..], &shadow[..]);
        }

        #[test]
        fn a_new_member_is_seen_and_the_other_groups_stay(text in text()) {
            let before = Group::parse(&text);
            for group in &before.entries {
                if let Some(after) = add_member(&text, group.line, 3, b"newuser") {
                    let after = Group::parse(&after);
                    prop_assert_eq!(after.gids_of(b"newuser"), [group.gid]);
                    prop_assert_eq!(after.entries.len(), before.entries.len());
                    for member in group.members.iter() {
                        prop_assert!(after.gids_of(member).contains(&group.gid));
                    }
                }
            }
        }

        #[test]
        fn readers_take_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Passwd::parse(&text), Group::parse(&text), Shadow::parse(&text), GroupShadow::parse(&text));
            let _ = (super::super::Subids::parse(&text), super::super::LoginDefs::parse(&text).uids());
        }

        #[test]
        fn what_is_printed_is_read_again(name in "[a-z]{1,8}", uid: u32, gecos in "[^:\n\0]{0,9}", days in proptest::option::of(0..99_999_i64)) {
            let line = format!("{name}:x:{uid}:{uid}:{gecos}:/h:/s\n");
            let parsed = Passwd::parse(line.as_bytes());
            prop_assert_eq!(parsed.by_name(name.as_bytes()).unwrap().to_line(), line.as_bytes());
            let days = days.map(|days| days.to_string()).unwrap_or_default();
            let line = format!("{name}:*:{days}:0:{days}:7::{days}:\n");
            let parsed = Shadow::parse(line.as_bytes());
            prop_assert_eq!(parsed.by_name(name.as_bytes()).unwrap().to_line(), line.as_bytes());
            let line = format!("{name}:x:{uid}:a,{name}\n");
            let parsed = Group::parse(line.as_bytes());
            prop_assert_eq!(parsed.by_name(name.as_bytes()).unwrap().to_line(), line.as_bytes());
        }
    }
}
