//! Which host keys sshd would load (sshd.c `main`, authfile.c `sshkey_perm_ok`, sshkey.c): one good one is enough.

use super::{Case, start::errno_words};
use crate::finding::{CheckId, Finding, FixedBy, Severity};
use crate::keys::base64;
use crate::sshd::config::Setting;
use crate::view::{LookError, Stat, follow};
use bstr::{BStr, BString, ByteSlice};
use std::path::{Path, PathBuf};

/// The most bytes of a private key that are read; OpenSSH takes at most 1 MiB.
const KEY_LIMIT: u64 = 1 << 20;
const BEGIN: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----\n";
const END: &[u8] = b"-----END OPENSSH PRIVATE KEY-----\n";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Gives the types of the keys that would be loaded; none where there is none, or an agent has them.
pub(super) fn check(case: &mut Case<'_>) -> Vec<String> {
    let effective = case.effective;
    let mut loaded = Vec::new();
    let mut present = false;
    let mut findings = Vec::new();
    for setting in &effective.host_keys {
        let path = absolute(&setting.value);
        let key = look(case, &path);
        present |= !matches!(key, Key::Absent);
        let (detail, good) = match &key {
            Key::Absent => ("absent".to_owned(), false),
            Key::Good(algorithm) => (algorithm.clone(), true),
            Key::Bad(finding) => (finding.is.clone(), false),
        };
        let detail = format!("{}: {detail}", path.display());
        case.traced_at("host key", setting.at.as_ref(), setting.value.to_string(), detail, good);
        match key {
            Key::Absent => {}
            Key::Good(algorithm) => loaded.push(algorithm),
            Key::Bad(finding) => findings.push(of_the_line(*finding, setting, &path)),
        }
    }
    if !loaded.is_empty() {
        for mut finding in findings {
            finding.severity = Severity::Advises;
            case.advise(finding);
        }
        return loaded;
    }
    if effective.host_key_agent.value.is_some() {
        let finding = Finding::advises(CheckId::ConfigNotUnderstood)
            .is("HostKeyAgent")
            .wants("a host key that is on the disk");
        case.doubt(finding, "whether the agent of HostKeyAgent holds a host key");
        return loaded;
    }
    if !present {
        let first = effective.host_keys.first().map_or(PathBuf::from("/etc/ssh"), |key| absolute(&key.value));
        let finding = Finding::blocks(CheckId::HostKeysMissing)
            .at(first)
            .is("absent")
            .wants("one private host key, 0600 0:0")
            .says("sshd: no hostkeys available -- exiting.");
        case.refuse(finding);
        return loaded;
    }
    for finding in findings {
        case.refuse(finding);
    }
    loaded
}

/// The kind of key that a private host key's file name tells.
#[must_use]
pub fn kind_of_name(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy();
    let private = !name.ends_with(".pub") && !name.ends_with("-cert");
    ["ed25519", "ecdsa", "rsa"].into_iter().find(|kind| private && name.contains(kind))
}

/// Where a HostKey line names what is no key and was not meant for one, it is the line that is wrong.
fn of_the_line(finding: Finding, setting: &Setting<BString>, path: &Path) -> Finding {
    match &setting.at {
        Some(at)
            if finding.check == CheckId::HostKeysUnusable
                && kind_of_name(path).is_none()
                && at.file.is_absolute() =>
        {
            let is = format!("HostKey {}: {}", setting.value, finding.is);
            finding.at(&at.file).on_line(at.line).is(is).fixed_by(FixedBy::SshdConfig)
        }
        _ => finding,
    }
}

/// What became of one file.
enum Key {
    Absent,
    /// Its type.
    Good(String),
    Bad(Box<Finding>),
}

/// A relative name is taken from sshd's working directory, which is `/` (servconf.c, `derelativise_path`).
fn absolute(name: &[u8]) -> PathBuf {
    Path::new("/").join(name.to_os_str_lossy())
}

