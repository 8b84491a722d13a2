//! chown of trees, against chown(1), and at their extremes.

use crate::world::{CAPS, World, action, break_home, broken_home, of, run, unlock};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use volrescue::apply::{Survey, TreeResult, Unwatched, Watch, apply, survey_tree};
use volrescue::journal::Step;
use volrescue::journal::record::Ending;
use volrescue::plan::{Change, TreeOwners};
use volrescue::probe::ReadAt as _;
use volrescue::probe::inode_table::{InodeTable, TableInode, btrfs_inodes};
use volrescue::root::{Crossing, Root};
use volrescue::sys::block::TreeItems;
use volrescue::sys::bytes::FileBytes;
use volrescue::undo::UndoOptions;
use volrescue::view::{APPEND_ONLY, IMMUTABLE};

fn survey(world: &World, path: &str, owners: &TreeOwners) -> TreeResult {
    survey_tree(&world.root(), Path::new(path), (1000, 1000), owners, Survey::Whole, &mut Unwatched).unwrap()
}

#[test]
fn what_was_locked_after_the_run_is_undone_and_stays_locked() {
    let world = World::new("locked-later");
    world.dir("/home/u/data", 0o755, 0, 0);
    for name in ["immutable", "log", "plain"] {
        world.file(&format!("/home/u/data/{name}"), 0o644, 0, 0, "");
    }
    let before = world.manifest();
    let (report, id) =
        world.repair(&[action("/home/u", Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0]) })]);
    assert_eq!(report.trees[0].1.changed, 4);
    let lock = |name: &str, flags| {
        let handle = world.root().handle(Path::new(name)).unwrap();
        handle.set_flags(handle.flags().unwrap() & !(IMMUTABLE | APPEND_ONLY) | flags).unwrap();
    };
    let locked = [("/home/u/data/immutable", IMMUTABLE), ("/home/u/data/log", APPEND_ONLY)];
    for (name, flags) in locked {
        lock(name, flags);
    }
    let undone = world.undo(&id, UndoOptions::default());
    let flags = locked.map(|(name, _)| world.flags(name));
    for (name, _) in locked {
        lock(name, 0);
    }
    assert!(undone.is_complete(), "{undone:#?}");
    assert_eq!(flags, [IMMUTABLE, APPEND_ONLY]);
    assert_eq!(world.manifest(), before);
}

