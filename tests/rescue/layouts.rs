//! Layouts of disks, each built by its commands (`layouts/layouts.tsv`), broken, diagnosed without a write, repaired, and
//! judged by the tree's own sshd with everything mounted in its place. Some of them in every test run, all of them by
//! `scripts/layouts`, which prints a table.

use crate::kit::judge::login;
use crate::kit::program::{Document, volrescue};
use crate::kit::{Scratch, USER, public_key, script, trees};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

const TABLE: &str = include_str!("layouts/layouts.tsv");
const PRELUDE: &str = include_str!("layouts/prelude.sh");

/// Those of every test run: what the other tests have nothing of.
const SHORT: [&str; 9] = [
    "ext4-without-journal",
    "boot-and-esp",
    "usr-of-its-own",
    "home-usr-var",
    "home-of-one-user",
    "keys-on-var",
    "btrfs-suse-snapper",
    "btrfs-microos",
    "two-systems",
];

/// A line of the table.
#[derive(Clone, Copy)]
struct Layout {
    name: &'static str,
    make: &'static str,
    mount: &'static str,
    fstab: &'static str,
    options: &'static str,
}

fn all() -> Result<Vec<Layout>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, make, mount, fstab, options] => Ok(Layout { name, make, mount, fstab, options }),
            _ => anyhow::bail!("not five fields: {line}"),
        })
        .collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in SHORT {
        cases.push(Case::new(format!("layouts::{name}"), Needs::Loop, move || {
            let layout = all()?.into_iter().find(|layout| layout.name == name);
            whole_way(layout.with_context(|| format!("{name} is not in the table"))?)
        }));
    }
    for point in ["/usr", "/var"] {
        let name = format!("layouts::missing{}", point.replace('/', "-"));
        cases.push(Case::new(name, Needs::Loop, move || missing(point)));
    }
    cases.push(Case::new("layouts::wrong-root-name", Needs::Loop, wrong_root_name));
    cases.push(Case::new("layouts::read-only-root", Needs::Loop, read_only_root));
    cases.push(Case::new("layouts::alpine", Needs::Loop, alpine));
    cases.push(Case::new("layouts::special-roots", Needs::Loop, special_roots));
    cases
}

/// `scripts/layouts`: all of them, in a table; `false` if one failed.
pub(crate) fn run() -> Result<bool> {
    let wanted = std::env::var("VOLRESCUE_LAYOUTS").unwrap_or_default();
    let layouts = all()?;
    let chosen =
        layouts.iter().filter(|layout| wanted == "all" || wanted.split(',').any(|w| w == layout.name));
    let (mut good, mut bad) = (0, 0);
    for layout in chosen {
        let start = Instant::now();
        let done = whole_way(*layout);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:<26} {:>6.1} s  {}",
            layout.name,
            seconds,
            if done.is_ok() { "repaired, login" } else { "FAILED" }
        );
        println!("    made by   {}", layout.make);
        println!("    mounted   {}", layout.mount);
        if layout.fstab != ":" {
            println!("    fstab     {}", layout.fstab);
        }
        if !layout.options.is_empty() {
            println!("    options   {}", layout.options);
        }
        match done {
            Ok(()) => good += 1,
            Err(error) => {
                bad += 1;
                println!("    {error:#}");
            }
        }
    }
    println!("{good} layouts repaired with a login after, {bad} failed");
    Ok(bad == 0 && good > 0)
}

/// A disk that was built.
struct Built {
    scratch: Scratch,
    layout: Layout,
}

impl Built {
    fn new(layout: Layout) -> Result<Self> {
        let built = Self { scratch: Scratch::new()?, layout };
        std::fs::create_dir(built.scratch.join("mnt"))?;
        built.shell(layout.make)?;
        built.mounted("fill")?;
        built.mounted(layout.fstab)?;
        Ok(built)
    }

    fn disk(&self) -> PathBuf {
        self.scratch.join("disk.img")
    }

