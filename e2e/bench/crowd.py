"""Populations of thousands on the engine: made, counted and removed by the quickest means there are.

For measurements of many invocations; beside the code under test, which is not used here.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import eq

from e2e.bench.wire import Line
from e2e.rig import Engine

BATCH = 1000
PIECE = 1000
"""One-way calls that one handler makes."""
PART = 10_000
HOUR = 3600


@dataclass(frozen=True)
class Crowd:
    """Invocations of one service of ``e2e/services/bulk.py``."""

    engine: Engine
    service: str

    @classmethod
    def waiting(cls, engine: Engine, side: str, size: int) -> "Crowd":
        """Scheduled for later."""
        return cls(engine, f"Waits{side}")._fill(size, "scheduled", delay=HOUR)

    @classmethod
    def failing(cls, engine: Engine, side: str, size: int) -> "Crowd":
        """Backing off for an hour."""
        return cls(engine, f"Fails{side}")._fill(size, "backing-off")

    @classmethod
    def paused(cls, engine: Engine, side: str, size: int) -> "Crowd":
        """Paused while they backed off."""
        crowd = cls.failing(engine, side, size)
        operate(engine.admin_url, "pause", crowd.ids())
        crowd.wait(lambda counts: counts == {"paused": size})
        return crowd

    @classmethod
    def completed(cls, engine: Engine, side: str, size: int) -> "Crowd":
        """Ended well."""
        return cls(engine, f"Ends{side}")._fill(size, "completed")

    @classmethod
    def killed(cls, engine: Engine, side: str, size: int) -> "Crowd":
        """Ended by a kill: the quickest to be had, of a service that does not answer.

        A part at a time: the engine takes no more calls when some ten thousand back off at once.
        """
        crowd = cls(engine, f"Fails{side}")
        for start in range(0, size, PART):
            there = min(start + PART, size)
            crowd._send(there - start)
            crowd.wait(partial(_sums_to, there))
            operate(engine.admin_url, "kill", crowd.ids("completed_at is null"), at_once=2)
            crowd.wait(partial(eq, {"completed": there}))
        return crowd

    def counts(self) -> dict[str, int]:
        """By status."""
        rows = self.engine.sql(
            f"select status, count(*) as count from sys_invocation where target_service_name = '{self.service}' "
            "group by status"
        )
        return {row["status"]: row["count"] for row in rows}

    def ids(self, which: str = "true") -> list[str]:
        """Of those that meet the SQL condition ``which``."""
        rows = self.engine.sql(
            f"select id from sys_invocation where target_service_name = '{self.service}' and ({which})"
        )
        return [row["id"] for row in rows]

    def wait(self, wanted: Callable[[dict[str, int]], bool], *, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while not wanted(counted := self.counts()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.service} has {counted} after {timeout:.0f} s")
            time.sleep(0.1)

    def remove(self) -> None:
        """Kill what lives, purge what does not."""
        while counted := self.counts():
            ids = self.ids()
            if set(counted) - {"completed"}:
                operate(self.engine.admin_url, "kill", ids)
            operate(self.engine.admin_url, "purge", ids)

    def _fill(self, size: int, status: str, *, delay: int = 0) -> "Crowd":
        self._send(size, delay)
        self.wait(lambda counts: counts == {status: size}, timeout=60 + size / 100)
        return self

    def _send(self, size: int, delay: int = 0) -> None:
        pieces = [min(PIECE, size - start) for start in range(0, size, PIECE)]

        def send(count: int) -> None:
            body = {"service": self.service, "count": count, "delay": delay}
            self.engine.call("Bulk", "fill", body, timeout=300).expect()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, pieces))


def _sums_to(size: int, counts: dict[str, int]) -> bool:
    return sum(counts.values()) == size


def batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def operate(admin_url: str, operation: str, ids: Sequence[str], *, at_once: int = 1) -> None:
    """The bare loop: batches one after the other on each of ``at_once`` connections that stay open."""
    bodies = [json.dumps({"invocation_ids": list(some)}).encode() for some in batches(ids)]

    def work(mine: Sequence[bytes]) -> None:
        line = Line(admin_url)
        for body in mine:
            line.request("POST", f"/internal/invocations_batch_operations/{operation}", body)
        line.close()

    if at_once == 1:
        return work(bodies)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(work, [bodies[number::at_once] for number in range(at_once)]))
    return None
