//! The permission tree: from `/` down to the file of keys.
//!
//! The documented tree is /home 0755 root:root, home 0700, .ssh 0700, authorized_keys 0600, all from the home down the
//! user's. Where that is not asked for (`--minimal`), and outside the home, the evaluator's findings say what to mend.

use super::builder::Builder;
use super::scope::Home;
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, FixedBy, Severity};
use crate::os::is_system_directory;
use crate::permissions::{Access, Identity};
use crate::sshd::evaluate::{KeyFile, System, home_of_another};
use crate::view::{LookError, Stat, View, follow, walk};
use std::path::{Path, PathBuf};

const DOCUMENTED: &str = "the documented permission tree";

/// Brings the documented tree for one user whose home exists.
pub fn document(
    builder: &mut Builder<'_>,
    user: &PasswdEntry,
    who: &Identity,
    home: &Home,
    files: &[KeyFile],
) {
    let (Home::Own(found) | Home::Shared { found, .. }) = home else { return };
    for directory in found.path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        document_ancestor(builder, directory, who);
    }
    let Home::Own(found) = home else { return };
    let ids = (user.uid, user.gid);
    document_own(builder, &found.path, 0o700, ids, who, Access::Execute);
    // The client's own directory, too, where the keys are elsewhere.
    let ssh = found.path.join(".ssh");
    if builder.stat(&ssh).is_some_and(|stat| stat.is_dir()) {
        document_own(builder, &ssh, 0o700, ids, who, Access::Execute);
    }
    for file in files {
        let inside = |path: &Path| path != found.path && path.starts_with(&found.path);
        if let Some(parent) = file.path.parent()
            && let Ok(directory) = follow(&builder.view, parent)
            && inside(&directory.path)
            && directory.stat.is_dir()
        {
            document_own(builder, &directory.path, 0o700, ids, who, Access::Execute);
            builder
                .close_default_acl(&directory.path, "a new file of keys must not begin writable for others");
        }
        if let Ok(keys) = follow(&builder.view, &file.path)
            && inside(&keys.path)
            && keys.stat.is_file()
            && keys.stat.nlink == 1
        {
            document_own(builder, &keys.path, 0o600, ids, who, Access::Read);
        }
    }
}

/// Above the home, only `/` and `/home` have a documented form; elsewhere nothing is closed that sshd accepts.
fn document_ancestor(builder: &mut Builder<'_>, directory: &Path, who: &Identity) {
    let path = directory.to_path_buf();
    if directory == Path::new("/") || directory == Path::new("/home") {
        builder.set_owner(&path, (0, 0), DOCUMENTED);
        builder.document_mode(&path, 0o755, who, Access::Execute, DOCUMENTED);
    }
    builder.open_to(&path, who, Access::Execute, "the user must be able to pass");
}

fn document_own(
    builder: &mut Builder<'_>,
    path: &Path,
    mode: u32,
    ids: (u32, u32),
    who: &Identity,
    access: Access,
) {
    builder.set_owner(path, ids, DOCUMENTED);
    builder.document_mode(path, mode, who, access, DOCUMENTED);
}

/// What a user's own ssh client asks of the files beside authorized_keys (`sshkey_perm_ok`, `read_config_file`):
/// private keys open to nobody else, a config that nobody else can write.
pub fn document_client_files(builder: &mut Builder<'_>, user: &PasswdEntry, home: &Home) {
    let Home::Own(found) = home else { return };
    let Ok(directory) = follow(&builder.view, &found.path.join(".ssh")) else { return };
    if !directory.path.starts_with(&found.path) || !directory.stat.is_dir() {
        return;
    }
    let Ok(names) = builder.view.list(&directory.path) else { return };
    for name in names.into_iter().take(256) {
        let path = directory.path.join(&name);
        let Some(stat) = builder.stat(&path).filter(|stat| stat.is_file() && stat.nlink == 1) else {
            continue;
        };
        if stat.uid != user.uid && stat.uid != 0 {
            continue;
        }
        let is_config = name == "config";
        if is_config && stat.mode & 0o022 != 0 {
            builder.close_to_writers(&path, "ssh refuses a config that others can write");
        } else if !is_config && stat.mode & 0o077 != 0 && is_private_key(&builder.view, &path) {
            builder.set_mode(&path, stat.mode & 0o600, "ssh refuses a private key that others can read");
        }
    }
}

fn is_private_key(view: &dyn View, path: &Path) -> bool {
    view.read(path, 64 << 10).is_ok_and(|content| {
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        first.starts_with(b"-----BEGIN ") && first.trim_ascii_end().ends_with(b"PRIVATE KEY-----")
    })
}

