//! SELinux labels after a repair: on a volume that setfiles(8) labelled with a policy of Debian's, setfiles then finds
//! nothing to change, and undo brings back the labels that were there.

use crate::kit::Scratch;
use crate::kit::program::{repair, volrescue};
use crate::kit::volume::Tree;
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is broken, and the options that mend it.
const BREAKAGES: &[(&str, &str, &[&str])] = &[
    ("nothing", "true", &[]),
    ("ssh-directory", "setfattr -n security.selinux -v system_u:object_r:user_home_t:s0 $H/.ssh", &[]),
    ("no-labels-on-the-way", "setfattr -x security.selinux $A; setfattr -x security.selinux $H", &[]),
    (
        "account-files",
        "setfattr -x security.selinux $R/etc/passwd; setfattr -x security.selinux $R/etc/shadow",
        &[],
    ),
    ("not-a-context", "setfattr -n security.selinux -v nonsense $A", &[]),
    ("ssh-missing", "rm -r $H/.ssh", &[]),
    ("home-missing", "rm -r $H", &[]),
    (
        "user-missing",
        "sed -i /^$U:/d $R/etc/passwd $R/etc/shadow; ! getfattr -n security.selinux $R/etc/passwd 2>/dev/null",
        &["--create-user"],
    ),
    ("config-missing", "rm $R/etc/ssh/sshd_config", &["--fix", "all"]),
    ("host-keys-missing", "rm $R/etc/ssh/ssh_host_*", &["--fix", "host-keys"]),
    (
        "whole-home",
        "mkdir -p $H/a/b && touch $H/a/b/c && ln -s c $H/a/b/l && mkfifo $H/p",
        &["--fix", "system"],
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let each = |policy: &'static str| {
        BREAKAGES.iter().map(move |(name, recipe, options)| {
            let name = format!("labels::{policy}::{name}");
            Case::new(name, Needs::Root, move || labelled(policy, recipe, options))
        })
    };
    each("default").chain(each("mls")).collect()
}

/// Where `scripts/prepare --policies` puts them.
fn policies() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/prepare");
    let made = Command::new(script).arg("--policies").env("CARGO_TARGET_DIR", target).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(target.join("policies"))
}

fn labelled(policy: &str, recipe: &str, options: &[&str]) -> Result<()> {
    let (scratch, tree) = (Scratch::new()?, Tree::healthy()?);
    let etc = policies()?.join(format!("bookworm-{policy}")).join("etc/selinux");
    tree.change(&format!(
        "cp -a {} $R/etc/ && printf 'SELINUX=enforcing\\nSELINUXTYPE={policy}\\n' >$R/etc/selinux/config",
        etc.display()
    ))?;
    let contexts = format!("$R/etc/selinux/{policy}/contexts/files/file_contexts");
    tree.change(&format!("setfiles -F -r $R {contexts} $R"))?;
    tree.change(recipe)?;
    let labels = || tree.change("cd $R && getfattr -hR -m security.selinux -d . | sort");
    let before = labels()?;
    let done = repair(&tree.path, &scratch, options)?.expect(&[0])?.json()?;
    let left = tree.change(&format!("setfiles -n -v -r $R {contexts} $R"))?;
    ensure!(left.is_empty(), "{left}\n{}", done.transcript());
    if let Ok(run) = done.run() {
        let state = scratch.join("state");
        let undo =
            ["undo".as_ref(), "--yes".as_ref(), "--state-dir".as_ref(), state.as_os_str(), run.as_ref()];
        volrescue(&undo)?.expect(&[0])?;
        ensure!(labels()? == before, "undo left other labels\n{}", done.transcript());
    }
    Ok(())
}
