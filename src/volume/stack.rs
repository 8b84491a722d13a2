//! What a disk is made of below its filesystems: LUKS, md RAID1, logical volumes in pieces. Each is opened as a further
//! disk, on which is looked for a root as on the one that was given.

use super::disk::{Access, Disk};
use super::loopdev::LoopDevice;
use super::luks::{self, Keys};
use super::mapped::Mapped;
use crate::error::{ExitCode, Refusal};
use crate::probe::{
    Content, FoundLogical, Kind, Layout, Logical, Member, Physicals, ReadAt, Slot, Superblock, Table, layout,
    logical_volumes,
};
use crate::sys::block::LoopSetup;
use crate::sys::mapper::Target;
use anyhow::Result;

/// How deep disks may lie in disks: LVM in LUKS in LVM on md.
const DEPTH: usize = 4;

/// A disk that is held, and what is on it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) disk: Disk,
    pub(super) layout: Layout,
    /// Whether the root is looked for on it too: it is, or is made of, the volume that was given, not one beside it.
    pub(super) may_hold_root: bool,
    /// Whether something was made of it, or compared with it.
    pub(super) is_used: bool,
}

impl Part {
    /// A disk that was opened.
    pub(super) fn new(disk: Disk, layout: Layout, may_hold_root: bool) -> Self {
        Self { disk, layout, may_hold_root, is_used: false }
    }
}

/// Opens what lies below the filesystems of `parts`, and has `find` look for what is wanted. What is encrypted is opened
/// first if a key was given; else only when nothing is found without it.
///
/// # Errors
/// Those of `find`; no key opens what is encrypted.
pub(super) fn open_up<T>(
    parts: &mut Vec<Part>,
    keys: &mut dyn Keys,
    notes: &mut Vec<String>,
    find: impl Fn(&[Part]) -> Result<T>,
) -> Result<T> {
    join(parts, notes)?;
    if !keys.files().is_empty() {
        unlock(parts, keys, notes)?;
    }
    match find(parts) {
        Err(error) if has_luks(parts) && is_not_found(&error) => {
            unlock(parts, keys, notes)?;
            find(parts)
        }
        found => found,
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == ExitCode::Target)
}

/// Opens what is on `parts` and needs no key, and adds it to them.
///
/// # Errors
/// An array that is to be written can't be assembled. What else can't be opened keeps its fault.
fn join(parts: &mut Vec<Part>, notes: &mut Vec<String>) -> Result<()> {
    for _ in 0..DEPTH {
        let count = parts.len();
        join_mirrors(parts, notes)?;
        join_logical(parts);
        if parts.len() == count {
            break;
        }
    }
    Ok(())
}

/// Whether something on them is encrypted and was not opened.
fn has_luks(parts: &[Part]) -> bool {
    parts.iter().flat_map(|part| &part.layout.slots).any(|slot| luks_of(slot).is_some())
}

fn luks_of(slot: &Slot) -> Option<&Superblock> {
    slot.content.superblock().filter(|superblock| matches!(superblock.kind, Kind::Luks1 | Kind::Luks2))
}

/// Opens what is encrypted, and what comes to light by it.
///
/// # Errors
/// No key opens it, or a signal ended the wait for one.
fn unlock(parts: &mut Vec<Part>, keys: &mut dyn Keys, notes: &mut Vec<String>) -> Result<()> {
    for _ in 0..DEPTH {
        let mut opened: Vec<Part> = Vec::new();
        for part in parts.iter_mut() {
            for index in 0..part.layout.slots.len() {
                let slot = part.layout.slots[index].clone();
                let Some(superblock) = luks_of(&slot) else { continue };
                check_alone(part, &slot)?;
                let disk = luks::open(part, &slot, superblock, keys)?;
                opened.push(inside(disk, &slot, part.may_hold_root)?);
                // What it held is looked at there.
                part.layout.slots[index].content = Content::Unknown;
                part.is_used = true;
            }
        }
        if opened.is_empty() {
            break;
        }
        parts.extend(opened);
        join(parts, notes)?;
    }
    Ok(())
}

