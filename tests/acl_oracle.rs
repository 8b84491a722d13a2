//! Access by mode and ACL against the kernel: a process that takes the ids tries, and is told what we say. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails where its world can't be made")]
#![expect(clippy::disallowed_methods, reason = "the tests prepare the files from outside")]

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use volrescue::inventory::Inventory;
use volrescue::permissions::acl::{ACCESS, Acl, Entry};
use volrescue::permissions::{Access, Identity, may};
use volrescue::root::{Crossing, Root};
use volrescue::view::View;

const CASES: usize = 2500;
/// Few ids, so that owners, entries and processes meet.
const IDS: [u32; 5] = [0, 4001, 4002, 4003, 4004];

/// xorshift64*: the same cases in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn id(&mut self) -> u32 {
        IDS[self.below(IDS.len())]
    }

    fn bits(&mut self) -> u16 {
        u16::try_from(self.below(8)).unwrap()
    }
}

/// A list that the kernel takes: in order, without doubles, with a mask where there is a named entry.
fn random_list(random: &mut Random) -> Acl {
    let entry = |tag, permissions, id| Entry { tag, permissions, id };
    let mut entries = vec![entry(0x01, random.bits(), u32::MAX)];
    let named = |tag, random: &mut Random| {
        let mut ids: Vec<u32> = (0..random.below(4)).map(|_| random.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| entry(tag, random.bits(), id)).collect::<Vec<_>>()
    };
    let users = named(0x02, random);
    let groups = named(0x08, random);
    let extended = !users.is_empty() || !groups.is_empty();
    entries.extend(users);
    entries.push(entry(0x04, random.bits(), u32::MAX));
    entries.extend(groups);
    if extended || random.below(2) == 0 {
        entries.push(entry(0x10, random.bits(), u32::MAX));
    }
    entries.push(entry(0x20, random.bits(), u32::MAX));
    Acl { entries }
}

struct Asked {
    path: PathBuf,
    who: Identity,
    access: Access,
}

#[test]
fn who_may_do_what_is_what_the_kernel_says() {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("acl-{}", std::process::id()));
    fs::create_dir_all(&top).unwrap();
    let mut random = Random(0x00C0_FFEE_1234_5678);
    let mut asked = Vec::new();
    for number in 0..CASES {
        let directory = random.below(2) == 0;
        let path = top.join(format!("{number}"));
        if directory {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("in"), "").unwrap();
        } else {
            fs::write(&path, "x").unwrap();
        }
        chown(&path, Some(random.id()), Some(random.id())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(u32::from(random.bits()) << 6 | 0o050))
            .unwrap();
        xattr::set(&path, ACCESS, &random_list(&mut random).to_bytes()).unwrap();
        if random.below(3) == 0 {
            let mode =
                fs::metadata(&path).unwrap().permissions().mode() & !0o070 | u32::from(random.bits()) << 3;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let uid = IDS[1 + random.below(IDS.len() - 1)];
        let gid = random.id();
        let mut groups: Vec<u32> = (0..random.below(3)).map(|_| random.id()).collect();
        groups.push(gid);
        let who = Identity { uid, gid, groups };
        let access = match (directory, random.below(2)) {
            (true, _) => Access::Execute,
            (false, 0) => Access::Read,
            (false, _) => Access::Write,
        };
        asked.push(Asked { path, who, access });
    }
    let kernel = by_the_kernel(&top, &asked);
    let door = Root::new(OwnedFd::from(fs::File::open(&top).unwrap()), Crossing::Never).unwrap();
    let inventory = Inventory::new(&door);
    let mut granted = 0;
    for (one, theirs) in asked.iter().zip(&kernel) {
        let inside = Path::new("/").join(one.path.file_name().unwrap());
        let stat = inventory.lstat(&inside).unwrap();
        let ours = may(&inventory, &inside, &stat, &one.who, one.access).unwrap();
        let list = inventory.xattr(&inside, ACCESS).unwrap().and_then(|raw| Acl::parse(&raw));
        assert_eq!(ours, *theirs, "{:?} {:?} {} {list:?}", one.who, one.access, stat.mode_owner());
        granted += usize::from(ours);
    }
    fs::remove_dir_all(&top).unwrap();
    println!("{CASES} cases, {granted} granted, no difference");
    assert!(granted > CASES / 10 && granted < CASES * 9 / 10);
}

/// One process of Python forks a child for each case, which takes the ids and tries.
fn by_the_kernel(top: &Path, asked: &[Asked]) -> Vec<bool> {
    const TRY: &str = r"
import os, sys
os.chdir(sys.argv[1])
for line in sys.stdin:
    name, uid, gid, groups, access = line.split()
    child = os.fork()
    if child == 0:
        os.setgroups([int(g) for g in groups.split(',')])
        os.setresgid(int(gid), int(gid), int(gid))
        os.setresuid(int(uid), int(uid), int(uid))
        try:
            if access == 'x':
                os.stat(name + '/in')
            else:
                os.close(os.open(name, os.O_RDONLY if access == 'r' else os.O_WRONLY))
        except PermissionError:
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";
    let mut python = Command::new("python3")
        .args(["-c", TRY])
        .arg(top)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("these tests need python3");
    let mut input = python.stdin.take().unwrap();
    let mut lines = String::new();
    for one in asked {
        let letter = match one.access {
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Execute => 'x',
        };
        let groups: Vec<String> = one.who.groups.iter().map(u32::to_string).collect();
        let name = one.path.file_name().unwrap().to_str().unwrap();
        lines.push_str(&format!("{name} {} {} {} {letter}\n", one.who.uid, one.who.gid, groups.join(",")));
    }
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<bool> = text.lines().map(|line| line == "0").collect();
    assert_eq!(answers.len(), asked.len());
    answers
}
