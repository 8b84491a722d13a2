//! The account files against the real programs: what getent(1) reads, and what pwck(8), grpck(8) and visudo(8) think of
//! our results, each in a chroot of a copy of a small Debian. Needs root, and the tree that scripts/test makes
//! (target/trees/bookworm, or the directory that VOLRESCUE_TREE names).

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the tests prepare a tree and run its programs; a helper that fails is a test that fails"
)]

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use volrescue::accounts::{Group, Passwd, Shadow, is_valid_name};
use volrescue::inventory::Inventory;
use volrescue::os::OsFacts;
use volrescue::plan::user::{UserOptions, recreate_sshd, recreate_user, restore_shadow, skeleton};
use volrescue::plan::{Action, Change};
use volrescue::root::{Crossing, Root};

const OPTIONS: UserOptions = UserOptions { sudo: false, today: 20_000 };

/// A copy of the Debian tree, gone with the test.
struct Debian(PathBuf);

impl Debian {
    fn new(name: &str) -> Self {
        let tree = std::env::var_os("VOLRESCUE_TREE").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/trees/bookworm"),
            PathBuf::from,
        );
        assert!(
            tree.join("usr/sbin/pwck").exists(),
            "{} is no Debian tree: run scripts/test",
            tree.display()
        );
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("accounts-{name}"));
        remove(&copy);
        let made = Command::new("cp").args(["-a", "--reflink=auto"]).arg(&tree).arg(&copy).status().unwrap();
        assert!(made.success(), "copying needs root");
        Self(copy)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &[u8]) {
        fs::write(self.path(path), text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(fs::read(self.path(path)).unwrap()).unwrap()
    }

    /// Takes the lines away that begin with `name:` and the memberships of the name.
    fn forget(&self, name: &str) {
        for file in ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid"]
        {
            let text = self.text(file);
            let lines = text.lines().filter(|line| !line.starts_with(&format!("{name}:")));
            let kept: String = lines.map(|line| format!("{}\n", without_member(line, name))).collect();
            self.write(file, kept.as_bytes());
            let _ = fs::remove_file(self.path(&format!("{file}-")));
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new("chroot").arg(&self.0).arg(program).args(arguments).env("LC_ALL", "C").output().unwrap()
    }

    fn stdout(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        self.run(program, arguments).stdout
    }

    /// Does the actions as plainly as can be.
    fn apply(&self, actions: &[Action]) {
        for Action { path, change, .. } in actions {
            let at = self.0.join(path.strip_prefix("/").unwrap());
            let (mode, uid, gid) = match change {
                Change::WriteFile { content, mode, uid, gid, .. } => {
                    fs::write(&at, content).unwrap();
                    (Some(*mode), *uid, *gid)
                }
                Change::CreateDirectory { mode, uid, gid, .. } => {
                    fs::create_dir(&at).unwrap();
                    (Some(*mode), *uid, *gid)
                }
                Change::CreateLink { target, uid, gid } => {
                    symlink(target, &at).unwrap();
                    (None, *uid, *gid)
                }
                other => panic!("{other:?}"),
            };
            if let Some(mode) = mode {
                chown(&at, Some(uid), Some(gid)).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }

    fn root(&self) -> Root {
        Root::new(OwnedFd::from(fs::File::open(&self.0).unwrap()), Crossing::Never).unwrap()
    }

    /// What pwck and grpck complain of.
    fn complaints(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for program in ["/usr/sbin/pwck", "/usr/sbin/grpck"] {
            let output = self.run(program, &["-r"]);
            let text = [output.stdout, output.stderr].concat();
            lines.extend(String::from_utf8_lossy(&text).lines().map(|line| format!("{program}: {line}")));
        }
        // A minimal Debian has users whose homes do not exist.
        lines.retain(|line| !line.contains("no changes"));
        lines
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(copy: &Path) {
    let status = Command::new("rm").args(["-rf", "--one-file-system"]).arg(copy).status().unwrap();
    assert!(status.success());
}

fn without_member(line: &str, name: &str) -> String {
    let Some((head, members)) = line.rsplit_once(':') else { return line.to_owned() };
    let members: Vec<&str> = members.split(',').filter(|member| *member != name).collect();
    format!("{head}:{}", members.join(","))
}

/// The image's default user, deleted and put back: shadow-utils finds nothing amiss, and getent finds the user.
#[test]
fn a_user_put_back_is_one_that_shadow_utils_would_have_made() {
    let debian = Debian::new("user");
    debian.forget("admin");
    let _ = fs::remove_dir_all(debian.path("/home/admin"));
    let before = debian.complaints();
    let root = debian.root();
    let view = Inventory::new(&root);
    let os = OsFacts::detect(&view);
    let plan = recreate_user(&view, &os, "admin", OPTIONS).unwrap();
    let home = skeleton(&view, Path::new("/home/admin"), plan.entry.uid, plan.entry.gid);
    let old: Vec<(&str, String)> =
        ["/etc/passwd", "/etc/shadow"].iter().map(|path| (*path, debian.text(path))).collect();
    debian.apply(&plan.actions);
    debian.apply(&home);
    assert_eq!(debian.complaints(), before);
    for (path, old) in old {
        assert!(debian.text(path).starts_with(&old), "{path}: every other byte stays");
    }
    let line = debian.stdout("/usr/bin/getent", &["-s", "files", "passwd", "admin"]);
    assert_eq!(line, plan.entry.to_line());
    let shadow = debian.stdout("/usr/bin/getent", &["-s", "files", "shadow", "admin"]);
    assert_eq!(String::from_utf8_lossy(&shadow), "admin:*:20000:0:99999:7:::\n");
    let id = String::from_utf8(debian.stdout("/usr/bin/id", &["-nG", "admin"])).unwrap();
    let mut groups: Vec<&str> = id.split_whitespace().skip(1).collect();
    groups.sort_unstable();
    let mut planned: Vec<String> = plan.groups.iter().map(ToString::to_string).collect();
    planned.sort_unstable();
    assert_eq!(groups, planned);
    assert!(groups.contains(&"sudo") && groups.contains(&"adm"), "{groups:?}");
    let sudoers = debian.run("/usr/sbin/visudo", &["-c"]);
    assert!(sudoers.status.success(), "{}", String::from_utf8_lossy(&sudoers.stderr));
    let rights = debian.stdout("/usr/bin/sudo", &["-l", "-U", "admin"]);
    assert!(
        String::from_utf8_lossy(&rights).contains("(ALL) NOPASSWD: ALL"),
        "{}",
        String::from_utf8_lossy(&rights)
    );
    let stat = fs::metadata(debian.path("/home/admin")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o700, plan.entry.uid));
    assert!(debian.path("/home/admin/.bashrc").exists());
}

/// What useradd would choose, we choose.
#[test]
fn the_ids_and_ranges_are_those_of_useradd() {
    let debian = Debian::new("useradd");
    let root = debian.root();
    let view = Inventory::new(&root);
    let os = OsFacts::detect(&view);
    let plan = recreate_user(&view, &os, "newcomer", OPTIONS).unwrap();
    let names = ["passwd", "group", "gshadow", "subuid", "subgid"];
    let before: Vec<String> = names.iter().map(|name| debian.text(&format!("/etc/{name}"))).collect();
    let made = debian.run("/usr/sbin/useradd", &["--shell", "/bin/bash", "newcomer"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let theirs: Vec<String> = names.iter().map(|name| debian.text(&format!("/etc/{name}"))).collect();
    for (name, text) in names.iter().zip(&before) {
        debian.write(&format!("/etc/{name}"), text.as_bytes());
    }
    debian.apply(&plan.actions);
    for (name, theirs) in names.iter().zip(&theirs) {
        assert_eq!(&debian.text(&format!("/etc/{name}")), theirs, "{name}");
    }
}

#[test]
fn a_shadow_line_and_the_user_sshd_put_back_please_pwck() {
    let debian = Debian::new("sshd");
    let whole = debian.complaints();
    debian.forget("sshd");
    let shadow = debian.text("/etc/shadow");
    let cut: String =
        shadow.lines().filter(|line| !line.starts_with("man:")).map(|line| format!("{line}\n")).collect();
    debian.write("/etc/shadow", cut.as_bytes());
    let root = debian.root();
    let view = Inventory::new(&root);
    let os = OsFacts::detect(&view);
    let plan = recreate_sshd(&view, &os, 20_000).unwrap();
    debian.apply(&plan.actions);
    let root = debian.root();
    debian.apply(&restore_shadow(&Inventory::new(&root), &os, "man", 20_000).unwrap());
    assert_eq!(debian.complaints(), whole);
    let line = debian.stdout("/usr/bin/getent", &["-s", "files", "passwd", "sshd"]);
    assert_eq!(line, plan.entry.to_line());
}

/// A piece of an account file, good or bad.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"\n",
        b"\n",
        b":",
        b":",
        b":",
        b",",
        b"\r\n",
        b"+",
        b"-",
        b"#",
        b" ",
        b"\t",
        b"\x0b",
        b"\0",
        b"\xff",
        b"u",
        b"u,v",
        b"0",
        b"7",
        b"-1",
        b"99999",
        b"4294967295",
        b"4294967296",
        b"u:x:1:2:g:/h:/s\n",
        b"u:x:3:v,u\n",
        b"u:x:5:6:7:8:9:10:\n",
        b"u:x:1:2:3\n",
        b"v:x:",
        b"/h:/s",
    ];
    let text = proptest::collection::vec(proptest::sample::select(pieces), 0..25);
    text.prop_map(|pieces| {
        // Of a line that begins with blanks and has no newline before its NUL or the end of the file, glibc 2.36 reads the
        // last bytes twice: a fault of its own, not followed.
        let text = pieces.concat();
        let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count();
            let whole = line.ends_with(b"\n") && !line.contains(&0);
            if whole { line } else { &line[blanks.min(line.len())..] }
        });
        lines.collect::<Vec<_>>().concat()
    })
}

/// The lines that a lookup can give: a listing has the compat lines, too.
fn looked_up(listing: Vec<u8>) -> Vec<u8> {
    let lines = listing.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"+") && !line.starts_with(b"-")).collect::<Vec<_>>().concat()
}

