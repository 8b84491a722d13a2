//! What sshd does not mind, and a person should; and fstab, which may put another filesystem over the home.

use super::path::home_path;
use super::{Case, KeyFile};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding};
use crate::fstab;
use crate::os::is_system_directory;
use crate::permissions::{acl, explained};
use crate::view::{APPEND_ONLY, Found, IMMUTABLE, LookError, Stat, TEXT_LIMIT, follow, read_following, walk};
use bstr::BString;
use std::path::{Component, Path, PathBuf};

/// The most names of `.ssh` that are looked at.
const NAMES_LIMIT: usize = 1000;

pub(super) fn check(case: &mut Case<'_>, user: &PasswdEntry, files: &[KeyFile]) {
    root_directory(case);
    home(case, user);
    key_files(case, user, files);
    account_files(case);
    client_keys(case, user);
    sudo(case);
    system(case);
}

/// What root alone writes on every distribution, and sshd does not look at; /tmp is everybody's, with the sticky bit.
const SYSTEM: [&str; 16] = [
    "/usr",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/var",
    "/root",
    "/etc/ssh/sshd_config",
    "/etc/pam.d",
    "/etc/pam.d/sshd",
    "/etc/cron.d",
    "/etc/crontab",
    "/etc/systemd/system",
    "/etc/profile",
    "/usr/sbin/sshd",
    "/tmp",
    "/var/tmp",
];

/// The traces of a `chmod -R 777 /`: one finding for all of them, since no repair of a login mends a whole system.
fn system(case: &mut Case<'_>) {
    let everybody = |path: &&&str| {
        follow(case.view, Path::new(path)).is_ok_and(|found| {
            let sticky = found.stat.is_dir() && found.stat.mode & 0o1000 != 0;
            found.stat.mode & 0o002 != 0 && !sticky
        })
    };
    let told = |path: &&&str| case.findings.iter().any(|told| told.path.as_deref() == Some(Path::new(path)));
    let open: Vec<&str> = SYSTEM.iter().filter(everybody).filter(|path| !told(path)).copied().collect();
    let Some(first) = open.first() else { return };
    let mode = follow(case.view, Path::new(first)).map_or(0, |found| found.stat.mode);
    let finding = Finding::advises(CheckId::SystemWritable)
        .at(first)
        .is(match &open[1..] {
            [] => format!("{mode:04o}"),
            rest => format!("{mode:04o}, and so {}", rest.join(", ")),
        })
        .wants("the modes that the packages give");
    case.advise(finding);
}

/// A finding for a mode, unless the same path was told already.
fn mode(case: &mut Case<'_>, check: CheckId, found: &Found, wants: String) {
    let told =
        case.findings.iter().any(|told| told.path.as_deref() == Some(&found.path) && told.line.is_none());
    if !told {
        let is = explained(case.view, &found.path, &found.stat, None);
        case.advise(Finding::advises(check).at(&found.path).is(is).wants(wants));
    }
}

/// `/` at least 0555, at most 0755, and root's.
fn root_directory(case: &mut Case<'_>) {
    if let Ok(found) = follow(case.view, Path::new("/"))
        && !is_plain_directory(&found.stat, 0o555)
    {
        mode(case, CheckId::RootDirectoryMode, &found, "0755 0:0".into());
    }
}

/// root's, not writable by others, with at least these bits.
fn is_plain_directory(stat: &Stat, least: u32) -> bool {
    stat.uid == 0 && stat.gid == 0 && stat.mode & 0o022 == 0 && stat.mode & least == least
}

