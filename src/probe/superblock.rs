//! Superblocks: what a partition holds. The three filesystems that can be rescued are read field by field (the layouts
//! are those of the kernel's `ext4.h`, `xfs_format.h` and `btrfs_tree.h`), everything else is only named.

use super::bytes::{be16, be32, be64, has, le16, le32, le64, name, uuid};
use super::{ReadAt, container};
use std::io;

/// How much of the start is read at once: all signatures but those of ZFS lie here.
pub(super) const HEAD: usize = 132 << 10;

/// What a signature stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    ExFat,
    Ntfs,
    BitLocker,
    Luks1,
    Luks2,
    Lvm2,
    MdRaid,
    Swap,
    Squashfs,
    Erofs,
    F2fs,
    Zfs,
    Bcachefs,
    Bcache,
    Iso9660,
    Jfs,
    Reiserfs,
    Apfs,
    Hfs,
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Vdi,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

impl Kind {
    /// The name that the tools of the trade have for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::ExFat => "exfat",
            Self::Ntfs => "NTFS",
            Self::BitLocker => "BitLocker",
            Self::Luks1 => "LUKS1",
            Self::Luks2 => "LUKS2",
            Self::Lvm2 => "LVM2 physical volume",
            Self::MdRaid => "md RAID member",
            Self::Swap => "swap",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::F2fs => "f2fs",
            Self::Zfs => "ZFS",
            Self::Bcachefs => "bcachefs",
            Self::Bcache => "bcache",
            Self::Iso9660 => "iso9660",
            Self::Jfs => "jfs",
            Self::Reiserfs => "reiserfs",
            Self::Apfs => "apfs",
            Self::Hfs => "hfsplus",
            Self::Qcow2 => "qcow2 image",
            Self::Vmdk => "VMDK image",
            Self::Vhd => "VHD image",
            Self::Vhdx => "VHDX image",
            Self::Vdi => "VDI image",
            Self::Gzip => "gzip-compressed file",
            Self::Xz => "xz-compressed file",
            Self::Zstd => "zstd-compressed file",
            Self::Bzip2 => "bzip2-compressed file",
        }
    }

    /// Whether it is one of the filesystems that a root can be repaired on.
    #[must_use]
    pub fn is_rescuable(self) -> bool {
        matches!(self, Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Xfs | Self::Btrfs)
    }

    /// What to do with it instead, a sentence; `None` where there is nothing to say.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Luks1 | Self::Luks2 => {
                "It is encrypted: --luks-key FILE opens it, or a passphrase that is typed on the terminal."
            }
            Self::BitLocker => "It is encrypted by Windows; there is nothing to rescue here.",
            Self::Lvm2 => {
                "No logical volume could be read from it; activate its group with vgchange -ay and give the logical volume \
                 (/dev/VG/LV) as target."
            }
            Self::MdRaid => {
                "Only members of a RAID1 are opened here: assemble the array with mdadm and give the array as target."
            }
            Self::Qcow2 | Self::Vmdk | Self::Vhd | Self::Vhdx | Self::Vdi => {
                "It is an image on a device; only files are opened as images: copy it into one with qemu-img convert -O raw."
            }
            Self::Gzip | Self::Xz | Self::Zstd | Self::Bzip2 => {
                "Decompress it and give the image itself as target."
            }
            Self::Ntfs | Self::ExFat | Self::Apfs | Self::Hfs => "It is not a Linux filesystem.",
            Self::Swap => "It is swap space; the root is elsewhere.",
            Self::Iso9660 | Self::Squashfs | Self::Erofs => {
                "It can't be written; give the installed disk as target."
            }
            Self::F2fs | Self::Zfs | Self::Bcachefs | Self::Bcache | Self::Jfs | Self::Reiserfs => {
                "Only ext2, ext3, ext4, xfs and btrfs can be repaired."
            }
            Self::Vfat | Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Xfs | Self::Btrfs => return None,
        })
    }
}

