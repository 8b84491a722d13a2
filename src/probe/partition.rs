//! Partition tables: GPT (UEFI specification, chapter 5) here, MBR in its own file.

use super::bytes::{crc32, guid, has, le32, le64, utf16};
use super::{ReadAt, mbr};

/// The most bytes that a GPT entry array may have here: 8192 entries of the usual size.
const MAX_ARRAY: u64 = 1 << 20;

/// What kind of table a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// GUID partition table.
    Gpt,
    /// Master boot record, with extended partitions.
    Mbr,
    /// No table: the whole disk is one extent.
    None,
}

/// What a partition is for, as its table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionType {
    /// The type GUID in lower case, or the MBR type as `0x83`.
    pub code: String,
    /// A name people use, empty for a type that is not known here.
    pub name: &'static str,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as the kernel would number it.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// What it is for.
    pub kind: PartitionType,
    /// The name in the table.
    pub label: Option<String>,
    /// PARTUUID, in lower case.
    pub uuid: Option<String>,
    /// Why it can't be used: what is wrong with its extent.
    pub fault: Option<String>,
}

/// A partition table that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its kind.
    pub kind: TableKind,
    /// The sector size that its numbers count in.
    pub sector_size: u32,
    /// The partitions, by number.
    pub partitions: Vec<Partition>,
    /// What the operator should know, such as that the backup was used.
    pub notes: Vec<String>,
}

impl Table {
    /// No table at all.
    #[must_use]
    pub fn none(sector_size: u32) -> Self {
        Self { kind: TableKind::None, sector_size, partitions: Vec::new(), notes: Vec::new() }
    }
}

/// Why there is no table to be had.
#[derive(Debug)]
pub enum TableError {
    /// Reading failed.
    Read(std::io::Error),
    /// There is a table, and every copy of it is damaged.
    Damaged(String),
}

