# SPDX-License-Identifier: MIT
"""The record of a run: written, synced and renamed into place before and after each step, readable by its owner only."""

import fcntl
import json
import os
import pathlib
import secrets
import time

from .errors import REFUSED, UNREADABLE, USAGE, Stop

FORMAT = 1


def directory(given=None) -> pathlib.Path:
    """Where runs are recorded."""
    base = given or os.environ.get("EC2_RESCUE_STATE_DIR")
    if not base:
        home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        base = os.path.join(home, "ec2-rescue")
    return pathlib.Path(base)


class State:
    """One run. `path` is None for a dry run, which records nothing."""

    def __init__(self, path, data: dict):
        self.path, self.data, self._lock = path, data, None

    @classmethod
    def new(cls, where: pathlib.Path, instance: str, region: str, options: dict, dry: bool):
        """A run that has done nothing yet."""
        run = "rescue-" + time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(4)
        data = {"format": FORMAT, "run": run, "instance": instance, "region": region, "options": options,
                "phase": "forward", "facts": {}, "steps": {}}
        state = cls(None if dry else where / f"{run}.json", data)
        if not dry:
            where.mkdir(parents=True, exist_ok=True, mode=0o700)
            state.lock()
        return state

    @classmethod
    def find(cls, where: pathlib.Path, name: str, rollback: bool):
        """The run of this name, or the one of this instance that can be resumed or rolled back."""
        if name.startswith("rescue-"):
            state = cls.load(where / f"{name}.json")
        else:
            runs = [cls.load(path) for path in sorted(where.glob("rescue-*.json")) if not path.name.endswith(".report.json")]
            mine = [run for run in runs if run.data["instance"] == name and run.data["phase"] != "rolled-back"]
            open_runs = [run for run in mine if run.data["phase"] != "done"]
            mine = open_runs or (mine[-1:] if rollback else [])
            if not mine:
                raise Stop(UNREADABLE, f"no run to go on with for {name} in {where}",
                           "Runs are recorded on the machine that began them; --state-dir names another place.")
            if len(mine) > 1:
                names = ", ".join(run.data["run"] for run in mine)
                raise Stop(USAGE, f"several runs for {name}: {names}", "Name the run in place of the instance.")
            state = mine[0]
        state.lock()
        # What the other process may have written while this one waited.
        state.data = cls.load(state.path).data
        return state

    @classmethod
    def load(cls, path: pathlib.Path):
        """Reads a record; a wrong one is told, never guessed at."""
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            raise Stop(UNREADABLE, f"no run is recorded in {path}") from None
        except (OSError, ValueError) as error:
            raise Stop(UNREADABLE, f"cannot read {path}: {error}") from None
        if data.get("format") != FORMAT:
            raise Stop(UNREADABLE, f"{path} is of another format ({data.get('format')})",
                       "It was written by another version of ec2-rescue; use that one.")
        return cls(path, data)

    def lock(self):
        """One process a run; the lock goes with the process."""
        self._lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop(REFUSED, f"{self.data['run']} is being worked on by another process here") from None

    def save(self):
        """On disk when this returns: a file of its own, synced, renamed, the directory synced."""
        if self.path is None:
            return
        new = self.path.with_suffix(".json.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as out:
            json.dump(self.data, out, indent=1, sort_keys=True)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, self.path)
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def step(self, name: str) -> dict:
        """The record of a step; empty where it was never begun."""
        return self.data["steps"].get(name, {})

    def begin(self, name: str, **known) -> dict:
        """Records that a step is about to be done."""
        step = self.data["steps"].setdefault(name, {})
        step.update(known, status="started")
        self.save()
        return step

    def end(self, name: str, status="done", **known):
        """Records that a step is done."""
        self.data["steps"][name].update(known, status=status)
        self.save()
