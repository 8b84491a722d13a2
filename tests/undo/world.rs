//! The world of a test: a volume, a state directory, and a home that is broken in most ways.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use volrescue::apply::{Report, Unwatched, apply};
use volrescue::journal::record::Ending;
use volrescue::journal::{Journal, LoadedRun, RunInfo, VolumeLock, load};
use volrescue::plan::{Action, Before, Change, TreeOwners};
use volrescue::root::{Crossing, Root};
use volrescue::undo::{UndoOptions, UndoReport, undo};

/// A volume and a state directory of one test.
pub(crate) struct World {
    pub(crate) volume: PathBuf,
    pub(crate) state: PathBuf,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("undo").join(name);
        if path.symlink_metadata().is_ok() {
            unlock(&path);
            fs::remove_dir_all(&path).unwrap();
        }
        let world = Self { volume: path.join("volume"), state: path.join("state") };
        fs::create_dir_all(&world.volume).unwrap();
        world
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(OwnedFd::from(fs::File::open(&self.volume).unwrap()), Crossing::Never).unwrap()
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.volume.join(path.trim_start_matches('/'))
    }

    pub(crate) fn dir(&self, path: &str, mode: u32, uid: u32, gid: u32) {
        fs::create_dir_all(self.at(path)).unwrap();
        self.dress(path, mode, uid, gid);
    }

    pub(crate) fn file(&self, path: &str, mode: u32, uid: u32, gid: u32, content: &str) {
        fs::write(self.at(path), content).unwrap();
        self.dress(path, mode, uid, gid);
    }

    pub(crate) fn dress(&self, path: &str, mode: u32, uid: u32, gid: u32) {
        chown(self.at(path), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn mode_owner(&self, path: &str) -> String {
        let meta = self.at(path).symlink_metadata().unwrap();
        format!("{:04o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid())
    }

    pub(crate) fn flags(&self, path: &str) -> u32 {
        self.root().handle(Path::new(path)).unwrap().flags().unwrap() & 0x30
    }

    pub(crate) fn begin(&self, command: &str) -> (Journal, VolumeLock) {
        let mut lock = VolumeLock::take(&self.state, "0a1b-test").unwrap();
        let info = RunInfo { command: command.into(), given: "test".into(), ..RunInfo::default() };
        (Journal::create(&self.state, &info, &mut lock).unwrap(), lock)
    }

    /// A whole run.
    pub(crate) fn repair(&self, actions: &[Action]) -> (Report, String) {
        let (mut journal, _lock) = self.begin("repair");
        let report = apply(&self.root(), actions, &mut journal, &mut Unwatched);
        journal.end(Ending::Complete).unwrap();
        (report, journal.run_id().unwrap().to_owned())
    }

    pub(crate) fn undo(&self, run: &str, options: UndoOptions) -> UndoReport {
        let (mut journal, _lock) = self.begin("undo");
        let mut run = load(&self.state, run).unwrap();
        undo(&self.root(), &mut run, options, &mut journal, &mut Unwatched).unwrap()
    }

    pub(crate) fn load(&self, run: &str) -> LoadedRun {
        load(&self.state, run).unwrap()
    }

    pub(crate) fn manifest(&self) -> BTreeMap<PathBuf, String> {
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

impl Drop for World {
    /// Immutable files would be in the way of whoever cleans up; what failed stays to be looked at.
    fn drop(&mut self) {
        if let Some(path) = self.volume.parent()
            && !std::thread::panicking()
        {
            unlock(path);
            drop(fs::remove_dir_all(path));
        }
    }
}

/// Takes immutable and append-only flags off a tree; chattr fails on links, which have none.
pub(crate) fn unlock(path: &Path) {
    Command::new("chattr").args(["-R", "-f", "-i", "-a"]).arg(path).output().unwrap();
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn action(path: &str, change: Change) -> Action {
    Action { path: path.into(), change, why: String::new() }
}

pub(crate) fn regular(world: &World, path: &str) -> Before {
    let meta = world.at(path).metadata().unwrap();
    Before::Regular { ino: meta.ino(), size: meta.size(), mtime: meta.mtime() }
}

/// `security.capability` with cap_net_bind_service, as setcap writes it.
pub(crate) const CAPS: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// user::rwx user:7:rwx group::r-x mask::rwx other::r-x
pub(crate) const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 7, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16,
    0, 7, 0, 255, 255, 255, 255, 32, 0, 5, 0, 255, 255, 255, 255,
];

/// A home broken in most ways.
pub(crate) fn broken_home(name: &str) -> World {
    let world = World::new(name);
    break_home(&world);
    world
}

/// Fills an empty volume with it.
pub(crate) fn break_home(world: &World) {
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
}

pub(crate) fn filetime(seconds: i64) -> nix::sys::time::TimeSpec {
    nix::sys::time::TimeSpec::new(seconds, 123)
}

pub(crate) fn of(uids: &[u32]) -> TreeOwners {
    TreeOwners::Of { uids: uids.to_vec() }
}

pub(crate) fn plan(world: &World) -> Vec<Action> {
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
