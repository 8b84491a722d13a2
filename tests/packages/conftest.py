# SPDX-License-Identifier: MIT
"""What scripts/release made, and a room to install it in."""

import os
import pathlib
import subprocess

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
TREE = TARGET / "trees/bookworm"
SLIM = TARGET / "trees/bookworm-slim"
KEY = TARGET / "trees/login_key"
DIST = pathlib.Path(os.environ.get("VOLRESCUE_DIST", TARGET / "dist"))
os.environ["PATH"] += ":/usr/sbin:/sbin"
os.environ.pop("VOLRESCUE_STATE_DIR", None)


def run(*words, ok=True, **options):
    """Runs a program without input; its output, which a failure shows."""
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    assert not ok or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def in_mounts(script, **variables):
    """Runs a shell script with mounts of its own, which are gone when it ends."""
    env = os.environ | {name: str(value) for name, value in variables.items()}
    return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-euc", script, env=env).stdout


def only(pattern):
    """The one file of the release with such a name."""
    found = list(DIST.glob(pattern))
    assert len(found) == 1, f"{pattern} in {DIST}: {found}; scripts/release makes it"
    return found[0]


@pytest.fixture
def broken(tmp_path):
    """A root whose sshd refuses the key."""
    root = tmp_path / "broken"
    run("cp", "-a", SLIM, root)
    run("chmod", "777", root / "home/admin")
    yield root
    run("rm", "-rf", "--one-file-system", root)
