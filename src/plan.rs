//! What would be done: actions with what they expect to find and what undoes them. Pure.
//!
//! A plan grows action by action on an [`Overlay`], and is judged by the same evaluation that made the diagnosis: an
//! action after which sshd would refuse for something new is not planned.

pub mod account;
pub mod action;
pub mod builder;
mod fix;
pub mod keys;
mod label;
mod lines;
pub mod login_path;
pub mod outside_sshd;
pub mod overlay;
pub mod promise;
pub mod scope;
pub mod service;
pub mod sshd_config;
pub mod system;
pub mod user;

#[cfg(test)]
mod tests;

pub use action::{Action, Applied, Before, Change, Outcome, REPLACED_LIMIT, TreeOwners};
pub use overlay::Overlay;

use crate::accounts::{Passwd, PasswdEntry};
use crate::error::{ExitCode, Refusal};
use crate::finding::{CheckId, FixedBy, Severity, Verdict};
use crate::keys::PublicKey;
use crate::os::OsFacts;
use crate::permissions::Identity;
use crate::sshd::evaluate::{self, Client, Evaluation, Question, System};
use crate::view::{TEXT_LIMIT, View};
use bstr::{BString, ByteSlice};
use builder::Builder;
use login_path::Reach;
use scope::Home;
use std::path::{Path, PathBuf};

/// Whose entries in a home change hands (`--chown`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreePolicy {
    /// Root's, the wrong owner's, and these.
    Tree {
        /// `--chown-from`.
        also: Vec<u32>,
    },
    /// Everybody's.
    All,
    /// Nobody's: only the login path.
    Login,
}

/// What is asked of a repair, the same for each user.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Keys to add.
    pub keys: Vec<PublicKey>,
    /// `--create-user`.
    pub create_user: bool,
    /// `--sudo`.
    pub sudo: bool,
    /// `--minimal`.
    pub minimal: bool,
    /// `--chown`.
    pub tree: TreePolicy,
    /// `--fix host-keys`: the new keys, made beforehand; none where they are not wanted.
    pub host_keys: Vec<Action>,
    /// The classes of `--fix`; what they mend is left alone without them.
    pub fix: Vec<FixedBy>,
    /// Seconds since the epoch.
    pub now: i64,
    /// Whom it is to let in, where policy asks for the client's address.
    pub client: Client,
}

/// A plan.
#[derive(Debug)]
pub struct Plan {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// What the operator should know besides; whose access changes comes first.
    pub notes: Vec<String>,
    /// What sshd would say afterwards, user by user.
    pub predicted: Vec<Evaluation>,
}

/// Makes the plan for some users. `before` are their evaluations as things are.
///
/// # Errors
/// A user that cannot be put back.
pub fn build(view: &dyn View, os: &OsFacts, users: &[BString], wish: &Wish) -> Result<Plan, Refusal> {
    let mut builder = Builder::new(view);
    let system_before = System::read(view);
    let modes = system::SystemModes::of(os, &system_before.group);
    for action in &wish.host_keys {
        let is_public = action.path.extension().is_some_and(|end| end == "pub");
        let private = action.path.with_extension("");
        // Where the private half is left as it is, so is the public one.
        if !is_public || builder.actions.iter().any(|planned| planned.path == private) {
            builder.add(action.clone());
        }
    }
    for user in users {
        restore_entries(&mut builder, os, user, wish)?;
    }
    if !wish.minimal {
        optional(&mut builder, users, wish, &mut |builder| system::document(builder, &modes));
    }
    for user in users {
        plan_user(&mut builder, user, wish, &modes);
    }
    accounts_of_the_system(&mut builder);
    let system = System::read(&builder.view);
    let predicted = users.iter().map(|user| ask(&builder.view, &system, user, wish)).collect();
    let notes = builder.warnings.into_iter().chain(builder.notes).collect();
    Ok(Plan { actions: builder.actions, notes, predicted })
}

