//! The JSON document, schema 1. Fields may be added; none is renamed or dropped.

use super::{Report, UndoneStep, UserReport, escape};
use crate::error::Refusal;
use crate::finding::{CheckId, Finding, Location, Quote, Severity};
use crate::plan::{Applied, Outcome};
use crate::volume::ListedDisk;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The number of the schema.
pub const SCHEMA: u32 = 1;

/// The document for a report.
#[must_use]
pub fn document(report: &Report) -> Value {
    let unopened = report
        .given
        .as_ref()
        .map(|given| json!({ "given": given, "kind": null, "device": null, "size": null }));
    let target = report.target.as_ref().map(|target| {
        json!({
            "given": target.given,
            "kind": target.kind,
            "device": target.device.as_ref().map(|device| escape::json(device.as_os_str())),
            "size": target.size,
            "format": target.format.map(crate::probe::Format::name),
            "backing": target.backing.iter().map(|one| json!({
                "path": escape::json(one.path.as_os_str()),
                "format": one.format.name(),
            })).collect::<Vec<_>>(),
        })
    });
    let target = target.or(unopened);
    let root = report.root.as_ref().map(|root| {
        json!({
            "filesystem": root.filesystem,
            "uuid": root.uuid,
            "label": root.label,
            "partition": root.partition,
            "logical_volume": root.logical_volume,
            "subvolume": root.subvolume,
            "mounts": root.mounts.iter().map(branch).collect::<Vec<_>>(),
            "os": { "id": root.os_id, "version": root.os_version, "name": root.os_name },
            "sshd": root.sshd,
            "selinux": root.selinux,
            "journal": root.journal,
        })
    });
    json!({
        "schema": SCHEMA,
        "command": report.command,
        "version": env!("CARGO_PKG_VERSION"),
        "run": report.run,
        "accepted_for": report.accepted_for,
        "target": target,
        "root": root,
        "users": report.users.iter().map(|user| self::user(user, report.explain)).collect::<Vec<_>>(),
        "actions": report.actions.iter().map(action).collect::<Vec<_>>(),
        "undoes": report.undoes,
        "undone": report.undone.iter().map(undone).collect::<Vec<_>>(),
        "kept": report.kept.iter().map(|kept| json!({
            "owner": kept.owner,
            "name": report.names.passwd.by_uid(kept.owner).map(|entry| entry.name.to_string()),
            "entries": kept.entries,
            "example": escape::json(kept.example.as_os_str()),
            "former": report.former_ids.iter().find(|(uid, _)| *uid == kept.owner).map(|(_, whose)| whose),
        })).collect::<Vec<_>>(),
        "fsck": report.checked,
        "notes": report.notes,
        "dry_run": report.dry_run,
        "predicted": report.predicted.iter().map(|verdict| verdict.word()).collect::<Vec<_>>(),
        "shell_status": report.shell_status,
        "unmount": report.unmount.word(),
        "report": report.page.as_ref().map(|page| escape::json(page.as_os_str())),
        "error": report.error.as_ref().map(error),
    })
}

/// The document of a run that ended before there was anything else to say.
#[must_use]
pub fn failure(command: &'static str, refusal: &Refusal) -> Value {
    failure_of(command, None, refusal)
}

/// The same, for a target that was not even tried.
#[must_use]
pub fn failure_of(command: &'static str, given: Option<String>, refusal: &Refusal) -> Value {
    document(&Report { command, given, error: Some(refusal.clone()), ..Report::default() })
}