/// What no option would take is not told among what one would.
#[test]
fn a_file_of_another_owner_with_a_name_outside_is_told_apart_from_what_can_be_taken() {
    let world = World::new("kept-links");
    world.dir("/home/u/db", 0o755, 0, 0);
    world.dir("/outside", 0o755, 0, 0);
    for (name, owner) in [("a-out", 999), ("b-in", 999), ("c-alone", 999), ("d-out", 7)] {
        world.file(&format!("/home/u/db/{name}"), 0o644, owner, owner, "");
    }
    for (from, to) in [("a-out", "/outside/a"), ("b-in", "/home/u/b"), ("d-out", "/outside/d")] {
        fs::hard_link(world.at(&format!("/home/u/db/{from}")), world.at(to)).unwrap();
    }
    let plain = survey(&world, "/home/u", &of(&[0]));
    let kept: Vec<_> =
        plain.kept.iter().map(|kept| (kept.owner, kept.entries, kept.example.as_path())).collect();
    assert_eq!(kept, [(999, 3, Path::new("/home/u/b"))], "both names of one file, and another");
    assert_eq!(plain.hardlinks_outside, 2);
    assert_eq!(plain.hardlink_example.as_deref(), Some(Path::new("/home/u/db/a-out")));
    // The option that is told with what was kept takes all of it.
    let asked = survey(&world, "/home/u", &of(&[0, 999]));
    assert_eq!((asked.changed, asked.kept.len()), (plain.changed + 3, 0));
    assert_eq!(asked.hardlinks_outside, 2);
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

/// A walk by so many threads.
struct Threads(usize);

impl Watch for Threads {
    fn tick(&mut self, _: u64, _: &Path) {}

    fn stop(&mut self) -> bool {
        false
    }

    fn threads(&self) -> Option<usize> {
        Some(self.0)
    }
}

/// What a run's journal says of every entry of its trees, by path; a name that is in it twice is an error.
fn journaled(world: &World, id: &str) -> BTreeMap<PathBuf, String> {
    let run = world.load(id);
    let mut all = BTreeMap::new();
    for index in 0..run.len() {
        let Step::Batch(batch) = run.step(index).unwrap() else { continue };
        let mut path = PathBuf::new();
        for dir in &batch.dirs {
            (0..dir.up).for_each(|_| assert!(path.pop()));
            path.push(dir.path.to_path());
            for group in &dir.groups {
                let before = format!(
                    "{:?} {:?} {:?} {:?} {:?}",
                    batch.to, group.from, group.mode, group.caps, group.flags
                );
                for name in &group.names {
                    let at = path.join(name.to_os_string());
                    assert_eq!(all.insert(at.clone(), before.clone()), None, "{}", at.display());
                }
            }
        }
    }
    all
}

/// Everything that a walk must tell apart, several times over, in directories of all sizes.
fn make_motley(world: &World) {
    break_home(world);
    world.dir("/outside", 0o755, 0, 0);
    for dir in 0..150 {
        let at = format!("/home/u/many/{}/{dir}", dir % 7);
        world.dir(&at, 0o755, 0, dir);
        for file in 0..dir % 40 {
            let (mode, owner) = match file {
                3 => (0o6755, 0),
                5 => (0o644, 2000 + dir % 3),
                6 => (0o644, 1000),
                _ => (0o640, 0),
            };
            world.file(&format!("{at}/{file}"), mode, owner, owner, "");
        }
        if dir % 40 > 8 {
            xattr::set(world.at(&format!("{at}/2")), "security.capability", &CAPS).unwrap();
            fs::hard_link(
                world.at(&format!("{at}/1")),
                world.at(&format!("/home/u/many/{}/l{dir}", dir % 5)),
            )
            .unwrap();
            fs::hard_link(world.at(&format!("{at}/4")), world.at(&format!("/outside/{dir}"))).unwrap();
        }
    }
    world.dir("/home/u/wide", 0o755, 0, 0);
    for file in 0..3000 {
        world.file(&format!("/home/u/wide/{file:05}"), 0o644, file % 2, 0, "");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_tree_journal_and_undo() {
    let world = World::new("threads");
    make_motley(&world);
    // On a volume of our own, and on a tree that others may change at the same time.
    let never = [1, 2, 16, 64].map(|threads| (threads, Crossing::Never));
    let walks = never.into_iter().chain([(1, Crossing::LoginPath), (16, Crossing::LoginPath)]);
    same_by_all(&world, walks);
}

/// Walks the home in each of the ways, all of which must do, tell, journal and undo the same.
fn same_by_all(world: &World, walks: impl IntoIterator<Item = (usize, Crossing)>) {
    let before = world.manifest();
    let tree = action("/home/u", Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0]) });
    let mut first = None;
    for (threads, crossing) in walks {
        let root = Root::new(OwnedFd::from(fs::File::open(&world.volume).unwrap()), crossing).unwrap();
        let mut watch = Threads(threads);
        let count = |watch: &mut Threads| {
            let path = Path::new("/home/u");
            survey_tree(&root, path, (1000, 1000), &of(&[0]), Survey::Whole, watch).unwrap()
        };
        let counted = count(&mut watch);
        let (mut journal, lock) = world.begin("repair");
        let report = apply(&root, std::slice::from_ref(&tree), &mut journal, &mut watch);
        assert!(report.error.is_none(), "{threads} threads: {:?}", report.error);
        journal.end(Ending::Complete).unwrap();
        let id = journal.run_id().unwrap().to_owned();
        drop((journal, lock));
        let result = report.trees[0].1.clone();
        assert_eq!(counted, result, "{threads} threads count what they change");
        let again = count(&mut watch);
        assert_eq!((again.changed, again.unchanged), (0, result.changed + result.unchanged));
        let done = (result, world.manifest(), journaled(world, &id));
        let differing = before.iter().filter(|(path, line)| done.1[*path] != **line).count() as u64;
        assert_eq!(differing, done.0.changed, "{threads} threads");
        let undone = world.undo(&id, UndoOptions::default());
        assert!(undone.is_complete(), "{threads} threads: {undone:#?}");
        assert_eq!(before, world.manifest(), "{threads} threads: undone");
        let first = first.get_or_insert_with(|| done.clone());
        assert_eq!(first.0, done.0, "{threads} threads, {crossing:?}: what is told");
        assert!(first.1 == done.1, "{threads} threads, {crossing:?}: the tree");
        assert!(first.2 == done.2, "{threads} threads, {crossing:?}: the journal");
    }
    let (result, _, _) = first.unwrap();
    assert!(result.changed > 3000 && result.hardlinks_outside > 100 && result.kept.len() > 4, "{result:?}");
}

/// Makes a filesystem in a file and mounts it as the volume of a world; unmounted with it.
struct Image<'w>(&'w World);

