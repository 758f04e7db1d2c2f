"""Schedules as a CronJob takes them: five fields, names, macros and ``?``, in a time zone. Part of the room of ticks.

The text is read here by the rules of CronJob's own parser (robfig/cron, "standard"), and handed on as plain lists of
numbers: cronsim, which walks the calendar, reads some texts otherwise (``5-5/2``, ``*/2`` beside a day of the week) and
takes more than a CronJob does (``L``, ``#``, seconds, Sunday as 7).

Around a change of clocks cronsim follows Debian's cron, where CronJobs differ: a fixed time that the clocks jump over
runs right after the jump (a CronJob leaves it out that day), one that comes twice runs the first time only (so does a
CronJob's, but for schedules of every hour or minute, which run all the time in both).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_NO_NAMES: dict[str, int] = {}
_FIELDS = (
    ("minute", 0, 59, _NO_NAMES),
    ("hour", 0, 23, _NO_NAMES),
    ("day of the month", 1, 31, _NO_NAMES),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)


class ScheduleError(ValueError):
    """A text that is no schedule, or no time zone; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is done. Ticks are instants in UTC, whole minutes."""

    text: str
    zone: ZoneInfo
    _fields: str
    """Five fields of numbers, as cronsim walks them."""

    @classmethod
    def parse(cls, text: str, time_zone: str | None = None) -> "Schedule":
        """Return the schedule that ``text`` says in ``time_zone`` (default UTC). Raises ``ScheduleError``."""
        zone = _zone(time_zone)
        fields = _normal(text)
        schedule = cls(text, zone, fields)
        if schedule.next_after(datetime(2000, 1, 1, tzinfo=UTC)) is None:
            raise ScheduleError(f"{text[:64]!r} never comes: no month has such a day")
        return schedule

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first tick after ``moment``; None when there is none in 50 years."""
        return next(self._forward(moment), None)

    def latest(self, after: datetime, now: datetime) -> datetime | None:
        """Return the last tick after ``after`` and not after ``now``: of all that were missed the one to catch up.

        None when none is due. Takes the same time however long nobody looked.
        """
        start = now.astimezone(self.zone).replace(microsecond=0) + _SECOND
        for found in CronSim(self._fields, start, reverse=True):
            tick = found.astimezone(UTC)
            if tick > now:
                continue
            # In the hour that comes twice cronsim walks back past ticks that are, and to some that are not.
            last = None
            for later in self._forward(tick - _MINUTE):
                if later > now:
                    break
                last = later
            if last is not None or tick <= after:
                return last if last is not None and last > after else None
        return None

    def count(self, after: datetime, now: datetime, most: int = 100) -> int:
        """Return how many ticks there are after ``after`` and not after ``now``, at most ``most``."""
        total = 0
        for tick in self._forward(after):
            if tick > now or total >= most:
                break
            total += 1
        return total

    def _forward(self, moment: datetime) -> Iterator[datetime]:
        """Yield ticks. In the hour that comes twice cronsim may begin with one that has been."""
        last = moment
        for found in CronSim(self._fields, moment.astimezone(self.zone)):
            tick = found.astimezone(UTC)
            if tick > last:
                last = tick
                yield tick


def _zone(name: str | None) -> ZoneInfo:
    if name is None:
        return ZoneInfo("UTC")
    if name.lower() == "local":
        raise ScheduleError("time zone 'Local' is whatever the operator's host has: name one, such as Europe/Berlin")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"{name[:64]!r} is no time zone: write one such as Europe/Berlin or UTC") from error


def _normal(text: str) -> str:
    """Return ``text`` as five fields of numbers. Raises ``ScheduleError``."""
    stripped = text.strip()
    if stripped.upper().startswith(("TZ=", "CRON_TZ=")):
        raise ScheduleError(f"{text[:64]!r}: give the time zone in timeZone")
    if stripped.startswith("@"):
        macro = _MACROS.get(stripped.lower())
        if macro is None:
            raise ScheduleError(f"{text[:64]!r} is no schedule: the macros are {', '.join(_MACROS)}")
        stripped = macro
    parts = stripped.split()
    if len(parts) != len(_FIELDS):
        raise ScheduleError(
            f"{text[:64]!r} is no schedule: it has {len(parts)} fields; write minute, hour, day of the month, month "
            "and day of the week, such as '0 3 * * *'"
        )
    fields = [_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True)]
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ScheduleError(f"{text[:64]!r} never comes: no month has such a day") from error
    return " ".join(fields)


def _field(part: str, what: str, least: int, most: int, names: dict[str, int]) -> str:
    """Return one field as numbers, or as ``*`` when it restricts nothing by the rule of CronJobs: a star with a step
    does.
    """
    found: set[int] = set()
    star = False
    for term in part.split(","):
        values, is_star = _term(term, what, least, most, names)
        found |= values
        star |= is_star
    return "*" if star else ",".join(str(number) for number in sorted(found))


def _term(term: str, what: str, least: int, most: int, names: dict[str, int]) -> tuple[set[int], bool]:
    span, slash, step_text = term.partition("/")
    step = _number(step_text, term, what, 1, 10_000, _NO_NAMES) if slash else 1
    low, dash, high = span.partition("-")
    if low in ("*", "?"):
        if dash:
            raise ScheduleError(f"{term[:32]!r} is no {what}: a star has no range")
        return set(range(least, most + 1, step)), step == 1
    first = _number(low, term, what, least, most, names)
    if dash:
        last = _number(high, term, what, least, most, names)
    else:
        last = most if slash else first
    if last < first:
        raise ScheduleError(f"{term[:32]!r} is no {what}: the range ends before it begins")
    return set(range(first, last + 1, step)), False


def _number(text: str, term: str, what: str, least: int, most: int, names: dict[str, int]) -> int:
    number = names.get(text.lower())
    if number is None:
        if not (text.isascii() and text.isdigit()) or len(text) > 5:
            hint = f" or {', '.join(names)}" if names else ""
            raise ScheduleError(f"{term[:32]!r} is no {what}: write {least} to {most}{hint}, with , - / and *")
        number = int(text)
    if not least <= number <= most:
        hint = "; Sunday is 0" if what == "day of the week" and number == most + 1 else ""
        raise ScheduleError(f"{term[:32]!r} is no {what}: it goes from {least} to {most}{hint}")
    return number