#[test]
fn any_file_is_read_as_glibc_reads_it() {
    let debian = Debian::new("readers");
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let getent =
        |arguments: &[&str]| debian.stdout("/usr/bin/getent", &[&["-s", "files"], arguments].concat());
    let outcome = runner.run(&pieces(), |text| {
        let lossy = String::from_utf8_lossy(&text).into_owned();
        debian.write("/etc/passwd", &text);
        debian.write("/etc/group", &text);
        debian.write("/etc/shadow", &text);
        // getent prints nothing of an entry whose last field has a colon, though lookups give it.
        let plain = |field: &[u8]| !field.contains(&b':');
        let passwd = Passwd::parse(&text).entries;
        let ours: Vec<u8> =
            passwd.iter().filter(|entry| plain(&entry.shell)).flat_map(|entry| entry.to_line()).collect();
        prop_assert_eq!(looked_up(getent(&["passwd"])), ours, "passwd {:?}", &lossy);
        let group = Group::parse(&text);
        let shown = group.entries.iter().filter(|entry| entry.members.iter().all(plain));
        let ours: Vec<u8> = shown.flat_map(|entry| entry.to_line()).collect();
        prop_assert_eq!(looked_up(getent(&["group"])), ours, "group {:?}", &lossy);
        let ours: Vec<u8> = Shadow::parse(&text).entries.iter().flat_map(|entry| entry.to_line()).collect();
        prop_assert_eq!(
            without_flags(looked_up(getent(&["shadow"]))),
            without_flags(ours),
            "shadow {:?}",
            &lossy
        );
        let groups = String::from_utf8(getent(&["initgroups", "u"])).unwrap();
        let theirs: Vec<u32> = groups.split_whitespace().skip(1).map(|gid| gid.parse().unwrap()).collect();
        let mut ours = group.gids_of(b"u");
        // getent asks with the primary group -1, which is then left out.
        ours.retain(|gid| *gid != u32::MAX);
        let mut seen = Vec::new();
        for gid in theirs {
            if !seen.contains(&gid) {
                seen.push(gid);
            }
        }
        prop_assert_eq!(seen, ours, "initgroups {:?}", &lossy);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// The reserved last field is not kept.
fn without_flags(lines: Vec<u8>) -> Vec<u8> {
    let lines = lines.split(|byte| *byte == b'\n').map(|line| {
        let end = line.iter().rposition(|byte| *byte == b':').unwrap_or(line.len());
        &line[..end]
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// Debian's useradd takes more than upstream's, whose rule is ours.
#[test]
fn useradd_takes_every_name_that_we_take() {
    let debian = Debian::new("names");
    for name in
        ["ec2-user", "a.b", "1a", "_x", "m$", "123", ".", "..", "-a", "a:b", "a/b", "Ab", &"n".repeat(33)]
    {
        if is_valid_name(name.as_bytes()) {
            let made = debian.run("/usr/sbin/useradd", &["--no-create-home", "--", name]);
            assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        }
    }
}
