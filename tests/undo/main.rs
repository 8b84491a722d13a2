//! Changes on a real filesystem, and taking them back. Needs root (owners, flags, capabilities).

#![expect(clippy::unwrap_used, reason = "a test fails where its world can't be made")]
#![expect(clippy::disallowed_methods, reason = "the tests prepare and judge the tree from outside")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use volrescue::journal::{RunState, VolumeLock, history, load};
use volrescue::plan::{Before, Change, Outcome};
use volrescue::undo::{UndoOptions, UndoOutcome};
use world::{CAPS, World, action, broken_home, of, plan, run};

mod commands;
mod faults;
mod trees;
mod world;

#[test]
fn a_run_does_its_plan_and_is_undone_to_the_exact_former_state() {
    let world = broken_home("roundtrip");
    let before = world.manifest();
    let (report, id) = world.repair(&plan(&world));
    assert!(report.error.is_none(), "{:?}", report.error);
    for applied in &report.applied {
        assert_eq!(applied.outcome, Outcome::Changed, "{:?}", applied.action);
    }
    assert_eq!(world.mode_owner("/home/u"), "0700 1000:1000");
    assert_eq!(world.mode_owner("/home/u/.ssh"), "0700 1000:1000");
    assert_eq!(world.mode_owner("/home/u/.ssh/authorized_keys"), "0600 1000:1000");
    assert_eq!((world.flags("/home/u/.ssh"), world.flags("/home/u/.ssh/authorized_keys")), (0x10, 0x10));
    assert_eq!(world.mode_owner("/home/u/data/tool"), "6755 1000:1000", "set-id bits stay");
    assert_eq!(xattr::get(world.at("/home/u/data/server"), "security.capability").unwrap().unwrap(), CAPS);
    assert_eq!(
        (world.mode_owner("/home/u/data/fixed"), world.flags("/home/u/data/fixed")),
        ("0644 1000:1000".into(), 0x10)
    );
    assert_eq!(
        (world.mode_owner("/home/u/data/log"), world.flags("/home/u/data/log")),
        ("0644 1000:1000".into(), 0x20)
    );
    assert_eq!(world.mode_owner("/home/u/data/twice"), "0644 1000:1000", "all its names are in the home");
    assert_eq!(world.mode_owner("/home/u/data/link"), "0777 1000:1000", "the link itself");
    assert_eq!(world.mode_owner("/etc/hosts"), "0644 0:0", "not through the link, nor by the hard link");
    assert_eq!(world.mode_owner("/home/u/db/table"), "0600 999:999");
    assert_eq!(xattr::get(world.at("/etc/shadow"), "user.note").unwrap().unwrap(), b"kept");
    let tree = &report.trees[0].1;
    let kept: Vec<_> = tree.kept.iter().map(|kept| (kept.owner, kept.entries)).collect();
    assert_eq!((kept, tree.hardlinks_outside, tree.unchanged), (vec![(3, 1), (999, 2)], 1, 1));

    let (again, _) = world
        .repair(&[action("/home/u", Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0, 1001]) })]);
    assert_eq!((again.applied[0].outcome.clone(), again.applied[0].entries), (Outcome::Unchanged, Some(0)));

    let dry = world.undo(&id, UndoOptions { dry_run: true, force: false });
    assert!(dry.is_complete() && !dry.steps.is_empty(), "{:#?}", dry.steps);
    let undone = world.undo(&id, UndoOptions::default());
    assert!(undone.is_complete(), "{:#?}", undone.steps);
    let after = world.manifest();
    for (path, line) in &before {
        assert_eq!(*line, after[path], "{}", path.display());
    }
    assert_eq!(before.len(), after.len());
    let states: Vec<_> = history(&world.state).unwrap().into_iter().map(|run| (run.run, run.state)).collect();
    assert!(states.contains(&(id, RunState::Undone)), "{states:?}");
}

