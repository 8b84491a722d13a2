//! Text for people: the volume in two lines, the path as `namei -l` shows it with a mark on each line, the plan, what
//! became of it, and the next step. Fits 80 columns.

use super::escape;
use super::output::Style;
use super::{Names, Proof, Report, Unmount, UserReport};
use crate::error::Refusal;
use crate::finding::{CheckId, Finding, FixedBy, Location, Quote, Severity, Verdict};
use crate::plan::{Applied, Change, Outcome};
use crate::sshd::Evaluation;
use crate::view::Stat;
use crate::volume::{Health, ListedDisk, ListedPart, RootCandidate};
use std::fmt::Write as _;
use std::path::Path;
use unicode_width::UnicodeWidthStr;

const RED: &str = "31;1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// The volume: what was opened, which filesystem is its root, what system it holds.
#[must_use]
pub fn volume(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let Some(target) = &report.target else { return out };
    let mut line = escape::words(&target.given);
    if let Some(device) = target.device.as_ref().filter(|device| device.to_string_lossy() != target.given) {
        let _ = write!(line, " ({})", escape::path(device));
    }
    if let Some(size) = target.size {
        let _ = write!(line, ", {}", bytes(size));
    }
    if let Some(format) = target.format {
        let _ = write!(line, ", {} image", format.name());
    }
    let below = target.backing.iter().fold(String::new(), |mut below, one| {
        let line = format!("over {} ({}), which is not written", escape::path(&one.path), one.format.name());
        let _ = writeln!(below, "{}", wrap(&line, 2, 4, style));
        below
    });
    if let Some(root) = &report.root {
        if let Some(partition) = root.partition {
            let _ = write!(line, ", partition {partition}");
        }
        if let Some(logical) = &root.logical_volume {
            let _ = write!(line, ", logical volume {}", escape::words(logical));
        }
        if !root.filesystem.is_empty() {
            let _ = write!(line, ", {}", root.filesystem);
        }
        if let Some(subvolume) = &root.subvolume {
            let _ = write!(line, ", subvolume {}", escape::words(subvolume));
        }
        if let Some(label) = root.label.as_ref().filter(|label| !label.is_empty()) {
            let _ = write!(line, ", label {}", escape::words(label));
        }
        let name = root.os_name.as_deref().or(root.os_id.as_deref()).unwrap_or("unknown system");
        let sshd =
            root.sshd.as_deref().map_or("no sshd found".to_owned(), |version| format!("OpenSSH {version}"));
        let second = format!(
            "{}, {sshd}, SELinux {}, journal {}",
            escape::words(name),
            root.selinux,
            if root.journal.is_empty() { "clean" } else { root.journal }
        );
        let _ = writeln!(out, "{}", wrap(&style.paint(BOLD, &line), 0, 2, style));
        out.push_str(&below);
        let _ = writeln!(out, "{}", wrap(&second, 2, 2, style));
        for branch in &root.mounts {
            let _ = writeln!(out, "{}", wrap(&mounted(branch), 2, 4, style));
        }
        report.checked.iter().for_each(|one| out.push_str(&checked(one, style)));
    } else {
        let _ = writeln!(out, "{}", wrap(&style.paint(BOLD, &line), 0, 2, style));
        out.push_str(&below);
    }
    out
}

/// A filesystem below the root.
fn mounted(branch: &crate::volume::Branch) -> String {
    let mut line = format!("{}: {}", escape::path(&branch.point), branch.filesystem);
    let texts = [
        ("logical volume", &branch.logical_volume),
        ("subvolume", &branch.subvolume),
        ("label", &branch.label),
    ];
    for (name, text) in texts {
        let name = if branch.filesystem == "bind" { "of" } else { name };
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            let _ = write!(line, ", {name} {}", escape::words(text));
        }
    }
    match (branch.partition, &branch.device) {
        (Some(partition), Some(device)) => {
            let _ = write!(line, ", partition {partition} of {}", escape::path(device));
        }
        (Some(partition), None) => {
            let _ = write!(line, ", partition {partition}");
        }
        (None, Some(device)) => {
            let _ = write!(line, ", {}", escape::path(device));
        }
        (None, None) => {}
    }
    line
}