/// A login may work where the machine does not start: told, as there is nothing to be sure of for mending it.
fn accounts_of_the_system(builder: &mut Builder<'_>) {
    let system = System::read(&builder.view);
    let lost = [
        ("/etc/passwd", system.passwd.entries.iter().all(|entry| entry.uid != 0)),
        ("/etc/group", system.group.entries.iter().all(|entry| entry.gid != 0)),
    ];
    for (file, _) in lost.iter().filter(|(_, lost)| *lost) {
        let backup = format!("{file}-");
        let lines = builder.view.read(Path::new(&backup), TEXT_LIMIT).map_or(0, |old| old.lines().count());
        let way = match lines {
            0 => "put the file back from a backup of yours".to_owned(),
            _ => format!("compare it with {backup}, which has {lines} lines (volrescue shell --writable)"),
        };
        builder.note(format!(
            "{file} has no line of root's: other accounts are lost, too, and the system may not start; {way}"
        ));
    }
}

fn ask(view: &dyn View, system: &System, user: &BString, wish: &Wish) -> Evaluation {
    let Client { address, host } = wish.client.clone();
    let question = Question { user: user.clone(), keys: &wish.keys, now: wish.now, address, host };
    evaluate::evaluate(view, system, &question)
}

/// Puts back what the account files lack: the user, its shadow line, the user of privilege separation.
fn restore_entries(
    builder: &mut Builder<'_>,
    os: &OsFacts,
    user: &BString,
    wish: &Wish,
) -> Result<(), Refusal> {
    if !wish.create_user {
        return Ok(());
    }
    let system = System::read(&builder.view);
    let today = wish.now.div_euclid(86_400);
    let Ok(name) = user.to_str() else {
        return Err(Refusal::new(ExitCode::Usage, format!("{user}: the name is not UTF-8")));
    };
    if system.passwd.by_name(user).is_none() {
        let options = user::UserOptions { sudo: wish.sudo, today };
        let plan = user::recreate_user(&builder.view, os, name, options)?;
        let groups = plan.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let entry = &plan.entry;
        builder.note(format!(
            "{name} comes back with uid {}, gid {}, home {}, shell {}, groups: {}",
            entry.uid,
            entry.gid,
            entry.home,
            entry.shell,
            if groups.is_empty() { "none besides" } else { &groups }
        ));
        plan.origins.iter().for_each(|origin| builder.note(origin.clone()));
        for action in plan.actions {
            builder.add(action);
        }
    } else if system.shadow.by_name(user).is_none() {
        let actions = user::restore_shadow(&builder.view, os, name, today)?;
        actions.into_iter().for_each(|action| builder.add(action));
    }
    if System::read(&builder.view).passwd.by_name(b"sshd").is_none() {
        let plan = user::recreate_sshd(&builder.view, os, today)?;
        for action in plan.actions {
            builder.add(action);
        }
    }
    Ok(())
}

