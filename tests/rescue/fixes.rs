//! `repair --fix all --create-user` after everything that keeps a user out: the volume's own sshd accepts, or what is left
//! is named; a second run changes nothing, and undo brings back what was there.

use crate::kit::Scratch;
use crate::kit::program::{Document, diagnose, repair, volrescue};
use crate::kit::random::{Random, count};
use crate::kit::volume::Tree;
use crate::oracle::recipes;
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};

pub(crate) fn cases() -> Vec<Case> {
    let suites = std::env::var("VOLRESCUE_SUITES").unwrap_or_else(|_| "bookworm".into());
    let mut cases = Vec::new();
    for suite in suites.split(',').map(str::to_owned) {
        for recipe in
            recipes().into_iter().filter(|recipe| recipe.expected == "refuse" && recipe.login == "admin")
        {
            let tree = suite.clone();
            let name = format!("fixes::{suite}::{}", recipe.id);
            cases.push(Case::new(name, Needs::Root, move || mended(&tree, &[recipe.shell], recipe.id)));
        }
        for number in 1..=count("VOLRESCUE_FIXES", 20) {
            let tree = suite.clone();
            let name = format!("fixes::{suite}::composition-{number:03}");
            let seed = Random::seed_of(&name);
            cases.push(Case::new(name, Needs::Root, move || {
                let mut random = Random::seeded(seed);
                let recipes: Vec<_> = recipes()
                    .into_iter()
                    .filter(|recipe| recipe.login == "admin" && recipe.expected == "refuse")
                    .collect();
                let number = 2 + random.below(4);
                let chosen: Vec<_> =
                    random.some_of(number, recipes.len()).into_iter().map(|index| recipes[index]).collect();
                let ids = chosen.iter().map(|recipe| recipe.id).collect::<Vec<_>>().join(" ");
                let shells: Vec<_> = chosen.iter().map(|recipe| recipe.shell).collect();
                mended(&tree, &shells, &format!("seed {seed}: {ids}"))
            }));
        }
    }
    cases.push(Case::new("fixes::rules-of-tcp-wrappers", Needs::Root, tcp_wrappers));
    cases.push(Case::new("fixes::files-of-sudo", Needs::Root, files_of_sudo));
    cases
}

/// A rule for everything stays in force for the rest; sshd is let through by one line, undone with the run.
fn tcp_wrappers() -> Result<()> {
    const RULES: [&str; 5] = [
        "echo 'ALL: ALL' > $R/etc/hosts.deny",
        "printf 'ALL: \\\n ALL\n' > $R/etc/hosts.deny; echo 'ALL: 10.0.0.1' > $R/etc/hosts.allow",
        "echo 'sshd: ALL' > $R/etc/hosts.deny; rm -f $R/etc/hosts.allow",
        "echo 'sshd: ALL: deny' > $R/etc/hosts.allow",
        "printf '# mine\nALL EXCEPT cups: ALL' > $R/etc/hosts.deny; : > $R/etc/hosts.allow",
    ];
    for rule in RULES {
        mended("bookworm", &[rule], rule)?;
    }
    Ok(())
}

/// sudo itself says whether it works with its files.
fn files_of_sudo() -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = Tree::of("bookworm")?;
    let works = "chroot --userspec=1000:1000 --groups=27 $R /usr/bin/sudo -n true";
    tree.change(works)?;
    tree.change(
        "chown 1000 $R/etc/sudoers && chmod 666 $R/etc/sudoers.d/90-cloud-init-users && chmod 755 $R/usr/bin/sudo",
    )?;
    ensure!(tree.change(works).is_err(), "sudo still works");
    let done = repair(&tree.path, &scratch, &["--fix", "system"])?.expect(&[0])?.json()?;
    tree.change(works).with_context(|| done.transcript().to_string())?;
    let again = repair(&tree.path, &scratch, &["--fix", "system"])?.expect(&[0])?.json()?;
    ensure!(again.actions("changed").is_empty(), "{}", again.transcript());
    Ok(())
}

fn mended(suite: &str, recipes: &[&str], said: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = Tree::of(suite)?;
    for recipe in recipes {
        tree.try_change(recipe)?;
    }
    let before = tree.manifest()?;
    let options = ["--fix", "all", "--create-user"];
    let first = repair(&tree.path, &scratch, &options)?.expect(&[0, 1])?.json()?;
    let real = tree.login("admin")?;
    // A repair does not know the client's address.
    let now = diagnose(&tree.path, "admin")?;
    ensure!(
        now.verdict()? == real.word(),
        "{said}: sshd says {}\n{}\n{}",
        real.word(),
        first.transcript(),
        real.log
    );
    first.ensure_consistent()?;
    if first.verdict()? != "accept" {
        named(&first).with_context(|| said.to_owned())?;
    }
    let second = repair(&tree.path, &scratch, &options)?.expect(&[0, 1])?.json()?;
    ensure!(
        second.actions("changed").is_empty(),
        "{said}: a second run changes something\n{}",
        second.transcript()
    );
    if first.value["run"].is_string() {
        let state = scratch.join("state");
        let undo = [
            "undo".as_ref(),
            "--yes".as_ref(),
            "--state-dir".as_ref(),
            state.as_os_str(),
            first.run()?.as_ref(),
        ];
        volrescue(&undo)?.expect(&[0])?;
    }
    let after = tree.manifest()?;
    let differs = before.changes(&after);
    ensure!(differs.is_empty(), "{said}: undo does not bring back what was there: {differs:#?}");
    Ok(())
}

/// What is left is not what one of the classes mends.
fn named(document: &Document) -> Result<()> {
    const LEFT: &[&str] = &["nothing", "key"];
    for finding in document.value["users"][0]["findings"].as_array().into_iter().flatten() {
        let blocks = finding["severity"] == "blocks";
        let class = finding["fixed_by"].as_str().unwrap_or_default();
        ensure!(!blocks || LEFT.contains(&class), "{finding} is left\n{}", document.transcript());
    }
    Ok(())
}
