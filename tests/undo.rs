//! Changes on a real filesystem, and taking them back. Needs root (owners, flags, capabilities).

#![expect(clippy::unwrap_used, reason = "a test fails where its world can't be made")]
#![expect(clippy::disallowed_methods, reason = "the tests prepare and judge the tree from outside")]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use volrescue::apply::{Report, TreeResult, Unwatched, Watch, apply, survey_tree};
use volrescue::journal::record::Ending;
use volrescue::journal::{Journal, LoadedRun, RunInfo, RunState, VolumeLock, history, load};
use volrescue::plan::{Action, Before, Change, Outcome, TreeOwners};
use volrescue::root::{Crossing, Root};
use volrescue::undo::{UndoOptions, UndoOutcome, UndoReport, settle, undo};

/// A volume and a state directory of one test.
struct World {
    volume: PathBuf,
    state: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("undo").join(name);
        if path.symlink_metadata().is_ok() {
            unlock(&path);
            fs::remove_dir_all(&path).unwrap();
        }
        let world = Self { volume: path.join("volume"), state: path.join("state") };
        fs::create_dir_all(&world.volume).unwrap();
        world
    }

    fn root(&self) -> Root {
        Root::new(OwnedFd::from(fs::File::open(&self.volume).unwrap()), Crossing::Never).unwrap()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.volume.join(path.trim_start_matches('/'))
    }

    fn dir(&self, path: &str, mode: u32, uid: u32, gid: u32) {
        fs::create_dir_all(self.at(path)).unwrap();
        self.dress(path, mode, uid, gid);
    }

    fn file(&self, path: &str, mode: u32, uid: u32, gid: u32, content: &str) {
        fs::write(self.at(path), content).unwrap();
        self.dress(path, mode, uid, gid);
    }

    fn dress(&self, path: &str, mode: u32, uid: u32, gid: u32) {
        chown(self.at(path), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode_owner(&self, path: &str) -> String {
        let meta = self.at(path).symlink_metadata().unwrap();
        format!("{:04o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid())
    }

    fn flags(&self, path: &str) -> u32 {
        self.root().handle(Path::new(path)).unwrap().flags().unwrap() & 0x30
    }

    fn begin(&self, command: &str) -> (Journal, VolumeLock) {
        let mut lock = VolumeLock::take(&self.state, "0a1b-test").unwrap();
        let info = RunInfo { command: command.into(), given: "test".into(), ..RunInfo::default() };
        (Journal::create(&self.state, &info, &mut lock).unwrap(), lock)
    }

    /// A whole run.
    fn repair(&self, actions: &[Action]) -> (Report, String) {
        let (mut journal, _lock) = self.begin("repair");
        let report = apply(&self.root(), actions, &mut journal, &mut Unwatched);
        journal.end(Ending::Complete).unwrap();
        (report, journal.run_id().unwrap().to_owned())
    }

    fn undo(&self, run: &str, options: UndoOptions) -> UndoReport {
        let (mut journal, _lock) = self.begin("undo");
        let mut run = load(&self.state, run).unwrap();
        undo(&self.root(), &mut run, options, &mut journal, &mut Unwatched).unwrap()
    }

    fn load(&self, run: &str) -> LoadedRun {
        load(&self.state, run).unwrap()
    }

    fn manifest(&self) -> BTreeMap<PathBuf, String> {
        let root = self.root();
        let mut all = BTreeMap::new();
        let mut ahead = vec![PathBuf::from("/")];
        while let Some(path) = ahead.pop() {
            let handle = root.handle(&path).unwrap();
            let attributes = handle.attributes().unwrap();
            let stat = attributes.stat;
            let content = match handle.read(1 << 20) {
                Ok(content) => String::from_utf8_lossy(&content).into_owned(),
                Err(_) => format!("{:?}", handle.read_link()),
            };
            let line = format!(
                "{:?} {} {:?} links {} flags {:x} xattrs {:?} {content}",
                stat.kind,
                stat.mode_owner(),
                attributes.mtime,
                stat.nlink,
                handle.flags().unwrap(),
                handle.xattrs().unwrap(),
            );
            if stat.is_dir() {
                ahead.extend(handle.list(1 << 20).unwrap().iter().map(|name| path.join(name)));
            }
            all.insert(path, line);
        }
        all
    }
}

/// Takes immutable and append-only flags off a tree; chattr fails on links, which have none.
fn unlock(path: &Path) {
    Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(path).output().unwrap();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn action(path: &str, change: Change) -> Action {
    Action { path: path.into(), change, why: String::new() }
}

fn regular(world: &World, path: &str) -> Before {
    let meta = world.at(path).metadata().unwrap();
    Before::Regular { ino: meta.ino(), size: meta.size(), mtime: meta.mtime() }
}

/// `security.capability` with cap_net_bind_service, as setcap writes it.
const CAPS: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// user::rwx user:7:rwx group::r-x mask::rwx other::r-x
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 7, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16,
    0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
];

/// A home broken in most ways.
fn broken_home(name: &str) -> World {
    let world = World::new(name);
    world.dir("/etc", 0o755, 0, 0);
    world.file("/etc/passwd", 0o644, 0, 0, "root:x:0:0::/root:/bin/sh\n");
    world.file("/etc/shadow", 0o640, 0, 42, "root:SECRETHASH:1::::::\n");
    xattr::set(world.at("/etc/shadow"), "user.note", b"kept").unwrap();
    world.dir("/home/u", 0o777, 0, 0);
    world.dir("/home/u/.ssh", 0o755, 0, 0);
    world.file("/home/u/.ssh/authorized_keys", 0o666, 0, 0, "old key\n");
    world.dir("/home/u/data", 0o775, 0, 0);
    xattr::set(world.at("/home/u/data"), "system.posix_acl_access", &ACL).unwrap();
    world.file("/home/u/data/tool", 0o6755, 0, 0, "tool");
    world.file("/home/u/data/server", 0o755, 0, 5, "server");
    xattr::set(world.at("/home/u/data/server"), "security.capability", &CAPS).unwrap();
    world.file("/home/u/data/fixed", 0o644, 0, 0, "fixed");
    world.file("/home/u/data/log", 0o644, 1001, 1001, "log");
    world.file("/home/u/data/mine", 0o644, 1000, 1000, "mine");
    world.dir("/home/u/db", 0o700, 999, 999);
    world.file("/home/u/db/table", 0o600, 999, 999, "table");
    world.file("/home/u/data/odd \u{1}\\", 0o644, 0, 0, "odd");
    fs::write(world.volume.join("home/u/data").join(std::ffi::OsStr::from_bytes(b"\xff\n")), "odd").unwrap();
    world.file("/etc/hosts", 0o644, 0, 0, "hosts");
    symlink("/etc/hosts", world.at("/home/u/data/link")).unwrap();
    symlink("/nowhere", world.at("/home/u/.profile")).unwrap();
    lchown(world.at("/home/u/.profile"), Some(3), Some(3)).unwrap();
    fs::hard_link(world.at("/etc/hosts"), world.at("/home/u/data/hosts")).unwrap();
    world.file("/home/u/data/twice", 0o644, 0, 0, "twice");
    fs::hard_link(world.at("/home/u/data/twice"), world.at("/home/u/again")).unwrap();
    run(Command::new("chattr").arg("+i").arg(world.at("/home/u/data/fixed")));
    run(Command::new("chattr").arg("+a").arg(world.at("/home/u/data/log")));
    run(Command::new("chattr").arg("+i").arg(world.at("/home/u/.ssh/authorized_keys")));
    run(Command::new("chattr").arg("+i").arg(world.at("/home/u/.ssh")));
    run(Command::new("chattr").arg("+A").arg(world.at("/etc/passwd")));
    for path in ["/home/u", "/home/u/.ssh", "/etc"] {
        let stamp = filetime(1_000_000_000);
        nix::sys::stat::utimensat(
            nix::fcntl::AT_FDCWD,
            &world.at(path),
            &stamp,
            &stamp,
            nix::sys::stat::UtimensatFlags::NoFollowSymlink,
        )
        .or_else(|errno| if path == "/home/u/.ssh" { Ok(()) } else { Err(errno) })
        .unwrap();
    }
    world
}

fn filetime(seconds: i64) -> nix::sys::time::TimeSpec {
    nix::sys::time::TimeSpec::new(seconds, 123)
}

fn of(uids: &[u32]) -> TreeOwners {
    TreeOwners::Of { uids: uids.to_vec() }
}

fn plan(world: &World) -> Vec<Action> {
    vec![
        action("/home/u", Change::SetOwner { from: (0, 0), to: (1000, 1000) }),
        action("/home/u", Change::SetMode { from: 0o777, to: 0o700 }),
        action("/home/u", Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0, 1001]) }),
        action("/home/u/.ssh", Change::SetMode { from: 0o755, to: 0o700 }),
        action(
            "/home/u/.ssh/authorized_keys",
            Change::WriteFile {
                before: regular(world, "/home/u/.ssh/authorized_keys"),
                content: b"old key\nnew key\n".to_vec(),
                mode: 0o600,
                uid: 1000,
                gid: 1000,
                xattrs: vec![("trusted.label".into(), b"ssh_home_t".to_vec())],
            },
        ),
        action("/home/u/data", Change::SetMode { from: 0o775, to: 0o755 }),
        action(
            "/home/u/data",
            Change::SetXattr { name: "user.x".into(), from: None, to: Some(b"1".to_vec()) },
        ),
        action(
            "/etc/shadow",
            Change::WriteFile {
                before: regular(world, "/etc/shadow"),
                content: b"root:SECRETHASH:1::::::\nu:*:1::::::\n".to_vec(),
                mode: 0o640,
                uid: 0,
                gid: 42,
                xattrs: vec![],
            },
        ),
        action(
            "/etc/passwd",
            Change::WriteFile {
                before: regular(world, "/etc/passwd"),
                content: b"root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n".to_vec(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                xattrs: vec![],
            },
        ),
        action("/home/u/.profile", Change::RemoveLink { target: "/nowhere".into() }),
        action(
            "/home/u/.config",
            Change::CreateDirectory { mode: 0o700, uid: 1000, gid: 1000, xattrs: vec![] },
        ),
        action(
            "/home/u/.config/x",
            Change::WriteFile {
                before: Before::Absent,
                content: b"x".to_vec(),
                mode: 0o600,
                uid: 1000,
                gid: 1000,
                xattrs: vec![],
            },
        ),
        action("/home/u/.config/l", Change::CreateLink { target: "x".into(), uid: 1000, gid: 1000 }),
    ]
}

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

