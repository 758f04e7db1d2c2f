"""Once, whatever people and GitOps tools do to manifests: apply again, delete, create again, restore, reword.

The action is a restart wherever it can be, because the engine would gladly do it twice.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios import truth
from e2e.scenarios.cases import RestartAsNew, World
from e2e.scenarios.lane import Lane, Object, until

SLOW = {"operationsPerSecond": 2, "maxInFlight": 1}
"""Half a second for each invocation: there is time to do something in mid-run."""


@pytest.fixture(scope="module")
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("same-manifest")) as made:
        made.start_operator()
        yield made


@pytest.fixture
def ids(world: World) -> list[str]:
    return RestartAsNew(world).prepare(6)


def begun(lane: Lane, world: World, ids: list[str]) -> None:
    """Wait until the run has restarted something and has something left."""
    until(lambda: sum(truth.children(world.engine, ids).values()) >= 1, lambda: f"nothing began\n{lane.logs()}")


def restarted(world: World, ids: list[str]) -> int:
    return sum(truth.children(world.engine, ids).values())


def phase(obj: Object) -> str:
    return str(obj["status"]["phase"])


def wiped(obj: Object) -> dict[str, Any]:
    """The merge patch that leaves nothing of the status, as a restore without it does."""
    return {"status": dict.fromkeys(obj["status"])}


def test_once_applied_again_while_running_and_after_runs_once(lane: Lane, world: World, ids: list[str]) -> None:
    manifest = lane.manifest("again", "RestartAsNew", {"ids": ids}, limits=SLOW)
    lane.control_plane.apply(manifest)
    begun(lane, world, ids)
    lane.control_plane.apply(manifest)
    lane.ended("again")
    lane.control_plane.apply(manifest)
    assert lane.ended("again")["metadata"]["generation"] == 1
    truth.none(truth.told(lane, "again", len(ids)) + truth.one_child_each(world.engine, ids))


def test_once_deleted_and_created_after_its_end_is_already_executed(lane: Lane, world: World, ids: list[str]) -> None:
    manifest = lane.manifest("recreated", "RestartAsNew", {"ids": ids})
    lane.create(manifest)
    assert phase(lane.ended("recreated")) == "Succeeded"
    lane.delete("recreated")
    lane.create(manifest)
    second = lane.ended("recreated")
    assert phase(second) == "AlreadyExecuted"
    message = second["status"]["conditions"][0]["message"]
    assert "Succeeded: 6 effective" in message
    assert "spec.runId" in message
    truth.none(truth.one_child_each(world.engine, ids))
    assert len(lane.records("recreated")) == 1


def test_once_deleted_and_created_in_mid_run_stops_and_is_already_executed(
    lane: Lane, world: World, ids: list[str]
) -> None:
    manifest = lane.manifest("halfway", "RestartAsNew", {"ids": ids}, limits=SLOW)
    lane.create(manifest)
    begun(lane, world, ids)
    lane.delete("halfway")
    lane.create(manifest)
    assert phase(lane.ended("halfway")) == "AlreadyExecuted"
    (record,) = until(
        lambda: [r for r in lane.records("halfway") if r["status"].get("phase") == "Stopped"], "record not Stopped"
    )
    found = truth.children(world.engine, ids)
    assert 1 <= sum(found.values()) < len(ids), "it was to stop before its end"
    assert max(found.values()) == 1
    assert record["status"]["progress"]["effective"] == sum(found.values())
    assert len(lane.records("halfway")) == 1


def test_once_status_wiped_after_its_end_is_already_executed(lane: Lane, world: World, ids: list[str]) -> None:
    lane.create(lane.manifest("wiped", "RestartAsNew", {"ids": ids}))
    lane.patch("wiped", wiped(lane.ended("wiped")), "status")
    assert phase(lane.reached("wiped", "AlreadyExecuted")) == "AlreadyExecuted"
    truth.none(truth.one_child_each(world.engine, ids))
    assert len(lane.records("wiped")) == 1


def test_once_status_wiped_in_mid_run_is_told_again(lane: Lane, world: World, ids: list[str]) -> None:
    lane.create(lane.manifest("blank", "RestartAsNew", {"ids": ids}, limits=SLOW))
    begun(lane, world, ids)
    lane.patch("blank", wiped(lane.get("blank")), "status")
    status = lane.ended("blank")["status"]
    truth.none(truth.told(lane, "blank", len(ids)) + truth.one_child_each(world.engine, ids))
    assert {"record", "plan", "startTime", "completionTime"} <= status.keys()


def test_once_restored_object_is_refused_until_its_label_goes(lane: Lane, world: World, ids: list[str]) -> None:
    label = {"velero.io/restore-name": "nightly-20261101"}
    lane.create(lane.manifest("restored", "RestartAsNew", {"ids": ids}, labels=label))
    refused = lane.ended("restored")
    assert phase(refused) == "Refused"
    assert refused["status"]["conditions"][0]["reason"] == "RestoredFromBackup"
    assert restarted(world, ids) == 0
    assert lane.records("restored") == []


def test_once_new_run_id_runs_again_and_an_old_one_does_not(lane: Lane, world: World, ids: list[str]) -> None:
    spec = {"restart": {"allowRepeated": True}}
    lane.create(lane.manifest("rerun", "RestartAsNew", {"ids": ids}, runId="one", **spec))
    assert phase(lane.ended("rerun")) == "Succeeded"
    lane.patch("rerun", {"spec": {"runId": "two"}})
    second = lane.ended("rerun")
    assert (phase(second), second["status"]["runId"]) == ("Succeeded", "two")
    assert second["status"]["progress"]["effective"] == len(ids)
    lane.patch("rerun", {"spec": {"runId": "one"}})
    third = lane.ended("rerun")
    assert (phase(third), third["status"]["runId"]) == ("AlreadyExecuted", "one")
    assert set(truth.children(world.engine, ids).values()) == {2}
    assert {r["spec"]["runId"] for r in lane.records("rerun")} == {"one", "two"}


def test_once_per_object_runs_again_for_a_new_object(lane: Lane, world: World, ids: list[str]) -> None:
    manifest = lane.manifest(
        "per-object", "RestartAsNew", {"ids": ids}, runPolicy="OncePerObject", restart={"allowRepeated": True}
    )
    for times in (1, 2):
        lane.create(manifest)
        assert phase(lane.ended("per-object")) == "Succeeded"
        assert set(truth.children(world.engine, ids).values()) == {times}
        lane.delete("per-object")
    assert len(lane.records("per-object")) == 2


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param({}, {"mode": "Execute", "runPolicy": "OncePerSpec"}, id="defaults spelled out"),
        pytest.param({}, {"limits": {"maxTargets": 1000, "operationsPerSecond": 50}}, id="default and mutable limits"),
        pytest.param({}, {"verification": {"timeout": "300s", "repeat": "Never"}}, id="default duration, otherwise"),
        pytest.param({"timeout": "1h"}, {"timeout": "60m"}, id="the same duration"),
        pytest.param({"timeout": "PT1H"}, {"timeout": "3600s"}, id="the same duration in ISO 8601"),
    ],
)
def test_once_reworded_manifest_is_the_same_run(
    lane: Lane, world: World, ids: list[str], first: Object, again: Object, request: pytest.FixtureRequest
) -> None:
    name = f"reworded-{abs(hash(request.node.name)) % 10**8}"
    lane.create(lane.manifest(name, "RestartAsNew", {"ids": ids, "olderThan": "0s"}, **first))
    assert phase(lane.ended(name)) == "Succeeded"
    lane.delete(name)
    lane.create(lane.manifest(name, "RestartAsNew", {"olderThan": "0h", "ids": ids[::-1]}, **again))
    assert phase(lane.ended(name)) == "AlreadyExecuted"
    truth.none(truth.one_child_each(world.engine, ids))
    assert len(lane.records(name)) == 1


def test_once_deleted_while_no_operator_runs_is_closed_as_stopped(lane: Lane, world: World, ids: list[str]) -> None:
    manifest = lane.manifest("orphan", "RestartAsNew", {"ids": ids}, limits=SLOW)
    lane.create(manifest)
    begun(lane, world, ids)
    lane.operator.kill()
    lane.delete("orphan")
    before = restarted(world, ids)
    lane.revive()
    (record,) = until(
        lambda: [r for r in lane.records("orphan") if r["status"].get("phase") == "Stopped"],
        lambda: f"the record was not closed: {lane.records('orphan')}\n{lane.logs()}",
    )
    assert "deleted" in record["status"]["message"]
    assert record["status"].get("completionTime")
    lane.create(manifest)
    assert phase(lane.ended("orphan")) == "AlreadyExecuted"
    assert restarted(world, ids) == before


def test_once_killed_and_status_wiped_goes_on_with_the_same_run(lane: Lane, world: World, ids: list[str]) -> None:
    lane.create(lane.manifest("dark", "RestartAsNew", {"ids": ids}, limits=SLOW))
    begun(lane, world, ids)
    lane.operator.kill()
    lane.patch("dark", wiped(lane.get("dark")), "status")
    lane.revive()
    lane.ended("dark")
    truth.none(truth.told(lane, "dark", len(ids)) + truth.one_child_each(world.engine, ids))
