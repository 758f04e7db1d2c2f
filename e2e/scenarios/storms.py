"""Storms: one run of an action through a fault of the network or of a server, and what was wrong at its end.

The table is here; the gate plays a part of it, `make chaos` all.
"""

import itertools
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from e2e.rig.faults import Fault
from e2e.scenarios import truth
from e2e.scenarios.cases import Case
from e2e.scenarios.lane import Lane

_numbers = itertools.count(1)

CALLS = r"^(PATCH|POST) (batch-)?(cancel|kill|pause|resume|purge|purge-journal|restart-as-new) "
"""Calls on invocations of the run; not those that ask whether the engine has read its log."""
QUERIES = r"^POST /query$"
RECORD_CREATED = r"^POST invocationrecords$"
RECORD_WRITTEN = r"^PUT invocationrecords/status$"
STATUS_WRITTEN = r"^PATCH invocationactions/status$"
CLUSTER_WRITES = (RECORD_CREATED, RECORD_WRITTEN, STATUS_WRITTEN)


@dataclass(frozen=True)
class Storm:
    """A fault, whom it strikes (`engine` or `cluster`), which requests and how many of each kind."""

    case: Case
    fault: Fault
    where: str = "engine"
    patterns: Sequence[str] = (CALLS,)
    count: int | None = 2
    share: float = 1.0
    size: int = 6
    spec: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        many = f"{self.count} of" if self.count else f"{self.share:.0%} of"
        return f"{self.case.action}: {self.fault.name} to {many} {self.where} requests {' '.join(self.patterns)}"


@dataclass
class Weathered:
    """What a storm showed."""

    storm: Storm
    struck: int = 0
    problems: list[str] = field(default_factory=list)


def weather(lane: Lane, storm: Storm) -> Weathered:
    """Run the action through the storm, wait for its end and look."""
    lane.revive()
    ids = storm.case.prepare(storm.size)
    name = f"storm-{storm.case.action.lower()}-{next(_numbers)}"
    proxy = lane.admin if storm.where == "engine" else lane.cluster
    seen = Weathered(storm)
    for pattern in storm.patterns:
        proxy.faults.strike(storm.fault, pattern, count=storm.count, share=storm.share, seed=name)
    try:
        lane.create(lane.manifest(name, storm.case.action, {"ids": ids}, **storm.case.spec, **storm.spec))
        # A plan needs some ten requests that are answered, and is tried again after a minute at most.
        lane.ended(name, timeout=900)
        seen.problems = truth.evidence(lane.engine, truth.told(lane, name, len(ids)) + storm.case.wrong(ids))
    except TimeoutError as error:
        seen.problems = [str(error)]
    seen.struck = len(proxy.faults.struck)
    proxy.faults.calm()
    if not seen.struck and storm.share == 1.0:
        # A share of a few requests may be none of them.
        seen.problems.append("nothing was struck")
    return seen


def weather_all(lanes: Sequence[Lane], storms: Sequence[Storm]) -> list[Weathered]:
    """Weather these on all lanes side by side."""
    waiting: queue.SimpleQueue[Storm] = queue.SimpleQueue()
    for storm in storms:
        waiting.put(storm)

    def work(lane: Lane) -> list[Weathered]:
        seen: list[Weathered] = []
        while True:
            try:
                storm = waiting.get_nowait()
            except queue.Empty:
                return seen
            seen.append(weather(lane, storm))

    with ThreadPoolExecutor(len(lanes)) as pool:
        return [one for some in pool.map(work, lanes) for one in some]


def wrongs(seen: Sequence[Weathered]) -> str:
    """What a test says when something was wrong; empty when nothing was."""
    bad = [f"{one.storm}: " + "\n".join(one.problems[:60]) for one in seen if one.problems]
    return f"{len(bad)} of {len(seen)} storms went wrong:\n" + "\n".join(bad) if bad else ""
