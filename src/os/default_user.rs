//! Who logs in to this image by default, and how its cloud-init would have made them.

use super::cloud_cfg::{self, CloudUser};
use super::{Family, OsFacts};
use crate::accounts::{LoginDefs, Passwd, PasswdEntry};
use crate::view::{self, View};
use bstr::ByteSlice;
use std::path::Path;

/// How the default user becomes root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// Rules for sudoers(5), without the user's name before them.
    pub sudo: Vec<String>,
    /// Lines for doas.conf(5), whole.
    pub doas: Vec<String>,
}

/// The image's default login user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultUser {
    /// Login name.
    pub name: String,
    /// A sentence without full stop: what named them.
    pub chosen_by: String,
    /// Supplementary groups; not all need exist in the volume.
    pub groups: Vec<String>,
    /// The primary group, where it is not one of the user's own.
    pub primary_group: Option<String>,
    /// Login shell, absolute in the volume; it need not exist.
    pub shell: String,
    /// The gecos field.
    pub gecos: String,
    /// The home, where the image does not leave it at /home/NAME.
    pub home: Option<String>,
    /// sudo and doas.
    pub privilege: Privilege,
    /// Does the image lock the password?
    pub lock_password: bool,
}

/// What a distribution's images do where cloud.cfg does not say.
struct Row {
    /// Names, the one of the images for EC2 first.
    names: &'static [&'static str],
    groups: &'static [&'static str],
    gecos: &'static str,
    shell: &'static str,
}

const RED_HAT_GROUPS: &[&str] = &["adm", "systemd-journal"];
const WHEEL_GROUPS: &[&str] = &["wheel", "adm", "systemd-journal"];
const DEBIAN_GROUPS: &[&str] =
    &["adm", "audio", "cdrom", "dialout", "dip", "floppy", "netdev", "plugdev", "sudo", "video"];
const UBUNTU_GROUPS: &[&str] = &["adm", "cdrom", "dip", "lxd", "sudo"];
const OLD_UBUNTU_GROUPS: &[&str] =
    &["adm", "audio", "cdrom", "dialout", "dip", "floppy", "lxd", "netdev", "plugdev", "sudo", "video"];
const BASH: &str = "/bin/bash";

fn row(os: &OsFacts) -> Option<Row> {
    let row = |names, groups, gecos| Row { names, groups, gecos, shell: BASH };
    let major = os.major();
    Some(match os.id.as_str() {
        "amzn" => row(&["ec2-user"], WHEEL_GROUPS, "EC2 Default User"),
        "ubuntu" if major.is_some_and(|major| major >= 24) => row(&["ubuntu"], UBUNTU_GROUPS, "Ubuntu"),
        "ubuntu" => row(&["ubuntu"], OLD_UBUNTU_GROUPS, "Ubuntu"),
        "debian" => row(&["admin", "debian"], DEBIAN_GROUPS, "Debian"),
        "rhel" => row(&["ec2-user", "cloud-user"], RED_HAT_GROUPS, "Cloud User"),
        "centos" if major.is_some_and(|major| major <= 8) && !os.name.contains("Stream") => {
            row(&["centos", "cloud-user"], RED_HAT_GROUPS, "Cloud User")
        }
        "centos" => row(&["ec2-user", "centos", "cloud-user"], RED_HAT_GROUPS, "Cloud User"),
        "rocky" => row(&["rocky"], RED_HAT_GROUPS, "Cloud User"),
        "almalinux" => row(&["ec2-user", "almalinux"], RED_HAT_GROUPS, "Cloud User"),
        "ol" => row(&["ec2-user", "opc"], RED_HAT_GROUPS, "Cloud User"),
        "fedora" => row(&["fedora", "ec2-user"], WHEEL_GROUPS, "fedora Cloud User"),
        "alpine" => Row {
            names: &["alpine"],
            groups: &["adm", "wheel"],
            gecos: "alpine Cloud User",
            shell: "/bin/ash",
        },
        "arch" => row(&["arch"], &["wheel", "users"], "arch Cloud User"),
        "gentoo" => row(&["gentoo"], &["users", "wheel"], "gentoo Cloud User"),
        "azurelinux" | "mariner" => row(&["azureuser"], &["wheel"], ""),
        "photon" => row(&["root"], &[], "root"),
        _ if os.family == Family::Suse => {
            row(&["ec2-user", "opensuse"], &[], "cloud-init created default user")
        }
        _ => return None,
    })
}

