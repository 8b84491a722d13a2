//! Who may do what with an inode: mode bits and POSIX ACLs, for ids of the volume (path_resolution(7), acl(5)).

use crate::view::{LookError, Stat, View, Walk};
use std::path::{Path, PathBuf};

pub mod acl;

/// The ids with which the kernel judges a process: those of the volume's user, never of the helper's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

impl Identity {
    /// `true` if the process is in the group.
    #[must_use]
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// What somebody wants to do with an inode; the value is the bit of one rwx triple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read a file, list a directory.
    Read = 4,
    /// Write.
    Write = 2,
    /// Execute a file, search a directory.
    Execute = 1,
}

/// Would the kernel let `who` do this? uid 0 has `CAP_DAC_OVERRIDE`: all but executing a file without any x bit.
///
/// # Errors
/// [`LookError`] if the ACL cannot be read.
pub fn may(
    view: &dyn View,
    path: &Path,
    stat: &Stat,
    who: &Identity,
    access: Access,
) -> Result<bool, LookError> {
    if who.uid == 0 {
        return Ok(access != Access::Execute || stat.is_dir() || stat.mode & 0o111 != 0);
    }
    // The kernel asks the ACL only where the group bits (the mask of an ACL) grant anything at all: without them, a
    // named user falls through to the bits of the group or of the others (fs/namei.c, acl_permission_check).
    if stat.mode & 0o070 != 0
        && who.uid != stat.uid
        && let Some(raw) = view.xattr(path, acl::ACCESS)?
        && let Some(acl) = acl::Acl::parse(&raw)
    {
        return Ok(acl.allows(stat, who, access));
    }
    let shift = if who.uid == stat.uid {
        6
    } else if who.in_group(stat.gid) {
        3
    } else {
        0
    };
    Ok(stat.mode >> shift & access as u32 != 0)
}

/// "0770 0:0", and what of an ACL explains it: the entry that keeps `who` from the right, or the mask that shows as group
/// bits that write.
#[must_use]
pub fn explained(view: &dyn View, path: &Path, stat: &Stat, denied: Option<(&Identity, Access)>) -> String {
    let mode = stat.mode_owner();
    let Ok(Some(raw)) = view.xattr(path, acl::ACCESS) else { return mode };
    let Some(list) = acl::Acl::parse(&raw) else { return format!("{mode}, with an ACL that cannot be read") };
    let why = match denied {
        // Without group bits the kernel does not ask the list, and the owner is not in it.
        Some((who, access)) if stat.mode & 0o070 != 0 && who.uid != stat.uid => {
            list.deciding(stat, who, access)
        }
        Some(_) => None,
        None => list.writing(stat),
    };
    why.map_or(mode.clone(), |why| format!("{mode}, {why}"))
}

/// The directories of a resolution that `who` may not search, in order; the first is where the kernel stops.
///
/// # Errors
/// [`LookError`] if an ACL cannot be read.
pub fn unsearchable(view: &dyn View, walk: &Walk, who: &Identity) -> Result<Vec<(PathBuf, Stat)>, LookError> {
    let passed = match (&walk.end, walk.steps.split_last()) {
        // The end itself is not searched.
        (Ok(found), Some((last, before))) if last.path == found.path => before,
        _ => &walk.steps[..],
    };
    let mut closed: Vec<(PathBuf, Stat)> = Vec::new();
    for step in passed.iter().filter(|step| step.stat.is_dir()) {
        let seen = closed.iter().any(|(path, _)| *path == step.path);
        if !seen && !may(view, &step.path, &step.stat, who, Access::Execute)? {
            closed.push((step.path.clone(), step.stat));
        }
    }
    Ok(closed)
}

/// The first directory of a resolution that `who` may not search.
///
/// # Errors
/// [`LookError`] if an ACL cannot be read.
pub fn first_unsearchable(
    view: &dyn View,
    walk: &Walk,
    who: &Identity,
) -> Result<Option<(PathBuf, Stat)>, LookError> {
    Ok(unsearchable(view, walk, who)?.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;
    use crate::view::walk;

    fn who(uid: u32, gid: u32, groups: &[u32]) -> Identity {
        Identity { uid, gid, groups: groups.to_vec() }
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().map(|&(tag, permissions, id)| acl::Entry { tag, permissions, id });
        acl::Acl { entries: entries.collect() }.to_bytes()
    }

    fn can(tree: &MemTree, who: &Identity, access: Access) -> bool {
        let stat = tree.lstat(Path::new("/f")).unwrap();
        may(tree, Path::new("/f"), &stat, who, access).unwrap()
    }

    #[test]
    fn exactly_one_class_of_bits_counts() {
        let mut tree = MemTree::new();
        tree.file("/f", 0o047, 1000, 50, b"");
        assert!(!can(&tree, &who(1000, 1000, &[50]), Access::Read), "the owner has no bit");
        assert!(can(&tree, &who(1001, 1001, &[50]), Access::Read));
        assert!(!can(&tree, &who(1001, 50, &[]), Access::Write), "the group cannot use the bits of others");
        assert!(can(&tree, &who(1001, 1001, &[]), Access::Write));
        assert!(can(&tree, &who(0, 0, &[]), Access::Write), "root overrides");
    }

    #[test]
    fn root_executes_only_what_anybody_could() {
        let mut tree = MemTree::new();
        tree.file("/f", 0o644, 0, 0, b"");
        assert!(!can(&tree, &who(0, 0, &[]), Access::Execute));
        tree.chmod("/f", 0o645);
        assert!(can(&tree, &who(0, 0, &[]), Access::Execute));
    }

    #[test]
    fn an_acl_is_asked_only_where_its_mask_grants_something() {
        let mut tree = MemTree::new();
        let denies_1000 = acl(&[(0x01, 6, !0), (0x02, 0, 1000), (0x04, 4, !0), (0x10, 4, !0), (0x20, 4, !0)]);
        tree.file("/f", 0o644, 0, 0, b"").set_xattr("/f", acl::ACCESS, &denies_1000);
        assert!(!can(&tree, &who(1000, 1000, &[]), Access::Read));
        assert!(can(&tree, &who(1001, 1001, &[]), Access::Read));
        tree.chmod("/f", 0o604);
        assert!(can(&tree, &who(1000, 1000, &[]), Access::Read), "as measured: the bits of others decide");
    }

    #[test]
    fn every_closed_directory_on_the_way_is_named() {
        let mut tree = MemTree::new();
        tree.dir("/home", 0o700, 0, 0).dir("/home/u", 0o600, 1000, 1000).file(
            "/home/u/f",
            0o600,
            1000,
            1000,
            b"",
        );
        let walk = walk(&tree, Path::new("/home/u/f"));
        let closed = unsearchable(&tree, &walk, &who(1000, 1000, &[])).unwrap();
        let paths: Vec<&Path> = closed.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(paths, [Path::new("/home"), Path::new("/home/u")]);
        assert_eq!(unsearchable(&tree, &walk, &who(0, 0, &[])).unwrap(), []);
    }
}
