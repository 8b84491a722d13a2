//! Edits of a file of lines that an administrator wrote: what is not meant stays byte for byte, line ends included. No line is
//! deleted: what must go stays as a comment behind [`GONE`], and what is added stands below [`ADDED`].

use bstr::ByteSlice;

/// Before a line that was commented out.
pub(super) const GONE: &str = "#volrescue# ";
/// The line above what was added.
pub(super) const ADDED: &str = "# added by volrescue";

/// A file as lines without their newline.
pub(super) struct Lines<'a> {
    lines: Vec<&'a [u8]>,
    /// The last line ends with a newline.
    ended: bool,
    /// The lines end with CR LF.
    crlf: bool,
}

/// A name that means itself alone in a pattern, and is one word.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

/// The blanks before a line, its keyword, and where its arguments begin.
struct Parts<'a> {
    indent: &'a [u8],
    keyword: &'a [u8],
    arguments: &'a [u8],
}

fn parts(line: &[u8]) -> Parts<'_> {
    let blank = |byte: &u8| b" \t\r\x0c".contains(byte);
    let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let (indent, rest) = line.split_at(start);
    // Up to the first blank or `=`, as strdelim cuts it.
    let end = rest.iter().position(|byte| blank(byte) || *byte == b'=').unwrap_or(rest.len());
    let (keyword, after) = rest.split_at(end);
    let arguments = after.trim_start_with(|c| " \t\r\x0c".contains(c));
    let arguments = arguments.strip_prefix(b"=").unwrap_or(arguments);
    Parts { indent, keyword, arguments: arguments.trim_ascii() }
}

fn is_match(line: &[u8]) -> bool {
    parts(line).keyword.eq_ignore_ascii_case(b"match")
}

impl<'a> Lines<'a> {
    pub(super) fn of(content: &'a [u8]) -> Self {
        let ended = content.ends_with(b"\n");
        let body = if ended { &content[..content.len() - 1] } else { content };
        let lines: Vec<&[u8]> =
            if content.is_empty() { Vec::new() } else { body.split(|byte| *byte == b'\n').collect() };
        let crlf = lines.first().is_some_and(|line| line.ends_with(b"\r"));
        Self { lines, ended: ended || content.is_empty(), crlf }
    }

