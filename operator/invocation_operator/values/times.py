"""Instants: the engine's timestamps, and times of a specification brought to the engine's resolution.

The engine keeps milliseconds. A bound is therefore raised to the next full millisecond once, where it is frozen;
from then on SQL and Python compare whole milliseconds and cannot disagree. Both ``created < bound`` and
``created >= bound`` keep their meaning under that.
"""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def parse_time(text: str) -> datetime:
    """Return the UTC time of a timestamp as ``/query`` writes it (``2026-11-23T15:27:58.518Z``). Raises ValueError."""
    return in_utc(datetime.fromisoformat(text))


def in_utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; one without a zone is read as UTC."""
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return EARLIEST if moment.year == 1 else LATEST


def full_millisecond(moment: datetime) -> datetime:
    """Return ``moment`` in UTC, raised to the next full millisecond."""
    moment = in_utc(moment)
    if moment >= LATEST:
        return LATEST
    return moment + timedelta(microseconds=-moment.microsecond % 1_000)


def before(moment: datetime, length: timedelta) -> datetime:
    """Return the time ``length`` before ``moment``, as a full millisecond; at the earliest the year 1."""
    moment = in_utc(moment)
    return full_millisecond(moment - length) if length <= moment - EARLIEST else EARLIEST


def after(moment: datetime, length: timedelta) -> datetime:
    """Return the time ``length`` after ``moment``; at the latest the year 9999: a duration may be longer than that."""
    moment = in_utc(moment)
    return moment + length if length <= LATEST - moment else LATEST


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since the epoch of a full millisecond."""
    return (moment - EPOCH) // _MILLISECOND


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC, with a fraction only if there is one."""
    return in_utc(moment).isoformat().replace("+00:00", "Z")
