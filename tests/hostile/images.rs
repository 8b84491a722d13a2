//! Filesystem images with what no kernel lets anybody write: attributes that debugfs(8) puts in while nothing is mounted.

use crate::kit::{World, trees};
use crate::trees::all_commands;
use crate::{Case, Needs};
use anyhow::{Result, bail};

/// The list as it lies on an ext4: a version, then entries of four or eight bytes. Name, bytes in Python.
const LISTS: &[(&str, &str)] = &[
    ("version", "pack('<I', 0xffffffff)"),
    ("one-byte", "b'\\x01'"),
    ("empty", "pack('<I', 1)"),
    ("ragged", "pack('<IHHHH', 1, 1, 7, 4, 7) + b' '"),
    ("tags", "pack('<IHH', 1, 0x7777, 7)"),
    ("ids", "pack('<IHHHHIHHIHHHHHH', 1, 1, 7, 2, 7, 0xffffffff, 2, 7, 0xffffffff, 4, 7, 0x10, 7, 0x20, 7)"),
    ("no-mask", "pack('<IHHHHIHHHH', 1, 1, 7, 2, 7, 1000, 4, 7, 0x20, 7)"),
];

/// `struct vfs_cap_data` (linux/capability.h), little-endian.
const CAPABILITIES: &[(&str, &str)] = &[
    ("one-byte", "b'\\x01'"),
    ("version", "pack('<IIIII', 0xff000000, 0xffffffff, 0, 0xffffffff, 0)"),
    ("long", "b'\\x01' * 900"),
    ("root-id", "pack('<IIIIII', 0x03000001, *[0xffffffff] * 5)"),
    ("escapes", "b'\\x1b[2J' * 5"),
];

const LIST: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const CAPABILITY: &str = "security.capability";

/// Files and attributes of one image. The user is the owner, whom the kernel does not ask a list about; root, who walks
/// there, is turned away, and what cannot be looked at is unknown.
type Image = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const WITH_LISTS: &[Image] = &[
    (
        &[("/home/admin/.ssh/authorized_keys", LIST), ("/home/admin/.ssh", DEFAULT), ("/etc/passwd", LIST)],
        &["home-writable-by-others"],
    ),
    (&[("/home/admin", LIST)], &["home-writable-by-others", "file-unreadable"]),
];

const WITH_CAPABILITIES: &[Image] = &[(
    &[
        ("/home/admin/.ssh/authorized_keys", CAPABILITY),
        ("/home/admin/.profile", CAPABILITY),
        ("/home/admin", CAPABILITY),
        ("/etc/passwd", CAPABILITY),
    ],
    &["home-writable-by-others"],
)];

pub(crate) fn cases() -> Vec<Case> {
    let case = |what: &str, name: &str, images: &'static [Image], value: &'static str| {
        Case::new(format!("image::{what}-{name}"), Needs::Loop, move || each(images, value))
    };
    let lists = LISTS.iter().map(|(name, value)| case("malformed-acl", name, WITH_LISTS, value));
    let others =
        CAPABILITIES.iter().map(|(name, value)| case("malformed-capability", name, WITH_CAPABILITIES, value));
    lists.chain(others).collect()
}

fn each(images: &'static [Image], value: &'static str) -> Result<()> {
    let slim = trees()?.join("bookworm-slim");
    let key = trees()?.join("login_key.pub");
    World::with(move |world| {
        let image = world.scratch.join("disk.img");
        let mut failed = Vec::new();
        for (places, says) in images {
            let mut recipe = format!(
                "cp -a $SLIM $W/tree; chmod 777 $W/tree/home/admin; chown 0 $W/tree/home/admin/.profile
                mke2fs -q -t ext4 -d $W/tree $F 100M; rm -r $W/tree
                python3 -c \"import os; from struct import pack; open(os.environ['W']+'/value','wb').write({value})\"\n"
            );
            for (place, attribute) in *places {
                recipe.push_str(&format!(
                    "debugfs -w -R 'ea_set -r -f '$W'/value {place} {attribute}' $F 2>$W/said
                    debugfs -R 'ea_list {place}' $F 2>/dev/null | grep -q {attribute} || {{ cat $W/said >&2; exit 1; }}\n"
                ));
            }
            world.script(&recipe, &[("SLIM", &slim), ("W", &world.scratch), ("F", &image)])?;
            let says: Vec<String> = says.iter().map(|&word| word.to_owned()).collect();
            if let Err(error) = all_commands(world, &image, &key, &says, &[]) {
                failed.push(format!("{places:?}: {error:#}"));
            }
            world.script("rm -rf $F $W/state", &[("W", &world.scratch), ("F", &image)])?;
        }
        if !failed.is_empty() {
            bail!("{}", failed.join("\n\n"));
        }
        Ok(())
    })
}
