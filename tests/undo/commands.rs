//! The commands themselves: which volume an undo finds, and what it refuses.

use crate::world::{World, run};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use volrescue::journal::{RunState, history, load};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f test\n";

/// A root with one user, whose home everybody may write.
fn small_root(name: &str) -> World {
    let world = World::new(name);
    fs::create_dir_all(&world.state).unwrap();
    world.dir("/etc/ssh", 0o755, 0, 0);
    world.file("/etc/ssh/sshd_config", 0o644, 0, 0, "");
    world.file("/etc/passwd", 0o644, 0, 0, "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n");
    world.file("/etc/group", 0o644, 0, 0, "root:x:0:\nu:x:1000:\n");
    world.file("/etc/shadow", 0o640, 0, 42, "root:*:1::::::\nu:*:1::::::\n");
    world.dir("/bin", 0o755, 0, 0);
    world.file("/bin/sh", 0o755, 0, 0, "");
    world.dir("/home/u/.ssh", 0o700, 1000, 1000);
    world.file("/home/u/.ssh/authorized_keys", 0o600, 1000, 1000, KEY);
    world.dir("/home/u", 0o777, 1000, 1000);
    world
}

fn volrescue(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_volrescue"))
        .args(arguments)
        .env("VOLRESCUE_STATE_DIR", &world.state)
        .current_dir(world.volume.parent().unwrap())
        .output()
        .unwrap()
}

#[track_caller]
fn expect(output: &Output, codes: &[i32], words: &str) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(codes.contains(&output.status.code().unwrap()) && text.contains(words), "{output:?}\n{text}");
}

fn runs(world: &World) -> Vec<(String, RunState)> {
    history(&world.state).unwrap().into_iter().map(|run| (run.run, run.state)).collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn a_run_in_a_directory_is_undone_from_elsewhere_and_only_once() {
    let world = small_root("in-directory");
    expect(&volrescue(&world, &["repair", "--yes", "--user", "u", "volume"]), &[0, 1], "");
    let home = world.at("/home/u");
    assert_eq!(mode(&home), 0o700);
    let (id, state) = runs(&world).remove(0);
    assert_eq!(state, RunState::Complete);
    let begin = load(&world.state, &id).unwrap().begin;
    assert_eq!(begin.kind.as_deref(), Some("directory"));
    assert!(begin.identity.unwrap().ends_with(world.volume.to_str().unwrap()));

    let undo = || {
        Command::new(env!("CARGO_BIN_EXE_volrescue"))
            .args(["undo", "--yes", "--state-dir"])
            .arg(&world.state)
            .arg(&id)
            .current_dir("/")
            .output()
            .unwrap()
    };
    expect(&undo(), &[0], "");
    assert_eq!(mode(&home), 0o777);
    let after_one = runs(&world);
    expect(&undo(), &[4], "already undone");
    assert_eq!(runs(&world), after_one, "what is refused leaves no run behind");
    let (undo_id, _) = &after_one[1];
    expect(&volrescue(&world, &["undo", "--yes", undo_id]), &[3], "is itself an undo");
    assert_eq!(runs(&world), after_one);
    assert!(after_one.iter().all(|(_, state)| *state != RunState::Interrupted), "{after_one:?}");
}

#[test]
fn copies_of_one_image_are_repaired_at_once_and_not_taken_for_each_other() {
    let world = small_root("twins");
    let parent = world.volume.parent().unwrap();
    let image = parent.join("a");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg("-d").arg(&world.volume).arg(&image));
    fs::copy(&image, parent.join("b")).unwrap();
    fs::copy(&image, parent.join("untouched")).unwrap();
    let both = volrescue(&world, &["repair", "--yes", "--user", "u", "a", "b", "--jobs", "2"]);
    expect(&both, &[0, 1], "");
    let done = history(&world.state).unwrap();
    assert_eq!(done.len(), 2, "{both:?}");
    let begins: Vec<_> = done.iter().map(|run| run.begin.clone().unwrap()).collect();
    assert_eq!(begins[0].uuid, begins[1].uuid);
    assert!(begins[0].identity != begins[1].identity && begins[0].lock != begins[1].lock, "{begins:?}");

    let of_a = begins.iter().find(|begin| begin.target == "a").unwrap();
    fs::rename(parent.join("untouched"), &image).unwrap();
    expect(&volrescue(&world, &["undo", "--yes", &of_a.run]), &[4], "--target");
    expect(&volrescue(&world, &["undo", "--yes", &of_a.run, "--target", "a"]), &[0], "");
}

