# SPDX-License-Identifier: MIT
"""Runs volrescue on the helper, through SSM Run Command or SSH, and brings its JSON report back."""

import base64
import gzip
import json
import shlex
import subprocess

import botocore.exceptions as trouble

from .errors import FAILED, REFUSED, Stop, error_code

# The report comes back compressed on standard output, of which SSM keeps 24,000 characters. The lock makes a second
# delivery (after this command was killed) wait for the first; a run that ended well is not repeated.
SCRIPT = """set -u
umask 077
dir=${{EC2_RESCUE_DIR:-/var/lib/ec2-rescue}}
mkdir -p "$dir" && cd "$dir" || exit 9
exec 9>{run}.lock
flock 9
if [ ! -s {run}.status ]; then
  command -v {program} >/dev/null 2>&1 || {{ {install}; }} || {{ echo EC2-RESCUE-NO-PROGRAM; exit 8; }}
  printf %s {key} | base64 -d >{run}.pub
  tries=0
  while :; do
    {program} repair --yes --json --user {user} --key {run}.pub {more} -- {volume} >{run}.json 2>{run}.txt 9>&-
    status=$?
    tries=$((tries + 1))
    # The device node of a volume just attached may take a moment.
    [ "$status" = 3 ] && [ "$tries" -lt {tries} ] || break
    sleep 5
  done
  if [ "$status" = 0 ]; then echo 0 >{run}.new && sync && mv {run}.new {run}.status; fi
else
  status=0
fi
echo "EC2-RESCUE-STATUS $status"
gzip -9c {run}.json | base64 -w 0
echo
echo EC2-RESCUE-END
"""

# Waits for a run that may still be under way, so that the volume can be detached.
QUIESCE = """dir=${{EC2_RESCUE_DIR:-/var/lib/ec2-rescue}}
[ ! -e "$dir/{run}.lock" ] || flock --wait 900 "$dir/{run}.lock" sync
echo EC2-RESCUE-END
"""

AGENT_HINT = ("Is the SSM agent running there, with an instance profile that has AmazonSSMManagedInstanceCore and a way to the SSM "
              "endpoints? Or use --via ssh. Then go on with --resume.")


class Helper:
    """The machine that holds the copy while it is repaired."""

    def __init__(self, api, options: dict, instance: str, say):
        self.api, self.options, self.instance, self.say = api, options, instance, say

    def ready(self):
        """Waits until commands can be run there."""
        if self.options["via"] == "ssh":
            return
        self.api.until(f"the SSM agent of {self.instance} is not online", lambda: self._online() or None,
                       self.options["timeout"], AGENT_HINT, pretend=True)

    def _online(self) -> bool:
        found = self.api.read("ssm", "DescribeInstanceInformation",
                              Filters=[{"Key": "InstanceIds", "Values": [self.instance]}])["InstanceInformationList"]
        return bool(found) and found[0].get("PingStatus") == "Online"

    def repair(self, run: str, volume: str, key: str) -> tuple[int, dict]:
        """volrescue's exit status and report for the volume."""
        options = self.options
        script = SCRIPT.format(
            run=run, volume=shlex.quote(volume), user=shlex.quote(options["user"]), program=shlex.quote(options["program"]),
            key=shlex.quote(base64.b64encode(key.encode() + b"\n").decode()), tries=6,
            install=options["install"] or "false", more=" ".join(map(shlex.quote, options["repair"])))
        output = self._run(run, script, pretend="")
        if self.api.dry:
            return 0, {}
        if "EC2-RESCUE-NO-PROGRAM" in output:
            raise Stop(FAILED, f"{options['program']} is not on the helper {self.instance}",
                       "Put it there, or give --install 'COMMAND' that does; then go on with --resume.")
        return parse(output, run)

    def quiesce(self, run: str):
        """Returns when nothing of this run works on the volume any more."""
        self._run(run, QUIESCE.format(run=run), pretend="")

    def _run(self, run: str, script: str, pretend: str) -> str:
        return self._ssh(script, pretend) if self.options["via"] == "ssh" else self._ssm(run, script, pretend)

    def _ssm(self, run: str, script: str, pretend: str) -> str:
        try:
            sent = self.api.change(
                "ssm", "SendCommand", InstanceIds=[self.instance], DocumentName="AWS-RunShellScript", Comment=run,
                TimeoutSeconds=600, Parameters={"commands": [script], "executionTimeout": [str(self.options["timeout"])]},
                pretend={"Command": {"CommandId": ""}})
        except trouble.ClientError as error:
            if error_code(error) == "InvalidInstanceId":
                raise Stop(FAILED, f"SSM does not know {self.instance} as a managed instance", AGENT_HINT) from None
            raise
        command = sent["Command"]["CommandId"]

        def probe():
            found = self.api.read("ssm", "GetCommandInvocation", CommandId=command, InstanceId=self.instance)
            return None if found["Status"] in ("Pending", "InProgress", "Delayed") else found

        ended = self.api.until(f"the command {command} on {self.instance} has not ended", probe, self.options["timeout"],
                               pretend={"Status": "Success", "StandardOutputContent": pretend})
        if ended["Status"] in ("Cancelled", "Cancelling", "TimedOut") or ended.get("StatusDetails") == "Undeliverable":
            raise Stop(FAILED, f"the command on {self.instance} ended as {ended.get('StatusDetails') or ended['Status']}", AGENT_HINT)
        return ended["StandardOutputContent"]

    def _ssh(self, script: str, pretend: str) -> str:
        host = self.options["helper_address"]
        if not host:
            found = self.api.instance(self.instance) if not self.api.dry else {}
            host = found.get("PublicIpAddress") or found.get("PrivateIpAddress") or "HELPER"
        command = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
        if self.options["helper_identity"]:
            command += ["-i", self.options["helper_identity"]]
        command += [f"{self.options['helper_user']}@{host}", "sudo sh -s"]
        self.say(f"  {'would run' if self.api.dry else 'run'} {shlex.join(command)}")
        if self.api.dry:
            return pretend
        try:
            result = subprocess.run(command, input=script, capture_output=True, text=True, timeout=self.options["timeout"])
        except FileNotFoundError:
            raise Stop(REFUSED, "ssh is not installed here", "Install it, or use --via ssm.") from None
        except subprocess.TimeoutExpired:
            raise Stop(FAILED, f"the command on {host} did not end in time", "Go on with --resume.") from None
        if result.returncode == 255:
            last = (result.stderr.strip().splitlines() or ["ssh failed"])[-1]
            raise Stop(FAILED, f"cannot reach the helper {host}: {last}", "Then go on with --resume.")
        return result.stdout


