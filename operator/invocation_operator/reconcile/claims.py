"""Who on one engine is doing what must come once to which invocation. Shared by all runs on the engine.

Two runs that look at the same moment both see no cancel and no restart, and would both ask. The first to decide has it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINGER_SECONDS = 2.5
"""How long a claim that was given up still counts for others: what they know of the invocation may be older than what
came of it, but not by more than this when they begin to look. However long a look takes, it counts until that is over.
"""


class Claims:
    """Claims by id of the invocation."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._claims: dict[str, object] = {}
        self._lingering: dict[str, tuple[object, float]] = {}
        self._order: deque[tuple[float, str]] = deque()
        self._looks: dict[object, float] = {}
        """When each look that is under way began, the oldest first."""

    @contextmanager
    def look(self) -> Iterator[None]:
        """Somebody looks at invocations, and decides by what they see."""
        look = object()
        self._looks[look] = self._clock()
        try:
            yield
        finally:
            del self._looks[look]

    def take(self, invocation_id: str, run: object) -> bool:
        """Claim an invocation for ``run``; False when another run has it, or had it a moment ago."""
        self._forget()
        former = self._lingering.get(invocation_id)
        if former is not None and former[0] is not run and former[1] > self._oldest():
            return False
        return self._claims.setdefault(invocation_id, run) is run

    def holder(self, invocation_id: str) -> object | None:
        """Return the run that has an invocation; None when none has, or one only had it a while ago."""
        return self._claims.get(invocation_id)

    def release(self, invocation_id: str, run: object, *, linger: bool, seconds: float = 0.0) -> None:
        """Give up what ``run`` has claimed, and nothing else; with ``linger`` others have it only a while later, and at
        least so many ``seconds``.
        """
        if self._claims.get(invocation_id) is not run:
            return
        del self._claims[invocation_id]
        if linger:
            until = self._clock() + max(LINGER_SECONDS, seconds)
            self._lingering[invocation_id] = (run, until)
            self._order.append((until, invocation_id))
        self._forget()

    def _forget(self) -> None:
        if not self._order:
            return
        oldest = self._oldest()
        while self._order and self._order[0][0] <= oldest:
            until, invocation_id = self._order.popleft()
            if self._lingering.get(invocation_id, (None, 0.0))[1] == until:
                del self._lingering[invocation_id]

    def _oldest(self) -> float:
        """Return since when everything is known to everybody who decides now, but for what lingers."""
        return next(iter(self._looks.values()), self._clock())
