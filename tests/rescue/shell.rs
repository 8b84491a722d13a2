//! `shell`: the volume is seen by the shell alone, is not written unless asked for, and all of it is gone with the shell, also
//! after a SIGKILL.

use crate::kit::Scratch;
use crate::kit::program::{Run, program};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        let name = filesystem.name();
        cases.push(Case::new(format!("shell::read-only-{name}"), Needs::Loop, move || read_only(filesystem)));
        cases.push(Case::new(format!("shell::writable-{name}"), Needs::Loop, move || writable(filesystem)));
        cases.push(Case::new(format!("shell::killed-{name}"), Needs::Loop, move || killed(filesystem)));
    }
    cases.push(Case::new("shell::directory", Needs::Root, directory));
    cases.push(Case::new("shell::terminal", Needs::Loop, terminal));
    cases.push(Case::new("shell::chroot", Needs::Loop, chroot));
    cases.push(Case::new("shell::chroot-writable", Needs::Loop, chroot_writable));
    cases.push(Case::new("shell::chroot-directory", Needs::Root, chroot_directory));
    cases.push(Case::new("shell::chroot-terminal", Needs::Loop, chroot_terminal));
    cases.push(Case::new("shell::stopped", Needs::Loop, stopped));
    cases
}

/// Runs the shell with these commands on its standard input.
fn shell(target: &Path, options: &[&str], commands: &str) -> Result<Run> {
    let program = program();
    let mut words: Vec<&OsStr> = vec![program.as_os_str(), OsStr::new("shell")];
    words.extend(options.iter().map(OsStr::new));
    words.push(target.as_os_str());
    crate::kit::program::run_with_input(&words, commands)
}

/// Processes that were started in the shell, by the environment that it gave them.
fn left_behind(image: &Image) -> Result<String> {
    let mut left = image.loops()?;
    let mark = format!("MARK={}\0", image.path.display());
    for entry in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.windows(mark.len()).any(|window| window == mark.as_bytes()) {
            left.push_str(&format!("process {}\n", entry.path().display()));
        }
    }
    Ok(left)
}

/// Commands that leave a process in the background, in a session of its own.
fn leave_one(image: &Image) -> String {
    format!("export MARK={}\nsetsid sleep 1000 </dev/null >/dev/null 2>&1 &\n", image.path.display())
}

fn read_only(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    let before = image.digest()?;
    let commands = format!(
        r#"{}
        cat "$VOLRESCUE_ROOT/etc/passwd"
        touch "$VOLRESCUE_ROOT/new" && echo WROTE
        "$VOLRESCUE_ROOT/usr/bin/env" echo RAN
        exit 7
        "#,
        leave_one(&image)
    );
    let run = shell(&image.path, &[], &commands)?.expect(&[0])?;
    ensure!(run.stdout.contains("admin:x:1000:"), "the volume is not seen\n{}", run.transcript());
    ensure!(
        !run.stdout.contains("WROTE") && !run.stdout.contains("RAN"),
        "not held back\n{}",
        run.transcript()
    );
    ensure!(run.stderr.contains("read-only"), "it does not say read-only\n{}", run.transcript());
    ensure!(left_behind(&image)?.is_empty(), "left: {}", left_behind(&image)?);
    ensure!(image.digest()? == before, "the image was written");
    let run = shell(&image.path, &["--json"], "echo $VOLRESCUE_ROOT")?.expect(&[0])?;
    let document = run.json()?;
    ensure!(
        document.value["command"] == "shell" && document.value["unmount"] == "clean",
        "{}",
        document.transcript()
    );
    image.check()
}

fn writable(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    let state = image.scratch.join("state");
    let options = ["--writable", "--state-dir", state.to_str().context("the scratch path")?];
    let commands = format!(
        "{}echo kept >$VOLRESCUE_ROOT/new\n{} diagnose {} >&2; echo other $?\n",
        leave_one(&image),
        program().display(),
        image.path.display()
    );
    let run = shell(&image.path, &options, &commands)?.expect(&[0])?;
    ensure!(run.stdout.contains("other 4"), "another run was not refused\n{}", run.transcript());
    ensure!(run.stderr.contains("WRITABLE"), "it does not say so\n{}", run.transcript());
    ensure!(left_behind(&image)?.is_empty(), "left: {}", left_behind(&image)?);
    ensure!(image.look("cat $R/new")?.trim() == "kept", "the change is lost\n{}", run.transcript());
    image.check()
}

