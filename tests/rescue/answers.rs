//! What a report says besides the verdict: whom the key lets in, what an option will not do, what was kept and whose it
//! was, and each key and user apart.

use crate::kit::program::{Run, program, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER, public_key, script};
use crate::{Case, Needs};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

pub(crate) fn cases() -> Vec<Case> {
    type Trial = (&'static str, Needs, fn() -> Result<()>);
    let trials: &[Trial] = &[
        ("no-option-is-promised-that-would-refuse", Needs::Root, linked_passwd),
        ("a-wrong-user-name-is-answered-with-the-right-one", Needs::Root, wrong_name),
        ("a-former-id-of-the-user-is-called-so", Needs::Root, former_id),
        ("a-dry-run-says-what-it-would-lead-to", Needs::Root, dry_run),
        ("a-key-in-a-file-of-several-users-is-warned-of", Needs::Root, shared_file),
        ("several-keys-and-users-each-have-a-verdict", Needs::Root, several),
        ("a-key-comes-from-standard-input", Needs::Root, key_from_stdin),
        ("a-made-key-never-overwrites", Needs::Root, generated_key),
        ("several-targets-are-a-line-each", Needs::Root, several_targets),
        ("options-before-a-given-key-are-told-to-be-left-out", Needs::Root, options_before_the_key),
        ("a-change-that-cannot-be-told-is-a-failure", Needs::Root, untold_change),
        ("each-step-of-sshd-is-explained-with-its-line", Needs::Root, explained),
        ("undo-leaves-another-volume-untouched", Needs::Loop, undo_elsewhere),
    ];
    trials.iter().map(|&(name, needs, run)| Case::new(format!("answers::{name}"), needs, run)).collect()
}

fn diagnose(target: &Path, options: &[&str], keys: &[&Path]) -> Result<Run> {
    with_keys("diagnose", target, options, keys)
}

fn with_keys(command: &str, target: &Path, options: &[&str], keys: &[&Path]) -> Result<Run> {
    let mut arguments: Vec<&OsStr> = vec![command.as_ref(), "--json".as_ref()];
    arguments.extend(options.iter().map(OsStr::new));
    for key in keys {
        arguments.extend([OsStr::new("--key"), key.as_os_str()]);
    }
    arguments.push(target.as_os_str());
    volrescue(&arguments)
}

/// A new key pair of this trial's own; the path of its public half.
fn new_key(scratch: &Scratch) -> Result<std::path::PathBuf> {
    let file = scratch.join("new_key");
    script("ssh-keygen -q -t ed25519 -N '' -C new -f \"$F\"", &[("F", &file)])?;
    Ok(scratch.join("new_key.pub"))
}

fn explained() -> Result<()> {
    let tree = Tree::healthy()?;
    let key = public_key()?;
    let options = ["--explain", "--user", USER, "--from", "127.0.0.1"];
    let healthy = diagnose(&tree.path, &options, &[&key])?.expect(&[0])?.json()?;
    let steps = healthy.value["users"][0]["trace"].as_array().cloned().unwrap_or_default();
    ensure!(steps.iter().all(|step| step["passed"] == true), "{}", healthy.transcript());
    // In sshd's order: it starts, knows the user, takes the key from its line, asks PAM, opens a session.
    let order =
        ["host key", "the user", "PubkeyAuthentication", "the key line", "PAM account", "the session"];
    let at = |name: &str| {
        let step = |step: &Value| step["step"].as_str().is_some_and(|word| word.starts_with(name));
        steps.iter().position(step)
    };
    let places: Vec<Option<usize>> = order.iter().map(|name| at(name)).collect();
    ensure!(places.iter().all(Option::is_some) && places.is_sorted(), "{order:?} at {places:?}");
    let line = &steps[places[3].unwrap_or_default()];
    ensure!(
        line["file"] == "/home/admin/.ssh/authorized_keys" && line["line"] == 1 && line["column"] == 1,
        "{line}"
    );

    tree.change(
        "sed -i '1iDenyUsers bob ad* eve\\nPubkeyAuthentication true' $R/etc/ssh/sshd_config; \
         sed -i 's/^/no-pty,nosuch /' $R/home/admin/.ssh/authorized_keys",
    )?;
    let mut arguments: Vec<&OsStr> = vec!["diagnose".as_ref()];
    arguments.extend(options.iter().map(OsStr::new));
    arguments.extend([OsStr::new("--key"), key.as_os_str(), tree.path.as_os_str()]);
    let text = volrescue(&arguments)?.expect(&[1])?.stdout;
    let cited = [
        ("sshd_config:1:15", "DenyUsers bob ad* eve\n                        ^~~\n"),
        ("sshd_config:2:22", "PubkeyAuthentication true\n                               ^~~~\n"),
        ("line 1, column 8", "no-pty,nosuch ssh-ed25519"),
    ];
    for (place, quote) in cited {
        ensure!(text.contains(place) && text.contains(quote), "{place}: {quote}\n{text}");
    }
    let broken = diagnose(&tree.path, &options, &[&key])?.expect(&[1])?.json()?;
    let findings = broken.value["users"][0]["findings"].as_array().cloned().unwrap_or_default();
    let denied =
        findings.iter().find(|finding| finding["check"] == "denied-user").cloned().unwrap_or_default();
    ensure!(
        denied["column"] == 15 && denied["quote"]["from"] == 14 && denied["quote"]["to"] == 17,
        "{denied}"
    );
    Ok(())
}

fn linked_passwd() -> Result<()> {
    for file in ["passwd", "shadow"] {
        let tree = Tree::healthy()?;
        tree.change(&format!(
            "sed -i /^admin:/d $R/etc/passwd; mv $R/etc/{file} $R/etc/real; ln -s real $R/etc/{file}"
        ))?;
        let before = tree.manifest()?;
        let run = diagnose(&tree.path, &["--user", USER], &[])?.expect(&[1])?;
        let document = run.json()?;
        let finding = document.value["users"][0]["findings"].as_array().into_iter().flatten();
        let finding = finding.clone().find(|finding| finding["check"] == "user-missing").cloned();
        let finding = finding.unwrap_or_default();
        ensure!(finding["fixed_by"] == "nothing", "it is promised\n{}", run.transcript());
        ensure!(
            finding["is"].as_str().is_some_and(|is| is.contains(&format!("/etc/{file} is a symbolic link"))),
            "the link is not named\n{}",
            run.transcript()
        );
        let scratch = Scratch::new()?;
        let run = repair(&tree.path, &scratch, &[])?.expect(&[1])?;
        let hint = run.json()?.value["error"]["hint"].as_str().unwrap_or_default().to_owned();
        ensure!(hint.contains("can't put the entry back"), "it is promised\n{}", run.transcript());
        let run = repair(&tree.path, &scratch, &["--create-user"])?.expect(&[3])?;
        ensure!(run.stdout.contains(&format!("/etc/{file}")), "the file is not named\n{}", run.transcript());
        let after = tree.manifest()?;
        ensure!(before == after, "changed: {:#?}", before.changes(&after));
    }
    Ok(())
}

fn wrong_name() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("rm -rf $R/root/.ssh")?;
    let key = public_key()?;
    let scratch = Scratch::new()?;
    let state = scratch.join("state").display().to_string();
    let options = ["--yes", "--user", "ec2-user", "--state-dir", &state];
    let run = with_keys("repair", &tree.path, &options, &[&key])?.expect(&[1])?;
    let document = run.json()?;
    ensure!(
        document.value["accepted_for"] == serde_json::json!([USER]),
        "accepted_for\n{}",
        run.transcript()
    );
    let hint = document.value["error"]["hint"].as_str().unwrap_or_default();
    ensure!(hint.contains("--user admin") && hint.contains("--create-user"), "{}", run.transcript());
    // Without a key there is nobody to name.
    let run = with_keys("repair", &tree.path, &options, &[])?.expect(&[1])?;
    ensure!(run.json()?.value["accepted_for"] == serde_json::json!([]), "{}", run.transcript());
    // Only who would accept every one of the keys.
    let other = new_key(&scratch)?;
    let run = diagnose(&tree.path, &["--user", "ec2-user"], &[&key, &other])?.expect(&[1])?;
    ensure!(run.json()?.value["accepted_for"] == serde_json::json!([]), "{}", run.transcript());
    // Not whom the question was about, and not whom the volume gives no shell.
    tree.change("sed 's/admin/second/g; s/1000/1007/g' $R/etc/passwd | grep ^second >>$R/etc/passwd; sed -i '/^second/s,/bin/bash,/usr/sbin/nologin,' $R/etc/passwd")?;
    let run = diagnose(&tree.path, &["--user", USER], &[&key])?.expect(&[0])?;
    ensure!(run.json()?.value["accepted_for"] == serde_json::json!([]), "{}", run.transcript());
    Ok(())
}

