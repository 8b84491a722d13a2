//! Which features of a filesystem a kernel lacks, for the message that it does not mount it. The releases are those in
//! which the driver first took the feature (`ext4.h`, `xfs_format.h`, `btrfs/fs.h` of each).

use super::superblock::{Detail, Kind, Superblock};

/// From when on Linux has a feature.
#[derive(Clone, Copy)]
enum Since {
    /// This release.
    Release(u32, u32),
    /// Where the kernel was built with it.
    Option(&'static str),
    /// No release has it.
    Never,
}

const EXT: &[(&str, Since)] = &[
    ("compression", Since::Never),
    ("dirdata", Since::Never),
    ("has_snapshot", Since::Never),
    ("replica", Since::Never),
    ("shared_blocks", Since::Never),
    ("orphan_present", Since::Release(5, 15)),
    ("encrypt", Since::Option("FS_ENCRYPTION")),
    ("casefold", Since::Option("UNICODE")),
    ("verity", Since::Option("FS_VERITY")),
];

const XFS: &[(&str, Since)] = &[
    ("bigtime", Since::Release(5, 10)),
    ("inobtcount", Since::Release(5, 10)),
    ("needsrepair", Since::Release(5, 12)),
    ("nrext64", Since::Release(5, 19)),
    ("exchange", Since::Release(6, 10)),
    ("parent", Since::Release(6, 10)),
    ("metadir", Since::Release(6, 13)),
    ("zoned", Since::Release(6, 15)),
    ("zone_gaps", Since::Release(6, 18)),
];

const BTRFS: &[(&str, Since)] = &[
    ("zoned", Since::Release(5, 12)),
    ("verity", Since::Release(5, 15)),
    ("block_group_tree", Since::Release(6, 1)),
    ("raid_stripe_tree", Since::Release(6, 7)),
    ("simple_quota", Since::Release(6, 7)),
    ("extent_tree_v2", Since::Never),
];

/// The features that a kernel of this release (`uname -r`) does not have, a phrase each; where it should have them all,
/// those that it may have been built without.
#[must_use]
pub fn lacking(superblock: &Superblock, release: &str) -> Vec<String> {
    let kernel = version(release);
    let table = match superblock.kind {
        Kind::Xfs => XFS,
        Kind::Btrfs => BTRFS,
        _ => EXT,
    };
    let (mut sure, mut possible) = (Vec::new(), Vec::new());
    for feature in superblock.features() {
        match table.iter().find(|(name, _)| *name == feature).map(|(_, since)| *since) {
            Some(Since::Never) => sure.push(format!("{feature}, which no release of Linux has")),
            Some(Since::Release(major, minor)) if kernel.is_none_or(|kernel| kernel < (major, minor)) => {
                sure.push(format!("{feature}, which Linux has from {major}.{minor} on"));
            }
            Some(Since::Option(option)) => {
                possible.push(format!("{feature}, which a kernel has if built with CONFIG_{option}"));
            }
            None if feature.starts_with("unknown") => {
                sure.push(format!("{feature}, which is newer than volrescue"));
            }
            Some(Since::Release(..)) | None => {}
        }
    }
    if let Detail::Xfs(xfs) = &superblock.detail
        && xfs.version < 5
    {
        let words =
            "the format of version 4 (without crc), which a kernel has if built with CONFIG_XFS_SUPPORT_V4";
        possible.push(words.to_owned());
    }
    if sure.is_empty() { possible } else { sure }
}

/// "6.1.0-28-amd64" is (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::superblock::{Ext, Xfs};
    use super::*;

    fn xfs(version: u16, incompat: &[&str]) -> Superblock {
        let detail = Detail::Xfs(Xfs {
            version,
            size: 0,
            sector_size: 512,
            incompat: incompat.iter().map(ToString::to_string).collect(),
            ro_compat: vec!["finobt".into(), "inobtcount".into()],
            external_log: false,
            realtime: false,
        });
        Superblock { kind: Kind::Xfs, uuid: None, label: None, detail }
    }

    #[test]
    fn only_what_the_kernel_is_too_old_for_is_named() {
        let made_today = xfs(5, &["ftype", "sparse", "bigtime", "nrext64", "parent"]);
        let lacking = |release| lacking(&made_today, release);
        assert_eq!(lacking("6.12.3-amd64"), Vec::<String>::new());
        assert_eq!(lacking("6.1.0-28-amd64"), ["parent, which Linux has from 6.10 on"]);
        let old = lacking("5.6").join("; ");
        assert!(
            ["bigtime", "nrext64", "parent", "inobtcount"].iter().all(|name| old.contains(name)),
            "{old}"
        );
        assert!(!old.contains("ftype") && !old.contains("finobt"), "{old}");
    }

    #[test]
    fn what_no_kernel_has_and_what_nobody_knows_comes_before_what_may_not_be_built_in() {
        let detail = |incompat: &[&str]| {
            Detail::Ext(Ext {
                size: 0,
                incompat: incompat.iter().map(ToString::to_string).collect(),
                ro_compat: Vec::new(),
                needs_recovery: false,
                valid: true,
                errors: false,
                external_journal: false,
                last_mounted: None,
                copy: None,
            })
        };
        let ext =
            |incompat| Superblock { kind: Kind::Ext4, uuid: None, label: None, detail: detail(incompat) };
        let words =
            lacking(&ext(&["extent", "casefold", "compression", "unknown feature 0x80000000"]), "6.18.0");
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].starts_with("compression") && words[1].contains("0x80000000"), "{words:?}");
        assert!(lacking(&ext(&["extent", "casefold"]), "6.18.0")[0].contains("CONFIG_UNICODE"));
        assert!(lacking(&ext(&["extent", "64bit"]), "6.18.0").is_empty());
    }

    #[test]
    fn the_old_format_of_xfs_is_named() {
        assert!(lacking(&xfs(4, &[]), "6.18.0")[0].contains("version 4"));
    }
}