/// Is it there, and would it be loaded?
fn look(case: &Case<'_>, path: &Path) -> Key {
    let found = match follow(case.view, path) {
        Ok(found) => found,
        Err(LookError::NotFound | LookError::NotDirectory) => return Key::Absent,
        Err(error) => {
            return Key::Bad(Box::new(unusable(path, errno_words(&error), &errno_words(&error))));
        }
    };
    if found.stat.is_dir() {
        let finding = unusable(&found.path, "a directory".into(), "invalid format");
        return Key::Bad(Box::new(finding.fixed_by(FixedBy::Nothing)));
    }
    let content = case.view.read(&found.path, KEY_LIMIT);
    let kind = |content: &[u8]| {
        type_of(content, case.effective.required_rsa_size.value, case.build().at_least(9, 8))
    };
    // What is no key at all does not become one by its mode.
    let could_be_one =
        kind_of_name(path).is_some() || content.as_ref().is_ok_and(|content| kind(content).is_ok());
    if too_open(case, &found.stat) && could_be_one {
        let says = format!("Permissions {:04o} for '{}' are too open.", found.stat.mode, path.display());
        let finding = Finding::blocks(CheckId::HostKeysTooOpen)
            .at(&found.path)
            .is(found.stat.mode_owner())
            .wants(format!("{:04o} 0:{}", found.stat.mode & 0o700, found.stat.gid))
            .says(says);
        return Key::Bad(Box::new(finding));
    }
    let content = match content {
        Ok(content) => content,
        Err(error) => return Key::Bad(Box::new(unusable(&found.path, error.to_string(), "invalid format"))),
    };
    match kind(&content) {
        Ok(algorithm) => Key::Good(algorithm),
        Err(fault) => Key::Bad(Box::new(unusable(&found.path, fault.words().to_owned(), fault.says()))),
    }
}

fn unusable(path: &Path, is: String, says: &str) -> Finding {
    Finding::blocks(CheckId::HostKeysUnusable)
        .at(path)
        .is(is)
        .wants("an unencrypted private key")
        .says(format!("Unable to load host key \"{}\": {says}", path.display()))
}

/// authfile.c, `sshkey_perm_ok`: only root's own files are judged. Red Hat's builds let the group ssh_keys read.
fn too_open(case: &Case<'_>, stat: &Stat) -> bool {
    if stat.uid != 0 {
        return false;
    }
    let mut open = stat.mode & 0o077;
    let group = case.build().host_key_group().and_then(|name| case.system.group.by_name(name.as_bytes()));
    if group.is_some_and(|group| group.gid == stat.gid) {
        open &= !0o040;
    }
    open != 0
}

/// Why a private key cannot be loaded as host key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Empty,
    Encrypted,
    Damaged,
    TooShort,
    Dsa,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Encrypted => "encrypted",
            Self::Damaged => "no private key that sshd can read",
            Self::TooShort => "an RSA key shorter than RequiredRSASize",
            Self::Dsa => "a DSA key, which this version does not take",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Empty | Self::Damaged => "error in libcrypto",
            Self::Encrypted => "incorrect passphrase supplied to decrypt private key",
            Self::TooShort => "Invalid key length",
            Self::Dsa => "unknown or unsupported key type",
        }
    }
}

fn type_of(content: &[u8], required_bits: u32, without_dsa: bool) -> Result<String, Fault> {
    if content.is_empty() {
        return Err(Fault::Empty);
    }
    let (algorithm, bits) = match read_openssh(content) {
        Ok(read) => read,
        Err(Some(fault)) => return Err(fault),
        Err(None) => read_pem(content)?,
    };
    if bits.is_some_and(|bits| bits < required_bits) {
        return Err(Fault::TooShort);
    }
    if without_dsa && algorithm == "ssh-dss" { Err(Fault::Dsa) } else { Ok(algorithm) }
}

