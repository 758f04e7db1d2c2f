"""Two operators of which one works: the other one stands by, ready, and takes over when the first is killed, stops,
freezes, or cannot reach the API server any more. What was asked before is asked once in all of this.
"""

import itertools
import time
from pathlib import Path

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.cases import RestartAsNew, World
from e2e.scenarios.elected import LEASE, begun, elected, ended_once, leases, operators, taken_over
from e2e.scenarios.lane import Lane, until


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leading")


def test_standby_is_ready_writes_nothing_and_takes_over_in_time_when_the_leader_is_killed(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    """With the lease that is the default, and a run in the middle."""
    with Lane(quiet_control_plane, world.engine, scratch, *elected(10)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "killed", 14)
        assert (first.ready, first.leads) == (True, True)
        until(lambda: second.ready, "the one that stands by is not ready")
        assert not second.leads
        # Both may have found no Lease and asked for one; only one of them got it.
        wrote = [write for write in second.wrote.writes if not write.what.endswith("/leases")]
        assert wrote == [], "who stands by writes nothing"
        killed_at = time.monotonic()
        first.child.kill()
        took = taken_over(lane, second, killed_at)
        print(f"SIGKILL: the next one asked the engine after {took:.1f} s")
        ended_once(lane, world, "killed", ids)
        assert len(second.said("run taken over")) == 1


def test_leader_that_is_asked_to_stop_hands_over_without_waiting_for_any_lease(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    """With leases of five minutes: whoever waited for one would not be done within the patience of this test."""
    with Lane(quiet_control_plane, world.engine, scratch, *elected(300)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "stopped", 12)
        stopped_at = time.monotonic()
        first.child.signal(15)
        took = taken_over(lane, second, stopped_at)
        print(f"SIGTERM: the next one asked the engine after {took:.1f} s")
        until(lambda: first.said("stopped"), "it does not end")
        ended_once(lane, world, "stopped", ids)
        (lease,) = leases(lane)
        assert lease["spec"]["leaseTransitions"] == 1
        assert second.child.stop(grace=30) == 0
        (lease,) = leases(lane)
        assert lease["spec"]["holderIdentity"] == "", "given back, for whoever comes"


def test_leader_that_was_frozen_wakes_up_asks_nothing_stands_by_and_leads_again_in_its_turn(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    with Lane(quiet_control_plane, world.engine, scratch, *elected(3)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "frozen", 28)
        frozen_at = time.monotonic()
        first.child.pause()
        taken_over(lane, second, frozen_at)
        wrote = len(first.wrote.writes)
        first.child.resume()
        until(lambda: first.said("another one leads"), "it did not notice")
        until(lambda: first.ready and not first.leads, "it does not stand by")
        ended_once(lane, world, "frozen", ids)
        late = [write.what for write in first.wrote.writes[wrote:] if "/leases/" not in write.what]
        assert late == [], "it wrote although another one leads"
        again = RestartAsNew(world).prepare(2)
        second.child.kill()
        lane.create(lane.manifest("again", "RestartAsNew", {"ids": again}))
        until(lambda: first.leads, "it does not lead again")
        ended_once(lane, world, "again", again)


def test_leader_that_the_api_server_does_not_answer_ceases_before_the_next_one_begins(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    with Lane(quiet_control_plane, world.engine, scratch, *elected()) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "stalled", 40)
        stalled_at = time.monotonic()
        first.cluster.hold()
        taken_over(lane, second, stalled_at)
        until(lambda: not first.ready, "it could not take over, and says so")
        times = [write.at for write in lane.script.writes if write.at > stalled_at and "restart" in write.what]
        silence = max(after - before for before, after in itertools.pairwise(times))
        # From two thirds of the lease on the first asks nothing, and not before its end the second one does.
        assert silence > LEASE / 3 * 0.75, f"the longest silence is {silence:.2f} s"
        first.cluster.release()
        until(lambda: first.ready and not first.leads, "it does not stand by")
        ended_once(lane, world, "stalled", ids)
