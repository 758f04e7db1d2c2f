"""Sending decided calls: many in one request where the engine's batch endpoints can be relied on, else one by one.

Part of the executor. An answer settles nothing here unless it is a refusal; what an item was like before a call is put
back when it is certain that the call was not carried out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from invocation_operator.engine import batch, errors
from invocation_operator.engine.client import EngineClient, Op
from invocation_operator.plan.operation.base import Ask, Operation, Refused, Settled
from invocation_operator.reconcile.budget import Lane, Turn
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.flight import CURRENT_SECONDS, Batches, Call, Flight
from invocation_operator.reconcile.outage import Outage
from invocation_operator.reconcile.runclock import RunClock

LISTEN_SECONDS = 0.25
"""How often a call that waits for its turn looks whether it is still wanted."""


@dataclass(slots=True)
class Sender:
    """Sends the calls of one run."""

    client: EngineClient
    operation: Operation
    lane: Lane
    connections: asyncio.Semaphore
    batches: Batches
    control: Control
    clock: RunClock
    outage: Outage
    confirm_engine: Callable[[], Awaitable[None]]
    """Asked before "it is gone" is believed: another cluster knows none of the invocations. Sets the stop."""
    allowed: Callable[[Sequence[Call]], Sequence[Call]]
    """Which of these may be sent now."""
    turn_came: Callable[[Flight], None]
    """Told of each whose turn to be asked has come."""
    settle: Callable[[Flight, Settled], None]

    def _grouped(self, calls: Sequence[Call]) -> list[list[Call]]:
        """Calls that can go in one request together; all of them singly where there are no batches."""
        groups: dict[Ask, list[Call]] = {}
        for ask, some in groupby(calls, key=attrgetter("ask")):
            groups.setdefault(ask, []).extend(some)
        most = self._most()
        made: list[list[Call]] = []
        for ask, group in groups.items():
            size = most if self.batches.usable and ask.from_entry is None else 1
            made += [group[start : start + size] for start in range(0, len(group), size)]
        return made

    def _most(self) -> int:
        """How many may start at once: at a low rate few, or it would hold on the average only."""
        return min(batch.MOST, max(1, self.lane.per_second() // 10))

    async def send(self, calls: Sequence[Call], seen_at: float) -> None:
        """Send what was decided on what was seen at ``seen_at``; what may not be asked now is left for later.

        All take their turns before anything is waited for: whoever decides next knows how long the queue is.
        """
        turns = [(group, self.lane.reserve(len(group))) for group in self._grouped(calls)]
        await asyncio.gather(*(self._send(group, turn, seen_at) for group, turn in turns))

    async def _send(self, calls: Sequence[Call], turn: Turn, seen_at: float) -> None:
        """Send calls of one kind, in one request if they are several."""
        if not await self._turn(calls, turn):
            return
        for call in calls:
            self.turn_came(call.flight)
        async with self.batches.gate if len(calls) > 1 else self.connections:
            # Here and not before: what has waited behind a slow engine must not be sent all at once.
            allowed = await self._started(calls, seen_at)
            allowed = allowed[: self.outage.admit(len(allowed), self.clock.now())]
            now = self.clock.now()
            for call in allowed:
                call.mark(now)
            if len(allowed) > 1:
                await self._send_batch(allowed, seen_at)
            elif allowed:
                await self._send_single(allowed[0])

    async def _started(self, calls: Sequence[Call], seen_at: float) -> Sequence[Call]:
        """Wait until those that are still wanted may start, and return them."""
        allowed = self._wanted(calls, seen_at)
        while allowed and (wait := self.lane.start(len(allowed))) > 0:
            await asyncio.sleep(min(wait, LISTEN_SECONDS))
            allowed = self._wanted(calls, seen_at)
        return allowed

    def _wanted(self, calls: Sequence[Call], seen_at: float) -> Sequence[Call]:
        """Return those that may be sent now: none, if what they were decided on has grown old, and not all, if the rate
        was lowered since they took their turn.

        They wait for their turn, but also behind what the engine is slow to answer.
        """
        return self.allowed(calls)[: self._most()] if self.clock.now() - seen_at < CURRENT_SECONDS else ()

    async def _turn(self, calls: Sequence[Call], turn: Turn) -> bool:
        """Wait until as many operations may start; False, with the turn given back, when a stop came first."""
        delay = turn.delay
        while delay > 0:
            if not self.allowed(calls):
                self.lane.give_back(turn)
                return False
            pause = min(delay, LISTEN_SECONDS)
            await asyncio.sleep(pause)
            delay -= pause
        self.lane.came(len(calls))
        return True

    async def _send_single(self, call: Call) -> None:
        ask, item = call.ask, call.flight.item
        try:
            answer = await self.client.operate(
                Op(ask.verb.value), item.planned.id, deployment=ask.deployment, from_entry=ask.from_entry
            )
        except errors.Throttled as error:
            self._not_asked([call], error)
        except errors.Rejected as error:
            self.outage.called()
            await self._take_refusals([(call, Refused(error.status, error.message))])
        except errors.EngineError as error:
            self._unanswered([call], error)
        else:
            self.outage.called()
            call.taken(answer.new_id)

    async def _send_batch(self, calls: Sequence[Call], seen_at: float) -> None:
        ask = calls[0].ask
        ids = [call.flight.item.planned.id for call in calls]
        try:
            answer = await batch.operate_many(self.client, Op(ask.verb.value), ids, deployment=ask.deployment)
        except errors.Throttled as error:
            return self._not_asked(calls, error)
        except errors.Rejected as error:
            # Nothing was done. Either what is asked is wrong for all, which the public call says of each, or the
            # endpoint is not there any more.
            if error.status in (404, 405):
                self.batches.give_up()
            return await self._send_singly(calls, seen_at)
        except errors.Unauthorized as error:
            if error.status != 403:
                return self._not_asked(calls, error)
            # A front may keep what is internal from everybody; whether it keeps all of it, the public call tells.
            self.batches.give_up()
            return await self._send_singly(calls, seen_at)
        except errors.EngineError as error:
            if isinstance(error, errors.BadReply):
                self.batches.give_up()
            return self._unanswered(calls, error)
        self.outage.called()
        refused: list[tuple[Call, Refused]] = []
        unknown: list[Call] = []
        for call in calls:
            id_ = call.flight.item.planned.id
            refusal = answer.refused.get(id_)
            if refusal is None:
                call.taken(answer.taken[id_])
            elif refusal.status is None:
                unknown.append(call)
            else:
                refused.append((call, Refused(refusal.status, refusal.message)))
        await self._take_refusals(refused)
        return await self._send_singly(unknown, seen_at)

    async def _send_singly(self, calls: Sequence[Call], seen_at: float) -> None:
        """Ask one by one what a batch did not do. That takes a while: a stop comes between any two, and each call is
        dated by its own sending, because its answer may be lost too.
        """
        for call in calls:
            call.unmark()
            if await self._started([call], seen_at) and self.outage.admit(1, self.clock.now()):
                call.mark(self.clock.now())
                await self._send_single(call)

    def _not_asked(self, calls: Sequence[Call], error: errors.EngineError) -> None:
        for call in calls:
            call.unmark()
        self.outage.failed(error, self.clock.now(), call=True)

    def _unanswered(self, calls: Sequence[Call], error: errors.EngineError) -> None:
        if not error.may_have_acted:
            return self._not_asked(calls, error)
        for call in calls:
            call.flight.item.lost = True
        return self.outage.failed(error, self.clock.now(), call=True)

    async def _take_refusals(self, refusals: Sequence[tuple[Call, Refused]]) -> None:
        """Judge what the engine refused of one request."""
        for call, _ in refusals:
            call.flight.item.lost = False
        sure = True
        if any(refused.status == 404 for _, refused in refusals):
            try:
                await self.confirm_engine()
            except errors.EngineError:
                # Nobody can tell now whether they are gone or another engine answered: the next look does.
                sure = False
            if self.control.final is Stop.ENGINE_CHANGED:
                return
        for call, refused in refusals:
            if refused.status == 404 and not sure:
                continue
            decision = self.operation.refused(call.flight.item, call.ask, refused)
            if decision is not None:
                self.settle(call.flight, decision)
