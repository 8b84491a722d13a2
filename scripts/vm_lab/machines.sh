# SPDX-License-Identifier: MIT
# The machines of the laboratory, and what is done with them. Sourced by scripts/vm-lab and scripts/mutated-images.

# --- The machines' system -------------------------------------------------------------------------------------------

lab_packages=openssh-server,sudo,acl,systemd-sysv,udev,dbus,libpam-systemd,lvm2,mdadm,cryptsetup,cryptsetup-initramfs,thin-provisioning-tools,xfsprogs,btrfs-progs,e2fsprogs,fdisk,initramfs-tools,linux-image-cloud-amd64,iproute2

# make_lab_tree: a Debian that boots on every layout: its initramfs has LVM, md and LUKS in it.
make_lab_tree() {
    local tree=$lab/tree recipe=1 work=$lab/tree.new
    [ "$(cat "$tree.stamp" 2>/dev/null)" = "$recipe" ] && return 0
    rm -rf --one-file-system "$work" "$tree"
    if [ -n "${VOLRESCUE_LAB_TREE:-}" ]; then
        mkdir "$work" && cp -a "$VOLRESCUE_LAB_TREE/." "$work/"
    else
        say "debootstrap of the machines' system (some minutes)"
        debootstrap --variant=minbase --include="$lab_packages" bookworm "$work" \
            "${VOLRESCUE_MIRROR:-http://deb.debian.org/debian}" >"$tree.log" 2>&1 </dev/null ||
            { tail -n 5 "$tree.log" >&2; die "debootstrap failed; see $tree.log"; }
    fi
    rm -rf --one-file-system "$work"/usr/share/{doc,man,locale,info,lintian,i18n,zoneinfo} \
        "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/* "$work"/usr/lib/x86_64-linux-gnu/gconv \
        "$work"/etc/ssh/ssh_host_* "$work"/debootstrap
    furnish_tree "$work"
    rm -rf "$work/run/sshd"
    echo lab >"$work/etc/hostname"
    printf '127.0.0.1 localhost lab\n' >"$work/etc/hosts"
    printf '[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$work/etc/systemd/network/lab.network"
    local unit
    chroot "$work" systemctl --quiet enable systemd-networkd ssh
    # What only takes time here.
    for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer systemd-networkd-wait-online.service systemd-pstore.service; do
        ln -sfn /dev/null "$work/etc/systemd/system/$unit"
    done
    printf 'CRYPTSETUP=y\n' >>"$work/etc/cryptsetup-initramfs/conf-hook"
    printf 'MODULES=most\nCOMPRESS=zstd\n' >"$work/etc/initramfs-tools/conf.d/lab"
    printf 'dm_mod\ndm_crypt\nraid1\nnvme\nvirtio_pci\nvirtio_blk\next4\nxfs\nbtrfs\n' >>"$work/etc/initramfs-tools/modules"
    : >"$work/etc/fstab"
    # Copying them takes its time in an emulator.
    rm -rf "$work"/usr/lib/modules/*/kernel/{sound,drivers/{gpu,infiniband,media,usb,net/ethernet,net/wireless,staging,scsi/{lpfc,qla2xxx}}}
    chroot "$work" sh -c 'depmod "$(ls /lib/modules)"'
    mount --bind /dev "$work/dev"
    chroot "$work" sh -c 'mount -t proc proc /proc && update-initramfs -u; s=$?; umount /proc; exit $s' >>"$tree.log" 2>&1 </dev/null || {
        umount "$work/dev"
        die "no initramfs; see $tree.log"
    }
    umount "$work/dev"
    mv "$work" "$tree"
    cp "$tree"/boot/vmlinuz-* "$lab/vmlinuz"
    cp "$tree"/boot/initrd.img-* "$lab/initrd.img"
    echo "$recipe" >"$tree.stamp"
}

# make_helper_disk: the helper's own disk: GPT, a physical volume, vglab/root with ext4. Nothing is activated here: this
# machine may have no device-mapper.
make_helper_disk() {
    local disk=$lab/helper.img device start
    [ "$disk" -nt "$lab/tree.stamp" ] && return 0
    rm -f "$disk" "$disk.new"
    truncate -s 2G "$disk.new"
    printf 'label: gpt\nstart=2048, type=V, uuid=11111111-1111-4111-8111-111111111111\n' | sfdisk --quiet "$disk.new"
    device=$(losetup --find --show --offset 1048576 "$disk.new")
    lvm_here() {
        local command=$1
        shift
        "$command" --driverloaded n --config "devices { filter=[\"a|^$device\$|\",\"r|.*|\"] use_devicesfile=0 }
            activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 }" "$@" 2>>"$lab/tree.log"
    }
    {
        lvm_here pvcreate -q -y "$device" && lvm_here vgcreate -q vglab "$device" &&
            lvm_here lvcreate -q -y -an -Zn -Wn -n root -l 100%FREE vglab
        start=$(lvm_here pvs --noheadings --units b --nosuffix -o pe_start "$device" | tail -n 1 | tr -d ' ')
    } >>"$lab/tree.log" || { losetup --detach "$device"; die "no volume group; see $lab/tree.log"; }
    losetup --detach "$device"
    echo $((1048576 + start)) >"$lab/helper.at"
    mkfs.ext4 -q -F -L lab-root -U 22222222-2222-4222-8222-222222222222 -E "offset=$((1048576 + start)),lazy_itable_init=1" \
        -d "$lab/tree" "$disk.new" 2080000k
    mv "$disk.new" "$disk"
}

# twin_of_helper FILE: a copy of the helper's own disk, broken as a machine of its own.
twin_of_helper() {
    cp --sparse=always "$lab/helper.img" "$1"
    unshare --mount --propagation private sh -euc 'mount -o "loop,offset=$2" "$1" /mnt; echo twin >/mnt/etc/hostname; echo 127.0.0.1 localhost twin >/mnt/etc/hosts
        chmod -R 777 /mnt/home/admin; umount /mnt' sh "$1" "$(cat "$lab/helper.at")"
}

# --- QEMU -----------------------------------------------------------------------------------------------------------

need_qemu() {
    command -v qemu-system-x86_64 >/dev/null ||
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends --allow-downgrades qemu-system-x86 >&2; }
}

# start_machine NAME MEMORY COMMAND-LINE OPTION...: its files are $work/NAME.*
start_machine() {
    local name=$1 memory=$2 append=$3
    shift 3
    rm -f "$work/$name".*
    nice -n 10 qemu-system-x86_64 -name "$name" -machine q35 -accel "$accel" -smp 1 -m "$memory" -display none -nodefaults \
        -no-reboot -kernel "$lab/vmlinuz" -initrd "${initrd:-$lab/initrd.img}" -append "$append console=ttyS0 quiet mitigations=off no_timer_check" \
        -chardev "socket,id=serial,path=$work/$name.serial,server=on,wait=off,logfile=$work/$name.log" -serial chardev:serial \
        -qmp "unix:$work/$name.qmp,server=on,wait=off" -device virtio-rng-pci \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net,romfile= \
        -device pcie-root-port,id=slot1,chassis=1,slot=1 -device pcie-root-port,id=slot2,chassis=2,slot=2 \
        "$@" >"$work/$name.out" 2>&1 8>&- &
    echo $! >"$work/$name.pid"
}

qmp() { python3 scripts/vm_lab/qmp.py "$work/$1.qmp" "${@:2}"; }

stop_machine() {
    local name=$1 pid
    pid=$(cat "$work/$name.pid" 2>/dev/null) || return 0
    [ "${2:-}" != off ] || guest 'systemctl poweroff' >/dev/null 2>&1 || true
    local i
    for i in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || break
        [ "${2:-}" = off ] || { kill "$pid" 2>/dev/null; }
        sleep 1
    done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    rm -f "$work/$name.pid"
}

guest() { ssh "${ssh_options[@]}" -o ControlMaster=auto -o ControlPath="$work/ssh.%C" -o ControlPersist=300 root@127.0.0.1 "$@" </dev/null; }
guest_typing() { ssh "${ssh_options[@]}" -tt root@127.0.0.1 "$@"; }
give() { scp -q "${ssh_options[@]/-p/-P}" "${@:2}" "root@127.0.0.1:$1"; }

# wait_for_login NAME USER: until SSH lets USER in; says how long it took.
wait_for_login() {
    local name=$1 user=$2 start=$SECONDS asked=0 prompts
    while ! ssh "${ssh_options[@]}" "$user@127.0.0.1" true </dev/null 2>"$work/$name.ssh"; do
        prompts=$(grep -ao 'unlock disk' "$work/$name.log" 2>/dev/null | wc -l)
        if [ "$prompts" -gt "$asked" ]; then
            qmp_type "$name" "$passphrase"
            asked=$prompts
        fi
        kill -0 "$(cat "$work/$name.pid")" 2>/dev/null || { say "$name stopped by itself:"; tail -n 15 "$work/$name.log" >&2; return 1; }
        if [ $((SECONDS - start)) -gt "${VOLRESCUE_LAB_PATIENCE:-600}" ]; then
            say "no login on $name after $((SECONDS - start)) s: $(tail -n 1 "$work/$name.ssh")"
            return 1
        fi
        sleep 2
    done
    took=$((SECONDS - start))
}
qmp_type() { python3 scripts/vm_lab/qmp.py "$work/$1.serial" type "text=$2"; }

# --- Disks that are plugged in while the helper runs ----------------------------------------------------------------

volume_of() { printf 'vol-0%016x' "$(($1 + 0xab00))"; }
serial_of() { volume_of "$1" | tr -d -; }
# add_disk N FILE makes it known to QEMU; plug N attaches it as EBS does (the first as NVMe), unplug N takes it away.
add_disk() { qmp helper blockdev-add driver=raw node-name="disk$1" file.driver=file file.filename="$2"; }
drop_disk() { qmp helper blockdev-del node-name="disk$1"; }
plug() {
    local kind=nvme
    [ "$1" = 1 ] || kind=virtio-blk-pci
    qmp helper device_add driver=$kind id="dev$1" bus="slot$1" drive="disk$1" serial="$(serial_of "$1")"
    guest "for i in \$(seq 60); do grep -qs $(serial_of "$1") /sys/block/*/serial /sys/block/*/device/serial && break; sleep 1; done
        udevadm settle; grep -ls $(serial_of "$1") /sys/block/*/serial /sys/block/*/device/serial | cut -d/ -f4 | sed s,^,/dev/,"
}
unplug() {
    qmp helper device_del id="dev$1"
    guest "for i in \$(seq 60); do grep -qs $(serial_of "$1") /sys/block/*/serial /sys/block/*/device/serial || exit 0; sleep 1; done; exit 1"
    sleep 1
}

# What a run could leave behind, as the helper sees it.
leftovers() {
    guest 'echo "mounts: $(findmnt -rno TARGET,SOURCE | grep -v -e /run/user | sort | md5sum | cut -c1-8)"
        echo "loops: $(losetup -a)"; echo "mapped: $(dmsetup ls | sort)"; echo "md: $(grep ^md /proc/mdstat)"
        echo "processes: $(pgrep -fl "^/root/lab/volrescue|[c]ryptsetup |[m]dadm --[a-l]")"'
}

# What must not change on the helper when its twin is repaired.
helper_state() {
    guest 'cat /etc/hostname; find /etc /home /root/.ssh -xdev -type f -exec sha256sum {} + | sort | sha256sum
        find /etc /home /root/.ssh -xdev -printf "%p %m %u %g\n" | sort | sha256sum
        vgs --noheadings -o vg_name,vg_uuid,vg_seqno; lvs --noheadings -o lv_name,lv_uuid,lv_active; findmnt -no SOURCE /' 2>/dev/null
}

# --- One layout -----------------------------------------------------------------------------------------------------

step() { printf '%s %-18s %s\n' "$(date +%T)" "$layout" "$*" >&2; }
fails() { printf 'FAIL %s: %s\n' "$layout" "$*" | tee -a "$work/failed" >&2; return 1; }
has_word() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac; }

run_volrescue() {
    local wanted=$1 status=0
    shift
    printf '# volrescue %s\n' "$*" >>"$log"
    guest "/root/lab/volrescue $*" >>"$log" 2>&1 || status=$?
    printf '# exit status %s\n' "$status" >>"$log"
    [ "$status" = "$wanted" ] || { tail -n 12 "$log" >&2; fails "volrescue $1 ended with $status, not $wanted; see $log"; }
}

# udev only tells systemd to activate a group: until that is over a disk is neither held nor free.
udev_is_done() {
    guest 'sleep 1; udevadm settle; for i in $(seq 60); do
        systemctl list-units --no-legend --plain --state=active,activating "lvm-activate-*" | grep -q . || break
        sleep 0.5
    done'
}

# What stands in the way when udev has assembled the disk on its own: refused by name, then closed as an operator would.
let_go() {
    local held
    udev_is_done
    held=$(guest 'dmsetup ls 2>/dev/null | grep -v "No devices" | cut -f1; grep -o "^md[0-9]*" /proc/mdstat; true')
    [ -n "$held" ] && [ "$held" != "$own_mapped" ] || return 0
    run_volrescue 4 diagnose "$(volume_of 1)" || return 1
    grep -q 'is in use' "$log" || fails 'what holds the disk is not named'
    close_in_helper >>"$log" 2>&1
    refused="refused while udev held it; "
}

close_in_helper() {
    guest ". /root/lab/layouts.sh; own_group=$own_group; close_all; for md in \$(grep -o '^md[0-9]*' /proc/mdstat); do mdadm -q --stop /dev/\$md; done"
}

# typed WORD...: a diagnosis on a terminal, a word for each time that it asks.
typed() {
    local word n=0 i
    : >"$work/typed"
    for word in "$@"; do
        n=$((n + 1))
        for i in $(seq 300); do
            [ "$(grep -ao 'Passphrase for' "$work/typed" | wc -l)" -lt $n ] || break
            sleep 0.2
        done
        sleep 0.5
        printf '%s\n' "$word"
    done | { cat; for i in $(seq 300); do ! grep -aq '^status' "$work/typed" || break; sleep 0.2; done; } |
        guest_typing "/root/lab/volrescue diagnose $(volume_of 1) --user admin; echo status \$?" >>"$work/typed" 2>&1 || true
    cat "$work/typed" >>"$log"
}

# wrong_three_times: no key opens it, and nothing stays of the attempts.
wrong_three_times() {
    typed wrong wrong wrong
    grep -q 'status 3' "$work/typed" || { fails "three wrong passphrases; see $log"; return 1; }
    guest 'echo wrong >/root/lab/wrong'
    run_volrescue 3 diagnose "$(volume_of 1)" --user admin --luks-key /root/lab/wrong || return 1
    [ "$(leftovers)" = "$before" ] || { diff <(echo "$before") <(leftovers) >&2; fails 'something is left of a wrong key'; return 1; }
}

# plug_copy: the disk as it is now, once more, and mounted on the helper as its own.
plug_copy() {
    local disk
    cp --sparse=always "$lab/$layout-1.img" "$lab/$layout-2.img"
    add_disk 2 "$lab/$layout-2.img"
    disk=$(plug 2)
    guest ". /root/lab/layouts.sh; mkdir -p /mnt/copy; mount \$(part $disk 1) /mnt/copy"
    copy_is=$(copy_state)
}
copy_state() { guest 'find /mnt/copy/etc /mnt/copy/home -printf "%p %m %u %g %s %C@\n" | sort | sha256sum; findmnt -no SOURCE /mnt/copy'; }

# copy_goes: whatever was done to the one, the other is as it was.
copy_goes() {
    [ "$(copy_state)" = "$copy_is" ] || { fails 'the copy that is mounted was changed'; return 1; }
    guest 'umount /mnt/copy'
    unplug 2
    drop_disk 2
}

# btrfs_copy: the kernel would mix the two up, so that the one is refused while the other is mounted.
btrfs_copy() {
    run_volrescue 4 diagnose "$(volume_of 1)" --user admin || return 1
    run_volrescue 4 repair "$(volume_of 1)" --user admin --yes || return 1
    tr -s ' \n' ' ' <"$log" | grep -q 'a btrfs with the same id .* is mounted on this machine on /mnt/copy' ||
        { fails "the copy that is mounted is not named; see $log"; return 1; }
    copy_goes || return 1
    before=$(leftovers)
    refused="refused while a copy was mounted; "
}

# opened_by_lvm: it is refused by name; the commands that are told open it, and close it in the end.
opened_by_lvm() {
    local told group
    run_volrescue 3 diagnose "$(volume_of 1)" --user admin || return 1
    told=$(tail -n 12 "$log" | tr -s ' \n' ' ')
    grep -q "it is of type ${layout#lvm-}" <<<"$told" || { fails "what kind of volume it is is not told; see $log"; return 1; }
    group=$(grep -o 'vgchange -ay [a-z0-9]*' <<<"$told" | cut -d' ' -f3)
    volume=$(grep -o 'give /dev/[a-z0-9/]* as target' <<<"$told" | cut -d' ' -f2)
    [ -n "$group" ] && [ -n "$volume" ] || { fails "how to open it is not told; see $log"; return 1; }
    closed_by="vgchange -an $group"
    guest "vgchange -ay $group; udevadm settle" >>"$log" 2>&1
    opened_before=$before
    before=$(leftovers)
    refused="${refused}refused by name, opened as told; "
}

# taken_back: undo and repair again.
taken_back() {
    local run
    run=$(grep -ao 'volrescue undo [0-9TZ]*-[0-9a-f]*' "$log" | tail -n 1 | cut -d' ' -f3)
    run_volrescue 0 undo "$run" --yes --luks-key /root/lab/passphrase || return 1
    run_volrescue 1 diagnose "$volume" "${options[@]}" || return 1
    run_volrescue 0 repair "$volume" "${options[@]}" --key /root/lab/key.pub --create-user --yes
}

# killed: SIGKILL while the devices are there. Mapped ones go by themselves; an array is stopped by the next run.
killed() {
    local words="$volume $with"
    ! has_word "$layout" "$with_passphrase" || words="$words --luks-key /root/lab/passphrase"
    printf '# SIGKILL to volrescue shell --writable %s\n' "$words" >>"$log"
    guest "sleep 300 </dev/null 2>/dev/null | /root/lab/volrescue shell --writable $words >/root/lab/killed 2>&1 & pid=\$!
        for i in \$(seq 100); do grep -q 'leave with exit' /root/lab/killed && break; sleep 0.3; done
        cat /root/lab/killed; dmsetup ls; losetup -a; cat /proc/mdstat; kill -9 \$pid; sleep 1; pkill -xf 'sleep 300'; true" >>"$log" 2>&1
    grep -q 'leave with exit' "$log" || { fails "the shell did not start; see $log"; return 1; }
    # Nothing but an array outlives it: the next run knows it as its own and stops it. A group that udev activates now is
    # held as after plugging in.
    case $layout in
        md-*) run_volrescue 0 diagnose "$volume" "${options[@]}" || return 1 ;;
        *) has_word "$layout" "$by_lvm" || let_go || return 1 ;;
    esac
    [ "$(leftovers)" = "$before" ] || { diff <(echo "$before") <(leftovers) >&2; fails 'something is left of a run that was killed'; return 1; }
}

# lab LAYOUT: builds, breaks, repairs, looks, boots.
lab() {
    layout=$1
    local disks=1 n file devices=() options=() with='' refused='' boot before after closed_by='' opened_before volume size=1600M
    volume=$(volume_of 1)
    log=$lab/$layout.log
    : >"$log"
    has_word "$layout" "$two_disks" && disks=2
    has_word "$layout" "$by_lvm" && size=2600M
    for n in $(seq $disks); do
        file=$lab/$layout-$n.img
        case $layout in
            twin) twin_of_helper "$file" ;;
            *) rm -f "$file" && truncate -s "$size" "$file" ;;
        esac
        add_disk "$n" "$file"
        devices+=("$(plug "$n")")
    done
    step "building on ${devices[*]}"
    guest "set -e; . /root/lab/layouts.sh; own_group=$own_group; build_${layout//-/_} ${devices[*]}
        [ \"\${built:-}\" ] || { populate $layout; break_it $count; }; close_all; echo \"\$boot\" >/root/lab/boot" >>"$log" 2>&1 || { fails "building; see $log"; return 1; }
    boot=$(guest 'cat /root/lab/boot')
    for n in $(seq $disks); do unplug "$n"; done
    ! has_word "$layout" "$with_copy" || plug_copy || return 1
    before=$(leftovers)
    [ "$layout" != twin ] || helper_is=$(helper_state)
    for n in $(seq $disks); do devices[n - 1]=$(plug "$n"); done
    step "plugged in again: $volume is ${devices[*]}"
    let_go || return 1
    guest '/root/lab/volrescue list' | tee -a "$log" | grep -c "$volume" >/dev/null || { fails "list does not name $volume"; return 1; }
    if [ "$layout" = lvm-two-disks ]; then
        run_volrescue 3 diagnose "$volume" --user admin || return 1
        tail -n 8 "$log" | grep -q -e '--with' || { fails "that a disk is missing is not told; see $log"; return 1; }
    fi
    if [ "$layout" = btrfs-copy ]; then btrfs_copy || return 1; fi
    if has_word "$layout" "$by_lvm"; then opened_by_lvm || return 1; fi
    [ $disks = 1 ] || with="--with $(volume_of 2)"
    options=(--user admin $with)
    if has_word "$layout" "$with_passphrase"; then options+=(--luks-key /root/lab/passphrase); fi
    run_volrescue 1 diagnose "$volume" "${options[@]}" || return 1
    run_volrescue 0 repair "$volume" "${options[@]}" --key /root/lab/key.pub --create-user --yes || return 1
    udev_is_done
    [ "$(leftovers)" = "$before" ] || { diff <(echo "$before") <(leftovers) | tee -a "$log" >&2; fails 'something is left of the repair'; return 1; }
    run_volrescue 0 diagnose "$volume" "${options[@]}" --key /root/lab/key.pub || return 1
    if has_word "$layout" "$with_passphrase"; then
        # A person: wrong at first, then right.
        typed wrong "$passphrase"
        grep -q 'status 0' "$work/typed" || { fails "the passphrase typed on a terminal; see $log"; return 1; }
        wrong_three_times && taken_back || return 1
    fi
    killed || return 1
    if [ -n "$closed_by" ]; then
        guest "$closed_by" >>"$log" 2>&1 || { fails "it can't be closed; see $log"; return 1; }
        before=$opened_before
    fi
    after=$(leftovers)
    for n in $(seq $disks); do unplug "$n"; drop_disk "$n"; done
    if [ "$layout" = xfs-copy ]; then copy_goes || return 1; fi
    [ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after") >&2; fails 'something is left'; return 1; }
    step "repaired, nothing left; booting it"
    qmp helper stop
    boot_disks "$boot" "$disks" || { qmp helper cont; return 1; }
    qmp helper cont
    if [ "$layout" = twin ]; then
        [ "$(helper_state)" = "$helper_is" ] || { fails 'the helper is not as it was'; return 1; }
        step "rebooting the helper"
        took_machine=$took
        stop_machine helper off
        start_helper
        [ "$(helper_state)" = "$helper_is" ] || { fails 'the helper is not as it was'; return 1; }
        took=$took_machine
        refused="${refused}helper unharmed and rebooted; "
    fi
    printf '%s %s: %srepaired, nothing left, booted, ssh admin@ after %s s\n' PASS "$layout" "$refused" "$took" | tee -a "$work/passed" >&2
}

# boot_disks BOOT COUNT: the disks of the layout alone, as a machine.
boot_disks() {
    local n drives=() saved=$port
    port=$((port + 1))
    ssh_options[-1]=$port
    for n in $(seq "$2"); do
        drives+=(-drive "if=none,id=d$n,format=raw,file=$lab/$layout-$n.img" -device "virtio-blk-pci,drive=d$n,serial=$(serial_of "$n")")
    done
    start_machine machine "${memory:-640}" "root=$1 rw" "${drives[@]}"
    local status=0
    wait_for_login machine admin || status=1
    if [ $status = 0 ]; then
        ssh "${ssh_options[@]}" admin@127.0.0.1 'echo "booted: $(hostname), $(uname -r), $(id -un)"; for at in / /home; do findmnt -rno TARGET,SOURCE,FSTYPE $at; done; sudo -n true && echo "sudo works"' </dev/null >>"$log" 2>&1
        grep -q "^booted: $layout," "$log" || { fails "another machine answered; see $log"; status=1; }
        ssh "${ssh_options[@]}" admin@127.0.0.1 'sudo systemctl poweroff' </dev/null >/dev/null 2>&1 || true
        sleep 5
    else
        cp "$work/machine.log" "$lab/$layout.console"
        fails "no login after booting; see $lab/$layout.console"
    fi
    stop_machine machine
    port=$saved
    ssh_options[-1]=$port
    return $status
}

furnish_helper() {
    guest 'mkdir -p /root/lab /mnt/new'
    give /root/lab/ "$layouts" "$work/passphrase" "$work/key.pub"
    # The ready program that VOLRESCUE_LAB_BINARY names may be called anything.
    give /root/lab/volrescue "$binary"
}

# clear_slots: after a layout that failed.
clear_slots() {
    local n
    keep=1
    guest '! mountpoint -q /mnt/copy || umount /mnt/copy' || true
    close_in_helper >/dev/null 2>&1 || true
    for n in 1 2; do
        ! qmp helper device_del id="dev$n" 2>/dev/null || sleep 8
        drop_disk "$n" 2>/dev/null || true
    done
}

# start_helper: with its own disk, of which this laboratory has a copy.
start_helper() {
    start_machine helper 768 "root=/dev/mapper/vglab-root rw" -drive "if=none,id=own,format=raw,file=$work/own.img" -device virtio-blk-pci,drive=own
    wait_for_login helper root || { keep=1; die "the helper does not start; see $work/helper.log"; }
    say "the helper runs after $took s ($accel)"
    furnish_helper
    own_mapped=$(guest 'dmsetup ls 2>/dev/null | grep -v "No devices" | cut -f1')
}
