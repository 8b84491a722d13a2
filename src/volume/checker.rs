//! `--fsck`: the filesystem's own checker, with the options that lose nothing.
//!
//! | filesystem | what runs | when this process dies |
//! | --- | --- | --- |
//! | ext2, ext3, ext4 | `e2fsck -f -p`, by a copy of the superblock where the first is ruined | it ends in good order (SIGTERM) |
//! | xfs | the kernel replays the log, `xfs_repair -n`, and `xfs_repair` only where that finds damage | it goes on to its end |
//! | btrfs | the kernel replays the log, `btrfs check --readonly`: its `--repair` is not safe, so nothing is mended | it is killed |
//!
//! Never `e2fsck -y`, `xfs_repair -L` or `btrfs check --repair`: what these throw away nobody brings back.

use super::candidate::{self, Choice};
use super::disk::{Access, Disk};
use super::filesystem::{self, Replay};
use super::loopdev::LoopDevice;
use super::mounted::forget;
use super::scratch::{OnProgress, Progress};
use super::search::{self, bind};
use super::tool::{Bond, Said, Tool};
use crate::error::Refusal;
use crate::probe::{Content, Kind, Layout, Slot, Superblock, Window, probe};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const E2FSCK: Tool = Tool { program: "e2fsck", package: "e2fsprogs" };
const XFS_REPAIR: Tool = Tool { program: "xfs_repair", package: "xfsprogs" };
const BTRFS: Tool = Tool { program: "btrfs", package: "btrfs-progs" };

/// What a checker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// There was nothing to mend.
    Clean,
    /// Something was, and it was mended.
    Repaired,
}

/// A filesystem that its own checker has been over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// The device or image.
    pub device: PathBuf,
    /// "partition 1", "the whole disk".
    pub place: String,
    /// The kind of the filesystem.
    pub filesystem: &'static str,
    /// What was run, but for the device.
    pub command: String,
    /// What it came to.
    pub outcome: Health,
    /// What the checker said.
    pub said: Vec<String>,
    #[serde(skip)]
    start: u64,
}

/// The lines of a checker that are kept.
const LINES: usize = 200;

/// What `--fsck` runs on this filesystem, but for the device.
pub(super) fn command(superblock: &Superblock) -> String {
    match (superblock.kind, superblock.copy()) {
        (Kind::Xfs, _) => "xfs_repair".to_owned(),
        (Kind::Btrfs, _) => "btrfs check --readonly".to_owned(),
        (_, Some(copy)) => format!("e2fsck -f -p -b {} -B {}", copy.block, copy.block_size),
        _ => "e2fsck -f -p".to_owned(),
    }
}

/// What helps a damaged filesystem, in words for a hint.
pub(super) fn advice(superblock: &Superblock) -> String {
    let command = command(superblock);
    if superblock.kind == Kind::Btrfs {
        return format!(
            "Nothing mends a btrfs safely. See what is wrong ({command}; dmesg has the kernel's reason), save what can be \
             read (mount -o ro,rescue=all), and try btrfs check --repair on a copy only."
        );
    }
    format!("volrescue repair --fsck runs {command} first; do it on a copy or with a snapshot made.")
}

/// The filesystems of which the checker has been told already are left out.
fn is_done(disk: &Disk, slot: &Slot, done: &[Checked]) -> bool {
    // What was opened in a disk has the disk's name, and its bytes are counted anew.
    let place = slot.words();
    done.iter().any(|one| one.device == disk.path && one.start == slot.start && one.place == place)
}

/// Runs the checker of the filesystem on the slot, which is not mounted, and gives what is on the slot then. `point` is a
/// free place to mount it for a moment, to have its log replayed.
///
/// # Errors
/// [`Refusal`]: the checker is missing (3), could not mend it (5), or was stopped.
pub(super) fn check(
    disk: &Disk,
    layout: &Layout,
    slot: &Slot,
    point: &Path,
    progress: OnProgress<'_>,
    done: &mut Vec<Checked>,
) -> Result<Slot> {
    let superblock = slot.content.superblock().context("there is no filesystem to check")?;
    if is_done(disk, slot, done) {
        return Ok(slot.clone());
    }
    let mut work = Work { disk, slot, superblock, progress, shown: command(superblock) };
    let (outcome, said) = match superblock.kind {
        Kind::Xfs => work.xfs(layout, point)?,
        Kind::Btrfs => work.btrfs(layout, point)?,
        _ => work.ext(layout)?,
    };
    done.push(Checked {
        device: disk.path.clone(),
        place: slot.words(),
        filesystem: superblock.kind.name(),
        command: work.shown,
        outcome,
        said: told(&said),
        start: slot.start,
    });
    let content = probe(&Window::new(disk, slot.start, slot.size)).context("looking at it again")?;
    Ok(Slot { content, ..slot.clone() })
}