    fn shell(&self, body: &str) -> Result<String> {
        script(
            &format!("{PRELUDE}\n{body}"),
            &[
                ("D", &self.disk()),
                ("W", &self.scratch.join("with.img")),
                ("R", &self.scratch.join("mnt")),
                ("S", self.scratch.path()),
                ("SLIM", &trees()?.join("bookworm-slim")),
            ],
        )
    }

    /// With everything mounted in its place.
    fn mounted(&self, body: &str) -> Result<String> {
        self.shell(&format!("{}\n{body}\nsync", self.layout.mount))
    }

    fn run(&self, command: &str, options: &[&str]) -> Result<Document> {
        let mut line: Vec<OsString> = vec![command.into(), self.disk().into(), "--json".into()];
        line.extend(["--user".into(), USER.into(), "--key".into(), public_key()?.into()]);
        if command == "repair" {
            line.extend(["--yes".into(), "--state-dir".into(), self.scratch.join("state").into()]);
        }
        let with = self.scratch.join("with.img");
        let own = self.layout.options.split_whitespace();
        line.extend(own.map(|word| if word == "$W" { with.clone().into() } else { OsString::from(word) }));
        line.extend(options.iter().map(OsString::from));
        volrescue(&line)?.expect(&[0, 1])?.json()
    }

    fn digest(&self) -> Result<String> {
        script("cat \"$S\"/*.img | sha256sum", &[("S", self.scratch.path())])
    }

    /// What the tree's sshd does with everything mounted.
    fn login(&self) -> Result<(bool, String)> {
        self.mounted("rm -rf \"$S/assembled\"; cp -a \"$R\" \"$S/assembled\"")?;
        let login = login(&self.scratch.join("assembled"), USER, "")?;
        Ok((login.accepted, login.log))
    }

    fn loops(&self) -> Result<String> {
        script(
            "losetup --associated \"$D\"; [ ! -e \"$W\" ] || losetup --associated \"$W\"",
            &[("D", &self.disk()), ("W", &self.scratch.join("with.img"))],
        )
    }
}

const BREAK: &str = "chmod 777 \"$R/home/admin\"; chown -R 4321:4321 \"$R/home/admin/.ssh\"";

fn whole_way(layout: Layout) -> Result<()> {
    let built = Built::new(layout)?;
    let (accepted, log) = built.login()?;
    if layout.name != "keys-on-var" {
        ensure!(accepted, "sshd refuses before anything is broken\n{log}");
    }
    built.mounted(BREAK)?;
    ensure!(!built.login()?.0, "the recipe breaks nothing");
    let before = built.digest()?;
    let seen = built.run("diagnose", &[])?;
    ensure!(seen.verdict()? == "refuse", "{}", seen.transcript());
    ensure!(built.digest()? == before, "looking wrote");
    let repaired = built.run("repair", &[])?;
    ensure!(repaired.verdict()? == "accept", "{}", repaired.transcript());
    ensure!(repaired.value["unmount"] == "clean", "{}", repaired.transcript());
    let left = built.loops()?;
    ensure!(left.is_empty(), "a loop device is left: {left}");
    let (accepted, log) = built.login()?;
    ensure!(accepted, "sshd refuses after the repair\n{}\n{log}", repaired.transcript());
    let again = built.run("repair", &[])?;
    ensure!(again.actions("changed").is_empty(), "a second run changes something\n{}", again.transcript());
    Ok(())
}

