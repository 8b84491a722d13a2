//! The wire form of public keys (RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.u2f): bounded, and as
//! picky as `sshkey_fromb`.

use super::certificate::Certificate;

/// Longest modulus that OpenSSH takes, in bytes (`SSHBUF_MAX_BIGNUM`).
const MAX_INTEGER: usize = 16384 / 8;
/// Longest string that is looked at; a certificate with all its principals fits.
const MAX_STRING: usize = 256 * 1024;

/// Why a blob is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobError {
    /// It ends before the key is complete.
    Truncated,
    /// Something follows the key.
    Trailing,
    /// The name of its type is not known.
    UnknownType,
    /// A field has a value that it can't have.
    Invalid,
}

impl BlobError {
    /// In words, to follow "the key ".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Truncated => "is cut short",
            Self::Trailing => "has extra characters at its end",
            Self::UnknownType => "is of an unknown type",
            Self::Invalid => "is damaged",
        }
    }
}

/// A cursor over wire data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire<'a>(pub(super) &'a [u8]);

impl<'a> Wire<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], BlobError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(BlobError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BlobError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)))
    }

    pub(super) fn u64(&mut self) -> Result<u64, BlobError> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], BlobError> {
        let length = self.u32()? as usize;
        if length > MAX_STRING {
            return Err(BlobError::Invalid);
        }
        self.take(length)
    }

    /// A string without NUL, but for one at its end (`sshbuf_get_cstring`).
    pub(super) fn cstring(&mut self) -> Result<&'a [u8], BlobError> {
        let string = self.string()?;
        let string = string.strip_suffix(b"\0").unwrap_or(string);
        if string.contains(&0) { Err(BlobError::Invalid) } else { Ok(string) }
    }

    /// A positive integer without leading zeros (`sshbuf_get_bignum2_bytes_direct`).
    fn integer(&mut self) -> Result<&'a [u8], BlobError> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|byte| byte & 0x80 != 0) || bytes.len() > MAX_INTEGER + 1 {
            return Err(BlobError::Invalid);
        }
        let digits = bytes.iter().position(|&byte| byte != 0).map_or(&[][..], |start| &bytes[start..]);
        if digits.len() > MAX_INTEGER { Err(BlobError::Invalid) } else { Ok(digits) }
    }
}

/// The curves of RFC 5656 that OpenSSH knows: name, and bytes of a coordinate.
const CURVES: [(&[u8], usize); 3] = [(b"nistp256", 32), (b"nistp384", 48), (b"nistp521", 66)];

/// What a key is made of, decoded: two keys are the same if this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Material<'a> {
    Rsa { exponent: &'a [u8], modulus: &'a [u8] },
    Dsa { p: &'a [u8], q: &'a [u8], g: &'a [u8], y: &'a [u8] },
    Ecdsa { curve: &'a [u8], point: &'a [u8] },
    Ed25519(&'a [u8]),
    SkEcdsa { point: &'a [u8], application: &'a [u8] },
    SkEd25519 { key: &'a [u8], application: &'a [u8] },
}

impl<'a> Material<'a> {
    /// Reads the fields that follow the name of a plain type.
    pub(super) fn read(name: &[u8], wire: &mut Wire<'a>) -> Result<Self, BlobError> {
        Ok(match name {
            b"ssh-rsa" => {
                let (exponent, modulus) = (wire.integer()?, wire.integer()?);
                if exponent.is_empty() || modulus.is_empty() {
                    return Err(BlobError::Invalid);
                }
                Self::Rsa { exponent, modulus }
            }
            b"ssh-dss" => {
                Self::Dsa { p: wire.integer()?, q: wire.integer()?, g: wire.integer()?, y: wire.integer()? }
            }
            b"ssh-ed25519" => Self::Ed25519(ed25519(wire)?),
            b"sk-ssh-ed25519@openssh.com" => {
                Self::SkEd25519 { key: ed25519(wire)?, application: wire.cstring()? }
            }
            b"sk-ecdsa-sha2-nistp256@openssh.com" => {
                let (curve, point) = ecdsa(wire)?;
                if curve != b"nistp256" {
                    return Err(BlobError::Invalid);
                }
                Self::SkEcdsa { point, application: wire.cstring()? }
            }
            _ => {
                let named = name.strip_prefix(b"ecdsa-sha2-").ok_or(BlobError::UnknownType)?;
                if !CURVES.iter().any(|(curve, _)| *curve == named) {
                    return Err(BlobError::UnknownType);
                }
                let (curve, point) = ecdsa(wire)?;
                if curve != named {
                    return Err(BlobError::Invalid);
                }
                Self::Ecdsa { curve, point }
            }
        })
    }

    /// Bits of an RSA modulus.
    pub(super) fn rsa_bits(&self) -> Option<u32> {
        let Self::Rsa { modulus, .. } = self else { return None };
        let first = modulus.first()?;
        u32::try_from(modulus.len() * 8).ok().map(|bits| bits - first.leading_zeros())
    }
}

fn ed25519<'a>(wire: &mut Wire<'a>) -> Result<&'a [u8], BlobError> {
    let key = wire.string()?;
    if key.len() == 32 { Ok(key) } else { Err(BlobError::Invalid) }
}

/// Curve and point; OpenSSH takes uncompressed points only.
fn ecdsa<'a>(wire: &mut Wire<'a>) -> Result<(&'a [u8], &'a [u8]), BlobError> {
    let (curve, point) = (wire.string()?, wire.string()?);
    let bytes = CURVES.iter().find(|(name, _)| *name == curve).ok_or(BlobError::Invalid)?.1;
    if point.len() == 1 + 2 * bytes && point[0] == 4 { Ok((curve, point)) } else { Err(BlobError::Invalid) }
}

/// A whole blob: a plain key or a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blob<'a> {
    Plain(Material<'a>),
    Certificate(Box<Certificate>),
}

/// Reads the key at the start: its type's name, what it is, and how many bytes it takes.
pub(super) fn read_prefix(bytes: &[u8]) -> Result<(&str, Blob<'_>, usize), BlobError> {
    let mut wire = Wire(bytes);
    let name = wire.string()?;
    let text = str::from_utf8(name).map_err(|_| BlobError::UnknownType)?;
    let blob = match super::certificate::plain_type(text) {
        Some(plain) => Blob::Certificate(Box::new(Certificate::read(plain, &mut wire)?)),
        None => Blob::Plain(Material::read(name, &mut wire)?),
    };
    Ok((text, blob, bytes.len() - wire.0.len()))
}

/// Reads a blob that must be a key and nothing else.
pub(super) fn read(bytes: &[u8]) -> Result<(&str, Blob<'_>), BlobError> {
    let (name, blob, used) = read_prefix(bytes)?;
    if used == bytes.len() { Ok((name, blob)) } else { Err(BlobError::Trailing) }
}