fn home(case: &mut Case<'_>, user: &PasswdEntry) {
    let path = home_path(user);
    // As it is written, or, where dots lead elsewhere, where it lies.
    let plain = path.components().all(|part| part != Component::ParentDir);
    let place = if plain { path.clone() } else { walk(case.view, &path).reached };
    // A hardened /home (0711) is as it should be.
    for parent in place.ancestors().skip(1).filter(|parent| parent.starts_with("/home")) {
        if let Ok(found) = follow(case.view, parent)
            && found.stat.is_dir()
            && !is_plain_directory(&found.stat, 0o111)
        {
            mode(case, CheckId::HomeParentMode, &found, "0755 0:0".into());
        }
    }
    match follow(case.view, &path) {
        Err(_) => {
            let told = case.findings.iter().any(|told| {
                matches!(
                    told.check,
                    CheckId::HomeMissing
                        | CheckId::HomeNotDirectory
                        | CheckId::PathNotDirectory
                        | CheckId::KeyFileLinkBroken
                        | CheckId::HomeElsewhere
                )
            });
            if !told {
                let finding = Finding::advises(CheckId::HomeMissing)
                    .at(path)
                    .is("absent")
                    .wants(format!("0700 {}:{}", user.uid, user.gid))
                    .says("Could not chdir to home directory");
                case.advise(finding);
            }
        }
        Ok(found) if found.stat.is_dir() && !is_system_directory(&found.path) => {
            locked(case, &found);
            if !is_own(&found.stat, 0o700, user) {
                mode(case, CheckId::HomeMode, &found, format!("0700 {}:{}", user.uid, user.gid));
            }
        }
        Ok(_) => {}
    }
}

fn is_own(stat: &Stat, mode: u32, user: &PasswdEntry) -> bool {
    stat.mode == mode && stat.uid == user.uid && stat.gid == user.gid
}

fn key_files(case: &mut Case<'_>, user: &PasswdEntry, files: &[KeyFile]) {
    let home = follow(case.view, &home_path(user)).map(|found| found.path);
    let Ok(home) = home else { return };
    for file in files {
        let asked_in_home = file.path.starts_with(home_path(user));
        let resolved = walk(case.view, &file.path);
        if file.shared {
            let finding = Finding::advises(CheckId::KeyFileShared)
                .at(&file.path)
                .is(format!("AuthorizedKeysFile {}", file.pattern))
                .wants("a file for each user");
            case.advise(finding);
        }
        if let Some(parent) = file.path.parent()
            && let Ok(directory) = follow(case.view, parent)
            && directory.stat.is_dir()
            && directory.path.starts_with(&home)
            && directory.path != home
            && !is_own(&directory.stat, 0o700, user)
        {
            mode(case, CheckId::SshDirMode, &directory, format!("0700 {}:{}", user.uid, user.gid));
        }
        if let Some(parent) = file.path.parent()
            && let Ok(directory) = follow(case.view, parent)
            && directory.stat.is_dir()
            && directory.path.starts_with(&home)
        {
            default_acl(case, &directory);
            locked(case, &directory);
        }
        // Where a link in the home leads out of it, nothing is changed for it, found or not.
        let end = resolved.end.as_ref().map_or(&resolved.reached, |found| &found.path);
        if asked_in_home
            && !end.starts_with(&home)
            && let Some(link) =
                resolved.steps.iter().find(|step| step.link.is_some() && step.path.starts_with(&home))
        {
            let finding = Finding::advises(CheckId::LinkOutsideHome)
                .at(&link.path)
                .is(format!("leads to {}", end.display()))
                .wants("a file inside the home");
            let same = |told: &Finding| told.check == finding.check && told.path == finding.path;
            if !case.findings.iter().any(same) {
                case.advise(finding);
            }
        }
        let Ok(found) = resolved.end else { continue };
        if found.path.starts_with(&home) {
            locked(case, &found);
        }
        if found.path.starts_with(&home) && found.stat.is_file() && !is_own(&found.stat, 0o600, user) {
            mode(case, CheckId::KeyFileMode, &found, format!("0600 {}:{}", user.uid, user.gid));
        }
        if found.stat.is_file() && found.stat.nlink > 1 {
            let finding = Finding::advises(CheckId::KeyFileHardLinked)
                .at(&found.path)
                .is(format!("{} names", found.stat.nlink))
                .wants("one name");
            case.advise(finding);
        }
    }
}

/// A flag that keeps everybody from mending it by hand, or ssh-copy-id from adding a key.
fn locked(case: &mut Case<'_>, found: &Found) {
    if !found.stat.is_dir() && !found.stat.is_file() {
        return;
    }
    let flags = case.view.flags(&found.path).unwrap_or(0);
    let is: Vec<&str> = [(IMMUTABLE, "immutable (chattr +i)"), (APPEND_ONLY, "append-only (chattr +a)")]
        .into_iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, words)| words)
        .collect();
    let told = case
        .findings
        .iter()
        .any(|told| told.check == CheckId::PathLocked && told.path.as_deref() == Some(&found.path));
    if !is.is_empty() && !told {
        let finding =
            Finding::advises(CheckId::PathLocked).at(&found.path).is(is.join(", ")).wants("no such flag");
        case.advise(finding);
    }
}

