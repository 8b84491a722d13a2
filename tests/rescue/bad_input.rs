//! What cannot be worked with: one clear paragraph, the documented exit status, JSON that says the same, and an untouched volume.

use crate::kit::program::{Run, program, volrescue};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER, public_key, script};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

pub(crate) fn cases() -> Vec<Case> {
    // Files that hold no root: a shell recipe that makes $F, the words that the message must have one of.
    let targets: &[(&str, &str, &[&str])] = &[
        ("empty-file", ": >$F", &["empty"]),
        ("text-file", "seq 10000 >$F", &["neither a partition table nor a filesystem", "only zeros", "text"]),
        (
            "zeros",
            "truncate -s 64M $F",
            &["neither a partition table nor a filesystem", "only zeros", "text"],
        ),
        (
            "truncated-image",
            "truncate -s 64M $F; mkfs.ext4 -q $F; truncate -s 20M $F",
            &["cut off", "shorter", "smaller", "beyond"],
        ),
        (
            "truncated-disk",
            "truncate -s 64M $F; echo 'label: gpt\nstart=1MiB, size=60MiB' | sfdisk -q $F; truncate -s 20M $F",
            &["cut off", "shorter", "smaller", "beyond", "end"],
        ),
        (
            "luks",
            "truncate -s 64M $F; printf 'LUKS\\272\\276\\000\\002' | dd of=$F conv=notrunc status=none",
            &["LUKS"],
        ),
        ("swap", "truncate -s 64M $F; mkswap -q $F", &["swap"]),
        (
            "lvm",
            "truncate -s 64M $F; printf 'LABELONE' | dd of=$F conv=notrunc bs=1 seek=512 status=none; printf 'LVM2 001' | dd of=$F conv=notrunc bs=1 seek=536 status=none",
            &["LVM"],
        ),
        (
            "ntfs",
            "truncate -s 64M $F; printf '\\353R\\220NTFS    ' | dd of=$F conv=notrunc status=none; printf 'U\\252' | dd of=$F conv=notrunc bs=1 seek=510 status=none",
            &["NTFS", "ntfs"],
        ),
        ("vfat", "truncate -s 64M $F; mkfs.vfat $F >/dev/null", &["FAT", "fat"]),
        ("no-root", "truncate -s 64M $F; mkfs.ext4 -q $F", &["no root", "passwd"]),
        (
            "feature-that-no-kernel-has",
            "truncate -s 64M $F; mkfs.ext4 -q -O ^metadata_csum $F; debugfs -w -R 'set_super_value feature_incompat 0x2c7' $F 2>/dev/null",
            &["compression"],
        ),
        (
            "ext4-feature-that-nobody-knows",
            "truncate -s 64M $F; mkfs.ext4 -q -O ^metadata_csum $F; debugfs -w -R 'set_super_value feature_incompat 0x800002c2' $F 2>/dev/null",
            &["uses unknown feature 0x80000000"],
        ),
        (
            "xfs-feature-that-nobody-knows",
            "truncate -s 304M $F; mkfs.xfs -q $F; xfs_db -x -c 'sb 0' -c 'write -d features_incompat 0x80000003' $F >/dev/null 2>&1",
            &["uses unknown feature 0x80000000"],
        ),
        (
            "btrfs-feature-that-nobody-knows",
            // The checksum is wrong then, too; the kernel says either.
            "truncate -s 128M $F; mkfs.btrfs -q $F >/dev/null; printf '\\200' | dd of=$F bs=1 seek=$((65536 + 188 + 7)) conv=notrunc status=none",
            &["uses unknown feature 0x8000000000000000", "damaged"],
        ),
        ("gzip", "printf '\\037\\213\\010' >$F", &["gzip"]),
        ("empty-qcow2", "qemu-img create -q -f qcow2 $F 8M", &["only zeros"]),
        ("qcow2", "printf 'QFI\\373\\000\\000\\000\\003' >$F; truncate -s 10M $F", &["qcow2"]),
        (
            "corrupt-superblock",
            "truncate -s 64M $F; mkfs.ext4 -q $F; dd if=/dev/urandom of=$F bs=1k seek=1 count=1 conv=notrunc status=none",
            &["neither a partition table nor a filesystem", "only zeros", "text", "superblock"],
        ),
        (
            "both-partition-tables-corrupt",
            "truncate -s 64M $F; echo 'label: gpt\nstart=1MiB, size=60MiB' | sfdisk -q $F; dd if=/dev/zero of=$F bs=512 seek=1 count=1 conv=notrunc status=none; dd if=/dev/zero of=$F bs=512 seek=131071 count=1 conv=notrunc status=none",
            &["GPT", "partition table"],
        ),
    ];
    let mut cases: Vec<_> = targets
        .iter()
        .map(|&(name, recipe, words)| {
            Case::new(format!("bad-input::{name}"), Needs::Loop, move || no_root_in(recipe, words))
        })
        .collect();
    type Trial = (&'static str, Needs, fn() -> Result<()>);
    let others: &[Trial] = &[
        ("missing-target", Needs::Root, missing_target),
        ("directory-that-is-no-root", Needs::Root, directory_that_is_no_root),
        ("running-system-without-live", Needs::Root, running_system),
        ("corrupt-gpt-with-good-backup", Needs::Loop, backup_table),
        ("damaged-inode", Needs::Loop, damaged_inode),
        ("damaged-account-file", Needs::Loop, damaged_account_file),
        ("several-roots", Needs::Loop, several_roots),
        ("user-unknown", Needs::Loop, user_unknown),
        ("no-such-partition-or-root", Needs::Loop, no_such_choice),
        ("what-is-no-disk", Needs::Root, no_disk),
        ("image-that-cannot-be-written", Needs::Loop, unwritable_image),
        ("keys-that-cannot-be-read", Needs::Root, unreadable_keys),
        ("xfs-of-version-4", Needs::Loop, xfs_4),
        ("bad-keys", Needs::Loop, bad_keys),
        ("no-terminal-and-no-yes", Needs::Loop, no_terminal),
        ("state-directory-not-writable", Needs::Loop, state_directory),
        ("not-root", Needs::Loop, not_root),
        ("in-use", Needs::Loop, in_use),
        ("read-only-device", Needs::Loop, read_only_device),
    ];
    cases.extend([Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs].map(|filesystem| {
        Case::new(format!("bad-input::volume-full-{}", filesystem.name()), Needs::Loop, move || {
            volume_full(filesystem)
        })
    }));
    cases
        .extend(others.iter().map(|&(name, needs, run)| Case::new(format!("bad-input::{name}"), needs, run)));
    cases
}

/// The message for people is one short paragraph, and JSON says the same.
fn told(arguments: &[&OsStr], codes: &[i32], words: &[&str]) -> Result<Run> {
    let plain = volrescue(arguments)?.expect(codes)?;
    ensure!(!plain.stderr.trim().is_empty(), "nothing on standard error\n{}", plain.transcript());
    ensure!(plain.stderr.trim().lines().count() <= 8, "more than a paragraph\n{}", plain.transcript());
    let says = |text: &str| {
        // However it is wrapped.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        words.is_empty() || words.iter().any(|word| text.contains(word))
    };
    ensure!(says(&plain.stderr), "none of {words:?} is said\n{}", plain.transcript());
    let with_json: Vec<&OsStr> = arguments.iter().copied().chain(["--json".as_ref()]).collect();
    let run = volrescue(&with_json)?.expect(codes)?;
    let error = &run.json()?.value["error"];
    ensure!(error["code"] == run.code, "error.code\n{}", run.transcript());
    let message = error["message"].as_str().context("error.message")?;
    ensure!(
        says(message) || says(error["hint"].as_str().unwrap_or("")),
        "none of {words:?} in error\n{}",
        run.transcript()
    );
    Ok(run)
}

fn no_root_in(recipe: &str, words: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("disk.img");
    script(recipe, &[("F", &file)])?;
    let before = fs::read(&file)?;
    told(&["diagnose".as_ref(), file.as_os_str()], &[3], words)?;
    let state = scratch.join("state");
    told(
        &["repair".as_ref(), "--yes".as_ref(), "--state-dir".as_ref(), state.as_os_str(), file.as_os_str()],
        &[3],
        words,
    )?;
    ensure!(fs::read(&file)? == before, "the file was written");
    Ok(())
}

fn missing_target() -> Result<()> {
    told(&["diagnose".as_ref(), "/nonexistent/disk.img".as_ref()], &[3], &["/nonexistent/disk.img"]).map(drop)
}

fn directory_that_is_no_root() -> Result<()> {
    let scratch = Scratch::new()?;
    told(&["diagnose".as_ref(), scratch.path().as_os_str()], &[3], &["passwd", "root"]).map(drop)
}

fn running_system() -> Result<()> {
    told(&["diagnose".as_ref(), "/".as_ref()], &[4], &["--live"])?;
    let scratch = Scratch::new()?;
    let same = scratch.join("same");
    fs::create_dir(&same)?;
    let output = script(
        "mount --bind / \"$SAME\"; status=0; \"$PROGRAM\" repair --yes --state-dir \"$SAME/../state\" \"$SAME\" 2>&1 || status=$?; echo \"[$status]\"",
        &[("SAME", &same), ("PROGRAM", &program())],
    )?;
    ensure!(output.trim_end().ends_with("[4]"), "a bind mount of / is / all the same\n{output}");
    Ok(())
}

fn backup_table() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    script(
        "dd if=/dev/zero of=\"$F\" bs=512 seek=1 count=33 conv=notrunc status=none",
        &[("F", &image.path)],
    )?;
    let run = volrescue(&["diagnose".as_ref(), "--user".as_ref(), USER.as_ref(), image.path.as_os_str()])?
        .expect(&[0])?;
    let text = format!("{}{}", run.stdout, run.stderr);
    ensure!(text.contains("backup"), "does not say that it took the backup table\n{}", run.transcript());
    Ok(())
}

