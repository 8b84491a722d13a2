//! The verdict on one user: the keys, the path as `namei -l` shows it with a mark on each line, the findings.

use super::layout::{pad, wrap};
use super::{BOLD, GREEN, RED, YELLOW};
use crate::finding::{CheckId, Finding, FixedBy, Location, Quote, Severity, Verdict};
use crate::plan::Outcome;
use crate::report::output::Style;
use crate::report::{Names, Report, UserReport, escape};
use crate::sshd::Evaluation;
use crate::sshd::evaluate::PathNode;
use crate::view::Stat;
use std::fmt::Write as _;
use std::path::Path;
use unicode_width::UnicodeWidthStr;

/// The diagnosis of one user.
#[must_use]
pub fn diagnosis(user: &UserReport, answer: &Evaluation, report: &Report, style: Style) -> String {
    let mut out = String::new();
    let verdict = match answer.verdict {
        Verdict::Accept => style.paint(GREEN, "sshd accepts"),
        Verdict::Refuse => style.paint(RED, "sshd REFUSES"),
        Verdict::Unknown => style.paint(YELLOW, "UNKNOWN whether sshd accepts"),
    };
    let head = format!(
        "{}: {verdict} ({})",
        style.paint(BOLD, &escape::words(&user.name)),
        escape::words(&user.chosen_by)
    );
    let _ = writeln!(out, "\n{}", wrap(&head, 0, 2, style));
    for key in &answer.keys {
        let at = |at: &Location| format!("{}:{}", escape::path(&at.file), at.line);
        let found = match (&key.found, &key.stands) {
            (Some(found), _) => format!("in {}", at(found)),
            (None, Some(stands)) if key.verdict == Verdict::Unknown => {
                format!("in {}; whether sshd takes it from there is not known here", at(stands))
            }
            (None, Some(stands)) => format!("in {}, but sshd does not take it from there", at(stands)),
            (None, None) => "in no file that sshd would read".into(),
        };
        let (mark, code) = mark_of(key.verdict);
        let _ = writeln!(
            out,
            "{}",
            wrap(
                &format!("{}  key {} {}: {found}", style.paint(code, mark), key.algorithm, key.fingerprint),
                2,
                6,
                style
            )
        );
    }
    for reason in &answer.unknown {
        let _ = writeln!(
            out,
            "{}",
            wrap(&format!("{}  {}", style.paint(YELLOW, "??"), escape::words(reason)), 2, 6, style)
        );
    }
    if answer.unknown.iter().any(|reason| reason.contains("client's address")) {
        let hint = "to judge for one client: volrescue diagnose --from ADDRESS";
        let _ = writeln!(out, "{}", wrap(hint, 6, 6, style));
    }
    // A wrong user name is the first cause to think of.
    if answer.findings.iter().any(|finding| finding.check == CheckId::UserMissing) {
        out.push_str(&accepted_for(report, style));
    }
    let mut shown = vec![false; answer.findings.len()];
    let widths = owner_widths(answer, &report.names);
    for (depth, node) in answer.path.iter().enumerate() {
        let here: Vec<usize> = (0..answer.findings.len())
            .filter(|at| !shown[*at] && answer.findings[*at].path.as_deref() == Some(node.path.as_path()))
            .collect();
        out.push_str(&path_line(node, depth, &here, answer, &report.names, widths, style));
        for at in here {
            shown[at] = true;
            out.push_str(&finding(&answer.findings[at], false, style));
        }
    }
    for (at, other) in answer.findings.iter().enumerate() {
        if !shown[at] {
            out.push_str(&finding(other, true, style));
        }
    }
    if answer.verdict != Verdict::Accept
        && !answer.findings.iter().any(|finding| finding.check == CheckId::UserMissing)
    {
        out.push_str(&accepted_for(report, style));
    }
    if report.explain {
        let _ = writeln!(out, "  What sshd does, step by step:");
        for step in &answer.trace {
            let mark = if step.passed { style.paint(GREEN, "ok") } else { style.paint(RED, "NO") };
            let place = step.at.as_ref().map_or_else(String::new, |at| {
                let column =
                    step.quote.as_ref().map_or_else(String::new, |quote| format!(":{}", quote.column));
                format!(" ({}:{}{column})", escape::path(&at.file), at.line)
            });
            let text =
                format!("{mark}  {}: {}{place}", escape::words(&step.step), escape::words(&step.detail));
            let _ = writeln!(out, "{}", wrap(&text, 4, 8, style));
            if let Some(quote) = step.quote.as_ref().filter(|_| !step.passed) {
                out.push_str(&quoted(quote, 10, style));
            }
        }
    }
    out
}

