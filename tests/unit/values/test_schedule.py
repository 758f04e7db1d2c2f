"""Schedules: CronJob's syntax, time zones, changes of the clock, leap days, and which tick is due."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.values.schedule import Schedule, ScheduleError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NEXT = [
    ("0 3 * * *", None, "2026-01-01 00:00", "2026-01-01 03:00", "daily"),
    ("0 3 * * *", None, "2026-01-01 03:00", "2026-01-02 03:00", "after means after"),
    ("@hourly", None, "2026-01-01 00:30", "2026-01-01 01:00", "a macro"),
    ("@DAILY", None, "2026-01-01 00:30", "2026-01-02 00:00", "a macro in capitals"),
    ("@weekly", None, "2026-01-01 00:00", "2026-01-04 00:00", "Sunday"),
    ("@monthly", None, "2026-01-02 00:00", "2026-02-01 00:00", "the first"),
    ("@yearly", None, "2026-01-02 00:00", "2027-01-01 00:00", "New Year"),
    ("0 0 ? * *", None, "2026-01-01 00:00", "2026-01-02 00:00", "a question mark is a star"),
    ("  15,45   3-4 * * *  ", None, "2026-01-01 03:15", "2026-01-01 03:45", "white space, lists, ranges"),
    ("*/20 * * * *", None, "2026-01-01 00:01", "2026-01-01 00:20", "a step"),
    ("5/20 * * * *", None, "2026-01-01 00:06", "2026-01-01 00:25", "a step from a number to the end"),
    ("5-5/2 * * * *", None, "2026-01-01 00:06", "2026-01-01 01:05", "a range of one, with a step"),
    ("*/90 * * * *", None, "2026-01-01 00:01", "2026-01-01 01:00", "a step beyond the field: its first"),
    ("0 0 * * MON-fri", None, "2026-01-02 12:00", "2026-01-05 00:00", "names of days, in any case"),
    ("0 0 1 feb *", None, "2026-01-02 12:00", "2026-02-01 00:00", "names of months"),
    ("0 0 13 * 5", None, "2026-01-01 00:00", "2026-01-02 00:00", "both days restricted: either"),
    ("0 0 */2 * 1", None, "2026-01-05 00:00", "2026-01-07 00:00", "a star with a step restricts, as for CronJobs"),
    ("0 0 31 * *", None, "2026-01-31 00:00", "2026-03-31 00:00", "months without a 31st are left out"),
    ("0 0 30 2 1", None, "2026-01-01 00:00", "2026-02-02 00:00", "no 30th of February, but Mondays"),
    ("0 12 29 2 *", None, "2026-01-01 00:00", "2028-02-29 12:00", "a leap day"),
    ("0 12 29 2 *", None, "2096-03-01 00:00", "2104-02-29 12:00", "2100 has none"),
    ("0 3 * * *", "Europe/Berlin", "2026-01-01 00:00", "2026-01-01 02:00", "winter"),
    ("0 3 * * *", "Europe/Berlin", "2026-07-01 00:00", "2026-07-01 01:00", "summer"),
    ("0 3 * * *", "Asia/Kolkata", "2026-01-01 00:00", "2026-01-01 21:30", "half an hour"),
    ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00", "clocks jump over it: right after"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 00:30", "it comes twice: the first time"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-26 01:30", "and not the second time"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10", "2026-10-26 01:30", "also when asked in between"),
    ("30 * * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-25 01:30", "every hour runs in both"),
    ("30 * * * *", "Europe/Berlin", "2026-03-29 00:30", "2026-03-29 01:30", "and has no gap"),
    ("0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 03:00", "midnight is jumped over: 1 o'clock"),
    ("15 1 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", "2026-10-03 14:45", "clocks that jump half an hour"),
]


@pytest.mark.parametrize(("text", "zone", "after", "tick", "why"), NEXT, ids=[f"{r[0]} {r[4]}" for r in NEXT])
def test_schedule_ticks_when_people_expect_it(text: str, zone: str | None, after: str, tick: str, why: str) -> None:
    assert Schedule.parse(text, zone).next_after(at(after)) == at(tick), why


REFUSED = [
    ("", None, "0 fields", "empty"),
    ("* * * *", None, "4 fields", "too few"),
    ("0 0 3 * * *", None, "6 fields", "seconds"),
    ("@every 1h", None, "the macros are", "counts from nowhere"),
    ("@reboot", None, "the macros are", "no time"),
    ("TZ=Europe/Berlin 0 3 * * *", None, "timeZone", "a zone within"),
    ("CRON_TZ=UTC 0 3 * * *", None, "timeZone", "a zone within"),
    ("60 * * * *", None, "0 to 59", "too large"),
    ("* 24 * * *", None, "0 to 23", "too large"),
    ("* * 0 * *", None, "1 to 31", "too small"),
    ("* * * 13 *", None, "1 to 12", "too large"),
    ("* * * * 7", None, "Sunday is 0", "CronJobs know no 7 either"),
    ("* * L * *", None, "day of the month", "cronsim's last day"),
    ("* * LW * *", None, "day of the month", "cronsim's last weekday"),
    ("* * * * 1#2", None, "day of the week", "cronsim's second Monday"),
    ("* * * * 5L", None, "day of the week", "cronsim's last Friday"),
    ("* * 15W * *", None, "day of the month", "Quartz's nearest weekday"),
    ("*/0 * * * *", None, "1 to 10000", "a step of nothing"),
    ("*-5 * * * *", None, "a star has no range", "no range"),
    ("5-1 * * * *", None, "ends before it begins", "backwards"),
    ("1,,2 * * * *", None, "minute", "an empty term"),
    ("-1 * * * *", None, "minute", "a sign"),
    ("+1 * * * *", None, "minute", "a sign"),
    ("١ * * * *", None, "minute", "Arabic digit"),
    ("mon * * * *", None, "minute", "a day as a minute"),
    ("* * * * monday", None, "sun, mon", "a whole name"),
    ("0 0 30 2 *", None, "never comes", "no such day"),
    ("0 0 31 4,6,9,11 *", None, "never comes", "no such day"),
    ("0 3 * * *", "Mars/Olympus", "no time zone", "unknown"),
    ("0 3 * * *", "Local", "Local", "nobody knows where"),
    ("0 3 * * *", "", "no time zone", "empty"),
    ("0 3 * * *", "../UTC", "no time zone", "a path"),
    ("0 3 * * *", "/etc/localtime", "no time zone", "a path"),
]


@pytest.mark.parametrize(("text", "zone", "told", "why"), REFUSED, ids=[f"{r[0]!r} {r[3]}" for r in REFUSED])
def test_schedule_that_a_cronjob_would_not_take_is_refused(text: str, zone: str | None, told: str, why: str) -> None:
    with pytest.raises(ScheduleError) as refusal:
        Schedule.parse(text, zone)
    assert told in str(refusal.value), why


DUE = [
    ("0 3 * * *", "2026-01-01 02:00", "2026-01-01 02:59", None, "not yet"),
    ("0 3 * * *", "2026-01-01 02:00", "2026-01-01 03:00", "2026-01-01 03:00", "at the minute"),
    ("0 3 * * *", "2026-01-01 03:00", "2026-01-01 03:00", None, "it was done"),
    ("0 3 * * *", "2026-01-01 03:00", "2026-01-05 12:00", "2026-01-05 03:00", "of four missed ones the last"),
    ("* * * * *", "2016-01-01 00:00", "2026-01-05 12:00", "2026-01-05 12:00", "after ten years of minutes"),
    ("0 0 29 2 *", "2025-01-01 00:00", "2026-01-05 12:00", None, "not in these years"),
]


@pytest.mark.parametrize(("text", "after", "now", "tick", "why"), DUE, ids=[row[4] for row in DUE])
def test_latest_of_the_missed_ticks_is_caught_up(text: str, after: str, now: str, tick: str | None, why: str) -> None:
    assert Schedule.parse(text).latest(at(after), at(now)) == (at(tick) if tick else None), why


TEXTS = st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15 0,2,3 * * *", "30 * * * *"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
MOMENTS = st.integers(0, 2 * 365 * 86_400).map(
    lambda seconds: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(TEXTS, ZONES, MOMENTS, st.integers(0, 60 * 60 * 30))
def test_ticks_grow_and_the_latest_is_the_last_of_them(text: str, zone: str, start: datetime, seconds: int) -> None:
    schedule, now = Schedule.parse(text, zone), start + timedelta(seconds=seconds)
    ticks, tick = [], schedule.next_after(start)
    while tick is not None and tick <= now:
        ticks.append(tick)
        tick = schedule.next_after(tick)
    assert all(earlier < later for earlier, later in pairwise(ticks))
    assert schedule.count(start, now, most=10_000) == len(ticks)
    assert schedule.latest(start, now) == (ticks[-1] if ticks else None)


TWICE = [
    ("*/10 * * * *", "Europe/Berlin", "2026-10-25 01:10", "2026-10-25 01:10", "the second hour has its ticks"),
    ("0 * * * *", "America/New_York", "2026-11-01 06:00", "2026-11-01 06:00", "and its first"),
    (
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-25 01:10",
        "2026-10-25 00:30",
        "missed in the first, caught up in the second",
    ),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25 01:45", "2026-10-25 00:30", "not one of the second hour"),
    ("*/10 * * * *", "Australia/Lord_Howe", "2026-04-04 15:05", "2026-04-04 15:00", "half an hour that comes twice"),
]


@pytest.mark.parametrize(("text", "zone", "now", "tick", "why"), TWICE, ids=[row[4] for row in TWICE])
def test_latest_tick_in_the_hour_that_comes_twice_is_that_of_the_walk_forward(
    text: str, zone: str, now: str, tick: str, why: str
) -> None:
    moment = at(now)
    assert Schedule.parse(text, zone).latest(moment - timedelta(hours=30), moment) == at(tick), why
