//! Putting back a missing user: the entry as it was, or as the image's cloud-init would have made it. Pure.
//!
//! Nothing is taken from anybody else: an id that another account has, that a backup gives to another name, or that owns
//! another home, is not reused. The password field is `*`: no password, and not "locked" for an sshd without PAM.

mod backups;
mod files;
mod ids;
mod privilege;
mod skeleton;
#[cfg(test)]
mod tests;

pub use skeleton::skeleton;

use crate::accounts::{self, GroupEntry, LoginDefs, PasswdEntry, Secret, ShadowEntry, SubidRange, Subids};
use crate::error::Refusal;
use crate::os::{self, DefaultUser, OsFacts};
use crate::plan::Action;
use crate::view::{self, View};
use backups::Backups;
use bstr::{BString, ByteSlice};
use files::{AccountFile, AccountFiles};
use ids::Ids;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the caller decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserOptions {
    /// Admin groups and a sudoers line also for a user who is not the image's default user.
    pub sudo: bool,
    /// Days since 1970-01-01: the day of the last password change.
    pub today: i64,
}

/// A user to be put back: what they will be, where that comes from, and the changes that do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPlan {
    /// The new passwd entry; its `line` is where it will stand.
    pub entry: PasswdEntry,
    /// The name of the primary group.
    pub primary_group: BString,
    /// The supplementary groups: those kept and those added.
    pub groups: Vec<BString>,
    /// Where the ids and the rest come from, and what could not be done: sentences without full stop.
    pub origins: Vec<String>,
    /// The changes, in the order in which they are safe: passwd last of the account files but subuid and subgid.
    pub actions: Vec<Action>,
}

/// Groups that give a user power over the machine on the strength of membership, for `--sudo`.
const SUDO_GROUPS: [&str; 3] = ["sudo", "wheel", "admin"];

/// The most groups that a user is added to.
const MAX_GROUPS: usize = 100;

/// Plans the return of `name`, who is not in the volume's passwd. The home and what is in it are planned elsewhere
/// ([`skeleton`] makes a missing one). Modes and owners of the files are those that `view` shows: a plan that mends
/// them as well passes an [`crate::plan::Overlay`] that has them mended.
///
/// # Errors
/// [`Refusal`] if the name is none that shadow-utils takes, the user is there already, an account file is no regular
/// file or cannot be read, or no id is free.
pub fn recreate_user(
    view: &dyn View,
    os: &OsFacts,
    name: &str,
    options: UserOptions,
) -> Result<UserPlan, Refusal> {
    let mut files = AccountFiles::load(view, os)?;
    check_name(&files, name)?;
    let defs = LoginDefs::of(view);
    let backups = Backups::of(view);
    let default = os::image_user(view, os, name);
    let old = backups.user(name.as_bytes());
    let mut origins = Vec::new();

    let home = match (&old, default.as_ref().and_then(|user| user.home.as_deref())) {
        (Some(old), _) if is_home(&old.entry.home) => old.entry.home.clone(),
        (_, Some(home)) => home.into(),
        _ if name == "root" => "/root".into(),
        _ => format!("/home/{name}").into(),
    };
    let ids = Ids { view, files: &files, defs: &defs, backups: &backups, name, home: &home };
    let uid = ids.uid(old.as_ref(), &mut origins)?;
    let primary = ids.gid(uid, old.as_ref(), default.as_ref(), &mut origins)?;

    let shell = shell(view, os, old.as_ref().map(|old| &old.entry), default.as_ref(), &mut origins);
    let gecos = match (&old, &default) {
        (Some(old), _) => old.entry.gecos.clone(),
        (None, Some(default)) => default.gecos.as_str().into(),
        (None, None) if name == "root" => "root".into(),
        (None, None) => BString::default(),
    };
    let mut entry = PasswdEntry {
        name: name.into(),
        password: Secret("x".into()),
        uid,
        gid: primary.gid,
        gecos,
        home,
        shell,
        line: 0,
    };

    if primary.is_new {
        files.add_group(&primary.name, primary.gid);
    }
    let kept = files.group_entries().gids_of(name.as_bytes());
    let wanted = wanted_groups(&backups, default.as_ref(), name, options, &mut origins);
    add_to_groups(&mut files, name, &wanted, &primary, &mut origins);
    let [min, max, warn] = defs.password_days();
    files.put_shadow(&ShadowEntry {
        name: name.into(),
        password: Secret("*".into()),
        last_change: Some(options.today).filter(|day| *day > 0),
        min,
        max,
        warn,
        inactive: None,
        expire: None,
        line: 0,
    });
    files.add_passwd(&entry);

    let group = files.group_entries();
    let found = files.passwd_entries().by_name(name.as_bytes()).cloned();
    match found {
        Some(found) if found == (PasswdEntry { line: found.line, ..entry.clone() }) => {
            entry.line = found.line;
        }
        _ => return Err(Refusal::failed(format!("/etc/passwd: the new entry of {name} would not be found"))),
    }
    let mut actions = files.actions(&format!("puts back the user {name}"));
    // Whoever stops in the middle is to find the user missing still, or the rest would never be made.
    let passwd = actions.pop();
    if uid >= defs.uids().0 {
        actions.extend(subid_actions(view, &defs, &entry, &mut origins));
    }
    if (default.is_some() || options.sudo) && name != "root" {
        actions.extend(privilege::actions(view, os, name, default.as_ref(), &mut origins));
    }
    actions.extend(passwd);
    let names = |gids: Vec<u32>| {
        let entries = gids.into_iter().filter_map(|gid| group.by_gid(gid)).map(|entry| entry.name.clone());
        entries.filter(|group| *group != primary.name).collect::<Vec<_>>()
    };
    if !names(kept.clone()).is_empty() {
        origins
            .push(format!("/etc/group still lists the user in {}", bstr::join(", ", names(kept)).as_bstr()));
    }
    let groups = names(group.gids_of(name.as_bytes()));
    Ok(UserPlan { entry, primary_group: primary.name, groups, origins, actions })
}

