# SPDX-License-Identifier: MIT
"""The command line of ec2-rescue."""

import argparse
import os
import re
import sys

from . import login, state as states
from .errors import FAILED, REFUSED, STOPPED, UNREADABLE, USAGE, Stop

ABOUT = """Rescues an EC2 instance whose SSH key is refused, without stopping it: its root is copied while it runs, the copy is
repaired by volrescue on a helper, and swapped in (one reboot). The old root is kept. Nothing is changed before the plan
has been shown and agreed to; every step is recorded, so that the command can go on (--resume) or go back (--rollback)
after it was stopped at any point."""

CODES = """Exit codes: 0 the login works; 1 the key is still refused; 2 usage; 3 the instance or the run is not found; 4 refused
for safety or permission; 5 failed while changing; 130 stopped by a signal."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser("ec2-rescue", description=ABOUT, epilog=CODES,
                                usage="ec2-rescue INSTANCE --user U --key FILE [options] [-- volrescue repair options]\n"
                                      "       ec2-rescue INSTANCE|RUN --resume|--rollback")
    p.add_argument("instance", metavar="INSTANCE", help="the broken instance (i-...), or with --resume and --rollback a run")
    p.add_argument("--user", help="the login user")
    p.add_argument("--key", metavar="FILE", help="the key to be accepted: public, or private (only its public half is sent)")
    p.add_argument("--region", help="default: AWS_REGION or the profile's")
    p.add_argument("--helper", metavar="ID", help="a running instance in the zone; default: one tagged volrescue-helper, else one is launched")
    p.add_argument("--helper-ami", metavar="AMI", help="image of a launched helper (the latest Amazon Linux 2023)")
    p.add_argument("--helper-type", metavar="TYPE", default="t3.small", help="type of a launched helper (t3.small)")
    p.add_argument("--helper-profile", metavar="NAME", help="instance profile of a launched helper; SSM needs one")
    p.add_argument("--via", choices=("ssm", "ssh"), default="ssm", help="how to run volrescue on the helper (ssm)")
    p.add_argument("--helper-user", default="ec2-user", help="with --via ssh: the login on the helper (ec2-user), with sudo")
    p.add_argument("--helper-address", help="with --via ssh: its address")
    p.add_argument("--helper-identity", metavar="FILE", help="with --via ssh: the private key for the helper")
    p.add_argument("--program", default="volrescue", help="volrescue's name or path on the helper")
    p.add_argument("--install", metavar="COMMAND", help="shell command that puts volrescue on the helper if it is not there")
    p.add_argument("--suspend", action="store_true", help="suspend Auto Scaling processes meanwhile")
    p.add_argument("--swap-anyway", action="store_true", help="swap though sshd would still refuse the key")
    p.add_argument("--address", help="where to try the login (the instance's own address)")
    p.add_argument("--port", type=int, default=22, help="port of the login (22)")
    p.add_argument("--identity", metavar="FILE", help="private key for the login test; default: the one beside --key")
    p.add_argument("--login-timeout", type=float, default=300, metavar="S", help="seconds to wait for the login (300)")
    p.add_argument("--timeout", type=int, default=3600, metavar="S", help="seconds to wait for each step (3600)")
    p.add_argument("--poll", type=float, default=5, metavar="S", help="seconds between two looks (5)")
    p.add_argument("--dry-run", action="store_true", help="look, show the plan and each call that would be made; change nothing")
    p.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    p.add_argument("--rollback", action="store_true", help="undo a run, last step first")
    p.add_argument("--yes", "-y", action="store_true", help="do not ask")
    p.add_argument("--state-dir", metavar="DIR", help="where runs are recorded [EC2_RESCUE_STATE_DIR; ~/.local/state/ec2-rescue]")
    return p


def say(text: str):
    """To the operator, at once."""
    print(text, flush=True)


def main(argv: list[str], session=None) -> int:
    """Runs the command; `session` is a boto3 session to use in place of a new one."""
    more = []
    if "--" in argv:
        at = argv.index("--")
        argv, more = argv[:at], argv[at + 1:]
    args = parser().parse_args(argv)
    try:
        import botocore.exceptions as trouble
    except ImportError:
        return told(Stop(USAGE, "boto3 is missing", "python3 -m pip install boto3    (1.44 or later; Debian's is too old)"))
    try:
        return run(args, more, session)
    except Stop as stop:
        return told(stop)
    except trouble.ClientError as error:
        return told(error.as_stop)
    except trouble.BotoCoreError as error:
        return told(Stop(UNREADABLE, f"{error}"))
    except OSError as error:
        return told(Stop(FAILED, f"{error}", "What was done is recorded: --resume goes on, --rollback goes back."))
    except KeyboardInterrupt:
        return told(Stop(STOPPED, "stopped", "What was done is recorded: --resume goes on, --rollback goes back."))


def told(stop: Stop) -> int:
    """An error for the operator."""
    print(f"error: {stop.message}", file=sys.stderr)
    if stop.hint:
        print(stop.hint, file=sys.stderr)
    return stop.code


def run(args, more: list[str], session) -> int:
    """Everything after the options."""
    import boto3

    from .api import Api
    from .steps import Rescue

    where = states.directory(args.state_dir)
    again = args.resume or args.rollback
    if args.resume and args.rollback or again and args.dry_run:
        raise Stop(USAGE, "give one of --resume, --rollback, --dry-run")
    consent = asker(args)
    session = session or boto3.Session()
    if again:
        state = states.State.find(where, args.instance, args.rollback)
        if args.resume and state.data["phase"] not in ("forward", "done"):
            raise Stop(REFUSED, f"{state.data['run']} is being rolled back", "Finish that: --rollback.")
        region = state.data["region"]
        # What may be given anew: how to wait, and what volrescue is told.
        state.data["options"].update(timeout=args.timeout, login_timeout=args.login_timeout)
        if more:
            state.data["options"]["repair"] = more
        if args.swap_anyway:
            state.data["options"]["swap_anyway"] = True
        if args.install:
            state.data["options"]["install"] = args.install
    else:
        if not re.fullmatch(r"i-[0-9a-f]{8,17}", args.instance):
            raise Stop(USAGE, f"{args.instance} is no instance id", "They look like i-0123456789abcdef0.")
        if not args.user or not args.key:
            raise Stop(USAGE, "--user and --key are needed")
        if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]{0,63}\$?", args.user):
            raise Stop(USAGE, f"{args.user!r} is no user name")
        key = login.public_half(args.key)
        region = args.region or session.region_name or os.environ.get("AWS_REGION")
        if not region:
            raise Stop(USAGE, "no region", "Give --region, or set AWS_REGION.")
        options = {name: getattr(args, name) for name in (
            "user", "helper", "helper_ami", "helper_type", "helper_profile", "via", "helper_user", "helper_address",
            "helper_identity", "program", "install", "swap_anyway", "address", "port", "identity", "login_timeout", "timeout")}
        options |= {"key": os.path.abspath(args.key), "public_key": key, "repair": more}
        state = None
    api = Api(session, region, say, args.dry_run, args.poll)
    if args.rollback:
        return roll_back(Rescue(api, state, say, consent), consent)
    if state is None:
        facts, way = plan(api, args)
        if not args.dry_run and not consent("Go on?"):
            raise Stop(REFUSED, "nothing was changed")
        state = states.State.new(where, args.instance, region, options, args.dry_run)
        state.data["facts"] = facts | {"way": way}
        state.save()
        if not args.dry_run:
            say(f"run             {state.data['run']}, recorded in {state.path}")
    rescue = Rescue(api, state, say, consent)
    rescue.forward()
    if args.dry_run:
        say("nothing was changed")
        return 0
    copy, old = state.step("copy")["volume"], state.data["facts"]["root"]
    say(f"the root of {state.data['instance']} is {copy} now; the old root {old} is kept")
    say(f"to go back:         ec2-rescue {state.data['run']} --rollback     (reboots once)")
    say(f"when all is well:   aws ec2 delete-volume --volume-id {old}")
    return rescue.test_login()


def plan(api, args) -> tuple[dict, str]:
    """Looks, refuses what has no way, shows the way."""
    from .facts import describe, look, refuse_what_cannot_work
    from .steps import check_helper

    facts = look(api, args.instance, args.user)
    copies = api.knows("CopyVolumes")
    refuse_what_cannot_work(facts, args.suspend, api.knows("CreateReplaceRootVolumeTask", "VolumeId"))
    if args.helper:
        check_helper(api, args.helper, facts)
    if copies:
        api.permitted("CopyVolumes", SourceVolumeId=facts["root"]) if not args.dry_run else None
    way = ("copy (CopyVolumes" if copies else "copy (snapshot and CreateVolume: this boto3 has no CopyVolumes") + "), " + \
        f"repair on {args.helper or 'a helper in ' + facts['zone']} by {args.via}, swap the root, keep {facts['root']}"
    for line in describe(facts, way):
        say(line)
    return facts, way


def roll_back(rescue, consent) -> int:
    """Undo, and say what is where."""
    old, copy = rescue.facts["root"], rescue.state.step("copy").get("volume")
    if not consent(f"Roll back {rescue.run}?"):
        raise Stop(REFUSED, "nothing was changed")
    kept = rescue.backward()
    say(f"rolled back: the root of {rescue.instance} is {old}")
    if kept:
        say(f"the copy {copy} was in use and is kept: aws ec2 delete-volume --volume-id {copy}")
    return 0


def asker(args):
    """How consent is had: --yes, or a terminal; without either it is a usage error."""
    def ask(question: str) -> bool:
        if args.yes:
            return True
        if not sys.stdin.isatty():
            raise Stop(USAGE, "there is no terminal to ask on", "Give --yes, or --dry-run to see what would be done.")
        try:
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            return False
    return ask