fn former_id() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change(
        "sed 's/^admin:x:1000:/admin:x:1005:/' $R/etc/passwd >$R/etc/passwd-
         mkdir $H/old $H/db; echo x >$H/old/file; chown -R 1005:1005 $H/old; chown 999:999 $H/db",
    )?;
    let scratch = Scratch::new()?;
    let run = repair(&tree.path, &scratch, &[])?.expect(&[0])?;
    let document = run.json()?;
    let of = |owner: u32| {
        document.value["kept"].as_array().into_iter().flatten().find(|kept| kept["owner"] == owner).cloned()
    };
    ensure!(
        of(1005).is_some_and(|kept| kept["entries"] == 2
            && kept["former"].as_str().is_some_and(|whose| whose.contains("admin, by /etc/passwd-"))),
        "the former id is not told\n{}",
        run.transcript()
    );
    ensure!(of(999).is_some_and(|kept| kept["former"] == Value::Null), "{}", run.transcript());
    repair(&tree.path, &scratch, &["--chown-from", "1005"])?.expect(&[0])?;
    let owners = tree.change("stat -c %u $H/old/file $H/db")?;
    ensure!(owners.split_whitespace().eq(["1000", "999"]), "{owners}");
    Ok(())
}

fn dry_run() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("chmod 777 $H")?;
    let said = |options: &[&str]| -> Result<Run> {
        let mut arguments = vec!["repair", "--dry-run", "--user", USER];
        arguments.extend(options);
        let path = tree.path.display().to_string();
        arguments.push(&path);
        volrescue(&arguments)?.expect(&[0, 1])
    };
    let run = said(&[])?;
    ensure!(run.stdout.contains("sshd would accept after this"), "{}", run.transcript());
    tree.change("echo 'DenyUsers admin' >>$C")?;
    let run = said(&[])?;
    ensure!(run.stdout.contains("sshd would still refuse after this"), "{}", run.transcript());
    Ok(())
}

