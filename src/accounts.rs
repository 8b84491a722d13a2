//! The account files: passwd, group, shadow, gshadow, subuid, subgid, login.defs.
//!
//! Reading is what glibc's `files` service (passwd, group, shadow) and shadow-utils (gshadow, subuid, subgid,
//! login.defs) make of the bytes; editing keeps every other byte of the file as it was.

pub mod edit;
mod field;
pub mod group;
pub mod gshadow;
pub mod login_defs;
pub mod passwd;
pub mod shadow;
pub mod subid;

pub use group::{Group, GroupEntry, Members};
pub use gshadow::{GroupShadow, GroupShadowEntry};
pub use login_defs::LoginDefs;
pub use passwd::{Passwd, PasswdEntry, Secret};
pub use shadow::{Shadow, ShadowEntry};
pub use subid::{SubidRange, Subids};

use crate::permissions::Identity;

impl Identity {
    /// The ids of a user as initgroups(3) would set them from the group file.
    #[must_use]
    pub fn of(user: &PasswdEntry, group: &Group) -> Self {
        Self { uid: user.uid, gid: user.gid, groups: group.gids_of(&user.name) }
    }
}

/// Is this a name that useradd(8) takes? `[a-zA-Z0-9_.][a-zA-Z0-9_.-]*$?`, at most 32 bytes, not all digits, neither
/// `.` nor `..`.
#[must_use]
pub fn is_valid_name(name: &[u8]) -> bool {
    let body = name.strip_suffix(b"$").unwrap_or(name);
    let Some((first, rest)) = body.split_first() else { return false };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    name.len() <= 32
        && plain(first)
        && rest.iter().all(|byte| plain(byte) || *byte == b'-')
        && body != b"."
        && body != b".."
        && !name.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_useradd() {
        for good in ["ec2-user", "a", "_x", "machine$", "a.b", "1a", &"n".repeat(32)] {
            assert!(is_valid_name(good.as_bytes()), "{good}");
        }
        for bad in ["", "-a", "+a", "123", ".", "..", "a:b", "a b", "a\nb", "a/b", "$", "é", &"n".repeat(33)]
        {
            assert!(!is_valid_name(bad.as_bytes()), "{bad}");
        }
    }
}
