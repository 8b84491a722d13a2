//! What a hostile sshd can ask of the kernel inside `prove`, and that no moment of a SIGKILL leaves it running.

use crate::kit::program::{program, volrescue};
use crate::kit::random::{Random, count};
use crate::kit::volume::Tree;
use crate::kit::{Scratch, USER, script};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("prove::an-sshd-that-asks-the-kernel", Needs::Root, asks),
        Case::new("prove::killed-at-any-moment", Needs::Root, killed_at_any_moment),
    ]
}

/// Each thing that it gets it names after `GOT`.
const ASKS: &str = r#"
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    struct sched_param first = { 50 };
    fprintf(stderr, "asking\n");
    if (syscall(SYS_add_key, "user", "volrescue-test", "x", 1L, -4L) > 0) fprintf(stderr, "GOT a key\n");
    if (syscall(SYS_keyctl, 0L, -4L, 0L) > 0) fprintf(stderr, "GOT the keyring\n");
    if (!sched_setscheduler(0, SCHED_FIFO, &first)) fprintf(stderr, "GOT real time\n");
    if (memfd_create("m", 0) >= 0) fprintf(stderr, "GOT a memory file\n");
    if (shmget(IPC_PRIVATE, 4096, 0600) >= 0) fprintf(stderr, "GOT shared memory\n");
    if (!unshare(CLONE_NEWUSER)) fprintf(stderr, "GOT a user namespace\n");
    return 1;
}
"#;

/// It hangs, and leaves a child in a session of its own.
const HANGS: &str = "
#include <unistd.h>
int main(void) { if (!fork()) setsid(); for (;;) pause(); }
";

/// A tree whose sshd is this program.
fn tree_with(source: &str) -> Result<Tree> {
    let tree = Tree::healthy()?;
    let scratch = Scratch::new()?;
    let file = scratch.join("sshd.c");
    fs::write(&file, source)?;
    script(
        "cc -static -o \"$SSHD\" \"$SOURCE\"",
        &[("SSHD", &tree.path.join("usr/sbin/sshd")), ("SOURCE", &file)],
    )?;
    Ok(tree)
}

fn asks() -> Result<()> {
    let tree = tree_with(ASKS)?;
    let target = tree.path.to_str().context("the scratch path")?;
    let run = volrescue(&["prove", "--user", USER, target])?.expect(&[1])?;
    let told = run.transcript();
    ensure!(told.contains("asking") && !told.contains("GOT"), "{told}");
    Ok(())
}

fn killed_at_any_moment() -> Result<()> {
    let tree = tree_with(HANGS)?;
    let mut random = Random::seeded(Random::fresh_seed());
    for _ in 0..count("VOLRESCUE_KILLS", 40) {
        let mark = format!("VOLRESCUE_TEST_TREE={}\0", tree.path.display());
        let mut child = Command::new(program())
            .args(["prove", "--user", USER])
            .arg(&tree.path)
            .env("VOLRESCUE_TEST_TREE", &tree.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("running volrescue")?;
        let moment = Duration::from_millis(random.below(300) as u64);
        std::thread::sleep(moment);
        child.kill()?;
        child.wait()?;
        let dead = Instant::now();
        while let Some(left) = marked(mark.as_bytes())? {
            ensure!(
                dead.elapsed() < Duration::from_secs(1),
                "killed after {moment:?}, there still is {left}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// A process of the sandbox. sshd itself is given no environment, but it can't outlive the process 1 that has one.
fn marked(mark: &[u8]) -> Result<Option<String>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let of = |file: &str| fs::read(Path::new(&entry.path()).join(file)).unwrap_or_default();
        if of("environ").windows(mark.len()).any(|window| window == mark) {
            return Ok(Some(String::from_utf8_lossy(&of("cmdline")).replace('\0', " ")));
        }
    }
    Ok(None)
}