/// The document as text, on one line or spread out. What a terminal would obey or hide is written as `\\uNNNN`, which
/// means the same to a machine.
#[must_use]
pub fn to_text(value: &Value, spread: bool) -> String {
    let plain = if spread { format!("{value:#}\n") } else { format!("{value}\n") };
    if !plain.chars().any(|c| c != '\n' && escape::is_invisible(c)) {
        return plain;
    }
    let mut out = String::with_capacity(plain.len() + 64);
    for c in plain.chars() {
        if c == '\n' || !escape::is_invisible(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// The disks of `list`.
#[must_use]
pub fn list(disks: &[ListedDisk]) -> Value {
    json!({ "schema": SCHEMA, "command": "list", "version": env!("CARGO_PKG_VERSION"), "disks": disks, "error": null })
}

/// The table of all checks.
#[must_use]
pub fn checks() -> Value {
    let checks: Vec<Value> = CheckId::ALL
        .iter()
        .map(|check| json!({ "check": check.name(), "meaning": check.meaning(), "fixed_by": check.fixed_by().word() }))
        .collect();
    json!({ "schema": SCHEMA, "command": "checks", "version": env!("CARGO_PKG_VERSION"), "checks": checks })
}

/// The `error` field.
#[must_use]
pub fn error(refusal: &Refusal) -> Value {
    json!({ "code": refusal.code.number(), "message": refusal.message, "hint": refusal.hint })
}

fn user(user: &UserReport, explain: bool) -> Value {
    let last = user.last();
    let mut value = json!({
        "name": user.name,
        "uid": last.user.as_ref().map(|entry| entry.uid),
        "chosen_by": user.chosen_by,
        "verdict": user.verdict().word(),
        "findings": last.findings.iter().map(finding).collect::<Vec<_>>(),
        "unknown": last.unknown,
        "keys": last.keys.iter().map(|key| json!({
            "fingerprint": key.fingerprint,
            "algorithm": key.algorithm,
            "verdict": key.verdict.word(),
            "found": key.found.as_ref().map(location),
            "stands": key.stands.as_ref().map(location),
        })).collect::<Vec<_>>(),
        "key_files": last.key_files.iter().map(|file| escape::json(file.path.as_os_str())).collect::<Vec<_>>(),
    });
    if user.after.is_some() {
        value["before"] = json!({
            "verdict": user.before.verdict.word(),
            "findings": user.before.findings.iter().map(finding).collect::<Vec<_>>(),
        });
    }
    if let Some(proof) = &user.proof {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        value["proof"] = json!({
            "verdict": user.verdict().word(),
            "key": if proof.own_key { "given" } else { "made" },
            "status": proof.login.status,
            "ended": proof.login.ended,
            "client": lines(&proof.login.client),
            "server": lines(&proof.login.server),
        });
    }
    if explain {
        let steps = last.trace.iter();
        value["trace"] = steps
            .map(|step| {
                json!({
                    "step": step.step,
                    "detail": step.detail,
                    "passed": step.passed,
                    "file": step.at.as_ref().map(|at| escape::json(at.file.as_os_str())),
                    "line": step.at.as_ref().map(|at| at.line),
                    "column": step.quote.as_ref().map(|quote| quote.column),
                    "quote": step.quote.as_deref().map(quote),
                })
            })
            .collect();
    }
    value
}

fn location(at: &Location) -> Value {
    json!({ "file": escape::json(at.file.as_os_str()), "line": at.line })
}

fn finding(finding: &Finding) -> Value {
    json!({
        "check": finding.check.name(),
        "severity": match finding.severity {
            Severity::Blocks => "blocks",
            Severity::Advises => "advises",
        },
        "path": finding.path.as_ref().map(|path| escape::json(path.as_os_str())),
        "line": finding.line,
        "column": finding.quote.as_ref().map(|quote| quote.column),
        "quote": finding.quote.as_deref().map(quote),
        "is": finding.is,
        "wants": finding.wants,
        "sshd_says": finding.sshd_says,
        "fixed_by": finding.fixed_by.word(),
    })
}

/// The line, and which of its characters are meant: from the first to before the last.
fn quote(quote: &Quote) -> Value {
    let from = quote.before.chars().count();
    let text = format!("{}{}{}", quote.before, quote.marked, quote.after);
    json!({ "text": text, "from": from, "to": from + quote.marked.chars().count() })
}

fn outcome(outcome: &Outcome) -> (&'static str, Option<&String>) {
    match outcome {
        Outcome::Planned => ("planned", None),
        Outcome::Changed => ("changed", None),
        Outcome::Unchanged => ("unchanged", None),
        Outcome::Skipped(why) => ("skipped", Some(why)),
        Outcome::Failed(why) => ("failed", Some(why)),
    }
}

fn branch(branch: &crate::volume::Branch) -> Value {
    json!({
        "point": escape::json(branch.point.as_os_str()),
        "filesystem": branch.filesystem,
        "uuid": branch.uuid,
        "label": branch.label,
        "partition": branch.partition,
        "logical_volume": branch.logical_volume,
        "subvolume": branch.subvolume,
        "device": branch.device.as_ref().map(|device| escape::json(device.as_os_str())),
    })
}

fn undone(step: &UndoneStep) -> Value {
    let (word, reason) = outcome(&step.outcome);
    json!({
        "action": step.what,
        "path": escape::json(step.path.as_os_str()),
        "to": step.back_to,
        "outcome": word,
        "reason": reason,
        "entries": step.entries,
    })
}

fn action(applied: &Applied) -> Value {
    let (from, to) = applied.action.change.from_to();
    let (outcome, reason) = outcome(&applied.outcome);
    json!({
        "action": applied.action.change.word(),
        "path": escape::json(applied.action.path.as_os_str()),
        "from": from,
        "to": to,
        "outcome": outcome,
        "why": applied.action.why,
        "reason": reason,
        "entries": applied.entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_cannot_turn_the_text_of_a_terminal() {
        let value = json!({ "path": "a\u{202e}b\u{1d173}\u{1b}" });
        let text = to_text(&value, true);
        assert!(text.is_ascii(), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
