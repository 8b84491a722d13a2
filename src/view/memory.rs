//! A volume in memory, for the tests of the pure floor.

use super::{FileKind, LookError, Stat, View};
use crate::selinux::Policy;
use crate::sshd::build::Build;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A program as far as its header tells, for x86-64, with this text in it.
pub(crate) fn program(text: &str) -> Vec<u8> {
    let mut content = b"\x7fELF\x02\x01\x01".to_vec();
    content.resize(64, 0);
    (content[0x10], content[0x12], content[0x36]) = (3, 62, 56);
    content.extend_from_slice(text.as_bytes());
    content
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) stat: Stat,
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// Paths to inodes; parents are made as they are needed, 0755 root:root.
#[derive(Clone, Debug)]
pub(crate) struct MemTree {
    pub(crate) nodes: BTreeMap<PathBuf, Node>,
    next_ino: u64,
}

impl MemTree {
    pub(crate) fn new() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), next_ino: 2 };
        tree.put("/", FileKind::Directory, 0o755, 0, 0, b"");
        tree
    }

    pub(crate) fn dir(&mut self, path: &str, mode: u32, uid: u32, gid: u32) -> &mut Self {
        self.put(path, FileKind::Directory, mode, uid, gid, b"")
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, uid: u32, gid: u32, content: &[u8]) -> &mut Self {
        self.put(path, FileKind::Regular, mode, uid, gid, content)
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.put(path, FileKind::Symlink, 0o777, 0, 0, target.as_bytes())
    }

    pub(crate) fn put(
        &mut self,
        path: &str,
        kind: FileKind,
        mode: u32,
        uid: u32,
        gid: u32,
        content: &[u8],
    ) -> &mut Self {
        let path = PathBuf::from(path);
        if let Some(parent) = path.parent()
            && !self.nodes.contains_key(parent)
        {
            let parent = parent.to_str().unwrap().to_owned();
            self.dir(&parent, 0o755, 0, 0);
        }
        let size = content.len() as u64;
        let ino = self.nodes.get(&path).map_or(self.next_ino, |node| node.stat.ino);
        self.next_ino += 1;
        let stat = Stat { kind, mode, uid, gid, nlink: 1, size, dev: 1, ino, mtime: 0 };
        self.nodes.insert(path, Node { stat, content: content.to_vec(), xattrs: BTreeMap::new() });
        self
    }

    pub(crate) fn remove(&mut self, path: &str) -> &mut Self {
        let path = PathBuf::from(path);
        self.nodes.retain(|at, _| !at.starts_with(&path));
        self
    }

    pub(crate) fn chmod(&mut self, path: &str, mode: u32) -> &mut Self {
        self.node(path).stat.mode = mode;
        self
    }

    pub(crate) fn chown(&mut self, path: &str, uid: u32, gid: u32) -> &mut Self {
        let node = self.node(path);
        (node.stat.uid, node.stat.gid) = (uid, gid);
        self
    }

    pub(crate) fn set_xattr(&mut self, path: &str, name: &str, value: &[u8]) -> &mut Self {
        self.node(path).xattrs.insert(name.to_owned(), value.to_vec());
        self
    }

    fn node(&mut self, path: &str) -> &mut Node {
        self.nodes.get_mut(Path::new(path)).unwrap_or_else(|| panic!("{path} is not in the tree"))
    }

    fn look(&self, path: &Path) -> Result<&Node, LookError> {
        for parent in path.ancestors().skip(1) {
            match self.nodes.get(parent) {
                Some(node) if node.stat.is_dir() => break,
                Some(_) => return Err(LookError::NotDirectory),
                None => {}
            }
        }
        self.nodes.get(path).ok_or(LookError::NotFound)
    }
}

impl View for MemTree {
    fn lstat(&self, path: &Path) -> Result<Stat, LookError> {
        self.look(path).map(|node| node.stat)
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, LookError> {
        let node = self.look(path)?;
        match node.stat.kind {
            FileKind::Symlink => Ok(PathBuf::from(String::from_utf8(node.content.clone()).unwrap())),
            kind => Err(LookError::Kind(kind)),
        }
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
        let node = self.look(path)?;
        match node.stat.kind {
            FileKind::Regular if node.stat.size > limit => {
                Err(LookError::TooLarge { size: node.stat.size, limit })
            }
            FileKind::Regular => Ok(node.content.clone()),
            kind => Err(LookError::Kind(kind)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, LookError> {
        let node = self.look(path)?;
        if !node.stat.is_dir() {
            return Err(LookError::Kind(node.stat.kind));
        }
        let inside = self.nodes.keys().filter(|at| at.parent() == Some(path));
        Ok(inside.filter_map(|at| at.file_name()).map(OsString::from).collect())
    }

    fn xattr(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, LookError> {
        Ok(self.look(path)?.xattrs.get(name).cloned())
    }

    fn selinux(&self) -> Rc<Policy> {
        Rc::new(Policy::read(self))
    }

    fn sshd(&self) -> Build {
        Build::detect(self)
    }
}
