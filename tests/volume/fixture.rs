//! Images made by the tools of the trade, and what those tools say of them afterwards.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use volrescue::volume::{self, Choice, Live, MountMode, MountedRoot, Mounting, NoKeys, Target, Volume};

/// Runs a shell command; its output, or what it said against it.
pub(crate) fn sh(command: &str) -> Result<String> {
    let output = Command::new("sh").args(["-e", "-c", command]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// A directory that is gone with the test.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Whatever a test mounts by hand ends with its thread.
        volume::enter_namespace()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("volume-{}-{count}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn str(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-R").arg("-q").arg(self.path("mnt")).output();
        let _ = sh(&format!(
            "for f in {}/*.img; do losetup -nO NAME -j $f; done | xargs -r losetup -d",
            self.0.display()
        ));
        // Never deletes through a mount that is still there.
        let _ = Command::new("rm").args(["-rf", "--one-file-system"]).arg(&self.0).output();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fs {
    Ext4,
    Xfs,
    Btrfs,
}

impl Fs {
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    pub(crate) fn mib(self) -> u64 {
        match self {
            Self::Ext4 => 64,
            Self::Xfs => 320,
            Self::Btrfs => 128,
        }
    }

    pub(crate) fn mkfs(self, file: &str, sector: u32) -> Result<()> {
        sh(&match self {
            Self::Ext4 => format!("truncate -s 64M {file}; mkfs.ext4 -q -b 4096 -L system {file}"),
            Self::Xfs => format!("truncate -s 320M {file}; mkfs.xfs -q -s size={sector} -L system {file}"),
            Self::Btrfs => format!("truncate -s 128M {file}; mkfs.btrfs -q -L system {file}"),
        })?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Gpt,
    Gpt4096,
    Mbr,
    MbrExtended,
    None,
}

impl Layout {
    pub(crate) const ALL: [Self; 5] = [Self::Gpt, Self::Gpt4096, Self::Mbr, Self::MbrExtended, Self::None];

    /// The number of the partition that the filesystem goes to.
    pub(crate) fn partition(self) -> Option<u32> {
        match self {
            Self::Gpt | Self::Gpt4096 => Some(14),
            Self::Mbr => Some(2),
            Self::MbrExtended => Some(6),
            Self::None => None,
        }
    }

    pub(crate) fn sector(self) -> u32 {
        if self == Self::Gpt4096 { 4096 } else { 512 }
    }

    /// Where it begins.
    pub(crate) fn start(self) -> u64 {
        match self {
            Self::None => 0,
            Self::MbrExtended => 9 << 20,
            _ => 4 << 20,
        }
    }
}

/// The least that is a root.
pub(crate) fn tree(directory: &str) -> Result<()> {
    sh(&format!(
        "mkdir -p {directory}/etc {directory}/usr/bin {directory}/home/admin; ln -s usr/bin {directory}/bin; \
         echo root:x:0:0:root:/root:/bin/bash >{directory}/etc/passwd; \
         printf 'ID=debian\\nVERSION_ID=\"12\"\\nPRETTY_NAME=\"Debian 12\"\\n' >{directory}/etc/os-release; \
         echo '# fstab' >{directory}/etc/fstab"
    ))?;
    Ok(())
}

/// A filesystem with a root in `file`.
pub(crate) fn filesystem(dir: &Dir, fs: Fs, sector: u32, file: &str) -> Result<()> {
    fs.mkfs(file, sector)?;
    let mnt = dir.str("mnt");
    let file_loop = losetup(file, &format!("-b {sector}"))?;
    sh(&format!("mkdir -p {mnt}; mount -t {} {file_loop} {mnt}", fs.name()))?;
    tree(&mnt)?;
    sh(&format!("umount {mnt}; losetup -d {file_loop}"))?;
    Ok(())
}

/// A loop device bound by losetup.
pub(crate) fn losetup(file: &str, options: &str) -> Result<String> {
    Ok(sh(&format!("losetup --find --show {options} {file}"))?.trim().to_owned())
}

/// A disk of that layout, with `file` as its filesystem.
pub(crate) fn disk(dir: &Dir, layout: Layout, file: &str, mib: u64) -> Result<PathBuf> {
    let image = dir.str("disk.img");
    if layout == Layout::None {
        sh(&format!("cp --sparse=always {file} {image}"))?;
        return Ok(image.into());
    }
    sh(&format!("truncate -s {}M {image}", mib + 20))?;
    let sectors = mib * 1024 * 1024 / 512;
    match layout {
        Layout::Gpt => {
            let end = 8192 + sectors - 1;
            sh(&format!("sgdisk -n 15:2048:8191 -t 15:ef00 -n 14:8192:{end} -c 14:rootpart {image}"))?;
        }
        Layout::Gpt4096 => {
            let end = 1024 + sectors / 8 - 1;
            let device = losetup(&image, "-b 4096")?;
            sh(&format!(
                "sgdisk -n 15:256:1023 -n 14:1024:{end} -c 14:rootpart {device}; losetup -d {device}"
            ))?;
        }
        Layout::Mbr => {
            sh(&format!(
                "printf 'start=2048,size=4096,type=ef\\nstart=8192,size={sectors},type=83\\n' | sfdisk -q -X dos {image}"
            ))?;
        }
        _ => {
            let size = sectors + 16384;
            sh(&format!(
                "printf 'start=2048,size=2048,type=83\\nstart=4096,size={size},type=5\\n\
                 start=6144,size=4096,type=83\\nstart=18432,size={sectors},type=83\\n' | \
                 sed '3s/^/5 : /;4s/^/6 : /;1s/^/1 : /;2s/^/2 : /' | sfdisk -q -X dos {image}"
            ))?;
        }
    }
    put(file, &image, layout.start())?;
    Ok(image.into())
}

/// Puts a file into an image.
pub(crate) fn put(file: &str, image: &str, start: u64) -> Result<()> {
    let mib = start >> 20;
    sh(&format!("dd if={file} of={image} bs=1M seek={mib} conv=notrunc,sparse status=none"))?;
    Ok(())
}

/// A disk with a clean root.
pub(crate) fn root_disk(dir: &Dir, fs: Fs, layout: Layout) -> Result<PathBuf> {
    let file = dir.str("fs.img");
    filesystem(dir, fs, layout.sector(), &file)?;
    disk(dir, layout, &file, fs.mib())
}

/// A disk as a copy of a running machine has it: with `/synced` only in the journal.
pub(crate) fn dirty_disk(dir: &Dir, fs: Fs, layout: Layout) -> Result<PathBuf> {
    let (file, copy, mnt) = (dir.str("fs.img"), dir.str("copy.img"), dir.str("mnt"));
    filesystem(dir, fs, layout.sector(), &file)?;
    let device = losetup(&file, "")?;
    sh(&format!("mount -t {} {device} {mnt}; sync -f {mnt}", fs.name()))?;
    let mut synced = OpenOptions::new().write(true).create_new(true).open(dir.path("mnt/synced"))?;
    synced.write_all(b"the last words\n")?;
    synced.sync_all()?;
    drop(synced);
    sh(&format!("cp --sparse=always {file} {copy}; umount {mnt}; losetup -d {device}"))?;
    disk(dir, layout, &copy, fs.mib())
}

/// The checker's verdict on the filesystem in the image.
pub(crate) fn check(dir: &Dir, image: &Path, fs: Fs, layout: Layout) -> Result<()> {
    let (image, part) = (image.display(), dir.str("part.img"));
    let (skip, count) = (layout.start() >> 20, fs.mib());
    sh(&format!("dd if={image} of={part} bs=1M skip={skip} count={count} conv=sparse status=none"))?;
    sh(&format!("truncate -s {count}M {part}"))?;
    sh(&match fs {
        Fs::Ext4 => format!("e2fsck -fn {part}"),
        Fs::Xfs => format!("xfs_repair -f -n {part}"),
        Fs::Btrfs => format!("btrfs check {part}"),
    })?;
    sh(&format!("rm {part}"))?;
    Ok(())
}

pub(crate) fn sha256(image: &Path) -> Result<String> {
    sh(&format!("sha256sum <{}", image.display()))
}

/// The loop devices that are bound to the image.
pub(crate) fn loops(image: &Path) -> Result<String> {
    sh(&format!("losetup -j {}", image.display()))
}

pub(crate) fn open(image: &Path, mode: MountMode) -> Result<Volume> {
    let target = Target::find(image.as_os_str(), Live::Refused)?;
    Volume::open(&target, mode.access())
}

pub(crate) fn mount(image: &Path, mode: MountMode, choice: &Choice) -> Result<MountedRoot> {
    open(image, mode)?.mount_root(
        Vec::new(),
        &Mounting { choice, mode, needed: &[] },
        &mut NoKeys,
        &|_| Ok(()),
        &mut |_| ControlFlow::Continue(()),
    )
}

/// A path in the mounted root, by its descriptor.
pub(crate) fn inside(root: &MountedRoot, path: &str) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/thread-self/fd/{}/{path}", root.fd()?.as_raw_fd())))
}

/// What it refused with.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T>) -> Result<volrescue::error::Refusal> {
    match result {
        Ok(value) => bail!("it was not refused: {value:?}"),
        Err(error) => {
            let refusal = error.downcast_ref::<volrescue::error::Refusal>().cloned();
            refusal.with_context(|| format!("not a refusal: {error:#}"))
        }
    }
}
