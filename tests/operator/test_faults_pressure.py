"""How often a server in trouble is asked: by a run in flight, by actions that wait, and by the operator's own looks.

Counted at the proxies. A bound on a number of requests is safe on a slow machine: that makes them fewer.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from e2e.rig import ControlPlane
from e2e.rig.faults import Fault as F
from e2e.scenarios import truth
from e2e.scenarios.cases import RestartAsNew, World
from e2e.scenarios.lane import Lane, until
from e2e.scenarios.storms import CALLS
from tests.operator.conftest import conditions

SIZE = 60
WAITING = 10
BEGIN, END = 6.0, 12.0
"""What is asked between these seconds of an outage is counted: what was under way is over by then."""


@dataclass(frozen=True)
class Outage:
    fault: F
    where: str
    pattern: str
    most: int
    """Requests between ``BEGIN`` and ``END``."""
    run_says: str = ""
    others_say: str = ""


TABLE = {
    "an engine whose connections break": Outage(F.RESET, "engine", "", 30, "Unreachable", "Unreachable"),
    "an engine that is unavailable": Outage(F.UNAVAILABLE, "engine", "", 30, "Unreachable", "Unreachable"),
    # Each of the runs tries by itself. Looks go on, and what asks whether the engine has read its log is no such call.
    "an engine that takes no calls": Outage(F.TOO_MANY, "engine", CALLS, 30, "Throttled"),
    # kopf's two watches and the lease of each run are tried too.
    "an API server that is unavailable": Outage(F.UNAVAILABLE, "cluster", "", 80),
}


@pytest.fixture(scope="module")
def lanes(
    quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Lane]]:
    with ExitStack() as stack:
        scratch = tmp_path_factory.mktemp("pressure")
        yield [stack.enter_context(Lane(quiet_control_plane, world.engine, scratch)) for _ in TABLE]


def test_faults_that_last_are_met_by_few_requests_and_told_and_healed(lanes: Sequence[Lane], world: World) -> None:
    with ThreadPoolExecutor(len(TABLE)) as pool:
        found = list(pool.map(lambda it: endure(it[0], it[1], world), zip(lanes, TABLE, strict=True)))
    assert not any(found), "\n".join(problem for problems in found for problem in problems)


def endure(lane: Lane, name: str, world: World) -> list[str]:
    """Have a run in mid-flight and some actions that come later meet the outage; what was wrong."""
    outage = TABLE[name]
    proxy = lane.admin if outage.where == "engine" else lane.cluster
    ids, others = RestartAsNew(world).prepare(SIZE), RestartAsNew(world).prepare(WAITING)
    lane.start_operator()
    lane.create(lane.manifest("run", "RestartAsNew", {"ids": ids}, limits={"operationsPerSecond": 20}))
    until(lambda: lane.script.count("restart") >= SIZE // 4, lambda: f"nothing began\n{lane.logs()}")
    proxy.faults.strike(outage.fault, outage.pattern)
    began = time.monotonic()
    for number, id_ in enumerate(others):
        lane.create(lane.manifest(f"other-{number}", "RestartAsNew", {"ids": [id_]}))
    time.sleep(began + END - time.monotonic())
    asked = proxy.faults.count(outage.pattern, since=began + BEGIN, until=began + END)
    kinds = Counter(it.what.split("/inv_")[0] for it in proxy.faults.asked if began + BEGIN <= it.at < began + END)
    problems = [f"{name}: {asked} requests in {END - BEGIN:.0f} s: {kinds}"] if asked > outage.most else []
    for told, by in ((outage.run_says, "run"), (outage.others_say, "other-0")):
        said = conditions(lane.get(by)).get("Reconciling", ("", ""))[1]
        if told and said != told:
            problems.append(f"{name}: {by} says {said!r}, not {told}")
    proxy.faults.calm()
    for by, some in [("run", ids), *((f"other-{number}", [id_]) for number, id_ in enumerate(others))]:
        lane.ended(by, timeout=120)
        problems += [f"{name}: {wrong}" for wrong in truth.told(lane, by, len(some))]
    return problems + [f"{name}: {wrong}" for wrong in truth.one_child_each(world.engine, ids + others)]
