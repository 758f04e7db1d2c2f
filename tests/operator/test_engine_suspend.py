"""The kill switch of an engine."""

import time

import pytest

from tests.operator.conftest import Stage, conditions
from tests.operator.fronts import fronted, message_of


@pytest.mark.parametrize("switch", ["front", "other"])
def test_kill_switch_stops_between_operations_and_lets_go_on(stage: Stage, switch: str) -> None:
    """Its own, or that of another RestateEngine that leads to the same engine."""
    ids = [stage.send("sleep_long", 3600.0) for _ in range(24)]
    stage.engine.wait_status(ids[-1], "suspended")
    later = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.define()
        it.define("other", url=it.front.url.replace("127.0.0.1", "localhost"))
        it.engine_says("Reachable", name="other")
        it.act("act", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 6})
        stage.until(lambda: len(it.front.writes()) >= 3, 60)

        stage.patch(switch, {"suspend": True}, "restateengines")
        held = stage.reached("act", "Suspended", timeout=60)
        assert conditions(held) == {
            "Ready": ("False", "EngineSuspended"),
            "Reconciling": ("True", "EngineSuspended"),
        }
        asked = len(it.front.writes())
        assert asked < len(ids)
        for name in ("front", "other"):
            assert f"{stage.namespace}/{switch}" in message_of(it.engine_says("Suspended", name=name))
        it.cancel(later, "late")
        assert f"{stage.namespace}/{switch}" in message_of(it.action_says("EngineSuspended", "late"))
        time.sleep(2)
        assert len(it.front.writes()) == asked, "operations were asked although the kill switch was on"
        assert not stage.records("late")

        stage.patch(switch, {"suspend": False}, "restateengines")
        assert stage.ended("act", timeout=90)["status"]["phase"] == "Succeeded"
        it.engine_says("Reachable")
        assert stage.ended("late", timeout=60)["status"]["phase"] == "Succeeded"
        paths = [asked.path for asked in it.front.writes()]
        assert len(paths) == len(set(paths)) == len(ids) + 1
