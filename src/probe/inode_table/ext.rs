//! Where ext2, ext3 and ext4 keep their inodes, and what one of them says (the kernel's Documentation/filesystems/ext4:
//! super block, block group descriptors, inode table, extended attributes).

use super::super::ReadAt;
use super::super::bytes::{le16, le32};
use super::TableInode;

/// More block groups than this (16 TiB of 4 KiB blocks) are not remembered.
const MOST_GROUPS: u64 = 1 << 17;
/// Read of the group descriptors at once, in bytes: a multiple of every size that they have.
const PIECE: usize = 64 << 10;
/// `INCOMPAT_META_BG`: descriptors are scattered.
const META_BG: u32 = 0x10;
/// `INCOMPAT_64BIT`.
const WIDE: u32 = 0x80;

/// The places of the inodes of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtTable {
    block: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_size: u16,
    /// The first block of each group's part of the table.
    groups: Vec<u64>,
}

impl ExtTable {
    /// Reads the superblock and the group descriptors. `None` where there is no ext filesystem, or its inodes are not
    /// to be found or read this simply.
    ///
    /// # Errors
    /// What the device says.
    pub(super) fn read(device: &dyn ReadAt) -> std::io::Result<Option<Self>> {
        let sb = device.read_at(1024, 1024)?;
        let (log_block, incompat) = (le32(&sb, 24), le32(&sb, 96));
        // The creator decides where the upper halves of owners stand (`s_creator_os`; 0 is Linux).
        if le16(&sb, 56) != 0xef53 || log_block > 6 || incompat & META_BG != 0 || le32(&sb, 72) != 0 {
            return Ok(None);
        }
        let block = 1024_u64 << log_block;
        // Revision 0 has inodes of 128 bytes and says no size.
        let inode_size = if le32(&sb, 76) == 0 { 128 } else { le16(&sb, 88) };
        let descriptor = if incompat & WIDE == 0 { 32 } else { usize::from(le16(&sb, 254)) };
        let (inodes, inodes_per_group) = (le32(&sb, 0), le32(&sb, 40));
        let sizes_fit = inode_size.is_power_of_two()
            && (128..=block).contains(&u64::from(inode_size))
            && descriptor.is_power_of_two()
            && (32..=1024).contains(&descriptor);
        if !sizes_fit || inodes == 0 || inodes_per_group == 0 {
            return Ok(None);
        }
        let groups = u64::from(inodes.div_ceil(inodes_per_group));
        if groups > MOST_GROUPS {
            return Ok(None);
        }
        let first = u64::from(le32(&sb, 20)).saturating_add(1).saturating_mul(block);
        let mut table =
            Self { block, inodes, inodes_per_group, inode_size, groups: Vec::with_capacity(groups as usize) };
        let end = first + groups * descriptor as u64;
        for at in (first..end).step_by(PIECE) {
            let length = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let bytes = device.read_at(at, length)?;
            if bytes.len() < length {
                return Ok(None);
            }
            table.groups.extend(bytes.chunks_exact(descriptor).map(|group| {
                let high = if descriptor >= 64 { u64::from(le32(group, 40)) << 32 } else { 0 };
                high | u64::from(le32(group, 8))
            }));
        }
        Ok(Some(table))
    }

    /// Bytes of an inode.
    pub(super) fn inode_size(&self) -> usize {
        self.inode_size.into()
    }

    /// The first byte of an inode on the device; `None` for a number that no inode has.
    pub(super) fn position(&self, inode: u64) -> Option<u64> {
        if inode > u64::from(self.inodes) {
            return None;
        }
        let index = inode.checked_sub(1)?;
        let per_group = u64::from(self.inodes_per_group);
        let start = *self.groups.get(usize::try_from(index / per_group).ok()?)?;
        start.checked_mul(self.block)?.checked_add(index % per_group * u64::from(self.inode_size))
    }
}

/// Reads the bytes of one inode; `None` if it is not in use.
pub(super) fn inode(bytes: &[u8]) -> Option<TableInode> {
    let (mode, nlink) = (le16(bytes, 0), le16(bytes, 26));
    let wide = |low: usize, high: usize| u32::from(le16(bytes, high)) << 16 | u32::from(le16(bytes, low));
    (mode != 0 && nlink != 0).then(|| TableInode {
        mode: mode.into(),
        uid: wide(2, 120),
        gid: wide(24, 122),
        nlink: nlink.into(),
        flags: le32(bytes, 32),
        may_have_capability: may_have_capability(bytes),
    })
}

