"""Every fault that the proxies can play, on every action, between the operator and either server."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from e2e.rig import ControlPlane
from e2e.rig.faults import Fault
from e2e.scenarios.cases import SIMPLE, Case, World
from e2e.scenarios.lane import BATCHED, QUICK, Lane
from e2e.scenarios.pressure import OPTIONS, TABLE, endure
from e2e.scenarios.storms import CALLS, CLUSTER_WRITES, QUERIES, Storm, weather_all, wrongs

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 2**32)
API_TIMEOUT_SECONDS = 15.0
"""How long the operator waits for the API server."""


@pytest.fixture(scope="module")
def lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("faults")
        options = (QUICK, BATCHED, QUICK, BATCHED)
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch, *some)) for some in options]


STRUCK: dict[str, Callable[[Case, Fault], Storm]] = {
    "calls": lambda case, fault: Storm(case, fault, count=3),
    "queries": lambda case, fault: Storm(case, fault, patterns=[QUERIES], count=5),
    "a tenth of both": lambda case, fault: Storm(
        case, fault, patterns=[f"{CALLS}|{QUERIES}"], count=None, share=0.1, size=20
    ),
}


@pytest.mark.parametrize("what", STRUCK)
@pytest.mark.parametrize("make", SIMPLE)
def test_chaos_fault_between_operator_and_engine_leaves_each_effect_once(
    lanes: Sequence[Lane], world: World, make: Callable[[World], Case], what: str
) -> None:
    case = make(world)
    _play(lanes, [STRUCK[what](case, fault) for fault in Fault])


@pytest.mark.parametrize("make", SIMPLE)
def test_chaos_fault_between_operator_and_api_server_leaves_each_effect_once(
    lanes: Sequence[Lane], world: World, make: Callable[[World], Case]
) -> None:
    case = make(world)
    for lane in lanes:
        lane.cluster.faults.late_seconds = API_TIMEOUT_SECONDS + 2
    _play(lanes, [Storm(case, fault, "cluster", CLUSTER_WRITES, count=1) for fault in Fault])


def _play(lanes: Sequence[Lane], storms: Sequence[Storm]) -> None:
    random.Random(SEED).shuffle(shuffled := list(storms))
    seen = weather_all(lanes, shuffled)
    struck = sum(one.struck for one in seen)
    print(f"CHAOS_SEED={SEED}: {len(seen)} storms, {struck} requests struck")
    assert not wrongs(seen), wrongs(seen) + "\n" + "\n".join(lane.logs() for lane in lanes)


@pytest.mark.parametrize("name", TABLE)
def test_chaos_outage_of_half_a_minute_is_met_by_few_requests(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("outage"), *OPTIONS) as lane:
        problems = endure(lane, name, world, 30.0)
    assert not problems, "\n".join(problems)
