//! Volumes to break: disk images with real filesystems, and plain directories, each a copy of the slim Debian tree.

use super::judge::{Login, login};
use super::manifest::{Manifest, READ};
use super::{Scratch, script, script_on_tree, tool_path, trees};
use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A filesystem to put the root on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
    /// btrfs whose root is this subvolume.
    BtrfsIn(&'static str),
}

impl Filesystem {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Ext4 => "ext4".into(),
            Self::Xfs => "xfs".into(),
            Self::Btrfs => "btrfs".into(),
            Self::BtrfsIn(subvolume) => format!("btrfs-{}", subvolume.replace('/', "-")),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs | Self::BtrfsIn(_) => "btrfs",
        }
    }
}

/// What the filesystem lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// The image is the filesystem.
    None,
    Gpt,
    /// GPT with sectors of 4096 bytes.
    Gpt4096,
    Mbr,
    /// The root is a logical partition.
    MbrExtended,
}

impl Table {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gpt => "gpt",
            Self::Gpt4096 => "gpt4096",
            Self::Mbr => "mbr",
            Self::MbrExtended => "extended",
        }
    }
}

const MIB: u64 = 1 << 20;

/// Sets the variables that recipes are written with; `$ROOT` is the volume.
const VARIABLES: &str = r#"
R=$ROOT U=admin H=$R/home/admin A=$R/home/admin/.ssh/authorized_keys C=$R/etc/ssh/sshd_config I=1000 G=1000
export R U H A C I G
"#;

/// Recipes for root as the login are written with the same variables.
fn with_variables(recipe: &str) -> String {
    format!("{VARIABLES}\n{recipe}\n")
}

/// A disk image of this trial's own.
pub(crate) struct Image {
    pub(crate) scratch: Scratch,
    pub(crate) path: PathBuf,
    filesystem: Filesystem,
    offset: u64,
    /// Of the filesystem, in bytes.
    pub(crate) size: u64,
}

impl Image {
    /// A healthy root on `filesystem` in `table`, with identifiers of its own.
    pub(crate) fn healthy(filesystem: Filesystem, table: Table) -> Result<Self> {
        let scratch = Scratch::new()?;
        let pristine = pristine(filesystem)?;
        let size = fs::metadata(&pristine)?.len();
        let offset = if table == Table::None { 0 } else { 4 * MIB };
        let path = scratch.join("disk.img");
        let image = Self { path, scratch, filesystem, offset, size };
        let layout = match table {
            Table::None => "",
            Table::Gpt | Table::Gpt4096 => {
                "label: gpt\nstart=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649\nstart=4MiB, size=ROOT\n"
            }
            Table::Mbr => "label: dos\nstart=1MiB, size=1MiB, type=82\nstart=4MiB, size=ROOT, type=83\n",
            Table::MbrExtended => {
                "label: dos\nstart=1MiB, size=1MiB, type=82\nstart=2MiB, type=5\nstart=4MiB, size=ROOT, type=83\n"
            }
        };
        let layout = layout.replace("ROOT", &format!("{}MiB", size / MIB));
        // The logical partition follows the extended one in the script, and sfdisk numbers it 5 only if told.
        let layout = if table == Table::MbrExtended { numbered(&layout) } else { layout };
        let sectors = if table == Table::Gpt4096 { "4096" } else { "512" };
        script(
            r#"
            if [ -z "$LAYOUT" ]; then
                cp --sparse=always "$PRISTINE" "$DISK"
                [ "$KIND" != btrfs ] || btrfstune -f -u "$DISK" >/dev/null
                exit
            fi
            truncate -s "$TOTAL" "$DISK"
            if [ "$SECTORS" = 512 ]; then
                printf '%s' "$LAYOUT" | sfdisk --quiet "$DISK" >/dev/null
            else
                # Only a loop device can have other sectors.
                device=$(losetup --find --show --sector-size "$SECTORS" "$DISK")
                trap 'losetup --detach "$device"' EXIT
                printf '%s' "$LAYOUT" | sfdisk --quiet --no-reread --no-tell-kernel "$device" >/dev/null
            fi
            copy=$PRISTINE
            if [ "$KIND" = btrfs ]; then
                copy=$DISK.fs
                cp --sparse=always "$PRISTINE" "$copy"
                btrfstune -f -u "$copy" >/dev/null
            fi
            dd if="$copy" of="$DISK" bs=1M seek="$SEEK" conv=notrunc,sparse status=none
            [ "$copy" = "$PRISTINE" ] || rm "$copy"
            "#,
            &[
                ("DISK", &image.path),
                ("PRISTINE", &pristine),
                ("KIND", Path::new(filesystem.kind())),
                ("LAYOUT", Path::new(&layout)),
                ("SECTORS", Path::new(sectors)),
                ("TOTAL", Path::new(&(offset + size + 2 * MIB).to_string())),
                ("SEEK", Path::new(&(offset / MIB).to_string())),
            ],
        )?;
        Ok(image)
    }

