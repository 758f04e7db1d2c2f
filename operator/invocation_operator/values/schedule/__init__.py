"""Everything about when: calendars and time zones, which tick is due, what was missed, and what people ask for.

For every kind that works on a clock. What such a kind says of when is a ``Timetable``, what its status remembers a
``Memory``; both are plain values, so that nothing here knows any kind. ``cron`` reads and walks schedules; ``ticks`` is
what kinds call. No clock: the time goes in.
"""

from invocation_operator.values.schedule.cron import Schedule, ScheduleError
from invocation_operator.values.schedule.ticks import (
    Memory,
    Tick,
    Timetable,
    asked,
    due,
    following,
    given_back,
    remembered,
    taken,
    wait_seconds,
)

__all__ = [
    "Memory",
    "Schedule",
    "ScheduleError",
    "Tick",
    "Timetable",
    "asked",
    "due",
    "following",
    "given_back",
    "remembered",
    "taken",
    "wait_seconds",
]
