//! What belongs to no user: the files that sshd and the account lookup need.

use super::builder::Builder;
use crate::accounts::Group;
use crate::finding::{CheckId, Finding, Severity};
use crate::os::{FileMode, OsFacts};
use crate::view::{View, follow};
use std::path::{Path, PathBuf};

/// Modes and groups that differ by distribution.
#[derive(Clone, Debug)]
pub struct SystemModes {
    /// shadow and gshadow.
    shadow: FileMode,
    /// Private host keys.
    host_key: FileMode,
    /// The groups that have a name here.
    gids: Vec<u32>,
}

impl SystemModes {
    /// Those of the distribution, with the volume's own group ids.
    #[must_use]
    pub fn of(os: &OsFacts, group: &Group) -> Self {
        let gids = group.entries.iter().map(|entry| entry.gid).collect();
        Self { shadow: os.shadow_mode(group), host_key: os.host_key_mode(group), gids }
    }

    /// May `gid` be that of shadow, whose line in the group file is lost?
    fn lost_group(&self, gid: u32) -> bool {
        self.shadow.gid == 0 && !self.gids.contains(&gid)
    }

    /// The bits that a host key of this group may have.
    fn host_key_bits(&self, gid: u32) -> u32 {
        if gid == self.host_key.gid { self.host_key.mode } else { 0o600 }
    }
}

/// Brings account files, /etc/ssh and host keys to modes and owners that cannot harm. Content is not looked at.
pub fn document(builder: &mut Builder<'_>, modes: &SystemModes) {
    for directory in ["/etc", "/etc/ssh"] {
        if let Some(path) = real(&builder.view, directory, |stat| stat.is_dir()) {
            builder.set_owner_uid(&path, 0, "a system directory is root's");
            builder.close_to_writers(&path, "a system directory is root's alone to write");
        }
    }
    if let Some(etc) = real(&builder.view, "/etc", |stat| stat.is_dir())
        && let Some(stat) = builder.stat(&etc)
        && stat.mode & 0o055 != 0o055
    {
        builder.set_mode(&etc, stat.mode | 0o755, "everybody reads passwd and group here");
    }
    for file in ["/etc/passwd", "/etc/group"] {
        if let Some(path) = real(&builder.view, file, single_file) {
            builder.set_owner_uid(&path, 0, "an account file is root's");
            if let Some(stat) = builder.stat(&path)
                && (stat.mode & 0o444 != 0o444 || stat.mode & 0o7133 != 0)
            {
                builder.set_mode(&path, 0o644, "everybody may read it, root alone may write it");
            }
        }
    }
    for file in ["/etc/shadow", "/etc/gshadow"] {
        if let Some(path) = real(&builder.view, file, single_file) {
            builder.set_owner_uid(&path, 0, "an account file is root's");
            if let Some(stat) = builder.stat(&path)
                && stat.mode & !0o640 != 0
            {
                builder.set_mode(&path, modes.shadow.mode, "password hashes are root's alone");
            }
            if let Some(stat) = builder.stat(&path)
                && stat.mode & 0o070 != 0
                && stat.gid != modes.shadow.gid
                && !modes.lost_group(stat.gid)
            {
                builder.set_owner(&path, (0, modes.shadow.gid), "password hashes are root's alone");
            }
        }
    }
    host_keys(builder, modes);
}

fn host_keys(builder: &mut Builder<'_>, modes: &SystemModes) {
    let Some(directory) = real(&builder.view, "/etc/ssh", |stat| stat.is_dir()) else { return };
    for name in builder.view.list(&directory).unwrap_or_default() {
        let text = name.to_string_lossy();
        if !(text.starts_with("ssh_host_") && text.ends_with("_key")) {
            continue;
        }
        let path = directory.join(&name);
        if builder.stat(&path).is_none_or(|stat| !single_file(&stat)) {
            continue;
        }
        builder.set_owner_uid(&path, 0, "a private host key is root's");
        let Some(stat) = builder.stat(&path) else { continue };
        let allowed = modes.host_key_bits(stat.gid);
        if stat.mode & !allowed != 0 {
            builder.set_mode(&path, allowed, "sshd does not load a host key that others can read");
        } else if stat.mode & 0o400 == 0 {
            builder.set_mode(&path, stat.mode | 0o400, "sshd must read its host key");
        }
    }
}

/// Mends a blocking finding outside the login path. `false` if it is none of ours.
pub fn mend(builder: &mut Builder<'_>, finding: &Finding, modes: &SystemModes) -> bool {
    if finding.severity != Severity::Blocks {
        return false;
    }
    let before = builder.actions.len();
    let why = finding.check.meaning().trim_end_matches('.');
    let path = finding.path.clone();
    match (finding.check, path) {
        (CheckId::HostKeysTooOpen, Some(path)) => {
            let Some(stat) = builder.stat(&path).filter(single_file) else { return false };
            let allowed = modes.host_key_bits(stat.gid);
            builder.set_mode(&path, stat.mode & allowed, why);
        }
        (CheckId::PrivsepDirMissing, Some(path)) => {
            let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
            if let Ok(parent) = follow(&builder.view, &parent)
                && let Some(name) = path.file_name()
            {
                let path = parent.path.join(name);
                builder.push(
                    &path,
                    super::Change::CreateDirectory { mode: 0o711, uid: 0, gid: 0, xattrs: Vec::new() },
                    why,
                );
            }
        }
        (CheckId::PrivsepDirMode, Some(path)) => {
            builder.set_owner_uid(&path, 0, why);
            builder.close_to_writers(&path, why);
        }
        (CheckId::AccountFileMode, Some(path)) => {
            let Some(stat) = builder.stat(&path).filter(single_file) else { return false };
            builder.set_mode(&path, stat.mode | 0o044, why);
        }
        _ => return false,
    }
    builder.actions.len() > before
}

fn single_file(stat: &crate::view::Stat) -> bool {
    stat.is_file() && stat.nlink == 1
}

/// The canonical path, if it is in /etc and what it should be: a link out of /etc is nothing to change.
fn real(view: &dyn View, path: &str, is: impl Fn(&crate::view::Stat) -> bool) -> Option<PathBuf> {
    let found = follow(view, Path::new(path)).ok()?;
    (is(&found.stat) && found.path.starts_with("/etc")).then_some(found.path)
}
