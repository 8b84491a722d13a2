//! authorized_keys, line by line as OpenSSH reads it (`auth2-pubkeyfile.c`, `sshkey_read`, `sshauthopt_parse`).

use super::PublicKey;
use crate::sshd::Build;
use bstr::BString;

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
    /// The key.
    pub key: PublicKey,
    /// The options, or why this version refuses them.
    pub options: Result<Options, String>,
}

/// The options that can change a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `command="..."`.
    pub command: Option<BString>,
    /// `from="..."`.
    pub from: Option<BString>,
    /// `expiry-time="..."`, as seconds since the epoch (UTC is taken for the instance's local time).
    pub expiry: Option<i64>,
    /// `cert-authority`.
    pub cert_authority: bool,
    /// `principals="..."`.
    pub principals: Option<BString>,
}

/// Splits and reads a whole file, as the build's sshd would; lines are counted from 1.
#[must_use]
pub fn parse(_content: &[u8], _build: &Build) -> Vec<(u32, Line)> {
    unimplemented!()
}
