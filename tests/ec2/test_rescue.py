# SPDX-License-Identifier: MIT
"""ec2-rescue as an operator would see it, on the fake EC2."""

import json
import re
import stat
import subprocess

import pytest


def rescue(world, *more, **options):
    return world.run(world.argv(*more, *world.login_here(), **options))


def assert_rescued(world, copy_of=None):
    seen = world.fake.look()
    root = seen.roots[world.instance]
    assert root not in (world.root, None), "the root was swapped"
    assert seen.volumes[world.root]["on"] is None, "the old root is kept and free"
    assert [v for v, what in seen.volumes.items() if what["on"] == world.helper and v != seen.roots[world.helper]] == []
    assert seen.states[world.instance] == "running"
    return root


def assert_as_before(world, volumes=2):
    seen = world.fake.look()
    assert seen.roots[world.instance] == world.root
    assert len(seen.volumes) == volumes and seen.snapshots == []
    assert "ec2-rescue" not in seen.tags[world.instance]


def test_one_command_rescues_without_stopping(world):
    world.broken()
    status, out = rescue(world)
    assert status == 0, out
    root = assert_rescued(world)
    assert "ec2-user@127.0.0.1 logs in" in out and f"the old root {world.root} is kept" in out and "--rollback" in out
    assert "verdict   ec2-user: accept" in out and "\x1b" not in out and "\\u001b[2J" in out
    calls = [call["operation"] for call in world.fake.look().calls if not call["dry"]]
    assert not {"StopInstances", "RebootInstances", "TerminateInstances", "DeleteVolume"} & set(calls)
    assert world.fake.look().volumes[root]["type"] == "gp3"
    # The plan was shown before the first change.
    assert out.index("the way") < out.index("call ec2:CreateTags")
    # DeleteOnTermination, which the swap lost, is as it was.
    mapping = world.ec2.describe_instances(InstanceIds=[world.instance])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
    assert [m["Ebs"]["DeleteOnTermination"] for m in mapping if m["DeviceName"] == "/dev/sda1"] == [True]
    assert "ec2-rescue" not in world.fake.look().tags[world.instance]
    record = next(p for p in world.state_dir.glob("*.json") if "report" not in p.name)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600 and json.loads(record.read_text())["phase"] == "done"
    # And back: the original root, the used copy kept.
    status, out = world.run(world.again("--rollback"))
    assert status == 0, out
    seen = world.fake.look()
    assert seen.roots[world.instance] == world.root and seen.volumes[root]["on"] is None
    assert f"delete-volume --volume-id {root}" in out


def test_dry_run_shows_each_call_and_changes_nothing(world):
    world.broken()
    before = world.fake.look().volumes
    status, out = world.run(world.argv("--dry-run"))
    assert status == 0, out
    shown = re.findall(r"would call \w+:(\w+)", out)
    assert shown == ["CreateTags", "CopyVolumes", "AttachVolume", "SendCommand", "DetachVolume", "CreateReplaceRootVolumeTask", "DeleteTags"]
    seen = world.fake.look()
    assert no_change(world) == [] and seen.volumes == before and not list(world.state_dir.glob("*"))


def test_the_dry_run_names_the_calls_that_are_made(world):
    world.broken()
    shown = re.findall(r"would call (\w+:\w+)", world.run(world.argv("--dry-run"))[1])
    status, out = rescue(world)
    made = [call for call in re.findall(r"  call (\w+:\w+)", out) if call != "ec2:ModifyInstanceAttribute"]
    assert status == 0 and made == shown


def test_without_a_terminal_and_yes_nothing_is_changed(world):
    world.broken()
    status, out = world.run([word for word in world.argv() if word != "--yes"])
    assert status == 2 and "--yes" in out and no_change(world) == []


def test_a_helper_is_launched_and_let_go(world):
    world.broken()
    status, out = rescue(world, "--helper-profile", "ssm", helper=False)
    # moto wants the profile to exist, as EC2 does.
    assert status == 5 and "IamInstanceProfile" in out
    status, out = world.run(world.again("--rollback"))
    assert status == 0, out
    assert_as_before(world)
    status, out = rescue(world, helper=False)
    assert status == 0, out
    assert_rescued(world)
    states = world.fake.look().states
    assert [state for name, state in states.items() if name not in (world.instance, world.helper)] == ["terminated"]


def test_a_tagged_helper_in_the_zone_is_taken(world):
    world.broken()
    world.ec2.create_tags(Resources=[world.helper], Tags=[{"Key": "volrescue-helper", "Value": ""}])
    status, out = rescue(world, helper=False)
    assert status == 0 and "RunInstances" not in out, out
    assert_rescued(world)


