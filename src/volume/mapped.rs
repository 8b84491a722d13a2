//! Devices that are made of parts of a held disk: by device-mapper, or by md where mdadm assembles an array.
//!
//! They stand on loop devices, as everything does that is mounted: the kernel lets no one else have a part of a disk
//! that is held. A mapped device is marked for removal as soon as it is open: whatever becomes of this process, it goes
//! with its last user, and the loop devices under it with it.

#![expect(clippy::disallowed_methods, reason = "opens devices of the helper")]

use super::block::BlockDevice;
use super::loopdev::LoopDevice;
use super::proc::{names, text};
use super::retry;
use crate::error::Refusal;
use crate::sys::mapper::{self, Target};
use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A device that was made, with what is under it.
#[derive(Debug)]
pub(super) struct Mapped {
    /// `None` once it is let go of.
    file: Option<File>,
    node: PathBuf,
    maker: Maker,
    below: Vec<LoopDevice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Mapper,
    Md,
}

/// What the names of our devices begin with; the number of the process follows.
const PREFIX: &str = "volrescue-";
/// Where mdadm and udev name arrays.
const ARRAYS: &str = "/dev/md";

/// A name that no other device has.
pub(super) fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The door to device-mapper.
///
/// # Errors
/// [`Refusal`] (3) where the kernel has none.
pub(super) fn control() -> Result<File, Refusal> {
    OpenOptions::new().read(true).write(true).open("/dev/mapper/control").map_err(|error| {
        Refusal::target(format!("this machine has no device-mapper ({error})"))
            .hint("Load it (modprobe dm-mod), or use a helper that has it; containers mostly have not.")
    })
}

impl Mapped {
    /// Makes a device of these targets, which stand on `below`. `what` is opened by it.
    ///
    /// # Errors
    /// [`Refusal`] (3) where the kernel has no device-mapper, or not this target.
    pub(super) fn create(
        what: &str,
        targets: &[Target],
        below: Vec<LoopDevice>,
        writable: bool,
    ) -> Result<Self> {
        let control = control()?;
        let name = name();
        let number = mapper::create(&control, &name, targets, !writable).map_err(|errno| match errno {
            Errno::EINVAL | Errno::ENXIO | Errno::ENOENT => {
                let kind = targets.first().map_or("", |target| target.kind);
                Refusal::target(format!(
                    "{what} can't be opened: the kernel refuses its {kind} mapping ({errno})"
                ))
                .hint(format!("Load the target (modprobe dm-{kind}); dmesg has the kernel's reason."))
                .into()
            }
            errno => anyhow!(errno).context(format!("mapping {what}")),
        })?;
        let node = PathBuf::from(format!("/dev/dm-{}", number.1));
        let file = OpenOptions::new().read(true).write(writable).open(&node);
        // Now that it is open this marks it; if it could not be opened, it goes at once.
        let marked = mapper::remove_deferred(&control, &name);
        let file = file.with_context(|| format!("opening {}", node.display()))?;
        marked.with_context(|| format!("marking {} for removal", node.display()))?;
        tracing::info!("{what} is {}", node.display());
        Ok(Self { file: Some(file), node, maker: Maker::Mapper, below })
    }

    /// Has mdadm assemble the array that `below` are the members of.
    ///
    /// # Errors
    /// [`Refusal`] (3) where there is no mdadm, or it can't.
    pub(super) fn assemble(what: &str, below: Vec<LoopDevice>) -> Result<Self> {
        let known = names(Path::new("/sys/block"));
        let link = Path::new(ARRAYS).join(name());
        let mut command = tool("mdadm");
        command
            .arg("--assemble")
            .arg(&link)
            .args(["--run", "--quiet"])
            .args(below.iter().map(LoopDevice::path));
        run(&mut command, what, "mdadm", "mdadm")?;
        let made = |device: &LoopDevice| {
            let holders = Path::new("/sys/block").join(device.path().file_name()?).join("holders");
            names(&holders).into_iter().find(|name| name.starts_with("md") && !known.contains(name))
        };
        let found =
            below.iter().find_map(made).with_context(|| format!("{what} was assembled and is not there"))?;
        let node = Path::new("/dev").join(&found);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&node)
            .with_context(|| format!("opening {}", node.display()))?;
        tracing::info!("{what} is {}", node.display());
        Ok(Self { file: Some(file), node, maker: Maker::Md, below })
    }

    /// Whether mdadm assembled it.
    pub(super) fn is_array(&self) -> bool {
        self.maker == Maker::Md
    }

    /// A descriptor of its own of the device.
    pub(super) fn open(&self) -> Result<File> {
        let file = self.file.as_ref().context("the device was let go of")?;
        file.try_clone().with_context(|| format!("opening {}", self.node.display()))
    }

    /// Lets go of it, and waits until it is no more.
    ///
    /// # Errors
    /// It is there still after five seconds: something else uses it.
    pub(super) fn close(mut self) -> Result<()> {
        let node = self.node.clone();
        let sys = Path::new("/sys/block").join(node.file_name().unwrap_or_default());
        // As long as this is open, no other device can have got its number.
        let bound = text(&sys.join("dm/name"));
        drop(self.file.take());
        let gone = match self.maker {
            Maker::Mapper => {
                retry(Duration::from_secs(5), || (text(&sys.join("dm/name")) != bound).then_some(()))
            }
            Maker::Md => retry(Duration::from_secs(5), || stop(&node).then_some(())),
        };
        gone.ok_or_else(|| {
            anyhow!("{} is still in use five seconds after it was let go of", node.display())
        })?;
        std::mem::take(&mut self.below).into_iter().try_for_each(LoopDevice::close)
    }
}

