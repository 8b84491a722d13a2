//! A home that is not on the root's filesystem: fstab names it in every way there is, and it is on another partition, in
//! another subvolume, in another directory or on another volume. Found, repaired, undone; the judge is the volume's sshd
//! with everything mounted as its fstab says.

use crate::kit::judge::login;
use crate::kit::program::{Document, diagnose, volrescue};
use crate::kit::volume::{Filesystem, Image, Table};
use crate::kit::{Scratch, USER, has_mapper, public_key, script};
use crate::{Case, Needs};
use anyhow::{Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the home is, and how fstab says so.
#[derive(Clone, Copy)]
struct Elsewhere {
    name: &'static str,
    root: Filesystem,
    place: Place,
    /// The line of fstab; `UUID` and `PARTUUID` in it are replaced.
    line: &'static str,
    /// The filesystem of the home.
    kind: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A second image, without a table.
    Volume,
    /// Partition 3 of the same disk.
    Partition,
    /// A subvolume, or a directory of the root.
    Inside,
    /// A logical volume of the group that the root is in too.
    Logical,
}

const LAYOUTS: [Elsewhere; 15] = [
    Elsewhere {
        name: "volume-uuid",
        root: Filesystem::Ext4,
        place: Place::Volume,
        line: "UUID=@UUID /home ext4 defaults,nofail 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "volume-label-xfs",
        root: Filesystem::Xfs,
        place: Place::Volume,
        line: "LABEL=\"homes\" /home xfs defaults 0 2",
        kind: "xfs",
    },
    Elsewhere {
        name: "volume-by-uuid-automount",
        root: Filesystem::Ext4,
        place: Place::Volume,
        line: "/dev/disk/by-uuid/@UUID /home auto noauto,x-systemd.automount 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "volume-renamed-nvme",
        root: Filesystem::Ext4,
        place: Place::Volume,
        line: "/dev/nvme1n1 /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "volume-renamed-partition",
        root: Filesystem::Ext4,
        place: Place::Volume,
        line: "/dev/xvdf1 /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "volume-btrfs-subvolume",
        root: Filesystem::Ext4,
        place: Place::Volume,
        line: "UUID=@UUID /home btrfs subvol=/@home 0 0",
        kind: "btrfs",
    },
    Elsewhere {
        name: "partition-uuid",
        root: Filesystem::Ext4,
        place: Place::Partition,
        line: "UUID=@UUID /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "partition-partuuid",
        root: Filesystem::Xfs,
        place: Place::Partition,
        line: "PARTUUID=@PARTUUID /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "partition-partlabel",
        root: Filesystem::Btrfs,
        place: Place::Partition,
        line: "PARTLABEL=homes /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "partition-renamed",
        root: Filesystem::Ext4,
        place: Place::Partition,
        line: "/dev/xvda3 /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "subvolume",
        root: Filesystem::BtrfsIn("@"),
        place: Place::Inside,
        line: "UUID=@UUID /home btrfs defaults,subvol=@home 0 0",
        kind: "btrfs",
    },
    Elsewhere {
        name: "bind",
        root: Filesystem::Ext4,
        place: Place::Inside,
        line: "/data/homes /home none bind 0 0",
        kind: "bind",
    },
    Elsewhere {
        name: "lvm-mapper",
        root: Filesystem::Ext4,
        place: Place::Logical,
        line: "/dev/mapper/rootvg-ho--me /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "lvm-path-xfs-root",
        root: Filesystem::Xfs,
        place: Place::Logical,
        line: "/dev/rootvg/ho-me /home ext4 defaults 0 2",
        kind: "ext4",
    },
    Elsewhere {
        name: "lvm-uuid",
        root: Filesystem::Btrfs,
        place: Place::Logical,
        line: "UUID=@UUID /home ext4 defaults 0 2",
        kind: "ext4",
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = LAYOUTS
        .iter()
        .map(|layout| {
            Case::new(format!("elsewhere::{}", layout.name), Needs::Loop, move || whole_way(*layout))
        })
        .collect();
    cases.push(Case::new("elsewhere::missing-is-named", Needs::Loop, missing_is_named));
    cases.push(Case::new("elsewhere::dirty-home", Needs::Loop, dirty_home));
    cases.push(Case::new("elsewhere::lvm-chosen-and-refused", Needs::Loop, lvm_chosen_and_refused));
    cases.push(Case::new("elsewhere::hostile-fstab", Needs::Loop, hostile_fstab));
    cases
}

/// A disk whose home was moved away.
struct Moved {
    image: Image,
    layout: Elsewhere,
}

impl Moved {
    /// Moves the home and breaks it with the recipe, in which `$H` is where the home is now.
    fn new(layout: Elsewhere, recipe: &str) -> Result<Self> {
        let table = if layout.place == Place::Partition { Table::Gpt } else { Table::None };
        let image = match layout.place {
            Place::Logical => Image::logical(layout.root)?,
            _ => Image::healthy(layout.root, table)?,
        };
        let moved = Self { image, layout };
        moved.script(
            r#"
            case $PLACE in
                volume) truncate -s "$SIZE" "$WITH" ;;
                partition)
                    truncate -s "+$SIZE" "$DISK"
                    truncate -s +2M "$DISK"
                    sgdisk -e "$DISK" >/dev/null
                    sgdisk -n 3:0:0 -c 3:homes "$DISK" >/dev/null ;;
            esac
            mkdir "$SCRATCH/home"
            "#,
        )?;
        moved.image.change(&format!(
            r#"{}
            home
            case $KIND in
                bind) mkdir -p "$R/data/homes"; new=$R/data/homes ;;
                btrfs)
                    if [ "$PLACE" = volume ]; then mkfs.btrfs -q -L homes "$device"; fi
                    mount -t btrfs -o subvolid=5 "$device" "$SCRATCH/home"
                    [ -e "$SCRATCH/home/@home" ] || btrfs subvolume create "$SCRATCH/home/@home" >/dev/null
                    new=$SCRATCH/home/@home ;;
                xfs) mkfs.xfs -q -L homes "$device"; mount "$device" "$SCRATCH/home"; new=$SCRATCH/home ;;
                ext4) mkfs.ext4 -q -L homes "$device"; mount "$device" "$SCRATCH/home"; new=$SCRATCH/home ;;
            esac
            cp -a "$R/home/." "$new/"
            rm -rf "$R"/home/*
            uuid=
            [ -z "$device" ] || uuid=$(blkid -p -s UUID -o value "$device")
            partuuid=
            [ "$PLACE" != partition ] || partuuid=$(sgdisk -i 3 "$DISK" | sed -n 's/^Partition unique GUID: //p')
            echo "{}" | sed "s/@UUID/$uuid/;s/@PARTUUID/$partuuid/" >>"$R/etc/fstab"
            H=$new/admin
            {recipe}
            [ "$KIND" = bind ] || umount "$SCRATCH/home"
            done_home
            "#,
            moved.prelude(),
            layout.line.replace('"', "\\\""),
        ))?;
        Ok(moved)
    }

    fn with(&self) -> PathBuf {
        self.image.scratch.join("home.img")
    }

    fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let place = match self.layout.place {
            Place::Volume => "volume",
            Place::Partition => "partition",
            Place::Inside => "inside",
            Place::Logical => "logical",
        };
        let size = match self.layout.kind {
            "xfs" => "304M",
            "btrfs" => "128M",
            _ => "32M",
        };
        vec![
            ("DISK", self.image.path.clone()),
            ("SCRATCH", self.image.scratch.path().to_owned()),
            ("PLACE", place.into()),
            ("KIND", self.layout.kind.into()),
            ("SIZE", size.into()),
            ("WITH", self.with()),
        ]
    }

    fn script(&self, body: &str) -> Result<String> {
        let variables = self.variables();
        let variables: Vec<(&str, &Path)> =
            variables.iter().map(|(name, value)| (*name, value.as_path())).collect();
        script(body, &variables)
    }

    /// Shell functions: `home` sets `$device` to what holds the home, `done_home` lets go of it.
    fn prelude(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.variables() {
            text.push_str(&format!("{name}='{}'\n", value.display()));
        }
        text.push_str(
            r#"
            home() {
                device= own=
                case $PLACE in
                    volume) own=$(losetup --find --show "$WITH") ;;
                    partition)
                        start=$(sgdisk -i 3 "$DISK" | sed -n 's/^First sector: \([0-9]*\).*/\1/p')
                        last=$(sgdisk -i 3 "$DISK" | sed -n 's/^Last sector: \([0-9]*\).*/\1/p')
                        own=$(losetup --find --show --offset $((start*512)) --sizelimit $(((last-start+1)*512)) "$DISK") ;;
                    logical)
                        read -r start size <"$SCRATCH/home.at"
                        own=$(losetup --find --show --offset "$start" --sizelimit "$size" "$DISK") ;;
                    inside) [ "$KIND" = bind ] || device=$(findmnt -n -o SOURCE "$R" | sed 's/\[.*//') ;;
                esac
                [ -z "$own" ] || device=$own
            }
            done_home() { [ -z "$own" ] || losetup --detach "$own"; }
            mount_home() {
                home
                case $KIND in
                    bind) mount --bind "$R/data/homes" "$R/home" ;;
                    btrfs) mount -t btrfs -o subvol=@home "$device" "$R/home" ;;
                    *) mount -t "$KIND" "$device" "$R/home" ;;
                esac
            }
            "#,
        );
        text
    }

    fn run(&self, command: &str, options: &[&str], with: bool) -> Result<Document> {
        let mut line: Vec<OsString> = vec![command.into(), self.image.path.clone().into(), "--json".into()];
        if command != "undo" {
            line.extend(["--user".into(), USER.into(), "--key".into(), public_key()?.into()]);
        }
        if command == "repair" {
            line.extend(["--yes".into(), "--state-dir".into(), self.state()]);
        }
        if with && self.layout.place == Place::Volume {
            line.extend(["--with".into(), self.with().into()]);
        }
        line.extend(options.iter().map(OsString::from));
        volrescue(&line)?.expect(&[0, 1])?.json()
    }

    fn state(&self) -> OsString {
        self.image.scratch.join("state").into()
    }

    /// Everything in the tree with the home mounted.
    fn manifest(&self) -> Result<String> {
        self.image.change(&format!(
            "{}\nmount_home\nfind \"$R\" -xdev -printf '%P %y %m %U:%G %T@ %l\\n' | LC_ALL=C sort\n\
             find \"$R/home\" -mindepth 1 -printf '/home/%P %y %m %U:%G %T@ %l\\n' | LC_ALL=C sort\n\
             umount \"$R/home\"; done_home",
            self.prelude()
        ))
    }

    /// What the volume's sshd does with a login, everything mounted as fstab says.
    fn accepts(&self) -> Result<(bool, String)> {
        let copy = self.image.scratch.join("assembled");
        self.image.change(&format!(
            "{}\nmount_home\nrm -rf '{copy}'; cp -a \"$R\" '{copy}'\numount \"$R/home\"; done_home",
            self.prelude(),
            copy = copy.display()
        ))?;
        let login = login(&copy, USER, "")?;
        Ok((login.accepted, login.log))
    }

    fn digest(&self) -> Result<String> {
        self.script("cat \"$DISK\" \"$WITH\" 2>/dev/null | sha256sum")
    }
}