def test_an_encrypted_root_gives_an_encrypted_copy(world):
    world.broken(encrypted=True)
    status, out = rescue(world)
    assert status == 0 and "encrypted with" in out, out
    assert world.fake.look().volumes[assert_rescued(world)]["encrypted"]


def test_where_copy_volumes_is_not_to_be_had_a_snapshot_is_taken_and_deleted(world):
    world.broken(encrypted=True)
    world.fake.tell("fault", operation="CopyVolumes", code="UnsupportedOperation", times=9, dry=False)
    status, out = rescue(world)
    assert status == 0 and "by a snapshot instead" in out, out
    assert world.fake.look().volumes[assert_rescued(world)]["encrypted"]
    assert world.fake.look().snapshots == []


def test_over_ssh(world):
    world.broken()
    world.program("ssh", f"#!/bin/sh\nexport EC2_RESCUE_DIR={world.helper_dir} FAKE_ATTACHED=\"$(cat {world.work}/attached)\"\n"
                  "for last; do :; done\n[ \"$last\" = 'sudo sh -s' ] || exit 0\nexec sh\n")
    # The stand-in helper takes any volume: that it is attached is seen by the calls' order.
    world.program("volrescue", (world.bin / "volrescue").read_text().replace("exit 3", ":"))
    (world.work / "attached").write_text("")
    status, out = world.run(world.argv("--via", "ssh", "--helper-address", "127.0.0.1", "--address", "127.0.0.1", "--port", str(world.fake.port)))
    assert status == 0 and "SendCommand" not in out, out
    assert_rescued(world)


@pytest.mark.parametrize("loudly", [False, True])
def test_eventual_consistency_and_throttling(world, loudly):
    world.broken()
    world.fake.tell("set", hide=3, hide_loudly=loudly)
    for operation in ("CopyVolumes", "DescribeVolumes"):
        world.fake.tell("fault", operation=operation, code="RequestLimitExceeded", status=503, times=1, dry=False)
    status, out = rescue(world)
    assert status == 0, out
    assert_rescued(world)
    assert len(world.fake.look().volumes) == 3, "a repeated call made no second copy"


def test_a_failed_replacement_can_be_tried_again(world):
    world.broken()
    world.fake.tell("set", outcomes=["failed"])
    status, out = rescue(world)
    assert status == 5 and f"still has its root {world.root}" in out
    assert world.fake.look().roots[world.instance] == world.root
    status, out = world.run(world.again("--resume", "-y"))
    assert status == 0, out
    assert_rescued(world)


def test_a_failed_replacement_can_be_rolled_back(world):
    world.broken()
    world.fake.tell("set", outcomes=["failed"])
    assert rescue(world)[0] == 5
    status, out = world.run(world.again("--rollback"))
    assert status == 0, out
    assert_as_before(world)


def test_failed_detached_names_the_original_root_and_the_way(world):
    world.broken()
    world.fake.tell("set", outcomes=["failed-detached"])
    status, out = rescue(world)
    assert status == 5 and f"attach-volume --volume-id {world.root} --instance-id {world.instance} --device /dev/sda1" in out
    status, out = world.run(world.again("--rollback"))
    assert status == 5 and world.root in out and "stop-instances" in out
    # The operator does what was said.
    world.ec2.stop_instances(InstanceIds=[world.instance])
    world.ec2.attach_volume(VolumeId=world.root, InstanceId=world.instance, Device="/dev/sda1")
    world.ec2.start_instances(InstanceIds=[world.instance])
    status, out = world.run(world.again("--rollback"))
    assert status == 0, out
    assert_as_before(world)


def test_what_volrescue_cannot_mend_is_not_swapped(world):
    world.broken()
    world.fake.tell("set", env={"FAKE_VERDICT": "refuse", "FAKE_STATUS": "1"})
    status, out = rescue(world)
    assert status == 1 and "nothing is swapped" in out
    assert world.fake.look().roots[world.instance] == world.root
    world.fake.tell("set", env={})
    status, out = world.run(world.again("--resume") + ["--", "--create-user"])
    assert status == 0, out
    assert "--create-user" in (world.helper_dir / "argv").read_text().splitlines()[-1]


def test_a_login_still_refused_is_told_with_the_way_back(world):
    world.broken()
    status, out = world.run(world.argv(*world.login_here(accepts=False)))
    assert status == 1 and "Permission denied" in out and "--rollback" in out


