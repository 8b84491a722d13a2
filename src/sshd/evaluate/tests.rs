//! A small volume that sshd accepts, and what breaks it.

use super::*;
use crate::keys::base64;
use crate::keys::testing::{key, line};
use crate::view::FileKind;
use crate::view::memory::{MemTree, program};

mod layers;
mod recipes;

/// A host key that guards nothing: the container of ssh-keygen around numbers that are no key pair.
pub(super) fn host_key() -> String {
    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let public = [string(b"ssh-ed25519"), string(&[7; 32])].concat();
    let private = [
        b"\0\0\0\x05\0\0\0\x05".to_vec(),
        public.clone(),
        string(&[7; 64]),
        string(b"x"),
        b"\x01\x02\x03".to_vec(),
    ]
    .concat();
    let whole = [
        b"openssh-key-v1\0".to_vec(),
        string(b"none"),
        string(b"none"),
        string(b""),
        b"\0\0\0\x01".to_vec(),
        string(&public),
        string(&private),
    ]
    .concat();
    let text = String::from_utf8(base64::encode(&whole)).unwrap();
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
    let (begin, end) = ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----");
    format!("{begin}\n{}\n{end}\n", lines.join("\n"))
}

/// Where things are.
const HOME: &str = "/home/u";
const SSH: &str = "/home/u/.ssh";
const KEYS: &str = "/home/u/.ssh/authorized_keys";
const CONFIG: &str = "/etc/ssh/sshd_config";
const UID: u32 = 1000;
/// 2025-11-24.
const NOW: i64 = 1_764_000_000;

const DEBIAN_CONFIG: &str = "\
# This is the sshd server system-wide configuration file.

