//! Where the volume takes names of users and groups from: nsswitch.conf(5).

use crate::view::{TEXT_LIMIT, View, follow, read_following};
use bstr::ByteSlice;
use std::path::Path;

/// The services of the databases that a login asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServices {
    /// Services of `passwd:`, in order.
    pub passwd: Vec<String>,
    /// Services of `group:`, in order.
    pub group: Vec<String>,
    /// Services of `shadow:`, in order.
    pub shadow: Vec<String>,
    /// The lines of [`DATABASES`], where there are such.
    lines: [Option<u32>; 3],
    /// `true` if `hosts:` knows the names of this machine itself without a file.
    localhost: bool,
    /// `true` if SSSD has a configuration; without one it serves the local files only.
    sssd: bool,
    /// `true` if systemd-userdbd may know users that are in no passwd file.
    userdb: bool,
}

/// The databases whose lines can be mended.
const DATABASES: [&str; 3] = ["passwd", "group", "shadow"];

/// Services that read the files; musl and an absent nsswitch.conf mean `files`.
const LOCAL: [&str; 2] = ["files", "compat"];

impl NameServices {
    /// Reads nsswitch.conf, and looks for the configuration of the services it names.
    #[must_use]
    pub fn read(view: &dyn View) -> Self {
        let text = read_following(view, Path::new("/etc/nsswitch.conf"), TEXT_LIMIT).unwrap_or_default();
        let files = || vec!["files".to_owned()];
        let asked = |database: &str| match services(&text, database) {
            // A line without a service is passed over before glibc 2.34.
            Some((_, none)) if none.is_empty() && old_glibc(view) => files(),
            Some((_, services)) => services,
            None => files(),
        };
        let lines = DATABASES.map(|database| services(&text, database).map(|(line, _)| line));
        let (passwd, group, shadow) = (asked("passwd"), asked("group"), asked("shadow"));
        let names = |service: &str| passwd.iter().chain(&group).any(|name| name == service);
        let filled = |path: &str| {
            view.list(Path::new(path)).is_ok_and(|names| names.iter().any(|name| name != "README"))
        };
        let sssd = names("sss")
            && (follow(view, Path::new("/etc/sssd/sssd.conf")).is_ok() || filled("/etc/sssd/conf.d"));
        let userdb = names("systemd") && (filled("/etc/userdb") || filled("/var/lib/systemd/home"));
        let hosts = services(&text, "hosts").map_or_else(Vec::new, |(_, hosts)| hosts);
        let localhost = hosts.iter().any(|service| service == "myhostname" || service == "resolve");
        Self { passwd, group, shadow, lines, localhost, sssd, userdb }
    }

    /// Has a loopback address the name localhost, whatever /etc/hosts says?
    #[must_use]
    pub fn knows_localhost(&self) -> bool {
        self.localhost
    }

    /// The line of nsswitch.conf for `passwd`, `group` or `shadow`, counted from 1.
    #[must_use]
    pub fn line_of(&self, database: &str) -> Option<u32> {
        DATABASES.iter().zip(self.lines).find(|(known, _)| **known == database)?.1
    }

    /// Does the volume ask /etc/passwd at all?
    #[must_use]
    pub fn passwd_from_file(&self) -> bool {
        self.passwd.iter().any(|service| LOCAL.contains(&service.as_str()))
    }

    /// Does the volume ask /etc/group at all?
    #[must_use]
    pub fn group_from_file(&self) -> bool {
        self.group.iter().any(|service| LOCAL.contains(&service.as_str()))
    }

    /// Does the volume ask /etc/shadow at all?
    #[must_use]
    pub fn shadow_from_file(&self) -> bool {
        self.shadow.iter().any(|service| LOCAL.contains(&service.as_str()))
    }

    /// The directory service that may know a user who is not in the file.
    #[must_use]
    pub fn passwd_service(&self) -> Option<&str> {
        self.beyond_files(&self.passwd)
    }

    /// The directory service that may put a user into further groups.
    #[must_use]
    pub fn group_service(&self) -> Option<&str> {
        self.beyond_files(&self.group)
    }

    fn beyond_files<'a>(&self, services: &'a [String]) -> Option<&'a str> {
        services.iter().map(String::as_str).find(|service| match *service {
            "files" | "compat" | "db" | "myhostname" | "mymachines" => false,
            "sss" => self.sssd,
            "systemd" => self.userdb,
            _ => true,
        })
    }
}

/// Until 2.33 the name of the C library's file is that of its version, and libc.so.6 a link to it.
fn old_glibc(view: &dyn View) -> bool {
    ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib"].iter().any(
        |directory| {
            follow(view, &Path::new(directory).join("libc.so.6"))
                .is_ok_and(|found| found.path.file_name().is_some_and(|name| name != "libc.so.6"))
        },
    )
}

/// The services of one database, and the line; `None` where the file has none for it.
fn services(text: &[u8], database: &str) -> Option<(u32, Vec<String>)> {
    let (number, line) = text.lines().zip(1..).find_map(|(line, number)| {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        Some((number, line.strip_prefix(database.as_bytes())?.trim_ascii_start().strip_prefix(b":")?))
    })?;
    // Reactions like [NOTFOUND=return] stand between the services and may hold blanks.
    let mut inside = false;
    let mut names = Vec::new();
    for word in line.to_str_lossy().split_whitespace() {
        if word.starts_with('[') {
            inside = true;
        }
        if !inside {
            names.push(word.to_owned());
        }
        if word.ends_with(']') {
            inside = false;
        }
    }
    Some((number, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    fn with(nsswitch: &str) -> NameServices {
        let mut tree = MemTree::new();
        tree.file("/etc/nsswitch.conf", 0o644, 0, 0, nsswitch.as_bytes());
        NameServices::read(&tree)
    }

    #[test]
    fn without_nsswitch_the_files_are_asked() {
        let names = NameServices::read(&MemTree::new());
        assert!(names.passwd_from_file() && names.group_from_file());
        assert_eq!(names.passwd_service(), None);
    }

    #[test]
    fn reactions_and_comments_are_no_services() {
        let names = with("# passwd: nis\npasswd:\tfiles [NOTFOUND=return  UNAVAIL=continue] ldap # sss\n");
        assert_eq!(names.passwd, ["files", "ldap"]);
        assert_eq!(names.passwd_service(), Some("ldap"));
    }

    #[test]
    fn sssd_without_configuration_knows_only_local_users() {
        assert_eq!(with("passwd: sss files systemd\ngroup: sss files systemd\n").passwd_service(), None);
        let mut tree = MemTree::new();
        tree.file("/etc/nsswitch.conf", 0o644, 0, 0, b"passwd: sss files\n");
        tree.file("/etc/sssd/sssd.conf", 0o600, 0, 0, b"[sssd]\n");
        assert_eq!(NameServices::read(&tree).passwd_service(), Some("sss"));
    }

    #[test]
    fn a_passwd_line_without_files_hides_every_local_user() {
        assert!(!with("passwd: sss\n").passwd_from_file());
        assert!(!with("passwd:\n").passwd_from_file());
    }
}
