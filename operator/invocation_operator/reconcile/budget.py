"""The engine's budget, shared by everything that uses the engine: operations in flight and operations per second.

Each run has a *lane*. Grants go round the waiting lanes in small helpings and no lane may hold everything, so that a
small urgent action is not starved by a huge one; turns go to who was refused one first. Limits hold exactly: a permit
is taken before an invocation is asked and given back when it has an outcome.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from invocation_operator.reconcile.claims import Claims
from invocation_operator.reconcile.line import Line
from invocation_operator.reconcile.pace import SAVED_SECONDS, Pace, Span
from invocation_operator.reconcile.repeats import Repeats

HELPING = 100
"""Most permits that one grant hands out while several runs share the engine."""
HELPING_ALONE = 10_000
"""Most permits that one grant hands out to the only run: each is a write to its record before anything is asked."""
TURN_SECONDS = 1.0
"""How long operations may wait for their turn at most: what was seen before it grows old, and a stop must not wait
behind more.
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of some operations, in the queue of the engine and in that of their run."""

    count: int
    delay: float
    """In how many seconds it comes; 0 or less: now."""
    shared: Span
    own: Span | None


@dataclass(frozen=True, slots=True)
class Turns:
    """How many operations may take a turn now."""

    count: int
    again: float
    """In how many seconds it is worth while to ask for the others, if there are any."""


class Budget:
    """Permits and tokens of one engine. The limits may be changed while they are in use."""

    def __init__(self, max_in_flight: int, operations_per_second: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.claims = Claims(clock)
        self.repeats = Repeats(clock)
        self.max_in_flight = max_in_flight
        self.rate = operations_per_second
        self._held = 0
        self._lanes = 0
        self._waiting: deque[tuple[Lane, int, asyncio.Future[int]]] = deque()
        self._turns = Pace()
        self._starts = Pace()
        self._line = Line()

    def lane(self) -> "Lane":
        """Return a new lane; close it when the run ends."""
        self._lanes += 1
        return Lane(self)

    def set_limits(self, max_in_flight: int, operations_per_second: int) -> None:
        """Change the limits; what is in flight above a lowered one is let finish."""
        self.max_in_flight = max_in_flight
        self.rate = operations_per_second
        self._grant()

    def helping(self) -> int:
        """Return the most permits that one grant hands out now."""
        return HELPING if self._lanes > 1 else HELPING_ALONE

    def _share(self) -> int:
        # One lane alone leaves a helping free, or a tenth, so that a second one can begin at once.
        spare = min(self.max_in_flight // 10, HELPING)
        fair = -(-self.max_in_flight // max(1, self._lanes))
        return max(1, min(self.max_in_flight - spare, fair) if self._lanes > 1 else self.max_in_flight - spare)

    def _grant(self) -> None:
        blocked: deque[tuple[Lane, int, asyncio.Future[int]]] = deque()
        while self._waiting and self._held < self.max_in_flight:
            lane, wanted, future = self._waiting.popleft()
            if future.done():
                continue
            # Its own limit may have been lowered since it asked.
            own = min(wanted, lane.room(), self._share() - lane.held)
            room = min(own, self.helping(), self.max_in_flight - self._held)
            if room <= 0:
                blocked.append((lane, wanted, future))
                continue
            self._held += room
            lane.held += room
            future.set_result(room)
        self._waiting.extendleft(reversed(blocked))

    async def _acquire(self, lane: "Lane", wanted: int) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((lane, wanted, future))
        self._grant()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._release(lane, future.result())
            raise

    def _release(self, lane: "Lane", count: int) -> None:
        self._held -= count
        lane.held -= count
        self._grant()

    def _queue(self) -> int:
        """Return how many operations of each run may wait for their turn."""
        return max(1, int(TURN_SECONDS * self.rate) // max(1, self._lanes))


class Lane:
    """One run's part of the budget, with the run's own lower limits."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0
        self.max_in_flight: int | None = None
        self.rate: int | None = None
        self._resting = False
        self._waiting = 0
        self._turns = Pace()
        self._starts = Pace()

    def set_limits(self, max_in_flight: int | None, rate: int | None) -> None:
        """Change the run's own limits; what is in flight above a lowered one is let finish."""
        if (max_in_flight, rate) != (self.max_in_flight, self.rate):
            self.max_in_flight, self.rate = max_in_flight, rate
            self._budget._grant()

    async def acquire(self, wanted: int) -> int:
        """Wait for 1 to ``wanted`` permits and return how many were granted.

        The caller asks again for the rest; while its own ``max_in_flight`` is reached it must wait for releases.
        """
        self._take_part()
        return await self._budget._acquire(self, wanted)

    def insist(self, count: int) -> None:
        """Take permits above all limits: for what an earlier life has asked and is only looked at now."""
        self.held += count
        self._budget._held += count

    def room(self) -> int:
        """Return how many more this run may have in flight by its own limit."""
        return self.helping() if self.max_in_flight is None else self.max_in_flight - self.held

    def helping(self) -> int:
        """Return the most permits that one grant hands out now."""
        return self._budget.helping()

    def share(self) -> int:
        """Return how many this run may have in flight."""
        share = self._budget._share()
        return share if self.max_in_flight is None else min(share, self.max_in_flight)

    def slack(self) -> int:
        """Return how many more this run could have in flight right now."""
        return min(self.share() - self.held, self._budget.max_in_flight - self._budget._held)

    def per_second(self) -> int:
        """Return how many operations may start within a second."""
        return min(self.rate or self._budget.rate, self._budget.rate)

    def release(self, count: int = 1) -> None:
        """Give permits back."""
        self._budget._release(self, count)

    def queue(self) -> int:
        """Return how many operations may wait for their turn: of a second's worth, the part of this run."""
        own = max(1, int(TURN_SECONDS * self.per_second()))
        return min(own, self._budget._queue())

    def turns(self, wanted: int) -> Turns:
        """Return how many of ``wanted`` operations may take a turn now, so that none of them has to wait for it longer
        than ``TURN_SECONDS``. Who gets less because of others stands in line for the next.
        """
        if wanted > 0:
            self._take_part()
        now, line, turns, rate = self._budget._clock(), self._budget._line, self._budget._turns, self._budget.rate
        # It is worth while to ask again once there is room for half of what may wait, beside what gets a turn now.
        worth = max(1, min(wanted, self.queue() // 2))
        own = self._own_turns(wanted, worth, now)
        if own.count <= 0:
            return Turns(0, own.again)
        count, again = max(0, min(own.count, self._free(now))), own.again
        if count > 0:
            line.leave(self)
        if count < own.count:
            again = turns.room_in(count + (line.ahead(self, now) + 1) * worth, TURN_SECONDS, rate, now)
            line.stand(self, now + again)
        return Turns(count, again)

    def free(self) -> int:
        """Return how many turns there are for this run by now: others may have left, or the rate was raised, since it
        was told when to come back.
        """
        now = self._budget._clock()
        return max(0, min(self._own_turns(self.queue(), 1, now).count, self._free(now)))

    def _own_turns(self, wanted: int, worth: int, now: float) -> Turns:
        """As far as only this run is concerned."""
        own, again = min(wanted, self.queue() - self._waiting), TURN_SECONDS / 2
        if self.rate is not None and (room := self._turns.room(TURN_SECONDS, self.rate, now)) < own:
            own, again = room, self._turns.room_in(room + worth, TURN_SECONDS, self.rate, now)
        return Turns(own, again)

    def _free(self, now: float) -> int:
        """As far as the engine and the others are concerned."""
        budget = self._budget
        return budget._turns.room(TURN_SECONDS, budget.rate, now) - budget._line.ahead(self, now)

    def rest(self) -> None:
        """Need nothing for now: the others need not leave a share to this run, nor a turn, until it wants one again."""
        if not self._resting:
            self._resting = True
            self._budget._lanes -= 1
            self._budget._line.leave(self)
            self._budget._grant()

    def _take_part(self) -> None:
        self._budget._lanes += self._resting
        self._resting = False

    def reserve(self, count: int) -> Turn:
        """Take the turn of ``count`` operations. When it has come, ``came`` is told, or ``give_back`` when they do not
        want it any more.
        """
        self._waiting += count
        now = self._budget._clock()
        own = None if self.rate is None else self._turns.take(count, self.rate, now)
        shared = self._budget._turns.take(count, self._budget.rate, now, saved=SAVED_SECONDS)
        return Turn(count, max(shared.begins, own.begins if own else 0.0) - now, shared, own)

    def came(self, count: int) -> None:
        """The turn of ``count`` operations is there."""
        self._waiting -= count

    def start(self, count: int) -> float:
        """Start ``count`` operations whose turn came, and return 0; or in how many seconds they may start.

        Turns keep the rate for what is sent when its turn comes. What was held up after that, by an engine that is slow
        to answer, would be sent all at once.
        """
        now = self._budget._clock()
        wait = max(self._budget._starts.ahead(now), 0.0 if self.rate is None else self._starts.ahead(now))
        if wait > 0:
            return wait
        self._budget._starts.take(count, self._budget.rate, now, saved=SAVED_SECONDS)
        if self.rate is not None:
            self._starts.take(count, self.rate, now)
        return 0.0

    async def take_turn(self) -> None:
        """Wait until one operation may start: for what is no run, and stands in line like one."""
        turns = self.turns(1)
        while not turns.count:
            await asyncio.sleep(min(max(turns.again, 0.001), TURN_SECONDS))
            turns = self.turns(1)
        turn = self.reserve(1)
        try:
            await asyncio.sleep(max(0.0, turn.delay))
        except asyncio.CancelledError:
            self.give_back(turn)
            raise
        self.came(1)
        wait = self.start(1)
        while wait > 0:
            await asyncio.sleep(wait)
            wait = self.start(1)

    def give_back(self, turn: Turn) -> None:
        """Give back a turn that was not used."""
        self._waiting -= turn.count
        self._budget._turns.give_back(turn.shared, self._budget._clock())
        if turn.own is not None:
            self._turns.give_back(turn.own, self._budget._clock())

    def close(self) -> None:
        """Give back everything that is held and leave."""
        held, self.held = self.held, 0
        self._budget._held -= held
        self._take_part()
        self.rest()