/// Looks through the extended attributes that stand in the inode itself (`struct ext4_xattr_ibody_header`).
fn may_have_capability(inode: &[u8]) -> bool {
    /// `EXT4_XATTR_INDEX_SECURITY`.
    const SECURITY: u8 = 6;
    /// `EXT4_XATTR_MAGIC`.
    const MAGIC: u32 = 0xea02_0000;
    // A block of attributes besides (`i_file_acl`): it is not read here.
    if le32(inode, 104) != 0 || le16(inode, 118) != 0 {
        return true;
    }
    let extra = if inode.len() > 130 { usize::from(le16(inode, 128)) } else { 0 };
    let start = 128 + extra;
    if extra == 0 || start + 4 > inode.len() || le32(inode, start) != MAGIC {
        return false;
    }
    let mut at = start + 4;
    // `struct ext4_xattr_entry`: e_name_len, e_name_index, 14 bytes of the value's whereabouts, the name; four zero bytes
    // after the last.
    while let Some([length, index]) = inode.get(at..at + 2) {
        if le32(inode, at) == 0 {
            return false;
        }
        let name_end = at + 16 + usize::from(*length);
        let Some(name) = inode.get(at + 16..name_end) else { return true };
        if *index == SECURITY && name == b"capability" {
            return true;
        }
        at = name_end.next_multiple_of(4);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// Two groups of 16 inodes of 256 bytes, in blocks of 1024.
    fn device() -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        for (at, value) in [(0, 32_u32), (20, 1), (40, 16), (76, 1), (96, 0x40)] {
            put(&mut bytes, 1024 + at, &value.to_le_bytes());
        }
        put(&mut bytes, 1024 + 56, &0xef53_u16.to_le_bytes());
        put(&mut bytes, 1024 + 88, &256_u16.to_le_bytes());
        for (group, start) in [(0, 5_u32), (1, 30)] {
            put(&mut bytes, 2048 + 32 * group + 8, &start.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn inodes_are_found_by_their_numbers() {
        let table = ExtTable::read(&device()).unwrap().unwrap();
        let position = |inode| table.position(inode);
        assert_eq!(position(0), None);
        assert_eq!(position(1), Some(5 * 1024));
        assert_eq!(position(16), Some(5 * 1024 + 15 * 256));
        assert_eq!(position(17), Some(30 * 1024));
        assert_eq!(position(33), None);
        assert_eq!(position(u64::MAX), None);
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_kernel() {
        for (at, value) in [(56, 0_u32), (24, 7), (96, 0x10), (72, 1), (88, 0), (88, 4096), (40, 0), (0, 0)] {
            let mut bytes = device();
            put(&mut bytes, 1024 + at, &value.to_le_bytes());
            assert_eq!(ExtTable::read(&bytes).unwrap(), None, "{at} {value}");
        }
        let mut bytes = device();
        bytes.truncate(2048 + 40);
        assert_eq!(ExtTable::read(&bytes).unwrap(), None);
    }

    #[test]
    fn owners_have_an_upper_half() {
        let mut bytes = vec![0; 256];
        assert_eq!(inode(&bytes), None);
        for (at, value) in [(0, 0o100_644_u16), (2, 1000), (24, 7), (26, 2), (120, 1), (122, 2)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        let parsed = inode(&bytes).unwrap();
        assert_eq!((parsed.mode, parsed.uid, parsed.gid), (0o100_644, 0x1_03e8, 0x2_0007));
        assert_eq!((parsed.nlink, parsed.may_have_capability), (2, false));
    }

    #[test]
    fn a_capability_is_seen_among_other_attributes() {
        let mut inode = vec![0; 256];
        put(&mut inode, 128, &32_u16.to_le_bytes());
        put(&mut inode, 160, &0xea02_0000_u32.to_le_bytes());
        let entry = |bytes: &mut [u8], at: usize, index: u8, name: &[u8]| {
            put(bytes, at, &[name.len() as u8, index, 1]);
            put(bytes, at + 16, name);
        };
        entry(&mut inode, 164, 6, b"selinux");
        assert!(!may_have_capability(&inode));
        entry(&mut inode, 188, 6, b"capability");
        assert!(may_have_capability(&inode));
        entry(&mut inode, 188, 1, b"capability");
        assert!(!may_have_capability(&inode));
        // A name that leads out of the inode.
        inode[188] = 255;
        assert!(may_have_capability(&inode));
        let mut elsewhere = vec![0; 128];
        elsewhere[118] = 1;
        assert!(may_have_capability(&elsewhere));
    }
}
