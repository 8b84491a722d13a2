//! A volume as it would be after some actions: how a plan is judged before anything is done.

use super::action::{Action, Change, TreeOwners};
use crate::permissions::acl;
use crate::selinux::Policy;
use crate::sshd::build::Build;
use crate::view::{FileKind, LIST_LIMIT, LookError, Stat, View};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What differs from the volume below at one path.
#[derive(Clone, Debug)]
struct Node {
    stat: Stat,
    /// The content, or the target of a link, where it is not that of the volume.
    content: Option<Vec<u8>>,
    xattrs: BTreeMap<String, Option<Vec<u8>>>,
    /// Nothing of the volume shows through.
    new: bool,
}

#[derive(Clone, Debug)]
struct Tree {
    below: PathBuf,
    uid: u32,
    gid: u32,
    owners: TreeOwners,
}

/// A [`View`] of another view with actions done to it in memory.
#[derive(Clone)]
pub struct Overlay<'a> {
    base: &'a dyn View,
    nodes: BTreeMap<PathBuf, Node>,
    trees: Vec<Tree>,
    removed: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("nodes", &self.nodes.keys()).field("trees", &self.trees).finish()
    }
}

impl<'a> Overlay<'a> {
    /// Nothing done yet.
    #[must_use]
    pub fn new(base: &'a dyn View) -> Self {
        Self { base, nodes: BTreeMap::new(), trees: Vec::new(), removed: BTreeSet::new() }
    }

    /// Does an action in memory. What could not be done on the volume either is passed over.
    pub fn apply(&mut self, action: &Action) {
        let path = &action.path;
        match &action.change {
            Change::SetMode { to, .. } => self.edit(path, |node| node.stat.mode = *to),
            Change::SetOwner { to, .. } => self.edit(path, |node| (node.stat.uid, node.stat.gid) = *to),
            Change::SetXattr { name, to, .. } => self.edit(path, |node| {
                node.xattrs.insert(name.clone(), to.clone());
                // The kernel keeps the mode and the access ACL the same.
                if name == acl::ACCESS
                    && let Some(list) = to.as_deref().and_then(acl::Acl::parse)
                {
                    node.stat.mode = node.stat.mode & 0o7000 | list.mode();
                }
            }),
            Change::CreateDirectory { mode, uid, gid, xattrs } => {
                self.create(path, FileKind::Directory, *mode, (*uid, *gid), Vec::new(), xattrs);
            }
            Change::CreateLink { target, uid, gid } => {
                use std::os::unix::ffi::OsStrExt;
                let target = target.as_os_str().as_bytes().to_vec();
                self.create(path, FileKind::Symlink, 0o777, (*uid, *gid), target, &[]);
            }
            Change::RemoveLink { .. } | Change::RemoveFile { .. } => {
                self.nodes.remove(path);
                self.removed.insert(path.clone());
            }
            Change::WriteFile { content, mode, uid, gid, xattrs, .. } => {
                self.create(path, FileKind::Regular, *mode, (*uid, *gid), content.clone(), xattrs);
            }
            Change::ChownTree { uid, gid, owners } => {
                let tree = Tree { below: path.clone(), uid: *uid, gid: *gid, owners: owners.clone() };
                for (at, node) in &mut self.nodes {
                    tree.own(at, &mut node.stat);
                }
                self.trees.push(tree);
            }
        }
    }

    fn edit(&mut self, path: &Path, change: impl FnOnce(&mut Node)) {
        let Ok(stat) = self.lstat(path) else { return };
        let fresh = Node { stat, content: None, xattrs: BTreeMap::new(), new: false };
        change(self.nodes.entry(path.to_path_buf()).or_insert(fresh));
    }

    fn create(
        &mut self,
        path: &Path,
        kind: FileKind,
        mode: u32,
        (uid, gid): (u32, u32),
        content: Vec<u8>,
        xattrs: &[(String, Vec<u8>)],
    ) {
        let old = self.lstat(path).ok();
        let dev = path.ancestors().find_map(|at| self.lstat(at).ok()).map_or(0, |stat| stat.dev);
        let size = content.len() as u64;
        let ino = u64::MAX - self.nodes.len() as u64;
        let nlink = if kind == FileKind::Directory { 2 } else { 1 };
        let stat =
            Stat { kind, mode, uid, gid, nlink, size, dev, ino, mtime: old.map_or(0, |stat| stat.mtime) };
        let xattrs = xattrs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        // A replaced file keeps its other attributes; a new one has none.
        let new = old.is_none_or(|old| old.kind != kind);
        self.nodes.insert(path.to_path_buf(), Node { stat, content: Some(content), xattrs, new });
    }

    /// `true` if the path or something above it was made by an action where the volume has something else or nothing.
    fn hides_base(&self, path: &Path) -> bool {
        path.ancestors()
            .any(|at| self.removed.contains(at) || self.nodes.get(at).is_some_and(|node| node.new))
    }
}

impl Tree {
    fn own(&self, path: &Path, stat: &mut Stat) {
        let inside = path != self.below && path.starts_with(&self.below);
        let taken = match &self.owners {
            TreeOwners::All => true,
            TreeOwners::Of { uids } => uids.contains(&stat.uid),
        };
        if inside && taken && (stat.nlink < 2 || stat.is_dir()) {
            (stat.uid, stat.gid) = (self.uid, self.gid);
        }
    }
}

