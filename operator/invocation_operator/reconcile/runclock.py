"""Time of a run: seconds since it started, on the engine's clock, at the pace of a local monotonic one.

The engine's clock is asked once, when an operator begins to work on the run; from then on the local clock only counts.
So a wrong clock on the operator's side changes nothing, and a run that is taken over goes on in the same time.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Reading:
    """What the engine's clock said at some time between two moments of a local one, in seconds."""

    said: datetime
    asked_at: float
    told_at: float

    @property
    def latest(self) -> datetime:
        """What it says at most at the moment at which it is told: the answer may have been long on its way."""
        return self.said + timedelta(seconds=self.told_at - self.asked_at)


async def read_clock(engine_now: Callable[[], Awaitable[datetime]], monotonic: Callable[[], float]) -> Reading:
    """Ask the engine's clock. Raises the engine client's errors."""
    asked_at = monotonic()
    said = await engine_now()
    return Reading(said, asked_at, monotonic())


class RunClock:
    """Seconds on a run's own clock."""

    def __init__(self, started: datetime, reading: Reading, monotonic: Callable[[], float]) -> None:
        self._started = started
        self._monotonic = monotonic
        self._offset = (reading.said - started).total_seconds() - reading.told_at
        self._slow = reading.told_at - reading.asked_at

    def now(self) -> float:
        """Seconds since the run started.

        The engine's answer travelled before it was read: this is never more than its own clock says.
        """
        return self._monotonic() + self._offset

    def at_most(self) -> float:
        """Seconds since the run started, and never fewer than the engine's own clock says."""
        return self.now() + self._slow

    def engine_time(self, seconds: float) -> datetime:
        """Return ``seconds`` on this clock as the engine's time."""
        return self._started + timedelta(seconds=seconds)

    def seconds(self, moment: datetime) -> float:
        """Return an engine time as seconds on this clock."""
        return (moment - self._started).total_seconds()
