"""A compensation that comes twice without a second cancel: how that comes about, and how it is told from one that was
cancelled twice.
"""

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from e2e.rig import Engine, ServicesProcess
from e2e.rig.cable import Cable
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import until
from e2e.scenarios.sagas import story

SERVICE = "CableLabSvc"


@pytest.fixture(scope="module")
def cabled() -> Iterator[ServicesProcess]:
    with ServicesProcess("lab", prefix="Cable") as running:
        yield running


def cancelled(engine: Engine) -> str:
    id_ = engine.send(SERVICE, "saga", 3600.0)
    _becomes(engine, id_, "suspended")
    engine.operate(id_, "cancel").expect()
    return id_


def _becomes(engine: Engine, id_: str, status: str) -> None:
    until(lambda: truth.rows(engine, [id_]).get(id_, {}).get("status") == status, f"{id_} is not {status}")


def _comes_to(lab: ServicesProcess, id_: str, what: str) -> None:
    until(lambda: any(what in step for attempt in lab.world()["sagas"][id_] for step in attempt), f"no {what}")


def test_chaos_connection_that_is_cut_during_a_compensation_makes_the_engine_run_its_step_again(
    world: World, cabled: ServicesProcess
) -> None:
    engine, lab = world.engine, cabled
    with Cable(urlsplit(lab.uri).port or 0) as cable:
        engine.register(cable.uri)
        lost = cancelled(engine)
        _comes_to(lab, lost, "step begun")
        cable.silence()
        _comes_to(lab, lost, "step done")
        cable.cut()
        _becomes(engine, lost, "completed")
        twice = cancelled(engine)
        _comes_to(lab, twice, "step begun")
        engine.operate(twice, "cancel").expect()
        _becomes(engine, twice, "completed")
    seen = lab.world()
    stories = {id_: story(engine, id_, seen["sagas"][id_]) for id_ in (lost, twice)}
    print(*stories.values(), sep="\n")
    assert Counter(seen["compensations"])[lost] == 2
    assert truth.cancel_signals(engine, [lost, twice]) == {lost: 1, twice: 2}
    assert stories[lost].step_was_run_again
    assert not stories[twice].step_was_run_again
    truth.none(truth.cancelled_once(engine, lab, [lost]))
    assert truth.cancelled_once(engine, lab, [twice])