impl View for Overlay<'_> {
    fn lstat(&self, path: &Path) -> Result<Stat, LookError> {
        if let Some(node) = self.nodes.get(path) {
            return Ok(node.stat);
        }
        if self.hides_base(path) {
            return Err(LookError::NotFound);
        }
        let mut stat = self.base.lstat(path)?;
        for tree in &self.trees {
            tree.own(path, &mut stat);
        }
        Ok(stat)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, LookError> {
        use std::os::unix::ffi::OsStringExt;
        match self.nodes.get(path) {
            Some(node) if node.stat.kind != FileKind::Symlink => Err(LookError::Kind(node.stat.kind)),
            Some(Node { content: Some(target), .. }) => Ok(PathBuf::from(OsString::from_vec(target.clone()))),
            _ if self.hides_base(path) => Err(LookError::NotFound),
            _ => self.base.read_link(path),
        }
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
        match self.nodes.get(path) {
            Some(node) if !node.stat.is_file() => Err(LookError::Kind(node.stat.kind)),
            Some(Node { content: Some(content), stat, .. }) if stat.size > limit => {
                Err(LookError::TooLarge { size: content.len() as u64, limit })
            }
            Some(Node { content: Some(content), .. }) => Ok(content.clone()),
            _ if self.hides_base(path) => Err(LookError::NotFound),
            _ => self.base.read(path, limit),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, LookError> {
        let stat = self.lstat(path)?;
        if !stat.is_dir() {
            return Err(LookError::Kind(stat.kind));
        }
        let mut names = if self.hides_base(path) { Vec::new() } else { self.base.list(path)? };
        let made = self.nodes.keys().filter(|at| at.parent() == Some(path)).filter_map(|at| at.file_name());
        names.retain(|name| !self.removed.contains(&path.join(name)));
        names.extend(made.map(OsString::from));
        names.sort();
        names.dedup();
        if names.len() > LIST_LIMIT {
            return Err(LookError::TooLarge { size: names.len() as u64, limit: LIST_LIMIT as u64 });
        }
        Ok(names)
    }

    fn xattr(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, LookError> {
        if let Some(node) = self.nodes.get(path)
            && let Some(value) = node.xattrs.get(name)
        {
            return Ok(value.clone());
        }
        match self.lstat(path) {
            Err(error) => Err(error),
            Ok(_) if self.hides_base(path) => Ok(None),
            Ok(_) => self.base.xattr(path, name),
        }
    }

    /// No action changes the flags; what is made has none.
    fn flags(&self, path: &Path) -> Result<u32, LookError> {
        match self.lstat(path) {
            Err(error) => Err(error),
            Ok(_) if self.hides_base(path) => Ok(0),
            Ok(_) => self.base.flags(path),
        }
    }

    /// No action changes the policy.
    fn selinux(&self) -> Rc<Policy> {
        self.base.selinux()
    }

    /// No action changes the program or the databases of packages.
    fn sshd(&self) -> Build {
        self.base.sshd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Before;
    use crate::view::memory::MemTree;

    fn action(path: &str, change: Change) -> Action {
        Action { path: PathBuf::from(path), change, why: String::new() }
    }

    #[test]
    fn actions_show_and_the_rest_shows_through() {
        let mut tree = MemTree::new();
        tree.dir("/home/u", 0o777, 5, 5).file("/home/u/f", 0o600, 5, 5, b"old").link("/home/u/l", "/gone");
        let mut overlay = Overlay::new(&tree);
        overlay.apply(&action("/home/u", Change::SetMode { from: 0o777, to: 0o700 }));
        overlay.apply(&action("/home/u", Change::SetOwner { from: (5, 5), to: (7, 7) }));
        let owners = TreeOwners::Of { uids: vec![5] };
        overlay.apply(&action("/home/u", Change::ChownTree { uid: 7, gid: 7, owners }));
        let write = Change::WriteFile {
            before: Before::Link { target: "/gone".into() },
            content: b"new".to_vec(),
            mode: 0o600,
            uid: 7,
            gid: 7,
            xattrs: vec![],
        };
        overlay.apply(&action("/home/u/l", write));
        assert_eq!(overlay.lstat(Path::new("/home/u")).unwrap().mode_owner(), "0700 7:7");
        assert_eq!(overlay.lstat(Path::new("/home/u/f")).unwrap().mode_owner(), "0600 7:7");
        assert_eq!(overlay.read(Path::new("/home/u/f"), 9).unwrap(), b"old");
        assert_eq!(overlay.read(Path::new("/home/u/l"), 9).unwrap(), b"new");
        assert_eq!(overlay.list(Path::new("/home/u")).unwrap(), ["f", "l"]);
        assert_eq!(tree.lstat(Path::new("/home/u")).unwrap().mode_owner(), "0777 5:5");
    }

    #[test]
    fn a_new_directory_is_empty() {
        let tree = MemTree::new();
        let mut overlay = Overlay::new(&tree);
        let make = Change::CreateDirectory { mode: 0o700, uid: 1, gid: 1, xattrs: vec![] };
        overlay.apply(&action("/home", make));
        assert_eq!(overlay.list(Path::new("/home")).unwrap(), Vec::<OsString>::new());
        assert_eq!(overlay.lstat(Path::new("/home/u")).unwrap_err(), LookError::NotFound);
        assert_eq!(overlay.lstat(Path::new("/home")).unwrap().mode_owner(), "0700 1:1");
    }
}
