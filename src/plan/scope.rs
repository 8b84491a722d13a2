//! What of the volume a repair for one user may change at all.

use crate::accounts::{Passwd, PasswdEntry};
use crate::os::is_system_directory;
use crate::view::{Found, LookError, View, follow};
use bstr::{BString, ByteSlice};
use std::path::{Path, PathBuf};

/// Whose directory the home is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// The user's own: it may be owned by the user and walked.
    Own(Found),
    /// `/`, a system directory, another account's home or one that holds such: only the login path is mended.
    Shared {
        /// The directory.
        found: Found,
        /// Why it is not the user's own, in words.
        why: String,
    },
    /// Nothing is there.
    Missing {
        /// Where it should be, canonical as far as it exists.
        path: PathBuf,
    },
    /// Something is there, or in the way, that no repair replaces.
    Unusable {
        /// The path.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Home {
    /// Looks at the home that the entry names.
    #[must_use]
    pub fn of(view: &dyn View, user: &PasswdEntry, passwd: &Passwd) -> Self {
        let written = path_of(&user.home);
        let walk = crate::view::walk(view, &written);
        match walk.end {
            Ok(found) if !found.stat.is_dir() => {
                Self::Unusable { path: found.path, why: format!("it is {}", found.stat.kind.words()) }
            }
            Ok(found) => match why_not_own(view, &found.path, user, passwd) {
                Some(why) => Self::Shared { found, why },
                None => Self::Own(found),
            },
            Err(LookError::NotFound) => {
                let through_link =
                    walk.steps.iter().any(|step| step.link.is_some() && step.path.starts_with("/home"));
                let path = if walk.reached.starts_with("/") { canonical_rest(view, &written) } else { None };
                match path {
                    Some(path) if !through_link && why_not_own(view, &path, user, passwd).is_none() => {
                        Self::Missing { path }
                    }
                    _ => Self::Unusable { path: walk.reached, why: "it does not exist".into() },
                }
            }
            Err(error) => Self::Unusable { path: walk.reached, why: error.to_string() },
        }
    }
}

/// The path as the kernel takes the bytes of a passwd field; a relative one is taken from `/`.
#[must_use]
pub fn path_of(written: &BString) -> PathBuf {
    Path::new("/").join(written.to_path_lossy())
}

/// The canonical form of a path whose last components may not exist; `None` with `..` in what does not exist, or with
/// something else than a directory in the way.
#[must_use]
pub fn canonical_rest(view: &dyn View, path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut at = path.to_path_buf();
    loop {
        match follow(view, &at) {
            Ok(found) if found.stat.is_dir() || missing.is_empty() => {
                return Some(missing.iter().rev().fold(found.path, |path, name| path.join(name)));
            }
            Ok(_) => return None,
            Err(LookError::NotFound) => {
                missing.push(at.file_name()?.to_os_string());
                at = at.parent()?.to_path_buf();
            }
            Err(_) => return None,
        }
    }
}

fn why_not_own(view: &dyn View, home: &Path, user: &PasswdEntry, passwd: &Passwd) -> Option<String> {
    if is_system_directory(home) {
        return Some("it is a system directory".into());
    }
    for other in passwd.entries.iter().filter(|other| other.uid != user.uid) {
        let written = path_of(&other.home);
        // Most accounts of a system have no directory of their own; "/" and the like hold everything.
        if is_system_directory(&written) {
            continue;
        }
        let Ok(theirs) = follow(view, &written) else { continue };
        if theirs.path == home {
            return Some(format!("it is also the home of {}", other.name));
        }
        if theirs.path.starts_with(home) {
            return Some(format!("it holds the home of {}", other.name));
        }
        if home.starts_with(&theirs.path) {
            return Some(format!("it lies in the home of {}", other.name));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    fn home(line: &str) -> Home {
        let mut tree = MemTree::new();
        tree.dir("/var/backups", 0o755, 0, 0);
        tree.dir("/home/u", 0o755, 1000, 1000)
            .dir("/home/other/in", 0o755, 0, 0)
            .dir("/var/www", 0o755, 0, 0);
        tree.file("/home/file", 0o644, 0, 0, b"").link("/home/gone", "/data/u").link("/home/lnk", "u");
        let text = format!("root:x:0:0::/root:/bin/sh\nother:x:7:7::/home/other/in:/bin/sh\n{line}\n");
        let passwd = Passwd::parse(text.as_bytes());
        let user = passwd.by_name(b"u").unwrap();
        Home::of(&tree, user, &passwd)
    }

    #[test]
    fn only_a_home_of_the_users_own_is_walked() {
        assert!(matches!(home("u:x:1000:1000::/home/u:"), Home::Own(_)));
        assert!(
            matches!(home("u:x:1000:1000::/home/lnk:"), Home::Own(found) if found.path == Path::new("/home/u"))
        );
        for shared in
            ["/", "/home", "/etc", "/usr", "/var/www", "/home/other/in", "/home/other", "/var/backups", ""]
        {
            let line = format!("u:x:1000:1000::{shared}:");
            assert!(!matches!(home(&line), Home::Own(_) | Home::Missing { .. }), "{shared}");
        }
    }

    #[test]
    fn a_missing_home_is_made_but_not_behind_a_dangling_link() {
        assert_eq!(home("u:x:1000:1000::/home/new:"), Home::Missing { path: "/home/new".into() });
        assert!(matches!(home("u:x:1000:1000::/home/gone:"), Home::Unusable { .. }));
        assert!(matches!(home("u:x:1000:1000::/home/file:"), Home::Unusable { .. }));
        assert!(matches!(home("u:x:1000:1000::/nonexistent:"), Home::Unusable { .. }));
    }
}
