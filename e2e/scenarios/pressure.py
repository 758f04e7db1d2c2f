"""How often a server in trouble is asked: by a run in flight, by actions that wait, and by the operator's own looks.

Counted at the proxies. A bound on a number of requests is safe on a slow machine: that makes them fewer.
"""

import time
from collections import Counter
from dataclasses import dataclass

from e2e.rig.faults import Fault
from e2e.scenarios import truth
from e2e.scenarios.cases import RestartAsNew, World
from e2e.scenarios.lane import Lane, Object, until
from e2e.scenarios.storms import CALLS

OPTIONS = ("--call-timeout-seconds", "1", "--batch-endpoints", "false")
"""Who loses its hold begins anew and has not met the outage yet; so the lease is the usual one, which a machine that is
busy with other things does not break.
"""
SIZE = 60
WAITING = 10


@dataclass(frozen=True)
class Outage:
    fault: Fault
    where: str
    pattern: str
    most: int
    """Requests in the second half: what was under way is over by then."""
    run_says: str = ""
    others_say: str = ""


TABLE = {
    "an engine whose connections break": Outage(Fault.RESET, "engine", "", 30, "Unreachable", "Unreachable"),
    "an engine that is unavailable": Outage(Fault.UNAVAILABLE, "engine", "", 30, "Unreachable", "Unreachable"),
    # Each request that is under way occupies its asker until it is given up.
    "an engine that says nothing": Outage(Fault.STALL, "engine", "", 30, "Unreachable", "Unreachable"),
    # Each of the runs tries by itself. Looks go on, and what asks whether the engine has read its log is no such call.
    "an engine that takes no calls": Outage(Fault.TOO_MANY, "engine", CALLS, 30, "Throttled"),
    # kopf's two watches and the lease of each run are tried too.
    "an API server that is unavailable": Outage(Fault.UNAVAILABLE, "cluster", "", 80),
    "an API server that says nothing": Outage(Fault.STALL, "cluster", "", 80),
}


def endure(lane: Lane, name: str, world: World, seconds: float) -> list[str]:
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
    middle, end = began + seconds / 2, began + seconds
    time.sleep(end - time.monotonic())
    asked = proxy.faults.count(outage.pattern, since=middle, until=end)
    kinds = Counter(it.what.split("/inv_")[0] for it in proxy.faults.asked if middle <= it.at < end)
    problems = [f"{name}: {asked} requests in {seconds / 2:.0f} s: {kinds}"] if asked > outage.most else []
    for told, by in ((outage.run_says, "run"), (outage.others_say, "other-0")):
        said = _waits_for(lane.get(by))
        if told and said != told:
            problems.append(f"{name}: {by} says {said!r}, not {told}")
    print(f"{name}: {asked} requests in the second half of {seconds:.0f} s")
    proxy.faults.calm()
    for by, some in [("run", ids), *((f"other-{number}", [id_]) for number, id_ in enumerate(others))]:
        lane.ended(by, timeout=120)
        problems += [f"{name}: {wrong}" for wrong in truth.told(lane, by, len(some))]
    return problems + [f"{name}: {wrong}" for wrong in truth.one_child_each(world.engine, ids + others)]


def _waits_for(action: Object) -> str:
    found = [c["reason"] for c in action["status"].get("conditions", ()) if c["type"] == "Reconciling"]
    return str(found[0]) if found else ""
