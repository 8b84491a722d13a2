//! Edits of the account that let a user in (`--fix account`): the lock, the ageing, the shell, and what PAM refuses for.
//! No password is ever set, and none that was locked comes back.

use super::action::{Action, Before, Change};
use super::builder::Builder;
use super::fix::{self, Proposal, why};
use super::lines::{ADDED, Lines};
use crate::accounts::{PasswdEntry, edit};
use crate::finding::{CheckId, Finding, FixedBy};
use crate::sshd::evaluate::{Evaluation, System};
use crate::view::{Found, LookError, View, follow};
use bstr::ByteSlice;
use std::path::Path;

const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";
const NSSWITCH: &str = "/etc/nsswitch.conf";
/// Fields of passwd(5) and shadow(5), counted from 0.
const PASSWORD: usize = 1;
const SHELL: usize = 6;
const LAST_CHANGE: usize = 2;
const MAXIMUM: usize = 4;
const INACTIVE: usize = 6;
const EXPIRE: usize = 7;
/// Shells that every distribution has, the better one first.
const SHELLS: [&str; 4] = ["/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh"];

/// Plans edits until the account is no reason any more to refuse the user, or none helps. `today` in days since the
/// epoch.
pub fn mend(
    builder: &mut Builder<'_>,
    user: &PasswdEntry,
    today: i64,
    ask: &dyn Fn(&dyn View) -> Evaluation,
) {
    fix::mend(builder, FixedBy::Account, ask, &|view, finding| proposals(view, finding, user, today));
}

fn proposals(view: &dyn View, finding: &Finding, user: &PasswdEntry, today: i64) -> Vec<Proposal> {
    let line = finding.line.unwrap_or(0);
    let fields = |file: &str, values: &[(usize, &str)]| {
        fix::rewriting(view, Path::new(file), &why(finding), |old| {
            let mut text = old.to_vec();
            for (field, value) in values {
                text = edit::set_field(&text, line, *field, value.as_bytes())?;
            }
            Some(text)
        })
    };
    match (finding.check, finding.path.as_deref()) {
        (_, Some(path)) if path == Path::new(NSSWITCH) => vec![files_first(view, finding)],
        // Not what was behind the `!`: a password that somebody locked stays so.
        (CheckId::AccountLocked, Some(path)) => {
            let file = if path == Path::new(SHADOW) { SHADOW } else { PASSWD };
            vec![fields(file, &[(PASSWORD, "*")])]
        }
        (CheckId::AccountExpired, _) => vec![fields(SHADOW, &[(EXPIRE, "")])],
        (CheckId::PasswordExpired, _) => {
            let today = today.to_string();
            vec![
                fields(SHADOW, &[(LAST_CHANGE, &today)]),
                fields(SHADOW, &[(LAST_CHANGE, &today), (MAXIMUM, ""), (INACTIVE, "")]),
            ]
        }
        (CheckId::ShellNotExecutable, Some(path)) => {
            let mut proposals = vec![executable(view, path, finding)];
            proposals.extend(shells(view, finding, user));
            proposals
        }
        (CheckId::ShellMissing | CheckId::ShellRefusesLogin, _) => shells(view, finding, user),
        (CheckId::NologinFile, Some(path)) => vec![remove(view, path, finding)],
        (CheckId::PamRefuses, Some(path)) => pam(view, finding, path, user),
        _ => Vec::new(),
    }
}

/// The line of nsswitch.conf that passes the file by, with `files` before what it asks.
fn files_first(view: &dyn View, finding: &Finding) -> Proposal {
    let line = finding.line.unwrap_or(0) as usize;
    fix::rewriting(view, Path::new(NSSWITCH), &why(finding), |old| {
        let lines = Lines::of(old);
        let (database, services) = lines.line(line)?.split_once_str(":")?;
        let services = services.trim_ascii();
        let between: &[u8] = if services.is_empty() { b"" } else { b" " };
        lines.replace(line, &[database.trim_ascii(), b": files", between, services].concat())
    })
}

/// The x bits of a program of the system, which everybody else lacks too.
fn executable(view: &dyn View, path: &Path, finding: &Finding) -> Proposal {
    let ours = ["/bin", "/usr"].iter().any(|base| path.starts_with(base));
    match follow(view, path) {
        Ok(Found { path, stat }) if ours && stat.is_file() && stat.uid == 0 && stat.size > 0 => {
            let change = Change::SetMode { from: stat.mode, to: stat.mode | 0o555 };
            Ok(vec![Action { path, change, why: why(finding) }])
        }
        _ => Ok(Vec::new()),
    }
}

