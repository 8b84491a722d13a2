//! chown of everything below a directory, by DESIGN's policies, in bounded memory and with few descriptors.
//!
//! The walk goes by open directories and single names, never through a link, never onto another filesystem or mount,
//! by several threads in a large tree. What is to change is gathered into batches: the old owners of a batch are
//! durable in the journal before the first of its entries changes. Files with several names wait until it is known that
//! all of them lie inside. What is told does not depend on the number of threads.

use crate::apply::Watch;
use crate::journal::Journal;
use crate::plan::TreeOwners;
use crate::root::{Crossing, Directory, Root};
use crate::sys::mounts::bare_mount_of;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

mod batch;
mod crew;
mod desk;
mod inodes;
mod links;
mod place;
mod walk;

use batch::{Pending, Piece};
use crew::Crew;
use desk::Desk;
use inodes::{Inodes, User};
use links::Links;
use place::Place;
use walk::{Context, Hold};

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
    /// It ends soon after the first entry that would change: whether there is one is all that is asked, before a repair. A
    /// running system may be made to write what it has changed of inodes.
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
    tally: Tally,
    stopped: bool,
    extent: Survey,
    /// Who uses the filesystem; `None` where names must be asked for.
    user: Option<User>,
    inodes: Arc<OnceLock<Option<Inodes>>>,
}

/// What a walk has found so far.
struct Tally {
    changed: u64,
    unchanged: u64,
    elsewhere: u64,
    hardlinks_outside: u64,
    hardlink_example: Option<PathBuf>,
    /// Of the lowest [`OWNERS`] owners: how many entries, and the path that sorts first.
    kept: BTreeMap<u32, (u64, PathBuf)>,
    /// Entries of further owners.
    kept_more: u64,
    /// Files with several names that are to change.
    links: Links,
    /// The same of other owners.
    kept_links: Links,
}

impl Tally {
    fn new() -> Self {
        Self {
            changed: 0,
            unchanged: 0,
            elsewhere: 0,
            hardlinks_outside: 0,
            hardlink_example: None,
            kept: BTreeMap::new(),
            kept_more: 0,
            links: Links::new(1),
            kept_links: Links::new(1),
        }
    }

    /// A file that stays as it is, for one of its names is outside.
    fn outside(&mut self, path: PathBuf) {
        self.hardlinks_outside += 1;
        if self.hardlink_example.as_ref().is_none_or(|example| path < *example) {
            self.hardlink_example = Some(path);
        }
    }

    /// A file of another owner with a name outside would not be taken by any option, so that it is not told among those
    /// which would. Of more than can be remembered nobody knows where their names are: they are told as the others.
    fn finish_kept_links(&mut self, top: &Path) {
        let links = std::mem::replace(&mut self.kept_links, Links::new(1));
        let known = links.are_all();
        for link in links.into_files() {
            if known && !link.is_inside() {
                self.outside(link.path(top));
            } else {
                self.keep(link.entry.owner(), link.seen.into(), || link.path(top));
            }
        }
    }

    fn elsewhere(&mut self, context: &Context<'_>, entries: u64) {
        if context.pass == Pass::Everything {
            self.elsewhere += entries;
        }
    }

    fn keep(&mut self, owner: u32, entries: u64, path: impl FnOnce() -> PathBuf) {
        if let Some((all, example)) = self.kept.get_mut(&owner) {
            *all += entries;
            let path = path();
            if path < *example {
                *example = path;
            }
            return;
        }
        // A tree with thousands of owners is no home; the last one told stands for the rest.
        if self.kept.len() < OWNERS || self.kept.last_key_value().is_some_and(|(last, _)| owner < *last) {
            self.kept.insert(owner, (entries, path()));
        } else {
            self.kept_more += entries;
        }
        if self.kept.len() > OWNERS
            && let Some((_, (entries, _))) = self.kept.pop_last()
        {
            self.kept_more += entries;
        }
    }
}

/// What is done with entries that are to change.
struct Effects<'a> {
    journal: &'a mut Journal,
    intent: &'a dyn Fn(&mut Journal) -> Result<u64>,
    of: Option<u64>,
}

