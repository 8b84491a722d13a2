//! Runs that are killed, and journals that are damaged.

use crate::world::{World, action, broken_home, of, plan, run, unlock};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use volrescue::apply::{Unwatched, Watch, apply};
use volrescue::journal::record::{Changed, Ending, Intent, Inverse, State};
use volrescue::journal::{LoadedRun, RunState, Step, history, load};
use volrescue::plan::{Action, Change};
use volrescue::undo::{UndoOptions, UndoOutcome, settle};

/// Ends the process's work as SIGKILL would: after so many entries, and once a change is to be seen, it panics out of
/// everything.
struct Killer<'a> {
    after: u64,
    begun: &'a dyn Fn() -> bool,
    threads: Option<usize>,
}

impl Watch for Killer<'_> {
    fn tick(&mut self, entries: u64, _: &Path) {
        self.after = self.after.saturating_sub(entries);
        assert!(self.after > 0 || !(self.begun)(), "killed");
    }

    fn stop(&mut self) -> bool {
        false
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }
}

#[test]
fn a_killed_run_is_settled_or_undone() {
    for step in 0..14 {
        let world = broken_home("killed");
        let before = world.manifest();
        let (mut journal, lock) = world.begin("repair");
        let id = journal.run_id().unwrap().to_owned();
        let actions = plan(&world);
        apply(&world.root(), &actions[..step.min(actions.len())], &mut journal, &mut Unwatched);
        drop((journal, lock));
        // As if killed between the intent and its effect, or between the effect and its note: the last line goes, and
        // half a line remains.
        let path = world.state.join(&id).join("journal.jsonl");
        let text = fs::read(&path).unwrap();
        let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if step > 0 {
            fs::write(&path, &text[..last + 5]).unwrap();
        }
        assert_eq!(history(&world.state).unwrap()[0].state, RunState::Interrupted);
        let mut run = world.load(&id);
        assert!(run.damage.is_empty(), "{:?}", run.damage);
        settle(&world.root(), &mut run).unwrap();
        assert!(world.load(&id).damage.is_empty(), "a torn line is no damage");
        let report = world.undo(&id, UndoOptions::default());
        assert!(report.is_complete(), "step {step}: {report:#?}");
        let after = world.manifest();
        for (path, line) in &before {
            assert_eq!(*line, after[path], "step {step}: {}", path.display());
        }
    }
}

#[test]
fn a_run_killed_in_a_tree_is_undone() {
    let world = World::new("killed-tree");
    world.dir("/h", 0o755, 1000, 1000);
    for dir in 0..50 {
        world.dir(&format!("/h/{dir}"), 0o755, 0, 0);
        for file in 0..200 {
            world.file(&format!("/h/{dir}/{file}"), if file == 7 { 0o4755 } else { 0o644 }, 0, dir, "");
        }
    }
    let before = world.manifest();
    let tree = action("/h", Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0]) });
    let begun = || {
        (0..50).any(|dir| {
            let at = world.at(&format!("/h/{dir}"));
            fs::read_dir(at).unwrap().any(|file| file.unwrap().metadata().unwrap().uid() == 1000)
        })
    };
    for threads in [None, Some(1), Some(2), Some(16)] {
        let (mut journal, lock) = world.begin("repair");
        let id = journal.run_id().unwrap().to_owned();
        let root = world.root();
        let mut killer = Killer { after: 6000, begun: &begun, threads };
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            apply(&root, std::slice::from_ref(&tree), &mut journal, &mut killer);
        }));
        assert!(killed.is_err(), "{threads:?} threads");
        drop((journal, lock));
        assert_ne!(before, world.manifest(), "{threads:?} threads");
        let report = world.undo(&id, UndoOptions::default());
        assert!(report.is_complete(), "{threads:?} threads: {report:#?}");
        assert_eq!(before, world.manifest(), "{threads:?} threads");
    }
}

