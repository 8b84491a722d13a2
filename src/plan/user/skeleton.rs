//! A missing home, made from the volume's /etc/skel.

use crate::plan::{Action, Before, Change};
use crate::view::{self, FileKind, LookError, View};
use std::path::{Component, Path, PathBuf};

/// The mode of a home in the documented tree, whatever HOME_MODE says.
const HOME_MODE: u32 = 0o700;
/// The most entries and bytes that are copied; what is beyond stays out.
const MAX_ENTRIES: usize = 1000;
const MAX_BYTES: u64 = 16 << 20;
/// The deepest directory that is copied.
const MAX_DEPTH: usize = 32;

/// The actions that make a missing home, its missing parents, and copies of what /etc/skel holds: regular files,
/// directories and symbolic links, no set-id bits. Nothing to do is no action: the home exists, or is nowhere that a
/// directory could be made (not absolute, `..` in it, below a file or a dangling link).
#[must_use]
pub fn skeleton(view: &dyn View, home: &Path, uid: u32, gid: u32) -> Vec<Action> {
    let plain = home.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !home.is_absolute() || !plain || view::walk_no_follow(view, home).end != Err(LookError::NotFound) {
        return Vec::new();
    }
    // The nearest parent that is there, with its links followed; all below it is missing.
    let mut missing = Vec::new();
    let mut at = home;
    let base = loop {
        match view::follow(view, at) {
            Ok(found) if found.stat.is_dir() => break found.path,
            Err(LookError::NotFound) if view::walk_no_follow(view, at).end == Err(LookError::NotFound) => {}
            _ => return Vec::new(),
        }
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { return Vec::new() };
        missing.push(name);
        at = parent;
    };
    let mut actions = Vec::new();
    let mut path = base;
    while let Some(name) = missing.pop() {
        path.push(name);
        let (mode, uid, gid) = if missing.is_empty() { (HOME_MODE, uid, gid) } else { (0o755, 0, 0) };
        let change = Change::CreateDirectory { mode, uid, gid, xattrs: Vec::new() };
        actions.push(Action { path: path.clone(), change, why: "the home directory is missing".to_owned() });
    }
    let skel = ["/etc/skel", "/usr/etc/skel"]
        .into_iter()
        .find_map(|skel| view::follow(view, Path::new(skel)).ok().filter(|found| found.stat.is_dir()));
    if let Some(skel) = skel {
        let mut copy = Copy { view, uid, gid, bytes: 0, actions: Vec::new() };
        copy.directory(&skel.path, &path, 0);
        actions.append(&mut copy.actions);
    }
    actions
}

struct Copy<'a> {
    view: &'a dyn View,
    uid: u32,
    gid: u32,
    bytes: u64,
    actions: Vec<Action>,
}

impl Copy<'_> {
    fn directory(&mut self, from: &Path, to: &Path, depth: usize) {
        for name in self.view.list(from).unwrap_or_default() {
            if self.actions.len() >= MAX_ENTRIES {
                return;
            }
            self.entry(&from.join(&name), to.join(&name), depth);
        }
    }

    fn entry(&mut self, from: &Path, to: PathBuf, depth: usize) {
        let Ok(stat) = self.view.lstat(from) else { return };
        let (uid, gid, mode) = (self.uid, self.gid, stat.mode & 0o777);
        let change = match stat.kind {
            FileKind::Regular => {
                let Ok(content) = self.view.read(from, MAX_BYTES - self.bytes) else { return };
                self.bytes += content.len() as u64;
                Change::WriteFile { before: Before::Absent, content, mode, uid, gid, xattrs: Vec::new() }
            }
            FileKind::Directory => Change::CreateDirectory { mode, uid, gid, xattrs: Vec::new() },
            FileKind::Symlink => match self.view.read_link(from) {
                Ok(target) => Change::CreateLink { target, uid, gid },
                Err(_) => return,
            },
            _ => return,
        };
        let why = format!("a new home has it from {}", from.display());
        self.actions.push(Action { path: to.clone(), change, why });
        if stat.is_dir() && depth < MAX_DEPTH {
            self.directory(from, &to, depth + 1);
        }
    }
}
