# SPDX-License-Identifier: MIT
"""The key, and the test of the login at the end."""

import os
import socket
import subprocess
import time

from .errors import USAGE, Stop


def public_half(path: str) -> str:
    """The public key of FILE, one line. Of a private key only its public half leaves this function."""
    try:
        with open(path, "rb") as file:
            raw = file.read(1 << 16)
    except OSError as error:
        raise Stop(USAGE, f"cannot read the key {path}: {error.strerror}") from None
    if b"PRIVATE KEY" in raw:
        mode = os.stat(path).st_mode & 0o077
        if mode:
            raise Stop(USAGE, f"the private key {path} is open to others (mode {os.stat(path).st_mode & 0o777:04o})",
                       f"ssh will not use it: chmod 600 {path}")
        made = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", path], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if made.returncode != 0:
            raise Stop(USAGE, f"cannot take the public half of {path}: {made.stderr.strip().splitlines()[-1:] or 'ssh-keygen failed'}",
                       "With a passphrase: give the public key (ssh-keygen -y -f KEY > KEY.pub).")
        return made.stdout.strip()
    checked = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in raw.decode(errors="replace").splitlines() if line.strip() and not line.startswith("#")]
    if checked.returncode != 0 or len(lines) != 1:
        raise Stop(USAGE, f"{path} is not a key that ssh-keygen can read", "Give an OpenSSH public key or private key.")
    return lines[0].strip()


def identity(key: str, given: str | None):
    """The private key for the login test, or None where only the public half is here."""
    if given:
        return given
    with open(key, "rb") as file:
        if b"PRIVATE KEY" in file.read(1 << 16):
            return key
    private = key.removesuffix(".pub")
    return private if private != key and os.path.exists(private) else None


def port_opens(address: str, port: int, seconds: float, poll: float) -> bool:
    """Whether the port answers within the time (the instance is booting)."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return True
        except OSError:
            if time.monotonic() > end:
                return False
            time.sleep(poll)


def logs_in(address: str, port: int, user: str, private: str, seconds: float, poll: float) -> tuple[bool, str]:
    """Whether `ssh` gets in with this key alone, and ssh's last words."""
    command = ["ssh", "-n", "-p", str(port), "-i", private, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
               "-o", "PreferredAuthentications=publickey", "-o", "StrictHostKeyChecking=accept-new",
               "-o", "ConnectTimeout=10", f"{user}@{address}", "true"]
    end = time.monotonic() + seconds
    while True:
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if result.returncode == 0:
                return True, ""
            words = result.stderr.strip().splitlines()[-1:] or [f"ssh ended with {result.returncode}"]
        except subprocess.TimeoutExpired:
            words = ["ssh did not end within a minute"]
        except FileNotFoundError:
            return False, "ssh is not installed here"
        # A refused key will not be accepted later: sshd runs and has said no.
        if "Permission denied" in words[0] or time.monotonic() > end:
            return False, words[0]
        time.sleep(poll)
