"""A run of hundreds with batches in flight: what stops it, the limits that it keeps, and its share beside another one.

Counted at the proxy before the engine, in invocations, however many go into one request.
"""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios.bulk import operations
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, Object, until
from tests.operator.conftest import conditions

RATE = 200
"""Operations a second: batches of twenty."""
SECOND = RATE
"""What may be asked after a stop; half a second more for a machine that is slow to tell of it."""
PACED = {"operationsPerSecond": RATE, "maxTargets": 5000}
HANDLER = "variant"
"""Of the lab's service; nobody else sends it with a delay."""


@pytest.fixture(scope="module")
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    # Neither a lease nor a call runs out on a slow machine: that is not the subject here.
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("bulk"), "--lease-seconds", "60") as made:
        made.start_operator()
        yield made


@pytest.fixture
def scheduled(world: World) -> Iterator[Callable[[int], Object]]:
    """Makes invocations that are scheduled, whose cancel takes effect at once; the target that means what is left."""

    def make(count: int) -> Object:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: world.engine.send("LabSvc", HANDLER, "x", delay="5h"), range(count)))
        return {"services": ["LabSvc"], "handlers": [HANDLER], "statuses": ["Scheduled"]}

    yield make
    world.engine.cli("invocations", "cancel", f"LabSvc/{HANDLER}", "--kill", "--yes", "--limit", "5000", check=False)


def left(world: World) -> int:
    query = f"target_service_name = 'LabSvc' and target_handler_name = '{HANDLER}' and status = 'scheduled'"
    return int(world.engine.sql(f"select count(*) as n from sys_invocation where {query}")[0]["n"])


def asked(lane: Lane, *, since: float = 0.0, before: float = float("inf")) -> int:
    """How many invocations were asked for in that time."""
    return sum(count for at, count in batches(lane) if since <= at < before)


def batches(lane: Lane) -> list[tuple[float, int]]:
    """When something was asked, and for how many."""
    found = ((w.at, re.fullmatch(r"PATCH [a-z-]+ \S+|POST batch-[a-z-]+ of (\d+)", w.what)) for w in lane.script.writes)
    return [(at, int(match[1] or 1)) for at, match in found if match]


