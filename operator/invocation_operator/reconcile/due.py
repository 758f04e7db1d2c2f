"""What is to be looked at, by when it is due. Part of the executor.

A run may have many thousands in flight, and something happens every few milliseconds: nothing here walks through all.
What is due at the same time stays together, a batch as it came.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from invocation_operator.reconcile.flight import Flight


class Due:
    """Flights that wait to be looked at, each at most once: what is taken comes back when it was seen to."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, deque[Flight]]] = []
        self._number = 0

    def put(self, flights: Iterable[Flight]) -> None:
        """Have ``flights`` looked at when they are due."""
        for due, some in groupby(flights, key=attrgetter("due")):
            self._number += 1
            heapq.heappush(self._heap, (due, self._number, deque(some)))

    def take(self, now: float, most: int) -> list[Flight]:
        """Return what is due, at most ``most``; those that wait longest come first. They are busy from now on."""
        taken: list[Flight] = []
        while len(taken) < most and (waiting := self._first()) is not None and waiting[0].due <= now:
            while waiting and len(taken) < most:
                flight = waiting.popleft()
                if not flight.landed:
                    flight.busy = True
                    taken.append(flight)
        return taken

    @property
    def next(self) -> float | None:
        """When the next one is due."""
        waiting = self._first()
        return None if waiting is None else waiting[0].due

    def _first(self) -> deque[Flight] | None:
        """Those that are due first, without what a stop has dropped before its turn came."""
        while self._heap:
            waiting = self._heap[0][2]
            while waiting and waiting[0].landed:
                waiting.popleft()
            if waiting:
                return waiting
            heapq.heappop(self._heap)
        return None
