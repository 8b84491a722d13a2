# SPDX-License-Identifier: MIT
"""The static program where nothing else is: no shell, no libc, no other file."""

import os
import pathlib

from conftest import KEY, TARGET, in_mounts, run

PROGRAM = pathlib.Path(os.environ.get("VOLRESCUE_PROGRAM", TARGET / "x86_64-unknown-linux-gnu/release/volrescue"))

ROOM = """
mount -t tmpfs -o mode=755 tmpfs /mnt
cp "$PROGRAM" /mnt/volrescue
volrescue() { chroot /mnt /volrescue "$@"; }
"""


def test_it_is_static():
    headers = run("readelf", "--program-headers", "--dynamic", PROGRAM).stdout
    assert "INTERP" not in headers and "NEEDED" not in headers


def test_an_empty_room(broken):
    out = in_mounts(ROOM + """
volrescue --version
volrescue checks >/dev/null
volrescue userdata --user admin >/dev/null
[ "$(find /mnt -mindepth 1 | wc -l)" = 1 ]
# The kernel's own, and the volume.
mkdir /mnt/proc /mnt/broken
mount -t proc proc /mnt/proc
mount --bind "$BROKEN" /mnt/broken
cp "$KEY" /mnt/key.pub
volrescue diagnose /broken --user admin --key /key.pub && exit 9
volrescue repair --yes /broken --user admin --key /key.pub --report /report.html
volrescue undo --yes "$(volrescue history | sed -n '1s/ .*//p')"
[ "$(stat -c %a /mnt/broken/home/admin)" = 777 ]
""", PROGRAM=PROGRAM, BROKEN=broken, KEY=f"{KEY}.pub")
    assert "sshd accepts" in out and "sshd REFUSES" in out, out


def test_an_image_in_a_room_with_devices_and_a_directory_to_mount_on(broken, tmp_path):
    image = tmp_path / "disk.img"
    run("truncate", "-s", "192M", image)
    run("mkfs.ext4", "-q", "-d", broken, image)
    out = in_mounts(ROOM + """
mkdir /mnt/proc /mnt/dev /mnt/sys /mnt/mnt /mnt/images
for point in dev sys; do mount --rbind /$point /mnt/$point; done
mount -t proc proc /mnt/proc
mount --bind "$IMAGES" /mnt/images
cp "$KEY" /mnt/key.pub
volrescue repair --yes /images/disk.img --user admin --key /key.pub
volrescue diagnose /images/disk.img --user admin --key /key.pub
""", PROGRAM=PROGRAM, IMAGES=tmp_path, KEY=f"{KEY}.pub")
    assert "sshd accepts" in out and "unmounted and clean" in out, out
    run("e2fsck", "-fn", image)
