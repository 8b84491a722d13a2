//! A key as people have it in a file: public or private, of any program.

use super::authorized_keys::{self, Line, any_build, find_hidden, find_wrapped};
use super::wire::Wire;
use super::{BlobError, PublicKey, base64, words};
use bstr::{BString, ByteSlice};
use std::borrow::Cow;

/// Largest file that is looked at; the largest keys have a few KiB, lists of them more.
const MAX_FILE: usize = 1 << 20;
/// Most lines of a block of RFC 4716 or PuTTY.
const MAX_BLOCK: usize = 256;
/// Fewest bits of an RSA modulus that any current sshd takes.
const MIN_RSA_BITS: u32 = 1024;

/// What a file given with `--key` turned out to be.
#[derive(Clone, Debug)]
pub enum KeyForm {
    /// Its public keys (an OpenSSH file may hold several).
    Public(Vec<PublicKey>),
    /// A private key in a form whose public half needs ssh-keygen (PKCS#1, PKCS#8, SEC1 PEM).
    NeedsSshKeygen,
}

/// Reads a key in any accepted form: OpenSSH public, RFC 4716, .ppk, OpenSSH private (its public half).
///
/// # Errors
/// In words for the operator, without any of the file's content: what it is instead, and what to give.
pub fn read_key(content: &[u8]) -> Result<KeyForm, String> {
    if content.len() > MAX_FILE {
        return Err("it is too large to be a key".into());
    }
    let content = to_utf8(content);
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err("it is empty".into());
    }
    let lines: Vec<&[u8]> = text.lines().collect();
    if let Some(form) = armoured(&lines)? {
        if let KeyForm::Public(keys) = &form {
            keys.iter().try_for_each(check)?;
        }
        return Ok(form);
    }
    if let Some(instead) = something_else(text) {
        return Err(instead.into());
    }
    let keys = public_lines(&lines)?;
    keys.iter().try_for_each(check)?;
    Ok(KeyForm::Public(keys))
}

/// The options that stand before the keys of a public file. [`read_key`] takes the keys alone.
#[must_use]
pub fn options_in(content: &[u8]) -> Vec<BString> {
    let content = to_utf8(content);
    let build = any_build();
    let lines = authorized_keys::parse(&content, &build).into_iter();
    lines
        .filter_map(|(_, line)| match line {
            Line::Key(line) if line.options.is_ok() => Some(line.options_text),
            _ => None,
        })
        .filter(|options| !options.is_empty())
        .collect()
}

/// Without byte order marks, from UTF-16 as Windows writes it.
fn to_utf8(content: &[u8]) -> Cow<'_, [u8]> {
    let utf16 = |units: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units = bytes.chunks_exact(2).map(|pair| units([pair[0], pair[1]]));
        let text: String =
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Cow::Owned(text.into_bytes())
    };
    match content {
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
        [0xff, 0xfe, rest @ ..] => utf16(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => utf16(u16::from_be_bytes, rest),
        [1..=0x7f, 0, 1..=0x7f, 0, ..] => utf16(u16::from_le_bytes, content),
        [0, 1..=0x7f, 0, 1..=0x7f, ..] => utf16(u16::from_be_bytes, content),
        _ => Cow::Borrowed(content),
    }
}

/// A key that no current sshd takes, or that is damaged in a way that a second reader sees.
fn check(key: &PublicKey) -> Result<(), String> {
    if key.algorithm.contains("ssh-dss") {
        return Err(
            "it is a DSA key, which current versions of sshd refuse: give an Ed25519 or RSA key".into()
        );
    }
    if let Some(bits) = key.rsa_bits().filter(|bits| *bits < MIN_RSA_BITS) {
        return Err(format!(
            "it is an RSA key of {bits} bits, and sshd refuses fewer than 1024: give a longer one"
        ));
    }
    if !key.is_certificate() && ssh_key::PublicKey::from_bytes(&key.blob).is_err() {
        return Err("the key is damaged: give the file that ssh-keygen wrote (its name ends in .pub)".into());
    }
    Ok(())
}

