//! Following a path inside the volume, as the kernel does with the volume as `/` (path_resolution(7)).

use super::{FileKind, Found, LookError, Stat, View};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The most symbolic links followed in one resolution (Linux `MAXSYMLINKS`).
pub const MAX_LINKS: usize = 40;
/// `PATH_MAX`, with the terminating NUL.
const PATH_MAX: usize = 4096;

/// One inode that a resolution passed, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkStep {
    /// Its canonical path.
    pub path: PathBuf,
    /// The inode.
    pub stat: Stat,
    /// Where it points, if it is a symbolic link that was followed.
    pub link: Option<PathBuf>,
}

/// A resolution: everything it passed, and where it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The directories searched, the links followed and, when it exists, the end itself.
    pub steps: Vec<WalkStep>,
    /// The end, or why there is none.
    pub end: Result<Found, LookError>,
    /// The canonical path of the last thing that was looked for; on failure, the component that failed.
    pub reached: PathBuf,
}

/// Follows `path` from the root of the volume, links included (a relative path is taken from `/`).
#[must_use]
pub fn walk(view: &dyn View, path: &Path) -> Walk {
    resolve(view, path, true)
}

/// As [`walk()`], but a link in the last component is the end itself, as with lstat(2).
#[must_use]
pub fn walk_no_follow(view: &dyn View, path: &Path) -> Walk {
    resolve(view, path, false)
}

fn resolve(view: &dyn View, path: &Path, follow_last: bool) -> Walk {
    let mut steps = Vec::new();
    let mut at = PathBuf::from("/");
    let end = follow_components(view, path, follow_last, &mut steps, &mut at);
    Walk { steps, end, reached: at }
}

fn follow_components(
    view: &dyn View,
    path: &Path,
    follow_last: bool,
    steps: &mut Vec<WalkStep>,
    at: &mut PathBuf,
) -> Result<Found, LookError> {
    if path.as_os_str().is_empty() {
        return Err(LookError::NotFound);
    }
    if path.as_os_str().len() >= PATH_MAX {
        return Err(LookError::NameTooLong);
    }
    let mut stat = view.lstat(at)?;
    steps.push(WalkStep { path: at.clone(), stat, link: None });
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    push_components(&mut ahead, path);
    let mut must_be_dir = ends_like_a_directory(path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if !stat.is_dir() {
            return Err(LookError::NotDirectory);
        }
        if name == ".." {
            at.pop();
            stat = view.lstat(at)?;
            steps.push(WalkStep { path: at.clone(), stat, link: None });
            continue;
        }
        if name.len() > 255 {
            at.push(&name);
            return Err(LookError::NameTooLong);
        }
        at.push(&name);
        let here = view.lstat(at)?;
        let last = ahead.is_empty();
        if here.kind == FileKind::Symlink && (!last || follow_last || must_be_dir) {
            links += 1;
            if links > MAX_LINKS {
                return Err(LookError::Loop);
            }
            let target = view.read_link(at)?;
            steps.push(WalkStep { path: at.clone(), stat: here, link: Some(target.clone()) });
            if target.as_os_str().is_empty() {
                return Err(LookError::NotFound);
            }
            if last {
                must_be_dir |= ends_like_a_directory(&target);
            }
            at.pop();
            if target.is_absolute() {
                *at = PathBuf::from("/");
            }
            stat = view.lstat(at)?;
            if target.is_absolute() {
                steps.push(WalkStep { path: at.clone(), stat, link: None });
            }
            push_components(&mut ahead, &target);
            continue;
        }
        stat = here;
        steps.push(WalkStep { path: at.clone(), stat, link: None });
    }
    if must_be_dir && !stat.is_dir() {
        return Err(LookError::NotDirectory);
    }
    Ok(Found { path: at.clone(), stat })
}

/// A trailing slash or dot asks for a directory.
fn ends_like_a_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"."
}

/// Puts the components of `path` before those still ahead; `.` and doubled slashes vanish.
fn push_components(ahead: &mut VecDeque<OsString>, path: &Path) {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    for name in names.into_iter().rev() {
        ahead.push_front(name.to_os_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemTree;
    use super::*;

    fn tree() -> MemTree {
        let mut tree = MemTree::new();
        tree.dir("/usr/bin", 0o755, 0, 0);
        tree.file("/usr/bin/sh", 0o755, 0, 0, b"x");
        tree.link("/bin", "usr/bin");
        tree.link("/abs", "/usr/bin/../bin");
        tree.link("/up", "../../../usr");
        tree.link("/loop", "/loop");
        tree.link("/gone", "/nowhere/x");
        tree
    }

    #[test]
    fn links_are_followed_inside_the_volume() {
        let tree = tree();
        for path in ["/bin/sh", "/abs/sh", "/up/bin/sh", "/../usr/./bin//sh", "usr/bin/sh"] {
            assert_eq!(walk(&tree, Path::new(path)).end.unwrap().path, Path::new("/usr/bin/sh"), "{path}");
        }
    }

    #[test]
    fn failures_are_those_of_the_kernel() {
        let tree = tree();
        let end = |path: &str| walk(&tree, Path::new(path)).end.unwrap_err();
        assert_eq!(end("/loop"), LookError::Loop);
        assert_eq!(end("/gone"), LookError::NotFound);
        assert_eq!(end("/usr/bin/sh/x"), LookError::NotDirectory);
        assert_eq!(end("/usr/bin/sh/.."), LookError::NotDirectory);
        assert_eq!(end("/usr/bin/sh/"), LookError::NotDirectory);
        assert_eq!(end(&format!("/{}", "n".repeat(256))), LookError::NameTooLong);
        assert_eq!(walk(&tree, Path::new("/gone")).reached, Path::new("/nowhere"));
    }

    #[test]
    fn the_last_link_can_be_the_end() {
        let tree = tree();
        assert_eq!(walk_no_follow(&tree, Path::new("/loop")).end.unwrap().stat.kind, FileKind::Symlink);
        assert_eq!(walk_no_follow(&tree, Path::new("/bin/sh")).end.unwrap().path, Path::new("/usr/bin/sh"));
    }
}