fn shared_file() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("echo 'AuthorizedKeysFile /etc/ssh/keys' >$R/keys.conf; cat $R/keys.conf $C >$C.new; mv $C.new $C; rm $R/keys.conf; cp $A $R/etc/ssh/keys; chmod 644 $R/etc/ssh/keys")?;
    let scratch = Scratch::new()?;
    let state = scratch.join("state").display().to_string();
    let key = new_key(&scratch)?;
    for dry in [true, false] {
        let mut options = vec!["--yes", "--user", USER, "--state-dir", &state];
        options.extend(dry.then_some("--dry-run"));
        let run = with_keys("repair", &tree.path, &options, &[&key])?.expect(&[0, 1])?;
        let notes = run.json()?.value["notes"].to_string();
        ensure!(
            notes.contains("/etc/ssh/keys serves several users"),
            "no warning (dry run: {dry})\n{}",
            run.transcript()
        );
    }
    let mode = tree.change("stat -c '%a %u' $R/etc/ssh/keys; wc -l <$R/etc/ssh/keys")?;
    ensure!(mode.split_whitespace().eq(["644", "0", "2"]), "root's file stays root's: {mode}");
    Ok(())
}

fn several() -> Result<()> {
    let tree = Tree::healthy()?;
    let scratch = Scratch::new()?;
    let (known, new) = (public_key()?, new_key(&scratch)?);
    let users = ["--user", USER, "--user", "root", "--user", USER];
    let run = diagnose(&tree.path, &users, &[&known, &new, &known])?.expect(&[1])?;
    let document = run.json()?;
    let users = document.value["users"].as_array().cloned().unwrap_or_default();
    ensure!(users.len() == 2, "a user that is named twice is one user\n{}", run.transcript());
    for user in &users {
        let verdicts: Vec<_> =
            user["keys"].as_array().into_iter().flatten().map(|key| key["verdict"].clone()).collect();
        ensure!(verdicts == ["accept", "refuse"], "each key apart: {verdicts:?}\n{}", run.transcript());
        ensure!(user["verdict"] == "refuse", "only if all are\n{}", run.transcript());
    }
    // Every key goes to each.
    let state = scratch.join("state").display().to_string();
    let options = ["--yes", "--state-dir", &state, "--user", USER, "--user", "root"];
    let run = with_keys("repair", &tree.path, &options, &[&known, &new])?.expect(&[0])?;
    for user in run.json()?.value["users"].as_array().into_iter().flatten() {
        ensure!(
            user["verdict"] == "accept" && user["keys"][1]["verdict"] == "accept",
            "{}",
            run.transcript()
        );
    }
    // Nobody's key: one that is accepted is enough.
    diagnose(&tree.path, &["--user", USER], &[])?.expect(&[0])?;
    // One of two users missing: the other is served, and the exit status tells.
    let options = ["--yes", "--state-dir", &state, "--user", USER, "--user", "nobody-here"];
    let run = with_keys("repair", &tree.path, &options, &[&known])?.expect(&[1])?;
    let document = run.json()?;
    ensure!(document.value["users"][0]["verdict"] == "accept", "{}", run.transcript());
    ensure!(document.value["users"][1]["verdict"] == "refuse", "{}", run.transcript());
    Ok(())
}

