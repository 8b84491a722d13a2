//! Labels against matchpathcon(8), with the policies that three releases of Debian ship: for thousands of paths made from
//! the rules themselves, ours is the same. It is asked twice, with the libselinux of this machine and with that of Debian 13, which
//! from 3.8 on keeps its rules in a tree. What 3.8 asked in another order than those before it and 3.9 after it, and we do
//! as they, is where one plain path stands in several files (the first counted, not the last), and where substitutions
//! contradict one another.

#![expect(clippy::unwrap_used, reason = "a test fails where its world can't be made")]
#![expect(clippy::disallowed_methods, reason = "the tests prepare the tree from outside")]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use volrescue::inventory::Inventory;
use volrescue::root::{Crossing, Root};
use volrescue::selinux::Policy;
use volrescue::view::FileKind;

const KINDS: [(FileKind, &str); 7] = [
    (FileKind::Regular, "file"),
    (FileKind::Directory, "dir"),
    (FileKind::Symlink, "lnk_file"),
    (FileKind::Fifo, "pipe"),
    (FileKind::Socket, "sock_file"),
    (FileKind::CharDevice, "chr_file"),
    (FileKind::BlockDevice, "blk_file"),
];

/// Where `scripts/prepare --policies` puts them.
fn policies() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let made = Command::new(repository.join("scripts/prepare"))
        .arg("--policies")
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    target.join("policies")
}

/// matchpathcon(8) with the libraries of this machine, and with those of Debian 13, whose libselinux is 3.8.1 or later.
fn oracles() -> [Vec<PathBuf>; 2] {
    let program = PathBuf::from("/usr/sbin/matchpathcon");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let made = Command::new(repository.join("scripts/prepare"))
        .args(["--trees", "--all"])
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let trixie = target.join("trees/trixie");
    let libraries = trixie.join("usr/lib/x86_64-linux-gnu");
    let newer =
        vec![trixie.join("lib64/ld-linux-x86-64.so.2"), "--library-path".into(), libraries, program.clone()];
    [vec![program], newer]
}

/// xorshift64*: the same paths in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// A path that a rule may mean, or one near it.
fn path_of(rule: &str, random: &mut Random) -> String {
    let mut path = rule.to_owned();
    for (from, choices) in [
        ("(/.*)?", &["", "/a", "/b/c.d", "/x y"][..]),
        ("(-.*)?", &["", "-1"]),
        ("[^/]+", &["u", "someone", "a.b"]),
        ("[^/]*", &["", "u1"]),
        ("[0-9]+", &["0", "17"]),
        ("[0-9]*", &["", "3"]),
        (".*", &["", "q", "r/s"]),
        (".+", &["t", "v/w"]),
    ] {
        while path.contains(from) {
            path = path.replacen(from, random.of(choices), 1);
        }
    }
    let mut out = String::new();
    let mut letters = path.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            '?' | '(' | ')' | '*' | '+' | '^' | '$' | '[' | ']' | '{' | '}' => {
                if letter == '?' && random.below(2) == 0 {
                    out.pop();
                }
            }
            '|' if random.below(2) == 0 => break,
            '|' => {}
            letter => out.push(letter),
        }
    }
    match random.below(6) {
        0 => out.push_str(random.of(&["x", "/more", "/.ssh/authorized_keys", ".local", "~"])),
        1 => out = out.rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned()),
        2 => {
            out =
                format!("{}{out}", random.of(&["/home/u", "/usr", "/run", "/var/run", "/lib64", "/sys/one"]));
        }
        _ => {}
    }
    let parts: Vec<&str> = out.split('/').filter(|part| !part.is_empty() && *part != "..").collect();
    format!("/{}", parts.join("/"))
}

