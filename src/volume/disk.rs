//! A disk or an image, opened so that no one else can use it meanwhile.

#![expect(clippy::disallowed_methods, reason = "opens the target itself, a path of the helper")]

use super::block::{BlockDevice, own_disks};
use super::format::{self, BackingFile, Shown};
use super::holder::{self, Hold};
use super::mapped::{Mapped, settle};
use super::target::{BackingFiles, Target, TargetKind};
use crate::error::Refusal;
use crate::probe::{Format, ReadAt};
use crate::sys::block as ioctl;
use crate::sys::bytes::FileBytes;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whether the volume may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not one block.
    ReadOnly,
    /// By what was asked for.
    ReadWrite,
}

/// A disk or image that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Disk {
    held: Held,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// Logical sector size; an image does not say.
    pub(super) sector_size: Option<u32>,
    pub(super) access: Access,
    /// Disks that stand on others have been opened after them, and are let go of before them.
    pub(super) order: u32,
}

#[derive(Debug)]
enum Held {
    /// Open with O_EXCL: the kernel gives no one else an exclusive open, a mount or a swapon.
    Device(File),
    /// Under an exclusive lock of flock(2), which other runs of volrescue and some virtual machine monitors respect.
    Image(Flock<File>),
    /// The same, and what shows its content as a raw disk.
    Shown(Flock<File>, Box<Shown>),
    /// Made of parts of others, which hold it.
    Mapped(File, Box<Mapped>),
}

/// For how long something that may let go by itself is waited for.
fn patience(hold: Hold) -> Duration {
    match hold {
        Hold::Firm => Duration::ZERO,
        Hold::Passing => Duration::from_secs(1),
        // A killed run's: the kernel first writes what is left, however slow the disk.
        Hold::Fading => Duration::from_secs(10),
    }
}

impl Disk {
    /// Opens and holds the target.
    ///
    /// # Errors
    /// [`Refusal`]: in use or the helper's own disk (4), empty, read-only though to be written, unreadable (3).
    pub(super) fn open(target: &Target, access: Access) -> Result<Self> {
        let disk = match target.kind {
            TargetKind::Block => Self::open_device(&target.path, access)?,
            _ => Self::open_image(&target.path, access, target.follow)?,
        };
        if disk.size == 0 {
            return Err(Refusal::target(format!("{} is empty: it has no bytes", disk.path.display()))
                .hint("Check that this is the disk or image you mean: volrescue list")
                .into());
        }
        Ok(disk)
    }