#[test]
fn a_damaged_journal_is_named_and_never_undone_wrongly() {
    let world = broken_home("damage");
    let before = world.manifest();
    let (_, id) = world.repair(&plan(&world));
    let after = world.manifest();
    let path = world.state.join(&id).join("journal.jsonl");
    let text = fs::read(&path).unwrap();
    for position in (200..text.len()).step_by(997) {
        let mut damaged = text.clone();
        damaged[position] ^= 4;
        fs::write(&path, &damaged).unwrap();
        let Ok(run) = load(&world.state, &id) else { continue };
        assert!(!run.damage.is_empty(), "byte {position} is damaged and nobody says so");
    }
    // Without the third step the others are still taken back, and the undo is not called complete.
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.remove(3);
    fs::write(&path, lines.concat()).unwrap();
    let report = world.undo(&id, UndoOptions::default());
    assert!(!report.is_complete() && report.damage.len() == 1, "{report:#?}");
    let now = world.manifest();
    assert_eq!(now.len(), before.len());
    for (path, line) in &now {
        // The home keeps the mode that the lost step gave it.
        let either =
            before.get(path) == Some(line) || after.get(path) == Some(line) || path == Path::new("/home/u");
        assert!(either, "{}: {line}", path.display());
    }
    // A saved copy that is not what was saved is not put back.
    let world = broken_home("damage");
    let (_, id) = world.repair(&plan(&world));
    fs::write(world.state.join(&id).join("saved/000"), "tampered").unwrap();
    let report = world.undo(&id, UndoOptions::default());
    assert!(
        report
            .steps
            .iter()
            .any(|step| matches!(&step.outcome, UndoOutcome::Failed(why) if why.contains("damaged")))
    );
    assert_eq!(fs::read_to_string(world.at("/home/u/.ssh/authorized_keys")).unwrap(), "old key\nnew key\n");
}
fn steps(run: &LoadedRun) -> Vec<Step> {
    (0..run.len()).map(|index| run.step(index).unwrap()).collect()
}

#[test]
fn a_journal_that_is_cut_or_damaged_at_any_byte_says_so() {
    let world = broken_home("any-byte");
    let (_, id) = world.repair(&plan(&world)[..5]);
    let path = world.state.join(&id).join("journal.jsonl");
    let text = fs::read(&path).unwrap();
    let whole = steps(&world.load(&id));
    assert!(world.load(&id).damage.is_empty());
    let try_with = |damaged: &[u8], what: String| {
        fs::write(&path, damaged).unwrap();
        // One that is refused as a whole undoes nothing.
        let Ok(run) = load(&world.state, &id) else { return };
        if run.damage.is_empty() {
            assert_eq!(steps(&run), whole, "{what}, and nobody says so");
        }
    };
    for length in 0..text.len() {
        try_with(&text[..length], format!("cut after {length} bytes"));
    }
    for position in (0..text.len()).step_by(2) {
        // A bit, all of them, or what makes two lines of one.
        let flipped = [text[position] ^ 1, text[position] ^ 0xff, b'\n'][position / 2 % 3];
        let mut damaged = text.clone();
        damaged[position] = flipped;
        try_with(&damaged, format!("byte {position} is {flipped:#x}"));
    }
    // Whole sectors that a disk gives back as zeros.
    for sector in 0..text.len() / 512 {
        let mut damaged = text.clone();
        damaged[sector * 512..(sector + 1) * 512].fill(0);
        try_with(&damaged, format!("sector {sector} is zero"));
    }
    // Killed after its last step, and then no more than the end of that line is damaged.
    fs::remove_file(path.with_file_name("ended")).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    let before = text[..last].iter().rposition(|byte| *byte == b'\n').unwrap();
    let mut damaged = text[..=before].to_vec();
    damaged[before] ^= 2;
    try_with(&damaged, "the last newline is damaged".into());
}

#[test]
fn a_run_that_was_killed_while_it_noted_its_end_is_undone() {
    let world = broken_home("noted");
    let before = world.manifest();
    let (_, id) = world.repair(&plan(&world));
    let dir = world.state.join(&id);
    // What strace saw before the kill: the file is there, and empty.
    fs::remove_file(dir.join("ended")).unwrap();
    fs::write(dir.join("ended.new"), "").unwrap();
    let report = world.undo(&id, UndoOptions::default());
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(before, world.manifest());
    let pruned = volrescue::journal::prune(&world.state, None).unwrap();
    assert!(pruned.removed.contains(&id), "{pruned:?}");
}

#[test]
fn undoing_by_a_damaged_journal_never_makes_anything_that_was_not() {
    for share in 1..24 {
        for cut in [true, false] {
            let world = broken_home("partly");
            let before = world.manifest();
            let (_, id) = world.repair(&plan(&world));
            let after = world.manifest();
            let path = world.state.join(&id).join("journal.jsonl");
            let text = fs::read(&path).unwrap();
            let position = text.len() * share / 24;
            let mut damaged = text.clone();
            match cut {
                true => damaged.truncate(position),
                false => damaged[position] ^= 0x10,
            }
            fs::write(&path, &damaged).unwrap();
            let Ok(run) = load(&world.state, &id) else { continue };
            assert!(!run.damage.is_empty());
            let report = world.undo(&id, UndoOptions::default());
            assert!(!report.is_complete() && !report.damage.is_empty(), "{report:#?}");
            let content = |line: &str| line.split("] ").last().unwrap().to_owned();
            for (path, line) in world.manifest() {
                let known = [before.get(&path), after.get(&path)].into_iter().flatten();
                let mut known = known.map(|line| content(line));
                assert!(known.any(|one| one == content(&line)), "{}: {line}", path.display());
            }
            // With the journal whole again the rest is taken back too. What was taken back of the owners of a file that
            // was not put back is a conflict then.
            fs::write(&path, &text).unwrap();
            let report = world.undo(&id, UndoOptions { force: true, dry_run: false });
            assert!(report.is_complete(), "at {position}: {report:#?}");
            assert_eq!(before, world.manifest(), "at {position}");
        }
    }
}

