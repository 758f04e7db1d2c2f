"""The executor: carries out a fixed set with write-ahead intent, within limits, and verifies what it did.

It takes a *run* (a set, an operation, limits, where intent is kept, where progress goes), not a resource, so that every
kind that acts on invocations uses the same one. What it guarantees:

* an invocation is asked only after its intent was written, and its row was read: one that was born again under the
  same id is left alone;
* what was intended and has no outcome after a crash is treated as *answer lost*: it is looked at, and asked again only
  when the operation says that this is safe;
* a stop takes effect between two operations, except that what must not be left half done is finished.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from invocation_operator.api.v1alpha1.action import Outcome, Result
from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient, Op
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.base import Ask, Decision, Item, Operation, Refused, Seen, Settled
from invocation_operator.plan.report import Findings
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.budget import HELPING, Lane
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.look import Looker, Question
from invocation_operator.reconcile.outage import Outage
from invocation_operator.reconcile.runclock import RunClock

FIRST_LOOK_SECONDS = 0.008
LOOK_GROWTH = 1.6
LOOK_LIMIT_SECONDS = 2.0
LOOK_BATCH = 500
TICK_SECONDS = 0.25
"""How often a run that has nothing due looks at its stops; changes of the object ring at once."""
FINISH_SECONDS = 60.0
"""How long what must not be left half done may take after a stop."""

BAD = frozenset({Outcome.FAILED, Outcome.AMBIGUOUS, Outcome.UNVERIFIED, Outcome.NO_OP})
"""Outcomes that count against ``maxFailures``."""


class Intent(Protocol):
    """Where intent and outcomes are kept."""

    async def commit(self) -> None:
        """Keep the run's ledger durably before returning; repeats until the keeper answers. Raises ``HoldLost``."""


@dataclass(slots=True)
class Run:
    """What is carried out.

    ``committed`` tells how many targets, from the first, have an intent that is kept already. ``recovered`` is set
    when another operator, or an earlier life of this one, began the run: its open intents are then lost answers.
    """

    operation: Operation
    targets: Sequence[Planned]
    ledger: Ledger
    findings: Findings
    committed: int = 0
    recovered: bool = False
    max_failures: int | None = None


@dataclass(slots=True)
class _Flight:
    """An item between intent and outcome, and when to look at it next."""

    item: Item
    due: float = 0.0
    pace: float = FIRST_LOOK_SECONDS
    busy: bool = False
    queued: bool = True
    """Whether its turn to be asked for the first time has not come yet."""


