//! Every filesystem in every layout: found, read without a trace, written, let go of.

use crate::fixture::{Dir, Fs, Layout, check, dirty_disk, inside, loops, mount, open, root_disk, sh, sha256};
use crate::{Case, case};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use volrescue::volume::{Choice, Journal, MountMode, Unmounted};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for fs in Fs::ALL {
        for layout in Layout::ALL {
            let name = format!("{fs:?} in {layout:?}");
            cases.push(case(
                format!("{name} is found, read without a trace, written and let go of"),
                move || whole_way(fs, layout),
            ));
        }
        cases.push(case(format!("a dirty {fs:?} is replayed in a copy and keeps every byte"), move || {
            dirty_read_only(fs)
        }));
        cases.push(case(format!("a dirty {fs:?} is replayed on the volume when asked"), move || {
            dirty_written(fs, MountMode::Replay)
        }));
        cases.push(case(format!("a dirty {fs:?} is replayed by repairing"), move || {
            dirty_written(fs, MountMode::ReadWrite)
        }));
    }
    cases.push(case("an ext2 without a journal is found and written", ext2));
    cases.push(case("a gpt with a damaged primary is read from its backup and it is said", backup_gpt));
    cases
}

fn whole_way(fs: Fs, layout: Layout) -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, fs, layout)?;
    let before = sha256(&image)?;
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    ensure!(root.info.filesystem == fs.name(), "{:?}", root.info);
    ensure!(root.info.partition == layout.partition(), "{:?}", root.info);
    ensure!(root.info.journal == Journal::Clean, "{:?}", root.info);
    ensure!(root.info.label.as_deref() == Some("system"), "{:?}", root.info);
    ensure!(root.info.os.as_deref() == Some("Debian 12"), "{:?}", root.info);
    ensure!(root.notes.is_empty(), "{:?}", root.notes);
    ensure!(fs::read_to_string(inside(&root, "etc/fstab")?)? == "# fstab\n");
    ensure!(fs::write(inside(&root, "new")?, "x").is_err(), "a read-only mount took a write");
    ensure!(root.close()? == Unmounted::Clean);
    ensure!(loops(&image)?.is_empty());
    ensure!(sha256(&image)? == before, "looking changed the image");

    let root = mount(&image, MountMode::ReadWrite, &Choice::default())?;
    fs::write(inside(&root, "new")?, "written\n")?;
    ensure!(root.close()? == Unmounted::Clean);
    ensure!(loops(&image)?.is_empty());
    check(&dir, &image, fs, layout)?;
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    ensure!(fs::read_to_string(inside(&root, "new")?)? == "written\n");
    root.close()?;
    Ok(())
}

fn dirty_read_only(fs: Fs) -> Result<()> {
    let dir = Dir::new()?;
    let image = dirty_disk(&dir, fs, Layout::Gpt)?;
    let before = sha256(&image)?;
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    ensure!(root.info.journal == Journal::Replayed, "{:?} {:?}", root.info, root.notes);
    ensure!(fs::read_to_string(inside(&root, "synced")?)? == "the last words\n");
    root.close()?;
    ensure!(loops(&image)?.is_empty());
    ensure!(sha256(&image)? == before, "looking changed the image");
    Ok(())
}

fn dirty_written(fs: Fs, mode: MountMode) -> Result<()> {
    let dir = Dir::new()?;
    let image = dirty_disk(&dir, fs, Layout::Mbr)?;
    let root = mount(&image, mode, &Choice::default())?;
    ensure!(root.info.journal == Journal::Replayed, "{:?}", root.info);
    ensure!(fs::read_to_string(inside(&root, "synced")?)? == "the last words\n");
    root.close()?;
    check(&dir, &image, fs, Layout::Mbr)?;
    let root = mount(&image, mode, &Choice::default())?;
    ensure!(root.info.journal == Journal::Clean, "{:?}", root.info);
    root.close()?;
    Ok(())
}

fn ext2() -> Result<()> {
    let dir = Dir::new()?;
    let (image, tree) = (dir.str("ext2.img"), dir.str("tree"));
    crate::fixture::tree(&tree)?;
    sh(&format!("truncate -s 16M {image}; mkfs.ext2 -q -d {tree} {image}"))?;
    for mode in [MountMode::ReadOnly, MountMode::ReadWrite] {
        let root = mount(Path::new(&image), mode, &Choice::default())?;
        ensure!(root.info.filesystem == "ext2" && root.info.journal == Journal::Clean, "{:?}", root.info);
        root.close()?;
    }
    sh(&format!("e2fsck -fn {image}"))?;
    Ok(())
}

fn backup_gpt() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::Gpt)?;
    sh(&format!("dd if=/dev/zero of={} bs=512 seek=1 count=33 conv=notrunc status=none", image.display()))?;
    let volume = open(&image, MountMode::ReadOnly)?;
    ensure!(volume.notes().iter().any(|note| note.contains("backup")), "{:?}", volume.notes());
    drop(volume);
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    ensure!(root.notes.iter().any(|note| note.contains("backup")), "{:?}", root.notes);
    root.close()?;
    Ok(())
}
