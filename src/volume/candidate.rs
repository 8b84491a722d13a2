//! Which filesystem is the root, decided by what is in it.

use super::mount::Mount;
use super::proc::own_mounts;
use crate::error::Refusal;
use crate::inventory::Inventory;
use crate::os::OsFacts;
use crate::probe::{Slot, Superblock};
use crate::root::{Crossing, Root};
use crate::sys::block::{btrfs_is_read_only, btrfs_subvolume_id};
use crate::view::{View, follow};
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What settles which filesystem is the root when several could be (`--partition`, `--root`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The number of the partition.
    pub partition: Option<u32>,
    /// The id of a candidate, or the filesystem's UUID or label, the partition's UUID, a subvolume's name or number.
    pub root: Option<String>,
}

/// A filesystem, or a subvolume of one, that could be `/`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RootCandidate {
    /// The name to choose it by: `p1`, `disk`, `p2:@`.
    pub id: String,
    /// The number of its partition; `None` for the whole disk and for a logical volume.
    pub partition: Option<u32>,
    /// The logical volume that it lies on: `vg/lv`.
    pub logical_volume: Option<String>,
    /// The kind of its filesystem.
    pub filesystem: &'static str,
    /// The filesystem's id.
    pub uuid: Option<String>,
    /// The filesystem's name.
    pub label: Option<String>,
    /// The path of the btrfs subvolume; `None` for the top of a filesystem.
    pub subvolume: Option<String>,
    /// The system in it, as os-release names it.
    pub os: Option<String>,
    #[serde(skip)]
    pub(super) subvolume_id: Option<u64>,
    /// Which of the disks it is on: the one that was given, or one that was opened in it.
    #[serde(skip)]
    pub(super) part: usize,
}

impl RootCandidate {
    fn new(slot: &Slot, superblock: &Superblock, facts: Facts, subvolume: Option<(u64, String)>) -> Self {
        let partition = slot.partition.as_ref().map(|p| p.number);
        let place = slot_id(slot);
        let name = subvolume.as_ref().map(|(_, name)| name.clone()).filter(|name| !name.is_empty());
        Self {
            id: name.as_ref().map_or_else(|| place.clone(), |name| format!("{place}:{name}")),
            partition,
            logical_volume: slot.logical.as_ref().map(crate::probe::Logical::id),
            filesystem: superblock.kind.name(),
            uuid: superblock.uuid.clone(),
            label: superblock.label.clone(),
            subvolume: name,
            os: facts.os,
            subvolume_id: subvolume.map(|(id, _)| id),
            part: 0,
        }
    }

    /// One of which nothing but its place is known.
    #[cfg(test)]
    pub(crate) fn at(partition: Option<u32>, logical_volume: Option<String>) -> Self {
        Self {
            id: String::new(),
            partition,
            logical_volume,
            filesystem: "",
            uuid: None,
            label: None,
            subvolume: None,
            os: None,
            subvolume_id: None,
            part: 0,
        }
    }

    /// In one line, for a list to choose from.
    #[must_use]
    pub fn words(&self) -> String {
        let place = match (&self.logical_volume, self.partition) {
            (Some(id), _) => format!("logical volume {id}"),
            (None, Some(number)) => format!("partition {number}"),
            (None, None) => "the whole disk".to_owned(),
        };
        let mut words = format!("{}: {place}, {}", self.id, self.filesystem);
        for (name, value) in [("label", &self.label), ("subvolume", &self.subvolume), ("uuid", &self.uuid)] {
            if let Some(value) = value {
                words.push_str(&format!(", {name} {value}"));
            }
        }
        if let Some(os) = &self.os {
            words.push_str(&format!(", {os}"));
        }
        words
    }

    /// Whether `root` names this subvolume.
    fn is_named(&self, root: &str) -> bool {
        self.id == root
            || self.subvolume.as_deref() == Some(root.trim_start_matches('/'))
            || self.subvolume_id.is_some_and(|id| id.to_string() == root)
    }

    /// Whether it is one of the snapshots that snapper keeps.
    fn is_snapshot(&self) -> bool {
        self.subvolume.as_ref().is_some_and(|name| name.contains(".snapshots/"))
    }
}

/// The part of a candidate's id that names its place.
pub(super) fn slot_id(slot: &Slot) -> String {
    match (&slot.logical, &slot.partition) {
        (Some(logical), _) => logical.id(),
        (None, Some(partition)) => format!("p{}", partition.number),
        (None, None) => "disk".to_owned(),
    }
}

