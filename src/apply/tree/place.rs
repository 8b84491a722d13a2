//! Where a directory of a tree is: a name in its parent, so that ten thousand levels cost no more than their names.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory below the top of a tree; without parent it is the top.
#[derive(Debug)]
pub(super) struct Place {
    parent: Option<(Arc<Place>, CString)>,
    depth: u32,
}

impl Place {
    pub(super) fn top() -> Arc<Self> {
        Arc::new(Self { parent: None, depth: 0 })
    }

    pub(super) fn child(self: &Arc<Self>, name: CString) -> Arc<Self> {
        Arc::new(Self { depth: self.depth + 1, parent: Some((Arc::clone(self), name)) })
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    pub(super) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref().map(|(parent, _)| parent)
    }

    /// The place so many levels above; the top where there are fewer.
    pub(super) fn above(self: &Arc<Self>, levels: u32) -> Arc<Self> {
        let mut at = self;
        for _ in 0..levels {
            let Some(parent) = at.parent() else { break };
            at = parent;
        }
        Arc::clone(at)
    }

    /// The names from `above` (an ancestor's depth) down to this place.
    pub(super) fn names_below(&self, above: u32) -> Vec<&OsStr> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some((parent, name)) = &at.parent
            && at.depth > above
        {
            names.push(OsStr::from_bytes(name.to_bytes()));
            at = parent;
        }
        names.reverse();
        names
    }

    /// The path in the volume of a name here.
    pub(super) fn path_of(&self, top: &Path, name: &CStr) -> PathBuf {
        let mut path = self.path(top);
        path.push(OsStr::from_bytes(name.to_bytes()));
        path
    }

    /// The path in the volume.
    pub(super) fn path(&self, top: &Path) -> PathBuf {
        let mut path = top.to_path_buf();
        path.extend(self.names_below(0));
        path
    }

    /// The depth of the deepest directory that holds both.
    pub(super) fn common_depth(self: &Arc<Self>, other: &Arc<Self>) -> u32 {
        let (mut a, mut b) = (self, other);
        while !Arc::ptr_eq(a, b) {
            let (Some(above_a), Some(above_b)) = (a.parent(), b.parent()) else { return 0 };
            match a.depth.cmp(&b.depth) {
                std::cmp::Ordering::Greater => a = above_a,
                std::cmp::Ordering::Less => b = above_b,
                std::cmp::Ordering::Equal => (a, b) = (above_a, above_b),
            }
        }
        a.depth
    }
}

impl Drop for Place {
    /// One by one: a chain of ten thousand must not be dropped by recursion.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some((parent, _)) = next {
            next = Arc::into_inner(parent).and_then(|mut place| place.parent.take());
        }
    }
}
