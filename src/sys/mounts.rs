//! What is mounted, as /proc tells it.

#![expect(clippy::disallowed_methods, reason = "reads /proc of the helper, never the volume")]

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// The id of the mount, unique while it lasts.
    pub id: u64,
    /// The id of the mount that it is on.
    pub parent: u64,
    /// Major and minor number of the filesystem's device.
    pub device: (u32, u32),
    /// Which directory of the filesystem is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Whether this mount refuses writes.
    pub read_only: bool,
    /// The type of the filesystem.
    pub kind: String,
    /// What was mounted, as it was given to mount(2).
    pub source: PathBuf,
}

/// Reads the lines that can be read; spaces and such are written as `\040`.
#[must_use]
pub fn parse_mountinfo(bytes: &[u8]) -> Vec<MountLine> {
    bytes.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|&b| b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let read_only = fields.next()?.split(|&b| b == b',').any(|option| option == b"ro");
    let mut rest = fields.skip_while(|field| *field != b"-");
    let kind = String::from_utf8_lossy(rest.nth(1)?).into_owned();
    let source = unescape(rest.next()?);
    Some(MountLine {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        point,
        read_only,
        kind,
        source,
    })
}

/// A field of such a file of /proc, in which blanks, tabs, newlines and backslashes are octal numbers.
#[must_use]
pub fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            let value = digits.iter().fold(0_u32, |value, d| value * 8 + u32::from(d - b'0'));
            out.push((value & 0xff) as u8);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// The mounts that this process sees.
#[must_use]
pub fn own_mounts() -> Vec<MountLine> {
    parse_mountinfo(&fs::read("/proc/thread-self/mountinfo").unwrap_or_default())
}

/// The mount that an open directory belongs to, as /proc/self/fdinfo says; `None` where that can't be read.
#[must_use]
pub fn mount_of(directory: impl AsFd) -> Option<MountLine> {
    mount_among(&own_mounts(), directory.as_fd()).cloned()
}

/// The same, where nothing is mounted below the directory, as far as this process sees.
#[must_use]
pub fn bare_mount_of(directory: impl AsFd) -> Option<MountLine> {
    let directory = directory.as_fd();
    let mounts = own_mounts();
    let mount = mount_among(&mounts, directory)?;
    let path = fs::read_link(format!("/proc/thread-self/fd/{}", directory.as_raw_fd())).ok()?;
    is_free(&mounts, mount.id, &path).then(|| mount.clone())
}

fn mount_among<'m>(mounts: &'m [MountLine], directory: BorrowedFd<'_>) -> Option<&'m MountLine> {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", directory.as_raw_fd())).ok()?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse::<u64>().ok()?;
    mounts.iter().find(|line| line.id == id)
}

fn is_free(mounts: &[MountLine], id: u64, path: &Path) -> bool {
    // What lies deeper is mounted on one of these.
    path.is_absolute() && !mounts.iter().any(|line| line.parent == id && line.point.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read_with_optional_fields_and_escapes() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root\\011x rw\nrubbish\n\n1 2 3 / / - a b";
        let lines = parse_mountinfo(text);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].device, (98, 0));
        assert_eq!(lines[0].point, Path::new("/mnt 2"));
        assert_eq!(lines[0].kind, "ext3");
        assert_eq!(lines[0].source, Path::new("/dev/root\tx"));
    }

    #[test]
    fn what_is_mounted_beside_is_not_below() {
        let text = b"20 1 8:1 / / rw - ext4 /dev/a rw\n21 20 0:5 / /proc rw - proc proc rw\n\
                     22 20 8:2 / /home rw - ext4 /dev/b rw\n23 22 8:3 / /home/bob/mnt rw - ext4 /dev/c rw\n";
        let free = |id, path: &str| is_free(&parse_mountinfo(text), id, Path::new(path));
        assert!(free(20, "/root"));
        assert!(free(22, "/home/alice"));
        assert!(free(22, "/home/bobby"));
        assert!(!free(22, "/home/bob"));
        assert!(!free(22, "/home"));
        assert!(!free(20, "/"));
        assert!(!free(22, "(unreachable)/home"));
    }
}
