//! Root against a tree made to harm, on a real filesystem. Needs root (mounts, device nodes, owners).

#![expect(clippy::unwrap_used, reason = "a test fails where its world can't be made")]
#![expect(clippy::disallowed_methods, reason = "the tests prepare the tree from outside")]

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use volrescue::inventory::Inventory;
use volrescue::root::{Crossing, NewFile, Placing, Root, temp_name};
use volrescue::view::{self, FileKind, LookError, View};

/// A fresh directory; the last run's remains are removed first.
fn fresh(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("root").join(name);
    if path.symlink_metadata().is_ok() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path
}

fn root(path: &Path, crossing: Crossing) -> Root {
    Root::new(OwnedFd::from(fs::File::open(path).unwrap()), crossing).unwrap()
}

/// Runs `body` in a mount namespace of its own, which ends with its thread.
fn in_mount_namespace(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        body();
    });
    thread.join().unwrap();
}

fn hostile(path: &Path) {
    fs::create_dir_all(path.join("usr/bin")).unwrap();
    fs::create_dir_all(path.join("home/u")).unwrap();
    fs::create_dir_all(path.join("etc")).unwrap();
    fs::write(path.join("etc/shadow"), "volume").unwrap();
    symlink("usr/bin", path.join("bin")).unwrap();
    symlink("/etc", path.join("home/u/.ssh")).unwrap();
    symlink("../../../../../../../../etc", path.join("home/u/up")).unwrap();
    symlink("/proc/self/root/etc", path.join("home/u/magic")).unwrap();
    symlink("/nowhere", path.join("home/u/dangling")).unwrap();
    symlink("loop", path.join("home/u/loop")).unwrap();
    nix::unistd::mkfifo(&path.join("home/u/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    nix::sys::stat::mknod(
        &path.join("home/u/zero"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o600),
        nix::sys::stat::makedev(1, 5),
    )
    .expect("these tests need root");
    drop(std::os::unix::net::UnixListener::bind(path.join("home/u/s")));
    fs::File::create(path.join("home/u/huge")).unwrap().set_len(4 << 30).unwrap();
}

#[test]
fn a_link_is_followed_inside_the_volume_or_not_at_all() {
    let path = fresh("links");
    hostile(&path);
    let root = root(&path, Crossing::Never);
    let view = Inventory::new(&root);
    let read = |path: &str| view::read_following(&view, Path::new(path), 100);
    for path in ["/home/u/.ssh/shadow", "/home/u/up/shadow", "/etc/shadow"] {
        assert_eq!(read(path).unwrap(), b"volume", "{path}");
    }
    assert_eq!(read("/home/u/magic/shadow"), Err(LookError::NotFound), "there is no /proc in the volume");
    assert_eq!(read("/home/u/dangling"), Err(LookError::NotFound));
    assert_eq!(read("/home/u/loop"), Err(LookError::Loop));
    // Root itself follows nothing.
    assert_eq!(root.lstat(Path::new("/home/u/.ssh/shadow")), Err(LookError::Loop));
    assert_eq!(root.lstat(Path::new("/home/u/.ssh")).unwrap().kind, FileKind::Symlink);
    assert_eq!(root.read_link(Path::new("/home/u/.ssh")).unwrap(), Path::new("/etc"));
    assert!(root.parent(Path::new("/home/u/.ssh/authorized_keys")).is_err());
    for outside in ["/..", "/home/../../etc", "etc/shadow"] {
        assert!(root.lstat(Path::new(outside)).is_err(), "{outside} is no canonical path");
    }
}

#[test]
fn what_is_no_regular_file_is_named_and_never_opened() {
    let path = fresh("kinds");
    hostile(&path);
    let root = root(&path, Crossing::Never);
    let read = |path: &str| root.read(Path::new(path), 1 << 20);
    // A FIFO without a writer would block an open for ever.
    assert_eq!(read("/home/u/fifo"), Err(LookError::Kind(FileKind::Fifo)));
    assert_eq!(read("/home/u/zero"), Err(LookError::Kind(FileKind::CharDevice)));
    assert_eq!(read("/home/u/s"), Err(LookError::Kind(FileKind::Socket)));
    assert_eq!(read("/home/u/dangling"), Err(LookError::Kind(FileKind::Symlink)));
    assert_eq!(read("/home/u"), Err(LookError::Kind(FileKind::Directory)));
    assert_eq!(read("/home/u/huge"), Err(LookError::TooLarge { size: 4 << 30, limit: 1 << 20 }));
    assert_eq!(read("/home/u/huge/x"), Err(LookError::NotDirectory));
    assert_eq!(read(&format!("/{}", "n".repeat(256))), Err(LookError::NameTooLong));
    assert_eq!(root.list(Path::new("/etc/shadow"), 10), Err(LookError::Kind(FileKind::Regular)));
}

#[test]
fn a_mount_is_another_filesystem_and_a_pseudo_one_is_never_written() {
    in_mount_namespace(|| {
        let path = fresh("mounts");
        hostile(&path);
        fs::create_dir(path.join("proc")).unwrap();
        mount(Some("proc"), &path.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
        mount(Some(&path.join("etc")), &path.join("usr"), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .unwrap();
        let one = root(&path, Crossing::Never);
        for other in ["/proc", "/proc/self/status", "/usr", "/usr/shadow"] {
            assert_eq!(one.lstat(Path::new(other)), Err(LookError::OtherFilesystem), "{other}");
        }
        let all = root(&path, Crossing::LoginPath);
        assert_eq!(all.read(Path::new("/usr/shadow"), 100).unwrap(), b"volume");
        assert_eq!(all.lstat(Path::new("/proc/1/root/etc/passwd")), Err(LookError::Loop), "a magic link");
        let proc = all.handle(Path::new("/proc/version")).unwrap();
        assert_eq!(proc.chmod(0o777).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let (directory, name) = all.parent(Path::new("/proc/x")).unwrap();
        assert!(directory.unlink(&name).is_err());
    });
}

#[test]
fn links_and_files_are_changed_themselves() {
    let path = fresh("changes");
    hostile(&path);
    let root = root(&path, Crossing::Never);
    let link = root.handle(Path::new("/home/u/.ssh")).unwrap();
    link.chown(7, 8).unwrap();
    link.set_xattr("trusted.volrescue", Some(b"1")).unwrap();
    assert_eq!(link.xattr("trusted.volrescue").unwrap().unwrap(), b"1");
    link.set_times((1, 2), (3, 4)).unwrap();
    let meta = path.join("home/u/.ssh").symlink_metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec()), (7, 8, 3, 4));
    let etc = path.join("etc").metadata().unwrap();
    assert_eq!((etc.uid(), etc.gid()), (0, 0), "the link's target is another file");
    assert!(root.xattr(Path::new("/etc"), "trusted.volrescue").unwrap().is_none());
    let file = root.handle(Path::new("/etc/shadow")).unwrap();
    file.chmod(0o4640).unwrap();
    assert_eq!(path.join("etc/shadow").metadata().unwrap().permissions().mode() & 0o7777, 0o4640);
}

#[test]
fn a_file_is_whole_before_it_has_its_name() {
    let path = fresh("files");
    let root = root(&path, Crossing::Never);
    let directory = root.directory(Path::new("/")).unwrap();
    let xattrs = vec![("user.note".into(), b"x".to_vec())];
    let new =
        NewFile { content: b"keys\n", mode: 0o600, uid: 5, gid: 6, xattrs: &xattrs, flags: 0, times: None };
    let name = OsStr::new("authorized_keys");
    directory.write_file(name, &temp_name(), &new, Placing::New).unwrap();
    let error = directory.write_file(name, &temp_name(), &new, Placing::New).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    directory.write_file(name, &temp_name(), &NewFile { content: b"more\n", ..new }, Placing::Over).unwrap();
    assert_eq!(root.read(Path::new("/authorized_keys"), 10).unwrap(), b"more\n");
    assert_eq!(root.lstat(Path::new("/authorized_keys")).unwrap().mode_owner(), "0600 5:6");
    assert_eq!(root.xattr(Path::new("/authorized_keys"), "user.note").unwrap().unwrap(), b"x");
    directory.make_directory(OsStr::new("d"), &temp_name(), (0o2750, 1, 2), &vec![]).unwrap();
    assert_eq!(root.lstat(Path::new("/d")).unwrap().mode_owner(), "2750 1:2");
    let link =
        directory.make_link(OsStr::new("l"), &temp_name(), Path::new("x"), (3, 4), &vec![], Placing::New);
    link.unwrap();
    assert_eq!(
        root.list(Path::new("/"), 10).unwrap(),
        ["authorized_keys", "d", "l"],
        "no temporary name is left"
    );
    assert_eq!(root.list(Path::new("/"), 2), Err(LookError::TooLarge { size: 3, limit: 2 }));
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_reached() {
    let path = fresh("deep");
    let mut at = OwnedFd::from(fs::File::open(&path).unwrap());
    let mut inside = PathBuf::from("/");
    for _ in 0..1000 {
        nix::sys::stat::mkdirat(&at, "directory", nix::sys::stat::Mode::S_IRWXU).unwrap();
        at = nix::fcntl::openat(&at, "directory", nix::fcntl::OFlag::O_PATH, nix::sys::stat::Mode::empty())
            .unwrap();
        inside.push("directory");
    }
    let root = root(&path, Crossing::Never);
    assert!(root.lstat(&inside).unwrap().is_dir());
    inside.push("x");
    assert_eq!(root.lstat(&inside), Err(LookError::NotFound));
}

#[test]
fn an_inventory_remembers_what_it_saw() {
    let path = fresh("memory");
    hostile(&path);
    let root = root(&path, Crossing::Never);
    let view = Inventory::new(&root);
    let shadow = Path::new("/etc/shadow");
    assert_eq!(view.read(shadow, 2), Err(LookError::TooLarge { size: 6, limit: 2 }));
    assert_eq!(view.read(shadow, 6).unwrap(), b"volume");
    fs::write(path.join("etc/shadow"), "changed").unwrap();
    assert_eq!(view.read(shadow, 100).unwrap(), b"volume");
    assert_eq!(view.read(shadow, 2), Err(LookError::TooLarge { size: 6, limit: 2 }));
    assert_eq!(Inventory::new(&root).read(shadow, 100).unwrap(), b"changed");
}
