//! A login through the volume's own sshd: it says what the judge says, whatever runs inside harms nobody, and nothing is left.

use crate::kit::program::{Document, program, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER, trees};
use crate::oracle::recipes;
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<Case> {
    /// One recipe in so many; the judge itself is asked about all of them elsewhere.
    const STEP: usize = 6;
    let suites = std::env::var("VOLRESCUE_SUITES").unwrap_or_else(|_| "bookworm".into());
    let step = std::env::var("VOLRESCUE_PROVE_STEP").ok().and_then(|text| text.parse().ok()).unwrap_or(STEP);
    let mut cases = Vec::new();
    for suite in suites.split(',').map(str::to_owned) {
        for recipe in recipes().into_iter().step_by(step) {
            let tree = suite.clone();
            cases.push(Case::new(format!("prove::{suite}::{}", recipe.id), Needs::Root, move || {
                agrees(&tree, recipe.login, recipe.expected, recipe.shell)
            }));
        }
    }
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        let name = format!("prove::image-{}", filesystem.name());
        cases.push(Case::new(name, Needs::Loop, move || image(filesystem)));
    }
    cases.push(Case::new("prove::after-a-repair", Needs::Loop, after_a_repair));
    cases.push(Case::new("prove::a-key-made-for-the-login", Needs::Root, made_key));
    cases.push(Case::new("prove::another-architecture", Needs::Root, another_architecture));
    cases.push(Case::new("prove::a-key-that-cannot-log-in", Needs::Root, useless_keys));
    cases.push(Case::new("prove::an-sshd-that-attacks", Needs::Root, attack));
    cases.push(Case::new("prove::an-sshd-that-multiplies", Needs::Root, multiply));
    cases.push(Case::new("prove::killed", Needs::Loop, killed));
    cases
}

fn prove(target: &Path, user: &str, options: &[&OsStr]) -> Result<Document> {
    let arguments = ["prove", "--json", "--user", user].map(OsStr::new);
    let arguments: Vec<&OsStr> =
        arguments.into_iter().chain(options.iter().copied()).chain([target.as_os_str()]).collect();
    volrescue(&arguments)?.expect(&[0, 1])?.json()
}

fn agrees(suite: &str, user: &str, expected: &str, recipe: &str) -> Result<()> {
    let tree = Tree::of(suite)?;
    tree.change(recipe)?;
    let before = tree.manifest()?;
    let key = trees()?.join("login_key");
    let proved = prove(&tree.path, user, &["--key".as_ref(), key.as_os_str()])?;
    ensure!(
        proved.verdict()? == expected,
        "sshd says {expected}, the sandbox otherwise\n{}",
        proved.transcript()
    );
    let after = tree.manifest()?;
    let differs = before.changes(&after);
    ensure!(differs.is_empty(), "the tree was changed: {differs:#?}");
    Ok(())
}

fn image(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    let before = image.digest()?;
    let proved = prove(&image.path, USER, &[])?;
    ensure!(proved.verdict()? == "accept", "{}", proved.transcript());
    ensure!(proved.value["unmount"] == "clean", "{}", proved.transcript());
    image.change("chmod 777 $H")?;
    let broken = image.digest()?;
    let proved = prove(&image.path, USER, &[])?;
    ensure!(proved.verdict()? == "refuse", "{}", proved.transcript());
    let told = proved.value["users"][0]["proof"]["server"].to_string();
    ensure!(told.contains("Authentication refused: bad ownership or modes"), "{}", proved.transcript());
    ensure!(broken == image.digest()? && broken != before, "the image was written");
    ensure!(image.loops()?.is_empty(), "loop devices are left: {}", image.loops()?);
    Ok(())
}

fn after_a_repair() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H; : >$A; sed -i \"/^$U:/d\" $R/etc/passwd")?;
    let done = repair(&image.path, &image.scratch, &["--create-user", "--prove"])?.expect(&[0])?;
    let document = done.json()?;
    ensure!(document.value["users"][0]["proof"]["verdict"] == "accept", "{}", done.transcript());
    ensure!(document.value["unmount"] == "clean", "{}", done.transcript());
    // What the repair may not touch, the login finds out.
    image.change("echo 'DenyUsers *' >$R/etc/ssh/sshd_config.d/a.conf")?;
    let done = repair(&image.path, &image.scratch, &["--prove"])?.expect(&[1])?.json()?;
    ensure!(done.value["users"][0]["proof"]["verdict"] == "refuse", "{}", done.transcript());
    image.check()
}

/// With a key made for the login, all but the key itself is proved; where no file of keys exists nothing is added.
fn made_key() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("printf 'ssh-ed25519 glued' >$A")?;
    ensure!(prove(&tree.path, USER, &[])?.verdict()? == "accept", "the last line has no end");
    tree.change("rm $A")?;
    ensure!(prove(&tree.path, USER, &[])?.verdict()? == "refuse", "there is no file of keys");
    Ok(())
}

