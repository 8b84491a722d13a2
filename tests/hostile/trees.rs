//! Trees with what is out of place, out of proportion, or meant to be followed.

use crate::kit::{Manifest, USER, World, checks, trees};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Variables that the recipes are written with.
pub(crate) const VARIABLES: &str = "R=$T U=admin H=$T/home/admin A=$T/home/admin/.ssh/authorized_keys C=$T/etc/ssh/sshd_config; export R U H A C;";

/// A recipe, and what must be said of its tree.
pub(crate) struct Spoiled {
    pub(crate) name: String,
    pub(crate) recipe: String,
    /// One of these is among the checks of the diagnosis, or among the words of its error; `accept` is the verdict.
    pub(crate) says: Vec<String>,
    /// What no repair may change.
    pub(crate) untouched: Vec<PathBuf>,
}

pub(crate) fn run(spoiled: &Spoiled) -> Result<()> {
    let slim = trees()?.join("bookworm-slim");
    let key = trees()?.join("login_key.pub");
    let (recipe, says, untouched) =
        (format!("{VARIABLES}\n{}", spoiled.recipe), spoiled.says.clone(), spoiled.untouched.clone());
    World::with(move |world| {
        let tree = world.tree(&slim)?;
        world.script(&recipe, &[("T", &tree)])?;
        all_commands(world, &tree, &key, &says, &untouched)
    })
}