impl<'w> Image<'w> {
    fn mount(world: &'w World, mkfs: &[&str]) -> Self {
        own_mounts();
        let image = Self::file(world);
        fs::File::create(&image)
            .unwrap()
            .set_len(if mkfs[0] == "mke2fs" { 96 << 20 } else { 640 << 20 })
            .unwrap();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image));
        Self::mount_again(world)
    }

    fn mount_again(world: &'w World) -> Self {
        run(Command::new("mount").args(["-o", "loop"]).args([&Self::file(world), &world.volume]));
        Self(world)
    }

    /// As it is once all is written.
    fn anew(self) -> Self {
        let world = self.0;
        drop(self);
        Self::mount_again(world)
    }

    fn file(world: &World) -> PathBuf {
        world.volume.with_file_name("image")
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0.volume).status();
        assert!(std::thread::panicking() || unmounted.unwrap().success());
    }
}

/// In a mount namespace of its thread a filesystem ends with its unmount. From the common one, tests that run beside
/// this one take copies of its mounts, and while they hold them nothing need be written.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>).unwrap();
}

fn make_motley_of_many_owners(world: &World) {
    make_motley(world);
    run(Command::new("setfacl").args(["-m", "u:4711:r"]).arg(world.at("/home/u/wide/00002")));
    for (path, uid) in [("/home/u/wide/00004", 100_000), ("/home/u/wide/00006", 4_000_000_000)] {
        world.dress(path, 0o644, uid, uid);
    }
}

/// On a volume of our own inodes are read from their table, on a tree of others by their names. Our own comes first: it
/// was just mounted then, and all that was to be written is.
const WAYS: [(usize, Crossing); 2] = [(2, Crossing::Never), (2, Crossing::LoginPath)];