    /// The line of this number, counted from 1.
    pub(super) fn line(&self, number: usize) -> Option<&'a [u8]> {
        self.lines.get(number.checked_sub(1)?).copied()
    }

    /// A new line with the file's end of line.
    fn own(&self, text: &[u8]) -> Vec<u8> {
        let mut line = text.to_vec();
        if self.crlf {
            line.push(b'\r');
        }
        line
    }

    /// The file with some lines (numbers from 1, the last one not among them) exchanged for others.
    fn exchange(&self, from: usize, to: usize, new: Vec<Vec<u8>>) -> Vec<u8> {
        let old = |range: &[&[u8]]| range.iter().map(|line| line.to_vec()).collect::<Vec<_>>();
        let (from, to) =
            (from.saturating_sub(1).min(self.lines.len()), to.saturating_sub(1).min(self.lines.len()));
        let mut lines = old(&self.lines[..from]);
        let appended = from == self.lines.len() && !new.is_empty();
        lines.extend(new);
        lines.extend(old(&self.lines[to.max(from)..]));
        let mut content = lines.join(&b'\n');
        if self.ended || appended {
            content.push(b'\n');
        }
        content
    }

    /// The line as a comment. A Match line takes its whole block with it, which would else hold for everybody.
    pub(super) fn comment_out(&self, number: usize) -> Option<Vec<u8>> {
        let line = self.line(number)?;
        let end = if is_match(line) {
            let next = self.lines.iter().skip(number).position(|line| is_match(line));
            next.map_or(self.lines.len() + 1, |more| number + 1 + more)
        } else {
            number + 1
        };
        let gone = self.lines.get(number - 1..end - 1)?.iter().map(|line| gone(line)).collect();
        Some(self.exchange(number, end, gone))
    }

    /// Another line in place of the line, which stays as a comment.
    pub(super) fn replace(&self, number: usize, new: &[u8]) -> Option<Vec<u8>> {
        let line = self.line(number)?;
        let indent = parts(line).indent;
        let added = [indent, ADDED.as_bytes()].concat();
        let lines = vec![gone(line), self.own(&added), self.own(&[indent, new].concat())];
        Some(self.exchange(number, number + 1, lines))
    }

    /// The line with a word more, as its first: behind the others may stand a comment.
    pub(super) fn add_word(&self, number: usize, word: &[u8]) -> Option<Vec<u8>> {
        let Parts { keyword, arguments, .. } = parts(self.line(number)?);
        if keyword.is_empty() || !word.to_str().is_ok_and(is_plain_name) {
            return None;
        }
        self.replace(number, &[keyword, b" ", word, b" ", arguments].concat())
    }

    /// The line without a word.
    pub(super) fn drop_word(&self, number: usize, word: &[u8]) -> Option<Vec<u8>> {
        let Parts { keyword, arguments, .. } = parts(self.line(number)?);
        let blank = |byte: &u8| b" \t".contains(byte);
        let words: Vec<&[u8]> = arguments.split(blank).filter(|word| !word.is_empty()).collect();
        let same = |one: &[u8]| one.trim_with(|c| c == '"') == word;
        let left: Vec<&[u8]> = words.iter().copied().filter(|one| !same(one)).collect();
        if left.len() == words.len() {
            return None;
        }
        if left.is_empty() || left[0].starts_with(b"#") {
            return self.comment_out(number);
        }
        self.replace(number, &[keyword, b" ", &left.join(&b' ')].concat())
    }

    /// The line with one value more in its comma-separated argument.
    pub(super) fn add_to_list(&self, number: usize, value: &str) -> Option<Vec<u8>> {
        let Parts { keyword, arguments, .. } = parts(self.line(number)?);
        let end = arguments.find_byteset(b" \t").unwrap_or(arguments.len());
        let (list, rest) = arguments.split_at(end);
        // What a list that takes away lacks cannot be said on it.
        if list.is_empty() || list.starts_with(b"-") || list.contains(&b'"') {
            return None;
        }
        self.replace(number, &[keyword, b" ", list, b",", value.as_bytes(), rest].concat())
    }

    /// A line of our own before the line.
    pub(super) fn insert_before(&self, number: usize, new: &[u8]) -> Option<Vec<u8>> {
        self.line(number)?;
        Some(self.exchange(number, number, vec![self.own(ADDED.as_bytes()), self.own(new)]))
    }

    /// A bare line at the end, for files that know no comments.
    pub(super) fn append(&self, new: &[u8]) -> Vec<u8> {
        let end = self.lines.len() + 1;
        self.exchange(end, end, vec![self.own(new)])
    }

    /// A line of our own at the end.
    pub(super) fn append_ours(&self, new: &[u8]) -> Vec<u8> {
        let end = self.lines.len() + 1;
        self.exchange(end, end, vec![self.own(ADDED.as_bytes()), self.own(new)])
    }

    /// The number of the first line that is this, blanks around them aside.
    pub(super) fn find(&self, wanted: &[u8]) -> Option<usize> {
        self.lines.iter().position(|line| line.trim_ascii() == wanted).map(|at| at + 1)
    }

    /// A setting for one user: in the block that an earlier edit made, else in a new one before the first Match.
    pub(super) fn for_user(&self, name: &str, setting: &str) -> Vec<u8> {
        let head = format!("Match User {name}");
        let setting = self.own(format!("    {setting}").as_bytes());
        let trimmed = |line: &[u8]| line.trim_ascii().to_vec();
        let ours = self
            .lines
            .windows(2)
            .position(|two| trimmed(two[0]) == ADDED.as_bytes() && trimmed(two[1]) == head.as_bytes());
        if let Some(at) = ours {
            return self.exchange(at + 3, at + 3, vec![setting]);
        }
        let block = vec![self.own(ADDED.as_bytes()), self.own(head.as_bytes()), setting];
        let at = self.lines.iter().position(|line| is_match(line)).unwrap_or(self.lines.len());
        self.exchange(at + 1, at + 1, block)
    }
}