const BREAK: &str =
    "chmod 0777 \"$H\"; chown -R 4321:4321 \"$H/.ssh\"; chmod 0666 \"$H/.ssh/authorized_keys\"";

fn whole_way(layout: Elsewhere) -> Result<()> {
    let moved = Moved::new(layout, BREAK)?;
    let before = moved.manifest()?;
    ensure!(!moved.accepts()?.0, "the recipe breaks nothing");
    // The judge mounts it for writing.
    let bytes = moved.digest()?;

    let seen = moved.run("diagnose", &[], true)?;
    ensure!(seen.verdict()? == "refuse", "{}", seen.transcript());
    ensure!(seen.checks("blocks").contains("home-writable-by-others"), "{}", seen.transcript());
    ensure!(seen.value["root"]["mounts"][0]["point"] == "/home", "{}", seen.transcript());
    moved.run("repair", &["--dry-run"], true)?;
    ensure!(moved.digest()? == bytes, "looking wrote");

    let repaired = moved.run("repair", &[], true)?;
    ensure!(repaired.verdict()? == "accept", "{}", repaired.transcript());
    let (accepted, log) = moved.accepts()?;
    ensure!(accepted, "sshd refuses after the repair\n{}\n{log}", repaired.transcript());
    ensure!(moved.image.loops()?.is_empty(), "a loop device is left");
    moved.image.check()?;
    let again = moved.run("repair", &["--prove"], true)?;
    ensure!(again.value["users"][0]["proof"]["verdict"] == "accept", "{}", again.transcript());
    ensure!(again.actions("changed").is_empty(), "a second run changes something\n{}", again.transcript());

    let state = moved.state();
    let line: Vec<OsString> =
        ["undo", repaired.run()?, "--yes", "--json", "--state-dir"].map(OsString::from).to_vec();
    volrescue(&[line, vec![state]].concat())?.expect(&[0])?;
    let after = moved.manifest()?;
    ensure!(after == before, "undo left a difference\n{before}\n---\n{after}");
    Ok(())
}