/// The uids that the backups give to these users and that no account has now: uid, and "name, by file".
#[must_use]
pub fn former_ids(view: &dyn View, names: &[BString]) -> Vec<(u32, String)> {
    let backups = Backups::of(view);
    let passwd = view::read_accounts(view, Path::new("/etc/passwd")).unwrap_or_default();
    let passwd = accounts::Passwd::parse(&passwd);
    let former = names.iter().flat_map(|name| {
        let found = backups.uids(name).into_iter();
        found.map(move |(uid, file)| (uid, format!("{name}, by {}", file.display())))
    });
    former.filter(|(uid, _)| passwd.by_uid(*uid).is_none()).collect()
}

/// Plans a shadow line without password for a user whose passwd line points to shadow, where shadow has no usable one.
/// Nothing to do is no action.
///
/// # Errors
/// [`Refusal`] if the user is not in passwd, or an account file is no regular file or cannot be read.
pub fn restore_shadow(view: &dyn View, os: &OsFacts, name: &str, today: i64) -> Result<Vec<Action>, Refusal> {
    let mut files = AccountFiles::load(view, os)?;
    let passwd = files.passwd_entries();
    let Some(user) = passwd.by_name(name.as_bytes()) else {
        return Err(Refusal::target(format!("/etc/passwd: there is no user {name}"))
            .hint("Put the user back with --create-user."));
    };
    if user.password.0 != "x" || files.shadow_entries().by_name(name.as_bytes()).is_some() {
        return Ok(Vec::new());
    }
    let [min, max, warn] = LoginDefs::of(view).password_days();
    files.put_shadow(&ShadowEntry {
        name: name.into(),
        password: Secret("*".into()),
        last_change: Some(today).filter(|day| *day > 0),
        min,
        max,
        warn,
        inactive: None,
        expire: None,
        line: 0,
    });
    Ok(files.actions(&format!("passwd points to shadow, which has no usable line for {name}")))
}

/// Plans the return of the user `sshd`, without whom privilege separation keeps sshd from starting: as the backups
/// know it, else as the distribution's package makes it.
///
/// # Errors
/// [`Refusal`] if the user is there already, an account file is no regular file or cannot be read, or no id is free.
pub fn recreate_sshd(view: &dyn View, os: &OsFacts, today: i64) -> Result<UserPlan, Refusal> {
    const NAME: &str = "sshd";
    let mut files = AccountFiles::load(view, os)?;
    check_name(&files, NAME)?;
    let defs = LoginDefs::of(view);
    let backups = Backups::of(view);
    let facts = os.privsep_account();
    let old = backups.user(NAME.as_bytes());
    let mut origins = Vec::new();
    let home = old.as_ref().map(|old| &old.entry.home).filter(|home| is_home(home));
    let home = home.cloned().unwrap_or_else(|| facts.home.into());
    let ids = Ids { view, files: &files, defs: &defs, backups: &backups, name: NAME, home: &home };
    let uid = ids.system_uid(old.as_ref(), &facts, os.family, &mut origins)?;
    let primary = ids.system_gid(uid, old.as_ref(), &facts)?;
    let shell = old.as_ref().map(|old| &old.entry.shell).filter(|shell| is_program(view, shell));
    let shell = shell.cloned().unwrap_or_else(|| facts.shell.into());
    let gecos = old.as_ref().map_or_else(|| facts.gecos.into(), |old| old.entry.gecos.clone());
    let mut entry = PasswdEntry {
        name: NAME.into(),
        password: Secret("x".into()),
        uid,
        gid: primary.gid,
        gecos,
        home,
        shell,
        line: 0,
    };
    if primary.is_new {
        files.add_group(&primary.name, primary.gid);
    }
    files.put_shadow(&ShadowEntry {
        name: NAME.into(),
        password: Secret("*".into()),
        last_change: Some(today).filter(|day| *day > 0),
        min: None,
        max: None,
        warn: None,
        inactive: None,
        expire: None,
        line: 0,
    });
    files.add_passwd(&entry);
    entry.line = files.passwd_entries().by_name(NAME.as_bytes()).map_or(0, |found| found.line);
    let actions = files.actions("puts back the user sshd, whom privilege separation needs");
    Ok(UserPlan { entry, primary_group: primary.name, groups: Vec::new(), origins, actions })
}