/// Without the filesystem that holds sshd, or its keys, nothing that lies on it is called missing.
fn missing(point: &str) -> Result<()> {
    let name = if point == "/usr" { "usr-of-its-own" } else { "keys-on-var" };
    let layout = all()?.into_iter().find(|layout| layout.name == name).context("not in the table")?;
    let built = Built::new(layout)?;
    built.mounted("chmod 644 \"$R/var/keys/admin\" 2>/dev/null || :")?;
    // Cut off from the disk, as if it were on another one.
    script("sfdisk --quiet --delete \"$D\" 2", &[("D", &built.disk())])?;
    let seen = built.run("diagnose", &[])?;
    ensure!(seen.verdict()? == "unknown", "{}", seen.transcript());
    ensure!(seen.checks("blocks").is_empty(), "{}", seen.transcript());
    ensure!(seen.all_checks().contains("filesystem-missing"), "{}", seen.transcript());
    let label = point.trim_start_matches('/');
    ensure!(seen.transcript().contains(&format!("the filesystem LABEL={label}")), "{}", seen.transcript());
    ensure!(seen.transcript().contains("--with"), "{}", seen.transcript());
    Ok(())
}

fn wrong_root_name() -> Result<()> {
    let layout =
        all()?.into_iter().find(|layout| layout.name == "two-systems").context("not in the table")?;
    let built = Built::new(layout)?;
    let run = volrescue(&[Path::new("diagnose"), &built.disk(), Path::new("--root"), Path::new("newer")])?
        .expect(&[3])?;
    let said = run.said();
    for words in ["is named newer", "p1: partition 1, ext4", "p2: partition 2, ext4, label new", "--root p1"]
    {
        ensure!(said.contains(words), "{words:?} is not said\n{}", run.transcript());
    }
    Ok(())
}

/// Systems without a classic /etc are told by name.
fn special_roots() -> Result<()> {
    let scratch = Scratch::new()?;
    for (make, words) in [
        ("mkdir -p t/ostree/deploy/fedora-coreos/deploy/abc.0/etc t/boot/loader", "an ostree system"),
        (
            "mkdir -p t/etc t/nix/store; touch t/etc/NIXOS; echo root:x:0:0::/root:/bin/sh >t/etc/passwd",
            "NixOS",
        ),
    ] {
        let body =
            format!("cd \"$S\"; rm -rf t d.img; {make}; truncate -s 16M d.img; mkfs.ext4 -q -d t d.img");
        script(&body, &[("S", scratch.path())])?;
        let run = volrescue(&[Path::new("diagnose"), &scratch.join("d.img")])?.expect(&[3])?;
        let said = run.said();
        ensure!(said.contains(words) && said.contains("d.img"), "{}", run.transcript());
    }
    Ok(())
}

/// A root that is a read-only snapshot is not begun with when something on it would have to change.
fn read_only_root() -> Result<()> {
    let layout =
        all()?.into_iter().find(|layout| layout.name == "btrfs-microos").context("not in the table")?;
    let built = Built::new(layout)?;
    built.mounted(
        "btrfs property set -ts \"$R\" ro false; chmod 777 \"$R/home/admin\" \"$R/etc/ssh\"
         chmod 666 \"$R\"/etc/ssh/ssh_host_*_key; btrfs property set -ts \"$R\" ro true",
    )?;
    let before = built.mounted("find \"$R\" -printf '%p %m %U %G\\n' | sort | sha256sum")?;
    for extra in ["--fix=host-keys", "--dry-run"] {
        let mut line: Vec<OsString> =
            vec!["repair".into(), built.disk().into(), "--user".into(), USER.into()];
        line.extend(["--state-dir".into(), built.scratch.join("state").into()]);
        line.extend(["--fix=host-keys".into(), if extra == "--dry-run" { extra } else { "--yes" }.into()]);
        let run = volrescue(&line)?.expect(&[3])?;
        let said = run.said();
        for words in
            ["/etc/ssh", "read-only subvolume @/.snapshots/1/snapshot", "ro false", "nothing was changed"]
        {
            ensure!(said.contains(words), "{words:?} is not said\n{}", run.transcript());
        }
    }
    let after = built.mounted("find \"$R\" -printf '%p %m %U %G\\n' | sort | sha256sum")?;
    ensure!(before == after, "something was changed");
    // The way that it tells.
    built.mounted("btrfs property set -ts \"$R\" ro false")?;
    let repaired = built.run("repair", &["--fix=host-keys"])?;
    ensure!(repaired.verdict()? == "accept", "{}", repaired.transcript());
    built.mounted("btrfs property set -ts \"$R\" ro true")?;
    let seen = built.run("diagnose", &[])?;
    ensure!(seen.verdict()? == "accept", "{}", seen.transcript());
    ensure!(seen.transcript().contains("read-only subvolume"), "{}", seen.transcript());
    Ok(())
}

