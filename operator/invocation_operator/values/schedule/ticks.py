"""Which tick is due, which comes next, and what is remembered of those that were.

A tick is a time of a schedule, or something that a person asked for by an annotation. Each happens once: by its key,
from which whoever carries it out makes the name of what must exist only once (a record, a child). So what is remembered
here may be lost, or be that of a clock that was wrong, and nothing happens twice for it.

Of all ticks that were missed (nobody was there, it was suspended, what it needs was away) the last is caught up, and
that only within its deadline; those from before a timetable was known are nobody's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from invocation_operator.values.schedule.cron import Schedule
from invocation_operator.values.text import cut
from invocation_operator.values.times import format_time, parse_time

REQUESTED_AT = "ops.restate.dev/requestedAt"
"""The annotation by which people ask for a tick now. Its value is a token: what it says does not matter, but that it is
another one."""
REQUEST_CHARACTERS = 128
"""Characters of a request that are told apart and shown."""
LONGEST_SECONDS = 60.0
"""The longest wait: a clock that is set must not keep ticks for ever."""
AHEAD = timedelta(days=1)
"""What is remembered of a time so far ahead was written by a clock that was wrong: the clocks of two operators, or one
before and after it was set, differ by less. Believing it would keep every tick until then."""
_REQUEST = "request "
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Tick:
    """One occasion to do something: a time of the schedule, or a request. Exactly one of the two is set."""

    at: datetime | None = None
    request: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is neither, or both."""
        if (self.at is None) is (self.request is None):
            raise ValueError("a tick is a time or a request")

    @property
    def key(self) -> str:
        """Its name, the same in every process and after every crash; no two ticks of one timetable share one."""
        return f"{_REQUEST}{self.request}" if self.at is None else format_time(self.at)

    @classmethod
    def of_key(cls, key: str) -> "Tick | None":
        """Return the tick that ``key`` names; None when it names none."""
        if key.startswith(_REQUEST):
            return cls(request=key.removeprefix(_REQUEST))
        try:
            return cls(at=parse_time(key))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Timetable:
    """When something is to be done, as its specification says."""

    schedule: str
    time_zone: str | None = None
    suspend: bool = False
    deadline: timedelta | None = None
    """How late a tick may still begin; None: however late."""
    head_start: timedelta = timedelta()
    """How much of what was before it was known counts."""

    @property
    def text(self) -> str:
        """What tells one timetable from another; status shows it."""
        return cut(f"{self.schedule} {self.time_zone or 'UTC'}", 256)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the past of a timetable."""

    text: str | None = None
    """The timetable that this is the past of."""
    since: datetime | None = None
    """Since when it is known: no tick up to then counts."""
    last: datetime | None = None
    """The last tick that was taken."""

    def seen_to(self, now: datetime) -> datetime:
        """Return the time up to which no tick is due any more."""
        since = self.since or now
        return max(since, self.last or since)


def remembered(table: Timetable, memory: Memory, now: datetime) -> Memory:
    """Return the past of ``table``: ``memory``, if it is that of this timetable; else it begins now."""
    if memory.seen_to(now) - now > AHEAD:
        memory = Memory()
    if memory.text == table.text:
        return memory
    return Memory(table.text, (now - table.head_start).replace(microsecond=0), memory.last)


def due(table: Timetable, memory: Memory, now: datetime) -> Tick | None:
    """Return the tick to take now: of all that were missed the last, unless it is too late for it. None when there is
    none, or while suspended. Raises ``ScheduleError``.
    """
    if table.suspend:
        return None
    at = Schedule.parse(table.schedule, table.time_zone).latest(memory.seen_to(now), now)
    if at is None or (table.deadline is not None and now - at > table.deadline):
        return None
    return Tick(at)


def following(table: Timetable, memory: Memory, now: datetime) -> datetime | None:
    """Return the next time of the schedule; None when there is none, or while suspended. Raises ``ScheduleError``."""
    at = Schedule.parse(table.schedule, table.time_zone).next_after(max(now, memory.seen_to(now)))
    return None if table.suspend else at


def taken(memory: Memory, tick: Tick) -> Memory:
    """Return what is remembered once ``tick`` is seen to: done, begun, or passed over with a reason. Requests are
    remembered by who was asked: by ``handled`` of ``asked``.
    """
    return memory if tick.at is None else replace(memory, last=tick.at)


def given_back(memory: Memory) -> Memory:
    """Return what is remembered when nothing came of the tick that was taken last: it is due again."""
    return memory if memory.last is None else replace(memory, last=memory.last - _MINUTE)


def asked(annotations: Mapping[str, str] | None, handled: str | None) -> Tick | None:
    """Return what an object's annotations ask for, if it is another request than that which was ``handled`` last.

    The annotation taken away asks for nothing, and so does an empty one.
    """
    value = (annotations or {}).get(REQUESTED_AT)
    request = cut(value, REQUEST_CHARACTERS) if value else None
    return None if request is None or request == handled else Tick(request=request)


def wait_seconds(times: Iterable[datetime | None], now: datetime) -> float:
    """Return how long to wait for the first of ``times``, before looking at the clock again."""
    waits = [(at - now).total_seconds() for at in times if at is not None]
    return max(0.0, min([*waits, LONGEST_SECONDS]))