#[test]
fn a_terminal_that_is_closed_at_the_question_ends_the_run_before_a_change() {
    let world = small_root("hang-up");
    let terminal = nix::pty::openpty(None, None).unwrap();
    let close = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
    nix::fcntl::fcntl(&terminal.master, close).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_volrescue"))
        .args(["repair", "--user", "u", "--state-dir"])
        .args([&world.state, &world.volume])
        .stdin(terminal.slave)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut stderr = process.stderr.take().unwrap();
    while !said.ends_with(b"[y/N] ") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    drop(terminal.master);
    assert_eq!(process.wait().unwrap().code(), Some(130), "{}", String::from_utf8_lossy(&said));
    assert_eq!(mode(&world.at("/home/u")), 0o777);
    assert!(runs(&world).is_empty());
}

#[test]
fn a_run_whose_first_record_could_not_be_written_is_not_in_the_history() {
    // The path is in the record.
    let world = small_root(&"first-record".repeat(20));
    let repair = |limit: &str| {
        let script = format!("trap '' XFSZ; {limit} exec \"$0\" repair --yes --user u \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_volrescue")]).arg(&world.volume);
        command.env("VOLRESCUE_STATE_DIR", &world.state).output().unwrap()
    };
    // No file may be longer than 512 bytes, and the first record is.
    expect(&repair("ulimit -f 1;"), &[3], "File too large");
    assert_eq!(runs(&world), []);
    assert_eq!(mode(&world.at("/home/u")), 0o777);
    expect(&repair(""), &[0, 1], "");
    assert_eq!(runs(&world).len(), 1);
}

#[test]
fn nothing_follows_a_record_that_could_not_be_made_durable() {
    let world = small_root("not-durable");
    world.dir("/home/u/.ssh", 0o777, 1000, 1000);
    world.file("/home/u/.ssh/authorized_keys", 0o666, 1000, 1000, KEY);
    let before = world.manifest();
    for at in 2..=4 {
        // The first is that of the run's first record.
        let fault = format!("inject=fdatasync:error=EIO:when={at}");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &fault, env!("CARGO_BIN_EXE_volrescue")])
            .args(["repair", "--yes", "--user", "u", "volume"])
            .env("VOLRESCUE_STATE_DIR", &world.state)
            .current_dir(world.volume.parent().unwrap())
            .output()
            .unwrap();
        expect(&output, &[5], "Input/output error");
        let (id, state) = runs(&world).pop().unwrap();
        // A later sync would succeed though what it should have written was lost.
        assert_eq!(state, RunState::Interrupted, "fdatasync {at}");
        let journal = fs::read_to_string(world.state.join(&id).join("journal.jsonl")).unwrap();
        assert_eq!(journal.matches("\"intent\"").count(), at - 2, "{journal}");
        expect(&volrescue(&world, &["undo", "--yes", "--target", "volume", &id]), &[0], "");
        assert_eq!(world.manifest(), before, "fdatasync {at}");
    }
}

#[test]
fn without_a_journal_a_read_only_helper_can_repair_and_is_told_what_it_gives_up() {
    let world = small_root("no-journal");
    let arguments = ["repair", "--yes", "--user", "u", "--state-dir", "/proc/volrescue", "volume"];
    expect(&volrescue(&world, &arguments), &[3], "--state-dir");
    assert_eq!(mode(&world.at("/home/u")), 0o777);
    let mut arguments = arguments.to_vec();
    arguments.insert(1, "--no-journal");
    let output = volrescue(&world, &arguments);
    expect(&output, &[0, 1], "this run can't be undone");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("volrescue undo"), "{output:?}");
    assert_eq!(mode(&world.at("/home/u")), 0o700);
}

#[test]
fn runs_of_one_second_are_listed_in_the_order_in_which_they_began() {
    let world = small_root("one-second");
    let mut expected = Vec::new();
    for _ in 0..6 {
        expect(&volrescue(&world, &["repair", "--yes", "--user", "u", "volume"]), &[0, 1], "");
        let new: Vec<_> =
            runs(&world).into_iter().map(|(id, _)| id).filter(|id| !expected.contains(id)).collect();
        expected.extend(new);
        fs::set_permissions(world.at("/home/u"), fs::Permissions::from_mode(0o777)).unwrap();
    }
    assert_eq!(expected.len(), 6);
    assert_eq!(runs(&world).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), expected);
}

