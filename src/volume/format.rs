//! Images in other formats than raw: which files one consists of, opened and locked, and shown as one raw disk.
//!
//! A name in an image is followed only to a file in the directory of the image, or to any with `--allow-backing`: who made
//! the image may have written there the path of a secret of the helper.

#![expect(
    clippy::disallowed_methods,
    reason = "opens the files that an image consists of, paths of the helper"
)]

use super::disk::Access;
use super::export::{Export, Link};
use super::target::BackingFiles;
use crate::error::Refusal;
use crate::probe::{Backing, DiskImage, Format, disk_image};
use crate::sys::bytes::FileBytes;
use anyhow::{Context, Result};
use bstr::ByteSlice;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest chain of backing files that is followed.
const DEEP: usize = 16;

/// A file below another one. It is never written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BackingFile {
    /// Where it is, without links.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
}

/// An image that is shown as a raw disk.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) export: Export,
    pub(super) format: Format,
    pub(super) backing: Vec<BackingFile>,
    /// Held so that no other run changes what lies below.
    _locks: Vec<Flock<File>>,
}

/// Shows the image at `path`, which is open as `file`; `None` if it is raw.
///
/// # Errors
/// [`Refusal`]: a format that is not opened here, a missing or forbidden backing file (3, 4), in use (4).
pub(super) fn show(
    path: &Path,
    file: &File,
    size: u64,
    access: Access,
    follow: BackingFiles,
) -> Result<Option<Shown>> {
    let shown = path.display();
    let read = |file: &File, size| disk_image(&FileBytes { file, size });
    let Some(image) = read(file, size).with_context(|| format!("reading {shown}"))? else {
        return Ok(None);
    };
    let image = image.map_err(|why| convert(&format!("{shown} is {why}, which is not opened here")))?;
    if let Some(why) = image.read_only.filter(|_| access == Access::ReadWrite) {
        return Err(convert(&format!("{shown}: {why}")).into());
    }
    let format = image.format;
    let mut chain = vec![(path.to_owned(), image)];
    let mut locks: Vec<Flock<File>> = Vec::new();
    let metadata = file.metadata().with_context(|| format!("looking at {shown}"))?;
    let mut seen = vec![(metadata.dev(), metadata.ino())];
    while let Some((above, DiskImage { backing: Some(backing), .. })) = chain.last() {
        let (file, real) = open_backing(path, above, backing, follow)?;
        let metadata = file.metadata().with_context(|| format!("looking at {}", real.display()))?;
        if seen.contains(&(metadata.dev(), metadata.ino())) || chain.len() > DEEP {
            return Err(Refusal::target(format!(
                "the backing files of {shown} form a circle, or more than {DEEP}"
            ))
            .hint("See them with: qemu-img info --backing-chain")
            .into());
        }
        seen.push((metadata.dev(), metadata.ino()));
        let lock = lock_for_reading(file, &real, above)?;
        let image = match backing.format.as_ref().map(|format| format.to_str_lossy().into_owned()).as_deref()
        {
            Some("raw") => None,
            None | Some("qcow2") => {
                let size = metadata.size();
                read(&lock, size).with_context(|| format!("reading {}", real.display()))?
            }
            Some(other) => Some(Err(format!("in the format {other}"))),
        };
        let raw = DiskImage { format: Format::Raw, backing: None, read_only: None };
        let image = image.unwrap_or(Ok(raw)).map_err(|why| {
            convert(&format!(
                "{}, the backing file of {shown}, is {why}, which is not opened here",
                real.display()
            ))
        })?;
        locks.push(lock);
        chain.push((real, image));
    }
    let files = std::iter::once(file).chain(locks.iter().map(|lock| &**lock));
    let links: Vec<Link<'_>> = files
        .zip(&chain)
        .map(|(file, (_, image))| Link { file: file.as_fd(), driver: image.format.driver() })
        .collect();
    let export = Export::start(&links, access).map_err(|error| match error.downcast::<Refusal>() {
        Ok(refusal) => {
            Refusal { message: format!("{shown} ({}): {}", format.name(), refusal.message), ..refusal }.into()
        }
        Err(error) => error,
    })?;
    let backing = chain.split_off(1);
    let backing =
        backing.into_iter().map(|(path, image)| BackingFile { path, format: image.format }).collect();
    Ok(Some(Shown { export, format, backing, _locks: locks }))
}

fn convert(why: &str) -> Refusal {
    Refusal::target(why)
        .hint("Convert it and give the raw image as target: qemu-img convert -O raw IMAGE RAW")
}

/// Opens the file that `above` names, for reading, if it may be followed.
fn open_backing(
    image: &Path,
    above: &Path,
    backing: &Backing,
    follow: BackingFiles,
) -> Result<(File, PathBuf)> {
    let name = backing.name.to_str_lossy();
    let shown = above.display();
    // "json:{...}", "nbd://...", and whatever else QEMU takes for more than a path.
    let first = name.split('/').next().unwrap_or_default();
    if name.is_empty() || first.contains(':') {
        return Err(Refusal::unsafe_(format!(
            "{shown} names {name} as its backing file, which is no plain path"
        ))
        .hint("Make one image of it first: qemu-img convert -O raw IMAGE RAW")
        .into());
    }
    let directory = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let wanted = directory(above).join(Path::new(&*name));
    let missing = |error: &std::io::Error| {
        Refusal::target(format!("{}, the backing file of {shown}, can't be opened: {error}", wanted.display()))
            .hint("Put it where the image names it (qemu-img info shows that), or rebase a copy: qemu-img rebase -u -b")
    };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    // Not even opened before it is known where it leads.
    let real = fs::canonicalize(&wanted).map_err(|error| missing(&error))?;
    let allowed = |real: &Path| follow == BackingFiles::Anywhere || directory(real) == directory(image);
    let outside = |real: &Path| {
        Refusal::unsafe_(format!(
            "{shown} names {} as its backing file, outside of the image's own directory",
            real.display()
        ))
        .hint("What is there would be seen as the content of a disk. If that is meant, add --allow-backing.")
    };
    if !allowed(&real) {
        return Err(outside(&real).into());
    }
    let file = options.open(&real).map_err(|error| missing(&error))?;
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    if !allowed(&opened) {
        return Err(outside(&opened).into());
    }
    let kind = file.metadata().with_context(|| format!("looking at {}", real.display()))?.file_type();
    let is_disk = kind.is_file() || kind.is_block_device() && follow == BackingFiles::Anywhere;
    if !is_disk {
        return Err(Refusal::unsafe_(format!(
            "{}, the backing file of {shown}, is no regular file",
            real.display()
        ))
        .hint("Make one image of it first: qemu-img convert -O raw IMAGE RAW")
        .into());
    }
    Ok((file, real))
}

/// Others may read it too; who changes it has it alone.
fn lock_for_reading(file: File, real: &Path, above: &Path) -> Result<Flock<File>, Refusal> {
    Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            let words = format!("{}, the backing file of {}, is in use", real.display(), above.display());
            Refusal::unsafe_(words).hint("Stop what uses it, then run this again.")
        }
        _ => Refusal::target(format!("{} can't be locked: {errno}", real.display())),
    })
}
