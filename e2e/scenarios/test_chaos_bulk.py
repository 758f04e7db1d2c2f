"""Thousands of invocations in one run, the operator killed at random instants until it is done, round after round.

`CHAOS_ROUNDS` (default: as in the table) and `CHAOS_SEED` (default: a new one, printed) say how often and where;
`CHAOS_SIZE` makes all of them smaller, in per cent.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from e2e.rig import ControlPlane, ServicesProcess
from e2e.scenarios import bulk, truth
from e2e.scenarios.bulk import PREFIX, Bulk
from e2e.scenarios.cases import World
from e2e.scenarios.lane import BATCHED, QUICK, Lane

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 2**32)
PERCENT = int(os.environ.get("CHAOS_SIZE", "100"))
KILLS = 3
"""In one round; each costs a lease and the time after which a lost answer is judged."""


@dataclass(frozen=True)
class Series:
    make: Callable[[World], Bulk]
    size: int
    rounds: int
    options: tuple[str, ...] = BATCHED


TABLE = {
    "restarts": Series(bulk.Restarts, 5000, 20),
    "restarts one by one": Series(bulk.Restarts, 1000, 3, QUICK),
    "sagas": Series(bulk.Sagas, 500, 5),
    "pauses and resumes": Series(bulk.Pausing, 400, 6),
    "workflows purged and born again": Series(bulk.Workflows, 2000, 5),
    "scheduled killed and born again": Series(bulk.Scheduled, 2000, 5),
}


@pytest.fixture(scope="module")
def own(world: World) -> Iterator[World]:
    with ServicesProcess("lab", prefix=PREFIX) as lab:
        world.engine.register(lab.uri)
        yield World(world.engine, lab)


@pytest.mark.parametrize("name", TABLE)
def test_chaos_bulk_killed_at_random_instants_takes_effect_once(
    quiet_control_plane: ControlPlane, own: World, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    series = TABLE[name]
    size = max(50, series.size * PERCENT // 100)
    case = series.make(own)
    scratch = tmp_path_factory.mktemp("bulk")
    with Lane(quiet_control_plane, own.engine, scratch, *series.options) as lane:
        for number in range(int(os.environ.get("CHAOS_ROUNDS", series.rounds))):
            dice = random.Random(f"{SEED} {name} {number}")
            seen = bulk.play(lane, case, f"round-{number}", size, KILLS, dice)
            told = f"{name}, round {number}: {size} invocations, {seen.kills} kills, {seen.seconds:.0f} s"
            print(f"CHAOS_SEED={SEED} {told}", flush=True)
            truth.none([f"{told}: {problem}" for problem in seen.problems[:20]])