/// What an extent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Only zeros where signatures would be.
    Empty,
    /// Readable text.
    Text,
    /// Bytes that mean nothing here.
    Unknown,
    /// One thing.
    Found(Superblock),
    /// The signatures of several things at once.
    Ambiguous(Vec<Kind>),
}

impl Content {
    /// The superblock, if there is one.
    #[must_use]
    pub fn superblock(&self) -> Option<&Superblock> {
        match self {
            Self::Found(superblock) => Some(superblock),
            _ => None,
        }
    }

    /// In a few words: "ext4", "nothing", "ext4 and swap at once".
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Empty => "nothing".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Unknown => "nothing known".to_owned(),
            Self::Found(superblock) if superblock.copy().is_some() => {
                format!("{} with a ruined first superblock", superblock.kind.name())
            }
            Self::Found(superblock) => superblock.kind.name().to_owned(),
            Self::Ambiguous(kinds) => {
                let names: Vec<_> = kinds.iter().map(|k| k.name()).collect();
                format!("signatures of {} at once", names.join(" and "))
            }
        }
    }
}

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// What it is of.
    pub kind: Kind,
    /// The filesystem's id, in lower case.
    pub uuid: Option<String>,
    /// The filesystem's name.
    pub label: Option<String>,
    /// What only some kinds have.
    pub detail: Detail,
}

/// What only some kinds have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the kinds")]
pub enum Detail {
    None,
    Ext(Ext),
    Xfs(Xfs),
    Btrfs(Btrfs),
}

/// The superblock of ext2, ext3, ext4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext {
    /// Size of the filesystem in bytes.
    pub size: u64,
    /// Features that a kernel must know to mount it at all.
    pub incompat: Vec<String>,
    /// Features that a kernel must know to write to it.
    pub ro_compat: Vec<String>,
    /// The journal holds what is not yet in place (`EXT4_FEATURE_INCOMPAT_RECOVER`).
    pub needs_recovery: bool,
    /// `s_state` has `EXT2_VALID_FS`.
    pub valid: bool,
    /// `s_state` has `EXT2_ERROR_FS`: the kernel met an inconsistency.
    pub errors: bool,
    /// The journal lies on another device.
    pub external_journal: bool,
    /// Where it was mounted last.
    pub last_mounted: Option<String>,
    /// The first superblock is ruined; all of this is from a copy.
    pub copy: Option<ExtCopy>,
}

/// Where a copy of the superblock of ext lies, as `e2fsck -b -B` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtCopy {
    /// The number of its block.
    pub block: u64,
    /// Size of a block in bytes.
    pub block_size: u64,
}

/// The superblock of xfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xfs {
    /// 4 or 5.
    pub version: u16,
    /// Size of the data section in bytes.
    pub size: u64,
    /// The sector size that it was made for.
    pub sector_size: u16,
    /// Features that a kernel must know to mount it at all.
    pub incompat: Vec<String>,
    /// Features that a kernel must know to write to it.
    pub ro_compat: Vec<String>,
    /// The log lies on another device.
    pub external_log: bool,
    /// There is a realtime section on another device.
    pub realtime: bool,
}

/// The superblock of btrfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Btrfs {
    /// Size of the devices together, in bytes.
    pub size: u64,
    /// Size of this device, in bytes.
    pub device_size: u64,
    /// Devices that the filesystem spans.
    pub devices: u64,
    /// The tree log holds what is not yet in place.
    pub log_root: bool,
    /// Features that a kernel must know to mount it at all.
    pub incompat: Vec<String>,
    /// Features that a kernel must know to write to it.
    pub ro_compat: Vec<String>,
}

impl Superblock {
    /// A superblock of which no more is known.
    pub(super) fn named(kind: Kind, uuid: Option<String>, label: Option<String>) -> Self {
        Self { kind, uuid, label, detail: Detail::None }
    }

