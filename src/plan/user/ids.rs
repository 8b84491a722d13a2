//! Which uid and gid: the old ones, else those of what survives of the home, else the next free ones.

use super::backups::{Backups, OldUser};
use super::files::AccountFiles;
use crate::accounts::{Group, LoginDefs, Passwd};
use crate::error::Refusal;
use crate::os::{DefaultUser, Family, PrivsepAccount};
use crate::view::{self, Stat, View};
use bstr::{BStr, BString, ByteSlice};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most homes whose owners are looked at.
const MAX_HOMES: usize = 20_000;
/// "nobody", and the id that means "none" to the kernel.
const NOBODY: [u32; 3] = [65_534, 65_535, u32::MAX];

/// The primary group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Primary {
    pub(super) name: BString,
    pub(super) gid: u32,
    /// It must be made.
    pub(super) is_new: bool,
}

/// What the choice hangs on.
pub(super) struct Ids<'a> {
    pub(super) view: &'a dyn View,
    pub(super) files: &'a AccountFiles,
    pub(super) defs: &'a LoginDefs,
    pub(super) backups: &'a Backups,
    pub(super) name: &'a str,
    pub(super) home: &'a BString,
}

impl Ids<'_> {
    /// A person's uid.
    pub(super) fn uid(&self, old: Option<&OldUser>, origins: &mut Vec<String>) -> Result<u32, Refusal> {
        let passwd = self.files.passwd_entries();
        if self.name == "root" {
            if let Some(other) = passwd.by_uid(0) {
                return Err(Refusal::target(format!("/etc/passwd: uid 0 is {}'s", other.name)));
            }
            return Ok(0);
        }
        if let Some(old) = old {
            let uid = old.entry.uid;
            let why_not = match passwd.by_uid(uid) {
                Some(other) => Some(format!("is {}'s now", other.name)),
                None if uid == 0 || NOBODY.contains(&uid) => Some("is nobody's to give".to_owned()),
                None => None,
            };
            let file = old.file.display();
            let Some(why_not) = why_not else {
                origins.push(format!("uid {uid} is that of the old entry in {file}"));
                return Ok(uid);
            };
            origins.push(format!("uid {uid} of the old entry in {file} {why_not}"));
        }
        let (min, max) = self.defs.uids();
        let taken: HashSet<u32> = passwd.entries.iter().map(|entry| entry.uid).collect();
        let others = self.backups.uids_of_others(self.name.as_bytes());
        let nobodys = |uid: &u32| !taken.contains(uid) && !others.contains(uid) && !NOBODY.contains(uid);
        let ours = |uid: &u32| (min..=max).contains(uid) && nobodys(uid);
        if let Some((path, stat)) = self.remains().find(|(_, stat)| ours(&stat.uid)) {
            origins.push(format!("uid {} is that of the owner of {}", stat.uid, path.display()));
            return Ok(stat.uid);
        }
        let homes = self.owners_of_homes();
        let free = |uid: &u32| nobodys(uid) && !homes.contains(uid);
        let uid = next_free(min, max, &taken, free).ok_or_else(|| {
            Refusal::target(format!("/etc/passwd: no uid is free between {min} and {max}"))
                .hint("Raise UID_MAX in the volume's /etc/login.defs.")
        })?;
        origins.push(format!("uid {uid} is the next free one"));
        Ok(uid)
    }

    /// What survives of the user's own: the home, else files in it, else their mail, in this order.
    fn remains(&self) -> impl Iterator<Item = (PathBuf, Stat)> {
        let home = PathBuf::from(OsStr::from_bytes(self.home));
        let inside = [".ssh", ".ssh/authorized_keys", ".bashrc", ".profile", ".bash_history", ".cache"];
        let mail = ["/var/mail", "/var/spool/mail"].map(|directory| Path::new(directory).join(self.name));
        let own: Vec<PathBuf> = inside.iter().map(|name| home.join(name)).chain(mail).collect();
        let itself = view::follow(self.view, &home).map(|found| (home, found.stat));
        // A link says nothing about whose its target is.
        let own = own.into_iter().map(|path| {
            let found = view::walk_no_follow(self.view, &path).end?;
            Ok::<_, view::LookError>((path, found.stat))
        });
        std::iter::once(itself)
            .chain(own)
            .filter_map(Result::ok)
            .filter(|(_, stat)| stat.is_dir() || stat.is_file())
    }

    /// Who owns what lies beside the home: ids that are somebody's though passwd does not know them.
    fn owners_of_homes(&self) -> HashSet<u32> {
        let mut owners = HashSet::new();
        let beside = Path::new(OsStr::from_bytes(self.home)).parent();
        for directory in [Some(Path::new("/home")), beside].into_iter().flatten() {
            let Ok(found) = view::follow(self.view, directory) else { continue };
            for name in self.view.list(&found.path).unwrap_or_default().into_iter().take(MAX_HOMES) {
                if name != OsStr::new(self.name)
                    && let Ok(stat) = self.view.lstat(&found.path.join(name))
                {
                    owners.insert(stat.uid);
                }
            }
        }
        owners
    }

    /// A person's primary group.
    pub(super) fn gid(
        &self,
        uid: u32,
        old: Option<&OldUser>,
        default: Option<&DefaultUser>,
        origins: &mut Vec<String>,
    ) -> Result<Primary, Refusal> {
        let group = self.files.group_entries();
        if uid == 0 {
            let name = group.by_gid(0).map_or_else(|| "root".into(), |root| root.name.clone());
            return Ok(Primary { name, gid: 0, is_new: group.by_gid(0).is_none() });
        }
        if let Some(old) = old
            && let Some(primary) = self.old_primary(&group, old)
        {
            origins.push(format!("gid {} is that of the old entry in {}", primary.gid, old.file.display()));
            return Ok(primary);
        }
        if let Some(own) = group.by_name(self.name.as_bytes()) {
            if own.gid == 0 {
                return Err(Refusal::target(format!("/etc/group: the group {} has gid 0", self.name))
                    .hint("Give it a gid of its own, or take the line out."));
            }
            origins.push(format!("gid {} is that of the group {} in /etc/group", own.gid, own.name));
            return Ok(Primary { name: own.name.clone(), gid: own.gid, is_new: false });
        }
        let passwd = self.files.passwd_entries();
        if let Some((path, stat)) = self
            .remains()
            .find(|(_, stat)| stat.uid == uid && self.gid_may_be_ours(&passwd, &group, stat.gid))
        {
            origins.push(format!("gid {} is that of {}", stat.gid, path.display()));
            return Ok(self.own(stat.gid));
        }
        let shared = default.and_then(|user| user.primary_group.as_deref()).map(BString::from);
        if let Some(shared) = shared.or_else(|| self.shared_group(&group))
            && let Some(shared) = group.by_name(&shared).filter(|shared| shared.gid != 0)
        {
            origins.push(format!(
                "gid {} is that of the group {}, as the volume's users have it",
                shared.gid, shared.name
            ));
            return Ok(Primary { name: shared.name.clone(), gid: shared.gid, is_new: false });
        }
        if self.gid_may_be_ours(&passwd, &group, uid) {
            origins.push(format!("gid {uid} is the uid's number, for the user's own group"));
            return Ok(self.own(uid));
        }
        let (min, max) = self.defs.gids();
        let taken: HashSet<u32> = group
            .entries
            .iter()
            .map(|entry| entry.gid)
            .chain(passwd.entries.iter().map(|user| user.gid))
            .collect();
        let free = |gid: &u32| !taken.contains(gid) && !NOBODY.contains(gid);
        let gid = next_free(min, max, &taken, free)
            .ok_or_else(|| Refusal::target(format!("/etc/group: no gid is free between {min} and {max}")))?;
        origins.push(format!("gid {gid} is the next free one"));
        Ok(self.own(gid))
    }

    fn own(&self, gid: u32) -> Primary {
        Primary { name: self.name.into(), gid, is_new: true }
    }

    /// Nobody's: no group bears it, and no other user has it without one.
    fn gid_may_be_ours(&self, passwd: &Passwd, group: &Group, gid: u32) -> bool {
        let (min, max) = self.defs.gids();
        (min..=max).contains(&gid)
            && !NOBODY.contains(&gid)
            && group.by_gid(gid).is_none()
            && passwd.entries.iter().all(|user| user.gid != gid)
            && self.backups.group_name(gid).is_none_or(|name| name == self.name.as_bytes())
    }

    /// The old primary group, if it is there as it was, or its name and number are both free.
    fn old_primary(&self, group: &Group, old: &OldUser) -> Option<Primary> {
        let gid = old.entry.gid;
        if gid == 0 || NOBODY.contains(&gid) {
            return None;
        }
        let old_name = self.backups.group_name(gid);
        match group.by_gid(gid) {
            Some(now) => {
                // Where no backup tells the name, a group of people's own could by now be somebody else's.
                let is_shared = gid < self.defs.gids().0;
                let same = old_name.map_or(is_shared || now.name == self.name, |name| *name == now.name);
                same.then(|| Primary { name: now.name.clone(), gid, is_new: false })
            }
            None => {
                let name = old_name.cloned().unwrap_or_else(|| self.name.into());
                let usable = group.by_name(&name).is_none() && crate::accounts::is_valid_name(&name);
                usable.then_some(Primary { name, gid, is_new: true })
            }
        }
    }

    /// The group that all users share, where login.defs denies them groups of their own: `GROUP` of
    /// /etc/default/useradd, else 100.
    fn shared_group(&self, group: &Group) -> Option<BString> {
        if self.defs.user_groups() != Some(false) {
            return None;
        }
        let text = ["/etc/default/useradd", "/usr/etc/default/useradd"]
            .iter()
            .find_map(|path| view::read_following(self.view, Path::new(path), view::TEXT_LIMIT).ok())
            .unwrap_or_default();
        let named = text.lines().filter_map(|line| line.strip_prefix(b"GROUP=")).next_back();
        let named = named.map_or(BStr::new("100"), |name| name.trim_ascii().as_bstr());
        let number = named.to_str().ok().and_then(|name| name.parse().ok());
        let entry = number.map_or_else(|| group.by_name(named), |gid| group.by_gid(gid));
        entry.map(|entry| entry.name.clone())
    }

    /// A service's uid: the old one, else the one that the package fixes, else a free one.
    pub(super) fn system_uid(
        &self,
        old: Option<&OldUser>,
        facts: &PrivsepAccount,
        family: Family,
        origins: &mut Vec<String>,
    ) -> Result<u32, Refusal> {
        let passwd = self.files.passwd_entries();
        let homes = self.owners_of_homes();
        let mut others = self.backups.uids_of_others(self.name.as_bytes());
        others.extend(passwd.entries.iter().map(|user| user.uid));
        let free = |uid: &u32| *uid != 0 && !NOBODY.contains(uid) && !others.contains(uid);
        if let Some(old) = old.filter(|old| free(&old.entry.uid) && old.entry.uid < self.defs.uids().0) {
            origins.push(format!("uid {} is that of the old entry in {}", old.entry.uid, old.file.display()));
            return Ok(old.entry.uid);
        }
        if let Some(uid) = facts.uid.filter(free) {
            origins.push(format!("uid {uid} is the one that the distribution's package gives"));
            return Ok(uid);
        }
        let (min, max) = self.defs.system_uids();
        let free = |uid: &u32| free(uid) && !homes.contains(uid);
        // Debian's adduser goes up from 100, useradd goes down from SYS_UID_MAX.
        let uid = match family {
            Family::Debian => (100..=999).find(free),
            _ => (min..=max).rev().take(100_000).find(free),
        };
        let uid = uid.ok_or_else(|| Refusal::target("/etc/passwd: no uid is free for a service"))?;
        origins.push(format!("uid {uid} is a free one of those for services"));
        Ok(uid)
    }

    /// A service's group, likewise.
    pub(super) fn system_gid(
        &self,
        uid: u32,
        old: Option<&OldUser>,
        facts: &PrivsepAccount,
    ) -> Result<Primary, Refusal> {
        let group = self.files.group_entries();
        let there = |gid: u32, name: &BString| Primary { name: name.clone(), gid, is_new: false };
        if let Some(now) = old.and_then(|old| group.by_gid(old.entry.gid)).filter(|now| now.gid != 0)
            && self.backups.group_name(now.gid).is_none_or(|name| *name == now.name)
        {
            return Ok(there(now.gid, &now.name));
        }
        let (name, fixed) = facts.group;
        if let Some(now) = group.by_name(name.as_bytes()).filter(|now| now.gid != 0) {
            return Ok(there(now.gid, &now.name));
        }
        let taken: HashSet<u32> = group.entries.iter().map(|entry| entry.gid).collect();
        let free = |gid: &u32| *gid != 0 && !taken.contains(gid);
        let (min, max) = self.defs.system_gids();
        let mut candidates = fixed.into_iter().chain([uid]).chain((min..=max).rev().take(100_000));
        let gid = candidates
            .find(free)
            .ok_or_else(|| Refusal::target("/etc/group: no gid is free for a service"))?;
        Ok(Primary { name: name.into(), gid, is_new: true })
    }
}

/// One more than the highest that is taken in the range, else the lowest gap, as useradd(8) looks for one.
fn next_free(min: u32, max: u32, taken: &HashSet<u32>, free: impl Fn(&u32) -> bool) -> Option<u32> {
    let highest = taken.iter().filter(|id| (min..=max).contains(id)).max();
    let start = highest.map_or(min, |id| id.saturating_add(1));
    (start..=max).take(100_000).find(&free).or_else(|| (min..=max).take(100_000).find(&free))
}
