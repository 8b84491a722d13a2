# SPDX-License-Identifier: MIT
# The layouts of the laboratory. Sourced here for their names, and in the helper, where they are built.
#
# build_NAME DISK [DISK2] partitions the disks, mounts the root at /mnt/new (and what belongs below it) and says in $boot
# what the kernel is told of its root; $fstab is written by it too. A layout with two disks is named in $two_disks, one
# that asks for a passphrase in $with_passphrase, one of which a copy is mounted on the helper meanwhile in $with_copy, one
# that is refused until LVM has opened it in $by_lvm.

all_layouts='gpt-ext4 mbr-xfs-home btrfs-subvolumes lvm-home lvm-pieces lvm-striped lvm-two-disks luks2 luks1-xfs lvm-on-luks luks-on-lvm md-1.2 md-1.0 twin xfs-copy btrfs-copy lvm-thin lvm-raid1 lvm-mirror lvm-cache'
two_disks='lvm-two-disks md-1.2 md-1.0'
with_passphrase='luks2 luks1-xfs lvm-on-luks luks-on-lvm'
with_copy='xfs-copy btrfs-copy'
by_lvm='lvm-thin lvm-raid1 lvm-mirror lvm-cache'
passphrase='correct horse battery staple'

# The N-th partition of a disk.
part() { case $1 in *[0-9]) echo "$1p$2" ;; *) echo "$1$2" ;; esac }
gpt() { local disk=$1; shift; { echo 'label: gpt'; printf '%s\n' "$@"; } | sfdisk --quiet --wipe always "$disk"; udevadm settle; }
uuid() { blkid -p -s UUID -o value "$1"; }
luks() { printf %s "$passphrase" | cryptsetup "$@"; }

