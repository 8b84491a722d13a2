//! What only looks does not write: the image's bytes are the same after `diagnose` and `--dry-run`, also where the journal is
//! dirty, as it is in every copy of a running root; and what the journal holds is seen all the same.

use crate::kit::USER;
use crate::kit::program::{diagnose, repair, volrescue};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::{Case, Needs};
use anyhow::{Result, ensure};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        for table in [Table::None, Table::Gpt, Table::Mbr] {
            let name = format!("readonly::{}-{}", filesystem.name(), table.name());
            cases.push(Case::new(format!("{name}::clean"), Needs::Loop, move || clean(filesystem, table)));
            cases.push(Case::new(format!("{name}::dirty"), Needs::Loop, move || dirty(filesystem, table)));
        }
    }
    cases
}

/// Everything that must not write.
fn look_in_every_way(image: &Image) -> Result<()> {
    let before = image.digest()?;
    diagnose(&image.path, USER)?;
    for options in [&["--dry-run"][..], &["--dry-run", "--chown", "all", "--create-user"]] {
        let run = repair(&image.path, &image.scratch, options)?.expect(&[0, 1])?;
        let changed = run.json()?.actions("changed").len();
        ensure!(changed == 0, "--dry-run says it changed something\n{}", run.transcript());
    }
    volrescue(&["diagnose".as_ref(), image.path.as_os_str()])?.expect(&[0, 1])?;
    volrescue(&["repair".as_ref(), "--dry-run".as_ref(), image.path.as_os_str()])?.expect(&[0, 1])?;
    ensure!(image.digest()? == before, "the image was written");
    ensure!(image.loops()?.is_empty(), "a loop device is left");
    Ok(())
}

fn clean(filesystem: Filesystem, table: Table) -> Result<()> {
    let image = Image::healthy(filesystem, table)?;
    look_in_every_way(&image)?;
    image.change("chmod 777 $H; chown -R 12345 $H/.ssh; rm -f $R/etc/ssh/ssh_host_*")?;
    look_in_every_way(&image)?;
    image.check()
}

fn dirty(filesystem: Filesystem, table: Table) -> Result<()> {
    let image = Image::healthy(filesystem, table)?;
    // The journal has it, and the places where it belongs do not yet.
    image.copy_while_mounted("chmod 777 $H; echo x >$H/new; sync $H/new $H")?;
    ensure!(image.journal_is_dirty()?, "the kit made no dirty journal");
    let seen = diagnose(&image.path, USER)?;
    ensure!(seen.value["root"]["journal"] == "replayed", "journal\n{}", seen.transcript());
    ensure!(
        seen.verdict()? == "refuse" && seen.checks("blocks").contains("home-writable-by-others"),
        "what the journal holds is not seen\n{}",
        seen.transcript()
    );
    look_in_every_way(&image)?;
    ensure!(image.journal_is_dirty()?, "the journal was replayed on the image");

    let run = repair(&image.path, &image.scratch, &[])?.expect(&[0])?;
    let after = image.login(USER)?;
    ensure!(after.accepted, "sshd refuses after repair\n{}\n{}", run.transcript(), after.log);
    image.check()
}
