"""Two operators of which one works: either is frozen and goes on, the API server is started anew, in mid-run.

`CHAOS_ROUNDS` (default 1, of each action) and `CHAOS_SEED` (default: a new one, printed) say how often and when.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios import truth
from e2e.scenarios.cases import SIMPLE, Case, World
from e2e.scenarios.elected import asked, begun, elected, ended_once, leases, operators
from e2e.scenarios.lane import Lane, until

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 2**32)
LEASE = 3.0


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two-operators")


def test_chaos_standby_that_was_frozen_changes_nothing_and_takes_over_when_it_is_needed(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    """It sleeps through most of a run and much longer than the lease; what it remembers of the Lease is old then."""
    with Lane(quiet_control_plane, world.engine, scratch, *elected(LEASE)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "idle", 40)
        # Both may have tried to create the Lease when they started; one of them was refused, and stands by since.
        written = list(second.wrote.writes)
        second.child.pause()
        time.sleep(2 * LEASE)
        asked = lane.script.count("restart-as-new")
        second.child.resume()
        until(lambda: second.ready, "it is not ready any more")
        until(lambda: lane.script.count("restart-as-new") > asked + 3, lambda: f"it does not go on\n{lane.logs()}")
        (lease,) = leases(lane)
        assert (first.leads, second.leads, lease["spec"]["leaseTransitions"]) == (True, False, 0)
        assert second.wrote.writes == written, "who stands by writes nothing"
        assert truth.children(world.engine, ids).total() < len(ids), "the run was to be in the middle"
        first.child.kill()
        until(lambda: second.leads, lambda: f"it did not take over\n{lane.logs()}")
        ended_once(lane, world, "idle", ids)


def test_chaos_standby_that_is_frozen_while_the_leader_dies_takes_over_when_it_wakes(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    with Lane(quiet_control_plane, world.engine, scratch, *elected(LEASE)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "both", 16)
        second.child.pause()
        first.child.kill()
        asked = lane.script.count("restart-as-new")
        time.sleep(2 * LEASE)
        assert lane.script.count("restart-as-new") == asked, "nobody is there who could ask"
        second.child.resume()
        until(lambda: second.leads, lambda: f"it did not take over\n{lane.logs()}")
        ended_once(lane, world, "both", ids)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("make", SIMPLE)
def test_chaos_either_of_two_frozen_and_woken_again_and_again_takes_effect_once(
    quiet_control_plane: ControlPlane, world: World, scratch: Path, make: Callable[[World], Case], number: int
) -> None:
    dice, case = random.Random(f"{SEED} two {make.__name__} {number}"), make(world)
    with Lane(quiet_control_plane, world.engine, scratch, *elected(LEASE)) as lane, operators(lane) as pair:
        ids = begun(lane, world, "either", 60, case)
        frozen = 0
        while len(asked(lane)) < len(ids):
            one = dice.choice(pair)
            one.child.pause()
            time.sleep(dice.uniform(0.2, 2 * LEASE))
            one.child.resume()
            time.sleep(dice.uniform(0.2, 2.0))
            frozen += 1
        print(f"CHAOS_SEED={SEED}: {case.action}, one of two was frozen {frozen} times")
        ended_once(lane, world, "either", ids, case)


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("make", SIMPLE)
def test_chaos_api_server_started_anew_again_and_again_takes_effect_once(
    quiet_control_plane: ControlPlane, world: World, scratch: Path, make: Callable[[World], Case], number: int
) -> None:
    dice, case = random.Random(f"{SEED} api {make.__name__} {number}"), make(world)
    with Lane(quiet_control_plane, world.engine, scratch, *elected(LEASE)) as lane, operators(lane):
        ids = begun(lane, world, "api", 40, case)
        restarts = 0
        while len(asked(lane)) < len(ids):
            lane.control_plane.restart_apiserver(downtime=dice.uniform(0.0, 2 * LEASE))
            restarts += 1
            time.sleep(dice.uniform(0.5, 4.0))
        print(f"CHAOS_SEED={SEED}: {case.action}, the API server was started anew {restarts} times")
        ended_once(lane, world, "api", ids, case)
