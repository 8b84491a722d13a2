//! SIGKILL in the middle of a repair: within a second no mount and no loop device, a clean filesystem, and a second run that
//! completes.

use crate::kit::program::{diagnose, program, repair};
use crate::kit::random::{Random, count};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{USER, public_key, script};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Much to do: a user to make again, a tree to take back, keys to write.
const WRECK: &str = "
for n in $(seq 400); do echo $n >$H/file-$n; done
chown -R 12345:12345 $H; chmod -R 777 $H; : >$A
sed -i \"/^$U:/d\" $R/etc/passwd
chmod 644 $R/etc/ssh/ssh_host_*_key
";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for number in 1..=count("VOLRESCUE_KILLS", 51) {
        let filesystem = [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs][number % 3];
        let name = format!("kill::{}-{number:02}", filesystem.name());
        let threads = ["1", "2", "16"][number / 3 % 3];
        cases.push(Case::new(name, Needs::Loop, move || killed(filesystem, threads)));
    }
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        for device in [false, true] {
            let what = if device { "device" } else { "image" };
            let name = format!("kill::{}-{what}-run-again-at-once", filesystem.name());
            cases.push(Case::new(name, Needs::Loop, move || again_at_once(filesystem, device)));
        }
    }
    cases
}

fn wreck(filesystem: Filesystem) -> Result<Image> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    image.change(WRECK)?;
    Ok(image)
}

fn killed(filesystem: Filesystem, threads: &str) -> Result<()> {
    let image = wreck(filesystem)?;
    let undisturbed = wreck(filesystem)?;
    let start = Instant::now();
    repair(&undisturbed.path, &undisturbed.scratch, &["--create-user"])?.expect(&[0])?;
    let whole = start.elapsed();
    drop(undisturbed);

    let seed = Random::fresh_seed();
    let moment = whole.mul_f64(Random::seeded(seed).below(1100) as f64 / 1000.0);
    let mut child = Command::new(program())
        .args(["repair", "--yes", "--json", "--create-user", "--user", USER, "--key"])
        .arg(public_key()?)
        .arg("--state-dir")
        .arg(image.scratch.join("state"))
        .arg(&image.path)
        .env("VOLRESCUE_THREADS", threads)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("running volrescue")?;
    std::thread::sleep(moment);
    child.kill()?;
    let status = child.wait()?;
    let said = format!("killed after {moment:?} of {whole:?}, {threads} threads ({status})");

    let dead = Instant::now();
    loop {
        let left = left_behind(&image)?;
        if left.is_empty() {
            break;
        }
        ensure!(dead.elapsed() < Duration::from_secs(1), "{said}: after a second there still is {left}");
        std::thread::sleep(Duration::from_millis(20));
    }
    image.check().with_context(|| said.clone())?;
    diagnose(&image.path, USER).with_context(|| said.clone())?;
    let run = repair(&image.path, &image.scratch, &["--create-user"])?
        .expect(&[0])
        .with_context(|| said.clone())?;
    let after = image.login(USER)?;
    ensure!(after.accepted, "{said}: sshd refuses after the second run\n{}\n{}", run.transcript(), after.log);
    image.check().with_context(|| said.clone())
}

/// What a killed run leaves for a moment is no reason to refuse the next one, on an image or on a disk.
fn again_at_once(filesystem: Filesystem, device: bool) -> Result<()> {
    let image = wreck(filesystem)?;
    // The disk is a loop device on the image.
    let said = script(
        r#"
        target=$DISK
        if [ "$DEVICE" = true ]; then
            target=$(losetup --find --show "$DISK")
            trap 'losetup --detach "$target"' EXIT
        fi
        again() { "$V" repair --yes --create-user --user admin --key "$K" --state-dir "$S" "$target"; }
        for pause in 0.02 0.05 0.1 0.2; do
            # Not in a subshell, which would live on.
            "$V" repair --yes --create-user --user admin --key "$K" --state-dir "$S" "$target" >/dev/null 2>&1 &
            sleep $pause
            kill -KILL $! 2>/dev/null || true
            # The shell waits for the process, not for what the kernel does after it.
            wait $! 2>/dev/null || true
            again >"$S.log" 2>&1 || { echo "after $pause: $?"; cat "$S.log"; exit 0; }
        done
        echo fine
        "#,
        &[
            ("DISK", &image.path),
            ("DEVICE", Path::new(if device { "true" } else { "false" })),
            ("V", &program()),
            ("K", &public_key()?),
            ("S", &image.scratch.join("state")),
        ],
    )?;
    ensure!(said.trim_end() == "fine", "{said}");
    image.check()
}

/// Loop devices, mounts and processes that still have to do with the image.
fn left_behind(image: &Image) -> Result<String> {
    let mut left = image.loops()?;
    let name = image.path.as_os_str().as_encoded_bytes();
    for entry in fs::read_dir("/proc")?.flatten() {
        if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        let of = |file: &str| fs::read(Path::new(&entry.path()).join(file)).unwrap_or_default();
        let names_it = |bytes: &[u8]| bytes.windows(name.len()).any(|window| window == name);
        if names_it(&of("cmdline")) || names_it(&of("mountinfo")) {
            left.push_str(&format!(
                "process {}: {}\n",
                entry.path().display(),
                String::from_utf8_lossy(&of("cmdline"))
            ));
        }
    }
    Ok(left)
}
