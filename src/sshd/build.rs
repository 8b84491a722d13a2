//! Which sshd the volume has: version, who built it, and what that build does differently.

use super::config::PermitRootLogin;
use crate::view::{TEXT_LIMIT, View, read_following};
use bstr::ByteSlice;
use std::path::Path;

/// Where sshd may be, in the order of likelihood.
pub const PROGRAMS: &[&str] =
    &["/usr/sbin/sshd", "/usr/lib/ssh/sshd", "/usr/bin/sshd", "/usr/sbin/sshd.pam", "/usr/local/sbin/sshd"];
/// The most bytes of a program that are searched for its version.
const PROGRAM_LIMIT: u64 = 8 << 20;

/// Whose patches the build carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian and Ubuntu: private groups may write (`user-group-modes`), TCP wrappers, authorized_keys2 read.
    Debian,
    /// RHEL and its rebuilds, Fedora, Amazon Linux.
    RedHat,
    /// SUSE.
    Suse,
    /// Upstream's rules (Alpine, Arch and others).
    Upstream,
}

/// The version whose rules are taken where the volume does not tell its own: the newest that was read for this.
pub const CURRENT: (u32, u32) = (10, 2);

/// The sshd of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Major and minor version; `None` where no sshd was found (the rules of a current one are taken).
    pub version: Option<(u32, u32)>,
    /// As it calls itself: "9.2p1".
    pub text: Option<String>,
    /// Whose patches it carries.
    pub family: Family,
    /// Major version of the distribution (12 for Debian 12, 8 for EL8), where the patches differ by it. Amazon
    /// Linux and Fedora give the release of RHEL that they are nearest to.
    pub release: Option<u32>,
    /// Is PAM compiled in? (Alpine's plain package has none: UsePAM is passed over there.)
    pub pam: bool,
    /// Is GSSAPI compiled in?
    pub gssapi: bool,
    /// What stands after the version in the banner: "Debian-2+deb12u3".
    pub extra: Option<String>,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            version: None,
            text: None,
            family: Family::Upstream,
            release: None,
            pam: true,
            gssapi: true,
            extra: None,
        }
    }
}

impl Build {
    /// A build of that family and version, as tests and tables need it.
    #[must_use]
    pub fn of(family: Family, version: (u32, u32)) -> Self {
        let release = match family {
            Family::RedHat => Some(el_release_of(version)),
            _ => None,
        };
        let text = Some(format!("{}.{}p1", version.0, version.1));
        Self { version: Some(version), text, family, release, ..Self::default() }
    }

    /// Finds the sshd program and its version on the volume: os-release(5) for the family; dpkg's or apk's database
    /// for the version, else the version string in the program itself.
    #[must_use]
    pub fn detect(view: &dyn View) -> Self {
        let os = OsRelease::read(view);
        let mut build = Self { family: os.family(), release: os.release(), ..Self::default() };
        if os.id == "alpine" {
            build.gssapi = false;
            build.pam = read_following(view, Path::new("/usr/sbin/sshd.pam"), 0)
                .is_err_and(|error| matches!(error, crate::view::LookError::TooLarge { .. }));
        }
        let found = match build.family {
            Family::Debian => dpkg_version(view).map(|(version, revision)| {
                let vendor = if os.id == "ubuntu" { "Ubuntu" } else { "Debian" };
                build.extra = Some(format!("{vendor}-{revision}"));
                version
            }),
            Family::Upstream => apk_version(view),
            Family::RedHat | Family::Suse => None,
        };
        build.text = found.or_else(|| program_version(view));
        build.version = build.text.as_deref().and_then(|text| parse_version(text.as_bytes()));
        build
    }

    /// `true` if the distribution's Linux-PAM is 1.6 or later, in which missing files are passed over and pam_unix
    /// compares ages otherwise.
    #[must_use]
    pub fn pam_at_least_1_6(&self) -> bool {
        match self.family {
            // Ubuntu's releases are years; 24.10 is the first.
            Family::Debian => match self.release {
                Some(release @ ..=17) => release >= 13,
                Some(release) => release >= 25,
                None => true,
            },
            Family::RedHat => self.release.is_none_or(|release| release >= 10),
            Family::Suse | Family::Upstream => self.at_least(9, 7),
        }
    }

