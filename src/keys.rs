//! Public keys: every form in which people have them, and the lines of authorized_keys as sshd reads them.

pub mod authorized_keys;

use bstr::BString;

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
    /// "SHA256:..." as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        unimplemented!()
    }

    /// The line for an authorized_keys file, without newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Bits of an RSA modulus.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<u32> {
        unimplemented!()
    }
}

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
pub fn read_key(_content: &[u8]) -> Result<KeyForm, String> {
    unimplemented!()
}