/// The files that have a line which says what they are. `None` if there is none.
fn armoured(lines: &[&[u8]]) -> Result<Option<KeyForm>, String> {
    let public = |key| Ok(Some(KeyForm::Public(vec![key])));
    for (index, line) in lines.iter().enumerate() {
        let rest = &lines[index..];
        if is_marker(line, "BEGIN SSH2 PUBLIC KEY") {
            let cut = "it is an RFC 4716 public key that is damaged or cut short: export it again, or give the \
                       one-line OpenSSH form";
            return rfc4716(rest).map(|(key, _)| key).ok_or_else(|| cut.to_owned()).and_then(public);
        }
        if line.starts_with(b"PuTTY-User-Key-File-") {
            let cut = "it is a PuTTY key file that is damaged, cut short, or of an old version: give what PuTTYgen \
                       shows as the public key for OpenSSH authorized_keys";
            return ppk(rest).map(|(key, _)| key).ok_or_else(|| cut.to_owned()).and_then(public);
        }
        if line.starts_with(b"SSH PRIVATE KEY FILE FORMAT 1.1") {
            return Err(
                "it is a key of SSH protocol 1, which no current sshd takes: give an Ed25519 or RSA key"
                    .into(),
            );
        }
        if let Some(label) = begin_label(line) {
            return pem(&label, rest);
        }
    }
    Ok(None)
}

/// The dashes and blanks around a marker are not counted.
fn is_marker(line: &[u8], text: &str) -> bool {
    line.starts_with(b"--")
        && line.trim_with(|char| matches!(char, '-' | ' ' | '\r' | '\t')) == text.as_bytes()
}

/// "RSA PRIVATE KEY" of its BEGIN line.
fn begin_label(line: &[u8]) -> Option<String> {
    let label = line.trim_ascii().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
    Some(label.to_str().ok()?.to_owned())
}

/// A PEM file, or one that looks like it.
fn pem(label: &str, lines: &[&[u8]]) -> Result<Option<KeyForm>, String> {
    let end = format!("END {label}");
    let body_end = lines.iter().position(|line| is_marker(line, &end));
    let private = label.ends_with("PRIVATE KEY");
    let Some(body_end) = body_end else {
        return Err(if private {
            "it is a private key that is cut short (its END line is missing): give the whole file".into()
        } else {
            "it is a PEM file that is cut short, and no public key of OpenSSH: give the .pub file".into()
        });
    };
    let instead = match label {
        "OPENSSH PRIVATE KEY" => {
            let damaged = "it is an OpenSSH private key that is damaged or cut short: give the whole file, or its .pub \
                           file";
            let key = openssh_private(&lines[1..body_end]).ok_or(damaged)?;
            return Ok(Some(KeyForm::Public(vec![key])));
        }
        "DSA PRIVATE KEY" => {
            "it is a DSA key, which current versions of sshd refuse: give an Ed25519 or RSA key"
        }
        _ if private && !label.contains("SSH2") && !label.contains("PGP") => {
            return Ok(Some(KeyForm::NeedsSshKeygen));
        }
        _ if label.contains("SSH2") => {
            "it is a private key of ssh.com's SSH, which is not read: export its public key (ssh-keygen -i converts it)"
        }
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {
            "it is a PEM public key: give the OpenSSH form, which `ssh-keygen -i -m PKCS8 -f FILE` prints (for RSA \
             PUBLIC KEY: -m PEM)"
        }
        _ if label.contains("CERTIFICATE REQUEST") => "it is a certificate request: give an SSH public key",
        _ if label.contains("CERTIFICATE") => {
            "it is an X.509 certificate, not an SSH key: give the SSH public key (a .pub file) or the private key"
        }
        _ if label.contains("PGP") => {
            "it is an OpenPGP (GPG) key or message, not an SSH key: give an SSH public key"
        }
        _ if label.contains("SIGNATURE") => "it is a signature, not a key: give the .pub file",
        _ => "it is a PEM file of another kind: give an SSH public key (a .pub file) or the private key",
    };
    Err(instead.into())
}

/// What a file without keys may be.
fn something_else(text: &[u8]) -> Option<&'static str> {
    let lower = text[..text.len().min(64)].to_ascii_lowercase();
    let give = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start.as_bytes()));
    if give(&["<!doctype", "<html", "<head"]) {
        return Some("it is a web page (HTML), perhaps of an error: download the key itself");
    }
    if give(&["<?xml", "<error"]) {
        return Some("it is an XML document, perhaps an error message: download the key itself");
    }
    if give(&["{", "[{", "[\""]) {
        return Some("it is a JSON document: give a file with nothing but the key");
    }
    if give(&["sha256:", "md5:"]) || fingerprint_line(&lower) {
        return Some("it is the fingerprint of a key, from which the key can't be had: give the .pub file");
    }
    if text.starts_with(b"0\x82") || text.starts_with(b"0\x81") {
        return Some("it is a binary (DER) file, not an SSH key: give the .pub file or the PEM private key");
    }
    if text.contains(&0) || text.to_str().is_err() && find_hidden(text).is_empty() {
        return Some("it is binary data, not a key in text form: give the .pub file or the private key");
    }
    None
}