#[test]
fn the_journal_is_for_root_only_and_holds_no_secret() {
    let world = broken_home("secret");
    let (_, id) = world.repair(&plan(&world));
    let dir = world.state.join(&id);
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(&world.state), mode(&dir), mode(&dir.join("saved"))), (0o700, 0o700, 0o700));
    assert_eq!(mode(&dir.join("journal.jsonl")), 0o600);
    for saved in fs::read_dir(dir.join("saved")).unwrap() {
        assert_eq!(mode(&saved.unwrap().path()), 0o600);
    }
    let journal = fs::read_to_string(dir.join("journal.jsonl")).unwrap();
    assert!(!journal.contains("SECRETHASH") && !journal.contains("new key"));
    for line in journal.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
}

#[test]
fn what_changed_since_is_a_conflict_and_left_alone_unless_forced() {
    let world = broken_home("conflict");
    let before = world.manifest();
    let (_, id) = world.repair(&plan(&world));
    run(Command::new("chattr").arg("-i").arg(world.at("/home/u/.ssh/authorized_keys")));
    fs::write(world.at("/home/u/.ssh/authorized_keys"), "another key\n").unwrap();
    world.dress("/home/u/data", 0o711, 1000, 1000);
    let report = world.undo(&id, UndoOptions::default());
    let conflicts: Vec<_> = report
        .steps
        .iter()
        .filter(|step| matches!(step.outcome, UndoOutcome::Conflict(_)))
        .map(|step| (step.path.to_str().unwrap(), step.what.as_str()))
        .collect();
    assert_eq!(conflicts, [("/home/u/data", "set-mode"), ("/home/u/.ssh/authorized_keys", "replace-file")]);
    assert_eq!(fs::read_to_string(world.at("/home/u/.ssh/authorized_keys")).unwrap(), "another key\n");
    assert_eq!(world.load(&id).state(), RunState::Complete, "not undone yet");
    let report = world.undo(&id, UndoOptions { force: true, dry_run: false });
    assert!(report.is_complete(), "{:#?}", report.steps);
    let after = world.manifest();
    for path in ["/home/u/.ssh/authorized_keys", "/home/u/data", "/home/u", "/etc/passwd"] {
        assert_eq!(before[Path::new(path)], after[Path::new(path)], "{path}");
    }
}

#[test]
fn an_action_is_skipped_where_the_volume_is_not_as_planned() {
    let world = broken_home("meanwhile");
    let mut actions = plan(&world);
    world.dress("/home/u", 0o711, 5, 5);
    fs::write(world.at("/etc/passwd"), "other\n").unwrap();
    actions.truncate(2);
    actions.push(action(
        "/etc/passwd",
        Change::WriteFile {
            before: Before::Regular { ino: 1, size: 1, mtime: 1 },
            content: b"x".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            xattrs: vec![],
        },
    ));
    actions.push(action("/gone", Change::SetMode { from: 0, to: 1 }));
    let (report, _) = world.repair(&actions);
    for applied in &report.applied {
        let Outcome::Skipped(why) = &applied.outcome else { panic!("{applied:?}") };
        assert!(why.starts_with("changed meanwhile: "), "{why}");
    }
    assert_eq!(fs::read_to_string(world.at("/etc/passwd")).unwrap(), "other\n");
}
#[test]
fn a_second_run_on_the_same_volume_is_refused_with_the_firsts_name() {
    let world = World::new("lock");
    let (journal, lock) = world.begin("repair");
    let error = VolumeLock::take(&world.state, "0a1b-test").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(journal.run_id().unwrap()) && text.contains(&std::process::id().to_string()),
        "{text}"
    );
    let refusal = error.downcast_ref::<volrescue::error::Refusal>().unwrap();
    assert_eq!(refusal.code.number(), 4);
    assert_eq!(history(&world.state).unwrap()[0].state, RunState::Running);
    VolumeLock::take(&world.state, "another").unwrap();
    drop(lock);
    VolumeLock::take(&world.state, "0a1b-test").unwrap();
    assert_eq!(history(&world.state).unwrap()[0].state, RunState::Interrupted);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_refused_with_a_hint() {
    let error = VolumeLock::take(Path::new("/proc/volrescue"), "x").unwrap_err();
    let refusal = error.downcast_ref::<volrescue::error::Refusal>().unwrap();
    assert_eq!(refusal.code.number(), 3);
    assert!(refusal.hint.as_ref().unwrap().contains("--state-dir"));
    assert!(load(Path::new("/nonexistent"), "../etc").is_err());
}
