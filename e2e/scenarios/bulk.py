"""Bulk: hundreds or thousands of invocations in one run, while the operator is killed and the world moves on meanwhile.

Who the run is about, what others do to them meanwhile, and what the engine must show at the end is in `crowds`.
"""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from e2e.rig.faults import Fault
from e2e.rig.wire import NOBODY_THERE
from e2e.scenarios import truth
from e2e.scenarios.lane import TERMINAL, Lane, until
from e2e.scenarios.storms import CALLS, QUERIES
from e2e.scenarios.truth import Problems

VERBS = r"(?:restart-as-new|cancel|kill|purge|purge-journal|pause|resume)"


class Bulk(Protocol):
    """An action on many, and its truth. Rounds follow each other on one object."""

    @property
    def action(self) -> str: ...

    def prepare(self, size: int) -> dict[str, Any]:
        """Make `size` invocations that the action applies to; the target that selects them."""

    def meddle(self) -> None:
        """Do, again and again from the first call on, what others do meanwhile."""

    def wrong(self) -> Problems:
        """What is not as it should be after the action."""


@dataclass
class Round:
    """What a round was."""

    size: int
    kills: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    """Requests that met a fault."""
    seconds: float = 0.0
    problems: Problems = field(default_factory=list)


def play(lane: Lane, bulk: Bulk, name: str, size: int, kills: int, dice: random.Random, share: float = 0.0) -> Round:
    """Run the action, kill its operator that often at random instants, wait for the end and look.

    Each of all faults strikes that `share` of the calls and queries meanwhile.
    """
    target = bulk.prepare(size)
    lane.revive()
    lane.script.arm(0, None)
    for fault in Fault if share else ():
        lane.admin.faults.strike(fault, f"{CALLS}|{QUERIES}", share=share, seed=f"{dice.random()}")
    limits = {"maxTargets": 2 * size, "operationsPerSecond": max(50, size // 8)}
    started, seen = time.monotonic(), Round(size)
    lane.create(lane.manifest(name, bulk.action, target, limits=limits, verification={"timeout": "5m"}))
    with _meddling(lane, bulk):
        for moment in sorted(dice.randrange(size) for _ in range(kills)):
            until(
                lambda moment=moment: operations(lane) >= moment or _ended(lane, name),  # type: ignore[misc]
                lambda: f"{name} did not go on\n{lane.logs()}",
                timeout=180,
            )
            if _ended(lane, name):
                break
            time.sleep(dice.random() / 4)
            lane.operator.kill()
            seen.kills += 1
            lane.revive()
        lane.ended(name, timeout=300)
    seen.struck = Counter(what.split(" inv_")[0].split(" of ")[0] for what in lane.admin.faults.struck)
    lane.admin.faults.calm()
    seen.seconds = time.monotonic() - started
    seen.problems = truth.evidence(lane.engine, (truth.told(lane, name, size) + bulk.wrong())[:20])
    until(lambda: not lane.chunks(), lambda: f"{name} leaves its plan behind: {lane.chunks()}\n{lane.logs()}")
    return seen


def operations(lane: Lane) -> int:
    """How many operations were sent since the script was armed, singly or in batches."""
    found = (re.fullmatch(rf"PATCH {VERBS} \S+|POST batch-{VERBS} of (\d+)", w.what) for w in list(lane.script.writes))
    return sum(int(match[1] or 1) for match in found if match)


@contextmanager
def _meddling(lane: Lane, bulk: Bulk) -> Iterator[None]:
    """From the first call on the set is fixed; whatever is done from then on must change nothing about it."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.1):
            if operations(lane):
                with suppress(*NOBODY_THERE):
                    bulk.meddle()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ended(lane: Lane, name: str) -> bool:
    return lane.get(name).get("status", {}).get("phase") in TERMINAL
