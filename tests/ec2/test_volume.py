# SPDX-License-Identifier: MIT
"""The whole way with the real volrescue on a real image: broken instance to accepted login, and back."""

import os
import pathlib
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
PROGRAM = pathlib.Path(os.environ.get("VOLRESCUE_PROGRAM", TARGET / "debug/volrescue"))


@pytest.mark.skipif(os.getuid() != 0 and os.environ.get("VOLRESCUE_ROOT_TESTS") != "require", reason="needs root and loop devices")
def test_a_real_image_is_rescued_and_put_back(world, capsys):
    assert PROGRAM.exists(), f"{PROGRAM} is not built"
    images, tree = world.work / "images", world.work / "tree"
    images.mkdir()
    world.fake.tell("set", images=str(images), env={"VOLRESCUE_STATE_DIR": str(world.work / "runs")})
    world.broken()
    subprocess.run(["cp", "-a", TARGET / "trees/bookworm-slim", tree], check=True)
    subprocess.run(["sh", "-c", 'chmod -R 777 "$1/home/admin" && chown -R 12345:12345 "$1/home/admin" && '
                    'truncate -s 256M "$2" && mkfs.ext4 -q -d "$1" "$2"', "-", tree, images / world.root], check=True)
    subprocess.run(["rm", "-rf", "--one-file-system", tree], check=True)
    # The fake helper has no NVMe disks: a volume id is the image of that name, if it is attached.
    world.program("volrescue", f"""#!/bin/sh
for word; do
    shift
    case $word in vol-*) case " $FAKE_ATTACHED " in *" $word "*) word=$FAKE_IMAGES/$word ;; *) exit 3 ;; esac ;; esac
    set -- "$@" "$word"
done
exec {PROGRAM} "$@"
""")
    key = TARGET / "trees/login_key"
    # The login: the sshd of the volume that is the instance's root now.
    look = f"import json,urllib.request as u; print(json.load(u.urlopen(u.Request('{world.fake.url}/_fake/look', b'{{}}')))['roots']['{world.instance}'])"
    world.program("ssh", f"""#!/bin/sh
root=$(python3 -c "{look}")
# The judge runs the real ssh.
verdict=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin {REPO}/scripts/oracle "{images}/$root" admin {key} 2>/dev/null)
[ "$verdict" = accept ] || {{ echo "admin@127.0.0.1: Permission denied (publickey)." >&2; exit 255; }}
""")
    login = ["ssh", "admin@127.0.0.1"]
    def try_login():
        tried = subprocess.run(login, capture_output=True, text=True)
        with capsys.disabled():
            print(f"\n$ ssh admin@the-instance true        (the sshd of the volume that is its root now)\n{tried.stderr}[exit status {tried.returncode}]")
        return tried.returncode

    assert try_login() == 255, "broken, as it was meant to be"
    argv = [world.instance, "--user", "admin", "--key", f"{key}.pub", "--helper", world.helper, *world.common(), "--timeout", "120",
            "--address", "127.0.0.1", "--port", str(world.fake.port)]
    status, out = world.run(argv)
    with capsys.disabled():
        print("\n$ ec2-rescue " + " ".join(argv) + "\n" + out)
    assert status == 0 and "admin@127.0.0.1 logs in" in out
    assert try_login() == 0
    seen = world.fake.look()
    calls = [call["operation"] for call in seen.calls if not call["dry"]]
    assert not {"StopInstances", "RebootInstances", "TerminateInstances", "DeleteVolume"} & set(calls)
    assert seen.states[world.instance] == "running"
    assert seen.roots[world.instance] != world.root and seen.volumes[world.root]["on"] is None
    with capsys.disabled():
        print(f"\nthe instance is {seen.states[world.instance]}, was never stopped; its root is {seen.roots[world.instance]}, the old one {world.root} is kept")
    assert "set-mode" in out and "verdict   admin: accept" in out
    status, out = world.run(world.again("--rollback"))
    with capsys.disabled():
        print("$ ec2-rescue --rollback\n" + out)
    assert status == 0 and world.fake.look().roots[world.instance] == world.root
    assert try_login() == 255, "the old root was not touched"