fn missing_is_named() -> Result<()> {
    let moved = Moved::new(LAYOUTS[0], BREAK)?;
    let seen = diagnose(&moved.image.path, USER)?;
    ensure!(seen.verdict()? == "unknown", "{}", seen.transcript());
    let text = seen.transcript();
    ensure!(text.contains("--with") && text.contains("home-elsewhere"), "{text}");
    // A repair without it changes nothing of a home that is not there.
    let repaired = moved.run("repair", &[], false)?;
    ensure!(repaired.verdict()? == "unknown", "{}", repaired.transcript());
    ensure!(
        repaired.actions("changed").iter().all(|(_, path)| !path.starts_with("/home/admin")),
        "{}",
        repaired.transcript()
    );
    // A run that changed the home is not undone on a tree that lacks it.
    let repaired = moved.run("repair", &[], true)?;
    ensure!(repaired.verdict()? == "accept", "{}", repaired.transcript());
    std::fs::rename(moved.with(), moved.image.scratch.join("hidden.img"))?;
    let state = moved.state();
    let run = repaired.run()?;
    let line: Vec<OsString> = ["undo", run, "--yes", "--json", "--state-dir"].map(OsString::from).to_vec();
    let refused = volrescue(&[line.clone(), vec![state.clone()]].concat())?.expect(&[3])?;
    ensure!(refused.stdout.contains("home.img"), "{}", refused.transcript());
    let hidden = moved.image.scratch.join("hidden.img");
    volrescue(&[line, vec![state, "--with".into(), hidden.into()]].concat())?.expect(&[0])?;
    Ok(())
}