/// Who else would be let in, in a line.
fn accepted_for(report: &Report, style: Style) -> String {
    if report.accepted_for.is_empty() {
        return String::new();
    }
    let names = report.accepted_for.iter().map(|name| escape::words(name)).collect::<Vec<_>>().join(", ");
    format!("{}\n", wrap(&format!("This key would be accepted for: {names}"), 2, 4, style))
}

/// The verdict after a repair: in a line where all is well, whole where something is left.
#[must_use]
pub fn result(user: &UserReport, report: &Report, style: Style) -> String {
    let answer = user.last();
    if answer.verdict != Verdict::Accept {
        if report.actions.iter().any(|one| one.outcome == Outcome::Changed) {
            return diagnosis(user, answer, report, style);
        }
        // What was found before is all there is to say.
        let (words, code) = match answer.verdict {
            Verdict::Refuse => ("sshd REFUSES, as above", RED),
            _ => ("UNKNOWN whether sshd accepts, as above", YELLOW),
        };
        let line = format!("{}: {}", style.paint(BOLD, &escape::words(&user.name)), style.paint(code, words));
        return format!("\n{}\n", wrap(&line, 0, 2, style));
    }
    let was =
        if user.before.verdict == Verdict::Accept { "sshd accepts, as before" } else { "sshd accepts now" };
    let line = format!("{}: {}", style.paint(BOLD, &escape::words(&user.name)), style.paint(GREEN, was));
    let mut out = format!("\n{}\n", wrap(&line, 0, 2, style));
    for other in &answer.findings {
        out.push_str(&finding(other, true, style));
    }
    out
}

/// What a plan would lead to, user by user.
#[must_use]
pub fn predicted(report: &Report, style: Style) -> String {
    let mut out = String::new();
    for (user, verdict) in report.users.iter().zip(&report.predicted) {
        let (words, code) = match verdict {
            Verdict::Accept => ("sshd would accept after this", GREEN),
            Verdict::Refuse => ("sshd would still refuse after this: not all of it can be mended so", RED),
            Verdict::Unknown => ("it would stay unknown whether sshd accepts", YELLOW),
        };
        let line = format!("{}: {}", style.paint(BOLD, &escape::words(&user.name)), style.paint(code, words));
        let _ = write!(out, "\n{}\n", wrap(&line, 0, 2, style));
    }
    out
}

pub(super) fn mark_of(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Accept => ("ok", GREEN),
        Verdict::Refuse => ("NO", RED),
        Verdict::Unknown => ("??", YELLOW),
    }
}

fn owner_widths(answer: &Evaluation, names: &Names) -> (usize, usize) {
    let stats = answer.path.iter().filter_map(|node| node.stat);
    stats.fold((4, 4), |(users, groups), stat| {
        let user = escape::words(&names.user(stat.uid)).width();
        let group = escape::words(&names.group(stat.gid)).width();
        (users.max(user.min(16)), groups.max(group.min(16)))
    })
}

fn path_line(
    node: &PathNode,
    depth: usize,
    here: &[usize],
    answer: &Evaluation,
    names: &Names,
    (users, groups): (usize, usize),
    style: Style,
) -> String {
    let worst = here.iter().map(|at| answer.findings[*at].severity).min();
    let mark = match worst {
        Some(Severity::Blocks) => style.paint(RED, "NO"),
        Some(Severity::Advises) => style.paint(YELLOW, " !"),
        None if node.stat.is_none() => style.paint(RED, "NO"),
        None => style.paint(GREEN, "ok"),
    };
    let name = if node.path == Path::new("/") {
        "/".into()
    } else {
        node.path.file_name().map_or_else(String::new, |name| escape::path(Path::new(name)))
    };
    let indent = " ".repeat(depth.min(12) * 2);
    match &node.stat {
        None => format!("  {mark}  {:10} {:users$} {:groups$} {indent}{name}\n", "missing", "-", "-"),
        Some(stat) => {
            let link =
                node.link.as_ref().map_or_else(String::new, |target| format!(" -> {}", escape::path(target)));
            format!(
                "  {mark}  {} {} {} {indent}{name}{link}\n",
                letters(stat),
                pad(&escape::words(&names.user(stat.uid)), users),
                pad(&escape::words(&names.group(stat.gid)), groups)
            )
        }
    }
}

