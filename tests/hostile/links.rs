//! Every path that we touch, and in its place a link of every kind, or what must never be opened.

use crate::kit::{World, trees};
use crate::trees::{VARIABLES, all_commands};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;

/// The paths, and whether each is a directory.
const PATHS: &[(&str, bool)] = &[
    ("etc", true),
    ("etc/passwd", false),
    ("etc/passwd-", false),
    ("etc/shadow", false),
    ("etc/group", false),
    ("etc/gshadow", false),
    ("etc/ssh", true),
    ("etc/ssh/sshd_config", false),
    ("etc/ssh/sshd_config.d", true),
    ("etc/ssh/sshd_config.d/x.conf", false),
    ("etc/ssh/ssh_host_ed25519_key", false),
    ("etc/pam.d/sshd", false),
    ("etc/sudoers.d", true),
    ("etc/selinux", true),
    ("etc/selinux/config", false),
    ("etc/skel", true),
    ("etc/fstab", false),
    ("etc/nologin", false),
    ("etc/cloud/cloud.cfg", false),
    ("home", true),
    ("home/admin", true),
    ("home/admin/.ssh", true),
    ("home/admin/.ssh/authorized_keys", false),
    ("usr/sbin/sshd", false),
    ("usr/bin/bash", false),
    ("run/sshd", true),
    ("var", true),
];

/// What is put there: `$P` is the path, `$D` is set for a directory, `$N` its path in the volume.
const KINDS: &[(&str, &str)] = &[
    (
        "out-by-dots",
        "if [ \"$D\" ]; then ln -s ../../../../../../../../../../root $P; else ln -s ../../../../../../../../../../etc/hostname $P; fi",
    ),
    ("absolute", "if [ \"$D\" ]; then ln -s /root $P; else ln -s /etc/hostname $P; fi"),
    ("loop", "ln -s ${P##*/} $P"),
    ("magic", "ln -s /proc/self/root$N $P"),
    ("fifo", "mkfifo $P"),
    ("zero", "mknod $P c 1 5"),
    ("disk", "mknod $P b 7 0"),
    ("to-a-fifo", "mkfifo $R/fifo; ln -s /fifo $P"),
    ("to-a-device", "mknod $R/zero c 1 5; ln -s ../../../../zero $P"),
    ("turned", "if [ \"$D\" ]; then echo x >$P; else mkdir $P; fi"),
];

/// Path, kind, and what must be said of it: a check, the verdict, or words of the error.
const SAID: &str = include_str!("links.tsv");

pub(crate) fn cases() -> Vec<Case> {
    PATHS
        .iter()
        .map(|&(path, directory)| {
            Case::new(format!("link::{}", path.replace('/', "-")), Needs::Namespace, move || {
                one(path, directory)
            })
        })
        .collect()
}

fn one(path: &'static str, directory: bool) -> Result<()> {
    let slim = trees()?.join("bookworm-slim");
    let key = trees()?.join("login_key.pub");
    World::with(move |world| {
        let mut failed = Vec::new();
        for (kind, recipe) in KINDS {
            let says: Vec<String> = said()
                .get(&(path, *kind))
                .with_context(|| format!("links.tsv says nothing of {path} as {kind}"))?
                .split('|')
                .map(str::to_owned)
                .collect();
            let tree = world.tree(&slim)?;
            let flag = if directory { "yes" } else { "" };
            let recipe = format!(
                "{VARIABLES} N=/{path}; P=$R$N; D={flag}; mkdir -p ${{P%/*}}; rm -rf $P; {recipe}; chmod 777 $H 2>/dev/null || true"
            );
            world.script(&recipe, &[("T", &tree)])?;
            if let Err(error) = all_commands(world, &tree, &key, &says, &[]) {
                failed.push(format!("{kind}: {error:#}"));
            }
            world.script("rm -rf \"$T\" \"$T\"/../state", &[("T", &tree)])?;
        }
        if !failed.is_empty() {
            bail!("{path} as\n{}", failed.join("\n\n"));
        }
        Ok(())
    })
}

fn said() -> BTreeMap<(&'static str, &'static str), &'static str> {
    let lines = SAID.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            Some(((fields.next()?, fields.next()?), fields.next()?))
        })
        .collect()
}
