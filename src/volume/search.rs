//! Mounting what could be the root, until it is known which is.

use super::candidate::{self, Choice, RootCandidate};
use super::disk::{Access, Disk};
use super::filesystem::{self, Replay};
use super::loopdev::LoopDevice;
use super::mount::Mount;
use super::proc::{names, own_mounts, text};
use super::stack::Part;
use super::{Journal, Target};
use crate::error::Refusal;
use crate::probe::{Content, Kind, Layout, Slot, Superblock, TableKind};
use crate::sys::block::LoopSetup;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A filesystem that is mounted read-only, its journal not replayed, through a loop device that takes no writes.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) mount: Mount,
    pub(super) device: LoopDevice,
    pub(super) slot: Slot,
    pub(super) superblock: Superblock,
    /// Whether its journal waits for replay.
    pub(super) journal: Journal,
    pub(super) subvolume: Option<u64>,
}

impl Opened {
    /// Unmounts and unbinds.
    pub(super) fn close(self) -> Result<()> {
        self.mount.close()?;
        self.device.close()
    }
}

/// The one root, mounted, on one of these disks of which the first is the one that was given.
///
/// # Errors
/// [`Refusal`] (3): none, or several and no choice; (4) a btrfs that the helper has mounted.
pub(super) fn find_root(
    target: &Target,
    parts: &[Part],
    choice: &Choice,
    point: &Path,
) -> Result<(Opened, RootCandidate)> {
    let shown = target.path.display();
    let Some(first) = parts.first() else { anyhow::bail!("there is no disk to look at") };
    check_partition(target, &first.layout, choice)?;
    let searched = || parts.iter().enumerate().filter(|(_, part)| part.may_hold_root);
    let slots: Vec<Slot> = searched().flat_map(|(_, part)| part.layout.slots.iter().cloned()).collect();
    let layout = &Layout { table: first.layout.table.clone(), slots };
    let mut search = Search { parts, choice, point, layout, kept: None, found: Vec::new(), seen: Vec::new() };
    let mut failures: Vec<anyhow::Error> = Vec::new();
    let all = searched().flat_map(|(index, part)| part.layout.slots.iter().map(move |slot| (index, slot)));
    for (part, slot) in all.filter(|(_, slot)| candidate::is_chosen(choice, slot, &layout.slots)) {
        let superblock = match &slot.content {
            Content::Found(superblock) if superblock.kind.is_rescuable() => superblock,
            other => {
                search.seen.push(other_words(slot, other));
                continue;
            }
        };
        if let Err(error) = search.look_into(part, slot, superblock) {
            search.seen.push(format!("{}: {error:#}", slot.words()));
            // Another partition may hold the root, but a btrfs that is in use here must not be passed over.
            if error.downcast_ref::<Refusal>().is_some_and(|r| r.code == crate::error::ExitCode::Unsafe) {
                return Err(error);
            }
            failures.push(error);
        }
    }
    let all = std::mem::take(&mut search.found);
    let found = candidate::narrowed(all.clone(), choice, &layout.slots);
    match found.as_slice() {
        [one] => {
            let one = one.clone();
            let opened = search.take(&one)?;
            Ok((opened, one))
        }
        [] => {
            search.close()?;
            // One cause, as where the helper has no loop devices, is told with its way out.
            let one_cause = failures.windows(2).all(|two| two[0].to_string() == two[1].to_string());
            match failures.pop() {
                Some(cause) if one_cause => Err(cause),
                _ if choice.root.is_some() && in_pieces(layout, choice).is_none() => {
                    Err(misnamed(target, parts, layout, choice, point, all)?.into())
                }
                _ => Err(no_root(&shown.to_string(), layout, choice, &search.seen).into()),
            }
        }
        several => {
            search.close()?;
            let list: Vec<String> = several.iter().map(RootCandidate::words).collect();
            let mut numbers: Vec<u32> = several.iter().filter_map(|candidate| candidate.partition).collect();
            numbers.dedup();
            let example = if numbers.len() == several.len() {
                format!("--partition, for example: --partition {}", numbers[0])
            } else {
                format!("--root, for example: --root {}", several[0].id)
            };
            Err(Refusal::target(format!(
                "{shown} holds {} filesystems that could be the root: {}",
                several.len(),
                list.join("; ")
            ))
            .hint(format!("Choose one with {example}"))
            .into())
        }
    }
}