/// Ends the process's work as SIGKILL would: at a certain tick it panics out of everything.
struct Killer {
    after: u64,
}

impl Watch for Killer {
    fn tick(&mut self, entries: u64, _: &Path) {
        assert!(self.after > entries, "killed");
        self.after -= entries;
    }

    fn stop(&mut self) -> bool {
        false
    }
}

#[test]
fn a_killed_run_is_settled_or_undone() {
    let mut seen_settled = false;
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
        seen_settled |= settle(&world.root(), &mut run).is_ok();
        assert!(world.load(&id).damage.is_empty(), "a torn line is no damage");
        let report = world.undo(&id, UndoOptions::default());
        assert!(report.is_complete(), "step {step}: {report:#?}");
        let after = world.manifest();
        for (path, line) in &before {
            assert_eq!(*line, after[path], "step {step}: {}", path.display());
        }
    }
    assert!(seen_settled);
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
    let (mut journal, lock) = world.begin("repair");
    let id = journal.run_id().unwrap().to_owned();
    let root = world.root();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        apply(&root, std::slice::from_ref(&tree), &mut journal, &mut Killer { after: 6000 });
    }));
    assert!(killed.is_err());
    drop((journal, lock));
    assert_ne!(before, world.manifest());
    let report = world.undo(&id, UndoOptions::default());
    assert!(report.is_complete(), "{report:#?}");
    assert_eq!(before, world.manifest());
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

