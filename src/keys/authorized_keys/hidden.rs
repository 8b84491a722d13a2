//! Keys that a person sees and sshd does not: glued, wrapped, quoted, in another form.

use crate::keys::algorithms::{known, type_of_word};
use crate::keys::{PublicKey, base64, certificate, read, wire, words};
use crate::sshd::Build;
use crate::sshd::build::Family;
use bstr::ByteSlice;

/// Most keys that are looked for on one line.
const MAX_KEYS: usize = 64;
/// Most lines that one key is thought to be spread over.
const MAX_LINES: usize = 128;
/// Most characters of one key.
const MAX_CHARACTERS: usize = 24 * 1024;

/// The build whose rules are the most lenient about types, for looking.
pub(in crate::keys) fn any_build() -> Build {
    Build::of(Family::Upstream, (9, 7))
}

/// The beginnings of blobs: a blob starts with the length of its type's name, below 64, so with exactly four `A`
/// and then another character.
fn starts(text: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut run = 0_usize;
    text.iter().enumerate().filter_map(move |(at, &byte)| {
        let before = std::mem::take(&mut run);
        if byte == b'A' {
            run = before + 1;
        }
        (byte != b'A' && before >= 4 && base64::value(byte).is_some()).then(|| at - 4)
    })
}

/// How many characters a key that starts here can have at most; `None` if no known type does.
fn longest(text: &[u8]) -> Option<usize> {
    let head = base64::decode_prefix(text, 80);
    let name = wire::Wire(&head).string().ok().and_then(|name| str::from_utf8(name).ok())?;
    if !known(name, &any_build()) {
        return None;
    }
    let short =
        certificate::plain_type(name).is_none() && (name == "ssh-ed25519" || name.starts_with("ecdsa-"));
    Some(if short { 256 } else { MAX_CHARACTERS })
}

/// The key at the start of some base64, whatever follows it, and the characters it takes.
fn key_at(text: &[u8], limit: usize) -> Option<(PublicKey, usize)> {
    let mut blob = base64::decode_prefix(text, limit);
    let used = wire::read_prefix(&blob).ok()?.2;
    blob.truncate(used);
    Some((PublicKey::from_blob(blob).ok()?, (used * 4).div_ceil(3)))
}

/// Every whole key in a text, wherever it stands, in linear time. NUL bytes are passed over (UTF-16).
pub(crate) fn find(text: &[u8]) -> Vec<PublicKey> {
    let without_nul: Vec<u8>;
    let text = if text.contains(&0) {
        without_nul = text.iter().copied().filter(|&byte| byte != 0).collect();
        &without_nul
    } else {
        text
    };
    let mut keys = Vec::new();
    let (mut end, mut tries) = (0, 0);
    for start in starts(text) {
        let Some(limit) = longest(&text[start..]).filter(|_| start >= end) else { continue };
        tries += 1;
        if let Some((key, length)) = key_at(&text[start..], limit) {
            end = start + length;
            keys.push(key);
        }
        if tries == MAX_KEYS {
            break;
        }
    }
    keys
}

/// A key that begins on the first of these lines and goes on over the next ones; how many lines it takes, and what
/// follows it on the last one.
pub(crate) fn find_wrapped<'a>(lines: &[&'a [u8]]) -> Option<(PublicKey, usize, &'a [u8])> {
    let first = lines.first()?.trim_ascii_end();
    let known = starts(first).filter(|&start| longest(&first[start..]).is_some()).last();
    // The line may end within the name of the type.
    let start = known.or_else(|| starts(first).find(|start| first.len() - start < 64))?;
    if !first[start..].iter().all(|&byte| base64::value(byte).is_some()) {
        return None;
    }
    let mut text = first[start..].to_vec();
    let mut ends = vec![text.len()];
    let mut last_rest: &[u8] = b"";
    for line in lines.iter().skip(1).take(MAX_LINES) {
        let line = line.trim_ascii();
        let run = line.iter().take_while(|&&byte| base64::value(byte).is_some()).count();
        if line.starts_with(b"AAAA") && longest(line).is_some() {
            break; // the next key
        }
        text.extend_from_slice(&line[..run]);
        ends.push(text.len());
        last_rest = line[run..].trim_start_with(|char| char == '=');
        if run == 0 || run < line.len() || text.len() >= MAX_CHARACTERS {
            break;
        }
    }
    let (key, length) = key_at(&text, longest(&text)?)?;
    let count = ends.iter().position(|&end| end >= length)? + 1;
    // What follows must be a comment, not more base64: else it is a guess.
    let clean = ends[count - 1] == length
        && (count < ends.len() || last_rest.is_empty() || last_rest[0].is_ascii_whitespace());
    let rest = if count == ends.len() { last_rest } else { b"" };
    (clean && count > 1).then(|| (key, count, rest.trim_ascii()))
}

