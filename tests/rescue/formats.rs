//! Images in other formats than raw, made by qemu-img: told by their content, diagnosed without a write, repaired and
//! undone; the judge is the volume's sshd on what qemu-img makes of the image afterwards. What an image names as the file
//! below it is followed in its own directory only, and never written.

use crate::kit::program::{Document, program, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{USER, public_key, script};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The name here, what makes `$TO` of `$RAW`, the filesystem, the table.
const FORMATS: [(&str, &str, Filesystem, Table); 7] = [
    ("qcow2", "qemu-img convert -O qcow2 $RAW $TO", Filesystem::Ext4, Table::Gpt),
    ("qcow2", "qemu-img convert -c -O qcow2 -o compat=0.10 $RAW $TO", Filesystem::Xfs, Table::None),
    ("vmdk", "qemu-img convert -O vmdk $RAW $TO", Filesystem::Ext4, Table::Mbr),
    ("vhd", "qemu-img convert -O vpc -o force_size=on $RAW $TO", Filesystem::Ext4, Table::Gpt),
    (
        "vhd",
        "qemu-img convert -O vpc -o subformat=fixed,force_size=on $RAW $TO",
        Filesystem::Ext4,
        Table::None,
    ),
    ("vhdx", "qemu-img convert -O vhdx $RAW $TO", Filesystem::Btrfs, Table::Gpt),
    ("vdi", "qemu-img convert -O vdi $RAW $TO", Filesystem::Ext4, Table::Gpt),
];

/// What names a file of the helper's: a recipe that makes `$TO`, the exit status, what must be said.
const HOSTILE: [(&str, &str, i32, &str); 9] = [
    ("absolute", "qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw $TO 64M", 4, "--allow-backing"),
    (
        "climbing",
        "qemu-img create -q -u -f qcow2 -b ../../../../../../../../etc/shadow -F raw $TO 64M",
        4,
        "outside",
    ),
    (
        "link",
        "ln -s /etc/shadow ${TO%/*}/base; qemu-img create -q -u -f qcow2 -b base -F raw $TO 64M",
        4,
        "--allow-backing",
    ),
    (
        "second",
        "qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw ${TO%/*}/base 64M
         qemu-img create -q -u -f qcow2 -b base -F qcow2 $TO 64M",
        4,
        "/etc/shadow",
    ),
    (
        "json",
        r#"qemu-img create -q -u -f qcow2 -b 'json:{"driver":"file","filename":"/etc/shadow"}' -F raw $TO 64M"#,
        4,
        "no plain path",
    ),
    ("network", "qemu-img create -q -u -f qcow2 -b nbd://127.0.0.1:1/x -F raw $TO 64M", 4, "no plain path"),
    ("circle", "qemu-img create -q -u -f qcow2 -b disk.bin -F qcow2 $TO 64M", 3, "circle"),
    (
        "data-file",
        "qemu-img create -q -f qcow2 -o data_file=${TO%/*}/data,data_file_raw=on $TO 64M",
        3,
        "data is in another file",
    ),
    (
        "description",
        "printf '# Disk DescriptorFile\\nversion=1\\nCID=1\\nparentCID=ffffffff\\ncreateType=\"monolithicFlat\"\\nRW 8 FLAT \"/etc/shadow\" 0\\n' >$TO",
        3,
        "parts are in other files",
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, format) in FORMATS.iter().enumerate() {
        let name = format!("formats::{}-{number}", format.0);
        cases.push(Case::new(name, Needs::Loop, || whole_way(*format)));
    }
    for (name, recipe, code, words) in HOSTILE {
        let name = format!("formats::hostile-{name}");
        cases.push(Case::new(name, Needs::Loop, move || hostile(recipe, code, words)));
    }
    cases.push(Case::new("formats::backing-chain", Needs::Loop, backing_chain));
    cases.push(Case::new("formats::dirty", Needs::Loop, dirty));
    cases.push(Case::new("formats::in-use", Needs::Loop, in_use));
    cases.push(Case::new("formats::no-daemon", Needs::Loop, no_daemon));
    for number in 1..=4 {
        cases.push(Case::new(format!("formats::killed-{number}"), Needs::Loop, move || killed(number)));
    }
    cases
}

/// A disk whose home is open to all, and where it is in another format: a name that tells nothing.
fn converted(recipe: &str, filesystem: Filesystem, table: Table) -> Result<(Image, PathBuf)> {
    let image = Image::healthy(filesystem, table)?;
    image.change("chmod 777 $H; chown -R 4321 $H/.ssh")?;
    let to = image.scratch.join("disk.bin");
    script(recipe, &[("RAW", &image.path), ("TO", &to)])?;
    Ok((image, to))
}

/// The raw image made anew from `from`.
fn back(image: &Image, from: &Path, format: &str) -> Result<()> {
    let format = if format == "vhd" { "vpc" } else { format };
    script(
        r#"[ "$FORMAT" = vpc ] || qemu-img check -q -f "$FORMAT" "$FROM"
        qemu-img convert -f "$FORMAT" -O raw "$FROM" "$RAW""#,
        &[("RAW", &image.path), ("FROM", from), ("FORMAT", Path::new(format))],
    )
    .map(drop)
}

fn digest(path: &Path) -> Result<String> {
    script("sha256sum <\"$F\"", &[("F", path)])
}

fn diagnose(target: &Path, options: &[&str]) -> Result<Document> {
    let mut words: Vec<OsString> = vec!["diagnose".into(), target.into(), "--json".into()];
    words.extend(["--user".into(), USER.into(), "--key".into(), public_key()?.into()]);
    words.extend(options.iter().map(OsString::from));
    volrescue(&words)?.expect(&[0, 1])?.json()
}

/// Programs that have to do with the file.
fn left_behind(path: &Path) -> Result<String> {
    let name = path.as_os_str().as_encoded_bytes();
    let mut left = String::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut open = open.filter_map(|fd| fs::read_link(fd.path()).ok());
        if open.any(|link| link.as_os_str().as_encoded_bytes() == name) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            left.push_str(&format!("{}\n", String::from_utf8_lossy(&command)));
        }
    }
    Ok(left)
}

