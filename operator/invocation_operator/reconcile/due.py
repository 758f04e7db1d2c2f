"""What is to be looked at, by when it is due. Part of the executor.

A run may have many thousands in flight, and something happens every few milliseconds: nothing here walks through all.
"""

import heapq

from invocation_operator.reconcile.flight import Flight


class Due:
    """Flights that wait to be looked at, each at most once: what is taken comes back when it was seen to."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Flight]] = []
        self._number = 0

    def put(self, flight: Flight) -> None:
        """Have ``flight`` looked at when it is due."""
        self._number += 1
        heapq.heappush(self._heap, (flight.due, self._number, flight))

    def take(self, now: float, most: int) -> list[Flight]:
        """Return what is due, at most ``most``; those that wait longest come first. They are busy from now on."""
        taken: list[Flight] = []
        while len(taken) < most and (flight := self._first()) is not None and flight.due <= now:
            heapq.heappop(self._heap)
            flight.busy = True
            taken.append(flight)
        return taken

    @property
    def next(self) -> float | None:
        """When the next one is due."""
        flight = self._first()
        return None if flight is None else flight.due

    def _first(self) -> Flight | None:
        while self._heap and self._heap[0][2].landed:
            # A stop has dropped it before its turn came.
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None
