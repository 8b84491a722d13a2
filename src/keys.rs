//! Public keys: every form in which people have them, and the lines of authorized_keys as sshd reads them.

pub mod algorithms;
pub mod authorized_keys;
pub(crate) mod base64;
pub mod certificate;
mod generate;
mod read;
mod wire;

pub use certificate::Certificate;
pub use generate::{PrivateKeyText, generate_ed25519, is_encrypted};
pub use read::{KeyForm, options_in, read_key};
pub use wire::BlobError;

use bstr::BString;
use signature::Verifier as _;
use wire::Blob;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The name in the blob: "ssh-ed25519", "ssh-rsa", "ssh-ed25519-cert-v01@openssh.com".
    pub algorithm: String,
    /// The wire form (RFC 4253 section 6.6).
    pub blob: Vec<u8>,
    /// What follows the key on its line.
    pub comment: BString,
}

impl PublicKey {
    /// A key of its wire form, without comment.
    ///
    /// # Errors
    /// If OpenSSH would not read it; its length and the version's types are not judged here.
    pub fn from_blob(blob: Vec<u8>) -> Result<Self, BlobError> {
        let algorithm = wire::read(&blob)?.0.to_owned();
        Ok(Self { algorithm, blob, comment: BString::default() })
    }

    /// The same key with a comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<BString>) -> Self {
        self.comment = comment.into();
        self
    }

    /// "SHA256:..." as `ssh-keygen -l` prints it; of a certificate, that of the key inside.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let certificate = self.certificate();
        let blob = certificate.as_ref().map_or(&self.blob, |certificate| &certificate.key.blob);
        let digest = base64::encode(&ssh_key::HashAlg::Sha256.digest(blob));
        let text: String =
            digest.iter().filter(|&&byte| byte != b'=').map(|&byte| char::from(byte)).collect();
        format!("SHA256:{text}")
    }

    /// The line for an authorized_keys file, without newline; control characters in the comment are left out.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = [self.algorithm.as_bytes(), b" ", &base64::encode(&self.blob)].concat();
        let comment: Vec<u8> = self.comment.iter().copied().filter(|byte| !byte.is_ascii_control()).collect();
        if !comment.trim_ascii().is_empty() {
            line.push(b' ');
            line.extend_from_slice(comment.trim_ascii());
        }
        line
    }

    /// Bits of an RSA modulus, also of the one in a certificate.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<u32> {
        match wire::read(&self.blob).ok()?.1 {
            Blob::Plain(material) => material.rsa_bits(),
            Blob::Certificate(certificate) => certificate.key.rsa_bits(),
        }
    }

    /// Is it a certificate?
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        certificate::plain_type(&self.algorithm).is_some()
    }

    /// What the certificate says; `None` for a plain key.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        if !self.is_certificate() {
            return None;
        }
        match wire::read(&self.blob).ok()?.1 {
            Blob::Certificate(certificate) => Some(*certificate),
            Blob::Plain(_) => None,
        }
    }

    /// `true` if the certificate's signature is certainly not its authority's: sshd takes such a blob for no key at all.
    /// What cannot be checked here (SHA-1, security keys) counts as good.
    #[must_use]
    pub fn certificate_is_forged(&self) -> bool {
        const CHECKED: [&str; 6] = [
            "ssh-ed25519",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
            "rsa-sha2-256",
            "rsa-sha2-512",
        ];
        let Some(own) = self.certificate() else { return false };
        if !CHECKED.contains(&own.signature_algorithm.as_str()) {
            return false;
        }
        // A signature of the right name whose bytes are none, as an Ed25519 one with a number beyond the group's order.
        let Ok(signature) = ssh_key::Signature::try_from(own.signature.as_slice()) else { return true };
        let Ok(authority) = ssh_key::PublicKey::from_bytes(&own.ca.blob) else { return false };
        // Signed is all that stands before the signature and its length.
        let end = self.blob.len().saturating_sub(own.signature.len() + 4);
        let signed = self.blob.get(..end).unwrap_or_default();
        authority.key_data().verify(signed, &signature).is_err()
    }

    /// Are they the same key to sshd (`sshkey_equal`)? The comment does not count; a certificate is never the same as
    /// its plain key, so a certificate on a line of authorized_keys matches nothing.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        if self.blob == other.blob {
            return true;
        }
        match (wire::read(&self.blob), wire::read(&other.blob)) {
            (Ok((_, Blob::Plain(one))), Ok((_, Blob::Plain(two)))) => one == two,
            _ => false,
        }
    }
}