fn key_from_stdin() -> Result<()> {
    let tree = Tree::healthy()?;
    let scratch = Scratch::new()?;
    let key = new_key(&scratch)?;
    let output = script(
        "set +e
         \"$V\" diagnose --user admin --key - \"$T\" <\"$K\" >/dev/null; echo $?
         \"$V\" repair --yes --user admin --state-dir \"$S\" --key - \"$T\" <\"$K\" >/dev/null; echo $?
         \"$V\" diagnose --user admin --key - \"$T\" <\"$K\" >/dev/null; echo $?
         \"$V\" diagnose --user admin --key - \"$T\" </dev/null 2>&1 >/dev/null; echo $?",
        &[("V", &program()), ("T", &tree.path), ("K", &key), ("S", &scratch.join("state"))],
    )?;
    let lines: Vec<&str> = output.lines().collect();
    ensure!(lines.starts_with(&["1", "0", "0"]), "{output}");
    ensure!(lines[3].contains("standard input") && output.trim_end().ends_with('2'), "{output}");
    Ok(())
}

fn generated_key() -> Result<()> {
    let tree = Tree::healthy()?;
    let before = tree.manifest()?;
    let scratch = Scratch::new()?;
    let state = scratch.join("state").display().to_string();
    let file = scratch.join("made");
    let made = file.display().to_string();
    fs::write(&file, "mine")?;
    for dry in [true, false] {
        let mut options = vec!["--yes", "--user", USER, "--state-dir", &state, "--generate-key", &made];
        options.extend(dry.then_some("--dry-run"));
        let run = with_keys("repair", &tree.path, &options, &[])?.expect(&[2])?;
        ensure!(
            run.json()?.value["error"]["message"].as_str().is_some_and(|m| m.contains(&made)),
            "{}",
            run.transcript()
        );
    }
    ensure!(fs::read(&file)? == b"mine", "the file was overwritten");
    fs::remove_file(&file)?;
    std::os::unix::fs::symlink("nowhere", &file)?;
    let options = ["--yes", "--user", USER, "--state-dir", &state, "--generate-key", &made];
    with_keys("repair", &tree.path, &options, &[])?.expect(&[2])?;
    ensure!(!scratch.join("nowhere").exists(), "a dangling link was written through");
    let after = tree.manifest()?;
    ensure!(before == after, "changed: {:#?}", before.changes(&after));
    fs::remove_file(&file)?;
    let run = with_keys("repair", &tree.path, &options, &[])?.expect(&[0])?;
    ensure!(!run.stdout.contains("PRIVATE") && !run.stderr.contains("PRIVATE"), "{}", run.transcript());
    let answer = script(
        "stat -c %a \"$F\"; ssh-keygen -y -f \"$F\" | cut -d' ' -f2 | xargs -I@ grep -c @ \"$T/home/admin/.ssh/authorized_keys\"",
        &[("F", &file), ("T", &tree.path)],
    )?;
    ensure!(answer.split_whitespace().eq(["600", "1"]), "{answer}");
    Ok(())
}

