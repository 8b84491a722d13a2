//! The command line's manners.

use crate::kit::Scratch;
use crate::kit::program::{program, repair, volrescue};
use crate::kit::volume::Tree;
use crate::{Case, Needs};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

pub(crate) fn cases() -> Vec<Case> {
    type Trial = (&'static str, Needs, fn() -> Result<()>);
    let trials: &[Trial] = &[
        ("help-fits-in-80-columns", Needs::Nothing, help_fits),
        ("help-names-every-option-of-the-contract", Needs::Nothing, help_names_options),
        ("checks-are-listed-by-unique-names", Needs::Nothing, checks_listed),
        ("list-is-one-json-document", Needs::Root, list_json),
        ("usage-errors-are-2-and-json-if-asked", Needs::Nothing, usage_errors),
        ("version-is-the-package's", Needs::Nothing, version),
        ("generated-files-are-those-in-the-repository", Needs::Nothing, generated),
        ("a-closed-pipe-is-no-error", Needs::Nothing, closed_pipe),
        ("history-of-nothing-is-empty", Needs::Nothing, empty_history),
        ("what-is-kept-is-told-by-a-second-run-too", Needs::Root, kept_twice),
        ("one-target-is-one-target", Needs::Nothing, one_target),
        ("an-error-is-told-on-stderr-beside-json", Needs::Nothing, json_beside),
        ("an-empty-passwd-is-there", Needs::Nothing, empty_passwd),
        ("the-next-step-is-one-that-can-be-taken", Needs::Root, next_step),
    ];
    trials.iter().map(|&(name, needs, run)| Case::new(format!("cli::{name}"), needs, run)).collect()
}

const COMMANDS: &[&str] =
    &["list", "diagnose", "repair", "prove", "undo", "history", "shell", "checks", "userdata"];

fn help_fits() -> Result<()> {
    let mut ways = vec![vec!["--help"], vec!["-h"]];
    ways.extend(COMMANDS.iter().flat_map(|command| [vec![*command, "--help"], vec![*command, "-h"]]));
    for way in ways {
        let run = volrescue(&way)?.expect(&[0])?;
        ensure!(!run.stdout.contains('\u{1b}'), "colours in a pipe\n{}", run.transcript());
        for line in run.stdout.lines() {
            ensure!(line.chars().count() <= 80, "{way:?}: wider than 80 columns: {line}");
        }
    }
    Ok(())
}

fn help_names_options() -> Result<()> {
    let contract: &[(&str, &[&str])] = &[
        ("list", &["--json"]),
        (
            "diagnose",
            &[
                "--user",
                "--key",
                "--replay",
                "--report",
                "--with",
                "--partition",
                "--root",
                "--json",
                "--jobs",
                "--live",
            ],
        ),
        (
            "repair",
            &[
                "--user",
                "--key",
                "--generate-key",
                "--create-user",
                "--sudo",
                "--dry-run",
                "--minimal",
                "--chown",
                "--chown-from",
                "--fix",
                "--with",
                "--partition",
                "--root",
                "--fsck",
                "--prove",
                "--report",
                "--yes",
                "--json",
                "--state-dir",
                "--jobs",
                "--live",
            ],
        ),
        ("prove", &["--user"]),
        ("undo", &["--target", "--yes", "--state-dir"]),
        ("history", &["--json", "--state-dir"]),
    ];
    for (command, options) in contract {
        let run = volrescue(&[command, "--help"])?.expect(&[0])?;
        for option in *options {
            ensure!(run.stdout.contains(option), "{command} --help does not name {option}");
        }
    }
    Ok(())
}

fn checks_listed() -> Result<()> {
    let run = volrescue(&["checks"])?.expect(&[0])?;
    for name in ["home-writable-by-others", "key-absent", "user-missing", "host-keys-too-open"] {
        ensure!(run.stdout.contains(name), "{name} is not listed\n{}", run.transcript());
    }
    let run = volrescue(&["checks", "--json"])?.expect(&[0])?;
    let document = run.json()?;
    let checks = document.value["checks"].as_array().cloned().unwrap_or_default();
    let names: BTreeSet<_> =
        checks.iter().filter_map(|check| check["check"].as_str().or(check["name"].as_str())).collect();
    ensure!(
        checks.len() > 50 && names.len() == checks.len(),
        "{} checks, {} names",
        checks.len(),
        names.len()
    );
    Ok(())
}

fn list_json() -> Result<()> {
    volrescue(&["list", "--json"])?.expect(&[0])?.json()?;
    volrescue(&["list"])?.expect(&[0])?;
    Ok(())
}

fn usage_errors() -> Result<()> {
    for words in [
        &["frobnicate"][..],
        &[],
        &["diagnose"],
        &["repair", "--no-such-option", "x"],
        &["repair", "--sudo", "x"],
    ] {
        let run = volrescue(words)?.expect(&[2])?;
        ensure!(run.stdout.is_empty() && !run.stderr.is_empty(), "{}", run.transcript());
    }
    let run = volrescue(&["diagnose", "--json", "--no-such-option", "x"])?.expect(&[2])?;
    let document = run.json()?;
    ensure!(
        document.value["error"]["code"] == 2 && document.value["target"].is_null(),
        "{}",
        run.transcript()
    );
    Ok(())
}

/// `prove` and `shell` take one target, and say so.
fn one_target() -> Result<()> {
    for command in ["prove", "shell"] {
        let help = volrescue(&[command, "--help"])?.expect(&[0])?;
        ensure!(
            help.stdout.contains("<TARGET>") && !help.stdout.contains("<TARGET>..."),
            "{}",
            help.transcript()
        );
        ensure!(!help.stdout.contains("--jobs"), "{}", help.transcript());
        let mut words = vec![command, "--json", "/x", "/y"];
        if command == "prove" {
            words.extend(["--user", "u"]);
        }
        let run = volrescue(&words)?.expect(&[2])?;
        ensure!(run.json()?.value["error"]["message"].to_string().contains("/y"), "{}", run.transcript());
    }
    let help = volrescue(&["shell", "--help"])?.expect(&[0])?;
    ensure!(help.stdout.contains("Ends with 0"), "{}", help.transcript());
    Ok(())
}

/// Who sends JSON through a pipe sees why it failed; the document's message is what went wrong, its hint the way on.
fn json_beside() -> Result<()> {
    for (words, code, said) in [
        (&["diagnose", "--json", "/no/such/volume"][..], 3, "/no/such/volume"),
        (&["diagnose", "--json", "--jsn", "x"], 2, "--jsn"),
        (&["repair", "--json", "x"], 2, "--yes"),
        (&["undo", "--json", "--yes", "no-such-run", "--state-dir", "/nonexistent"], 3, "no-such-run"),
    ] {
        let run = volrescue(words)?.expect(&[code])?;
        let document = run.json()?;
        ensure!(document.value["error"]["code"] == code, "{}", run.transcript());
        ensure!(run.stderr.contains(said), "{}", run.transcript());
    }
    let run = volrescue(&["diagnose", "--json", "--jsn", "x"])?.expect(&[2])?;
    let error = run.json()?.value["error"].clone();
    ensure!(error["message"] == "unexpected argument '--jsn' found", "{}", run.transcript());
    ensure!(
        error["hint"] == "A similar argument exists: '--json'. See: volrescue diagnose --help",
        "{}",
        run.transcript()
    );
    Ok(())
}

fn empty_passwd() -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = scratch.join("tree");
    fs::create_dir_all(tree.join("etc"))?;
    let message = || -> Result<String> {
        let run = volrescue(&["diagnose".as_ref(), "--json".as_ref(), tree.as_os_str()])?.expect(&[2, 3])?;
        Ok(run.json()?.value["error"]["message"].to_string())
    };
    ensure!(message()?.contains("it has no etc/passwd"), "{}", message()?);
    fs::write(tree.join("etc/passwd"), "")?;
    ensure!(message()?.contains("accounts in etc, but no system"), "{}", message()?);
    fs::create_dir(tree.join("bin"))?;
    ensure!(!message()?.contains("passwd"), "{}", message()?);
    Ok(())
}