fn whole_way((format, recipe, filesystem, table): (&str, &str, Filesystem, Table)) -> Result<()> {
    let (image, to) = converted(recipe, filesystem, table)?;
    let before = digest(&to)?;
    let seen = diagnose(&to, &[])?;
    ensure!(seen.verdict()? == "refuse", "{}", seen.transcript());
    ensure!(seen.value["target"]["format"] == format, "{}", seen.transcript());
    ensure!(digest(&to)? == before, "looking wrote");
    let repaired = repair(&to, &image.scratch, &[])?.expect(&[0])?.json()?;
    ensure!(left_behind(&to)?.is_empty(), "left behind: {}", left_behind(&to)?);
    let again = repair(&to, &image.scratch, &[])?.expect(&[0])?.json()?;
    ensure!(again.actions("changed").is_empty(), "{}", again.transcript());
    back(&image, &to, format)?;
    image.check()?;
    let login = image.login(USER)?;
    ensure!(login.accepted, "sshd refuses\n{}\n{}", repaired.transcript(), login.log);
    let state = image.scratch.join("state").into();
    let words = [OsString::from("undo"), repaired.run()?.into(), "--yes".into(), "--state-dir".into(), state];
    volrescue(&words)?.expect(&[0])?;
    ensure!(diagnose(&to, &[])?.verdict()? == "refuse", "the undo did not reach the image");
    Ok(())
}

fn hostile(recipe: &str, code: i32, words: &str) -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let to = image.scratch.join("disk.bin");
    script(recipe, &[("TO", &to)])?;
    for command in ["diagnose", "repair"] {
        let mut line: Vec<OsString> =
            vec![command.into(), to.clone().into(), "--json".into(), "--user".into(), USER.into()];
        if command == "repair" {
            line.push("--yes".into());
        }
        let run = volrescue(&line)?.expect(&[code])?;
        ensure!(run.stdout.contains(words), "{words:?} is not said\n{}", run.transcript());
        ensure!(!run.stdout.contains("root:"), "{}", run.transcript());
    }
    ensure!(left_behind(&to)?.is_empty(), "left behind: {}", left_behind(&to)?);
    Ok(())
}