/// What a filesystem's own checker came to, in its own words where it mended something.
fn checked(one: &crate::volume::Checked, style: Style) -> String {
    let outcome = match one.outcome {
        Health::Clean => style.paint(GREEN, "nothing to mend"),
        Health::Repaired => style.paint(YELLOW, "mended"),
    };
    let line = format!("{} on {}: {outcome}", one.command, escape::words(&one.place));
    let mut out = format!("{}\n", wrap(&line, 2, 4, style));
    if one.outcome == Health::Repaired {
        for line in one.said.iter().skip(one.said.len().saturating_sub(TRANSCRIPT)) {
            let _ = writeln!(out, "      {}", escape::words(line));
        }
    }
    out
}

/// A remark, on lines of its own.
#[must_use]
pub fn note(text: &str, style: Style) -> String {
    format!("{}\n", wrap(&format!("note: {}", escape::words(text)), 0, 6, style))
}

/// The most lines of a transcript that are shown to people.
const TRANSCRIPT: usize = 40;

/// What a login came to, in a sentence.
pub(super) fn proof_words(proof: &Proof) -> String {
    let with = if proof.own_key { "the given key" } else { "a key made for this login" };
    match (&proof.login.ended, proof.login.status) {
        _ if proof.login.accepted => format!("logged in through the volume's own sshd with {with}"),
        (Some(why), _) => format!("the login with {with} was ended: {why}"),
        (None, Some(status)) => {
            format!("the login with {with} failed through the volume's own sshd (ssh ended with {status})")
        }
        (None, None) => format!("the login with {with} failed: ssh was killed"),
    }
}

/// What a login through the volume's own sshd came to; the transcript where it failed.
#[must_use]
pub fn proof(user: &UserReport, style: Style) -> String {
    let Some(proof) = &user.proof else { return String::new() };
    let (mark, code) = mark_of(user.verdict());
    let what = proof_words(proof);
    let line = format!(
        "{}  {}: {}",
        style.paint(code, mark),
        style.paint(BOLD, &escape::words(&user.name)),
        escape::words(&what)
    );
    let mut out = format!("\n{}\n", wrap(&line, 2, 6, style));
    if proof.login.accepted {
        return out;
    }
    for (who, text) in [("ssh", &proof.login.client), ("sshd", &proof.login.server)] {
        // Of sshd's debugging what tells about keys; the JSON document has all of it.
        let told = |line: &&str| {
            let of_keys = ["key file", "keys", "options", "Match", "checking"];
            !line.starts_with("Warning: Permanently added")
                && (!line.starts_with("debug") || of_keys.iter().any(|word| line.contains(word)))
        };
        let lines: Vec<&str> = text.lines().filter(told).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TRANSCRIPT)) {
            let line = format!("{who}: {}", escape::words(line.trim_end()));
            let _ = writeln!(out, "{}", wrap(&line, 6, 10, style));
        }
    }
    out
}

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