fn plan_user(builder: &mut Builder<'_>, name: &BString, wish: &Wish, modes: &system::SystemModes) {
    let system = System::read(&builder.view);
    let Some(user) = system.passwd.by_name(name).cloned() else { return };
    if [user.uid, user.gid].contains(&u32::MAX) {
        builder.note(format!(
            "nothing of {name} is changed: in the passwd of the volume the uid or gid is 4294967295, which no file can have"
        ));
        return;
    }
    let who = Identity::of(&user, &system.group);
    // First of all: which files of keys there are is the configuration's to say.
    fix_classes(builder, &user, wish);
    let system = System::read(&builder.view);
    let asked = ask(&builder.view, &system, name, wish);
    if let Some(elsewhere) = asked.findings.iter().find(|finding| finding.check == CheckId::HomeElsewhere) {
        builder.note(format!(
            "the home of {name} is on another filesystem ({}), which is not here: nothing in it is changed",
            elsewhere.is
        ));
        return;
    }
    let mut files = asked.key_files;
    let mut home = Home::of(&builder.view, &user, &system.passwd);
    if let Home::Missing { path } = &home {
        if let Some(other) = moved_home(&builder.view, path, &user, &system.passwd) {
            builder.warn(format!(
                "{} belongs to {name}'s uid {} and is the home of no account: if it is the old home under another \
                 name, move it back instead of taking the new one",
                other.display(),
                user.uid
            ));
        }
        make_home(builder, path, &user);
        home = Home::of(&builder.view, &user, &system.passwd);
    }
    let users = std::slice::from_ref(name);
    match &home {
        Home::Shared { found, why } => builder.note(format!(
            "{} is not {name}'s own ({why}): only the login path in it is mended",
            found.path.display()
        )),
        Home::Unusable { path, why } => {
            builder.note(format!("the home of {name} cannot be mended: {}: {why}", path.display()));
            let written = scope::path_of(&user.home);
            files.retain(|file| !file.path.starts_with(&written));
        }
        Home::Own(_) | Home::Missing { .. } => {}
    }
    let wrong = login_path::wrong_owners(&builder.view, &user, &home, &files);
    if !wish.minimal {
        optional(builder, users, wish, &mut |builder| {
            login_path::document(builder, &user, &who, &home, &files);
        });
        login_path::document_client_files(builder, &user, &home);
    }
    let reach =
        Reach { user: &user, who: &who, home: &home, files: &files, system: &system, minimal: wish.minimal };
    for file in &files {
        if let Some(path) = scope::canonical_rest(&builder.view, &file.path)
            && let Some(other) = reach.anothers(&builder.view, &path)
        {
            builder.warn(format!(
                "{} lies in the home of {}: it is not opened to {name} and gets no key; --fix sshd-config gives {name} \
                 a file of their own",
                path.display(),
                other.name
            ));
        }
    }
    let neighbours = neighbours(builder, &user, &home, wish);
    let start = (builder.actions.clone(), builder.view.clone());
    let told = builder.warnings.len();
    make_ssh_directory(builder, &reach, wish);
    mend_findings(builder, name, &reach, wish, modes);
    if !wish.keys.is_empty() {
        let accepted = usable_keys(builder, &system, name, wish);
        keys::add(builder, &accepted, &reach, &system.build);
        mend_findings(builder, name, &reach, wish, modes);
        if files.iter().any(|file| file.shared) || matches!(home, Home::Shared { .. }) {
            warn_of_others(builder, &start.1, &user, &accepted, wish);
        }
    }
    let after = System::read(&builder.view);
    let harmed = neighbours
        .iter()
        .find(|(other, was)| ask_for_own_keys(&builder.view, &after, other, wish).verdict > *was);
    if let Some((other, _)) = harmed {
        builder.note(format!(
            "nothing is changed in the home that {name} shares with {other}: {other} would be locked out"
        ));
        (builder.actions, builder.view) = start;
        builder.warnings.truncate(told);
        return;
    }
    // What was hidden behind other faults until now.
    fix_classes(builder, &user, wish);
    chown_tree(builder, &user, &home, &wrong, wish);
    labels(builder, name, &home, wish);
}

/// Labels are no reason of sshd's to refuse, so `--minimal` leaves them.
fn labels(builder: &mut Builder<'_>, name: &BString, home: &Home, wish: &Wish) {
    if wish.minimal || !builder.view.selinux().labels() {
        return;
    }
    let answer = ask(&builder.view, &System::read(&builder.view), name, wish);
    label::mend(builder, &answer.findings);
    if let Home::Own(found) = home
        && wish.fix.contains(&FixedBy::System)
    {
        label::mend_home(builder, &found.path);
    }
}

fn fix_classes(builder: &mut Builder<'_>, user: &PasswdEntry, wish: &Wish) {
    let ask = |view: &dyn View| ask(view, &System::read(view), &user.name, wish);
    if wish.fix.contains(&FixedBy::SshdConfig) {
        sshd_config::mend(builder, user, &ask);
    }
    if wish.fix.contains(&FixedBy::Account) {
        account::mend(builder, user, wish.now.div_euclid(86_400), &ask);
    }
    if wish.fix.contains(&FixedBy::Service) {
        service::mend(builder, &ask);
    }
    if wish.fix.contains(&FixedBy::System) {
        outside_sshd::mend(builder, &ask);
    }
}

