//! authorized_keys, line by line as OpenSSH reads it (`auth2-pubkeyfile.c`, `sshkey_read`, `sshauthopt_parse`).

mod hidden;
mod options;

pub use options::{BAD_PORT, Options, from_problem};

/// Reads a list of options that stands alone, as a line of a principals file has it.
///
/// # Errors
/// Why this sshd refuses them.
pub fn parse_options(text: &[u8], build: &Build) -> Result<Options, String> {
    options::parse(text, build)
}

pub(super) use hidden::{any_build, find as find_hidden, find_wrapped};

use super::algorithms::type_of_word;
use super::{BlobError, PublicKey, base64};
use crate::sshd::Build;
use bstr::{BString, ByteSlice};

/// Size of the buffer for a line up to 7.7 (`SSH_MAX_PUBKEY_BYTES`), less one for its end.
const OLD_BUFFER: usize = 16_383;

/// What sshd makes of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing: blank or comment.
    Ignored,
    /// A key, with options that may be wrong.
    Key(Box<KeyLine>),
    /// Not understood; why, and the key that a person sees in it, if any.
    Junk {
        /// In words.
        why: String,
        /// A key hidden in the line (glued to a comment, wrapped, another form).
        looks_like: Option<PublicKey>,
    },
}

/// A line with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLine {
    /// The key. It may be a certificate, which sshd reads and which matches nothing.
    pub key: PublicKey,
    /// The options, or why this version refuses them.
    pub options: Result<Options, String>,
    /// The options as written; empty if there are none.
    pub options_text: BString,
    /// Further keys on the same line, which sshd takes for a part of the comment: a key appended to a line without
    /// newline.
    pub glued: Vec<PublicKey>,
}

/// Splits and reads a whole file, as the build's sshd would; lines are counted from 1.
///
/// Every line has an entry, in order. A line with several hidden keys has one entry of [`Line::Junk`] for each.
#[must_use]
pub fn parse(content: &[u8], build: &Build) -> Vec<(u32, Line)> {
    let content_ends_open = !content.ends_with(b"\n");
    let mut lines: Vec<&[u8]> = content.split(|&byte| byte == b'\n').collect();
    if !content_ends_open || content.is_empty() {
        lines.pop();
    }
    let mut parsed = Vec::with_capacity(lines.len());
    let mut swallowed = false;
    // A key that is spread over lines: the first line after it, and what it is.
    let mut block = (0, "");
    for (index, &raw) in lines.iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let terminated = index + 1 < lines.len() || !content_ends_open;
        let text = match std::mem::take(&mut swallowed) {
            true => Text::Lost("sshd takes it for a part of the line before, which has a NUL byte in it"),
            false if build.at_least(7, 8) => Text::Whole(to_nul(raw)),
            false => old_buffer(raw, terminated),
        };
        swallowed = matches!(text, Text::Swallows);
        let line = match text {
            Text::Whole(text) => read_line(text, raw, build),
            Text::Lost(why) => Err(why.to_owned()),
            Text::Swallows => Err("it has a NUL byte in it".to_owned()),
        };
        match line {
            Ok(line) => parsed.push((number, line)),
            Err(_) if index < block.0 => {
                parsed.push((number, Line::Junk { why: format!("a part of {}", block.1), looks_like: None }));
            }
            Err(why) => {
                let seen = hidden::see(&lines[index..], why);
                block = (index + seen.lines, seen.what);
                let junk = |looks_like| (number, Line::Junk { why: seen.why.clone(), looks_like });
                if seen.keys.is_empty() {
                    parsed.push(junk(None));
                }
                parsed.extend(seen.keys.into_iter().map(|key| junk(Some(key))));
            }
        }
    }
    parsed
}

