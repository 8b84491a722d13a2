# What the builders of layouts.tsv are written with. D is the disk, W a second volume, R where the tree is mounted.
cleanup=
trap 'cd /; umount -R "$R" 2>/dev/null || :; for device in $cleanup; do losetup --detach "$device" 2>/dev/null || :; done' EXIT

# device FILE [OFFSET SIZE]: a loop device; kept in $dev.
device() {
    dev=$(losetup --find --show ${SECTOR:+--sector-size "$SECTOR"} ${2:+--offset "$2"} ${3:+--sizelimit "$3"} "$1")
    cleanup="$dev $cleanup"
}
# part N: partition N of the disk.
part() {
    device "$D"
    unit=$(blockdev --getss "$dev")
    set -- $(sfdisk --json "$dev" | python3 -c '
import json, sys
for one in json.load(sys.stdin)["partitiontable"]["partitions"]:
    name = one["node"][len(sys.argv[1]):].lstrip("p")
    if name == sys.argv[2]: print(one["start"], one["size"])' "$dev" "$1")
    device "$D" $(($1 * unit)) $(($2 * unit))
}
# disk SIZE LABEL LINES...: partitions, in the words of sfdisk.
disk() {
    truncate -s "$1" "$D"
    label=$2
    shift 2
    device "$D"
    { echo "label: $label"; printf '%s\n' "$@"; } | sfdisk --quiet --no-reread --no-tell-kernel "$dev" >/dev/null
}
uuid() { blkid -p -s UUID -o value "$1"; }
fstab() { mkdir -p "$R/etc"; echo "$*" >>"$R/etc/fstab"; }
# The slim tree, over all that is mounted.
fill() { cp -a "$SLIM/." "$R/"; }
# over DIRECTORY DEVICE OPTIONS...
over() { mkdir -p "$R$1"; point=$R$1; from=$2; shift 2; mount "$@" "$from" "$point"; }
# group NAME:SIZE...: a group rootvg on $dev with these volumes, linear, not activated.
group() {
    pv=$dev
    config="devices { filter=[\"a|^$pv\$|\",\"r|.*|\"] use_devicesfile=0 }
        activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }"
    lvm() { command=$1; shift; "$command" --config "$config" --driverloaded n "$@" 2>/dev/null; }
    lvm pvcreate -q -y "$pv" >/dev/null
    lvm vgcreate -q rootvg "$pv" >/dev/null
    for one in "$@"; do lvm lvcreate -q -y -an -Zn -Wn -n "${one%:*}" -L "${one#*:}" rootvg >/dev/null; done
}
# logical NAME N: the device of a volume of the group on partition N.
logical() {
    part "$2"
    pv=$dev
    config="devices { filter=[\"a|^$pv\$|\",\"r|.*|\"] use_devicesfile=0 }
        activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }"
    lvm() { command=$1; shift; "$command" --config "$config" --driverloaded n "$@" 2>/dev/null; }
    first=$(lvm pvs --noheadings --units b --nosuffix -o pe_start "$pv" | tail -1 | tr -d ' ')
    extent=$(lvm vgs --noheadings --units b --nosuffix -o vg_extent_size rootvg | tail -1 | tr -d ' ')
    size=$(lvm lvs --noheadings --units b --nosuffix -o lv_size "rootvg/$1" | tail -1 | tr -d ' ')
    range=$(lvm lvs --noheadings -o seg_pe_ranges "rootvg/$1" | sed -n 's/.*:\([0-9]*\)-.*/\1/p')
    device "$pv" $((first + range * extent)) "$size"
}