    /// `true` if the version is at least this; an unknown version counts as [`CURRENT`].
    #[must_use]
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version.unwrap_or(CURRENT) >= (major, minor)
    }

    /// `true` for a build of RHEL's family of one of these releases.
    #[must_use]
    pub fn is_el(&self, releases: std::ops::RangeInclusive<u32>) -> bool {
        self.family == Family::RedHat && self.release.is_some_and(|release| releases.contains(&release))
    }

    /// Files and directories may be writable by the user's own private group (Debian's `user-group-modes`).
    #[must_use]
    pub fn private_groups_may_write(&self) -> bool {
        self.family == Family::Debian
    }

    /// /etc/hosts.allow and hosts.deny are asked (Debian's `restore-tcp-wrappers`, EL7).
    #[must_use]
    pub fn tcp_wrappers(&self) -> bool {
        self.family == Family::Debian || self.is_el(6..=7)
    }

    /// PermitRootLogin where it is not set.
    #[must_use]
    pub fn default_permit_root_login(&self) -> PermitRootLogin {
        if self.is_el(6..=7) { PermitRootLogin::Yes } else { PermitRootLogin::ProhibitPassword }
    }

    /// UseDNS where it is not set.
    #[must_use]
    pub fn default_use_dns(&self) -> bool {
        self.is_el(6..=7)
    }

    /// HostKey where it is not set.
    #[must_use]
    pub fn default_host_keys(&self) -> &'static [&'static str] {
        if self.at_least(7, 7) {
            &["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key"]
        } else {
            &[
                "/etc/ssh/ssh_host_rsa_key",
                "/etc/ssh/ssh_host_dsa_key",
                "/etc/ssh/ssh_host_ecdsa_key",
                "/etc/ssh/ssh_host_ed25519_key",
            ]
        }
    }

    /// AuthorizedKeysFile where it is not set.
    #[must_use]
    pub fn default_authorized_keys_file(&self) -> &'static [&'static str] {
        &[".ssh/authorized_keys", ".ssh/authorized_keys2"]
    }

    /// The group that may read host keys (mode 0640) without making them too open.
    #[must_use]
    pub fn host_key_group(&self) -> Option<&'static str> {
        self.is_el(7..=9).then_some("ssh_keys")
    }

    /// The empty directory of privilege separation, as compiled in. On Debian it lies on a tmpfs that is filled at
    /// boot, so its absence from the volume means nothing.
    #[must_use]
    pub fn privilege_separation_directory(&self) -> &'static str {
        match self.family {
            Family::Debian => "/run/sshd",
            Family::RedHat if self.is_el(0..=8) => "/var/empty/sshd",
            Family::RedHat => "/usr/share/empty.sshd",
            Family::Suse => "/var/lib/empty",
            Family::Upstream => "/var/empty",
        }
    }

    /// `true` where that directory is made anew at every boot.
    #[must_use]
    pub fn privilege_separation_directory_is_volatile(&self) -> bool {
        self.family == Family::Debian
    }

    /// The directory of sshd-session (from 9.8) and sshd-auth (from 10.0), `None` before.
    #[must_use]
    pub fn helper_directory(&self) -> Option<&'static str> {
        self.at_least(9, 8).then_some(match self.family {
            Family::Debian => "/usr/lib/openssh",
            Family::RedHat => "/usr/libexec/openssh",
            Family::Suse => "/usr/libexec/ssh",
            Family::Upstream => "/usr/lib/ssh",
        })
    }

    /// Key files are tried before TrustedUserCAKeys and AuthorizedKeysCommand (8.1; the other way round before).
    #[must_use]
    pub fn files_come_first(&self) -> bool {
        self.at_least(8, 1)
    }

    /// PubkeyAcceptedAlgorithms is compared with the signature's algorithm (7.8), not with the key's type.
    #[must_use]
    pub fn signature_algorithm_decides(&self) -> bool {
        self.at_least(7, 8)
    }

    /// The fewest bits of an RSA key that the code itself takes, whatever RequiredRSASize says.
    #[must_use]
    pub fn least_rsa_bits(&self) -> u32 {
        if self.at_least(7, 6) { 1024 } else { 768 }
    }

    /// What `Match Version` compares with: "OpenSSH_10.0p2 Debian-7".
    #[must_use]
    pub fn release_text(&self) -> String {
        let text = self.text.as_deref().unwrap_or("unknown");
        match &self.extra {
            Some(extra) => format!("OpenSSH_{text} {extra}"),
            None => format!("OpenSSH_{text}"),
        }
    }
}

/// "9.2p1" is (9, 2).
fn parse_version(text: &[u8]) -> Option<(u32, u32)> {
    let (major, rest) = leading_number(text)?;
    let (minor, _) = leading_number(rest.strip_prefix(b".")?)?;
    Some((major, minor))
}

fn leading_number(text: &[u8]) -> Option<(u32, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].to_str().ok()?.parse().ok()?;
    Some((number, &text[end..]))
}