def test_a_private_key_never_leaves(world):
    world.broken()
    argv = [str(world.key) if word == f"{world.key}.pub" else word for word in world.argv(*world.login_here())]
    status, out = world.run(argv)
    assert status == 0, out
    secret = world.key.read_text().splitlines()[1]
    everything = json.dumps(world.fake.look().calls) + out + "".join(p.read_text() for p in world.state_dir.glob("*.json"))
    assert secret not in everything and "PRIVATE" not in everything
    (pub,) = world.helper_dir.glob("*.pub")
    assert pub.read_text().split()[1] == (world.work / "key.pub").read_text().split()[1]


def group(world):
    client = world.session.mine("autoscaling")
    image = world.image()
    client.create_launch_configuration(LaunchConfigurationName="lc", ImageId=image, InstanceType="m5d.large")
    client.create_auto_scaling_group(AutoScalingGroupName="web", LaunchConfigurationName="lc", MinSize=0, MaxSize=3, DesiredCapacity=0,
                                     AvailabilityZones=["us-east-1a"])
    client.attach_instances(AutoScalingGroupName="web", InstanceIds=[world.instance])
    return lambda: [p["ProcessName"] for p in client.describe_auto_scaling_groups()["AutoScalingGroups"][0]["SuspendedProcesses"]]


def test_a_member_of_an_auto_scaling_group(world):
    world.broken()
    suspended = group(world)
    status, out = rescue(world)
    assert status == 4 and "suspend-processes --auto-scaling-group-name web" in out and world.fake.look().changes > 0
    assert "CopyVolumes" not in [call["operation"] for call in world.fake.look().calls]
    status, out = rescue(world, "--suspend")
    assert status == 0 and "ReplaceUnhealthy" in out, out
    assert suspended() == []
    assert_rescued(world)


# --- bad input ---


def no_change(world):
    """The calls that changed something since the world was made."""
    return [c["operation"] for c in world.fake.look().calls if not c["dry"] and not c["operation"].startswith(("Describe", "Get", "Decode"))
            and c["operation"] not in ("RunInstances", "StopInstances", "TerminateInstances")]


def test_instance_store_roots_are_told_the_only_ways(world):
    world.broken()
    world.fake.tell("instance", id=world.instance, root_device_type="instance-store")
    status, out = rescue(world)
    assert status == 4 and "start-session" in out and "volrescue repair / --live" in out and no_change(world) == []


def test_a_stopped_instance_is_told_the_shorter_way(world):
    world.broken()
    world.ec2.stop_instances(InstanceIds=[world.instance])
    status, out = rescue(world)
    assert status == 4 and f"detach-volume --volume-id {world.root}" in out and no_change(world) == []


def test_a_terminated_instance(world):
    world.broken()
    world.ec2.terminate_instances(InstanceIds=[world.instance])
    status, out = rescue(world)
    assert status == 3 and "terminated" in out and no_change(world) == []


def test_a_wrong_region(world):
    world.broken()
    status, out = rescue(world, "--region", "eu-west-1")
    assert status == 3 and "no instance" in out and "eu-west-1" in out and no_change(world) == []
    assert not list(world.state_dir.glob("*.json")), "nothing is left that could be resumed"


def test_a_helper_in_another_zone(world):
    world.broken()
    world.helper = world.launch(zone="us-east-1b")
    status, out = rescue(world)
    assert status == 4 and "us-east-1b" in out and "us-east-1a" in out and no_change(world) == []


@pytest.mark.parametrize("decode", [True, False])
def test_a_missing_permission_is_named(world, decode):
    world.broken()
    world.fake.tell("set", no_decode=not decode)
    world.fake.tell("fault", operation="CopyVolumes", code="UnauthorizedOperation", status=403, times=1, dry=True,
                    message="You are not authorized. Encoded authorization failure message: " + ("enc-ec2:CopyVolumes" if decode else "zz"))
    status, out = rescue(world)
    assert status == 4 and "permission ec2:CopyVolumes" in out and no_change(world) == []


def test_a_permission_missing_half_way_can_be_granted(world):
    world.broken()
    world.fake.tell("fault", operation="AttachVolume", code="UnauthorizedOperation", status=403,
                    message="Encoded authorization failure message: enc-kms:CreateGrant")
    status, out = rescue(world)
    assert status == 4 and "permission kms:CreateGrant" in out and "--resume" in out
    status, out = world.run(world.again("--resume"))
    assert status == 0, out
    assert_rescued(world)


def test_a_quota(world):
    world.broken()
    world.fake.tell("fault", operation="CopyVolumes", code="VolumeLimitExceeded", dry=False, message="Maximum number of volumes exceeded")
    status, out = rescue(world)
    assert status == 5 and "quota" in out
    assert world.run(world.again("--rollback"))[0] == 0
    assert_as_before(world)


