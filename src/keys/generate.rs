//! A new pair of keys.

use super::PublicKey;
use ssh_key::{LineEnding, PrivateKey};
use std::fmt;

/// A private key in OpenSSH's form, for a file of mode 0600: never for an output, a log or a journal.
pub struct PrivateKeyText(PrivateKey);

impl PrivateKeyText {
    /// Hands the text to `write`; it is wiped from memory afterwards.
    ///
    /// # Errors
    /// What `write` returns.
    pub fn write<E: From<std::io::Error>>(
        &self,
        write: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let text = self.0.to_openssh(LineEnding::LF).map_err(std::io::Error::other)?;
        write(text.as_bytes())
    }
}

impl fmt::Debug for PrivateKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyText(..)")
    }
}

/// Makes an Ed25519 pair from the kernel's random numbers.
///
/// # Errors
/// In words, if the numbers can't be had.
pub fn generate_ed25519(comment: &str) -> Result<(PrivateKeyText, PublicKey), String> {
    use ssh_key::rand_core::{OsRng, RngCore};
    let failed = |what: &dyn fmt::Display| format!("no key could be made: {what}");
    // PrivateKey::random would panic where the kernel has none.
    OsRng.try_fill_bytes(&mut [0; 1]).map_err(|error| failed(&error))?;
    let mut key =
        PrivateKey::random(&mut OsRng, ssh_key::Algorithm::Ed25519).map_err(|error| failed(&error))?;
    key.set_comment(comment);
    let blob = key.public_key().to_bytes().map_err(|error| failed(&error))?;
    let public = PublicKey::from_blob(blob).map_err(|error| failed(&error.words()))?.with_comment(comment);
    Ok((PrivateKeyText(key), public))
}

/// Whether a private key of OpenSSH's form has a passphrase.
#[must_use]
pub fn is_encrypted(text: &str) -> bool {
    PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyForm, read_key};

    #[test]
    fn the_private_half_belongs_to_the_public_one() {
        let (private, public) = generate_ed25519("me@helper").unwrap();
        let mut text = Vec::new();
        private.write(|bytes| std::io::Write::write_all(&mut text, bytes)).unwrap();
        let Ok(KeyForm::Public(keys)) = read_key(&text) else { panic!("it is a key") };
        assert_eq!(keys, [public]);
        assert_eq!(format!("{private:?}"), "PrivateKeyText(..)");
    }

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(generate_ed25519("").unwrap().1, generate_ed25519("").unwrap().1);
    }
}
