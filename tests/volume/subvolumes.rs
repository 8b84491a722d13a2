//! btrfs: which subvolume is the root.

use crate::fixture::{Dir, losetup, mount, refusal, sh, tree};
use crate::{Case, case};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use volrescue::error::ExitCode;
use volrescue::volume::{Choice, MountMode};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a root in the subvolume @ is found below a default that is none", named),
        case("the default subvolume is the root and snapshots do not count", snapshots),
        case("another subvolume can be chosen by name or number", chosen),
        case("two subvolumes that are roots need a choice", two),
        case("a btrfs whose twin is mounted here is refused by name", twin),
        case("a btrfs of two devices is refused by name", two_devices),
    ]
}

/// An image in which `make` was run at the top of a mounted btrfs, as `$M`.
fn image(dir: &Dir, make: &str) -> Result<PathBuf> {
    let (image, mnt) = (dir.str("disk.img"), dir.str("mnt"));
    sh(&format!("truncate -s 128M {image}; mkfs.btrfs -q {image}; mkdir -p {mnt}"))?;
    let device = losetup(&image, "")?;
    sh(&format!("mount {device} {mnt}; M={mnt}; {make}"))?;
    let roots = sh(&format!("cd {mnt}; find . -name ROOT -printf '%h\\n'"))?;
    for root in roots.lines() {
        tree(&format!("{mnt}/{root}"))?;
    }
    sh(&format!("umount {mnt}; losetup -d {device}"))?;
    Ok(image.into())
}

fn by(root: &str) -> Choice {
    Choice { partition: None, root: Some(root.to_owned()) }
}

fn subvolume(image: &Path, choice: &Choice, mode: MountMode) -> Result<Option<String>> {
    let root = mount(image, mode, choice)?;
    let subvolume = root.info.subvolume.clone();
    ensure!(super::fixture::inside(&root, "etc/passwd")?.is_file());
    root.close()?;
    Ok(subvolume)
}

fn named() -> Result<()> {
    let dir = Dir::new()?;
    let make = "btrfs -q subvolume create $M/@; btrfs -q subvolume create $M/@home; touch $M/@/ROOT";
    let image = image(&dir, make)?;
    for mode in [MountMode::ReadOnly, MountMode::ReadWrite] {
        ensure!(subvolume(&image, &Choice::default(), mode)?.as_deref() == Some("@"));
    }
    Ok(())
}

const SNAPSHOTS: &str = "btrfs -q subvolume create $M/@; btrfs -q subvolume create $M/@/.snapshots; \
     for n in 1 2 3; do mkdir $M/@/.snapshots/$n; btrfs -q subvolume create $M/@/.snapshots/$n/snapshot; \
     touch $M/@/.snapshots/$n/snapshot/ROOT; done; btrfs subvolume set-default $M/@/.snapshots/2/snapshot";

fn snapshots() -> Result<()> {
    let dir = Dir::new()?;
    let image = image(&dir, SNAPSHOTS)?;
    for mode in [MountMode::ReadOnly, MountMode::ReadWrite] {
        let found = subvolume(&image, &Choice::default(), mode)?;
        ensure!(found.as_deref() == Some("@/.snapshots/2/snapshot"), "{found:?}");
    }
    Ok(())
}

fn chosen() -> Result<()> {
    let dir = Dir::new()?;
    let image = image(&dir, SNAPSHOTS)?;
    let third = "@/.snapshots/3/snapshot";
    for name in [third, "/@/.snapshots/3/snapshot", "disk:@/.snapshots/3/snapshot"] {
        ensure!(subvolume(&image, &by(name), MountMode::ReadWrite)?.as_deref() == Some(third), "{name}");
    }
    let refused = refusal(mount(&image, MountMode::ReadOnly, &by("@/.snapshots/9/snapshot")))?;
    ensure!(refused.code == ExitCode::Target && refused.message.contains("snapshots/9"), "{refused}");
    Ok(())
}

fn two() -> Result<()> {
    let dir = Dir::new()?;
    let make = "for n in @ old; do btrfs -q subvolume create $M/$n; touch $M/$n/ROOT; done";
    let image = image(&dir, make)?;
    let refused = refusal(mount(&image, MountMode::ReadOnly, &Choice::default()))?;
    ensure!(refused.code == ExitCode::Target, "{refused}");
    ensure!(refused.message.contains("disk:@:") && refused.message.contains("disk:old:"), "{refused}");
    ensure!(refused.hint.is_some_and(|h| h.contains("--root disk:@")));
    ensure!(subvolume(&image, &by("old"), MountMode::ReadOnly)?.as_deref() == Some("old"));
    Ok(())
}

fn twin() -> Result<()> {
    let dir = Dir::new()?;
    let image = image(&dir, "touch $M/ROOT")?;
    let (copy, mnt) = (dir.str("copy.img"), dir.str("mnt"));
    sh(&format!("cp --sparse=always {} {copy}", image.display()))?;
    let device = losetup(&copy, "")?;
    sh(&format!("mount {device} {mnt}"))?;
    let refused = refusal(mount(&image, MountMode::ReadOnly, &Choice::default()));
    sh(&format!("umount {mnt}; losetup -d {device}"))?;
    let refused = refused?;
    ensure!(refused.code == ExitCode::Unsafe && refused.message.contains(&mnt), "{refused}");
    mount(&image, MountMode::ReadOnly, &Choice::default())?.close()?;
    Ok(())
}

fn two_devices() -> Result<()> {
    let dir = Dir::new()?;
    let (one, two) = (dir.str("one.img"), dir.str("two.img"));
    sh(&format!("truncate -s 128M {one} {two}"))?;
    let (a, b) = (losetup(&one, "")?, losetup(&two, "")?);
    let made = sh(&format!("mkfs.btrfs -q -d single -m raid1 {a} {b}"));
    sh(&format!("losetup -d {a}; losetup -d {b}; udevadm settle 2>/dev/null || sleep 0.2"))?;
    made?;
    let refused = refusal(mount(Path::new(&one), MountMode::ReadOnly, &Choice::default()))?;
    ensure!(refused.message.contains("2 devices"), "{refused}");
    Ok(())
}
