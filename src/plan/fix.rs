//! The search that the classes of `--fix` have in common: for each finding some edits are thought of, the one of least
//! effect first; each is tried on the volume as it would be, and the first one is kept after which there is one finding
//! less and sshd has no new reason to refuse.

use super::action::{Action, Before, Change};
use super::builder::Builder;
use crate::finding::{CheckId, Finding, FixedBy, Severity};
use crate::sshd::evaluate::Evaluation;
use crate::view::{TEXT_LIMIT, View, follow};
use std::path::Path;

/// More faults than this are left to a person.
const ROUNDS: usize = 64;

/// Some actions that could mend a finding together, or why they may not be done.
pub(super) type Proposal = Result<Vec<Action>, String>;

/// Plans actions until no finding of the class is left that one of the proposals mends.
pub(super) fn mend(
    builder: &mut Builder<'_>,
    class: FixedBy,
    ask: &dyn Fn(&dyn View) -> Evaluation,
    propose: &dyn Fn(&dyn View, &Finding) -> Vec<Proposal>,
) {
    // The unit and sudo are mended though the login itself does not hang on them.
    let beside_the_login = matches!(class, FixedBy::Service | FixedBy::System);
    let mut before = ask(&builder.view);
    let mut given_up: Vec<Finding> = Vec::new();
    for _ in 0..ROUNDS {
        let open = |finding: &&Finding| {
            finding.fixed_by == class
                && (finding.severity == Severity::Blocks || leaves_open(finding) || beside_the_login)
                && !given_up.iter().any(|one| is_same(one, finding))
        };
        let Some(finding) = before.findings.iter().find(open).cloned() else { break };
        let mut why_not = None;
        let mut kept = None;
        for proposal in propose(&builder.view, &finding) {
            match proposal {
                Ok(actions) if actions.is_empty() => {}
                Ok(actions) => {
                    let mut view = builder.view.clone();
                    actions.iter().for_each(|action| view.apply(action));
                    let after = ask(&view);
                    if helps(&finding, &before, &after) {
                        kept = Some((actions, after));
                        break;
                    }
                }
                Err(why) => why_not = Some(why),
            }
        }
        if let Some((actions, after)) = kept {
            actions.into_iter().for_each(|action| builder.add(action));
            before = after;
        } else {
            if let Some(why) = why_not {
                builder.note(format!("{}: {why}", finding.check.name()));
            }
            given_up.push(finding);
        }
    }
}

/// Whether it is as good as a reason to refuse: what sshd makes of it can't be told.
fn leaves_open(finding: &Finding) -> bool {
    finding.check == CheckId::GroupServicesMissing
}

fn blocking(evaluation: &Evaluation) -> impl Iterator<Item = &Finding> {
    evaluation.findings.iter().filter(|finding| finding.severity == Severity::Blocks)
}

fn is_same(one: &Finding, other: &Finding) -> bool {
    (one.check, &one.is, &one.path) == (other.check, &other.is, &other.path)
}

/// One finding less, no worse verdict, and no reason to refuse that was not there, unless this one hid it.
fn helps(finding: &Finding, before: &Evaluation, after: &Evaluation) -> bool {
    let count =
        |evaluation: &Evaluation| evaluation.findings.iter().filter(|other| is_same(finding, other)).count();
    let hid = |other: &Finding| match finding.check {
        CheckId::ConfigMissing | CheckId::ConfigSyntax | CheckId::ConfigUnreadable | CheckId::NoKeyFiles => {
            !matches!(other.check, CheckId::ConfigSyntax | CheckId::ConfigUnreadable)
        }
        // Without the user nothing else is looked at.
        CheckId::PrivsepUserMissing | CheckId::UserMissing => true,
        CheckId::HostKeysUnusable => {
            matches!(other.check, CheckId::HostKeysMissing | CheckId::HostKeysTooOpen)
        }
        // The keys are looked for in the user's own home from now on.
        _ if matches!(finding.fixed_by, FixedBy::SshdConfig)
            && finding.check >= CheckId::RootDirectoryMode =>
        {
            matches!(other.fixed_by, FixedBy::Key | FixedBy::Permissions)
        }
        // A PAM stack ends with the first refusal.
        CheckId::AccountExpired
        | CheckId::PasswordExpired
        | CheckId::NologinFile
        | CheckId::PamRefuses
        | CheckId::ShadowEntryMissing => {
            other.fixed_by == FixedBy::Account || other.fixed_by == FixedBy::User
        }
        // Without the chroot another shell is asked for.
        CheckId::ChrootUnusable | CheckId::ShellMissing => {
            matches!(other.fixed_by, FixedBy::Account | FixedBy::Permissions)
        }
        _ => false,
    };
    let new = |other: &Finding| !blocking(before).any(|known| known.check == other.check);
    let harm = blocking(after).any(|other| new(other) && !hid(other));
    count(after) < count(before) && after.verdict <= before.verdict && !harm
}

/// The rewriting of a file below /etc; `None` where the edit does not fit it, an error in words where it may not be
/// changed.
pub(super) fn rewrite(
    view: &dyn View,
    file: &Path,
    why: &str,
    edit: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Action>, String> {
    let found = follow(view, file).map_err(|error| format!("{}: {error}", file.display()))?;
    let shown = found.path.display();
    if !found.path.starts_with("/etc") {
        return Err(format!("{} leads to {shown}, which is not changed", file.display()));
    }
    if !found.stat.is_file() || found.stat.nlink != 1 {
        return Err(format!("{shown} is no regular file with one name, and is not changed"));
    }
    let old = view.read(&found.path, TEXT_LIMIT).map_err(|error| format!("{shown}: {error}"))?;
    let stat = found.stat;
    let change = |content| Change::WriteFile {
        before: Before::Regular { ino: stat.ino, size: stat.size, mtime: stat.mtime },
        content,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        xattrs: Vec::new(),
    };
    let new = edit(&old).filter(|new| *new != old);
    Ok(new.map(|content| Action { path: found.path.clone(), change: change(content), why: why.to_owned() }))
}

/// [`rewrite`] as a proposal of one action.
pub(super) fn rewriting(
    view: &dyn View,
    file: &Path,
    why: &str,
    edit: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Proposal {
    rewrite(view, file, why, edit).map(|action| action.into_iter().collect())
}

/// Why an action of this finding is planned.
pub(super) fn why(finding: &Finding) -> String {
    finding.check.meaning().trim_end_matches('.').to_owned()
}
