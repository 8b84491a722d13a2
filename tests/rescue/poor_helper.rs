//! A helper machine that lacks something: said at once, with what to do, and nothing is written.

use crate::kit::program::volrescue_under;
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER, tool_path};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;

/// What is lacking, as a fault that strace puts into the system call, and the words that name it.
const LACKS: &[(&str, &[&str], &[&str])] = &[
    ("openat2", &["-e", "inject=openat2:error=ENOSYS"], &["openat2", "5.6"]),
    ("mount-namespaces", &["-e", "inject=unshare:error=EPERM"], &["mount namespace", "--privileged"]),
    (
        "loop-devices",
        &["-P", "/dev/loop-control", "-e", "inject=openat:error=ENOENT"],
        &["loop device", "modprobe loop"],
    ),
];

/// Runs what follows in a copy-on-write view of this machine that has none of the directories to mount on.
const NOWHERE: &str = "
    mount -t tmpfs tmpfs /mnt; mkdir /mnt/upper /mnt/work /mnt/view
    mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/view
    for point in dev proc sys; do mount --rbind /$point /mnt/view/$point; done
    (cd /mnt/view; rm -rf mnt media srv opt run tmp)
    exec chroot /mnt/view \"$@\"";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = LACKS
        .iter()
        .map(|&(name, fault, words)| {
            Case::new(format!("poor-helper::no-{name}"), Needs::Loop, move || {
                untouched(&under_fault(fault), words)
            })
        })
        .collect();
    let (_, fault, words) = LACKS[0];
    cases.push(Case::new("poor-helper::no-openat2-for-a-directory", Needs::Root, move || {
        let tree = Tree::healthy()?;
        refused(&tree.path, &under_fault(fault), words)
    }));
    cases.push(Case::new("poor-helper::no-directory-to-mount-on", Needs::Loop, || {
        let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", NOWHERE, "sh"];
        untouched(&wrapper, &["no directory to mount on", "/mnt"])
    }));
    cases
}

fn under_fault<'a>(fault: &[&'a str]) -> Vec<&'a str> {
    ["strace", "-f", "-o", "/dev/null"].iter().chain(fault).copied().collect()
}

fn untouched(wrapper: &[&str], words: &[&str]) -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let before = fs::read(&image.path)?;
    refused(&image.path, wrapper, words)?;
    ensure!(fs::read(&image.path)? == before, "the image was written");
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    Ok(())
}

fn refused(target: &Path, wrapper: &[&str], words: &[&str]) -> Result<()> {
    let scratch = Scratch::new()?;
    let state = scratch.join("state");
    let (target, state) = (target.to_str().context("path")?, state.to_str().context("path")?);
    let path = format!("PATH={}", tool_path());
    let wrapper: Vec<&str> = ["env", path.as_str()].iter().chain(wrapper).copied().collect();
    for command in [
        &["diagnose", "--user", USER, target][..],
        &["repair", "--yes", "--user", USER, "--state-dir", state, target],
    ] {
        let run = volrescue_under(&wrapper, command)?.expect(&[3])?;
        let told = run.said();
        for word in words {
            ensure!(told.contains(word), "{word:?} is not said\n{}", run.transcript());
        }
        let with_json: Vec<&str> = command.iter().copied().chain(["--json"]).collect();
        let run = volrescue_under(&wrapper, &with_json)?.expect(&[3])?;
        ensure!(run.json()?.value["error"]["code"] == 3, "error.code\n{}", run.transcript());
    }
    Ok(())
}
