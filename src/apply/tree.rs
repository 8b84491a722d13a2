//! chown of everything below a directory, by DESIGN's policies, in bounded memory and with few descriptors.
//!
//! The walk goes by open directories and single names, never through a link, never onto another filesystem or mount.
//! What is to change is gathered into batches: the old owners of a batch are durable in the journal before the first
//! of its entries changes. Files with several names wait until it is known that all of them lie inside.

use crate::apply::Watch;
use crate::journal::Journal;
use crate::plan::TreeOwners;
use crate::root::{Directory, Root};
use crate::sys::inode::Statx;
use anyhow::Result;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod batch;
mod links;
mod place;
mod walk;

use batch::{Pending, PendingEntry};
use links::Links;
use place::Place;
use walk::{Seen, Walk};

/// How many different owners of kept entries are told apart.
const OWNERS: usize = 1000;
/// How many entries go into one batch, about.
const BATCH: usize = 4096;

/// Entries of one owner that were left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The owner, as a number of the volume.
    pub owner: u32,
    /// How many.
    pub entries: u64,
    /// One of them.
    pub example: PathBuf,
}

/// What a walk of a tree found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeResult {
    /// Entries that changed hands, or would.
    pub changed: u64,
    /// Entries that already were as they should be.
    pub unchanged: u64,
    /// Entries of other owners, by owner.
    pub kept: Vec<Kept>,
    /// Files left alone because they have names outside the tree too.
    pub hardlinks_outside: u64,
    /// One of them.
    pub hardlink_example: Option<PathBuf>,
    /// Entries where another filesystem or mount begins; what is below was not looked at.
    pub other_filesystems: u64,
    /// It was stopped before the end.
    pub stopped: bool,
}

/// How far a survey goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survey {
    /// Everything is counted.
    Whole,
    /// It ends soon after the first entry that would change: whether there is one is all that is asked.
    UntilChange,
}

/// What would change below `path`, without changing it.
///
/// # Errors
/// If a directory can't be read.
pub fn survey_tree(
    root: &Root,
    path: &Path,
    (uid, gid): (u32, u32),
    owners: &TreeOwners,
    extent: Survey,
    watch: &mut dyn Watch,
) -> Result<TreeResult> {
    let top = root.directory(path)?;
    let mut tree = Tree::new(root, path, &top, (uid, gid), owners, watch)?;
    tree.survey(extent)?;
    Ok(tree.into_result())
}

/// What becomes of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Take,
    Right,
    Keep,
}

pub(super) struct Tree<'a> {
    root: &'a Root,
    path: &'a Path,
    top: &'a Directory,
    device: u64,
    to: (u32, u32),
    owners: &'a TreeOwners,
    watch: &'a mut dyn Watch,
    result: TreeResult,
    kept: BTreeMap<u32, (u64, PathBuf)>,
    links: Links,
    extent: Survey,
}