/// All that could be the root, snapshots too, and what stood in the way of looking. Everything is unmounted again.
///
/// # Errors
/// What was mounted can't be unmounted.
pub(super) fn all_roots(
    parts: &[Part],
    layout: &Layout,
    point: &Path,
) -> Result<(Vec<RootCandidate>, Vec<String>)> {
    let choice = &Choice::default();
    let mut search = Search { parts, choice, point, layout, kept: None, found: Vec::new(), seen: Vec::new() };
    let mut failures = Vec::new();
    for slot in &layout.slots {
        if let Content::Found(superblock) = &slot.content
            && superblock.kind.is_rescuable()
            && let Err(error) = search.look_into(0, slot, superblock)
        {
            failures.push(format!("{}: {error:#}", slot.words()));
        }
    }
    let found = std::mem::take(&mut search.found);
    search.close()?;
    Ok((found, failures))
}

fn check_partition(target: &Target, layout: &Layout, choice: &Choice) -> Result<(), Refusal> {
    let Some(wanted) = choice.partition else { return Ok(()) };
    let numbers: Vec<u32> =
        layout.slots.iter().filter_map(|s| s.partition.as_ref()).map(|p| p.number).collect();
    if numbers.contains(&wanted) {
        return Ok(());
    }
    let shown = target.path.display();
    if layout.table.kind == TableKind::None {
        return Err(Refusal::target(format!(
            "{shown} has no partition table, so there is no partition {wanted}"
        ))
        .hint("Leave --partition out."));
    }
    let numbers = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    Err(Refusal::target(format!("{shown} has no partition {wanted}"))
        .hint(format!("Its partitions are: {numbers}. What they hold: volrescue list")))
}

/// What is on a slot that can't be a root.
fn other_words(slot: &Slot, content: &Content) -> String {
    let kind = slot.partition.as_ref().map(|p| p.kind.name).filter(|name| !name.is_empty());
    let fault = slot.partition.as_ref().and_then(|p| p.fault.as_ref());
    if let Some(fault) = slot.logical.as_ref().and_then(|logical| logical.fault.as_ref()) {
        return format!("{}: {fault}", slot.words());
    }
    let mut words = format!("{}: {}", slot.words(), content.words());
    if let Some(kind) = kind {
        words.push_str(&format!(" ({kind})"));
    }
    if let Some(fault) = fault {
        words.push_str(&format!(", {fault}"));
    }
    words
}

/// A logical volume that may be the root and can't be reached without LVM.
fn in_pieces(layout: &Layout, choice: &Choice) -> Option<Refusal> {
    let logical = layout.slots.iter().filter_map(|slot| slot.logical.as_ref());
    let mut wanted = logical.filter(|one| choice.root.as_ref().is_none_or(|root| *root == one.id()));
    let (one, fault) = wanted.find_map(|one| Some((one, one.fault.as_ref()?)))?;
    let (id, group) = (one.id(), &one.group);
    let refusal = Refusal::target(format!("logical volume {id} can't be opened here: {fault}"));
    // LVM could not open it either.
    if one.lacks_a_disk() {
        return Some(refusal.hint(
            "Give the disk that has it too: --with VOLUME. What is on the disks here: volrescue list",
        ));
    }
    Some(refusal.hint(format!(
        "Open it with LVM: vgchange -ay {group} (an image first with losetup --find --show --partscan IMAGE), then give \
         /dev/{id} as target; vgchange -an {group} closes it again."
    )))
}

