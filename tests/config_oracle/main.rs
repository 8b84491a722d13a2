//! The reading of sshd_config against real sshd: for each configuration, does `sshd -t` start, and is what
//! `sshd -T -C ...` prints what [`Config::effective`] says? By hand the traps, by a generator the rest.
//!
//! Needs root, mount namespaces, and a Debian tree with openssh-server: `VOLRESCUE_TREE`, else
//! `target/trees/bookworm`, which `scripts/prepare --trees` makes. Trees of Debian 11 and 13 beside it are asked too.
//! `VOLRESCUE_CONFIGS=N` sets the number of generated configurations, `VOLRESCUE_SEED=N` the first seed.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the tests prepare the tree from outside, run its sshd and tell how many configurations they held against it"
)]

mod cases;
mod compare;
mod lines;
mod tree;

use anyhow::{Context, Result, bail, ensure};
use cases::{Case, generated, traps};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let reason = cannot();
    let required = std::env::var_os("VOLRESCUE_ROOT_TESTS").is_some_and(|value| value == "require");
    let mut trials = Vec::new();
    for suite in ["bookworm", "bullseye", "trixie"] {
        let tree = tree_of(suite);
        // The other releases are asked where `scripts/prepare --all` has made them.
        if suite != "bookworm" && !tree.join("usr/sbin/sshd").exists() {
            continue;
        }
        for (name, cases) in [("traps", traps as fn() -> Vec<Case>), ("generated", generated)] {
            let tree = tree.clone();
            let reason_here = reason.clone().filter(|_| required);
            let trial = Trial::test(format!("{suite}_{name}_configurations_agree_with_sshd"), move || {
                if let Some(reason) = reason_here {
                    return Err(Failed::from(reason));
                }
                agree(&tree, name, &cases()).map_err(|error| Failed::from(format!("{error:#}")))
            });
            trials.push(trial.with_ignored_flag(reason.is_some() && !required));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Why the tests cannot be run here.
fn cannot() -> Option<String> {
    let unshare = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    (!unshare.is_ok_and(|status| status.success())).then(|| "needs root and mount namespaces".to_owned())
}

fn tree_of(suite: &str) -> PathBuf {
    let given = std::env::var_os("VOLRESCUE_TREE").filter(|_| suite == "bookworm");
    let trees = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../trees");
    given.map_or_else(|| trees.join(suite), PathBuf::from)
}

fn agree(tree: &Path, name: &str, cases: &[Case]) -> Result<()> {
    if !tree.join("usr/sbin/sshd").exists() {
        let prepare = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/prepare");
        let _ = Command::new(prepare).arg("--trees").stdin(Stdio::null()).output();
    }
    let tree = tree.canonicalize().with_context(|| {
        format!("no Debian tree at {}: run scripts/test, or set VOLRESCUE_TREE", tree.display())
    })?;
    let disagreements = compare::disagreements(&tree, cases)?;
    let (count, total) = (disagreements.len(), cases.len());
    if count > 0 {
        let shown: Vec<String> = disagreements.into_iter().take(40).collect();
        bail!("{count} disagreements in {total} configurations:\n\n{}", shown.join("\n\n"));
    }
    ensure!(total > 0, "no configuration was tried");
    println!("{}: {total} {name} configurations agree with sshd -T", tree.display());
    Ok(())
}