/// What is in an opened container. A filesystem in it has the name of its place.
fn inside(disk: Disk, place: &Slot, may_hold_root: bool) -> Result<Part> {
    let mut layout = layout(&disk, disk.sector_size).map_err(|error| {
        Refusal::target(format!("what is inside {} can't be read: {error}", place.words()))
    })?;
    if let [only] = layout.slots.as_mut_slice()
        && only.partition.is_none()
        && only.logical.is_none()
    {
        only.partition.clone_from(&place.partition);
        only.logical.clone_from(&place.logical);
        only.logical.iter_mut().for_each(|logical| logical.pieces.clear());
    }
    Ok(Part::new(disk, layout, may_hold_root))
}

/// One mirror of several is not to be written alone.
fn check_alone(part: &Part, slot: &Slot) -> Result<(), Refusal> {
    match &slot.mirror {
        Some(member) if part.disk.access == Access::ReadWrite => Err(alone(member, &slot.words())),
        _ => Ok(()),
    }
}

/// The refusal of a mirror whose others are not here.
pub(super) fn alone(member: &Member, place: &str) -> Refusal {
    let (words, count) = (member.words(), member.active);
    Refusal::unsafe_(format!(
        "{place} is one of {count} mirrors of {words}: written alone, it would differ from the others"
    ))
    .hint(
        "Give the others too: --with VOLUME. If they are lost, start the array without them (mdadm --assemble --run \
         /dev/md/rescue DEVICE) and give /dev/md/rescue as target.",
    )
}

/// Mirrors of one array are one: to look at, the newest of them; to write, the array, if it is complete.
fn join_mirrors(parts: &mut Vec<Part>, notes: &mut Vec<String>) -> Result<()> {
    let mut arrays: Vec<Member> = Vec::new();
    for member in members(parts) {
        match arrays.iter_mut().find(|known| known.array == member.array) {
            Some(known) if known.events >= member.events => {}
            Some(known) => *known = member,
            None => arrays.push(member),
        }
    }
    for newest in arrays {
        let places: Vec<(usize, usize)> = places(parts, &newest.array);
        let fresh = |&&(p, s): &&(usize, usize)| {
            parts[p].layout.slots[s].mirror.as_ref().is_some_and(|m| m.events == newest.events)
        };
        let current: Vec<(usize, usize)> = places.iter().filter(fresh).copied().collect();
        let complete = current.len() >= newest.active as usize;
        let writable = current.iter().all(|&(p, _)| parts[p].disk.access == Access::ReadWrite);
        if writable && complete {
            let array = assemble(parts, &places, &newest)?;
            remove(parts, &places);
            parts.push(array);
            continue;
        }
        // The first of the newest is looked at; what is on it is written by nobody.
        let rest: Vec<(usize, usize)> =
            places.iter().filter(|place| current.first() != Some(place)).copied().collect();
        if let Some(&(kept, _)) = current.first() {
            parts[kept].may_hold_root = places.iter().any(|&(p, _)| parts[p].may_hold_root);
            parts[kept].is_used = true;
        }
        remove(parts, &rest);
        if !complete {
            notes.push(format!(
                "{} has {} mirrors in use, of which {} is here: if another is newer, what is seen here is stale",
                newest.words(),
                newest.active,
                current.len()
            ));
        }
    }
    Ok(())
}

fn members(parts: &[Part]) -> Vec<Member> {
    let slots = parts.iter().flat_map(|part| &part.layout.slots);
    slots.filter(|slot| slot.logical.is_none()).filter_map(|slot| slot.mirror.clone()).collect()
}

fn places(parts: &[Part], array: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (p, part) in parts.iter().enumerate() {
        for (s, slot) in part.layout.slots.iter().enumerate() {
            if slot.logical.is_none() && slot.mirror.as_ref().is_some_and(|member| member.array == array) {
                found.push((p, s));
            }
        }
    }
    found
}

