"""What the executor has on its way: items between intent and outcome, and calls between decision and answer."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from invocation_operator.plan.operation.base import Ask, Item, Seen, Verb

FIRST_LOOK_SECONDS = 0.008
"""The effect of most calls is there within some 20 ms."""

LOOK_GROWTH = 1.6
LOOK_LIMIT_SECONDS = 2.0
PATIENCE_SECONDS = 2.0
"""How long the first look after a large batch waits while there is more to ask: both want the same engine."""

CURRENT_SECONDS = 1.8
"""How long what was seen of an invocation may be relied on: before it is asked after that, it is looked at again."""

BATCHES_AT_ONCE = 4
"""Three keep the engine busy, and one more is there while an answer is read, which takes a while on a busy machine.
Still more would only keep other calls waiting."""


@dataclass(slots=True)
class Flight:
    """An item between intent and outcome, and when to look at it next."""

    item: Item
    due: float = 0.0
    pace: float = FIRST_LOOK_SECONDS
    busy: bool = False
    queued: bool = True
    """Whether it waits for its turn to be asked, or is to be looked at before that."""
    patient: bool = False
    """Whether it is due later than need be, because there is more to ask."""
    refused: bool = False
    """Whether there was no turn for it when it was to be asked for the first time."""
    landed: bool = False

    @property
    def fresh(self) -> bool:
        """Whether it was certainly not asked yet."""
        return not self.item.asks and not self.item.lost

    def refuse(self, now: float, again: float, after: float) -> None:
        """There is no turn for it: look at it ``again`` in so many seconds, and ``after`` that behind others.

        What was asked before may have an outcome at any time, and is not looked at less often for that.
        """
        self.refused = self.fresh
        self.due = now + min(again + after, max(again, LOOK_LIMIT_SECONDS) if self.fresh else LOOK_LIMIT_SECONDS)

    def later(self, now: float, *, patient: bool = False) -> None:
        """Look at it in a while, which grows from look to look."""
        self.patient = patient
        self.due = now + (PATIENCE_SECONDS if patient else self.pace)
        self.pace = min(self.pace * LOOK_GROWTH, LOOK_LIMIT_SECONDS)


class Flights:
    """Everything that one run has in flight, by index in its plan."""

    def __init__(self) -> None:
        self._by_index: dict[int, Flight] = {}
        self.queued = 0
        """How many wait for their turn to be asked."""

    def __len__(self) -> int:
        return len(self._by_index)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._by_index.values())

    def __contains__(self, index: object) -> bool:
        return index in self._by_index

    def any(self, condition: Callable[[Item], bool]) -> bool:
        """Whether it holds for one of them."""
        return any(condition(flight.item) for flight in self)

    def launch(self, flights: Iterable[Flight]) -> None:
        """Take in what comes into flight."""
        for flight in flights:
            self._by_index[flight.item.index] = flight
            self.queued += flight.queued

    def queue(self, flight: Flight) -> None:
        """It waits for its turn to be asked once more."""
        if not flight.queued:
            flight.queued = True
            self.queued += 1

    def turn_came(self, flight: Flight) -> None:
        """Its turn to be asked is there, or nothing is to be asked of it now."""
        if flight.queued:
            flight.queued = False
            self.queued -= 1

    def land(self, flight: Flight) -> None:
        """It has an outcome, or goes back to those that were never asked."""
        self.turn_came(flight)
        flight.landed = True
        del self._by_index[flight.item.index]


@dataclass(slots=True)
class Call:
    """A decided call on its way, and what the item was like before it."""

    flight: Flight
    ask: Ask
    seen: Seen
    anew: bool = False
    """Whether an earlier life was thought to have asked it and had not: what counts from the call begins now."""
    _before: tuple[Any, ...] = ()

    def mark(self, now: float) -> None:
        """Write down that it is being asked."""
        item = self.flight.item
        self._before = (item.asks, item.asked_at, item.first_asked_at, item.last, item.before)
        item.asked_at = now
        if not item.asks and (self.anew or not item.lost):
            item.first_asked_at = now
        item.asks += 1
        item.last = self.ask
        item.before = self.seen

    def unmark(self) -> None:
        """It was certainly not asked."""
        item = self.flight.item
        item.asks, item.asked_at, item.first_asked_at, item.last, item.before = self._before

    def taken(self, new_id: str | None) -> None:
        """The engine took it."""
        item = self.flight.item
        # Not when the answer came: it may have been under way while the engine went away and came back.
        item.vouched_at = item.asked_at
        item.lost = False
        item.done.append(self.ask.verb)
        item.new_id = new_id or item.new_id
        self.flight.pace = FIRST_LOOK_SECONDS


def never_sent(item: Item, ask: Ask, seen: Seen) -> bool:
    """Whether a cancel that an earlier life meant to send left no trace, so that this is the first one."""
    return item.lost and not item.asks and ask.verb is Verb.CANCEL and not item.signalled(seen)


@dataclass(slots=True)
class Batches:
    """Whether the engine's batch endpoints may be used; shared by all runs on an engine."""

    usable: bool
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BATCHES_AT_ONCE))

    def give_up(self) -> None:
        """Something was not as it was."""
        self.usable = False


async def cancel_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in (listed := list(tasks)):
        task.cancel()
    await asyncio.gather(*listed, return_exceptions=True)
