# SPDX-License-Identifier: MIT
"""The fake EC2 and a broken instance on it for each test."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import types
import urllib.request

import pytest

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path.insert(0, str(REPO / "scripts"))

# Nothing here may find an address but the fake's, nor real credentials.
for name in list(os.environ):
    if name.startswith(("AWS_", "EC2_RESCUE_")):
        del os.environ[name]
os.environ.update(AWS_ACCESS_KEY_ID="AKIAFAKE", AWS_SECRET_ACCESS_KEY="fake", AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1",
                  AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null", AWS_EC2_METADATA_DISABLED="true",
                  NO_PROXY="127.0.0.1", USER="operator")

STUB = r"""#!/bin/sh
# Stands for volrescue where the test is about the cloud around it.
for word; do case $word in vol-*) volume=$word ;; esac; done
case " $FAKE_ATTACHED " in *" $volume "*) ;; *) exit 3 ;; esac
printf '%s\n' "$*" >>"$EC2_RESCUE_DIR/argv"
[ -z "${FAKE_SLOW:-}" ] || sleep "$FAKE_SLOW"
printf '{"schema":1,"command":"repair","run":"20260101T000000Z-aaaa","users":[{"name":"ec2-user","verdict":"%s","findings":[]}],"actions":[{"action":"set-mode","path":"/home/ec2-user/\\u001b[2J","from":"0777","to":"0700","outcome":"changed"}],"error":null}\n' "${FAKE_VERDICT:-accept}"
exit "${FAKE_STATUS:-0}"
"""


class Fake:
    """The steering side of the fake."""

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def tell(self, what, **values):
        request = urllib.request.Request(f"{self.url}/_fake/{what}", json.dumps(values).encode(), method="POST")
        return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request))

    def look(self):
        return types.SimpleNamespace(**self.tell("look"))


@pytest.fixture(scope="session")
def fake():
    process = subprocess.Popen([sys.executable, str(HERE / "fake.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = int(process.stdout.readline())
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    yield Fake(port)
    process.stdin.close()
    process.wait(10)


@pytest.fixture(scope="session")
def session(fake):
    """A session that makes each client once, before this process forks: EC2's model takes a second to read."""
    import boto3
    from botocore.config import Config

    class Session:
        region_name = "us-east-1"

        def __init__(self):
            self.real, self.made = boto3.Session(), {}

        def client(self, service, region_name="us-east-1", config=None):
            key = service, region_name
            if key not in self.made:
                config = config or Config(retries={"mode": "standard", "max_attempts": 8})
                self.made[key] = self.real.client(service, region_name=region_name, config=config)
            return self.made[key]

        def mine(self, service):
            key = "mine", service
            if key not in self.made:
                self.made[key] = self.real.client(service)
            return self.made[key]

    session = Session()
    for service in ("ec2", "ssm", "sts", "autoscaling"):
        session.client(service)
    return session


class World:
    """A broken instance, a helper, and the command."""

    def __init__(self, fake, session, work, **config):
        self.fake, self.session, self.work = fake, session, work
        self.state_dir = work / "state"
        self.bin, self.helper_dir = work / "bin", work / "helper"
        for directory in (self.bin, self.helper_dir):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        self.program("volrescue", STUB)
        fake.tell("reset", path=f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", helper_dir=str(self.helper_dir), **config)
        # A client of the test's own: a fork must not share an open connection.
        self.ec2 = session.mine("ec2")
        self.key = work / "key"
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)

    def program(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def image(self):
        """Any AMI; asked for once, as there are many."""
        if not hasattr(self.session, "image"):
            self.session.image = self.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        return self.session.image

    def launch(self, zone="us-east-1a", encrypted=False, name="broken", **more):
        """A running instance; its root is kept apart from those that AMIs bring."""
        ebs = {"VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True, "Encrypted": encrypted}
        made = self.ec2.run_instances(ImageId=self.image(), InstanceType="m5d.large", MinCount=1, MaxCount=1, Placement={"AvailabilityZone": zone},
                                      BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": ebs}],
                                      TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}], **more)
        instance = made["Instances"][0]["InstanceId"]
        self.fake.tell("instance", id=instance, root_device_name="/dev/sda1")
        return instance

    def broken(self, **options):
        self.instance = self.launch(**options)
        self.helper = self.launch(name="helper")
        self.root = self.fake.look().roots[self.instance]
        return self

    def argv(self, *more, helper=True):
        return [self.instance, "--user", "ec2-user", "--key", f"{self.key}.pub", *(["--helper", self.helper] if helper else []), *self.common(), *more]

    def common(self):
        # The login is tried against the fake's own port: there is no sshd here.
        return ["--yes", "--poll", "0.02", "--timeout", "20", "--login-timeout", "1", "--state-dir", str(self.state_dir)]

    def again(self, how, *more):
        return [self.instance, how, *self.common(), *more]

    def run(self, argv, kill=None):
        """Runs the command in a fork of this process; the fake kills it at a call. Returns (status or -signal, output)."""
        from ec2_rescue.main import main

        log = self.work / "output"
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                # Not before the fake knows whom to kill.
                while kill and not (self.work / "go").exists():
                    time.sleep(0.005)
                fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(fd, 1)
                os.dup2(fd, 2)
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                sys.stdin = os.fdopen(0)
                status = main(argv, self.session)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc(file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        if kill:
            self.fake.tell("kill", pid=pid, at=kill[0], when=kill[1])
            (self.work / "go").touch()
        _, status = os.waitpid(pid, 0)
        (self.work / "go").unlink(missing_ok=True)
        return os.waitstatus_to_exitcode(status), log.read_text() if log.exists() else ""

    def login_here(self, accepts=True):
        """Options that send the login test to a stand-in for ssh."""
        self.program("ssh", "#!/bin/sh\n" + ("exit 0\n" if accepts else "echo 'u@h: Permission denied (publickey).' >&2; exit 255\n"))
        return ["--address", "127.0.0.1", "--port", str(self.fake.port)]


@pytest.fixture
def world(fake, session, tmp_path, monkeypatch):
    made = World(fake, session, tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    return made
