//! A disk as a whole: its table, and what each extent holds.

use super::partition::{Partition, Table, TableError, TableKind, read_table};
use super::superblock::{Content, Kind, probe};
use super::{Logical, Member, ReadAt, Window, ext_copy, lvm, md};

/// The most partitions that are looked into; a table can name thousands, a disk of a server has a handful.
const MAX_SLOTS: usize = 256;

/// One extent that may hold a filesystem: a partition, a logical volume, or the disk itself where it has no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// `None` for the whole disk and for a logical volume.
    pub partition: Option<Partition>,
    /// The logical volume that it is.
    pub logical: Option<Logical>,
    /// The RAID1 that the extent is one mirror of: it must not be written alone.
    pub mirror: Option<Member>,
    /// First byte.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
    /// What it holds. An extent with a fault is not looked into beyond the end of the disk.
    pub content: Content,
}

impl Slot {
    /// A logical volume's, which may lie on a mirror of a RAID1.
    #[must_use]
    pub fn logical(found: lvm::Found, mirror: Option<Member>) -> Self {
        let lvm::Found { logical, disk: _, start, size, content } = found;
        Self { partition: None, logical: Some(logical), mirror, start, size, content }
    }

    /// Looks through the superblock of a mirror of a RAID1 at what the array holds.
    fn through_mirror(mut self, disk: &dyn ReadAt) -> Self {
        let is_member = match &self.content {
            Content::Found(superblock) => superblock.kind == Kind::MdRaid,
            Content::Ambiguous(kinds) => kinds.contains(&Kind::MdRaid),
            _ => false,
        };
        let window = Window::new(disk, self.start, self.size);
        if is_member
            && let Ok(Some(member)) = md::member(&window)
            && member.is_mirror()
            && let Some(start) = self.start.checked_add(member.offset)
        {
            (self.start, self.size) = (start, member.size);
            let window = Window::new(disk, start, member.size);
            self.content = looked_further(&window, probe(&window).unwrap_or(Content::Unknown));
            self.mirror = Some(member);
        }
        self
    }

    /// Whether it is an extent of the disk, and not only made of several.
    #[must_use]
    pub fn is_in_one_piece(&self) -> bool {
        self.logical.as_ref().is_none_or(|logical| logical.fault.is_none() && logical.pieces.is_empty())
    }

    /// "partition 3", "logical volume vg/lv" or "the whole disk".
    #[must_use]
    pub fn words(&self) -> String {
        if let Some(logical) = &self.logical {
            return format!("logical volume {}", logical.id());
        }
        self.partition
            .as_ref()
            .map_or_else(|| "the whole disk".to_owned(), |p| format!("partition {}", p.number))
    }
}

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its partition table.
    pub table: Table,
    /// Its extents: the partitions, or one for the whole disk, then the logical volumes.
    pub slots: Vec<Slot>,
}

impl Layout {
    /// First byte and size of its physical volumes of LVM.
    #[must_use]
    pub fn physical_volumes(&self) -> Vec<(u64, u64)> {
        let is_physical = |slot: &&Slot| {
            let superblock = slot.content.superblock();
            slot.logical.is_none() && superblock.is_some_and(|superblock| superblock.kind == Kind::Lvm2)
        };
        self.slots.iter().filter(is_physical).map(|slot| (slot.start, slot.size)).collect()
    }

    /// The mirror of a RAID1 that this byte of the disk lies in.
    #[must_use]
    pub fn mirror_at(&self, byte: u64) -> Option<&Member> {
        let holds = |slot: &&Slot| slot.start <= byte && byte - slot.start < slot.size;
        self.slots.iter().filter(holds).find_map(|slot| slot.mirror.as_ref())
    }
}

/// Reads the layout of `disk`, whose sectors have `sector` bytes; `None` for an image, which does not say.
///
/// # Errors
/// [`TableError`]: reading failed, or a table is there and no copy of it is sound.
pub fn layout(disk: &dyn ReadAt, sector: Option<u32>) -> Result<Layout, TableError> {
    let whole = probe(disk)?;
    // A boot sector that names FAT or NTFS has bytes where a table would be. A container's table lies inside it.
    let occupied = !matches!(whole, Content::Empty | Content::Text | Content::Unknown);
    let sectors: Vec<u32> = match sector {
        Some(first @ (512 | 4096)) => vec![first, 512 + 4096 - first],
        _ => vec![512, 4096],
    };
    let mut best: Option<Layout> = None;
    for i in 0..sectors.len() {
        let mut order = sectors.clone();
        order.rotate_left(i);
        let table = match read_table(disk, &order, occupied) {
            Ok(table) => table,
            Err(TableError::Damaged(_)) if occupied => Table::none(order[0]),
            Err(error) => return Err(error),
        };
        let layout = filled(disk, table, &whole)?;
        let sure = layout.table.kind != TableKind::Mbr || layout.slots.iter().any(known);
        if sure {
            return Ok(layout);
        }
        best = best.or(Some(layout));
    }
    best.ok_or_else(|| TableError::Damaged("there is no sector size to try".to_owned()))
}