/// What `--root` could have named, after a look at everything.
fn misnamed(
    target: &Target,
    parts: &[Part],
    layout: &Layout,
    choice: &Choice,
    point: &Path,
    mut found: Vec<RootCandidate>,
) -> Result<Refusal> {
    let shown = target.path.display();
    let any = Choice { partition: choice.partition, root: None };
    let mut search =
        Search { parts, choice: &any, point, layout, kept: None, found: Vec::new(), seen: Vec::new() };
    let searched = parts.iter().enumerate().filter(|(_, part)| part.may_hold_root);
    let all = searched.flat_map(|(index, part)| part.layout.slots.iter().map(move |slot| (index, slot)));
    for (part, slot) in all.filter(|(_, slot)| candidate::is_chosen(&any, slot, &layout.slots)) {
        if let Some(superblock) = slot.content.superblock().filter(|one| one.kind.is_rescuable()) {
            // What can't be looked into can't be offered.
            let _ = search.look_into(part, slot, superblock);
        } else {
            search.seen.push(other_words(slot, &slot.content));
        }
    }
    for one in std::mem::take(&mut search.found) {
        if !found.iter().any(|known| known.id == one.id) {
            found.push(one);
        }
    }
    search.close()?;
    let wanted = choice.root.as_deref().unwrap_or_default();
    if found.is_empty() {
        let seen = search.seen.join("; ");
        let seen = if seen.is_empty() { String::new() } else { format!(": {seen}") };
        return Ok(Refusal::target(format!(
            "no root on {shown} is named {wanted}, and none was found{seen}"
        ))
        .hint("What is on the disks that are attached here: volrescue list"));
    }
    let list: Vec<String> = found.iter().map(RootCandidate::words).collect();
    Ok(Refusal::target(format!("no root on {shown} is named {wanted}; there is {}", list.join("; ")))
        .hint(format!("Choose one by the name before the colon, for example: --root {}", found[0].id)))
}

fn no_root(shown: &str, layout: &Layout, choice: &Choice, seen: &[String]) -> Refusal {
    if let Some(refusal) = in_pieces(layout, choice) {
        return refusal;
    }
    if seen.iter().any(|words| words.contains("an ostree system")) {
        return Refusal::target(format!("no root filesystem was found on {shown}; {}", seen.join("; ")))
            .hint(
                "By hand: mount it and work in the newest /ostree/deploy/NAME/deploy/*.0; its homes are in \
             /ostree/deploy/NAME/var/home.",
            );
    }
    let advice = layout.slots.iter().find_map(|slot| match &slot.content {
        Content::Found(superblock) => superblock.kind.advice().filter(|_| superblock.kind != Kind::Swap),
        Content::Ambiguous(_) => {
            Some("Remove the stale signature by hand (wipefs shows both) and try again.")
        }
        Content::Text => Some("A disk image or device is wanted, not a text file."),
        _ => None,
    });
    let advice = advice.unwrap_or("Check that this is the disk you mean: volrescue list");
    if let [only] = layout.slots.as_slice()
        && layout.table.kind == TableKind::None
        && !matches!(&only.content, Content::Found(s) if s.kind.is_rescuable())
    {
        let words = match &only.content {
            Content::Empty => "only zeros where a partition table or a filesystem would be".to_owned(),
            Content::Unknown => "neither a partition table nor a filesystem that is known here".to_owned(),
            content => content.words(),
        };
        return Refusal::target(format!("{shown} has no root filesystem: it holds {words}")).hint(advice);
    }
    if layout.slots.is_empty() {
        return Refusal::target(format!("{shown} has a partition table without partitions")).hint(advice);
    }
    Refusal::target(format!("no root filesystem was found on {shown}; {}", seen.join("; "))).hint(advice)
}

/// Mounts lie one upon the other on one point: what is mounted last is unmounted first.
struct Search<'a> {
    parts: &'a [Part],
    choice: &'a Choice,
    /// That of the first disk, with the slots of all.
    layout: &'a Layout,
    point: &'a Path,
    /// The first that may be it, kept mounted: it mostly is.
    kept: Option<(Opened, (usize, String))>,
    found: Vec<RootCandidate>,
    /// What was looked at and is no root.
    seen: Vec<String>,
}

