"""An engine that cannot be asked now: what people are told, and when it is tried again.

Every failure in a row doubles the pause, with jitter, so that an outage is met by a few requests and not by a storm.
An engine may answer queries and fail every call (overloaded, half started, or behind a front that lets only reads
through): a look that succeeds then says nothing of calls, so one call at a time is tried until one is answered.
"""

import random
from dataclasses import dataclass

from invocation_operator.engine import errors

FIRST_SECONDS = 0.5
LIMIT_SECONDS = 15.0
ASKED_FOR_SECONDS = 60.0
"""Longest pause that an engine may ask for; a person may have made it well meanwhile."""


@dataclass(slots=True)
class Outage:
    """State of one run's view of its engine."""

    error: errors.EngineError | None = None
    """What went wrong last; None while the engine answers."""
    until: float = 0.0
    """When it is tried again, in seconds on the run's clock."""
    last: float = float("-inf")
    """When the engine last failed, in seconds on the run's clock."""
    blind: bool = False
    """Whether the last look failed."""
    _calls: bool = False
    """Whether calls have failed, and none was answered since."""
    _trying: bool = False
    """Whether the one call that is to show that it is over is under way."""
    _seconds: float = FIRST_SECONDS

    def failed(self, error: errors.EngineError, now: float, *, call: bool = False) -> None:
        """Take in the failure of a look, or of a ``call``. Several at the same time count once."""
        self.last = max(self.last, now)
        if call:
            self._calls, self._trying = True, False
        else:
            self.blind = True
        if now < self.until:
            return
        pause = max(error.retry_after or 0.0, self._seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, nothing secret
        self.until = now + min(pause, ASKED_FOR_SECONDS)
        self._seconds = min(self._seconds * 2, LIMIT_SECONDS)
        self.error = error

    def looked(self) -> None:
        """The engine answered a look."""
        self.blind = False
        if not self._calls:
            self._over()

    def called(self) -> None:
        """The engine answered a call, if only by refusing it."""
        self._over()

    def room(self, now: float) -> int | None:
        """Return how many calls may be sent now; None: as many as there are."""
        if self.error is None:
            return None
        return 1 if self._calls and not self._trying and now >= self.until else 0

    def admit(self, wanted: int, now: float) -> int:
        """Return how many of ``wanted`` calls may be sent now; each is told of by ``called`` or ``failed``."""
        room = self.room(now)
        if room is None:
            return wanted
        self._trying = self._trying or min(room, wanted) > 0
        return min(room, wanted)

    def _over(self) -> None:
        self.error, self.until, self._seconds = None, 0.0, FIRST_SECONDS
        self._calls = self._trying = False
