//! What the operator named, and what it is on this helper.

#![expect(clippy::disallowed_methods, reason = "the target is a path of the helper")]

use super::block::BlockDevice;
use super::proc::names;
use crate::error::Refusal;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A disk image in a regular file.
    Image,
    /// A disk, a partition or a mapped device.
    Block,
    /// A directory that holds a mounted root.
    Directory,
    /// The running system.
    Live,
}

/// Whether `/` may be the target (`--live`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// It was asked for.
    Allowed,
    /// It was not.
    Refused,
}

/// How far the backing files of an image are followed (`--allow-backing`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackingFiles {
    /// To files in the image's own directory.
    #[default]
    InDirectory,
    /// To wherever the image says.
    Anywhere,
}

/// A target that was found. Nothing has been opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What the operator wrote.
    pub given: OsString,
    /// What it is.
    pub kind: TargetKind,
    /// The path on the helper, canonical.
    pub path: PathBuf,
    /// How far the files below an image are followed.
    pub follow: BackingFiles,
}

impl Target {
    /// Finds out what `given` means: an EBS volume id, or a path.
    ///
    /// # Errors
    /// [`Refusal`]: nothing there (3), something that can't hold a root (3), `/` without `--live` (4).
    pub fn find(given: &OsStr, live: Live) -> Result<Self, Refusal> {
        let path = match given.to_str().and_then(volume_id) {
            Some(id) => find_volume(&id)?,
            None => PathBuf::from(given),
        };
        let shown = path.display();
        if path.as_os_str().is_empty() {
            return Err(Refusal::target("the target is an empty name")
                .hint("Give a device, a disk image, an EBS volume id or a directory."));
        }
        let canonical = fs::canonicalize(&path).map_err(|error| unreachable_target(&path, &error))?;
        let metadata = fs::metadata(&canonical).map_err(|error| unreachable_target(&path, &error))?;
        let kind = metadata.file_type();
        let kind = if kind.is_block_device() {
            TargetKind::Block
        } else if kind.is_file() {
            TargetKind::Image
        } else if kind.is_dir() {
            directory_kind(&canonical, &metadata, live)?
        } else {
            let what = if kind.is_fifo() {
                "a FIFO"
            } else if kind.is_socket() {
                "a socket"
            } else {
                "a character device"
            };
            return Err(Refusal::target(format!("{shown} is {what}, not a disk, an image or a directory"))
                .hint("List the disks that are attached here with: volrescue list"));
        };
        Ok(Self { given: given.to_owned(), kind, path: canonical, follow: BackingFiles::default() })
    }

    /// The same, with its backing files followed so far.
    #[must_use]
    pub fn following(self, follow: BackingFiles) -> Self {
        Self { follow, ..self }
    }
}

fn directory_kind(path: &Path, metadata: &fs::Metadata, live: Live) -> Result<TargetKind, Refusal> {
    let root = fs::metadata("/").map_err(|error| unreachable_target(Path::new("/"), &error))?;
    if (root.dev(), root.ino()) != (metadata.dev(), metadata.ino()) {
        return Ok(TargetKind::Directory);
    }
    match live {
        Live::Allowed => Ok(TargetKind::Live),
        Live::Refused => {
            Err(Refusal::unsafe_(format!("{} is the root of the running system", path.display())).hint(
                "To work on the system that runs now, add --live. To work on an attached disk, name it: volrescue list",
            ))
        }
    }
}

fn unreachable_target(path: &Path, error: &io::Error) -> Refusal {
    let shown = path.display();
    if error.kind() == io::ErrorKind::NotFound {
        let attached = attached();
        let hint = if attached.is_empty() {
            "List the disks that are attached here with: volrescue list".to_owned()
        } else {
            format!("Attached here: {}. More about them with: volrescue list", attached.join(", "))
        };
        return Refusal::target(format!("{shown} does not exist")).hint(hint);
    }
    Refusal::target(format!("{shown} can't be reached: {error}"))
        .hint("Check the path and its permissions, and run volrescue as root.")
}

/// The disks of the helper that have a size, by node and volume id.
fn attached() -> Vec<String> {
    let disks = names(Path::new("/sys/block")).into_iter().map(|name| BlockDevice::disk(&name));
    let real = disks.filter(|d| !["loop", "ram", "zram", "sr", "fd"].iter().any(|p| d.name.starts_with(p)));
    real.map(|disk| {
        let id = volume_of(&disk).map_or_else(String::new, |id| format!(" ({id})"));
        format!("{}{id}", disk.node().display())
    })
    .collect()
}

/// An EBS volume id, from `vol-0abc...` or, as NVMe serial numbers have it, `vol0abc...`.
#[must_use]
pub fn volume_id(text: &str) -> Option<String> {
    let digits = text.strip_prefix("vol")?;
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && matches!(digits.len(), 8 | 17)).then(|| format!("vol-{digits}"))
}

