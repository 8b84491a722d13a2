//! What looks broken and is not: sshd accepts, so the verdict is `accept` and `repair --minimal` changes nothing.

use crate::kit::program::{diagnose, repair};
use crate::kit::volume::{Filesystem, Image, Table, Tree};
use crate::kit::{Scratch, USER};
use crate::{Case, Needs};
use anyhow::{Result, ensure};

const CONDITIONS: &[(&str, &str)] = &[
    ("nothing-at-all", "true"),
    ("ssh-dir-0755", "chmod 755 $H/.ssh"),
    ("ssh-dir-0500", "chmod 500 $H/.ssh"),
    ("ssh-dir-0100", "chmod 100 $H/.ssh"),
    ("ssh-dir-2755", "chmod 2755 $H/.ssh"),
    ("key-file-0644", "chmod 644 $A"),
    ("key-file-0400", "chmod 400 $A"),
    ("key-file-0604", "chmod 604 $A"),
    ("key-file-4600", "chmod 4600 $A"),
    ("home-0755", "chmod 755 $H"),
    ("home-0711", "chmod 711 $H"),
    ("home-0500", "chmod 500 $H"),
    ("key-file-of-root-but-readable", "chown 0:0 $A && chmod 644 $A"),
    ("key-file-of-root-read-through-the-group", "chown 0:$G $A && chmod 640 $A"),
    ("key-file-of-root-read-through-an-acl", "chown 0:0 $A && setfacl -m u:$I:r $A"),
    ("ssh-dir-of-root-but-searchable", "chown 0:0 $H/.ssh && chmod 755 $H/.ssh"),
    ("home-of-root", "chown 0:0 $H"),
    ("home-writable-by-the-private-group", "chmod 775 $H"),
    ("key-file-writable-by-the-private-group", "chmod 664 $A"),
    ("key-file-with-a-write-acl-of-a-stranger", "setfacl -m u:12345:rw $A"),
    ("default-acl", "setfacl -d -m u:12345:rwx $H/.ssh"),
    ("slash-home-0777", "chmod 777 $R/home"),
    ("slash-home-of-a-stranger", "chown 12345 $R/home"),
    ("slash-0777", "chmod 777 $R"),
    ("immutable-key-file", "chattr +i $A"),
    ("key-file-a-link-beside-it", "mv $A $H/.ssh/k && ln -s k $A"),
    ("key-file-an-absolute-link", "mkdir -p $R/srv/keys && mv $A $R/srv/keys/$U && ln -s /srv/keys/$U $A"),
    ("home-a-link", "mkdir -p $R/data && mv $H $R/data/$U && ln -s /data/$U $H"),
    ("authorized-keys2", "mv $A ${A}2"),
    ("crlf-keys", "sed -i 's/$/\\r/' $A"),
    ("no-last-newline", "printf %s \"$(cat $A)\" >$A.n && cat $A.n >$A && rm $A.n"),
    (
        "junk-before-the-key",
        "head -c 100000 /dev/zero | tr '\\0' x >$A.n && echo >>$A.n && cat $A >>$A.n && cat $A.n >$A && rm $A.n",
    ),
    ("bad-line-before-the-good-one", "sed -i 's/.*/nosuchoption &\\n&/' $A"),
    ("empty-shell-field", "sed -i \"s#^\\($U:.*\\):[^:]*\\$#\\1:#\" $R/etc/passwd"),
    ("gid-without-a-group", "sed -i \"s#^$U:x:$G:.*##\" $R/etc/group"),
    ("shadow-0000", "chmod 000 $R/etc/shadow"),
    ("passwd-0600", "chmod 600 $R/etc/passwd $R/etc/group"),
    ("host-public-keys-missing", "rm $R/etc/ssh/ssh_host_*.pub"),
    ("one-host-key-left", "rm $R/etc/ssh/ssh_host_rsa_key* $R/etc/ssh/ssh_host_ecdsa_key*"),
    ("host-keys-of-a-stranger", "chown $I $R/etc/ssh/ssh_host_*_key && chmod 666 $R/etc/ssh/ssh_host_*_key"),
    ("etc-ssh-0777", "chmod 777 $R/etc/ssh"),
    ("sshd-config-0000", "chmod 000 $C"),
    ("run-empty", "rm -rf $R/run/sshd"),
    ("moduli-missing", "rm $R/etc/ssh/moduli"),
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = CONDITIONS
        .iter()
        .map(|&(name, recipe)| Case::new(format!("loose::{name}"), Needs::Root, move || on_directory(recipe)))
        .collect();
    // A few on images, where --minimal mounts and lets go.
    for &(name, recipe) in CONDITIONS.iter().step_by(6) {
        for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
            cases.push(Case::new(format!("loose::{}-{name}", filesystem.name()), Needs::Loop, move || {
                on_image(filesystem, recipe)
            }));
        }
    }
    cases
}

fn on_directory(recipe: &str) -> Result<()> {
    let tree = Tree::healthy()?;
    tree.change(recipe)?;
    let real = tree.login(USER)?;
    ensure!(real.accepted, "sshd refuses: the table is wrong\n{}", real.log);
    let ours = diagnose(&tree.path, USER)?;
    ensure!(ours.verdict()? == "accept", "sshd accepts\n{}", ours.transcript());
    let before = tree.manifest()?;
    let scratch = Scratch::new()?;
    let run = repair(&tree.path, &scratch, &["--minimal"])?.expect(&[0])?;
    let changed = run.json()?.actions("changed").len();
    ensure!(changed == 0, "--minimal changed {changed}\n{}", run.transcript());
    let after = tree.manifest()?;
    ensure!(before == after, "--minimal changed {:#?}\n{}", before.changes(&after), run.transcript());
    Ok(())
}

fn on_image(filesystem: Filesystem, recipe: &str) -> Result<()> {
    let image = Image::healthy(filesystem, Table::Gpt)?;
    image.change(recipe)?;
    let real = image.login(USER)?;
    ensure!(real.accepted, "sshd refuses: the table is wrong\n{}", real.log);
    let before = image.manifest()?;
    let run = repair(&image.path, &image.scratch, &["--minimal"])?.expect(&[0])?;
    let after = image.manifest()?;
    ensure!(before == after, "--minimal changed {:#?}\n{}", before.changes(&after), run.transcript());
    image.check()
}
