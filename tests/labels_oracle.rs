//! Labels against matchpathcon(8), with the policies that Debian ships: for thousands of paths made from the rules
//! themselves, ours is the same.

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

/// Compares for one root; gives the number of paths and of those with a label.
fn compare(root: &Path, name: &str, count: usize) -> (usize, usize) {
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
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ rules.len() as u64);
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
            let answer = Command::new("matchpathcon")
                .args(["-n", "-m", word, "-f"])
                .arg(&contexts)
                .args(some)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .output()
                .unwrap();
            let text = String::from_utf8(answer.stdout).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), some.len(), "{}", String::from_utf8_lossy(&answer.stderr));
            for (path, theirs) in some.iter().zip(lines) {
                let ours = policy.context(Path::new(path), kind);
                let ours = ours.unwrap_or_else(|why| panic!("{name}: {path}: {why}")).unwrap_or("<<none>>");
                assert_eq!(ours, theirs, "{name}: {word} {path}");
                labelled += usize::from(theirs != "<<none>>");
            }
        }
    }
    (count, labelled)
}

/// A copy of a policy with substitutions and local rules that contradict one another.
fn contradictory(policies: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("labels-contradictory");
    let _ = fs::remove_dir_all(&root);
    let files = root.join("etc/selinux/default/contexts/files");
    fs::create_dir_all(&files).unwrap();
    for name in ["file_contexts", "file_contexts.homedirs", "file_contexts.subs_dist"] {
        fs::copy(policies.join("default/etc/selinux/default/contexts/files").join(name), files.join(name))
            .unwrap();
    }
    let subs =
        "/usr/local /usr\n/usr /opt/usr\n/home/u /root\n/home /data\n /srv   / \n# /etc /x\n/usr /var\n";
    fs::write(files.join("file_contexts.subs"), subs).unwrap();
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
    for name in ["default", "mls"] {
        let (count, labelled) = compare(&policies.join(name), name, 6000);
        println!("{name}: {count} paths, {labelled} with a label, no difference");
        assert!(labelled * 10 > count * 7, "{labelled} of {count}");
    }
    let (count, labelled) = compare(&contradictory(&policies), "default", 3000);
    println!("contradictory: {count} paths, {labelled} with a label, no difference");
}