@dataclass(slots=True)
class Executor:
    """Carries out one run; use each once."""

    run: Run
    client: EngineClient
    looker: Looker
    intent: Intent
    lane: Lane
    control: Control
    clock: RunClock
    confirm_engine: Callable[[], Awaitable[None]]
    """Asked before "it is gone" is believed: another cluster knows none of the invocations. Sets the stop."""
    outage: Outage = field(default_factory=Outage)
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    _flights: dict[int, _Flight] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: BaseException | None = None
    _bad: int = 0

    async def execute(self) -> Stop | None:
        """Work until every planned invocation has an outcome, or until a stop that does not pass.

        Returns that stop, or None when all is settled. Raises ``HoldLost``.
        """
        feeder = asyncio.create_task(self._feed())
        ringer = asyncio.create_task(self._ring())
        try:
            stop = await self._pump(feeder)
            settled = self.run.ledger.settled == len(self.run.targets)
            if stop is None and not settled:
                raise AssertionError("a run must not end while planned invocations have no outcome")
            return None if settled and stop is not Stop.TIMED_OUT else stop
        finally:
            await _cancel([feeder, ringer, *self._tasks])
            self.lane.close()

    # Feeding: permits, intent, and then into flight.

    async def _feed(self) -> None:
        run = self.run
        if run.recovered:
            self._take_limits()
            for index in run.ledger.intended():
                await self.lane.acquire(1)
                self._launch(index, lost=True)
        cursor = run.ledger.next_untouched(0)
        while cursor < len(run.targets):
            granted = await self.lane.acquire(await self._room(len(run.targets) - cursor))
            last = cursor + run.ledger.untouched_run(cursor, granted)
            self.lane.release(granted - (last - cursor))
            run.ledger.intend(cursor, last)
            if last > run.committed:
                await self.intent.commit()
            for index in range(cursor, last):
                self._launch(index, lost=False)
            cursor = run.ledger.next_untouched(last)

    def _launch(self, index: int, *, lost: bool) -> None:
        now = self.clock.now()
        # A lost call was intended at some time after the run's start, and may have been sent until a moment ago: the
        # earliest time finds its traces, the latest one lets it arrive.
        intended = self.clock.engine_time(0.0 if lost else now)
        item = Item(index, self.run.targets[index], intended_time=intended, lost=lost)
        item.first_asked_at = item.asked_at = now
        self._flights[index] = _Flight(item)
        self._wake.set()

    async def _room(self, most: int) -> int:
        """Wait until this run may have more in flight, and return how many."""
        while True:
            self._take_limits()
            # No more than a second's worth of operations queue for their tokens: a stop must not wait behind more. They
            # are refilled by halves, so that intent is not kept for each one alone.
            queued, rate = sum(flight.queued for flight in self._flights.values()), self.lane.per_second()
            room = min(self.lane.room(), rate - queued, HELPING, most)
            if room > 0 and queued * 2 <= rate and self.control.stop() is None and self.outage.message is None:
                return room
            self._freed.clear()
            with suppress(TimeoutError):
                # Not ``wait_for``: before Python 3.12 it forgets a cancellation that comes together with the event.
                async with asyncio.timeout(TICK_SECONDS):
                    await self._freed.wait()

    def _take_limits(self) -> None:
        """A person may change them in mid-run."""
        self.lane.max_in_flight = self.control.limit("maxInFlight")
        self.lane.rate = self.control.limit("operationsPerSecond")

    # Pumping: look at what is due, decide, ask.

    async def _ring(self) -> None:
        with self.control.cell.bell() as bell:
            while True:
                bell.clear()
                await bell.wait(None)
                self._wake.set()
                self._freed.set()

    async def _pump(self, feeder: asyncio.Task[None]) -> Stop | None:
        stopped_at: float | None = None
        while True:
            self._wake.clear()
            stop = self.control.stop()
            now = self.clock.now()
            if self._failure is not None:
                raise self._failure
            if feeder.done() and not feeder.cancelled():
                feeder.result()
            if stop is not None and not stop.passes:
                feeder.cancel()
                self._drop_unasked()
                stopped_at = now if stopped_at is None else stopped_at
                if self._wound_down(stop, now - stopped_at):
                    await self._last_look(stop)
                    return stop
            elif feeder.done() and not self._flights:
                return None
            self._dispatch(now)
            await self._pause(now)

    def _drop_unasked(self) -> None:
        """Nothing was sent for these, and nothing will be."""
        for index, flight in list(self._flights.items()):
            if not flight.busy and not flight.item.asks and not flight.item.lost:
                self.run.ledger.release(index)
                self._land(index)

    def _wound_down(self, stop: Stop, since: float) -> bool:
        if any(flight.busy for flight in self._flights.values()):
            return False
        if stop is Stop.TOO_MANY_FAILURES:
            return not self._flights
        unfinished = any(self.run.operation.inseparable(f.item) for f in self._flights.values())
        return not unfinished or stop is Stop.HOLD_LOST or since >= FINISH_SECONDS

    async def _last_look(self, stop: Stop) -> None:
        """What was asked is looked at once more; what shows no effect then is not verified, and said to be so."""
        if stop in (Stop.SHUTDOWN, Stop.HOLD_LOST) or not self._flights:
            return
        left = list(self._flights.values())
        for start in range(0, len(left), LOOK_BATCH):
            await self._handle(left[start : start + LOOK_BATCH], asking=False)
        for flight in list(self._flights.values()):
            self._settle(flight, Settled(Outcome.UNVERIFIED, stop.value))

    def _dispatch(self, now: float) -> None:
        if now < self.outage.until:
            return
        due = [f for f in self._flights.values() if not f.busy and f.due <= now]
        for start in range(0, len(due), LOOK_BATCH):
            batch = due[start : start + LOOK_BATCH]
            for flight in batch:
                flight.busy = True
            task = asyncio.create_task(self._handle(batch))
            self._tasks.add(task)
            task.add_done_callback(self._handled)

    def _handled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A mistake in a decision must not hang the run: it surfaces where the run is awaited.
            self._failure = task.exception()
        self._wake.set()

    async def _pause(self, now: float) -> None:
        waits = [max(f.due, self.outage.until) for f in self._flights.values() if not f.busy]
        delay = min([TICK_SECONDS, *(due - now for due in waits)])
        with suppress(TimeoutError):
            async with asyncio.timeout(max(delay, 0.001)):
                await self._wake.wait()

    async def _handle(self, batch: Sequence[_Flight], *, asking: bool = True) -> None:
        try:
            seen = await self.looker.look([self._question(f.item) for f in batch])
            if any(view.row is None for view in seen):
                await self.confirm_engine()
                if self.control.final is Stop.ENGINE_CHANGED:
                    seen = []
        except errors.EngineError as error:
            self.outage.failed(error, self.clock.now())
            seen = []
        else:
            self.outage.over()
        asks: list[tuple[_Flight, Ask, Seen]] = []
        for flight, view in zip(batch, seen, strict=False):
            decision = self._decide(flight.item, view)
            if isinstance(decision, Settled):
                self._settle(flight, decision)
            elif isinstance(decision, Ask) and asking:
                asks.append((flight, decision, view))
            else:
                self._later(flight)
        await asyncio.gather(*(self._ask(flight, ask, view) for flight, ask, view in asks))
        for flight in batch:
            flight.busy = False

    def _question(self, item: Item) -> Question:
        operation = self.run.operation
        fresh = not item.asks and not item.lost
        return Question(item.planned, operation.begin_evidence if fresh else operation.evidence(item), item.new_id)

    def _decide(self, item: Item, seen: Seen) -> Decision:
        if item.asks or item.lost:
            return self.run.operation.judge(item, seen, self.clock.now())
        return self.run.operation.begin(item.planned, seen)

    async def _ask(self, flight: _Flight, ask: Ask, seen: Seen) -> None:
        item = flight.item
        if not self._may_ask(item):
            return self._later(flight)
        await self.lane.token()
        flight.queued = False
        async with self.connections:
            if not self._may_ask(item):
                return self._later(flight)
            asked_before = (item.asks, item.asked_at, item.first_asked_at, item.last, item.before)
            item.asked_at = self.clock.now()
            if not item.asks and not item.lost:
                item.first_asked_at = item.asked_at
            item.asks += 1
            item.last = ask
            item.before = seen
            try:
                answer = await self.client.operate(
                    Op(ask.verb.value), item.planned.id, deployment=ask.deployment, from_entry=ask.from_entry
                )
            except errors.Throttled as error:
                item.asks, item.asked_at, item.first_asked_at, item.last, item.before = asked_before
                self.outage.failed(error, self.clock.now())
            except errors.Rejected as error:
                item.lost = False
                decision = await self._refused(item, ask, error)
                if decision is not None:
                    return self._settle(flight, decision)
            except errors.EngineError as error:
                if error.may_have_acted:
                    item.lost = True
                else:
                    item.asks, item.asked_at, item.first_asked_at, item.last, item.before = asked_before
                    self.outage.failed(error, self.clock.now())
            else:
                item.lost = False
                item.done.append(ask.verb)
                item.new_id = answer.new_id or item.new_id
                flight.pace = FIRST_LOOK_SECONDS
        return self._later(flight)

    async def _refused(self, item: Item, ask: Ask, error: errors.Rejected) -> Settled | None:
        if isinstance(error, errors.NotFound):
            with suppress(errors.EngineError):
                await self.confirm_engine()
            if self.control.final is Stop.ENGINE_CHANGED:
                return None
        return self.run.operation.refused(item, ask, Refused(error.status, error.message))

    def _may_ask(self, item: Item) -> bool:
        stop = self.control.stop()
        if stop is None:
            return self.outage.message is None
        return stop is not Stop.HOLD_LOST and self.run.operation.inseparable(item)

    def _later(self, flight: _Flight) -> None:
        flight.queued = False
        flight.due = self.clock.now() + flight.pace
        flight.pace = min(flight.pace * LOOK_GROWTH, LOOK_LIMIT_SECONDS)

    def _settle(self, flight: _Flight, settled: Settled) -> None:
        item = flight.item
        self.run.ledger.settle(item.index, settled.outcome)
        self.run.findings.add(
            item.index,
            Result(
                id=item.planned.id,
                target=item.planned.label,
                outcome=settled.outcome,
                reason=settled.reason,
                new_id=settled.new_id,
                error=settled.error[:256] if settled.error else None,
            ),
        )
        self._land(item.index)
        if settled.outcome in BAD:
            self._bad += 1
            if self.run.max_failures is not None and self._bad > self.run.max_failures:
                self.control.final = self.control.final or Stop.TOO_MANY_FAILURES

    def _land(self, index: int) -> None:
        del self._flights[index]
        self.lane.release()
        self._wake.set()
        self._freed.set()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in (listed := list(tasks)):
        task.cancel()
    await asyncio.gather(*listed, return_exceptions=True)
