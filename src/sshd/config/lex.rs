//! Lines and words of sshd_config.
//!
//! Sources: openssh-portable `servconf.c` (`load_server_config`), `misc.c` (`strdelim`, `argv_split`). Two ages:
//! up to 8.6 every `#` starts a comment and words are cut by `strdelim`; from 8.7 words follow the shell more closely.

use crate::sshd::build::Build;
use bstr::ByteSlice;
use std::fmt::Write as _;

const BLANKS: &[u8] = b" \t\r\n";
/// The buffer of the line reader before 7.8, without the terminating NUL.
const OLD_LINE: usize = 4095;

/// A line as sshd sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The text, without comment (in the old age) and leading blanks.
    pub(super) text: Vec<u8>,
    /// Where it starts in the file.
    pub(super) start: usize,
    /// The line in the file, counted from 1. (sshd counts fewer where a NUL has joined lines.)
    pub(super) number: u32,
}

/// Cuts a file into lines. A NUL ends the text of a line together with its newline, so the next line is joined on.
pub(super) fn lines(content: &[u8], build: &Build) -> Vec<Line> {
    let whole_lines = build.at_least(7, 8);
    let cut_comments = !build.at_least(8, 7);
    let mut lines = Vec::new();
    let mut line = Line { text: Vec::new(), start: 0, number: 1 };
    let mut number = 1;
    let mut start = 0;
    while start < content.len() {
        let rest = &content[start..];
        let mut end = rest.find_byte(b'\n').map_or(rest.len(), |at| at + 1);
        if !whole_lines {
            end = end.min(OLD_LINE);
        }
        let read = &rest[..end];
        start += end;
        number += u32::from(read.ends_with(b"\n"));
        let mut text = &read[..read.find_byte(0).unwrap_or(read.len())];
        let mut ended = text.ends_with(b"\n");
        if cut_comments && let Some(comment) = text.find_byte(b'#') {
            text = &text[..comment];
            ended = true;
        }
        let text = text.trim_start_with(|c| matches!(c, ' ' | '\t' | '\r'));
        line.text.extend_from_slice(text.strip_suffix(b"\n").unwrap_or(text));
        if ended {
            lines.push(std::mem::replace(&mut line, Line { text: Vec::new(), start, number }));
        }
    }
    lines.push(line);
    lines
}

/// A line cut the old way, word by word. The words change what is left: an opening quote is taken out of it.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    text: Vec<u8>,
    at: Option<usize>,
}

impl Cursor {
    pub(super) fn new(text: Vec<u8>) -> Self {
        Self { text, at: Some(0) }
    }

    /// What is left; `None` once the last word was taken.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        self.at.and_then(|at| self.text.get(at..))
    }

    /// The next word, cut at blanks, at quotes, and at one `=`.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.cut(b" \t\r\n\"=")
    }

    /// The next word, where `=` is an ordinary byte.
    pub(super) fn next_with_equals(&mut self) -> Option<Vec<u8>> {
        self.cut(b" \t\r\n\"")
    }

    fn cut(&mut self, delimiters: &[u8]) -> Option<Vec<u8>> {
        let at = self.at?;
        let rest = self.text.get(at..)?;
        let Some(end) = rest.find_byteset(delimiters) else {
            self.at = None;
            return Some(rest.to_vec());
        };
        let end = at + end;
        if self.text[end] == b'"' {
            self.text.remove(end);
            let Some(close) = self.text[end..].find_byte(b'"') else {
                self.at = None;
                return None;
            };
            let close = end + close;
            self.at = Some(self.skip_blanks(close + 1));
            return Some(self.text[at..close].to_vec());
        }
        let equals = self.text[end] == b'=';
        let mut next = self.skip_blanks(end + 1);
        if delimiters.contains(&b'=') && !equals && self.text.get(next) == Some(&b'=') {
            next = self.skip_blanks(next + 1);
        }
        self.at = Some(next);
        Some(self.text[at..end].to_vec())
    }

    fn skip_blanks(&self, from: usize) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        from + rest.find_not_byteset(BLANKS).unwrap_or(rest.len())
    }
}