impl Effects<'_> {
    /// The number of the intent, recorded when it is first asked for.
    fn number(&mut self) -> Result<u64> {
        match self.of {
            Some(of) => Ok(of),
            None => Ok(*self.of.insert((self.intent)(self.journal)?)),
        }
    }
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
        let (tally, extent) = (Tally::new(), Survey::Whole);
        let user = match root.crossing() {
            // Nothing is mounted over files there.
            Crossing::Never => Some(User::Us),
            // The driver of ext2 alone keeps what has changed to itself for a while.
            Crossing::LoginPath => bare_mount_of(top)
                .filter(|mount| ["ext3", "ext4", "btrfs"].contains(&mount.kind.as_str()))
                .map(|_| User::Others { may_write: false }),
        };
        let inodes = Arc::default();
        Ok(Self { root, path, top, device, to, owners, watch, tally, stopped: false, extent, user, inodes })
    }

    pub(super) fn into_result(self) -> TreeResult {
        let mut tally = self.tally;
        if let Some((entries, _)) = tally.kept.values_mut().next_back() {
            *entries += tally.kept_more;
        }
        let kept = tally.kept.into_iter().map(|(owner, (entries, example))| Kept { owner, entries, example });
        TreeResult {
            changed: tally.changed,
            unchanged: tally.unchanged,
            kept: kept.collect(),
            hardlinks_outside: tally.hardlinks_outside,
            hardlink_example: tally.hardlink_example,
            other_filesystems: tally.elsewhere,
            stopped: self.stopped,
        }
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
        // The walk keeps to the top's filesystem: what holds for the top holds for all.
        self.top.check_real().with_context(|| format!("changing {}", self.path.display()))?;
        self.run(Some(&mut Effects { journal, intent, of: None }))
    }

    fn run(&mut self, mut effects: Option<&mut Effects<'_>>) -> Result<()> {
        if let Some(User::Others { may_write }) = &mut self.user {
            *may_write = effects.is_some() || self.extent == Survey::UntilChange;
        }
        self.pass(Pass::Everything, effects.as_deref_mut())?;
        self.tally.finish_kept_links(self.path);
        if self.stopped {
            return Ok(());
        }
        // So many files with several names that they did not fit: once more over the tree for each share of them.
        let shares = self.tally.links.shares_needed();
        if shares == 1 {
            return self.finish_links(effects);
        }
        for share in 0..shares {
            self.tally.links = Links::new(shares);
            self.pass(Pass::Links { share }, effects.as_deref_mut())?;
            if self.stopped {
                return Ok(());
            }
            self.finish_links(effects.as_deref_mut())?;
        }
        Ok(())
    }

    fn context(&self, pass: Pass, gather: bool) -> Context<'a> {
        let tree = (self.root, self.top, self.path, self.device);
        Context::new(tree, (self.to, self.owners), (pass, gather), (self.user, Arc::clone(&self.inodes)))
    }

    fn pass(&mut self, pass: Pass, effects: Option<&mut Effects<'_>>) -> Result<()> {
        let context = self.context(pass, effects.is_some());
        self.stopped |= Crew::new(&context, &mut self.tally, self.extent).run(effects, self.watch)?;
        Ok(())
    }

    /// Files whose names all lie inside are taken, by one of their names; the others are counted.
    fn finish_links(&mut self, mut effects: Option<&mut Effects<'_>>) -> Result<()> {
        let links = std::mem::replace(&mut self.tally.links, Links::new(1));
        let mut pending = Pending::default();
        // Every one of a file's names changes hands.
        let mut names = 0;
        for link in links.into_files() {
            if !link.is_inside() {
                self.tally.outside(link.path(self.path));
                continue;
            }
            names += u64::from(link.seen);
            if effects.is_some() {
                let entries = vec![link.entry.with_name(link.name)];
                pending.push(Piece { hold: Hold::closed(link.place), entries });
            }
            if pending.len() >= BATCH {
                self.flush(&mut pending, std::mem::take(&mut names), effects.as_deref_mut())?;
            }
        }
        self.flush(&mut pending, names, effects)
    }

    /// Journals a batch, then changes it; it stands for so many names.
    fn flush(&mut self, pending: &mut Pending, names: u64, effects: Option<&mut Effects<'_>>) -> Result<()> {
        let Some(effects) = effects else {
            self.tally.changed += names;
            return Ok(());
        };
        let mut batch = std::mem::take(pending);
        if batch.len() == 0 {
            return Ok(());
        }
        let of = effects.number()?;
        let context = self.context(Pass::Everything, true);
        let mut desk = Desk::shared();
        batch.look_closer(&context, &mut desk)?;
        effects.journal.batch(batch.record(of, self.to, self.path))?;
        let mut changed = 0;
        let done = batch.change(&context, &mut desk, &mut changed);
        // What was gone or could not be done any more is not counted.
        self.tally.changed += names.saturating_sub(batch.len() as u64 - changed);
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

impl Pass {
    /// Which share of the files with several names it is about.
    fn share(self) -> u64 {
        match self {
            Self::Everything => 0,
            Self::Links { share } => share,
        }
    }
}