/// Compares for one root; gives the number of paths with a label. Where `plain_twice` is set, the user of a context may
/// differ where several rules are the plain path itself; its type never.
fn compare(root: &Path, name: &str, count: usize, oracle: &[PathBuf], plain_twice: bool) -> usize {
    let contexts = root.join("etc/selinux").join(name).join("contexts/files/file_contexts");
    fs::write(root.join("etc/selinux/config"), format!("SELINUX=enforcing\nSELINUXTYPE={name}\n")).unwrap();
    let door = Root::new(OwnedFd::from(fs::File::open(root).unwrap()), Crossing::Never).unwrap();
    let inventory = Inventory::new(&door);
    let policy = Policy::read(&inventory);
    assert_eq!(policy.unreadable(), None);
    let mut rules = Vec::new();
    for suffix in ["", ".homedirs", ".local"] {
        let text = fs::read_to_string(format!("{}{suffix}", contexts.display())).unwrap_or_default();
        rules.extend(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
    }
    let salt = root
        .file_name()
        .unwrap()
        .as_encoded_bytes()
        .iter()
        .fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ salt);
    let mut labelled = 0;
    for (kind, word) in KINDS {
        let share =
            if kind == FileKind::Regular || kind == FileKind::Directory { count / 3 } else { count / 15 };
        let paths: Vec<String> = (0..share)
            .map(|_| {
                let rule = random.below(rules.len());
                path_of(&rules[rule], &mut random)
            })
            .collect();
        for some in paths.chunks(500) {
            let answer = Command::new(&oracle[0])
                .args(&oracle[1..])
                .args(["-n", "-m", word, "-f"])
                .arg(&contexts)
                .args(some)
                .output()
                .expect("these tests need matchpathcon");
            let text = String::from_utf8(answer.stdout).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), some.len(), "{}", String::from_utf8_lossy(&answer.stderr));
            for (path, theirs) in some.iter().zip(lines) {
                let ours = policy.context(Path::new(path), kind);
                let ours = ours.unwrap_or_else(|why| panic!("{name}: {path}: {why}")).unwrap_or("<<none>>");
                let twice = || rules.iter().filter(|rule| rule.replace('\\', "") == *path).count() > 1;
                if ours == theirs || !plain_twice || !twice() {
                    assert_eq!(ours, theirs, "{name}: {word} {path}");
                } else {
                    let kind = |context: &str| context.split(':').nth(2).map(str::to_owned);
                    assert_eq!(kind(ours), kind(theirs), "{name}: {word} {path}");
                }
                labelled += usize::from(theirs != "<<none>>");
            }
        }
    }
    labelled
}

/// A copy of a policy with local rules, and substitutions if wanted, that contradict one another.
fn contradictory(policies: &Path, substitutions: bool) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("labels-contradictory-{substitutions}"));
    let _ = fs::remove_dir_all(&root);
    let files = root.join("etc/selinux/default/contexts/files");
    fs::create_dir_all(&files).unwrap();
    for name in ["file_contexts", "file_contexts.homedirs", "file_contexts.subs_dist"] {
        fs::copy(
            policies.join("bookworm-default/etc/selinux/default/contexts/files").join(name),
            files.join(name),
        )
        .unwrap();
    }
    let subs =
        "/usr/local /usr\n/usr /opt/usr\n/home/u /root\n/home /data\n /srv   / \n# /etc /x\n/usr /var\n";
    if substitutions {
        fs::write(files.join("file_contexts.subs"), subs).unwrap();
    }
    let local = "\
/data(/.*)?   system_u:object_r:user_home_t:s0
/data/[^/]+ -d system_u:object_r:user_home_dir_t:s0
/data/u -d system_u:object_r:etc_t:s0
/data/./more system_u:object_r:bin_t:s0
/var/x|/var/y system_u:object_r:lib_t:s0
/(a|b)/x|/c system_u:object_r:tmp_t:s0
/etc/pass(wd)? <<none>>
/opt/usr/[a-m]{1,3}.* -- system_u:object_r:shadow_t:s0
/opt/\\.usr\\+ -l system_u:object_r:shadow_t:s0
";
    fs::write(files.join("file_contexts.local"), local.repeat(20)).unwrap();
    root
}

#[test]
fn labels_are_those_of_matchpathcon() {
    let policies = policies();
    let [here, newer] = oracles();
    for (oracle, whose, newer) in [(here, "this machine", false), (newer, "Debian 13", true)] {
        for suite in ["bullseye", "bookworm", "trixie"] {
            for name in ["default", "mls"] {
                let root = policies.join(format!("{suite}-{name}"));
                let labelled = compare(&root, name, 3000, &oracle, newer);
                println!("{suite}, {name}, libselinux of {whose}: 3000 paths, {labelled} with a label");
                assert!(labelled > 2100, "{labelled}");
            }
        }
        let labelled = compare(&contradictory(&policies, !newer), "default", 3000, &oracle, newer);
        println!("contradictory, libselinux of {whose}: 3000 paths, {labelled} with a label");
    }
}