#[test]
fn prune_removes_what_is_undone_and_what_is_old_and_nothing_that_is_needed() {
    let world = small_root("prune");
    let repair = || expect(&volrescue(&world, &["repair", "--yes", "--user", "u", "volume"]), &[0, 1], "");
    repair();
    let first = runs(&world).remove(0).0;
    expect(&volrescue(&world, &["undo", "--yes", &first]), &[0], "");
    repair();
    let (last, _) = runs(&world).into_iter().rfind(|(_, state)| *state == RunState::Complete).unwrap();
    assert_eq!(runs(&world).len(), 3);
    expect(&volrescue(&world, &["history", "--prune", "--json"]), &[0], &first);
    assert_eq!(runs(&world), [(last.clone(), RunState::Complete)], "what can still be undone stays");
    expect(&volrescue(&world, &["history", "--prune=1"]), &[0], "Nothing to remove");
    let left: Vec<_> = fs::read_dir(&world.state).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the run and the locks: {left:?}");

    // A killed run: the next repair needs its journal.
    let journal = world.state.join(&last).join("journal.jsonl");
    let whole = fs::read_to_string(&journal).unwrap();
    let kept: Vec<&str> = whole.lines().filter(|line| !line.contains("\"end\"")).collect();
    fs::write(&journal, kept.join("\n") + "\n").unwrap();
    let before = history(&world.state).unwrap()[0].begin.as_ref().unwrap().started + 1;
    let pruned = volrescue::journal::prune(&world.state, Some(before)).unwrap();
    assert!(pruned.removed.is_empty() && pruned.kept[0].1.contains("half-way"), "{pruned:?}");
    fs::write(&journal, whole).unwrap();
    let pruned = volrescue::journal::prune(&world.state, Some(before)).unwrap();
    assert_eq!(pruned.removed, [last]);
    assert!(runs(&world).is_empty());
}

#[test]
fn a_dry_run_the_repair_and_the_history_count_the_same() {
    let world = small_root("counts");
    world.dir("/home/u/data", 0o755, 0, 0);
    world.file("/home/u/data/a", 0o644, 0, 0, "a");
    world.file("/home/u/data/b", 0o644, 999, 999, "b");
    for path in ["/home/u", "/home/u/.ssh", "/home/u/.ssh/authorized_keys"] {
        std::os::unix::fs::chown(world.at(path), Some(0), Some(0)).unwrap();
    }
    let counted = |options: &[&str]| {
        let output =
            volrescue(&world, &[&["repair", "--json", "--user", "u"], options, &["volume"]].concat());
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let actions = document["actions"].as_array().unwrap().clone();
        let entries: Vec<_> = actions.iter().filter_map(|action| action["entries"].as_u64()).collect();
        (actions.len() as u64, entries)
    };
    let dry = counted(&["--dry-run"]);
    let real = counted(&["--yes"]);
    // .ssh and the key file are changed by actions of their own before.
    assert_eq!((&dry, &dry.1), (&real, &vec![2]));
    let run = history(&world.state).unwrap().remove(0);
    assert_eq!((run.actions, run.entries, run.changes), (real.0, 2, real.0 - 1 + 2));
    let words = format!("{} changes, 2 entries of trees", real.0);
    expect(&volrescue(&world, &["history"]), &[0], &words);
    expect(&volrescue(&world, &["undo", "--yes", &run.run]), &[0], "");
    let undo = history(&world.state).unwrap().remove(1);
    assert_eq!(undo.actions, real.0);
}

