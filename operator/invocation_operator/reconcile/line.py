"""Who was refused a turn, first come, first served: part of the budget.

Where more runs than operations in a second share an engine, most are refused, and whoever asked right when the next
turn became free would have it, again and again. So each that was refused has a place here and is told when to come
back; a turn is kept for it until a while after that. Who comes later has its place still, but nobody waits for it any
more.
"""

from collections.abc import Hashable

AWAITED_SECONDS = 1.0
"""How much later than told one may come back: it looks at what it wants to ask first, and engines can be slow."""


class Line:
    """A line of those who were refused."""

    def __init__(self) -> None:
        self._awaited: dict[Hashable, float] = {}
        """Until when each is waited for; who was refused first stands first."""

    def ahead(self, one: Hashable, now: float) -> int:
        """Return how many come before ``one``, who need not stand here yet."""
        count = 0
        for other, until in self._awaited.items():
            if other == one:
                break
            count += until > now
        return count

    def stand(self, one: Hashable, back_at: float) -> None:
        """Let ``one`` stand at the end, or where it stands already, and wait for it to be back then."""
        self._awaited[one] = back_at + AWAITED_SECONDS

    def leave(self, one: Hashable) -> None:
        """It had its turn, or wants none any more."""
        self._awaited.pop(one, None)
