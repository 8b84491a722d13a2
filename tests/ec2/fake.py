# SPDX-License-Identifier: MIT
"""A fake EC2 on a loopback port: moto, with what moto lacks beside it.

CopyVolumes, CreateReplaceRootVolumeTask and Run Command are served here, with the documented rules; everything else goes
to moto. Every request is held against botocore's service model. The test steers it through /_fake: faults to inject, and
the call at which the client is to be killed. Run as a program it prints its port and serves until its input closes.
"""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.parse
import uuid
from xml.sax.saxutils import escape

import botocore.session
from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

ACCOUNT, REGION = "123456789012", "us-east-1"
XMLNS = "http://ec2.amazonaws.com/doc/2016-11-15/"


class Refused(Exception):
    """An error answer of EC2."""

    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Fake:
    """The state beside moto's, and the WSGI application."""

    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.RLock()
        self.models = {}
        self.loader = botocore.session.get_session()
        self.reset({})

    def reset(self, config):
        """`config`: see the attributes; paths of the fake helper."""
        self.config = config
        self.tasks, self.tokens, self.commands, self.calls = {}, {}, {}, []
        self.changes, self.kill, self.faults, self.hidden = 0, None, [], collections.Counter()
        self.reboots = 0
        self.log = []

    @property
    def ec2(self):
        return get_backend("ec2")[ACCOUNT][REGION]

    # --- WSGI ---

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = __import__("io").BytesIO(body)
        path = environ["PATH_INFO"]
        with self.lock:
            if path.startswith("/_fake/"):
                answer = getattr(self, "ctl_" + path[7:])(json.loads(body or b"{}"))
                start_response("200 OK", [("Content-Type", "application/json")])
                return [json.dumps(answer).encode()]
            if path.startswith("/moto-api"):
                return self.moto(environ, start_response)
            return self.aws(environ, start_response, body)

    def aws(self, environ, start_response, body):
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        service = scope[1] if scope else ""
        if target := environ.get("HTTP_X_AMZ_TARGET"):
            operation, params = target.split(".")[-1], json.loads(body or b"{}")
        else:
            params = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
            operation = params.get("Action", "")
        wrong = self.against_the_model(service, operation, params)
        dry = params.get("DryRun") == "true"
        reads = operation.startswith(("Describe", "Get", "Decode", "List")) or dry
        number = None
        if not reads:
            self.changes += 1
            number = self.changes
        self.calls.append({"service": service, "operation": operation, "params": params, "dry": dry})
        if wrong:
            return self.error(start_response, service, Refused("InvalidParameter", wrong))
        for fault in self.faults:
            if fault["operation"] == operation and fault["times"] > 0 and fault.get("dry", dry) == dry:
                fault["times"] -= 1
                return self.error(start_response, service, Refused(fault["code"], fault["message"], fault.get("status", 400)))
        if self.killed(number, "before"):
            # The call never reached EC2.
            return self.error(start_response, service, Refused("Unavailable", "", 503))
        gone = {}
        for volume, looks in list(self.hidden.items()):
            if operation == "DescribeVolumes" and looks > 0 and volume in self.ec2.volumes:
                self.hidden[volume] -= 1
                gone[volume] = self.ec2.volumes.pop(volume)
        try:
            own = getattr(self, f"{service}_{operation}", None)
            if own:
                try:
                    status, kind, answer = own(params, dry)
                except Refused as refused:
                    return self.error(start_response, service, refused)
                start_response(status, [("Content-Type", kind)])
                out = [answer.encode()]
            else:
                out = list(self.moto(environ, start_response))
                self.after_moto(operation, params)
        finally:
            self.ec2.volumes.update(gone)
        self.killed(number, "after")
        return out

    def killed(self, number, when):
        plan = self.kill
        if number is not None and plan and plan["at"] == number and plan["when"] == when:
            self.kill = None
            os.kill(plan["pid"], signal.SIGKILL)
            return True
        return False

    def error(self, start_response, service, refused):
        status = f"{refused.status} Error"
        if service == "ssm":
            start_response(status, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", refused.code)])
            return [json.dumps({"__type": refused.code, "message": refused.message}).encode()]
        start_response(status, [("Content-Type", "text/xml")])
        inner = f"<Error><Code>{escape(refused.code)}</Code><Message>{escape(refused.message)}</Message></Error>"
        text = f"<Response><Errors>{inner}</Errors><RequestID>fake</RequestID></Response>" if service == "ec2" else \
            f"<ErrorResponse>{inner}<RequestId>fake</RequestId></ErrorResponse>"
        return [text.encode()]

    def against_the_model(self, service, operation, params):
        """What of a request the service model does not have, or None. (Types were checked by the client's botocore.)"""
        if service not in self.models:
            if service not in ("ec2", "ssm", "sts", "autoscaling"):
                return f"no such service {service!r}"
            self.models[service] = self.loader.get_service_model(service)
        model = self.models[service]
        if operation not in model.operation_names:
            return f"{service} has no operation {operation!r}"
        shape = model.operation_model(operation).input_shape
        known, required = {"Action", "Version"}, set()
        for name, member in (shape.members if shape else {}).items():
            wire = member.serialization.get("queryName")
            if not wire:
                wire = member.serialization.get("name", name)
                wire = wire[:1].upper() + wire[1:] if service == "ec2" else wire
            known.add(wire)
            if name in shape.required_members:
                required.add(wire)
        given = {name.split(".")[0] for name in params}
        if unknown := given - known:
            return f"{operation} has no parameter {sorted(unknown)}"
        if missing := required - given:
            return f"{operation} needs {sorted(missing)}"
        return None

    # --- what moto does not do as EC2 does ---

    def after_moto(self, operation, params):
        if operation == "AttachVolume" and self.config.get("stuck_attaching"):
            volume = self.ec2.volumes.get(params["VolumeId"])
            if volume and volume.attachment:
                volume.attachment.status = "attaching"
        if operation == "CreateVolume":
            for volume in self.ec2.volumes:
                self.image(volume, None)

    def image(self, volume, source):
        """The disk image behind a volume, copied from its source's."""
        images = self.config.get("images")
        if images and source and os.path.exists(f"{images}/{source}"):
            subprocess.run(["cp", "--sparse=always", "--reflink=auto", f"{images}/{source}", f"{images}/{volume}"], check=True)

    def xml(self, operation, inner):
        return "200 OK", "text/xml", f'<?xml version="1.0"?><{operation}Response xmlns="{XMLNS}"><requestId>fake</requestId>{inner}</{operation}Response>'

    def tags_of(self, params):
        tags, number = {}, 1
        while f"TagSpecification.1.Tag.{number}.Key" in params:
            tags[params[f"TagSpecification.1.Tag.{number}.Key"]] = params[f"TagSpecification.1.Tag.{number}.Value"]
            number += 1
        return tags

    def volume(self, name):
        if name not in self.ec2.volumes:
            raise Refused("InvalidVolume.NotFound", f"The volume '{name}' does not exist.")
        return self.ec2.volumes[name]

    def ec2_CopyVolumes(self, params, dry):
        source = self.volume(params["SourceVolumeId"])
        if dry:
            raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        token = params.get("ClientToken")
        if token and token in self.tokens:
            copy = self.ec2.volumes[self.tokens[token]]
        else:
            size = int(params.get("Size", source.size))
            if size < source.size:
                raise Refused("InvalidParameterValue", "The size of the copy cannot be smaller than the source.")
            copy = self.ec2.create_volume(
                size=size, zone_name=source.zone.name, encrypted=source.encrypted or params.get("Encrypted") == "true",
                kms_key_id=source.kms_key_id if source.encrypted else None, volume_type=params.get("VolumeType", "gp2"),
                iops=int(params["Iops"]) if "Iops" in params else None,
                throughput=int(params["Throughput"]) if "Throughput" in params else None)
            copy.add_tags(self.tags_of(params))
            self.tokens[token] = copy.id
            self.hidden[copy.id] = self.config.get("hide", 0)
            self.image(copy.id, source.id)
        return self.xml("CopyVolumes", f"<volumeSet><item><volumeId>{copy.id}</volumeId><sourceVolumeId>{source.id}</sourceVolumeId>"
                        f"<size>{copy.size}</size><status>creating</status><volumeType>{copy.volume_type}</volumeType></item></volumeSet>")

    # The rules of the documentation: one source, the instance running, the volume in its zone, available, unattached, and
    # encrypted if the root is.
    def ec2_CreateReplaceRootVolumeTask(self, params, dry):
        token = params.get("ClientToken")
        if token and token in self.tokens:
            return self.xml("CreateReplaceRootVolumeTask", f"<replaceRootVolumeTask>{self.task_xml(self.tasks[self.tokens[token]])}</replaceRootVolumeTask>")
        instance = self.ec2.get_instance(params["InstanceId"])
        if sum(name in params for name in ("SnapshotId", "ImageId", "VolumeId")) > 1:
            raise Refused("InvalidParameterCombination", "Only one of SnapshotId, ImageId and VolumeId can be specified.")
        if instance._state.name != "running":
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'running' state.")
        if any(task["instance"] == instance.id and task["state"] in ("pending", "in-progress") for task in self.tasks.values()):
            raise Refused("IncorrectInstanceState", "A root volume replacement task is already in progress for the instance.")
        volume = self.volume(params.get("VolumeId", ""))
        root = instance.block_device_mapping.get(instance.root_device_name)
        if root is None:
            raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' has no root volume attached.")
        if volume.zone.name != instance.placement if isinstance(instance.placement, str) else volume.zone.name != instance._placement.zone:
            raise Refused("InvalidVolume.ZoneMismatch", "The volume is not in the same availability zone as the instance.")
        if volume.attachment:
            raise Refused("IncorrectState", f"The volume '{volume.id}' is not 'available'.")
        if self.ec2.volumes[root.volume_id].encrypted and not volume.encrypted:
            raise Refused("InvalidParameterValue", "The replacement volume must be encrypted if the original root volume is.")
        if dry:
            raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        outcome = self.config["outcomes"].pop(0) if self.config.get("outcomes") else "succeeded"
        task = {"id": "replacevol-" + uuid.uuid4().hex[:17], "instance": instance.id, "volume": volume.id, "state": "pending",
                "outcome": outcome, "hidden": self.config.get("hide", 0), "delete": params.get("DeleteReplacedRootVolume") == "true"}
        self.tasks[task["id"]] = task
        if token:
            self.tokens[token] = task["id"]
        return self.xml("CreateReplaceRootVolumeTask", f"<replaceRootVolumeTask>{self.task_xml(task)}</replaceRootVolumeTask>")

    def task_xml(self, task):
        return (f"<replaceRootVolumeTaskId>{task['id']}</replaceRootVolumeTaskId><instanceId>{task['instance']}</instanceId>"
                f"<taskState>{task['state']}</taskState><startTime>2026-01-01T00:00:00Z</startTime>")

    def ec2_DescribeReplaceRootVolumeTasks(self, params, dry):
        wanted = [value for name, value in params.items() if name.startswith("ReplaceRootVolumeTaskId.")]
        instances = [value for name, value in params.items() if re.match(r"Filter\.1\.Value\.\d", name)]
        found = []
        for task in self.tasks.values():
            if wanted and task["id"] not in wanted or instances and task["instance"] not in instances:
                continue
            if task["hidden"] > 0:
                task["hidden"] -= 1
                continue
            self.advance(task)
            found.append(task)
        if wanted and not found and self.config.get("hide_loudly"):
            raise Refused("InvalidReplaceRootVolumeTaskId.NotFound", "The task does not exist.")
        items = "".join(f"<item>{self.task_xml(task)}</item>" for task in found)
        return self.xml("DescribeReplaceRootVolumeTasks", f"<replaceRootVolumeTaskSet>{items}</replaceRootVolumeTaskSet>")

    def advance(self, task):
        following = {"pending": "in-progress", "in-progress": "end"}.get(task["state"])
        if following == "in-progress":
            task["state"] = following
        elif following == "end":
            task["state"] = task["outcome"]
            self.reboots += 1
            instance = self.ec2.get_instance(task["instance"])
            device = instance.root_device_name
            if task["outcome"] in ("succeeded", "failed-detached"):
                old = self.ec2.volumes[instance.block_device_mapping[device].volume_id]
                self.ec2.detach_volume(old.id, instance.id, device)
                if task["delete"]:
                    del self.ec2.volumes[old.id]
            if task["outcome"] == "succeeded":
                # As reports say, DeleteOnTermination does not survive: the command has to look.
                self.ec2.attach_volume(task["volume"], instance.id, device, delete_on_termination=False)

    # --- SSM: the fake helper runs what it is sent ---

    def ssm_DescribeInstanceInformation(self, params, dry):
        wanted = params["Filters"][0]["Values"]
        found = [] if self.config.get("no_agent") else [{"InstanceId": name, "PingStatus": "Online"} for name in wanted]
        return "200 OK", "application/x-amz-json-1.1", json.dumps({"InstanceInformationList": found})

    def ssm_SendCommand(self, params, dry):
        if self.config.get("unmanaged"):
            raise Refused("InvalidInstanceId", "Instances not in a valid state for account")
        helper = params["InstanceIds"][0]
        attached = [v.id for v in self.ec2.volumes.values() if v.attachment and v.attachment.instance.id == helper]
        env = {"PATH": self.config["path"], "EC2_RESCUE_DIR": self.config["helper_dir"], "FAKE_IMAGES": self.config.get("images") or "",
               "FAKE_ATTACHED": " ".join(attached), "HOME": "/nonexistent"} | self.config.get("env", {})
        process = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        command = {"id": str(uuid.uuid4()), "output": None, "status": "InProgress"}

        def finish():
            out, err = process.communicate("\n".join(params["Parameters"]["commands"]))
            command["output"], command["error"] = out[:24000], err[:8000]
            command["status"] = "Success" if process.returncode == 0 else "Failed"

        threading.Thread(target=finish, daemon=True).start()
        self.commands[command["id"]] = command
        return "200 OK", "application/x-amz-json-1.1", json.dumps({"Command": {"CommandId": command["id"], "Status": "Pending"}})

    def ssm_GetCommandInvocation(self, params, dry):
        command = self.commands.get(params["CommandId"])
        if not command:
            raise Refused("InvocationDoesNotExist", "")
        return "200 OK", "application/x-amz-json-1.1", json.dumps({
            "CommandId": command["id"], "InstanceId": params["InstanceId"], "Status": command["status"],
            "StatusDetails": command["status"], "StandardOutputContent": command["output"] or "", "StandardErrorContent": ""})

    def sts_DecodeAuthorizationMessage(self, params, dry):
        if self.config.get("no_decode"):
            raise Refused("AccessDenied", "not authorized to perform: sts:DecodeAuthorizationMessage", 403)
        decoded = json.dumps({"allowed": False, "context": {"action": params["EncodedMessage"].removeprefix("enc-")}})
        return "200 OK", "text/xml", ('<DecodeAuthorizationMessageResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                                      f"<DecodeAuthorizationMessageResult><DecodedMessage>{escape(decoded)}</DecodedMessage>"
                                      "</DecodeAuthorizationMessageResult></DecodeAuthorizationMessageResponse>")

    # --- for the test ---

    def ctl_reset(self, config):
        # Only what a test makes: a reset of all of moto takes a second, of which the AMIs are most.
        for things in (self.ec2.reservations, self.ec2.volumes):
            things.clear()
        for name in [name for name, snapshot in self.ec2.snapshots.items() if not snapshot.from_ami]:
            del self.ec2.snapshots[name]
        self.reset(config)
        return {}

    def ctl_set(self, config):
        self.config.update(config)
        if config.get("stuck_attaching") is False:
            for volume in self.ec2.volumes.values():
                if volume.attachment:
                    volume.attachment.status = "attached"
        return {}

    def ctl_kill(self, plan):
        self.kill = plan
        self.changes = 0
        return {}

    def ctl_fault(self, fault):
        self.faults.append({"times": 1, "message": fault["code"]} | fault)
        return {}

    def ctl_instance(self, values):
        """Sets attributes that moto's API has no call for."""
        instance = self.ec2.get_instance(values.pop("id"))
        for name, value in values.items():
            setattr(instance, name, value)
        return {}

    def ctl_look(self, _):
        instances = [i for r in self.ec2.reservations.values() for i in r.instances]
        return {
            "volumes": {v.id: {"on": v.attachment.instance.id if v.attachment else None, "zone": v.zone.name, "type": v.volume_type,
                               "encrypted": v.encrypted} for v in self.ec2.volumes.values()},
            "snapshots": [s.id for s in self.ec2.snapshots.values() if not s.from_ami and "rescue-" in (s.description or "")],
            "roots": {i.id: getattr(i.block_device_mapping.get(i.root_device_name), "volume_id", None) for i in instances},
            "states": {i.id: i._state.name for i in instances},
            "tags": {i.id: {t["key"]: t["value"] for t in i.get_tags()} for i in instances},
            "tasks": list(self.tasks.values()), "calls": self.calls, "changes": self.changes, "reboots": self.reboots,
        }


class Quiet(WSGIRequestHandler):
    """No line for each request."""

    def log(self, *_):
        pass


def main():
    """Prints the port; ends when standard input does."""
    server = make_server("127.0.0.1", 0, Fake(), threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
