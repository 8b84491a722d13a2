//! Inodes out of a subvolume's tree (`linux/btrfs.h`, `linux/btrfs_tree.h`), as `BTRFS_IOC_TREE_SEARCH_V2` gives its items.

use super::super::bytes::{le32, le64};
use super::{APPEND_ONLY, IMMUTABLE, TableInode};

/// `struct btrfs_ioctl_search_header`: transaction, object, offset, type, length.
const HEADER: usize = 32;
/// `BTRFS_INODE_ITEM_KEY`.
const INODE: u32 = 1;

/// The inodes of so many items, in the order of their numbers.
#[must_use]
pub fn inodes(items: &[u8], count: usize) -> Vec<(u64, TableInode)> {
    let mut found = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let Some(header) = items.get(at..at + HEADER) else { break };
        let (object, kind, length) = (le64(header, 8), le32(header, 24), le32(header, 28) as usize);
        let start = at + HEADER;
        let Some(item) = start.checked_add(length).and_then(|end| items.get(start..end)) else { break };
        at = start + length;
        if kind == INODE {
            found.extend(inode(item).map(|inode| (object, inode)));
        }
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
        // Attributes are items of their own.
        may_have_capability: true,
    })
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

    #[test]
    fn inodes_come_out_of_what_stands_between_them() {
        let items = [
            item(257, 12, b"the end of another"),
            item(258, INODE, &inode_item(5)),
            item(258, 24, b"an attribute"),
            item(259, INODE, &[0; 160]),
            item(260, INODE, &inode_item(100_000)),
        ];
        let read = inodes(&items.concat(), items.len());
        let brief: Vec<_> = read.iter().map(|(number, inode)| (*number, inode.uid)).collect();
        assert_eq!(brief, [(258, 5), (260, 100_000)]);
        let TableInode { mode, gid, nlink, flags, .. } = read[0].1;
        assert_eq!((mode, gid, nlink, flags), (0o100_644, 7, 1, IMMUTABLE));
    }

    #[test]
    fn items_that_are_cut_short_are_not_read() {
        let whole = [item(258, INODE, &inode_item(5)), item(259, INODE, &inode_item(6))].concat();
        assert_eq!(inodes(&whole[..whole.len() - 1], 2).len(), 1);
        assert_eq!(inodes(&whole, 1).len(), 1);
        assert_eq!(inodes(&[], 5), []);
    }
}
