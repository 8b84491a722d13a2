//! An image in another format, shown as a raw file by qemu-storage-daemon through FUSE.
//!
//! ```text
//! this process -> keeper   mount, network and ipc namespaces of its own; a tmpfs with the file in it
//!                  -> qemu-storage-daemon   opens nothing but the descriptors that it is handed
//! ```
//!
//! The file system of FUSE is mounted where only the keeper and the daemon see it; this process opens the file through
//! /proc. When this process ends, however it does, the kernel first unmounts the volume and lets go of the loop devices,
//! through the daemon, which is still there. Only then the keeper can unmount the file, and asks the daemon to write what
//! it has and end. The image stays locked until that is done.

#![expect(clippy::disallowed_methods, reason = "starts a program of the helper and opens what it shows")]

use super::disk::Access;
use super::retry;
use super::tool::{self, Tool};
use crate::error::Refusal;
use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// The word for the keeper among the stages of [`tool`].
pub(super) const KEEPER: &str = "keep";
const DAEMON: Tool = Tool {
    program: "qemu-storage-daemon",
    package: "that has it (Debian 12: qemu-system-common; Debian 13: qemu-utils; Fedora and Red Hat: qemu-img)",
};
/// Directories that every helper has; one of them is covered, for the keeper alone.
const POINTS: [&str; 5] = ["/media", "/srv", "/opt", "/mnt", "/tmp"];
const READY: &str = "ready";
/// What is kept of the daemon's words, in bytes.
const SAID_LIMIT: u64 = 64 << 10;

/// One file of a chain of images, first the one that is to be shown.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) file: BorrowedFd<'a>,
    /// As QEMU calls it.
    pub(super) driver: &'static str,
}

/// A raw file that shows the content of an image. To be ended by [`Self::close`].
#[derive(Debug)]
pub(super) struct Export {
    // Closed before the keeper is told to end.
    file: Option<File>,
    /// Its end is the keeper's sign to end.
    sign: Option<PipeWriter>,
    keeper: Child,
}

impl Export {
    /// Shows `chain`, of which only the first is written, and that only with `access`.
    ///
    /// # Errors
    /// [`Refusal`]: the daemon is missing or can't show it (3), another program uses the image (4).
    pub(super) fn start(chain: &[Link<'_>], access: Access) -> Result<Self> {
        let daemon = DAEMON.find().map_err(|refusal| {
            refusal.hint(format!(
                "Install the package {}, or convert the image: qemu-img convert -O raw IMAGE RAW",
                DAEMON.package
            ))
        })?;
        let writable = access == Access::ReadWrite;
        // Unlike all other descriptors of this process, these are inherited.
        let lent: Vec<OwnedFd> = chain
            .iter()
            .map(|link| dup(link.file).context("lending the image to the daemon"))
            .collect::<Result<_>>()?;
        let mut words: Vec<OsString> = vec![if writable { "on" } else { "off" }.into(), daemon.into()];
        words.extend(nodes(chain, &lent, writable).into_iter().flat_map(|n| ["--blockdev".into(), n.into()]));
        let (reader, sign) = std::io::pipe().context("making a pipe")?;
        let mut command = tool::command(KEEPER, &words);
        command.stdin(Stdio::from(OwnedFd::from(reader))).stdout(Stdio::piped()).stderr(Stdio::piped());
        let keeper = command.spawn();
        drop(command);
        drop(lent);
        let mut keeper = keeper.context("starting the keeper of an image: this program can't run itself")?;
        let mut line = String::new();
        if let Some(said) = keeper.stdout.take() {
            BufReader::new(said.take(4096)).read_line(&mut line).context("waiting for the daemon")?;
        }
        let mut export = Self { file: None, sign: Some(sign), keeper };
        let Some(place) = line.trim_end().strip_prefix(READY).map(str::trim_start) else {
            let mut words = Vec::new();
            if let Some(mut said) = export.keeper.stderr.take() {
                let _ = said.by_ref().take(SAID_LIMIT).read_to_end(&mut words);
            }
            return Err(unusable(&String::from_utf8_lossy(&words)).into());
        };
        let path = format!("/proc/{}/root{place}", export.keeper.id());
        let mut options = OpenOptions::new();
        options.read(true).write(writable).custom_flags(OFlag::O_NOCTTY.bits());
        export.file = Some(options.open(path).context("opening what the daemon shows")?);
        Ok(export)
    }

    /// The raw file.
    pub(super) fn file(&self) -> Result<&File> {
        self.file.as_ref().context("the image is closed")
    }

    /// Has everything written, and waits until the daemon has ended.
    ///
    /// # Errors
    /// What could not be written; something still uses the file.
    pub(super) fn close(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all().context("writing the last data to the image")?;
        }
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.file = None;
        if self.sign.take().is_none() {
            return Ok(());
        }
        let ended = retry(Duration::from_secs(20), || self.keeper.try_wait().transpose());
        let status = ended.context("the image is still in use after twenty seconds")??;
        let mut said = String::new();
        if let Some(mut errors) = self.keeper.stderr.take().filter(|_| !status.success()) {
            let _ = errors.by_ref().take(SAID_LIMIT).read_to_string(&mut said);
        }
        ensure!(status.success(), "qemu-storage-daemon did not end well ({status}) {}", said.trim());
        Ok(())
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("{error:#}");
        }
    }
}