/// A default ACL takes the place of the umask: a file of keys that is made anew then begins with what it says.
fn default_acl(case: &mut Case<'_>, directory: &Found) {
    let raw = case.view.xattr(&directory.path, acl::DEFAULT).ok().flatten();
    let Some(mut list) = raw.as_deref().and_then(acl::Acl::parse) else { return };
    let is = format!("default ACL {}", list.words());
    let told = case
        .findings
        .iter()
        .any(|told| told.check == CheckId::SshDirDefaultAcl && told.path.as_deref() == Some(&directory.path));
    if !told && list.close_to_writers() {
        let finding = Finding::advises(CheckId::SshDirDefaultAcl)
            .at(&directory.path)
            .is(is)
            .wants(format!("default ACL {}", list.words()));
        case.advise(finding);
    }
}

/// passwd and group for everybody to read, shadow and gshadow for nobody but root and the group shadow.
fn account_files(case: &mut Case<'_>) {
    for (path, secret) in
        [("/etc/passwd", false), ("/etc/group", false), ("/etc/shadow", true), ("/etc/gshadow", true)]
    {
        let Ok(found) = follow(case.view, Path::new(path)) else { continue };
        let stat = &found.stat;
        let wrong = if secret {
            stat.mode & 0o037 != 0
        } else {
            stat.mode & 0o022 != 0 || stat.mode & 0o444 != 0o444
        };
        if stat.is_file() && (wrong || stat.uid != 0) {
            let wants = if secret {
                format!("{:04o} 0:{}", stat.mode & !0o037, stat.gid)
            } else {
                "0644 0:0".to_owned()
            };
            mode(case, CheckId::AccountFileMode, &found, wants);
        }
    }
}

/// ssh(1) of the user refuses private keys that others can read, and a config that others can write.
fn client_keys(case: &mut Case<'_>, user: &PasswdEntry) {
    let Ok(directory) = follow(case.view, &home_path(user).join(".ssh")) else { return };
    if !directory.stat.is_dir() {
        return;
    }
    for name in case.view.list(&directory.path).unwrap_or_default().into_iter().take(NAMES_LIMIT) {
        let bytes = name.as_encoded_bytes();
        let private = bytes.starts_with(b"id_") && !bytes.ends_with(b".pub");
        if !private && bytes != b"config" {
            continue;
        }
        let path = directory.path.join(&name);
        let Ok(stat) = case.view.lstat(&path) else { continue };
        let bad = if private { stat.mode & 0o077 } else { stat.mode & 0o022 };
        let foreign = stat.uid != user.uid && stat.uid != 0;
        if stat.is_file() && (foreign || (bad != 0 && stat.uid == user.uid)) {
            let wants = format!("0600 {}:{}", user.uid, user.gid);
            mode(case, CheckId::ClientKeyMode, &Found { path, stat }, wants);
        }
    }
}

/// sudo(8) refuses to work with files of others or that others can write, and without its set-id bit.
fn sudo(case: &mut Case<'_>) {
    if let Ok(found) = follow(case.view, Path::new("/usr/bin/sudo"))
        && found.stat.is_file()
        && (found.stat.uid != 0 || found.stat.mode & 0o4111 != 0o4111)
    {
        mode(case, CheckId::SudoersMode, &found, "4755 0:0".into());
    }
    let mut files = vec![PathBuf::from("/etc/sudoers")];
    let directory = Path::new("/etc/sudoers.d");
    for name in case.view.list(directory).unwrap_or_default().into_iter().take(NAMES_LIMIT) {
        let bytes = name.as_encoded_bytes();
        // sudo passes over these names.
        if !bytes.ends_with(b"~") && !bytes.contains(&b'.') {
            files.push(directory.join(name));
        }
    }
    for file in files {
        if let Ok(found) = follow(case.view, &file)
            && found.stat.is_file()
            && (found.stat.uid != 0 || found.stat.gid != 0 || found.stat.mode & 0o022 != 0)
        {
            mode(case, CheckId::SudoersMode, &found, "0440 0:0".into());
        }
    }
}