def midway(lane: Lane, more: int = RATE // 2) -> None:
    """Wait until that many more are asked."""
    wanted = operations(lane) + more
    until(lambda: operations(lane) >= wanted, lambda: f"too little was asked\n{lane.logs()}")


def stopped(lane: Lane, world: World, stop: Callable[[], Any], seen: Callable[[], Any]) -> float:
    """Stop, wait until that is told and quiet, and return how long after the stop the last was asked, in seconds."""
    at = time.monotonic()
    stop()
    seen()
    time.sleep(0.5)
    after = asked(lane, since=at)
    assert after <= SECOND * 1.5, f"{after} were asked after the stop"
    quiet = asked(lane)
    remaining = left(world)
    time.sleep(0.5)
    assert (asked(lane), left(world)) == (quiet, remaining), "it went on"
    return max((when for when, _ in batches(lane)), default=at) - at


def test_bulk_stops_between_operations_and_goes_on(
    lane: Lane, world: World, scheduled: Callable[[int], Object]
) -> None:
    count = 2000
    target = scheduled(count)
    lane.script.arm(0, None)
    path = lane.path("restateengines", "production")

    def switch(on: bool) -> None:
        lane.control_plane.request("PATCH", path, {"spec": {"suspend": on}}).expect(200)

    took = {}
    lane.create(lane.manifest("stops", "Cancel", target, limits=PACED))
    midway(lane)
    suspend, resume = {"spec": {"suspend": True}}, {"spec": {"suspend": False}}
    took["suspend"] = stopped(
        lane, world, lambda: lane.patch("stops", suspend), lambda: lane.reached("stops", "Suspended")
    )
    lane.patch("stops", resume)
    midway(lane)
    took["kill switch"] = stopped(lane, world, lambda: switch(True), lambda: lane.reached("stops", "Suspended"))
    assert conditions(lane.get("stops"))["Reconciling"] == ("True", "EngineSuspended")
    switch(False)
    midway(lane)
    took["deletion"] = stopped(lane, world, lambda: lane.delete("stops"), lambda: None)
    (record,) = until(lambda: [r for r in lane.records("stops") if r["status"]["phase"] == "Stopped"], "not stopped")
    effective = record["status"]["progress"]["effective"]
    assert (effective, operations(lane)) == (count - left(world),) * 2
    assert effective < count

    lane.script.arm(0, None)
    lane.create(lane.manifest("times-out", "Cancel", target, limits=PACED, timeout="2s"))
    ended = lane.ended("times-out")
    assert conditions(ended)["Stalled"] == ("True", "TimedOut")
    assert 0 < operations(lane) <= 2 * RATE + SECOND
    assert ended["status"]["progress"]["effective"] == operations(lane)
    print("seconds from a stop to the last call:", {name: round(seconds, 3) for name, seconds in took.items()})


def test_bulk_keeps_its_rate_and_leaves_a_small_action_its_share(
    lane: Lane, world: World, scheduled: Callable[[int], Object]
) -> None:
    target = scheduled(1200)
    small = [world.engine.send("LabSvc", "echo", "x", delay="5h") for _ in range(20)]
    lane.script.arm(0, None)
    path = lane.path("restateengines", "production")
    limits = {"operationsPerSecond": RATE, "maxInFlight": 100}
    lane.control_plane.request("PATCH", path, {"spec": {"limits": limits}}).expect(200)
    lane.create(lane.manifest("huge", "Cancel", target, limits={"maxTargets": 5000}))
    midway(lane)
    before = operations(lane)
    lane.create(lane.manifest("small", "Cancel", {"ids": small}))
    assert lane.ended("small")["status"]["progress"]["effective"] == len(small)
    meanwhile = operations(lane) - before - len(small)
    assert lane.get("huge")["status"]["phase"] in ("Running", "Verifying"), (
        "the small one was to be beside the huge one"
    )
    assert meanwhile <= 3 * RATE, f"{meanwhile} operations of the huge one came before the small one's end"
    assert lane.ended("huge")["status"]["progress"]["effective"] == 1200
    lane.control_plane.request("PATCH", path, {"spec": {"limits": None}}).expect(200)

    # The first may have come in late, on a slow machine; over the whole run that weighs little.
    (first, _), *_, (last, _) = batches(lane)
    assert operations(lane) == 1200 + len(small)
    assert operations(lane) <= RATE * (last - first + 1.0), f"{operations(lane)} operations in {last - first:.2f} s"


def test_runs_that_share_a_rate_lower_than_their_number_take_turns(lane: Lane, world: World) -> None:
    """All are there when the kill switch is released; by chance, one would have had most of the first turns."""
    runs, each, rate = 8, 3, 4
    sets = [[world.engine.send("LabSvc", "echo", "x", delay="5h") for _ in range(each)] for _ in range(runs)]
    owner = {id_: number for number, ids in enumerate(sets) for id_ in ids}
    path = lane.path("restateengines", "production")
    lane.control_plane.request("PATCH", path, {"spec": {"suspend": True}}).expect(200)
    lane.script.arm(0, None)
    for number, ids in enumerate(sets):
        lane.create(lane.manifest(f"turns-{number}", "Cancel", {"ids": ids}))
    for number in range(runs):
        lane.reached(f"turns-{number}", "Suspended")
    limits = {"operationsPerSecond": rate}
    lane.control_plane.request("PATCH", path, {"spec": {"suspend": False, "limits": limits}}).expect(200)
    for number in range(runs):
        assert lane.ended(f"turns-{number}")["status"]["progress"]["effective"] == each
    lane.control_plane.request("PATCH", path, {"spec": {"limits": None}}).expect(200)

    asked_for = [w.what.split()[-1] for w in list(lane.script.writes) if w.what.startswith("PATCH cancel ")]
    turns = [owner[id_] for id_ in asked_for]
    assert sorted(turns) == sorted(each * [*range(runs)])
    for run in range(runs):
        at = [place for place, whose in enumerate(turns) if whose == run]
        # They begin one after the other, and the first ones may have had some turns by then.
        assert at[0] < runs + 5, turns
        # On a busy machine one comes later than its place in the line is kept for it.
        assert max(later - earlier for earlier, later in pairwise(at)) <= runs + 2, turns


def test_bulk_in_batches_never_has_more_in_flight_than_its_limit(lane: Lane, world: World) -> None:
    """A saga compensates for two seconds: what is asked and has not ended is in flight."""
    most, ids = 15, [world.engine.send("LabSvc", "saga", 3600.0) for _ in range(45)]
    for id_ in ids:
        world.engine.wait_status(id_, "suspended", timeout=60)
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    lane.script.arm(0, None)
    lane.create(lane.manifest("sagas", "Cancel", {"ids": ids}, limits={"maxInFlight": most}))
    highest, ended = 0, 0
    while ended < len(ids):
        # In this order: what is seen as asked and not ended was in flight in between.
        begun = operations(lane)
        query = f"select count(*) as n from sys_invocation where id in ({listed}) and status = 'completed'"
        ended = int(world.engine.sql(query)[0]["n"])
        highest = max(highest, begun - ended)
    assert most // 2 < highest <= most
    assert max(count for _, count in batches(lane)) > 1, "batches were meant"
    assert lane.ended("sagas")["status"]["progress"]["effective"] == len(ids)


def test_bulk_in_batches_stops_at_its_failures(lane: Lane, world: World) -> None:
    """Pauses of suspended invocations are without effect: each counts, and what is in flight then is the last."""
    most, failures = 20, 10
    ids = [world.engine.send("LabSvc", "sleep_long", 3600.0) for _ in range(60)]
    for id_ in ids:
        world.engine.wait_status(id_, "suspended", timeout=60)
    lane.script.arm(0, None)
    limits = {"maxInFlight": most, "maxFailures": str(failures)}
    target = {"ids": ids, "statuses": ["Suspended"]}
    lane.create(lane.manifest("no-op", "Pause", target, limits=limits, verification={"timeout": "500ms"}))
    ended = lane.ended("no-op")
    assert conditions(ended)["Stalled"] == ("True", "TooManyFailures")
    assert failures < ended["status"]["progress"]["noOp"] == operations(lane) <= failures + most
    assert ended["status"]["progress"]["done"] == operations(lane)
    for id_ in ids:
        world.engine.operate(id_, "kill")
