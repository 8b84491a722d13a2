//! Which distribution the volume holds, and what differs by it. Pure.
//!
//! The facts are those of the distributions' own cloud images and packages; where the volume itself answers (its
//! login.defs, its cloud.cfg, its groups), it is asked instead.

mod cloud_cfg;
mod default_user;
mod directories;
mod yaml;

pub use default_user::{DefaultUser, Privilege, default_user, image_user};
pub use directories::is_system_directory;

use crate::accounts::Group;
use crate::view::{self, View};
use bstr::ByteSlice;
use std::path::Path;

/// Distributions that share package layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Debian, Ubuntu and theirs.
    Debian,
    /// Red Hat Enterprise Linux, CentOS, Rocky, Alma, Oracle, Fedora, Amazon.
    RedHat,
    /// SUSE Linux Enterprise, openSUSE.
    Suse,
    /// Alpine.
    Alpine,
    /// Arch.
    Arch,
    /// Any other, or unknown.
    Other,
}

/// A file's mode and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode {
    /// The low twelve bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A user of sshd's own for privilege separation, as the distribution's package makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivsepAccount {
    /// The fixed uid, `None` where the package takes a free system uid.
    pub uid: Option<u32>,
    /// The group's name and its fixed gid; nogroup's is 65534.
    pub group: (&'static str, Option<u32>),
    /// The gecos field.
    pub gecos: &'static str,
    /// The home directory, which nobody may write but root.
    pub home: &'static str,
    /// A shell that refuses to log in.
    pub shell: &'static str,
}

/// What the volume says it is (os-release(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsFacts {
    /// "debian", "amzn"; empty if unknown.
    pub id: String,
    /// "12", "2023"; empty if unknown.
    pub version: String,
    /// The name for people; empty if unknown.
    pub name: String,
    /// The family.
    pub family: Family,
}

/// The longest value of os-release that is kept, in characters.
const MAX_VALUE: usize = 200;

impl OsFacts {
    /// Reads /etc/os-release, else /usr/lib/os-release, else what older releases had. Never fails: what is not said
    /// stays empty.
    #[must_use]
    pub fn detect(view: &dyn View) -> Self {
        let read = |path: &str| view::read_following(view, Path::new(path), view::TEXT_LIMIT).ok();
        if let Some(text) = read("/etc/os-release").or_else(|| read("/usr/lib/os-release")) {
            return Self::parse(&text);
        }
        let first_line = |text: Vec<u8>| tame(&text.lines().next().unwrap_or_default().to_str_lossy());
        for path in ["/etc/system-release", "/etc/redhat-release"] {
            if let Some(text) = read(path) {
                return Self::from_release_line(first_line(text));
            }
        }
        for (path, id, name) in
            [("/etc/debian_version", "debian", "Debian"), ("/etc/alpine-release", "alpine", "Alpine Linux")]
        {
            if let Some(text) = read(path) {
                let version = first_line(text);
                let name = format!("{name} {version}");
                return Self { id: id.into(), version, name, family: family(id, "") };
            }
        }
        Self { id: String::new(), version: String::new(), name: String::new(), family: Family::Other }
    }