fn dirty_home() -> Result<()> {
    let moved = Moved::new(LAYOUTS[0], "")?;
    let live = moved.image.scratch.join("live.img");
    std::fs::rename(moved.with(), &live)?;
    moved.script(
        "live=$SCRATCH/live.img; mkdir -p \"$SCRATCH/m\"; mount -o loop \"$live\" \"$SCRATCH/m\"; chmod 777 \"$SCRATCH/m/admin\"; \
         sync -f \"$SCRATCH/m\"; chmod 757 \"$SCRATCH/m/admin\"; echo >\"$SCRATCH/m/admin/new\"; \
         sync \"$SCRATCH/m/admin/new\" \"$SCRATCH/m/admin\"; cp --sparse=always \"$live\" \"$WITH\"; umount \"$SCRATCH/m\"",
    )?;
    let bytes = moved.digest()?;
    let seen = moved.run("diagnose", &[], true)?;
    ensure!(seen.verdict()? == "refuse" && seen.transcript().contains("0757"), "{}", seen.transcript());
    ensure!(moved.digest()? == bytes, "looking wrote");
    let repaired = moved.run("repair", &[], true)?;
    ensure!(repaired.verdict()? == "accept", "{}", repaired.transcript());
    ensure!(moved.accepts()?.0);
    Ok(())
}

