//! PAM, as sshd asks it for a login by key: `pam_acct_mgmt`, then `pam_open_session`. The auth stack is never run.

use super::Case;
use super::account::at_setting;
use crate::accounts::PasswdEntry;
use crate::finding::{CheckId, Finding};
use bstr::ByteSlice;
use modules::Answer;
use stack::{Code, End, Fault, Kind, Loaded, Rule};

mod limits;
mod modules;
mod stack;

pub(super) fn check(case: &mut Case<'_>, user: &PasswdEntry) {
    if !case.effective.use_pam.value {
        return;
    }
    let name = &case.effective.pam_service_name.value;
    let service = if name.is_empty() { "sshd".to_owned() } else { name.to_str_lossy().into_owned() };
    let loaded = match stack::load(case.view, &service) {
        Ok(loaded) => loaded,
        Err(fault) => {
            case.traced("PAM", format!("{}: {}", fault.file.display(), fault.why), false);
            unreadable(case, fault);
            return;
        }
    };
    stage(case, user, &loaded, Kind::Account);
    stage(case, user, &loaded, Kind::Session);
}

fn unreadable(case: &mut Case<'_>, fault: Fault) {
    let on_line = |mut finding: Finding| {
        finding.line = fault.line;
        finding.at(&fault.file).wants("a stack that libpam can read")
    };
    match fault.end {
        End::Open => {
            let missing = format!("the rules in {}: {}", fault.file.display(), fault.why);
            case.doubt(on_line(Finding::advises(CheckId::PamUndecided)).is(fault.why), missing);
        }
        // sshd says nothing while it waits.
        End::Hangs => case.refuse(on_line(Finding::blocks(CheckId::PamRefuses)).is(fault.why)),
        End::Fails => {
            let finding = on_line(Finding::blocks(CheckId::PamRefuses)).is(fault.why);
            case.refuse(finding.says("fatal: PAM: initialisation failed"));
        }
    }
}

fn stage(case: &mut Case<'_>, user: &PasswdEntry, loaded: &Loaded, kind: Kind) {
    let rules = loaded.rules(kind);
    let host = modules::Host::of(case, user, kind);
    let answers: Vec<Answer> = rules.iter().map(|rule| host.ask(rule)).collect();
    // A module that cannot be judged from the disk may allow, refuse or stand aside; where all of that leads to the
    // same end, it does not matter.
    let outcomes = [Code::SUCCESS, Code::PERM_DENIED, Code::IGNORE].map(|guess| {
        stack::dispatch(rules, |at| match &answers[at] {
            Answer::Returns(code, _) => *code,
            Answer::Undecided(_) => guess,
        })
    });
    // A password that must be changed is let through here, and ends the session without a terminal (auth-pam.c).
    let passes = |outcome: &stack::Outcome| outcome.code == Code::SUCCESS;
    let decided = outcomes.iter().all(|outcome| outcome.code == outcomes[0].code);
    let step = format!("PAM {} of {}", kind.word(), loaded.service);
    if decided {
        let passed = passes(&outcomes[0]);
        for (at, code) in &outcomes[0].asked {
            let rule = &rules[*at];
            let detail = format!("{} says {}", rule.words(), code.name());
            case.traced_at(&step, Some(&rule.at), rule.module(), detail, !rule.counts(*code));
        }
        case.traced(step, if passed { "lets the user in" } else { "refuses" }, passed);
        if !passed {
            let findings = refusals(case, loaded, rules, &answers, &outcomes[0], kind);
            for finding in findings {
                case.refuse(finding);
            }
        }
        return;
    }
    if !outcomes.iter().any(passes) {
        let findings = refusals(case, loaded, rules, &answers, &outcomes[0], kind);
        for finding in findings {
            case.refuse(finding);
        }
        return;
    }
    case.traced(step, "hangs on what is not on the disk", true);
    for (rule, answer) in rules.iter().zip(&answers) {
        let Answer::Undecided(why) = answer else { continue };
        let finding = Finding::advises(CheckId::PamUndecided)
            .at(&rule.at.file)
            .on_line(rule.at.line)
            .is(rule.words())
            .wants("a module whose answer is on the disk");
        case.doubt(finding, format!("{why} ({})", rule.at));
    }
}

fn refusals(
    case: &Case<'_>,
    loaded: &Loaded,
    rules: &[Rule],
    answers: &[Answer],
    outcome: &stack::Outcome,
    kind: Kind,
) -> Vec<Finding> {
    let name = case.name();
    let says = match (kind, outcome.code) {
        (Kind::Account, Code::NEW_AUTHTOK_REQD) => {
            "Password change required but no TTY available.".to_owned()
        }
        (Kind::Account, _) => format!("Access denied for user {name} by PAM account configuration [preauth]"),
        (Kind::Session, code) => format!("PAM: pam_open_session(): {}", code.words()),
    };
    let mut findings = Vec::new();
    for (at, code) in &outcome.asked {
        if matches!(*code, Code::SUCCESS | Code::IGNORE) {
            continue;
        }
        if let Answer::Returns(_, Some(finding)) = &answers[*at]
            && (finding.check != CheckId::PamRefuses || rules[*at].counts(*code))
        {
            findings.push((**finding).clone().says(&says));
        }
    }
    if findings.is_empty() {
        // The rule itself is at fault where it takes whatever the module answers for a refusal.
        let failed = || {
            let failed = |(_, code): &&(usize, Code)| !matches!(*code, Code::SUCCESS | Code::IGNORE);
            outcome.asked.iter().rev().find(failed).map(|(at, _)| *at)
        };
        let finding = Finding::blocks(CheckId::PamRefuses).wants("a stack that lets the user in").says(says);
        let finding = match outcome.turned.or_else(failed) {
            Some(at) => {
                let rule = &rules[at];
                finding.at(&rule.at.file).on_line(rule.at.line).is(rule.words())
            }
            None => {
                let file = loaded.file(kind);
                let is = format!("no {} rule says yes", kind.word());
                match file {
                    Some(file) => finding.at(file).is(is),
                    None => at_setting(finding, &case.effective.use_pam).is(is),
                }
            }
        };
        findings.push(finding);
    }
    findings
}