fn another_architecture() -> Result<()> {
    let tree = Tree::healthy()?;
    // e_machine: 183 is aarch64.
    tree.change("printf '\\267\\000' | dd of=$R/usr/sbin/sshd bs=1 seek=18 conv=notrunc status=none")?;
    let run = volrescue(&["prove", "--json", "--user", USER, &tree.path.to_string_lossy()])?.expect(&[3])?;
    let document = run.json()?;
    let message = document.value["error"]["message"].to_string();
    ensure!(message.contains("aarch64"), "{}", run.transcript());
    Ok(())
}

fn useless_keys() -> Result<()> {
    let tree = Tree::healthy()?;
    let scratch = Scratch::new()?;
    let public = crate::kit::public_key()?;
    let locked = scratch.join("locked");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "secret", "-f"])
        .arg(&locked)
        .stdin(Stdio::null())
        .status()?;
    ensure!(made.success());
    for (file, word) in [(&public, "no private key"), (&locked, "encrypted"), (&scratch.join("none"), "read")]
    {
        let arguments: Vec<&OsStr> = vec![
            "prove".as_ref(),
            "--user".as_ref(),
            USER.as_ref(),
            "--key".as_ref(),
            file.as_os_str(),
            tree.path.as_os_str(),
        ];
        let run = volrescue(&arguments)?.expect(&[2])?;
        ensure!(run.stderr.contains(word), "{}", run.transcript());
    }
    Ok(())
}

/// An sshd of an intruder's, as root inside.
const ATTACK: &str = r#"#!/bin/bash
exec >/dev/null
mark=volrescue-was-here
for place in /proc/1/root /proc/1/cwd /proc/self/root/.. /proc/*/root; do
    echo x >"$place/tmp/$mark"
done
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do
    [ ! -e "$file" ] || { echo "reaches $file" >&2; echo "|/tmp/$mark" >"$file"; }
done
for fd in /proc/self/fd/*; do
    echo x >"$fd/../../../../../../tmp/$mark"
done
( exec 3<>/dev/tcp/127.0.0.1/$HELPER_PORT && echo "reaches the helper's port" >&2 )
echo 'root:$6$saltsaltsalt$abcdefghijklmnopqrstuvwxyz0123456789:1' >&2
printf '\033]0;title\007' >&2
trap '' TERM HUP
sleep 4242 &
kill -9 1
kill -9 -1
"#;

fn attack() -> Result<()> {
    let tree = Tree::healthy()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let pattern = fs::read("/proc/sys/kernel/core_pattern")?;
    fs::write(tree.path.join("usr/sbin/sshd"), ATTACK.replace("$HELPER_PORT", &port.to_string()))?;
    let before = tree.manifest()?;
    let start = Instant::now();
    let options = ["--timeout", "5"].map(OsStr::new);
    let proved = prove(&tree.path, USER, &options)?;
    ensure!(proved.verdict()? == "refuse", "{}", proved.transcript());
    ensure!(start.elapsed() < Duration::from_secs(12), "it took {:?}", start.elapsed());
    ensure!(!Path::new("/tmp/volrescue-was-here").exists(), "it wrote to the helper");
    ensure!(fs::read("/proc/sys/kernel/core_pattern")? == pattern, "it changed the helper's kernel settings");
    let told = proved.transcript();
    ensure!(!told.contains("reaches "), "{told}");
    ensure!(!told.contains("saltsalt") && !told.contains('\u{1b}'), "{told}");
    let after = tree.manifest()?;
    ensure!(before.changes(&after).is_empty(), "the tree was changed");
    ensure!(sleepers("4242")? == 0, "a process is left");
    Ok(())
}

fn multiply() -> Result<()> {
    let tree = Tree::healthy()?;
    fs::write(
        tree.path.join("usr/sbin/sshd"),
        "#!/bin/bash\nfor n in {1..400}; do sleep 4343 & done\nsleep 4343\n",
    )?;
    let proved = prove(&tree.path, USER, &[])?;
    let ended = proved.value["users"][0]["proof"]["ended"].to_string();
    ensure!(ended.contains("processes"), "{}", proved.transcript());
    ensure!(sleepers("4343")? == 0, "a process is left");
    Ok(())
}

/// SIGKILL while a login hangs: within a second there is no process, no mount and no loop device.
fn killed() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("printf '#!/bin/bash\\nsleep 4444 & sleep 4444\\n' >$R/usr/sbin/sshd")?;
    let before = image.digest()?;
    let mut child = Command::new(program())
        .args(["prove", "--user", USER])
        .arg(&image.path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("running volrescue")?;
    let start = Instant::now();
    while sleepers("4444")? == 0 {
        ensure!(start.elapsed() < Duration::from_secs(20), "the login did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    let dead = Instant::now();
    loop {
        let left = (sleepers("4444")?, image.loops()?);
        if left == (0, String::new()) {
            break;
        }
        ensure!(dead.elapsed() < Duration::from_secs(1), "after a second there still is {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(image.digest()? == before, "the image was written");
    image.check()
}

/// Processes `sleep SECONDS` on this machine, in whatever namespace.
fn sleepers(seconds: &str) -> Result<usize> {
    let wanted = [b"sleep\0", seconds.as_bytes(), b"\0"].concat();
    let processes = fs::read_dir("/proc")?.flatten();
    Ok(processes
        .filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted))
        .count())
}
