//! What the fuzz targets feed, and the ordinary tests with the files in `corpus`: each input is a file of a small Debian,
//! whose owner is asked whether a login would be accepted, by several versions of sshd. Nothing may panic, and what is
//! said must hold together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use volrescue::accounts::{Group, Passwd, Shadow, edit};
use volrescue::finding::{Severity, Verdict};
use volrescue::keys::authorized_keys::{self, Line};
use volrescue::selinux::Policy;
use volrescue::sshd::build::Build;
use volrescue::sshd::evaluate::{Question, System, evaluate};
use volrescue::view::{FileKind, LookError, Stat, View};

/// The name of each target, and the file that its input is.
pub(crate) const TARGETS: [(&str, &str); 6] = [
    ("sshd_config", "/etc/ssh/sshd_config"),
    ("authorized_keys", "/home/u/.ssh/authorized_keys"),
    ("passwd", "/etc/passwd"),
    ("shadow", "/etc/shadow"),
    ("group", "/etc/group"),
    ("pam", "/etc/pam.d/sshd"),
];

/// 2025-11-25.
const NOW: i64 = 1_764_028_800;
const USER: &[u8] = b"u";
/// As dpkg names them, oldest first.
const VERSIONS: [&str; 4] = ["1:7.4p1-10", "1:8.4p1-5", "1:9.2p1-2", "1:10.0p1-7"];
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n\
    u:x:1000:1000:U,,,:/home/u:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nsudo:x:27:u\nu:x:1000:\n";
const SHADOW: &[u8] = b"root:*:19000:0:99999:7:::\nu:!:19000:0:99999:7:::\n";
const KEYS: &[u8] =
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f u@example\n";
const ACCOUNT: &[u8] = b"account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n\
    account requisite pam_deny.so\naccount required pam_permit.so\n";

/// Feeds one input to a target.
pub(crate) fn feed(target: &str, data: &[u8]) {
    let Some((_, file)) = TARGETS.iter().find(|(name, _)| *name == target) else {
        panic!("no target {target}");
    };
    match target {
        "authorized_keys" => keys(data),
        "passwd" | "shadow" | "group" => accounts(target, data),
        _ => {}
    }
    // Which sshd is asked hangs on the input alone, so that it can be repeated.
    let version = VERSIONS[data.len() % VERSIONS.len()];
    let volume = Volume::debian(version).with(file, data);
    let system = System::read(&volume);
    let address = data.len().is_multiple_of(3).then_some(std::net::IpAddr::from([192, 0, 2, 7]));
    let question = Question { user: USER.into(), keys: &[], now: NOW, address, host: None };
    let answer = evaluate(&volume, &system, &question);
    let blocks = answer.findings.iter().any(|finding| finding.severity == Severity::Blocks);
    match answer.verdict {
        Verdict::Accept => assert!(!blocks && answer.unknown.is_empty(), "{:?}", answer.findings),
        Verdict::Refuse => assert!(blocks, "refused without a reason: {:?}", answer.trace),
        Verdict::Unknown => assert!(!answer.unknown.is_empty(), "{:?}", answer.findings),
    }
}

/// A line that is added does not change how the others are read, and is read itself.
fn keys(data: &[u8]) {
    let volume = Volume::debian(VERSIONS[2]);
    let build = Build::detect(&volume);
    let read = |content: &[u8]| -> Vec<Vec<u8>> {
        let lines = authorized_keys::parse(content, &build).into_iter();
        lines
            .filter_map(|(_, line)| match line {
                Line::Key(key) => Some(key.key.blob),
                _ => None,
            })
            .collect()
    };
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(at) = authorized_keys::fault_at(line, &build) {
            assert!(at <= line.len(), "a caret behind the line");
        }
    }
    let _ = authorized_keys::commented_keys(data);
    let _ = volrescue::keys::read_key(data);
    let before = read(data);
    let after = read(&authorized_keys::append(data, &[KEYS.trim_ascii_end().to_vec()]));
    let added = read(KEYS);
    assert_eq!(added.len(), 1);
    assert_eq!(after, [before, added].concat());
}

/// An edit of one field changes that field alone.
fn accounts(target: &str, data: &[u8]) {
    let lines: Vec<(u32, usize)> = match target {
        "passwd" => Passwd::parse(data).entries.iter().map(|entry| (entry.line, 6)).collect(),
        "shadow" => Shadow::parse(data).entries.iter().map(|entry| (entry.line, 1)).collect(),
        _ => Group::parse(data).entries.iter().map(|entry| (entry.line, 3)).collect(),
    };
    for (line, field) in lines.into_iter().take(4) {
        assert!(line > 0);
        let Some(edited) = edit::set_field(data, line, field, b"*") else { continue };
        let at = line as usize - 1;
        let others = |text: &[u8]| -> Vec<Vec<u8>> {
            let lines = text.split(|byte| *byte == b'\n').enumerate();
            lines.filter(|(number, _)| *number != at).map(|(_, line)| line.to_vec()).collect()
        };
        assert_eq!(others(data), others(&edited));
        assert_eq!(edit::set_field(&edited, line, field, b"*").as_deref(), Some(edited.as_slice()));
    }
}