/// What a person sees in junk.
pub(super) struct Seen {
    /// Why sshd does not read it.
    pub(super) why: String,
    /// The keys.
    pub(super) keys: Vec<PublicKey>,
    /// How many lines are spoken for, at least one.
    pub(super) lines: usize,
    /// What stands on them, if more than one.
    pub(super) what: &'static str,
}

/// Looks at the first of these lines, which is junk because of `why`, and at those after it if they belong to it.
pub(super) fn see(lines: &[&[u8]], why: String) -> Seen {
    let block = read::rfc4716(lines).map(|(key, count)| (key, count, "a key in the form of RFC 4716"));
    let block = block.or_else(|| read::ppk(lines).map(|(key, count)| (key, count, "a key file of PuTTY")));
    let wrapped = || find_wrapped(lines).map(|(key, count, _)| (key, count, "a key with line breaks in it"));
    match block.or_else(wrapped) {
        Some((key, lines, what)) => {
            Seen { why: format!("{what}, which sshd does not read"), keys: vec![key], lines, what }
        }
        None => Seen { why, keys: find(lines[0]), lines: 1, what: "" },
    }
}

/// Why a line without a type where one should be is not read.
pub(super) fn why(line: &[u8], open_quote: bool, build: &Build) -> String {
    let word_end = line.find_byteset(b" \t").unwrap_or(line.len());
    let word = &line[..word_end];
    let lenient = any_build();
    let later_type = || words(line).skip(1).any(|field| type_of_word(field, &lenient).is_some());
    let text = match word {
        _ if !build.at_least(7, 7)
            && line.get(word_end) == Some(&b'\t')
            && type_of_word(word, build).is_some() =>
        {
            "it has a TAB where this sshd wants a blank"
        }
        _ if line.starts_with(b"\xef\xbb\xbf") => "it begins with a byte order mark",
        _ if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") => "it is UTF-16",
        _ if line.starts_with(b"\xc2\xa0") => "it begins with a non-breaking space",
        _ if line.starts_with(b"-----BEGIN") && line.contains_str("PRIVATE KEY") => {
            "it is the start of a private key, which does not belong here"
        }
        _ if line.starts_with(b"-----BEGIN") => {
            "it is the start of a PEM file, which sshd does not read here"
        }
        _ if line.starts_with(b"---- BEGIN SSH2") => {
            "a key in the form of RFC 4716, which sshd does not read"
        }
        _ if line.starts_with(b"PuTTY-User-Key-File") => "a key file of PuTTY, which sshd does not read",
        b"@cert-authority" | b"@revoked" => "it is a line for known_hosts",
        _ if matches!(word[0], b'"' | b'\'' | b'`') && later_type_or_quoted(line) => "it is in quotes",
        _ if open_quote => "a quote in its options is not closed",
        _ if type_of_word(word, &lenient).is_some() && type_of_word(word, build).is_none() => {
            "it is of a type that this sshd does not know"
        }
        _ if type_of_word(word, build).is_some() => "there is no key after its type",
        _ if type_of_word(&word.to_ascii_lowercase(), &lenient).is_some() => "its type is not in lower case",
        _ if word.starts_with(b"AAAA") && longest(word).is_some() => "the type before the key is missing",
        _ if word.ends_with(b",") && later_type() => "a blank after a comma ends its options",
        _ if later_type() => "its options hold a blank outside quotes, or it is no line for authorized_keys",
        _ => "it is neither a key nor options with a key",
    };
    text.to_owned()
}

/// Is there a type right behind a quote?
fn later_type_or_quoted(line: &[u8]) -> bool {
    let inner = line.trim_start_with(|char| matches!(char, '"' | '\'' | '`'));
    let end = inner.find_byteset(b" \t").unwrap_or(inner.len());
    type_of_word(&inner[..end], &any_build()).is_some()
}
