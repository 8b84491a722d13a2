# SPDX-License-Identifier: MIT
"""`volrescue userdata`: the document as cloud-init would read it, and the script run on a small tree."""

import email
import os
import subprocess

import pytest
import yaml

from test_volume import PROGRAM


def document(*more):
    result = subprocess.run([PROGRAM, "userdata", "--user", "ec2-user", *more], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    message = email.message_from_string(result.stdout)
    assert message.is_multipart() and not message.defects and result.stdout.isascii()
    parts = message.get_payload()
    assert [part.get_content_type() for part in parts] == ["text/cloud-config", "text/x-shellscript"]
    assert not any(part.defects for part in parts)
    return parts[0].get_payload(), parts[1].get_payload(), result.stderr


def test_the_document_is_what_cloud_init_reads():
    config, script, caveats = document()
    assert config.startswith("#cloud-config\n")
    assert yaml.safe_load(config) == {"cloud_final_modules": [["scripts-user", "always"]]}
    assert script.startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    for word in ("stopped", "instance-store", "Auto Scaling", "ModifyInstanceAttribute"):
        assert word in caveats


def test_wrong_input_is_a_usage_error(tmp_path):
    (tmp_path / "key").write_text("no key\n")
    for more in (["--user", "a'; reboot; '"], ["--user", "admin", "--key", tmp_path / "key"], []):
        result = subprocess.run([PROGRAM, "userdata", *more], capture_output=True, text=True)
        assert result.returncode == 2 and result.stdout == ""


@pytest.mark.skipif(os.getuid() != 0 and os.environ.get("VOLRESCUE_ROOT_TESTS") != "require", reason="needs root")
def test_the_script_mends_and_follows_no_link(tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "it's me", "-f", key], check=True)
    _, script, _ = document("--key", key)
    assert "PRIVATE" not in script
    # /home and /etc of its own, in a mount namespace; the machine's stay.
    setup = """set -e
mount -t tmpfs none /home
cp /etc/passwd /etc/group "$1" && echo 'ec2-user:x:4321:4321::/home/ec2-user:/bin/sh' >>"$1/passwd" && echo 'ec2-user:x:4321:' >>"$1/group"
mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group
mkdir -p /home/ec2-user/.ssh && printf 'ssh-rsa AAAA' >/home/ec2-user/.ssh/authorized_keys && chmod -R 777 /home
echo kept >/home/other; chmod 600 /home/other; set +e
"""
    look = "stat -c '%a %u:%g %n' /home /home/ec2-user /home/ec2-user/.ssh /home/ec2-user/.ssh/authorized_keys; cat /home/ec2-user/.ssh/authorized_keys"
    (tmp_path / "script").write_text(script)

    def inside(commands):
        return subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", setup + commands, "-", tmp_path],
                              capture_output=True, text=True)

    done = inside(f'sh "$1/script" && sh "$1/script" && {look}')
    public = (tmp_path / "key.pub").read_text().split()
    assert done.stdout.splitlines() == [
        "755 0:0 /home", "700 4321:4321 /home/ec2-user", "700 4321:4321 /home/ec2-user/.ssh",
        "600 4321:4321 /home/ec2-user/.ssh/authorized_keys", "ssh-rsa AAAA", " ".join(public[:2])], done.stderr
    linked = inside('rm /home/ec2-user/.ssh/authorized_keys; ln -s /home/other /home/ec2-user/.ssh/authorized_keys\n'
                    'sh "$1/script"; echo $?; stat -c %a:%u /home/other; cat /home/other')
    assert linked.stdout.splitlines() == ["1", "600:0", "kept"]