fn mark_of(verdict: Verdict) -> (&'static str, &'static str) {
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
    node: &crate::sshd::evaluate::PathNode,
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

fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// "drwxr-xr-x", as ls -l.
pub(super) fn letters(stat: &Stat) -> String {
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
fn finding(finding: &Finding, alone: bool, style: Style) -> String {
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
pub(super) fn fix_words(finding: &Finding) -> Option<&'static str> {
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

/// The plan, or what became of it.
#[must_use]
pub fn actions(applied: &[Applied], style: Style) -> String {
    let mut out = String::new();
    let all_planned = applied.iter().all(|one| one.outcome == Outcome::Planned);
    let head = match (applied.len(), all_planned) {
        (0, _) => "Nothing had to change.".to_owned(),
        (1, true) => "Plan, 1 change:".to_owned(),
        (n, true) => format!("Plan, {n} changes:"),
        (_, false) => {
            let count = |is: fn(&Outcome) -> bool| applied.iter().filter(|one| is(&one.outcome)).count();
            let changed = count(|outcome| *outcome == Outcome::Changed);
            let left = count(|outcome| !matches!(outcome, Outcome::Changed | Outcome::Unchanged));
            match (changed, left) {
                (0, 0) => "Nothing had to change.".to_owned(),
                (1, 0) => "1 change made:".to_owned(),
                (changed, 0) => format!("{changed} changes made:"),
                (0, 1) => "The 1 change was not made:".to_owned(),
                (changed, left) => format!("{changed} of {} changes made, {left} not:", changed + left),
            }
        }
    };
    let _ = writeln!(out, "\n{}", style.paint(BOLD, &head));
    for one in applied.iter().filter(|one| one.outcome != Outcome::Unchanged) {
        let (mark, code) = mark_of_outcome(&one.outcome);
        let mark = if code.is_empty() { mark.to_owned() } else { style.paint(code, mark) };
        let (from, to) = one.action.change.from_to();
        let what = match &one.action.change {
            Change::ChownTree { .. } => format!("everything below, {from} -> {to}"),
            Change::CreateDirectory { .. } | Change::CreateLink { .. } => to,
            Change::WriteFile { .. } if from == "absent" => to,
            _ => format!("{from} -> {to}"),
        };
        let entries = one
            .entries
            .map_or_else(String::new, |entries| format!(", {}", counted(entries, "entry", "entries")));
        let path = escape::path(&one.action.path);
        let word = one.action.change.word();
        let _ = writeln!(out, "{}", wrap(&format!("{mark}  {word:16} {path}"), 2, 23, style));
        let _ = writeln!(out, "{}", wrap(&format!("{}{entries}", escape::words(&what)), 23, 23, style));
        if matches!(one.action.change, Change::WriteFile { .. } | Change::RemoveFile { .. }) {
            let _ = writeln!(out, "{}", wrap(&escape::words(&one.action.why), 23, 23, style));
        }
        if let Outcome::Skipped(why) | Outcome::Failed(why) = &one.outcome {
            let _ = writeln!(out, "{}", wrap(&escape::words(why), 23, 23, style));
        }
    }
    out
}

/// What an undo put back, or would.
#[must_use]
pub fn undone(report: &Report, style: Style) -> String {
    let Some(run) = &report.undoes else { return String::new() };
    let mut out = String::new();
    if report.undone.is_empty() && report.error.is_some() {
        return out;
    }
    if report.undone.is_empty() {
        let _ = writeln!(out, "\nRun {run} changed nothing that could be put back.");
        return out;
    }
    let _ = writeln!(out, "\n{}", style.paint(BOLD, &format!("Undo of run {run}:")));
    for step in &report.undone {
        let (mark, code) = mark_of_outcome(&step.outcome);
        let mark = if code.is_empty() { mark.to_owned() } else { style.paint(code, mark) };
        let path = escape::path(&step.path);
        let _ = writeln!(out, "{}", wrap(&format!("{mark}  {:16} {path}", step.what), 2, 23, style));
        let entries = step
            .entries
            .map_or_else(String::new, |entries| format!(", {}", counted(entries, "entry", "entries")));
        let _ = writeln!(
            out,
            "{}",
            wrap(&format!("back to {}{entries}", escape::words(&step.back_to)), 23, 23, style)
        );
        if let Outcome::Skipped(why) | Outcome::Failed(why) = &step.outcome {
            let _ = writeln!(out, "{}", wrap(&escape::words(why), 23, 23, style));
        }
    }
    out
}

fn mark_of_outcome(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Planned => ("  ", ""),
        Outcome::Changed => ("ok", GREEN),
        Outcome::Unchanged => (" =", ""),
        Outcome::Skipped(_) => (" -", YELLOW),
        Outcome::Failed(_) => ("NO", RED),
    }
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

/// What was kept, notes, how the volume was let go, and the next step.
#[must_use]
pub fn ending(report: &Report, style: Style) -> String {
    let mut out = String::new();
    if !report.kept.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(BOLD, "Kept, as they belong to others:"));
        for kept in &report.kept {
            let named = report.names.passwd.by_uid(kept.owner);
            let former = report.former_ids.iter().find(|(uid, _)| *uid == kept.owner);
            let name = match (named, former) {
                (Some(entry), _) => escape::words(&entry.name.to_string()),
                (None, Some((_, whose))) => format!("a former id of {}", escape::words(whose)),
                (None, None) => "an id that no account has".to_owned(),
            };
            // Root's are taken anyway, but for device nodes.
            let option = match kept.owner {
                0 => "device nodes; to take them: --chown all".to_owned(),
                owner => format!("to take them: --chown-from {owner}"),
            };
            let text = format!(
                "{} of {} ({name}), as {}; {option}",
                counted(kept.entries, "entry", "entries"),
                kept.owner,
                escape::path(&kept.example),
            );
            let _ = writeln!(out, "{}", wrap(&text, 2, 4, style));
        }
    }
    for text in &report.notes {
        out.push_str(&note(text, style));
    }
    match &report.unmount {
        Unmount::Failed(why) => {
            let _ = writeln!(
                out,
                "\n{}",
                wrap(
                    &style.paint(RED, &format!("The volume could not be let go: {}", escape::words(why))),
                    0,
                    2,
                    style
                )
            );
        }
        Unmount::Clean if report.command != "diagnose" && !report.dry_run => {
            let _ = writeln!(out, "\nThe volume is unmounted and clean.");
        }
        Unmount::Clean | Unmount::NotMounted => {}
    }
    if let Some(run) =
        report.run.as_ref().filter(|_| report.actions.iter().any(|one| one.outcome == Outcome::Changed))
    {
        let _ = writeln!(out, "To take this run back: volrescue undo {run}");
    }
    if let Some(page) = &report.page {
        let _ = writeln!(out, "Report: {}", escape::path(page));
    }
    out
}

/// What the operator does next.
#[must_use]
pub fn next(step: &str, style: Style) -> String {
    format!("{}\n", wrap(&format!("Next: {}", escape::words(step)), 0, 6, style))
}

/// An error in one paragraph: path and cause, then the next step.
#[must_use]
pub fn error(refusal: &Refusal, style: Style) -> String {
    let mut text = format!("{} {}", style.paint(RED, "volrescue:"), escape::words(&refusal.message));
    if let Some(hint) = &refusal.hint {
        let end = if text.ends_with(['.', '?', '!']) { "" } else { "." };
        let _ = write!(text, "{end} {}", escape::words(hint));
    }
    format!("{}\n", wrap(&text, 0, 2, style))
}

/// The disks of `list`, each with what is on it.
#[must_use]
pub fn list(disks: &[ListedDisk], style: Style) -> String {
    let mut out = String::new();
    if disks.is_empty() {
        return "No disks are attached here.\n".into();
    }
    for disk in disks {
        let mut head = format!("{}  {}", escape::path(&disk.device), bytes(disk.size));
        for extra in [&disk.volume, &disk.model, &disk.name].into_iter().flatten() {
            let _ = write!(head, "  {}", escape::words(extra));
        }
        if disk.read_only {
            head.push_str("  read-only");
        }
        let _ = writeln!(out, "{}", wrap(&style.paint(BOLD, &head), 0, 4, style));
        out.push_str(&tree(&branches(disk, None, style), "  ", style));
        for note in &disk.notes {
            let _ = writeln!(out, "{}", wrap(&format!("note: {}", escape::words(note)), 2, 8, style));
        }
        let verdict = match (&disk.why_not, disk.rescuable) {
            (_, true) => {
                style.paint(GREEN, &format!("could be rescued: volrescue diagnose {}", disk.device.display()))
            }
            (Some(why), false) => format!("can't be rescued: {}", escape::words(why)),
            (None, false) => "holds no filesystem that could be a root".into(),
        };
        let _ = writeln!(out, "{}", wrap(&verdict, 2, 4, style));
    }
    out
}

/// A line of a tree, and what hangs on it.
struct Branch {
    line: String,
    branches: Vec<Branch>,
}

/// The partitions of a disk, or what lies in one of its parts.
fn branches(disk: &ListedDisk, inside: Option<usize>, style: Style) -> Vec<Branch> {
    let parts = disk.parts.iter().enumerate().filter(|(_, part)| part.inside == inside);
    parts
        .map(|(index, part)| Branch {
            line: part_line(part, disk, style),
            branches: below(disk, index, style),
        })
        .collect()
}

fn part_line(part: &ListedPart, disk: &ListedDisk, style: Style) -> String {
    let name = match (&part.logical_volume, part.number) {
        (Some(id), _) => escape::words(id),
        (None, Some(number)) => number.to_string(),
        (None, None) => "the whole disk".to_owned(),
    };
    let mut line = format!("{name}  {}  {}", bytes(part.size), escape::words(&part.content));
    let purpose = part.purpose.as_ref().filter(|_| part.logical_volume.is_none());
    let pairs = [("label", part.label.as_ref()), ("uuid", part.uuid.as_ref()), ("for", purpose)];
    for (what, value) in pairs {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(line, "  {what} {}", escape::words(value));
        }
    }
    if let Some(mirror) = &part.mirror {
        let _ = write!(line, "  mirror of {}", escape::words(mirror));
    }
    if let Some(root) = disk.roots.iter().find(|root| root.subvolume.is_none() && is_on(root, part)) {
        let _ = write!(line, "  {}", system(root, style));
    }
    for used in &part.used {
        let _ = write!(line, "  {}", escape::words(used));
    }
    if let Some(fault) = &part.fault {
        let _ = write!(line, "  {}", style.paint(YELLOW, &escape::words(fault)));
    }
    line
}

