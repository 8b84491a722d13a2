//! Breakages, alone and combined, on every filesystem in every partition table: before, real sshd and `diagnose` agree;
//! `repair`; after, real sshd accepts, the checker is content, nothing else has changed, a second repair has nothing to do,
//! and `undo` gives back what was there.

mod breakages;

use crate::kit::USER;
use crate::kit::manifest::Manifest;
use crate::kit::program::{Document, diagnose, repair, volrescue};
use crate::kit::random::{Random, count};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use breakages::{BREAKAGES, Breakage};
use std::path::Path;

pub(crate) fn cases() -> Vec<Case> {
    let combinations = count("VOLRESCUE_COMBINATIONS", 50);
    let alone = count("VOLRESCUE_ALONE", BREAKAGES.len());
    let mut cases = Vec::new();
    for breakage in BREAKAGES {
        cases.push(Case::new(format!("kit::{}-is-refused", breakage.name), Needs::Root, || {
            let tree = Tree::healthy()?;
            tree.change(breakage.recipe)?;
            let real = tree.login(USER)?;
            ensure!(!real.accepted, "sshd accepts all the same\n{}", real.log);
            Ok(())
        }));
    }
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        for table in [Table::None, Table::Gpt, Table::Mbr] {
            let cell = format!("matrix::{}-{}", filesystem.name(), table.name());
            cases.push(Case::new(
                format!("kit::{}-{}-is-healthy", filesystem.name(), table.name()),
                Needs::Loop,
                move || healthy(filesystem, table),
            ));
            for breakage in rotated(&cell, alone) {
                cases.push(Case::new(format!("{cell}::{}", breakage.name), Needs::Loop, move || {
                    round(filesystem, table, &[breakage])
                }));
            }
            for number in 1..=combinations {
                let name = format!("{cell}::combination-{number:02}");
                let seed = Random::seed_of(&name);
                cases.push(Case::new(name, Needs::Loop, move || combination(filesystem, table, seed)));
            }
        }
    }
    // The other tables and layouts, one combination each.
    let others = [
        (Filesystem::Ext4, Table::Gpt4096),
        (Filesystem::Xfs, Table::Gpt4096),
        (Filesystem::Ext4, Table::MbrExtended),
        (Filesystem::Btrfs, Table::MbrExtended),
        (Filesystem::BtrfsIn("@"), Table::Gpt),
        (Filesystem::BtrfsIn("root"), Table::Gpt),
        (Filesystem::BtrfsIn("@rootfs"), Table::Mbr),
        (Filesystem::BtrfsIn("@/.snapshots/1/snapshot"), Table::Gpt),
    ];
    for (filesystem, table) in others {
        cases.push(Case::new(
            format!("kit::{}-{}-is-healthy", filesystem.name(), table.name()),
            Needs::Loop,
            move || healthy(filesystem, table),
        ));
        let name = format!("matrix::{}-{}::combination-01", filesystem.name(), table.name());
        let seed = Random::seed_of(&name);
        cases.push(Case::new(name, Needs::Loop, move || combination(filesystem, table, seed)));
    }
    for number in 1..=count("VOLRESCUE_FRESH_COMBINATIONS", 6) {
        cases.push(Case::new(format!("matrix::fresh-combination-{number:02}"), Needs::Loop, || {
            let seed = Random::fresh_seed();
            let filesystem = [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs][(seed % 3) as usize];
            combination(filesystem, Table::Gpt, seed)
        }));
    }
    if let Ok(seed) = std::env::var("VOLRESCUE_COMBINATION_SEED") {
        for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
            let seed = seed.clone();
            cases.push(Case::new(format!("matrix::given-{}", filesystem.name()), Needs::Loop, move || {
                combination(filesystem, Table::Gpt, seed.parse().context("VOLRESCUE_COMBINATION_SEED")?)
            }));
        }
    }
    cases
}

/// The kit's own images are what they should be.
fn healthy(filesystem: Filesystem, table: Table) -> Result<()> {
    let image = Image::healthy(filesystem, table)?;
    let real = image.login(USER)?;
    ensure!(real.accepted, "sshd refuses\n{}", real.log);
    image.check()?;
    let manifest = image.manifest()?;
    ensure!(manifest.len() > 300, "only {} entries", manifest.len());
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    Ok(())
}