    /// A healthy root on the logical volume `rootvg/root` of partition 2, beside `rootvg/ho-me` (of 32 MiB; where it lies
    /// is in the file `home.at` of the scratch directory) and `rootvg/frag`, which lies in two pieces. LVM's own tools
    /// make the group and say where everything lies; nothing is activated.
    pub(crate) fn logical(filesystem: Filesystem) -> Result<Self> {
        let scratch = Scratch::new()?;
        let pristine = pristine(filesystem)?;
        let size = fs::metadata(&pristine)?.len();
        let path = scratch.join("disk.img");
        let said = script(
            r#"
            truncate -s $(($SIZE + 100 * 1048576)) "$DISK"
            sgdisk -n 1:2048:+1M -n 2:8192:0 -t 2:8e00 "$DISK" >/dev/null
            device=$(losetup --find --show --offset 4194304 "$DISK")
            trap 'losetup --detach "$device"' EXIT
            config="devices { filter=[\"a|^$device\$|\",\"r|.*|\"] use_devicesfile=0 }
                activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }"
            lvm() { command=$1; shift; "$command" --config "$config" --driverloaded n "$@" 2>>"$DISK.log"; }
            lvm pvcreate -q -y "$device" >/dev/null
            lvm vgcreate -q rootvg "$device" >/dev/null
            new() { lvm lvcreate -q -y -an -Zn -Wn "$@" rootvg >/dev/null; }
            new -n frag -L 4M
            new -n root -L "${SIZE}b"
            new -n ho-me -L 32M
            lvm lvextend -q -L +4M rootvg/frag >/dev/null
            start=$(lvm pvs --noheadings --units b --nosuffix -o pe_start "$device" | tail -1 | tr -d ' ')
            extent=$(lvm vgs --noheadings --units b --nosuffix -o vg_extent_size rootvg | tail -1 | tr -d ' ')
            at() {
                first=$(lvm lvs --noheadings -o seg_pe_ranges "rootvg/$1" | sed -n 's/.*:\([0-9]*\)-.*/\1/p')
                echo $((4194304 + start + first * extent))
            }
            echo "$(at ho-me) 33554432" >"${DISK%/*}/home.at"
            dd if="$PRISTINE" of="$DISK" bs=1M seek=$(($(at root) / 1048576)) conv=notrunc,sparse status=none
            at root
            "#,
            &[("DISK", &path), ("PRISTINE", &pristine), ("SIZE", Path::new(&size.to_string()))],
        )?;
        let offset = said.trim().parse().with_context(|| format!("where the root lies: {said}"))?;
        Ok(Self { scratch, path, filesystem, offset, size })
    }

    /// Where the root lies, for mount(8).
    fn options(&self) -> String {
        let subvolume = match self.filesystem {
            Filesystem::BtrfsIn(subvolume) => format!(",subvol={subvolume}"),
            _ => String::new(),
        };
        format!("offset={},sizelimit={}{subvolume}", self.offset, self.size)
    }

    /// Runs a recipe with the root mounted at `$R`, read-write, then unmounts.
    pub(crate) fn change(&self, recipe: &str) -> Result<String> {
        let nouuid = if self.filesystem == Filesystem::Xfs { ",nouuid" } else { "" };
        self.on_mount(&format!("loop{nouuid}"), &with_variables(recipe))
    }

    /// Runs a script with the root mounted at `$R`, read-only and without replay.
    pub(crate) fn look(&self, body: &str) -> Result<String> {
        let options = match self.filesystem {
            Filesystem::Ext4 => "loop,ro,noload",
            Filesystem::Xfs => "loop,ro,norecovery,nouuid",
            Filesystem::Btrfs | Filesystem::BtrfsIn(_) => "loop,ro",
        };
        self.on_mount(options, &with_variables(body))
    }

    fn on_mount(&self, options: &str, body: &str) -> Result<String> {
        let mountpoint = self.scratch.join("mnt");
        fs::create_dir_all(&mountpoint)?;
        let text = format!(
            "mount -t \"$KIND\" -o \"$OPTIONS\" \"$DISK\" \"$ROOT\"\n( {body}\n)\ncd /\numount \"$ROOT\"\n"
        );
        let output = script(
            &text,
            &[
                ("DISK", &self.path),
                ("ROOT", &mountpoint),
                ("KIND", Path::new(self.filesystem.kind())),
                ("OPTIONS", Path::new(&format!("{options},{}", self.options()))),
            ],
        )?;
        self.settle()?;
        Ok(output)
    }

    /// Waits until the kernel has let go of the image: the last close of a loop device may lag on a busy machine.
    fn settle(&self) -> Result<()> {
        for _ in 0..400 {
            if self.loops()?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the kit left a loop device: {}", self.loops()?)
    }

    /// What the image's own sshd does with a login.
    pub(crate) fn login(&self, user: &str) -> Result<Login> {
        let login = login(&self.path, user, &self.options())?;
        self.settle()?;
        Ok(login)
    }

    /// Everything in the root.
    pub(crate) fn manifest(&self) -> Result<Manifest> {
        Ok(Manifest::parse(&self.look(READ)?))
    }

    /// The filesystem's own checker finds nothing; nothing is written.
    pub(crate) fn check(&self) -> Result<()> {
        script(
            r#"
            device=$(losetup --find --show --read-only --offset "$OFFSET" --sizelimit "$SIZE" "$DISK")
            trap 'losetup --detach "$device"' EXIT
            case $KIND in
                ext4) e2fsck -fn "$device" 2>&1; dumpe2fs -h "$device" 2>/dev/null | grep -q '^Filesystem state: *clean' ;;
                xfs) xfs_repair -n "$device" 2>&1 ;;
                btrfs) btrfs check --readonly "$device" 2>&1 ;;
            esac || { echo "the $KIND checker objects" >&2; exit 1; }
            "#,
            &[
                ("DISK", &self.path),
                ("KIND", Path::new(self.filesystem.kind())),
                ("OFFSET", Path::new(&self.offset.to_string())),
                ("SIZE", Path::new(&self.size.to_string())),
            ],
        )
        .map(drop)?;
        self.settle()
    }

    /// Loop devices that still hold the image.
    pub(crate) fn loops(&self) -> Result<String> {
        let output =
            Command::new("losetup").arg("--associated").arg(&self.path).env("PATH", tool_path()).output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// sha256 of the whole image.
    pub(crate) fn digest(&self) -> Result<String> {
        script("sha256sum <\"$DISK\"", &[("DISK", &self.path)])
    }

    /// Whether a mount would have to replay something.
    pub(crate) fn journal_is_dirty(&self) -> Result<bool> {
        let answer = script(
            r#"
            device=$(losetup --find --show --read-only --offset "$OFFSET" --sizelimit "$SIZE" "$DISK")
            trap 'losetup --detach "$device"' EXIT
            case $KIND in
                ext4) dumpe2fs -h "$device" 2>/dev/null | grep -q needs_recovery ;;
                xfs) xfs_logprint -t "$device" 2>/dev/null | grep -q '<DIRTY>' ;;
                btrfs) btrfs inspect-internal dump-super "$device" | grep -q '^log_root[[:space:]]*[1-9]' ;;
            esac && echo dirty || echo clean
            "#,
            &[
                ("DISK", &self.path),
                ("KIND", Path::new(self.filesystem.kind())),
                ("OFFSET", Path::new(&self.offset.to_string())),
                ("SIZE", Path::new(&self.size.to_string())),
            ],
        )?;
        Ok(answer.trim() == "dirty")
    }

    /// Makes this image what a copy of a running root is: mounted, changed by `recipe`, and copied before the unmount.
    pub(crate) fn copy_while_mounted(&self, recipe: &str) -> Result<()> {
        let live = self.scratch.join("live.img");
        fs::rename(&self.path, &live)?;
        let running = Self {
            scratch: Scratch::new()?,
            path: live.clone(),
            filesystem: self.filesystem,
            offset: self.offset,
            size: self.size,
        };
        let copy = self.path.display();
        running.change(&format!("{recipe}\ncp --sparse=always \"{}\" \"{copy}\"", live.display()))?;
        fs::remove_file(live)?;
        Ok(())
    }
}

