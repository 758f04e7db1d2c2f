"""Who on one engine is doing what must come once to which invocation. Shared by all runs on the engine.

Two runs that look at the same moment both see no cancel and no restart, and would both ask. The first to decide has it.
"""

from collections import deque
from collections.abc import Callable

LINGER_SECONDS = 2.5
"""How long a claim that was given up still counts for others: what they know of the invocation may be older than what
came of it, but not by more than this."""


class Claims:
    """Claims by id of the invocation."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: dict[str, object] = {}
        self._lingering: dict[str, tuple[object, float]] = {}
        self._order: deque[tuple[float, str]] = deque()

    def take(self, invocation_id: str, run: object) -> bool:
        """Claim an invocation for ``run``; False when another run has it, or had it a moment ago."""
        self._forget()
        former = self._lingering.get(invocation_id)
        if former is not None and former[0] is not run:
            return False
        return self._claims.setdefault(invocation_id, run) is run

    def release(self, invocation_id: str, run: object, *, linger: bool) -> None:
        """Give up what ``run`` has claimed, and nothing else; with ``linger`` others have it only a while later."""
        if self._claims.get(invocation_id) is not run:
            return
        del self._claims[invocation_id]
        if linger:
            until = self._clock() + LINGER_SECONDS
            self._lingering[invocation_id] = (run, until)
            self._order.append((until, invocation_id))
        self._forget()

    def _forget(self) -> None:
        if not self._order:
            return
        now = self._clock()
        while self._order and self._order[0][0] <= now:
            until, invocation_id = self._order.popleft()
            if self._lingering.get(invocation_id, (None, 0.0))[1] == until:
                del self._lingering[invocation_id]