/// What a repair for one user may change.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    /// The user.
    pub user: &'a PasswdEntry,
    /// The user's ids.
    pub who: &'a Identity,
    /// The home.
    pub home: &'a Home,
    /// The files of keys.
    pub files: &'a [KeyFile],
    /// The accounts.
    pub system: &'a System,
    /// Only what sshd refuses for is changed.
    pub minimal: bool,
}

impl Reach<'_> {
    fn home_path(&self) -> Option<&Path> {
        match self.home {
            Home::Own(found) | Home::Shared { found, .. } => Some(&found.path),
            _ => None,
        }
    }

    /// Is `path` (canonical) the user's to have: in a home of their own, or in the directory of keys of a home that they
    /// share with the system or with others?
    #[must_use]
    pub fn in_home(&self, path: &Path) -> bool {
        match self.home {
            Home::Own(found) => path.starts_with(&found.path),
            Home::Shared { found, .. } => {
                let written = super::scope::path_of(&self.user.home);
                let in_keys = |file: &KeyFile| {
                    let below = file.path.strip_prefix(&written).ok().filter(|_| is_of_the_home(file));
                    let directory =
                        below.and_then(Path::parent).filter(|below| !below.as_os_str().is_empty());
                    directory.is_some_and(|directory| path.starts_with(found.path.join(directory)))
                };
                self.files.iter().any(in_keys)
            }
            Home::Missing { .. } | Home::Unusable { .. } => false,
        }
    }

    fn leads_home(&self, path: &Path) -> bool {
        self.home_path().is_some_and(|home| home.starts_with(path)) || self.in_home(path)
    }

    /// The other account in whose home `path` (canonical) lies, unless it is the user's too.
    #[must_use]
    pub fn anothers(&self, view: &dyn View, path: &Path) -> Option<&PasswdEntry> {
        let other = home_of_another(view, &self.system.passwd, self.user, path)?;
        (!self.leads_home(path)).then_some(other)
    }

    /// Does the way to `path` pass a link that lies in the home?
    #[must_use]
    pub fn strays(&self, view: &dyn View, path: &Path) -> bool {
        walk(view, path).steps.iter().any(|step| step.link.is_some() && self.in_home(&step.path))
    }

    /// May `path` (canonical) be changed: in the home, above it, or on the way to a file of keys that the
    /// administrator's configuration names, without passing a link that lies in the home?
    #[must_use]
    pub fn may_change(&self, view: &dyn View, path: &Path) -> bool {
        if self.leads_home(path) {
            return true;
        }
        if self.anothers(view, path).is_some() {
            return false;
        }
        // The shell is named by the administrator, and lies among what is root's.
        let shell = super::scope::path_of(&self.user.shell);
        let mut to_shell = walk(view, &shell).steps.into_iter();
        if to_shell.any(|step| step.path == path && step.stat.is_dir() && step.stat.uid == 0) {
            return true;
        }
        self.files.iter().any(|file| {
            !self.strays(view, &file.path)
                && walk(view, &file.path).steps.iter().any(|step| step.path == path)
        })
    }
}

/// Is the file named relative to the home (`.ssh/authorized_keys`, `%h/...`)?
fn is_of_the_home(file: &KeyFile) -> bool {
    !file.pattern.starts_with(b"/")
}

/// Mends one finding by the least change. `false` if it is none of ours.
pub fn mend(builder: &mut Builder<'_>, finding: &Finding, reach: &Reach<'_>) -> bool {
    use CheckId as C;
    let (Some(path), FixedBy::Permissions) = (finding.path.clone(), finding.fixed_by) else { return false };
    let why = finding.check.meaning().trim_end_matches('.');
    let before = builder.actions.len();
    let Some(stat) = builder.stat(&path) else { return false };
    // The way to the shell and to what it needs; links of the user have another class.
    let of_the_system = finding.check == C::DirectoryNotSearchable && is_system_directory(&path);
    if !of_the_system && !reach.may_change(&builder.view, &path) {
        builder.note(format!(
            "{} is reached through a link that lies in the home; what lies outside is not changed for it",
            path.display()
        ));
        return false;
    }
    let theirs = reach.in_home(&path);
    let ids = match path.to_str() {
        _ if theirs => (reach.user.uid, reach.user.gid),
        Some("/" | "/home") => (0, 0),
        // sshd asks for the owner alone.
        _ => (0, stat.gid),
    };
    match finding.check {
        C::DirectoryWrongOwner | C::HomeWrongOwner | C::SshDirWrongOwner | C::KeyFileWrongOwner
            if stat.nlink == 1 || stat.is_dir() =>
        {
            builder.set_owner(&path, ids, why);
        }
        C::RootDirectoryMode
        | C::DirectoryWritableByOthers
        | C::HomeWritableByOthers
        | C::SshDirWritableByOthers
        | C::KeyFileWritableByOthers
            if stat.nlink == 1 || stat.is_dir() =>
        {
            builder.close_to_writers(&path, why);
        }
        C::DirectoryNotSearchable if of_the_system && !reach.minimal => {
            builder.set_mode(&path, stat.mode | 0o055, why);
            builder.open_to(&path, reach.who, Access::Execute, why);
        }
        C::DirectoryNotSearchable | C::HomeNotSearchable | C::SshDirNotSearchable => {
            if theirs {
                builder.set_owner(&path, ids, why);
            }
            builder.open_to(&path, reach.who, Access::Execute, why);
        }
        C::KeyFileUnreadable if stat.nlink == 1 => {
            if theirs {
                builder.set_owner(&path, ids, why);
            } else if stat.uid == 0 {
                // A file of keys outside the home is root's, and everybody may read public keys.
                builder.set_mode(&path, stat.mode & 0o755 | 0o644, why);
            }
            builder.open_to(&path, reach.who, Access::Read, why);
        }
        _ => return false,
    }
    if !theirs {
        tell_losers(builder, &path, &stat, reach);
    }
    builder.actions.len() > before
}