/// The image's default login user: as its cloud.cfg says, else its distribution, else the only person in passwd. `None`
/// if none of them tells.
#[must_use]
pub fn default_user(view: &dyn View, os: &OsFacts) -> Option<DefaultUser> {
    let cloud = cloud_cfg::read(view);
    let has_cloud = cloud.is_some();
    let cloud = cloud.unwrap_or_default();
    let passwd = passwd(view);
    let row = row(os);
    if let Some((name, file)) = &cloud.name {
        let chosen_by = format!("the image's cloud.cfg names it ({})", file.display());
        return Some(describe(os, name.clone(), chosen_by, cloud, row, &passwd));
    }
    let names = row.as_ref().map_or(&[][..], |row| row.names);
    let there = names.iter().find(|name| passwd.by_name(name.as_bytes()).is_some());
    let only = only_person(view, &passwd).filter(|_| !has_cloud || names.is_empty());
    let usual = |name: &str| (name.to_owned(), usual_words(os));
    let (name, chosen_by) = match (there, only, names.first()) {
        (Some(name), _, _) => usual(name),
        (None, Some(only), _) => (only, "it is the only account of a person in /etc/passwd".to_owned()),
        (None, None, Some(name)) => usual(name),
        (None, None, None) => return None,
    };
    Some(describe(os, name, chosen_by, cloud, row, &passwd))
}

/// What the image would have made of `name`, if that is the default user by cloud.cfg or, where that names none, by the
/// distribution: whoever else may be in passwd by now.
#[must_use]
pub fn image_user(view: &dyn View, os: &OsFacts, name: &str) -> Option<DefaultUser> {
    let cloud = cloud_cfg::read(view).unwrap_or_default();
    let row = row(os);
    let chosen_by = match &cloud.name {
        Some((named, file)) if named == name => {
            format!("the image's cloud.cfg names it ({})", file.display())
        }
        None if row.as_ref().is_some_and(|row| row.names.contains(&name)) => usual_words(os),
        _ => return None,
    };
    Some(describe(os, name.to_owned(), chosen_by, cloud, row, &passwd(view)))
}

fn usual_words(os: &OsFacts) -> String {
    let os = if os.name.is_empty() { "this distribution" } else { &os.name };
    format!("it is the usual user of images of {os}")
}

fn passwd(view: &dyn View) -> Passwd {
    let text = view::read_accounts(view, Path::new("/etc/passwd")).unwrap_or_default();
    Passwd::parse(&text)
}

fn describe(
    os: &OsFacts,
    name: String,
    chosen_by: String,
    cloud: CloudUser,
    row: Option<Row>,
    passwd: &Passwd,
) -> DefaultUser {
    let is_rows = row.as_ref().is_some_and(|row| row.names.contains(&name.as_str()));
    // A cloud.cfg that says more than the name says all; what it leaves out, its cloud-init leaves out.
    let complete = cloud.name.is_some() && cloud.is_complete();
    let row = row.filter(|_| !complete && (is_rows || cloud.name.is_some()));
    let row = row.as_ref();
    let sudo =
        if row.is_some() && name != "root" { vec!["ALL=(ALL) NOPASSWD:ALL".to_owned()] } else { Vec::new() };
    let doas = match row {
        Some(_) if os.family == Family::Alpine => vec![format!("permit nopass {name}")],
        _ => Vec::new(),
    };
    let existing = passwd.by_name(name.as_bytes()).and_then(|user| user.shell.to_str().ok());
    let shell = cloud.shell.filter(|shell| is_field(shell));
    let fallback = existing.or(os.login_shells().first().copied()).unwrap_or(BASH);
    DefaultUser {
        groups: cloud
            .groups
            .or_else(|| row.map(|row| row.groups.iter().map(|group| (*group).to_owned()).collect()))
            .unwrap_or_default(),
        primary_group: cloud.primary_group,
        shell: shell.unwrap_or_else(|| row.map_or(fallback, |row| row.shell).to_owned()),
        gecos: cloud
            .gecos
            .filter(|gecos| is_field(gecos))
            .unwrap_or_else(|| row.map_or("", |row| row.gecos).to_owned()),
        home: cloud.home.filter(|home| home.starts_with('/') && is_field(home)),
        privilege: Privilege {
            sudo: cloud.sudo.unwrap_or(sudo),
            doas: cloud.doas.map_or(doas, |rules| {
                rules.into_iter().filter(|rule| rule.split_whitespace().any(|word| word == name)).collect()
            }),
        },
        lock_password: cloud.lock_password.unwrap_or(true),
        name,
        chosen_by,
    }
}