    fn open_device(path: &Path, access: Access) -> Result<Self> {
        let shown = path.display();
        let device = BlockDevice::of_node(path);
        if let Some(device) = &device
            && own_disks().contains(device.disk_name())
        {
            let disk = BlockDevice::disk(device.disk_name());
            return Err(Refusal::unsafe_(format!(
                "{shown} is on this machine's own disk, {}, which the running system has its root on",
                disk.node().display()
            ))
            .hint("Name the disk to repair: volrescue list. To work on the system that runs now: volrescue ... --live /")
            .into());
        }
        let start = Instant::now();
        let opened = loop {
            match options(access, OFlag::O_EXCL).open(path) {
                Err(error) if errno(&error) == Errno::EBUSY => {
                    let hold = device.as_ref().map_or(Hold::Passing, holder::hold_of_device);
                    if start.elapsed() >= patience(hold) {
                        break Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                done => break done,
            }
        };
        let file = opened.map_err(|error| match errno(&error) {
            Errno::EBUSY => {
                let refusal = in_use(path, device.as_ref().map(holder::of_device).unwrap_or_default());
                let is_mounted = refusal.message.contains("mounted on ");
                match device.as_ref().and_then(holder::way_on).filter(|_| !is_mounted) {
                    Some(way) => refusal.hint(way),
                    None => refusal,
                }
            }
            Errno::EROFS | Errno::EACCES | Errno::EPERM if access == Access::ReadWrite => {
                read_only_device(path)
            }
            Errno::ENOMEDIUM => Refusal::target(format!("{shown} has no medium in it")),
            _ => Refusal::target(format!("{shown} can't be opened: {error}"))
                .hint("Check the kernel's messages about this device with: dmesg"),
        })?;
        if !file.metadata().is_ok_and(|m| m.file_type().is_block_device()) {
            return Err(Refusal::unsafe_(format!("{shown} was exchanged while it was opened")).into());
        }
        if let Some(device) = &device {
            // Held by us now: nobody can come by this way any more, but some may have come by another.
            let mut users = holder::of_same_bytes(device);
            while !users.is_empty() && start.elapsed() < patience(Hold::Passing) {
                std::thread::sleep(Duration::from_millis(20));
                users = holder::of_same_bytes(device);
            }
            if !users.is_empty() {
                return Err(in_use(path, users).into());
            }
        }
        if access == Access::ReadWrite && ioctl::is_read_only(&file).unwrap_or(false) {
            return Err(read_only_device(path).into());
        }
        let size = ioctl::size(&file).with_context(|| format!("asking {shown} for its size"))?;
        let sector_size = ioctl::sector_size(&file).ok();
        Ok(Self { held: Held::Device(file), path: path.to_owned(), size, sector_size, access, order: 0 })
    }

    fn open_image(path: &Path, access: Access, follow: BackingFiles) -> Result<Self> {
        let shown = path.display();
        // O_NONBLOCK: if a FIFO was put here meanwhile, opening it must not wait for a writer.
        let file = options(access, OFlag::O_NONBLOCK).open(path).map_err(|error| match errno(&error) {
            Errno::EROFS => {
                Refusal::target(format!("{shown} lies on a filesystem that is mounted read-only"))
                    .hint("Copy it to where it can be written, or look at it with: volrescue diagnose")
            }
            Errno::EACCES | Errno::EPERM if access == Access::ReadWrite => {
                Refusal::target(format!("{shown} can't be opened for writing: {error}"))
                    .hint("Check its permissions and that it is not immutable (lsattr), or work on a copy.")
            }
            Errno::ETXTBSY => in_use(path, Vec::new()),
            _ => Refusal::target(format!("{shown} can't be opened: {error}")),
        })?;
        let metadata = file.metadata().with_context(|| format!("looking at {shown}"))?;
        if !metadata.is_file() {
            return Err(Refusal::unsafe_(format!("{shown} was exchanged while it was opened")).into());
        }
        let start = Instant::now();
        let mut holders = holder::of_image(path, &metadata);
        while !holders.is_empty() && start.elapsed() < patience(holder::hold_of_image(&metadata)) {
            std::thread::sleep(Duration::from_millis(20));
            holders = holder::of_image(path, &metadata);
        }
        if !holders.is_empty() {
            return Err(in_use(path, holders).into());
        }
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => {
                let who = holder::of_lock(&metadata);
                in_use(path, vec![who.map_or_else(|| "locked".to_owned(), |who| format!("locked by {who}"))])
            }
            _ => Refusal::target(format!("{shown} can't be locked: {errno}")),
        })?;
        let (held, size) = match format::show(path, &lock, metadata.size(), access, follow)? {
            None => (Held::Image(lock), metadata.size()),
            Some(image) => {
                let size =
                    image.export.file()?.metadata().context("looking at the disk in the image")?.size();
                (Held::Shown(lock, Box::new(image)), size)
            }
        };
        Ok(Self { held, path: path.to_owned(), size, sector_size: None, access, order: 0 })
    }

    /// A device that was made of parts of others, named as `of`, the one that it (or its first part) lies on.
    pub(super) fn mapped(mapped: Mapped, of: &Self) -> Result<Self> {
        static ORDER: AtomicU32 = AtomicU32::new(1);
        let file = mapped.open()?;
        let size = ioctl::size(&file).context("asking a mapped device for its size")?;
        let sector_size = ioctl::sector_size(&file).ok();
        let order = ORDER.fetch_add(1, Ordering::Relaxed);
        let held = Held::Mapped(file, Box::new(mapped));
        Ok(Self { held, path: of.path.clone(), size, sector_size, access: of.access, order })
    }

    pub(super) fn file(&self) -> &File {
        match &self.held {
            Held::Device(file) => file,
            Held::Image(file) => file,
            // Open as long as it is held.
            Held::Shown(image, shown) => shown.export.file().unwrap_or(image),
            Held::Mapped(file, _) => file,
        }
    }

    /// Whether it is a regular file.
    pub(super) fn is_image(&self) -> bool {
        matches!(self.held, Held::Image(_) | Held::Shown(..))
    }