/// A filesystem that boot mounts over the home, so that what is seen there is not what sshd sees.
pub(super) struct Hidden {
    point: PathBuf,
    device: BString,
    /// Of fstab; none for what every boot mounts.
    line: Option<u32>,
}

/// What every boot lays a filesystem of its own over, with that filesystem's name.
const VOLATILE: [(&str, &str); 4] =
    [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "devtmpfs"), ("/run", "tmpfs")];

impl Hidden {
    /// A filesystem of its own on the home or a directory above it, which is not mounted in this view: by fstab(5), or
    /// as every boot has it.
    pub(super) fn home_of(case: &Case<'_>, user: &PasswdEntry) -> Option<Self> {
        let home = walk(case.view, &home_path(user));
        let home = home.end.map_or(home.reached, |found| found.path);
        let volatile =
            VOLATILE.iter().find(|(point, _)| home_path(user).starts_with(point) || home.starts_with(point));
        if let Some(&(point, device)) = volatile
            && !is_mounted(case, Path::new(point))
        {
            return Some(Self { point: point.into(), device: device.into(), line: None });
        }
        let text = read_following(case.view, Path::new("/etc/fstab"), TEXT_LIMIT).ok()?;
        fstab::parse(&text).into_iter().find_map(|entry| {
            let hides = entry.is_mounted_at_boot()
                && (entry.covers(&home) || entry.covers(&home_path(user)))
                && !is_shown(case, &entry);
            hides.then_some(Self { point: entry.point, device: entry.device, line: Some(entry.line) })
        })
    }

    /// All that fstab mounts and that is not mounted in this view.
    pub(super) fn all(case: &Case<'_>) -> Vec<Self> {
        let text = read_following(case.view, Path::new("/etc/fstab"), TEXT_LIMIT).unwrap_or_default();
        let lines = fstab::parse(&text).into_iter();
        let missing = lines.filter(|entry| {
            entry.point != Path::new("/") && entry.is_mounted_at_boot() && !is_shown(case, entry)
        });
        missing
            .map(|entry| Self { point: entry.point, device: entry.device, line: Some(entry.line) })
            .collect()
    }

    pub(super) fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.point)
    }

    /// The same, where it is not the home that it hides.
    pub(super) fn missing(&self) -> (Finding, String) {
        let (finding, missing) = self.finding();
        let finding = Finding { check: CheckId::FilesystemMissing, ..finding };
        (finding, missing)
    }

    pub(super) fn finding(&self) -> (Finding, String) {
        let (device, point) = (&self.device, self.point.display());
        let finding = Finding::advises(CheckId::HomeElsewhere).is(format!("{device} is mounted on {point}"));
        match self.line {
            Some(line) => (
                finding.at("/etc/fstab").on_line(line).wants("that volume too (--with)"),
                format!("the filesystem {device} that fstab mounts on {point}"),
            ),
            None => (
                finding.at(&self.point).wants("a home on the disk"),
                format!("the filesystem {device} that every boot mounts on {point}"),
            ),
        }
    }
}

/// Whether what the line mounts is there in what is looked at, or can't come to be there.
fn is_shown(case: &Case<'_>, entry: &fstab::Entry) -> bool {
    match entry.bind_source() {
        None => is_mounted(case, &entry.point),
        Some(source) => {
            let inode = |path: &Path| follow(case.view, path).map(|found| (found.stat.dev, found.stat.ino));
            let source = inode(&source);
            source == Err(LookError::NotFound) || (source.is_ok() && source == inode(&entry.point))
        }
    }
}

/// Is something mounted there in what is looked at, as on a running system?
fn is_mounted(case: &Case<'_>, point: &Path) -> bool {
    let device = |path: &Path| follow(case.view, path).map(|found| found.stat.dev);
    let parent = point.parent().unwrap_or(Path::new("/"));
    matches!((device(point), device(parent)), (Ok(here), Ok(above)) if here != above)
}
