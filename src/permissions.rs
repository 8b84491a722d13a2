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
    if let Some(raw) = view.xattr(path, acl::ACCESS)?
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

/// The first directory of a resolution that `who` may not search.
///
/// # Errors
/// [`LookError`] if an ACL cannot be read.
pub fn first_unsearchable(
    view: &dyn View,
    walk: &Walk,
    who: &Identity,
) -> Result<Option<(PathBuf, Stat)>, LookError> {
    let passed = match &walk.end {
        Ok(found) if walk.steps.last().is_some_and(|step| step.path == found.path) => {
            &walk.steps[..walk.steps.len() - 1]
        }
        _ => &walk.steps[..],
    };
    for step in passed.iter().filter(|step| step.stat.is_dir()) {
        if !may(view, &step.path, &step.stat, who, Access::Execute)? {
            return Ok(Some((step.path.clone(), step.stat)));
        }
    }
    Ok(None)
}
