#!/bin/bash
# SPDX-License-Identifier: MIT
# The first process of the machine in which scripts/mutated-images tries volrescue. What it sees it tells through a
# port, line by line, so that what was told before the kernel died is kept.

PATH=/usr/bin:/usr/sbin:/bin:/sbin
export PATH
# A command that takes longer is looked at, then killed; what then still lives only the kernel can hold. Most take a second
# or two where the machine has a processor to itself.
patience=180

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs tmpfs /run
read -r -a modules </modules
for module in "${modules[@]}"; do modprobe "$module"; done
echo 5 >/proc/sys/kernel/printk
mkfifo /tmp/never
exec 3>"$(echo /dev/vport*)" 4<>/tmp/never </dev/null
tell() { printf '%s\n' "$*" >&3; }
# As sleep, without a process.
wait_a_bit() { read -r -t 0.1 <&4; }
end() { echo "$1" >/proc/sysrq-trigger; sleep 60; }

first=0 last=-1 crash=
for word in $(</proc/cmdline); do
    case $word in first=*) first=${word#*=} ;; last=*) last=${word#*=} ;; crash=*) crash=${word#*=} ;; esac
done

# What can be known of a process that does not end: of all its threads, where the kernel is with them.
threads_of() {
    local task
    for task in /proc/"$1"/task/*; do
        echo "thread ${task##*/} $(sed -n 's/^State:\t//p' "$task/status") in $(cat "$task/wchan") after $(cut -d' ' -f1 "$task/syscall")"
        cat "$task/stack"
    done 2>/dev/null
}
loops() { local all=(/sys/block/loop*/loop/backing_file); [ ! -e "${all[0]}" ] || printf '%s\n' "${all[@]}"; }
# A mount in a namespace of its own lives as long as somebody is in that, so that processes tell of those too.
state() {
    local file name all=''
    for file in /proc/[0-9]*/comm; do
        { read -r name <"$file"; } 2>/dev/null && [ "$name" = volrescue ] && all+=" $file"
    done
    printf 'loops: %s\nprocesses: %s\nmounts: %s\n' "$(loops)" "$all" "$(</proc/mounts)"
}

# A bash that is interrupted in `read -t` may not hear of its children any more, so that /proc is asked.
alive() { local line; { read -r line <"/proc/$1/stat"; } 2>/dev/null && [[ ${line##*) } != Z* ]]; }

# run COMMAND WORDS...: volrescue under a watch.
run() {
    local command=$1 pid i ended=exit status=0 began took before after
    [ "$command" != repair ] || command="$command $2"
    tell "@begin $number $command"
    before=$(state)
    stamp=$(stat -c '%Y.%y %Z.%z' "$image")
    began=${EPOCHREALTIME/./}
    volrescue "$@" >/tmp/out 2>/tmp/err </dev/null &
    pid=$!
    for ((i = 0; i < patience * 10; i++)); do
        alive $pid || break
        wait_a_bit
    done
    took=$(((${EPOCHREALTIME/./} - began) / 1000))
    if alive $pid; then
        threads_of $pid >/tmp/threads
        kill -9 $pid
        ended=late
        for ((i = 0; i < 100; i++)); do alive $pid || break; wait_a_bit; done
        if alive $pid; then ended=stuck; threads_of $pid >>/tmp/threads; fi
        tell "@threads $(base64 -w0 /tmp/threads)"
    fi
    [ $ended = stuck ] || { wait $pid 2>/dev/null; status=$?; }
    tell "@out $(base64 -w0 /tmp/out)"
    tell "@err $(base64 -w0 /tmp/err)"
    for ((i = 0; i < 50; i++)); do after=$(state); [ "$after" != "$before" ] || break; wait_a_bit; done
    [ "$after" = "$before" ] || tell "@left $(printf '%s\n--- before\n%s' "$after" "$before" | base64 -w0)"
    [ "$(stat -c '%Y.%y %Z.%z' "$image")" = "$stamp" ] || tell '@written'
    tell "@end $ended $status $took"
    # With a process in the kernel's hands nothing that follows says anything.
    [ $ended != stuck ] || end b
}

mount -t ext4 -o ro,noload /dev/vda /images
for ((number = first; number <= last; number++)); do
    image=/tmp/volume.img
    tell "@begin $number copy"
    cp --sparse=always "/images/$number.img" "$image"
    device=$(losetup --find --show "$image")
    tell "@end exit $? 0"
    if [ "$crash" = "$number" ]; then
        tell "@begin $number list"
        end c
    fi
    # Half of them as a block device, half as an image.
    target=$device
    run list --json
    if ((number % 2)); then
        losetup --detach "$device"
        device='' target=$image
    fi
    words=(--json --user admin --key /key.pub "$target")
    run diagnose "${words[@]}"
    run repair --dry-run --create-user --fix all "${words[@]}"
    run repair --yes --create-user --fix all --state-dir /tmp/state "${words[@]}"
    if [[ $(</tmp/out) =~ \"run\":\ *\"([^\"]*)\" ]]; then
        run undo --yes --json --state-dir /tmp/state "${BASH_REMATCH[1]}"
    fi
    tell "@begin $number clean-up"
    [ -z "$device" ] || losetup --detach "$device"
    rm -rf "$image" /tmp/state
    dmesg -c >/tmp/kernel
    grep -a -e 'WARNING:' -e 'BUG:' -e 'Oops' /tmp/kernel | while read -r line; do tell "@kernel $line"; done
    tell "@end exit 0 0"
done
tell '@all'
end o