/// One byte of the inode becomes another than its checksum says.
fn damage_inode(image: &Image, path: &str) -> Result<()> {
    script(
        "set -- $(debugfs -R \"imap $P\" \"$F\" 2>/dev/null | sed -n 's/.*located at block \\(.*\\), offset /\\1 /p')
         block=$(dumpe2fs -h \"$F\" 2>/dev/null | sed -n 's/^Block size: *//p')
         printf '\\377' | dd of=\"$F\" bs=1 seek=$(($1 * block + $2 + 40)) conv=notrunc status=none",
        &[("F", &image.path), ("P", Path::new(path))],
    )?;
    Ok(())
}

/// An account file that the filesystem refuses to show: the damage is named and the way on, not a missing user, nor
/// what one does where something else than a file stands in its place.
fn damaged_account_file() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    damage_inode(&image, "/etc/passwd")?;
    let before = image.digest()?;
    let commands: [&[&str]; 2] =
        [&["repair", "--dry-run", "--user", USER], &["repair", "--dry-run", "--create-user", "--user", USER]];
    for command in commands {
        let mut arguments: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        arguments.push(image.path.as_os_str());
        let run = told(&arguments, &[3], &["/etc/passwd could not be read"])?;
        ensure!(run.stderr.contains("--fsck"), "no way on\n{}", run.transcript());
    }
    ensure!(image.digest()? == before, "the image was written");
    Ok(())
}

