//! What can't be worked on: each is refused with path, cause, next step, and keeps every byte.

use crate::fixture::{
    Dir, Fs, Layout, disk, filesystem, inside, losetup, mount, open, put, refusal, root_disk, sh, sha256,
    tree,
};
use crate::{Case, case};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;
use volrescue::error::ExitCode;
use volrescue::volume::{Choice, Journal, Live, MountMode, Target, TargetKind, Unmounted, list};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = NOT_A_ROOT
        .iter()
        .map(|(name, make, words)| case(format!("{name} is refused by name"), || not_a_root(make, words)))
        .collect();
    cases.extend([
        case("a truncated disk is refused before it is mounted", truncated),
        case("a dirty disk that is too large to copy is looked at as it is, and it is said", too_large),
        case("several roots are listed and can be chosen in every way", several),
        case("the files to boot from are no root", boot),
        case("an ext4 with errors is read and not written", errors),
        case("a feature that the kernel lacks is named", feature),
        case("the helper's own disk is refused by name", own_disk),
        case("a fifo is refused and not opened", fifo),
        case("what is in use is refused with the holder's name", in_use),
        case("what is in use by another loop device is refused with the holder's name", same_bytes),
        case("a read-only device is looked at and not repaired", read_only),
        case("a directory is worked on as it is", directory),
        case("a partition with another signature at its end is ambiguous", ambiguous),
        case("the list shows layout, use and what could be rescued", listing),
    ]);
    cases
}

/// What to make as `$I`, and what the refusal must say.
const NOT_A_ROOT: &[(&str, &str, &[&str])] = &[
    ("an empty file", ": >$I", &["is empty"]),
    ("a text file", "seq 10000 >$I", &["text"]),
    ("a file of zeros", "truncate -s 1M $I", &["only zeros"]),
    ("a file of noise", "head -c 1M /dev/urandom >$I", &["neither a partition table nor a filesystem"]),
    ("swap", "truncate -s 8M $I; mkswap -q $I", &["swap"]),
    ("a vfat", "truncate -s 8M $I; mkfs.vfat $I", &["vfat"]),
    (
        "a LUKS container",
        "truncate -s 8M $I; printf 'LUKS\\272\\276\\0\\2' | dd of=$I conv=notrunc",
        &["LUKS2", "header is damaged", "cryptsetup"],
    ),
    ("an empty ext4", "truncate -s 8M $I; mkfs.ext4 -q $I", &["empty filesystem"]),
    ("an empty gpt", "truncate -s 8M $I; sgdisk -o $I", &["without partitions"]),
    (
        "a gpt damaged twice",
        "truncate -s 8M $I; sgdisk -o $I; for s in 1 16383; do \
         printf x | dd of=$I bs=1 seek=$((s * 512 + 40)) conv=notrunc; done",
        &["primary", "backup", "gdisk"],
    ),
    (
        "a disk of partitions without a root",
        "truncate -s 16M $I; sgdisk -n 1:0:+4M -t 1:ef02 -n 2:0:+4M -t 2:8200 $I; \
         printf SWAPSPACE2 | dd of=$I bs=1 seek=5246966 conv=notrunc",
        &["partition 1: nothing (BIOS boot)", "partition 2: swap"],
    ),
];

fn not_a_root(make: &str, words: &[&str]) -> Result<()> {
    let dir = Dir::new()?;
    let image = dir.path("target.img");
    sh(&format!("I={}; ({make}) >/dev/null 2>&1", image.display()))?;
    let before = sha256(&image)?;
    for mode in [MountMode::ReadOnly, MountMode::ReadWrite] {
        let refused = refusal(mount(&image, mode, &Choice::default()))?;
        ensure!(refused.code == ExitCode::Target, "{refused}");
        let text = format!("{refused}. {}", refused.hint.clone().unwrap_or_default());
        ensure!(text.contains("target.img"), "no path: {text}");
        ensure!(refused.hint.is_some(), "no next step: {text}");
        for word in words {
            ensure!(text.contains(word), "{word:?} is not in: {text}");
        }
    }
    ensure!(sha256(&image)? == before, "refusing changed it");
    Ok(())
}

