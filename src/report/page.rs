//! A run as one page of HTML for a ticket: the verdict, the path before and after, what sshd would say, what was
//! changed, and how to take it back.
//!
//! The page is whole in itself: no script, nothing from elsewhere, and a policy in it that forbids both. What comes from
//! the volume passes `Page::text` or `Page::path`, which make it harmless for a terminal first ([`escape`]) and for
//! HTML then; all else is literal text of this module, which the type of `Page::raw` sees to.

use super::{Names, Proof, Report, Unmount, UserReport, escape, text};
use crate::error::{ExitCode, Refusal};
use crate::finding::{Finding, Severity, Verdict};
use crate::plan::{Applied, Outcome};
use crate::sshd::Evaluation;
use crate::sshd::evaluate::{KeyEvaluation, PathNode};
use crate::volume::Health;
use std::path::Path;

/// How every page begins; by it an earlier page is known, which a new one may replace.
pub const MARK: &str = "<!DOCTYPE html>\n<!-- report of volrescue -->\n";

const STYLE: &str = include_str!("page/style.css");

/// Of a list no more than this is shown: a page is for reading.
const MOST: usize = 400;
/// Characters of one text that are shown.
const LONGEST: usize = 1200;

/// Indents of the path, as classes of the style.
const DEPTHS: [&str; 9] = [
    "<td class=\"name d0\">",
    "<td class=\"name d1\">",
    "<td class=\"name d2\">",
    "<td class=\"name d3\">",
    "<td class=\"name d4\">",
    "<td class=\"name d5\">",
    "<td class=\"name d6\">",
    "<td class=\"name d7\">",
    "<td class=\"name d8\">",
];