/// What the filesystem refuses to show is not absent: without login.defs a user would be made by other rules.
fn damaged_inode() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    damage_inode(&image, "/etc/login.defs")?;
    let state = image.scratch.join("state");
    let key = public_key()?;
    let arguments: [&OsStr; 10] = [
        "repair".as_ref(),
        "--yes".as_ref(),
        "--user".as_ref(),
        "newcomer".as_ref(),
        "--create-user".as_ref(),
        "--key".as_ref(),
        key.as_os_str(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        image.path.as_os_str(),
    ];
    let dry = [&arguments[..], &["--dry-run".as_ref()]].concat();
    told(&dry, &[3], &["/etc/login.defs could not be read"])?;
    // Mounted to write, the kernel marks the filesystem as damaged, too.
    let run = volrescue(&arguments)?.expect(&[5])?;
    let said = run.said();
    ensure!(
        said.contains("/etc/login.defs could not be read") && said.contains("nothing was changed"),
        "{said}"
    );
    let passwd = script("debugfs -R 'cat /etc/passwd' \"$F\" 2>/dev/null", &[("F", &image.path)])?;
    ensure!(passwd.contains("root:") && !passwd.contains("newcomer"), "passwd: {passwd}");
    Ok(())
}

fn several_roots() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let disk = image.scratch.join("two.img");
    script(
        "truncate -s 208M \"$DISK\"
         printf 'label: gpt\\nstart=4MiB, size=96MiB\\nstart=104MiB, size=96MiB\\n' | sfdisk -q \"$DISK\"
         dd if=\"$ROOT\" of=\"$DISK\" bs=1M seek=4 conv=notrunc,sparse status=none
         dd if=\"$ROOT\" of=\"$DISK\" bs=1M seek=104 conv=notrunc,sparse status=none",
        &[("DISK", &disk), ("ROOT", &image.path)],
    )?;
    told(&["diagnose".as_ref(), disk.as_os_str()], &[3], &["--partition", "--root"])?;
    for number in [1, 2] {
        let words = number.to_string();
        let arguments = [
            "diagnose".as_ref(),
            "--json".as_ref(),
            "--partition".as_ref(),
            words.as_ref(),
            disk.as_os_str(),
        ];
        let run = volrescue(&arguments)?.expect(&[0])?;
        ensure!(run.json()?.value["root"]["partition"] == number, "partition\n{}", run.transcript());
    }
    Ok(())
}

