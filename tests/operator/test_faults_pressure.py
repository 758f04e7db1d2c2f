"""A server that is away, or takes no calls, is met by few requests; `make chaos` looks at more kinds, for longer."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane
from e2e.scenarios.pressure import OPTIONS, endure

SECONDS = 8.0
KINDS = ("an engine that is unavailable", "an engine that takes no calls")


@pytest.fixture(scope="module")
def lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("pressure")
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch, *OPTIONS)) for _ in KINDS]


def test_faults_that_last_are_met_by_few_requests_and_told_and_healed(lanes: Sequence[Lane], world: World) -> None:
    with ThreadPoolExecutor(len(KINDS)) as pool:
        found = list(pool.map(lambda it: endure(it[0], it[1], world, SECONDS), zip(lanes, KINDS, strict=True)))
    assert not any(found), "\n".join(problem for problems in found for problem in problems)