/// The keys in comments that are nothing else: lines that somebody has switched off.
#[must_use]
pub fn commented_keys(content: &[u8]) -> Vec<(u32, PublicKey)> {
    let comments = content.split(|&byte| byte == b'\n').zip(1..);
    let comments = comments.filter(|(line, _)| line.trim_ascii_start().starts_with(b"#"));
    comments.flat_map(|(line, number)| hidden::find(line).into_iter().map(move |key| (number, key))).collect()
}

/// Where in a line the option begins that this sshd refuses, in bytes; `None` where it refuses none.
#[must_use]
pub fn fault_at(line: &[u8], build: &Build) -> Option<usize> {
    let text = skip_blanks(line);
    // Without options there is none to refuse.
    if read_key(text, build).is_ok() {
        return None;
    }
    let (at, _) = options::parse_at(text, build).err()?;
    Some(line.len() - text.len() + at)
}

/// What sshd's reader hands on of a line.
enum Text<'a> {
    Whole(&'a [u8]),
    Lost(&'static str),
    /// Lost, and the next line with it.
    Swallows,
}

fn to_nul(raw: &[u8]) -> &[u8] {
    raw.find_byte(0).map_or(raw, |end| &raw[..end])
}

/// `read_keyfile_line` of 7.7 and earlier: fgets(3) into a buffer, and strlen(3) to see whether the line was whole.
fn old_buffer(raw: &[u8], terminated: bool) -> Text<'_> {
    let mut rest = raw;
    loop {
        let with_end = rest.len() + usize::from(terminated);
        let fits = with_end <= OLD_BUFFER && (terminated || with_end < OLD_BUFFER);
        let chunk = &rest[..rest.len().min(OLD_BUFFER)];
        if chunk.first() == Some(&0) {
            if fits {
                return Text::Whole(b"");
            }
            rest = &rest[chunk.len()..];
        } else if !fits {
            return Text::Lost("it is longer than the 16 KiB that this sshd reads");
        } else if terminated && chunk.contains(&0) {
            return Text::Swallows;
        } else {
            return Text::Whole(to_nul(chunk));
        }
    }
}

/// One line; the error says why it is junk.
fn read_line(text: &[u8], raw: &[u8], build: &Build) -> Result<Line, String> {
    let line = skip_blanks(text);
    if line.is_empty() || line[0] == b'#' {
        // Text behind a NUL does not count for sshd, but a person may see a key in it (UTF-16).
        let beyond = text.is_empty() && raw.contains(&0) && !hidden::find(raw).is_empty();
        return if beyond { Err("it begins with a NUL byte".into()) } else { Ok(Line::Ignored) };
    }
    if line.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0x0b) {
        return Ok(Line::Ignored);
    }
    let first = match read_key(line, build) {
        Ok((key, comment)) => return Ok(key_line(key, comment, Ok(Options::default()), b"")),
        Err(problem) => problem,
    };
    let old = !build.at_least(7, 7);
    if let (Problem::Key(why), true) = (&first, old) {
        // The old parser has cut the line at the end of the blob by then.
        return Err(why.clone());
    }
    let options_end = past_options(line);
    let after = skip_blanks(&line[options_end.unwrap_or(line.len())..]);
    let second = if options_end.is_some() || old {
        match read_key(after, build) {
            Ok((key, comment)) => {
                let options_text = &line[..options_end.unwrap_or(0)];
                let options = options::parse(line, build).map_err(|why| match options_text {
                    b"-" | b"*" => "the dash of a list before the key is taken for an option".to_owned(),
                    _ => why,
                });
                return Ok(key_line(key, comment, options, options_text));
            }
            Err(problem) => problem,
        }
    } else {
        Problem::NoType
    };
    Err(match (first, second) {
        (Problem::Key(why), _) | (_, Problem::Key(why)) => why,
        _ => hidden::why(line, options_end.is_none(), build),
    })
}

fn key_line(key: PublicKey, comment: &[u8], options: Result<Options, String>, options_text: &[u8]) -> Line {
    let glued = hidden::find(comment);
    Line::Key(Box::new(KeyLine {
        key: key.with_comment(comment.trim_ascii()),
        options,
        options_text: options_text.into(),
        glued,
    }))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    text.iter().position(|&byte| !is_blank(byte)).map_or(&[], |start| &text[start..])
}