/// The lowest file is raw, in another directory; what lies below is shown, and has every byte in the end.
fn backing_chain() -> Result<()> {
    let (image, to) = converted(
        "mkdir ${TO%/*}/away
        cp --sparse=always $RAW ${TO%/*}/base.img
        qemu-img create -q -f qcow2 -b base.img -F raw ${TO%/*}/middle
        qemu-img create -q -f qcow2 -b middle -F qcow2 $TO",
        Filesystem::Ext4,
        Table::Gpt,
    )?;
    let (base, middle) = (image.scratch.join("base.img"), image.scratch.join("middle"));
    let before = (digest(&base)?, digest(&middle)?);
    let repaired = repair(&to, &image.scratch, &[])?.expect(&[0])?.json()?;
    let backing = &repaired.value["target"]["backing"];
    ensure!(backing[0]["path"] == middle.to_string_lossy().as_ref(), "{}", repaired.transcript());
    ensure!(backing[1]["format"] == "raw", "{}", repaired.transcript());
    ensure!((digest(&base)?, digest(&middle)?) == before, "a backing file was written");
    back(&image, &to, "qcow2")?;
    ensure!(image.login(USER)?.accepted, "{}", repaired.transcript());
    // People see the chain; elsewhere the lowest file is not followed until it is allowed.
    let run = volrescue(&[OsString::from("diagnose"), to.clone().into()])?.expect(&[0])?;
    let said = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(said.contains("base.img (raw), which is not written"), "{}", run.transcript());
    let away = image.scratch.join("away/base.img");
    fs::rename(&base, &away)?;
    script("qemu-img rebase -u -b away/base.img -F raw \"$M\"", &[("M", &middle)])?;
    let run = volrescue(&[OsString::from("diagnose"), to.clone().into()])?.expect(&[4])?;
    ensure!(run.stderr.contains("--allow-backing"), "{}", run.transcript());
    ensure!(diagnose(&to, &["--allow-backing"])?.verdict()? == "accept");
    fs::remove_file(&away)?;
    let run = volrescue(&[OsString::from("diagnose"), to.into(), "--allow-backing".into()])?.expect(&[3])?;
    ensure!(run.stderr.contains("base.img"), "{}", run.transcript());
    Ok(())
}

/// A copy of a running root: replayed in a copy for a look, and in the image by a repair.
fn dirty() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.copy_while_mounted("chmod 777 $H; sync")?;
    ensure!(image.journal_is_dirty()?, "the kit made no dirty journal");
    let to = image.scratch.join("disk.bin");
    script("qemu-img convert -O qcow2 \"$RAW\" \"$TO\"", &[("RAW", &image.path), ("TO", &to)])?;
    let before = digest(&to)?;
    let seen = diagnose(&to, &[])?;
    ensure!(
        seen.value["root"]["journal"] == "replayed" && seen.verdict()? == "refuse",
        "{}",
        seen.transcript()
    );
    ensure!(digest(&to)? == before, "looking wrote");
    repair(&to, &image.scratch, &[])?.expect(&[0])?;
    back(&image, &to, "qcow2")?;
    ensure!(!image.journal_is_dirty()? && image.login(USER)?.accepted);
    image.check()
}

/// A machine that runs from the image has it locked in QEMU's way.
fn in_use() -> Result<()> {
    let (image, to) = converted("qemu-img convert -O qcow2 $RAW $TO", Filesystem::Ext4, Table::None)?;
    let node = format!("driver=file,node-name=f,filename={}", to.display());
    let mut machine = Command::new("qemu-storage-daemon")
        .args(["--blockdev", &node, "--blockdev", "driver=qcow2,node-name=q,file=f"])
        .arg("--nbd-server")
        .arg(format!("addr.type=unix,addr.path={}", image.scratch.join("socket").display()))
        .args(["--export", "type=nbd,id=e,node-name=q,writable=on"])
        .stdin(Stdio::null())
        .spawn()
        .context("running qemu-storage-daemon")?;
    let start = Instant::now();
    while !image.scratch.join("socket").exists() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    let run = volrescue(&[OsString::from("diagnose"), to.clone().into()]);
    machine.kill()?;
    machine.wait()?;
    let run = run?.expect(&[4])?;
    ensure!(run.said().contains("in use by another program"), "{}", run.transcript());
    Ok(())
}

fn no_daemon() -> Result<()> {
    let (_image, to) = converted("qemu-img convert -O qcow2 $RAW $TO", Filesystem::Ext4, Table::None)?;
    let said = script(
        r#"mount --bind /dev/null "$(command -v qemu-storage-daemon)"
        "$V" diagnose "$TO" 2>&1 || echo "status $?""#,
        &[("V", &program()), ("TO", &to)],
    )?;
    ensure!(
        said.contains("status 3") && said.contains("qemu-utils") && said.contains("qemu-img convert"),
        "{said}"
    );
    Ok(())
}

/// Killed at any moment: the daemon ends in good order after the volume is unmounted.
fn killed(number: u32) -> Result<()> {
    let filesystem = if number.is_multiple_of(2) { Filesystem::Xfs } else { Filesystem::Ext4 };
    let (image, to) = converted("qemu-img convert -O qcow2 $RAW $TO", filesystem, Table::Gpt)?;
    let mut child = Command::new(program())
        .args(["repair", "--yes", "--user", USER, "--state-dir"])
        .arg(image.scratch.join("state"))
        .arg(&to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("running volrescue")?;
    std::thread::sleep(Duration::from_millis(60 * u64::from(number)));
    child.kill()?;
    child.wait()?;
    let dead = Instant::now();
    loop {
        let left = left_behind(&to)?;
        if left.is_empty() {
            break;
        }
        if dead.elapsed() > Duration::from_secs(5) {
            bail!("after five seconds there still is {left}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    script("qemu-img check -q \"$TO\"", &[("TO", &to)])?;
    back(&image, &to, "qcow2")?;
    image.check()?;
    repair(&to, &image.scratch, &[])?.expect(&[0])?;
    back(&image, &to, "qcow2")?;
    ensure!(image.login(USER)?.accepted);
    Ok(())
}