fn check_name(files: &AccountFiles, name: &str) -> Result<(), Refusal> {
    if !accounts::is_valid_name(name.as_bytes()) {
        return Err(Refusal::usage(format!("{name:?} is no user name that useradd would take")).hint(
            "Letters, digits, dot, underscore and hyphen, at most 32; no hyphen first, not digits alone.",
        ));
    }
    if files.passwd_entries().by_name(name.as_bytes()).is_some() {
        return Err(Refusal::usage(format!("/etc/passwd: the user {name} is there already")));
    }
    Ok(())
}

fn is_home(home: &[u8]) -> bool {
    home.starts_with(b"/")
}

/// A regular file with an x bit, links followed inside the volume?
fn is_program(view: &dyn View, path: &[u8]) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    path.is_absolute()
        && view::follow(view, path).is_ok_and(|found| found.stat.is_file() && found.stat.mode & 0o111 != 0)
}

/// The old shell, else the image's, else the family's; the first that exists.
fn shell(
    view: &dyn View,
    os: &OsFacts,
    old: Option<&PasswdEntry>,
    default: Option<&DefaultUser>,
    origins: &mut Vec<String>,
) -> BString {
    let old = old.map(|old| old.shell.as_slice());
    let default = default.map(|default| default.shell.as_bytes());
    let family = os.login_shells().iter().map(|shell| shell.as_bytes());
    let mut candidates = old.into_iter().chain(default).chain(family);
    if let Some(shell) = candidates.find(|shell| is_program(view, shell)) {
        if let Some(gone) = old.filter(|old| !old.is_empty() && *old != shell) {
            origins.push(format!(
                "the old shell {} is not on the volume: {} takes its place",
                gone.as_bstr(),
                shell.as_bstr()
            ));
        }
        return shell.into();
    }
    origins.push("no login shell was found on the volume".to_owned());
    "/bin/sh".into()
}

/// The supplementary groups, existing or not, of the image's default user, of the backups, and of `--sudo`.
fn wanted_groups(
    backups: &Backups,
    default: Option<&DefaultUser>,
    name: &str,
    options: UserOptions,
    origins: &mut Vec<String>,
) -> Vec<BString> {
    let mut wanted: Vec<BString> = Vec::new();
    if let Some((groups, file)) = backups.memberships(name.as_bytes()) {
        origins.push(format!("groups are those of {}", file.display()));
        wanted.extend(groups);
    }
    if let Some(default) = default.filter(|_| wanted.is_empty()) {
        if !default.groups.is_empty() {
            origins.push("groups are those that the image's cloud-init gives".to_owned());
        }
        wanted.extend(default.groups.iter().map(|group| BString::from(group.as_str())));
    }
    if options.sudo {
        wanted.extend(SUDO_GROUPS.map(BString::from));
    }
    wanted
}

fn add_to_groups(
    files: &mut AccountFiles,
    name: &str,
    wanted: &[BString],
    primary: &ids::Primary,
    origins: &mut Vec<String>,
) {
    let mut absent = Vec::new();
    for group in wanted.iter().filter(|group| **group != primary.name).take(MAX_GROUPS) {
        let there: Option<GroupEntry> = files.group_entries().by_name(group).cloned();
        match there {
            // A group of that name may be a person's own.
            Some(there) if files.passwd_entries().entries.iter().any(|other| other.gid == there.gid) => {
                origins.push(format!("not added to the group {group}: it is another account's own group"));
            }
            Some(there) => {
                if !files.add_member(&there, name.as_bytes()) {
                    origins.push(format!("the line of the group {group} cannot be added to"));
                }
            }
            None => absent.push(group.as_bstr()),
        }
    }
    absent.retain(|group| !SUDO_GROUPS.iter().any(|sudo| group == sudo));
    if !absent.is_empty() {
        let absent = bstr::join(", ", absent);
        origins.push(format!("left out, for they are not in /etc/group: {}", absent.as_bstr()));
    }
}

/// Ranges in subuid and subgid, where these files exist; they are a comfort, so trouble with them is only told.
fn subid_actions(
    view: &dyn View,
    defs: &LoginDefs,
    user: &PasswdEntry,
    origins: &mut Vec<String>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (name, kind) in [("subuid", "UID"), ("subgid", "GID")] {
        let mut file = match AccountFile::load(view, name, os::FileMode { mode: 0o644, uid: 0, gid: 0 }) {
            Ok(file) if file.exists() => file,
            Ok(_) => continue,
            Err(refusal) => {
                origins.push(refusal.message);
                continue;
            }
        };
        let subids = Subids::parse(&file.text);
        let (min, max, count) = defs.subids(kind);
        if count == 0 || subids.has(&user.name, user.uid) {
            continue;
        }
        match subids.free(min, max, count) {
            Some(start) => {
                let range = SubidRange { owner: user.name.clone(), start, count };
                file.insert(&range.to_line());
                actions.extend(file.action(&format!("gives {} subordinate ids", user.name)));
            }
            None => origins.push(format!("/etc/{name}: no range is free")),
        }
    }
    actions
}