/// Files in memory, all of them 0644 root:root but the user's own; a directory is what a path leads through.
struct Volume {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Volume {
    fn debian(version: &str) -> Self {
        let status = format!("Package: openssh-server\nStatus: install ok installed\nVersion: {version}\n\n");
        let files: [(&str, &[u8]); 20] = [
            ("/etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n"),
            ("/var/lib/dpkg/status", status.as_bytes()),
            ("/etc/ssh/sshd_config", b"Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"),
            ("/etc/ssh/sshd_config.d/a.conf", b"Match User nobody\nPubkeyAuthentication no\n"),
            ("/home/u/.ssh/authorized_keys", KEYS),
            ("/etc/passwd", PASSWD),
            ("/etc/shadow", SHADOW),
            ("/etc/group", GROUP),
            ("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\n"),
            ("/etc/shells", b"/bin/sh\n"),
            ("/etc/pam.d/sshd", b"@include common-account\nsession required pam_permit.so\n"),
            ("/etc/pam.d/other", b"account required pam_permit.so\nsession required pam_permit.so\n"),
            ("/etc/pam.d/common-account", ACCOUNT),
            ("/etc/security/access.conf", b"-:ALL EXCEPT u:ALL\n"),
            ("/etc/security/limits.conf", b"# nothing\n"),
            ("/bin/sh", b"\x7fELF"),
            ("/usr/sbin/sshd", b"\x7fELF"),
            ("/usr/sbin/unix_chkpwd", b"\x7fELF"),
            ("/usr/lib/openssh/sshd-session", b"\x7fELF"),
            ("/usr/lib/openssh/sshd-auth", b"\x7fELF"),
        ];
        let mut volume = Self { files: BTreeMap::new() };
        for (path, content) in files {
            let content = if content == b"\x7fELF" { program("") } else { content.to_vec() };
            volume.files.insert(path.into(), content);
        }
        for module in
            ["unix", "deny", "permit", "nologin", "access", "limits", "env", "succeed_if", "listfile"]
        {
            let content = program("pam_sm_acct_mgmt pam_sm_open_session");
            volume
                .files
                .insert(format!("/usr/lib/x86_64-linux-gnu/security/pam_{module}.so").into(), content);
        }
        volume
    }

    fn with(mut self, path: &str, content: &[u8]) -> Self {
        self.files.insert(path.into(), content.to_vec());
        self
    }

    fn is_directory(&self, path: &Path) -> bool {
        let mut after = self.files.range(path.to_owned()..);
        path == Path::new("/") || after.any(|(file, _)| file != path && file.starts_with(path))
    }
}

/// A program as far as its header tells.
fn program(text: &str) -> Vec<u8> {
    let mut content = b"\x7fELF\x02\x01\x01".to_vec();
    content.resize(64, 0);
    (content[0x10], content[0x12], content[0x36]) = (3, 62, 56);
    content.extend_from_slice(text.as_bytes());
    content
}

impl View for Volume {
    fn lstat(&self, path: &Path) -> Result<Stat, LookError> {
        let content = self.files.get(path);
        let (kind, mode) = match content {
            Some(_) if path.starts_with("/bin") || path.starts_with("/usr") => (FileKind::Regular, 0o755),
            Some(_) => (FileKind::Regular, 0o644),
            None if self.is_directory(path) => (FileKind::Directory, 0o755),
            None if path.parent().is_some_and(|parent| self.files.contains_key(parent)) => {
                return Err(LookError::NotDirectory);
            }
            None => return Err(LookError::NotFound),
        };
        let id = if path.starts_with("/home/u") { 1000 } else { 0 };
        let size = content.map_or(4096, |content| content.len() as u64);
        let ino = 2 + self.files.keys().position(|file| file.starts_with(path)).unwrap_or(0) as u64;
        Ok(Stat { kind, mode, uid: id, gid: id, nlink: 1, size, dev: 1, ino, mtime: 0 })
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, LookError> {
        Err(LookError::Kind(self.lstat(path)?.kind))
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, LookError> {
        let stat = self.lstat(path)?;
        match self.files.get(path) {
            Some(_) if stat.size > limit => Err(LookError::TooLarge { size: stat.size, limit }),
            Some(content) => Ok(content.clone()),
            None => Err(LookError::Kind(stat.kind)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, LookError> {
        if !self.is_directory(path) {
            return Err(self.lstat(path).map_or_else(|error| error, |stat| LookError::Kind(stat.kind)));
        }
        let below = self.files.keys().filter_map(|file| file.strip_prefix(path).ok());
        let mut names: Vec<OsString> = below
            .filter_map(|rest| rest.components().next())
            .map(|name| name.as_os_str().to_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    fn xattr(&self, path: &Path, _name: &str) -> Result<Option<Vec<u8>>, LookError> {
        self.lstat(path).map(|_| None)
    }

    fn selinux(&self) -> Rc<Policy> {
        Rc::new(Policy::read(self))
    }

    fn sshd(&self) -> Build {
        Build::detect(self)
    }
}