/// Whose right to write in a directory that is not the user's alone ends with the plan.
fn tell_losers(builder: &mut Builder<'_>, path: &Path, before: &Stat, reach: &Reach<'_>) {
    let Some(after) = builder.stat(path) else { return };
    let mut losers = Vec::new();
    let owner = before.uid;
    if owner != after.uid && before.mode & 0o200 != 0 && !is_system_account(owner, reach) {
        let name = reach.system.passwd.by_uid(owner);
        losers.push(name.map_or_else(|| format!("uid {owner}"), |entry| entry.name.to_string()));
    }
    let closed = before.mode & 0o022 == 0o020 && after.mode & 0o020 == 0;
    if closed && before.gid != 0 {
        let name = reach.system.group.by_gid(before.gid);
        let name = name.map_or_else(|| format!("gid {}", before.gid), |entry| entry.name.to_string());
        losers.push(format!("the group {name}"));
    }
    for loser in losers {
        builder.warn(format!(
            "{loser} can no longer write to {}: sshd lets {} in only where nobody but root and {} can write on the way \
             to the keys; a home elsewhere would leave it as it is",
            path.display(),
            reach.user.name,
            reach.user.name
        ));
    }
}

fn is_system_account(uid: u32, reach: &Reach<'_>) -> bool {
    uid == 0 || uid == reach.user.uid
}

/// The blocking findings that permissions mend.
pub fn blocking(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocks && finding.fixed_by == FixedBy::Permissions)
}

/// The owners that the home and the directory of keys have and should not have: the *wrong* owners whose entries a
/// tree repair takes.
#[must_use]
pub fn wrong_owners(view: &dyn View, user: &PasswdEntry, home: &Home, files: &[KeyFile]) -> Vec<u32> {
    let Home::Own(found) = home else { return Vec::new() };
    let mut owners = vec![found.stat.uid];
    for file in files {
        let parent = file.path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        if let Ok(directory) = follow(view, &parent)
            && directory.path.starts_with(&found.path)
        {
            owners.push(directory.stat.uid);
        }
    }
    owners.push(0);
    owners.sort_unstable();
    owners.dedup();
    owners.retain(|owner| *owner != user.uid);
    owners
}

/// Makes the directories on the way to `path` that are missing: the user's 0700 in the home, root's 0755 elsewhere.
/// A dangling link in the home gives way. `None` if something else is in the way.
pub fn make_parents(builder: &mut Builder<'_>, path: &Path, reach: &Reach<'_>) -> Option<PathBuf> {
    for _ in 0..16 {
        let parent = path.parent()?;
        let walk = walk(&builder.view, parent);
        match &walk.end {
            Ok(found) if found.stat.is_dir() => return Some(found.path.join(path.file_name()?)),
            Ok(_) => return None,
            Err(LookError::NotFound | LookError::Loop) => {}
            Err(_) => return None,
        }
        let last_link = walk.steps.iter().rev().find(|step| step.link.is_some() && reach.in_home(&step.path));
        if let Some(link) = last_link {
            let target = link.link.clone().unwrap_or_default();
            let why = "a link that leads nowhere gives way to the directory of keys";
            builder.push(&link.path.clone(), super::Change::RemoveLink { target }, why);
            continue;
        }
        if walk.end == Err(LookError::Loop) {
            return None;
        }
        let missing = walk.reached.clone();
        let inside = reach.in_home(&missing);
        if !inside && walk.steps.iter().any(|step| step.link.is_some()) {
            return None;
        }
        let (mode, uid, gid) = if inside { (0o700, reach.user.uid, reach.user.gid) } else { (0o755, 0, 0) };
        let change = super::Change::CreateDirectory { mode, uid, gid, xattrs: Vec::new() };
        builder.push(&missing, change, "the directory of keys is missing");
    }
    None
}