    /// Reads the text of an os-release file.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.trim_ascii().strip_prefix(key.as_bytes()));
            let last = lines.filter_map(|rest| rest.strip_prefix(b"=")).next_back();
            last.map(|value| tame(&unquote(value)))
        };
        let id = value("ID").unwrap_or_default().to_ascii_lowercase();
        let like = value("ID_LIKE").unwrap_or_default();
        let version = value("VERSION_ID").or_else(|| value("VERSION")).unwrap_or_default();
        let name = value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| id.clone());
        let family = family(&id, &like);
        Self { id, version, name, family }
    }

    /// "CentOS release 6.10 (Final)", "Amazon Linux AMI release 2018.03".
    fn from_release_line(name: String) -> Self {
        let lower = name.to_ascii_lowercase();
        let known = [
            ("amazon", "amzn"),
            ("red hat", "rhel"),
            ("centos", "centos"),
            ("oracle", "ol"),
            ("fedora", "fedora"),
            ("rocky", "rocky"),
            ("almalinux", "almalinux"),
        ];
        let id = known.iter().find(|(word, _)| lower.contains(word)).map_or("rhel", |(_, id)| id);
        let version = lower.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let version = version.unwrap_or_default().to_owned();
        Self { id: id.into(), version, name, family: Family::RedHat }
    }

    /// The number before the first dot of the version.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }

    /// `true` for a Red Hat Enterprise Linux of this major version or newer, or a Fedora or Amazon Linux as new.
    fn red_hat_since(&self, enterprise: u32, fedora: u32, amazon: u32) -> bool {
        let least = match self.id.as_str() {
            "fedora" => fedora,
            "amzn" => amazon,
            _ => enterprise,
        };
        self.family == Family::RedHat && self.major().is_some_and(|major| major >= least)
    }

    /// The systemd unit or init script of sshd, without suffix.
    #[must_use]
    pub fn sshd_unit(&self) -> &'static str {
        if self.family == Family::Debian { "ssh" } else { "sshd" }
    }

    /// The privilege separation directory that the distribution's sshd was built with.
    #[must_use]
    pub fn privsep_dir(&self) -> &'static str {
        match self.family {
            Family::Debian => "/run/sshd",
            Family::RedHat if self.red_hat_since(9, 34, 2022) => "/usr/share/empty.sshd",
            Family::Arch => "/usr/share/empty.sshd",
            Family::Suse => "/var/lib/empty",
            Family::RedHat => "/var/empty/sshd",
            Family::Alpine | Family::Other => "/var/empty",
        }
    }

    /// The account `sshd` of the distribution's package.
    #[must_use]
    pub fn privsep_account(&self) -> PrivsepAccount {
        let account = |uid, group, gecos, home, shell| PrivsepAccount { uid, group, gecos, home, shell };
        let empty = self.privsep_dir();
        match self.family {
            Family::Debian => account(None, ("nogroup", Some(65534)), "", empty, "/usr/sbin/nologin"),
            Family::RedHat => {
                let shell =
                    if self.red_hat_since(10, 38, u32::MAX) { "/usr/sbin/nologin" } else { "/sbin/nologin" };
                account(Some(74), ("sshd", Some(74)), "Privilege-separated SSH", empty, shell)
            }
            Family::Suse => account(None, ("sshd", None), "SSH daemon", "/var/lib/sshd", "/usr/sbin/nologin"),
            Family::Alpine => account(Some(22), ("sshd", Some(22)), "sshd", "/dev/null", "/sbin/nologin"),
            Family::Arch | Family::Other => account(None, ("sshd", None), "", "/", "/usr/sbin/nologin"),
        }
    }

    /// What a private host key has: Red Hat's releases up to 9 give it to the group ssh_keys.
    #[must_use]
    pub fn host_key_mode(&self, group: &Group) -> FileMode {
        let keys = group.by_name(b"ssh_keys").filter(|_| self.family == Family::RedHat);
        match keys {
            Some(keys) if !self.red_hat_since(10, 38, u32::MAX) => {
                FileMode { mode: 0o640, uid: 0, gid: keys.gid }
            }
            _ => FileMode { mode: 0o600, uid: 0, gid: 0 },
        }
    }

    /// What /etc/shadow and /etc/gshadow have.
    #[must_use]
    pub fn shadow_mode(&self, group: &Group) -> FileMode {
        match (self.family, group.by_name(b"shadow")) {
            (Family::RedHat, _) => FileMode { mode: 0, uid: 0, gid: 0 },
            (Family::Debian | Family::Suse | Family::Alpine, Some(shadow)) => {
                FileMode { mode: 0o640, uid: 0, gid: shadow.gid }
            }
            _ => FileMode { mode: 0o600, uid: 0, gid: 0 },
        }
    }

    /// What an account file has, by its name in /etc.
    #[must_use]
    pub fn account_file_mode(&self, name: &str, group: &Group) -> FileMode {
        match name.trim_end_matches('-') {
            "shadow" | "gshadow" => self.shadow_mode(group),
            _ => FileMode { mode: 0o644, uid: 0, gid: 0 },
        }
    }

    /// What `passwd -l` puts before a hash here.
    #[must_use]
    pub fn lock_prefix(&self) -> &'static str {
        if self.family == Family::RedHat { "!!" } else { "!" }
    }

    /// The login shells to choose from, best first.
    #[must_use]
    pub fn login_shells(&self) -> &'static [&'static str] {
        match self.family {
            Family::Alpine => &["/bin/ash", "/bin/sh", "/bin/bash"],
            _ => &["/bin/bash", "/bin/sh", "/usr/bin/bash", "/usr/bin/sh"],
        }
    }
}