/// "256 SHA256:..." as `ssh-keygen -l` prints it.
fn fingerprint_line(lower: &[u8]) -> bool {
    let mut fields = words(lower);
    let bits = fields.next().is_some_and(|field| field.iter().all(u8::is_ascii_digit));
    bits && fields.next().is_some_and(|field| field.starts_with(b"sha256:") || field.starts_with(b"md5:"))
}

/// Lines as in a .pub file or in authorized_keys.
fn public_lines(lines: &[&[u8]]) -> Result<Vec<PublicKey>, String> {
    let build = any_build();
    let mut keys: Vec<PublicKey> = Vec::new();
    let mut index = 0;
    while let Some(line) = lines.get(index) {
        let mut used = 1;
        let parsed = authorized_keys::parse(line, &build).into_iter().next();
        match parsed {
            None | Some((_, Line::Ignored)) => {}
            Some((_, Line::Key(line))) => {
                if !line.glued.is_empty() {
                    return Err(at(
                        index,
                        lines,
                        "holds several keys in one line: put each on a line of its own",
                    ));
                }
                match line.options {
                    Ok(options) if options.cert_authority => {
                        return Err(at(index, lines, "is for a certificate authority, not for a user's key"));
                    }
                    Ok(_) => keys.push(line.key),
                    // A list of YAML or Markdown.
                    Err(_) if line.options_text == "-" || line.options_text == "*" => keys.push(line.key),
                    Err(_) => return Err(at(index, lines, no_options(&line.options_text))),
                }
            }
            Some((_, Line::Junk { why, looks_like })) => {
                if let Some((key, count, comment)) = find_wrapped(&lines[index..]) {
                    // Joined only if nothing but comment could be lost.
                    keys.push(key.with_comment(comment));
                    used = count;
                } else {
                    keys.push(in_disguise(line, looks_like).ok_or_else(|| {
                        at(index, lines, &format!("is no public key: {why}; {}", advice(&lines[index..])))
                    })?);
                }
            }
        }
        index += used;
    }
    if keys.is_empty() {
        return Err("it holds no key, only comments: give the .pub file".into());
    }
    Ok(keys)
}

/// "line 3 " where there are several, "it " else.
fn at(index: usize, lines: &[&[u8]], what: &str) -> String {
    if lines.len() == 1 { format!("it {what}") } else { format!("line {} {what}", index + 1) }
}

/// What the word before a key is, if not options.
fn no_options(word: &[u8]) -> &'static str {
    let host =
        word.starts_with(b"|1|") || word.starts_with(b"[") || word.contains(&b'.') || word.contains(&b':');
    if (host && !word.contains(&b'"')) || word == b"localhost" {
        "is a known_hosts line, with the key of a host: give the user's own key (a .pub file)"
    } else {
        "begins with something that is neither a type of key nor options that sshd knows (a known_hosts line has a \
         host's key): give the line of the .pub file"
    }
}

/// The one key of a line that people would read: in quotes, after a dash, its type missing or in capitals.
fn in_disguise(line: &[u8], looks_like: Option<PublicKey>) -> Option<PublicKey> {
    let key = looks_like?;
    let bare =
        line.trim_with(|char| matches!(char, ' ' | '\t' | '"' | '\'' | '`' | '-' | '\u{a0}' | '\u{feff}'));
    let first = words(bare).next()?;
    let named = first.eq_ignore_ascii_case(key.algorithm.as_bytes());
    let blob = if named { words(bare).nth(1)? } else { first };
    let comment: BString = words(bare).skip(1 + usize::from(named)).collect::<Vec<_>>().join(&b' ').into();
    // The whole word must be that key, with nothing glued to it.
    (base64::decode(blob)? == key.blob && find_hidden(&comment).is_empty()).then(|| key.with_comment(comment))
}

/// What to do about a line that is no key.
fn advice(lines: &[&[u8]]) -> &'static str {
    match lines.first().and_then(|line| words(line).next()) {
        Some(b"@cert-authority" | b"@revoked") => "it is from known_hosts: give the user's own key",
        _ => "give the .pub file as ssh-keygen wrote it, or the private key",
    }
}