/// What is done with entries that are to change.
struct Effects<'a> {
    journal: &'a mut Journal,
    intent: &'a dyn Fn(&mut Journal) -> Result<u64>,
    of: Option<u64>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        root: &'a Root,
        path: &'a Path,
        top: &'a Directory,
        to: (u32, u32),
        owners: &'a TreeOwners,
        watch: &'a mut dyn Watch,
    ) -> Result<Self> {
        let device = top.itself()?.stat()?.dev;
        Ok(Self {
            root,
            path,
            top,
            device,
            to,
            owners,
            watch,
            result: TreeResult::default(),
            kept: BTreeMap::new(),
            links: Links::new(1),
            extent: Survey::Whole,
        })
    }

    pub(super) fn into_result(self) -> TreeResult {
        let kept = self.kept.into_iter().map(|(owner, (entries, example))| Kept { owner, entries, example });
        TreeResult { kept: kept.collect(), ..self.result }
    }

    fn survey(&mut self, extent: Survey) -> Result<()> {
        self.extent = extent;
        self.run(None)
    }

    /// Takes what is to be taken. `intent` is called once, before the first batch.
    pub(super) fn chown(
        &mut self,
        journal: &mut Journal,
        intent: &dyn Fn(&mut Journal) -> Result<u64>,
    ) -> Result<()> {
        self.run(Some(&mut Effects { journal, intent, of: None }))
    }

    fn run(&mut self, mut effects: Option<&mut Effects<'_>>) -> Result<()> {
        self.pass(Pass::Everything, effects.as_deref_mut())?;
        if self.result.stopped {
            return Ok(());
        }
        // So many files with several names that they did not fit: once more over the tree for each share of them.
        let shares = self.links.shares_needed();
        if shares == 1 {
            return self.finish_links(effects);
        }
        for share in 0..shares {
            self.links = Links::new(shares);
            self.pass(Pass::Links { share }, effects.as_deref_mut())?;
            if self.result.stopped {
                return Ok(());
            }
            self.finish_links(effects.as_deref_mut())?;
        }
        Ok(())
    }

    fn pass(&mut self, pass: Pass, mut effects: Option<&mut Effects<'_>>) -> Result<()> {
        let mut walk = Walk::new(self.root, self.top, self.path, self.device)?;
        let mut pending = Pending::default();
        while let Some(mut seen) = walk.next_chunk()? {
            if self.watch.stop() {
                self.result.stopped = true;
                break;
            }
            if pass == Pass::Everything {
                self.result.other_filesystems += std::mem::take(&mut seen.elsewhere);
                self.watch.tick(seen.entries.len() as u64, self.path);
            }
            self.sort(seen, pass, &mut pending, effects.is_some());
            if pending.len() >= BATCH {
                self.flush(&mut pending, effects.as_deref_mut())?;
            }
            if self.extent == Survey::UntilChange && self.result.changed > 0 {
                break;
            }
        }
        self.flush(&mut pending, effects)
    }

    /// Decides over the entries of one piece of a directory.
    fn sort(&mut self, seen: Seen, pass: Pass, pending: &mut Pending, gather: bool) {
        let mut taken = Vec::new();
        for (name, stat) in seen.entries {
            let fate = self.fate(&stat);
            let linked = stat.nlink > 1 && stat.mode & 0o170_000 != 0o040_000;
            match (fate, pass) {
                (Fate::Take, Pass::Everything) if linked => self.links.see(&stat, &seen.place, &name, 0),
                (Fate::Take, Pass::Links { share }) if linked => {
                    self.links.see(&stat, &seen.place, &name, share);
                }
                (_, Pass::Links { .. }) => {}
                (Fate::Take, Pass::Everything) => {
                    self.result.changed += 1;
                    if gather {
                        taken.push(PendingEntry::new(name, &stat));
                    }
                }
                (Fate::Right, Pass::Everything) => self.result.unchanged += 1,
                (Fate::Keep, Pass::Everything) => self.keep(stat.uid, &seen.place, &name),
            }
        }
        if !taken.is_empty() {
            pending.push(seen.place, taken);
        }
    }

    fn fate(&self, stat: &Statx) -> Fate {
        match self.owners {
            _ if (stat.uid, stat.gid) == self.to => Fate::Right,
            TreeOwners::All => Fate::Take,
            // Who owns a device node owns the device.
            TreeOwners::Of { .. } if matches!(stat.mode & 0o170_000, 0o020_000 | 0o060_000) => Fate::Keep,
            TreeOwners::Of { uids } if uids.contains(&stat.uid) => Fate::Take,
            TreeOwners::Of { .. } if stat.uid == self.to.0 => Fate::Right,
            TreeOwners::Of { .. } => Fate::Keep,
        }
    }

    fn keep(&mut self, owner: u32, place: &Arc<Place>, name: &CString) {
        if let Some((entries, _)) = self.kept.get_mut(&owner) {
            *entries += 1;
        } else if self.kept.len() < OWNERS {
            self.kept.insert(owner, (1, place.path_of(self.path, name)));
        } else if let Some((entries, _)) = self.kept.values_mut().next_back() {
            // A tree with thousands of owners is no home; the last one known stands for the rest.
            *entries += 1;
        }
    }

    /// Files whose names all lie inside are taken, by one of their names; the others are counted.
    fn finish_links(&mut self, mut effects: Option<&mut Effects<'_>>) -> Result<()> {
        let links = std::mem::replace(&mut self.links, Links::new(1));
        let mut pending = Pending::default();
        for link in links.into_files() {
            if !link.is_inside() {
                self.result.hardlinks_outside += 1;
                if self.result.hardlink_example.is_none() {
                    self.result.hardlink_example = Some(link.place.path_of(self.path, &link.name));
                }
                continue;
            }
            // Every one of its names changes hands.
            self.result.changed += u64::from(link.seen);
            if effects.is_some() {
                pending.push(link.place, vec![link.entry.with_name(link.name)]);
            }
            if pending.len() >= BATCH {
                self.flush(&mut pending, effects.as_deref_mut())?;
            }
        }
        self.flush(&mut pending, effects)
    }

    /// Journals a batch, then changes it.
    fn flush(&mut self, pending: &mut Pending, effects: Option<&mut Effects<'_>>) -> Result<()> {
        let Some(effects) = effects else { return Ok(()) };
        if pending.len() == 0 {
            return Ok(());
        }
        let of = match effects.of {
            Some(of) => of,
            None => *effects.of.insert((effects.intent)(effects.journal)?),
        };
        let mut batch = std::mem::take(pending);
        let looked = batch.look_closer(self.root, self.top, self.path);
        let done = looked.and_then(|()| {
            effects.journal.batch(batch.record(of, self.to, self.path))?;
            batch.change(self.root, self.top, self.path, self.to)
        });
        // What was gone or could not be done any more was counted as changed.
        self.result.changed -= batch.missed().min(self.result.changed);
        done
    }
}

/// Which entries a walk is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Everything,
    /// Only files with several names, and of these one share.
    Links {
        share: u64,
    },
}