    /// The copy that it was read from, where the first superblock is ruined.
    #[must_use]
    pub fn copy(&self) -> Option<ExtCopy> {
        match &self.detail {
            Detail::Ext(ext) => ext.copy,
            _ => None,
        }
    }

    /// Bytes that the filesystem needs of its device, where it is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match &self.detail {
            Detail::None => None,
            Detail::Ext(ext) => Some(ext.size),
            Detail::Xfs(xfs) => Some(xfs.size),
            Detail::Btrfs(btrfs) => Some(btrfs.device_size),
        }
    }

    /// Whether a journal is known to wait for replay. xfs does not say so in its superblock: `None`.
    #[must_use]
    pub fn dirty(&self) -> Option<bool> {
        match &self.detail {
            Detail::Ext(ext) => Some(ext.needs_recovery),
            Detail::Btrfs(btrfs) => Some(btrfs.log_root),
            Detail::Xfs(_) | Detail::None => None,
        }
    }

    /// The features that a kernel may lack, by name.
    #[must_use]
    pub fn features(&self) -> Vec<&str> {
        let (incompat, ro_compat) = match &self.detail {
            Detail::None => return Vec::new(),
            Detail::Ext(d) => (&d.incompat, &d.ro_compat),
            Detail::Xfs(d) => (&d.incompat, &d.ro_compat),
            Detail::Btrfs(d) => (&d.incompat, &d.ro_compat),
        };
        incompat.iter().chain(ro_compat).map(String::as_str).collect()
    }
}

/// What `extent` holds.
///
/// # Errors
/// What reading says.
pub fn probe(extent: &dyn ReadAt) -> io::Result<Content> {
    let head = extent.read_at(0, HEAD)?;
    let mut found: Vec<Superblock> = [ext(&head), xfs(&head), btrfs(&head)].into_iter().flatten().collect();
    found.extend(container::probe(extent, &head)?);
    if found.len() > 1 {
        return Ok(Content::Ambiguous(found.into_iter().map(|s| s.kind).collect()));
    }
    if let Some(superblock) = found.pop() {
        return Ok(Content::Found(superblock));
    }
    if container::is_zfs(extent)? {
        return Ok(Content::Found(Superblock::named(Kind::Zfs, None, None)));
    }
    if head.iter().all(|&b| b == 0) {
        return Ok(Content::Empty);
    }
    let text = |&b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..=0xff);
    let start = &head[..head.len().min(4096)];
    Ok(if start.iter().all(text) && std::str::from_utf8(&start[..start.len().min(512)]).is_ok() {
        Content::Text
    } else {
        Content::Unknown
    })
}

/// The names of the bits that are set; a bit without a name is given as a number.
fn flags(bits: u64, names: &[(u64, &str)]) -> Vec<String> {
    (0..64)
        .map(|shift| 1_u64 << shift)
        .filter(|bit| bits & bit != 0)
        .map(|bit| {
            let known = names.iter().find(|(b, _)| *b == bit);
            known.map_or_else(|| format!("unknown feature {bit:#x}"), |(_, name)| (*name).to_owned())
        })
        .collect()
}

fn ext(head: &[u8]) -> Option<Superblock> {
    ext_superblock(head.get(1024..2048)?)
}

