//! What is neither sshd's nor the account's (`--fix system`): rules of TCP wrappers (hosts_access(5)), the modes that
//! sudo(8) wants of its own files, and those without which the sshd or the login shell of the volume can't be run.

use super::action::{Action, Before, Change};
use super::builder::Builder;
use super::fix::{self, Proposal, why};
use super::lines::{ADDED, Lines};
use crate::finding::{CheckId, Finding, FixedBy};
use crate::sshd::evaluate::Evaluation;
use crate::view::{LookError, View, follow};
use std::path::Path;

const ALLOW: &str = "/etc/hosts.allow";
/// What lets in every client, to sshd alone.
const SSHD_FOR_ALL: &str = "sshd: ALL";

/// Plans what lets the client through to sshd, and the user on to root by sudo.
pub fn mend(builder: &mut Builder<'_>, ask: &dyn Fn(&dyn View) -> Evaluation) {
    fix::mend(builder, FixedBy::System, ask, &|view, finding| match (finding.check, &finding.path) {
        (CheckId::HostsDeny, Some(path)) => wrappers(view, path, finding),
        (CheckId::SudoersMode, Some(path)) => vec![sudo(view, path, finding)],
        (CheckId::ShellNotExecutable, Some(path)) => vec![program(view, path, finding)],
        (
            CheckId::SshdNotExecutable | CheckId::SshdHelperMissing | CheckId::LibraryUnreadable,
            Some(path),
        ) => {
            vec![of_a_package(view, path, finding)]
        }
        _ => Vec::new(),
    });
}

/// A rule for sshd alone becomes a comment; one for other services too stays, and sshd gets a rule before it.
fn wrappers(view: &dyn View, file: &Path, finding: &Finding) -> Vec<Proposal> {
    let Some(line) = finding.line.map(|line| line as usize) else { return Vec::new() };
    let daemons = finding.is.split(':').next().unwrap_or_default().trim();
    let gone = fix::rewriting(view, file, &why(finding), |old| Lines::of(old).comment_out(line));
    if daemons.eq_ignore_ascii_case("sshd") {
        return vec![gone];
    }
    vec![allow(view, finding), gone]
}

/// The rule in hosts.allow, which is asked first and whose first match counts.
fn allow(view: &dyn View, finding: &Finding) -> Proposal {
    if follow(view, Path::new(ALLOW)).err() == Some(LookError::NotFound) {
        let path = follow(view, Path::new("/etc"))
            .map(|etc| etc.path.join("hosts.allow"))
            .map_err(|error| format!("/etc: {error}"))?;
        if view.lstat(&path).is_ok() {
            return Err(format!("{ALLOW} is a link that leads nowhere, and is not changed"));
        }
        let change = Change::WriteFile {
            before: Before::Absent,
            content: format!("{ADDED}\n{SSHD_FOR_ALL}\n").into_bytes(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            xattrs: Vec::new(),
        };
        return Ok(vec![Action { path, change, why: why(finding) }]);
    }
    fix::rewriting(view, Path::new(ALLOW), &why(finding), |old| {
        let lines = Lines::of(old);
        // An earlier rule of this file may be the one that denies.
        lines
            .insert_before(1, SSHD_FOR_ALL.as_bytes())
            .or_else(|| Some(format!("{ADDED}\n{SSHD_FOR_ALL}\n").into_bytes()))
    })
}

/// The bits that a program or a library of the system lacks; nothing of another owner's, or with further names.
fn of_a_package(view: &dyn View, path: &Path, finding: &Finding) -> Proposal {
    let found = follow(view, path).map_err(|error| format!("{}: {error}", path.display()))?;
    let ours = ["/bin", "/sbin", "/lib", "/lib64", "/usr"].iter().any(|base| found.path.starts_with(base));
    let stat = found.stat;
    if !ours || !stat.is_file() || stat.uid != 0 || stat.size == 0 {
        return Err(format!("{} is no file of a package, and is not changed", found.path.display()));
    }
    let wanted = finding.wants.split(' ').next().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let Some(to) = wanted.filter(|mode| *mode != stat.mode) else { return Ok(Vec::new()) };
    let change = Change::SetMode { from: stat.mode, to };
    Ok(vec![Action { path: found.path, change, why: why(finding) }])
}

/// Owner and mode as the finding wants them, "0440 0:0"; set-id bits come after the owner, which takes them away.
fn sudo(view: &dyn View, path: &Path, finding: &Finding) -> Proposal {
    let found = follow(view, path).map_err(|error| format!("{}: {error}", path.display()))?;
    let stat = found.stat;
    let shown = found.path.display();
    if !stat.is_file() || stat.nlink != 1 {
        return Err(format!("{shown} is no regular file with one name, and is not changed"));
    }
    if !["/etc", "/usr"].iter().any(|base| found.path.starts_with(base)) {
        return Err(format!("{} leads to {shown}, which is not changed", path.display()));
    }
    let wanted = finding.wants.split(' ').next().and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let Some(mode) = wanted else { return Ok(Vec::new()) };
    let mut actions = Vec::new();
    let mut push = |change| {
        actions.push(Action { path: found.path.clone(), change, why: why(finding) });
    };
    let owner = (stat.uid, stat.gid);
    if owner != (0, 0) {
        push(Change::SetOwner { from: owner, to: (0, 0) });
    }
    if stat.mode != mode {
        push(Change::SetMode { from: stat.mode, to: mode });
    }
    Ok(actions)
}

/// What every program needs, a library or a directory of the system's, gets the bits that everybody else's have.
fn program(view: &dyn View, path: &Path, finding: &Finding) -> Proposal {
    const SYSTEM: [&str; 5] = ["/usr", "/lib", "/lib64", "/bin", "/sbin"];
    let stat = view.lstat(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let wanted = finding.wants.split(' ').next().filter(|mode| mode.len() == 4);
    let wanted = wanted.and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let is_one = stat.is_dir() || (stat.is_file() && stat.nlink == 1);
    match wanted.filter(|_| is_one && stat.uid == 0 && SYSTEM.iter().any(|base| path.starts_with(base))) {
        Some(mode) if stat.mode != mode => {
            let change = Change::SetMode { from: stat.mode, to: mode };
            Ok(vec![Action { path: path.to_owned(), change, why: why(finding) }])
        }
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use crate::finding::{CheckId, Finding};
    use crate::plan::Change;
    use crate::plan::outside_sshd::{ALLOW, SSHD_FOR_ALL, allow};
    use crate::view::memory::MemTree;

    fn written(tree: &MemTree) -> String {
        let actions = allow(tree, &Finding::blocks(CheckId::HostsDeny)).unwrap();
        let Change::WriteFile { content, .. } = &actions[0].change else { panic!("{actions:?}") };
        String::from_utf8(content.clone()).unwrap()
    }

    #[test]
    fn the_rule_comes_first_and_the_others_stay() {
        let mut tree = MemTree::new();
        tree.dir("/etc", 0o755, 0, 0);
        assert_eq!(written(&tree), format!("# added by volrescue\n{SSHD_FOR_ALL}\n"));
        tree.file(ALLOW, 0o644, 0, 0, b"ALL: 10.\n");
        assert_eq!(written(&tree), format!("# added by volrescue\n{SSHD_FOR_ALL}\nALL: 10.\n"));
    }
}