/// The words of a line, between white space of ASCII.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Keys and builds for tests: made up, nobody has their private halves.

    use super::*;
    use crate::sshd::Build;
    use crate::sshd::build::Family;

    pub(crate) fn build(version: (u32, u32)) -> Build {
        Build::of(Family::Upstream, version)
    }

    fn blob(fields: &[&[u8]]) -> Vec<u8> {
        fields
            .iter()
            .flat_map(|field| [&u32::try_from(field.len()).unwrap().to_be_bytes()[..], field].concat())
            .collect()
    }

    /// An Ed25519 key that differs by number.
    pub(crate) fn key(number: u8) -> PublicKey {
        let key = [number.wrapping_mul(37) ^ 0x5c; 32];
        PublicKey::from_blob(blob(&[b"ssh-ed25519", &key])).unwrap().with_comment("user@host")
    }

    /// An RSA key with this many bits.
    pub(crate) fn rsa(bits: usize) -> PublicKey {
        let mut modulus = vec![0x5a; bits / 8];
        modulus[0] = 0x80;
        modulus.insert(0, 0);
        PublicKey::from_blob(blob(&[b"ssh-rsa", &[1, 0, 1], &modulus])).unwrap().with_comment("rsa")
    }

    /// Its line, as text.
    pub(crate) fn line(key: &PublicKey) -> String {
        String::from_utf8(key.to_line()).unwrap()
    }

    /// The same RSA key, its modulus written with one more leading zero.
    pub(crate) fn rsa_with_leading_zero(bits: usize) -> PublicKey {
        let mut modulus = vec![0x5a; bits / 8];
        modulus[0] = 0x80;
        modulus.splice(0..0, [0, 0]);
        PublicKey::from_blob(blob(&[b"ssh-rsa", &[1, 0, 1], &modulus])).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{key, line, rsa, rsa_with_leading_zero};
    use super::*;

    #[test]
    fn a_fingerprint_is_the_one_of_ssh_keygen() {
        let text = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti user";
        let Ok(KeyForm::Public(keys)) = read_key(text) else { panic!("it is a key") };
        assert_eq!(keys[0].fingerprint(), "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ");
        assert_eq!(keys[0].to_line(), text);
    }

    #[test]
    fn rsa_bits_are_those_of_the_modulus() {
        assert_eq!(rsa(2048).rsa_bits(), Some(2048));
        assert_eq!(key(1).rsa_bits(), None);
    }

    #[test]
    fn keys_are_compared_decoded() {
        assert!(rsa(2048).same_key(&rsa_with_leading_zero(2048)));
        assert!(!rsa(2048).same_key(&rsa(3072)));
        assert!(key(1).same_key(&key(1).with_comment("other")));
        assert!(!key(1).same_key(&key(2)));
    }

    #[test]
    fn a_comment_cannot_start_a_line_of_its_own() {
        assert_eq!(line(&key(1).with_comment("a\nssh-rsa b\0c")).lines().count(), 1);
    }

    #[test]
    fn a_blob_must_be_a_key_and_nothing_else() {
        let blob = key(1).blob;
        assert_eq!(PublicKey::from_blob(blob[..40].to_vec()), Err(BlobError::Truncated));
        assert_eq!(PublicKey::from_blob([&blob[..], b"x"].concat()), Err(BlobError::Trailing));
        assert_eq!(PublicKey::from_blob(b"\0\0\0\x03abc".to_vec()), Err(BlobError::UnknownType));
    }

    proptest::proptest! {
        #[test]
        fn no_blob_makes_it_panic(start in 0_usize..9, bytes: Vec<u8>) {
            let names = ["ssh-rsa", "ssh-dss", "ssh-ed25519", "ecdsa-sha2-nistp521", "sk-ssh-ed25519@openssh.com",
                "ssh-rsa-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com", "x", ""];
            let name = names[start];
            let blob = [&u32::try_from(name.len()).unwrap().to_be_bytes()[..], name.as_bytes(), &bytes].concat();
            if let Ok(key) = PublicKey::from_blob(blob) {
                let _ = (key.fingerprint(), key.rsa_bits(), key.to_line(), key.certificate());
            }
        }
    }
}