fn family(id: &str, like: &str) -> Family {
    for word in std::iter::once(id).chain(like.split_whitespace()) {
        match word {
            "debian" | "ubuntu" => return Family::Debian,
            "rhel" | "fedora" | "centos" | "amzn" | "rocky" | "almalinux" | "ol" => return Family::RedHat,
            "alpine" => return Family::Alpine,
            "arch" => return Family::Arch,
            _ if word.starts_with("sle") || word.contains("suse") => return Family::Suse,
            _ => {}
        }
    }
    Family::Other
}

/// The value of a shell-like assignment: quotes go, a backslash keeps the next byte.
fn unquote(value: &[u8]) -> String {
    let mut plain = Vec::new();
    let mut quote = None;
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            (None | Some(b'"'), b'\\') => plain.extend(bytes.next()),
            (None, byte) if byte.is_ascii_whitespace() => break,
            _ => plain.push(byte),
        }
    }
    plain.to_str_lossy().into_owned()
}

/// Bounded and on one line.
fn tame(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_VALUE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    fn facts(text: &str) -> OsFacts {
        OsFacts::parse(text.as_bytes())
    }

    #[test]
    fn os_release_is_read_through_its_link() {
        let mut tree = MemTree::new();
        tree.file(
            "/usr/lib/os-release",
            0o644,
            0,
            0,
            b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n",
        );
        tree.link("/etc/os-release", "../usr/lib/os-release");
        let os = OsFacts::detect(&tree);
        assert_eq!((os.id.as_str(), os.version.as_str(), os.family), ("debian", "12", Family::Debian));
        assert_eq!(os.name, "Debian GNU/Linux 12");
        assert_eq!(OsFacts::detect(&MemTree::new()).family, Family::Other);
    }

    #[test]
    fn quotes_escapes_and_control_characters_are_undone() {
        let os = facts("ID='my os'\nNAME=\"a \\\"b\\\" \u{1b}[31m\"\nVERSION_ID=3.1 # x\nIDX=no\n");
        assert_eq!((os.id.as_str(), os.name.as_str(), os.version.as_str()), ("my os", "a \"b\" [31m", "3.1"));
    }

    #[test]
    fn families_are_told_by_id_or_likeness() {
        for (text, wanted) in [
            ("ID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"", Family::RedHat),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"", Family::Debian),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"", Family::Suse),
            ("ID=\"sles\"", Family::Suse),
            ("ID=alpine", Family::Alpine),
            ("ID=azurelinux", Family::Other),
        ] {
            assert_eq!(facts(text).family, wanted, "{text}");
        }
    }

    #[test]
    fn releases_without_os_release_are_known_by_their_own_files() {
        let mut tree = MemTree::new();
        tree.file("/etc/redhat-release", 0o644, 0, 0, b"CentOS release 6.10 (Final)\n");
        let os = OsFacts::detect(&tree);
        assert_eq!((os.id.as_str(), os.version.as_str(), os.major()), ("centos", "6.10", Some(6)));
        assert_eq!(os.privsep_dir(), "/var/empty/sshd");
    }

    #[test]
    fn modes_follow_the_packages() {
        let group = Group::parse(b"shadow:x:42:\nssh_keys:x:101:\n");
        let of = |text: &str| facts(text);
        assert_eq!(of("ID=debian").shadow_mode(&group), FileMode { mode: 0o640, uid: 0, gid: 42 });
        assert_eq!(of("ID=debian").shadow_mode(&Group::default()), FileMode { mode: 0o600, uid: 0, gid: 0 });
        assert_eq!(of("ID=rhel\nVERSION_ID=9.3").shadow_mode(&group).mode, 0);
        assert_eq!(
            of("ID=rhel\nVERSION_ID=9.3").host_key_mode(&group),
            FileMode { mode: 0o640, uid: 0, gid: 101 }
        );
        assert_eq!(of("ID=rhel\nVERSION_ID=10.0").host_key_mode(&group).mode, 0o600);
        assert_eq!(of("ID=debian").host_key_mode(&group).mode, 0o600);
        assert_eq!(of("ID=amzn\nVERSION_ID=2").privsep_dir(), "/var/empty/sshd");
        assert_eq!(of("ID=amzn\nVERSION_ID=2023").privsep_dir(), "/usr/share/empty.sshd");
        assert_eq!(of("ID=debian").account_file_mode("passwd-", &group).mode, 0o644);
    }
}
