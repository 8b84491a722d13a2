# SPDX-License-Identifier: MIT
"""Looks at the instance and decides the way. Nothing here changes anything."""

import botocore.exceptions as trouble

from .api import Api, tag
from .errors import REFUSED, UNREADABLE, USAGE, Stop, error_code

LOCK_TAG = "ec2-rescue"
# What would replace or terminate a member of an Auto Scaling group while its instance reboots.
SUSPEND = ["HealthCheck", "ReplaceUnhealthy", "Terminate", "AZRebalance"]

INSTANCE_STORE_WAYS = """The root device is an instance store: it cannot be copied, detached or replaced, and stopping the instance loses it.
The ways that exist:
  - Session Manager, where the agent runs:  aws ssm start-session --target {instance}
    and there:                              volrescue repair / --live --user {user}
  - a console, where the type has one:      aws ec2-instance-connect / EC2 serial console
  - a login as another user that still works
  - a new instance from the same AMI, with the data restored"""


def look(api: Api, instance_id: str, user: str) -> dict:
    """Everything that the way hangs on."""
    try:
        instance = api.instance(instance_id)
    except trouble.ClientError as error:
        if error_code(error) in ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
            raise Stop(UNREADABLE, f"no instance {instance_id} in {api.region}",
                       "Is the region right? Set --region or AWS_REGION, and check the account of the credentials.") from None
        raise
    state = instance["State"]["Name"]
    if state in ("terminated", "shutting-down"):
        raise Stop(UNREADABLE, f"{instance_id} is {state}",
                   "Its root volume exists only if DeleteOnTermination was off: look for it among the available volumes, "
                   "rescue it with volrescue on a helper, and launch a new instance from it.")
    if instance.get("RootDeviceType") == "instance-store":
        raise Stop(REFUSED, INSTANCE_STORE_WAYS.format(instance=instance_id, user=user))
    device = instance["RootDeviceName"]
    mapping = root_mapping(instance)
    if mapping is None:
        raise Stop(UNREADABLE, f"{instance_id} has no volume at its root device {device}",
                   f"If a swap failed in a detached state: aws ec2 attach-volume --instance-id {instance_id} "
                   f"--device {device} --volume-id THE-OLD-ROOT (the instance must be stopped for that).")
    root = api.volume(mapping["VolumeId"])
    kind = _optional(lambda: api.read("ec2", "DescribeInstanceTypes", InstanceTypes=[instance["InstanceType"]])
                     ["InstanceTypes"][0]) or {}
    addresses = _optional(lambda: api.read("ec2", "DescribeAddresses", Filters=[
        {"Name": "instance-id", "Values": [instance_id]}])["Addresses"]) or []
    return {
        "instance": instance_id,
        "state": state,
        "type": instance["InstanceType"],
        "bare_metal": bool(kind.get("BareMetal")) and not instance["InstanceType"].startswith("mac"),
        "zone": instance["Placement"]["AvailabilityZone"],
        "subnet": instance.get("SubnetId"),
        "root_device": device,
        "root": root["VolumeId"],
        "root_size": root["Size"],
        "root_type": root["VolumeType"],
        "root_iops": root.get("Iops"),
        "root_throughput": root.get("Throughput"),
        "encrypted": root["Encrypted"],
        "kms_key": root.get("KmsKeyId"),
        "delete_on_termination": mapping.get("DeleteOnTermination"),
        "instance_store": bool(kind.get("InstanceStorageSupported")),
        "elastic_ip": addresses[0]["PublicIp"] if addresses else None,
        "address": instance.get("PublicIpAddress") or instance.get("PrivateIpAddress"),
        "product_codes": [code["ProductCodeId"] for code in instance.get("ProductCodes", [])],
        "group": _group(api, instance),
        "lock": tag(instance, LOCK_TAG),
    }


def root_mapping(instance: dict):
    """The EBS part of the root device, or None."""
    for mapping in instance.get("BlockDeviceMappings", []):
        if mapping["DeviceName"] == instance.get("RootDeviceName"):
            return mapping.get("Ebs")
    return None


def _optional(ask):
    # Facts that only inform: without the permission they stay unknown.
    try:
        return ask()
    except trouble.ClientError:
        return None


