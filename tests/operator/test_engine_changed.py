"""An engine that is another one in mid-run: the run stops, and nothing is asked of the new one."""

from collections.abc import Iterator

import pytest

from e2e.rig import Engine, ServicesProcess
from tests.operator.conftest import Object, Stage, conditions
from tests.operator.fronts import Fronted, fronted


@pytest.fixture(scope="module")
def another(lab: ServicesProcess) -> Iterator[Engine]:
    """A second engine, another cluster."""
    with Engine() as running:
        running.register(lab.uri)
        yield running


def begun(stage: Stage, it: Fronted) -> list[str]:
    """A run that has only just begun."""
    ids = [stage.send("sleep_long", 3600.0) for _ in range(24)]
    stage.engine.wait_status(ids[-1], "suspended")
    it.define()
    it.engine_says("Reachable")
    it.act("act", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 3})
    stage.until(lambda: len(it.front.writes()) >= 2, 60)
    return ids


def assert_stopped(done: Object) -> None:
    assert done["status"]["phase"] == "Stopped"
    assert conditions(done) == {"Ready": ("False", "EngineChanged"), "Stalled": ("True", "EngineChanged")}


def test_run_that_stops_does_not_wait_for_the_turn_of_what_is_left(stage: Stage) -> None:
    """At one operation per second the sixty would have their turn within a minute."""
    ids = [stage.send("sleep_long", 3600.0) for _ in range(60)]
    stage.engine.wait_status(ids[-1], "suspended")
    with fronted(stage) as it:
        it.define()
        it.act("act", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 1})
        stage.until(lambda: it.front.writes(), 60)
        stage.delete("front", "restateengines")
        assert_stopped(stage.ended("act", timeout=40))


@pytest.mark.parametrize("how", ["recreated", "moved"])
def test_engine_object_replaced_in_mid_run_stops_the_run(stage: Stage, another: Engine, how: str) -> None:
    with fronted(stage) as it:
        ids = begun(stage, it)
        if how == "recreated":
            stage.delete("front", "restateengines")
            it.define()
        else:
            stage.patch("front", {"url": another.admin_url}, "restateengines")
        assert_stopped(stage.ended("act", timeout=60))
        asked = len(it.front.writes())
        assert asked < len(ids)
        it.engine_says("Reachable")
        assert len(it.front.writes()) == asked
        (record,) = stage.records("act")
        assert record["status"]["phase"] == "Stopped"


@pytest.mark.parametrize("same_name", [False, True])
def test_another_cluster_behind_the_same_address_stops_the_run(stage: Stage, another: Engine, same_name: bool) -> None:
    """Also when both bear the same name, as clusters do that nobody gave one."""
    with fronted(stage) as it:
        ids = begun(stage, it)
        if same_name:
            it.front.answer("/cluster-health", f'{{"cluster_name": "{stage.engine.cluster_name}"}}')
        it.front.lead_to(another.admin_url)
        done = stage.ended("act", timeout=60)
        assert_stopped(done)
        assert done["status"]["engine"]["clusterName"] == stage.engine.cluster_name
        asked = it.front.writes()
        assert len(asked) < len(ids)
        # What was already looked at on the old engine may still be sent; the new one knows none of these ids.
        assert len([one for one in asked if one.engine == another.admin_url]) <= 3
        assert done["status"]["progress"].get("effective", 0) < len(ids)
        completed = [id_ for id_ in ids if stage.status_of(id_) == "completed"]
        assert done["status"]["progress"].get("effective", 0) <= len(completed), "gone there is not done here"


def test_another_cluster_before_the_start_is_asked_anew_and_nothing_is_mixed(stage: Stage, another: Engine) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    there = another.send("LabSvc", "sleep_long", 3600.0)
    another.wait_status(there, "suspended")
    with fronted(stage) as it:
        it.define()
        it.engine_says("Reachable")
        it.front.lead_to(another.admin_url)
        it.act("act", "Cancel", {"ids": [id_, there]})
        done = stage.ended("act", timeout=60)
        assert done["status"]["engine"]["clusterName"] == another.cluster_name
        outcomes = {result["id"]: result["outcome"] for result in done["status"]["results"]}
        assert outcomes[there] == "Effective"
        assert outcomes[id_] != "Effective"
        assert stage.status_of(id_) == "suspended"
