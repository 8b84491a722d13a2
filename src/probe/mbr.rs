//! The master boot record and its chain of extended partitions.

use super::ReadAt;
use super::bytes::{has, le32};
use super::partition::{Partition, PartitionType, Table, TableKind};
use std::collections::BTreeSet;
use std::io;

/// The most logical partitions that are followed; the kernel's own bound is of this order.
const MAX_LOGICAL: u32 = 128;

#[derive(Clone, Copy)]
struct Entry {
    kind: u8,
    first: u32,
    sectors: u32,
}

impl Entry {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn is_used(self) -> bool {
        self.kind != 0 && self.sectors != 0
    }
}

/// The first sector, if it is a boot record whose entries can be meant as partitions.
pub(super) struct BootRecord {
    entries: [Entry; 4],
    signature: u32,
}

impl BootRecord {
    /// `None` without the boot signature, or where the boot flags are none (then it is a filesystem's boot sector).
    pub(super) fn parse(sector: &[u8]) -> Option<Self> {
        if !has(sector, 510, &[0x55, 0xaa]) {
            return None;
        }
        let entry = |i: usize| {
            let at = 446 + 16 * i;
            let flag = sector[at];
            let entry =
                Entry { kind: sector[at + 4], first: le32(sector, at + 8), sectors: le32(sector, at + 12) };
            (flag & 0x7f == 0).then_some(entry)
        };
        let entries = [entry(0)?, entry(1)?, entry(2)?, entry(3)?];
        Some(Self { entries, signature: le32(sector, 440) })
    }

    /// Whether it only guards a GPT.
    pub(super) fn is_protective(&self) -> bool {
        self.entries.iter().any(|e| e.kind == 0xee)
    }

    pub(super) fn has_partitions(&self) -> bool {
        self.entries.iter().any(|e| e.is_used() && e.first != 0)
    }
}

/// All primary and logical partitions, numbered as the kernel numbers them: 1 to 4, and from 5.
pub(super) fn read(disk: &dyn ReadAt, record: &BootRecord, sector: u32) -> io::Result<Table> {
    let mut table =
        Table { kind: TableKind::Mbr, sector_size: sector, partitions: Vec::new(), notes: Vec::new() };
    let mut logical = 5;
    for (entry, number) in record.entries.iter().zip(1..) {
        if !entry.is_used() {
            continue;
        }
        if entry.is_extended() {
            read_extended(disk, record, *entry, &mut logical, &mut table)?;
        } else {
            table.partitions.push(partition(record, *entry, 0, number, sector));
        }
    }
    table.partitions.sort_by_key(|p| p.number);
    Ok(table)
}

fn read_extended(
    disk: &dyn ReadAt,
    record: &BootRecord,
    extended: Entry,
    number: &mut u32,
    table: &mut Table,
) -> io::Result<()> {
    let sector = table.sector_size;
    let base = u64::from(extended.first);
    let mut at = base;
    let mut seen = BTreeSet::new();
    loop {
        if !seen.insert(at) || *number >= 5 + MAX_LOGICAL {
            table.notes.push("the chain of logical partitions never ends; it was cut".to_owned());
            return Ok(());
        }
        let bytes = disk.read_at(at.saturating_mul(u64::from(sector)), 512)?;
        let Some(link) = BootRecord::parse(&bytes) else {
            table.notes.push(format!("the logical partitions from number {number} on can't be read"));
            return Ok(());
        };
        let mut next = None;
        for entry in link.entries.iter().take(2).filter(|e| e.is_used()) {
            if entry.is_extended() {
                next = next.or(Some(base + u64::from(entry.first)));
            } else {
                table.partitions.push(partition(record, *entry, at, *number, sector));
                *number += 1;
            }
        }
        match next {
            Some(next) => at = next,
            None => return Ok(()),
        }
    }
}

/// `base`: the sector that the entry counts from.
fn partition(record: &BootRecord, entry: Entry, base: u64, number: u32, sector: u32) -> Partition {
    let sector = u64::from(sector);
    Partition {
        number,
        start: (base + u64::from(entry.first)) * sector,
        size: u64::from(entry.sectors) * sector,
        kind: PartitionType { code: format!("{:#04x}", entry.kind), name: mbr_type(entry.kind) },
        label: None,
        uuid: (record.signature != 0).then(|| format!("{:08x}-{number:02x}", record.signature)),
        fault: None,
    }
}

fn mbr_type(kind: u8) -> &'static str {
    match kind {
        0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e => "FAT",
        0x07 => "NTFS or exFAT",
        0x41 => "PReP boot",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xef => "EFI system",
        0xfd => "Linux RAID",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(disk: &mut [u8], sector: usize, index: usize, kind: u8, first: u32, sectors: u32) {
        let at = sector * 512 + 446 + 16 * index;
        disk[at + 4] = kind;
        disk[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    }

    fn table(disk: &Vec<u8>) -> Table {
        read(disk, &BootRecord::parse(&disk[..512]).unwrap(), 512).unwrap()
    }

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 512 * 300];
        disk[440..444].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        put(&mut disk, 0, 0, 0x83, 10, 20);
        put(&mut disk, 0, 1, 0x05, 100, 200);
        put(&mut disk, 100, 0, 0x83, 2, 30);
        put(&mut disk, 100, 1, 0x05, 50, 100);
        put(&mut disk, 150, 0, 0x82, 2, 40);
        disk
    }

    #[test]
    fn primary_and_logical_partitions_have_the_numbers_of_the_kernel() {
        let table = table(&disk());
        let found: Vec<_> =
            table.partitions.iter().map(|p| (p.number, p.start / 512, p.size / 512)).collect();
        assert_eq!(found, [(1, 10, 20), (5, 102, 30), (6, 152, 40)]);
        assert_eq!(table.partitions[1].uuid.as_deref(), Some("deadbeef-05"));
        assert!(table.notes.is_empty());
    }

    #[test]
    fn a_chain_that_bites_its_tail_is_cut() {
        let mut disk = disk();
        put(&mut disk, 150, 1, 0x05, 0, 100);
        let table = table(&disk);
        assert_eq!(table.partitions.len(), 3);
        assert!(table.notes[0].contains("never ends"));
    }

    #[test]
    fn a_boot_sector_without_partitions_is_no_table() {
        let mut disk = disk();
        disk[446] = 0x41;
        assert!(BootRecord::parse(&disk[..512]).is_none());
        assert!(BootRecord::parse(&[]).is_none());
    }

    proptest! {
        #[test]
        fn no_chain_panics_or_hangs(
            links in prop::collection::vec((0_usize..300, 0_usize..4, any::<u8>(), any::<u32>(), any::<u32>()), 0..60),
            near in prop::collection::vec((0_usize..300, 0_usize..2, 0_u32..300), 0..60),
        ) {
            let mut disk = disk();
            for (sector, index, kind, first, sectors) in links {
                put(&mut disk, sector, index, kind, first, sectors);
            }
            for (sector, index, first) in near {
                put(&mut disk, sector, index, 0x05, first, 1);
            }
            let table = table(&disk);
            prop_assert!(table.partitions.len() <= 4 + 4 * MAX_LOGICAL as usize);
        }
    }
}
