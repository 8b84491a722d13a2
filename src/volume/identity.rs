//! Which of several volumes with the same filesystem UUID one is: all volumes of one image share it.

#![expect(clippy::disallowed_methods, reason = "the target is a path of the helper")]

use super::block::BlockDevice;
use super::target::volume_id;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What tells the disk, image or directory at a canonical path of the helper from its twins. For a disk its EBS volume
/// id or serial number and, where it has none, its node, which another disk may have next time; for an image the number
/// of its filesystem and its inode; for a directory both of these and its path.
#[must_use]
pub fn identity(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let inode = format!("{}:{}", metadata.dev(), metadata.ino());
    if metadata.is_dir() {
        return Some(format!("{inode} {}", path.display()));
    }
    if !metadata.file_type().is_block_device() {
        return Some(inode);
    }
    let Some(device) = BlockDevice::of_rdev(metadata.rdev()) else {
        return Some(path.display().to_string());
    };
    let disk = BlockDevice::disk(device.disk_name());
    let serial = disk.serial().filter(|serial| !serial.is_empty());
    Some(match serial {
        Some(serial) => volume_id(&serial).unwrap_or(serial),
        None => disk.node().display().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_another_image_and_a_second_name_is_not() {
        let dir = std::env::temp_dir().join(format!("volrescue-identity-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let at = |name: &str| dir.join(name);
        fs::write(at("a"), "disk").unwrap();
        fs::copy(at("a"), at("b")).unwrap();
        fs::hard_link(at("a"), at("c")).unwrap();
        let (a, b, c) = (identity(&at("a")), identity(&at("b")), identity(&at("c")));
        let (here, gone) = (identity(&dir), identity(&at("none")));
        fs::remove_file(at("a")).unwrap();
        fs::remove_file(at("b")).unwrap();
        fs::remove_file(at("c")).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert!(a.is_some() && a != b && a == c, "{a:?} {b:?} {c:?}");
        assert!(here.unwrap().ends_with(&dir.display().to_string()));
        assert_eq!(gone, None);
    }
}
