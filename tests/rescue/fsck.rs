//! `--fsck` on filesystems that are really damaged: without it the way on is told and nothing is written; with it the
//! filesystem's own checker has the first word, and what it can't mend safely stays as it is.

use crate::kit::program::{Run, program, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{USER, public_key, script, tool_path};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Damage to a filesystem that is not in a partition.
struct Damage {
    name: &'static str,
    filesystem: Filesystem,
    /// Makes it, in `$F`.
    recipe: &'static str,
    /// What the refusal without `--fsck` must say; empty: the kernel does not notice.
    told: &'static [&'static str],
    /// What `--fsck` runs.
    command: &'static str,
    outcome: &'static str,
}

const MENDED: [Damage; 8] = [
    Damage {
        name: "ext4-errors",
        filesystem: Filesystem::Ext4,
        recipe: "debugfs -w -R 'clri /etc/motd' $F; debugfs -w -R 'set_super_value state 3' $F",
        told: &["marked as having errors", "volrescue repair --fsck runs e2fsck -f -p first"],
        command: "e2fsck -f -p",
        outcome: "repaired",
    },
    Damage {
        name: "ext4-unnoticed",
        filesystem: Filesystem::Ext4,
        recipe: "debugfs -w -R 'set_inode_field /etc/motd links_count 7' $F",
        told: &[],
        command: "e2fsck -f -p",
        outcome: "repaired",
    },
    Damage {
        name: "ext4-nothing-wrong",
        filesystem: Filesystem::Ext4,
        recipe: ":",
        told: &[],
        command: "e2fsck -f -p",
        outcome: "clean",
    },
    Damage {
        name: "ext4-first-superblock",
        filesystem: Filesystem::Ext4,
        recipe: "truncate -s 160M $F; e2fsck -fy $F; resize2fs $F; dd if=/dev/urandom of=$F bs=1024 seek=1 count=1 conv=notrunc",
        told: &["ruined first superblock", "block 32768", "e2fsck -f -p -b 32768 -B 4096"],
        command: "e2fsck -f -p -b 32768 -B 4096",
        outcome: "repaired",
    },
    Damage {
        name: "xfs-unmountable",
        filesystem: Filesystem::Xfs,
        recipe: "xfs_db -x -c 'agi 0' -c 'write root 99999' $F",
        told: &["is damaged", "--fsck runs xfs_repair first"],
        command: "xfs_repair",
        outcome: "repaired",
    },
    Damage {
        name: "xfs-marked",
        filesystem: Filesystem::Xfs,
        recipe: "xfs_db -x -c 'sb 0' -c 'write features_incompat 0x1b' $F",
        told: &["marked as needing repair", "--fsck runs xfs_repair first"],
        command: "xfs_repair",
        outcome: "repaired",
    },
    Damage {
        name: "xfs-nothing-wrong",
        filesystem: Filesystem::Xfs,
        recipe: ":",
        told: &[],
        command: "xfs_repair -n",
        outcome: "clean",
    },
    Damage {
        name: "btrfs-nothing-wrong",
        filesystem: Filesystem::Btrfs,
        recipe: ":",
        told: &[],
        command: "btrfs check --readonly",
        outcome: "clean",
    },
];