fn no_such_choice() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = image.digest()?;
    let path = image.path.as_os_str();
    told(&["diagnose".as_ref(), "--partition".as_ref(), "7".as_ref(), path], &[3], &["no partition 7"])?;
    told(&["diagnose".as_ref(), "--root".as_ref(), "nix".as_ref(), path], &[3], &["is named nix"])?;
    let tree = Tree::healthy()?;
    let arguments = ["diagnose".as_ref(), "--partition".as_ref(), "1".as_ref(), tree.path.as_os_str()];
    told(&arguments, &[2], &["is a directory"])?;
    ensure!(image.digest()? == before, "the image was written");
    Ok(())
}

fn no_disk() -> Result<()> {
    let scratch = Scratch::new()?;
    script("mkfifo \"$S/fifo\"; ln -s loop \"$S/loop\"", &[("S", scratch.path())])?;
    told(&["diagnose".as_ref(), "/dev/zero".as_ref()], &[3], &["character device"])?;
    told(&["diagnose".as_ref(), scratch.join("fifo").as_os_str()], &[3], &["is a FIFO"])?;
    told(&["diagnose".as_ref(), scratch.join("loop").as_os_str()], &[3], &["symbolic links"])?;
    told(&["diagnose".as_ref(), "".as_ref()], &[3], &["empty name"])?;
    told(&["diagnose".as_ref(), "vol-0123456789abcdef0".as_ref()], &[3], &["is not attached"])?;
    Ok(())
}

/// Immutable, and on a filesystem that is mounted read-only.
fn unwritable_image() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H")?;
    let before = image.digest()?;
    let output = script(
        "chattr +i \"$DISK\"; trap 'chattr -i \"$DISK\"' EXIT
         repair() { status=0; \"$V\" repair --yes --user admin --state-dir \"$S\" \"$1\" 2>&1 || status=$?; echo \"[repair $status]\"; }
         repair \"$DISK\"
         chattr -i \"$DISK\"
         mkdir \"$D/place\"; mount --bind \"$D\" \"$D/place\"; mount -o remount,bind,ro \"$D/place\"
         repair \"$D/place/disk.img\"
         status=0; \"$V\" diagnose --user admin \"$D/place/disk.img\" 2>&1 || status=$?; echo \"[diagnose $status]\"
         umount \"$D/place\"",
        &[
            ("DISK", &image.path),
            ("D", image.scratch.path()),
            ("S", &image.scratch.join("state")),
            ("V", &program()),
        ],
    )?;
    ensure!(output.matches("[repair 3]").count() == 2, "{output}");
    ensure!(
        output.contains("lsattr") && output.contains("mounted read-only"),
        "no way out is named\n{output}"
    );
    ensure!(output.contains("[diagnose 1]"), "what can't be written can be looked at\n{output}");
    ensure!(image.digest()? == before, "the image was written");
    Ok(())
}

