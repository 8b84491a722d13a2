//! An ext filesystem whose first superblock is ruined, known by one of the copies that it keeps of it (`sparse_super` in
//! the kernel's `ext4.h`: groups 1 and the powers of 3, 5 and 7).

use super::ReadAt;
use super::bytes::{le16, le32};
use super::superblock::{Detail, ExtCopy, Superblock, ext_superblock};
use std::io;

/// The groups whose copies are looked at; of a filesystem with fewer only the first exists.
const GROUPS: [u64; 5] = [1, 3, 5, 7, 9];
/// `log2(block size) - 10` of the block sizes that there are.
const SIZES: [u32; 4] = [2, 0, 1, 6];

/// The superblock by its first good copy. To be asked only of an extent in which nothing else is found.
///
/// # Errors
/// What reading says.
pub(super) fn find(extent: &dyn ReadAt) -> io::Result<Option<Superblock>> {
    for log in SIZES {
        let size = 1024_u64 << log;
        // With blocks of 1 KiB the boot block is one of its own, before the first group.
        let first = u64::from(size == 1024);
        // As many blocks as one block has bits is what mke2fs puts into a group.
        let per_group = 8 * size;
        for group in GROUPS {
            let block = first + group * per_group;
            let Some(offset) = block.checked_mul(size).filter(|at| at + 1024 <= extent.size()) else { break };
            let bytes = extent.read_at(offset, 1024)?;
            let fits = le32(&bytes, 24) == log
                && u64::from(le16(&bytes, 90)) == group
                && u64::from(le32(&bytes, 32)) == per_group;
            let Some(mut superblock) = ext_superblock(&bytes).filter(|_| fits) else { continue };
            if let Detail::Ext(ext) = &mut superblock.detail {
                ext.copy = Some(ExtCopy { block, block_size: size });
            }
            return Ok(Some(superblock));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(log: u32, group: u16) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[..4].copy_from_slice(&64_u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&40_000_u32.to_le_bytes());
        bytes[24..28].copy_from_slice(&log.to_le_bytes());
        bytes[32..36].copy_from_slice(&(8 * (1024_u32 << log)).to_le_bytes());
        bytes[56..58].copy_from_slice(&0xef53_u16.to_le_bytes());
        bytes[90..92].copy_from_slice(&group.to_le_bytes());
        bytes[120..124].copy_from_slice(b"root");
        bytes
    }

    fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
        disk[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn copy_of(disk: Vec<u8>) -> Option<(u64, u64)> {
        let found = find(&disk).unwrap()?;
        assert_eq!(found.label.as_deref(), Some("root"));
        let Detail::Ext(ext) = found.detail else { panic!() };
        ext.copy.map(|copy| (copy.block, copy.block_size))
    }

    #[test]
    fn the_first_good_copy_is_taken() {
        let mut disk = vec![0; 40 << 20];
        assert_eq!(find(&disk).unwrap(), None);
        put(&mut disk, 8193 << 10, &superblock(0, 1));
        assert_eq!(copy_of(disk.clone()), Some((8193, 1024)));
        put(&mut disk, 8193 << 10, &[0; 1024]);
        put(&mut disk, 24577 << 10, &superblock(0, 3));
        assert_eq!(copy_of(disk), Some((24577, 1024)));
    }

    #[test]
    fn what_says_that_it_lies_elsewhere_is_no_copy_of_this_one() {
        let mut disk = vec![0; 40 << 20];
        put(&mut disk, 8193 << 10, &superblock(0, 0));
        put(&mut disk, 24577 << 10, &superblock(1, 3));
        assert_eq!(find(&disk).unwrap(), None);
    }
}