fn next_step() -> Result<()> {
    let scratch = Scratch::new()?;
    let state = scratch.join("state");
    let run = |tree: &Tree| {
        let words = ["repair", "--yes", "--user", "admin", "--from", "192.0.2.1", "--state-dir"]
            .map(std::ffi::OsStr::new);
        let last = [state.as_os_str(), tree.path.as_os_str()];
        volrescue(&[&words[..], &last[..]].concat())?.expect(&[1])
    };
    let tree = Tree::healthy()?;
    tree.change("echo 'DenyUsers admin' >>$R/etc/ssh/sshd_config")?;
    let said = run(&tree)?;
    ensure!(said.stdout.contains("mend what is left above"), "{}", said.transcript());
    let tree = Tree::healthy()?;
    tree.change("sed -i 's/^/from=\"198.51.100.7\" /' $A")?;
    let said = run(&tree)?;
    ensure!(
        said.stdout.contains("a decision") && !said.stdout.contains("mend what is left"),
        "{}",
        said.transcript()
    );
    Ok(())
}

fn version() -> Result<()> {
    let run = volrescue(&["--version"])?.expect(&[0])?;
    ensure!(run.stdout.trim() == concat!("volrescue ", env!("CARGO_PKG_VERSION")), "{}", run.transcript());
    Ok(())
}