fn shells(view: &dyn View, finding: &Finding, user: &PasswdEntry) -> Vec<Proposal> {
    let system = System::read(view);
    let Some(entry) = system.passwd.by_name(&user.name) else { return Vec::new() };
    let there = SHELLS.iter().filter(|shell| {
        follow(view, Path::new(shell)).is_ok_and(|found| found.stat.is_file() && found.stat.mode & 0o111 != 0)
    });
    let set = |shell: &&str| {
        fix::rewriting(view, Path::new(PASSWD), &why(finding), |old| {
            edit::set_field(old, entry.line, SHELL, shell.as_bytes())
        })
    };
    there.map(set).collect()
}

/// A file whose presence refuses everybody.
fn remove(view: &dyn View, path: &Path, finding: &Finding) -> Proposal {
    let stat = view.lstat(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let change = if stat.is_file() && stat.nlink == 1 {
        let before = Before::Regular { ino: stat.ino, size: stat.size, mtime: stat.mtime };
        Change::RemoveFile { before }
    } else if let Ok(target) = view.read_link(path) {
        Change::RemoveLink { target }
    } else {
        return Err(format!("{} is {}, and is not removed", path.display(), stat.kind.words()));
    };
    Ok(vec![Action { path: path.to_owned(), change, why: why(finding) }])
}

/// Not lists of names, though a module may be told to read them as such.
const ACCOUNT_FILES: [&str; 5] = [PASSWD, SHADOW, "/etc/group", "/etc/gshadow", "/etc/shells"];

/// First what names the user in the list that a module reads, then the rule itself as a comment.
fn pam(view: &dyn View, finding: &Finding, path: &Path, user: &PasswdEntry) -> Vec<Proposal> {
    let Some(line) = finding.line.map(|line| line as usize) else { return pam_lacks(view, finding, path) };
    let name = user.name.as_slice();
    let why = why(finding);
    let argument = |name: &str| finding.is.split_whitespace().find_map(|word| word.strip_prefix(name));
    let mut proposals = Vec::new();
    if path.starts_with("/etc/security") && finding.is.starts_with('-') {
        // pam_access: the first line that matches decides.
        let line_of_user = [b"+:".as_slice(), name, b":ALL"].concat();
        proposals
            .push(fix::rewriting(view, path, &why, |old| Lines::of(old).insert_before(line, &line_of_user)));
    }
    if finding.is.contains("pam_listfile")
        && let Some(file) = argument("file=")
        && !ACCOUNT_FILES.contains(&file)
    {
        proposals.push(fix::rewriting(view, Path::new(file), &why, |old| {
            let lines = Lines::of(old);
            match lines.find(name) {
                Some(listed) => lines.comment_out(listed),
                None => Some(lines.append(name)),
            }
        }));
    }
    if finding.is.contains("pam_shells") && user.shell.to_str().is_ok() {
        let shell = if user.shell.is_empty() { b"/bin/sh".as_slice() } else { user.shell.as_slice() };
        proposals.push(fix::rewriting(view, Path::new("/etc/shells"), &why, |old| {
            Some(Lines::of(old).append(shell))
        }));
    }
    proposals.push(fix::rewriting(view, path, &why, |old| Lines::of(old).comment_out(line)));
    proposals
}

/// What stands in for a stack that is gone: the checks of the account itself, by the module that every system has.
const LEAST_STACK: &str =
    "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\n";

/// A stack in which no rule says yes gets one; a file that is gone comes back with the least that lets a user in.
fn pam_lacks(view: &dyn View, finding: &Finding, path: &Path) -> Vec<Proposal> {
    if let Some(kind) = finding.is.strip_prefix("no ").and_then(|rest| rest.strip_suffix(" rule says yes")) {
        let rule = |module: &str| {
            fix::rewriting(view, path, &why(finding), |old| {
                Some(Lines::of(old).append_ours(format!("{kind} required {module}.so").as_bytes()))
            })
        };
        // The second where another pam_unix has stood aside.
        return vec![rule("pam_unix"), rule("pam_permit")];
    }
    let Some(directory) = path.parent().filter(|_| view.lstat(path) == Err(LookError::NotFound)) else {
        return Vec::new();
    };
    let mut actions = Vec::new();
    match follow(view, directory) {
        Ok(found) if found.stat.is_dir() && found.path == directory => {}
        Err(LookError::NotFound) if view.lstat(directory) == Err(LookError::NotFound) => {
            let change = Change::CreateDirectory { mode: 0o755, uid: 0, gid: 0, xattrs: Vec::new() };
            actions.push(Action { path: directory.to_owned(), change, why: why(finding) });
        }
        _ => return vec![Err(format!("{} is no directory, and is not changed", directory.display()))],
    }
    let content = format!("{ADDED}\n{LEAST_STACK}").into_bytes();
    let change = Change::WriteFile {
        before: Before::Absent,
        content,
        mode: 0o644,
        uid: 0,
        gid: 0,
        xattrs: Vec::new(),
    };
    actions.push(Action { path: path.to_owned(), change, why: why(finding) });
    vec![Ok(actions)]
}
