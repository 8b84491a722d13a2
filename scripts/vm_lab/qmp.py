# SPDX-License-Identifier: MIT
"""Sends one command to QEMU's monitor: qmp.py SOCKET COMMAND [NAME=VALUE]..."""

import json
import socket
import sys
import time


def main():
    path, command, *pairs = sys.argv[1:]
    arguments = dict(pair.split("=", 1) for pair in pairs)
    if command == "type":
        # Not a command of QMP: the words are typed on the serial console, whose socket PATH is.
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(path)
            # QEMU drops what the machine has not read when the connection ends, and the machine reads a few bytes at a time.
            for byte in arguments["text"].encode() + b"\n":
                console.sendall(bytes([byte]))
                time.sleep(0.05)
            time.sleep(3)
        return 0
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(30)
        monitor.connect(path)
        stream = monitor.makefile("rw")
        stream.readline()
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": typed(arguments)}):
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
            while "event" in answer:
                answer = json.loads(stream.readline())
            if "error" in answer:
                print(f"qmp: {command}: {answer['error']['desc']}", file=sys.stderr)
                return 1
    return 0


def typed(arguments):
    """Arguments with a dot lie in an object: file.filename=X."""
    out = {}
    for name, value in arguments.items():
        *path, last = name.split(".")
        place = out
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return out


if __name__ == "__main__":
    sys.exit(main())
