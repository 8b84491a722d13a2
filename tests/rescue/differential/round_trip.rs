//! Volumes that are broken at random, repaired and undone: everything that can be seen of one is what it was before the
//! repair. `scripts/round-trip` runs as many as one likes; a loss is shrunk to the fewest mutations that still show it.

use super::keys::Keys;
use super::{Mutation, PRELUDE, generated, lock, named};
use crate::kit::manifest::{Manifest, READ};
use crate::kit::program::{program, volrescue};
use crate::kit::random::{Random, count};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const FILESYSTEMS: [Filesystem; 3] = [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs];

/// What a repair takes from a home and an undo has to give back, besides what the other mutations break.
const HOME: &[&str] = &[
    "chown -hR 0:0 $H",
    "chown -hR 4242:4243 $H",
    "mkdir -p $H/data/deep/er; for n in 1 2 3 4 5 6 7 8 9; do echo $n >$H/data/deep/er/$n; done; chown -hR 0:0 $H/data",
    "echo x >$H/tool; chmod 6755 $H/tool; chown 0:0 $H/tool; chmod 6755 $H/tool",
    "echo x >$H/cap; chown 0:5 $H/cap; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 $H/cap",
    "echo x >$H/fixed; chown 0:0 $H/fixed; chattr +i $H/fixed",
    "echo x >$H/log; chown 0:0 $H/log; chattr +a $H/log",
    "chattr +i $A",
    "chattr +i $H/.ssh",
    "chattr +a $H/.ssh",
    "chattr +i $R/etc/passwd $R/etc/shadow",
    "chattr +i $R/etc",
    "setfacl -m u:7:rwx,m:rwx $H $H/.ssh $A",
    "setfacl -d -m u:7:rwx $H",
    "setfacl -m g:7:rw $R/etc/passwd",
    "setfattr -n user.note -v kept $A; setfattr -n trusted.note -v kept $H",
    "setfattr -n security.selinux -v system_u:object_r:default_t:s0 $A $H",
    "echo x >$H/twice; ln $H/twice $H/again; chown 0:0 $H/twice",
    "ln $R/etc/hostname $H/outside",
    "ln -s /etc/passwd $H/link; chown -h 0:0 $H/link",
    "printf x >\"$H/odd $(printf '\\377\\001')\"; chown -hR 0:0 $H",
    "mkfifo $H/fifo; mknod $H/null c 1 3; chown 0:0 $H/fifo $H/null",
    "mkdir $H/db; echo t >$H/db/table; chown -R 999:999 $H/db; chown 0:0 $H",
    "sed -i '/^admin:/d' $R/etc/passwd",
    "sed -i '/^admin:/d' $R/etc/passwd $R/etc/shadow $R/etc/group $R/etc/gshadow",
    "sed -i '/^admin:/d' $R/etc/shadow; : >$R/etc/subuid; : >$R/etc/subgid",
    "rm -rf $H",
    "rm -rf $H/.ssh",
    "rm -rf $H/.ssh; ln -s /nowhere $H/.ssh",
    "mkdir -p $R/srv/keys; mv $H/.ssh $R/srv/keys/; ln -s ../../srv/keys/.ssh $H/.ssh",
    "printf 'ssh-ed25519 no newline' >$A",
    "rm $A; ln -s elsewhere $A",
    "chmod 777 $R $R/home $R/etc $R/etc/ssh",
    "touch -d 2001-01-01 $H $H/.ssh $A $R/etc $R/etc/passwd",
];

/// Options of `repair`, one set of which is drawn.
const OPTIONS: &[&[&str]] = &[
    &[],
    &["--fix", "all"],
    &["--fix", "all", "--chown", "all"],
    &["--fix", "all", "--chown-from", "4242"],
    &["--chown", "login"],
    &["--minimal"],
    &["--minimal", "--fix", "all"],
    &["--fix", "all", "--sudo"],
];

