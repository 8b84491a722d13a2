# SPDX-License-Identifier: MIT
"""The steps of a rescue and their inverses.

Each step records that it begins before its first call, is found again by the run's tag (or the call's client token) when
the record of its end is missing, and has an inverse that may be run at any time, also twice.
"""

import json
import os
import socket

import botocore.exceptions as trouble

from . import login
from .api import Api, tag
from .errors import FAILED, REFUSED, UNREADABLE, Stop, error_code
from .facts import LOCK_TAG, root_mapping
from .helper import Helper, shown

RUN_TAG = "ec2-rescue-run"
HELPER_TAG = "volrescue-helper"
AMI_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
# CopyVolumes is not to be had here: these mean the way by a snapshot, everything else is a failure.
NO_COPY = ("InvalidAction", "UnsupportedOperation", "Unsupported", "UnsupportedFeature")
GONE = ("InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound")


class Rescue:
    """One run over one instance."""

    def __init__(self, api: Api, state, say, consent):
        self.api, self.state, self.say, self.consent = api, state, say, consent
        self.run, self.instance = state.data["run"], state.data["instance"]
        self.facts, self.options = state.data["facts"], state.data["options"]

    # --- forward ---

    FORWARD = ("lock", "suspend", "copy", "helper", "attach", "repair", "detach", "swap", "restore", "tidy")

    def forward(self):
        """Every step that is not yet done, in order."""
        for name in self.FORWARD:
            if self.state.step(name).get("status") != "done":
                self.say(f"{name}: {getattr(self, name).__doc__.splitlines()[0]}")
                getattr(self, name)()

    def _tags(self, kind: str, name: str) -> list:
        return [{"ResourceType": kind, "Tags": [{"Key": RUN_TAG, "Value": self.run}, {"Key": "Name", "Value": name}]}]

    def _tagged(self, operation: str, key: str) -> list:
        # A resource of a step whose end was not recorded. It may take a moment to be seen.
        filters = [{"Name": f"tag:{RUN_TAG}", "Values": [self.run]}]
        return self.api.read("ec2", operation, Filters=filters)[key]

    def lock(self):
        """Mark the instance, so that no second rescue begins."""
        self.state.begin("lock")
        mine = f"{self.run} by {os.environ.get('USER', 'uid ' + str(os.getuid()))}@{socket.gethostname()}"[:255]
        there = None if self.api.dry else tag(self.api.instance(self.instance), LOCK_TAG)
        if there is None:
            self.api.change("ec2", "CreateTags", Resources=[self.instance], Tags=[{"Key": LOCK_TAG, "Value": mine}])
            # Of two that saw no mark the later writer wins, and the other reads it here.
            there = self.api.until("the mark on the instance is not seen", lambda: tag(self.api.instance(self.instance), LOCK_TAG),
                                   60, pretend=mine)
        if not there.startswith(self.run):
            self.state.end("lock", status="undone")
            raise Stop(REFUSED, f"another rescue of {self.instance} is under way: {there}",
                       "This one has changed nothing.")
        self.state.end("lock")

    def suspend(self):
        """Suspend the Auto Scaling processes that could terminate the instance."""
        group = self.facts["group"]
        processes = group["missing"] if group else []
        self.state.begin("suspend", processes=processes)
        if processes:
            self.api.change("autoscaling", "SuspendProcesses", AutoScalingGroupName=group["name"], ScalingProcesses=processes)
        self.state.end("suspend")

    def copy(self):
        """Copy the root while the instance runs."""
        self.state.begin("copy")
        facts = self.facts
        copy = self.state.step("copy").get("volume") or self._first(self._tagged("DescribeVolumes", "Volumes"), "VolumeId")
        if not copy and self.api.knows("CopyVolumes") and not self.state.step("copy").get("by_snapshot"):
            kind = {"VolumeType": facts["root_type"]}
            if facts["root_type"] in ("gp3", "io1", "io2") and facts["root_iops"]:
                kind["Iops"] = facts["root_iops"]
            if facts["root_type"] == "gp3" and facts["root_throughput"]:
                kind["Throughput"] = facts["root_throughput"]
            try:
                made = self.api.change("ec2", "CopyVolumes", SourceVolumeId=facts["root"], **kind, ClientToken=f"{self.run}-copy",
                                       TagSpecifications=self._tags("volume", f"rescued copy of {facts['root']}"),
                                       pretend={"Volumes": [{"VolumeId": "vol-COPY"}]})
                copy = made["Volumes"][0]["VolumeId"]
            except trouble.ClientError as error:
                if error_code(error) not in NO_COPY:
                    raise
                self.say(f"  CopyVolumes is not to be had here ({error_code(error)}): by a snapshot instead")
        if not copy:
            copy = self._copy_by_snapshot()
        self.state.begin("copy", volume=copy)
        self.api.until(f"{copy} is not available yet", lambda: self._in_state(copy, "available") or None, self.options["timeout"])
        self.state.end("copy")

    def _copy_by_snapshot(self) -> str:
        facts = self.facts
        self.state.begin("copy", by_snapshot=True)
        snapshot = self.state.step("copy").get("snapshot") or self._first(self._tagged("DescribeSnapshots", "Snapshots"), "SnapshotId")
        if not snapshot:
            snapshot = self.api.change("ec2", "CreateSnapshot", VolumeId=facts["root"], Description=f"{self.run}: root of {self.instance}",
                                       TagSpecifications=self._tags("snapshot", self.run), pretend={"SnapshotId": "snap-NEW"})["SnapshotId"]
        self.state.begin("copy", snapshot=snapshot)

        def complete():
            found = self.api.read("ec2", "DescribeSnapshots", SnapshotIds=[snapshot])["Snapshots"][0]
            if found["State"] == "error":
                raise Stop(FAILED, f"the snapshot {snapshot} failed", "Roll back with --rollback and start again.")
            return found if found["State"] == "completed" else None

        self.api.until(f"the snapshot {snapshot} is not complete", complete, self.options["timeout"])
        kind = {"VolumeType": facts["root_type"]}
        if facts["root_type"] in ("gp3", "io1", "io2") and facts["root_iops"]:
            kind["Iops"] = facts["root_iops"]
        # A snapshot of an encrypted volume is encrypted with the same key, and so is its volume.
        return self.api.change("ec2", "CreateVolume", SnapshotId=snapshot, AvailabilityZone=facts["zone"], **kind,
                               ClientToken=f"{self.run}-create",
                               TagSpecifications=self._tags("volume", f"rescued copy of {facts['root']}"),
                               pretend={"VolumeId": "vol-COPY"})["VolumeId"]

    @staticmethod
    def _first(found: list, key: str):
        return found[0][key] if found else None

    def _in_state(self, volume: str, wanted: str) -> bool:
        state = self.api.volume(volume)["State"]
        if state in ("error", "deleting", "deleted"):
            raise Stop(FAILED, f"{volume} is in state {state}", "The original root is untouched; --rollback goes back.")
        return state == wanted

    def helper(self):
        """Choose a helper in the zone, or launch one."""
        self.state.begin("helper")
        helper = self.state.step("helper").get("instance")
        launched = self.state.step("helper").get("launched", False)
        if not helper:
            helper, launched = self._choose_helper()
        self.state.begin("helper", instance=helper, launched=launched)
        self.api.until(f"the helper {helper} is not running", lambda: self._running(helper) or None, self.options["timeout"])
        self._helper().ready()
        self.state.end("helper")

    def _choose_helper(self) -> tuple[str, bool]:
        if self.options["helper"]:
            check_helper(self.api, self.options["helper"], self.facts)
            return self.options["helper"], False
        alive = ("pending", "running")
        mine = [i for r in self._tagged("DescribeInstances", "Reservations") for i in r["Instances"] if i["State"]["Name"] in alive]
        if mine:
            return mine[0]["InstanceId"], True
        ready = self.api.read("ec2", "DescribeInstances", Filters=[
            {"Name": "tag-key", "Values": [HELPER_TAG]}, {"Name": "instance-state-name", "Values": ["running"]},
            {"Name": "availability-zone", "Values": [self.facts["zone"]]}])["Reservations"]
        found = [i for r in ready for i in r["Instances"] if i["InstanceId"] != self.instance]
        if found:
            return found[0]["InstanceId"], False
        image = self.options["helper_ami"] or self.api.read("ssm", "GetParameter", Name=AMI_PARAMETER)["Parameter"]["Value"]
        more = {"SubnetId": self.facts["subnet"]} if self.facts["subnet"] else {"Placement": {"AvailabilityZone": self.facts["zone"]}}
        if self.options["helper_profile"]:
            more["IamInstanceProfile"] = {"Name": self.options["helper_profile"]}
        made = self.api.change("ec2", "RunInstances", ImageId=image, InstanceType=self.options["helper_type"], MinCount=1, MaxCount=1,
                               ClientToken=f"{self.run}-helper", InstanceInitiatedShutdownBehavior="terminate",
                               TagSpecifications=self._tags("instance", f"helper of {self.run}"), **more,
                               pretend={"Instances": [{"InstanceId": "i-HELPER"}]})
        return made["Instances"][0]["InstanceId"], True

    def _running(self, instance: str) -> bool:
        state = self.api.instance(instance)["State"]["Name"]
        if state in ("terminated", "shutting-down", "stopped", "stopping"):
            raise Stop(FAILED, f"the helper {instance} is {state}", "Start it, or roll back and name another with --helper.")
        return state == "running"

    def _helper(self) -> Helper:
        return Helper(self.api, self.options, self.state.step("helper")["instance"], self.say)

    def attach(self):
        """Attach the copy to the helper."""
        copy, helper = self.state.step("copy")["volume"], self.state.step("helper")["instance"]
        self.state.begin("attach")
        if not self.api.dry:
            there = self.api.volume(copy)["Attachments"]
            if there and there[0]["InstanceId"] != helper:
                raise Stop(REFUSED, f"{copy} is attached to {there[0]['InstanceId']}", "Somebody else took it; find out who.")
        else:
            there = []
        if not there:
            self.api.change("ec2", "AttachVolume", VolumeId=copy, InstanceId=helper, Device=self._free_device(helper))

        def attached():
            found = self.api.volume(copy)["Attachments"]
            return found or None if found and found[0]["State"] == "attached" else None

        self.api.until(f"{copy} is stuck in attaching to {helper}", attached, self.options["timeout"],
                       "A device name that the helper's kernel still holds can do that. Detach it in the console or with "
                       "--rollback, or restart the helper (never the broken instance); then --resume.")
        self.state.end("attach")

    def _free_device(self, helper: str) -> str:
        if self.api.dry:
            return "/dev/sdf"
        used = {mapping["DeviceName"][-1] for mapping in self.api.instance(helper).get("BlockDeviceMappings", [])}
        free = [letter for letter in "fghijklmnop" if letter not in used]
        if not free:
            raise Stop(FAILED, f"the helper {helper} has no free device name", "Detach something there, then --resume.")
        return f"/dev/sd{free[0]}"

    def repair(self):
        """Run volrescue on the helper."""
        self.state.begin("repair")
        copy = self.state.step("copy")["volume"]
        status, report = self._helper().repair(self.run, copy, self.options["public_key"])
        if not self.api.dry:
            for line in shown(status, report):
                self.say(f"  | {line}")
            kept = self.state.path.with_suffix(".report.json")
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                json.dump(report, out, indent=1)
            if status > 1:
                raise Stop(FAILED, f"volrescue ended with {status} on the helper; the copy is still attached there",
                           f"Its report is in {kept}. Look, then go on with --resume, or go back with --rollback.")
            if status == 1 and not self.options["swap_anyway"]:
                raise Stop(1, "sshd would still refuse the key after the repair: nothing is swapped",
                           f"The report is in {kept}. volrescue's own options go after --, for instance: "
                           "--resume -- --create-user --fix sshd-config. Or roll back.")
        self.state.end("repair", status_of_volrescue=status, volrescue_run=report.get("run"))

    def detach(self):
        """Detach the copy from the helper."""
        self.state.begin("detach")
        self._detach(self.state.step("copy")["volume"])
        self.state.end("detach")

    def _detach(self, volume: str):
        helper = self.state.step("helper").get("instance")
        there = [] if self.api.dry else self.api.volume(volume)["Attachments"]
        # Only from the helper: anything else is not ours to take.
        if self.api.dry or (there and there[0]["InstanceId"] == helper and there[0]["State"] != "detaching"):
            self.api.change("ec2", "DetachVolume", VolumeId=volume, InstanceId=helper)
        self.api.until(f"{volume} is not detached from {helper}", lambda: self._in_state(volume, "available") or None,
                       self.options["timeout"], "Something on the helper holds it. Look there, then --resume. Do not force it.")

    def swap(self):
        """Replace the root by the repaired copy; the old root is kept, the instance reboots once."""
        copy = self.state.step("copy")["volume"]
        if not self.api.dry:
            root = self._root()
            if root == copy:
                self.state.begin("swap")
                self._settled(self._tasks())
                self.state.end("swap")
                return
            if root != self.facts["root"] and self.state.step("swap").get("status") != "started":
                raise Stop(REFUSED, f"the root of {self.instance} is {root} now, not {self.facts['root']}",
                           "Somebody else replaced it. Roll back with --rollback.")
            if self.state.step("swap").get("status") != "started":
                if not self.consent(f"Replace the root of {self.instance} by {copy}? The instance reboots once."):
                    raise Stop(REFUSED, "not swapped: the repaired copy waits", "--resume goes on, --rollback goes back.")
        self._replace("swap", copy, self.facts["root"])
        self.state.end("swap")

    def _root(self):
        mapping = root_mapping(self.api.instance(self.instance))
        return mapping["VolumeId"] if mapping else None

    def _tasks(self) -> list:
        return self.api.read("ec2", "DescribeReplaceRootVolumeTasks", Filters=[
            {"Name": "instance-id", "Values": [self.instance]}])["ReplaceRootVolumeTasks"]

    def _settled(self, tasks: list):
        """Waits for the end of tasks that are under way."""
        for task in tasks:
            if task["TaskState"] in ("pending", "in-progress", "failing", "failing-detached"):
                self._watch(task["ReplaceRootVolumeTaskId"])

    def _watch(self, task: str) -> str:
        last = [None]

        def probe():
            # An empty answer is as good as "not found": the task was made a moment ago.
            found = self.api.read("ec2", "DescribeReplaceRootVolumeTasks", ReplaceRootVolumeTaskIds=[task])["ReplaceRootVolumeTasks"]
            state = found[0]["TaskState"] if found else None
            if state != last[0] and state:
                self.say(f"  {task}: {state}")
                last[0] = state
            return state if state in ("succeeded", "failed", "failed-detached") else None

        return self.api.until(f"{task} has not ended", probe, self.options["timeout"], pretend="succeeded")

    def _replace(self, step: str, volume: str, other: str):
        # A task of this attempt may be under way already: the same token gives the same task.
        record = self.state.step(step)
        attempt = record.get("attempt", 0) if record.get("status") == "started" else record.get("attempt", 0) + 1
        attempt = max(attempt, 1)
        self.state.begin(step, attempt=attempt)
        token = f"{self.run}-{step}-{attempt}"
        call = {"InstanceId": self.instance, "VolumeId": volume}
        known = record.get("task")
        if known and record.get("task_attempt") == attempt:
            task = known
        else:
            if not self.api.dry and not [t for t in self._tasks() if t["TaskState"] in ("pending", "in-progress")] and self._root() != volume:
                self.api.permitted("CreateReplaceRootVolumeTask", **call)
            made = self.api.change("ec2", "CreateReplaceRootVolumeTask", **call, DeleteReplacedRootVolume=False, ClientToken=token,
                                   TagSpecifications=self._tags("replace-root-volume-task", self.run),
                                   pretend={"ReplaceRootVolumeTask": {"ReplaceRootVolumeTaskId": "replacevol-NEW"}})
            task = made["ReplaceRootVolumeTask"]["ReplaceRootVolumeTaskId"]
            self.state.begin(step, task=task, task_attempt=attempt)
        end = self._watch(task)
        if end == "succeeded":
            self.api.until(f"{volume} is not seen as the root of {self.instance}",
                           lambda: True if self._root() == volume else None, 120)
            return
        # The next try is another task.
        self.state.end(step, status="failed", ended=end)
        if end == "failed":
            raise Stop(FAILED, f"the replacement failed ({task}): {self.instance} was rebooted and still has its root {other}",
                       "--resume tries again, --rollback goes back.")
        device = self.facts["root_device"]
        raise Stop(FAILED, f"the replacement failed ({task}) and {self.instance} may have no root attached; "
                   f"the original root is {self.facts['root']}",
                   "--rollback asks EC2 to put it back. If that is refused, the instance must be stopped, which loses instance-store data:\n"
                   f"  aws ec2 stop-instances --instance-ids {self.instance}\n"
                   f"  aws ec2 attach-volume --volume-id {self.facts['root']} --instance-id {self.instance} --device {device}\n"
                   f"  aws ec2 start-instances --instance-ids {self.instance}")

    def restore(self):
        """Give the new root the old DeleteOnTermination."""
        self.state.begin("restore")
        self._restore_attribute()
        self.state.end("restore")

    def _restore_attribute(self):
        wanted = self.facts["delete_on_termination"]
        now = None if self.api.dry else (root_mapping(self.api.instance(self.instance)) or {}).get("DeleteOnTermination")
        if wanted is not None and now is not None and now != wanted:
            self.api.change("ec2", "ModifyInstanceAttribute", InstanceId=self.instance, BlockDeviceMappings=[
                {"DeviceName": self.facts["root_device"], "Ebs": {"DeleteOnTermination": wanted}}])

    def tidy(self):
        """Let go of the helper, the snapshot, Auto Scaling and the mark."""
        self.state.begin("tidy")
        self._undo_helper()
        self._delete_snapshot()
        self._undo_suspend()
        self._undo_lock()
        self.state.end("tidy")
        self.state.data["phase"] = "done"
        self.state.save()

    # --- the inverses, last in, first out ---

    def backward(self):
        """Undoes every step that was begun; each inverse can be repeated."""
        self.state.data["phase"] = "rollback"
        self.state.save()
        kept = self._undo_swap()
        self._undo_attach()
        self._undo_helper()
        if not kept:
            self._undo_copy()
        self._delete_snapshot()
        self._undo_suspend()
        self._undo_lock()
        self.state.data["phase"] = "rolled-back"
        self.state.save()
        return kept

    def _begun(self, name: str) -> bool:
        return self.state.step(name).get("status") in ("started", "done", "failed")

    def _undo_swap(self) -> bool:
        """Puts the original root back. True: the copy was in use as the root, and is kept with what was written to it."""
        if not self._begun("swap"):
            return False
        self.say("undo swap")
        if self.state.step("swap").get("status") == "started":
            # The call may have been made without its answer being recorded.
            self._wait_to_be_seen(lambda: self._tasks())
        self._settled(self._tasks())
        original, root = self.facts["root"], self._root()
        copy = self.state.step("copy")["volume"]
        used = self.state.step("swap").get("used", False) or root == copy
        self.state.begin("swap", used=used) if used else None
        if root == original:
            return used
        if root not in (copy, None):
            raise Stop(REFUSED, f"the root of {self.instance} is {root}, neither the original {original} nor the copy {copy}",
                       "Somebody else replaced it; nothing is changed.")
        if root == copy and not self.consent(f"Put the original root {original} back into {self.instance}? The instance reboots once; "
                                             f"what was written since the swap stays on {copy}."):
            raise Stop(REFUSED, "not put back", "--rollback can be given again.")
        try:
            self._replace("swap-back", original, copy)
        except trouble.ClientError as error:
            raise Stop(FAILED, f"EC2 refuses to put the original root {original} back: {error.as_stop.message}",
                       f"The instance must be stopped for that, which loses instance-store data:\n"
                       f"  aws ec2 stop-instances --instance-ids {self.instance}\n"
                       f"  aws ec2 attach-volume --volume-id {original} --instance-id {self.instance} "
                       f"--device {self.facts['root_device']}\n"
                       f"  aws ec2 start-instances --instance-ids {self.instance}\nThen --rollback again.") from None
        self.state.end("swap-back")
        self._restore_attribute()
        return True

    def _wait_to_be_seen(self, ask):
        import time

        for _ in range(5):
            if found := ask():
                return found
            time.sleep(self.api.poll)
        return []

    def _copy(self):
        copy = self.state.step("copy").get("volume")
        if not copy and self._begun("copy"):
            copy = self._first(self._wait_to_be_seen(lambda: self._tagged("DescribeVolumes", "Volumes")), "VolumeId")
        return copy

    def _undo_attach(self):
        copy = self._copy()
        if not copy or not self._begun("attach"):
            return
        there = self._if_there(lambda: self.api.volume(copy)["Attachments"]) or []
        if not there or there[0]["InstanceId"] != self.state.step("helper").get("instance"):
            return
        self.say("undo attach")
        if self._begun("repair"):
            self._helper().quiesce(self.run)
        self._detach(copy)

    @staticmethod
    def _if_there(ask):
        try:
            return ask()
        except trouble.ClientError as error:
            if error_code(error) in GONE:
                return None
            raise

    def _undo_helper(self):
        record = self.state.step("helper")
        if not self._begun("helper"):
            return
        helper, launched = record.get("instance"), record.get("launched")
        if not helper and not self.options["helper"]:
            found = self._wait_to_be_seen(lambda: [i for r in self._tagged("DescribeInstances", "Reservations") for i in r["Instances"]])
            helper, launched = self._first(found, "InstanceId"), bool(found)
        if helper and launched:
            self.say("let go of the helper")
            self._if_there(lambda: self.api.change("ec2", "TerminateInstances", InstanceIds=[helper]))

    def _undo_copy(self):
        copy = self._copy()
        if not copy:
            return
        volume = self._if_there(lambda: self.api.volume(copy))
        if volume is None or volume["State"] in ("deleting", "deleted"):
            return
        # Deleted only if it is certainly ours and certainly unused.
        if copy == self.facts["root"] or tag(volume, RUN_TAG) != self.run or volume["Attachments"]:
            raise Stop(REFUSED, f"{copy} is not deleted: it is attached, or does not carry this run's tag", "Look at it in the console.")
        self.say("undo copy")
        self._if_there(lambda: self.api.change("ec2", "DeleteVolume", VolumeId=copy))

    def _delete_snapshot(self):
        record = self.state.step("copy")
        if not record.get("by_snapshot"):
            return
        snapshot = record.get("snapshot") or self._first(
            self._wait_to_be_seen(lambda: self._tagged("DescribeSnapshots", "Snapshots")), "SnapshotId")
        if snapshot:
            self._if_there(lambda: self.api.change("ec2", "DeleteSnapshot", SnapshotId=snapshot))

    def _undo_suspend(self):
        processes = self.state.step("suspend").get("processes")
        if processes and self.state.step("suspend").get("status") in ("started", "done"):
            self.api.change("autoscaling", "ResumeProcesses", AutoScalingGroupName=self.facts["group"]["name"], ScalingProcesses=processes)
            if not self.api.dry:
                self.state.end("suspend", status="undone")

    def _undo_lock(self):
        if not self._begun("lock"):
            return
        there = None if self.api.dry else tag(self.api.instance(self.instance), LOCK_TAG)
        if self.api.dry or (there and there.startswith(self.run)):
            self.api.change("ec2", "DeleteTags", Resources=[self.instance], Tags=[{"Key": LOCK_TAG}])

    # --- the end ---

    def test_login(self) -> int:
        """Port 22 and the login, as the operator would try them."""
        options = self.options
        address, port = options["address"] or self.facts["address"], options["port"]
        if not address:
            self.say("the instance has no address to try; name one with --address")
            return 0
        if not login.port_opens(address, port, options["login_timeout"], self.api.poll):
            raise Stop(1, f"port {port} of {address} does not open within {options['login_timeout']} s",
                       f"A security group, or a boot that fails: aws ec2 get-console-output --latest --instance-id {self.instance}\n"
                       f"To go back: ec2-rescue {self.run} --rollback")
        private = login.identity(options["key"], options["identity"]) if os.path.exists(options["key"]) else options["identity"]
        if not private:
            self.say(f"port {port} of {address} is open; the login is not tried: the private half of the key is not here (--identity)")
            return 0
        ok, words = login.logs_in(address, port, options["user"], private, options["login_timeout"], self.api.poll)
        if not ok:
            raise Stop(1, f"{options['user']}@{address} is still refused: {words}",
                       f"To go back: ec2-rescue {self.run} --rollback")
        self.say(f"{options['user']}@{address} logs in")
        return 0


def check_helper(api: Api, helper: str, facts: dict):
    """Whether a named helper can hold the copy."""
    if helper == facts["instance"]:
        raise Stop(REFUSED, "the helper is the broken instance itself", "Name another instance, or leave --helper out.")
    try:
        found = api.instance(helper)
    except trouble.ClientError as error:
        if error_code(error) in ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
            raise Stop(UNREADABLE, f"no helper {helper} in {api.region}") from None
        raise
    zone = found["Placement"]["AvailabilityZone"]
    if zone != facts["zone"]:
        raise Stop(REFUSED, f"the helper {helper} is in {zone}, the root in {facts['zone']}: a volume cannot leave its zone",
                   f"Name a helper in {facts['zone']}, or leave --helper out.")
    if found["State"]["Name"] != "running":
        raise Stop(REFUSED, f"the helper {helper} is {found['State']['Name']}", "Start it first.")