fn el_release_of(version: (u32, u32)) -> u32 {
    match version {
        (..=7, _) => 7,
        (8, 0..=1) => 8,
        (8, _) => 9,
        _ => 10,
    }
}

/// What os-release(5) says.
#[derive(Debug, Default)]
struct OsRelease {
    id: String,
    like: String,
    version: String,
}

impl OsRelease {
    fn read(view: &dyn View) -> Self {
        let text = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| read_following(view, Path::new(path), 1 << 20).ok());
        let mut os = Self::default();
        for line in text.iter().flat_map(|text| text.lines()) {
            let Some((key, value)) = line.split_once_str("=") else { continue };
            let value = value.trim_ascii().trim_with(|c| c == '"' || c == '\'').to_str_lossy().to_lowercase();
            match key.trim_ascii() {
                b"ID" => os.id = value,
                b"ID_LIKE" => os.like = value,
                b"VERSION_ID" => os.version = value,
                _ => {}
            }
        }
        os
    }

    fn family(&self) -> Family {
        std::iter::once(self.id.as_str())
            .chain(self.like.split_whitespace())
            .find_map(|id| match id {
                "debian" | "ubuntu" => Some(Family::Debian),
                "rhel" | "centos" | "fedora" | "rocky" | "almalinux" | "ol" | "amzn" => Some(Family::RedHat),
                "sles" | "sled" | "suse" => Some(Family::Suse),
                _ if id.starts_with("opensuse") => Some(Family::Suse),
                _ => None,
            })
            .unwrap_or(Family::Upstream)
    }

    fn release(&self) -> Option<u32> {
        let (major, _) = leading_number(self.version.as_bytes())?;
        Some(match (self.id.as_str(), major) {
            ("amzn", ..=2) => 7,
            ("amzn", 2023..) => 9,
            ("amzn", _) => 6,
            ("fedora", 40..) => 10,
            ("fedora", 34..) => 9,
            ("fedora", 28..) => 8,
            ("fedora", _) => 7,
            _ => major,
        })
    }
}

/// The upstream version and the revision of the installed package openssh-server, from dpkg's status file.
fn dpkg_version(view: &dyn View) -> Option<(String, String)> {
    let status = read_following(view, Path::new("/var/lib/dpkg/status"), TEXT_LIMIT).ok()?;
    let start = if status.starts_with(b"Package: openssh-server\n") {
        0
    } else {
        status.find(b"\nPackage: openssh-server\n")? + 1
    };
    let stanza = &status[start..];
    let stanza = &stanza[..stanza.find(b"\n\n").unwrap_or(stanza.len())];
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name.as_bytes()));
    if !field("Status: ")?.ends_with(b" installed") {
        return None;
    }
    let version = field("Version: ")?.to_str().ok()?;
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    let (upstream, revision) = version.rsplit_once('-').unwrap_or((version, ""));
    Some((upstream.to_owned(), revision.to_owned()))
}

/// The version from apk's database: `P:openssh-server`, `V:9.7_p1-r4`.
fn apk_version(view: &dyn View) -> Option<String> {
    let text = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"]
        .iter()
        .find_map(|path| read_following(view, Path::new(path), TEXT_LIMIT).ok())?;
    let stanza = text.split_str("\n\n").find(|stanza| {
        stanza.lines().any(|line| line == b"P:openssh-server" || line == b"P:openssh-server-pam")
    })?;
    let version = stanza.lines().find_map(|line| line.strip_prefix(b"V:"))?.to_str().ok()?;
    let version = version.split_once("-r").map_or(version, |(version, _)| version);
    Some(version.replace('_', ""))
}

/// The version string in the program: `OpenSSH_9.2p1`. Tables of other implementations in the same program name
/// versions without a `p`.
fn program_version(view: &dyn View) -> Option<String> {
    let program =
        PROGRAMS.iter().find_map(|path| read_following(view, Path::new(path), PROGRAM_LIMIT).ok())?;
    version_in(&program)
}

