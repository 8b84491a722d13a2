//! That a walk reads inodes out of the table where there is one: a table that is never used gives the same answers, only
//! slower.

use crate::kit::program::program;
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{Scratch, script};
use crate::{Case, Needs};
use anyhow::{Context as _, Result, ensure};
use std::fs;

/// In few directories: each costs a look of its own.
const FILES: usize = 4_000;

const RECIPE: &str = "for d in 1 2 3 4; do
        mkdir $H/many$d; (cd $H/many$d; seq 1000 | xargs touch); done
    chown -R $OWNER $H/many?";

/// How many system calls of `$CALLS` a repair of `$TARGET` makes.
const COUNT: &str = r#"
    strace -f -qq -e trace="$CALLS" -e signal=none -o "$S/strace" \
        "$PROGRAM" repair --yes --user $U --chown-from 4242 --state-dir "$S/state" "$TARGET" >"$S/said" 2>&1 || { cat "$S/said" >&2; exit 1; }
    grep -c '(' "$S/strace"
"#;

pub(crate) fn cases() -> Vec<Case> {
    let owners = [("owners-are-right", "$I:$G"), ("owners-are-wrong", "4242:4242")];
    let mut cases: Vec<Case> = owners
        .into_iter()
        .flat_map(|(name, owner)| {
            let recipe = RECIPE.replace("$OWNER", owner);
            let mounted = recipe.clone();
            let named = |what: &str| format!("inode-table::{what}-are-not-asked-for-one-by-one-where-{name}");
            [
                Case::new(named("files"), Needs::Loop, move || on_an_image(Filesystem::Ext4, &recipe)),
                Case::new(named("files-of-a-mounted-root"), Needs::Loop, move || {
                    mounted_root(Filesystem::Ext4, &mounted)
                }),
            ]
        })
        .collect();
    // What changes there is asked of the kernel.
    for filesystem in [Filesystem::Xfs, Filesystem::Btrfs] {
        let files = format!("files-of-{}", filesystem.name());
        let name = format!("inode-table::{files}-are-not-asked-for-one-by-one-where-owners-are-right");
        let recipe = RECIPE.replace("$OWNER", "$I:$G");
        cases.push(Case::new(name, Needs::Loop, move || on_an_image(filesystem, &recipe)));
    }
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs] {
        let name = format!("inode-table::directories-of-{}-vouch-for-their-files", filesystem.name());
        cases.push(Case::new(name, Needs::Loop, move || small_directories(filesystem)));
    }
    cases.push(Case::new("inode-table::a-disk-is-read-forwards", Needs::Loop, forwards));
    cases.push(Case::new(
        "inode-table::files-of-a-mounted-btrfs-are-not-asked-for-one-by-one-where-owners-are-right",
        Needs::Loop,
        || mounted_root(Filesystem::Btrfs, &RECIPE.replace("$OWNER", "$I:$G")),
    ));
    cases.push(Case::new(
        "inode-table::owners-of-a-mounted-btrfs-that-are-not-written-yet-are-seen",
        Needs::Loop,
        just_changed,
    ));
    cases.push(Case::new("inode-table::a-dry-run-does-not-make-a-mounted-btrfs-write", Needs::Loop, dry_run));
    cases.push(Case::new(
        "inode-table::a-file-that-is-mounted-over-is-another-filesystem's",
        Needs::Loop,
        mounted_over,
    ));
    cases.push(Case::new(
        "inode-table::owners-are-those-that-an-idmapped-mount-shows",
        Needs::Loop,
        idmapped,
    ));
    cases
}

fn few(calls: &str) -> Result<()> {
    let calls: usize = calls.trim().parse().with_context(|| format!("a number of calls: {calls}"))?;
    // None at all would be a trace that saw nothing.
    ensure!((1..FILES / 2).contains(&calls), "{calls} calls for {FILES} files");
    Ok(())
}

fn on_an_image(filesystem: Filesystem, recipe: &str) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    image.change(recipe)?;
    let calls = "CALLS=stat,lstat,statx,newfstatat,ioctl,pread64 TARGET=$IMAGE U=admin";
    let scratch = Scratch::new()?;
    let variables = [("IMAGE", image.path.as_path()), ("PROGRAM", &program()), ("S", scratch.path())];
    few(&script(&format!("{calls}\n{COUNT}"), &variables)?)
}

/// Where a directory has few files, one look at a file for each directory is a read of the disk for each.
fn small_directories(filesystem: Filesystem) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    image.change(
        "mkdir $H/data; cd $H/data
        for d in $(seq 400); do mkdir $d; (cd $d; seq -f file%g 10 | xargs touch); done
        chown -R $I:$G $H/data",
    )?;
    let scratch = Scratch::new()?;
    let variables = [("IMAGE", image.path.as_path()), ("PROGRAM", &program()), ("S", scratch.path())];
    // By so many from the beginning: a few hundred entries would be looked at by their names.
    let calls = "export VOLRESCUE_THREADS=2; CALLS=stat,lstat,statx,newfstatat TARGET=$IMAGE U=admin";
    script(&format!("{calls}\n{COUNT}"), &variables)?;
    let traced = script(r#"cat "$S/strace""#, &variables)?;
    let asked = traced.lines().filter(|line| line.contains("\"file")).count();
    ensure!(traced.contains("\"400\"") && asked < 40, "{asked} files were asked for");
    Ok(())
}