/// Cuts a line the new way; `None` for a quote that is not closed.
pub(super) fn split_words(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    while let Some(&byte) = bytes.peek() {
        match byte {
            b' ' | b'\t' => {
                bytes.next();
                continue;
            }
            b'#' => break,
            _ => {}
        }
        let mut word = Vec::new();
        let mut quote = None;
        while let Some(byte) = bytes.next() {
            match (byte, quote) {
                (b'\\', _) => match bytes.peek() {
                    Some(&next) if b"'\"\\".contains(&next) || (quote.is_none() && next == b' ') => {
                        word.push(next);
                        bytes.next();
                    }
                    _ => word.push(byte),
                },
                (b' ' | b'\t', None) => break,
                (b'"' | b'\'', None) => quote = Some(byte),
                (byte, Some(open)) if byte == open => quote = None,
                _ => word.push(byte),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
    Some(words)
}

/// Bytes as sshd writes them into its log: backslashes doubled, what is not printable in octal.
pub(super) fn vis(text: &[u8]) -> String {
    let mut written = String::new();
    for &byte in text {
        match byte {
            b'\\' => written.push_str("\\\\"),
            b' '..=b'~' | b'\t' => written.push(char::from(byte)),
            _ => {
                let _ = write!(written, "\\{byte:03o}");
            }
        }
    }
    written
}

/// Trailing blanks and form feeds are cut, but never the first byte.
pub(super) fn trim_end(text: &[u8]) -> &[u8] {
    let keep = text.iter().rposition(|byte| !b" \t\r\n\x0c".contains(byte)).unwrap_or(0);
    &text[..text.len().min(keep + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sshd::build::Family;
    use proptest::prelude::*;

    fn texts(content: &[u8], version: (u32, u32)) -> Vec<String> {
        let build = Build::of(Family::Upstream, version);
        lines(content, &build).iter().map(|line| line.text.to_str_lossy().into_owned()).collect()
    }

    fn words(text: &str) -> Vec<String> {
        let mut cursor = Cursor::new(text.as_bytes().to_vec());
        std::iter::from_fn(|| cursor.next()).map(|word| word.to_str_lossy().into_owned()).collect()
    }

    #[test]
    fn comments_are_cut_anywhere_before_8_7() {
        let content = b"  Banner \"a#b\"\n# x\nPort 22";
        assert_eq!(texts(content, (8, 4)), ["Banner \"a", "", "Port 22"]);
        assert_eq!(texts(content, (9, 2)), ["Banner \"a#b\"", "# x", "Port 22"]);
    }

    #[test]
    fn a_nul_joins_the_next_line() {
        assert_eq!(texts(b"UsePAM yes\0junk\n Port 22\nx", (9, 2)), ["UsePAM yesPort 22", "x"]);
        let build = Build::of(Family::Upstream, (9, 2));
        let numbers: Vec<u32> = lines(b"a\0\nb\nc\n", &build).iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 3, 4]);
    }

    #[test]
    fn long_lines_were_read_in_pieces_before_7_8() {
        let content = format!("#{}\nPort 22\n", "x".repeat(5000));
        assert_eq!(texts(content.as_bytes(), (7, 4))[1].len(), 5001 - 4095);
        assert_eq!(texts(content.as_bytes(), (8, 0)), ["", "Port 22", ""]);
    }

    #[test]
    fn old_words_are_cut_as_strdelim_does() {
        assert_eq!(words("Port 22"), ["Port", "22"]);
        assert_eq!(words("Port=22"), ["Port", "22"]);
        assert_eq!(words("Port  =  22"), ["Port", "22"]);
        assert_eq!(words("=Port 22"), ["", "Port", "22"]);
        assert_eq!(words("a \"b c\" d"), ["a", "b c", "d"]);
        assert_eq!(words("a b\"c d\"e"), ["a", "bc d", "e"]);
        assert_eq!(words("a b "), ["a", "b", ""]);
        assert_eq!(words("a \"open"), ["a"]);
        assert_eq!(words("a ==b"), ["a", "", "b"]);
    }

    #[test]
    fn new_words_are_cut_as_argv_split_does() {
        let split = |text: &str| {
            let words = split_words(text.as_bytes())?;
            Some(words.iter().map(|word| word.to_str_lossy().into_owned()).collect::<Vec<_>>())
        };
        let some = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(split(" a 'b c' \"d e\"f # g"), some(&["a", "b c", "d ef"]));
        assert_eq!(split(r"a\ b \'c \\ \x"), some(&["a b", "'c", "\\", "\\x"]));
        assert_eq!(split("no#x"), some(&["no#x"]));
        assert_eq!(split("'' \"\""), some(&["", ""]));
        assert_eq!(split("\"open"), None);
    }

    #[test]
    fn the_end_of_a_line_is_trimmed_but_for_its_first_byte() {
        assert_eq!(trim_end(b"Port 22 \t\r\x0c"), b"Port 22");
        assert_eq!(trim_end(b"   "), b" ");
        assert_eq!(trim_end(b""), b"");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            for version in [(7, 4), (8, 4), (9, 2)] {
                for line in lines(&bytes, &Build::of(Family::Upstream, version)) {
                    let mut cursor = Cursor::new(trim_end(&line.text).to_vec());
                    while cursor.next().is_some() {}
                    let mut cursor = Cursor::new(line.text.clone());
                    while cursor.next_with_equals().is_some() {}
                    let _ = split_words(&line.text);
                }
            }
        }
    }
}