/// The 1024 bytes of one, wherever they stand.
pub(super) fn ext_superblock(sb: &[u8]) -> Option<Superblock> {
    let (log_block, inodes) = (le32(sb, 24), le32(sb, 0));
    if le16(sb, 56) != 0xef53 || log_block > 6 || inodes == 0 {
        return None;
    }
    let (compat, incompat, ro_compat) = (le32(sb, 92), le32(sb, 96), le32(sb, 100));
    let high = if incompat & 0x80 != 0 { u64::from(le32(sb, 336)) << 32 } else { 0 };
    let blocks = high | u64::from(le32(sb, 4));
    let journal = compat & 4 != 0;
    let kind = if incompat & !0x1e != 0 || ro_compat & !7 != 0 {
        Kind::Ext4
    } else if journal || incompat & 0x8 != 0 {
        Kind::Ext3
    } else {
        Kind::Ext2
    };
    let state = le16(sb, 58);
    let detail = Detail::Ext(Ext {
        size: blocks.saturating_mul(1024 << log_block),
        incompat: flags(u64::from(incompat), EXT_INCOMPAT),
        ro_compat: flags(u64::from(ro_compat), EXT_RO_COMPAT),
        needs_recovery: incompat & 4 != 0,
        valid: state & 1 != 0,
        errors: state & 2 != 0,
        external_journal: incompat & 8 != 0 || journal && le32(sb, 228) != 0,
        last_mounted: name(sb, 136, 64),
        copy: None,
    });
    Some(Superblock { kind, uuid: uuid(sb, 104), label: name(sb, 120, 16), detail })
}

const EXT_INCOMPAT: &[(u64, &str)] = &[
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];

const EXT_RO_COMPAT: &[(u64, &str)] = &[
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x4, "btree_dir"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x80, "has_snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
    (0x1_0000, "orphan_present"),
];

fn xfs(head: &[u8]) -> Option<Superblock> {
    let block = be32(head, 4);
    if !has(head, 0, b"XFSB") || !block.is_power_of_two() || !(512..=65536).contains(&block) {
        return None;
    }
    let version = be16(head, 100) & 15;
    let five = version >= 5;
    let detail = Detail::Xfs(Xfs {
        version,
        size: be64(head, 8).saturating_mul(u64::from(block)),
        sector_size: be16(head, 102),
        incompat: if five { flags(u64::from(be32(head, 216)), XFS_INCOMPAT) } else { Vec::new() },
        ro_compat: if five { flags(u64::from(be32(head, 212)), XFS_RO_COMPAT) } else { Vec::new() },
        external_log: be64(head, 48) == 0,
        realtime: be64(head, 16) != 0,
    });
    Some(Superblock { kind: Kind::Xfs, uuid: uuid(head, 32), label: name(head, 108, 12), detail })
}

const XFS_INCOMPAT: &[(u64, &str)] = &[
    (0x1, "ftype"),
    (0x2, "sparse"),
    (0x4, "meta_uuid"),
    (0x8, "bigtime"),
    (0x10, "needsrepair"),
    (0x20, "nrext64"),
    (0x40, "exchange"),
    (0x80, "parent"),
    (0x100, "metadir"),
    (0x200, "zoned"),
    (0x400, "zone_gaps"),
];

const XFS_RO_COMPAT: &[(u64, &str)] =
    &[(0x1, "finobt"), (0x2, "rmapbt"), (0x4, "reflink"), (0x8, "inobtcount")];

fn btrfs(head: &[u8]) -> Option<Superblock> {
    let sb = head.get(65536..65536 + 4096)?;
    // The superblock says where it lies; a copy of one in a file does not say 64 KiB.
    if !has(sb, 64, b"_BHRfS_M") || le64(sb, 48) != 65536 {
        return None;
    }
    let detail = Detail::Btrfs(Btrfs {
        size: le64(sb, 112),
        device_size: le64(sb, 209),
        devices: le64(sb, 136),
        log_root: le64(sb, 96) != 0,
        incompat: flags(le64(sb, 188), BTRFS_INCOMPAT),
        ro_compat: flags(le64(sb, 180), BTRFS_RO_COMPAT),
    });
    Some(Superblock { kind: Kind::Btrfs, uuid: uuid(sb, 32), label: name(sb, 299, 256), detail })
}