/// Names the other accounts that the keys open too, of those that a login can be tried for.
fn warn_of_others(
    builder: &mut Builder<'_>,
    before: &Overlay<'_>,
    user: &PasswdEntry,
    keys: &[PublicKey],
    wish: &Wish,
) {
    /// Images have a handful of accounts with a shell.
    const MOST: usize = 64;
    let (was, is) = (System::read(before), System::read(&builder.view));
    for key in keys {
        let one = Wish { keys: vec![key.clone()], ..wish.clone() };
        let accepts =
            |view: &dyn View, system: &System, name| ask(view, system, name, &one).verdict == Verdict::Accept;
        let others = is.passwd.entries.iter().filter(|other| other.uid != user.uid).take(MOST);
        let opened: Vec<String> = others
            .filter(|other| accepts(&builder.view, &is, &other.name) && !accepts(before, &was, &other.name))
            .map(|other| other.name.to_string())
            .collect();
        if !opened.is_empty() {
            builder.warn(format!(
                "the key {} now opens {} too: the file of keys is not {}'s alone",
                key.fingerprint(),
                opened.join(", "),
                user.name
            ));
        }
    }
}

/// The other accounts that live in the same directory, with their verdicts as things are.
fn neighbours(
    builder: &Builder<'_>,
    user: &PasswdEntry,
    home: &Home,
    wish: &Wish,
) -> Vec<(BString, Verdict)> {
    /// A directory with more accounts than this is the system's.
    const MOST: usize = 8;
    let Home::Shared { found, .. } = home else { return Vec::new() };
    let system = System::read(&builder.view);
    let others = system.passwd.entries.iter().filter(|other| {
        other.uid != user.uid
            && crate::view::follow(&builder.view, &scope::path_of(&other.home))
                .is_ok_and(|at| at.path == found.path)
    });
    let verdict = |other: &PasswdEntry| {
        (other.name.clone(), ask_for_own_keys(&builder.view, &system, &other.name, wish).verdict)
    };
    others.take(MOST).map(verdict).collect()
}

/// Whether any of the keys that the user has lets in: what others lose is theirs, whatever keys are given here.
fn ask_for_own_keys(view: &dyn View, system: &System, user: &BString, wish: &Wish) -> Evaluation {
    let question = Question { user: user.clone(), keys: &[], now: wish.now, address: None, host: None };
    evaluate::evaluate(view, system, &question)
}

/// The keys whose type and length the volume's sshd takes: another one would be written in vain.
fn usable_keys(builder: &mut Builder<'_>, system: &System, name: &BString, wish: &Wish) -> Vec<PublicKey> {
    let mut usable = Vec::new();
    for key in &wish.keys {
        let one = Wish { keys: vec![key.clone()], ..wish.clone() };
        let answer = ask(&builder.view, system, name, &one);
        let refused = answer.findings.iter().find(|finding| {
            finding.severity == Severity::Blocks
                && matches!(
                    finding.check,
                    CheckId::KeyTypeNotAccepted | CheckId::KeyTooShort | CheckId::KeyRevoked
                )
        });
        match refused {
            Some(finding) => builder.note(format!(
                "the key {} is not added: {} {}",
                key.fingerprint(),
                finding.check.meaning(),
                finding.is
            )),
            None => usable.push(key.clone()),
        }
    }
    usable
}

/// A directory beside the missing home that the user owns and no account calls its home.
fn moved_home(view: &dyn View, home: &Path, user: &PasswdEntry, passwd: &Passwd) -> Option<PathBuf> {
    /// More names than this are not looked at.
    const MOST: usize = 1000;
    let parent = home.parent()?;
    let names = view.list(parent).ok()?;
    names.into_iter().take(MOST).map(|name| parent.join(name)).find(|path| {
        view.lstat(path).is_ok_and(|stat| stat.is_dir() && stat.uid == user.uid)
            && !passwd.entries.iter().any(|entry| scope::path_of(&entry.home) == *path)
    })
}

fn make_home(builder: &mut Builder<'_>, path: &Path, user: &PasswdEntry) {
    for action in user::skeleton(&builder.view, path, user.uid, user.gid) {
        builder.add(action);
    }
}

