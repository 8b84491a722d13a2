//! Edits of sshd_config that let a user in (`--fix sshd-config`): a block for this user alone, a word more or less on the
//! line that rules, that line commented out.

use super::action::{Action, Before, Change};
use super::builder::Builder;
use super::fix::{self, Proposal, why};
use super::lines::{ADDED, Lines, is_plain_name};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, FixedBy};
use crate::sshd::build::{Build, Family};
use crate::sshd::evaluate::{Evaluation, System};
use crate::view::{LookError, TEXT_LIMIT, View, follow};
use bstr::{BString, ByteSlice};
use std::path::Path;

const MAIN: &str = "/etc/ssh/sshd_config";
/// The package's own copy, where a distribution has one.
const PRISTINE: &str = "/usr/share/openssh/sshd_config";

/// One way to mend a finding.
enum Way {
    /// The line, and what belongs to it, becomes a comment.
    CommentOut,
    /// A line in a block for the user alone.
    ForUser(String),
    /// A word more on the line.
    AddWord(BString),
    /// A word less on the line; if it was the last one, the line goes.
    DropWord(BString),
    /// One value more in the comma-separated list that is the line's argument.
    AddToList(String),
    /// Another line in place of the line.
    Replace(String),
    /// The whole file, which is missing.
    Create,
}

/// Plans edits until sshd has no reason left in its configuration to refuse the user, or none helps.
pub fn mend(builder: &mut Builder<'_>, user: &PasswdEntry, ask: &dyn Fn(&dyn View) -> Evaluation) {
    fix::mend(builder, FixedBy::SshdConfig, ask, &|view, finding| {
        let system = System::read(view);
        let ways = ways(finding, user, &system).into_iter();
        ways.map(|way| edit(view, finding, &way, user, &system.build)).collect()
    });
}

/// What could mend the finding, least effect first.
fn ways(finding: &Finding, user: &PasswdEntry, system: &System) -> Vec<Way> {
    let for_user = |line: &str| Way::ForUser(line.to_owned());
    let replace = |line: &str| Way::Replace(line.to_owned());
    let name = &user.name;
    match finding.check {
        CheckId::ConfigMissing => vec![Way::Create],
        CheckId::ConfigUnreadable
        | CheckId::ConfigSyntax
        | CheckId::HostKeysUnusable
        | CheckId::NegotiationFails
        | CheckId::RevokedKeysUnusable
        | CheckId::KeyRevoked => vec![Way::CommentOut],
        CheckId::DeniedUser => {
            let (keyword, word) = finding.is.split_once(' ').unwrap_or_default();
            let drop = || Way::DropWord(word.into());
            let spare = for_user(&format!("{keyword} !{name}"));
            // A word that means this user alone goes; one that means others too stays in force for them.
            if word == *name { vec![drop(), spare] } else { vec![spare, drop()] }
        }
        CheckId::NotAllowedUser if finding.is.starts_with("AllowUsers ") => {
            vec![Way::AddWord(name.clone())]
        }
        CheckId::NotAllowedUser => {
            let Some(group) = system.group_names(user).into_iter().next() else {
                return vec![Way::CommentOut];
            };
            let only = for_user(&format!("AllowGroups {group}"));
            let add = Way::AddWord(group.clone());
            if is_private(system, user, &group) { vec![add, only] } else { vec![only, add] }
        }
        CheckId::RootLoginDenied => {
            const WANTED: &str = "PermitRootLogin prohibit-password";
            vec![for_user(WANTED), replace(WANTED)]
        }
        CheckId::ConnectionRefused => vec![for_user("RefuseConnection no"), Way::CommentOut],
        CheckId::PubkeyAuthenticationOff => {
            const WANTED: &str = "PubkeyAuthentication yes";
            vec![for_user(WANTED), replace(WANTED)]
        }
        CheckId::KeyTypeNotAccepted => {
            let algorithm = match finding.is.split(' ').next().unwrap_or_default() {
                "ssh-rsa" if system.build.at_least(7, 2) => "rsa-sha2-512,rsa-sha2-256",
                other => other,
            };
            let keyword = if system.build.at_least(8, 5) {
                "PubkeyAcceptedAlgorithms"
            } else {
                "PubkeyAcceptedKeyTypes"
            };
            vec![
                Way::AddToList(algorithm.to_owned()),
                for_user(&format!("{keyword} +{algorithm}")),
                Way::CommentOut,
            ]
        }
        CheckId::KeyTooShort => vec![for_user("RequiredRSASize 1024"), Way::CommentOut],
        CheckId::MoreMethodsNeeded => vec![for_user("AuthenticationMethods publickey"), Way::CommentOut],
        CheckId::NoKeyFiles => {
            vec![for_user("AuthorizedKeysFile .ssh/authorized_keys"), Way::CommentOut]
        }
        // A file of keys in the home of another account.
        CheckId::KeyFileMissing
        | CheckId::KeyFileEmpty
        | CheckId::KeyAbsent
        | CheckId::KeyLineBroken
        | CheckId::KeyFileUnreadable
        | CheckId::KeyFileWrongOwner
        | CheckId::KeyFileWritableByOthers
        | CheckId::DirectoryNotSearchable
        | CheckId::DirectoryWrongOwner
        | CheckId::DirectoryWritableByOthers => {
            vec![for_user("AuthorizedKeysFile .ssh/authorized_keys")]
        }
        CheckId::ForcedCommand => vec![for_user("ForceCommand none"), Way::CommentOut],
        // The shell inside a chroot.
        CheckId::ChrootUnusable | CheckId::ShellMissing => vec![for_user("ChrootDirectory none")],
        CheckId::MaxSessionsZero => {
            let keyword = finding.is.split(' ').next().unwrap_or_default();
            let default = match keyword {
                "MaxSessions" => "10",
                "MaxAuthTries" => "6",
                "MaxStartups" => "10:30:100",
                _ => "none",
            };
            let wanted = format!("{keyword} {default}");
            // The last two are for the whole of sshd.
            if keyword.ends_with("Startups") {
                vec![replace(&wanted)]
            } else {
                vec![for_user(&wanted), replace(&wanted)]
            }
        }
        _ => Vec::new(),
    }
}

