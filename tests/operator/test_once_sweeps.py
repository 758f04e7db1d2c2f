"""A sweep happens once for its occasion: with two operators, and when the one that runs it dies."""

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until

COUNT = 12
POLICIES = "retentionpolicies"


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("sweeps")) as made:
        yield made


def completed(lane: Lane) -> list[str]:
    """Keys of virtual objects with a completed call each."""
    keys = [f"swept-{secrets.token_hex(4)}" for _ in range(COUNT)]
    ids = [lane.engine.send("LabObj", "obj_echo", "x", key=key) for key in keys]
    for id_ in ids:
        lane.engine.wait_status(id_, "completed")
    return keys


def policy(keys: list[str], schedule: str, **sweep: Any) -> dict[str, Any]:
    made = {"name": "nightly", "schedule": schedule, "action": "Purge", "target": {"keys": keys}, **sweep}
    return {
        "apiVersion": "ops.restate.dev/v1alpha1",
        "kind": "RetentionPolicy",
        "metadata": {"name": "sweeper", "annotations": {"ops.restate.dev/requestedAt": "now"}},
        "spec": {"engineRef": {"name": "production"}, "services": ["LabObj"], "sweeps": [made]},
    }


def asked(lane: Lane) -> Counter[str]:
    found = (re.fullmatch(r"PATCH purge (\S+)", write.what) for write in lane.script.writes)
    return Counter(match[1] for match in found if match)


def test_sweep_whose_operator_is_killed_is_taken_over_and_runs_once(lane: Lane) -> None:
    keys = completed(lane)
    pair = [lane.start_operator(wait=False), lane.start_operator(wait=False)]
    for child in pair:
        lane.wait_ready(child)
    body = policy(keys, "0 0 29 2 *", limits={"operationsPerSecond": 3, "maxInFlight": 2})
    lane.control_plane.request("POST", lane.path(POLICIES), body).expect(201)
    until(lambda: asked(lane).total() >= 3, lambda: f"too little was asked\n{lane.logs()}")
    (record,) = lane.records("sweeper")
    holder = record["status"].get("holder") or record["spec"]["holder"]
    victim = next(child for child in pair if holder in child.log.read_text().split('"ready"')[0])
    victim.kill()

    def status() -> dict[str, Any]:
        found = lane.control_plane.request("GET", lane.path(POLICIES, "sweeper")).expect(200).json()
        return dict(found.get("status", {}))

    until(lambda: status().get("lastHandledRequest") == "now", lambda: f"{status()}\n{lane.logs(30)}", timeout=90)
    (entry,) = status()["sweeps"]
    assert [(run["phase"], run["planned"]) for run in entry["history"]] == [("Succeeded", COUNT)]
    assert "active" not in entry
    (record,) = lane.records("sweeper")
    assert record["status"]["phase"] == "Succeeded"
    listed = ", ".join(f"'{key}'" for key in keys)
    assert lane.engine.sql(f"select id from sys_invocation where target_service_key in ({listed})") == []
    assert "TakenOver" in lane.logs(400) or any("sweep taken over" in child.log.read_text() for child in pair)