/// The times too, which an undo gives back.
const TIMES: &str = "find . -xdev ! -path './lost+found' -printf 'P\\t%p\\tmodified %T@\\n'";

#[derive(Clone, Debug)]
struct Trial {
    filesystem: Filesystem,
    login: &'static str,
    options: &'static [&'static str],
    mutations: Vec<Mutation>,
}

impl Trial {
    fn drawn(filesystem: Filesystem, seed: u64, named: &[Mutation]) -> Self {
        let mut random = Random::seeded(seed);
        let login = if random.below(8) == 0 { "root" } else { "admin" };
        let home = |random: &mut Random| {
            let index = random.below(HOME.len());
            Mutation { touches: "home", name: index.to_string(), shell: HOME[index].to_owned() }
        };
        let most = 1 + random.below(6);
        let mutations = (0..=random.below(most))
            .map(|_| match random.below(4) {
                0 => named[random.below(named.len())].clone(),
                1 => generated::mutation(&mut random),
                _ => home(&mut random),
            })
            .collect();
        Self { filesystem, login, options: OPTIONS[random.below(OPTIONS.len())], mutations }
    }

    fn describe(&self) -> String {
        let shells: Vec<&str> = self.mutations.iter().map(|mutation| mutation.shell.as_str()).collect();
        format!("{} {} {:?}: {}", self.filesystem.name(), self.login, self.options, shells.join(super::THEN))
    }

    fn volume(&self, keys: &Keys) -> Result<Image> {
        let image = Image::healthy(self.filesystem, Table::None)?;
        let home = if self.login == "root" { "root" } else { "home/admin" };
        let id = if self.login == "root" { 0 } else { 1000 };
        let mut breaking = format!(
            "for point in /dev /run /; do mount -o remount,bind,ro \"$point\" 2>/dev/null || [ \"$point\" != / ]; done\n\
             U={} H=$R/{home} I={id} G={id} K={} CA={} KEYS={}\nA=$H/.ssh/authorized_keys\nexport R U H A C I G K CA KEYS\n",
            self.login,
            keys.public("build").display(),
            keys.authority().display(),
            keys.directory().display(),
        );
        for (number, mutation) in self.mutations.iter().enumerate() {
            let file = image.scratch.join(&format!("mutation-{number}"));
            fs::write(&file, format!("{PRELUDE}\n{}\n", mutation.shell))?;
            let file = file.display();
            breaking
                .push_str(&format!("timeout --signal KILL 5 sh {file} >/dev/null 2>&1 </dev/null || true\n"));
        }
        let file = image.scratch.join("break");
        fs::write(&file, breaking)?;
        // The links of a volume are absolute: what follows one may find nothing of the machine that it could write.
        let body = format!("unshare --mount --propagation private sh -eu {}", file.display());
        image.change(&body).with_context(|| self.describe())?;
        Ok(image)
    }

    /// What is not as it was after a repair and an undo; empty if nothing is lost. Also whether anything had changed.
    fn lost(&self, keys: &Keys) -> Result<(bool, String)> {
        let image = self.volume(keys)?;
        let manifest = || -> Result<Manifest> {
            Ok(Manifest::parse(&image.look(&format!("{{ {READ}\n{TIMES}\n}} | cat -v"))?))
        };
        let before = manifest()?;
        let state = image.scratch.join("state");
        let key = keys.public("build");
        let mut arguments: Vec<&OsStr> =
            ["repair", "--yes", "--json", "--create-user", "--user", self.login, "--key"]
                .map(OsStr::new)
                .to_vec();
        arguments.push(key.as_os_str());
        arguments.extend(self.options.iter().map(OsStr::new));
        arguments.extend([OsStr::new("--state-dir"), state.as_os_str(), image.path.as_os_str()]);
        let repaired = volrescue(&arguments)?.expect(&[0, 1, 3, 4, 5])?;
        let run = repaired.json()?.value["run"].as_str().map(str::to_owned);
        if let Some(run) = &run {
            let arguments =
                [OsStr::new("undo"), "--yes".as_ref(), run.as_ref(), "--state-dir".as_ref(), state.as_ref()];
            let undone = volrescue(&arguments)?;
            if undone.code != 0 {
                return Ok((true, format!("undo ends with {}\n{}", undone.code, undone.transcript())));
            }
        }
        let after = manifest()?;
        let mut lost = String::new();
        for (path, (was, is)) in before.changes(&after) {
            lost.push_str(&format!("{}\n  was {}\n  is  {}\n", path.display(), was.trim(), is.trim()));
        }
        image.check()?;
        ensure!(image.loops()?.is_empty(), "a loop device is left");
        Ok((run.is_some(), lost))
    }

