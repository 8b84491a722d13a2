//! Superblocks of Linux software RAID (`linux/raid/md_p.h`): version 0.90 and 1.0 at the end of the member, 1.1 and 1.2
//! before its data. A member of a RAID1 holds all that the array holds, from its data offset on.

use super::ReadAt;
use super::bytes::{le16, le32, le64, name};
use std::fmt::Write as _;
use std::io;

pub(super) const MAGIC: u32 = 0xa92b_4efc;
/// `MD_FEATURE_RECOVERY_OFFSET`: the member is still being filled.
const RECOVERING: u32 = 2;
/// `MD_FEATURE_RESHAPE_ACTIVE`.
const RESHAPING: u32 = 4;
/// The most members that are counted, as version 1 has them at most.
const MEMBERS: usize = 384;

/// What a member's superblock says of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The array's id.
    pub array: String,
    /// Its name, as `mdadm --detail` has it.
    pub name: Option<String>,
    /// "0.90", "1.0", "1.1" or "1.2".
    pub version: &'static str,
    /// The RAID level; negative for what is none.
    pub level: i32,
    /// How many members the array is made for.
    pub members: u32,
    /// How many of them were in use when this was written.
    pub active: u32,
    /// How often the array's state was written: a member that was away has fewer.
    pub events: u64,
    /// Whether all of its data is there.
    pub complete: bool,
    /// First byte of the data, counted in the member.
    pub offset: u64,
    /// Bytes of data.
    pub size: u64,
}

impl Member {
    /// Whether its data is that of the whole array.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.level == 1 && self.complete && self.size > 0
    }

    /// "lab:0 (md RAID1, metadata 1.2)"
    #[must_use]
    pub fn words(&self) -> String {
        let name = self.name.as_deref().unwrap_or(&self.array);
        format!("{name} (md RAID{}, metadata {})", self.level, self.version)
    }
}

/// The member that `extent` is, if it is one.
///
/// # Errors
/// What reading says.
pub(super) fn member(extent: &dyn ReadAt) -> io::Result<Option<Member>> {
    let sectors = extent.size() / 512;
    let places = [
        ("1.1", Some(0)),
        ("1.2", Some(4096)),
        ("1.0", sectors.checked_sub(16).map(|sectors| (sectors & !7) * 512)),
    ];
    for (version, at) in places {
        let Some(at) = at else { continue };
        if let Some(member) = version_1(&extent.read_at(at, 4096)?, version, at, extent.size()) {
            return Ok(Some(member));
        }
    }
    let Some(at) = (extent.size() & !0xffff).checked_sub(0x1_0000) else { return Ok(None) };
    Ok(version_0(&extent.read_at(at, 4096)?, at))
}

fn version_1(block: &[u8], version: &'static str, at: u64, size: u64) -> Option<Member> {
    let super_offset = le64(block, 144).checked_mul(512)?;
    let slots = le32(block, 220) as usize;
    if le32(block, 0) != MAGIC || le32(block, 4) != 1 || super_offset != at || slots > MEMBERS {
        return None;
    }
    if sum(block.get(..256 + 2 * slots)?) != le32(block, 216) {
        return None;
    }
    let features = le32(block, 8);
    // 0xfffd a journal, 0xfffe faulty, 0xffff a spare.
    let roles = (0..slots).filter(|slot| le16(block, 256 + 2 * slot) < 0xfffd);
    let (offset, length) = (le64(block, 128).checked_mul(512)?, le64(block, 80).checked_mul(512)?);
    let inside = offset.checked_add(length)? <= size && length <= le64(block, 136).checked_mul(512)?;
    Some(Member {
        array: id(block.get(16..32)?),
        name: name(block, 32, 32),
        version,
        level: i32::from_le_bytes(block.get(72..76)?.try_into().ok()?),
        members: le32(block, 92),
        active: u32::try_from(roles.count()).ok()?,
        events: le64(block, 200),
        complete: inside && features & (RECOVERING | RESHAPING) == 0,
        offset,
        size: length,
    })
}

/// Version 0.90 is written in the byte order of its machine: that of another kind of machine is not known here.
fn version_0(block: &[u8], at: u64) -> Option<Member> {
    if le32(block, 0) != MAGIC || le32(block, 4) != 0 || le32(block, 8) != 90 {
        return None;
    }
    let array: Vec<u8> = [20, 52, 56, 60].into_iter().flat_map(|at| le32(block, at).to_be_bytes()).collect();
    let size = u64::from(le32(block, 32)) * 1024;
    Some(Member {
        array: id(&array),
        name: None,
        version: "0.90",
        level: i32::from_le_bytes(block.get(28..32)?.try_into().ok()?),
        members: le32(block, 40),
        active: le32(block, 136),
        events: le64(block, 156),
        complete: size <= at,
        offset: 0,
        size,
    })
}

/// As mdadm writes it: four words of eight digits.
fn id(bytes: &[u8]) -> String {
    let mut id = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        let colon = if i > 0 && i.is_multiple_of(4) { ":" } else { "" };
        let _ = write!(id, "{colon}{byte:02x}");
    }
    id
}

/// The checksum of version 1: its words added up, itself left out, the carries folded back.
fn sum(block: &[u8]) -> u32 {
    let words = block.chunks(4).enumerate().filter(|(i, _)| *i != 54).map(|(_, word)| match *word {
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        _ => 0,
    });
    let total: u64 = words.sum();
    // Truncation is meant: the sum is folded into its lower half.
    ((total & 0xffff_ffff) + (total >> 32)) as u32
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A member of a two-way mirror of version 1.2, its data a mebibyte from its start.
    pub(crate) fn one_two(size: usize, events: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let block = &mut bytes[4096..8192];
        block[..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[4] = 1;
        block[16..32].copy_from_slice(b"0123456789abcdef");
        block[32..37].copy_from_slice(b"lab:0");
        block[72] = 1;
        block[92] = 2;
        let data = (size as u64 - (1 << 20)) / 512;
        for (at, value) in [(80, data), (128, 2048), (136, data), (144, 8), (200, events)] {
            block[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        block[220] = 4;
        for (slot, role) in [0_u16, 1, 0xffff, 0xfffe].into_iter().enumerate() {
            block[256 + 2 * slot..258 + 2 * slot].copy_from_slice(&role.to_le_bytes());
        }
        let sum = sum(&block[..264]);
        block[216..220].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_member_of_version_1_says_where_its_data_lies() {
        let bytes = one_two(4 << 20, 17);
        let found = member(&bytes).unwrap().unwrap();
        assert_eq!((found.offset, found.size), (1 << 20, 3 << 20));
        assert_eq!((found.members, found.active, found.events), (2, 2, 17));
        assert_eq!(found.array, "30313233:34353637:38396162:63646566");
        assert_eq!(found.words(), "lab:0 (md RAID1, metadata 1.2)");
        assert!(found.is_mirror());
    }

    #[test]
    fn a_damaged_superblock_is_none_and_a_member_that_is_being_filled_no_mirror() {
        let mut bytes = one_two(4 << 20, 17);
        bytes[4096 + 200] ^= 1;
        assert_eq!(member(&bytes).unwrap(), None);
        let mut bytes = one_two(4 << 20, 17);
        bytes[4096 + 8] = 2;
        let sum = sum(&bytes[4096..4096 + 264]);
        bytes[4096 + 216..4096 + 220].copy_from_slice(&sum.to_le_bytes());
        assert!(!member(&bytes).unwrap().unwrap().is_mirror());
    }
}