/// A group that the user alone is in: naming it lets in nobody else.
fn is_private(system: &System, user: &PasswdEntry, group: &BString) -> bool {
    let others = |name: &[u8]| user.name != name;
    system.group.entries.iter().filter(|entry| entry.name == *group).all(|entry| {
        !entry.members.iter().any(others)
            && !system.passwd.entries.iter().any(|other| other.gid == entry.gid && others(&other.name))
    })
}

fn edit(view: &dyn View, finding: &Finding, way: &Way, user: &PasswdEntry, build: &Build) -> Proposal {
    if let Way::Create = way {
        return Ok(create(view, build).into_iter().collect());
    }
    let (file, line) = match (way, &finding.path, finding.line) {
        (Way::ForUser(_), ..) => (Path::new(MAIN), 0),
        (_, Some(path), Some(line)) => (path.as_path(), line as usize),
        _ => return Ok(Vec::new()),
    };
    fix::rewriting(view, file, &why(finding), |old| {
        let lines = Lines::of(old);
        match way {
            Way::CommentOut => lines.comment_out(line),
            Way::ForUser(setting) => {
                let name = user.name.to_str().ok().filter(|name| is_plain_name(name))?;
                Some(lines.for_user(name, setting))
            }
            Way::AddWord(word) => lines.add_word(line, word),
            Way::DropWord(word) => lines.drop_word(line, word),
            Way::AddToList(value) => lines.add_to_list(line, value),
            Way::Replace(setting) => lines.replace(line, setting.as_bytes()),
            Way::Create => None,
        }
    })
}

/// The package's file where the volume has a copy, else the least that gives what the distribution is used to.
fn create(view: &dyn View, build: &Build) -> Option<Action> {
    let path = Path::new(MAIN);
    if view.lstat(path) != Err(LookError::NotFound) || follow(view, path.parent()?).is_err() {
        return None;
    }
    let content = match follow(view, Path::new(PRISTINE)).and_then(|found| view.read(&found.path, TEXT_LIMIT))
    {
        Ok(pristine) => pristine,
        Err(_) => {
            let mut content = format!("{ADDED}\n");
            if build.at_least(8, 2) && follow(view, Path::new("/etc/ssh/sshd_config.d")).is_ok() {
                content.push_str("Include /etc/ssh/sshd_config.d/*.conf\n");
            }
            if build.pam {
                content.push_str("UsePAM yes\n");
            }
            content.into_bytes()
        }
    };
    let mode = if build.family == Family::RedHat { 0o600 } else { 0o644 };
    let change =
        Change::WriteFile { before: Before::Absent, content, mode, uid: 0, gid: 0, xattrs: Vec::new() };
    Some(Action { path: path.to_owned(), change, why: "sshd does not start without it".to_owned() })
}

#[cfg(test)]
mod tests;
