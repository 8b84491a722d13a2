//! fstab(5): what boot mounts where, and by which name it is found. Pure.

use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most lines that are read; a machine has a handful.
const LINES: usize = 4096;

/// A line that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What is mounted, as it is written, escapes and quotes taken away.
    pub device: BString,
    /// Where: absolute, without doubled or trailing slashes.
    pub point: PathBuf,
    /// The type of the filesystem.
    pub kind: BString,
    /// The options.
    pub options: Vec<BString>,
    /// Its number in the file, from 1.
    pub line: u32,
}

/// How a line names its filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// The filesystem's UUID.
    Uuid(String),
    /// The filesystem's label.
    Label(String),
    /// The partition's UUID (GPT), or the disk's number and the partition's (MBR).
    PartUuid(String),
    /// The partition's name (GPT).
    PartLabel(String),
    /// A disk of the other machine by the order in which it was found, 0 being `sda`, `xvda` or `nvme0n1`, and a partition
    /// of it.
    Disk(u32, Option<u32>),
    /// Anything else: a mapped device, a network filesystem.
    Other,
}

/// A btrfs subvolume, as an option names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subvolume {
    /// `subvolid=`.
    Id(u64),
    /// `subvol=`, without leading slashes; the empty path is the top.
    Path(PathBuf),
}

/// The lines of the file that boot would act on, in their order. What mount(8) could not read is left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Entry> {
    text.lines().zip(1..).take(LINES).filter_map(|(line, number)| Entry::parse(line, number)).collect()
}