#[test]
fn what_is_added_to_a_damaged_journal_does_not_hide_the_damage() {
    let world = broken_home("added");
    let (mut journal, lock) = world.begin("repair");
    let id = journal.run_id().unwrap().to_owned();
    apply(&world.root(), &plan(&world)[..2], &mut journal, &mut Unwatched);
    drop((journal, lock));
    let path = world.state.join(&id).join("journal.jsonl");
    let mut text = fs::read(&path).unwrap();
    // The run was killed, and the record of the last thing that it did is damaged.
    let at = text.len() - 20;
    text[at] ^= 1;
    let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    text[last - 20] ^= 1;
    fs::write(&path, &text).unwrap();
    assert_eq!(world.load(&id).damage.len(), 1);
    settle(&world.root(), &mut world.load(&id)).unwrap();
    assert_eq!(world.load(&id).damage.len(), 1, "{:?}", world.load(&id).damage);
    assert!(!world.undo(&id, UndoOptions::default()).is_complete());
}

#[test]
fn a_saved_copy_that_is_cut_or_gone_is_not_put_back() {
    for gone in [true, false] {
        let world = broken_home("saved");
        let (_, id) = world.repair(&plan(&world));
        let saved = world.state.join(&id).join("saved/000");
        let content = fs::read(&saved).unwrap();
        match gone {
            true => fs::remove_file(&saved).unwrap(),
            false => fs::write(&saved, &content[..content.len() - 1]).unwrap(),
        }
        let report = world.undo(&id, UndoOptions::default());
        let failed: Vec<_> =
            report.steps.iter().filter(|step| matches!(step.outcome, UndoOutcome::Failed(_))).collect();
        assert!(failed.len() == 1 && !report.is_complete(), "{report:#?}");
        let keys = world.at("/home/u/.ssh/authorized_keys");
        assert_eq!(fs::read_to_string(&keys).unwrap(), "old key\nnew key\n");
        fs::write(&saved, &content).unwrap();
        assert!(world.undo(&id, UndoOptions { force: true, dry_run: false }).is_complete());
        assert_eq!(fs::read_to_string(&keys).unwrap(), "old key\n");
    }
}

/// Where a child process that is to be killed finds its world; see the test below.
const CHILD: &str = "VOLRESCUE_TEST_CHILD";

/// Not a test of its own: the process that [`a_run_killed_by_a_signal_is_run_again_or_undone`] kills.
#[test]
#[ignore = "the process that another test starts and kills"]
fn child_that_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let path = PathBuf::from(path);
    let world = World { volume: path.join("volume"), state: path.join("state") };
    world.repair(&big_plan(&world));
    // The tree is the parent's.
    std::mem::forget(world);
}

fn big_home(name: &str) -> World {
    let world = broken_home(name);
    for dir in 0..10 {
        world.dir(&format!("/home/u/data/{dir}"), 0o755, 0, 0);
        for file in 0..60 {
            let path = format!("/home/u/data/{dir}/{file}");
            world.file(&path, if file % 3 == 0 { 0o4755 } else { 0o644 }, 0, 0, "");
            if file % 20 == 5 {
                run(Command::new("chattr").arg("+i").arg(world.at(&path)));
            }
        }
    }
    world
}

/// As [`plan`], with every file checked for what it is when it is reached.
fn big_plan(world: &World) -> Vec<Action> {
    let mut actions = plan(world);
    actions.rotate_left(3);
    actions
}

/// Everything but times, which a second run can't know.
fn timeless(manifest: &BTreeMap<PathBuf, String>) -> BTreeMap<PathBuf, String> {
    let strip = |line: &String| {
        let (head, tail) = line.split_once(" (").unwrap();
        format!("{head} {}", tail.split_once(')').unwrap().1)
    };
    manifest.iter().map(|(path, line)| (path.clone(), strip(line))).collect()
}

