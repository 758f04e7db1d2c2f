"""What a process does while it leads, and only then: the work itself, expiry and the closing of orphaned records.

One that stands by watches all the same: its workbenches hold what there is to do, so that it begins at once. It neither
probes engines nor writes anything. One that loses the lead is cut off, and stands by again; its watches go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from invocation_operator.cluster.election import Elector
from invocation_operator.observe import metrics
from invocation_operator.observe import retention as retention_metrics
from invocation_operator.reconcile.workbench import Workbench

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Duty:
    """Begins and ends the work as this process begins and ceases to lead. Without an ``elector`` it always leads."""

    elector: Elector | None
    benches: Sequence[Workbench]
    chores: Sequence[Callable[[], Awaitable[None]]]
    """What runs in the background until it is cancelled."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the watches run: whoever does not see yet what there is to do must not lead."""
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _election: asyncio.Task[None] | None = None
    _working: bool = False
    _stopping: bool = False

    @property
    def certain(self) -> bool:
        """Whether this process may act now: nobody else leads, or can."""
        return self.elector is None or self.elector.certain

    @property
    def able(self) -> bool:
        """Whether it leads, or could within the time of a lease."""
        return self.elector is None or self.elector.in_touch

    async def run(self) -> None:
        """Take part in the election, and work while this process leads, until cancelled."""
        elector = self.elector
        if elector is None:
            self._begin()
            return
        await self.opened.wait()
        self._election = asyncio.create_task(elector.run())
        while True:
            await elector.turned.wait()
            elector.turned.clear()
            if self._stopping:
                continue
            if elector.leading and not self._working:
                self._begin()
            elif self._working and not elector.leading:
                await self._end()
            elif elector.certain:
                # What was withheld meanwhile waits to be tried again.
                for bench in self.benches:
                    bench.ring_all()

    async def stop(self) -> None:
        """End the chores and begin nothing any more. What is under way may be finished until ``give_back``."""
        self._stopping = True
        await _cancel(self._running)

    async def give_back(self) -> None:
        """Let another one lead, when nothing is being done any more."""
        metrics.LEADER.set(0)
        if self._election is not None and self.elector is not None:
            await _cancel([self._election])
            await self.elector.release()

    def _begin(self) -> None:
        self._working = True
        metrics.LEADER.set(1)
        for bench in self.benches:
            bench.begin()
        self._running = [asyncio.create_task(_run(chore)) for chore in self.chores]

    async def _end(self) -> None:
        log.warning("another one leads: standing by")
        self._working = False
        metrics.LEADER.set(0)
        await _cancel(self._running)
        await asyncio.gather(*(bench.rest() for bench in self.benches))
        metrics.forget_engines()
        retention_metrics.forget_policies()


async def _run(chore: Callable[[], Awaitable[None]]) -> None:
    await chore()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
