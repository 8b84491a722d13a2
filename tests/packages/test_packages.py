# SPDX-License-Identifier: MIT
"""The packages of scripts/release, installed where nothing else is and used there."""

import hashlib
import json
import re
import tarfile

from conftest import DIST, KEY, REPO, TREE, in_mounts, only, run

COMMON = ["/usr/bin/volrescue", "/usr/lib/tmpfiles.d/volrescue.conf", "/usr/share/bash-completion/completions/volrescue",
          "/usr/share/fish/vendor_completions.d/volrescue.fish", "/usr/share/doc/volrescue/README.md"]

# What a user does with it; run inside, where /broken is a root to repair and /key.pub the key.
USE = """
volrescue --version
volrescue diagnose /broken --user admin --key /key.pub && exit 9
[ $? = 9 ] && exit 9
volrescue repair --yes /broken --user admin --key /key.pub
volrescue diagnose /broken --user admin --key /key.pub
volrescue undo --yes "$(volrescue history | sed -n '1s/ .*//p')"
[ "$(stat -c %a /broken/home/admin)" = 777 ]
[ "$(stat -c %a /var/lib/volrescue)" = 700 ]
"""


def man_pages():
    return {path.name for path in (REPO / "scripts/generated/man").glob("*.1")}


def test_the_debian_package_has_what_it_should():
    deb = only("*.deb")
    listing = run("dpkg-deb", "--contents", deb).stdout
    print(listing)
    files = {line.split()[5].lstrip("."): line.split()[:2] for line in listing.splitlines()}
    for path in [*COMMON, "/usr/share/zsh/vendor-completions/_volrescue", "/usr/share/doc/volrescue/copyright"]:
        assert path in files, path
    assert {re.sub(r"\.gz$", "", path.rsplit("/", 1)[1]) for path in files if path.startswith("/usr/share/man/man1/volrescue")} == man_pages()
    assert files["/usr/bin/volrescue"] == ["-rwxr-xr-x", "0/0"]
    assert all(mode[0] in "d-" and mode.endswith(("r-x", "r--")) and owner == "0/0" for mode, owner in files.values())
    fields = run("dpkg-deb", "--field", deb).stdout
    print(fields)
    assert "Architecture: amd64" in fields and not re.search(r"^Depends: \S", fields, re.M)
    assert not any("/var" in path or "stage" in path for path in files)


def test_the_debian_package_is_installed_and_used_in_a_clean_debian(broken):
    out = in_mounts("""
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
mount -t proc proc /mnt/root/proc
mkdir /mnt/root/broken
mount --bind "$BROKEN" /mnt/root/broken
cp "$DEB" /mnt/root/volrescue.deb
cp "$KEY" /mnt/root/key.pub
inside() { chroot /mnt/root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -euc "$1"; }
inside 'dpkg --install /volrescue.deb'
inside 'dpkg --verify volrescue; [ -z "$(dpkg --verify volrescue)" ]'
inside "$USE"
inside '. /usr/share/bash-completion/completions/volrescue' 2>/dev/null || inside 'bash -n /usr/share/bash-completion/completions/volrescue'
inside 'dpkg --purge volrescue; [ ! -e /usr/bin/volrescue ]'
# What can be undone stays.
inside 'ls /var/lib/volrescue/*/journal.jsonl'
""", TREE=TREE, BROKEN=broken, DEB=only("*.deb"), KEY=f"{KEY}.pub", USE=USE)
    print(out)
    assert "sshd accepts" in out and "sshd REFUSES" in out and "journal.jsonl" in out