/// Takes these slots, and the logical volumes on them, out of what is looked at.
fn remove(parts: &mut [Part], places: &[(usize, usize)]) {
    for &(p, s) in places {
        parts[p].is_used = true;
        let slots = &mut parts[p].layout.slots;
        let (start, size) = (slots[s].start, slots[s].size);
        slots[s].content = Content::Unknown;
        slots[s].mirror = None;
        slots.retain(|slot| slot.logical.is_none() || !(slot.start >= start && slot.start - start < size));
    }
}

fn assemble(parts: &[Part], places: &[(usize, usize)], newest: &Member) -> Result<Part> {
    let mut below = Vec::new();
    let Some(&(first, slot)) = places.first() else { anyhow::bail!("there is no member") };
    for &(p, s) in places {
        let part = &parts[p];
        // The whole member, with its superblock: the slot is only the data in it.
        let partition = part.layout.slots[s].partition.as_ref();
        let (offset, size) =
            partition.map_or((0, part.disk.size), |partition| (partition.start, partition.size));
        let setup = LoopSetup { offset, size, read_only: false, block_size: 512 };
        below.push(LoopDevice::attach(&part.disk, &setup)?);
    }
    let mapped = Mapped::assemble(&newest.words(), below)?;
    let place = Slot { mirror: None, ..parts[first].layout.slots[slot].clone() };
    let may_hold_root = places.iter().any(|&(p, _)| parts[p].may_hold_root);
    inside(Disk::mapped(mapped, &parts[first].disk)?, &place, may_hold_root)
}

/// The logical volumes of all of the disks, taken together: a group may lie on several.
fn join_logical(parts: &mut Vec<Part>) {
    let disks: Vec<Physicals<'_>> =
        parts.iter().map(|part| (&part.disk as &dyn ReadAt, part.layout.physical_volumes())).collect();
    if disks.iter().all(|(_, extents)| extents.is_empty()) {
        return;
    }
    // What is wrong with the metadata was told when each disk was read.
    let (found, _) = logical_volumes(&disks);
    let mut opened = Vec::new();
    let mut used: Vec<usize> = Vec::new();
    let mut slots: Vec<(usize, Slot)> = Vec::new();
    for mut one in found {
        let disk = one.disk;
        let known = |part: &Part| {
            let same =
                |slot: &Slot| slot.logical.as_ref().is_some_and(|logical| logical.id() == one.logical.id());
            part.layout.slots.iter().any(|slot| same(slot) && slot.is_in_one_piece())
        };
        // Opened before, or in one piece on its own disk: what was found there stays, opened containers too.
        if parts.iter().any(known) {
            continue;
        }
        let starts = one.logical.pieces.iter().flat_map(|piece| &piece.stripes);
        let starts = starts.copied().chain([(disk, one.start)]);
        let mirror = starts.into_iter().find_map(|(disk, byte)| parts[disk].layout.mirror_at(byte)).cloned();
        if one.logical.pieces.is_empty() {
            slots.push((disk, Slot::logical(one, mirror)));
            continue;
        }
        match piece_together(parts, &one, mirror) {
            Ok(part) => {
                used.extend(
                    one.logical.pieces.iter().flat_map(|piece| &piece.stripes).map(|stripe| stripe.0),
                );
                opened.push(part);
            }
            Err(error) => {
                let count = one.logical.pieces.len();
                let stripes = one.logical.pieces.iter().map(|piece| piece.stripes.len()).max().unwrap_or(1);
                let pieces = match (count, stripes) {
                    (1, _) => format!("it has {stripes} stripes"),
                    _ => format!("it lies in {count} pieces"),
                };
                one.logical.fault = Some(format!("{pieces}, and {error:#}"));
                slots.push((disk, Slot::logical(one, None)));
            }
        }
    }
    let is_told = |id: &str, slots: &[(usize, Slot)], opened: &[Part]| {
        let new = slots.iter().map(|(_, slot)| slot).chain(opened.iter().flat_map(|part| &part.layout.slots));
        new.filter_map(|slot| slot.logical.as_ref()).any(|logical| logical.id() == id)
    };
    for part in parts.iter_mut() {
        part.layout.slots.retain(|slot| {
            slot.is_in_one_piece()
                || slot.logical.as_ref().is_none_or(|logical| !is_told(&logical.id(), &slots, &opened))
        });
    }
    used.into_iter().for_each(|disk| parts[disk].is_used = true);
    for (disk, slot) in slots {
        parts[disk].layout.slots.push(slot);
    }
    parts.extend(opened);
}