const BTRFS_INCOMPAT: &[(u64, &str)] = &[
    (0x1, "mixed_backref"),
    (0x2, "default_subvol"),
    (0x4, "mixed_groups"),
    (0x8, "compress_lzo"),
    (0x10, "compress_zstd"),
    (0x20, "big_metadata"),
    (0x40, "extended_iref"),
    (0x80, "raid56"),
    (0x100, "skinny_metadata"),
    (0x200, "no_holes"),
    (0x400, "metadata_uuid"),
    (0x800, "raid1c34"),
    (0x1000, "zoned"),
    (0x2000, "extent_tree_v2"),
    (0x4000, "raid_stripe_tree"),
    (0x1_0000, "simple_quota"),
];

const BTRFS_RO_COMPAT: &[(u64, &str)] =
    &[(0x1, "free_space_tree"), (0x2, "free_space_tree_valid"), (0x4, "verity"), (0x8, "block_group_tree")];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The start of an extent with an ext4 superblock.
    pub(crate) fn ext4() -> Vec<u8> {
        let mut bytes = vec![0; 256 << 10];
        let sb = &mut bytes[1024..2048];
        sb[0..4].copy_from_slice(&16_u32.to_le_bytes());
        sb[4..8].copy_from_slice(&256_u32.to_le_bytes());
        sb[56..58].copy_from_slice(&0xef53_u16.to_le_bytes());
        sb[58] = 1;
        sb[92] = 4;
        sb[96..100].copy_from_slice(&0x246_u32.to_le_bytes());
        sb[104..120].fill(0xab);
        sb[120..124].copy_from_slice(b"root");
        sb[136..137].copy_from_slice(b"/");
        bytes
    }

    fn kind(bytes: &Vec<u8>) -> Content {
        probe(bytes).unwrap()
    }

    #[test]
    fn an_ext4_superblock_gives_name_id_size_and_state() {
        let content = kind(&ext4());
        let superblock = content.superblock().unwrap();
        assert_eq!(superblock.kind, Kind::Ext4);
        assert_eq!(superblock.uuid.as_deref(), Some("abababab-abab-abab-abab-abababababab"));
        assert_eq!(superblock.label.as_deref(), Some("root"));
        assert_eq!(superblock.size(), Some(256 << 10));
        assert_eq!(superblock.dirty(), Some(true));
        assert_eq!(superblock.features(), ["filetype", "needs_recovery", "extent", "flex_bg"]);
    }

    #[test]
    fn two_signatures_at_once_are_said() {
        let mut bytes = ext4();
        bytes[65536 + 64..65536 + 72].copy_from_slice(b"_BHRfS_M");
        bytes[65536 + 48..65536 + 56].copy_from_slice(&65536_u64.to_le_bytes());
        assert_eq!(kind(&bytes), Content::Ambiguous(vec![Kind::Ext4, Kind::Btrfs]));
        assert_eq!(kind(&bytes).words(), "signatures of ext4 and btrfs at once");
    }

    #[test]
    fn a_feature_without_a_name_is_given_as_a_number() {
        let mut bytes = ext4();
        bytes[1024 + 99] = 0x80;
        let content = kind(&bytes);
        assert!(content.superblock().unwrap().features().contains(&"unknown feature 0x80000000"));
    }

    #[test]
    fn an_extent_without_a_signature_is_empty_text_or_unknown() {
        assert_eq!(kind(&vec![0; 5000]), Content::Empty);
        assert_eq!(kind(&b"hello\nworld\n".to_vec()), Content::Text);
        assert_eq!(kind(&vec![0xff; 70_000]), Content::Unknown);
        assert_eq!(kind(&Vec::new()), Content::Empty);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(start in prop::collection::vec(any::<u8>(), 0..3000), changes in prop::collection::vec((0_usize..140_000, any::<u8>()), 0..60)) {
            let _ = probe(&start);
            let mut bytes = ext4();
            bytes[..4].copy_from_slice(b"XFSB");
            bytes[65536 + 64..65536 + 72].copy_from_slice(b"_BHRfS_M");
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            let _ = probe(&bytes);
        }
    }
}