/// Fit for a field of passwd?
fn is_field(text: &str) -> bool {
    text.len() < 1000 && !text.chars().any(|c| c == ':' || c.is_control())
}

/// The one account between `UID_MIN` and `UID_MAX` whose shell lets people in.
fn only_person(view: &dyn View, passwd: &Passwd) -> Option<String> {
    let (min, max) = LoginDefs::of(view).uids();
    let is_person = |user: &&PasswdEntry| (min..=max).contains(&user.uid) && lets_in(&user.shell);
    let mut people = passwd.entries.iter().filter(is_person);
    let first = people.next()?;
    if people.any(|other| other.name != first.name) {
        return None;
    }
    first.name.to_str().ok().map(str::to_owned)
}

/// Is this a login shell for a person?
fn lets_in(shell: &[u8]) -> bool {
    let name = shell.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    !matches!(name, b"nologin" | b"false" | b"true" | b"sync" | b"halt" | b"shutdown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::memory::MemTree;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n";

    fn tree(os_release: &str, users: &str) -> MemTree {
        let mut tree = MemTree::new();
        tree.file("/etc/os-release", 0o644, 0, 0, os_release.as_bytes());
        tree.file("/etc/passwd", 0o644, 0, 0, &[PASSWD, users.as_bytes()].concat());
        tree
    }

    fn choose(tree: &MemTree) -> Option<DefaultUser> {
        default_user(tree, &OsFacts::detect(tree))
    }

    const DEBIAN_CFG: &str = "users:\n  - default\nsystem_info:\n  distro: debian\n  default_user:\n    name: debian\n    lock_passwd: True\n    gecos: Debian\n    groups: [adm, audio, sudo]\n    sudo: [\"ALL=(ALL) NOPASSWD:ALL\"]\n    shell: /bin/bash\n";

    #[test]
    fn the_images_own_cloud_cfg_comes_first_and_its_last_drop_in_wins() {
        let mut tree = tree("ID=debian\nVERSION_ID=12\n", "me:x:1000:1000::/home/me:/bin/bash\n");
        tree.file("/etc/cloud/cloud.cfg", 0o644, 0, 0, DEBIAN_CFG.as_bytes());
        let drop_in =
            b"system_info:\n  default_user:\n    name: admin\n    groups: adm, wheel\n    sudo: false\n";
        tree.file("/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg", 0o644, 0, 0, drop_in);
        tree.file("/etc/cloud/cloud.cfg.d/02.txt", 0o644, 0, 0, b"system_info: {default_user: {name: no}}\n");
        let user = choose(&tree).unwrap();
        assert_eq!(user.name, "admin");
        assert_eq!(
            user.chosen_by,
            "the image's cloud.cfg names it (/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg)"
        );
        assert_eq!(user.groups, ["adm", "wheel"]);
        assert_eq!(user.privilege.sudo, Vec::<String>::new());
        assert_eq!((user.shell.as_str(), user.gecos.as_str()), ("/bin/bash", "Debian"));
    }

    #[test]
    fn a_cloud_cfg_that_only_renames_leaves_the_rest_to_the_distribution() {
        let mut tree = tree("ID=rhel\nVERSION_ID=9.4\n", "");
        let name = b"system_info:\n  default_user:\n    name: fred\n";
        tree.file("/etc/cloud/cloud.cfg.d/00-rhel-default-user.cfg", 0o644, 0, 0, name);
        let user = choose(&tree).unwrap();
        assert_eq!((user.name.as_str(), user.groups.join(",")), ("fred", "adm,systemd-journal".to_owned()));
        assert_eq!(user.privilege.sudo, ["ALL=(ALL) NOPASSWD:ALL"]);
    }

    #[test]
    fn without_cloud_cfg_the_distribution_names_the_user() {
        for (os, name) in [
            ("ID=amzn\nVERSION_ID=2023", "ec2-user"),
            ("ID=ubuntu\nVERSION_ID=22.04", "ubuntu"),
            ("ID=debian\nVERSION_ID=12", "admin"),
            ("ID=centos\nVERSION_ID=7", "centos"),
            ("ID=centos\nVERSION_ID=9\nNAME=\"CentOS Stream\"", "ec2-user"),
            ("ID=rocky\nVERSION_ID=9.4", "rocky"),
            ("ID=sles\nVERSION_ID=15.5", "ec2-user"),
            ("ID=fedora\nVERSION_ID=40", "fedora"),
        ] {
            let user = choose(&tree(os, "")).unwrap();
            assert_eq!(user.name, name, "{os}");
            assert!(user.chosen_by.contains("usual user"), "{}", user.chosen_by);
        }
        let user = choose(&tree("ID=alpine\nVERSION_ID=3.20", "")).unwrap();
        assert_eq!(
            (user.shell.as_str(), user.privilege.doas),
            ("/bin/ash", vec!["permit nopass alpine".to_owned()])
        );
        assert_eq!(choose(&tree("ID=what", "")), None);
    }

    #[test]
    fn the_only_person_is_chosen_where_nothing_else_is_known() {
        let me = "me:x:1000:1000::/home/me:/bin/bash\nsvc:x:1001:1001::/srv:/bin/false\n";
        let user = choose(&tree("ID=debian\nVERSION_ID=12", me)).unwrap();
        assert_eq!(user.name, "me");
        assert_eq!(user.chosen_by, "it is the only account of a person in /etc/passwd");
        assert_eq!((user.groups, user.privilege.sudo), (Vec::new(), Vec::new()));
        assert_eq!(choose(&tree("ID=what", me)).unwrap().name, "me");
        let two = format!("{me}you:x:1002:1002::/home/you:\n");
        assert_eq!(choose(&tree("ID=debian\nVERSION_ID=12", &two)).unwrap().name, "admin");
        let other = "debian:x:1000:1000::/home/debian:/bin/bash\nx:x:1001:1001::/:/bin/sh\n";
        assert_eq!(choose(&tree("ID=debian\nVERSION_ID=12", other)).unwrap().name, "debian");
    }

    #[test]
    fn with_a_cloud_cfg_a_missing_user_stays_the_default() {
        let mut tree = tree("ID=debian\nVERSION_ID=12", "me:x:1000:1000::/home/me:/bin/bash\n");
        tree.file("/etc/cloud/cloud.cfg", 0o644, 0, 0, b"users:\n - default\n");
        assert_eq!(choose(&tree).unwrap().name, "admin");
    }

    #[test]
    fn names_and_fields_that_would_break_passwd_are_passed_over() {
        let mut tree = tree("ID=debian\nVERSION_ID=12", "");
        let text = "system_info:\n  default_user:\n    name: \"a:b\"\n    gecos: \"x:0:0\"\n    groups: [ok, 'a b']\n";
        tree.file("/etc/cloud/cloud.cfg", 0o644, 0, 0, text.as_bytes());
        let user = choose(&tree).unwrap();
        assert_eq!(
            (user.name.as_str(), user.gecos.as_str(), user.groups.join(",").as_str()),
            ("admin", "Debian", "ok")
        );
    }
}