Include /etc/ssh/sshd_config.d/*.conf

KbdInteractiveAuthentication no
UsePAM yes
X11Forwarding yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem\tsftp\t/usr/lib/openssh/sftp-server
";

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
sshd:x:101:65534::/run/sshd:/usr/sbin/nologin
u:x:1000:1000:U,,,:/home/u:/bin/bash
";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nshadow:x:42:\nusers:x:100:\nnogroup:x:65534:\nu:x:1000:\n";
const SHADOW: &str = "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\nu:!:19000:0:99999:7:::\n";

const PAM_SSHD: &str = "\
@include common-auth
account    required     pam_nologin.so
@include common-account
session [success=ok ignore=ignore module_unknown=ignore default=bad]        pam_selinux.so close
session    required     pam_loginuid.so
session    optional     pam_keyinit.so force revoke
@include common-session
session    optional     pam_motd.so  motd=/run/motd.dynamic
session    optional     pam_mail.so standard noenv # [1]
session    required     pam_limits.so
session    required     pam_env.so # [1]
session [success=ok ignore=ignore module_unknown=ignore default=bad]        pam_selinux.so open
@include common-password
";
const PAM_ACCOUNT: &str = "\
account\t[success=1 new_authtok_reqd=done default=ignore]\tpam_unix.so
account\trequisite\t\t\tpam_deny.so
account\trequired\t\t\tpam_permit.so
";
const PAM_SESSION: &str = "\
session\t[default=1]\t\t\tpam_permit.so
session\trequisite\t\t\tpam_deny.so
session\trequired\t\t\tpam_permit.so
session\trequired\tpam_unix.so
";
const PAM_OTHER: &str =
    "@include common-auth\n@include common-account\n@include common-password\n@include common-session\n";
const MODULES: [&str; 13] = [
    "access", "deny", "env", "keyinit", "limits", "listfile", "loginuid", "mail", "motd", "nologin",
    "permit", "selinux", "unix",
];

/// A volume under test.
pub(crate) struct Bed {
    pub(crate) tree: MemTree,
    address: &'static str,
}

impl std::ops::Deref for Bed {
    type Target = MemTree;
    fn deref(&self) -> &MemTree {
        &self.tree
    }
}

impl std::ops::DerefMut for Bed {
    fn deref_mut(&mut self) -> &mut MemTree {
        &mut self.tree
    }
}

impl Bed {
    /// Debian 12, as the package and the installer leave it.
    pub(crate) fn debian() -> Self {
        let mut bed = Self::any();
        bed.file("/etc/os-release", 0o644, 0, 0, b"ID=debian\nVERSION_ID=\"12\"\n");
        let status =
            b"Package: openssh-server\nStatus: install ok installed\nVersion: 1:9.2p1-2+deb12u10\n\n";
        bed.file("/var/lib/dpkg/status", 0o644, 0, 0, status);
        bed
    }

    /// The same with an unpatched sshd of that version.
    fn upstream(version: &str) -> Self {
        let mut bed = Self::any();
        bed.file("/etc/os-release", 0o644, 0, 0, b"ID=arch\n");
        let content = program(&format!("OpenSSH_{version}\0"));
        bed.file("/usr/sbin/sshd", 0o755, 0, 0, &content);
        bed.file("/usr/lib/ssh/sshd-session", 0o755, 0, 0, &program(""));
        bed
    }

    fn any() -> Self {
        let mut tree = MemTree::new();
        let shell = program("");
        for path in ["/bin/bash", "/bin/sh", "/bin/true", "/bin/false", "/usr/sbin/nologin"] {
            tree.file(path, 0o755, 0, 0, &shell);
        }
        tree.file("/usr/sbin/sshd", 0o755, 0, 0, &program("OpenSSH_9.2p1\0"));
        for kind in ["rsa", "ecdsa", "ed25519"] {
            tree.file(&format!("/etc/ssh/ssh_host_{kind}_key"), 0o600, 0, 0, host_key().as_bytes());
        }
        tree.file(CONFIG, 0o644, 0, 0, DEBIAN_CONFIG.as_bytes());
        tree.dir("/etc/ssh/sshd_config.d", 0o755, 0, 0);
        tree.file("/etc/passwd", 0o644, 0, 0, PASSWD.as_bytes());
        tree.file("/etc/group", 0o644, 0, 0, GROUP.as_bytes());
        tree.file("/etc/shadow", 0o640, 0, 42, SHADOW.as_bytes());
        tree.file("/etc/shells", 0o644, 0, 0, b"/bin/sh\n/bin/bash\n");
        tree.file("/etc/nsswitch.conf", 0o644, 0, 0, b"passwd: files\ngroup: files\nshadow: files\n");
        tree.file("/etc/pam.d/sshd", 0o644, 0, 0, PAM_SSHD.as_bytes());
        tree.file("/etc/pam.d/other", 0o644, 0, 0, PAM_OTHER.as_bytes());
        tree.file("/etc/pam.d/common-account", 0o644, 0, 0, PAM_ACCOUNT.as_bytes());
        tree.file("/etc/pam.d/common-session", 0o644, 0, 0, PAM_SESSION.as_bytes());
        tree.file("/etc/pam.d/common-auth", 0o644, 0, 0, b"auth required pam_unix.so\n");
        tree.file("/etc/pam.d/common-password", 0o644, 0, 0, b"password required pam_unix.so\n");
        for module in MODULES {
            tree.file(
                &format!("/usr/lib/x86_64-linux-gnu/security/pam_{module}.so"),
                0o644,
                0,
                0,
                &program("pam_sm_acct_mgmt pam_sm_open_session"),
            );
        }
        tree.file("/usr/sbin/unix_chkpwd", 0o2755, 0, 42, &program(""));
        for file in ["limits.conf", "access.conf"] {
            tree.file(&format!("/etc/security/{file}"), 0o644, 0, 0, b"# nothing\n");
        }
        tree.dir("/tmp", 0o1777, 0, 0).dir("/srv", 0o755, 0, 0).dir("/home", 0o755, 0, 0);
        let keys = format!("{}\n", line(&key(1)));
        tree.dir(HOME, 0o755, UID, UID).dir(SSH, 0o700, UID, UID).file(
            KEYS,
            0o600,
            UID,
            UID,
            keys.as_bytes(),
        );
        tree.dir("/root", 0o700, 0, 0).dir("/root/.ssh", 0o700, 0, 0);
        tree.file("/root/.ssh/authorized_keys", 0o600, 0, 0, keys.as_bytes());
        Self { tree, address: "127.0.0.1" }
    }

    fn text(&self, path: &str) -> Vec<u8> {
        self.tree.nodes[Path::new(path)].content.clone()
    }

    fn lines(&self, path: &str) -> String {
        String::from_utf8(self.text(path)).unwrap()
    }

    /// New content, everything else of the inode as it is.
    pub(crate) fn write(&mut self, path: &str, content: impl AsRef<[u8]>) -> &mut Self {
        let content = content.as_ref();
        match self.tree.nodes.get_mut(Path::new(path)) {
            Some(node) => {
                node.content = content.to_vec();
                node.stat.size = content.len() as u64;
            }
            None => {
                self.tree.file(path, 0o644, 0, 0, content);
            }
        }
        self
    }

    fn edit(&mut self, path: &str, change: impl Fn(&str) -> String) -> &mut Self {
        let text = change(&self.lines(path));
        self.write(path, text)
    }

    fn append(&mut self, path: &str, more: &str) -> &mut Self {
        self.edit(path, |text| format!("{text}{more}"))
    }

    fn prepend(&mut self, path: &str, more: &str) -> &mut Self {
        self.edit(path, |text| format!("{more}{text}"))
    }

    /// `sed s/from/to/` on every line.
    fn replace(&mut self, path: &str, from: &str, to: &str) -> &mut Self {
        assert!(self.lines(path).contains(from), "{path} has no {from:?}");
        self.edit(path, |text| text.replace(from, to))
    }

    /// Every line changed.
    fn each_line(&mut self, path: &str, change: impl Fn(&str) -> String) -> &mut Self {
        self.edit(path, |text| text.lines().map(|line| change(line) + "\n").collect())
    }

    pub(crate) fn mv(&mut self, from: &str, to: &str) -> &mut Self {
        let moved: Vec<PathBuf> =
            self.tree.nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        assert!(!moved.is_empty(), "{from} is not there");
        for path in moved {
            let node = self.tree.nodes.remove(&path).unwrap();
            let rest = path.strip_prefix(from).unwrap();
            let new = if rest.as_os_str().is_empty() { PathBuf::from(to) } else { Path::new(to).join(rest) };
            self.tree.nodes.insert(new, node);
        }
        self
    }

    fn each_below(&mut self, top: &str, change: impl Fn(&mut crate::view::memory::Node)) -> &mut Self {
        for (path, node) in &mut self.tree.nodes {
            if path.starts_with(top) && node.stat.kind != FileKind::Symlink {
                change(node);
            }
        }
        self
    }

    fn chown_all(&mut self, top: &str, uid: u32, gid: u32) -> &mut Self {
        self.each_below(top, |node| (node.stat.uid, node.stat.gid) = (uid, gid))
    }

    fn chmod_all(&mut self, top: &str, mode: u32) -> &mut Self {
        self.each_below(top, |node| node.stat.mode = mode)
    }

    /// The field of a colon-separated line.
    fn field(&mut self, path: &str, name: &str, field: usize, value: &str) -> &mut Self {
        self.each_line(path, |line| {
            let mut fields: Vec<&str> = line.split(':').collect();
            if fields[0] == name {
                fields[field] = value;
            }
            fields.join(":")
        })
    }

    fn delete_line(&mut self, path: &str, start: &str) -> &mut Self {
        assert!(self.lines(path).lines().any(|line| line.starts_with(start)), "{path} has no {start}");
        self.edit(path, |text| {
            text.lines().filter(|line| !line.starts_with(start)).map(|line| format!("{line}\n")).collect()
        })
    }

    /// `setfacl -m u:UID:PERMISSIONS`, mask recalculated.
    fn acl_user(&mut self, path: &str, uid: u32, permissions: u16) -> &mut Self {
        use crate::permissions::acl;
        let stat = self.tree.nodes[Path::new(path)].stat;
        let bits = |shift: u32| u16::try_from(stat.mode >> shift & 7).unwrap();
        let mask = bits(3) | permissions;
        let entry = |tag, permissions, id| acl::Entry { tag, permissions, id };
        let entries = vec![
            entry(1, bits(6), u32::MAX),
            entry(2, permissions, uid),
            entry(4, bits(3), u32::MAX),
            entry(0x10, mask, u32::MAX),
            entry(0x20, bits(0), u32::MAX),
        ];
        self.tree.set_xattr(path, acl::ACCESS, &acl::Acl { entries }.to_bytes());
        self.tree.chmod(path, (stat.mode & !0o070) | u32::from(mask) << 3);
        self
    }

    fn ask(&self, user: &str, keys: &[PublicKey]) -> Evaluation {
        let system = System::read(&self.tree);
        let address = self.address.parse().ok();
        evaluate(&self.tree, &system, &Question { user: user.into(), keys, now: NOW, address, host: None })
    }
}

/// Ends a chain of changes in a closure that gives nothing back.
fn did<T>(_: T) {}

/// The stable names of the findings that block.
fn blocking(evaluation: &Evaluation) -> Vec<&'static str> {
    let blocks = evaluation.findings.iter().filter(|finding| finding.severity == Severity::Blocks);
    blocks.map(|finding| finding.check.name()).collect()
}

/// What must hold of every answer.
fn is_consistent(evaluation: &Evaluation, what: &str) {
    match evaluation.verdict {
        Verdict::Accept => {
            assert_eq!(blocking(evaluation), [""; 0], "{what}: accepted, and yet something blocks");
            assert!(evaluation.unknown.is_empty(), "{what}: {:?}", evaluation.unknown);
        }
        Verdict::Refuse => assert!(!blocking(evaluation).is_empty(), "{what}: refused for no reason"),
        Verdict::Unknown => {
            assert!(!evaluation.unknown.is_empty(), "{what}: unknown, and nothing is missing");
        }
    }
}
