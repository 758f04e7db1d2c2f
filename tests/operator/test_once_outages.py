"""Once, through outages of what the operator depends on: the API server and the engine go away in mid-run."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from e2e.rig import ControlPlane, Engine, ServicesProcess
from e2e.rig.wire import NOBODY_THERE
from e2e.scenarios import truth
from e2e.scenarios.cases import Cancel, RestartAsNew, World
from e2e.scenarios.lane import Lane, until
from invocation_operator.values.ids import sibling
from tests.operator.conftest import conditions, results

PACED = {"operationsPerSecond": 4}


@pytest.fixture(scope="module")
def own(lab: ServicesProcess) -> Iterator[World]:
    """An engine of this module's own, because it is killed."""
    with Engine(cleanup_interval="1s") as running:
        running.register(lab.uri)
        with ThreadPoolExecutor(8) as pool:
            # A log of some length, which takes a moment to read.
            list(pool.map(lambda number: running.send("LabSvc", "steps", f"{number}"), range(600)))
        yield World(running, lab)


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, own: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, own.engine, tmp_path_factory.mktemp("outages")) as made:
        made.start_operator()
        yield made


def caught_up(engine: Engine, ids: list[str]) -> None:
    """Wait until the engine has read its log: rows that are there again may still be those of an earlier time.

    Its partitions then know that an invocation that nobody has is unknown, and answer 503 before.
    """
    nobody = {sibling(id_) for id_ in ids}
    until(lambda: all(engine.operate(id_, "cancel").status == 404 for id_ in nobody), "the engine did not come back")


@contextmanager
def forgetful(lane: Lane, engine: Engine, ids: list[str]) -> Iterator[None]:
    """Kill the engine and start it again; what the block asks of it, and what follows, meets it with an empty memory.

    A restarted engine answers queries before it has read its log: with 200, and no rows. It lasts a fraction of a
    second here, and longer with a longer log. Calls on invocations are answered with 503 meanwhile.
    """
    lane.admin.hold()
    engine.process.kill()
    starting = threading.Thread(target=engine.restart)
    try:
        yield
        starting.start()
        # No pause between two looks: it may last for a few hundredths of a second only.
        while starting.is_alive() and not _knows_nothing(engine, ids):
            pass
    finally:
        lane.admin.release()
        starting.join()


def _knows_nothing(engine: Engine, ids: list[str]) -> bool:
    try:
        return truth.rows(engine, ids) == {}
    except (*NOBODY_THERE, RuntimeError):
        return False


def midway(lane: Lane, count: int = 3) -> None:
    until(lambda: lane.script.count("restart-as-new|cancel") >= count, lambda: f"too little was asked\n{lane.logs()}")


@pytest.mark.parametrize("kind", [RestartAsNew, Cancel])
def test_once_api_server_killed_in_mid_run_finishes_with_each_effect_once(
    lane: Lane, own: World, kind: type[RestartAsNew]
) -> None:
    case = kind(own)
    ids = case.prepare(12)
    lane.create(lane.manifest("api-away", case.action, {"ids": ids}, limits=PACED))
    midway(lane)
    lane.control_plane.restart_apiserver(downtime=3)
    lane.ended("api-away")
    truth.none(truth.told(lane, "api-away", len(ids)) + case.wrong(ids))


def test_once_api_server_away_beyond_the_lease_stops_the_asking(lane: Lane, own: World) -> None:
    """Without its hold the operator cannot know that it is alone."""
    ids = RestartAsNew(own).prepare(40)
    lane.create(lane.manifest("blind", "RestartAsNew", {"ids": ids}, limits=PACED))
    midway(lane)
    counts = []

    def count() -> None:
        counts.append(lane.script.count("restart-as-new"))

    # The lease is 2 s, of which the holder uses two thirds: well before the fourth second nothing is asked any more.
    timers = [threading.Timer(seconds, count) for seconds in (4, 7)]
    for timer in timers:
        timer.start()
    lane.control_plane.restart_apiserver(downtime=8)
    for timer in timers:
        timer.join()
    lane.ended("blind")
    assert counts[0] == counts[1] < len(ids), f"it went on asking while it could not renew: {counts}"
    truth.none(truth.told(lane, "blind", len(ids)) + truth.one_child_each(own.engine, ids))


def test_once_engine_killed_in_mid_run_finishes_with_one_child_each(lane: Lane, own: World) -> None:
    ids = RestartAsNew(own).prepare(16)
    lane.create(lane.manifest("engine-away", "RestartAsNew", {"ids": ids}, limits=PACED))
    midway(lane)
    own.engine.restart(downtime=2)
    lane.ended("engine-away", timeout=120)
    truth.none(truth.told(lane, "engine-away", len(ids)) + truth.one_child_each(own.engine, ids))


def test_once_engine_killed_amid_cancels_leaves_each_cancelled_by_one_signal(lane: Lane, own: World) -> None:
    ids = Cancel(own).prepare(8)
    lane.create(lane.manifest("cancel-away", "Cancel", {"ids": ids}, limits=PACED))
    midway(lane)
    own.engine.restart(downtime=2)
    lane.ended("cancel-away", timeout=120)
    caught_up(own.engine, ids)
    signals = truth.cancel_signals(own.engine, ids)
    problems = [f"{id_} has {signals[id_]} cancel signals" for id_ in ids if signals[id_] != 1]
    # A compensation that the engine's death cut off runs again: that is the engine's promise, not the operator's.
    truth.none(problems + truth.told(lane, "cancel-away", len(ids)) + truth.ended_as(own.engine, ids, "cancelled"))


def test_once_engine_down_at_apply_is_waited_for(lane: Lane, own: World) -> None:
    ids = RestartAsNew(own).prepare(3)
    own.engine.process.kill()
    lane.create(lane.manifest("waiting", "RestartAsNew", {"ids": ids}))
    pending = lane.reached("waiting", "Pending")
    assert conditions(pending) == {"Ready": ("False", "Unreachable"), "Reconciling": ("True", "Unreachable")}
    assert lane.records("waiting") == []
    own.engine.restart()
    lane.ended("waiting")
    truth.none(truth.told(lane, "waiting", len(ids)) + truth.one_child_each(own.engine, ids))


def test_once_rows_absent_while_the_engine_reads_its_log_are_not_taken_for_gone(lane: Lane, own: World) -> None:
    ids = Cancel(own).prepare(6)
    lane.create(lane.manifest("forgotten", "Cancel", {"ids": ids}))
    midway(lane, len(ids))
    with forgetful(lane, own.engine, ids):
        pass
    seen = results(lane.ended("forgotten"))
    assert seen == dict.fromkeys(ids, ("Effective", "Cancelled"))
    caught_up(own.engine, ids)
    truth.none(truth.ended_as(own.engine, ids, "cancelled") + truth.told(lane, "forgotten", len(ids)))


def test_once_plan_made_while_the_engine_reads_its_log_misses_nothing(lane: Lane, own: World) -> None:
    ids = RestartAsNew(own).prepare(6)
    target = {"services": ["LabSvc"], "handlers": ["echo"], "ids": ids}
    with forgetful(lane, own.engine, ids):
        lane.create(lane.manifest("overlooked", "RestartAsNew", target))
    lane.ended("overlooked")
    caught_up(own.engine, ids)
    truth.none(truth.one_child_each(own.engine, ids) + truth.told(lane, "overlooked", len(ids)))
