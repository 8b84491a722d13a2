//! Where xfs keeps its inodes, and what one of them says (the kernel's `xfs_format.h`: `xfs_dsb`, `xfs_dinode`). All
//! numbers but checksums are big-endian.

use super::super::ReadAt;
use super::super::bytes::{array, be16, be32, be64, has};
use super::{APPEND_ONLY, IMMUTABLE, TableInode};
use std::io;

/// Incompatible features with which inodes are where and what is read here: all from `FTYPE` to `METADIR`.
const KNOWN: u32 = 0x1ff;
/// `XFS_SB_FEAT_INCOMPAT_META_UUID`: inodes bear another UUID than the superblock.
const META_UUID: u32 = 4;

/// The places of the inodes of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct XfsTable {
    block: u64,
    /// Allocation groups, and blocks of each.
    groups: u64,
    group_blocks: u64,
    inode_size: u16,
    /// Bits of an inode number: within the block, and of the block within the group.
    inode_bits: u8,
    block_bits: u8,
    uuid: [u8; 16],
}

impl XfsTable {
    /// Reads the superblock; `None` where there is no xfs of version 5, or one with features unknown here.
    pub(super) fn read(device: &dyn ReadAt) -> io::Result<Option<Self>> {
        let sb = device.read_at(0, 512)?;
        let byte = |at: usize| sb.get(at).copied().unwrap_or_default();
        let (version, incompat) = (be16(&sb, 100) & 0xf, be32(&sb, 216));
        if !has(&sb, 0, b"XFSB") || version != 5 || incompat & !KNOWN != 0 {
            return Ok(None);
        }
        let table = Self {
            block: be32(&sb, 4).into(),
            groups: be32(&sb, 88).into(),
            group_blocks: be32(&sb, 84).into(),
            inode_size: be16(&sb, 104),
            inode_bits: byte(123),
            block_bits: byte(124),
            uuid: array(&sb, if incompat & META_UUID == 0 { 32 } else { 248 }),
        };
        let fits = table.block.is_power_of_two()
            && (512..=65536).contains(&table.block)
            && table.inode_size.is_power_of_two()
            && (256..=table.block).contains(&u64::from(table.inode_size))
            && table.block_bits <= 32
            && table.block.checked_shr(table.inode_bits.into()) == Some(table.inode_size.into());
        Ok(fits.then_some(table))
    }

    pub(super) fn inode_size(&self) -> usize {
        self.inode_size.into()
    }

    /// `XFS_INO_TO_AGNO`, `XFS_INO_TO_AGBNO` and `XFS_INO_TO_OFFSET`: the number says where the inode is.
    pub(super) fn position(&self, inode: u64) -> Option<u64> {
        let within = |bits: u8| (1_u64 << bits) - 1;
        let group = inode >> (self.inode_bits + self.block_bits);
        let block = inode >> self.inode_bits & within(self.block_bits);
        if group >= self.groups || block >= self.group_blocks {
            return None;
        }
        let start = (group * self.group_blocks + block).checked_mul(self.block)?;
        start.checked_add((inode & within(self.inode_bits)) * u64::from(self.inode_size))
    }

    /// What was once an inode and is none now keeps its magic, but not its mode.
    pub(super) fn inode(&self, number: u64, bytes: &[u8]) -> Option<TableInode> {
        let (mode, nlink) = (be16(bytes, 2), be32(bytes, 16));
        let is_it = has(bytes, 0, b"IN")
            && bytes.get(4) == Some(&3)
            && be64(bytes, 152) == number
            && array::<16>(bytes, 160) == self.uuid;
        if !is_it || mode == 0 || nlink == 0 {
            return None;
        }
        let flags = be16(bytes, 90);
        let shown = |bit: u16, flag: u32| if flags & bit == 0 { 0 } else { flag };
        Some(TableInode {
            mode: mode.into(),
            uid: be32(bytes, 8),
            gid: be32(bytes, 12),
            nlink,
            // XFS_DIFLAG_IMMUTABLE, XFS_DIFLAG_APPEND.
            flags: shown(1 << 3, IMMUTABLE) | shown(1 << 4, APPEND_ONLY),
            // Attributes are written as late as the rest, but nothing that statx tells shows it.
            may_have_capability: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// Four groups of 1000 blocks of 4096 bytes, with eight inodes of 512 in a block.
    fn superblock() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        put(&mut bytes, 0, b"XFSB");
        for (at, value) in [(4, 4096_u32), (84, 1000), (88, 4), (216, 0x1b)] {
            put(&mut bytes, at, &value.to_be_bytes());
        }
        put(&mut bytes, 32, &[7; 16]);
        put(&mut bytes, 248, &[8; 16]);
        put(&mut bytes, 100, &0xb4b5_u16.to_be_bytes());
        put(&mut bytes, 104, &512_u16.to_be_bytes());
        put(&mut bytes, 123, &[3, 10]);
        bytes
    }

    fn inode(number: u64) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        put(&mut bytes, 0, b"IN");
        put(&mut bytes, 2, &0o100_644_u16.to_be_bytes());
        put(&mut bytes, 4, &[3]);
        for (at, value) in [(8, 70_000_u32), (12, 80_000), (16, 2)] {
            put(&mut bytes, at, &value.to_be_bytes());
        }
        put(&mut bytes, 152, &number.to_be_bytes());
        put(&mut bytes, 160, &[7; 16]);
        bytes
    }

    #[test]
    fn a_number_says_where_the_inode_is() {
        let table = XfsTable::read(&superblock()).unwrap().unwrap();
        assert_eq!(table.position(128), Some(16 * 4096));
        assert_eq!(table.position(131), Some(16 * 4096 + 3 * 512));
        assert_eq!(table.position(2 << 13 | 5 << 3 | 7), Some(2005 * 4096 + 7 * 512));
        assert_eq!(table.position(1000 << 3), None);
        assert_eq!(table.position(4 << 13), None);
        assert_eq!(table.position(u64::MAX), None);
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_kernel() {
        for (at, value) in
            [(0, 0_u8), (101, 0xb4), (217, 2), (123, 4), (123, 255), (124, 33), (104, 64), (6, 0)]
        {
            let mut bytes = superblock();
            bytes[at] = value;
            assert_eq!(XfsTable::read(&bytes).unwrap(), None, "{at} {value}");
        }
        assert_eq!(XfsTable::read(&vec![0; 100]).unwrap(), None);
    }

    #[test]
    fn an_inode_is_known_by_its_number_and_uuid() {
        let table = XfsTable::read(&superblock()).unwrap().unwrap();
        let read = table.inode(131, &inode(131)).unwrap();
        let expected = TableInode {
            mode: 0o100_644,
            uid: 70_000,
            gid: 80_000,
            nlink: 2,
            flags: 0,
            may_have_capability: true,
        };
        assert_eq!(read, expected);
        assert_eq!(table.inode(132, &inode(131)), None);
        for (at, value) in [(0, 0), (2, 0), (4, 2), (19, 0), (160, 9)] {
            let mut bytes = inode(131);
            bytes[at] = value;
            if at == 2 {
                bytes[3] = 0;
            }
            assert_eq!(table.inode(131, &bytes), None, "{at}");
        }
        let mut other = superblock();
        other[219] |= 4;
        let table = XfsTable::read(&other).unwrap().unwrap();
        assert_eq!(table.inode(131, &inode(131)), None);
        let mut flags = inode(131);
        put(&mut flags, 90, &0x18_u16.to_be_bytes());
        put(&mut flags, 160, &[8; 16]);
        assert_eq!(table.inode(131, &flags).unwrap().flags, 0x30);
    }
}