/// Stops the arrays that runs assembled and that outlived them: nothing else of a killed run does.
pub(super) fn stop_orphans() {
    for name in names(Path::new(ARRAYS)) {
        let link = Path::new(ARRAYS).join(&name);
        if maker_of(&name).is_none_or(|pid| Path::new("/proc").join(pid).exists()) {
            continue;
        }
        let disks = disks_below(&link);
        let others = arrays_on(&disks);
        if !stop(&link) {
            continue;
        }
        tracing::warn!("{} was left by a run that was killed, and is stopped", link.display());
        // Only now are the members closed that the run had written.
        if let Err(error) = stop_assembled(&disks, &others) {
            tracing::warn!("{error:#}");
        }
    }
}

/// The disks that the loop devices are bound to of which an array of ours is made.
fn disks_below(array: &Path) -> Vec<PathBuf> {
    let members = BlockDevice::of_node(array).map(|array| array.slaves()).unwrap_or_default();
    members.iter().filter_map(|one| text(&one.sys().join("loop/backing_file"))).map(PathBuf::from).collect()
}

/// The arrays that are made of these disks or of partitions of theirs.
fn arrays_on(disks: &[PathBuf]) -> BTreeSet<PathBuf> {
    let devices = disks.iter().filter_map(|disk| BlockDevice::of_node(disk));
    let family = devices.flat_map(|device| device.partitions().into_iter().chain([device]));
    let holders = family.flat_map(|member| member.holders());
    holders.filter(|holder| holder.name.starts_with("md")).map(|holder| holder.node()).collect()
}

/// Stops what udev has made of the members by itself, but for the arrays that were there before. It looks at a device
/// again once it was closed after writing, and assembles the array that it finds; whoever is to detach the disks must not
/// meet it.
///
/// # Errors
/// Something uses it already.
pub(super) fn stop_assembled(disks: &[PathBuf], before: &BTreeSet<PathBuf>) -> Result<()> {
    settle();
    for array in arrays_on(disks).difference(before) {
        ensure!(
            retry(Duration::from_secs(5), || stop(array).then_some(())).is_some(),
            "this machine assembled the repaired array as {0}, and it can't be stopped: mdadm --stop {0}",
            array.display()
        );
    }
    Ok(())
}

/// Waits until udev has looked at everything. Where there is none, nobody looks.
pub(super) fn settle() {
    if let Err(error) = tool("udevadm").args(["settle", "--timeout=10"]).output() {
        tracing::debug!("udevadm: {error}");
    }
}

/// The process that gave a device the name, by its number.
fn maker_of(name: &str) -> Option<&str> {
    let (pid, count) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(pid) && is_number(count)).then_some(pid)
}

impl Drop for Mapped {
    /// A mapped device goes by itself, an array does not.
    fn drop(&mut self) {
        if self.file.take().is_some() && self.maker == Maker::Md && !stop(&self.node) {
            tracing::error!(
                "{} was assembled for this and is not stopped: mdadm --stop",
                self.node.display()
            );
        }
    }
}

fn stop(node: &Path) -> bool {
    tool("mdadm").arg("--quiet").arg("--stop").arg(node).output().is_ok_and(|output| output.status.success())
}

/// A tool of the trade, in whichever directory the helper has it.
pub(super) fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")).env("LC_ALL", "C");
    command.stdin(std::process::Stdio::null());
    command
}

/// Runs it to its end.
///
/// # Errors
/// [`Refusal`] (3): it is missing, or failed with what it said.
pub(super) fn run(command: &mut Command, what: &str, name: &str, package: &str) -> Result<(), Refusal> {
    let output = command.output().map_err(|error| missing(&error, what, name, package))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or("nothing").trim_start_matches("mdadm: ");
    Err(Refusal::target(format!("{what} can't be opened: {name} says: {said}")))
}

/// The tool could not be run.
pub(super) fn missing(error: &io::Error, what: &str, name: &str, package: &str) -> Refusal {
    if error.kind() == io::ErrorKind::NotFound {
        return Refusal::target(format!("{what} can't be opened: this machine has no {name}"))
            .hint(format!("Install it here: the package is {package}."));
    }
    Refusal::target(format!("{what} can't be opened: {name} can't be run: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_our_devices_tell_who_made_them() {
        assert_eq!(maker_of(&name()), Some(std::process::id().to_string().as_str()));
        for other in ["volrescue-", "volrescue-1", "volrescue-x-0", "volrescue-1-", "volrescue--1", "127"] {
            assert_eq!(maker_of(other), None, "{other}");
        }
    }
}
