# SPDX-License-Identifier: MIT
"""The command is killed (SIGKILL) before and after each call that changes something, then resumed or rolled back."""

import pytest

from conftest import World


def prepared(fake, session, tmp_path, number):
    work = tmp_path / str(number)
    work.mkdir(parents=True)
    world = World(fake, session, work).broken()
    return world, world.argv(*world.login_here(), "--helper-ami", world.image(), helper=False)


def losses(world, copy_stays, rescued):
    """Everything that is not as it must be after a resume or rollback."""
    seen, wrong = world.fake.look(), []
    if world.root not in seen.volumes:
        return ["the original root is lost"]
    root = seen.roots[world.instance]
    if rescued:
        if root in (world.root, None) or seen.volumes[world.root]["on"]:
            wrong.append(f"the root is {root}")
    elif root != world.root:
        wrong.append(f"the root is {root}, not the original")
    helpers = {name for name in seen.states if name != world.instance}
    roots = {root for root in seen.roots.values() if root}
    for volume, what in seen.volumes.items():
        if what["on"] in helpers and volume not in roots:
            wrong.append(f"{volume} is left on a helper")
    free = [v for v, what in seen.volumes.items() if not what["on"] and v != world.root]
    if len(free) > (1 if copy_stays else 0):
        wrong.append(f"left over: {free}")
    if [name for name in helpers if seen.states[name] == "running" and name != world.helper]:
        wrong.append("a launched helper is left")
    if "ec2-rescue" in seen.tags[world.instance]:
        wrong.append("the mark is left")
    if seen.states[world.instance] != "running" or any(
            c["operation"] in ("StopInstances", "RebootInstances") for c in seen.calls):
        wrong.append("the instance was stopped")
    return wrong


@pytest.fixture(scope="module")
def steps(fake, session, tmp_path_factory):
    """The changing calls of an undisturbed run."""
    world, argv = prepared(fake, session, tmp_path_factory.mktemp("whole"), 0)
    before = len(world.fake.look().calls)
    import os

    path, os.environ["PATH"] = os.environ["PATH"], f"{world.bin}:{os.environ['PATH']}"
    status, out = world.run(argv)
    os.environ["PATH"] = path
    assert status == 0, out
    return [c["operation"] for c in world.fake.look().calls[before:]
            if not c["dry"] and not c["operation"].startswith(("Describe", "Get"))]


def test_killed_at_every_call_of_a_rescue(fake, session, tmp_path, monkeypatch, steps, capsys):
    table, path = [], __import__("os").environ["PATH"]
    for how in ("--resume", "--rollback"):
        for at, operation in enumerate(steps, 1):
            for when in ("before", "after"):
                world, argv = prepared(fake, session, tmp_path, len(table))
                monkeypatch.setenv("PATH", f"{world.bin}:{path}")
                status, out = world.run(argv, kill=(at, when))
                assert status == -9, f"not killed {when} {operation}: {out}"
                swapped = fake.look().roots[world.instance] != world.root or bool(fake.look().tasks)
                status, out = world.run(world.again(how))
                wrong = losses(world, copy_stays=how == "--rollback" and swapped, rescued=how == "--resume")
                if status != 0:
                    wrong.append(f"{how} ended with {status}: {out[-300:]}")
                table.append((when, operation, how, wrong))
    with capsys.disabled():
        print(f"\n{'killed':<7} {'call':<28} {'then':<11} losses")
        for when, operation, how, wrong in table:
            print(f"{when:<7} {operation:<28} {how:<11} {'; '.join(wrong) or 0}")
    assert len(table) == 4 * len(steps) and not [row for row in table if row[3]]


def test_killed_at_every_call_of_a_rollback(fake, session, tmp_path, monkeypatch, capsys):
    path, table = __import__("os").environ["PATH"], []
    operations = None
    at = 0
    while operations is None or at < len(operations):
        for when in ("before", "after"):
            world, argv = prepared(fake, session, tmp_path, len(table))
            monkeypatch.setenv("PATH", f"{world.bin}:{path}")
            assert world.run(argv)[0] == 0
            if operations is None:
                before = len(fake.look().calls)
                assert world.run(world.again("--rollback"))[0] == 0
                operations = [c["operation"] for c in fake.look().calls[before:]
                              if not c["dry"] and not c["operation"].startswith(("Describe", "Get"))]
                world, argv = prepared(fake, session, tmp_path, "first")
                monkeypatch.setenv("PATH", f"{world.bin}:{path}")
                assert world.run(argv)[0] == 0
            status, out = world.run(world.again("--rollback"), kill=(at + 1, when))
            assert status == -9, out
            status, out = world.run(world.again("--rollback"))
            wrong = losses(world, copy_stays=True, rescued=False) + ([f"ended with {status}: {out[-300:]}"] if status else [])
            table.append((when, operations[at], wrong))
        at += 1
    with capsys.disabled():
        print(f"\n{'killed':<7} {'call of the rollback':<28} losses")
        for when, operation, wrong in table:
            print(f"{when:<7} {operation:<28} {'; '.join(wrong) or 0}")
    assert table and not [row for row in table if row[2]]