/// A public key in the form of RFC 4716 that begins on the first line, and how many lines it has.
pub(super) fn rfc4716(lines: &[&[u8]]) -> Option<(PublicKey, usize)> {
    if !is_marker(lines.first()?, "BEGIN SSH2 PUBLIC KEY") {
        return None;
    }
    // Neither base64 nor a header begins with dashes: whatever the line is, the block ends there.
    let end = 1 + lines[1..].iter().take(MAX_BLOCK).position(|line| line.starts_with(b"--"))?;
    if !is_marker(lines[end], "END SSH2 PUBLIC KEY") {
        return None;
    }
    let mut comment = Vec::new();
    let mut body = Vec::new();
    let mut index = 1;
    while index < end {
        let mut header = lines[index].trim_ascii_end().to_vec();
        index += 1;
        if !header.contains(&b':') {
            body.extend_from_slice(&header);
            continue;
        }
        while header.ends_with(b"\\") && index < end {
            header.pop();
            header.extend_from_slice(lines[index].trim_ascii_end());
            index += 1;
        }
        if header.len() > 8 && header[..8].eq_ignore_ascii_case(b"Comment:") {
            let value = header[8..].trim_ascii();
            let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            comment = quoted.unwrap_or(value).to_vec();
        }
    }
    let key = PublicKey::from_blob(base64::decode(&body)?).ok()?;
    Some((key.with_comment(comment), end + 1))
}

/// The public half of a PuTTY key file (.ppk, versions 2 and 3) that begins on the first line, and how many lines it
/// has.
pub(super) fn ppk(lines: &[&[u8]]) -> Option<(PublicKey, usize)> {
    let field = |line: &[u8], name: &str| Some(line.strip_prefix(name.as_bytes())?.trim_ascii().to_vec());
    let first = lines.first()?;
    let name = field(first, "PuTTY-User-Key-File-3:").or_else(|| field(first, "PuTTY-User-Key-File-2:"))?;
    let mut comment = Vec::new();
    for (index, line) in lines.iter().enumerate().take(MAX_BLOCK).skip(1) {
        if let Some(text) = field(line, "Comment:") {
            comment = text;
        }
        if line.starts_with(b"PuTTY-User-Key-File-") {
            return None;
        }
        let Some(count) = field(line, "Public-Lines:") else { continue };
        let count: usize = count.to_str().ok()?.parse().ok().filter(|count| *count < MAX_BLOCK)?;
        let body = lines.get(index + 1..index + 1 + count)?.concat();
        let key = PublicKey::from_blob(base64::decode(&body)?)
            .ok()
            .filter(|key| key.algorithm.as_bytes() == name)?;
        let after = index + 1 + count;
        let mac = lines[after..].iter().take(MAX_BLOCK).position(|line| line.starts_with(b"Private-MAC:"));
        return Some((key.with_comment(comment), mac.map_or(after, |mac| after + mac + 1)));
    }
    None
}

/// The public key that OpenSSH keeps in clear before the private half (PROTOCOL.key). The comment is with the private
/// half: readable only if there is no passphrase.
fn openssh_private(body: &[&[u8]]) -> Option<PublicKey> {
    let bytes = base64::decode(&body.concat())?;
    let mut wire = Wire(bytes.strip_prefix(b"openssh-key-v1\0")?);
    let mut fields = || -> Result<_, BlobError> {
        let cipher = wire.string()?;
        wire.string()?; // key derivation
        wire.string()?; // its options
        wire.u32()?; // number of keys
        Ok((cipher, PublicKey::from_blob(wire.string()?.to_vec())?, wire.string()?))
    };
    let (cipher, key, private) = fields().ok()?;
    let comment = if cipher == b"none" { private_comment(private).unwrap_or_default() } else { b"" };
    Some(key.with_comment(comment))
}

/// The comment behind the fields of an unencrypted private half, which are passed over.
fn private_comment(private: &[u8]) -> Result<&[u8], BlobError> {
    let mut wire = Wire(private);
    wire.take(8)?; // twice the same number
    let (before, flags_and_handle) = match wire.string()? {
        b"ssh-ed25519" => (2, false),
        b"ssh-rsa" => (6, false),
        b"sk-ssh-ed25519@openssh.com" => (2, true),
        b"sk-ecdsa-sha2-nistp256@openssh.com" => (3, true),
        name if name.starts_with(b"ecdsa-sha2-") => (3, false),
        _ => return Err(BlobError::UnknownType),
    };
    for _ in 0..before {
        wire.string()?;
    }
    if flags_and_handle {
        wire.take(1)?;
        wire.string()?; // handle
        wire.string()?; // reserved
    }
    wire.string()
}

#[cfg(test)]
#[path = "read/tests.rs"]
mod tests;