/// `--root vg/lv` chooses; a logical volume in pieces is refused with the commands that open it; torn metadata is told.
fn lvm_chosen_and_refused() -> Result<()> {
    let image = Image::logical(Filesystem::Ext4)?;
    let bytes = image.digest()?;
    let look = |root: &str, codes: &[i32]| {
        let line: Vec<OsString> = vec![
            "diagnose".into(),
            image.path.clone().into(),
            "--user".into(),
            USER.into(),
            "--key".into(),
            public_key()?.into(),
            "--json".into(),
            format!("--root={root}").into(),
        ];
        volrescue(&line)?.expect(codes)
    };
    let chosen = look("rootvg/root", &[0])?.json()?;
    ensure!(chosen.value["root"]["logical_volume"] == "rootvg/root", "{}", chosen.transcript());
    let refused = look("rootvg/frag", &[3])?;
    // Where there is device-mapper it is opened, and holds nothing.
    let mapper = has_mapper();
    let more = if mapper { ["no root", "no root"] } else { ["2 pieces, and", "vgchange -ay"] };
    for words in ["rootvg/frag"].into_iter().chain(more) {
        ensure!(refused.stdout.contains(words), "{words}\n{}", refused.transcript());
    }
    ensure!(image.digest()? == bytes && image.loops()?.is_empty());
    // A torn text is no ground for a guess.
    script(
        "printf x | dd of=\"$DISK\" bs=1 seek=$((4194304 + 4096 + 100)) conv=notrunc status=none",
        &[("DISK", &image.path)],
    )?;
    let torn = look("rootvg/root", &[3])?;
    ensure!(torn.stdout.contains("LVM"), "{}", torn.transcript());
    Ok(())
}

/// Lines that lead in circles, out of the tree, over the root or nowhere are told or passed over.
fn hostile_fstab() -> Result<()> {
    let image = Image::healthy(Filesystem::Ext4, Table::None)?;
    image.change(
        r#"
        mkdir "$R/a" "$R/b"
        ln -s /home "$R/over"; ln -s . "$R/here"; ln -s /a/link "$R/a/link"
        cat >"$R/etc/fstab" <<END
/home /home/admin none bind 0 0
/home/admin /home none bind 0 0
/a/link /root none bind 0 0
UUID=0 /here ext4 defaults 0 0
LABEL=$(printf '\033')[31mred /opt ext4 defaults 0 0
UUID=1 ../../etc ext4 defaults 0 0
UUID=2 /usr/../../../etc/ssh ext4 defaults 0 0
UUID= /var/lib/nothing/here ext4 subvol=../.. 0 0
/dev/sda99999999999 /lib ext4 defaults
END
        head -c 200000 /dev/urandom >>"$R/etc/fstab"
        "#,
    )?;
    let bytes = image.digest()?;
    let seen = diagnose(&image.path, USER)?;
    ensure!(["accept", "refuse", "unknown"].contains(&seen.verdict()?), "{}", seen.transcript());
    ensure!(!seen.transcript().contains('\u{1b}'), "an escape code got through");
    ensure!(image.digest()? == bytes && image.loops()?.is_empty());
    let scratch = Scratch::new()?;
    let line: Vec<OsString> =
        vec!["diagnose".into(), scratch.path().into(), "--with".into(), image.path.clone().into()];
    volrescue(&line)?.expect(&[3])?;
    Ok(())
}