/// The EBS volume id of a disk: its serial number, or the link that udev makes of it.
pub(super) fn volume_of(disk: &BlockDevice) -> Option<String> {
    disk.serial().as_deref().and_then(volume_id).or_else(|| {
        let node = disk.node();
        let is_its = |link: &Path| fs::canonicalize(link).is_ok_and(|path| path == node);
        volume_links().into_iter().find(|(_, link)| is_its(link)).map(|(id, _)| id)
    })
}

/// The links of whole EBS volumes, with the id that each has.
fn volume_links() -> Vec<(String, PathBuf)> {
    let directory = Path::new("/dev/disk/by-id");
    let links = names(directory).into_iter();
    links.filter_map(|name| Some((volume_of_link(&name)?, directory.join(&name)))).collect()
}

/// The id in the name of a link of a whole disk: not of a partition, whose link ends in `-part1`.
fn volume_of_link(name: &str) -> Option<String> {
    let rest = name.strip_prefix("nvme-Amazon_Elastic_Block_Store_")?;
    // Newer rules add the namespace.
    let id = rest.split_once(['_', '-']).filter(|(id, more)| *id != "vol" && matches!(*more, "1" | "ns-1"));
    volume_id(id.map_or(rest, |(id, _)| id))
}

/// The node of the disk with this EBS volume id: by its serial number, or by the link that udev makes of it.
fn find_volume(id: &str) -> Result<PathBuf, Refusal> {
    let disks = names(Path::new("/sys/block")).into_iter().map(|name| BlockDevice::disk(&name));
    for disk in disks {
        if disk.serial().as_deref().and_then(volume_id).as_deref() == Some(id) {
            return Ok(disk.node());
        }
    }
    let links = volume_links().into_iter();
    if let Some((_, link)) = links.into_iter().find(|(known, _)| known == id) {
        return Ok(link);
    }
    let attached = attached();
    let attached = if attached.is_empty() { "none".to_owned() } else { attached.join(", ") };
    Err(Refusal::target(format!("the volume {id} is not attached to this machine")).hint(format!(
        "Attach it with: aws ec2 attach-volume --volume-id {id} --instance-id <this instance> --device /dev/sdf. \
         Attached disks: {attached}. On Xen instances disks carry no volume id: name the device instead."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ExitCode;

    #[test]
    fn a_link_names_the_volume_of_a_whole_disk() {
        for name in [
            "vol0123456789abcdef0",
            "vol0123456789abcdef0_1",
            "vol0123456789abcdef0-ns-1",
            "vol-0123456789abcdef0",
        ] {
            let link = format!("nvme-Amazon_Elastic_Block_Store_{name}");
            assert_eq!(volume_of_link(&link).as_deref(), Some("vol-0123456789abcdef0"), "{link}");
        }
        for name in ["vol0123456789abcdef0-part1", "vol0123456789abcdef0_1-part14", "vol", ""] {
            assert_eq!(volume_of_link(&format!("nvme-Amazon_Elastic_Block_Store_{name}")), None, "{name}");
        }
        assert_eq!(volume_of_link("nvme-Samsung_vol0123456789abcdef0"), None);
    }

    #[test]
    fn a_volume_id_is_taken_with_or_without_its_dash_and_nothing_else() {
        assert_eq!(volume_id("vol-0123456789abcdef0").as_deref(), Some("vol-0123456789abcdef0"));
        assert_eq!(volume_id("vol0123456789abcdef0").as_deref(), Some("vol-0123456789abcdef0"));
        assert_eq!(volume_id("vol-1234abcd").as_deref(), Some("vol-1234abcd"));
        for other in ["vol-", "volume", "vol-0123", "vol-xyz45678", "./vol-1234abcd", "VOL-1234ABCD"] {
            assert_eq!(volume_id(other), None, "{other}");
        }
    }

    #[test]
    fn the_running_system_is_refused_under_any_name_unless_asked_for() {
        for name in ["/", "/usr/..", "/proc/self/root"] {
            let refusal = Target::find(OsStr::new(name), Live::Refused).unwrap_err();
            assert_eq!(refusal.code, ExitCode::Unsafe, "{name}");
            assert!(refusal.hint.unwrap().contains("--live"));
            assert_eq!(Target::find(OsStr::new(name), Live::Allowed).unwrap().kind, TargetKind::Live);
        }
    }

    #[test]
    fn what_can_hold_no_root_is_refused_with_its_kind() {
        let refusal = Target::find(OsStr::new("/dev/null"), Live::Refused).unwrap_err();
        assert_eq!(refusal.code, ExitCode::Target);
        assert!(refusal.message.contains("a character device"), "{refusal}");
        let refusal = Target::find(OsStr::new("/no/such/disk"), Live::Refused).unwrap_err();
        assert!(refusal.message.contains("/no/such/disk does not exist"), "{refusal}");
        let refusal = Target::find(OsStr::new("vol-00000000"), Live::Refused).unwrap_err();
        assert!(refusal.message.contains("vol-00000000 is not attached"), "{refusal}");
        assert!(Target::find(OsStr::new(""), Live::Refused).is_err());
    }
}
