//! Programs of the volume: what a process gives up before it becomes one, and the tree that it finds as its `/`. For
//! `prove` and `shell --chroot` alone.
//!
//! root inside has neither the capabilities nor the mounts to reach the helper: no `CAP_SYS_ADMIN`, `CAP_SYS_PTRACE`,
//! `CAP_MKNOD` or `CAP_DAC_READ_SEARCH`, a /proc that shows its own processes only (`subset=pid`), no /sys, and, in the
//! namespaces that its caller makes, no interface. A filter takes away the system calls that reach further all the same
//! ([`crate::sys::seccomp`]).

#![expect(clippy::disallowed_methods, reason = "tells the kernel of this process in /proc")]

use crate::inventory::Inventory;
use crate::root::{Crossing, Root};
use crate::sys::process::keep_capabilities;
use crate::sys::seccomp::confine;
use crate::view::follow;
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{fchdir, pivot_root};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What sshd, PAM and the tools that repair accounts need, by their numbers in capabilities(7): `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`, `KILL`,
/// `SETGID`, `SETUID`, `SETPCAP`, `NET_BIND_SERVICE`, `SYS_CHROOT`, `SYS_NICE`, `SYS_RESOURCE`, `AUDIT_WRITE`,
/// `AUDIT_CONTROL`.
const CAPABILITIES: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 23, 24, 29, 30];

/// Device nodes of a /dev, with their minor numbers (`Documentation/admin-guide/devices.txt`); all are of major 1.
const MEMORY_NODES: [(&str, u64); 5] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// The one path that leads to an open directory, whatever its name has become.
pub fn through(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Makes the tree mounted at `root` this process's `/`, and gives up what programs of the volume are not to have. What boot
/// lays over the disk is laid over it; `memory` names further directories that are kept in memory.
///
/// # Errors
/// The kernel does not allow it, or a directory that boot mounts on is missing and can't be made.
pub fn enter(root: &Path, memory: &[&str]) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("making the mounts private")?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = open(root, flags, Mode::empty()).with_context(|| format!("opening {}", root.display()))?;
    boot_mounts(&top, memory)?;
    // The first to go when memory is short on the helper.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    fchdir(&top).context("entering the volume")?;
    pivot_root(".", ".").context("making the volume the root")?;
    // The helper's own tree lies on top now; lazily, since this very program is held in it.
    umount2(".", MntFlags::MNT_DETACH).context("leaving the helper's tree")?;
    std::env::set_current_dir("/").context("entering the volume")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("forbidding core dumps")?;
    // Needs a capability that is given up, so it comes first; both hold for what is executed from now on.
    confine().context("taking away system calls (does this kernel have seccomp filters?)")?;
    keep_capabilities(&CAPABILITIES).context("giving up capabilities")
}

/// What every boot lays over the disk's own /proc, /dev and /run, and sshd's directory in /run.
fn boot_mounts(top: &OwnedFd, memory: &[&str]) -> Result<()> {
    let root = Root::new(top.try_clone()?, Crossing::LoginPath)?;
    for name in memory {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        cover(&root, name, "tmpfs", flags, "mode=1777,size=64m,nr_inodes=8192")?;
    }
    let processes = "subset=pid";
    let quick = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    cover(&root, "proc", "proc", quick | MsFlags::MS_NODEV, processes)
        .context("mounting /proc with subset=pid (Linux 5.8 has it)")?;
    let dev = cover(&root, "dev", "tmpfs", quick, "mode=0755,size=1m,nr_inodes=64")?;
    let all = Mode::from_bits_truncate(0o666);
    let node = |name: &str, device| -> Result<()> {
        mknodat(&dev, name, SFlag::S_IFCHR, all, device).with_context(|| format!("making /dev/{name}"))?;
        fchmodat(&dev, name, all, FchmodatFlags::FollowSymlink).with_context(|| format!("making /dev/{name}"))
    };
    for (name, minor) in MEMORY_NODES {
        node(name, makedev(1, minor))?;
    }
    node("tty", makedev(5, 0))?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        nix::unistd::symlinkat(target, &dev, name).with_context(|| format!("making /dev/{name}"))?;
    }
    for (name, kind, options) in
        [("pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"), ("shm", "tmpfs", "mode=1777,size=16m")]
    {
        let at = directory(&dev, name)?;
        mount(Some(name), &through(&at), Some(kind), quick, Some(options))
            .with_context(|| format!("mounting /dev/{name}"))?;
    }
    let run = cover(&root, "run", "tmpfs", quick | MsFlags::MS_NODEV, "mode=0755,size=16m,nr_inodes=4096")?;
    directory(&run, "sshd").map(drop)
}

/// Mounts over a directory of the volume's root, which is made if it is not there. Gives the mounted directory.
fn cover(root: &Root, name: &str, kind: &str, flags: MsFlags, options: &str) -> Result<OwnedFd> {
    let path = Path::new("/").join(name);
    let place = match follow(&Inventory::new(root), &path) {
        Ok(found) => found.path,
        Err(_) => path,
    };
    let at = match root.directory(&place) {
        Ok(directory) => directory.as_fd().try_clone_to_owned()?,
        Err(_) => directory(root.fd(), name)?,
    };
    mount(Some(name), &through(&at), Some(kind), flags, Some(options))
        .with_context(|| format!("mounting /{name}"))?;
    let covered = root.directory(&place).with_context(|| format!("opening /{name}"))?;
    Ok(covered.as_fd().try_clone_to_owned()?)
}

/// A new directory 0755.
fn directory(parent: impl AsFd, name: &str) -> Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(0o755);
    nix::sys::stat::mkdirat(&parent, name, mode).with_context(|| format!("making the directory {name}"))?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::openat(&parent, name, flags, Mode::empty()).with_context(|| format!("opening {name}"))
}
