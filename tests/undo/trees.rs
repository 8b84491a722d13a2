//! chown of trees, against chown(1), and at their extremes.

use crate::world::{World, action, broken_home, of, run, unlock};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use volrescue::apply::{Survey, TreeResult, Unwatched, survey_tree};
use volrescue::plan::{Change, TreeOwners};
use volrescue::undo::UndoOptions;

fn survey(world: &World, path: &str, owners: &TreeOwners) -> TreeResult {
    survey_tree(&world.root(), Path::new(path), (1000, 1000), owners, Survey::Whole, &mut Unwatched).unwrap()
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