/// Gives each partition line of a script for sfdisk its number; the third is the first logical one.
fn numbered(layout: &str) -> String {
    let mut lines = layout.lines();
    let head = lines.next().unwrap_or_default();
    let mut text = format!("{head}\n");
    for (line, number) in lines.zip([1, 2, 5]) {
        text.push_str(&format!("p{number} : {line}\n"));
    }
    text
}

/// Of the images below; another number makes them anew.
const RECIPE: u32 = 2;

/// The filesystem image that all images with this filesystem are copies of; made once.
fn pristine(filesystem: Filesystem) -> Result<PathBuf> {
    let trees = trees()?;
    let directory = trees.join("images");
    fs::create_dir_all(&directory)?;
    let lock = fs::File::create(directory.join(".lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("locking the images")?;
    let image = directory.join(format!("{}-{RECIPE}.img", filesystem.name()));
    let slim = trees.join("bookworm-slim");
    let made = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    if made(&image) > made(&trees.join("bookworm-slim.stamp")) {
        return Ok(image);
    }
    let subvolume = if let Filesystem::BtrfsIn(subvolume) = filesystem { subvolume } else { "" };
    script(
        r#"
        rm -f "$IMAGE" "$IMAGE.new"
        case $KIND in
            ext4) truncate -s 96M "$IMAGE.new"; mkfs.ext4 -q -b 4096 -J size=4 -d "$SLIM" "$IMAGE.new" ;;
            xfs) truncate -s 304M "$IMAGE.new"; mkfs.xfs -q "$IMAGE.new" ;;
            btrfs)
                truncate -s 192M "$IMAGE.new"
                if [ -z "$SUBVOLUME" ]; then mkfs.btrfs -q --rootdir "$SLIM" "$IMAGE.new" >/dev/null
                else mkfs.btrfs -q "$IMAGE.new" >/dev/null; fi ;;
        esac
        if [ "$KIND" = xfs ] || [ -n "$SUBVOLUME" ]; then
            mount -o loop "$IMAGE.new" "$IMAGES"
            place=$IMAGES
            if [ -n "$SUBVOLUME" ]; then
                case $SUBVOLUME in
                    */.snapshots/1/snapshot)
                        # snapper's layout, the running root being the first snapshot and the default subvolume.
                        btrfs subvolume create "$IMAGES/@" >/dev/null
                        btrfs subvolume create "$IMAGES/@/.snapshots" >/dev/null
                        mkdir "$IMAGES/@/.snapshots/1"
                        btrfs subvolume create "$IMAGES/$SUBVOLUME" >/dev/null
                        btrfs subvolume set-default "$IMAGES/$SUBVOLUME" ;;
                    *)
                        btrfs subvolume create "$IMAGES/$SUBVOLUME" >/dev/null
                        btrfs subvolume create "$IMAGES/${SUBVOLUME%%/*}-other" >/dev/null ;;
                esac
                place=$IMAGES/$SUBVOLUME
            fi
            cp -a "$SLIM/." "$place/"
            umount "$IMAGES"
        fi
        sync "$IMAGE.new"
        fallocate --dig-holes "$IMAGE.new" 2>/dev/null || true
        # Now, so that it is newer than the tree.
        touch "$IMAGE.new"
        "#,
        &[
            ("IMAGE", &image),
            ("IMAGES", &mountpoint(&directory)?),
            ("KIND", Path::new(filesystem.kind())),
            ("SLIM", &slim),
            ("SUBVOLUME", Path::new(subvolume)),
        ],
    )
    .with_context(|| format!("making a {} image", filesystem.name()))?;
    let mut new = image.clone().into_os_string();
    new.push(".new");
    fs::rename(new, &image)?;
    Ok(image)
}

