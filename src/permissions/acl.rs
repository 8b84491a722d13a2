//! POSIX access control lists in the form of the xattr (`linux/posix_acl_xattr.h`; acl(5), access check algorithm).

use super::{Access, Identity};
use crate::view::Stat;

/// The xattr of the access ACL.
pub const ACCESS: &str = "system.posix_acl_access";
/// The xattr of a directory's default ACL.
pub const DEFAULT: &str = "system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `ACL_USER_OBJ` and so on.
    pub tag: u16,
    /// rwx, as one triple.
    pub permissions: u16,
    /// The id of a named user or group.
    pub id: u32,
}

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// In the order of the xattr.
    pub entries: Vec<Entry>,
}

impl Acl {
    /// Reads the xattr; `None` for what the kernel would not take.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let (version, rest) = raw.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % 8 != 0 {
            return None;
        }
        let entries = rest
            .chunks_exact(8)
            .map(|chunk| Entry {
                tag: u16::from_le_bytes([chunk[0], chunk[1]]),
                permissions: u16::from_le_bytes([chunk[2], chunk[3]]),
                id: u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
            })
            .collect();
        Some(Self { entries })
    }

    /// The form of the xattr.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut raw = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            raw.extend(entry.tag.to_le_bytes());
            raw.extend(entry.permissions.to_le_bytes());
            raw.extend(entry.id.to_le_bytes());
        }
        raw
    }

    /// The access check algorithm of acl(5). The owner's, the mask's and the others' permissions are taken from the
    /// mode, as the kernel keeps both the same.
    #[must_use]
    pub fn allows(&self, stat: &Stat, who: &Identity, access: Access) -> bool {
        let wants = access as u16;
        let grants = |permissions: u16| permissions & wants != 0;
        if who.uid == stat.uid {
            return grants(triple(stat.mode, 6));
        }
        let has_mask = self.entries.iter().any(|entry| entry.tag == MASK);
        let mask = if has_mask { triple(stat.mode, 3) } else { 7 };
        if let Some(named) = self.entries.iter().find(|entry| entry.tag == USER && entry.id == who.uid) {
            return grants(named.permissions & mask);
        }
        let mut in_a_group = false;
        for entry in &self.entries {
            let applies = match entry.tag {
                GROUP_OBJ => who.in_group(stat.gid),
                GROUP => who.in_group(entry.id),
                _ => false,
            };
            if applies {
                in_a_group = true;
                if grants(entry.permissions & mask) {
                    return true;
                }
            }
        }
        !in_a_group && grants(triple(stat.mode, 0))
    }

    /// Makes the entry that decides about `who` grant the right, and the mask let it through; `false` if no entry
    /// speaks of them (the others' bits decide).
    pub fn grant(&mut self, stat: &Stat, who: &Identity, access: Access) -> bool {
        let wants = access as u16;
        let deciding = self
            .entries
            .iter()
            .position(|entry| entry.tag == USER && entry.id == who.uid)
            .or_else(|| self.entries.iter().position(|entry| entry.tag == GROUP && who.in_group(entry.id)))
            .or_else(|| {
                self.entries.iter().position(|entry| entry.tag == GROUP_OBJ && who.in_group(stat.gid))
            });
        let Some(deciding) = deciding else { return false };
        self.entries[deciding].permissions |= wants;
        for entry in self.entries.iter_mut().filter(|entry| entry.tag == MASK) {
            entry.permissions |= wants;
        }
        true
    }

    /// The mode bits that this list shows: owner, mask (or group) and others.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let bits = |tag| {
            self.entries.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.permissions & 7))
        };
        let group = bits(MASK).or_else(|| bits(GROUP_OBJ));
        bits(USER_OBJ).unwrap_or(0) << 6 | group.unwrap_or(0) << 3 | bits(OTHER).unwrap_or(0)
    }

    /// The named users and groups whose entries, under the mask, allow writing: `("user", id)`.
    #[must_use]
    pub fn writers(&self, stat: &Stat) -> Vec<(&'static str, u32)> {
        let mask = triple(stat.mode, 3);
        self.entries
            .iter()
            .filter(|entry| entry.permissions & mask & Access::Write as u16 != 0)
            .filter_map(|entry| match entry.tag {
                USER => Some(("user", entry.id)),
                GROUP => Some(("group", entry.id)),
                _ => None,
            })
            .collect()
    }

    /// `true` if there is more than the mode says: a named entry or a mask.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }
}

fn triple(mode: u32, shift: u32) -> u16 {
    (mode >> shift & 7) as u16
}
