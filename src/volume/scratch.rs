//! A throw-away copy of one extent, to replay a journal in when the volume itself must not be written.

#![expect(clippy::disallowed_methods, reason = "makes unnamed files on the helper")]

use super::disk::Disk;
use crate::probe::ReadAt;
use crate::sys::block::clone_file;
use crate::sys::bytes::FileBytes;
use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::OFlag;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Whence, lseek64};
use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest disk that is copied; a larger one would keep the operator waiting for longer than `--replay` is worth.
const MAX_DEVICE: u64 = 32 << 30;
/// What is left free on the helper.
const SPARE: u64 = 64 << 20;
const CHUNK: usize = 1 << 20;
/// Pieces of zeros of this size are not written.
const HOLE: usize = 64 << 10;

/// What takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A copy, in bytes.
    Copy {
        /// Looked at so far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// This checker is at work.
    Check(&'static str),
}

/// Told of progress from time to time; can end the work.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// A copy without a name: it is gone when the last descriptor of it is closed, and with it after a SIGKILL.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) file: File,
    /// Where the extent begins in it.
    pub(super) offset: u64,
}

/// Copies `size` bytes of `disk` from `start`: by sharing blocks where the filesystem can, else what is not a hole.
///
/// # Errors
/// Why there can be no copy, in words for the report.
pub(super) fn copy(disk: &Disk, start: u64, size: u64, progress: OnProgress<'_>) -> Result<Scratch> {
    if disk.is_image()
        && let Some(directory) = disk.path.parent()
        && let Ok(file) = unnamed(directory)
        && clone_file(&file, disk.file()).is_ok()
    {
        return Ok(Scratch { file, offset: start });
    }
    if !disk.is_image() && size > MAX_DEVICE {
        bail!("with {} GiB it is too large to be copied", size >> 30);
    }
    let extents = if disk.is_image() { data(disk.file(), start, size)? } else { vec![(start, start + size)] };
    let needed = extents.iter().map(|(from, to)| to - from).sum::<u64>();
    let file = roomy(needed)?;
    file.set_len(size).context("making the copy as large as the original")?;
    let source = FileBytes { file: disk.file(), size: disk.size };
    let mut done = 0;
    for (from, to) in extents {
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = source.read_at(at, length).context("reading the volume to copy it")?;
            if bytes.is_empty() {
                bail!("the volume ends where it should not");
            }
            for (piece, i) in bytes.chunks(HOLE).zip(0_u64..) {
                if piece.iter().any(|&b| b != 0) {
                    let offset = at - start + i * HOLE as u64;
                    file.write_all_at(piece, offset).context("writing the copy")?;
                }
            }
            at += bytes.len() as u64;
            done += bytes.len() as u64;
            if progress(Progress::Copy { done, total: needed }).is_break() {
                bail!("the copy was stopped");
            }
        }
    }
    Ok(Scratch { file, offset: 0 })
}

/// The parts of the extent that are no holes.
fn data(file: &File, start: u64, size: u64) -> Result<Vec<(u64, u64)>> {
    let end = start.saturating_add(size);
    let seek = |from: u64, whence| -> Result<Option<u64>> {
        match lseek64(file, i64::try_from(from)?, whence) {
            Ok(at) => Ok(Some(u64::try_from(at)?)),
            Err(nix::errno::Errno::ENXIO) => Ok(None),
            Err(errno) => Err(errno).context("looking for holes in the image"),
        }
    };
    let mut extents = Vec::new();
    let mut at = start;
    while at < end {
        let Some(from) = seek(at, Whence::SeekData)?.filter(|&from| from < end) else { break };
        let to = seek(from, Whence::SeekHole)?.unwrap_or(end).min(end);
        extents.push((from, to));
        at = to.max(from + 1);
    }
    Ok(extents)
}

/// An unnamed file where there is room for `needed` bytes.
fn roomy(needed: u64) -> Result<File> {
    let own = std::env::var_os("TMPDIR").map(PathBuf::from);
    let mut why = anyhow!("there is no directory for temporary files");
    for directory in own.iter().map(PathBuf::as_path).chain([Path::new("/var/tmp"), Path::new("/tmp")]) {
        let shown = directory.display();
        match unnamed(directory) {
            Ok(file) => {
                let free =
                    fstatvfs(&file).map_or(0, |s| s.blocks_available().saturating_mul(s.fragment_size()));
                if free >= needed.saturating_add(SPARE) {
                    return Ok(file);
                }
                why =
                    anyhow!("{} MiB are needed for it and {shown} has {} MiB free", needed >> 20, free >> 20);
            }
            Err(error) => why = anyhow!("no temporary file can be made in {shown}: {error}"),
        }
    }
    Err(why)
}

fn unnamed(directory: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(OFlag::O_TMPFILE.bits());
    options.open(directory)
}
