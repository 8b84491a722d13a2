//! What a finding promises is what a repair does: a diagnosis is held against the plan that it would lead to.

use super::overlay::Overlay;
use super::{Plan, TreePolicy, Wish, build};
use crate::finding::{CheckId, Finding, FixedBy, Severity};
use crate::keys::{KeyForm, PublicKey, read_key};
use crate::os::OsFacts;
use crate::sshd::evaluate::{Client, Evaluation, Question};
use crate::view::{View, follow};
use std::path::{Path, PathBuf};

/// A key that nobody has, for a diagnosis without one: it stands for the key that a repair would be given.
const STAND_IN: &[u8] = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n";

/// A plan asks dozens of times what sshd would say. With account files, configuration or keys of more bytes than this the
/// promises stay as the checks have them, rather than that a diagnosis takes minutes.
const PLANNED: u64 = 256 << 10;

/// Corrects the findings of an evaluation by the plans that it would lead to: what not even a repair with every option
/// would mend is mended by nothing, what a repair brings is what the finding wants, and advice that a plain repair would
/// not follow, because sshd would then refuse or another's directory is not touched, is not given.
pub fn keep(view: &dyn View, os: &OsFacts, answer: &mut Evaluation, question: &Question<'_>) {
    let promised = |finding: &Finding| !matches!(finding.fixed_by, FixedBy::Nothing | FixedBy::HostKeys);
    if !answer.findings.iter().any(promised) || bytes_asked(view, answer) > PLANNED {
        return;
    }
    let plain = Outlook::of(view, plan(view, os, question, &[], false));
    let classes = [FixedBy::SshdConfig, FixedBy::Account, FixedBy::Service, FixedBy::System];
    let whole =
        plan(view, os, question, &classes, true).or_else(|| plan(view, os, question, &classes, false));
    let whole = Outlook::of(view, whole);
    let (Some(plain), Some(whole)) = (plain, whole) else { return };
    answer.findings.retain_mut(|finding| {
        if !promised(finding) {
            return true;
        }
        let advice = finding.severity == Severity::Advises && is_documented_mode(finding.check);
        if advice && plain.leaves(finding) {
            return false;
        }
        if whole.leaves(finding) {
            finding.fixed_by = FixedBy::Nothing;
        } else if finding.fixed_by == FixedBy::Permissions && !plain.leaves(finding) {
            settle_wants(view, &plain.after, finding);
        } else {
            settle_wants(view, &whole.after, finding);
        }
        true
    });
}

/// How much there is to read each time that sshd's answer is asked for.
fn bytes_asked(view: &dyn View, answer: &Evaluation) -> u64 {
    let fixed = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/ssh/sshd_config"].map(Path::new);
    let snippets = Path::new("/etc/ssh/sshd_config.d");
    let snippets: Vec<PathBuf> =
        view.list(snippets).unwrap_or_default().iter().map(|name| snippets.join(name)).collect();
    let files = fixed.into_iter().chain(answer.key_files.iter().map(|file| file.path.as_path()));
    let files = files.chain(snippets.iter().map(PathBuf::as_path));
    files.map(|path| follow(view, path).map_or(0, |found| found.stat.size)).sum()
}

/// What a plan leads to.
struct Outlook<'a> {
    after: Overlay<'a>,
    left: Vec<Finding>,
}

impl<'a> Outlook<'a> {
    fn of(view: &'a dyn View, plan: Option<Plan>) -> Option<Self> {
        let plan = plan?;
        let mut after = Overlay::new(view);
        plan.actions.iter().for_each(|action| after.apply(action));
        Some(Self { after, left: plan.predicted.into_iter().next()?.findings })
    }

    fn leaves(&self, finding: &Finding) -> bool {
        self.left.iter().any(|other| is_same(finding, other))
    }
}

/// The plan with these classes of `--fix`; `None` where the user's entry can't be put back.
fn plan(
    view: &dyn View,
    os: &OsFacts,
    question: &Question<'_>,
    classes: &[FixedBy],
    create_user: bool,
) -> Option<Plan> {
    let mut keys = question.keys.to_vec();
    if keys.is_empty() {
        keys.extend(stand_in());
    }
    let wish = Wish {
        keys,
        create_user,
        sudo: false,
        minimal: false,
        tree: TreePolicy::Tree { also: Vec::new() },
        host_keys: Vec::new(),
        fix: classes.to_vec(),
        now: question.now,
        client: Client { address: question.address, host: question.host.clone() },
    };
    build(view, os, std::slice::from_ref(&question.user), &wish).ok()
}

fn stand_in() -> Option<PublicKey> {
    match read_key(STAND_IN) {
        Ok(KeyForm::Public(keys)) => keys.into_iter().next(),
        _ => None,
    }
}

fn is_same(finding: &Finding, other: &Finding) -> bool {
    (finding.check, &finding.path, finding.severity) == (other.check, &other.path, other.severity)
        && finding.line.is_some() == other.line.is_some()
}

/// Checks that ask for the documented tree where sshd accepts another.
fn is_documented_mode(check: CheckId) -> bool {
    matches!(
        check,
        CheckId::RootDirectoryMode
            | CheckId::HomeParentMode
            | CheckId::HomeMode
            | CheckId::SshDirMode
            | CheckId::KeyFileMode
    )
}

/// Mode and owner as the plan leaves them, where the finding is about those.
fn settle_wants(view: &dyn View, after: &dyn View, finding: &mut Finding) {
    let Some(path) = finding.path.as_deref().filter(|_| finding.line.is_none()) else { return };
    let (Ok(was), Ok(will)) = (view.lstat(path), after.lstat(path)) else { return };
    if finding.is == was.mode_owner() && will.kind == was.kind && will.mode_owner() != finding.is {
        finding.wants = will.mode_owner();
    }
}