#[test]
fn a_run_killed_by_a_signal_is_run_again_or_undone() {
    let name = "signal";
    let child = |world: &World| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "faults::child_that_is_killed", "--ignored"])
            .env(CHILD, world.volume.parent().unwrap());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let world = big_home(name);
    let actions = big_plan(&world);
    let start = std::time::Instant::now();
    assert!(child(&world).wait().unwrap().success());
    let whole = start.elapsed();
    let unbroken = timeless(&world.manifest());
    drop(actions);
    let mut interrupted = 0;
    for round in 0..16u32 {
        let world = big_home(name);
        let before = world.manifest();
        let actions = big_plan(&world);
        let mut process = child(&world);
        std::thread::sleep(whole * round / 16);
        process.kill().unwrap();
        process.wait().unwrap();
        let Some(first) = history(&world.state).unwrap().into_iter().next() else { continue };
        interrupted += u32::from(first.state == RunState::Interrupted);
        if first.state == RunState::Damaged {
            // Killed before its first record was whole: nothing was done.
            assert_eq!(before, world.manifest());
            continue;
        }
        if round % 2 == 0 {
            let report = world.undo(&first.run, UndoOptions::default());
            assert!(report.is_complete(), "round {round}: {report:#?}");
            let after = world.manifest();
            for (path, line) in &before {
                assert_eq!(*line, after[path], "round {round}: {}", path.display());
            }
            assert_eq!(before.len(), after.len());
        } else {
            settle(&world.root(), &mut world.load(&first.run)).unwrap();
            let (report, _) = world.repair(&actions);
            assert!(report.error.is_none(), "{:?}", report.error);
            let after = timeless(&world.manifest());
            for (path, line) in &unbroken {
                assert_eq!(*line, after[path], "round {round}: {}", path.display());
            }
            assert_eq!(unbroken.len(), after.len(), "round {round}");
        }
    }
    assert!(interrupted >= 3, "only {interrupted} runs were hit");
}

/// The helper's journal says that a step is done, and the volume lost the end of it.
#[test]
fn flags_that_only_the_volume_lost_with_its_power_are_put_back() {
    let world = broken_home("lost-flags");
    let (mut journal, lock) = world.begin("repair");
    let id = journal.run_id().unwrap().to_owned();
    assert!(apply(&world.root(), &plan(&world), &mut journal, &mut Unwatched).error.is_none());
    drop((journal, lock));
    let locked = ["/home/u/.ssh", "/home/u/.ssh/authorized_keys", "/home/u/data/fixed", "/home/u/data/log"];
    let flags = locked.map(|path| world.flags(path));
    assert_eq!(flags, [0x10, 0x10, 0x10, 0x20]);
    let repaired = world.manifest();
    for path in locked {
        unlock(&world.at(path));
    }
    assert!(locked.iter().all(|path| world.flags(path) == 0));
    assert_eq!(settle(&world.root(), &mut world.load(&id)).unwrap(), 4);
    assert_eq!(locked.map(|path| world.flags(path)), flags);
    assert_eq!(timeless(&world.manifest()), timeless(&repaired), "nothing else is touched");
    // That run is in order now; who takes the flags away after that means it.
    for path in locked {
        unlock(&world.at(path));
    }
    assert_eq!(settle(&world.root(), &mut world.load(&id)).unwrap(), 0);
}

#[test]
fn what_a_failed_step_left_half_way_is_settled_once() {
    let world = broken_home("failed");
    let (mut journal, lock) = world.begin("repair");
    let id = journal.run_id().unwrap().to_owned();
    let path = Path::new("/home/u/data/tool");
    let handle = world.root().handle(path).unwrap();
    let before =
        State::new(&handle.attributes().unwrap(), handle.flags().unwrap(), &handle.xattrs().unwrap());
    let after = Changed { owner: Some((1000, 1000)), ..Changed::default() };
    let of = journal
        .intent(Intent {
            path: path.into(),
            action: "set-owner".into(),
            from: "0:0".into(),
            to: "1000:1000".into(),
            undo: Inverse::Attributes { before, after },
            parent: None,
        })
        .unwrap();
    // chown takes the set-id bits, and putting them back is what failed.
    std::os::unix::fs::chown(world.at("/home/u/data/tool"), Some(1000), Some(1000)).unwrap();
    journal.failed(of, 0, "input/output error".into()).unwrap();
    journal.end(Ending::Failed).unwrap();
    drop((journal, lock));
    assert_eq!(world.mode_owner("/home/u/data/tool"), "0755 1000:1000");

    assert_eq!(settle(&world.root(), &mut world.load(&id)).unwrap(), 1);
    assert_eq!(world.mode_owner("/home/u/data/tool"), "6755 1000:1000");
    world.dress("/home/u/data/tool", 0o755, 1000, 1000);
    let mut again = world.load(&id);
    assert!(again.damage.is_empty() && again.state() == RunState::Failed);
    assert_eq!(settle(&world.root(), &mut again).unwrap(), 0, "what the operator did since is left alone");
    assert_eq!(world.mode_owner("/home/u/data/tool"), "0755 1000:1000");
}