/// The block nodes for the daemon, from the lowest up; the uppermost is named "top". Each names the one below it, or that
/// there is none, so that what the image says of it does not count.
fn nodes(chain: &[Link<'_>], lent: &[OwnedFd], writable: bool) -> Vec<String> {
    let mut nodes = Vec::new();
    for (depth, (link, file)) in chain.iter().zip(lent).enumerate().rev() {
        let read_only = depth > 0 || !writable;
        let name = if depth == 0 { "top".to_owned() } else { format!("image{depth}") };
        let driver = link.driver;
        nodes.push(
            serde_json::json!({
                "driver": "file",
                "node-name": format!("file{depth}"),
                "filename": format!("/proc/self/fd/{}", file.as_raw_fd()),
                "read-only": read_only,
            })
            .to_string(),
        );
        let mut node = serde_json::json!({
            "driver": driver,
            "node-name": name,
            "file": format!("file{depth}"),
            "read-only": read_only,
        });
        if matches!(driver, "qcow2" | "vmdk") {
            node["backing"] = match chain.get(depth + 1) {
                Some(_) => serde_json::json!(format!("image{}", depth + 1)),
                None => serde_json::Value::Null,
            };
        }
        nodes.push(node.to_string());
    }
    nodes
}

/// Why the daemon did not show it.
fn unusable(said: &str) -> Refusal {
    let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason").trim();
    let line = line.split_once(": ").map_or(line, |(_, rest)| rest);
    if said.contains(" lock") {
        return Refusal::unsafe_(format!("the image is in use by another program: {line}"))
            .hint("Stop the machine that runs from it, then run this again.");
    }
    let hint = if said.contains("/dev/fuse") || said.contains("fuse") {
        "Load the module (modprobe fuse); in a container, run it with --device /dev/fuse and --privileged."
    } else {
        "See what qemu-img check says of it, or convert it: qemu-img convert -O raw IMAGE RAW"
    };
    Refusal::target(format!("qemu-storage-daemon can't show the image: {line}")).hint(hint)
}

/// The keeper's stage: shows, waits for the sign, takes down in good order.
pub(super) fn keep(words: &[OsString]) -> Result<u8> {
    let [writable, daemon, nodes @ ..] = words else { bail!("this command is for volrescue's own use") };
    let space = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    unshare(space).context("making namespaces")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making the mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("size=64k,mode=0700");
    let covered = |point: &&&str| mount(Some("volrescue"), **point, Some("tmpfs"), flags, options).is_ok();
    let point = POINTS.iter().find(covered).context("no directory takes a tmpfs")?;
    let file = Path::new(point).join("disk");
    let below =
        File::create(&file).and_then(|file| file.metadata()).context("making the place for the image")?;
    let mut export = OsString::from("type=fuse,id=volrescue,node-name=top,allow-other=off,writable=");
    export.push(writable);
    export.push(",mountpoint=");
    export.push(&file);
    let mut command = tool::command("terminate", &[]);
    command.arg(daemon).args(nodes).arg("--export").arg(export);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut daemon = command.spawn().context("starting qemu-storage-daemon")?;
    loop {
        if daemon.try_wait().context("waiting for qemu-storage-daemon")?.is_some() {
            return Ok(1);
        }
        if fs::metadata(&file).is_ok_and(|shown| shown.dev() != below.dev()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut out = std::io::stdout();
    // Its end is seen below, if nobody listens any more.
    let _ = writeln!(out, "{READY} {}", file.display()).and_then(|()| out.flush());
    if !wait_for_sign(&mut daemon)? {
        bail!("qemu-storage-daemon ended while the image was in use");
    }
    take_down(&file, &mut daemon)
}

/// Waits until standard input ends; `false` if the daemon does so first.
fn wait_for_sign(daemon: &mut Child) -> Result<bool> {
    let stdin = std::io::stdin();
    loop {
        let mut wanted = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, PollTimeout::from(100_u8)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno).context("waiting for the end"),
        }
        if daemon.try_wait().context("waiting for qemu-storage-daemon")?.is_some() {
            return Ok(false);
        }
    }
}

/// Unmounts the file when nothing uses it any more, however long that takes, and ends the daemon.
fn take_down(file: &Path, daemon: &mut Child) -> Result<u8> {
    let mut pause = Duration::from_millis(1);
    while umount2(file, MntFlags::UMOUNT_NOFOLLOW) == Err(Errno::EBUSY)
        && daemon.try_wait().context("waiting for qemu-storage-daemon")?.is_none()
    {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    let pid = Pid::from_raw(i32::try_from(daemon.id()).context("ending qemu-storage-daemon")?);
    let _ = kill(pid, Signal::SIGTERM);
    let status = daemon.wait().context("waiting for qemu-storage-daemon")?;
    Ok(u8::from(!status.success()))
}