/// `number` breakages; fewer than all start elsewhere in each cell, so that the cells together still have them all.
fn rotated(cell: &str, number: usize) -> impl Iterator<Item = &'static Breakage> {
    let start = if number < BREAKAGES.len() { Random::seed_of(cell) as usize % BREAKAGES.len() } else { 0 };
    BREAKAGES.iter().cycle().skip(start).take(number.min(BREAKAGES.len()))
}

/// Two to six breakages, in the table's order.
fn combination(filesystem: Filesystem, table: Table, seed: u64) -> Result<()> {
    let mut random = Random::seeded(seed);
    let number = 2 + random.below(5);
    let mut indices = random.some_of(number, BREAKAGES.len());
    indices.sort_unstable();
    let chosen: Vec<_> = indices.into_iter().map(|index| &BREAKAGES[index]).collect();
    let names = chosen.iter().map(|breakage| breakage.name).collect::<Vec<_>>().join(", ");
    round(filesystem, table, &chosen)
        .with_context(|| format!("seed {seed} ({names}; repeat with VOLRESCUE_COMBINATION_SEED={seed})"))
}

fn round(filesystem: Filesystem, table: Table, breakages: &[&Breakage]) -> Result<()> {
    let image = Image::healthy(filesystem, table)?;
    for breakage in breakages {
        // Alone a recipe must work; after others it may find nothing left.
        let (before, after) =
            if breakages.len() > 1 { ("set +e; exec 2>/dev/null;", "|| true") } else { ("", "") };
        image.change(&format!("( {before} {} ) {after}", breakage.recipe))?;
    }
    let before = image.login(USER)?;
    let found = diagnose(&image.path, USER)?;
    ensure!(
        found.verdict()? == before.word(),
        "before: sshd says {}, we say {}\n{}\n{}",
        before.word(),
        found.verdict()?,
        found.transcript(),
        before.log
    );
    if let [breakage] = breakages {
        let checks = found.all_checks();
        ensure!(
            breakage.checks.is_empty() || breakage.checks.iter().any(|check| checks.contains(check)),
            "none of {:?} among the findings {checks:?}\n{}",
            breakage.checks,
            found.transcript()
        );
    }
    let was = image.manifest()?;

    let run = repair(&image.path, &image.scratch, &["--create-user"])?.expect(&[0])?;
    let document = run.json()?;
    ensure!(document.verdict()? == "accept", "after repair\n{}", run.transcript());
    ensure!(document.value["unmount"] == "clean", "unmount\n{}", run.transcript());
    ensure!(image.loops()?.is_empty(), "a loop device is left: {}", image.loops()?);
    let after = image.login(USER)?;
    ensure!(after.accepted, "repaired, but sshd refuses\n{}\n{}", run.transcript(), after.log);
    image.check()?;
    let is = image.manifest()?;
    only_what_the_actions_say(&was, &is, &document)?;

    let again = repair(&image.path, &image.scratch, &["--create-user"])?.expect(&[0])?;
    let changed = again.json()?.actions("changed").len();
    ensure!(changed == 0, "the second repair changed {changed}\n{}", again.transcript());
    let still = image.manifest()?;
    ensure!(is == still, "the second repair changed {:#?}\n{}", is.changes(&still), again.transcript());

    if document.actions("changed").is_empty() {
        return Ok(());
    }
    let state = image.scratch.join("state");
    let undo = volrescue(&[
        "undo".as_ref(),
        "--yes".as_ref(),
        "--json".as_ref(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        "--target".as_ref(),
        image.path.as_os_str(),
        document.run()?.as_ref(),
    ])?
    .expect(&[0])?;
    let back = image.manifest()?;
    ensure!(was == back, "undo left {:#?}\n{}\n{}", was.changes(&back), run.transcript(), undo.transcript());
    image.check()
}

/// Whatever differs lies at the path of an action, or below one that took a tree.
fn only_what_the_actions_say(was: &Manifest, is: &Manifest, document: &Document) -> Result<()> {
    ensure!(was.len() > 300, "the manifest has only {} entries", was.len());
    let actions = document.actions("changed");
    let named = |path: &Path| {
        actions.iter().any(|(word, at)| path == *at || *word == "chown-tree" && path.starts_with(at))
    };
    let unnamed: Vec<_> = was.changes(is).into_iter().filter(|(path, _)| !named(path)).collect();
    ensure!(unnamed.is_empty(), "changed without an action: {unnamed:#?}\n{}", document.transcript());
    Ok(())
}
