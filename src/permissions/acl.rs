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

impl Entry {
    /// As getfacl(1) and setfacl(1) write it, ids as numbers of the volume.
    fn words(&self) -> String {
        let (tag, id) = match self.tag {
            USER_OBJ => ("user", String::new()),
            USER => ("user", self.id.to_string()),
            GROUP_OBJ => ("group", String::new()),
            GROUP => ("group", self.id.to_string()),
            MASK => ("mask", String::new()),
            _ => ("other", String::new()),
        };
        format!("{tag}:{id}:{}", rwx(self.permissions))
    }
}

fn rwx(permissions: u16) -> String {
    [(4, 'r'), (2, 'w'), (1, 'x')]
        .map(|(bit, letter)| if permissions & bit != 0 { letter } else { '-' })
        .iter()
        .collect()
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
    /// speaks of them (the others' bits decide). Nobody else gains by a wider mask: what it kept from another entry, that
    /// entry loses.
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
        let masked = self.entries.iter().any(|entry| entry.tag == MASK && entry.permissions & wants == 0);
        for (at, entry) in self.entries.iter_mut().enumerate() {
            match entry.tag {
                MASK => entry.permissions |= wants,
                USER | GROUP_OBJ | GROUP if masked && at != deciding => entry.permissions &= !wants,
                _ => {}
            }
        }
        self.entries[deciding].permissions |= wants;
        true
    }

    /// Takes the right to write from the mask (or, where there is none, the group) and from the others: the named entries
    /// stay as they are. `false` if it was not there.
    pub fn close_to_writers(&mut self) -> bool {
        let has_mask = self.entries.iter().any(|entry| entry.tag == MASK);
        let before = self.clone();
        for entry in &mut self.entries {
            if entry.tag == OTHER || entry.tag == if has_mask { MASK } else { GROUP_OBJ } {
                entry.permissions &= !(Access::Write as u16);
            }
        }
        *self != before
    }

    /// What of the list decides about `who`, in words: the entries that speak of them, and the mask where it takes away
    /// what they give. `None` where the others' bits decide.
    #[must_use]
    pub fn deciding(&self, stat: &Stat, who: &Identity, access: Access) -> Option<String> {
        let named: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.tag == USER && entry.id == who.uid).collect();
        let speak: Vec<&Entry> = if named.is_empty() {
            let of_groups = |entry: &&Entry| match entry.tag {
                GROUP_OBJ => who.in_group(stat.gid),
                GROUP => who.in_group(entry.id),
                _ => false,
            };
            self.entries.iter().filter(of_groups).collect()
        } else {
            named
        };
        if speak.is_empty() || !self.is_extended() {
            return None;
        }
        let entries = speak.iter().map(|entry| entry.words()).collect::<Vec<_>>().join(", ");
        let given = speak.iter().any(|entry| entry.permissions & access as u16 != 0);
        let mask =
            if given { format!(" under the mask {}", rwx(triple(stat.mode, 3))) } else { String::new() };
        Some(format!("ACL entry {entries}{mask}"))
    }

    /// Why the mode shows group bits that write, in words: with a list they are its mask. `None` without a list.
    #[must_use]
    pub fn writing(&self, stat: &Stat) -> Option<String> {
        if !self.is_extended() || triple(stat.mode, 3) & Access::Write as u16 == 0 {
            return None;
        }
        let writes = |entry: &&Entry| {
            matches!(entry.tag, USER | GROUP_OBJ | GROUP) && entry.permissions & Access::Write as u16 != 0
        };
        let entries: Vec<String> = self.entries.iter().filter(writes).take(8).map(Entry::words).collect();
        let mask = rwx(triple(stat.mode, 3));
        Some(if entries.is_empty() {
            format!("ACL mask {mask}, which no entry uses to write")
        } else {
            format!("ACL mask {mask} lets {} write", entries.join(", "))
        })
    }

    /// The list as getfacl(1) writes it on one line; a long one is cut.
    #[must_use]
    pub fn words(&self) -> String {
        const MOST: usize = 16;
        let mut words: Vec<String> = self.entries.iter().take(MOST).map(Entry::words).collect();
        if self.entries.len() > MOST {
            words.push(format!("{} more", self.entries.len() - MOST));
        }
        words.join(",")
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

    /// `true` if there is more than the mode says: a named entry or a mask.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.entries.iter().any(|entry| !matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }
}

