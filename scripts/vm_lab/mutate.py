# SPDX-License-Identifier: MIT
"""What scripts/mutated-images has no shell for: the initramfs, the mutations, and the judgement."""

import base64
import collections
import gzip
import hashlib
import json
import os
import random
import re
import stat
import subprocess
import sys

# --- An initramfs (cpio, "newc") -------------------------------------------------------------------------------------


def archive(root, out):
    with gzip.open(out, "wb", compresslevel=1) as file:

        def entry(name, mode, data):
            name = name.encode() + b"\0"
            words = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
            head = b"070701" + b"".join(b"%08x" % word for word in words) + name
            file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

        for place, directories, files in os.walk(root):
            for name in sorted(directories + files):
                path = os.path.join(place, name)
                status = os.lstat(path)
                data = b""
                if stat.S_ISLNK(status.st_mode):
                    data = os.readlink(path).encode()
                elif stat.S_ISREG(status.st_mode):
                    data = open(path, "rb").read()
                entry(os.path.relpath(path, root), status.st_mode, data)
        entry("TRAILER!!!", 0, b"")


# --- Mutations -------------------------------------------------------------------------------------------------------

PIECE = 1024


def crc32c_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = list(crc32c_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Image:
    """A pristine image: its blocks that are neither holes nor the content of files."""

    def __init__(self, path, contents):
        self.block = 1024 if "ext3" in path or "plain" in path else 4096
        self.kind = re.match(r"[a-z]+", os.path.basename(path))[0]
        self.blocks = []
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            at = 0
            while at < size:
                try:
                    start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                for place in range(start // self.block * self.block, at, self.block):
                    block = os.pread(file.fileno(), self.block, place)
                    if any(block) and hashlib.md5(block[:PIECE].ljust(PIECE, b"\0")).digest() not in contents:
                        self.blocks.append(place)
            self.fsid = os.pread(file.fileno(), 16, 65536 + 32)
        self.superblock = {"btrfs": 65536, "xfs": 0}.get(self.kind, 1024 // self.block * self.block)


def pieces_of(root):
    """What the content of the tree's files looks like."""
    contents = set()
    for place, _, files in os.walk(root):
        for name in files:
            path = os.path.join(place, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                data = open(path, "rb").read()
                for at in range(0, len(data), PIECE):
                    contents.add(hashlib.md5(data[at : at + PIECE].ljust(PIECE, b"\0")).digest())
    return contents


def mutated(image, file, chance):
    """Changes some bytes, and gives the words for it."""
    said = []
    places = [chance.choice(image.blocks) for _ in range(chance.choice((1, 1, 2, 4, 12)))]
    if chance.random() < 0.25:
        places.append(image.superblock)
    refresh = chance.random() < 0.8
    for place in places:
        block = bytearray(os.pread(file, image.block, place))
        used = [at for at, byte in enumerate(block) if byte]
        how = chance.choice(("bit", "bit", "byte", "byte", "word", "word", "zero", "copy"))
        if place == image.superblock and how in ("zero", "copy"):
            how = "bit"
        if how == "zero":
            block[:] = bytes(image.block)
        elif how == "copy":
            block[:] = os.pread(file, image.block, chance.choice(image.blocks))
        else:
            for _ in range(chance.choice((1, 1, 3, 8))):
                at = chance.choice(used) if used and chance.random() < 0.8 else chance.randrange(image.block)
                if how == "bit":
                    block[at] ^= 1 << chance.randrange(8)
                elif how == "byte":
                    block[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                else:
                    at -= at % 4
                    block[at : at + 4] = chance.choice((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", chance.randbytes(4)))
        os.pwrite(file, block, place)
        said.append(f"{how} at {place}")
    if refresh:
        for place in places:
            REFRESH.get(image.kind, lambda *_: None)(image, file, place)
    return f"{', '.join(said)}; checksums {'refreshed' if refresh else 'left'}"


def refresh_btrfs(image, file, place):
    if place == 65536:
        data = os.pread(file, 4096, place)
        os.pwrite(file, crc32c(data[32:]).to_bytes(4, "little"), place)
        return
    for start in range(place, place - 16384, -4096):
        if start > 0 and os.pread(file, 16, start + 32) == image.fsid:
            os.pwrite(file, crc32c(os.pread(file, 16384, start)[32:]).to_bytes(4, "little"), start)
            return


# Magic numbers of version 5, and where the checksum lies.
XFS_SECTORS = {b"XFSB": 224, b"XAGF": 216, b"XAGI": 312, b"XAFL": 32}
XFS_BLOCKS = dict.fromkeys((b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"RMB3", b"R3FC"), 52) | {
    b"BMA3": 64,
    b"XDB3": 4,
    b"XDD3": 4,
    b"XDF3": 4,
    b"XSLM": 12,
    b"XARM": 12,
}
XFS_DA = (0x3EBE, 0x3DF1, 0x3DFF, 0x3BEE)


def refresh_xfs(image, file, place):
    block = bytearray(os.pread(file, 4096, place))

    def sum_up(start, length, at):
        block[start + at : start + at + 4] = bytes(4)
        crc = crc32c(block[start : start + length])
        block[start + at : start + at + 4] = crc.to_bytes(4, "little")

    if bytes(block[:4]) in XFS_BLOCKS:
        sum_up(0, 4096, XFS_BLOCKS[bytes(block[:4])])
    elif int.from_bytes(block[8:10], "big") in XFS_DA:
        sum_up(0, 4096, 12)
    else:
        for start in range(0, 4096, 512):
            if bytes(block[start : start + 4]) in XFS_SECTORS:
                sum_up(start, 512, XFS_SECTORS[bytes(block[start : start + 4])])
            elif block[start : start + 2] == b"IN" and block[start + 4] == 3:
                sum_up(start, 512, 100)
    os.pwrite(file, block, place)


def refresh_ext(image, file, place):
    if place == image.superblock:
        data = os.pread(file, 1020, 1024)
        os.pwrite(file, (crc32c(data) ^ 0xFFFFFFFF).to_bytes(4, "little"), 1024 + 1020)


REFRESH = {"btrfs": refresh_btrfs, "xfs": refresh_xfs, "ext": refresh_ext}


def make(root, bases, out, first, last, seed, *names):
    contents = pieces_of(root)
    images = {name: Image(f"{bases}/{name}.img", contents) for name in names}
    with open(f"{out}/list", "w") as listing:
        for number in range(int(first), int(last) + 1):
            chance = random.Random(int(seed) + number)
            name = names[number % len(names)]
            path = f"{out}/{number}.img"
            subprocess.run(["cp", "--sparse=always", f"{bases}/{name}.img", path], check=True)
            file = os.open(path, os.O_RDWR)
            said = mutated(images[name], file, chance)
            os.close(file)
            print(f"{number} {name} seed {int(seed) + number}: {said}", file=listing)


# --- Judgement -------------------------------------------------------------------------------------------------------

# The documented statuses that each command may end with here.
MAY = {
    "list": {0, 3},
    "diagnose": {0, 1, 3},
    "repair --dry-run": {0, 1, 3},
    "repair --yes": {0, 1, 3, 5},
    "undo": {0, 1, 3, 4, 5},
}


class Trial:
    """A command that met an image."""

    def __init__(self, number, command):
        self.number, self.command = number, command
        self.out = self.err = self.left = self.threads = ""
        self.written = False
        self.ended, self.status, self.took = "died", None, 0

    def complaints(self):
        if self.ended == "late":
            yield f"took too long\n{self.threads}"
        if self.ended != "exit":
            return
        if self.status not in MAY[self.command]:
            yield f"ended with {self.status}"
        for text in (self.out, self.err):
            if "panicked" in text:
                yield "panicked"
        try:
            document = json.loads(self.out)
            code = (document.get("error") or {}).get("code", self.status)
            if code != self.status:
                yield f"ended with {self.status}, but its document has {code}"
        except ValueError:
            yield "its document is no JSON"
        if self.left:
            yield f"left something\n{self.left}"
        if self.written and self.command not in ("repair --yes", "undo"):
            yield "wrote the image"


def heard(path):
    """The trials, the kernel's words by image, and the images with which a machine died."""
    trials, warnings, died, trial = [], collections.defaultdict(list), {}, None
    text = lambda words: base64.b64decode(words).decode(errors="replace")
    for line in open(path, errors="replace"):
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "@begin":
            number, _, command = rest.partition(" ")
            trial = Trial(int(number), command)
            if command in MAY:
                trials.append(trial)
        elif word == "@end":
            trial.ended, status, took = rest.split()
            trial.status, trial.took = int(status), int(took)
        elif word == "@written":
            trial.written = True
        elif word in ("@out", "@err", "@left", "@threads"):
            setattr(trial, word[1:], text(rest))
        elif word == "@kernel":
            warnings[trial.number].append(rest)
        elif word == "@died":
            died[int(rest)] = [trial.command, ""]
        elif word == "@console":
            died[max(died)][1] = text(rest)
        elif word == "@silent":
            trial.ended = "silent"
    return trials, warnings, died


def judge(told, images, keep):
    kinds, words = {}, {}
    for line in open(f"{images}/list"):
        number, name, rest = line.split(" ", 2)
        kinds[int(number)], words[int(number)] = name, rest.strip()
    trials, warnings, died = heard(told)
    tally = collections.defaultdict(collections.Counter)
    failed = collections.defaultdict(list)
    crash = re.compile(r"(Kernel panic[^\n]*|BUG: [^\n]*|kernel BUG [^\n]*|Oops: [^\n]*)")
    for number, name in kinds.items():
        of = [trial for trial in trials if trial.number == number]
        count = tally[name]
        count["images"] += 1
        for trial in of:
            if trial.ended == "exit":
                count[f"{trial.command} {trial.status}"] += 1
            for complaint in trial.complaints():
                failed[number].append(f"{trial.command}: {complaint}\n{trial.out}\n{trial.err}")
            if trial.ended in ("stuck", "silent"):
                count["held by the kernel"] += 1
                print(f"{number}: {trial.command}: the kernel holds it\n{trial.threads}")
        if warnings[number]:
            count["kernel warned"] += 1
        if number in died:
            command, console = died[number]
            said = crash.findall(console)
            if said:
                count["kernel crashed"] += 1
                print(f"{number} ({name}, {words[number]}): {command}: {said[0]}")
            elif not any(trial.ended in ("stuck", "silent") for trial in of):
                failed[number].append(f"{command}: the machine ended, without a word of its kernel\n{console}")
        if not of and number not in died:
            failed[number].append("was never tried")
    columns = ["images"]
    for command in MAY:
        columns += sorted({key for count in tally.values() for key in count if re.fullmatch(rf"{command} -?\d+", key)})
    columns += ["kernel warned", "kernel crashed", "held by the kernel"]
    total = sum(tally.values(), collections.Counter())
    rows = [*((name, tally[name]) for name in tally), ("all", total)]
    print("\n" + " | ".join(["", *columns]))
    for name, count in rows:
        print(" | ".join([f"{name:12}", *(f"{count[column]:{len(column)}}" for column in columns)]))
    slow = max(trials, key=lambda trial: trial.took, default=None)
    if slow:
        print(f"\n{len(trials)} runs; the slowest took {slow.took} ms: {slow.command} of {slow.number} ({kinds[slow.number]})")
    for number, complaints in failed.items():
        subprocess.run(["cp", "--sparse=always", f"{images}/{number}.img", keep], check=True)
        with open(f"{keep}/{number}.txt", "w") as file:
            print(kinds[number], words[number], *complaints, sep="\n", file=file)
        print(f"FAIL {number} ({kinds[number]}, {words[number]}): " + "; ".join(each.split("\n")[0] for each in complaints))
    print(f"{len(failed)} of {len(kinds)} images failed; what failed is in {keep}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit({"archive": archive, "make": make, "judge": judge}[sys.argv[1]](*sys.argv[2:]))
