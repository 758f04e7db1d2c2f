"""Ages count on the engine's clock: an operator whose own clock is wrong selects and expires the same."""

from collections.abc import Iterator
from pathlib import Path

import libfaketime
import pytest

from e2e.rig import ControlPlane, Engine
from tests.operator.conftest import Stage, operator_for, results, unique

LIBRARY = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"


@pytest.fixture(scope="module", params=["+10m", "-10m"])
def skewed(
    request: pytest.FixtureRequest,
    quiet_control_plane: ControlPlane,
    engine: Engine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """A stage whose only operator has a clock that is 10 minutes off."""
    namespace = unique("clock")
    quiet_control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}).expect()
    env = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": request.param, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    log, own = tmp_path_factory.mktemp("clock") / "operator.log", f"{namespace}-operator"
    with operator_for(quiet_control_plane, log, "--namespace", namespace, operator_namespace=own, env=env):
        stage = Stage(quiet_control_plane, engine, namespace, log)
        stage.define_engine()
        yield stage
        for id_ in stage.ids:
            engine.operate(id_, "kill")


def test_clock_ages_count_on_the_engines_clock(skewed: Stage) -> None:
    id_ = skewed.send("sleep_long", 3600.0, status="suspended")
    target = {"ids": [id_]}
    older = skewed.run("older", "Kill", {**target, "olderThan": "5m"})
    assert results(older) == {id_: ("Skipped", "FilterMismatch")}
    younger = skewed.run("younger", "Kill", {**target, "olderThan": "10ms"})
    assert results(younger) == {id_: ("Effective", "Killed")}


def test_clock_start_of_the_run_is_the_engines_time(skewed: Stage) -> None:
    id_ = skewed.send("sleep_long", 3600.0, status="suspended")
    (sent,) = skewed.engine.sql(f"select now() as now from sys_invocation where id = '{id_}'")
    done = skewed.run("kill", "Kill", {"ids": [id_]})
    assert done["status"]["startTime"][:15] == sent["now"][:15]
    skew = done["status"]["conditions"][0]["lastTransitionTime"]
    assert skew[:15] != sent["now"][:15], "the operator's own clock was meant to be wrong"