def parse(output: str, run: str) -> tuple[int, dict]:
    """The exit status and the report in what the script printed."""
    lines = output.splitlines()
    marks = [at for at, line in enumerate(lines) if line.startswith("EC2-RESCUE-STATUS ")]
    if not marks:
        last = (lines or ["nothing"])[-1][:200]
        raise Stop(FAILED, f"the helper did not report: it printed {last!r}",
                   f"Look there in /var/lib/ec2-rescue/{run}.txt; then go on with --resume.")
    status = int(lines[marks[0]].split()[1])
    if "EC2-RESCUE-END" not in lines[marks[0]:]:
        # Longer than SSM keeps; the status is what counts.
        return status, {"truncated": f"/var/lib/ec2-rescue/{run}.json on the helper"}
    try:
        return status, json.loads(gzip.decompress(base64.b64decode(lines[marks[0] + 1])))
    except (ValueError, OSError, EOFError) as error:
        raise Stop(FAILED, f"the helper's report cannot be read: {error}",
                   f"Look there in /var/lib/ec2-rescue/{run}.txt; then go on with --resume.") from None


def shown(status: int, report: dict) -> list[str]:
    """volrescue's report for a terminal. The volume's words cannot move the cursor."""
    clean = lambda value: "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(value))  # noqa: E731
    lines = []
    if "truncated" in report:
        return [f"the report was too long to bring here: {report['truncated']}"]
    root = report.get("root") or {}
    if root:
        lines.append(clean(f"volume    {(root.get('os') or {}).get('name')}, {root.get('filesystem')}, OpenSSH {root.get('sshd')}"))
    for user in report.get("users", []):
        for finding in (user.get("before") or user).get("findings", []):
            lines.append(clean(f"found     {finding['check']}: {finding.get('path') or ''} {finding.get('sshd_says') or ''}").rstrip())
    for action in report.get("actions", []):
        lines.append(clean(f"{action['outcome']:<9} {action['action']} {action.get('path') or ''} "
                           f"{action.get('from') or ''} -> {action.get('to') or ''}"))
    for user in report.get("users", []):
        lines.append(clean(f"verdict   {user['name']}: {user['verdict']}"))
    if report.get("run"):
        lines.append(clean(f"run       {report['run']} (on the helper: volrescue undo {report['run']})"))
    error = report.get("error")
    if error:
        lines.append(clean(f"error     {error['message']} {error.get('hint') or ''}"))
    lines.append(f"status    {status}")
    return lines