/// Alpine: busybox, apk, an sshd without PAM, for which a shadow field of `!` locks the account.
fn alpine() -> Result<()> {
    let scratch = Scratch::new()?;
    script(
        r#"
        mkdir "$S/t"; cd "$S/t"
        mkdir -p etc/ssh etc/conf.d etc/init.d etc/runlevels/default bin sbin usr/bin usr/sbin usr/lib lib/apk/db home/alpine/.ssh root var/empty run
        printf 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n' >etc/os-release
        echo 3.20.3 >etc/alpine-release
        printf 'root:x:0:0:root:/root:/bin/sh\nsshd:x:22:22:sshd:/dev/null:/sbin/nologin\nalpine:x:1000:1000:alpine Cloud User:/home/alpine:/bin/ash\n' >etc/passwd
        printf 'root:*::0:::::\nsshd:!::0:::::\nalpine:!:19000:0:99999:7:::\n' >etc/shadow; chmod 640 etc/shadow
        printf 'root:x:0:\nsshd:x:22:\nalpine:x:1000:\n' >etc/group
        printf '/bin/ash\n/bin/sh\n' >etc/shells
        printf 'AuthorizedKeysFile .ssh/authorized_keys\nSubsystem sftp internal-sftp\n' >etc/ssh/sshd_config
        printf 'P:busybox\nV:1.36.1-r29\n\nP:openssh-server\nV:9.7_p1-r4\n\n' >lib/apk/db/installed
        echo 'int main(void) { return 0; }' | cc -static -x c -o bin/busybox -
        cp bin/busybox usr/sbin/sshd; cp bin/busybox usr/bin/ssh-keygen
        ln -s busybox bin/ash; ln -s busybox bin/sh; ln -s ../bin/busybox sbin/nologin
        printf '#!/sbin/openrc-run\n' >etc/init.d/sshd; chmod 755 etc/init.d/sshd; ln -s /etc/init.d/sshd etc/runlevels/default/sshd
        ssh-keygen -q -t ed25519 -N '' -f etc/ssh/ssh_host_ed25519_key
        cp "$KEY" home/alpine/.ssh/authorized_keys; chown -R 1000:1000 home/alpine; chmod -R go= home/alpine
        cd ..; truncate -s 32M d.img; mkfs.ext4 -q -L / -d t d.img
        "#,
        &[("S", scratch.path()), ("KEY", &public_key()?)],
    )?;
    let run = |command: &str, more: &[&str], code: i32| -> Result<Document> {
        let mut line: Vec<OsString> = vec![command.into(), scratch.join("d.img").into(), "--json".into()];
        line.extend(["--key".into(), public_key()?.into()]);
        line.extend(more.iter().map(OsString::from));
        if command == "repair" {
            line.extend(["--yes".into(), "--state-dir".into(), scratch.join("state").into()]);
        }
        volrescue(&line)?.expect(&[code])?.json()
    };
    let seen = run("diagnose", &[], 1)?;
    ensure!(seen.value["root"]["os"]["id"] == "alpine", "{}", seen.transcript());
    ensure!(seen.value["root"]["sshd"] == "9.7p1", "{}", seen.transcript());
    ensure!(seen.value["users"][0]["name"] == "alpine", "{}", seen.transcript());
    ensure!(seen.checks("blocks").into_iter().eq(["account-locked"]), "{}", seen.transcript());
    let repaired = run("repair", &["--fix=account"], 0)?;
    ensure!(repaired.verdict()? == "accept", "{}", repaired.transcript());
    ensure!(run("diagnose", &[], 0)?.verdict()? == "accept");
    Ok(())
}