fn version_in(program: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"OpenSSH_";
    program.find_iter(MARK).find_map(|at| {
        let text = &program[at + MARK.len()..];
        let text = &text[..text.len().min(32)];
        let (major, rest) = leading_number(text)?;
        let (minor, rest) = leading_number(rest.strip_prefix(b".")?)?;
        // 7.9.1p1 and the like have a third number.
        let (third, rest) = match rest.strip_prefix(b".").and_then(leading_number) {
            Some((third, rest)) => (format!(".{third}"), rest),
            None => (String::new(), rest),
        };
        let (patch, _) = leading_number(rest.strip_prefix(b"p")?)?;
        Some(format!("{major}.{minor}{third}p{patch}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;
    use proptest::prelude::*;

    fn tree(os_release: &str) -> MemTree {
        let mut tree = MemTree::new();
        tree.file("/usr/lib/os-release", 0o644, 0, 0, os_release.as_bytes());
        tree.link("/etc/os-release", "../usr/lib/os-release");
        tree
    }

    #[test]
    fn debian_is_read_from_dpkg() {
        let mut tree = tree("ID=debian\nVERSION_ID=\"12\"\n");
        tree.file(
            "/var/lib/dpkg/status",
            0o644,
            0,
            0,
            b"Package: openssh-client\nStatus: install ok installed\nVersion: 1:1.1p1-1\n\n\
              Package: openssh-server\nStatus: install ok installed\nVersion: 1:9.2p1-2+deb12u10\n\nPackage: x\n",
        );
        let build = Build::detect(&tree);
        assert_eq!((build.family, build.version, build.release), (Family::Debian, Some((9, 2)), Some(12)));
        assert_eq!(build.text.as_deref(), Some("9.2p1"));
        assert_eq!(build.release_text(), "OpenSSH_9.2p1 Debian-2+deb12u10");
        assert!(build.private_groups_may_write() && build.tcp_wrappers());
        assert_eq!(build.privilege_separation_directory(), "/run/sshd");
    }

    #[test]
    fn a_removed_package_is_not_taken_for_the_version() {
        let mut tree = tree("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n");
        let status = b"Package: openssh-server\nStatus: deinstall ok config-files\nVersion: 1:9.6p1-3\n";
        tree.file("/var/lib/dpkg/status", 0o644, 0, 0, status);
        assert_eq!(Build::detect(&tree).version, None);
        tree.file("/usr/sbin/sshd", 0o755, 0, 0, b"\x7fELF OpenSSH_6.6.1* OpenSSH_9.9p2\0");
        assert_eq!(Build::detect(&tree).text.as_deref(), Some("9.9p2"));
    }

    #[test]
    fn rpm_families_are_read_from_the_program() {
        for (os, program, version, release, use_dns, directory) in [
            ("ID=\"amzn\"\nVERSION_ID=\"2\"", "7.4p1", (7, 4), 7, true, "/var/empty/sshd"),
            ("ID=\"amzn\"\nVERSION_ID=\"2023\"", "8.7p1", (8, 7), 9, false, "/usr/share/empty.sshd"),
            (
                "ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=8",
                "8.0p1",
                (8, 0),
                8,
                false,
                "/var/empty/sshd",
            ),
            ("ID=\"rocky\"\nVERSION_ID=9.4", "8.7p1", (8, 7), 9, false, "/usr/share/empty.sshd"),
        ] {
            let mut tree = tree(os);
            tree.file("/usr/sbin/sshd", 0o755, 0, 0, format!("\0OpenSSH_{program}\0").as_bytes());
            let build = Build::detect(&tree);
            assert_eq!((build.family, build.version), (Family::RedHat, Some(version)), "{os}");
            assert_eq!(build.release, Some(release), "{os}");
            assert_eq!(build.default_use_dns(), use_dns, "{os}");
            assert_eq!(build.privilege_separation_directory(), directory, "{os}");
        }
    }

    #[test]
    fn alpine_has_no_pam_unless_the_program_with_it_is_there() {
        let mut tree = tree("ID=alpine\nVERSION_ID=3.20.1\n");
        tree.file("/lib/apk/db/installed", 0o644, 0, 0, b"P:musl\nV:1\n\nP:openssh-server\nV:9.7_p1-r4\n\n");
        let build = Build::detect(&tree);
        assert_eq!((build.text.as_deref(), build.pam, build.gssapi), (Some("9.7p1"), false, false));
        tree.file("/usr/sbin/sshd.pam", 0o755, 0, 0, b"x");
        assert!(Build::detect(&tree).pam);
    }

    #[test]
    fn a_volume_with_nothing_on_it_gets_the_current_rules() {
        let build = Build::detect(&MemTree::new());
        assert_eq!(build, Build::default());
        assert!(build.at_least(CURRENT.0, CURRENT.1) && !build.at_least(99, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = version_in(&bytes);
            let mut tree = MemTree::new();
            for path in ["/etc/os-release", "/var/lib/dpkg/status", "/lib/apk/db/installed", "/usr/sbin/sshd"] {
                tree.file(path, 0o644, 0, 0, &bytes);
            }
            let _ = Build::detect(&tree);
            let _ = (dpkg_version(&tree), apk_version(&tree));
        }
    }
}
