//! RevokedKeys (authfile.c `sshkey_check_revoked`, krl.c): whatever goes wrong counts as revoked.

use super::Case;
use super::account::at_setting;
use super::hostkey::string;
use super::start::errno_words;
use crate::finding::{CheckId, Finding};
use crate::keys::authorized_keys::{Line, parse};
use crate::keys::{PublicKey, base64};
use crate::view::{LookError, TEXT_LIMIT, read_following};
use bstr::ByteSlice;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"SSHKRL\n\0";

/// What the file says.
pub(super) struct Revoked {
    file: PathBuf,
    content: Content,
}

enum Content {
    /// No such keyword.
    None,
    /// The file cannot be used: every key is refused.
    Everything,
    /// Blobs of a text list, with their lines.
    List(HashMap<Vec<u8>, u32>),
    /// A binary list.
    Krl(Krl),
}

/// What is understood of a key revocation list (PROTOCOL.krl).
#[derive(Default)]
struct Krl {
    keys: Vec<Vec<u8>>,
    sha256: Vec<Vec<u8>>,
    /// Sections whose effect on a plain key is not evaluated (SHA-1 fingerprints).
    open: bool,
    /// Sections about certificates.
    certificates: bool,
}

/// The answer for one key.
pub(super) enum Revocation {
    Not,
    Listed(Box<Finding>),
    Everything,
    Unknown(Box<Finding>, String),
}

impl Revoked {
    pub(super) fn read(case: &mut Case<'_>) -> Self {
        let setting = &case.effective.revoked_keys;
        let Some(name) = &setting.value else { return Self { file: PathBuf::new(), content: Content::None } };
        let file = Path::new("/").join(&*name.to_os_str_lossy());
        let content = match read_following(case.view, &file, TEXT_LIMIT) {
            Ok(text) if text.starts_with(MAGIC) => match read_krl(&text) {
                Some(krl) => Ok(Content::Krl(krl)),
                None => Err("invalid format".to_owned()),
            },
            Ok(text) => read_list(&text, case),
            Err(LookError::TooLarge { .. }) => {
                Ok(Content::Krl(Krl { open: true, certificates: true, ..Krl::default() }))
            }
            Err(error) => Err(errno_words(&error)),
        };
        let content = content.unwrap_or_else(|why| {
            let detail = format!("{}: {why}", file.display());
            case.traced_at("RevokedKeys", setting.at.as_ref(), name.to_string(), detail, false);
            let finding = at_setting(Finding::blocks(CheckId::RevokedKeysUnusable), setting)
                .is(format!("RevokedKeys {name}: {why}"))
                .wants("a list of keys that sshd can read, if only an empty file")
                .says(format!(
                    "Error checking authentication key in revoked keys file {}: {why}",
                    file.display()
                ));
            case.refuse(finding);
            Content::Everything
        });
        Self { file, content }
    }

    pub(super) fn asks(&self, key: &PublicKey) -> Revocation {
        let listed = |line: Option<u32>| {
            let mut finding = Finding::blocks(CheckId::KeyRevoked)
                .at(&self.file)
                .is(format!("{} {} is listed", key.algorithm, key.fingerprint()))
                .wants("another key")
                .says(format!(
                    "Authentication key {} {} revoked by file {}",
                    key.algorithm,
                    key.fingerprint(),
                    self.file.display()
                ));
            finding.line = line;
            Revocation::Listed(Box::new(finding))
        };
        // A certificate falls with the key inside and with its CA.
        let meant = match key.certificate() {
            Some(certificate) => vec![certificate.key, certificate.ca],
            None => vec![key.clone()],
        };
        match &self.content {
            Content::None => Revocation::Not,
            Content::Everything => Revocation::Everything,
            Content::List(keys) => {
                let line = meant.iter().find_map(|key| keys.get(&key.blob));
                line.map_or(Revocation::Not, |line| listed(Some(*line)))
            }
            Content::Krl(krl) => {
                let by_hash = |key: &PublicKey| krl.sha256.iter().any(|hash| is_fingerprint(key, hash));
                if meant.iter().any(|key| krl.keys.contains(&key.blob) || by_hash(key)) {
                    return listed(None);
                }
                let certificate = key.algorithm.contains("-cert-");
                if krl.open || (certificate && krl.certificates) {
                    let finding = Finding::advises(CheckId::KeyRevoked)
                        .at(&self.file)
                        .is("a revocation list with sections that are not evaluated")
                        .wants("ssh-keygen -Q on the list");
                    let missing = format!("whether {} revokes the key", self.file.display());
                    return Revocation::Unknown(Box::new(finding), missing);
                }
                Revocation::Not
            }
        }
    }
}

/// Does "SHA256:..." of the key spell this hash?
fn is_fingerprint(key: &PublicKey, hash: &[u8]) -> bool {
    let fingerprint = key.fingerprint();
    let text = fingerprint.strip_prefix("SHA256:").unwrap_or_default();
    base64::decode(format!("{text}=").as_bytes()).is_some_and(|known| known == hash)
}

/// sshkey_in_file: keys without options; a line that is none makes every check fail.
fn read_list(text: &[u8], case: &Case<'_>) -> Result<Content, String> {
    let mut keys = HashMap::new();
    for (number, line) in parse(text, case.build()) {
        match line {
            Line::Ignored => {}
            // A word before the type is no option here.
            Line::Key(key) if !key.options_text.is_empty() => return Err("invalid format".into()),
            Line::Key(key) => {
                let plain = key.key.certificate().map_or_else(|| key.key.blob.clone(), |read| read.key.blob);
                keys.entry(plain).or_insert(number);
            }
            Line::Junk { .. } => return Err("invalid format".into()),
        }
    }
    Ok(Content::List(keys))
}

fn read_krl(text: &[u8]) -> Option<Krl> {
    let mut rest = text.strip_prefix(MAGIC)?;
    let (_header, after) = rest.split_first_chunk::<28>()?;
    rest = after;
    let _reserved = string(&mut rest)?;
    let _comment = string(&mut rest)?;
    let mut krl = Krl::default();
    while let Some((&kind, after)) = rest.split_first() {
        rest = after;
        let mut section = string(&mut rest)?;
        let mut items = Vec::new();
        if matches!(kind, 2 | 3 | 5) {
            while !section.is_empty() {
                items.push(string(&mut section)?.to_vec());
            }
        }
        match kind {
            1 => krl.certificates = true,
            2 => krl.keys.extend(items),
            3 => krl.open |= !items.is_empty(),
            5 => krl.sha256.extend(items),
            // A signature of the list, or what later versions add.
            _ => {}
        }
    }
    Some(krl)
}