fn generated() -> Result<()> {
    let scratch = crate::kit::Scratch::new()?;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/generated");
    for what in ["man", "completions"] {
        let made = scratch.join(what);
        fs::create_dir(&made)?;
        volrescue(&["generate".as_ref(), what.as_ref(), made.as_os_str()])?.expect(&[0])?;
        let names = |directory: &Path| -> Result<BTreeSet<_>> {
            Ok(fs::read_dir(directory)?.flatten().map(|entry| entry.file_name()).collect())
        };
        let here = kept.join(what);
        ensure!(
            names(&made)? == names(&here)?,
            "other {what} than in scripts/generated; run scripts/generate"
        );
        for name in names(&made)? {
            ensure!(
                fs::read(made.join(&name))? == fs::read(here.join(&name))?,
                "{} has drifted; run scripts/generate",
                name.display()
            );
        }
    }
    Ok(())
}

fn closed_pipe() -> Result<()> {
    let output = std::process::Command::new("sh")
        .args(["-c", "{ \"$1\" checks 2>&3; echo \"[$?]\" >&3; } 3>&2 | true", "sh"])
        .arg(program())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text.trim() == "[0]", "{text}");
    Ok(())
}

fn empty_history() -> Result<()> {
    let scratch = crate::kit::Scratch::new()?;
    let state = scratch.join("state");
    let run = volrescue(&["history".as_ref(), "--json".as_ref(), "--state-dir".as_ref(), state.as_os_str()])?
        .expect(&[0])?;
    run.json()?;
    Ok(())
}

fn kept_twice() -> Result<()> {
    let scratch = Scratch::new()?;
    let tree = Tree::healthy()?;
    tree.change("mkdir $H/db && touch $H/db/a $H/db/b && chown -R 999:999 $H/db && touch $H/mine && chown 0:0 $H/mine")?;
    let first = repair(&tree.path, &scratch, &[])?.expect(&[0])?.json()?;
    let second = repair(&tree.path, &scratch, &[])?.expect(&[0])?.json()?;
    ensure!(first.value["kept"][0]["entries"] == 3, "{}", first.transcript());
    ensure!(second.actions("changed").is_empty(), "{}", second.transcript());
    ensure!(second.value["kept"] == first.value["kept"], "{}", second.transcript());
    Ok(())
}
