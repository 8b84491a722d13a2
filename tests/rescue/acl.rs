//! ACLs, inode flags, names and ownership: the finding says what it is, the repair changes the least, the rest stays.

use crate::kit::program::{Document, diagnose, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER, script};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("acl::mask-lets-others-write", Needs::Root, mask),
        Case::new("acl::entry-keeps-the-user-out", Needs::Root, entry),
        Case::new("acl::default-of-the-home-is-not-inherited", Needs::Root, inherited),
        Case::new("acl::default-of-the-directory-of-keys", Needs::Root, default_of_keys),
        Case::new("chown::side-by-side", Needs::Loop, side_by_side),
    ];
    for (name, filesystem) in
        [("ext4", Filesystem::Ext4), ("xfs", Filesystem::Xfs), ("btrfs", Filesystem::Btrfs)]
    {
        cases.push(Case::new(format!("flags::{name}"), Needs::Loop, move || flags(filesystem)));
    }
    const NAMES: [(&str, &[u8]); 5] = [
        ("newline", b"new\nline"),
        ("escape", b"\x1b[2J\x1b]0;x\x07"),
        ("bidi", "\u{202e}gnp\u{2066}\u{200b}".as_bytes()),
        ("not-utf-8", b"\xff\xfe\xc3\x28"),
        ("backslash", b"a\\xff\\\\b"),
    ];
    for (name, bytes) in NAMES {
        cases.push(Case::new(format!("names::{name}"), Needs::Root, move || named(bytes)));
    }
    cases
}

/// What a finding says that it is.
fn is(document: &Document, check: &str) -> Result<String> {
    let findings = document.value["users"][0]["findings"].as_array().context("findings")?;
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.with_context(|| format!("no {check}\n{}", document.transcript()))?;
    Ok(found["is"].as_str().unwrap_or_default().to_owned())
}

fn acl(tree: &Tree, path: &str) -> Result<String> {
    tree.change(&format!("getfacl -n -c -p \"{path}\""))
}

fn mask() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("chgrp 50 $H; setfacl -m u:33:rwx,u:34:r-x $H")?;
    ensure!(!tree.login(USER)?.accepted, "sshd accepts a home that others can write");
    let found = diagnose(&tree.path, USER)?;
    ensure!(
        is(&found, "home-writable-by-others")?.ends_with("ACL mask rwx lets user:33:rwx write"),
        "{}",
        found.transcript()
    );
    let scratch = Scratch::new()?;
    repair(&tree.path, &scratch, &["--minimal"])?.expect(&[0])?;
    let after = acl(&tree, "$H")?;
    ensure!(
        after.contains("user:33:rwx") && after.contains("user:34:r-x") && after.contains("mask::r-x"),
        "{after}"
    );
    ensure!(tree.login(USER)?.accepted, "sshd refuses after the repair");
    Ok(())
}

fn entry() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("setfacl -m u:1000:---,u:33:rwx,m::r-x $R/home")?;
    ensure!(!tree.login(USER)?.accepted, "sshd accepts a user who cannot pass");
    let found = diagnose(&tree.path, USER)?;
    ensure!(
        is(&found, "directory-not-searchable")?.ends_with("ACL entry user:1000:---"),
        "{}",
        found.transcript()
    );
    let scratch = Scratch::new()?;
    let run = repair(&tree.path, &scratch, &["--minimal"])?.expect(&[0])?;
    let document = run.json()?;
    ensure!(document.actions("changed").len() == 1, "more than the entry\n{}", run.transcript());
    let words = document.value["actions"][0]["to"].as_str().unwrap_or_default();
    ensure!(words.contains("user:1000:--x"), "{words}");
    let after = acl(&tree, "$R/home")?;
    for kept in ["user:33:rwx", "user:1000:--x", "mask::r-x", "group::r-x", "other::r-x"] {
        ensure!(after.contains(kept), "{kept} is not in\n{after}");
    }
    ensure!(tree.login(USER)?.accepted, "sshd refuses after the repair");
    Ok(())
}

