//! That a walk on ext4 reads inodes out of the table: a table that is never used gives the same answers, only slower.

use crate::kit::program::volrescue_under;
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{Scratch, USER, tool_path};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::fs;

/// In few directories: each costs a look of its own.
const FILES: usize = 4_000;

const RECIPE: &str = "for d in 1 2 3 4; do
        mkdir $H/many$d; (cd $H/many$d; seq 1000 | xargs touch); done
    chown -R $OWNER $H/many?";

pub(crate) fn cases() -> Vec<Case> {
    [("owners-are-right", "$I:$G"), ("owners-are-wrong", "0:0")]
        .map(|(name, owner)| {
            let recipe = RECIPE.replace("$OWNER", owner);
            Case::new(
                format!("inode-table::files-are-not-asked-for-one-by-one-where-{name}"),
                Needs::Loop,
                move || few_stats(&recipe),
            )
        })
        .into()
}

fn few_stats(recipe: &str) -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change(recipe)?;
    let scratch = Scratch::new()?;
    let (log, state) = (scratch.join("strace"), scratch.join("state"));
    let [log_path, state, target] = [&log, &state, &image.path].map(|path| path.to_str().context("path"));
    let (log_path, state, target) = (log_path?, state?, target?);
    let path = format!("PATH={}", tool_path());
    let wrapper = [
        "env",
        &path,
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=stat,lstat,statx,newfstatat",
        "-e",
        "signal=none",
        "-o",
        log_path,
    ];
    let run = volrescue_under(&wrapper, &["repair", "--yes", "--user", USER, "--state-dir", state, target])?
        .expect(&[0])?;
    let calls = fs::read_to_string(&log)?.lines().filter(|line| line.contains('(')).count();
    // None at all would be a trace that saw nothing.
    ensure!((1..FILES / 2).contains(&calls), "{calls} calls for {FILES} files\n{}", run.transcript());
    Ok(())
}