def _group(api: Api, instance: dict):
    members = _optional(lambda: api.read("autoscaling", "DescribeAutoScalingInstances", InstanceIds=[
        instance["InstanceId"]])["AutoScalingInstances"])
    name = members[0]["AutoScalingGroupName"] if members else tag(instance, "aws:autoscaling:groupName")
    if not name:
        return None
    groups = _optional(lambda: api.read("autoscaling", "DescribeAutoScalingGroups", AutoScalingGroupNames=[name])
                       ["AutoScalingGroups"]) or [{}]
    suspended = [process["ProcessName"] for process in groups[0].get("SuspendedProcesses", [])]
    return {"name": name, "missing": [process for process in SUSPEND if process not in suspended]}


def refuse_what_cannot_work(facts: dict, suspend: bool, swap_by_volume: bool):
    """The cases with no way, or with a way that is not this one."""
    instance, root, device = facts["instance"], facts["root"], facts["root_device"]
    if facts["state"] in ("stopped", "stopping"):
        raise Stop(REFUSED, f"{instance} is {facts['state']}: nothing can be swapped, and nothing need be",
                   "Its root can be moved itself:\n"
                   f"  aws ec2 detach-volume --volume-id {root}\n"
                   f"  aws ec2 attach-volume --volume-id {root} --instance-id HELPER --device /dev/sdf\n"
                   f"  volrescue repair {root} ...      (on the helper)\n"
                   f"  aws ec2 detach-volume --volume-id {root}\n"
                   f"  aws ec2 attach-volume --volume-id {root} --instance-id {instance} --device {device}\n"
                   f"  aws ec2 start-instances --instance-ids {instance}")
    if facts["state"] != "running":
        raise Stop(REFUSED, f"{instance} is {facts['state']}", "Wait until it is running, and start again.")
    if facts["bare_metal"]:
        raise Stop(REFUSED, f"EC2 does not replace the root of a bare metal instance ({facts['type']})",
                   "Use Session Manager or the serial console; or stop it and move the root volume by hand.")
    if facts["product_codes"]:
        raise Stop(REFUSED, f"the root has Marketplace codes ({', '.join(facts['product_codes'])}): a copy can be attached "
                   "only to a stopped helper", "Stop a helper in the zone, attach the copy, start it, run volrescue there, and "
                   "swap with aws ec2 create-replace-root-volume-task.")
    if not swap_by_volume:
        raise Stop(USAGE, "this boto3 does not know CreateReplaceRootVolumeTask with VolumeId",
                   "python3 -m pip install --upgrade boto3")
    group = facts["group"]
    if group and group["missing"] and not suspend:
        raise Stop(REFUSED, f"{instance} belongs to the Auto Scaling group {group['name']}, which may terminate it while it reboots",
                   "Let this command suspend the processes and resume them at the end (--suspend), or do it yourself:\n"
                   f"  aws autoscaling suspend-processes --auto-scaling-group-name {group['name']} "
                   f"--scaling-processes {' '.join(group['missing'])}")
    if facts["lock"]:
        raise Stop(REFUSED, f"another rescue of {instance} is under way: {facts['lock']}",
                   "Go on with it, or roll it back, where it was begun. If that is lost for good: "
                   f"aws ec2 delete-tags --resources {instance} --tags Key={LOCK_TAG}")



def describe(facts: dict, way: str) -> list[str]:
    """The facts and the way, for the operator."""
    yes = {True: "yes", False: "no", None: "unknown"}
    lines = [
        f"instance        {facts['instance']} ({facts['type']}, {facts['state']}, {facts['zone']})",
        f"root            {facts['root']} at {facts['root_device']}: {facts['root_type']}, {facts['root_size']} GiB, "
        + (f"encrypted with {facts['kms_key'] or 'the default key'}" if facts["encrypted"] else "not encrypted")
        + f", deleted on termination: {yes[facts['delete_on_termination']]}",
        f"instance store  {yes[facts['instance_store']]}" + (" (its data stays: nothing is stopped)" if facts["instance_store"] else ""),
        f"address         {facts['address']}" + (f" (Elastic IP {facts['elastic_ip']})" if facts["elastic_ip"] else "")
        + ", stays",
        f"Auto Scaling    {facts['group']['name'] if facts['group'] else 'no'}",
        f"the way         {way}",
        "                because the root is on EBS and the instance runs: its root is replaced, never stopped",
        "                the swap reboots the instance once; what is written to the root from the copy to the swap is on the",
        "                old root only, which is kept",
    ]
    return lines