/// An MBR does not say in which sector size it counts: the one under which something is found is right.
fn known(slot: &Slot) -> bool {
    matches!(slot.content, Content::Found(_) | Content::Ambiguous(_))
}

fn filled(disk: &dyn ReadAt, table: Table, whole: &Content) -> Result<Layout, TableError> {
    if table.kind == TableKind::None {
        let (start, size, content) = (0, disk.size(), looked_further(disk, whole.clone()));
        let slot = Slot { partition: None, logical: None, mirror: None, start, size, content };
        return Ok(with_logical(disk, Layout { table, slots: vec![slot.through_mirror(disk)] }));
    }
    let mut table = table;
    if let Some(superblock) = whole.superblock().filter(|s| s.kind.is_rescuable()) {
        let name = superblock.kind.name();
        table.notes.push(format!("the disk has a partition table and the remains of {name} outside of it"));
    }
    if table.partitions.len() > MAX_SLOTS {
        let count = table.partitions.len();
        table.notes.push(format!("only {MAX_SLOTS} of its {count} partitions were looked into"));
    }
    let slots = table.partitions.iter().take(MAX_SLOTS).map(|partition| {
        let window = Window::new(disk, partition.start, partition.size);
        // A damaged sector in one partition must not hide the others.
        let content = looked_further(&window, probe(&window).unwrap_or(Content::Unknown));
        let (start, size) = (partition.start, partition.size);
        let slot =
            Slot { partition: Some(partition.clone()), logical: None, mirror: None, start, size, content };
        slot.through_mirror(disk)
    });
    let slots = slots.collect();
    Ok(with_logical(disk, Layout { table, slots }))
}

/// Where nothing is at the place of a superblock, there may be a copy of one.
pub(super) fn looked_further(extent: &dyn ReadAt, content: Content) -> Content {
    match content {
        Content::Empty | Content::Unknown => {
            ext_copy::find(extent).ok().flatten().map_or(content, Content::Found)
        }
        content => content,
    }
}

/// Adds the logical volumes of the groups that it has physical volumes of.
fn with_logical(disk: &dyn ReadAt, mut layout: Layout) -> Layout {
    let (found, notes) = lvm::volumes(&[(disk, layout.physical_volumes())]);
    layout.table.notes.extend(notes.into_iter().map(|(_, note)| note));
    for found in found {
        let starts = found.logical.pieces.iter().flat_map(|piece| &piece.stripes).map(|stripe| stripe.1);
        let mirror =
            std::iter::once(found.start).chain(starts).find_map(|byte| layout.mirror_at(byte)).cloned();
        layout.slots.push(Slot::logical(found, mirror));
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::superblock::Kind;

    fn xfs_at(disk: &mut [u8], at: usize) {
        disk[at..at + 4].copy_from_slice(b"XFSB");
        disk[at + 4..at + 8].copy_from_slice(&4096_u32.to_be_bytes());
    }

    fn mbr(disk: &mut [u8], first: u32, sectors: u32) {
        disk[450] = 0x83;
        disk[454..458].copy_from_slice(&first.to_le_bytes());
        disk[458..462].copy_from_slice(&sectors.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    }

    #[test]
    fn an_mbr_that_counts_in_large_sectors_is_understood() {
        let mut disk = vec![0; 4 << 20];
        mbr(&mut disk, 256, 512);
        xfs_at(&mut disk, 256 * 4096);
        let layout = layout(&disk, None).unwrap();
        assert_eq!(layout.table.sector_size, 4096);
        assert_eq!(layout.slots[0].content.superblock().unwrap().kind, Kind::Xfs);
    }

    #[test]
    fn a_filesystem_on_the_whole_disk_is_one_slot() {
        let mut disk = vec![0; 1 << 20];
        xfs_at(&mut disk, 0);
        let layout = layout(&disk, Some(512)).unwrap();
        assert_eq!(layout.table.kind, TableKind::None);
        assert_eq!(layout.slots[0].words(), "the whole disk");
    }

    #[test]
    fn a_mirror_of_a_raid1_is_looked_through() {
        let mut disk = crate::probe::md::tests::one_two(4 << 20, 5);
        xfs_at(&mut disk, 1 << 20);
        let layout = layout(&disk, Some(512)).unwrap();
        let slot = &layout.slots[0];
        assert_eq!((slot.start, slot.size), (1 << 20, 3 << 20));
        assert_eq!(slot.content.superblock().unwrap().kind, Kind::Xfs);
        assert_eq!(slot.mirror.as_ref().unwrap().members, 2);
        assert!(layout.mirror_at((1 << 20) + 5).is_some() && layout.mirror_at(5).is_none());
    }

    #[test]
    fn no_partition_is_looked_at_beyond_the_end() {
        let mut disk = vec![0; 1 << 20];
        mbr(&mut disk, 2000, u32::MAX);
        let layout = layout(&disk, Some(512)).unwrap();
        assert!(layout.slots[0].partition.as_ref().unwrap().fault.is_some());
        assert_eq!(layout.slots[0].content, Content::Empty);
    }
}