    /// The format of an image that is not raw.
    pub(super) fn format(&self) -> Option<Format> {
        match &self.held {
            Held::Shown(_, shown) => Some(shown.format),
            _ => None,
        }
    }

    /// The files below the image, the next one first.
    pub(super) fn backing(&self) -> &[BackingFile] {
        match &self.held {
            Held::Shown(_, shown) => &shown.backing,
            _ => &[],
        }
    }

    /// Whether it is an array that was assembled for this.
    pub(super) fn is_array(&self) -> bool {
        matches!(&self.held, Held::Mapped(_, mapped) if mapped.is_array())
    }

    /// The path of a device of the helper; `None` for an image, and for what was made of another disk.
    pub(super) fn device(&self) -> Option<&Path> {
        matches!(self.held, Held::Device(_)).then_some(self.path.as_path())
    }

    /// Writes what the helper still has in memory for it, lets go, and looks whether others can have it now.
    pub(super) fn release(self) -> Result<()> {
        let shown = self.path.display().to_string();
        if self.access == Access::ReadWrite {
            self.file().sync_all().with_context(|| format!("writing the last data to {shown}"))?;
        }
        let Self { held, path, access, .. } = self;
        match held {
            Held::Image(lock) => drop(lock),
            Held::Shown(lock, shown) => {
                let shown = *shown;
                shown.export.close().with_context(|| format!("letting go of {}", path.display()))?;
                drop(lock);
            }
            Held::Mapped(file, mapped) => {
                drop(file);
                mapped.close()?;
            }
            Held::Device(file) => {
                let kept = (access == Access::ReadWrite).then(|| keep_from_udev(&path)).flatten();
                drop(file);
                let device = BlockDevice::of_node(&path);
                // Closing after writing makes udev look at the device; it does so within a moment.
                let held = super::retry(Duration::from_secs(2), || {
                    match options(Access::ReadOnly, OFlag::O_EXCL).open(&path) {
                        Ok(file) => Some(Ok(file)),
                        Err(error) if errno(&error) == Errno::EBUSY => None,
                        Err(error) => Some(Err(error)),
                    }
                })
                .unwrap_or_else(|| Err(io::Error::from(Errno::EBUSY)))
                .map_err(|error| {
                    let holders = device.as_ref().map(holder::of_device).unwrap_or_default();
                    let by =
                        if holders.is_empty() { String::new() } else { format!(" ({})", holders.join(", ")) };
                    anyhow::anyhow!("{shown} is not free after it was let go: {error}{by}")
                })?;
                // While it is held, nothing can be assembled of it either.
                if kept.is_some() {
                    settle();
                }
                drop((held, kept));
            }
        }
        Ok(())
    }
}

impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

impl ReadAt for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        FileBytes { file: self.file(), size: self.size }.read_at(offset, length)
    }
}

/// A lock with which udev looks at a disk, but does not read its partitions anew: they would come as new ones, and what is
/// on them would be activated, a volume group for instance. Those that know the lock call it "block device locking".
fn keep_from_udev(path: &Path) -> Option<Flock<File>> {
    let file = options(Access::ReadOnly, OFlag::empty()).open(path).ok()?;
    Flock::lock(file, FlockArg::LockSharedNonblock).ok()
}

fn options(access: Access, more: OFlag) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite).custom_flags((more | OFlag::O_NOCTTY).bits());
    options
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn in_use(path: &Path, holders: Vec<String>) -> Refusal {
    let shown = path.display();
    let by = if holders.is_empty() { "by another process".to_owned() } else { holders.join(", ") };
    let mounts: Vec<&str> =
        holders.iter().filter_map(|h| h.split_once("mounted on ")).map(|(_, m)| m).collect();
    let hint = match mounts.first() {
        Some(point) => format!(
            "Unmount it first (umount {}), or give the mounted directory as target.",
            point.split(" by process").next().unwrap_or(point)
        ),
        None => "Stop what uses it, then run this again. volrescue only works on what nothing else uses."
            .to_owned(),
    };
    Refusal::unsafe_(format!("{shown} is in use: {by}")).hint(hint)
}

fn read_only_device(path: &Path) -> Refusal {
    Refusal::target(format!("{} is read-only, so nothing can be repaired on it", path.display())).hint(
        "Look at it with volrescue diagnose, or make it writable (blockdev --setrw, or attach it again).",
    )
}