fn gone(line: &[u8]) -> Vec<u8> {
    [GONE.as_bytes(), line].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(content: Option<Vec<u8>>) -> String {
        String::from_utf8(content.unwrap()).unwrap()
    }

    #[test]
    fn a_line_becomes_a_comment_and_a_match_takes_its_block_along() {
        let lines = Lines::of(b"A 1\nMatch User x\n  B 2\nmatch all\nC 3");
        assert_eq!(text(lines.comment_out(1)), "#volrescue# A 1\nMatch User x\n  B 2\nmatch all\nC 3");
        assert_eq!(
            text(lines.comment_out(2)),
            "A 1\n#volrescue# Match User x\n#volrescue#   B 2\nmatch all\nC 3"
        );
        assert_eq!(
            text(lines.comment_out(4)),
            "A 1\nMatch User x\n  B 2\n#volrescue# match all\n#volrescue# C 3"
        );
        assert_eq!(lines.comment_out(6), None);
    }

    #[test]
    fn words_come_and_go() {
        let lines = Lines::of(b"AllowUsers=a b # c\r\n\tDenyUsers u\r\nDenyUsers x \"u\" y\r\n");
        assert_eq!(
            text(lines.add_word(1, b"u")),
            "#volrescue# AllowUsers=a b # c\r\n# added by volrescue\r\nAllowUsers u a b # c\r\n\tDenyUsers u\r\nDenyUsers x \"u\" y\r\n"
        );
        assert!(text(lines.drop_word(2, b"u")).contains("\r\n#volrescue# \tDenyUsers u\r\nDeny"));
        assert!(text(lines.drop_word(3, b"u")).ends_with("volrescue\r\nDenyUsers x y\r\n"));
        assert_eq!(lines.drop_word(1, b"nobody"), None);
    }

    #[test]
    fn a_user_gets_one_block_before_the_others() {
        let first = Lines::of(b"A 1\nMatch Group g\n B 2").for_user("u", "C 3");
        let expected = "A 1\n# added by volrescue\nMatch User u\n    C 3\nMatch Group g\n B 2";
        assert_eq!(first.to_str(), Ok(expected));
        let second = Lines::of(&first).for_user("u", "D 4");
        assert!(second.contains_str("Match User u\n    D 4\n    C 3\nMatch Group g\n B 2"));
        assert_eq!(
            Lines::of(b"A 1").for_user("u", "C 3"),
            b"A 1\n# added by volrescue\nMatch User u\n    C 3\n"
        );
        assert_eq!(Lines::of(b"").for_user("u", "C 3"), b"# added by volrescue\nMatch User u\n    C 3\n");
    }

    #[test]
    fn lists_grow_but_for_those_that_take_away() {
        assert!(text(Lines::of(b"K +a,b # c").add_to_list(1, "d")).ends_with("\nK +a,b,d # c"));
        assert_eq!(Lines::of(b"K -a").add_to_list(1, "d"), None);
    }

    proptest! {
        /// Every line of the administrator is still there, as it was or behind the mark.
        #[test]
        fn nothing_is_lost(content in "([ A-Za-z=#\"]{0,12}\r?\n){0,6}[A-Za-z ]{0,5}", at in 0_usize..8) {
            let bytes = content.as_bytes();
            let lines = Lines::of(bytes);
            let edits = [
                lines.comment_out(at),
                lines.replace(at, b"X y"),
                lines.add_word(at, b"u"),
                lines.drop_word(at, b"u"),
                lines.add_to_list(at, "v"),
                Some(lines.for_user("u", "X y")),
            ];
            for edited in edits.into_iter().flatten() {
                let after: Vec<&[u8]> = Lines::of(&edited).lines;
                let after: Vec<&[u8]> =
                    after.iter().map(|line| line.strip_prefix(GONE.as_bytes()).unwrap_or(line)).collect();
                let mut rest = after.iter();
                for line in lines.lines.iter().filter(|line| !line.is_empty()) {
                    prop_assert!(rest.any(|other| other == line), "{line:?} is gone from {edited:?}");
                }
            }
        }
    }
}
