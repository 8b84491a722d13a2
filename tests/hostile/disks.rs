//! Disks whose tables and superblocks lie. They are read by us and never given to a kernel's filesystem: nothing in them
//! can be mounted, or only `list` looks at them.

use crate::kit::{World, trees};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::path::Path;
use volrescue::probe::layout;

/// For the recipes, which write the image `F`: tables and sectors by hand.
const PRELUDE: &str = r#"
import os, struct, zlib, random
F = open(os.environ["F"], "w+b")
def size(n): F.truncate(n)
def at(offset, data): F.seek(offset); F.write(data)
def entry(kind, first, count, boot=0): return struct.pack("<B3sB3sII", boot, b"\0\2\0", kind, b"\xff\xff\xff", first, count)
def mbr(*entries, lba=0): at(lba * 512 + 446, b"".join(entries).ljust(64, b"\0") + b"\x55\xaa")
LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")
def part(first, last, name="x"): return LINUX + os.urandom(16) + struct.pack("<QQQ", first, last, 0) + name.encode("utf-16-le").ljust(72, b"\0")[:72]
def gpt(entries, sectors, count=None, width=128, start=2, lba=1, first=34, last=None, other=None, hsize=92):
    array = b"".join(entries)
    span = (len(entries) if count is None else count) * width
    crc = zlib.crc32(array.ljust(span, b"\0")) if span <= 1 << 20 else 0
    count = len(entries) if count is None else count
    head = lambda crc32: struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, hsize, crc32, 0, lba, sectors - 1 if other is None else other,
        first, sectors - 34 if last is None else last, b"g" * 16, start, count, width, crc)
    at(lba * 512, head(zlib.crc32(head(0)[:max(0, min(hsize, 92))])))
    at(start * 512, array)
def protect(): mbr(entry(0xee, 1, 0xffffffff))
"#;

