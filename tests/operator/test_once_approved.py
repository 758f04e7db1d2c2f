"""An approval, struck at the writes that take it up: it stands or it does not, and what it covers never grows."""

from collections.abc import Iterator

import pytest

from e2e.rig import ControlPlane
from e2e.rig.killproxy import Cut
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until
from tests.operator.conftest import unique

HOUR = 3600.0


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("approved")) as made:
        yield made


@pytest.mark.parametrize(
    ("nth", "cut", "stands"),
    [
        pytest.param(1, Cut.KILL_BEFORE, False, id="before-it-is-taken-up"),
        pytest.param(1, Cut.KILL_AFTER, True, id="after-it-is-taken-up"),
        pytest.param(2, Cut.KILL_BEFORE, True, id="before-the-lock"),
        pytest.param(2, Cut.KILL_AFTER, True, id="after-the-lock"),
    ],
)
def test_approval_taken_back_after_a_crash_is_undone_only_if_it_was_not_taken_up(
    lane: Lane, world: World, nth: int, cut: Cut, stands: bool
) -> None:
    engine, key = world.engine, unique("obj")

    def sleeper() -> str:
        id_ = engine.send("LabObj", "obj_shared_sleep", HOUR, key=key)
        engine.wait_status(id_, "suspended", timeout=60)
        return id_

    ids = [sleeper() for _ in range(3)]
    victim = lane.start_operator()
    target = {"services": ["LabObj"], "keys": [key]}
    lane.create(lane.manifest("approve", "Cancel", target, mode="Approve"))
    waiting = lane.reached("approve", "AwaitingApproval")
    digest = waiting["status"]["plan"]["hash"]
    lane.script.arm(nth, cut, victim)
    lane.patch("approve", {"spec": {"approvedPlan": digest}})
    until(lambda: not victim.running, lambda: f"it was not struck: {lane.script.writes}\n{lane.logs()}")
    assert lane.script.hit is not None
    assert lane.script.hit.what == ("PATCH invocationactions/status", "POST invocationrecords")[nth - 1]
    later = sleeper()
    lane.patch("approve", {"spec": {"approvedPlan": None, "mode": "Approve"}})
    lane.revive()
    if not stands:
        # It was never seen: the same plan goes on waiting.
        lane.reached("approve", "AwaitingApproval")
        truth.none(truth.statuses(engine, [*ids, later], "suspended"))
        lane.patch("approve", {"spec": {"approvedPlan": digest}})
    done = lane.ended("approve")
    assert done["status"]["approval"]["hash"] == digest
    assert done["status"]["progress"]["effective"] == len(ids)
    truth.none(truth.ended_as(engine, ids, "cancelled") + truth.statuses(engine, [later], "suspended"))
    signals = truth.cancel_signals(engine, ids)
    assert [signals[id_] for id_ in ids] == [1] * len(ids)
    path = f"/api/v1/namespaces/{lane.namespace}/configmaps"

    def kept() -> list[str]:
        found = lane.control_plane.request("GET", path).expect(200).json()["items"]
        return [c["metadata"]["name"] for c in found if "iact-plan-" in c["metadata"]["name"]]

    until(lambda: not kept(), lane.logs)
    engine.operate(later, "kill")
