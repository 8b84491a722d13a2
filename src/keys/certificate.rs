//! OpenSSH certificates (PROTOCOL.certkeys): the fields that decide a login.

use super::PublicKey;
use super::wire::{BlobError, Material, Wire};
use bstr::BString;

/// Most principals that OpenSSH takes (`SSHKEY_CERT_MAX_PRINCIPALS`).
const MAX_PRINCIPALS: usize = 256;
/// Most critical options and extensions that are read; OpenSSH defines a handful.
const MAX_OPTIONS: usize = 256;

/// Who the certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user: good for a login.
    User,
    /// A host: sshd refuses it for a login.
    Host,
}

/// What a CA said of a key. Its signature is another question ([`PublicKey::certificate_is_forged`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The key that was certified.
    pub key: PublicKey,
    /// The CA's number for the certificate.
    pub serial: u64,
    /// Who it is for.
    pub kind: Kind,
    /// What sshd logs it as.
    pub key_id: BString,
    /// The names that it may log in as; none means any (but sshd then needs a `principals` option or refuses).
    pub principals: Vec<BString>,
    /// First second of validity, since the epoch.
    pub valid_after: u64,
    /// First second after validity; `u64::MAX` is for ever.
    pub valid_before: u64,
    /// Name and value: an unknown one refuses the certificate.
    pub critical_options: Vec<(BString, BString)>,
    /// Name and value: an unknown one is ignored.
    pub extensions: Vec<(BString, BString)>,
    /// The CA.
    pub ca: PublicKey,
    /// The algorithm that the CA signed with.
    pub signature_algorithm: String,
    /// The CA's signature: the algorithm's name and its bytes (RFC 4253, section 6.6).
    pub signature: Vec<u8>,
}

/// "ssh-rsa" for "ssh-rsa-cert-v01@openssh.com" (and for the names with rsa-sha2-256/512, which are the same key);
/// `None` if it is no certificate's type.
#[must_use]
pub fn plain_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "ssh-rsa-cert-v01@openssh.com" => "ssh-rsa",
        "ssh-dss-cert-v01@openssh.com" => "ssh-dss",
        "ssh-ed25519-cert-v01@openssh.com" => "ssh-ed25519",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com" => "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com" => "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com" => "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519-cert-v01@openssh.com" => "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com" => "sk-ecdsa-sha2-nistp256@openssh.com",
        _ => return None,
    })
}

impl Certificate {
    /// Reads what follows the type's name.
    pub(super) fn read(plain: &'static str, wire: &mut Wire<'_>) -> Result<Self, BlobError> {
        wire.string()?; // nonce
        let fields = wire.0;
        Material::read(plain.as_bytes(), wire)?;
        let key = PublicKey {
            algorithm: plain.to_owned(),
            blob: plain_blob(plain, &fields[..fields.len() - wire.0.len()]),
            comment: BString::default(),
        };
        let serial = wire.u64()?;
        let kind = match wire.u32()? {
            1 => Kind::User,
            2 => Kind::Host,
            _ => return Err(BlobError::Invalid),
        };
        let key_id = wire.cstring()?.into();
        let mut list = Wire(wire.string()?);
        let mut principals = Vec::new();
        while !list.0.is_empty() {
            if principals.len() == MAX_PRINCIPALS {
                return Err(BlobError::Invalid);
            }
            principals.push(list.cstring()?.into());
        }
        let (valid_after, valid_before) = (wire.u64()?, wire.u64()?);
        let critical_options = options(wire.string()?)?;
        let extensions = options(wire.string()?)?;
        wire.string()?; // reserved
        let ca = PublicKey::from_blob(wire.string()?.to_vec()).map_err(|_| BlobError::Invalid)?;
        let whole = wire.string()?;
        let mut signature = Wire(whole);
        let signature_algorithm = String::from_utf8_lossy(signature.string()?).into_owned();
        if ca.is_certificate() {
            return Err(BlobError::Invalid);
        }
        Ok(Self {
            key,
            serial,
            kind,
            key_id,
            principals,
            valid_after,
            valid_before,
            critical_options,
            extensions,
            ca,
            signature_algorithm,
            signature: whole.to_vec(),
        })
    }
}

/// The blob of the key inside: its type's name and the same fields.
fn plain_blob(plain: &str, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(plain.len()).unwrap_or(0).to_be_bytes();
    [&length, plain.as_bytes(), fields].concat()
}

/// Names and values; a value that is itself one string is unwrapped, as sshd reads all that it knows.
fn options(bytes: &[u8]) -> Result<Vec<(BString, BString)>, BlobError> {
    let mut wire = Wire(bytes);
    let mut options = Vec::new();
    while !wire.0.is_empty() {
        if options.len() == MAX_OPTIONS {
            return Err(BlobError::Invalid);
        }
        let (name, value) = (wire.cstring()?, wire.string()?);
        let mut inner = Wire(value);
        let value = match inner.string() {
            Ok(string) if inner.0.is_empty() => string,
            _ => value,
        };
        options.push((name.into(), value.into()));
    }
    Ok(options)
}