fn truncated() -> Result<()> {
    for layout in [Layout::Gpt, Layout::Mbr, Layout::None] {
        let dir = Dir::new()?;
        let image = root_disk(&dir, Fs::Ext4, layout)?;
        sh(&format!("truncate -s 40M {}", image.display()))?;
        let refused = refusal(mount(&image, MountMode::ReadWrite, &Choice::default()))?;
        ensure!(refused.code == ExitCode::Target && refused.hint.is_some(), "{refused}");
        ensure!(refused.message.contains("ends at byte") || refused.message.contains("cut off"), "{refused}");
    }
    Ok(())
}

fn too_large() -> Result<()> {
    let dir = Dir::new()?;
    let (image, root) = (dir.str("disk.img"), dir.str("tree"));
    tree(&root)?;
    sh(&format!("truncate -s 40G {image}; mkfs.ext4 -q -J size=4 -E lazy_itable_init=1 -d {root} {image}"))?;
    sh(&format!("debugfs -w -R 'feature needs_recovery' {image}"))?;
    let device = losetup(&image, "-r")?;
    let root = mount(Path::new(&device), MountMode::ReadOnly, &Choice::default());
    let looked = root.and_then(|root| {
        ensure!(root.info.journal == Journal::Dirty, "{:?}", root.info);
        ensure!(root.notes.iter().any(|n| n.contains("too large to be copied")), "{:?}", root.notes);
        ensure!(inside(&root, "etc/passwd")?.is_file());
        root.close()
    });
    sh(&format!("losetup -d {device}"))?;
    ensure!(looked? == Unmounted::Clean);
    Ok(())
}

fn several() -> Result<()> {
    let dir = Dir::new()?;
    let (first, second, image) = (dir.str("a.img"), dir.str("b.img"), dir.str("disk.img"));
    filesystem(&dir, Fs::Ext4, 512, &first)?;
    filesystem(&dir, Fs::Ext4, 512, &second)?;
    sh(&format!("tune2fs -L other {second}; truncate -s 140M {image}"))?;
    sh(&format!("sgdisk -n 1:2048:+64M -c 1:one -n 2:0:+64M -c 2:two {image}"))?;
    put(&first, &image, 1 << 20)?;
    put(&second, &image, 65 << 20)?;
    let image = Path::new(&image);
    let refused = refusal(mount(image, MountMode::ReadOnly, &Choice::default()))?;
    ensure!(refused.code == ExitCode::Target, "{refused}");
    for word in ["p1: partition 1, ext4, label system", "p2: partition 2, ext4, label other", "Debian 12"] {
        ensure!(refused.message.contains(word), "{word}: {refused}");
    }
    let uuid = sh(&format!("blkid -o value -s UUID {second}"))?.trim().to_uppercase();
    for root in ["p2", "other", "two", uuid.as_str()] {
        let choice = Choice { partition: None, root: Some(root.to_owned()) };
        let root = mount(image, MountMode::ReadOnly, &choice)?;
        ensure!(root.info.partition == Some(2), "{root:?}");
        root.close()?;
    }
    let root = mount(image, MountMode::ReadWrite, &Choice { partition: Some(1), root: None })?;
    ensure!(root.info.label.as_deref() == Some("system"));
    root.close()?;
    let refused = refusal(mount(image, MountMode::ReadOnly, &Choice { partition: Some(3), root: None }))?;
    ensure!(refused.message.contains("no partition 3"), "{refused}");
    Ok(())
}

fn boot() -> Result<()> {
    let dir = Dir::new()?;
    let (boot, tree) = (dir.str("boot.img"), dir.str("boot"));
    sh(&format!(
        "mkdir -p {tree}/grub; touch {tree}/vmlinuz-6; truncate -s 8M {boot}; mkfs.ext4 -q -d {tree} {boot}"
    ))?;
    let refused = refusal(mount(Path::new(&boot), MountMode::ReadOnly, &Choice::default()))?;
    ensure!(refused.message.contains("boot from"), "{refused}");
    let (root, image) = (dir.str("root.img"), dir.str("disk.img"));
    filesystem(&dir, Fs::Xfs, 512, &root)?;
    sh(&format!("truncate -s 340M {image}; sgdisk -n 1:2048:+8M -n 2:0:+320M {image}"))?;
    put(&boot, &image, 1 << 20)?;
    put(&root, &image, 9 << 20)?;
    let root = mount(Path::new(&image), MountMode::ReadWrite, &Choice::default())?;
    ensure!(root.info.partition == Some(2) && root.info.filesystem == "xfs", "{:?}", root.info);
    root.close()?;
    Ok(())
}