fn killed(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    let state = image.scratch.join("state");
    let mut child = Command::new(program())
        .args(["shell", "--writable", "--state-dir"])
        .arg(&state)
        .arg(&image.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("running volrescue")?;
    let mut stdin = child.stdin.take().context("standard input")?;
    stdin.write_all(format!("{}echo ready\n", leave_one(&image)).as_bytes())?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("standard output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the shell said {line:?}");
    // It was started in the background.
    let mut tries = 0;
    while !left_behind(&image)?.contains("process") {
        ensure!(tries < 50, "the test's own process is not found");
        tries += 1;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    child.kill()?;
    child.wait()?;
    let dead = Instant::now();
    while !left_behind(&image)?.is_empty() {
        ensure!(dead.elapsed() < Duration::from_secs(1), "after a second: {}", left_behind(&image)?);
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stdin);
    image.check()
}

/// A signal to volrescue ends the shell, and the volume is let go in order.
fn stopped() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let mut child = Command::new(program())
        .arg("shell")
        .arg(&image.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("running volrescue")?;
    let mut stdin = child.stdin.take().context("standard input")?;
    stdin.write_all(format!("{}echo ready\n", leave_one(&image)).as_bytes())?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("standard output")?).read_line(&mut line)?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let code = child.wait()?.code();
    ensure!(code == Some(130), "it ended with {code:?}");
    ensure!(left_behind(&image)?.is_empty(), "left: {}", left_behind(&image)?);
    image.check()
}

fn directory() -> Result<()> {
    let tree = Tree::healthy()?;
    let run =
        shell(&tree.path, &[], "cat $VOLRESCUE_ROOT/etc/passwd; touch $VOLRESCUE_ROOT/new && echo WROTE")?
            .expect(&[0])?;
    ensure!(
        run.stdout.contains("admin:x:1000:") && !run.stdout.contains("WROTE"),
        "read-only\n{}",
        run.transcript()
    );
    ensure!(!tree.path.join("new").exists(), "the tree was written");
    let state = Scratch::new()?;
    let options = ["--writable", "--state-dir", state.path().to_str().context("the scratch path")?];
    let run = shell(&tree.path, &options, "echo kept >$VOLRESCUE_ROOT/new")?.expect(&[0])?;
    ensure!(fs::read_to_string(tree.path.join("new"))? == "kept\n", "writable\n{}", run.transcript());
    shell(Path::new("/"), &[], "echo never")?.expect(&[4]).map(drop)
}

/// On a terminal the shell has its job control, and the terminal is the caller's again afterwards.
fn terminal() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let line = format!(
        "SHELL=/bin/bash {} shell {}; read answer; echo \"back: $answer\"",
        program().display(),
        image.path.display()
    );
    let words = ["script", "--quiet", "--return", "--command", &line, "/dev/null"].map(OsStr::new);
    let input = "set -o | grep monitor\ntest -e $VOLRESCUE_ROOT/etc/passwd && echo se''en\nexit\nhello\n";
    let run = crate::kit::program::run_with_input(&words, input)?.expect(&[0])?;
    let said = run.stdout.replace('\r', "");
    ensure!(said.contains("seen") && said.contains("back: hello"), "{}", run.transcript());
    ensure!(
        said.lines().any(|line| line.contains("monitor ") && line.ends_with("on"))
            && !said.contains("no job control"),
        "no job control\n{}",
        run.transcript()
    );
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    Ok(())
}