/// What it said, without the steps that xfs_repair goes through, and each line once.
fn told(said: &Said) -> Vec<String> {
    let is_step = |line: &str| line.starts_with("- ") || line.starts_with("Phase ") || line == "done";
    let mut lines = said.last(usize::MAX);
    lines.retain(|line| !is_step(line));
    lines.dedup();
    lines.split_off(lines.len().saturating_sub(LINES))
}

struct Work<'a> {
    disk: &'a Disk,
    slot: &'a Slot,
    superblock: &'a Superblock,
    progress: OnProgress<'a>,
    shown: String,
}

impl Work<'_> {
    fn bind(&self, layout: &Layout, access: Access) -> Result<LoopDevice> {
        bind(self.disk, layout, self.slot, self.superblock, access)
    }

    fn run(&mut self, tool: Tool, words: &[&str], device: &LoopDevice, bond: Bond) -> Result<Said> {
        let mut words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        words.push(device.path().as_os_str());
        tracing::info!("running {} {:?}", tool.program, words);
        let program = tool.program;
        let progress = &mut self.progress;
        let mut said =
            tool.run(&words, bond, self.disk, &mut || progress(Progress::Check(program)).is_break())?;
        // The name of our loop device tells nobody anything.
        said.text = said.text.replace(&format!("{}: ", device.path().display()), "");
        Ok(said)
    }

    fn failed(&self, said: &Said, why: &str, hint: String) -> anyhow::Error {
        let kind = self.superblock.kind.name();
        let last = said.telling(3).join("; ");
        let said = if last.is_empty() { String::new() } else { format!(": {last}") };
        Refusal::failed(format!("{}: the {kind} on {} {why}{said}", self.shown, self.slot.words()))
            .hint(hint)
            .into()
    }

    fn unexpected(&self, said: &Said) -> anyhow::Error {
        let how = said.status.map_or_else(|| "a signal".to_owned(), |status| format!("status {status}"));
        self.failed(
            said,
            &format!("could not be checked, it ended with {how}"),
            "The kernel's messages may tell more: dmesg. Run the checker by hand, on a copy if you can."
                .into(),
        )
    }

    fn ext(&mut self, layout: &Layout) -> Result<(Health, Said)> {
        let device = self.bind(layout, Access::ReadWrite)?;
        let copy = self.superblock.copy().map(|copy| (copy.block.to_string(), copy.block_size.to_string()));
        let mut words = vec!["-f", "-p"];
        if let Some((block, size)) = &copy {
            words.extend(["-b", block, "-B", size]);
        }
        let said = self.run(E2FSCK, &words, &device, Bond::Terminate)?;
        device.close()?;
        // Bits: 1 and 2 mended, 4 not all mended, 32 canceled (e2fsck(8)).
        match said.status {
            _ if said.stopped => Err(said.interrupted(true).into()),
            Some(0) if copy.is_none() => Ok((Health::Clean, said)),
            Some(0..=3) => Ok((Health::Repaired, said)),
            Some(status) if status & 4 != 0 => Err(self.failed(
                &said,
                "has damage that is not mended without a decision",
                format!(
                    "Make a copy or a snapshot, then decide by hand, question by question: e2fsck -f {}. What it can't \
                     place it puts into lost+found.",
                    self.device_words()
                ),
            )),
            _ => Err(self.unexpected(&said)),
        }
    }

    fn xfs(&mut self, layout: &Layout, point: &Path) -> Result<(Health, Said)> {
        let replayed = self.replay(layout, point);
        let device = self.bind(layout, Access::ReadOnly)?;
        let looked = self.run(XFS_REPAIR, &["-n"], &device, Bond::Kill)?;
        device.close()?;
        match looked.status {
            _ if looked.stopped => return Err(looked.interrupted(false).into()),
            Some(0) => {
                "xfs_repair -n".clone_into(&mut self.shown);
                return Ok((Health::Clean, looked));
            }
            Some(1) => {}
            _ => return Err(self.unexpected(&looked)),
        }
        let device = self.bind(layout, Access::ReadWrite)?;
        // -e: the status tells whether something was mended.
        let said = self.run(XFS_REPAIR, &["-e"], &device, Bond::Outlives)?;
        device.close()?;
        match said.status {
            Some(0 | 4) if said.stopped => Err(said.interrupted(true).into()),
            Some(0) => Ok((Health::Clean, said)),
            Some(4) => Ok((Health::Repaired, said)),
            // It does not touch a filesystem whose log waits for replay.
            Some(2) => {
                let why = match replayed {
                    Ok(()) => "has a log that waits for replay".to_owned(),
                    Err(error) => format!("has a log that can't be replayed ({error:#})"),
                };
                Err(self.failed(
                    &Said { text: String::new(), ..said },
                    &why,
                    format!(
                        "Make a copy or a snapshot. There, xfs_repair -L {} throws the log away, and with it what was \
                         written last.",
                        self.device_words()
                    ),
                ))
            }
            _ => Err(self.unexpected(&said)),
        }
    }

    fn btrfs(&mut self, layout: &Layout, point: &Path) -> Result<(Health, Said)> {
        search::refuse_twin(self.superblock)?;
        // A log that can't be replayed is found by the check too.
        let _ = self.replay(layout, point);
        let device = self.bind(layout, Access::ReadOnly)?;
        let said = self.run(BTRFS, &["check", "--readonly"], &device, Bond::Kill)?;
        device.close()?;
        match said.status {
            _ if said.stopped => Err(said.interrupted(false).into()),
            Some(0) => Ok((Health::Clean, said)),
            Some(1) => Err(self.failed(&said, "is damaged", advice(self.superblock))),
            _ => Err(self.unexpected(&said)),
        }
    }

    /// Has the kernel replay the log, by mounting it for writing and unmounting it.
    fn replay(&self, layout: &Layout, point: &Path) -> Result<()> {
        let device = self.bind(layout, Access::ReadWrite)?;
        let path = device.path().to_owned();
        let mounted = filesystem::mount(&device, self.superblock.kind, point, Replay::ReadWrite, None);
        let done = mounted.map_err(anyhow::Error::from).and_then(super::mount::Mount::close);
        device.close()?;
        forget(self.superblock.kind, &path);
        done
    }

    /// How the operator names the filesystem on the command line of a checker.
    fn device_words(&self) -> String {
        let path = self.disk.path.display();
        match (&self.slot.partition, &self.slot.logical) {
            (_, Some(logical)) => format!("/dev/{}", logical.id()),
            (Some(partition), None) if self.disk.is_image() => format!(
                "/dev/loopNp{} (after losetup --find --show --partscan {path}, which prints /dev/loopN)",
                partition.number
            ),
            (Some(partition), None) => {
                let digit = path.to_string().ends_with(|c: char| c.is_ascii_digit());
                format!("{path}{}{}", if digit { "p" } else { "" }, partition.number)
            }
            (None, None) => path.to_string(),
        }
    }
}