fn errors() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    sh(&format!("debugfs -w -R 'set_super_value state 3' {}", image.display()))?;
    mount(&image, MountMode::ReadOnly, &Choice::default())?.close()?;
    let before = sha256(&image)?;
    let refused = refusal(mount(&image, MountMode::ReadWrite, &Choice::default()))?;
    ensure!(
        refused.message.contains("errors")
            && refused.hint.is_some_and(|h| h.contains("--fsck runs e2fsck -f -p"))
    );
    ensure!(sha256(&image)? == before);
    Ok(())
}

fn feature() -> Result<()> {
    let dir = Dir::new()?;
    let (image, root) = (dir.str("disk.img"), dir.str("tree"));
    tree(&root)?;
    sh(&format!("truncate -s 32M {image}; mkfs.ext4 -q -O ^metadata_csum -d {root} {image}"))?;
    // s_feature_incompat, 96 bytes into the superblock: a bit that no kernel knows.
    sh(&format!("printf '\\200' | dd of={image} bs=1 seek=1123 conv=notrunc status=none"))?;
    let refused = refusal(mount(Path::new(&image), MountMode::ReadOnly, &Choice::default()))?;
    ensure!(
        refused.message.contains("kernel") && refused.message.contains("unknown feature 0x80000000"),
        "{refused}"
    );
    Ok(())
}

fn own_disk() -> Result<()> {
    let number = sh("stat -c %Hd:%Ld /")?;
    let device = sh(&format!("readlink /sys/dev/block/{}", number.trim()))?;
    let name = device.trim().rsplit('/').next().unwrap_or_default().to_owned();
    let refused = refusal(open(&Path::new("/dev").join(name), MountMode::ReadOnly))?;
    ensure!(refused.code == ExitCode::Unsafe && refused.message.contains("own disk"), "{refused}");
    Ok(())
}

fn fifo() -> Result<()> {
    let dir = Dir::new()?;
    sh(&format!("mkfifo {}", dir.str("fifo")))?;
    let refused = refusal(open(&dir.path("fifo"), MountMode::ReadWrite))?;
    ensure!(refused.code == ExitCode::Target && refused.message.contains("FIFO"), "{refused}");
    Ok(())
}

fn in_use() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    let mnt = dir.str("mnt");
    let device = losetup(&image.to_string_lossy(), "")?;
    let by_loop = refusal(open(&image, MountMode::ReadOnly));
    sh(&format!("mount {device} {mnt}"))?;
    let by_mount = refusal(open(Path::new(&device), MountMode::ReadOnly));
    let by_both = refusal(open(&image, MountMode::ReadOnly));
    sh(&format!("umount {mnt}"))?;
    let first = open(Path::new(&device), MountMode::ReadOnly);
    let by_open = refusal(open(Path::new(&device), MountMode::ReadOnly));
    drop(first?);
    let root = mount(Path::new(&device), MountMode::ReadWrite, &Choice::default())?;
    let stranger = sh(&format!("mount {device} {mnt}"));
    root.close()?;
    sh(&format!("losetup -d {device}"))?;
    ensure!(stranger.is_err(), "a stranger could mount what we hold");
    for (refused, word) in
        [(by_loop?, device.as_str()), (by_mount?, &mnt), (by_both?, &mnt), (by_open?, "is in use")]
    {
        ensure!(refused.code == ExitCode::Unsafe && refused.message.contains(word), "{word}: {refused}");
        ensure!(refused.hint.is_some());
    }
    let first = open(&image, MountMode::ReadOnly)?;
    let by_lock = refusal(open(&image, MountMode::ReadOnly))?;
    ensure!(by_lock.code == ExitCode::Unsafe && by_lock.message.contains("locked by process"), "{by_lock}");
    drop(first);
    Ok(())
}