impl Search<'_> {
    fn look_into(&mut self, part: usize, slot: &Slot, superblock: &Superblock) -> Result<()> {
        filesystem::check(slot, superblock, Replay::Skip)?;
        let opened = self.open(part, slot, superblock, None)?;
        if superblock.kind == Kind::Btrfs {
            return self.look_into_btrfs(part, opened);
        }
        match candidate::in_filesystem(&opened.mount, slot, superblock)? {
            Some(candidate) => self.keep(opened, RootCandidate { part, ..candidate })?,
            None => {
                self.seen.push(format!(
                    "{}: {}, {}",
                    slot.words(),
                    superblock.kind.name(),
                    candidate::purpose(&opened.mount)
                ));
                opened.close()?;
            }
        }
        Ok(())
    }

    /// The default subvolume is the root if it looks like one; only else, or if another is asked for by name, the
    /// others are looked at.
    fn look_into_btrfs(&mut self, part: usize, mut opened: Opened) -> Result<()> {
        let (slot, superblock) = (opened.slot.clone(), opened.superblock.clone());
        let (default, candidate) = candidate::in_default_subvolume(&opened.mount, &slot, &superblock)?;
        opened.subvolume = Some(default);
        if let Some(candidate) = candidate {
            let candidate = RootCandidate { part, ..candidate };
            let list = [candidate.clone()];
            let wanted = !candidate::narrowed(list.to_vec(), self.choice, &self.layout.slots).is_empty();
            if wanted {
                return self.keep(opened, candidate);
            }
        }
        if default != candidate::TOP {
            opened.mount.close()?;
            opened.mount = mount(&opened.device, &superblock, self.point, Some(candidate::TOP), &slot)?;
        }
        let candidates = candidate::in_subvolumes(&opened.mount, &slot, &superblock)?;
        if candidates.is_empty() {
            let words = slot.words();
            self.seen.push(format!("{words}: btrfs, no subvolume of it is a root: none has etc/passwd"));
        }
        self.found.extend(candidates.into_iter().map(|candidate| RootCandidate { part, ..candidate }));
        opened.close()
    }

    fn keep(&mut self, opened: Opened, candidate: RootCandidate) -> Result<()> {
        if self.kept.is_none() {
            self.kept = Some((opened, (candidate.part, candidate.id.clone())));
        } else {
            opened.close()?;
        }
        self.found.push(candidate);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.kept.take().map_or(Ok(()), |(opened, _)| opened.close())
    }

    /// The mount of the candidate that was decided for.
    fn take(&mut self, candidate: &RootCandidate) -> Result<Opened> {
        if let Some((opened, id)) = self.kept.take() {
            if id == (candidate.part, candidate.id.clone()) {
                return Ok(opened);
            }
            opened.close()?;
        }
        let slot = self.parts[candidate.part].layout.slots.iter().find(|slot| {
            slot.partition.as_ref().map(|p| p.number) == candidate.partition
                && slot.logical.as_ref().map(crate::probe::Logical::id) == candidate.logical_volume
        });
        let slot = slot.context("the partition is gone")?;
        let superblock = slot.content.superblock().context("the filesystem is gone")?;
        self.open(candidate.part, slot, superblock, candidate.subvolume_id)
    }

    fn open(
        &self,
        part: usize,
        slot: &Slot,
        superblock: &Superblock,
        subvolume: Option<u64>,
    ) -> Result<Opened> {
        let Part { disk, layout, .. } = &self.parts[part];
        open(disk, layout, self.point, slot, superblock, subvolume)
    }
}

/// Mounts what is on the slot at `point`. Whatever will be asked of the volume later, this writes nothing.
pub(super) fn open(
    disk: &Disk,
    layout: &Layout,
    point: &Path,
    slot: &Slot,
    superblock: &Superblock,
    subvolume: Option<u64>,
) -> Result<Opened> {
    if superblock.kind == Kind::Btrfs {
        refuse_twin(superblock)?;
    }
    let device = bind(disk, layout, slot, superblock, Access::ReadOnly)?;
    let mut journal = match superblock.dirty() {
        Some(true) => Journal::Dirty,
        _ => Journal::Clean,
    };
    let mount = if superblock.kind == Kind::Xfs {
        // xfs does not say in its superblock whether the log is clean: on a device without writes it mounts if so.
        match filesystem::mount(&device, superblock.kind, point, Replay::ReadOnly, None) {
            Err(error) if filesystem::needs_replay(&error) => {
                journal = Journal::Dirty;
                mount(&device, superblock, point, None, slot)?
            }
            done => done.map_err(|error| filesystem::explain(error, slot, superblock))?,
        }
    } else {
        mount(&device, superblock, point, subvolume, slot)?
    };
    Ok(Opened { mount, device, slot: slot.clone(), superblock: superblock.clone(), journal, subvolume })
}