fn triple(mode: u32, shift: u32) -> u16 {
    (mode >> shift & 7) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::FileKind;

    const NONE: u32 = u32::MAX;

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        let entries = entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id });
        Acl { entries: entries.collect() }
    }

    fn stat(mode: u32) -> Stat {
        let kind = FileKind::Directory;
        Stat { kind, mode, uid: 0, gid: 0, nlink: 2, size: 0, dev: 1, ino: 1, mtime: 0 }
    }

    fn user() -> Identity {
        Identity { uid: 1000, gid: 1000, groups: vec![50] }
    }

    #[test]
    fn the_entry_that_decides_is_named() {
        let denies = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 0, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 5, NONE),
            (OTHER, 5, NONE),
        ]);
        let words = |acl: &Acl, mode| acl.deciding(&stat(mode), &user(), Access::Execute);
        assert_eq!(words(&denies, 0o755).unwrap(), "ACL entry user:1000:---");
        let masked = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 4, NONE),
            (OTHER, 0, NONE),
        ]);
        assert_eq!(words(&masked, 0o740).unwrap(), "ACL entry user:1000:rwx under the mask r--");
        let group = list(&[
            (USER_OBJ, 7, NONE),
            (GROUP_OBJ, 5, NONE),
            (GROUP, 0, 50),
            (MASK, 5, NONE),
            (OTHER, 5, NONE),
        ]);
        assert_eq!(words(&group, 0o755).unwrap(), "ACL entry group:50:---");
        let others = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 33),
            (GROUP_OBJ, 5, NONE),
            (MASK, 7, NONE),
            (OTHER, 0, NONE),
        ]);
        assert_eq!(words(&others, 0o770), None);
        assert_eq!(others.writing(&stat(0o770)).unwrap(), "ACL mask rwx lets user:33:rwx write");
        let nobody = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 5, 33),
            (GROUP_OBJ, 5, NONE),
            (MASK, 7, NONE),
            (OTHER, 0, NONE),
        ]);
        assert_eq!(nobody.writing(&stat(0o770)).unwrap(), "ACL mask rwx, which no entry uses to write");
        assert_eq!(nobody.writing(&stat(0o750)), None);
    }

    #[test]
    fn nobody_else_gains_by_what_one_is_granted() {
        let mut acl = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 33),
            (USER, 0, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 4, NONE),
            (OTHER, 0, NONE),
        ]);
        assert!(acl.grant(&stat(0o740), &user(), Access::Execute));
        let wanted = [
            (USER_OBJ, 7, NONE),
            (USER, 6, 33),
            (USER, 1, 1000),
            (GROUP_OBJ, 4, NONE),
            (MASK, 5, NONE),
            (OTHER, 0, NONE),
        ];
        assert_eq!(acl, list(&wanted));
        let mut acl = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 33),
            (USER, 0, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 5, NONE),
            (OTHER, 0, NONE),
        ]);
        assert!(acl.grant(&stat(0o750), &user(), Access::Execute));
        assert_eq!(acl.entries[1].permissions, 7, "the mask was wide enough");
    }

    #[test]
    fn a_default_list_is_closed_by_its_mask() {
        let mut acl = list(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 33),
            (GROUP_OBJ, 7, NONE),
            (MASK, 7, NONE),
            (OTHER, 7, NONE),
        ]);
        assert!(acl.close_to_writers());
        assert_eq!(acl.words(), "user::rwx,user:33:rwx,group::rwx,mask::r-x,other::r-x");
        assert!(!acl.close_to_writers());
        let mut plain = list(&[(USER_OBJ, 7, NONE), (GROUP_OBJ, 7, NONE), (OTHER, 5, NONE)]);
        assert!(plain.close_to_writers());
        assert_eq!(plain.words(), "user::rwx,group::r-x,other::r-x");
    }
}