fn unreadable_keys() -> Result<()> {
    let tree = Tree::healthy()?;
    let before = tree.manifest()?;
    let scratch = Scratch::new()?;
    script("cd \"$S\"; mkdir directory; mkfifo fifo; head -c 2M /dev/zero >large", &[("S", scratch.path())])?;
    for (name, words) in
        [("directory", "directory"), ("fifo", "fifo"), ("large", "1 MiB"), ("missing", "missing")]
    {
        let key = scratch.join(name);
        let arguments = ["diagnose".as_ref(), "--key".as_ref(), key.as_os_str(), tree.path.as_os_str()];
        told(&arguments, &[2], &[words])?;
    }
    ensure!(before == tree.manifest()?, "the tree was written");
    Ok(())
}

/// A kernel with the old format takes it, one without names it.
fn xfs_4() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("disk.img");
    script("truncate -s 304M \"$F\"; mkfs.xfs -q -m crc=0 \"$F\" 2>/dev/null", &[("F", &file)])?;
    told(&["diagnose".as_ref(), file.as_os_str()], &[3], &["version 4", "an empty filesystem"]).map(drop)
}

fn user_unknown() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = image.manifest()?;
    let run = volrescue(&[
        "diagnose".as_ref(),
        "--json".as_ref(),
        "--user".as_ref(),
        "ec2-user".as_ref(),
        "--key".as_ref(),
        public_key()?.as_os_str(),
        image.path.as_os_str(),
    ])?
    .expect(&[1])?;
    let document = run.json()?;
    ensure!(document.checks("blocks").contains("user-missing"), "user-missing\n{}", run.transcript());
    ensure!(
        document.value["accepted_for"].as_array().is_some_and(|users| users.iter().any(|user| user == USER)),
        "accepted_for does not name {USER}\n{}",
        run.transcript()
    );
    let state = image.scratch.join("state");
    let arguments: [&OsStr; 7] = [
        "repair".as_ref(),
        "--yes".as_ref(),
        "--user".as_ref(),
        "ec2-user".as_ref(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        image.path.as_os_str(),
    ];
    let run = volrescue(&arguments)?.expect(&[1])?;
    let text = format!("{}{}", run.stdout, run.stderr);
    ensure!(text.contains("--create-user"), "--create-user is not named\n{}", run.transcript());
    let after = image.manifest()?;
    ensure!(before == after, "changed: {:#?}", before.changes(&after));
    Ok(())
}

fn bad_keys() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = image.digest()?;
    script(
        "cd \"$S\"
         ssh-keygen -q -t rsa -b 2048 -m PEM -N secret -f encrypted; rm encrypted.pub
         echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3yqk3c' >malformed
         echo 'no key at all' >words
         : >empty
         head -c 4096 /dev/urandom >binary
         { cat \"$K\" | cut -c 1-40; } >cut",
        &[("S", image.scratch.path()), ("K", &public_key()?)],
    )?;
    for name in ["encrypted", "malformed", "words", "empty", "binary", "cut", "missing"] {
        let key = image.scratch.join(name);
        for command in [&["diagnose"][..], &["repair", "--yes"]] {
            let state = image.scratch.join("state");
            let mut arguments: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
            if command.len() > 1 {
                arguments.extend([OsStr::new("--state-dir"), state.as_os_str()]);
            }
            arguments.extend([OsStr::new("--key"), key.as_os_str(), image.path.as_os_str()]);
            let run = told(&arguments, &[2], &[name])?;
            ensure!(!run.stdout.contains("PRIVATE"), "a private key is printed");
        }
    }
    ensure!(image.digest()? == before, "the image was written");
    Ok(())
}

fn no_terminal() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H")?;
    let before = image.digest()?;
    let state = image.scratch.join("state");
    told(
        &["repair".as_ref(), "--state-dir".as_ref(), state.as_os_str(), image.path.as_os_str()],
        &[2],
        &["--yes"],
    )?;
    ensure!(image.digest()? == before, "the image was written");
    Ok(())
}

fn state_directory() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H")?;
    let before = image.manifest()?;
    for place in ["/proc/volrescue", "/dev/null/state"] {
        let arguments = [
            "repair".as_ref(),
            "--yes".as_ref(),
            "--state-dir".as_ref(),
            place.as_ref(),
            image.path.as_os_str(),
        ];
        told(&arguments, &[2, 3, 4, 5], &[place])?;
    }
    let after = image.manifest()?;
    ensure!(before == after, "changed without a journal: {:#?}", before.changes(&after));
    image.check()
}

