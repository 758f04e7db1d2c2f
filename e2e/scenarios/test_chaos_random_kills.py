"""Hundreds of invocations in one run, the operator killed at random instants until it is done.

`CHAOS_ROUNDS` (default 5) and `CHAOS_SEED` (default: a new one, printed) say how often and where.
"""

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios import truth
from e2e.scenarios.bulk import VERBS
from e2e.scenarios.cases import SIMPLE, Case, World
from e2e.scenarios.lane import TERMINAL, Lane, until

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "5"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 2**32)
SIZE = 200
KILLS = 3
"""In one round; each costs a lease and the time after which a lost answer is judged."""


@pytest.fixture(scope="module")
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("random")) as made:
        yield made


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("make", SIMPLE)
def test_chaos_killed_at_random_instants_takes_effect_once(
    lane: Lane, world: World, make: Callable[[World], Case], number: int
) -> None:
    print(f"CHAOS_SEED={SEED}")
    dice = random.Random(f"{SEED} {make.__name__} {number}")
    case = make(world)
    ids = case.prepare(SIZE)
    lane.revive()
    lane.script.arm(0, None)
    name = f"random-{make.__name__.lower()}-{number}"
    lane.create(lane.manifest(name, case.action, {"ids": ids}, limits={"operationsPerSecond": 50}, **case.spec))
    for kill in range(KILLS):
        wanted = lane.script.count(VERBS) + dice.randrange(SIZE // KILLS)
        until(
            lambda wanted=wanted: lane.script.count(VERBS) >= wanted or _ended(lane, name),  # type: ignore[misc]
            lambda kill=kill: f"{name} did not go on after {kill} kills\n{lane.logs()}",  # type: ignore[misc]
        )
        time.sleep(dice.random() / 4)
        lane.operator.kill()
        lane.revive()
    lane.ended(name, timeout=180)
    problems = truth.told(lane, name, SIZE) + case.wrong(ids)
    truth.none(truth.evidence(world.engine, problems[:20]))


def _ended(lane: Lane, name: str) -> bool:
    return lane.get(name).get("status", {}).get("phase") in TERMINAL