#[test]
fn inodes_by_number_are_those_by_name_on_every_shape_of_ext_and_xfs() {
    let ext: [&[&str]; 9] = [
        &["-t", "ext4"],
        &["-t", "ext4", "-I", "128", "-b", "1024"],
        &["-t", "ext4", "-I", "1024", "-b", "2048"],
        &["-t", "ext4", "-O", "^64bit,^flex_bg,^metadata_csum,uninit_bg", "-b", "1024"],
        &["-t", "ext4", "-O", "64bit,^flex_bg,metadata_csum_seed,inline_data", "-b", "1024"],
        &["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"],
        &["-t", "ext4", "-O", "large_dir,ea_inode,^metadata_csum"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext2"],
    ];
    let xfs: [&[&str]; 5] = [
        &[],
        &["-i", "size=2048", "-d", "agcount=7"],
        &["-b", "size=1024", "-m", "bigtime=0"],
        &["-i", "sparse=0,maxpct=90", "-m", "rmapbt=1,reflink=0"],
        &["-n", "size=8192", "-i", "nrext64=1"],
    ];
    let ext = ext.map(|options| [&["mke2fs", "-q", "-F", "-N", "20000"], options].concat());
    let xfs = xfs.map(|options| [&["mkfs.xfs", "-q", "-f"], options].concat());
    for (number, shape) in ext.iter().chain(&xfs).enumerate() {
        let world = World::new(&format!("shape-{number}"));
        let image = Image::mount(&world, shape);
        make_motley_of_many_owners(&world);
        let image = image.anew();
        same_by_all(&world, WAYS);
        let by_name = inodes_of(&world);
        drop(image);
        let image = Image::file(&world);
        match shape[0] {
            "mke2fs" => run(Command::new("e2fsck").arg("-fn").arg(&image)),
            _ => run(Command::new("xfs_repair").arg("-n").arg(&image)),
        }
        let device = fs::File::open(&image).unwrap();
        let bytes = FileBytes { file: &device, size: device.metadata().unwrap().len() };
        let table = match shape[0] {
            "mke2fs" => InodeTable::read_ext(&bytes).unwrap(),
            _ => InodeTable::read_xfs(&bytes).unwrap(),
        };
        // Scattered descriptors are left to the kernel.
        assert_eq!(table.is_none(), shape.contains(&"meta_bg,^resize_inode"), "{shape:?}");
        for (ino, named) in by_name.into_iter().filter(|_| table.is_some()) {
            let table = table.as_ref().unwrap();
            let inode = bytes.read_at(table.position(ino).unwrap(), table.inode_size()).unwrap();
            let read = table.inode(ino, &inode).unwrap();
            assert!(read.may_have_capability || !named.may_have_capability, "{shape:?}, inode {ino}");
            let flags = read.flags & (IMMUTABLE | APPEND_ONLY);
            let read = TableInode { flags, may_have_capability: named.may_have_capability, ..read };
            assert_eq!(read, named, "{shape:?}, inode {ino}");
        }
    }
}

#[test]
fn inodes_by_number_are_those_by_name_on_btrfs() {
    for (number, shape) in [&["-q"][..], &["-q", "-n", "4096", "-M"]].into_iter().enumerate() {
        let world = World::new(&format!("btrfs-shape-{number}"));
        let image = Image::mount(&world, &[&["mkfs.btrfs", "-f"], shape].concat());
        make_motley_of_many_owners(&world);
        let image = image.anew();
        same_by_all(&world, WAYS);
        // All that is in the tree now is written.
        let image = image.anew();
        let volume = fs::File::open(&world.volume).unwrap();
        let mut items = TreeItems::default();
        for (ino, named) in inodes_of(&world) {
            let (bytes, count) = items.search(&volume, ino, 1000).unwrap();
            let (first, read) = btrfs_inodes(bytes, count)[0];
            assert_eq!(first, ino);
            assert!(read.may_have_capability || !named.may_have_capability, "inode {ino}");
            assert_eq!(
                TableInode { may_have_capability: named.may_have_capability, ..read },
                named,
                "inode {ino}"
            );
        }
        drop((volume, image));
    }
}

/// xfs and btrfs write their inodes later: those that the same run has changed before are as they were yet where they are
/// read from.
#[test]
fn what_the_run_has_changed_before_is_neither_taken_once_more_nor_stripped() {
    for mkfs in [&["mkfs.xfs", "-q", "-f"][..], &["mkfs.btrfs", "-q", "-f"], &["mke2fs", "-q", "-t", "ext4"]]
    {
        let world = World::new(mkfs[0]);
        let image = Image::mount(&world, mkfs);
        world.dir("/home/u/data", 0o755, 1000, 1000);
        for name in 0..100 {
            world.file(&format!("/home/u/data/{name}"), 0o644, 0, 0, "");
        }
        let image = image.anew();
        // The first are as they were: what is read agrees with the kernel.
        for name in 40..100 {
            world.dress(&format!("/home/u/data/{name}"), 0o644, 1000, 1000);
        }
        let capable = world.at("/home/u/data/30");
        xattr::set(&capable, "security.capability", &CAPS).unwrap();
        let root = Root::new(OwnedFd::from(fs::File::open(&world.volume).unwrap()), Crossing::Never).unwrap();
        let tree = action("/home/u", Change::ChownTree { uid: 1000, gid: 1000, owners: of(&[0]) });
        let (mut journal, lock) = world.begin("repair");
        let report = apply(&root, &[tree], &mut journal, &mut Threads(2));
        journal.end(Ending::Complete).unwrap();
        let id = journal.run_id().unwrap().to_owned();
        drop((root, journal, lock));
        let result = &report.trees[0].1;
        assert_eq!((result.changed, result.unchanged), (40, 61), "{mkfs:?}");
        assert_eq!(journaled(&world, &id).len(), 40, "{mkfs:?}");
        let kept = xattr::get(&capable, "security.capability").unwrap();
        assert_eq!(kept.as_deref(), Some(&CAPS[..]), "{mkfs:?}");
        drop(image);
    }
}

/// What the kernel says of every inode, by its number.
fn inodes_of(world: &World) -> BTreeMap<u64, TableInode> {
    let paths = world.manifest().into_keys();
    let inode = |path: PathBuf| {
        let at = world.at(path.to_str()?);
        let meta = at.symlink_metadata().ok()?;
        let inode = TableInode {
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            nlink: u32::try_from(meta.nlink()).ok()?,
            flags: world.flags(path.to_str()?),
            may_have_capability: xattr::get(&at, "security.capability").is_ok_and(|value| value.is_some()),
        };
        Some((meta.ino(), inode))
    };
    paths.filter_map(inode).collect()
}

#[test]
fn thousands_of_levels_with_two_directories_each_are_walked_by_any_number_of_threads() {
    let world = World::new("comb");
    let mut at = OwnedFd::from(fs::File::open(&world.volume).unwrap());
    for _ in 0..3_000 {
        for name in ["d", "side"] {
            nix::sys::stat::mkdirat(&at, name, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let flags = nix::fcntl::OFlag::O_PATH;
        at = nix::fcntl::openat(&at, "d", flags, nix::sys::stat::Mode::empty()).unwrap();
    }
    drop(at);
    let tree = action("/", Change::ChownTree { uid: 1000, gid: 1000, owners: TreeOwners::All });
    for threads in [1, 8] {
        let (mut journal, lock) = world.begin("repair");
        let report = apply(&world.root(), std::slice::from_ref(&tree), &mut journal, &mut Threads(threads));
        assert!(report.error.is_none(), "{:?}", report.error);
        assert_eq!(report.applied[0].entries, Some(6_000), "{threads} threads");
        let id = journal.run_id().unwrap().to_owned();
        drop((journal, lock));
        let undone = world.undo(&id, UndoOptions::default());
        assert!(undone.is_complete(), "{undone:?}");
        assert_eq!(survey(&world, "/", &TreeOwners::All).changed, 6_000);
    }
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