/// The page for a report. `made` is the time in UTC as it is to be shown, `next` what the operator does next.
#[must_use]
pub fn page(report: &Report, code: ExitCode, made: &str, next: Option<&str>) -> String {
    let mut page = Page(String::from(MARK));
    page.raw("<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n");
    page.raw("<meta name=\"referrer\" content=\"no-referrer\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    page.text(&title(report));
    page.raw("</title>\n<style>\n").raw(STYLE).raw("</style>\n</head>\n<body>\n<main>\n");
    head(&mut page, report, code, made);
    if let Some(refusal) = &report.error {
        error(&mut page, refusal);
    }
    for (at, user) in report.users.iter().enumerate() {
        self::user(&mut page, user, report, report.predicted.get(at).copied());
    }
    actions(&mut page, report);
    kept(&mut page, report);
    if !report.notes.is_empty() {
        page.raw("<section>\n<h2>Notes</h2>\n<ul class=\"plain\">\n");
        shown(&mut page, &report.notes, |page, note| {
            page.raw("<li>").text(note).raw("</li>\n");
        });
        page.raw("</ul>\n</section>\n");
    }
    checker(&mut page, report);
    ending(&mut page, report, next);
    page.raw("</main>\n<footer>\n<p>Written by volrescue ");
    page.text(env!("CARGO_PKG_VERSION")).raw(", ").text(made);
    page.raw(
        ". In what is quoted from the volume, control characters, invisible ones and bytes that are not UTF-8 stand as \
         <code>\\xNN</code> or <code>\\u{NNNN}</code>.</p>\n</footer>\n</body>\n</html>\n",
    );
    page.0
}

/// HTML that grows. What is literal goes in by [`Page::raw`], everything else is escaped.
struct Page(String);

impl Page {
    /// Markup of this module.
    fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// A sentence that may quote the volume.
    fn text(&mut self, words: &str) -> &mut Self {
        // What will be cut is not worked on first.
        let end = words.char_indices().nth(LONGEST + 1).map_or(words.len(), |(at, _)| at);
        self.escaped(&escape::words(&words[..end]))
    }

    /// A path of the volume.
    fn path(&mut self, path: &Path) -> &mut Self {
        self.escaped(&escape::path(path))
    }

    /// The same, set as code and kept apart from the text around it, whichever way its letters run.
    fn code_path(&mut self, path: &Path) -> &mut Self {
        self.raw("<code>").path(path).raw("</code>")
    }

    /// A text set as code.
    fn code(&mut self, words: &str) -> &mut Self {
        self.raw("<code>").text(words).raw("</code>")
    }

    fn escaped(&mut self, harmless: &str) -> &mut Self {
        for (at, c) in harmless.chars().enumerate() {
            if at == LONGEST {
                self.0.push_str(" \u{2026} (cut)");
                break;
            }
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }
}

/// Each of `all`, up to [`MOST`]; the rest is counted.
fn shown<T>(page: &mut Page, all: &[T], mut one: impl FnMut(&mut Page, &T)) {
    all.iter().take(MOST).for_each(|item| one(page, item));
    if all.len() > MOST {
        page.raw("<li class=\"more\">and ").text(&(all.len() - MOST).to_string());
        page.raw(" more, which <code>--json</code> lists</li>\n");
    }
}

/// The verdict over all users: the worst, or nothing where nobody was judged.
fn worst(report: &Report) -> Option<Verdict> {
    let verdicts = || report.users.iter().map(UserReport::verdict);
    let any = |wanted| verdicts().any(|verdict| verdict == wanted);
    verdicts().next()?;
    Some(if any(Verdict::Refuse) {
        Verdict::Refuse
    } else if any(Verdict::Unknown) {
        Verdict::Unknown
    } else {
        Verdict::Accept
    })
}

fn title(report: &Report) -> String {
    let given = report.target.as_ref().map_or("no volume", |target| target.given.as_str());
    let verdict = match (&report.error, worst(report)) {
        (Some(_), _) | (None, None) => "ended early",
        (None, Some(verdict)) => verdict.word(),
    };
    format!("{verdict}: volrescue {} {given}", report.command)
}

fn head(page: &mut Page, report: &Report, code: ExitCode, made: &str) {
    page.raw("<header>\n<p class=\"kicker\">volrescue ").text(report.command);
    if report.dry_run {
        page.raw(", only shown (dry run)");
    }
    page.raw("</p>\n");
    let verdict = worst(report);
    page.raw(match (&report.error, verdict) {
        (Some(_), _) | (None, None) => "<h1 class=\"banner bad\">",
        (None, Some(verdict)) => match verdict {
            Verdict::Accept => "<h1 class=\"banner good\">",
            Verdict::Refuse => "<h1 class=\"banner bad\">",
            Verdict::Unknown => "<h1 class=\"banner unsure\">",
        },
    });
    let was_refused = report.users.iter().any(|user| user.before.verdict != Verdict::Accept);
    match (&report.error, verdict) {
        (Some(_), _) => page.raw("The run ended early"),
        (None, None) => page.raw("Nothing was judged"),
        (None, Some(Verdict::Accept)) if report.command == "repair" && was_refused => {
            page.raw("sshd accepts the login now")
        }
        (None, Some(Verdict::Accept)) => page.raw("sshd accepts the login"),
        (None, Some(Verdict::Refuse)) => page.raw("sshd refuses the login"),
        (None, Some(Verdict::Unknown)) => page.raw("Unknown whether sshd accepts the login"),
    };
    page.raw("</h1>\n<dl class=\"facts\">\n");
    if let Some(target) = &report.target {
        page.raw("<div><dt>Volume</dt><dd>").code(&target.given);
        if let Some(device) = target.device.as_ref().filter(|device| device.to_string_lossy() != target.given)
        {
            page.raw(" (").code_path(device).raw(")");
        }
        page.raw(", ").text(target.kind);
        if let Some(size) = target.size {
            page.raw(", ").text(&text::bytes(size));
        }
        if let Some(format) = target.format {
            page.raw(", ").text(format.name());
        }
        for below in &target.backing {
            page.raw("<br>over ").code_path(&below.path).raw(" (").text(below.format.name());
            page.raw("), which is not written");
        }
        page.raw("</dd></div>\n");
    }
    if let Some(root) = &report.root {
        page.raw("<div><dt>Root</dt><dd>").text(&root.filesystem);
        if let Some(partition) = root.partition {
            page.raw(", partition ").text(&partition.to_string());
        }
        let texts = [
            (", logical volume ", &root.logical_volume),
            (", subvolume ", &root.subvolume),
            (", label ", &root.label),
            (", id ", &root.uuid),
        ];
        for (name, value) in texts {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                page.raw(name).code(value);
            }
        }
        page.raw(", journal ").text(if root.journal.is_empty() { "clean" } else { root.journal });
        for branch in &root.mounts {
            page.raw("<br>").code_path(&branch.point).raw(": ").text(&branch.filesystem);
            if let Some(device) = &branch.device {
                page.raw(" on ").code_path(device);
            }
        }
        page.raw("</dd></div>\n<div><dt>System</dt><dd>");
        page.text(root.os_name.as_deref().or(root.os_id.as_deref()).unwrap_or("unknown system"));
        match &root.sshd {
            Some(version) => page.raw(", OpenSSH ").text(version),
            None => page.raw(", no sshd found"),
        };
        page.raw(", SELinux ").text(root.selinux).raw("</dd></div>\n");
    }
    for one in &report.checked {
        page.raw("<div><dt>Checked</dt><dd>").code(&one.command).raw(" on ").text(&one.place);
        page.raw(match one.outcome {
            Health::Clean => ": nothing to mend",
            Health::Repaired => ": mended",
        });
        page.raw("</dd></div>\n");
    }
    page.raw("<div><dt>Time</dt><dd>").text(made).raw("</dd></div>\n");
    if let Some(run) = &report.run {
        page.raw("<div><dt>Run</dt><dd>").code(run).raw("</dd></div>\n");
    }
    page.raw("<div><dt>Exit</dt><dd>").text(&code.number().to_string());
    page.raw("</dd></div>\n</dl>\n</header>\n");
}

fn error(page: &mut Page, refusal: &Refusal) {
    page.raw("<section class=\"error\">\n<h2>Why it ended early</h2>\n<p>")
        .text(&refusal.message)
        .raw("</p>\n");
    if let Some(hint) = &refusal.hint {
        page.raw("<p>").text(hint).raw("</p>\n");
    }
    page.raw("</section>\n");
}

fn badge(page: &mut Page, verdict: Verdict) {
    page.raw(match verdict {
        Verdict::Accept => "<span class=\"badge good\">accept</span>",
        Verdict::Refuse => "<span class=\"badge bad\">refuse</span>",
        Verdict::Unknown => "<span class=\"badge unsure\">unknown</span>",
    });
}

fn user(page: &mut Page, user: &UserReport, report: &Report, predicted: Option<Verdict>) {
    page.raw("<section>\n<h2>Login as ").code(&user.name).raw(" <span class=\"change\">");
    badge(page, user.before.verdict);
    if user.after.is_some() {
        page.raw(" <span class=\"to\">then</span> ");
        badge(page, user.last().verdict);
    }
    if let Some(predicted) = predicted {
        page.raw(" <span class=\"to\">by this plan</span> ");
        badge(page, predicted);
    }
    page.raw("</span></h2>\n<p class=\"quiet\">User ").text(&user.chosen_by).raw("</p>\n");
    keys(page, &user.last().keys);
    let unknown = &user.last().unknown;
    if !unknown.is_empty() {
        page.raw("<p>What is not known:</p>\n<ul class=\"plain\">\n");
        shown(page, unknown, |page, reason| {
            page.raw("<li>").text(reason).raw("</li>\n");
        });
        page.raw("</ul>\n");
    }
    if !report.accepted_for.is_empty() && user.verdict() != Verdict::Accept {
        page.raw("<p>This key would be accepted for ");
        for (at, name) in report.accepted_for.iter().enumerate() {
            page.raw(if at == 0 { "" } else { ", " }).code(name);
        }
        page.raw(".</p>\n");
    }
    page.raw("<div class=\"trees\">\n");
    let names = &report.names;
    match &user.after {
        Some(after) => {
            tree(page, "Before", &user.before, None, names);
            tree(page, "After", after, Some(&user.before), names);
        }
        None => tree(page, "The path to the key", &user.before, None, names),
    }
    page.raw("</div>\n");
    let found = if user.after.is_some() { "What was found before" } else { "What was found" };
    findings(page, found, &user.before.findings);
    if let Some(after) = &user.after {
        findings(page, "What is left", &after.findings);
    }
    if let Some(proof) = &user.proof {
        self::proof(page, user, proof);
    }
    if report.explain {
        trace(page, user.last());
    }
    page.raw("</section>\n");
}

fn keys(page: &mut Page, keys: &[KeyEvaluation]) {
    if keys.is_empty() {
        return;
    }
    page.raw("<ul class=\"plain keys\">\n");
    shown(page, keys, |page, key| {
        page.raw("<li>");
        badge(page, key.verdict);
        page.raw(" key ").code(&key.algorithm).raw(" ").code(&key.fingerprint);
        match (&key.found, &key.stands) {
            (Some(at), _) => page.raw(", in ").code_path(&at.file).raw(" line ").text(&at.line.to_string()),
            (None, Some(at)) => {
                page.raw(", in ").code_path(&at.file).raw(" line ").text(&at.line.to_string());
                page.raw(", but sshd does not take it from there")
            }
            (None, None) => page.raw(", in no file that sshd would read"),
        };
        page.raw("</li>\n");
    });
    page.raw("</ul>\n");
}

/// The path from `/` to the key line, as `namei -l` shows it.
fn tree(
    page: &mut Page,
    caption: &'static str,
    answer: &Evaluation,
    was: Option<&Evaluation>,
    names: &Names,
) {
    page.raw("<figure>\n<figcaption>").raw(caption).raw("</figcaption>\n");
    if answer.path.is_empty() {
        page.raw("<p class=\"none\">No path: sshd knows no such user, or no file of keys.</p>\n</figure>\n");
        return;
    }
    page.raw("<table class=\"tree\">\n");
    for (depth, node) in answer.path.iter().take(MOST).enumerate() {
        let here = |finding: &&Finding| finding.path.as_deref() == Some(node.path.as_path());
        let worst = answer.findings.iter().filter(here).map(|finding| finding.severity).min();
        let same = |old: &&PathNode| old.path == node.path;
        let old = was.and_then(|was| was.path.iter().find(same));
        let changed = was.is_some_and(|was| !was.path.is_empty()) && is_other(old, node);
        page.raw(if changed { "<tr class=\"changed\">" } else { "<tr>" });
        page.raw(match (worst, node.stat) {
            (Some(Severity::Blocks), _) | (None, None) => "<td class=\"mark bad\">NO</td>",
            (Some(Severity::Advises), _) => "<td class=\"mark unsure\">!</td>",
            (None, Some(_)) => "<td class=\"mark good\">ok</td>",
        });
        match &node.stat {
            Some(stat) => {
                page.raw("<td class=\"letters\">").text(&text::letters(stat));
                page.raw("</td><td class=\"octal\">").text(&format!("{:04o}", stat.mode));
                page.raw("</td><td class=\"owner\">");
                for (at, name) in [names.user(stat.uid), names.group(stat.gid)].iter().enumerate() {
                    page.raw(if at == 0 { "<bdi title=\"" } else { ":<bdi title=\"" });
                    page.text(name).raw("\">").text(name).raw("</bdi>");
                }
                page.raw("</td>");
            }
            None => {
                page.raw(
                    "<td class=\"letters\">missing</td><td class=\"octal\"></td><td class=\"owner\"></td>",
                );
            }
        }
        page.raw(DEPTHS[depth.min(DEPTHS.len() - 1)]).raw("<bdi>");
        match node.path.file_name() {
            Some(name) => page.path(Path::new(name)),
            None => page.raw("/"),
        };
        page.raw("</bdi>");
        if let Some(target) = &node.link {
            page.raw(" &rarr; <bdi>").path(target).raw("</bdi>");
        }
        page.raw("</td></tr>\n");
    }
    page.raw("</table>\n</figure>\n");
}

/// Whether a line of the path would read otherwise than before.
fn is_other(old: Option<&PathNode>, new: &PathNode) -> bool {
    let Some(old) = old else { return true };
    let facts = |node: &PathNode| node.stat.map(|stat| (stat.kind, stat.mode, stat.uid, stat.gid));
    facts(old) != facts(new) || old.link != new.link
}

fn findings(page: &mut Page, heading: &'static str, all: &[Finding]) {
    if all.is_empty() {
        return;
    }
    page.raw("<h3>").raw(heading).raw("</h3>\n<ul class=\"cards\">\n");
    shown(page, all, |page, finding| {
        let blocks = finding.severity == Severity::Blocks;
        page.raw(if blocks { "<li class=\"card bad\">" } else { "<li class=\"card unsure\">" });
        page.raw("<p class=\"what\"><strong>");
        page.raw(if blocks { "Blocks" } else { "Advice" }).raw("</strong> ");
        page.text(finding.check.meaning()).raw(" <code class=\"id\">").text(finding.check.name());
        page.raw("</code></p>\n<dl>\n");
        if let Some(path) = &finding.path {
            page.raw("<div><dt>where</dt><dd>").code_path(path);
            if let Some(line) = finding.line {
                page.raw(" line ").text(&line.to_string());
            }
            page.raw("</dd></div>\n");
        }
        for (name, words) in
            [("<div><dt>is</dt><dd>", &finding.is), ("<div><dt>wants</dt><dd>", &finding.wants)]
        {
            if !words.is_empty() {
                page.raw(name).raw("<bdi>").text(words).raw("</bdi></dd></div>\n");
            }
        }
        if let Some(says) = &finding.sshd_says {
            page.raw("<div><dt>sshd logs</dt><dd>")
                .raw("<q><code>")
                .text(says)
                .raw("</code></q></dd></div>\n");
        }
        if let Some(fix) = text::fix_words(finding) {
            page.raw("<div><dt>fixed by</dt><dd>").text(fix).raw("</dd></div>\n");
        }
        page.raw("</dl>\n</li>\n");
    });
    page.raw("</ul>\n");
}

fn proof(page: &mut Page, user: &UserReport, proof: &Proof) {
    page.raw("<h3>Login through the volume&#39;s own sshd</h3>\n<p>");
    badge(page, user.verdict());
    page.raw(" ").text(&text::proof_words(proof)).raw("</p>\n");
    if proof.login.accepted {
        return;
    }
    for (who, said) in [("ssh", &proof.login.client), ("sshd", &proof.login.server)] {
        page.raw("<details>\n<summary>What ").text(who).raw(" said</summary>\n<ul class=\"log\">\n");
        let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
        shown(page, &lines, |page, line| {
            page.raw("<li>").text(line).raw("</li>\n");
        });
        page.raw("</ul>\n</details>\n");
    }
}

fn trace(page: &mut Page, answer: &Evaluation) {
    page.raw("<details>\n<summary>What sshd does, step by step</summary>\n<ul class=\"plain steps\">\n");
    shown(page, &answer.trace, |page, step| {
        page.raw(if step.passed {
            "<li><span class=\"mark good\">ok</span> "
        } else {
            "<li><span class=\"mark bad\">NO</span> "
        });
        page.text(&step.step).raw(": <bdi>").text(&step.detail).raw("</bdi></li>\n");
    });
    page.raw("</ul>\n</details>\n");
}

fn actions(page: &mut Page, report: &Report) {
    let applied: Vec<&Applied> =
        report.actions.iter().filter(|one| one.outcome != Outcome::Unchanged).collect();
    if report.command != "repair" || report.error.is_some() && applied.is_empty() {
        return;
    }
    page.raw("<section>\n<h2>");
    let planned = applied.iter().all(|one| one.outcome == Outcome::Planned);
    let changed = applied.iter().filter(|one| one.outcome == Outcome::Changed).count();
    match (applied.len(), planned) {
        (0, _) => {
            page.raw("Nothing had to change</h2>\n</section>\n");
            return;
        }
        (_, true) => page.raw("Planned, and not made"),
        (all, false) if all == changed => page.raw("Changes made"),
        (_, false) => page.raw("Changes made, and not made"),
    };
    page.raw("</h2>\n<ol class=\"actions\">\n");
    shown(page, &applied, |page, one| {
        page.raw(match &one.outcome {
            Outcome::Changed => "<li class=\"good\"><span class=\"mark good\">done</span> ",
            Outcome::Skipped(_) => "<li class=\"unsure\"><span class=\"mark unsure\">left</span> ",
            Outcome::Failed(_) => "<li class=\"bad\"><span class=\"mark bad\">failed</span> ",
            Outcome::Planned | Outcome::Unchanged => "<li><span class=\"mark\">plan</span> ",
        });
        let (from, to) = one.action.change.from_to();
        page.raw("<strong>").text(one.action.change.word()).raw("</strong> ").code_path(&one.action.path);
        page.raw(" <span class=\"fromto\"><bdi>").text(&from).raw("</bdi> &rarr; <bdi>").text(&to);
        page.raw("</bdi>");
        if let Some(entries) = one.entries {
            page.raw(", ").text(&entries.to_string()).raw(" entries");
        }
        page.raw("</span>");
        if !one.action.why.is_empty() {
            page.raw("<br><span class=\"quiet\">").text(&one.action.why).raw("</span>");
        }
        if let Outcome::Skipped(why) | Outcome::Failed(why) = &one.outcome {
            page.raw("<br><span class=\"reason\">").text(why).raw("</span>");
        }
        page.raw("</li>\n");
    });
    page.raw("</ol>\n</section>\n");
}

fn kept(page: &mut Page, report: &Report) {
    if report.kept.is_empty() {
        return;
    }
    page.raw("<section>\n<h2>Kept, as they belong to others</h2>\n<ul class=\"plain\">\n");
    shown(page, &report.kept, |page, kept| {
        page.raw("<li>").text(&kept.entries.to_string()).raw(" entries of ");
        page.text(&kept.owner.to_string());
        if let Some(entry) = report.names.passwd.by_uid(kept.owner) {
            page.raw(" (").code(&entry.name.to_string()).raw(")");
        } else if let Some((_, whose)) = report.former_ids.iter().find(|(uid, _)| *uid == kept.owner) {
            page.raw(" (a former id of <bdi>").text(whose).raw("</bdi>)");
        } else {
            page.raw(" (an id that no account has)");
        }
        page.raw(", as ").code_path(&kept.example).raw("; to take them: ");
        page.code(&format!("--chown-from {}", kept.owner)).raw("</li>\n");
    });
    page.raw("</ul>\n</section>\n");
}

/// What the filesystem's own checker mended, in its words.
fn checker(page: &mut Page, report: &Report) {
    for one in report.checked.iter().filter(|one| one.outcome == Health::Repaired) {
        page.raw("<details>\n<summary>What ").text(&one.command).raw(" said</summary>\n<ul class=\"log\">\n");
        shown(page, &one.said, |page, line| {
            page.raw("<li>").text(line).raw("</li>\n");
        });
        page.raw("</ul>\n</details>\n");
    }
}

fn ending(page: &mut Page, report: &Report, next: Option<&str>) {
    let changed = report.actions.iter().any(|one| one.outcome == Outcome::Changed);
    if let Some(run) = report.run.as_ref().filter(|_| changed) {
        page.raw("<section>\n<h2>How to take it back</h2>\n<p>On the helper that it ran on, with the volume attached:</p>\n");
        page.raw("<pre><code>volrescue undo ")
            .text(run)
            .raw("</code></pre>\n<p>What was done, record by record:</p>\n");
        page.raw("<pre><code>volrescue history ").text(run).raw("</code></pre>\n</section>\n");
    } else if changed {
        page.raw("<section>\n<h2>How to take it back</h2>\n<p>No journal was kept, so this run can&#39;t be undone.</p>\n</section>\n");
    }
    let let_go = match &report.unmount {
        Unmount::Failed(why) => Some(why),
        Unmount::Clean | Unmount::NotMounted => None,
    };
    if let Some(why) = let_go {
        page.raw("<section class=\"error\">\n<h2>The volume could not be let go</h2>\n<p>").text(why);
        page.raw("</p>\n</section>\n");
    }
    let clean = report.unmount == Unmount::Clean && report.command != "diagnose" && !report.dry_run;
    if next.is_none() && !clean {
        return;
    }
    page.raw("<section>\n<h2>Next</h2>\n<p>");
    if clean {
        page.raw("The volume is unmounted and clean. ");
    }
    if let Some(next) = next {
        let mut letters = next.chars();
        let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
        page.text(&format!("{first}{}.", letters.as_str().trim_end_matches('.')));
    }
    page.raw("</p>\n</section>\n");
}

#[cfg(test)]
mod tests;