/// name, recipe, words of the refusal (or of `list`).
const TABLES: &[(&str, &str, &[&str])] = &[
    (
        "gpt-of-a-billion-entries",
        "size(64<<20); protect(); gpt([part(2048, 4096)], 131072, count=1000000000)",
        &["partition table", "GPT"],
    ),
    (
        "gpt-of-entries-without-width",
        "size(64<<20); protect(); gpt([part(2048, 4096)], 131072, width=0)",
        &["partition table", "GPT"],
    ),
    (
        "gpt-of-entries-a-byte-wide",
        "size(64<<20); protect(); gpt([part(2048, 4096)], 131072, width=1)",
        &["partition table", "GPT"],
    ),
    (
        "gpt-of-entries-two-gibibytes-wide",
        "size(64<<20); protect(); gpt([part(2048, 4096)], 131072, width=1<<31)",
        &["partition table", "GPT"],
    ),
    (
        "gpt-whose-array-lies-beyond-everything",
        "size(64<<20); protect(); gpt([], 131072, count=128, start=1)\nat(512+72, struct.pack('<Q', 2**64-1))",
        &["partition table", "GPT"],
    ),
    (
        "gpt-whose-array-is-its-header",
        "size(64<<20); protect(); gpt([], 131072, count=4, start=1)",
        &["partition table", "GPT", "no filesystem", "no partition"],
    ),
    (
        "gpt-with-a-header-of-four-gibibytes",
        "size(64<<20); protect(); gpt([part(2048, 4096)], 131072, hsize=0xffffffff)",
        &["partition table", "GPT"],
    ),
    (
        "gpt-of-negative-partitions",
        "size(64<<20); protect(); gpt([part(4096, 2048), part(2**64-1, 0), part(0, 2**64-1)], 131072)",
        &["no filesystem", "partition"],
    ),
    (
        "gpt-of-huge-partitions",
        "size(64<<20); protect(); gpt([part(2048, 2**63), part(34, 2**64-2)], 131072)",
        &["no filesystem", "partition", "end"],
    ),
    (
        "gpt-of-overlapping-partitions",
        "size(64<<20); protect(); gpt([part(2048, 90000), part(2048, 90000), part(4096, 80000)], 131072)",
        &["overlap"],
    ),
    (
        "gpt-over-its-own-header",
        "size(64<<20); protect(); gpt([part(0, 100), part(1, 1)], 131072)",
        &["partition"],
    ),
    (
        "gpt-of-eight-thousand-partitions",
        "size(64<<20); protect(); gpt([part(40+n, 40+n) for n in range(8192)], 131072, first=4)",
        &["partition"],
    ),
    (
        "gpt-with-names-that-drive-a-terminal",
        "size(64<<20); protect(); gpt([part(2048, 4096, '\\x1b[2J\\u202e\\x07')], 131072)",
        &["no filesystem", "partition"],
    ),
    (
        "gpt-names-of-lone-surrogates",
        "size(64<<20); protect(); gpt([part(2048, 4096)[:56] + b'\\x00\\xd8'*36], 131072)",
        &["no filesystem", "partition"],
    ),
    ("gpt-without-protection", "size(64<<20); gpt([part(2048, 4096)], 131072)", &["partition", "filesystem"]),
    (
        "mbr-of-everything-at-once",
        "size(64<<20); mbr(entry(0x83, 0, 0xffffffff), entry(0x83, 1, 1), entry(0x83, 0xffffffff, 0xffffffff), entry(0x83, 0, 0))",
        &["partition"],
    ),
    (
        "mbr-of-overlapping-partitions",
        "size(64<<20); mbr(entry(0x83, 2048, 90000), entry(0x83, 2048, 90000))",
        &["overlap"],
    ),
    (
        "extended-partition-in-itself",
        "size(64<<20); mbr(entry(5, 2048, 100000)); mbr(entry(0x83, 63, 10), entry(5, 0, 100000), lba=2048)",
        &["partition"],
    ),
    (
        "extended-partitions-in-a-ring",
        "size(64<<20); mbr(entry(5, 2048, 100000)); mbr(entry(0x83, 63, 10), entry(5, 100, 10), lba=2048); mbr(entry(0x83, 63, 10), entry(5, 200, 10), lba=2148); mbr(entry(0x83, 63, 10), entry(5, 100, 10), lba=2248)",
        &["partition"],
    ),
    (
        "extended-partitions-of-sixty-thousand-links",
        "size(64<<20); mbr(entry(5, 2048, 120000))\nfor n in range(60000): mbr(entry(0x83, 1, 1), entry(5, 2*n+2, 2), lba=2048+2*n)",
        &["partition"],
    ),
    (
        "extended-partition-beyond-the-end",
        "size(64<<20); mbr(entry(5, 0xfffffff0, 0xffffffff), entry(0xf, 2048, 100), entry(0x85, 2048, 100))",
        &["partition"],
    ),
    (
        "extended-partition-that-wraps-round",
        "size(64<<20); mbr(entry(5, 2048, 100000)); mbr(entry(0x83, 0xffffffff, 0xffffffff), entry(5, 0xffffffff, 2), lba=2048)",
        &["partition"],
    ),
    ("disk-of-one-sector", "size(512); mbr(entry(0x83, 0, 1))", &["partition"]),
    ("disk-of-one-byte", "size(1)", &["filesystem", "text", "partition"]),
    ("disk-of-eight-exbibytes", "size(4<<40); mbr(entry(0x83, 2048, 0xffffffff))", &["partition", "zeros"]),
    (
        "lvm-label-that-points-nowhere",
        "size(64<<20); at(512, b'LABELONE' + struct.pack('<QII', 1, 0, 0xffffffff) + b'LVM2 001' + b'A'*32 + struct.pack('<QQQQQ', 2**64-1, 2**64-1, 2**64-1, 0, 0))",
        &["LVM"],
    ),
    (
        "lvm-metadata-without-end",
        "size(64<<20); at(512, b'LABELONE' + struct.pack('<QII', 1, 0, 32) + b'LVM2 001' + b'A'*32 + struct.pack('<Q', 64<<20) + struct.pack('<QQQQ', 1<<20, 0, 0, 0) + struct.pack('<QQQQ', 4096, 2**63, 0, 0))",
        &["LVM"],
    ),
    ("noise", "size(8<<20); random.seed(1); at(0, random.randbytes(8<<20))", &["filesystem", "partition"]),
];