/// Has the checkers run over the filesystems among which the root is to be chosen and that can't be mounted at all, and
/// puts into the layout what is there then. `true`: there was one.
///
/// # Errors
/// As [`check`].
pub(super) fn heal(
    disk: &Disk,
    layout: &mut Layout,
    choice: &Choice,
    point: &Path,
    progress: OnProgress<'_>,
    done: &mut Vec<Checked>,
) -> Result<bool> {
    let mut healed = false;
    for index in 0..layout.slots.len() {
        let slot = layout.slots[index].clone();
        let superblock = match &slot.content {
            Content::Found(superblock) if superblock.kind.is_rescuable() => superblock,
            _ => continue,
        };
        if candidate::is_chosen(choice, &slot, &layout.slots)
            && is_damaged(disk, layout, &slot, superblock, point)?
        {
            layout.slots[index] = check(disk, layout, &slot, point, &mut *progress, done)?;
            healed = true;
        }
    }
    Ok(healed)
}

/// Whether it can't be mounted for a reason that a checker may do away with.
fn is_damaged(
    disk: &Disk,
    layout: &Layout,
    slot: &Slot,
    superblock: &Superblock,
    point: &Path,
) -> Result<bool> {
    if filesystem::check_extent(slot, superblock).is_err() {
        return Ok(false);
    }
    if filesystem::needs_checker(superblock) {
        return Ok(true);
    }
    if filesystem::check(slot, superblock, Replay::Skip).is_err() {
        return Ok(false);
    }
    if superblock.kind == Kind::Btrfs {
        search::refuse_twin(superblock)?;
    }
    let device = bind(disk, layout, slot, superblock, Access::ReadOnly)?;
    let mounted = filesystem::mount(&device, superblock.kind, point, Replay::Skip, None);
    let damaged = match mounted {
        Ok(mount) => {
            mount.close()?;
            false
        }
        Err(error) => filesystem::is_damage(&error),
    };
    device.close()?;
    Ok(damaged)
}