impl Entry {
    /// Reads one line; `None` for comments and for what has no mount point in the tree.
    #[must_use]
    pub fn parse(line: &[u8], number: u32) -> Option<Self> {
        let mut words = line.trim_ascii().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let device = words.next().filter(|device| !device.starts_with(b"#"))?;
        let point = unescape(words.next()?);
        let kind = BString::from(words.next()?);
        let options = words.next().unwrap_or(b"defaults");
        let point: PathBuf = Path::new(OsStr::from_bytes(&point)).components().collect();
        point.is_absolute().then(|| Self {
            device: unquoted(unescape(device)),
            point,
            kind,
            options: options.split(|byte| *byte == b',').map(BString::from).collect(),
            line: number,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option == name)
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        self.options.iter().rev().find_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// Whether boot mounts it over what the root holds there: not `noauto` (an automount is mounted when it is looked
    /// at), no swap, nothing that lives in memory.
    #[must_use]
    pub fn is_mounted_at_boot(&self) -> bool {
        const VIRTUAL: [&str; 6] = ["tmpfs", "swap", "proc", "sysfs", "devpts", "none"];
        let automount = self.has("x-systemd.automount");
        let real = self.bind_source().is_some() || !VIRTUAL.iter().any(|kind| self.kind == *kind);
        real && (automount || !self.has("noauto")) && !self.has("remount")
    }

    /// The directory that a bind mount shows in another place.
    #[must_use]
    pub fn bind_source(&self) -> Option<PathBuf> {
        let path = Path::new(OsStr::from_bytes(&self.device));
        ((self.has("bind") || self.has("rbind")) && path.is_absolute()).then(|| path.components().collect())
    }

    /// Whether `path` lies on it. `/` itself is what is being looked at.
    #[must_use]
    pub fn covers(&self, path: &Path) -> bool {
        self.point != Path::new("/") && path.starts_with(&self.point)
    }

    /// The subvolume that its options ask for.
    #[must_use]
    pub fn subvolume(&self) -> Option<Subvolume> {
        if let Some(id) = self.value("subvolid") {
            return id.to_str().ok()?.parse().ok().map(Subvolume::Id);
        }
        let path = self.value("subvol")?;
        let path = path.trim_start_with(|c| c == '/');
        Some(Subvolume::Path(Path::new(OsStr::from_bytes(path)).components().collect()))
    }

    /// How it names its filesystem.
    #[must_use]
    pub fn named(&self) -> Named {
        let text = self.device.to_str_lossy();
        let after = |tag: &str, link: &str| {
            let value = text.strip_prefix(tag).map(str::to_owned);
            // udev writes odd bytes of labels as \x20.
            value.map(|value| value.trim_matches('"').to_owned()).or_else(|| {
                text.strip_prefix("/dev/disk/")?.strip_prefix(link).map(|value| value.replace("\\x20", " "))
            })
        };
        if let Some(id) = after("UUID=", "by-uuid/") {
            Named::Uuid(id)
        } else if let Some(label) = after("LABEL=", "by-label/") {
            Named::Label(label)
        } else if let Some(id) = after("PARTUUID=", "by-partuuid/") {
            Named::PartUuid(id)
        } else if let Some(label) = after("PARTLABEL=", "by-partlabel/") {
            Named::PartLabel(label)
        } else {
            text.strip_prefix("/dev/").and_then(disk_node).unwrap_or(Named::Other)
        }
    }
}

/// `xvdb1`, `sda`, `nvme1n1p2`.
fn disk_node(name: &str) -> Option<Named> {
    let number = |digits: &str| -> Option<Option<u32>> {
        if digits.is_empty() { Some(None) } else { digits.parse().ok().map(Some) }
    };
    if let Some(rest) = name.strip_prefix("nvme") {
        let (controller, rest) = rest.split_once('n')?;
        let (_, partition) = rest.split_once('p').unwrap_or((rest, ""));
        return Some(Named::Disk(controller.parse().ok()?, number(partition)?));
    }
    let rest = ["xvd", "sd", "vd", "hd"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
    let (letters, digits) = rest.split_at(letters);
    if letters.is_empty() || letters.len() > 3 {
        return None;
    }
    let index = letters.bytes().fold(0_u32, |sum, letter| sum * 26 + u32::from(letter - b'a') + 1) - 1;
    Some(Named::Disk(index, number(digits)?))
}

/// `UUID="..."`: the quotes of a value go.
fn unquoted(device: BString) -> BString {
    let value = device.split_once_str("=").map(|(_, value)| value);
    let quoted = value.is_some_and(|v| v.len() > 1 && v.starts_with(b"\"") && v.ends_with(b"\""));
    if quoted { device.replace("\"", "").into() } else { device }
}

/// `\040` and the like (getmntent(3)).
fn unescape(field: &[u8]) -> BString {
    let mut out = BString::default();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| digits.to_str().ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> Entry {
        Entry::parse(line.as_bytes(), 1).unwrap()
    }

    #[test]
    fn lines_that_mount_another_filesystem_over_the_home_are_found() {
        let covers = |line: &str| {
            Entry::parse(line.as_bytes(), 1)
                .is_some_and(|entry| entry.is_mounted_at_boot() && entry.covers(Path::new("/home/u")))
        };
        assert!(covers("UUID=1234 /home ext4 defaults 0 2"));
        assert!(covers("/dev/vdb\t/home/u/\txfs"));
        assert!(covers("/data/home /home none bind 0 0"));
        assert!(covers("UUID=1 /home ext4 noauto,x-systemd.automount 0 0"));
        assert!(!covers("UUID=1234 / ext4 defaults 0 1"));
        assert!(!covers("#UUID=1234 /home ext4 defaults 0 2"));
        assert!(!covers("UUID=1234 /home ext4 defaults,noauto 0 2"));
        assert!(!covers("tmpfs /home tmpfs defaults 0 0"));
        assert!(!covers("UUID=1 /homework ext4 defaults 0 0"));
        assert!(!covers("UUID=1 home ext4 defaults 0 0"));
        assert!(!covers("UUID=1"));
    }

    #[test]
    fn escapes_and_quotes_are_read() {
        assert_eq!(unescape(b"/my\\040home"), "/my home");
        assert_eq!(unescape(b"/a\\"), "/a\\");
        assert_eq!(entry("LABEL=\"my\\040home\" /home ext4").named(), Named::Label("my home".into()));
    }

    #[test]
    fn every_way_to_name_a_filesystem_is_understood() {
        let named = |device: &str| entry(&format!("{device} /home ext4")).named();
        assert_eq!(named("UUID=ab-cd"), Named::Uuid("ab-cd".into()));
        assert_eq!(named("/dev/disk/by-uuid/ab-cd"), Named::Uuid("ab-cd".into()));
        assert_eq!(named("PARTUUID=12-01"), Named::PartUuid("12-01".into()));
        assert_eq!(named("PARTLABEL=home"), Named::PartLabel("home".into()));
        assert_eq!(named("/dev/disk/by-label/my\\x20home"), Named::Label("my home".into()));
        assert_eq!(named("/dev/xvda2"), Named::Disk(0, Some(2)));
        assert_eq!(named("/dev/sdb"), Named::Disk(1, None));
        assert_eq!(named("/dev/nvme1n1p3"), Named::Disk(1, Some(3)));
        assert_eq!(named("/dev/nvme0n1"), Named::Disk(0, None));
        assert_eq!(named("/dev/sdaa1"), Named::Disk(26, Some(1)));
        for other in ["/dev/mapper/vg-home", "/dev/sd", "server:/home", "/dev/sda1x", "/dev/sdabcdefghijk1"] {
            assert_eq!(named(other), Named::Other, "{other}");
        }
    }

    #[test]
    fn subvolumes_are_read_from_the_options() {
        let subvolume = |options: &str| entry(&format!("UUID=1 /home btrfs {options} 0 0")).subvolume();
        assert_eq!(subvolume("rw,subvol=/@home"), Some(Subvolume::Path("@home".into())));
        assert_eq!(subvolume("subvolid=257,subvol=/@home"), Some(Subvolume::Id(257)));
        assert_eq!(subvolume("subvol=/"), Some(Subvolume::Path("".into())));
        assert_eq!(subvolume("defaults"), None);
    }
}
