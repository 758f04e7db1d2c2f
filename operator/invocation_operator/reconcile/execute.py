"""The executor: carries out a fixed set with write-ahead intent, within limits, and verifies what it did.

It takes a *run* (a set, an operation, limits, where intent is kept, where progress goes), not a resource, so that every
kind that acts on invocations uses the same one. What it guarantees:

* an invocation is asked only after its intent was written, and its row was read (by the plan's own query, if that was a
  moment ago): one that was born again under the same id is left alone;
* what was intended and has no outcome after a crash is treated as *answer lost*: it is looked at, and asked again only
  when the operation says that this is safe;
* a stop takes effect between two operations, except that what must not be left half done is finished.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.plan.ledger import BAD
from invocation_operator.plan.operation.base import Ask, Item, Seen, Settled
from invocation_operator.reconcile.budget import TURN_SECONDS, Lane
from invocation_operator.reconcile.claims import Claims
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.decide import Decider
from invocation_operator.reconcile.dispatch import LOOK_BATCH, TICK_SECONDS, Dispatcher
from invocation_operator.reconcile.flight import CURRENT_SECONDS, Batches, Call, Flight, Flights, cancel_all, never_sent
from invocation_operator.reconcile.look import Looker
from invocation_operator.reconcile.outage import Outage
from invocation_operator.reconcile.run import Intent, Run
from invocation_operator.reconcile.runclock import RunClock
from invocation_operator.reconcile.scrutiny import Scrutiny
from invocation_operator.reconcile.send import Sender
from invocation_operator.reconcile.soak import Looks, Soak

DECIDED_AT_ONCE = 200
"""Decisions without giving way to anything else."""
HELPING_SECONDS = 0.02
FINISH_SECONDS = 60.0
"""How long what must not be left half done may take after a stop."""


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
    looks: Looks | None = None
    """How invocations are after a wave; needed by a run that has waves."""
    outage: Outage = field(default_factory=Outage)
    batches: Batches = field(default_factory=lambda: Batches(usable=False))
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    claims: Claims = field(default_factory=lambda: Claims(time.monotonic))
    """See ``Decider``."""
    sender: Sender = field(init=False)
    scrutiny: Scrutiny = field(init=False)
    decider: Decider = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    _flights: Flights = field(default_factory=Flights)
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _soak: Soak | None = None
    _earlier: frozenset[int] = frozenset()
    """Open intents of an earlier life."""
    _launching: int | None = None
    """The first of those that are intended and not in flight yet."""
    _held_up: bool = False

    def __post_init__(self) -> None:
        self.scrutiny = Scrutiny(
            client=self.client,
            looker=self.looker,
            operation=self.run.operation,
            control=self.control,
            clock=self.clock,
            outage=self.outage,
            batches=self.batches,
            confirm_engine=self.confirm_engine,
            plan_is_new=self._plan_is_new,
        )
        self.sender = Sender(
            client=self.client,
            operation=self.run.operation,
            lane=self.lane,
            connections=self.connections,
            batches=self.batches,
            control=self.control,
            clock=self.clock,
            outage=self.outage,
            confirm_engine=self.confirm_engine,
            allowed=self._allowed,
            turn_came=self._flights.turn_came,
            settle=self._settle,
        )
        self.decider = Decider(self.run.operation, self.claims)
        self.dispatcher = Dispatcher(self._handle, self.batches, self._starved, self.lane.free)
        if (waves := self.run.waves) is not None:
            if self.looks is None:
                raise ValueError("a run in waves needs somebody who looks after each of them")
            between = (self.intent, self.lane, self.control, self.clock, self.outage)
            self._soak = Soak(self.run, waves, self.looks, *between)

    async def execute(self) -> Stop | None:
        """Work until every planned invocation has an outcome, or until a stop that does not pass.

        Returns that stop, or None when all is settled, and well where it is looked at. Raises ``HoldLost``.
        """
        if self.run.recovered:
            # Now, and not when they are fed: a stop may come before that, and must not take them for untouched.
            self._earlier = frozenset(self.run.ledger.intended())
            self._launching = 0
            # It may have been over, and its holder gone while it waited for the last outcomes.
            self._heed_failures()
        feeder = asyncio.create_task(self._feed())
        feeder.add_done_callback(lambda _: self.dispatcher.ring())
        ringer = asyncio.create_task(self._ring())
        try:
            stop = await self._pump(feeder)
            if stop is None and not self.run.complete:
                raise AssertionError("a run must not end while planned invocations have no outcome")
            told = stop in (Stop.TIMED_OUT, Stop.ENGINE_CHANGED) or (
                stop is Stop.GUARDRAIL_TIGHTENED and self.run.ledger.bad > 0
            )
            return None if self.run.complete and not told else stop
        finally:
            await cancel_all([feeder, ringer, *self.dispatcher.tasks])
            for flight in self._flights:
                self.decider.let_go(flight.item, None, self.clock.now())
            self.lane.close()

    @property
    def all_asked(self) -> bool:
        """Whether nothing is left to be asked for the first time."""
        return not self.run.ledger.untouched and not any(flight.fresh for flight in self._flights)

    def note_asked(self) -> None:
        """Take in since when what is in flight was asked; called before each write of the record."""
        self.run.note_asked((flight.item for flight in self._flights), self._launching, self.clock.now())

    def upcoming(self) -> Iterator[str]:
        """Yield the ids of those whose turn to be asked may come within a second."""
        most = self.lane.per_second()
        for flight in self._flights:
            if flight.fresh:
                most -= 1
                yield flight.item.planned.id
        first = self.run.ledger.next_untouched(0) if self._launching is None else self._launching
        for index in range(first, min(first + most, self.run.reach)):
            yield self.run.targets[index].id

    @property
    def _more_to_ask(self) -> bool:
        """Whether invocations are left that may be asked now and have not come into flight."""
        return self.run.ledger.next_untouched(0) < self.run.reach

    def _starved(self) -> bool:
        return not self._more_to_ask or self.lane.slack() < LOOK_BATCH

    def _plan_is_new(self) -> bool:
        """Whether the plan's own query counts as a look: the run's clock began before it."""
        # Not of an earlier life; not once the run was held up: by then people may have done things; and not in an
        # outage, where a look shows whether it is over.
        relied_on = not (self.run.recovered or self._held_up or self.outage.error)
        return relied_on and self.clock.at_most() + self.turn() < CURRENT_SECONDS

    def turn(self) -> float:
        """Return in how many seconds the turn comes of what is decided now, at most."""
        return min(TURN_SECONDS, self._flights.queued * TURN_SECONDS / self.lane.queue())

    # Feeding: permits, intent, and then into flight.

    async def _feed(self) -> None:
        run = self.run
        if run.recovered:
            for index in sorted(self._earlier):
                await self.lane.acquire(1)
                self._launch([run.lost(index, self.clock)])
            self._launching = None
        while not run.complete and self.control.final is None:
            if self._more_to_ask:
                await self._feed_some()
            elif self._soak is not None and not self._flights:
                await self._soak.after_wave()
            else:
                # Some of them may yet become untouched again, when a suspend meets them before they were asked.
                await self._wait_for_room()

    async def _feed_some(self) -> None:
        run = self.run
        beyond = len(run.targets) - run.reach
        granted = await self.lane.acquire(await self._room(run.ledger.untouched - beyond))
        first = run.ledger.next_untouched(0)
        last = first + run.ledger.untouched_run(first, min(granted, run.reach - first))
        self.lane.release(granted - (last - first))
        self._launching = first
        run.ledger.intend(first, last)
        if not self.intent.covers(last):
            await self.intent.commit()
        while (end := min(first + LOOK_BATCH, last)) < last:
            self._launch(run.fresh(first, end, self.clock))
            self._launching = first = end
            # A full batch is there: it can be on its way while the next ones come into flight.
            await asyncio.sleep(0)
        self._launch(run.fresh(first, last, self.clock))
        self._launching = None

    def _launch(self, items: Sequence[Item]) -> None:
        flights = [Flight(item) for item in items]
        self._flights.launch(flights)
        self.dispatcher.put(flights)
        self.dispatcher.ring()

    async def _room(self, most: int) -> int:
        """Wait until this run may have more in flight, and return how many."""
        waited = False
        while True:
            self._take_limits()
            # The queue is refilled by halves, so that intent is not kept for each one alone.
            queued, queue = self._flights.queued, self.lane.queue()
            helping = self.lane.helping()
            room = min(self.lane.room(), queue - queued, helping, most)
            if (trial := self.outage.room(self.clock.now())) is not None:
                # Nothing more than the one call that shows whether it is over; where nothing is in flight that could be
                # looked at (a suspend has dropped it), one is let in, or nobody would ever learn that it is.
                alone = not self._flights and self.clock.now() >= self.outage.until
                room = min(room, max(trial - queued, int(alone)))
            if room > 0 and queued * 2 <= queue and self.control.stop() is None:
                full = min(most, helping, self.lane.share())
                if min(room, self.lane.slack()) >= full // 2 or not self._flights or waited:
                    return room
                # Each helping is a write to the record: a moment later it is a larger one.
                waited = True
                await asyncio.sleep(HELPING_SECONDS)
                continue
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        """Wait until something landed, or a moment."""
        self._freed.clear()
        with suppress(TimeoutError):
            # Not ``wait_for``: before Python 3.12 it forgets a cancellation that comes together with the event.
            async with asyncio.timeout(TICK_SECONDS):
                await self._freed.wait()

    def _take_limits(self) -> None:
        """A person may change them in mid-run."""
        self.lane.set_limits(self.control.limit("maxInFlight"), self.control.limit("operationsPerSecond"))

    # Pumping: look at what is due, decide, ask.

    async def _ring(self) -> None:
        with self.control.cell.bell() as bell:
            while True:
                bell.clear()
                await bell.wait(None)
                self.dispatcher.ring()
                self._freed.set()

    async def _pump(self, feeder: asyncio.Task[None]) -> Stop | None:
        final: Stop | None = None
        stopped_at = 0.0
        while True:
            self.dispatcher.listen()
            # Also when nothing is left to be fed: what follows a first call keeps to them too.
            self._take_limits()
            stop, now = self.control.stop(), self.clock.now()
            if self.dispatcher.failure is not None:
                raise self.dispatcher.failure
            if feeder.done() and not feeder.cancelled():
                feeder.result()
            if stop is not None and not stop.passes:
                if final is None:
                    stopped_at = now
                    await cancel_all([feeder])
                    self._recall(stop)
                # Once stopped it stays so, for the gravest reason that was seen.
                final = stop if final is None or stop is Stop.HOLD_LOST or final.lets_settle else final
            if stop is not None:
                self._held_up = True
                # After the last wait above: what gave up its turn meanwhile must not pass for asked.
                self._drop_unasked()
            if final is Stop.HOLD_LOST:
                await self.scrutiny.give_up()
            if final is not None and self._wound_down(final, now - stopped_at):
                final = await self._last_look(final)
                self.run.tidy(final.value, self._earlier, self._flights if final.hands_over else None)
                return final
            if final is None and feeder.done() and not self._flights:
                return None
            wait = TICK_SECONDS if final is Stop.HOLD_LOST else self.outage.until - now
            await self.dispatcher.pause(min(wait, TICK_SECONDS) if wait > 0 else self.dispatcher.start(now))

    def _recall(self, stop: Stop) -> None:
        """What an earlier life may have asked is looked at before the end, also when the stop came first."""
        for index in () if stop.hands_over else sorted(self._earlier):
            if index not in self._flights and self.run.ledger.outcome(index) is None:
                self.lane.insist(1)
                self._launch([self.run.lost(index, self.clock)])

    def _drop_unasked(self) -> None:
        """Nothing was sent for these. They give their permits back, and begin anew if the run goes on."""
        for flight in [flight for flight in self._flights if flight.fresh and not flight.busy]:
            self.run.ledger.release(flight.item.index)
            self._land(flight)
        if not self._flights.any(self.run.operation.inseparable):
            self.lane.rest()

    def _wound_down(self, stop: Stop, since: float) -> bool:
        if any(flight.busy for flight in self._flights):
            return False
        if stop.lets_settle:
            return not self._flights
        unfinished = self._flights.any(self.run.operation.inseparable)
        return not unfinished or stop is Stop.HOLD_LOST or since >= FINISH_SECONDS

    async def _last_look(self, stop: Stop) -> Stop:
        """What was asked is looked at once more; what shows no effect then is not verified, and said to be so.

        Returns why the run ends: where its hold is lost meanwhile, a successor does this.
        """
        if stop.hands_over or not self._flights:
            return stop
        await self.scrutiny.insist(list(self._flights), partial(self._handle, asking=False))
        if self.control.stop() is Stop.HOLD_LOST:
            return Stop.HOLD_LOST
        for flight in list(self._flights):
            outcome = Outcome.AMBIGUOUS if flight.item.unknown else Outcome.UNVERIFIED
            self._settle(flight, Settled(outcome, stop.value))
        return stop

    async def _handle(self, flights: Sequence[Flight], *, asking: bool = True) -> None:
        with self.claims.look():
            seen_at, asks = await self._looked_at(flights, asking=asking)
        asks = [*self._admitted(asks)]
        await self.sender.send(asks, seen_at)
        more = self._more_to_ask or self.dispatcher.asking
        # Failures that could stop the run are to be seen at once.
        patient = len(asks) >= DECIDED_AT_ONCE and more and self.run.max_failures is None
        now = self.clock.now()
        for call in asks:
            if not call.flight.landed:
                self._flights.turn_came(call.flight)
                call.flight.later(now, patient=patient and not call.flight.fresh)
        self.dispatcher.put([flight for flight in flights if not flight.landed])

    async def _looked_at(self, flights: Sequence[Flight], *, asking: bool) -> tuple[float, list[Call]]:
        """Look at flights and decide; return when they were seen, and the calls that were decided."""
        began = self.clock.now()
        try:
            seen_at, seen = await self.scrutiny.look(flights)
        except errors.EngineError as error:
            self.outage.failed(error, self.clock.now())
            seen_at, seen = began, []
        else:
            self.outage.looked()
        asks: list[Call] = []
        for number, (flight, view, decision) in enumerate(self.decider.decide(flights, seen, began)):
            if number % DECIDED_AT_ONCE == DECIDED_AT_ONCE - 1:
                await asyncio.sleep(0)
            if isinstance(decision, Settled):
                self._settle(flight, decision)
            elif view is None or not isinstance(decision, Ask):
                self._flights.turn_came(flight)
                flight.later(self.clock.now())
            elif self._denied(flight, decision, view):
                continue
            elif asking:
                asks.append(Call(flight, decision, view))
            else:
                flight.later(self.clock.now())
        return seen_at, asks

    def _admitted(self, calls: list[Call]) -> Sequence[Call]:
        """Return those of ``calls`` that take a turn now. The rest would wait so long for theirs that what was seen
        would be out of date: it is looked at again when there are turns.
        """
        trial, wanted = self.outage.room(self.clock.now()), self._allowed(calls)
        turns = self.lane.turns(len(wanted) if trial is None else min(trial, len(wanted)))
        admitted = wanted[: turns.count]
        for call in admitted:
            self._flights.queue(call.flight)
            if never_sent(call.flight.item, call.ask, call.seen):
                call.anew = True
                self.run.asked.forget(call.flight.item.index)
        now, queue = self.clock.now(), self.lane.queue()
        orderly = trial is None and len(wanted) == len(calls)
        for place, call in enumerate(calls[turns.count :] if orderly else calls):
            if orderly:
                call.flight.refuse(now, turns.again, place / queue)
            else:
                call.flight.later(now)
        return admitted

    def _denied(self, flight: Flight, ask: Ask, seen: Seen) -> bool:
        """End what an earlier life meant to ask, seems not to have asked, and must not be asked any more."""
        item, stop = flight.item, self.control.final
        if stop is None or not stop.lets_settle:
            return False
        meant = item.lost and not item.asks and not item.signalled(seen) and not self.run.operation.inseparable(item)
        if not meant:
            return False
        if never_sent(item, ask, seen):
            self.run.ledger.release(item.index)
            self._land(flight)
        else:
            self._settle(flight, Settled(Outcome.AMBIGUOUS, stop.value))
        return True

    def _allowed(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Return those of ``calls`` that may be sent now."""
        stop = self.control.stop()
        if stop is None:
            return calls if self.outage.room(self.clock.now()) != 0 else ()
        if stop is Stop.HOLD_LOST:
            return ()
        return [call for call in calls if self.run.operation.inseparable(call.flight.item)]

    def _settle(self, flight: Flight, settled: Settled) -> None:
        self.run.settle(flight.item.index, settled)
        self._land(flight, settled)
        if settled.outcome in BAD:
            self._heed_failures()

    def _heed_failures(self) -> None:
        if self.run.max_failures is not None and self.run.ledger.bad > self.run.max_failures:
            self.control.final = self.control.final or Stop.TOO_MANY_FAILURES

    def _land(self, flight: Flight, settled: Settled | None = None) -> None:
        self._flights.land(flight)
        self.decider.let_go(flight.item, settled, self.clock.now())
        self.lane.release()
        self.dispatcher.ring()
        self._freed.set()
