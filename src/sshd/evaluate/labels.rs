//! SELinux labels on the way of a login. What the policy would then do is not part of the verdict: no rule of it is
//! evaluated, only the labels that it gives to files.

use super::path::home_path;
use super::{Case, KeyFile};
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding, FixedBy};
use crate::selinux::{Label, XATTR};
use crate::view::{follow, walk};
use std::path::{Path, PathBuf};

/// Files of the system without whose label nobody logs in.
const SYSTEM: [&str; 7] =
    ["/etc", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssh/sshd_config"];

pub(super) fn check(case: &mut Case<'_>, user: &PasswdEntry, files: &[KeyFile]) {
    let view = case.view;
    let policy = view.selinux();
    if let Some(why) = policy.unreadable() {
        let finding = Finding::advises(CheckId::LabelWrong).is(why).wants("file contexts in text");
        case.advise(finding.fixed_by(FixedBy::Nothing));
        return;
    }
    if !policy.labels() {
        return;
    }
    let root = Path::new("/");
    if view.xattr(root, XATTR).is_ok_and(|label| label.is_none()) {
        let finding =
            Finding::advises(CheckId::LabelWrong).at(root).is("no label").wants("a labelled volume");
        case.advise(finding.fixed_by(FixedBy::Nothing));
        return;
    }
    for path in paths(case, user, files) {
        let Ok(stat) = view.lstat(&path) else { continue };
        if !stat.is_dir() && stat.nlink > 1 {
            continue;
        }
        let Ok(now) = view.xattr(&path, XATTR) else { continue };
        match policy.restore(&path, stat.kind, now.as_deref()) {
            Label::Right => {}
            Label::Wrong(context) => {
                let is =
                    now.as_deref().map(|now| String::from_utf8_lossy(now).trim_end_matches('\0').to_owned());
                let is = is.unwrap_or_else(|| "no label".to_owned());
                case.advise(Finding::advises(CheckId::LabelWrong).at(path).is(is).wants(context));
            }
            Label::Undecided(why) => {
                let finding = Finding::advises(CheckId::LabelWrong).at(path).is(why).wants("a known label");
                case.advise(finding.fixed_by(FixedBy::Nothing));
            }
        }
    }
}

/// Canonical paths: the system's files, everything from `/` to the home, and from there to the keys. What is reached
/// through a link that leads out of the home is left out: it is nothing that a repair would change.
fn paths(case: &Case<'_>, user: &PasswdEntry, files: &[KeyFile]) -> Vec<PathBuf> {
    let view = case.view;
    let mut all: Vec<PathBuf> = Vec::new();
    let mut add = |path: &Path| {
        if !all.iter().any(|known| known == path) {
            all.push(path.to_path_buf());
        }
    };
    for path in SYSTEM {
        if let Ok(found) = follow(view, Path::new(path))
            && found.path.starts_with("/etc")
        {
            add(&found.path);
        }
    }
    let home = follow(view, &home_path(user)).ok().map(|found| found.path);
    if let Some(home) = &home {
        home.ancestors().collect::<Vec<_>>().into_iter().rev().for_each(&mut add);
    }
    for file in files {
        let way = walk(view, &file.path);
        let in_home = |path: &Path| home.as_ref().is_some_and(|home| path.starts_with(home));
        let strays = way.steps.iter().any(|step| step.link.is_some() && in_home(&step.path));
        let Ok(found) = way.end else { continue };
        if in_home(&found.path) || !strays {
            found.path.ancestors().collect::<Vec<_>>().into_iter().rev().for_each(&mut add);
        }
    }
    all
}