/// By one thread, so that the order of the calls is that of the work.
fn forwards() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let said =
        image.change("cd $H; seq -f part%g 300 | xargs mkdir; chown $I:$G part*; ls -di part* | sort -n")?;
    let made: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    ensure!(made.len() == 300, "{said}");
    let scratch = Scratch::new()?;
    let variables = [("IMAGE", image.path.as_path()), ("PROGRAM", &program()), ("S", scratch.path())];
    let calls = "export VOLRESCUE_THREADS=1; CALLS=openat,openat2 TARGET=$IMAGE U=admin";
    script(&format!("{calls}\n{COUNT}"), &variables)?;
    let traced = script(r#"cat "$S/strace""#, &variables)?;
    let mut opened: Vec<&str> = traced.split('"').filter(|word| word.starts_with("part")).collect();
    opened.dedup();
    ensure!(opened == made, "opened in the order {opened:?}");
    Ok(())
}

/// What others may use is held while its owner changes (fstat is newfstatat), but found in the table all the same.
fn mounted_root(filesystem: Filesystem, recipe: &str) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    let scratch = Scratch::new()?;
    let variables = variables(&scratch)?;
    let said = image.change(&format!(
        "{recipe}\n{variables}\nCALLS=stat,lstat,statx,lgetxattr,ioctl,pread64 TARGET=$R\n{COUNT}
        test -z \"$(find $H/many? ! -user $I)\""
    ))?;
    few(&said)
}

/// What is written down says that all is right.
fn just_changed() -> Result<()> {
    let image = Image::healthy(Filesystem::Btrfs, Table::Gpt)?;
    let scratch = Scratch::new()?;
    let variables = variables(&scratch)?;
    let recipe = RECIPE.replace("$OWNER", "$I:$G");
    image.change(&format!(
        r#"{recipe}
        {variables}
        sync -f $H; chown 4242:4242 $H/many2/*[13579]
        "$PROGRAM" repair --yes --user $U --chown-from 4242 --state-dir "$S/state" "$R"
        test -z "$(find $H/many? ! -user $I)""#
    ))?;
    Ok(())
}

/// A running system is made to write what it has for a repair, not for a look. (What is on the disk does not tell: it
/// may be written at any time.)
fn dry_run() -> Result<()> {
    let image = Image::healthy(Filesystem::Btrfs, Table::Gpt)?;
    let scratch = Scratch::new()?;
    let variables = variables(&scratch)?;
    let recipe = RECIPE.replace("$OWNER", "4242:4242");
    let said = image.change(&format!(
        r#"{recipe}
        {variables}
        for how in --dry-run --yes; do
            strace -f -qq -e trace=ioctl -e signal=none -o "$S/strace" \
                "$PROGRAM" repair $how --user $U --chown-from 4242 --state-dir "$S/state" "$R" >/dev/null
            echo "$how $(grep -c BTRFS_IOC_START_SYNC "$S/strace" || true)"
        done"#
    ))?;
    let (dry, wet) = said.split_once("--yes ").context(said.clone())?;
    ensure!(dry == "--dry-run 0\n" && wet.trim() != "0", "calls: {said}");
    Ok(())
}

/// With a mount below, a number in a directory is not what a name leads to.
fn mounted_over() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let scratch = Scratch::new()?;
    let variables = variables(&scratch)?;
    let said = image.change(&format!(
        r#"{variables}
        cd $H; touch first over under; chown 4242:4242 first over under; mount --bind under over
        "$PROGRAM" repair --yes --user $U --chown-from 4242 --state-dir "$S/state" "$R"
        umount over; stat -c '%n:%u' over under"#
    ))?;
    for word in ["on another filesystem", "over:4242\n", "under:1000\n"] {
        ensure!(said.contains(word), "lacks {word:?}: {said}");
    }
    Ok(())
}

/// Mounts a directory in a second place, by the ids of a user namespace.
const IDMAP: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc != 4) return 2;
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = open(argv[1], O_RDONLY) };
    long tree = syscall(SYS_open_tree, AT_FDCWD, argv[2], OPEN_TREE_CLONE);
    return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr)
        || syscall(SYS_move_mount, tree, "", AT_FDCWD, argv[3], MOVE_MOUNT_F_EMPTY_PATH);
}
"#;

/// 4242 and 5000 are changed for each other. The directory's owner is not, so that it agrees with the table.
fn idmapped() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::Gpt)?;
    let scratch = Scratch::new()?;
    let variables = variables(&scratch)?;
    fs::write(scratch.join("idmap.c"), IDMAP)?;
    let said = image.change(&format!(
        r#"{variables}
        cc -o "$S/idmap" "$S/idmap.c"
        mkdir $H/data; cd $H/data; touch one two three; chown $I:$G . three; chown 4242:4242 one; chown 5000:5000 two
        unshare --user sleep 60 & namespace=$!
        until printf '0 0 4242\n4242 5000 1\n4243 4243 757\n5000 4242 1\n' >/proc/$namespace/uid_map; do sleep 0.1; done
        cat /proc/$namespace/uid_map >/proc/$namespace/gid_map
        mkdir "$S/mapped"; "$S/idmap" /proc/$namespace/ns/user "$R" "$S/mapped"; kill $namespace
        stat -c '%n shows %u' "$S/mapped/home/admin/data/two" | sed 's,.*/,,'
        export VOLRESCUE_THREADS=2
        "$PROGRAM" repair --yes --user $U --chown-from 4242 --state-dir "$S/state" "$S/mapped"
        umount "$S/mapped"; stat -c '%n:%u' one two three"#
    ))?;
    for word in ["two shows 4242\n", "one:4242\n", "two:1000\n", "three:1000\n"] {
        ensure!(said.contains(word), "lacks {word:?}: {said}");
    }
    Ok(())
}

/// The program and a place beside the volume, as assignments of a shell.
fn variables(scratch: &Scratch) -> Result<String> {
    let program = program();
    let [program, place] = [&program, scratch.path()].map(|path| path.to_str().context("path"));
    Ok(format!("PROGRAM='{}' S='{}'", program?, place?))
}
