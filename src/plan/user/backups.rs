//! The copies that shadow-utils (`/etc/passwd-`) and Debian's daily job (`/var/backups/passwd.bak`) leave behind.

use crate::accounts::{Group, GroupShadow, Passwd, PasswdEntry};
use crate::view::{self, View};
use bstr::BString;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A user as a backup knows them.
#[derive(Clone, Debug)]
pub(super) struct OldUser {
    /// The entry.
    pub(super) entry: PasswdEntry,
    /// The backup that has it.
    pub(super) file: PathBuf,
}

/// What the backups hold, the newest kind first.
#[derive(Debug)]
pub(super) struct Backups {
    passwd: Vec<(PathBuf, Passwd)>,
    group: Vec<(PathBuf, Group)>,
    gshadow: Vec<(PathBuf, GroupShadow)>,
}

impl Backups {
    /// Reads those that are there; what cannot be read is no backup.
    pub(super) fn of(view: &dyn View) -> Self {
        let read = |name: &str| -> Vec<(PathBuf, Vec<u8>)> {
            [format!("/etc/{name}-"), format!("/var/backups/{name}.bak")]
                .into_iter()
                .map(PathBuf::from)
                .filter_map(|path| {
                    let text = view::read_accounts(view, &path).ok()?;
                    Some((path, text))
                })
                .collect()
        };
        let parsed = |name: &str| read(name).into_iter();
        Self {
            passwd: parsed("passwd").map(|(path, text)| (path, Passwd::parse(&text))).collect(),
            group: parsed("group").map(|(path, text)| (path, Group::parse(&text))).collect(),
            gshadow: parsed("gshadow").map(|(path, text)| (path, GroupShadow::parse(&text))).collect(),
        }
    }

    /// The old entry of a user.
    pub(super) fn user(&self, name: &[u8]) -> Option<OldUser> {
        self.passwd.iter().find_map(|(file, passwd)| {
            let entry = passwd.by_name(name)?.clone();
            Some(OldUser { entry, file: file.clone() })
        })
    }

    /// The uids that the backups give to a name, each with the first that does.
    pub(super) fn uids(&self, name: &[u8]) -> Vec<(u32, &Path)> {
        let mut found: Vec<(u32, &Path)> = Vec::new();
        for (file, passwd) in &self.passwd {
            if let Some(entry) = passwd.by_name(name)
                && !found.iter().any(|(uid, _)| *uid == entry.uid)
            {
                found.push((entry.uid, file));
            }
        }
        found
    }

    /// The uids that a backup gives to other names.
    pub(super) fn uids_of_others(&self, name: &[u8]) -> HashSet<u32> {
        let entries = self.passwd.iter().flat_map(|(_, passwd)| &passwd.entries);
        entries.filter(|entry| entry.name != name).map(|entry| entry.uid).collect()
    }

    /// The name that a gid had.
    pub(super) fn group_name(&self, gid: u32) -> Option<&BString> {
        self.group.iter().find_map(|(_, group)| Some(&group.by_gid(gid)?.name))
    }

    /// The names of the groups that listed the user, and the backup that says so.
    pub(super) fn memberships(&self, user: &[u8]) -> Option<(Vec<BString>, &Path)> {
        let from_group = self.group.iter().map(|(file, group)| {
            let groups = group.entries.iter().filter(|entry| entry.members.contains(user));
            (groups.map(|entry| entry.name.clone()).collect::<Vec<_>>(), file.as_path())
        });
        let from_gshadow = self.gshadow.iter().map(|(file, gshadow)| {
            let groups = gshadow.entries.iter().filter(|entry| entry.members.contains(user));
            (groups.map(|entry| entry.name.clone()).collect::<Vec<_>>(), file.as_path())
        });
        from_group.chain(from_gshadow).find(|(groups, _)| !groups.is_empty())
    }
}