/// The volume's own programs run, and have nothing of the helper.
fn chroot() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = image.digest()?;
    let commands = format!(
        r#"{}
        echo "shell $SHELL of $(id -u) at $PWD"
        ls -d /etc/passwd /proc/self/exe
        (: >/new) 2>/dev/null && echo WROTE
        (: >/tmp/new) && echo in memory
        ls /proc/1/root/ >/dev/null 2>&1 && echo REACHED
        cat /proc/1/environ >/dev/null 2>&1 && echo READ
        ls "{}" 2>/dev/null && echo SEEN
        while read -r name rest; do case $name in lo:|*'|'*) ;; *) echo "NETWORK $name";; esac; done 2>/dev/null </proc/net/dev
        (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null && echo CONNECTED
        kill -9 1; echo "still here"
        exit 7
        "#,
        leave_one(&image),
        image.path.display()
    );
    let run = shell(&image.path, &["--chroot"], &commands)?.expect(&[0])?;
    for words in ["shell /bin/bash of 0 at /\n", "/etc/passwd\n", "in memory\n", "still here\n"] {
        ensure!(run.stdout.contains(words), "{words:?} is not there\n{}", run.transcript());
    }
    for words in ["WROTE", "REACHED", "READ", "SEEN", "NETWORK", "CONNECTED"] {
        ensure!(!run.stdout.contains(words), "{words}\n{}", run.transcript());
    }
    let said = run.said();
    for words in ["THE VOLUME'S OWN PROGRAMS RUN NOW", "read-only"] {
        ensure!(said.contains(words), "{words:?} is not said\n{}", run.transcript());
    }
    ensure!(left_behind(&image)?.is_empty(), "left: {}", left_behind(&image)?);
    ensure!(image.digest()? == before, "the image was written");
    let document = shell(&image.path, &["--json"], "exit 7")?.expect(&[0])?.json()?;
    ensure!(document.value["shell_status"] == 7, "{}", document.transcript());
    image.check()
}

fn chroot_writable() -> Result<()> {
    let image = Image::healthy(Filesystem::Xfs, Table::None)?;
    let state = image.scratch.join("state");
    let options = ["--chroot", "--writable", "--state-dir", state.to_str().context("the scratch path")?];
    let run = shell(&image.path, &options, "echo kept >/new; ls -l /new")?.expect(&[0])?;
    ensure!(run.stderr.contains("WRITABLE"), "it does not say so\n{}", run.transcript());
    ensure!(image.look("cat $R/new")?.trim() == "kept", "the change is lost\n{}", run.transcript());
    // Set-user-id bits of the volume have no effect, and nothing of ours stays in its /dev or /proc.
    ensure!(image.look("ls $R/dev $R/proc $R/run | grep -e null -e '^1$' || echo none")?.trim() == "none");
    // A volume without a shell of its own says so.
    image.change("rm -f $R/usr/bin/bash $R/usr/bin/sh $R/bin/bash $R/bin/sh")?;
    let run = shell(&image.path, &["--chroot"], "echo never")?.expect(&[3])?;
    ensure!(run.said().contains("neither /bin/bash nor /bin/sh"), "{}", run.transcript());
    image.check()
}

fn chroot_directory() -> Result<()> {
    let tree = Tree::healthy()?;
    let run = shell(&tree.path, &["--chroot"], "id -u; ls -d /etc/passwd; (: >/new) && echo WROTE")?
        .expect(&[0])?;
    ensure!(
        run.stdout.starts_with("0\n/etc/passwd\n") && !run.stdout.contains("WROTE"),
        "{}",
        run.transcript()
    );
    ensure!(!tree.path.join("new").exists(), "the tree was written");
    Ok(())
}

/// A program of the volume shares the operator's terminal, and can't type on it.
fn chroot_terminal() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    let source = r#"#include <stdio.h>
        #include <string.h>
        #include <errno.h>
        #include <sys/ioctl.h>
        int main(void) { for (const char *c = "echo TYPED\n"; *c; c++)
            if (ioctl(0, TIOCSTI, c)) return puts(errno == EPERM ? "kept from it" : strerror(errno)), 1; return 0; }"#;
    let c = image.scratch.join("type.c");
    fs::write(&c, source)?;
    image.change(&format!("cc -static -o $R/usr/bin/type-it {}", c.display()))?;
    let line = format!("{} shell --chroot {}", program().display(), image.path.display());
    let words = ["script", "--quiet", "--return", "--command", &line, "/dev/null"].map(OsStr::new);
    let run = crate::kit::program::run_with_input(&words, "set -o\ntype-it\nexit\n")?.expect(&[0])?;
    let said = run.stdout.replace('\r', "");
    ensure!(said.contains("kept from it") && !said.contains("\nTYPED"), "{}", run.transcript());
    ensure!(
        said.lines().any(|line| line.contains("monitor ") && line.ends_with("on")),
        "{}",
        run.transcript()
    );
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    Ok(())
}
