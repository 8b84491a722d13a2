//! The verdict is sshd's: every recipe of the table, and random compositions of them, on a Debian tree, judged by its
//! sshd and by `diagnose`.

use crate::kit::program::diagnose;
use crate::kit::random::{Random, count};
use crate::kit::volume::Tree;
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};

const TABLE: &str = include_str!("kit/recipes.tsv");

#[derive(Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) id: &'static str,
    pub(crate) login: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) shell: &'static str,
}

pub(crate) fn recipes() -> Vec<Recipe> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.splitn(4, '\t');
            let (id, login, expected, shell) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(Recipe { id, login, expected: expected.split(' ').next()?, shell })
        })
        .collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let suites = std::env::var("VOLRESCUE_SUITES").unwrap_or_else(|_| "bookworm".into());
    let fixed = count("VOLRESCUE_COMPOSITIONS", 40);
    let fresh = count("VOLRESCUE_FRESH_COMPOSITIONS", 10);
    let mut cases = Vec::new();
    for suite in suites.split(',').map(str::to_owned) {
        for recipe in recipes() {
            let tree = suite.clone();
            let name = format!("oracle::{suite}::{}", recipe.id);
            cases.push(Case::new(name, Needs::Root, move || one(&tree, recipe)));
        }
        for number in 1..=fixed {
            let tree = suite.clone();
            let name = format!("oracle::{suite}::composition-{number:03}");
            let seed = Random::seed_of(&name);
            cases.push(Case::new(name, Needs::Root, move || composition(&tree, seed)));
        }
        for number in 1..=fresh {
            let tree = suite.clone();
            let name = format!("oracle::{suite}::fresh-composition-{number:03}");
            cases.push(Case::new(name, Needs::Root, move || composition(&tree, Random::fresh_seed())));
        }
        if let Ok(seed) = std::env::var("VOLRESCUE_COMPOSITION_SEED") {
            cases.push(Case::new(format!("oracle::{suite}::given-composition"), Needs::Root, move || {
                composition(&suite, seed.parse().context("VOLRESCUE_COMPOSITION_SEED")?)
            }));
        }
    }
    cases
}

fn one(suite: &str, recipe: Recipe) -> Result<()> {
    let tree = Tree::of(suite)?;
    tree.change(recipe.shell)?;
    let real = tree.login(recipe.login)?;
    ensure!(
        real.word() == recipe.expected,
        "sshd says {}, the table {}: the kit is wrong\n{}",
        real.word(),
        recipe.expected,
        real.log
    );
    let ours = diagnose(&tree.path, recipe.login)?;
    let verdict = ours.verdict()?;
    ensure!(
        verdict == real.word(),
        "sshd says {}, we say {verdict} after: {}\n{}\n{}",
        real.word(),
        recipe.shell,
        ours.transcript(),
        real.log
    );
    Ok(())
}

/// Two to four recipes one after the other; a later one may find nothing left to break.
fn composition(suite: &str, seed: u64) -> Result<()> {
    let mut random = Random::seeded(seed);
    let recipes: Vec<_> = recipes().into_iter().filter(|recipe| recipe.login == "admin").collect();
    let number = 2 + random.below(3);
    let chosen: Vec<_> =
        random.some_of(number, recipes.len()).into_iter().map(|index| recipes[index]).collect();
    let ids = chosen.iter().map(|recipe| recipe.id).collect::<Vec<_>>().join(" ");
    let said = format!("seed {seed} ({ids}; repeat with VOLRESCUE_COMPOSITION_SEED={seed})");
    let tree = Tree::of(suite)?;
    for recipe in &chosen {
        tree.try_change(recipe.shell).with_context(|| said.clone())?;
    }
    let real = tree.login("admin").with_context(|| said.clone())?;
    let ours = diagnose(&tree.path, "admin").with_context(|| said.clone())?;
    ensure!(
        ours.verdict()? == real.word(),
        "{said}: sshd says {}, we say {}\n{}\n{}",
        real.word(),
        ours.verdict()?,
        ours.transcript(),
        real.log
    );
    Ok(())
}