fn survey(world: &World, path: &str, owners: &TreeOwners) -> TreeResult {
    survey_tree(&world.root(), Path::new(path), (1000, 1000), owners, &mut Unwatched).unwrap()
}

#[test]
fn all_is_what_chown_does_but_for_what_chown_destroys() {
    let world = broken_home("all");
    let counted = survey(&world, "/home/u", &TreeOwners::All);
    let before = world.manifest();
    let (report, _) = world
        .repair(&[action("/home/u", Change::ChownTree { uid: 1000, gid: 1000, owners: TreeOwners::All })]);
    let ours = world.manifest();
    let result = &report.trees[0].1;
    assert_eq!((counted.changed, counted.hardlinks_outside), (result.changed, result.hardlinks_outside));
    let differing = before.iter().filter(|(path, line)| ours[*path] != **line).count() as u64;
    assert_eq!(differing, result.changed);
    let other = broken_home("chown");
    unlock(&other.at("/home/u"));
    run(Command::new("chown").args(["-R", "-h", "1000:1000"]).arg(other.at("/home/u")));
    for path in ours.keys().filter(|path| path.starts_with("/home/u") && *path != Path::new("/home/u")) {
        let text = path.to_string_lossy();
        let meta =
            |world: &World| world.volume.join(path.strip_prefix("/").unwrap()).symlink_metadata().unwrap();
        if text.ends_with("/hosts") {
            assert_eq!(world.mode_owner("/etc/hosts"), "0644 0:0");
            assert_eq!(other.mode_owner("/etc/hosts"), "0644 1000:1000", "chown follows the hard link");
        } else {
            assert_eq!(
                (meta(&world).uid(), meta(&world).gid()),
                (meta(&other).uid(), meta(&other).gid()),
                "{text}"
            );
        }
    }
    assert_eq!(other.mode_owner("/home/u/data/tool"), "0755 1000:1000", "chown takes set-id bits");
    assert_eq!(world.mode_owner("/home/u/data/tool"), "6755 1000:1000");
}

