//! Letting go: by close, by drop, by SIGKILL.

use crate::fixture::{Dir, Fs, Layout, check, inside, loops, mount, open, root_disk, sh};
use crate::{Case, case};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use volrescue::error::Refusal;
use volrescue::volume::{Choice, MountMode};

/// With this in the environment, the test program holds the image named there until it is killed.
pub(crate) const HOLD: &str = "VOLRESCUE_TEST_HOLD";
/// With this in the environment, it changes a file of the image named there, of which the disk refuses a block.
pub(crate) const REFUSED: &str = "VOLRESCUE_TEST_REFUSED";
/// With this too, the volume is synced before it is let go of.
const SYNCED: &str = "VOLRESCUE_TEST_SYNCED";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Fs::ALL
        .into_iter()
        .map(|fs| case(format!("kill -9 leaves nothing behind of a {fs:?}"), move || killed(fs)))
        .collect();
    cases.push(case("what keeps the volume busy is named", busy));
    for synced in [false, true] {
        let when = if synced { "before" } else { "while" };
        let name = format!("what the disk refuses {when} it is let go of stays in the journal of ext4");
        cases.push(case(name, move || refused(synced)));
    }
    cases.push(case("dropping lets go too", dropped));
    cases.push(case("the mounts are seen by no one else", private));
    cases.push(case("another disk that is unmounted meanwhile is let go of", not_pinned));
    cases
}

/// The held side of [`killed`].
pub(crate) fn hold(image: &Path) {
    let held = || -> Result<()> {
        let root = mount(image, MountMode::ReadWrite, &Choice::default())?;
        let mut file = fs::File::create(inside(&root, "written")?)?;
        file.write_all(b"before the kill\n")?;
        file.sync_all()?;
        let mut out = std::io::stdout();
        writeln!(out, "ready")?;
        out.flush()?;
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    };
    if let Err(error) = held() {
        let _ = writeln!(std::io::stdout(), "{error:#}");
    }
}