fn inherited() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("setfacl -d -m u::rwx,g::rwx,o::rwx,u:33:rwx $H; rm -r $H/.ssh")?;
    let scratch = Scratch::new()?;
    repair(&tree.path, &scratch, &[])?.expect(&[0])?;
    let made = tree.change("stat -c %a $H/.ssh $A; getfacl -n -c -p $H/.ssh $A; getfacl -n -c -d -p $H")?;
    ensure!(made.starts_with("700\n600\n"), "{made}");
    ensure!(made.matches("user:33").count() == 1, "inherited, or lost from the home\n{made}");
    ensure!(tree.login(USER)?.accepted, "sshd refuses after the repair");
    Ok(())
}

fn default_of_keys() -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change("setfacl -d -m u::rwx,g::rwx,o::r-x,u:33:rwx $H/.ssh")?;
    let found = diagnose(&tree.path, USER)?;
    ensure!(found.verdict()? == "accept", "{}", found.transcript());
    ensure!(is(&found, "ssh-dir-default-acl")?.contains("user:33:rwx"), "{}", found.transcript());
    let scratch = Scratch::new()?;
    repair(&tree.path, &scratch, &[])?.expect(&[0])?;
    let after = tree.change(
        "getfacl -n -c -d -p $H/.ssh; echo x >$H/.ssh/new; stat -c 'mode %a' $H/.ssh/new; rm $H/.ssh/new",
    )?;
    ensure!(after.contains("user:33:rwx") && after.contains("mask::r-x"), "{after}");
    ensure!(after.contains("mode 644") || after.contains("mode 640"), "{after}");
    ensure!(!diagnose(&tree.path, USER)?.all_checks().contains("ssh-dir-default-acl"), "still found");
    Ok(())
}

/// Immutable and append-only on all that must change: lifted, changed, put back, and undone.
fn flags(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::None)?;
    image.change(
        "chmod 777 $H; chmod 666 $A; chown 0:0 $A $H/.ssh; echo x >$H/log; chown 0:0 $H/log
         chattr +i $A $H/.ssh; chattr +a $H $H/log; chattr +i $R/etc/ssh/sshd_config",
    )?;
    let before = image.manifest()?;
    let found = diagnose(&image.path, USER)?;
    ensure!(is(&found, "path-locked")?.contains("chattr +"), "{}", found.transcript());
    let run = repair(&image.path, &image.scratch, &[])?.expect(&[0])?;
    let flags = image.look("lsattr -d $A $H/.ssh $H $H/log | cut -d' ' -f1 | tr -cd 'ia\\n'")?;
    ensure!(flags == "i\ni\na\na\n", "the flags are {flags:?}\n{}", run.transcript());
    let owners = image.look("stat -c %u:%g:%a $A $H/.ssh $H $H/log")?;
    ensure!(owners == "1000:1000:600\n1000:1000:700\n1000:1000:700\n1000:1000:644\n", "{owners}");
    ensure!(image.login(USER)?.accepted, "sshd refuses after the repair");
    let state = image.scratch.join("state");
    let document = run.json()?;
    let undo: [&OsStr; 5] = [
        "undo".as_ref(),
        "--yes".as_ref(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        document.run()?.as_ref(),
    ];
    volrescue(&undo)?.expect(&[0])?;
    let after = image.manifest()?;
    let changes = before.changes(&after);
    ensure!(changes.is_empty(), "not put back: {changes:?}");
    image.check()
}

/// The bytes of a path as JSON has it: the documented escape taken back.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'\\', more @ ..]) => {
                out.push(b'\\');
                rest = more;
            }
            (b'\\', [b'x', high, low, more @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                out.push(u8::from_str_radix(digits, 16).unwrap_or(0));
                rest = more;
            }
            (byte, _) => out.push(*byte),
        }
    }
    out
}