fn not_root() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = image.digest()?;
    // Where nobody can reach them: the program and the image, in a directory of their own.
    let place = std::env::temp_dir().join(format!("volrescue-nobody-{}", std::process::id()));
    fs::create_dir_all(&place)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    let program_there = place.join("volrescue");
    fs::copy(program(), &program_there)?;
    let disk = place.join("disk.img");
    fs::copy(&image.path, &disk)?;
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o666))?;
    let outcome = (|| {
        for command in ["diagnose", "repair"] {
            let output = Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
                .arg(&program_there)
                .args([command, "--json"])
                .args((command == "repair").then_some("--yes"))
                .arg(&disk)
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code().is_some_and(|code| (2..=4).contains(&code)),
                "{}\n{text}",
                output.status
            );
            ensure!(text.contains("root"), "does not say that it needs root\n{text}");
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).context(text)?;
            ensure!(document["error"]["code"] == output.status.code().unwrap_or(-1), "error.code");
        }
        let digest = script("sha256sum <\"$F\"", &[("F", &disk)])?;
        ensure!(digest == before, "the image was written");
        Ok(())
    })();
    fs::remove_dir_all(&place)?;
    outcome
}

fn in_use() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let mountpoint = image.scratch.join("mounted-here");
    fs::create_dir(&mountpoint)?;
    // By the file and by the loop device on it.
    let output = script(
        "device=$(losetup --find --show \"$DISK\"); trap 'losetup --detach $device' EXIT
         mount -o ro $device \"$M\"
         for target in \"$DISK\" $device; do
             status=0; \"$PROGRAM\" repair --yes --state-dir \"$M-state\" $target 2>&1 || status=$?; echo \"[$status]\"
         done
         umount \"$M\"",
        &[("DISK", &image.path), ("M", &mountpoint), ("PROGRAM", &program())],
    )?;
    ensure!(output.matches("[4]").count() == 2, "a mounted volume was not refused\n{output}");
    ensure!(
        output.contains("mounted-here") || output.contains("/dev/loop"),
        "the holder is not named\n{output}"
    );
    Ok(())
}

fn read_only_device() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H")?;
    let before = image.digest()?;
    let output = script(
        "device=$(losetup --find --show --read-only \"$DISK\"); trap 'losetup --detach $device' EXIT
         status=0; \"$PROGRAM\" diagnose --user admin $device 2>&1 || status=$?; echo \"[diagnose $status]\"
         status=0; \"$PROGRAM\" repair --yes --user admin --state-dir \"$DISK-state\" $device 2>&1 || status=$?; echo \"[repair $status]\"",
        &[("DISK", &image.path), ("PROGRAM", &program())],
    )?;
    ensure!(output.contains("[diagnose 1]"), "a read-only device can be diagnosed\n{output}");
    ensure!(["[repair 3]", "[repair 4]", "[repair 5]"].iter().any(|end| output.contains(end)), "{output}");
    ensure!(output.contains("read-only"), "does not say that it is read-only\n{output}");
    ensure!(image.digest()? == before, "the image was written");
    Ok(())
}

fn volume_full(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    // Every block: the file grows until nothing is left, then the directory blocks too.
    image.change("rm $A; dd if=/dev/zero of=$R/var/full bs=1M 2>/dev/null || true; dd if=/dev/zero of=$R/var/full2 bs=1k 2>/dev/null || true; sync")?;
    let before = image.manifest()?;
    let state = image.scratch.join("state");
    let run = volrescue(&[
        "repair".as_ref(),
        "--yes".as_ref(),
        "--json".as_ref(),
        "--user".as_ref(),
        USER.as_ref(),
        "--key".as_ref(),
        public_key()?.as_os_str(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        image.path.as_os_str(),
    ])?
    .expect(&[5])?;
    let document = run.json()?;
    ensure!(document.value["error"]["code"] == 5, "error.code\n{}", run.transcript());
    let after = image.manifest()?;
    let named: Vec<_> = document.actions("changed").into_iter().map(|(_, path)| path).collect();
    let unnamed: Vec<_> = before.changes(&after).into_keys().filter(|path| !named.contains(path)).collect();
    ensure!(unnamed.is_empty(), "half-written: {unnamed:?}\n{}", run.transcript());
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    image.check()
}
