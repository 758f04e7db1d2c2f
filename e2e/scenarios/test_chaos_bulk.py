"""Thousands of invocations in one run, round after round: the operator is killed at random instants until it is done,
or requests to the engine meet all faults every now and then. Others go on with their work meanwhile.

`CHAOS_ROUNDS` (default: as in the table) and `CHAOS_SEED` (default: a new one, printed) say how often and where;
`CHAOS_SIZE` makes all of them smaller, in per cent.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.rig import ControlPlane, ServicesProcess
from e2e.scenarios import bulk, crowds, truth
from e2e.scenarios.bulk import Bulk
from e2e.scenarios.cases import World
from e2e.scenarios.crowds import PREFIX
from e2e.scenarios.lane import BATCHED, QUICK, Lane

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 2**32)
PERCENT = int(os.environ.get("CHAOS_SIZE", "100"))
KILLS = 3
"""In one round; each costs a lease and the time after which a lost answer is judged."""
FAULTS_SHARE = 0.01
"""Of the requests, for each of the faults."""


@dataclass(frozen=True)
class Series:
    make: Callable[[World], Bulk]
    size: int
    rounds: int
    options: tuple[str, ...] = BATCHED


TABLE = {
    "restarts": Series(crowds.Restarts, 5000, 20),
    "restarts one by one": Series(crowds.Restarts, 1000, 3, QUICK),
    "sagas": Series(crowds.Sagas, 500, 5),
    "kills": Series(crowds.Kills, 2000, 5),
    "pauses and resumes": Series(crowds.Pausing, 400, 6),
    "purges": Series(crowds.Purges, 2000, 5),
    "purges of journals": Series(crowds.JournalPurges, 2000, 5),
    "workflows purged and born again": Series(crowds.Workflows, 2000, 5),
    "scheduled killed and born again": Series(crowds.Scheduled, 2000, 5),
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
    _play(quiet_control_plane, own, tmp_path_factory.mktemp("bulk"), name, series, kills=KILLS)


THROUGH_FAULTS = {
    "restarts": Series(crowds.Restarts, 500, 2, QUICK),
    "sagas": Series(crowds.Sagas, 300, 2, QUICK),
    "kills": Series(crowds.Kills, 500, 2, QUICK),
    "pauses and resumes": Series(crowds.Pausing, 200, 2, QUICK),
    "purges": Series(crowds.Purges, 500, 2, QUICK),
    "purges of journals": Series(crowds.JournalPurges, 500, 2, QUICK),
    "workflows purged and born again": Series(crowds.Workflows, 500, 2, QUICK),
    "scheduled killed and born again": Series(crowds.Scheduled, 500, 2, QUICK),
}


@pytest.mark.parametrize("name", THROUGH_FAULTS)
def test_chaos_bulk_through_all_faults_takes_effect_once(
    quiet_control_plane: ControlPlane, own: World, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    series = THROUGH_FAULTS[name]
    _play(quiet_control_plane, own, tmp_path_factory.mktemp("bulk"), name, series, share=FAULTS_SHARE)


def _play(
    control_plane: ControlPlane,
    own: World,
    scratch: Path,
    name: str,
    series: Series,
    *,
    kills: int = 0,
    share: float = 0.0,
) -> None:
    size = max(50, series.size * PERCENT // 100)
    case = series.make(own)
    with Lane(control_plane, own.engine, scratch, *series.options) as lane:
        for number in range(int(os.environ.get("CHAOS_ROUNDS", series.rounds))):
            dice = random.Random(f"{SEED} {name} {number}")
            seen = bulk.play(lane, case, f"round-{number}", size, kills, dice, share)
            told = f"{name}, round {number}: {size} invocations, {seen.kills} kills, {seen.seconds:.0f} s"
            told += f", struck {dict(seen.struck)}" if share else ""
            print(f"CHAOS_SEED={SEED} {told}", flush=True)
            truth.none([f"{told}: {problem}" for problem in seen.problems[:60]])