#[test]
fn the_history_of_a_run_tells_everything_that_its_journal_holds() {
    let world = small_root("history-run");
    world.dir("/home/u/data/more/deep", 0o755, 0, 0);
    world.file("/home/u/data/more/deep/a", 0o644, 0, 0, "a");
    world.file("/home/u/data/tool", 0o4755, 0, 0, "b");
    world.file("/home/u/data/caf\u{e9}", 0o644, 0, 0, "c");
    for path in ["/home/u/data", "/home/u/data/more", "/home/u/.ssh/authorized_keys"] {
        std::os::unix::fs::chown(world.at(path), Some(0), Some(0)).unwrap();
    }
    fs::write(world.at("/home/u/.ssh/authorized_keys"), "").unwrap();
    let key = world.state.join("../key.pub");
    fs::write(&key, KEY).unwrap();
    let arguments = ["repair", "--yes", "--user", "u", "--key", key.to_str().unwrap(), "volume"];
    expect(&volrescue(&world, &arguments), &[0, 1], "");
    let (id, _) = runs(&world).remove(0);
    let output = volrescue(&world, &["history", &id]);
    expect(&output, &[0], "complete, begun 20");
    let text = String::from_utf8(output.stdout).unwrap();
    let saved = world.state.join(&id).join("saved/000");
    for words in [
        "user u",
        "done    chown-tree       /home/u",
        "1 entry of 0:0 in /home/u/data/more/deep\n          a\n",
        "1 entry of 0:0, mode 4755 in /home/u/data\n          tool\n",
        "done    set-mode         /home/u\n          0777 -> 0700",
        &format!("saved as {}", saved.display()),
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    assert!(saved.is_file());
    let json = |run: &str| -> serde_json::Value {
        serde_json::from_slice(&volrescue(&world, &["history", "--json", run]).stdout).unwrap()
    };
    let document = json(&id);
    assert_eq!((&document["state"], &document["users"][0]), (&"complete".into(), &"u".into()));
    let deep = |step: &serde_json::Value| {
        step["directories"].as_array().is_some_and(|all| {
            all.iter().any(|one| one["path"] == "/home/u/data/more/deep" && one["names"][0] == "a")
        })
    };
    assert!(document["steps"].as_array().unwrap().iter().any(deep), "{document:#}");

    expect(&volrescue(&world, &["undo", "--yes", &id]), &[0], "");
    let (undo, _) = runs(&world).remove(1);
    expect(&volrescue(&world, &["history", &id]), &[0], &format!("undone by run {undo}"));
    expect(&volrescue(&world, &["history", &undo]), &[0], &format!("took back run {id}"));
    assert_eq!((&json(&id)["undone_by"], &json(&undo)["undoes"]), (&undo.into(), &id.into()));
}

/// A root of this system's programs in which the account files are those of the small root.
fn running_system(world: &World, arguments: &str) -> Output {
    let script = format!(
        r#"
        mount --bind "$1" "$1"; cd "$1"
        mkdir -p usr proc tmp run; : >volrescue
        ln -sfn usr/lib lib; ln -sfn usr/lib64 lib64
        mount --bind /usr usr; mount -o remount,bind,ro usr; mount --rbind /proc proc; mount --bind "$2" volrescue
        exec chroot . /volrescue {arguments} /
        "#
    );
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-euc", &script, "bash"])
        .arg(&world.volume)
        .arg(env!("CARGO_BIN_EXE_volrescue"))
        .output()
        .unwrap()
}

#[test]
fn on_the_running_system_the_account_files_are_locked_as_shadow_utils_lock_them() {
    let world = small_root("live");
    let key = world.at("/key.pub");
    fs::write(&key, KEY).unwrap();
    let repair = "repair --live --yes --create-user --user new --key /key.pub --state-dir /state";
    let passwd = fs::read_to_string(world.at("/etc/passwd")).unwrap();
    let lock = world.at("/etc/passwd.lock");
    fs::write(&lock, format!("{}\0", std::process::id())).unwrap();
    expect(&running_system(&world, repair), &[4], &format!("process {} holds", std::process::id()));
    assert_eq!(fs::read_to_string(world.at("/etc/passwd")).unwrap(), passwd, "nothing is changed");
    fs::remove_file(&lock).unwrap();
    expect(&running_system(&world, repair), &[0, 1], "To take this run back");
    assert!(fs::read_to_string(world.at("/etc/passwd")).unwrap().contains("\nnew:x:1001:"));
    let left: Vec<_> = fs::read_dir(world.at("/etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("lock") || name.contains(&format!(".{}", std::process::id())))
        .collect();
    assert_eq!(left, [".pwd.lock"]);
}

#[test]
fn a_disk_that_is_pulled_gives_both_errors_with_their_paths() {
    let world = small_root("pulled");
    let image = world.volume.with_file_name("pulled.img");
    let make = || {
        drop(fs::remove_file(&image));
        run(Command::new("truncate").args(["-s", "24M"]).arg(&image));
        run(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(&world.volume).arg(&image));
    };
    let repair = |options: &[&str]| {
        Command::new("python3")
            .args(["scripts/faulty-disk", "run"])
            .args(options)
            .arg(&image)
            .args(["--", env!("CARGO_BIN_EXE_volrescue"), "repair", "--yes", "--user", "u"])
            .arg(&image)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("VOLRESCUE_STATE_DIR", &world.state)
            .output()
            .unwrap()
    };
    let log = world.state.join("../log");
    make();
    expect(&repair(&["--log", log.to_str().unwrap()]), &[0, 1], "");
    let listed = Command::new("python3")
        .args([&format!("{}/scripts/faulty-disk", env!("CARGO_MANIFEST_DIR")), "list"])
        .arg(&log)
        .output()
        .unwrap();
    let requests = String::from_utf8(listed.stdout).unwrap().lines().count();
    let mut both = 0;
    for at in (1..=requests).rev().step_by(2) {
        make();
        let output = repair(&["--fail", &format!("any:0:{at}")]);
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        let words = format!("; then letting go of {} failed:", image.display());
        both += usize::from(said.contains(&words) && output.status.code() == Some(5));
        if both == 1 {
            break;
        }
    }
    assert!(both > 0, "of {requests} requests none gave both errors");
}