/// Where the options end: at the first blank outside quotes. `None` if a quote is not closed.
fn past_options(line: &[u8]) -> Option<usize> {
    let (mut quoted, mut at) = (false, 0);
    while let Some(&byte) = line.get(at) {
        match byte {
            b' ' | b'\t' if !quoted => return Some(at),
            b'\\' if line.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    (!quoted).then_some(line.len())
}

/// Why there is no key at a place.
enum Problem {
    /// The first word is no type.
    NoType,
    /// A type, and then no good key, in words.
    Key(String),
}

/// `sshkey_read`: TYPE BLOB, and what follows.
fn read_key<'a>(text: &'a [u8], build: &Build) -> Result<(PublicKey, &'a [u8]), Problem> {
    let old = !build.at_least(7, 7);
    let ends = |byte: &u8| if old { *byte == b' ' } else { is_blank(*byte) };
    let end = text.iter().position(ends).ok_or(Problem::NoType)?;
    let name = type_of_word(&text[..end], build).ok_or(Problem::NoType)?;
    // The old parser wants exactly one blank.
    let rest = if old { &text[end + 1..] } else { skip_blanks(&text[end..]) };
    let blob_end = rest.iter().position(ends).unwrap_or(rest.len());
    let problem = |why: &str| Problem::Key(why.to_owned());
    let decoded = base64::decode(&rest[..blob_end]);
    let blob = decoded.ok_or_else(|| {
        if old && rest.first().is_some_and(|&byte| is_blank(byte)) {
            problem("this sshd wants exactly one blank between type and key")
        } else if is_cut(&rest[..blob_end]) {
            problem("the key is cut short")
        } else {
            problem("the key is damaged: it is no valid base64 (cut, wrapped, or joined with something else)")
        }
    })?;
    if blob.is_empty() {
        return Err(problem("there is no key after the type, at least not after exactly one blank"));
    }
    let key = PublicKey::from_blob(blob).map_err(|error| problem(&format!("the key {}", error.words())))?;
    if key.algorithm != name {
        return Err(problem("the key is of another type than the line says"));
    }
    let floor = build.least_rsa_bits();
    if key.rsa_bits().is_some_and(|bits| bits < floor) {
        return Err(problem(&format!("it is an RSA key of fewer than {floor} bits")));
    }
    Ok((key, skip_blanks(&rest[blob_end..])))
}

/// Good base64 as far as it goes, of a key that goes further?
fn is_cut(blob: &[u8]) -> bool {
    let text = blob.trim_ascii();
    text.iter().all(|&byte| base64::value(byte).is_some())
        && PublicKey::from_blob(base64::decode_prefix(text, text.len())) == Err(BlobError::Truncated)
}

/// The content with lines added, every other byte as it was. The first new line never continues a last line without
/// newline, and no sshd overlooks it because of NUL bytes at the end of the file.
#[must_use]
pub fn append(content: &[u8], lines: &[Vec<u8>]) -> Vec<u8> {
    let mut new = content.to_vec();
    if lines.is_empty() {
        return new;
    }
    let body = content.strip_suffix(b"\n").unwrap_or(content);
    let last = body.rfind_byte(b'\n').map_or(body, |end| &body[end + 1..]);
    if body.len() == content.len() && !content.is_empty() {
        new.push(b'\n');
    }
    // Up to 7.7 a line with a NUL in it swallows the next one: give it an empty one.
    if last.contains(&0) {
        new.push(b'\n');
    }
    for line in lines {
        new.extend_from_slice(line.trim_end_with(|char| matches!(char, '\n' | '\r')));
        new.push(b'\n');
    }
    new
}

#[cfg(test)]
#[path = "authorized_keys/tests.rs"]
mod tests;