@pytest.mark.parametrize("operation, code", [("CopyVolumes", "VolumeLimitExceeded"), ("RunInstances", "VcpuLimitExceeded")])
def test_a_quota_can_be_raised(world, operation, code):
    world.broken()
    world.fake.tell("fault", operation=operation, code=code, dry=False, message="You have requested more than your current limit allows")
    status, out = rescue(world, "--helper-ami", world.image(), helper=False)
    assert status == 5 and "quota" in out and "current limit" in out and "--resume" in out
    status, out = world.run(world.again("--resume"))
    assert status == 0, out
    assert_rescued(world)


def stuck(world):
    world.broken()
    world.fake.tell("set", stuck_attaching=True)
    status, out = rescue(world, "--timeout", "1")
    assert status == 5 and "stuck in attaching" in out and "--resume" in out and "--rollback" in out


def test_stuck_in_attaching_and_rolled_back(world):
    stuck(world)
    assert world.run(world.again("--rollback"))[0] == 0
    assert_as_before(world)


def test_stuck_in_attaching_and_resumed(world):
    stuck(world)
    world.fake.tell("set", stuck_attaching=False)
    status, out = world.run(world.again("--resume"))
    assert status == 0, out
    assert_rescued(world)
    assert [c["operation"] for c in world.fake.look().calls].count("AttachVolume") == 1, "it was attached already"


@pytest.mark.parametrize("config", [{"no_agent": True}, {"unmanaged": True}])
def test_no_agent(world, config):
    world.broken()
    world.fake.tell("set", **config)
    status, out = rescue(world, "--timeout", "1")
    assert status == 5 and "SSM" in out and "AmazonSSMManagedInstanceCore" in out
    world.fake.tell("set", no_agent=False, unmanaged=False)
    status, out = world.run(world.again("--resume"))
    assert status == 0, out


def test_volrescue_is_not_on_the_helper(world):
    world.broken()
    (world.bin / "volrescue").rename(world.work / "volrescue")
    status, out = rescue(world)
    assert status == 5 and "--install" in out
    status, out = world.run(world.again("--resume", "--install", f"cp {world.work}/volrescue {world.bin}/"))
    assert status == 0, out


def test_wrong_keys(world):
    world.broken()
    for text, words in (("hello\n", "not a key"), ("ssh-ed25519 AAAA\n", "not a key")):
        (world.work / "wrong.pub").write_text(text)
        argv = [str(world.work / "wrong.pub") if word == f"{world.key}.pub" else word for word in world.argv()]
        status, out = world.run(argv)
        assert status == 2 and words in out
    loose = world.work / "loose"
    loose.write_text(world.key.read_text())
    loose.chmod(0o644)
    argv = [str(loose) if word == f"{world.key}.pub" else word for word in world.argv()]
    status, out = world.run(argv)
    assert status == 2 and "chmod 600" in out and no_change(world) == []
    for wrong in (world.work / "no-such-key.pub", world.work):
        argv = [str(wrong) if word == f"{world.key}.pub" else word for word in world.argv()]
        status, out = world.run(argv)
        assert status == 2 and str(wrong) in out and no_change(world) == [], out


def test_two_operators(world):
    world.broken()
    world.ec2.create_tags(Resources=[world.instance], Tags=[{"Key": "ec2-rescue", "Value": "rescue-x by somebody@else"}])
    status, out = rescue(world)
    assert status == 4 and "somebody@else" in out and "delete-tags" in out
    assert "CopyVolumes" not in [c["operation"] for c in world.fake.look().calls if not c["dry"]]


def test_two_processes_on_one_run(world):
    world.broken()
    world.fake.tell("set", outcomes=["failed"])
    assert rescue(world)[0] == 5
    (lock,) = world.state_dir.glob("*.lock")
    with subprocess.Popen(["flock", str(lock), "sleep", "30"]) as holder:
        import time

        time.sleep(0.3)
        status, out = world.run(world.again("--resume"))
        holder.kill()
    subprocess.run(["true"], check=True)
    assert status == 4 and "another process" in out


def test_a_root_replaced_by_somebody_else_is_left_alone(world):
    world.broken()
    world.fake.tell("set", outcomes=["failed"])
    assert rescue(world)[0] == 5
    other = world.ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    task = world.ec2.create_replace_root_volume_task(InstanceId=world.instance, VolumeId=other)["ReplaceRootVolumeTask"]
    for _ in range(3):
        world.ec2.describe_replace_root_volume_tasks(ReplaceRootVolumeTaskIds=[task["ReplaceRootVolumeTaskId"]])
    for how in ("--resume", "--rollback"):
        status, out = world.run(world.again(how))
        assert status == 4 and other in out and "Somebody else" in out
    assert world.fake.look().roots[world.instance] == other