impl From<std::io::Error> for TableError {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

impl std::fmt::Display for TableError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "reading the partition table: {error}"),
            Self::Damaged(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TableError {}

/// Reads the table of `disk`, counting in sectors of the sizes in `sectors`, the likeliest first.
///
/// `occupied` says that a filesystem was seen on the whole disk: then stray remains of a GPT mean nothing.
pub(super) fn read_table(disk: &dyn ReadAt, sectors: &[u32], occupied: bool) -> Result<Table, TableError> {
    let first = sectors.first().copied().unwrap_or(512);
    let boot = disk.read_at(0, 512)?;
    let record = mbr::BootRecord::parse(&boot);
    let protective = record.as_ref().is_some_and(mbr::BootRecord::is_protective);
    if let Some(record) = record.filter(|_| !protective)
        && record.has_partitions()
    {
        return Ok(checked(mbr::read(disk, &record, first)?, disk.size()));
    }
    if !protective && occupied {
        return Ok(Table::none(first));
    }
    match read_gpt(disk, sectors)? {
        Gpt::Table(table) => Ok(checked(table, disk.size())),
        Gpt::Damaged(why) => Err(TableError::Damaged(why)),
        Gpt::Absent if protective => Err(TableError::Damaged(
            "the disk is marked as GPT, and neither copy of the GPT is there".to_owned(),
        )),
        Gpt::Absent => Ok(Table::none(first)),
    }
}

enum Gpt {
    Table(Table),
    Damaged(String),
    Absent,
}

/// One copy of the GPT: its place, and what came of reading it.
fn read_gpt(disk: &dyn ReadAt, sectors: &[u32]) -> Result<Gpt, TableError> {
    let mut faults = Vec::new();
    for &sector in sectors {
        if let Some(primary) = Header::at(disk, sector, 1)? {
            match primary.table(disk) {
                Ok(table) => return Ok(Gpt::Table(table)),
                Err(why) => faults.push((format!("the primary GPT is damaged ({why})"), primary.alternate)),
            }
        }
    }
    for &sector in sectors {
        let last = (disk.size() / u64::from(sector)).saturating_sub(1);
        let named = faults.iter().map(|(_, alternate)| *alternate);
        for lba in named.chain([last]).filter(|&lba| lba > 1).collect::<Vec<_>>() {
            let Some(backup) = Header::at(disk, sector, lba)? else { continue };
            match backup.table(disk) {
                Ok(mut table) => {
                    let why = faults.first().map_or("the primary GPT is missing", |(why, _)| why);
                    table.notes.push(format!("{why}; the backup at the end of the disk was used"));
                    return Ok(Gpt::Table(table));
                }
                Err(why) => faults.push((format!("the backup GPT is damaged ({why})"), 0)),
            }
        }
    }
    if faults.is_empty() {
        return Ok(Gpt::Absent);
    }
    let mut faults: Vec<String> = faults.into_iter().map(|(why, _)| why).collect();
    faults.dedup();
    if faults.len() == 1 {
        faults.push("there is no backup".to_owned());
    }
    Ok(Gpt::Damaged(faults.join(", ")))
}

/// A header with the right signature; nothing else is believed yet.
struct Header {
    sector: u32,
    lba: u64,
    bytes: Vec<u8>,
    alternate: u64,
}

impl Header {
    fn at(disk: &dyn ReadAt, sector: u32, lba: u64) -> Result<Option<Self>, TableError> {
        let Some(offset) = lba.checked_mul(u64::from(sector)) else { return Ok(None) };
        let bytes = disk.read_at(offset, sector as usize)?;
        let found = has(&bytes, 0, b"EFI PART") && bytes.len() == sector as usize;
        Ok(found.then(|| Self { sector, lba, alternate: le64(&bytes, 32), bytes }))
    }

    fn table(&self, disk: &dyn ReadAt) -> Result<Table, String> {
        let size = le32(&self.bytes, 12) as usize;
        if !(92..=self.bytes.len()).contains(&size) {
            return Err(format!("its header claims {size} bytes"));
        }
        let mut header = self.bytes[..size].to_vec();
        header[16..20].fill(0);
        if crc32(&header) != le32(&self.bytes, 16) {
            return Err("its header has a wrong checksum".to_owned());
        }
        if le64(&self.bytes, 24) != self.lba {
            return Err("its header says that it belongs elsewhere".to_owned());
        }
        let (count, entry) = (u64::from(le32(&self.bytes, 80)), u64::from(le32(&self.bytes, 84)));
        let length = count * entry;
        if entry < 128 || !entry.is_multiple_of(8) || length > MAX_ARRAY {
            return Err(format!("it claims {count} entries of {entry} bytes"));
        }
        let offset = le64(&self.bytes, 72).checked_mul(u64::from(self.sector));
        let offset = offset.filter(|&o| o.checked_add(length).is_some_and(|end| end <= disk.size()));
        let offset = offset.ok_or("its entries lie beyond the end of the disk")?;
        let array =
            disk.read_at(offset, length as usize).map_err(|e| format!("its entries can't be read: {e}"))?;
        if array.len() as u64 != length || crc32(&array) != le32(&self.bytes, 88) {
            return Err("its entries have a wrong checksum".to_owned());
        }
        let partitions =
            array.chunks_exact(entry as usize).zip(1..).filter_map(|(e, n)| self.entry(e, n)).collect();
        Ok(Table { kind: TableKind::Gpt, sector_size: self.sector, partitions, notes: Vec::new() })
    }

    fn entry(&self, entry: &[u8], number: u32) -> Option<Partition> {
        if entry[..16] == [0; 16] {
            return None;
        }
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        let sector = u64::from(self.sector);
        let sectors = last.checked_sub(first).and_then(|n| n.checked_add(1));
        let extent =
            sectors.and_then(|n| n.checked_mul(sector)).zip(first.checked_mul(sector)).filter(|_| first > 0);
        let fault = extent.is_none().then(|| format!("it runs from sector {first} to sector {last}"));
        let (size, start) = extent.unwrap_or((0, 0));
        let code = guid(entry, 0);
        let kind = PartitionType { name: gpt_type(&code), code };
        Some(Partition {
            number,
            start,
            size,
            kind,
            label: utf16(entry, 56, 36),
            uuid: Some(guid(entry, 16)),
            fault,
        })
    }
}

/// Names what is wrong with the extents: beyond the end, or one over the other.
fn checked(mut table: Table, disk: u64) -> Table {
    for partition in &mut table.partitions {
        if partition.fault.is_some() {
            continue;
        }
        let end = partition.start.checked_add(partition.size);
        if partition.size == 0 {
            partition.fault = Some("it is empty".to_owned());
        } else if end.is_none_or(|end| end > disk) {
            let end = end.map_or_else(|| "beyond all bounds".to_owned(), |end| format!("at byte {end}"));
            partition.fault =
                Some(format!("it ends {end}, and the disk has {disk} bytes: is it a part of a larger one?"));
        }
    }
    let mut order: Vec<usize> =
        (0..table.partitions.len()).filter(|&i| table.partitions[i].fault.is_none()).collect();
    order.sort_by_key(|&i| table.partitions[i].start);
    let mut last: Option<usize> = None;
    for i in order {
        let Some(before) = last else {
            last = Some(i);
            continue;
        };
        let (a, b) = (&table.partitions[before], &table.partitions[i]);
        let (a_end, b_end) = (a.start + a.size, b.start + b.size);
        if b.start < a_end {
            let (a, b) = (a.number, b.number);
            table.partitions[before].fault = Some(format!("it overlaps partition {b}"));
            table.partitions[i].fault = Some(format!("it overlaps partition {a}"));
        }
        if b_end > a_end {
            last = Some(i);
        }
    }
    table
}

/// The names of the types that images of servers have (UEFI, the discoverable partitions specification, Microsoft).
fn gpt_type(code: &str) -> &'static str {
    match code {
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" => "EFI system",
        "21686148-6449-6e6f-744e-656564454649" => "BIOS boot",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux filesystem",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "b921b045-1df0-41c3-af44-4c6f280d3fae" => "Linux root (arm64)",
        "44479540-f297-41b2-9af7-d131d5f0458a" => "Linux root (x86)",
        "933ac7e1-2eb4-4f13-b844-0e14e2aef915" => "Linux home",
        "3b8f8425-20e0-4f3b-907f-1a25a76f98e8" => "Linux srv",
        "4d21b016-b534-45c2-a9fb-5c16e091fd2d" => "Linux var",
        "8484680c-9521-48c6-9c11-b0720656f69e" => "Linux usr (x86-64)",
        "bc13c2ff-59e6-4262-a352-b275fd6f7172" => "Linux extended boot",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
        "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
        "ca7d7ccb-63ed-4c53-861c-1742536059cc" => "Linux LUKS",
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b" => "PReP boot",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A disk of `sectors` sectors with a GPT of one partition, both copies right.
    fn gpt(sector: usize, sectors: u64, first: u64, last: u64) -> Vec<u8> {
        let mut disk = vec![0; sector * sectors as usize];
        disk[450] = 0xee;
        disk[454] = 1;
        disk[458] = 100;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        let mut array = vec![0; 128 * 128];
        array[..16].copy_from_slice(&[7; 16]);
        array[16..32].copy_from_slice(&[9; 16]);
        array[32..40].copy_from_slice(&first.to_le_bytes());
        array[40..48].copy_from_slice(&last.to_le_bytes());
        for (i, unit) in "root".encode_utf16().enumerate() {
            array[56 + 2 * i..58 + 2 * i].copy_from_slice(&unit.to_le_bytes());
        }
        let array_sectors = array.len().div_ceil(sector) as u64;
        for (own, other, entries) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - array_sectors)] {
            let mut header = vec![0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[8..12].copy_from_slice(&0x1_0000_u32.to_le_bytes());
            header[12..16].copy_from_slice(&92_u32.to_le_bytes());
            header[24..32].copy_from_slice(&own.to_le_bytes());
            header[32..40].copy_from_slice(&u64::to_le_bytes(other));
            header[72..80].copy_from_slice(&u64::to_le_bytes(entries));
            header[80..84].copy_from_slice(&128_u32.to_le_bytes());
            header[84..88].copy_from_slice(&128_u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32(&array).to_le_bytes());
            let sum = crc32(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            let at = own as usize * sector;
            disk[at..at + 92].copy_from_slice(&header);
            let at = entries as usize * sector;
            disk[at..at + array.len()].copy_from_slice(&array);
        }
        disk
    }

    fn read(disk: &Vec<u8>) -> Result<Table, TableError> {
        read_table(disk, &[512, 4096], false)
    }

    #[test]
    fn a_gpt_is_read_in_either_sector_size() {
        for sector in [512, 4096] {
            let table = read(&gpt(sector, 200, 64, 99)).unwrap();
            assert_eq!((table.kind, table.sector_size as usize), (TableKind::Gpt, sector));
            let partition = &table.partitions[0];
            assert_eq!(partition.label.as_deref(), Some("root"));
            assert_eq!((partition.start, partition.size), (64 * sector as u64, 36 * sector as u64));
            assert_eq!(partition.fault, None);
            assert!(table.notes.is_empty());
        }
    }

    #[test]
    fn the_backup_is_used_and_it_is_said_when_the_primary_is_damaged_or_gone() {
        for (range, wanted) in
            [(512..1024, "missing"), (600..601, "damaged"), (1030..1031, "damaged"), (0..2048, "missing")]
        {
            let mut disk = gpt(512, 200, 64, 99);
            disk[range].iter_mut().for_each(|b| *b = if *b == 0 && wanted == "damaged" { 1 } else { 0 });
            let table = read(&disk).unwrap();
            assert_eq!(table.partitions.len(), 1);
            assert!(
                table.notes[0].contains(wanted) && table.notes[0].contains("backup"),
                "{:?}",
                table.notes
            );
        }
    }

    #[test]
    fn a_gpt_damaged_in_both_copies_is_an_error_that_says_so() {
        let mut disk = gpt(512, 200, 64, 99);
        disk[520] ^= 1;
        disk[199 * 512 + 9] ^= 1;
        let Err(TableError::Damaged(why)) = read(&disk) else { panic!("accepted") };
        assert!(why.contains("primary") && why.contains("backup"), "{why}");
    }

    #[test]
    fn stray_remains_of_a_gpt_do_not_hide_a_filesystem_on_the_whole_disk() {
        let mut disk = gpt(512, 200, 64, 99);
        disk[510..512].fill(0);
        assert_eq!(read_table(&disk, &[512], true).unwrap().kind, TableKind::None);
    }

    #[test]
    fn extents_beyond_the_end_or_backwards_are_named() {
        let table = read(&gpt(512, 200, 64, 99_999)).unwrap();
        assert!(table.partitions[0].fault.as_deref().unwrap().contains("the disk has"), "{table:?}");
        let table = read(&gpt(512, 200, 64, u64::MAX)).unwrap();
        assert!(table.partitions[0].fault.is_some());
        let table = read(&gpt(512, 200, 99, 64)).unwrap();
        assert!(table.partitions[0].fault.as_deref().unwrap().contains("from sector 99 to sector 64"));
    }

    #[test]
    fn overlapping_partitions_name_each_other() {
        let one = |number, start, size| Partition {
            number,
            start,
            size,
            kind: PartitionType { code: String::new(), name: "" },
            label: None,
            uuid: None,
            fault: None,
        };
        let partitions = vec![one(1, 0, 1000), one(2, 100, 10), one(3, 2000, 10), one(4, 500, 10)];
        let table = checked(Table { partitions, ..Table::none(512) }, 1 << 20);
        let faults: Vec<_> = table.partitions.iter().map(|p| p.fault.is_some()).collect();
        assert_eq!(faults, [true, true, false, true]);
    }

    #[test]
    fn an_absurd_number_of_entries_is_not_allocated() {
        let mut disk = gpt(512, 200, 64, 99);
        for own in [1_usize, 199] {
            let at = own * 512;
            disk[at + 80..at + 84].fill(0xff);
            disk[at + 16..at + 20].fill(0);
            let sum = crc32(&disk[at..at + 92]);
            disk[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
        }
        let Err(TableError::Damaged(why)) = read(&disk) else { panic!("accepted") };
        assert!(why.contains("4294967295 entries"), "{why}");
    }

    proptest! {
        #[test]
        fn no_damage_to_a_gpt_panics(changes in prop::collection::vec((0_usize..200 * 512, any::<u8>()), 0..40)) {
            let mut disk = gpt(512, 200, 64, 99);
            for (at, byte) in changes {
                disk[at] = byte;
            }
            let _ = read(&disk);
        }
    }
}
