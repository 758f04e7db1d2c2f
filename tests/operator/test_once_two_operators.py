"""Once, with two operators in the same namespace: one works on a run, the other takes over when that one is gone."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from e2e.rig import Child, ControlPlane
from e2e.scenarios import truth
from e2e.scenarios.cases import Cancel, RestartAsNew, World
from e2e.scenarios.lane import ROOT, Lane, Object, until

PACED = {"operationsPerSecond": 4}
ACTIONS = 20


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("two")) as made:
        yield made


@pytest.fixture
def two(lane: Lane) -> Sequence[Child]:
    pair = [lane.start_operator(wait=False), lane.start_operator(wait=False)]
    for child in pair:
        lane.wait_ready(child)
    return pair


def identity(child: Child) -> str:
    """The name under which an operator holds runs."""
    lines = [json.loads(line) for line in child.log.read_text().splitlines() if '"starting"' in line]
    return str(lines[0]["identity"])


def holder(lane: Lane, name: str, operators: Sequence[Child]) -> Child:
    """The operator that holds a run which has begun."""
    (record,) = until(lambda: lane.records(name), lambda: f"{name} has no record\n{lane.logs()}")
    held_by = record["status"].get("holder") or record["spec"]["holder"]
    return next(child for child in operators if identity(child) == held_by)


def asked(lane: Lane, verb: str) -> Counter[str]:
    """How often each invocation was asked, by whomever."""
    found = (re.fullmatch(rf"PATCH (?:{verb}) (\S+)", write.what) for write in lane.script.writes)
    return Counter(match[1] for match in found if match)


def midway(lane: Lane, verb: str, count: int) -> None:
    until(lambda: asked(lane, verb).total() >= count, lambda: f"too little was asked\n{lane.logs()}")


def test_once_two_fresh_operators_run_each_action_once(lane: Lane, world: World, two: Sequence[Child]) -> None:
    sets = {f"shared-{number}": RestartAsNew(world).prepare(2) for number in range(ACTIONS)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: lane.create(lane.manifest(item[0], "RestartAsNew", {"ids": item[1]})), sets.items()))
    problems = []
    for name, ids in sets.items():
        lane.ended(name)
        problems += truth.told(lane, name, len(ids)) + truth.one_child_each(world.engine, ids)
    truth.none(problems)
    assert set(asked(lane, "restart-as-new").values()) == {1}, "somebody asked twice"


def test_once_holder_killed_in_mid_run_is_taken_over(lane: Lane, world: World, two: Sequence[Child]) -> None:
    ids = RestartAsNew(world).prepare(16)
    lane.create(lane.manifest("killed", "RestartAsNew", {"ids": ids}, limits=PACED))
    midway(lane, "restart-as-new", 4)
    holder(lane, "killed", two).kill()
    assert truth.children(world.engine, ids).total() < len(ids), "the run was to be in the middle"
    killed_at = time.monotonic()
    lane.ended("killed")
    truth.none(truth.told(lane, "killed", len(ids)) + truth.one_child_each(world.engine, ids))
    times = [write.at for write in lane.script.writes if write.at > killed_at and "restart" in write.what]
    assert len(times) >= 8
    seconds = times[-1] - times[0]
    assert len(times) - 1 <= seconds * PACED["operationsPerSecond"] + 2, "the limits end with the holder"


def test_once_frozen_holder_asks_nothing_after_another_took_over(
    lane: Lane, world: World, two: Sequence[Child]
) -> None:
    ids = RestartAsNew(world).prepare(24)
    lane.create(lane.manifest("frozen", "RestartAsNew", {"ids": ids}, limits=PACED))
    midway(lane, "restart-as-new", 4)
    stopped = holder(lane, "frozen", two)
    stopped.pause()
    before = asked(lane, "restart-as-new").total()
    midway(lane, "restart-as-new", before + 4)
    stopped.resume()
    assert truth.children(world.engine, ids).total() < len(ids), "the run was to be in the middle"
    lane.ended("frozen")
    truth.none(truth.told(lane, "frozen", len(ids)) + truth.one_child_each(world.engine, ids))
    twice = {id_: count for id_, count in asked(lane, "restart-as-new").items() if count > 1}
    assert not twice, f"asked more than once: {twice}"


def test_once_frozen_holder_wakes_after_the_end_and_writes_nothing(
    lane: Lane, world: World, two: Sequence[Child]
) -> None:
    ids = Cancel(world).prepare(8)
    lane.create(lane.manifest("asleep", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 2}))
    midway(lane, "cancel", 3)
    stopped = holder(lane, "asleep", two)
    stopped.pause()
    ended = lane.ended("asleep")
    lane.script.arm(0, None)
    stopped.resume()
    # What it was about to do it does within its timers, the longest of which are those of the lease (2 s).
    time.sleep(4)
    stopped.stop(grace=30)
    assert asked(lane, "cancel") == Counter(), "the frozen one went on asking"
    assert lane.script.count("invocationactions") == 0, "the frozen one wrote over the status"
    assert lane.get("asleep")["status"] == ended["status"]
    truth.none(truth.told(lane, "asleep", len(ids)) + truth.cancelled_once(world.engine, world.lab, ids))


@pytest.mark.parametrize("kind", [RestartAsNew, Cancel])
def test_once_sigterm_in_mid_run_hands_over_without_waiting_for_the_lease(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory, kind: type[RestartAsNew]
) -> None:
    # With a lease of five minutes, whoever waited for it would not be done within the patience of this test.
    options = ("--lease-seconds", "300", "--call-timeout-seconds", "1")
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("handover"), *options) as lane:
        case = kind(world)
        ids = case.prepare(8)
        first = lane.start_operator()
        lane.create(lane.manifest("handed", case.action, {"ids": ids}, limits=PACED))
        midway(lane, "restart-as-new|cancel", 3)
        assert first.stop(grace=30) == 0
        (record,) = lane.records("handed")
        assert "holder" not in record["status"], f"still held: {record['status']}"
        assert record["status"]["phase"] == "Running"
        lane.start_operator()
        lane.ended("handed")
        truth.none(truth.told(lane, "handed", len(ids)) + case.wrong(ids))


def test_once_successor_escalates_when_it_is_due_and_not_a_whole_time_after_it_took_over(
    lane: Lane, world: World
) -> None:
    (stubborn,) = world.send("swallow_cancel", 3600.0, "suspended", 1)
    first = lane.start_operator()
    begun = time.time()
    spec = {"escalation": {"killAfter": "30m"}, "verification": {"timeout": "40m"}}
    lane.create(lane.manifest("escalating", "Cancel", {"ids": [stubborn]}, **spec))

    def kept() -> Object | None:
        return next((dict(r["status"]) for r in lane.records("escalating") if r["status"].get("asked")), None)

    status = until(kept, lane.logs)
    assert len(status["asked"]) == 1
    assert status["asked"][0]["below"] == 1
    asked_at = datetime.fromisoformat(status["asked"][0]["time"])
    assert begun - 5 < asked_at.timestamp() < time.time() + 5

    # The first successor has not waited long enough.
    first.kill()
    second = lane.start_operator()
    until(lambda: (holder := kept()) and holder["holder"] == identity(second), lane.logs)
    taken = kept()
    assert taken is not None
    assert taken["asked"][0]["time"] == status["asked"][0]["time"]
    assert not asked(lane, "kill")
    second.kill()

    # For the next one it is as if an hour had passed.
    name = lane.records("escalating")[0]["metadata"]["name"]
    path = f"{ROOT}/namespaces/{lane.operator_namespace}/invocationrecords/{name}/status"
    earlier = (asked_at - timedelta(hours=1)).isoformat()
    body = {"status": {"asked": [{"below": 1, "time": earlier}]}}
    lane.control_plane.request("PATCH", path, body).expect(200)
    lane.start_operator()
    done = lane.ended("escalating")
    assert done["status"]["phase"] == "Succeeded"
    assert done["status"]["progress"]["escalated"] == 1
    assert asked(lane, "cancel") == Counter({stubborn: 1})
    assert not lane.records("escalating")[0]["status"].get("asked")