/// Superblocks by hand: only `list` may look at them.
const SUPERBLOCKS: &[(&str, &str)] = &[
    (
        "ext-of-blocks-beyond-measure",
        "size(8<<20); at(1024, struct.pack('<IIIIIII', 0xffffffff, 0xffffffff, 0, 0, 0, 0xffffffff, 0xffffffff)); at(1024+56, b'\\x53\\xef')",
    ),
    ("ext-of-nothing", "size(8<<20); at(1024+56, b'\\x53\\xef')"),
    ("xfs-of-blocks-of-no-size", "size(8<<20); at(0, b'XFSB' + b'\\0'*96)"),
    ("xfs-of-everything", "size(8<<20); at(0, b'XFSB' + b'\\xff'*508)"),
    ("btrfs-of-everything", "size(8<<20); at(65536, b'\\xff'*4096); at(65536+64, b'_BHRfS_M')"),
    (
        "btrfs-whose-label-drives-a-terminal",
        "size(8<<20); at(65536+64, b'_BHRfS_M'); at(65536+0x12b, b'\\x1b[2J\\xff\\xfe'*40)",
    ),
    (
        "ext-whose-label-drives-a-terminal",
        "size(8<<20); at(1024+56, b'\\x53\\xef'); at(1024+0x78, b'\\x1b]0;x\\x07\\x9b\\xff\\xff')",
    ),
    (
        "many-filesystems-at-once",
        "size(8<<20); at(0, b'XFSB' + b'\\0\\0\\x10\\0'); at(1024+56, b'\\x53\\xef'); at(65536+64, b'_BHRfS_M'); at(4086, b'SWAPSPACE2')",
    ),
    ("luks-of-everything", "size(8<<20); at(0, b'LUKS\\xba\\xbe\\0\\2' + b'\\xff'*4088)"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = TABLES
        .iter()
        .map(|&(name, recipe, says)| {
            Case::new(format!("disk::{name}"), Needs::Loop, move || table(recipe, says))
        })
        .collect();
    cases.extend(
        SUPERBLOCKS.iter().map(|&(name, recipe)| {
            Case::new(format!("disk::{name}"), Needs::Loop, move || superblock(recipe))
        }),
    );
    cases.push(Case::new("disk::mutated-superblocks", Needs::Namespace, mutated));
    cases
}

fn image(world: &World, recipe: &str) -> Result<std::path::PathBuf> {
    let file = world.scratch.join("disk.img");
    let program = world.scratch.join("recipe.py");
    std::fs::write(&program, format!("{PRELUDE}\n{recipe}\n"))?;
    world.script("python3 \"$P\"", &[("F", &file), ("P", &program)])?;
    Ok(file)
}

fn table(recipe: &'static str, says: &'static [&'static str]) -> Result<()> {
    let key = trees()?.join("login_key.pub");
    World::with(move |world| {
        let file = image(world, recipe)?;
        let digest = |world: &World| world.script("head -c 64M \"$F\" | sha256sum", &[("F", &file)]);
        let before = digest(world)?;
        let state = world.scratch.join("state");
        let commands: [&[&str]; 3] =
            [&["diagnose", "--json"], &["repair", "--json", "--dry-run"], &["repair", "--json", "--yes"]];
        for command in commands {
            let mut words: Vec<&OsStr> = command.iter().map(|word| OsStr::new(*word)).collect();
            if command[0] == "repair" {
                words.extend([OsStr::new("--state-dir"), state.as_os_str()]);
            }
            words.extend([OsStr::new("--key"), key.as_os_str(), file.as_os_str()]);
            let run = world.volrescue(&words, &[3])?;
            let error = run.json()?["error"].to_string();
            ensure!(says.iter().any(|word| error.contains(word)), "none of {says:?}\n{}", run.transcript());
        }
        ensure!(digest(world)? == before, "the image was written");
        listed(world, &file)?;
        world.ensure_untouched()
    })
}

fn superblock(recipe: &'static str) -> Result<()> {
    World::with(move |world| {
        let file = image(world, recipe)?;
        listed(world, &file)?;
        world.ensure_untouched()
    })
}

/// `list`, with the image on a loop device that nobody can write.
fn listed(world: &World, file: &Path) -> Result<()> {
    let device = world.script("losetup --read-only --find --show \"$F\"", &[("F", file)])?;
    let device = device.trim().to_owned();
    let runs = ["--json", "-v"].map(|option| world.volrescue(&["list", option], &[0]));
    // Another machine-wide clean-up may have been faster; that nothing is left is what counts.
    world.script("losetup --detach \"$L\" 2>/dev/null || true", &[("L", Path::new(&device))])?;
    // The kernel lets go of it with its last user, and udev or another listing may have it open for a moment.
    let left = world.script(
        "for try in $(seq 50); do left=$(losetup --noheadings --output NAME --associated \"$F\"); [ -n \"$left\" ] || break
         sleep 0.1; done; printf %s \"$left\"",
        &[("F", file)],
    )?;
    ensure!(left.trim().is_empty(), "{left} is left");
    let [json, text] = runs;
    let (json, text) = (json?, text?);
    let document = json.json()?;
    let disks = document["disks"].as_array().context("disks")?;
    let small = std::fs::metadata(file)?.len() < 512;
    ensure!(
        small || disks.iter().any(|disk| disk["device"] == device.as_str()),
        "{device} is not listed\n{}",
        json.transcript()
    );
    ensure!(small || text.stdout.contains(&device), "{device} is not listed\n{}", text.transcript());
    Ok(())
}

/// Thousands of superblocks and tables with some bytes wrong, by our probing alone.
fn mutated() -> Result<()> {
    const EACH: u32 = 1500;
    let images = World::with(|world| {
        let recipes = [
            "truncate -s 8M $F; mkfs.ext4 -q $F",
            "truncate -s 304M $F; mkfs.xfs -q $F",
            "truncate -s 110M $F; mkfs.btrfs -q $F",
            "truncate -s 8M $F; printf 'label: gpt\\nstart=1MiB, size=2MiB\\nstart=3MiB\\n' | sfdisk -q $F",
            "truncate -s 8M $F; printf 'label: dos\\np1: start=1MiB, size=2MiB\\np2: start=3MiB, type=5\\np5: start=4MiB, size=1MiB\\n' | sfdisk -q $F",
        ];
        let mut images = Vec::new();
        for recipe in recipes {
            let file = world.scratch.join("m.img");
            world.script(&format!("rm -f $F; {recipe}"), &[("F", &file)])?;
            let mut head = std::fs::read(&file)?;
            head.truncate(8 << 20);
            images.push(head);
        }
        Ok(images)
    })?;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        usize::try_from(random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap_or(0) % bound
    };
    let begun = std::time::Instant::now();
    for mut image in images {
        for _ in 0..EACH {
            let mut undo = Vec::new();
            for _ in 0..=below(8) {
                // Where tables and superblocks lie, most of the time.
                let start = [0, 446, 512, 1024, 1024, 65536][below(6)];
                let at = start + below(if start == 0 { 1 << 17 } else { 512 });
                let value = [0, 0xff, 0x80, 1][below(4)];
                undo.push((at, image[at]));
                image[at] = value;
            }
            let _ = layout(&image, [None, Some(512), Some(4096)][below(3)]);
            for (at, value) in undo.into_iter().rev() {
                image[at] = value;
            }
        }
    }
    ensure!(begun.elapsed().as_secs() < 60, "probing took {:?}", begun.elapsed());
    Ok(())
}
