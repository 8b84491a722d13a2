//! Inodes out of a subvolume's tree (`linux/btrfs.h`, `linux/btrfs_tree.h`), as `BTRFS_IOC_TREE_SEARCH_V2` gives its items.

use super::super::bytes::{le16, le32, le64};
use super::{APPEND_ONLY, IMMUTABLE, TableInode};

/// `struct btrfs_ioctl_search_header`: transaction, object, offset, type, length.
const HEADER: usize = 32;
/// `BTRFS_INODE_ITEM_KEY`.
const INODE: u32 = 1;
/// `BTRFS_XATTR_ITEM_KEY`.
const XATTR: u32 = 24;
/// `struct btrfs_dir_item` before its name.
const DIR_ITEM: usize = 30;

/// The inodes of so many items, in the order of their numbers. Of the last one there may be more than was given: its
/// capability may be missing, and is said to be possible.
#[must_use]
pub fn inodes(items: &[u8], count: usize) -> Vec<(u64, TableInode)> {
    let mut found: Vec<(u64, TableInode)> = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let Some(header) = items.get(at..at + HEADER) else { break };
        let (object, kind, length) = (le64(header, 8), le32(header, 24), le32(header, 28) as usize);
        let start = at + HEADER;
        let Some(item) = start.checked_add(length).and_then(|end| items.get(start..end)) else { break };
        at = start + length;
        match (kind, found.last_mut()) {
            (INODE, _) => found.extend(inode(item).map(|inode| (object, inode))),
            (XATTR, Some((number, inode))) if *number == object => {
                inode.may_have_capability |= has_capability(item);
            }
            _ => {}
        }
    }
    if let Some((_, last)) = found.last_mut() {
        last.may_have_capability = true;
    }
    found
}

/// `struct btrfs_inode_item`.
fn inode(item: &[u8]) -> Option<TableInode> {
    let (nlink, mode, flags) = (le32(item, 40), le32(item, 52), le64(item, 64));
    let shown = |bit: u64, flag: u32| if flags & bit == 0 { 0 } else { flag };
    (mode != 0 && nlink != 0).then(|| TableInode {
        mode,
        uid: le32(item, 44),
        gid: le32(item, 48),
        nlink,
        // BTRFS_INODE_IMMUTABLE, BTRFS_INODE_APPEND.
        flags: shown(1 << 6, IMMUTABLE) | shown(1 << 7, APPEND_ONLY),
        may_have_capability: false,
    })
}

/// Attributes whose names have the same hash share an item (`struct btrfs_dir_item`).
fn has_capability(item: &[u8]) -> bool {
    let mut at = 0;
    while at < item.len() {
        let Some(head) = item.get(at..at + DIR_ITEM) else { return true };
        let (data, name) = (usize::from(le16(head, 25)), usize::from(le16(head, 27)));
        let Some(name) = item.get(at + DIR_ITEM..at + DIR_ITEM + name) else { return true };
        if name == b"security.capability" {
            return true;
        }
        at += DIR_ITEM + name.len() + data;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(object: u64, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[8..16].copy_from_slice(&object.to_le_bytes());
        bytes[24..28].copy_from_slice(&kind.to_le_bytes());
        bytes[28..32].copy_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn inode_item(uid: u32) -> Vec<u8> {
        let mut body = vec![0; 160];
        for (at, value) in [(40, 1), (44, uid), (48, 7), (52, 0o100_644), (64, 0x40)] {
            body[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        }
        body
    }

    fn xattr_item(names: &[&str]) -> Vec<u8> {
        let mut body = Vec::new();
        for name in names {
            let mut head = vec![0; DIR_ITEM];
            head[25..27].copy_from_slice(&3_u16.to_le_bytes());
            head[27..29].copy_from_slice(&(name.len() as u16).to_le_bytes());
            body.extend(head);
            body.extend(name.as_bytes());
            body.extend(b"abc");
        }
        body
    }

    #[test]
    fn inodes_come_with_what_follows_them() {
        let items = [
            item(257, 12, b"the end of another"),
            item(258, INODE, &inode_item(5)),
            item(258, XATTR, &xattr_item(&["security.selinux", "user.capability"])),
            item(259, INODE, &inode_item(6)),
            item(259, XATTR, &xattr_item(&["security.selinux", "security.capability"])),
            item(260, INODE, &inode_item(100_000)),
        ];
        let read = inodes(&items.concat(), items.len());
        let brief: Vec<_> =
            read.iter().map(|(number, inode)| (*number, inode.uid, inode.may_have_capability)).collect();
        assert_eq!(brief, [(258, 5, false), (259, 6, true), (260, 100_000, true)]);
        assert_eq!(
            (read[0].1.mode, read[0].1.gid, read[0].1.nlink, read[0].1.flags),
            (0o100_644, 7, 1, IMMUTABLE)
        );
    }

    #[test]
    fn items_that_are_cut_short_are_not_read() {
        let whole = [item(258, INODE, &inode_item(5)), item(259, INODE, &inode_item(6))].concat();
        assert_eq!(inodes(&whole[..whole.len() - 1], 2).len(), 1);
        assert_eq!(inodes(&whole, 1).len(), 1);
        assert_eq!(inodes(&[], 5), []);
        let mut attributes = xattr_item(&["user.a"]);
        attributes[27] = 200;
        assert!(has_capability(&attributes));
        assert!(has_capability(&attributes[..10]));
    }
}