#[test]
fn ten_thousand_levels_are_walked_and_undone() {
    let world = World::new("deep");
    let mut at = OwnedFd::from(fs::File::open(&world.volume).unwrap());
    for _ in 0..10_000 {
        nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_PATH;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty()).unwrap();
    }
    drop(at);
    let tree = Change::ChownTree { uid: 1000, gid: 1000, owners: TreeOwners::All };
    let (report, id) = world.repair(&[action("/", tree)]);
    assert!(report.error.is_none(), "{:?}", report.error);
    assert_eq!(report.applied[0].entries, Some(10_000));
    assert_eq!(survey(&world, "/", &TreeOwners::All).unchanged, 10_000);
    let undone = world.undo(&id, UndoOptions::default());
    assert!(undone.is_complete(), "{undone:?}");
    assert_eq!(undone.steps[0].entries, Some(10_000));
    assert_eq!(survey(&world, "/", &TreeOwners::All).changed, 10_000);
}

#[test]
fn a_directory_of_200_000_entries_is_walked_in_pieces_with_a_small_journal() {
    let world = World::new("wide");
    world.dir("/h/wide", 0o755, 0, 0);
    let dir = OwnedFd::from(fs::File::open(world.at("/h/wide")).unwrap());
    for index in 0..200_000 {
        nix::sys::stat::mknodat(
            &dir,
            format!("file-{index:06}").as_str(),
            nix::sys::stat::SFlag::S_IFREG,
            nix::sys::stat::Mode::from_bits_truncate(0o644),
            0,
        )
        .unwrap();
    }
    let tree = Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0]) };
    let start = std::time::Instant::now();
    let (report, id) = world.repair(&[action("/h", tree)]);
    let ours = start.elapsed();
    assert_eq!(report.applied[0].entries, Some(200_001));
    let size = world.state.join(&id).join("journal.jsonl").metadata().unwrap().len();
    assert!(size / 200_001 <= 60, "{size} bytes");
    let start = std::time::Instant::now();
    let undone = world.undo(&id, UndoOptions::default());
    assert!(undone.is_complete());
    assert_eq!(undone.steps[0].entries, Some(200_001));
    println!("200,001 entries: chown {ours:?}, undo {:?}, journal {size} bytes", start.elapsed());
}

/// Where a child process that is to be killed finds its world; see the test below.
const CHILD: &str = "VOLRESCUE_TEST_CHILD";

/// Not a test of its own: the process that [`a_run_killed_by_a_signal_is_run_again_or_undone`] kills.
#[test]
fn child_that_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let path = PathBuf::from(path);
    let world = World { volume: path.join("volume"), state: path.join("state") };
    world.repair(&big_plan(&world));
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
        command.args(["--exact", "child_that_is_killed"]).env(CHILD, world.volume.parent().unwrap());
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