/// What only a decision, or a miracle, mends.
const LEFT: [Damage; 2] = [
    Damage {
        name: "ext4-wants-a-decision",
        filesystem: Filesystem::Ext4,
        recipe: "debugfs -w -R 'set_inode_field <2> mode 0100644' $F",
        told: &[],
        command: "e2fsck -f -p",
        outcome: "by hand",
    },
    Damage {
        name: "btrfs-leaf",
        filesystem: Filesystem::Btrfs,
        recipe: r"leaf=$(btrfs inspect-internal dump-tree -t 5 $F | sed -n 's/^leaf \([0-9]*\) .*/\1/p' | tail -1)
            for at in $(btrfs-map-logical -l $leaf $F | sed -n 's/.*physical \([0-9]*\) .*/\1/p'); do
                printf garbage | dd of=$F bs=1 seek=$((at + 200)) conv=notrunc
            done",
        told: &[],
        command: "btrfs check --readonly",
        outcome: "btrfs check --repair on a copy",
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for damage in &MENDED {
        cases.push(Case::new(format!("fsck::{}", damage.name), Needs::Loop, || mended(damage)));
    }
    for damage in &LEFT {
        cases.push(Case::new(format!("fsck::{}", damage.name), Needs::Loop, || left(damage)));
    }
    cases.push(Case::new("fsck::xfs-dirty-and-damaged", Needs::Loop, dirty_xfs));
    cases.push(Case::new("fsck::partition-and-home", Needs::Loop, partition_and_home));
    cases.push(Case::new("fsck::dry-run-and-directory", Needs::Loop, dry_run_and_directory));
    cases.push(Case::new("fsck::killed-e2fsck", Needs::Loop, killed_e2fsck));
    cases.push(Case::new("fsck::killed-xfs-repair", Needs::Loop, killed_xfs_repair));
    cases.push(Case::new("fsck::stopped", Needs::Loop, stopped));
    cases
}

/// A root whose home is open to all, and then damaged.
fn damaged(damage: &Damage) -> Result<Image> {
    let mut image = Image::healthy(damage.filesystem, Table::None)?;
    image.change("chmod 777 $H")?;
    script(&format!("exec >/dev/null 2>&1\n{}\n", damage.recipe), &[("F", &image.path)])?;
    image.size = fs::metadata(&image.path)?.len();
    Ok(image)
}

fn mended(damage: &Damage) -> Result<()> {
    let image = damaged(damage)?;
    if !damage.told.is_empty() {
        let before = image.digest()?;
        let run = repair(&image.path, &image.scratch, &[])?.expect(&[3])?;
        for words in damage.told {
            ensure!(run.stdout.contains(words), "{words:?} is not said\n{}", run.transcript());
        }
        ensure!(image.digest()? == before, "refusing wrote");
    }
    let run = repair(&image.path, &image.scratch, &["--fsck"])?.expect(&[0])?;
    let document = run.json()?;
    let checked = &document.value["fsck"];
    ensure!(checked.as_array().is_some_and(|all| all.len() == 1), "{}", run.transcript());
    ensure!(checked[0]["command"] == damage.command, "{}", run.transcript());
    ensure!(checked[0]["outcome"] == damage.outcome, "{}", run.transcript());
    ensure!(document.verdict()? == "accept", "{}", run.transcript());
    image.check()?;
    let login = image.login(USER)?;
    ensure!(login.accepted, "sshd refuses\n{}\n{}", run.transcript(), login.log);
    // It is put back with the rest.
    let words = ["undo".into(), document.run()?.into(), "--yes".into(), "--state-dir".into()];
    let words: Vec<OsString> = words.into_iter().chain([image.scratch.join("state").into()]).collect();
    volrescue(&words)?.expect(&[0])?;
    ensure!(image.look("stat -c %a $H")?.trim() == "777");
    Ok(())
}

fn left(damage: &Damage) -> Result<()> {
    let image = damaged(damage)?;
    let run = repair(&image.path, &image.scratch, &["--fsck"])?.expect(&[5])?;
    let error = &run.json()?.value["error"];
    let text = format!("{} {}", error["message"], error["hint"]);
    ensure!(text.contains(damage.command) && text.contains(damage.outcome), "{}", run.transcript());
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    let people = people(&image.path, &["--fsck"])?;
    ensure!(
        people.stderr.contains(damage.outcome.split(' ').next().unwrap_or("")),
        "{}",
        people.transcript()
    );
    Ok(())
}

fn people(target: &Path, options: &[&str]) -> Result<Run> {
    let mut words: Vec<OsString> =
        vec!["repair".into(), target.into(), "--yes".into(), "--no-journal".into()];
    words.extend(["--user".into(), USER.into(), "--key".into(), public_key()?.into()]);
    words.extend(options.iter().map(OsString::from));
    volrescue(&words)
}

/// xfs_repair does not touch a log that waits for replay; the kernel replays it first, and nothing of it is lost.
fn dirty_xfs() -> Result<()> {
    let image = Image::healthy(Filesystem::Xfs, Table::None)?;
    image.change("sync; xfs_io -x -c 'fsync' $R")?;
    image.copy_while_mounted(
        "chmod 777 $H; echo kept >$R/etc/written-last; xfs_io -c fsync $R/etc/written-last",
    )?;
    ensure!(image.journal_is_dirty()?, "the kit made no dirty log");
    let run = repair(&image.path, &image.scratch, &["--fsck"])?.expect(&[0])?;
    ensure!(run.json()?.value["root"]["journal"] == "replayed", "{}", run.transcript());
    ensure!(run.json()?.value["fsck"][0]["outcome"] == "clean", "{}", run.transcript());
    ensure!(image.look("cat $R/etc/written-last")?.trim() == "kept", "the log was thrown away");
    image.check()
}

/// The root is fine and in a partition; the home, in another one, has errors.
fn partition_and_home() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let said = image.change(
        r#"
        disk=$(losetup --noheadings --output BACK-FILE "$(findmnt -n -o SOURCE "$R")" | sed 's/^ *//')
        truncate -s +48M "$disk"
        sgdisk -e "$disk" >/dev/null
        sgdisk -n 3:0:0 -c 3:homes "$disk" >/dev/null
        start=$(sgdisk -i 3 "$disk" | sed -n 's/^First sector: \([0-9]*\).*/\1/p')
        mke2fs -q -t ext4 -L homes -d "$R/home" "$disk.home" 32M >/dev/null
        dd if="$disk.home" of="$disk" bs=512 seek="$start" conv=notrunc status=none
        rm -rf "$R"/home/*
        echo 'PARTLABEL=homes /home ext4 defaults 0 2' >>"$R/etc/fstab"
        echo $((start * 512))
        "#,
    )?;
    let offset = said.trim().parse::<u64>().with_context(|| said.clone())?;
    script(
        r#"
        home=$F?offset=$AT
        debugfs -w -R 'set_inode_field /admin mode 040777' "$home"
        debugfs -w -R 'set_super_value state 3' "$home"
        "#,
        &[("F", &image.path), ("AT", Path::new(&offset.to_string()))],
    )?;
    // What can't be written is not mounted, and what is not seen is not judged.
    let run = repair(&image.path, &image.scratch, &[])?.expect(&[1])?;
    ensure!(
        run.stdout.contains("/home is not mounted: the ext4 on partition 3 is marked"),
        "{}",
        run.transcript()
    );
    let run = repair(&image.path, &image.scratch, &["--fsck"])?.expect(&[0])?;
    let checked = run.json()?.value["fsck"].clone();
    let places: Vec<&str> =
        checked.as_array().into_iter().flatten().filter_map(|one| one["place"].as_str()).collect();
    ensure!(places == ["partition 2", "partition 3"], "{}", run.transcript());
    ensure!(run.json()?.verdict()? == "accept", "{}", run.transcript());
    Ok(())
}

fn dry_run_and_directory() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = image.digest()?;
    let run = people(&image.path, &["--fsck", "--dry-run"])?.expect(&[0])?;
    ensure!(run.stdout.contains("e2fsck -f -p would run first"), "{}", run.transcript());
    ensure!(image.digest()? == before, "a dry run wrote");
    let tree = crate::kit::volume::Tree::healthy()?;
    let run = people(&tree.path, &["--fsck"])?.expect(&[2])?;
    ensure!(run.said().contains("--fsck can't check"), "{}", run.transcript());
    Ok(())
}

/// A program of this name in a directory of its own, to be found first.
fn stand_in(image: &Image, name: &str, body: &str) -> Result<PathBuf> {
    let directory = image.scratch.join("bin");
    fs::create_dir_all(&directory)?;
    let file = directory.join(name);
    fs::write(&file, format!("#!/bin/sh\nS={}\n{body}\n", image.scratch.path().display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

fn start(image: &Image, directory: &Path) -> Result<Child> {
    Command::new(program())
        .args(["repair", "--yes", "--fsck", "--no-journal", "--user", USER])
        .arg(&image.path)
        .env("PATH", format!("{}:{}", directory.display(), tool_path()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running volrescue")
}

fn wait_for(what: &str, mut there: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !there()? {
        if start.elapsed() > Duration::from_secs(10) {
            bail!("waited ten seconds for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

const SLOW_E2FSCK: &str = r#"
trap 'echo ended >"$S/ended"; exit 32' TERM
echo started >"$S/started"
while :; do sleep 0.05; done
"#;

/// e2fsck brings what it writes to a good end when it is asked to, and it is asked to when we are killed.
fn killed_e2fsck() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let directory = stand_in(&image, "e2fsck", SLOW_E2FSCK)?;
    let mut child = start(&image, &directory)?;
    wait_for("the checker", || Ok(image.scratch.join("started").exists()))?;
    child.kill()?;
    child.wait()?;
    wait_for("the checker's end", || Ok(image.scratch.join("ended").exists()))?;
    wait_for("the loop device", || Ok(image.loops()?.is_empty()))?;
    image.check()
}

/// A signal is passed on; the volume is let go of before we end.
fn stopped() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let directory = stand_in(&image, "e2fsck", SLOW_E2FSCK)?;
    let child = start(&image, &directory)?;
    wait_for("the checker", || Ok(image.scratch.join("started").exists()))?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(output.status.code() == Some(5) && said.contains("stopped by a signal"), "{output:?}");
    ensure!(image.scratch.join("ended").exists() && image.loops()?.is_empty());
    Ok(())
}

/// xfs_repair has to come to its end; until then no one else gets the volume.
fn killed_xfs_repair() -> Result<()> {
    let image = Image::healthy(Filesystem::Xfs, Table::None)?;
    let body = r#"
        [ "$1" != -n ] || exit 1
        trap '' PIPE
        echo started >"$S/started"
        while [ ! -e "$S/go-on" ]; do sleep 0.05; echo talk 2>/dev/null || :; done
        echo ended >"$S/ended"
    "#;
    let directory = stand_in(&image, "xfs_repair", body)?;
    let mut child = start(&image, &directory)?;
    wait_for("the checker", || Ok(image.scratch.join("started").exists()))?;
    child.kill()?;
    child.wait()?;
    let run = people(&image.path, &[])?.expect(&[4])?;
    ensure!(run.said().contains("in use"), "{}", run.transcript());
    fs::write(image.scratch.join("go-on"), "")?;
    wait_for("the checker's end", || Ok(image.scratch.join("ended").exists()))?;
    wait_for("the loop device", || Ok(image.loops()?.is_empty()))?;
    // The checker has the volume until its process is gone, a moment after its last word.
    wait_for("the volume", || Ok(people(&image.path, &[])?.expect(&[0, 4])?.code == 0))?;
    Ok(())
}