fn words<'a>(head: &[&'a str], options: &[&'a str], key: &'a Path, target: &'a Path) -> Vec<&'a OsStr> {
    let mut all: Vec<&OsStr> = head.iter().chain(options).map(|word| OsStr::new(*word)).collect();
    all.extend(["--user".as_ref(), USER.as_ref(), "--key".as_ref(), key.as_os_str(), target.as_os_str()]);
    all
}

/// Meets the tree with every command.
pub(crate) fn all_commands(
    world: &World,
    tree: &Path,
    key: &Path,
    says: &[String],
    untouched: &[PathBuf],
) -> Result<()> {
    const ENDS: [i32; 3] = [0, 1, 3];
    // What debugfs has put into an image the kernel may refuse to change; then the repair says where it stopped.
    let repaired: &[i32] = if tree.is_dir() { &ENDS } else { &[0, 1, 3, 5] };
    let before = Manifest::of(world, tree)?;
    let diagnosis = world.volrescue(&words(&["diagnose"], &["--json"], key, tree), &ENDS)?;
    let document = diagnosis.json()?;
    let mut said = checks(&document);
    said.extend(document["users"][0]["verdict"].as_str().map(str::to_owned));
    said.extend(document["error"]["message"].as_str().map(str::to_owned));
    let named = says
        .iter()
        .any(|word| said.iter().any(|said| said == word || word.contains(' ') && said.contains(word)));
    if std::env::var_os("VOLRESCUE_TEST_FIGURES").is_some() {
        println!("said: {said:?}");
    } else {
        ensure!(named, "none of {says:?} among {said:?}\n{}", diagnosis.transcript());
    }
    world.volrescue(&words(&["diagnose"], &[], key, tree), &[diagnosis.code])?;
    world.volrescue(
        &words(&["repair"], &["--dry-run", "--json", "--create-user", "--fix", "all"], key, tree),
        &ENDS,
    )?;
    let changes = before.changes(&Manifest::of(world, tree)?);
    ensure!(changes.is_empty(), "diagnose or --dry-run changed {changes:?}");

    let state = world.scratch.join("state");
    let state = state.to_str().context("the scratch directory's name")?;
    let options = ["--yes", "--json", "--create-user", "--fix", "all", "--state-dir", state];
    let repair = world.volrescue(&words(&["repair"], &options, key, tree), repaired)?;
    let after = Manifest::of(world, tree)?;
    for (path, change) in before.changes(&after) {
        ensure!(
            !untouched.iter().any(|place| path.starts_with(place)),
            "{} was changed: {change}\n{}",
            path.display(),
            repair.transcript()
        );
    }
    let document = repair.json()?;
    if let Some(run) = document["run"].as_str() {
        let undo = ["undo", "--yes", "--json", "--state-dir", state, run].map(OsStr::new);
        let undo = world.volrescue(&undo, &[0])?;
        let changes = before.changes(&Manifest::of(world, tree)?);
        ensure!(
            changes.is_empty(),
            "not put back: {changes:?}\n{}\n{}",
            repair.transcript(),
            undo.transcript()
        );
    } else {
        ensure!(before == after, "changed without a journal\n{}", repair.transcript());
    }
    world.ensure_untouched()
}

/// name, recipe, what is said, what stays.
type Row = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const ROWS: &[Row] = &[
    // Hard links to what is root's.
    (
        "hard-link-of-shadow-in-the-home",
        "ln $R/etc/shadow $H/notes; chown -h 1000 $H",
        &["home-mode"],
        &["/etc/shadow"],
    ),
    (
        "hard-link-of-sudo-in-the-home",
        "ln $R/usr/bin/sudo $H/s; chmod 777 $H",
        &["home-writable-by-others"],
        &["/usr/bin/sudo"],
    ),
    (
        "hard-link-of-shadow-as-keys",
        "rm $A; ln $R/etc/shadow $A",
        &["key-file-hard-linked"],
        &["/etc/shadow"],
    ),
    (
        "hard-link-of-sshd-config-as-keys",
        "rm $A; ln $C $A",
        &["key-file-hard-linked"],
        &["/etc/ssh/sshd_config"],
    ),
    (
        "hard-links-of-one-file-all-inside",
        "touch $H/0; for n in $(seq 200); do ln $H/0 $H/$n; done; chown 0:0 $H",
        &["home-wrong-owner", "accept"],
        &[],
    ),
    // Set-id files.
    (
        "set-uid-shell-of-root-in-the-home",
        "cp $R/bin/bash $H/sh; chmod 6755 $H/sh; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "set-gid-directory",
        "mkdir $H/g; chmod 2777 $H/g; chgrp 42 $H/g; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    // What is no file.
    (
        "fifos-and-nodes-in-the-home",
        "mkfifo $H/f; mknod $H/c c 1 5; mknod $H/b b 7 0; mknod $H/n c 1 3; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "a-socket-in-the-home",
        "python3 -c 'import os,socket;os.chdir(os.environ[\"H\"]);socket.socket(socket.AF_UNIX).bind(\"s\")'; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    // Sizes.
    ("passwd-of-four-tebibytes", "truncate -s 4T $R/etc/passwd", &["file-unreadable"], &[]),
    ("shadow-of-four-tebibytes", "truncate -s 4T $R/etc/shadow", &["file-unreadable"], &["/etc/shadow"]),
    ("group-of-four-tebibytes", "truncate -s 4T $R/etc/group", &["file-unreadable"], &["/etc/group"]),
    ("configuration-of-four-tebibytes", "truncate -s 4T $C", &["config-not-understood"], &[]),
    (
        "included-file-of-four-tebibytes",
        "truncate -s 4T $R/etc/ssh/sshd_config.d/9.conf",
        &["config-unreadable", "file-unreadable", "config-not-understood"],
        &[],
    ),
    ("keys-of-four-tebibytes", "truncate -s 4T $A", &["key-file-too-large"], &[]),
    (
        "sshd-of-four-tebibytes",
        "truncate -s 4T $R/usr/sbin/sshd",
        &["file-unreadable", "accept", "sshd-missing"],
        &[],
    ),
    (
        "host-key-of-four-tebibytes",
        "truncate -s 4T $R/etc/ssh/ssh_host_ed25519_key",
        &["host-keys-unusable", "accept"],
        &[],
    ),
    (
        "backup-of-four-tebibytes",
        "truncate -s 4T $R/etc/passwd-; sed -i /^admin/d $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    ("skeleton-file-of-four-tebibytes", "truncate -s 4T $R/etc/skel/huge; rm -r $H", &["home-missing"], &[]),
    (
        "sudoers-of-four-tebibytes",
        "truncate -s 4T $R/etc/sudoers; truncate -s 4T $R/etc/sudoers.d/x; sed -i /^admin/d $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "home-with-a-file-of-four-tebibytes",
        "truncate -s 4T $H/huge; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    ("fstab-of-four-tebibytes", "truncate -s 4T $R/etc/fstab", &["accept", "unknown"], &[]),
    (
        "keys-of-sixty-mebibytes-of-newlines",
        "head -c 62914560 /dev/zero | tr '\\0' '\\n' >>$A",
        &["accept", "key-file-too-large"],
        &[],
    ),
    (
        "keys-of-a-million-lines",
        "yes \"$(cat $A)\" | head -200000 >>$A",
        &["accept", "key-file-too-large"],
        &[],
    ),
    (
        "configuration-of-a-hundred-thousand-lines",
        "yes 'AllowUsers a b c d e f' | head -100000 >>$C",
        &["config-not-understood"],
        &[],
    ),
    (
        "configuration-of-four-thousand-matches",
        "for n in $(seq 4000); do echo \"Match User u$n\"; echo ' X11Forwarding no'; done >>$C",
        &["accept"],
        &[],
    ),
    (
        "patterns-that-take-exponential-time",
        "printf 'DenyUsers %s\\n' \"$(printf '*a%.0s' $(seq 60))*b\" >>$C; sed -i 's/^admin:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:/' $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "includes-that-include-themselves",
        "echo 'Include /etc/ssh/sshd_config.d/*.conf' >$R/etc/ssh/sshd_config.d/a.conf",
        &["config-syntax", "config-unreadable", "config-not-understood"],
        &[],
    ),
    (
        "includes-that-double-at-each-level",
        "d=$R/etc/ssh/sshd_config.d; for n in $(seq 10); do printf 'Include /etc/ssh/l%d\\nInclude /etc/ssh/l%d\\n' $((n+1)) $((n+1)) >$R/etc/ssh/l$n; done; echo 'UseDNS no' >$R/etc/ssh/l11; echo 'Include /etc/ssh/l1' >>$C",
        &["accept"],
        &[],
    ),
    (
        "a-configuration-line-of-half-a-million-names",
        "{ printf AllowUsers; yes ' a' | head -500000 | tr -d '\\n'; echo ' admin'; } >>$C",
        &["config-not-understood"],
        &[],
    ),
    (
        "a-configuration-line-of-sixteen-mebibytes",
        "{ printf AllowUsers; yes ' a' | head -8000000 | tr -d '\\n'; echo; } >>$C",
        &["config-not-understood"],
        &[],
    ),
    // Account files.
    (
        "passwd-line-of-a-mebibyte",
        "{ printf 'x:x:5:5:'; head -c 1048576 /dev/zero | tr '\\0' a; echo ':/:/bin/sh'; } >>$R/etc/passwd",
        &["accept"],
        &[],
    ),
    (
        "passwd-first-line-of-a-mebibyte",
        "{ head -c 1048576 /dev/zero | tr '\\0' a; echo; cat $R/etc/passwd; } >$R/p; cat $R/p >$R/etc/passwd; rm $R/p",
        &["accept", "user-missing"],
        &[],
    ),
    (
        "a-million-users",
        "awk 'BEGIN { for (n = 0; n < 1000000; n++) printf \"u%d:x:%d:%d::/h/u%d:/bin/sh\\n\", n, n + 5000, n + 5000, n }' >>$R/etc/passwd",
        &["file-unreadable"],
        &[],
    ),
    (
        "a-million-users-and-the-user-missing",
        "sed -i /^admin/d $R/etc/passwd; awk 'BEGIN { for (n = 0; n < 1000000; n++) printf \"u%d:x:%d:%d::/h/u%d:/bin/sh\\n\", n, n + 5000, n + 5000, n }' >>$R/etc/passwd",
        &["file-unreadable"],
        &[],
    ),
    (
        "a-group-with-a-million-members",
        "{ printf 'crowd:x:7777:'; awk 'BEGIN { for (n = 0; n < 1000000; n++) printf \"u%d,\", n }'; echo admin; } >>$R/etc/group",
        &["accept"],
        &[],
    ),
    (
        "twenty-thousand-groups-of-the-user",
        "awk 'BEGIN { for (n = 0; n < 20000; n++) printf \"g%d:x:%d:admin\\n\", n, n + 10000 }' >>$R/etc/group",
        &["accept", "unknown", "refuse"],
        &[],
    ),
    (
        "twins-of-uid-0",
        "printf 'toor:x:0:0::/root:/bin/sh\\nadmin:x:0:0::/home/admin:/bin/bash\\n' >>$R/etc/passwd",
        &["user-duplicate"],
        &[],
    ),
    (
        "the-user-is-uid-0",
        "sed -i 's/^admin:x:1000:1000/admin:x:0:0/' $R/etc/passwd",
        &["home-mode", "key-file-wrong-owner", "home-wrong-owner"],
        &[],
    ),
    (
        "uid-of-minus-one",
        "sed -i 's/^admin:x:1000:1000/admin:x:-1:-1/' $R/etc/passwd",
        &["user-missing", "refuse", "unknown"],
        &[],
    ),
    (
        "uid-4294967295",
        "sed -i 's/^admin:x:1000:1000/admin:x:4294967295:4294967295/' $R/etc/passwd",
        &["user-missing", "refuse", "unknown"],
        &[],
    ),
    (
        "uid-4294967294",
        "sed -i 's/^admin:x:1000:1000/admin:x:4294967294:4294967294/' $R/etc/passwd",
        &["home-wrong-owner"],
        &[],
    ),
    (
        "uid-over-every-limit",
        "sed -i 's/^admin:x:1000:1000/admin:x:99999999999999999999:1000/' $R/etc/passwd",
        &["user-missing", "refuse", "unknown"],
        &[],
    ),
    (
        "uid-with-letters",
        "sed -i 's/^admin:x:1000:1000/admin:x:0x3e8:1000/' $R/etc/passwd",
        &["user-missing", "refuse", "unknown"],
        &[],
    ),
    (
        "passwd-of-nothing-but-nul",
        "truncate -s 0 $R/etc/passwd; truncate -s 1M $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "home-field-with-dots",
        "sed -i 's#:/home/admin:#:/home/../../../home/./admin/../admin:#' $R/etc/passwd",
        &["home-mode"],
        &[],
    ),
    (
        "home-field-relative",
        "sed -i 's#:/home/admin:#:home/admin:#' $R/etc/passwd",
        &["accept", "refuse"],
        &[],
    ),
    (
        "home-field-of-a-path-too-long",
        "p=$(printf '/aaaaaaaa%.0s' $(seq 1000)); sed -i \"s#:/home/admin:#:$p:#\" $R/etc/passwd",
        &["refuse"],
        &[],
    ),
    (
        "home-field-with-escapes",
        "sed -i \"s#:/home/admin:#:/home/$(printf '\\033]0;x\\007\\033[2J'):#\" $R/etc/passwd",
        &["home-missing"],
        &[],
    ),
    ("home-field-empty", "sed -i 's#:/home/admin:#::#' $R/etc/passwd", &["refuse", "accept"], &[]),
    (
        "home-field-of-the-helper's-own",
        "sed -i 's#:/home/admin:#:/proc/self/cwd:#' $R/etc/passwd",
        &["home-missing", "home-elsewhere"],
        &[],
    ),
    (
        "home-field-of-usr",
        "sed -i 's#:/home/admin:#:/usr:#' $R/etc/passwd",
        &["refuse"],
        &["/usr/bin", "/usr/sbin", "/usr/lib"],
    ),
    (
        "shell-field-with-dots",
        "sed -i 's#:/bin/bash$#:/../../../../../../bin/bash#' $R/etc/passwd",
        &["accept"],
        &[],
    ),
    (
        "user-named-like-an-option",
        "printf -- '-rf:x:1500:1500::/home/-rf:/bin/sh\\n' >>$R/etc/passwd; mkdir $R/home/-rf; chown 1500 $R/home/-rf; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "gecos-with-escapes",
        "sed -i \"s#:Debian:#:$(printf '\\033[2J\\302\\233\\342\\200\\256'):#\" $R/etc/passwd; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    // Names.
    (
        "names-of-every-byte",
        "python3 -c 'import os;h=os.environb[b\"H\"]\nfor n in range(1,256):\n  if n!=47: os.mkdir(h+b\"/\"+bytes([n])+b\"x\")'; chown 0:0 $H/*; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "names-of-255-bytes",
        "n=$(printf 'n%.0s' $(seq 255)); mkdir $H/$n; touch $H/$n/$n; chown 0:0 $H/$n $H/$n/$n; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "names-like-options",
        "cd $H; mkdir -- -rf --help -; touch -- -rf/--no-preserve-root; chown 0:0 ./-rf; chmod 777 .",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "names-like-our-own",
        "touch $H/.volrescue-0 $H/.ssh/.volrescue-x $R/etc/.volrescue-y; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    ("key-line-with-escapes", "printf 'ssh-ed25519 AAAA \\033[2J\\033]0;x\\007\\n' >$A", &["refuse"], &[]),
    (
        "configuration-with-escapes",
        "printf 'Nonsense\\033[2J\\342\\200\\256 yes\\n' >>$C",
        &["config-syntax"],
        &[],
    ),
    (
        "os-release-with-escapes",
        "rm -f $R/etc/os-release; printf 'ID=deb\\033[2J\\nPRETTY_NAME=\"\\033]0;x\\007\\342\\200\\256\"\\n' >$R/etc/os-release",
        &["accept"],
        &[],
    ),
    (
        "banner-of-bidi-in-user-names",
        "printf 'a\\342\\200\\256b:x:1501:1501::/home/x:/bin/sh\\n' >>$R/etc/passwd",
        &["accept"],
        &[],
    ),
    // Depth and number.
    (
        // A million for a program that is built as it is shipped; the bounds are not for one with debug assertions.
        "many-files-of-the-wrong-owner",
        "N=${VOLRESCUE_PROGRAM:+1000000}; export N=${N:-100000}
        python3 -c 'import os;os.chdir(os.environ[\"H\"])\nfor n in range(int(os.environ[\"N\"])): os.mknod(str(n))'; chown 0:0 $H",
        &["home-wrong-owner", "accept"],
        &[],
    ),
    (
        "a-million-files-in-the-home",
        "python3 -c 'import os;os.chdir(os.environ[\"H\"])\nfor n in range(1000000): os.mknod(str(n))'; chown -R 1000:1000 $H; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "a-million-names-of-one-file-in-the-home",
        "python3 -c 'import os;os.chdir(os.environ[\"H\"])\nos.mknod(\"f\")\nfor n in range(1000000): os.link(\"f\",str(n))'; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "a-million-entries-of-etc-home-ssh-and-skel",
        "python3 -c 'import os;r=os.environ[\"R\"]\nos.mknod(r+\"/etc/f\")\nfor n in range(1000000):\n  os.link(r+\"/etc/f\",r+\"/%s/%d.conf\"%((\"etc/ssh/sshd_config.d\",\"home\",\"etc/skel\",\"etc/sudoers.d\",\"etc\")[n%5],n))'; sed -i /^admin/d $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "ten-thousand-levels",
        "python3 -c 'import os;os.chdir(os.environ[\"H\"])\nfor n in range(10000):\n  os.mkdir(\"d\"); os.chown(\"d\",0,0); os.chdir(\"d\")'; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "a-thousand-levels-of-255-bytes",
        "python3 -c 'import os;os.chdir(os.environ[\"H\"])\nfor n in range(1000):\n  os.mkdir(\"d\"*255); os.chown(\"d\"*255,0,0); os.chdir(\"d\"*255)'; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "skeleton-of-ten-thousand-levels",
        "rm -r $H; python3 -c 'import os;os.chdir(os.environ[\"R\"]+\"/etc/skel\")\nfor n in range(10000):\n  os.mkdir(\"d\"); os.chdir(\"d\")'",
        &["home-missing"],
        &[],
    ),
    (
        "skeleton-of-twenty-thousand-files",
        "rm -r $H; python3 -c 'import os;os.chdir(os.environ[\"R\"]+\"/etc/skel\")\nfor n in range(20000): os.mknod(str(n))'",
        &["home-missing"],
        &[],
    ),
    (
        "skeleton-with-links-and-nodes",
        "rm -r $H; ln -s /etc/shadow $R/etc/skel/l; mkfifo $R/etc/skel/f; mknod $R/etc/skel/z c 1 5; ln $R/etc/shadow $R/etc/skel/h; chmod 4755 $R/etc/skel/.profile",
        &["home-missing"],
        &["/etc/shadow"],
    ),
    (
        "twenty-thousand-included-files",
        "python3 -c 'import os;os.chdir(os.environ[\"R\"]+\"/etc/ssh/sshd_config.d\")\nfor n in range(20000): os.mknod(str(n)+\".conf\")'",
        &["accept", "unknown", "config-not-understood"],
        &[],
    ),
    (
        "twenty-thousand-sudoers",
        "sed -i /^admin/d $R/etc/passwd; python3 -c 'import os;os.chdir(os.environ[\"R\"]+\"/etc/sudoers.d\")\nfor n in range(20000): os.mknod(str(n))'",
        &["user-missing"],
        &[],
    ),
    (
        "twenty-thousand-homes",
        "python3 -c 'import os;os.chdir(os.environ[\"R\"]+\"/home\")\nfor n in range(20000): os.mkdir(str(n))'; sed -i /^admin/d $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "a-thousand-owners",
        "python3 -c 'import os;os.chdir(os.environ[\"H\"])\nfor n in range(20000): os.mknod(str(n)); os.chown(str(n),n+5000,n+5000)'; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "twenty-thousand-files-with-two-names",
        "python3 -c 'import os;os.chdir(os.environ[\"H\"])\nfor n in range(20000): os.mknod(str(n)); os.link(str(n),\"l\"+str(n))'; chown 0:0 $H",
        &["home-wrong-owner", "accept"],
        &[],
    ),
    (
        "forty-links-in-a-row",
        "ln -s $U $R/home/l0; for n in $(seq 39); do ln -s l$((n-1)) $R/home/l$n; done; sed -i 's#:/home/admin:#:/home/l39:#' $R/etc/passwd",
        &["accept", "refuse"],
        &[],
    ),
    (
        "forty-one-links-in-a-row",
        "ln -s $U $R/home/l0; for n in $(seq 41); do ln -s l$((n-1)) $R/home/l$n; done; sed -i 's#:/home/admin:#:/home/l41:#' $R/etc/passwd",
        &["refuse"],
        &[],
    ),
    (
        "links-that-double",
        "cd $R/home; ln -s $U l0; for n in $(seq 30); do ln -s l$((n-1))/../l$((n-1)) l$n; done; sed -i 's#:/home/admin:#:/home/l30:#' $R/etc/passwd",
        &["refuse"],
        &[],
    ),
    // Attributes.
    (
        "attributes-of-64-kib",
        "python3 -c 'import os\nfor p in (os.environ[\"H\"],os.environ[\"A\"],os.environ[\"R\"]+\"/etc/passwd\"):\n  os.setxattr(p,\"trusted.big\",b\"x\"*65536)'; chmod 777 $H $A",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "a-label-of-64-kib",
        "python3 -c 'import os;os.setxattr(os.environ[\"A\"],\"security.selinux\",b\"\\x1b[2J\"*13000)'; chmod 777 $A",
        &["key-file-writable-by-others"],
        &[],
    ),
    (
        "a-capability-on-the-keys",
        "setcap cap_setuid,cap_dac_override+ep $A; chown 0:0 $A; chmod 666 $A",
        &["key-file-writable-by-others"],
        &[],
    ),
    (
        "an-acl-of-a-thousand-entries-on-the-keys",
        "python3 -c 'import os,struct\ne=[(1,6,-1)]+[(2,6,n) for n in range(5000,6000)]+[(4,6,-1),(16,6,-1),(32,4,-1)]\nos.setxattr(os.environ[\"A\"],\"system.posix_acl_access\",struct.pack(\"<I\",2)+b\"\".join(struct.pack(\"<HHi\",*x) for x in e))'",
        &["key-file-mode"],
        &[],
    ),
    (
        "a-default-acl-that-opens-everything",
        "rm -r $H/.ssh; setfacl -d -m u::rwx,g::rwx,o::rwx,u:65534:rwx,m::rwx $H",
        &["ssh-dir-missing"],
        &[],
    ),
    // SELinux.
    (
        "a-policy-without-end",
        "mkdir -p $R/etc/selinux/x/contexts/files; printf 'SELINUX=enforcing\\nSELINUXTYPE=x\\n' >$R/etc/selinux/config; truncate -s 4T $R/etc/selinux/x/contexts/files/file_contexts",
        &["accept"],
        &[],
    ),
    (
        "a-policy-elsewhere-by-dots",
        "printf 'SELINUX=enforcing\\nSELINUXTYPE=../../../../../../../etc/selinux\\n' >$R/etc/selinux/config",
        &["accept"],
        &[],
    ),
    (
        "a-policy-of-exponential-patterns",
        "mkdir -p $R/etc/selinux/x/contexts/files; printf 'SELINUX=enforcing\\nSELINUXTYPE=x\\n' >$R/etc/selinux/config; awk 'BEGIN { for (n = 0; n < 2000; n++) printf \"/home/((a|aa|[a-z]*)*)*(b{1,50}){1,50}%d/.ssh -- s:o:t:s0\\n\", n }' >$R/etc/selinux/x/contexts/files/file_contexts",
        &["accept"],
        &[],
    ),
    (
        "a-policy-with-escapes",
        "mkdir -p $R/etc/selinux/x/contexts/files; printf 'SELINUX=enforcing\\nSELINUXTYPE=x\\n' >$R/etc/selinux/config; printf '/.* s\\033[2J:o:t:s0\\n' >$R/etc/selinux/x/contexts/files/file_contexts",
        &["accept"],
        &[],
    ),
    // Configurations of other programs.
    (
        "cloud-config-of-deep-nesting",
        "python3 -c 'print(\"users: \"+\"[\"*100000)' >$R/etc/cloud/cloud.cfg; sed -i /^admin/d $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "cloud-config-of-aliases",
        "python3 -c '\nprint(\"a0: &a0 [x,x,x,x,x,x,x,x,x,x]\")\nfor n in range(1,30): print(\"a%d: &a%d [%s]\"%(n,n,\",\".join([\"*a%d\"%(n-1)]*10)))' >$R/etc/cloud/cloud.cfg; sed -i /^admin/d $R/etc/passwd",
        &["user-missing"],
        &[],
    ),
    (
        "pam-that-includes-itself",
        "echo '@include sshd' >>$R/etc/pam.d/sshd",
        &["pam-refuses", "pam-undecided", "accept"],
        &[],
    ),
    (
        "pam-that-jumps-beyond-the-end",
        "printf 'account [success=4294967295 default=99999999999999999999] pam_unix.so\\n' >>$R/etc/pam.d/sshd",
        &["accept", "pam-undecided", "pam-refuses"],
        &[],
    ),
    (
        "login-defs-of-nonsense",
        "printf 'UID_MIN 99999999999999999999\\nUID_MAX -5\\nGID_MIN 0x\\n' >$R/etc/login.defs; sed -i /^admin/d $R/etc/passwd $R/etc/passwd-",
        &["user-missing"],
        &[],
    ),
    (
        "no-id-is-free",
        "sed -i /^admin/d $R/etc/passwd; rm -rf $H $R/etc/*-; printf 'UID_MIN 1\\nUID_MAX 1\\n' >$R/etc/login.defs",
        &["user-missing"],
        &[],
    ),
    (
        "fstab-that-mounts-the-helper",
        "printf '/dev/vda /home ext4 defaults 0 0\\n/etc /home/admin/.ssh none bind 0 0\\n/proc/self/root/root /home none bind 0 0\\n' >$R/etc/fstab",
        &["home-elsewhere", "accept", "unknown", "refuse"],
        &[],
    ),
    (
        "fstab-of-a-hundred-thousand-lines",
        "yes '/dev/none /home/admin none bind 0 0' | head -100000 >$R/etc/fstab",
        &["home-elsewhere", "accept", "unknown", "refuse"],
        &[],
    ),
    ("usr-merge-turned-round", "rm -f $R/bin; ln -s ../../../../../../usr/bin $R/bin", &["accept"], &[]),
    (
        "immutable-words-in-an-environment-file",
        "printf 'A=\\033[2J\\n' >$R/etc/environment; truncate -s 4T $H/.bashrc; chmod 777 $H",
        &["home-writable-by-others"],
        &[],
    ),
    (
        "key-command-of-the-volume",
        "printf 'AuthorizedKeysCommand /usr/bin/touch %%h/ran\\nAuthorizedKeysCommandUser root\\n' >>$C",
        &["accept", "key-command", "unknown"],
        &["/home/admin/ran"],
    ),
    (
        "keys-under-proc",
        "echo 'AuthorizedKeysFile /proc/self/root/etc/passwd /dev/stdin /proc/self/fd/0' >>$C; sed -i '1i AuthorizedKeysFile /proc/self/root/etc/passwd /dev/stdin' $C",
        &["refuse", "unknown"],
        &[],
    ),
    (
        "keys-of-a-pattern-of-dots",
        "sed -i '1i AuthorizedKeysFile ../../../../../../root/.ssh/authorized_keys' $C",
        &["refuse"],
        &["/root"],
    ),
    (
        "a-hundred-files-of-keys",
        "f=$(for n in $(seq 100); do printf '/srv/k%d ' $n; done); sed -i \"1i AuthorizedKeysFile $f\" $C",
        &["refuse"],
        &[],
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ROWS.iter()
        .map(|&(name, recipe, says, untouched)| {
            let spoiled = Spoiled {
                name: name.into(),
                recipe: recipe.into(),
                says: list(says),
                untouched: untouched.iter().map(PathBuf::from).collect(),
            };
            Case::new(format!("tree::{}", spoiled.name), Needs::Namespace, move || run(&spoiled))
        })
        .collect()
}