/// Whether the choice leaves this slot in the running. A name that fits no slot may still be a subvolume's.
pub(super) fn is_chosen(choice: &Choice, slot: &Slot, slots: &[Slot]) -> bool {
    let Some(root) = &choice.root else {
        return choice.partition.is_none_or(|n| slot.partition.as_ref().is_some_and(|p| p.number == n));
    };
    let numbered = choice.partition.is_none_or(|n| slot.partition.as_ref().is_some_and(|p| p.number == n));
    let fits = |slot: &Slot| is_named(slot, root) || has_candidate(slot, root);
    numbered && (fits(slot) || !slots.iter().any(fits))
}

/// Whether `root` could be the id of a subvolume on this slot.
fn has_candidate(slot: &Slot, root: &str) -> bool {
    root.strip_prefix(&slot_id(slot)).is_some_and(|rest| rest.starts_with(':'))
}

/// Whether `root` names all that is on this slot.
fn is_named(slot: &Slot, root: &str) -> bool {
    let place = slot_id(slot);
    let same = |text: &Option<String>| text.as_deref() == Some(root);
    let id = |text: &Option<String>| text.as_ref().is_some_and(|t| t.eq_ignore_ascii_case(root));
    place == root
        || slot.content.superblock().is_some_and(|s| id(&s.uuid) || same(&s.label))
        || slot.partition.as_ref().is_some_and(|p| id(&p.uuid) || same(&p.label))
}

/// One of these in /etc is enough: a root may have lost the others.
const ACCOUNTS: [&str; 3] = ["passwd", "passwd-", "shadow"];

/// What the tree says of itself.
struct Facts {
    os: Option<String>,
}

/// Whether a tree is a root: it has accounts, and a system or the traces of one. What is broken in it does not count:
/// it is what we are here for.
fn facts(directory: OwnedFd, crossing: Crossing) -> Result<Option<Facts>> {
    let root = Root::new(directory, crossing)?;
    let view = Inventory::new(&root);
    let there = |path: &str| follow(&view, Path::new(path)).is_ok();
    let in_etc = |name: &str| {
        follow(&view, Path::new("/etc")).is_ok_and(|etc| view.lstat(&etc.path.join(name)).is_ok())
    };
    if in_etc("NIXOS") {
        return Err(Refusal::target("it holds NixOS, whose sshd and accounts are made from /nix/store at boot")
            .hint(
                "volrescue does not know that way. Mount it, add the key to users.users.NAME.openssh.authorizedKeys.keys \
                 in its configuration.nix, and have the system built anew: nixos-enter, then nixos-rebuild boot.",
            )
            .into());
    }
    let accounts = ACCOUNTS.into_iter().any(in_etc);
    let system = || ["/etc/os-release", "/usr/lib/os-release", "/bin", "/usr/bin"].into_iter().any(there);
    if !accounts || !(system() || in_etc("fstab")) {
        return Ok(None);
    }
    let os = OsFacts::detect(&view);
    Ok(Some(Facts { os: (!os.name.is_empty()).then_some(os.name) }))
}

/// Whether an open directory is a root, and the name of the system in it.
pub(super) fn root_in(directory: OwnedFd, crossing: Crossing) -> Result<Option<Option<String>>> {
    Ok(facts(directory, crossing)?.map(|facts| facts.os))
}

/// What a tree that is no root lacks.
pub(super) fn lack(root: &Root) -> &'static str {
    let view = Inventory::new(root);
    let accounts = follow(&view, Path::new("/etc"))
        .is_ok_and(|etc| ACCOUNTS.iter().any(|name| view.lstat(&etc.path.join(name)).is_ok()));
    if accounts {
        "it has accounts in etc, but no system: neither os-release nor bin nor etc/fstab"
    } else {
        "it has no etc/passwd"
    }
}

/// What a filesystem that is no root seems to be for.
pub(super) fn purpose(mount: &Mount) -> String {
    let root = || -> Result<Root> { Root::new(mount.root()?.try_clone_to_owned()?, Crossing::Never) };
    let root = root().ok();
    let names = root.as_ref().and_then(|root| root.list(Path::new("/"), 10_000).ok()).unwrap_or_default();
    if names.iter().any(|name| name == "ostree") {
        return "an ostree system: its root is a deployment below /ostree/deploy, which is not opened here"
            .into();
    }
    let has = |wanted: &[&str]| {
        names.iter().filter_map(|n| n.to_str()).any(|n| wanted.iter().any(|w| n.starts_with(w)))
    };
    if has(&["grub", "loader", "vmlinuz", "extlinux", "initr"]) {
        "the files to boot from, no root".into()
    } else if names.iter().all(|n| n == "lost+found") {
        "an empty filesystem".into()
    } else {
        format!("no root: {}", root.as_ref().map_or("it can't be looked at", lack))
    }
}

