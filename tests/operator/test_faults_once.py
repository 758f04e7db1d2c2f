"""Once, through what networks, fronts and servers in trouble do to requests; `make chaos` plays the whole table."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from e2e.rig import ControlPlane
from e2e.rig.faults import Fault as F
from e2e.scenarios.cases import Cancel, Purge, RestartAsNew, World
from e2e.scenarios.lane import BATCHED, QUICK, Lane
from e2e.scenarios.storms import CLUSTER_WRITES, QUERIES, Storm, weather_all, wrongs


@pytest.fixture(scope="module")
def lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    """Two that ask one by one, two that ask in batches."""
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("faults")
        options = (QUICK, BATCHED, QUICK, BATCHED)
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch, *some)) for some in options]


def test_faults_between_operator_and_engine_leave_each_effect_once(lanes: Sequence[Lane], world: World) -> None:
    restart, cancel, purge = RestartAsNew(world), Cancel(world), Purge(world)
    storms = [
        Storm(restart, fault) for fault in (F.UNAVAILABLE, F.TOO_MANY, F.RESET, F.GATEWAY_TIMEOUT, F.LATE, F.DRIP)
    ]
    storms += [Storm(cancel, fault) for fault in (F.RESET_AFTER, F.LATE, F.GARBAGE)]
    storms += [Storm(restart, F.CUT, patterns=[QUERIES], count=5), Storm(purge, F.GARBAGE, patterns=[QUERIES], count=5)]
    seen = weather_all(lanes, storms)
    assert not wrongs(seen), wrongs(seen) + "\n" + "\n".join(lane.logs() for lane in lanes)


def test_faults_between_operator_and_api_server_leave_each_effect_once(lanes: Sequence[Lane], world: World) -> None:
    restart = RestartAsNew(world)
    faults = [F.UNAVAILABLE, F.TOO_MANY, F.RESET_AFTER, F.GARBAGE]
    storms = [Storm(restart, fault, "cluster", CLUSTER_WRITES) for fault in faults]
    seen = weather_all(lanes, storms)
    assert not wrongs(seen), wrongs(seen) + "\n" + "\n".join(lane.logs() for lane in lanes)
