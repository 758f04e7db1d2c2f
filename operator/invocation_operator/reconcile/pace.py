"""Operations one after the other at a rate that may change: part of the budget.

What is given back before others that have their turn already stays unused: were the others not to move up and the queue
to be shortened all the same, two would have the same turn, and a second more than its rate.
"""

from typing import NamedTuple

SAVED_SECONDS = 0.1
"""So much that was not used may be used at once: the loop's timers are coarser than a thousandth."""


class Span(NamedTuple):
    """What a turn takes of the time of a queue, on the clock of the budget."""

    begins: float
    ends: float


class Pace:
    """A queue of turns; it keeps nothing of those that are over."""

    def __init__(self) -> None:
        self._end = 0.0
        self._unused: list[Span] = []

    def ahead(self, now: float) -> float:
        """Return in how many seconds the next turn comes; below 0 if it could have been."""
        return self._end - now

    def room(self, within: float, rate: int, now: float) -> int:
        """Return how many operations may take turns that come ``within`` so many seconds, rounded."""
        return max(0, round((within - max(0.0, self.ahead(now))) * rate))

    def room_in(self, count: int, within: float, rate: int, now: float) -> float:
        """Return in how many seconds there is ``room`` for ``count``, if nobody takes a turn before."""
        return max(0.0, max(0.0, self.ahead(now)) + (count - 0.4) / rate - within)

    def take(self, count: int, rate: int, now: float, *, saved: float | None = None) -> Span:
        """Take the next turn for ``count`` operations. ``saved`` is how many unused seconds may still be used:
        by default a tenth, but no more than one operation's.
        """
        begins = max(self._end, now - (min(SAVED_SECONDS, 1.0 / rate) if saved is None else saved))
        self._end = begins + count / rate
        return Span(begins, self._end)

    def give_back(self, span: Span, now: float) -> None:
        """Shorten the queue by a turn that is not used, once nobody has a turn behind it."""
        self._unused = sorted(one for one in (*self._unused, span) if one.ends > now)
        while self._unused and self._unused[-1].ends >= self._end:
            self._end = self._unused.pop().begins