    fn loses(&self, keys: &Keys) -> bool {
        self.lost(keys).is_ok_and(|(_, lost)| !lost.is_empty())
    }

    fn shrunk(mut self, keys: &Keys) -> Self {
        let mut at = 0;
        while at < self.mutations.len() && self.mutations.len() > 1 {
            let mut fewer = self.clone();
            fewer.mutations.remove(at);
            if fewer.loses(keys) {
                self = fewer;
            } else {
                at += 1;
            }
        }
        self
    }
}

/// A few on each filesystem.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for filesystem in FILESYSTEMS {
        for number in 1..=count("VOLRESCUE_ROUND_TRIPS", 4) {
            let name = format!("round_trip::{}-{number:02}", filesystem.name());
            let seed = Random::seed_of(&name);
            cases.push(Case::new(name, Needs::Loop, move || {
                let trial = Trial::drawn(filesystem, seed, &named());
                let (_, lost) = trial.lost(&Keys::made()?)?;
                ensure!(lost.is_empty(), "{}\n{lost}", trial.describe());
                Ok(())
            }));
        }
    }
    cases
}

/// `scripts/round-trip`: as many as asked on each filesystem; `true` if nothing was lost.
pub(crate) fn run() -> Result<bool> {
    let total = count("VOLRESCUE_ROUND_TRIP", 0);
    let seed = std::env::var("VOLRESCUE_ROUND_TRIP_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(Random::fresh_seed);
    let keys = Keys::made()?;
    let named = named();
    eprintln!("{total} volumes on each filesystem, seed {seed}, {}", program().display());
    let next = AtomicUsize::new(0);
    let tally = Mutex::new([(0usize, 0usize, 0usize); 3]);
    std::thread::scope(|scope| {
        for _ in 0..count("VOLRESCUE_ROUND_TRIP_JOBS", 2) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total * FILESYSTEMS.len() {
                        break;
                    }
                    let at = number % FILESYSTEMS.len();
                    let trial = Trial::drawn(FILESYSTEMS[at], seed.wrapping_add(number as u64), &named);
                    let (tried, lost) = match trial.lost(&keys) {
                        Ok((changed, lost)) if lost.is_empty() => {
                            lock(&tally)[at].1 += usize::from(changed);
                            (1, 0)
                        }
                        Ok(_) => {
                            let least = trial.shrunk(&keys);
                            let lost =
                                least.lost(&keys).map_or_else(|error| format!("{error:#}"), |(_, lost)| lost);
                            println!("#{number} LOST: {}\n{lost}", least.describe());
                            (1, 1)
                        }
                        Err(error) => {
                            println!("#{number} failed: {}\n{error:#}\n", trial.describe());
                            (1, 1)
                        }
                    };
                    lock(&tally)[at].0 += tried;
                    lock(&tally)[at].2 += lost;
                }
            });
        }
    });
    let tally = lock(&tally);
    for (filesystem, (tried, changed, lost)) in FILESYSTEMS.iter().zip(tally.iter()) {
        println!(
            "{:6} {tried} volumes, {changed} of them changed by the repair, {lost} lost",
            filesystem.name()
        );
    }
    println!("seed {seed}");
    Ok(tally.iter().all(|(_, _, lost)| *lost == 0))
}
