//! Files with several names, waiting until it is known whether all their names lie in the tree.

use super::batch::PendingEntry;
use super::inodes::Seen;
use super::place::Place;
use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many such files are remembered at once.
const MEMORY: usize = 100_000;

/// One file.
pub(super) struct Linked {
    pub(super) place: Arc<Place>,
    pub(super) name: CString,
    pub(super) entry: PendingEntry,
    pub(super) seen: u32,
    nlink: u32,
}

impl Linked {
    pub(super) fn is_inside(&self) -> bool {
        self.seen >= self.nlink
    }

    pub(super) fn path(&self, top: &Path) -> PathBuf {
        self.place.path_of(top, &self.name)
    }
}

/// Those of one share of all inode numbers.
pub(super) struct Links {
    files: HashMap<u64, Linked>,
    shares: u64,
    /// How many names did not fit.
    overflow: u64,
}

impl Links {
    pub(super) fn new(shares: u64) -> Self {
        Self { files: HashMap::new(), shares, overflow: 0 }
    }

    /// A name of such a file. All are on one device. `false` if there was no room for it.
    pub(super) fn see(&mut self, seen: &Seen, place: &Arc<Place>, name: &CString, share: u64) -> bool {
        let stat = &seen.stat;
        if stat.ino % self.shares != share {
            return true;
        }
        if let Some(linked) = self.files.get_mut(&stat.ino) {
            linked.seen += 1;
            // Which of its names stands for the file must not hang on which was seen first.
            let order = (place.depth(), name).cmp(&(linked.place.depth(), &linked.name));
            if order.then_with(|| place.names_below(0).cmp(&linked.place.names_below(0))).is_lt() {
                (linked.place, linked.name) = (Arc::clone(place), name.clone());
            }
        } else if self.shares == 1 && (self.overflow > 0 || self.files.len() >= MEMORY) {
            // From here on only counting: another walk takes them share by share.
            self.overflow += 1;
            return false;
        } else {
            let entry = PendingEntry::new(CString::default(), seen);
            let (place, name) = (Arc::clone(place), name.clone());
            self.files.insert(stat.ino, Linked { place, name, entry, seen: 1, nlink: stat.nlink });
        }
        true
    }

    /// Whether all of them are here.
    pub(super) fn are_all(&self) -> bool {
        self.overflow == 0
    }

    /// In how many shares they fit into memory.
    pub(super) fn shares_needed(&self) -> u64 {
        match self.overflow {
            0 => 1,
            // Inode numbers are not spread evenly; half full on average leaves room.
            overflow => 2 + (overflow + self.files.len() as u64) / (MEMORY as u64 / 2),
        }
    }

    pub(super) fn into_files(self) -> impl Iterator<Item = Linked> {
        let mut files: Vec<Linked> = self.files.into_values().collect();
        files.sort_by_key(|linked| linked.entry.ino());
        files.into_iter()
    }
}
