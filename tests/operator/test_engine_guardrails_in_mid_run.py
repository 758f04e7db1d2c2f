"""Guardrails of an engine that are tightened while a run is under way: it stops between operations, and says why."""

import time
from collections.abc import Iterator

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until
from tests.operator.conftest import Object, Stage, conditions, results
from tests.operator.fronts import fronted, message_of

STOPPED = {"Ready": ("False", "GuardrailTightened"), "Stalled": ("True", "GuardrailTightened")}


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("guarded")) as made:
        yield made


@pytest.mark.parametrize(
    ("rails", "named"),
    [
        ({"maxTargets": 2}, "maxTargets (2)"),
        ({"protectedServices": ["Lab*"]}, "LabSvc"),
        ({"namespaces": [{"selector": {"matchLabels": {"team": "other"}}}]}, "no entry for this namespace"),
    ],
)
def test_guardrail_of_another_engine_that_leads_there_stops_a_run_in_the_middle(
    stage: Stage, rails: Object, named: str
) -> None:
    ids = [stage.send("sleep_long", 3600.0) for _ in range(30)]
    stage.engine.wait_status(ids[-1], "suspended")
    with fronted(stage) as it:
        it.define()
        it.define("other", url=it.front.url.replace("127.0.0.1", "localhost"))
        it.engine_says("Reachable", name="other")
        it.act("act", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 6})
        stage.until(lambda: it.front.writes(), 60)
        # What the run keeps within changes nothing.
        within = {"maxTargets": 30, "allowedActions": ["Cancel"], "namespaces": [{"selector": {}}]}
        stage.patch("other", {"guardrails": within}, "restateengines")
        before = len(it.front.writes())
        stage.until(lambda: len(it.front.writes()) >= before + 3, 60)

        stage.patch("other", {"guardrails": rails}, "restateengines")
        done = stage.ended("act", timeout=60)
        assert done["status"]["phase"] == "Stopped"
        assert conditions(done) == STOPPED
        assert f"{stage.namespace}/other" in message_of(done)
        assert named in message_of(done)
        asked = len(it.front.writes())
        assert asked < len(ids)
        assert done["status"]["progress"]["effective"] == asked, "what was asked is verified"
        assert sum(stage.status_of(id_) == "suspended" for id_ in ids) == len(ids) - asked


def test_guardrail_that_forbids_a_kill_keeps_a_due_escalation_from_happening(stage: Stage) -> None:
    stubborn = stage.send("swallow_cancel", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.define()
        it.engine_says("Reachable")
        escalating = {"escalation": {"killAfter": "5s"}, "verification": {"timeout": "8s"}}
        it.cancel(stubborn, **escalating)
        stage.until(lambda: it.front.writes(), 60)
        stage.patch("front", {"guardrails": {"allowedActions": ["Cancel"]}}, "restateengines")
        it.action_says("GuardrailTightened")
        done = stage.ended("act", timeout=60)
        assert conditions(done) == STOPPED
        assert "Kill" in message_of(done)
        assert f"{stage.namespace}/front" in message_of(done)
        assert results(done)[stubborn][0] == "Unverified"
        assert [one.path.rsplit("/", 1)[1] for one in it.front.writes()] == ["cancel"]
        assert stage.status_of(stubborn) != "completed"


def test_guardrail_tightened_while_no_operator_was_there_stops_the_run_at_its_takeover(
    lane: Lane, world: World
) -> None:
    ids = world.send("sleep_long", 3600.0, "suspended", 12)
    first = lane.start_operator()
    lane.create(lane.manifest("guarded", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 3}))
    until(lambda: sum("cancel" in write.what for write in lane.script.writes) >= 3, lane.logs)
    first.kill()
    time.sleep(0.5)  # what it had sent has reached the proxy
    asked = sum("cancel" in write.what for write in lane.script.writes)
    path = lane.path("restateengines", "production")
    lane.control_plane.request("PATCH", path, {"spec": {"guardrails": {"allowedActions": ["Pause"]}}}).expect(200)
    lane.start_operator()
    done = lane.ended("guarded")
    assert conditions(done) == STOPPED
    assert "Cancel" in message_of(done)
    assert sum("cancel" in write.what for write in lane.script.writes) == asked, "a successor asked against a guardrail"
    ended = sum((world.engine.invocation(id_) or {"status": "gone"})["status"] != "suspended" for id_ in ids)
    assert done["status"]["progress"]["effective"] == ended == asked
    for id_ in ids:
        world.engine.operate(id_, "kill")