/// The container of PROTOCOL.key: algorithm, and bits for RSA. `Err(None)`: not this form.
fn read_openssh(content: &[u8]) -> Result<(String, Option<u32>), Option<Fault>> {
    let body = content.strip_prefix(BEGIN).ok_or(None)?;
    let damaged = Some(Fault::Damaged);
    // The end marker counts only at a line start, with its newline.
    let end = if body.starts_with(END) {
        0
    } else {
        let mut marker = b"\n".to_vec();
        marker.extend_from_slice(END);
        body.find(&marker).ok_or(damaged)? + 1
    };
    let raw = base64::decode(&body[..end]).ok_or(damaged)?;
    let mut rest = raw.strip_prefix(MAGIC).ok_or(damaged)?;
    let cipher = string(&mut rest).ok_or(damaged)?;
    let kdf = string(&mut rest).ok_or(damaged)?;
    let _options = string(&mut rest).ok_or(damaged)?;
    let count = number(&mut rest).ok_or(damaged)?;
    let public = string(&mut rest).ok_or(damaged)?;
    let mut private = string(&mut rest).ok_or(damaged)?;
    if cipher != b"none" || kdf != b"none" {
        return Err(Some(Fault::Encrypted));
    }
    let checks = (number(&mut private), number(&mut private));
    if count != 1 || !rest.is_empty() || checks.0.is_none() || checks.0 != checks.1 {
        return Err(damaged);
    }
    let inner = string(&mut private).ok_or(damaged)?;
    let mut public = public;
    let algorithm = string(&mut public).ok_or(damaged)?;
    if inner != algorithm {
        return Err(damaged);
    }
    let bits = (algorithm == b"ssh-rsa").then(|| {
        let _exponent = string(&mut public);
        string(&mut public).map_or(0, bits_of)
    });
    Ok((BStr::new(algorithm).to_string(), bits))
}

/// PEM as OpenSSL reads it: PKCS#1, SEC1, PKCS#8. Only what tells a whole key from a broken one.
fn read_pem(content: &[u8]) -> Result<(String, Option<u32>), Fault> {
    let text = content.to_str_lossy();
    let mut lines = text.lines().map(str::trim_end);
    let label = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or(Fault::Damaged)?;
    let algorithm = match label {
        "RSA PRIVATE KEY" => "ssh-rsa",
        "DSA PRIVATE KEY" => "ssh-dss",
        "EC PRIVATE KEY" => "ecdsa",
        "PRIVATE KEY" => "pkcs8",
        "ENCRYPTED PRIVATE KEY" => return Err(Fault::Encrypted),
        _ => return Err(Fault::Damaged),
    };
    let end = format!("-----END {label}-----");
    let mut body = String::new();
    let mut complete = false;
    for line in lines {
        if line == end {
            complete = true;
            break;
        }
        if line.starts_with("Proc-Type:") && line.contains("ENCRYPTED") {
            return Err(Fault::Encrypted);
        }
        if !line.contains(':') {
            body.push_str(line);
        }
    }
    let der = base64::decode(body.as_bytes()).filter(|_| complete).ok_or(Fault::Damaged)?;
    let (tag, inside, _) = der_element(&der).ok_or(Fault::Damaged)?;
    if tag != 0x30 {
        return Err(Fault::Damaged);
    }
    let bits = (algorithm == "ssh-rsa").then(|| {
        let modulus = der_element(inside).and_then(|(_, _, rest)| der_element(rest));
        modulus.map_or(0, |(_, modulus, _)| bits_of(modulus))
    });
    Ok((algorithm.to_owned(), bits))
}

/// One DER element: tag, content, what follows.
fn der_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*bytes))
}

pub(super) fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (content, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(content)
}

fn bits_of(integer: &[u8]) -> u32 {
    let significant = integer.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &integer[at..]);
    match significant.first() {
        None => 0,
        Some(first) => {
            u32::try_from(significant.len()).unwrap_or(u32::MAX).saturating_mul(8) - first.leading_zeros()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(content: &[u8]) -> Option<Fault> {
        type_of(content, 1024, true).err()
    }

    #[test]
    fn a_whole_key_is_loaded() {
        assert_eq!(fault(super::super::tests::host_key().as_bytes()), None);
    }

    #[test]
    fn a_key_that_lost_anything_is_not() {
        let key = super::super::tests::host_key();
        assert_eq!(fault(b""), Some(Fault::Empty));
        assert_eq!(fault(key.replace('\n', "\r\n").as_bytes()), Some(Fault::Damaged));
        assert_eq!(fault(key.trim_end().as_bytes()), Some(Fault::Damaged), "the last newline is part of it");
        assert_eq!(fault(&key.as_bytes()[..200]), Some(Fault::Damaged));
        assert_eq!(fault(b"ssh-ed25519 AAAA"), Some(Fault::Damaged));
        assert_eq!(fault(&[0; 400]), Some(Fault::Damaged));
    }

    #[test]
    fn an_encrypted_key_is_named_as_such() {
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMAMC\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(fault(pem.as_bytes()), Some(Fault::Encrypted));
        assert_eq!(fault(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), Some(Fault::Encrypted));
    }
}
