"""What in flight is seen to next, and by how many tasks at once. Part of the executor.

What was not asked yet comes first. What was asked in large batches waits while there is more to ask: looking at it
would take the engine's time from the calls.
"""

import asyncio
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from invocation_operator.reconcile.due import Due
from invocation_operator.reconcile.flight import Batches, Flight

LOOK_BATCH = 1000
BATCHED_LOOKS = 6
"""So many batches are looked at and asked for the first time at once: those that the engine works on, and what follows
them. With more, looks would be old when they count."""
SINGLE_LOOKS = 16
"""As many without the engine's batch endpoints, where one call that hangs keeps its whole batch."""
VERIFYING_LOOKS = 2
"""So many batches are looked at again at once."""
SOON_SECONDS = 0.5
"""Who comes back so soon by itself need not be called."""
TICK_SECONDS = 0.25
"""How often a run that has nothing due looks at its stops; changes of the object ring at once."""


@dataclass(slots=True)
class Dispatcher:
    """Hands flights to ``handle``, which puts those back that are still in flight."""

    handle: Callable[[Sequence[Flight]], Awaitable[None]]
    batches: Batches
    starved: Callable[[], bool]
    """Whether nothing more comes into flight before some of what is in flight has an outcome."""
    free: Callable[[], int]
    """How many turns to ask there are now."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """What is on its way to the engine or back."""
    failure: BaseException | None = None
    """A mistake in a decision; it must not hang the run."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _unasked: Due = field(default_factory=Due)
    _asked: Due = field(default_factory=Due)
    _refused: Due = field(default_factory=Due)
    """Those that were not asked yet because there was no turn for them."""
    _patient: deque[Flight] = field(default_factory=deque)
    """Those that are looked at later than need be, because there is more to ask."""
    _first_looks: int = 0
    """Batches that are on their way to be asked for the first time."""

    def put(self, flights: Sequence[Flight]) -> None:
        """Have them seen to when they are due."""
        unasked: list[Flight] = []
        refused: list[Flight] = []
        asked: list[Flight] = []
        for flight in flights:
            flight.busy = False
            whole = refused if flight.refused else unasked if flight.fresh else asked
            (self._patient if flight.patient else whole).append(flight)
        self._unasked.put(unasked)
        self._refused.put(refused)
        self._asked.put(asked)

    @property
    def asking(self) -> bool:
        """Whether others wait to be asked for the first time, or are on their way to it."""
        return self._first_looks > 1 or not (self._unasked.next is None and self._refused.next is None)

    def start(self, now: float) -> float:
        """Start on what is due, and no more than can be seen to soon.

        Returns in how many seconds something else is due, if nothing rings before.
        """
        self._end_patience(now)
        self._call_back(now)
        room = (BATCHED_LOOKS if self.batches.usable else SINGLE_LOOKS) - self._first_looks
        self._start(self._unasked.take(now, room * LOOK_BATCH), first=True)
        room = VERIFYING_LOOKS - (len(self.tasks) - self._first_looks)
        self._start(self._asked.take(now, room * LOOK_BATCH), first=False)
        # What is due already waits for others to be seen to, which rings.
        patience = self._patient[0].due if self._patient else None
        dues = (self._unasked.next, self._refused.next, self._asked.next, patience)
        return min([TICK_SECONDS, *(due - now for due in dues if due is not None and due > now)])

    def _end_patience(self, now: float) -> None:
        if not self._patient:
            return
        idle = self._first_looks == 0 and (self._unasked.next is None or self._unasked.next > now)
        hurry = idle and self.starved()
        # All are as patient as the others, so the first is due first.
        ended: list[Flight] = []
        while self._patient and (hurry or self._patient[0].due <= now):
            flight = self._patient.popleft()
            if not flight.landed:
                flight.patient = False
                flight.due = now
                ended.append(flight)
        self.put(ended)

    def _call_back(self, now: float) -> None:
        """There may be turns long before those who were refused one were told to come back."""
        back = self._refused.take(now, sys.maxsize)
        first = self._refused.next
        if first is not None and first - now >= SOON_SECONDS and self._first_looks == 0:
            back += self._refused.take(math.inf, self.free())
        for flight in back:
            flight.refused = False
            flight.due = now
        self.put(back)

    def ring(self) -> None:
        """Something happened: there may be more to start on."""
        self._wake.set()

    def listen(self) -> None:
        """What rings from now on ends the next ``pause``."""
        self._wake.clear()

    async def pause(self, seconds: float) -> None:
        """Wait until something rings."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._wake.wait()

    def _start(self, flights: Sequence[Flight], *, first: bool) -> None:
        for start in range(0, len(flights), LOOK_BATCH):
            some = flights[start : start + LOOK_BATCH]
            task = asyncio.ensure_future(self.handle(some))
            self.tasks.add(task)
            self._first_looks += first
            task.add_done_callback(partial(self._handled, some, first))

    def _handled(self, flights: Sequence[Flight], first: bool, task: asyncio.Task[None]) -> None:  # noqa: FBT001
        self.tasks.discard(task)
        self._first_looks -= first
        if task.cancelled():
            # Cut off before anything was sent; nobody has put them back.
            for flight in flights:
                flight.busy = False
        elif task.exception() is not None:
            self.failure = task.exception()
        self.ring()
