//! The account files: passwd, group, shadow, gshadow, subuid, subgid, login.defs.
//!
//! Reading is what glibc's `files` service and shadow-utils make of the bytes (nss_files, passwd(5), group(5),
//! shadow(5)); editing keeps every other byte of the file as it was.

pub mod group;
pub mod passwd;
pub mod shadow;

pub use group::{Group, GroupEntry};
pub use passwd::{Passwd, PasswdEntry};
pub use shadow::{Shadow, ShadowEntry};

use crate::permissions::Identity;

impl Identity {
    /// The ids of a user as initgroups(3) would set them from the group file.
    #[must_use]
    pub fn of(user: &PasswdEntry, group: &Group) -> Self {
        Self { uid: user.uid, gid: user.gid, groups: group.gids_of(&user.name) }
    }
}

/// A decimal id field as glibc's `strtou32` takes it: digits only here, at most 2^32 - 1.
fn id_field(field: &[u8]) -> Option<u32> {
    if field.is_empty() || !field.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok()
}