/// A directory of keys with such a name: text, JSON and history say which it is, and drive no terminal.
fn named(bytes: &'static [u8]) -> Result<()> {
    let tree = Tree::healthy()?;
    let name = Path::new(OsStr::from_bytes(bytes));
    crate::kit::script_on_tree(
        "H=$ROOT/home/admin; mv $H/.ssh \"$H/$NAME\"; ln -s \"$NAME\" $H/.ssh; chmod 777 \"$H/$NAME\"",
        &[("ROOT", &tree.path), ("NAME", name)],
    )?;
    let path = [b"/home/admin/".as_slice(), bytes].concat();
    let names_it = |paths: &[&str]| paths.iter().any(|text| unescaped(text) == path);
    let found = diagnose(&tree.path, USER)?;
    let findings = found.value["users"][0]["findings"].as_array().context("findings")?;
    let paths: Vec<&str> = findings.iter().filter_map(|finding| finding["path"].as_str()).collect();
    ensure!(names_it(&paths), "{paths:?}");
    let scratch = Scratch::new()?;
    let run = repair(&tree.path, &scratch, &[])?.expect(&[0])?;
    let document = run.json()?;
    let actions = document.value["actions"].as_array().context("actions")?;
    let paths: Vec<&str> = actions.iter().filter_map(|action| action["path"].as_str()).collect();
    ensure!(names_it(&paths), "{paths:?}");
    let state = scratch.join("state");
    let of_history = |options: &[&str]| {
        let mut words: Vec<&OsStr> = vec!["history".as_ref(), "--state-dir".as_ref(), state.as_os_str()];
        words.extend(options.iter().map(OsStr::new));
        volrescue(&words)?.expect(&[0])
    };
    let id = document.run()?;
    let history = of_history(&[id, "--json"])?;
    let steps = history.json()?.value["steps"].as_array().cloned().unwrap_or_default();
    let paths: Vec<&str> = steps.iter().filter_map(|step| step["path"].as_str()).collect();
    ensure!(names_it(&paths), "{paths:?}\n{}", history.transcript());
    let text = volrescue(&["diagnose".as_ref(), "--user".as_ref(), USER.as_ref(), tree.path.as_os_str()])?;
    for shown in [&text, &of_history(&[id])?, &of_history(&[])?, &run, &history] {
        for output in [&shown.stdout, &shown.stderr] {
            let drives = |c: char| {
                c.is_control() && c != '\n'
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            ensure!(!output.contains(drives), "{:?}", shown.transcript());
        }
    }
    Ok(())
}

/// A home with what a plain `chown -R` spoils.
const FURNISHED: &str = "
    cp $R/bin/bash $H/setid; chown 0:0 $H/setid; chmod 4755 $H/setid
    cp $R/bin/bash $H/capable; chown 0:0 $H/capable; setcap cap_net_bind_service+ep $H/capable
    echo x >$H/shared; chown 0:0 $H/shared; chmod 640 $H/shared; setfacl -m u:33:rw-,m::r-- $H/shared
    mkdir $H/database; echo x >$H/database/row; chown -R 999:999 $H/database
    echo x >$R/srv/outside; chown 0:0 $R/srv/outside; ln $R/srv/outside $H/inside
    echo x >$R/srv/theirs; chown 999:999 $R/srv/theirs; ln $R/srv/theirs $H/theirs
    mkdir -m 2770 $H/team; chown 0:0 $H/team; chmod 2770 $H/team; setfacl -m u:33:rwx -d -m u:33:rwx $H/team
    echo x >$R/srv/target; chown 7:7 $R/srv/target; ln -s /srv/target $H/link; chown -h 0:0 $H/link
    echo x >$H/frozen; chown 0:0 $H/frozen; chattr +i $H/frozen
    echo x >$H/right; chown 1000:1000 $H/right; touch -d '2020-01-01' $H/right $H/setid $H/capable $H/shared $H/team $H/database/row
    chown 0:0 $H";

/// One line a fact.
const FACTS: &str = "
    stat -c 'set-id %a %u' $H/setid; echo \"capability $(getcap $H/capable | sed 's/.* //')\"
    echo \"acl $(getfacl -n -c -p $H/shared | tr '\\n' ' ')\"
    echo \"default-acl $(stat -c '%a %u' $H/team) $(getfacl -n -c -p $H/team | tr '\\n' ' ')\"
    stat -c 'container %u' $H/database/row; stat -c 'outside %u' $R/srv/outside
    stat -c 'outside-of-another %u' $R/srv/theirs; stat -c 'target %u' $R/srv/target
    stat -c 'link %u' $H/link
    echo \"frozen $(stat -c %u $H/frozen) $(lsattr -d $H/frozen | cut -d' ' -f1 | tr -cd ia)\"
    echo \"mtimes $(stat -c %Y $H/setid $H/capable $H/shared $H/team $H/database/row | tr '\\n' ' ')\"; stat -c 'ctime-of-right %z' $H/right";

fn side_by_side() -> Result<()> {
    let ours = Image::healthy(Filesystem::Ext4, Table::None)?;
    ours.change(FURNISHED)?;
    let theirs = Image::healthy(Filesystem::Ext4, Table::None)?;
    script("cp --sparse=always \"$A\" \"$B\"", &[("A", &ours.path), ("B", &theirs.path)])?;
    let before = ours.look(FACTS)?;
    let run = repair(&ours.path, &ours.scratch, &[])?.expect(&[0])?;
    let after = ours.look(FACTS)?;
    theirs.change("chown -R 1000:1000 $H 2>/dev/null || true")?;
    let chown = theirs.look(FACTS)?;
    println!("{:<50} | {:<50} | chown -R", "before", "volrescue");
    let lines = || before.lines().zip(after.lines()).zip(chown.lines());
    for ((before, after), chown) in lines() {
        println!("{before:<50} | {after:<50} | {chown}");
    }
    let of = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
    };
    let wanted = [
        ("set-id", "set-id 4755 1000", "set-id 755 1000"),
        ("capability", "capability cap_net_bind_service=ep", "capability "),
        ("container", "container 999", "container 1000"),
        ("outside ", "outside 0", "outside 1000"),
        ("outside-of-another", "outside-of-another 999", "outside-of-another 1000"),
        ("target", "target 7", "target 7"),
        ("link", "link 1000", "link 1000"),
        ("frozen", "frozen 1000 i", "frozen 0 i"),
    ];
    for (name, we, they) in wanted {
        ensure!(of(&after, name) == we, "ours: {} is not {we}", of(&after, name));
        ensure!(of(&chown, name) == they, "chown -R: {} is not {they}", of(&chown, name));
    }
    // What both leave: the owner alone is another.
    let but_for_the_owner = |text: &str, name: &str| of(text, name).replacen(" 1000 ", " 0 ", 1);
    for name in ["acl", "default-acl", "mtimes"] {
        let was = of(&before, name);
        ensure!(but_for_the_owner(&after, name) == was, "ours: {} was {was}", of(&after, name));
        ensure!(but_for_the_owner(&chown, name) == was, "chown -R: {} was {was}", of(&chown, name));
    }
    ensure!(
        of(&before, "default-acl").contains(" 0 user::rwx user:33:rwx"),
        "{}",
        of(&before, "default-acl")
    );
    ensure!(of(&before, "mtimes").split_whitespace().count() == 6, "{}", of(&before, "mtimes"));
    // Of the container's data and of what has a name outside only the first is there to be taken.
    let document = run.json()?;
    let kept = document.value["kept"].as_array().context("kept")?;
    ensure!(kept.len() == 1 && kept[0]["owner"] == 999 && kept[0]["entries"] == 2, "{kept:?}");
    let notes = document.value["notes"].to_string();
    ensure!(notes.contains("2 files in the home have further names outside it"), "{notes}");
    ensure!(of(&after, "ctime") == of(&before, "ctime"), "what was right was written");
    ensure!(of(&chown, "ctime") != of(&before, "ctime"), "chown -R has become better");
    ours.check()
}
