//! The signatures of what is only named: other filesystems, containers, image formats.

use super::ReadAt;
use super::bytes::{be16, be32, be64, has, le16, le32, le64, name, uuid};
use super::md::MAGIC as MD_MAGIC;
use super::superblock::{Kind, Superblock};
use std::io;

/// All signatures that `extent`, which begins with `head`, has besides ext, xfs and btrfs.
pub(super) fn probe(extent: &dyn ReadAt, head: &[u8]) -> io::Result<Vec<Superblock>> {
    let mut found: Vec<Superblock> = [
        windows(head),
        luks(head),
        lvm2(head),
        swap(head),
        at_start(head),
        at_1024(head),
        at_4096(head),
        far(head),
        image(head),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.extend(at_end(extent, head)?);
    Ok(found)
}

fn only(kind: Kind) -> Superblock {
    Superblock::named(kind, None, None)
}

/// What has a boot sector as MS-DOS had it.
fn windows(head: &[u8]) -> Option<Superblock> {
    let serial = |at: usize| {
        let number = le32(head, at);
        (number != 0).then(|| format!("{:04x}-{:04x}", number >> 16, number & 0xffff))
    };
    if has(head, 3, b"-FVE-FS-") {
        return Some(only(Kind::BitLocker));
    }
    if has(head, 3, b"NTFS    ") {
        let serial = le64(head, 72);
        return Some(Superblock::named(Kind::Ntfs, Some(format!("{serial:016x}")), None));
    }
    if has(head, 3, b"EXFAT   ") {
        return Some(Superblock::named(Kind::ExFat, serial(100), None));
    }
    if !has(head, 510, &[0x55, 0xaa]) || !matches!(head.first(), Some(0xeb | 0xe9)) {
        return None;
    }
    let sector = le16(head, 11);
    if !sector.is_power_of_two() || sector < 512 {
        return None;
    }
    let label = |at| name(head, at, 11).filter(|l| l != "NO NAME");
    if has(head, 82, b"FAT32   ") {
        return Some(Superblock::named(Kind::Vfat, serial(67), label(71)));
    }
    if [&b"FAT12   "[..], b"FAT16   ", b"FAT     "].iter().any(|magic| has(head, 54, magic)) {
        return Some(Superblock::named(Kind::Vfat, serial(39), label(43)));
    }
    None
}

fn luks(head: &[u8]) -> Option<Superblock> {
    if !has(head, 0, b"LUKS\xba\xbe") {
        return None;
    }
    let (kind, label) = match be16(head, 6) {
        1 => (Kind::Luks1, None),
        _ => (Kind::Luks2, name(head, 24, 48)),
    };
    Some(Superblock::named(kind, name(head, 168, 40), label))
}

fn lvm2(head: &[u8]) -> Option<Superblock> {
    let sector =
        (0..4).map(|n| n * 512).find(|&at| has(head, at, b"LABELONE") && has(head, at + 24, b"LVM2 001"))?;
    Some(Superblock::named(Kind::Lvm2, name(head, sector + 32, 32), None))
}

/// The signature stands at the end of the first page of the machine that made it.
fn swap(head: &[u8]) -> Option<Superblock> {
    let at_end = |page: usize, magic: &[u8]| has(head, page - magic.len(), magic);
    let magics: [&[u8]; 2] = [b"SWAPSPACE2", b"SWAP-SPACE"];
    let pages = [4096, 8192, 16384, 32768, 65536];
    let found = pages.iter().any(|&page| magics.iter().any(|magic| at_end(page, magic)));
    found.then(|| Superblock::named(Kind::Swap, uuid(head, 1036), name(head, 1052, 16)))
}

fn at_start(head: &[u8]) -> Option<Superblock> {
    if has(head, 0, b"hsqs") {
        return Some(only(Kind::Squashfs));
    }
    if has(head, 32, b"NXSB") {
        return Some(only(Kind::Apfs));
    }
    (le32(head, 0) == MD_MAGIC && le32(head, 4) == 1).then(|| md(head, 0))
}

fn at_1024(head: &[u8]) -> Option<Superblock> {
    match le32(head, 1024) {
        0xe0f5_e1e2 => return Some(Superblock::named(Kind::Erofs, uuid(head, 1072), name(head, 1088, 16))),
        0xf2f5_2010 => return Some(Superblock::named(Kind::F2fs, uuid(head, 1132), None)),
        _ => {}
    }
    let hfs = (has(head, 1024, b"H+") && be16(head, 1026) == 4)
        || (has(head, 1024, b"HX") && be16(head, 1026) == 5);
    hfs.then(|| only(Kind::Hfs))
}

fn at_4096(head: &[u8]) -> Option<Superblock> {
    const BCACHE: [u8; 16] =
        [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];
    const BCACHEFS: [u8; 16] =
        [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef];
    if has(head, 4120, &BCACHEFS) {
        return Some(only(Kind::Bcachefs));
    }
    if has(head, 4120, &BCACHE) {
        return Some(only(Kind::Bcache));
    }
    (le32(head, 4096) == MD_MAGIC && le32(head, 4100) == 1).then(|| md(head, 4096))
}

fn far(head: &[u8]) -> Option<Superblock> {
    if has(head, 32769, b"CD001") {
        return Some(Superblock::named(Kind::Iso9660, None, name(head, 32808, 32)));
    }
    if has(head, 32768, b"JFS1") {
        return Some(only(Kind::Jfs));
    }
    let reiser =
        has(head, 65588, b"ReIsErFs") || has(head, 65588, b"ReIsEr2Fs") || has(head, 65588, b"ReIsEr3Fs");
    reiser.then(|| only(Kind::Reiserfs))
}

fn image(head: &[u8]) -> Option<Superblock> {
    let magics: [(usize, &[u8], Kind); 10] = [
        (0, b"QFI\xfb", Kind::Qcow2),
        (0, b"KDMV", Kind::Vmdk),
        (0, b"COWD", Kind::Vmdk),
        (0, b"# Disk DescriptorFile", Kind::Vmdk),
        (0, b"vhdxfile", Kind::Vhdx),
        (64, &[0x7f, 0x10, 0xda, 0xbe], Kind::Vdi),
        (0, &[0x1f, 0x8b, 8], Kind::Gzip),
        (0, &[0xfd, b'7', b'z', b'X', b'Z', 0], Kind::Xz),
        (0, &[0x28, 0xb5, 0x2f, 0xfd], Kind::Zstd),
        (0, b"BZh", Kind::Bzip2),
    ];
    let found = magics.iter().find(|(at, magic, _)| has(head, *at, magic));
    found.map(|(_, _, kind)| only(*kind)).or_else(|| vhd(head, 0))
}

/// A VHD has its footer at the end; the dynamic ones have a copy at the start.
fn vhd(bytes: &[u8], at: usize) -> Option<Superblock> {
    (has(bytes, at, b"conectix") && be32(bytes, at + 12) >> 16 == 1 && be64(bytes, at + 48) != 0)
        .then(|| only(Kind::Vhd))
}

/// What keeps its superblock at the end. A member of an old RAID1 looks like a plain filesystem at its start, and one
/// of the mirrors must not be written alone: so this is always looked for.
fn at_end(extent: &dyn ReadAt, head: &[u8]) -> io::Result<Option<Superblock>> {
    const TAIL: u64 = 128 << 10;
    let size = extent.size();
    let start = size.saturating_sub(TAIL);
    let tail = extent.read_at(start, TAIL as usize)?;
    let within = |at: u64| at.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    let one = (size / 512).checked_sub(16).map(|sectors| (sectors & !7) * 512).and_then(within);
    if let Some(at) = one
        && le32(&tail, at) == MD_MAGIC
        && le32(&tail, at + 4) == 1
    {
        return Ok(Some(md(&tail, at)));
    }
    let old = (size & !0xffff).checked_sub(0x1_0000).and_then(within);
    if let Some(at) = old
        && le32(&tail, at) == MD_MAGIC
        && le32(&tail, at + 4) == 0
    {
        return Ok(Some(only(Kind::MdRaid)));
    }
    let footer = tail.len().checked_sub(512);
    Ok(footer.filter(|_| vhd(head, 0).is_none()).and_then(|at| vhd(&tail, at)))
}

/// A superblock of md metadata version 1.
fn md(bytes: &[u8], at: usize) -> Superblock {
    Superblock::named(Kind::MdRaid, uuid(bytes, at + 16), name(bytes, at + 32, 32))
}

/// Whether an uberblock stands in the first label of a vdev.
pub(super) fn is_zfs(extent: &dyn ReadAt) -> io::Result<bool> {
    const MAGIC: u64 = 0x00ba_b10c;
    let ring = extent.read_at(128 << 10, 128 << 10)?;
    Ok(ring.chunks(1024).any(|block| le64(block, 0) == MAGIC || be64(block, 0) == MAGIC))
}

#[cfg(test)]
mod tests {
    use super::super::{Content, probe};
    use super::*;

    fn with(size: usize, parts: &[(usize, &[u8])]) -> Content {
        let mut bytes = vec![0; size];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        probe(&bytes).unwrap()
    }

    fn kind(size: usize, parts: &[(usize, &[u8])]) -> Kind {
        with(size, parts).superblock().unwrap().kind
    }

    #[test]
    fn what_can_not_be_rescued_is_named() {
        let md = MD_MAGIC.to_le_bytes();
        let one = [1, 0, 0, 0];
        assert_eq!(kind(1 << 20, &[(0, b"LUKS\xba\xbe\0\x02")]), Kind::Luks2);
        assert_eq!(kind(1 << 20, &[(0, b"LUKS\xba\xbe\0\x01")]), Kind::Luks1);
        assert_eq!(kind(1 << 20, &[(512, b"LABELONE"), (536, b"LVM2 001")]), Kind::Lvm2);
        assert_eq!(kind(1 << 20, &[(4086, b"SWAPSPACE2")]), Kind::Swap);
        assert_eq!(kind(1 << 20, &[(3, b"NTFS    ")]), Kind::Ntfs);
        assert_eq!(kind(1 << 20, &[(0, b"QFI\xfb")]), Kind::Qcow2);
        assert_eq!(kind(1 << 20, &[(32769, b"CD001")]), Kind::Iso9660);
        assert_eq!(kind(1 << 20, &[((128 << 10) + 2048, &0x00ba_b10c_u64.to_le_bytes())]), Kind::Zfs);
        assert_eq!(kind(1 << 20, &[(0, &md), (4, &one)]), Kind::MdRaid);
        assert_eq!(kind(1 << 20, &[(4096, &md), (4100, &one)]), Kind::MdRaid);
        assert_eq!(kind(1 << 20, &[((1 << 20) - 65536, &md)]), Kind::MdRaid);
        assert_eq!(kind(1 << 20, &[((1 << 20) - 8192, &md), ((1 << 20) - 8188, &one)]), Kind::MdRaid);
        let vhd = (1 << 20) - 512;
        assert_eq!(kind(1 << 20, &[(vhd, b"conectix"), (vhd + 13, &[1]), (vhd + 48, &[1; 8])]), Kind::Vhd);
    }

    #[test]
    fn a_mirror_half_with_its_superblock_at_the_end_is_ambiguous() {
        let mut bytes = vec![0; 1 << 20];
        bytes[..4].copy_from_slice(b"XFSB");
        bytes[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        let at = (1 << 20) - 65536;
        bytes[at..at + 4].copy_from_slice(&MD_MAGIC.to_le_bytes());
        assert_eq!(probe(&bytes).unwrap(), Content::Ambiguous(vec![Kind::Xfs, Kind::MdRaid]));
    }
}