/// The same file by two loop devices, one of them mounted: the kernel lets the other be opened exclusively.
fn same_bytes() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    let (mnt, shown) = (dir.str("mnt"), image.to_string_lossy().into_owned());
    let size = image.metadata()?.len();
    sh(&format!("truncate -s +2M {shown}"))?;
    let used = losetup(&shown, &format!("--sizelimit {size}"))?;
    let other = losetup(&shown, "")?;
    let apart = losetup(&shown, &format!("--offset {size}"))?;
    let stacked = losetup(&used, "")?;
    let inner = losetup(&shown, "--sizelimit 1048576")?;
    let unused = open(Path::new(&other), MountMode::ReadOnly).map(drop);
    sh(&format!("mount {used} {mnt}"))?;
    let refused = [&other, &stacked, &inner].map(|name| refusal(open(Path::new(name), MountMode::ReadWrite)));
    sh(&format!("umount {mnt}; mount {stacked} {mnt}"))?;
    let below = [&used, &other].map(|name| refusal(open(Path::new(name), MountMode::ReadOnly)));
    sh(&format!("umount {mnt}; mount {used} {mnt}"))?;
    let beside = open(Path::new(&apart), MountMode::ReadOnly).map(drop);
    sh(&format!("umount {mnt}; losetup -d {stacked} {inner} {apart} {other} {used}"))?;
    unused?;
    for refused in refused.into_iter().chain(below) {
        let refused = refused?;
        ensure!(refused.code == ExitCode::Unsafe && refused.message.contains(&mnt), "{refused}");
    }
    // Other bytes of the file are not in use.
    beside
}

fn read_only() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Btrfs, Layout::Mbr)?;
    let device = losetup(&image.to_string_lossy(), "-r")?;
    let looked =
        mount(Path::new(&device), MountMode::ReadOnly, &Choice::default()).and_then(|root| root.close());
    let refused = refusal(open(Path::new(&device), MountMode::ReadWrite));
    sh(&format!("losetup -d {device}"))?;
    ensure!(looked? == Unmounted::Clean);
    let refused = refused?;
    ensure!(refused.code == ExitCode::Target && refused.message.contains("read-only"), "{refused}");
    Ok(())
}

fn directory() -> Result<()> {
    let dir = Dir::new()?;
    tree(&dir.str("root"))?;
    let target = Target::find(dir.path("root").as_os_str(), Live::Refused)?;
    ensure!(target.kind == TargetKind::Directory);
    let root = mount(&dir.path("root"), MountMode::ReadWrite, &Choice::default())?;
    ensure!(root.info.os.as_deref() == Some("Debian 12"), "{:?}", root.info);
    ensure!(root.info.filesystem != "unknown", "{:?}", root.info);
    fs::write(inside(&root, "etc/new")?, "x")?;
    ensure!(root.mount_point().is_none());
    root.root()?;
    ensure!(root.close()? == Unmounted::NotMounted);
    sh(&format!("mkdir {}", dir.str("none")))?;
    let refused = refusal(mount(&dir.path("none"), MountMode::ReadOnly, &Choice::default()))?;
    ensure!(refused.code == ExitCode::Target && refused.message.contains("no etc/passwd"), "{refused}");
    Ok(())
}

fn ambiguous() -> Result<()> {
    let dir = Dir::new()?;
    let file = dir.str("fs.img");
    filesystem(&dir, Fs::Ext4, 512, &file)?;
    // An md superblock of version 0.90 in the last 64 KiB: a half of a mirror.
    sh(&format!("printf '\\374\\116\\053\\251' | dd of={file} bs=64K seek=1023 conv=notrunc status=none"))?;
    let image = disk(&dir, Layout::Gpt, &file, Fs::Ext4.mib())?;
    let refused = refusal(mount(&image, MountMode::ReadWrite, &Choice::default()))?;
    ensure!(refused.message.contains("ext4 and md RAID member at once"), "{refused}");
    Ok(())
}

fn listing() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Xfs, Layout::Gpt)?;
    let device = losetup(&image.to_string_lossy(), "")?;
    let disks = list();
    let found = disks.iter().find(|d| d.device == Path::new(&device)).cloned();
    sh(&format!("losetup -d {device}"))?;
    let Some(disk) = found else { anyhow::bail!("{device} is not listed: {disks:?}") };
    ensure!(disk.rescuable, "{disk:?}");
    let part = disk.parts.iter().find(|p| p.number == Some(14));
    ensure!(
        part.is_some_and(|p| p.content == "xfs" && p.rescuable && p.label.as_deref() == Some("system")),
        "{disk:?}"
    );
    let own = disks.iter().find(|d| d.why_not.as_deref() == Some("it carries the root of this machine"));
    ensure!(own.is_some_and(|d| !d.rescuable), "{disks:?}");
    Ok(())
}