/// "drwxr-xr-x", as ls -l.
pub(in crate::report) fn letters(stat: &Stat) -> String {
    let mut out = String::from(stat.kind.letter());
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = stat.mode >> shift & 7;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (stat.mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// A finding below its line of the path, or with its own mark and path.
pub(super) fn finding(finding: &Finding, alone: bool, style: Style) -> String {
    let mut out = String::new();
    let meaning = finding.check.meaning();
    if alone {
        let mark = match finding.severity {
            Severity::Blocks => style.paint(RED, "NO"),
            Severity::Advises => style.paint(YELLOW, " !"),
        };
        let place = finding.path.as_ref().map_or_else(String::new, |path| {
            let line = finding.line.map_or_else(String::new, |line| format!(":{line}"));
            let column =
                finding.quote.as_ref().map_or_else(String::new, |quote| format!(":{}", quote.column));
            format!("{}{line}{column}: ", escape::path(path))
        });
        let _ = writeln!(
            out,
            "{}",
            wrap(&format!("{mark}  {place}{meaning} [{}]", finding.check.name()), 2, 6, style)
        );
    } else {
        let column =
            finding.quote.as_ref().map_or_else(String::new, |quote| format!(", column {}", quote.column));
        let line = finding.line.map_or_else(String::new, |line| format!("line {line}{column}: "));
        let _ =
            writeln!(out, "{}", wrap(&format!("{line}{meaning} [{}]", finding.check.name()), 6, 8, style));
    }
    if let Some(quote) = &finding.quote {
        out.push_str(&quoted(quote, 10, style));
    }
    let mut facts = Vec::new();
    if !finding.is.is_empty() {
        facts.push(format!("is {}", escape::words(&finding.is)));
    }
    if !finding.wants.is_empty() {
        facts.push(format!("wants {}", escape::words(&finding.wants)));
    }
    if !facts.is_empty() {
        let _ = writeln!(out, "{}", wrap(&facts.join("; "), 8, 10, style));
    }
    if let Some(says) = &finding.sshd_says {
        let _ = writeln!(out, "{}", wrap(&format!("sshd logs: {}", escape::words(says)), 8, 10, style));
    }
    if let Some(fix) = fix_words(finding) {
        let _ = writeln!(out, "{}", wrap(&format!("fixed by: {fix}"), 8, 10, style));
    }
    out
}

/// The line, and below it a caret under the place.
fn quoted(quote: &Quote, indent: usize, style: Style) -> String {
    let blank = " ".repeat(indent);
    let (before, marked) = (escape::words(&quote.before), escape::words(&quote.marked));
    let under = format!("^{}", "~".repeat(marked.width().saturating_sub(1)));
    let gap = " ".repeat(before.width());
    let line = format!("{before}{marked}{}", escape::words(&quote.after));
    format!("{blank}{}\n{blank}{gap}{}\n", line.trim_end(), style.paint(YELLOW, &under))
}

/// The option that mends a finding; where there is none, the way on.
pub(in crate::report) fn fix_words(finding: &Finding) -> Option<&'static str> {
    Some(match finding.fixed_by {
        FixedBy::Permissions => "volrescue repair",
        FixedBy::Key => "volrescue repair --key FILE",
        FixedBy::User => "volrescue repair --create-user",
        FixedBy::HostKeys => "volrescue repair --fix host-keys",
        FixedBy::SshdConfig => "volrescue repair --fix sshd-config",
        FixedBy::Account => "volrescue repair --fix account",
        FixedBy::Service => "volrescue repair --fix service",
        FixedBy::System => "volrescue repair --fix system",
        FixedBy::Nothing if finding.severity == Severity::Blocks => way_on(finding.check),
        FixedBy::Nothing => return None,
    })
}

/// What a person can do where volrescue does nothing.
fn way_on(check: CheckId) -> &'static str {
    use CheckId as C;
    match check {
        C::SshdMissing | C::SshdBroken | C::SshdHelperMissing => {
            "nothing here: install the package with the SSH server again"
        }
        C::KeyLineCommand | C::KeyLineRefuses => {
            "nothing here, for the line is policy: take another key or account, or edit the line (volrescue shell \
             --writable)"
        }
        C::HomeMissing | C::HomeNotDirectory | C::KeyFileLinkBroken => {
            "nothing here: make the directory or give the user another home in passwd (volrescue shell --writable), or \
             attach the volume that holds it (--with)"
        }
        C::KeyFileUnreadable | C::KeyFileWrongOwner | C::KeyFileWritableByOthers => {
            "nothing here, for the file is not the user's alone: put a copy in its place (volrescue shell --writable), \
             then repair"
        }
        C::KeyAbsent | C::KeyFileMissing | C::KeyFileEmpty | C::SshDirNotDirectory | C::PathNotDirectory => {
            "nothing here: no file of keys can take it; move what is in the way (volrescue shell --writable), then \
             repair --key FILE"
        }
        _ => "nothing that volrescue does: it needs your decision",
    }
}
