//! Which directories are the system's, whoever's home passwd calls them.

use std::path::Path;

/// Directories that are never a user's own; what lies in them may be.
const ITSELF: &[&str] =
    &["/", "/home", "/lost+found", "/media", "/mnt", "/opt", "/srv", "/tmp", "/usr/local", "/var"];

/// Directories in which each entry is the system's; what lies deeper may be a home (/var/lib/postgresql).
const ENTRIES: &[&str] = &["/var"];

/// Directories below which everything is the system's.
const BELOW: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nonexistent",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/cache",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/www",
];

/// `true` for a directory that no user may call their own: its mode and owner are not those of a home, and what lies in
/// it has owners of its own.
#[must_use]
pub fn is_system_directory(path: &Path) -> bool {
    ITSELF.iter().any(|known| path == Path::new(known))
        || ENTRIES.iter().any(|known| path.parent() == Some(Path::new(known)))
        || BELOW.iter().any(|known| path.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_told_from_what_the_system_needs() {
        let is = |path: &str| is_system_directory(Path::new(path));
        for path in [
            "/",
            "/etc",
            "/etc/ssh",
            "/home",
            "/usr/sbin",
            "/var",
            "/var/lib",
            "/var/backups",
            "/run/sshd",
            "/srv",
        ] {
            assert!(is(path), "{path}");
        }
        for path in ["/home/u", "/root", "/var/lib/postgresql", "/srv/git", "/data", "/opt/app", "/etcetera"]
        {
            assert!(!is(path), "{path}");
        }
    }
}
