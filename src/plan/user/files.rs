//! The account files with the edits of a plan, and the actions that write them.

use crate::accounts::{
    Group, GroupEntry, GroupShadow, GroupShadowEntry, Members, Passwd, PasswdEntry, Secret, Shadow,
    ShadowEntry, edit,
};
use crate::error::Refusal;
use crate::os::{FileMode, OsFacts};
use crate::plan::{Action, Before, Change};
use crate::view::{self, LookError, Stat, View};
use std::path::{Path, PathBuf};

/// One file below /etc, as it is and as it shall be.
pub(super) struct AccountFile {
    path: PathBuf,
    stat: Option<Stat>,
    original: Vec<u8>,
    /// As it shall be.
    pub(super) text: Vec<u8>,
    /// Mode and owner of a new file.
    new: FileMode,
}

impl AccountFile {
    /// Reads /etc/`name`. A missing file is empty; a symbolic link in its place is refused, for what it leads to is not
    /// ours to replace.
    pub(super) fn load(view: &dyn View, name: &str, new: FileMode) -> Result<Self, Refusal> {
        let asked = Path::new("/etc").join(name);
        let refusal = |cause: String| {
            Refusal::target(format!("{}: {cause}", asked.display()))
                .hint("Put a regular file in its place; a backup may be in /etc or /var/backups.")
        };
        let walk = view::walk_no_follow(view, &asked);
        match walk.end {
            Ok(found) if !found.stat.is_file() => Err(refusal(format!("it is {}", found.stat.kind.words()))),
            Ok(found) => {
                let text =
                    view::read_accounts_at(view, &found.path).map_err(|error| refusal(error.to_string()))?;
                Ok(Self { path: found.path, stat: Some(found.stat), original: text.clone(), text, new })
            }
            Err(LookError::NotFound) if walk.reached.file_name() == asked.file_name() => {
                Ok(Self { path: walk.reached, stat: None, original: Vec::new(), text: Vec::new(), new })
            }
            Err(error) => Err(refusal(error.to_string())),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.stat.is_some()
    }

    pub(super) fn insert(&mut self, line: &[u8]) {
        self.text = edit::insert(&self.text, line);
    }

    /// The write, if anything differs; mode and owner stay those of the file.
    pub(super) fn action(self, why: &str) -> Option<Action> {
        if self.text == self.original && self.stat.is_some() {
            return None;
        }
        let (before, mode, uid, gid) = match self.stat {
            Some(stat) => (before(&stat), stat.mode, stat.uid, stat.gid),
            None => (Before::Absent, self.new.mode, self.new.uid, self.new.gid),
        };
        let change = Change::WriteFile { before, content: self.text, mode, uid, gid, xattrs: Vec::new() };
        Some(Action { path: self.path, change, why: why.to_owned() })
    }
}

/// What a write expects to find.
pub(super) fn before(stat: &Stat) -> Before {
    Before::Regular { ino: stat.ino, size: stat.size, mtime: stat.mtime }
}

/// The four files.
pub(super) struct AccountFiles {
    passwd: AccountFile,
    group: AccountFile,
    shadow: AccountFile,
    gshadow: AccountFile,
}

impl AccountFiles {
    /// Reads them. passwd must be there; of the others, gshadow stays missing where it is.
    pub(super) fn load(view: &dyn View, os: &OsFacts) -> Result<Self, Refusal> {
        let public = FileMode { mode: 0o644, uid: 0, gid: 0 };
        let passwd = AccountFile::load(view, "passwd", public)?;
        if !passwd.exists() {
            return Err(Refusal::target("/etc/passwd: no such file or directory")
                .hint("A volume without it lacks root, too: restore it first, perhaps from /etc/passwd-."));
        }
        let group = AccountFile::load(view, "group", public)?;
        let secret = os.shadow_mode(&Group::parse(&group.text));
        let shadow = AccountFile::load(view, "shadow", secret)?;
        let gshadow = AccountFile::load(view, "gshadow", secret)?;
        Ok(Self { passwd, group, shadow, gshadow })
    }

    pub(super) fn passwd_entries(&self) -> Passwd {
        Passwd::parse(&self.passwd.text)
    }

    pub(super) fn group_entries(&self) -> Group {
        Group::parse(&self.group.text)
    }

    pub(super) fn shadow_entries(&self) -> Shadow {
        Shadow::parse(&self.shadow.text)
    }

    pub(super) fn add_passwd(&mut self, entry: &PasswdEntry) {
        self.passwd.insert(&entry.to_line());
    }

    /// A new group without members, in gshadow too where that exists.
    pub(super) fn add_group(&mut self, name: &[u8], gid: u32) {
        let password = Secret("x".into());
        let entry = GroupEntry { name: name.into(), password, gid, members: Members::default(), line: 0 };
        self.group.insert(&entry.to_line());
        if self.gshadow.exists() && GroupShadow::parse(&self.gshadow.text).by_name(name).is_none() {
            let password = Secret("!".into());
            let (administrators, members) = (Members::default(), Members::default());
            let entry = GroupShadowEntry { name: name.into(), password, administrators, members, line: 0 };
            self.gshadow.insert(&entry.to_line());
        }
    }

    /// Lists the user in a group, unless they are; `false` if the line is one that cannot be added to.
    pub(super) fn add_member(&mut self, group: &GroupEntry, user: &[u8]) -> bool {
        let in_gshadow = GroupShadow::parse(&self.gshadow.text).by_name(&group.name).cloned();
        if let Some(entry) = in_gshadow
            && !entry.members.contains(user)
            && let Some(text) = edit::add_member(&self.gshadow.text, entry.line, 3, user)
        {
            self.gshadow.text = text;
        }
        if group.members.contains(user) {
            return true;
        }
        match edit::add_member(&self.group.text, group.line, 3, user) {
            Some(text) => {
                self.group.text = text;
                true
            }
            None => false,
        }
    }

    /// The user's line in shadow, in the place of the one that is there.
    pub(super) fn put_shadow(&mut self, entry: &ShadowEntry) {
        let line = entry.to_line();
        let there = self.shadow_entries().by_name(&entry.name).map(|there| there.line);
        let replaced = there.and_then(|there| edit::replace_line(&self.shadow.text, there, &line));
        match replaced {
            Some(text) => self.shadow.text = text,
            None => self.shadow.insert(&line),
        }
    }

    /// The writes: passwd last, so that no user is there before their groups and their shadow line; gshadow before group,
    /// for a group that is there already gets no line in gshadow when a stopped run is repeated.
    pub(super) fn actions(self, why: &str) -> Vec<Action> {
        let gshadow = Some(self.gshadow).filter(|file| file.exists());
        let group = Some(self.group).filter(|file| file.text != file.original);
        [gshadow, group, Some(self.shadow), Some(self.passwd)]
            .into_iter()
            .flatten()
            .filter_map(|file| file.action(why))
            .collect()
    }
}
