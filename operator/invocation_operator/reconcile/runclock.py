"""Time of a run: seconds since it started, on the engine's clock, at the pace of a local monotonic one.

The engine's clock is asked once, when an operator begins to work on the run; from then on the local clock only counts.
So a wrong clock on the operator's side changes nothing, and a run that is taken over goes on in the same time.
"""

from collections.abc import Callable
from datetime import datetime, timedelta


class RunClock:
    """Seconds on a run's own clock."""

    def __init__(self, started: datetime, engine_now: datetime, monotonic: Callable[[], float]) -> None:
        self._started = started
        self._monotonic = monotonic
        self._offset = (engine_now - started).total_seconds() - monotonic()

    def now(self) -> float:
        """Seconds since the run started."""
        return self._monotonic() + self._offset

    def engine_time(self, seconds: float) -> datetime:
        """Return ``seconds`` on this clock as the engine's time.

        The engine's answer travelled before it was read, so this is never later than the engine's own clock says.
        """
        return self._started + timedelta(seconds=seconds)

    def seconds(self, moment: datetime) -> float:
        """Return an engine time as seconds on this clock."""
        return (moment - self._started).total_seconds()