pub(super) fn mount(
    device: &LoopDevice,
    superblock: &Superblock,
    point: &Path,
    subvolume: Option<u64>,
    slot: &Slot,
) -> Result<Mount> {
    filesystem::mount(device, superblock.kind, point, Replay::Skip, subvolume)
        .map_err(|error| filesystem::explain(error, slot, superblock))
}

/// A loop device for the slot.
pub(super) fn bind(
    disk: &Disk,
    layout: &Layout,
    slot: &Slot,
    superblock: &Superblock,
    access: Access,
) -> Result<LoopDevice> {
    let read_only = access == Access::ReadOnly;
    if let Some(member) = slot.mirror.as_ref().filter(|_| !read_only) {
        return Err(super::stack::alone(member, &slot.words()).into());
    }
    let block_size = block_size(layout, slot, superblock);
    LoopDevice::attach(disk, &LoopSetup { offset: slot.start, size: slot.size, read_only, block_size })
}

/// The logical block size for the loop device: that of the disk's table, unless the filesystem or its extent was made
/// for smaller ones.
pub(super) fn block_size(layout: &Layout, slot: &Slot, superblock: &Superblock) -> u32 {
    let small = match &superblock.detail {
        crate::probe::Detail::Xfs(xfs) => u32::from(xfs.sector_size) < layout.table.sector_size,
        _ => false,
    };
    let aligned = slot.start.is_multiple_of(4096) && slot.size.is_multiple_of(4096);
    if small || !aligned { 512 } else { layout.table.sector_size }
}

/// The kernel tells btrfs filesystems apart by their id alone: with a second one of the same id mounted, it might write
/// to the wrong one.
pub(super) fn refuse_twin(superblock: &Superblock) -> Result<(), Refusal> {
    let Some(uuid) = &superblock.uuid else { return Ok(()) };
    let sys = PathBuf::from("/sys/fs/btrfs").join(uuid);
    let devices = names(&sys.join("devices"));
    if devices.is_empty() && text(&sys.join("nodesize")).is_none() {
        return Ok(());
    }
    let is_one = |source: &Path| {
        source.file_name().and_then(|n| n.to_str()).is_some_and(|n| devices.iter().any(|d| d == n))
    };
    let mount = own_mounts().into_iter().find(|line| line.kind == "btrfs" && is_one(&line.source));
    let place = mount.map_or_else(String::new, |line| format!(" on {}", line.point.display()));
    Err(Refusal::unsafe_(format!(
        "a btrfs with the same id ({uuid}) is mounted on this machine{place}, from {}",
        devices.join(", ")
    ))
    .hint("The kernel could mix the two up. Use a helper that was not made from the same image, or unmount that one."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{FoundLogical, Logical, Table};

    #[test]
    fn a_disk_that_is_missing_is_asked_for_and_what_is_here_is_opened_by_lvm() {
        let hint = |fault: &str| {
            let (group, name) = ("vg".into(), "root".into());
            let logical = Logical { group, name, fault: Some(fault.into()), pieces: Vec::new() };
            let found = FoundLogical { logical, disk: 0, start: 0, size: 0, content: Content::Unknown };
            let layout = Layout { table: Table::none(512), slots: vec![Slot::logical(found, None)] };
            in_pieces(&layout, &Choice::default()).and_then(|refusal| refusal.hint).unwrap_or_default()
        };
        let lacking = hint("it lies on physical volume AB (once /dev/vdb), which is not here");
        assert!(lacking.contains("--with") && !lacking.contains("vgchange"), "{lacking}");
        let thin = hint("it is of type thin");
        assert!(thin.contains("vgchange -ay vg") && thin.contains("/dev/vg/root"), "{thin}");
    }
}