fn killed(fs: Fs) -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, fs, Layout::Gpt)?;
    let mut child =
        Command::new(std::env::current_exe()?).env(HOLD, &image).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().context("no output")?;
    BufReader::new(out).read_line(&mut line)?;
    let bound = loops(&image)?;
    child.kill()?;
    child.wait()?;
    ensure!(line == "ready\n", "{line}");
    ensure!(!bound.is_empty(), "it was not even bound");
    let start = Instant::now();
    while !loops(&image)?.is_empty() {
        if start.elapsed() > Duration::from_secs(1) {
            bail!("still bound: {}", loops(&image)?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    check(&dir, &image, fs, Layout::Gpt)?;
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    ensure!(fs::read_to_string(inside(&root, "written")?)? == "before the kill\n");
    root.close()?;
    Ok(())
}

/// The other side of [`refused`].
pub(crate) fn write_what_is_refused(image: &Path) {
    let work = || -> Result<()> {
        let root = mount(image, MountMode::ReadWrite, &Choice::default())?;
        let file = fs::File::open(inside(&root, "etc/passwd")?)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.sync_all()?;
        drop(file);
        if std::env::var_os(SYNCED).is_some() {
            let door = root.root()?;
            ensure!(door.sync().is_err(), "the sync did not fail");
        }
        root.close()?;
        Ok(())
    };
    if let Err(error) = work() {
        let hint = error.downcast_ref::<Refusal>().and_then(|refusal| refusal.hint.clone());
        let _ = writeln!(std::io::stdout(), "{error:#}. {}", hint.unwrap_or_default());
    }
}

/// The kernel takes a block whose write failed for written, and would empty the journal that has it still.
fn refused(synced: bool) -> Result<()> {
    const BLOCK: u64 = 4096;
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    let at = sh(&format!("debugfs -R 'imap /etc/passwd' {} 2>/dev/null", image.display()))?;
    let block = at.split("at block ").nth(1).and_then(|rest| rest.split(',').next()).context("no block")?;
    let place = block.parse::<u64>()? * BLOCK;
    let mut command = Command::new("python3");
    command
        .args(["scripts/faulty-disk", "run", "--fail"])
        .arg(format!("refused:0:{place}:{BLOCK}"))
        .arg(&image)
        .arg("--")
        .arg(std::env::current_exe()?)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env(REFUSED, &image);
    if synced {
        command.env(SYNCED, "yes");
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("writing the last data") && said.contains("dmesg"), "{output:?}");
    let start = Instant::now();
    while !loops(&image)?.is_empty() {
        ensure!(start.elapsed() < Duration::from_secs(1), "still bound");
    }
    let state = sh(&format!("dumpe2fs -h {} 2>/dev/null", image.display()))?;
    ensure!(state.contains("needs_recovery"), "the journal is empty: {state}");
    let root = mount(&image, MountMode::ReadWrite, &Choice::default())?;
    let mode = fs::metadata(inside(&root, "etc/passwd")?)?.permissions().mode() & 0o7777;
    root.close()?;
    ensure!(mode == 0o600, "the change is lost: {mode:o}");
    check(&dir, &image, Fs::Ext4, Layout::None)
}

fn busy() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    let file = fs::File::open(inside(&root, "etc/passwd")?)?;
    let Err(error) = root.close() else { bail!("it was closed with a file open") };
    let text = format!("{error:#}");
    ensure!(text.contains("volrescue itself has") && text.contains("etc/passwd"), "{text}");
    drop(file);
    Ok(())
}

fn dropped() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::Mbr)?;
    drop(mount(&image, MountMode::ReadWrite, &Choice::default())?);
    drop(open(&image, MountMode::ReadOnly)?);
    let start = Instant::now();
    while !loops(&image)?.is_empty() {
        ensure!(start.elapsed() < Duration::from_secs(1), "still bound");
    }
    check(&dir, &image, Fs::Ext4, Layout::Mbr)
}

fn private() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    let root = mount(&image, MountMode::ReadOnly, &Choice::default())?;
    let point = root.mount_point().context("not mounted")?.to_owned();
    let seen = |pid: &str| -> Result<bool> {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        Ok(mounts
            .lines()
            .any(|l| l.contains(&format!(" {} ", point.display())) && l.contains("ext4 /dev/loop")))
    };
    let (own, outside) = (seen("thread-self")?, seen("1")?);
    root.close()?;
    ensure!(own && !outside, "own {own}, outside {outside}");
    Ok(())
}

/// A copy of the helper's mounts must not keep what the helper unmounts.
fn not_pinned() -> Result<()> {
    let dir = Dir::new()?;
    let image = root_disk(&dir, Fs::Ext4, Layout::None)?;
    let other = dir.path("other.img");
    let output = Command::new("unshare")
        // The mounts of a machine under systemd are shared.
        .args(["--mount", "--propagation", "slave", "sh", "-euc"])
        .arg(
            r#"
            mount --make-rshared /
            truncate -s 32M "$OTHER" && mkfs.ext4 -q "$OTHER"
            mkdir -p "$POINT" && mount -o loop "$OTHER" "$POINT"
            mkfifo "$LINE"
            "$PROGRAM" >"$LINE" & held=$!
            trap 'kill -9 $held' EXIT
            read -r ready <"$LINE" && [ "$ready" = ready ]
            umount "$POINT"
            for _ in $(seq 50); do
                [ -n "$(losetup -j "$OTHER")" ] || exit 0
                sleep 0.1
            done
            echo "still bound: $(losetup -j "$OTHER")" >&2
            exit 1
            "#,
        )
        .env("OTHER", &other)
        .env("POINT", dir.path("point"))
        .env("LINE", dir.path("line"))
        .env("PROGRAM", std::env::current_exe()?)
        .env(HOLD, &image)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