fn mountpoint(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("mnt");
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// A directory that holds a root.
pub(crate) struct Tree {
    _scratch: Scratch,
    pub(crate) path: PathBuf,
}

impl Tree {
    /// A healthy copy of the slim tree of Debian 12.
    pub(crate) fn healthy() -> Result<Self> {
        Self::of("bookworm")
    }

    /// A healthy copy of the slim tree of a Debian release; others than 12 want `scripts/prepare --all` first.
    pub(crate) fn of(suite: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        let path = scratch.join("root");
        script(
            "cp -a \"$SLIM\" \"$ROOT\"",
            &[("SLIM", &trees()?.join(format!("{suite}-slim"))), ("ROOT", &path)],
        )?;
        Ok(Self { _scratch: scratch, path })
    }

    /// Runs a recipe with `$R` set to the directory.
    pub(crate) fn change(&self, recipe: &str) -> Result<String> {
        script_on_tree(&with_variables(recipe), &[("ROOT", &self.path)])
    }

    /// The same for a recipe that may find what it wants to change gone, or a FIFO in its place.
    pub(crate) fn try_change(&self, recipe: &str) -> Result<()> {
        let body = with_variables("timeout --signal KILL 5 sh -c \"$RECIPE\" >/dev/null 2>&1 || true");
        script_on_tree(&body, &[("ROOT", &self.path), ("RECIPE", Path::new(recipe))]).map(drop)
    }

    /// What the tree's own sshd does with a login.
    pub(crate) fn login(&self, user: &str) -> Result<Login> {
        login(&self.path, user, "")
    }

    /// Everything below.
    pub(crate) fn manifest(&self) -> Result<Manifest> {
        Manifest::of_directory(&self.path)
    }
}
