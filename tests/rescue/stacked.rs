//! What lies below a filesystem: a mirror of a RAID1 is looked through and never written alone, LUKS is opened with a key
//! where there is device-mapper and named where there is none. With device-mapper and md, `scripts/vm-lab` shows more.

use crate::kit::program::{program, volrescue};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{Scratch, USER, has_mapper, public_key, script};
use crate::{Case, Needs};
use anyhow::{Result, ensure};
use std::ffi::OsString;
use std::path::Path;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for version in ["1.2", "1.0", "0.90"] {
        let run = move || mirror(version);
        cases.push(Case::new(format!("stacked::mirror-{version}"), Needs::Loop, run));
    }
    cases.push(Case::new("stacked::mirror-twice", Needs::Loop, mirrors_of_one_array));
    cases.push(Case::new("stacked::luks", Needs::Loop, luks));
    cases.push(Case::new("stacked::udev-looks-before-the-disk-is-free", Needs::Loop, udev_looks));
    cases
}

/// What is asked of the disk while udev looks at it after a repair: udev itself takes the shared lock and needs the other
/// one to read the partitions anew; md and device-mapper need the disk for themselves.
const UDEVADM: &str = r#"#!/bin/sh
echo "$1"
flock --nonblock --shared "$DEVICE" true && echo looks
flock --nonblock --exclusive "$DEVICE" true || echo "not anew"
python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "$DEVICE" || echo held
"#;

/// udev looks at a disk that was closed after writing. What is on it must not be activated by that: it is to be detached.
fn udev_looks() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H")?;
    let stand_in = image.scratch.join("udevadm");
    std::fs::write(&stand_in, UDEVADM)?;
    let said = script(
        r#"
        export DEVICE=$(losetup --find --show "$DISK")
        trap 'losetup --detach "$DEVICE"' EXIT
        mkdir "$S/bin"
        (echo '#!/bin/sh'; echo "exec sh $S/udevadm "\$@" >>$S/told 2>/dev/null") >"$S/bin/udevadm"
        chmod +x "$S/bin/udevadm"
        export PATH="$S/bin:$PATH"
        "$V" diagnose --user admin "$DEVICE" >"$S/log" 2>&1 || true
        [ ! -e "$S/told" ] || echo "after a diagnosis too"
        "$V" repair --yes --user admin --state-dir "$S/state" "$DEVICE" >"$S/log" 2>&1 || cat "$S/log"
        cat "$S/told"
        python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "$DEVICE" && echo free
        "#,
        &[("DISK", &image.path), ("S", image.scratch.path()), ("V", &program())],
    )?;
    ensure!(said.lines().collect::<Vec<_>>() == ["settle", "looks", "not anew", "held", "free"], "{said}");
    Ok(())
}

/// Makes the image a member of a RAID1 of two, as `mdadm --create` would: `mdadm --examine` agrees.
const MEMBER: &str = r#"
import os, struct, sys
version, path, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = os.path.getsize(path)
offset = 1 << 20 if version == "1.2" else 0
if version == "1.2":
    os.truncate(path, data + offset)
    with open(path, "r+b") as disk:
        # From the end, so that nothing is overwritten that is still to be moved.
        for at in reversed(range(0, data, 1 << 20)):
            disk.seek(at)
            chunk = disk.read(min(1 << 20, data - at))
            disk.seek(at + offset)
            disk.write(chunk)
        disk.seek(0)
        disk.write(bytes(1 << 20))
else:
    os.truncate(path, data + (1 << 20))
