"""An engine that cannot be asked now: what people are told, and when it is tried again.

Every failure in a row doubles the pause, with jitter, so that an outage is met by a few requests and not by a storm.
"""

import random
from dataclasses import dataclass

from invocation_operator.engine import errors

FIRST_SECONDS = 0.5
LIMIT_SECONDS = 15.0


@dataclass(slots=True)
class Outage:
    """State of one run's view of its engine."""

    message: str | None = None
    """What went wrong last; None while the engine answers."""
    until: float = 0.0
    """When it is tried again, in seconds on the run's clock."""
    last: float = float("-inf")
    """When the engine last failed, in seconds on the run's clock."""
    _seconds: float = FIRST_SECONDS

    def failed(self, error: errors.EngineError, now: float) -> None:
        """Take in a failure. Several at the same time count once."""
        self.last = max(self.last, now)
        if now < self.until:
            return
        asked_for = error.retry_after if isinstance(error, errors.Throttled) else None
        pause = max(asked_for or 0.0, self._seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, nothing secret
        self.until = now + min(pause, 60.0)
        self._seconds = min(self._seconds * 2, LIMIT_SECONDS)
        self.message = error.message

    def over(self) -> None:
        """The engine answered."""
        self.message, self.until, self._seconds = None, 0.0, FIRST_SECONDS