/// The subvolumes in a part that are systems, and its logical volumes.
fn below(disk: &ListedDisk, index: usize, style: Style) -> Vec<Branch> {
    let part = &disk.parts[index];
    let subvolumes = disk.roots.iter().filter(|root| is_on(root, part)).filter_map(|root| {
        let name = root.subvolume.as_ref()?;
        let line = format!("subvolume {}  {}", escape::words(name), system(root, style));
        Some(Branch { line, branches: Vec::new() })
    });
    subvolumes.chain(branches(disk, Some(index), style)).collect()
}

fn is_on(root: &RootCandidate, part: &ListedPart) -> bool {
    (root.partition, &root.logical_volume) == (part.number, &part.logical_volume)
}

/// What a root is a root of.
fn system(root: &RootCandidate, style: Style) -> String {
    style.paint(BOLD, &root.os.as_deref().map_or_else(|| "a system without a name".into(), escape::words))
}

/// The lines with the branches drawn before them. What is broken at the right edge goes on behind them.
fn tree(branches: &[Branch], before: &str, style: Style) -> String {
    let mut out = String::new();
    let count = branches.len();
    for (index, branch) in branches.iter().enumerate() {
        let (mark, rest) = if index + 1 == count { ("`- ", "   ") } else { ("|- ", "|  ") };
        let columns = style.columns.saturating_sub(before.len() + 3).max(20);
        let text = fields(&branch.line, 4, Style { columns, ..style });
        for (number, line) in text.lines().enumerate() {
            // Under a branch that has branches of its own, its line goes on beside them.
            let beside =
                if branch.branches.is_empty() { line.to_owned() } else { line.replacen("    ", "|   ", 1) };
            let (mark, line) = if number == 0 { (mark, line) } else { (rest, beside.as_str()) };
            let _ = writeln!(out, "{before}{mark}{}", line.trim_end());
        }
        out.push_str(&tree(&branch.branches, &format!("{before}{rest}"), style));
    }
    out
}