def test_the_rpm_has_what_it_should():
    rpm = only("*.rpm")
    listing = run("rpm", "--query", "--package", "--list", "--verbose", rpm).stdout
    print(listing)
    files = {line.split()[-1]: line.split() for line in listing.splitlines()}
    for path in [*COMMON, "/usr/share/zsh/site-functions/_volrescue", "/usr/share/licenses/volrescue/LICENSE"]:
        assert path in files, path
    assert {path.rsplit("/", 1)[1] for path in files if path.startswith("/usr/share/man/man1/volrescue")} == man_pages()
    assert files["/usr/bin/volrescue"][0] == "-rwxr-xr-x"
    assert all(line[2:4] == ["root", "root"] for line in files.values())
    requires = run("rpm", "--query", "--package", "--requires", rpm).stdout.splitlines()
    assert all(line.startswith("rpmlib(") for line in requires), requires
    assert "volrescue = " in run("rpm", "--query", "--package", "--provides", rpm).stdout
    print(run("rpm", "--query", "--package", "--info", rpm).stdout)
    assert "digests OK" in run("rpm", "--checksig", rpm).stdout


def test_the_rpm_is_installed_and_used_in_a_bare_root(broken):
    out = in_mounts("""
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/root/var/lib/rpm /mnt/root/proc
rpm --root /mnt/root --initdb
rpm --root /mnt/root --install "$RPM"
rpm --root /mnt/root --verify volrescue
rpm --root /mnt/root --query volrescue
# Nothing is there but the package: no shell, no libc.
mount -t proc proc /mnt/root/proc
mkdir /mnt/root/broken
mount --bind "$BROKEN" /mnt/root/broken
cp "$KEY" /mnt/root/key.pub
volrescue() { chroot /mnt/root /usr/bin/volrescue "$@"; }
inside_use=$(printf %s "$USE" | sed 's|/broken/|/mnt/root/broken/|g; s|/var/lib/volrescue|/mnt/root/var/lib/volrescue|g')
eval "$inside_use"
rpm --root /mnt/root --erase volrescue
[ ! -e /mnt/root/usr/bin/volrescue ]
""", RPM=only("*.rpm"), BROKEN=broken, KEY=f"{KEY}.pub", USE=USE)
    print(out)
    assert "sshd accepts" in out and "sshd REFUSES" in out


def test_the_tarball_has_what_it_should():
    with tarfile.open(only("*.tar.gz")) as archive:
        members = {member.name.split("/", 1)[-1]: member for member in archive}
        for name in ("volrescue", "LICENSE", "README.md", "tmpfiles.d/volrescue.conf", "completions/_volrescue"):
            assert name in members, name
        assert {name[4:] for name in members if name.startswith("man/")} == man_pages()
        assert members["volrescue"].mode == 0o755
        assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
        # One program, three packages.
        program = archive.extractfile(members["volrescue"]).read()
    unpacked = run("sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -xO ./usr/bin/volrescue | sha256sum', only("*.deb")).stdout
    assert unpacked.split()[0] == hashlib.sha256(program).hexdigest()


def test_the_bill_of_materials_names_every_crate_of_the_program():
    bill = json.loads(only("*.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    named = {(part["name"], part["version"]) for part in bill["components"]}
    tree = run("cargo", "tree", "--locked", "--edges", "normal,build", "--target", "x86_64-unknown-linux-gnu", "--prefix", "none",
               "--format", "{p}", cwd=REPO).stdout
    needed = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    needed = {(name, version.lstrip("v")) for name, version in needed if name != "volrescue"}
    assert needed <= named, needed - named
    assert all(part["licenses"] and part["hashes"] for part in bill["components"])
    refs = {part["bom-ref"] for part in [*bill["components"], bill["metadata"]["component"]]}
    assert {entry["ref"] for entry in bill["dependencies"]} == refs
    assert all(set(entry["dependsOn"]) <= refs for entry in bill["dependencies"])


def test_the_checksums_hold():
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=DIST)
    listed = {line.split()[1].lstrip("*") for line in (DIST / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in DIST.iterdir()} - {"SHA256SUMS"}


def test_nothing_tells_where_it_was_built():
    program = run("sh", "-c", 'dpkg-deb --fsys-tarfile "$0" | tar -xO ./usr/bin/volrescue | strings -a', only("*.deb")).stdout
    for word in (str(REPO), "/.cargo/registry"):
        assert word not in program, word