size = os.path.getsize(path)
if version == "0.90":
    at = (size & ~0xffff) - 0x10000
    sb = bytearray(4096)
    struct.pack_into("<IIIIIIIIIIIII", sb, 0, 0xA92B4EFC, 0, 90, 0, 0, 0x01234567, 0, 1, data // 1024, 2, 2, 0, 0)
    struct.pack_into("<III", sb, 52, 1, 2, 3)
    struct.pack_into("<IIIIII", sb, 128, 0, 1, 2, 2, 0, 0)
    struct.pack_into("<II", sb, 156, events, 0)
    for disk in range(2):
        struct.pack_into("<IIIII", sb, 512 + 128 * disk, disk, 7, 0, disk, 6)
    struct.pack_into("<IIIII", sb, 3968, 0, 7, 0, 0, 6)
    total = sum(struct.unpack("<1024I", sb))
    struct.pack_into("<I", sb, 152, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
else:
    at = 4096 if version == "1.2" else (size // 512 - 16 & ~7) * 512
    sb = bytearray(4096)
    struct.pack_into("<IIII", sb, 0, 0xA92B4EFC, 1, 0, 0)
    sb[16:32], sb[32:37] = b"0123456789abcdef", b"lab:0"
    struct.pack_into("<iI", sb, 72, 1, 0)
    struct.pack_into("<QII", sb, 80, data // 512, 0, 2)
    struct.pack_into("<QQQ", sb, 128, offset // 512, data // 512, at // 512)
    sb[168:184] = b"fedcba9876543210"
    struct.pack_into("<QQ", sb, 192, 0, events)
    struct.pack_into("<Q", sb, 208, 0xFFFFFFFFFFFFFFFF)
    struct.pack_into("<I", sb, 220, 2)
    struct.pack_into("<HH", sb, 256, 0, 1)
    words = struct.unpack("<65I", sb[:260])
    total = sum(words)
    struct.pack_into("<I", sb, 216, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
with open(path, "r+b") as disk:
    disk.seek(at)
    disk.write(sb)
"#;

fn make_member(path: &Path, version: &str, events: &str) -> Result<()> {
    let said = script(
        r#"
        python3 -c "$MEMBER" "$VERSION" "$DISK" "$EVENTS"
        mdadm --examine "$DISK"
        "#,
        &[
            ("MEMBER", Path::new(MEMBER)),
            ("VERSION", Path::new(version)),
            ("DISK", path),
            ("EVENTS", Path::new(events)),
        ],
    )?;
    for words in ["raid1", "- correct"] {
        ensure!(said.contains(words), "mdadm does not take it for a member:\n{said}");
    }
    Ok(())
}

fn line(command: &str, target: &Path, more: &[&str]) -> Result<Vec<OsString>> {
    let mut line: Vec<OsString> = vec![command.into(), target.into(), "--user".into(), USER.into()];
    line.extend(["--key".into(), public_key()?.into()]);
    line.extend(more.iter().map(OsString::from));
    Ok(line)
}

/// However it is wrapped.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One mirror is looked at through its superblock, and not written without the others.
fn mirror(version: &str) -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    image.change("chmod 777 $H")?;
    make_member(&image.path, version, "7")?;
    let bytes = image.digest()?;
    let seen = volrescue(&line("diagnose", &image.path, &[])?)?.expect(&[1])?;
    ensure!(seen.stdout.contains("home-writable-by-others"), "{}", seen.transcript());
    // The other may be newer: it is said.
    ensure!(flat(&seen.stdout).contains("2 mirrors in use, of which 1 is here"), "{}", seen.transcript());
    let scratch = Scratch::new()?;
    let state = scratch.path().display().to_string();
    let refused =
        volrescue(&line("repair", &image.path, &["--yes", "--state-dir", &state])?)?.expect(&[4])?;
    for words in ["one of 2 mirrors", &format!("metadata {version}"), "--with"] {
        ensure!(flat(&refused.stderr).contains(words), "{words}\n{}", refused.transcript());
    }
    ensure!(image.digest()? == bytes, "one mirror was written alone");
    ensure!(image.loops()?.is_empty());
    Ok(())
}

/// Of two mirrors the newer one is looked at, whichever was given first.
fn mirrors_of_one_array() -> Result<()> {
    let (old, new) =
        (Image::healthy(Filesystem::Ext4, Table::None)?, Image::healthy(Filesystem::Ext4, Table::None)?);
    old.change("chmod 777 $H")?;
    make_member(&old.path, "1.2", "7")?;
    make_member(&new.path, "1.2", "9")?;
    let with = |image: &Image| format!("--with={}", image.path.display());
    let seen = volrescue(&line("diagnose", &new.path, &[&with(&old)])?)?.expect(&[0])?;
    ensure!(!flat(&seen.stdout).contains("not needed"), "{}", seen.transcript());
    let seen = volrescue(&line("diagnose", &old.path, &[&with(&new)])?)?.expect(&[0])?;
    ensure!(!seen.stdout.contains("home-writable"), "{}", seen.transcript());
    Ok(())
}

/// What is encrypted is named with the way on: the key where there is device-mapper, device-mapper where there is none.
fn luks() -> Result<()> {
    let scratch = Scratch::new()?;
    let (disk, key, empty) = (scratch.join("disk.img"), scratch.join("key"), scratch.join("empty"));
    script(
        r#"
        truncate -s 32M "$DISK"
        printf 'right' >"$KEY"; : >"$KEY.empty"; mv "$KEY.empty" "$EMPTY"
        cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file "$KEY" "$DISK"
        "#,
        &[("DISK", &disk), ("KEY", &key), ("EMPTY", &empty)],
    )?;
    let digest = || script("sha256sum <\"$DISK\"", &[("DISK", &disk)]);
    let bytes = digest()?;
    let mapper = has_mapper();
    let said = |more: &[&str], code: i32| -> Result<String> {
        let run = volrescue(&line("diagnose", &disk, more)?)?.expect(&[code])?;
        Ok(flat(&run.stderr))
    };
    let without = said(&[], 3)?;
    ensure!(without.contains("LUKS2"), "{without}");
    let words = if mapper { "--luks-key FILE" } else { "no device-mapper" };
    ensure!(without.contains(words), "{without}");
    let option = |path: &Path| format!("--luks-key={}", path.display());
    // There is no filesystem in it.
    let with = said(&[&option(&key)], 3)?;
    let words = if mapper { "no root" } else { "modprobe dm-mod" };
    ensure!(with.contains(words), "{with}");
    ensure!(digest()? == bytes, "it was written");
    ensure!(said(&[&option(&empty)], 2)?.contains("is empty"));
    ensure!(said(&[&option(Path::new("/no/such/key"))], 2)?.contains("/no/such/key"));
    // A header that is damaged is told before anything is asked.
    script("printf x | dd of=\"$DISK\" bs=1 seek=4096 conv=notrunc status=none", &[("DISK", &disk)])?;
    let torn = said(&[], 3)?;
    ensure!(torn.contains("header is damaged") && torn.contains("cryptsetup"), "{torn}");
    Ok(())
}
