"""Looking at what is in flight, and looking again at what must not be believed at once.

Part of the executor. Two things look like an effect and may be none: another cluster behind the engine's address knows
none of the invocations, and an engine that was restarted shows none of them before it has read its log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.replay import require_caught_up
from invocation_operator.plan.operation.base import Child, Evidence, Item, Operation, Seen
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.dispatch import LOOK_BATCH
from invocation_operator.reconcile.flight import Batches, Flight, cancel_all
from invocation_operator.reconcile.look import Looker, Question
from invocation_operator.reconcile.outage import Outage
from invocation_operator.reconcile.runclock import RunClock

VOUCHED_SECONDS = 0.1
"""How long after a call was sent its answer vouches for what the rows show.

Longer than most effects take (20 ms), and too short for an engine to go away, come back and answer queries with an
unread log: 0.4 s were seen, and in half a second it passed for gone what was cancelled.
"""

LAST_LOOK_SECONDS = 10.0
"""How long it is tried to look at what was asked once more when a run is stopped: one bad answer must not leave all of
it unverified."""


@dataclass(slots=True)
class Scrutiny:
    """Looks for one run."""

    client: EngineClient
    looker: Looker
    operation: Operation
    control: Control
    clock: RunClock
    outage: Outage
    batches: Batches
    confirm_engine: Callable[[], Awaitable[None]]
    """Asked before "it is gone" is believed. Sets the stop when another cluster answers."""
    plan_is_new: Callable[[], bool] = lambda: False
    """Whether the plan's own query was so short a time ago that it counts as a look."""
    _looking: set[asyncio.Task[None]] = field(default_factory=set)
    _absent: bool = False
    """Whether invocations turned out to be gone: then that is what to expect of others."""

    async def look(self, flights: Sequence[Flight]) -> tuple[float, list[Seen | None]]:
        """Return when the engine told it, and what is seen, None for what cannot be read.

        Raises the engine client's errors.
        """
        task = asyncio.current_task()
        assert task is not None
        self._looking.add(task)
        try:
            return await self._look(flights)
        finally:
            self._looking.discard(task)

    async def give_up(self) -> None:
        """Cut off those who look: nobody is to act on what they see, and one that stalls may take half a minute.

        Who sends calls is no more among them. Until these are answered, what they claim must not be asked by others.
        """
        await cancel_all(self._looking)

    async def insist(self, flights: Sequence[Flight], handle: Callable[[Sequence[Flight]], Awaitable[None]]) -> None:
        """Have ``handle`` look at ``flights``, and for a while again at those of which the engine has not told. Nobody
        looks any more once the hold is lost.
        """
        until = self.clock.now() + LAST_LOOK_SECONDS
        left = list(flights)
        while left:
            untold: list[Flight] = []
            for start in range(0, len(left), LOOK_BATCH):
                if self.control.stop() is Stop.HOLD_LOST:
                    return
                some = left[start : start + LOOK_BATCH]
                for flight in some:
                    flight.busy = True
                await handle(some)
                if self.outage.blind:
                    untold += some
            pause = max(0.0, self.outage.until - self.clock.now())
            if not untold or self.clock.now() + pause >= until:
                return
            await asyncio.sleep(pause)
            left = untold

    async def _look(self, flights: Sequence[Flight]) -> tuple[float, list[Seen | None]]:
        """Look, and look again at what must not be believed at once: absence, and a lost call that left no trace.

        Another cluster knows none of the invocations, and one that was restarted none before it has read its log.
        """
        # First: another look's question may have to be waited for, and what is seen must not grow old meanwhile.
        foreseen = await self._foreseen(flights)
        if self.operation.begins_by_plan and self.plan_is_new() and all(flight.fresh for flight in flights):
            planned = [flight.item.planned for flight in flights]
            # The run's clock begins with its plan.
            planned_at = self.clock.now() - self.clock.at_most()
            return planned_at, [*await self.looker.as_planned(planned, self.operation.begin_evidence, foreseen)]
        lost = [n for n, f in enumerate(flights) if f.item.lost]
        asked = [n for n, f in enumerate(flights) if f.item.asks and not f.item.lost]
        known = self._absent and not lost and not all(self._vouched(flights[n].item) for n in asked)
        if known:
            # It will turn out that they are gone: ask the partitions before the look, so that one is enough.
            await self._require_caught_up(flights)
        seen: list[Seen | None] = [*await self.looker.look([self._question(flight) for flight in flights], foreseen)]
        told_at = self.clock.now()
        missed = {n for n, view in enumerate(seen) if view is not None and view.row is None}
        if missed:
            self._absent = True
            await self.confirm_engine()
            if self.control.final is Stop.ENGINE_CHANGED:
                return told_at, []
        if known:
            return told_at, seen
        doubtful = [*lost, *(n for n in missed if not flights[n].item.lost and not self._vouched(flights[n].item))]
        if doubtful:
            await self._require_caught_up([flights[n] for n in doubtful])
            again = await self.looker.look([self._question(flights[n]) for n in doubtful])
            for n, view in zip(doubtful, again, strict=True):
                seen[n] = view
        for n in lost:
            view = seen[n]
            flights[n].item.traced |= view is not None and flights[n].item.signalled(view)
        return told_at, seen

    async def _foreseen(self, flights: Sequence[Flight]) -> Mapping[str, list[Child]]:
        if Evidence.CHILDREN not in self.operation.begin_evidence:
            return {}
        return await self.looker.children([flight.item.planned.id for flight in flights if flight.fresh])

    async def _require_caught_up(self, flights: Sequence[Flight]) -> None:
        ids = [flight.item.planned.id for flight in flights]
        await require_caught_up(self.client, ids, batches=self.batches.usable)

    def _vouched(self, item: Item) -> bool:
        """The partition's leader took a call on this very invocation a moment ago, and nothing failed since."""
        return item.vouched_at > max(self.outage.last, self.clock.now() - VOUCHED_SECONDS)

    def _question(self, flight: Flight) -> Question:
        operation, item, first = self.operation, flight.item, flight.fresh
        evidence = operation.begin_evidence if first else operation.evidence(item)
        if not item.asks:
            evidence |= operation.begin_evidence
        return Question(item.planned, evidence, item.new_id, first=first)