/// Breaks between fields, which two blanks part; within one only where it alone is longer than a line.
fn fields(text: &str, rest: usize, style: Style) -> String {
    let mut out = String::new();
    let mut column = 0;
    for field in text.split("  ") {
        let width = visible_width(field);
        if column > 0 && column + 2 + width > style.columns {
            let _ = write!(out, "\n{}", " ".repeat(rest));
            column = rest;
        } else if column > 0 {
            out.push_str("  ");
            column += 2;
        }
        if column + width > style.columns {
            let columns = style.columns - column.min(style.columns);
            out.push_str(&wrap(field, 0, rest, Style { columns, ..style }));
        } else {
            out.push_str(field);
        }
        column += width;
    }
    out
}

/// The table of all checks.
#[must_use]
pub fn checks(style: Style) -> String {
    let mut out = String::new();
    for check in CheckId::ALL {
        let _ = writeln!(out, "{} (fixed by: {})", style.paint(BOLD, check.name()), check.fixed_by().word());
        let _ = writeln!(out, "{}", wrap(check.meaning(), 4, 4, style));
    }
    out
}

/// "1 entry", "2 entries".
#[must_use]
pub fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// "8.0 GiB".
#[must_use]
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if size < 1024 {
        return format!("{size} bytes");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = size as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Breaks at blanks so that lines fit; a word that is longer than the line stays whole, so that it can be copied.
fn wrap(text: &str, first: usize, rest: usize, style: Style) -> String {
    let mut out = " ".repeat(first);
    let mut column = first;
    let mut fresh = true;
    for word in text.split(' ') {
        let width = visible_width(word);
        if !fresh && column + 1 + width > style.columns {
            out.push('\n');
            out.push_str(&" ".repeat(rest));
            column = rest;
            fresh = true;
            if word.is_empty() {
                continue;
            }
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
        fresh = false;
    }
    out
}

/// Columns of a word, the escape sequences of [`Style::paint`] left out.
fn visible_width(word: &str) -> usize {
    let mut width = 0;
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        width += before.width();
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    width + rest.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, columns: 40 };

    #[test]
    fn lines_break_at_blanks_and_keep_their_indent() {
        let text = wrap("one two three four five six seven eight nine ten eleven", 2, 4, PLAIN);
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("    "));
    }

    fn part(number: Option<u32>, volume: Option<&str>, content: &str, inside: Option<usize>) -> ListedPart {
        ListedPart {
            number,
            logical_volume: volume.map(str::to_owned),
            inside,
            mirror: None,
            device: None,
            start: 0,
            size: 1 << 30,
            purpose: number.map(|_| "Linux filesystem".to_owned()),
            content: content.to_owned(),
            is_encrypted: false,
            rescuable: true,
            uuid: Some("5922a930-b6fb-4e28-a936-997c8295a4bc".to_owned()),
            label: None,
            partition_uuid: None,
            used: Vec::new(),
            fault: None,
        }
    }

    fn system_on(part: &ListedPart, subvolume: Option<&str>) -> RootCandidate {
        let mut root = RootCandidate::at(part.number, part.logical_volume.clone());
        root.os = Some("Debian GNU/Linux 12 (bookworm)".to_owned());
        root.subvolume = subvolume.map(str::to_owned);
        root
    }

    #[test]
    fn a_disk_is_drawn_as_a_tree_in_any_width() {
        let parts = vec![
            part(Some(1), None, "btrfs", None),
            part(Some(2), None, "LVM2 physical volume", None),
            part(None, Some("vg/root"), "ext4", Some(1)),
            part(None, Some("vg/home"), "xfs", Some(1)),
        ];
        let roots = vec![
            system_on(&parts[0], Some("@")),
            system_on(&parts[0], Some("@/.snapshots/1/snapshot")),
            system_on(&parts[2], None),
        ];
        let disk = ListedDisk {
            device: "/dev/nvme1n1".into(),
            size: 8 << 30,
            sector_size: Some(512),
            model: Some("Amazon Elastic Block Store".to_owned()),
            serial: None,
            volume: Some("vol-0123456789abcdef0".to_owned()),
            name: None,
            read_only: false,
            table: None,
            parts,
            roots,
            rescuable: true,
            why_not: None,
            notes: Vec::new(),
        };
        let drawn = |columns| list(std::slice::from_ref(&disk), Style { colour: false, columns });
        assert_eq!(
            drawn(60),
            "/dev/nvme1n1  8.0 GiB  vol-0123456789abcdef0  Amazon Elastic
    Block Store
  |- 1  1.0 GiB  btrfs
  |  |   uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
  |  |   for Linux filesystem
  |  |- subvolume @  Debian GNU/Linux 12 (bookworm)
  |  `- subvolume @/.snapshots/1/snapshot
  |         Debian GNU/Linux 12 (bookworm)
  `- 2  1.0 GiB  LVM2 physical volume
     |   uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
     |   for Linux filesystem
     |- vg/root  1.0 GiB  ext4
     |      uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
     |      Debian GNU/Linux 12 (bookworm)
     `- vg/home  1.0 GiB  xfs
            uuid 5922a930-b6fb-4e28-a936-997c8295a4bc
  could be rescued: volrescue diagnose /dev/nvme1n1
"
        );
        for columns in [60, 80, 140] {
            let text = drawn(columns);
            assert!(text.lines().all(|line| line.len() <= columns && line.trim_end() == line), "{text}");
        }
        assert_eq!(drawn(140).lines().count(), 8);
    }

    #[test]
    fn colours_have_no_width() {
        let style = Style { colour: true, columns: 80 };
        assert_eq!(visible_width(&style.paint(RED, "NO")), 2);
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(8 << 30), "8.0 GiB");
    }
}