/// The candidate on a mounted ext or xfs.
pub(super) fn in_filesystem(
    mount: &Mount,
    slot: &Slot,
    superblock: &Superblock,
) -> Result<Option<RootCandidate>> {
    let facts = facts(mount.root()?.try_clone_to_owned()?, Crossing::Never)?;
    Ok(facts.map(|facts| RootCandidate::new(slot, superblock, facts, None)))
}

/// The top of a btrfs.
pub(super) const TOP: u64 = 5;

/// The candidate in the subvolume that a mounted btrfs gives without being asked for one.
pub(super) fn in_default_subvolume(
    mount: &Mount,
    slot: &Slot,
    superblock: &Superblock,
) -> Result<(u64, Option<RootCandidate>)> {
    let top = open(mount, Path::new("/")).context("opening the default subvolume")?;
    let id = btrfs_subvolume_id(&top).context("asking for the default subvolume")?;
    drop(top);
    let facts = facts(mount.root()?.try_clone_to_owned()?, Crossing::Never)?;
    let line = own_mounts().into_iter().rfind(|line| line.point == mount.point());
    let name = line.map(|line| line.root.to_string_lossy().trim_start_matches('/').to_owned());
    let named = (id, name.unwrap_or_default());
    Ok((id, facts.map(|facts| RootCandidate::new(slot, superblock, facts, Some(named)))))
}

/// The candidates among the subvolumes below the top, which is mounted.
pub(super) fn in_subvolumes(
    mount: &Mount,
    slot: &Slot,
    superblock: &Superblock,
) -> Result<Vec<RootCandidate>> {
    /// The inode number of the root directory of a subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
    const SUBVOLUME: u64 = 256;
    /// The most subvolumes that are looked into.
    const MANY: usize = 256;
    let top = Root::new(mount.root()?.try_clone_to_owned()?, Crossing::Never)?;
    let list = |path: &Path| top.list(path, 10_000).unwrap_or_default();
    let subvolumes = |directory: &Path| -> Vec<PathBuf> {
        let paths = list(directory).into_iter().map(|name| directory.join(name));
        let is = |path: &PathBuf| top.lstat(path).is_ok_and(|s| s.is_dir() && s.ino == SUBVOLUME);
        paths.filter(is).take(MANY).collect()
    };
    let first = subvolumes(Path::new("/"));
    let mut paths = first.clone();
    for holder in std::iter::once(PathBuf::from("/")).chain(first) {
        let snapshots = holder.join(".snapshots");
        let numbered = list(&snapshots).into_iter().map(|number| snapshots.join(number).join("snapshot"));
        paths.extend(numbered.take(MANY));
    }
    let mut found = Vec::new();
    for path in paths.into_iter().take(MANY) {
        let Some(directory) = open(mount, &path) else { continue };
        let Ok(id) = btrfs_subvolume_id(&directory) else { continue };
        if let Some(facts) = facts(directory, Crossing::Never)? {
            let name = path.to_string_lossy().trim_start_matches('/').to_owned();
            found.push(RootCandidate::new(slot, superblock, facts, Some((id, name))));
        }
    }
    Ok(found)
}

/// A directory below the top, for reading, never through a link.
fn open(mount: &Mount, path: &Path) -> Option<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let resolve =
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(mount.root().ok()?.as_fd(), path, OpenHow::new().flags(flags).resolve(resolve)).ok()
}

/// Whether the btrfs subvolume that is mounted refuses writes, however it is mounted.
pub(super) fn is_read_only(mount: &Mount) -> bool {
    open(mount, Path::new(".")).is_some_and(|top| btrfs_is_read_only(&top).unwrap_or(false))
}

/// The number of the subvolume at a path below the top, which is mounted.
pub(super) fn subvolume_at(mount: &Mount, path: &Path) -> Option<u64> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    btrfs_subvolume_id(&open(mount, path)?).ok()
}

/// Those that the choice leaves, and of snapshots only what is left when there is nothing else.
pub(super) fn narrowed(
    mut candidates: Vec<RootCandidate>,
    choice: &Choice,
    slots: &[Slot],
) -> Vec<RootCandidate> {
    if let Some(root) = &choice.root {
        let exact: Vec<_> = candidates.iter().filter(|c| c.is_named(root)).cloned().collect();
        if !exact.is_empty() {
            return exact;
        }
        if !slots.iter().any(|slot| is_named(slot, root)) {
            return Vec::new();
        }
    }
    if candidates.iter().any(|c| !c.is_snapshot()) {
        candidates.retain(|c| !c.is_snapshot());
    }
    candidates
}