/// A missing `.ssh` is made even where no key is given: it is part of the documented tree.
fn make_ssh_directory(builder: &mut Builder<'_>, reach: &Reach<'_>, wish: &Wish) {
    let Home::Own(found) = reach.home else { return };
    if wish.minimal && wish.keys.is_empty() {
        return;
    }
    if let Some(file) = reach.files.iter().find(|file| {
        scope::canonical_rest(&builder.view, &file.path).is_some_and(|path| path.starts_with(&found.path))
    }) {
        let path = file.path.clone();
        login_path::make_parents(builder, &path, reach);
    }
}

/// Mends layer after layer what sshd would refuse for, until nothing of it is left or nothing helps.
fn mend_findings(
    builder: &mut Builder<'_>,
    name: &BString,
    reach: &Reach<'_>,
    wish: &Wish,
    modes: &system::SystemModes,
) {
    for _ in 0..12 {
        let system = System::read(&builder.view);
        let answer = ask(&builder.view, &system, name, wish);
        let mut mended = false;
        for finding in login_path::blocking(&answer.findings) {
            mended |= system::mend(builder, finding, modes) || login_path::mend(builder, finding, reach);
        }
        if !mended {
            return;
        }
    }
}

fn chown_tree(builder: &mut Builder<'_>, user: &PasswdEntry, home: &Home, wrong: &[u32], wish: &Wish) {
    let Home::Own(found) = home else { return };
    let owners = match &wish.tree {
        TreePolicy::Login => return,
        TreePolicy::All => TreeOwners::All,
        TreePolicy::Tree { also } => {
            let mut uids: Vec<u32> =
                wrong.iter().chain(also).copied().filter(|uid| *uid != user.uid).collect();
            uids.sort_unstable();
            uids.dedup();
            if uids.is_empty() {
                return;
            }
            TreeOwners::Of { uids }
        }
    };
    let change = Change::ChownTree { uid: user.uid, gid: user.gid, owners };
    builder.push(&found.path, change, "what lies in the home is the user's");
}

/// Plans what is not needed for the login, but takes back each action after which sshd would refuse for something
/// that it does not refuse for now. What a file of keys says is no such thing: it was there before, and only now can it
/// be read.
fn optional(
    builder: &mut Builder<'_>,
    users: &[BString],
    wish: &Wish,
    plan: &mut dyn FnMut(&mut Builder<'_>),
) {
    let blocked = |builder: &Builder<'_>| -> Vec<(Verdict, Vec<CheckId>)> {
        let system = System::read(&builder.view);
        let of_keys = |check: CheckId| {
            check.fixed_by() == FixedBy::Key
                || (CheckId::KeyFileEmpty..=CheckId::KeyLineCommand).contains(&check)
        };
        let blocks = |answer: Evaluation| {
            let found = answer
                .findings
                .iter()
                .filter(|finding| finding.severity == Severity::Blocks && !of_keys(finding.check));
            (answer.verdict, found.map(|finding| finding.check).collect())
        };
        users.iter().map(|user| blocks(ask(&builder.view, &system, user, wish))).collect()
    };
    let is_worse = |before: &[(Verdict, Vec<CheckId>)], after: &[(Verdict, Vec<CheckId>)]| {
        before
            .iter()
            .zip(after)
            .any(|((was, had), (is, has))| is > was || has.iter().any(|check| !had.contains(check)))
    };
    let before = blocked(builder);
    let (start, view) = (builder.actions.len(), builder.view.clone());
    plan(builder);
    if builder.actions.len() == start || !is_worse(&before, &blocked(builder)) {
        return;
    }
    let candidates = builder.actions.split_off(start);
    builder.view = view;
    for action in candidates {
        let (view, path) = (builder.view.clone(), action.path.clone());
        builder.add(action);
        if is_worse(&before, &blocked(builder)) {
            let dropped = builder.actions.pop();
            builder.view = view;
            if let Some(dropped) = dropped {
                builder.note(format!(
                    "{} stays as it is ({}): with the documented form sshd would refuse",
                    path.display(),
                    dropped.change.from_to().0
                ));
            }
        }
    }
}
