use super::*;
use crate::plan::{Action, Change};
use crate::report::{KeptSummary, RootSummary, TargetSummary};
use crate::volume::BackingFile;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What would be markup, would end an attribute, would turn or hide text.
const EVIL: &str = "</td><script>alert(1)</script>\"' onload='x' &amp;\u{202e}\u{200b}\x1b[2J\n<img src=x>";

fn evil_report() -> Report {
    let path = PathBuf::from(OsStr::from_bytes(&[EVIL.as_bytes(), b"\xff"].concat()));
    let change = Change::CreateLink { target: path.clone(), uid: 0, gid: 0 };
    let action = Action { path: path.clone(), change, why: EVIL.into() };
    Report {
        command: "repair",
        run: Some("20261122T201500Z-3f9a".into()),
        target: Some(TargetSummary {
            given: EVIL.into(),
            kind: "image",
            device: Some(path.clone()),
            size: Some(8 << 30),
            format: Some(crate::probe::Format::Qcow2),
            backing: vec![BackingFile { path: path.clone(), format: crate::probe::Format::Raw }],
        }),
        root: Some(RootSummary {
            filesystem: "ext4".into(),
            label: Some(EVIL.into()),
            uuid: Some(EVIL.into()),
            os_name: Some(EVIL.into()),
            sshd: Some(EVIL.into()),
            ..RootSummary::default()
        }),
        actions: vec![
            Applied { action: action.clone(), outcome: Outcome::Changed, entries: Some(3) },
            Applied { action, outcome: Outcome::Failed(EVIL.into()), entries: None },
        ],
        kept: vec![KeptSummary { owner: 999, entries: 2, example: path }],
        former_ids: vec![(999, EVIL.into())],
        notes: vec![EVIL.into()],
        unmount: Unmount::Failed(EVIL.into()),
        error: Some(Refusal::failed(EVIL).hint(EVIL)),
        ..Report::default()
    }
}

fn of(report: &Report) -> String {
    page(report, ExitCode::Failed, "2026-11-22 20:15:00 UTC", Some(EVIL))
}

#[test]
fn nothing_of_the_volume_becomes_markup() {
    let html = of(&evil_report());
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    assert!(!html.chars().any(|c| c != '\n' && escape::is_invisible(c)), "{html}");
    let harmless = "&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=&#39;x&#39; \
                    &amp;amp;\\u{202e}\\u{200b}\\x1b[2J\\x0a&lt;img src=x&gt;";
    // Target, device, label, uuid, system, sshd, two actions with path and target and why, a reason, ...
    assert!(html.matches(harmless).count() >= 19, "{}", html.matches(harmless).count());
    assert!(html.contains("&gt;\\xff"));
    // Quotes outside of tags are ours; a tag never holds more than we wrote.
    let tags = html.split('<').skip(1).filter_map(|rest| rest.split('>').next());
    for tag in tags.filter(|tag| !tag.starts_with("!--") && !tag.starts_with("meta")) {
        assert!(tag.len() < 60 && !tag.contains(" on"), "{tag}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let html = of(&evil_report());
    assert!(html.starts_with(MARK));
    assert!(html.contains("default-src 'none'"));
    for word in ["http://", "https://", "url(", "@import", "src=\"", "href="] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn it_says_how_to_take_the_run_back() {
    let mut report = evil_report();
    assert!(of(&report).contains("volrescue undo 20261122T201500Z-3f9a</code>"));
    report.run = None;
    assert!(of(&report).contains("can&#39;t be undone"));
    report.actions.clear();
    assert!(!of(&report).contains("take it back"));
}

#[test]
fn a_page_stays_of_a_size_to_read() {
    let mut report = evil_report();
    let note = "x".repeat(1 << 20);
    report.notes = vec![note; 1000];
    let html = of(&report);
    assert!(html.contains("and 600 more"));
    assert!(html.len() < 1 << 20, "{}", html.len());
}