/// A logical volume in pieces, as a device.
fn piece_together(parts: &[Part], found: &FoundLogical, mirror: Option<Member>) -> Result<Part> {
    let FoundLogical { logical, content, disk, size, .. } = found;
    let what = format!("logical volume {}", logical.id());
    let writable = parts[*disk].disk.access == Access::ReadWrite;
    super::mapped::control()?;
    // One loop device for each disk that it has a piece on.
    let mut below: Vec<(usize, LoopDevice)> = Vec::new();
    for &(disk, _) in logical.pieces.iter().flat_map(|piece| &piece.stripes) {
        if below.iter().all(|(known, _)| *known != disk) {
            let held = &parts[disk].disk;
            let setup = LoopSetup { offset: 0, size: held.size, read_only: !writable, block_size: 512 };
            below.push((disk, LoopDevice::attach(held, &setup)?));
        }
    }
    let node = |disk: usize| {
        let found = below.iter().find(|(known, _)| *known == disk);
        found.map_or_else(String::new, |(_, device)| device.path().display().to_string())
    };
    let targets = targets(logical, node);
    let disks: Vec<usize> = below.iter().map(|(disk, _)| *disk).collect();
    let below = below.into_iter().map(|(_, device)| device).collect();
    let mapped = Mapped::create(&what, &targets, below, writable && mirror.is_none())?;
    let disk = Disk::mapped(mapped, &parts[*disk].disk)?;
    let sector = disk.sector_size.filter(|size| matches!(size, 512 | 4096)).unwrap_or(512);
    let logical = Logical { pieces: Vec::new(), ..logical.clone() };
    let slot = Slot {
        partition: None,
        logical: Some(logical),
        mirror,
        start: 0,
        size: *size,
        content: content.clone(),
    };
    let may_hold_root = disks.iter().any(|&disk| parts[disk].may_hold_root);
    let layout = Layout { table: Table::none(sector), slots: vec![slot] };
    Ok(Part::new(disk, layout, may_hold_root))
}

/// The pieces as device-mapper has them, in sectors.
fn targets(logical: &Logical, node: impl Fn(usize) -> String) -> Vec<Target> {
    let mut start = 0;
    let mut targets = Vec::new();
    for piece in &logical.pieces {
        let places = piece.stripes.iter().map(|(disk, at)| format!("{} {}", node(*disk), at / 512));
        let places = places.collect::<Vec<_>>().join(" ");
        let length = piece.length / 512;
        targets.push(match piece.stripes.len() {
            1 => Target { start, length, kind: "linear", parameters: places },
            count => {
                let parameters = format!("{count} {} {places}", piece.chunk / 512);
                Target { start, length, kind: "striped", parameters }
            }
        });
        start += length;
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Piece;

    #[test]
    fn pieces_become_the_lines_of_a_table() {
        let piece =
            |length, stripes: &[(usize, u64)]| Piece { length, chunk: 65536, stripes: stripes.to_vec() };
        let logical = Logical {
            group: "vg".into(),
            name: "root".into(),
            fault: None,
            pieces: vec![piece(8 << 20, &[(0, 1 << 20)]), piece(4 << 20, &[(1, 4096), (0, 2 << 20)])],
        };
        let lines: Vec<String> = targets(&logical, |disk| format!("/dev/loop{disk}"))
            .into_iter()
            .map(|line| format!("{} {} {} {}", line.start, line.length, line.kind, line.parameters))
            .collect();
        assert_eq!(
            lines,
            ["0 16384 linear /dev/loop0 2048", "16384 8192 striped 2 128 /dev/loop1 8 /dev/loop0 4096"]
        );
    }
}