build_gpt_ext4() {
    gpt "$1" 'size=64M, type=U' 'type=L'
    mkfs.ext4 -q "$(part "$1" 2)"
    mount "$(part "$1" 2)" /mnt/new
    boot=UUID=$(uuid "$(part "$1" 2)")
    fstab="$boot / ext4 defaults 0 1"
}
build_mbr_xfs_home() {
    printf 'label: dos\nsize=1G, type=83, bootable\ntype=83\n' | sfdisk --quiet --wipe always "$1"; udevadm settle
    mkfs.xfs -q "$(part "$1" 1)"
    mkfs.xfs -q "$(part "$1" 2)"
    mount "$(part "$1" 1)" /mnt/new
    mkdir /mnt/new/home
    mount "$(part "$1" 2)" /mnt/new/home
    boot=UUID=$(uuid "$(part "$1" 1)")
    fstab="$boot / xfs defaults 0 1
UUID=$(uuid "$(part "$1" 2)") /home xfs defaults 0 2"
}
build_btrfs_subvolumes() {
    gpt "$1" 'type=L'
    mkfs.btrfs -q "$(part "$1" 1)"
    mount "$(part "$1" 1)" /mnt/new
    btrfs -q subvolume create /mnt/new/@ && btrfs -q subvolume create /mnt/new/@home
    umount /mnt/new
    mount -o subvol=@ "$(part "$1" 1)" /mnt/new
    mkdir /mnt/new/home
    mount -o subvol=@home "$(part "$1" 1)" /mnt/new/home
    boot="UUID=$(uuid "$(part "$1" 1)") rootflags=subvol=@"
    fstab="${boot% *} / btrfs subvol=@ 0 0
${boot% *} /home btrfs subvol=@home 0 0"
}
build_xfs_copy() { one_partition "$1" xfs; }
build_btrfs_copy() { one_partition "$1" btrfs; }
one_partition() {
    gpt "$1" 'type=L'
    "mkfs.$2" -q "$(part "$1" 1)"
    mount "$(part "$1" 1)" /mnt/new
    boot=UUID=$(uuid "$(part "$1" 1)")
    fstab="$boot / $2 defaults 0 0"
}
lvm_root() {
    # QEMU's NVMe loses commands when a thin pool hands on many discards.
    mkfs.ext4 -q -E nodiscard "/dev/$1/root"
    mount "/dev/$1/root" /mnt/new
    boot=/dev/mapper/$1-root
    fstab="$boot / ext4 defaults 0 1"
}
build_lvm_home() {
    gpt "$1" 'size=64M, type=U' 'type=V'
    vgcreate -q vghome "$(part "$1" 2)"
    lvcreate -qy -n root -L 1G vghome
    lvcreate -qy -n home -L 200M vghome
    lvm_root vghome
    mkfs.ext4 -q /dev/vghome/home
    mkdir /mnt/new/home
    mount /dev/vghome/home /mnt/new/home
    fstab="$fstab
/dev/mapper/vghome-home /home ext4 defaults 0 2"
}
# The root in two segments, with another volume between them.
build_lvm_pieces() {
    gpt "$1" 'type=V'
    vgcreate -q vgpieces "$(part "$1" 1)"
    lvcreate -qy -n root -L 600M vgpieces
    lvcreate -qy -n other -L 100M vgpieces
    lvextend -q -L 1100M vgpieces/root
    lvm_root vgpieces
}
build_lvm_striped() {
    gpt "$1" 'size=900M, type=V' 'type=V'
    vgcreate -q vgstriped "$(part "$1" 1)" "$(part "$1" 2)"
    lvcreate -qy -n root -i 2 -I 64 -L 1100M vgstriped
    lvm_root vgstriped
}
build_lvm_two_disks() {
    vgcreate -q vgtwo "$1" "$2"
    # In two steps: asked for all of it at once, LVM may take one disk alone.
    lvcreate -qy -n root -L 800M vgtwo "$1"
    lvextend -q -L 1200M vgtwo/root "$2"
    lvm_root vgtwo
}
# What is no plain mapping is LVM's to open. Its two physical volumes are on one disk.
lvm_of_two() {
    gpt "$1" 'size=1280M, type=V' 'type=V'
    vgcreate -q "$2" "$(part "$1" 1)" "$(part "$1" 2)"
}
build_lvm_thin() {
    lvm_of_two "$1" vgthin
    lvcreate -qy --type thin-pool -n pool -L 1200M vgthin
    lvcreate -qy --thin -V 2G -n root vgthin/pool
    lvm_root vgthin
}
build_lvm_raid1() {
    lvm_of_two "$1" vgraid
    lvcreate -qy --type raid1 -m 1 --nosync -n root -L 1200M vgraid
    lvm_root vgraid
}
build_lvm_mirror() {
    lvm_of_two "$1" vgmirror
    lvcreate -qy --type mirror -m 1 --mirrorlog core --nosync -n root -L 1200M vgmirror
    lvm_root vgmirror
}
build_lvm_cache() {
    lvm_of_two "$1" vgcache
    lvcreate -qy -n root -L 1200M vgcache "$(part "$1" 1)"
    lvcreate -qy -n fast -L 200M vgcache "$(part "$1" 2)"
    lvconvert -qy --type cache --cachevol fast vgcache/root
    lvm_root vgcache
}
# luks_root DEVICE: opens it as lab-root; the initramfs asks for the passphrase.
luks_root() {
    luks open --key-file - "$1" lab-root
    boot="/dev/mapper/root cryptopts=target=root,source=UUID=$(cryptsetup luksUUID "$1")"
    fstab="/dev/mapper/root / auto defaults 0 1"
}
build_luks2() {
    gpt "$1" 'size=64M, type=U' 'type=L'
    luks luksFormat -q --type luks2 --pbkdf-force-iterations 4 --pbkdf-memory 65536 --pbkdf-parallel 1 --key-file - "$(part "$1" 2)"
    luks_root "$(part "$1" 2)"
    mkfs.ext4 -q /dev/mapper/lab-root
    mount /dev/mapper/lab-root /mnt/new
}
build_luks1_xfs() {
    gpt "$1" 'type=L'
    luks luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file - "$(part "$1" 1)"
    luks_root "$(part "$1" 1)"
    mkfs.xfs -q /dev/mapper/lab-root
    mount /dev/mapper/lab-root /mnt/new
}
# As the installer of Debian makes it.
build_lvm_on_luks() {
    gpt "$1" 'size=64M, type=U' 'type=L'
    luks luksFormat -q --type luks2 --pbkdf-force-iterations 4 --pbkdf-memory 65536 --pbkdf-parallel 1 --key-file - "$(part "$1" 2)"
    luks_root "$(part "$1" 2)"
    vgcreate -q vgcrypt /dev/mapper/lab-root
    lvcreate -qy -n root -L 1G vgcrypt
    lvcreate -qy -n home -L 200M vgcrypt
    local options=${boot#* }
    lvm_root vgcrypt
    mkfs.ext4 -q /dev/vgcrypt/home
    mkdir /mnt/new/home
    mount /dev/vgcrypt/home /mnt/new/home
    boot="$boot ${options/target=root/target=crypt},lvm=vgcrypt"
    fstab="$fstab
/dev/mapper/vgcrypt-home /home ext4 defaults 0 2"
}
build_luks_on_lvm() {
    gpt "$1" 'type=V'
    vgcreate -q vgouter "$(part "$1" 1)"
    lvcreate -qy -n crypt -L 1200M vgouter
    luks luksFormat -q --type luks2 --pbkdf-force-iterations 4 --pbkdf-memory 65536 --pbkdf-parallel 1 --key-file - /dev/vgouter/crypt
    luks_root /dev/vgouter/crypt
    mkfs.ext4 -q /dev/mapper/lab-root
    mount /dev/mapper/lab-root /mnt/new
    boot="/dev/mapper/root cryptopts=target=root,source=/dev/mapper/vgouter-crypt"
}
build_md() {
    gpt "$2" 'type=R'
    gpt "$3" 'type=R'
    mdadm --create /dev/md/lab --quiet --run --level=1 --raid-devices=2 --metadata="$1" --bitmap=none --assume-clean \
        --homehost=lab "$(part "$2" 1)" "$(part "$3" 1)"
    udevadm settle
    mkfs.ext4 -q /dev/md/lab
    mount /dev/md/lab /mnt/new
    boot=UUID=$(uuid /dev/md/lab)
    fstab="$boot / ext4 defaults 0 1"
}
build_md_1.2() { build_md 1.2 "$1" "$2"; }
build_md_1.0() { build_md 1.0 "$1" "$2"; }

# The helper's own disk again: the same ids, the same volume group. It was broken before it was plugged in.
build_twin() { built=1 boot=/dev/mapper/vglab-root; }

# Everything that building may have opened, closed again.
close_all() {
    sync
    cd /
    ! mountpoint -q /mnt/new || umount -R /mnt/new
    local group
    # A group that is in the container goes before it; the one that the container is in has to wait for it.
    for group in $(vgs --noheadings -o vg_name 2>/dev/null); do
        [ "$group" = "${own_group:-}" ] || vgchange -qan "$group" 2>/dev/null || true
    done
    [ ! -e /dev/mapper/lab-root ] || cryptsetup close lab-root
    for group in $(vgs --noheadings -o vg_name 2>/dev/null); do
        [ "$group" = "${own_group:-}" ] || vgchange -qan "$group"
    done
    [ ! -e /dev/md/lab ] || mdadm --quiet --stop /dev/md/lab
    udevadm settle
}

# populate NAME: a machine like this one. What only the kernel and the initramfs have need of is left out: an emulator
# copies slowly.
populate() {
    mkdir -p /mnt/new
    tar -C / --one-file-system --acls --xattrs --numeric-owner --exclude='./mnt/*' --exclude='./tmp/*' --exclude=./root/lab \
        --exclude='./sys/*' --exclude='./proc/*' --exclude='./dev/*' --exclude='./run/*' --exclude=./var/lib/volrescue \
        --exclude=./boot --exclude=./usr/lib/modules --exclude='./usr/lib/python3*' --exclude='./usr/lib/udev/hwdb*' \
        --exclude='./usr/lib/x86_64-linux-gnu/perl*' --exclude='./usr/bin/python3*' --exclude='./usr/bin/perl*' \
        -cf - . | tar -C /mnt/new --acls --xattrs --numeric-owner -xpf -
    printf '%s\n' "$fstab" >/mnt/new/etc/fstab
    echo "$1" >/mnt/new/etc/hostname
    # sudo looks for the name of its machine, and nobody else answers here.
    printf '127.0.0.1 localhost %s\n' "$1" >/mnt/new/etc/hosts
}

# break_it N: one of the ways in which logins die.
break_it() {
    local home=/mnt/new/home/admin
    case $(($1 % 4)) in
        0) chmod -R 777 "$home" ;;
        1) chown -R 1234:1234 "$home"; chmod 775 "$home/.ssh" ;;
        2) rm -r "$home/.ssh"; chmod 700 /mnt/new/home ;;
        3) sed -i /^admin:/d /mnt/new/etc/passwd /mnt/new/etc/shadow; chmod 666 "$home/.ssh/authorized_keys" ;;
    esac
}