fn several_targets() -> Result<()> {
    let (healthy, broken) = (Tree::healthy()?, Tree::healthy()?);
    broken.change("chmod 777 $H")?;
    let lines = |targets: &[&Path], code: i32| -> Result<Vec<Value>> {
        let mut arguments: Vec<&OsStr> = ["diagnose", "--json", "--user", USER].map(OsStr::new).to_vec();
        arguments.extend(targets.iter().map(|target| target.as_os_str()));
        let run = volrescue(&arguments)?.expect(&[code])?;
        run.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    let missing = Path::new("/nonexistent/disk");
    let said = lines(&[&healthy.path, &broken.path], 1)?;
    ensure!(said.len() == 2 && said.iter().all(|one| one["schema"] == 1), "{said:?}");
    let said = lines(&[&healthy.path, missing, &broken.path], 3)?;
    ensure!(said.len() == 3, "{said:?}");
    let failed: Vec<&Value> = said.iter().filter(|one| one["error"]["code"] == 3).collect();
    ensure!(failed.len() == 1 && failed[0]["target"]["given"] == "/nonexistent/disk", "{said:?}");
    Ok(())
}

fn options_before_the_key() -> Result<()> {
    let tree = Tree::healthy()?;
    let scratch = Scratch::new()?;
    let key = new_key(&scratch)?;
    let bound = scratch.join("bound");
    fs::write(&bound, format!("from=\"192.0.2.1\",no-pty {}", fs::read_to_string(key)?))?;
    let state = scratch.join("state").display().to_string();
    let run = with_keys(
        "repair",
        &tree.path,
        &["--dry-run", "--user", USER, "--state-dir", &state],
        &[bound.as_path()],
    )?
    .expect(&[1])?;
    let document = run.json()?.value;
    let told = document["notes"].as_array().into_iter().flatten().any(|note| {
        let note = note.as_str().unwrap_or_default();
        note.contains("not taken") && note.contains("from=\"192.0.2.1\",no-pty")
    });
    ensure!(told, "{}", run.transcript());
    Ok(())
}

fn untold_change() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("chmod 777 $H")?;
    let scratch = Scratch::new()?;
    let output = script(
        "set +e
         \"$V\" repair --yes --json --user admin --state-dir \"$S\" \"$T\" >/dev/full 2>&1; echo $?
         \"$V\" repair --yes --json --user admin --state-dir \"$S\" \"$T\" >/dev/full 2>&1; echo $?",
        &[("V", &program()), ("T", &tree.path), ("S", &scratch.join("state"))],
    )?;
    // The second had nothing to change.
    ensure!(output == "5\n3\n", "{output}");
    Ok(())
}

fn undo_elsewhere() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    image.change("chmod 777 $H")?;
    let twin = image.scratch.join("twin.img");
    fs::copy(&image.path, &twin)?;
    let run = repair(&image.path, &image.scratch, &[])?.expect(&[0])?;
    let run_id = run.json()?.run()?.to_owned();
    let state = image.scratch.join("state").display().to_string();
    let other = Image::healthy(Filesystem::Xfs, Table::Gpt)?;
    let undo = |target: Option<&Path>, code: i32| -> Result<Run> {
        let mut arguments: Vec<&OsStr> = vec![
            "undo".as_ref(),
            "--yes".as_ref(),
            "--json".as_ref(),
            "--state-dir".as_ref(),
            state.as_ref(),
        ];
        if let Some(target) = target {
            arguments.extend([OsStr::new("--target"), target.as_os_str()]);
        }
        arguments.push(run_id.as_ref());
        volrescue(&arguments)?.expect(&[code])
    };
    // Another filesystem, even if it is named.
    let was = other.digest()?;
    let refused = undo(Some(&other.path), 3)?;
    ensure!(refused.stdout.contains("another volume"), "{}", refused.transcript());
    ensure!(other.digest()? == was, "another volume was written");
    // A twin in the place of the volume, unless it is named.
    fs::remove_file(&image.path)?;
    fs::rename(&twin, &image.path)?;
    let was = image.digest()?;
    let refused = undo(None, 4)?;
    ensure!(refused.stdout.contains("twin"), "{}", refused.transcript());
    ensure!(image.digest()? == was, "the twin was written");
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    Ok(())
}
