"""Ticks: which is due, catching up, suspending, clocks that are set, requests, and what names a tick."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.values.schedule import (
    Memory,
    ScheduleError,
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
from invocation_operator.values.schedule.ticks import AHEAD, LONGEST_SECONDS, REQUESTED_AT


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NIGHTLY = Timetable("0 3 * * *")
BERLIN = Timetable("30 2 * * *", "Europe/Berlin")
MONTH_END = Timetable("0 0 31 * *")
LEAP_DAY = Timetable("0 12 29 2 *")
NOW = at("2026-11-25 12:00")


def known(table: Timetable, since: str, last: str | None = None) -> Memory:
    return Memory(table.text, at(since), at(last) if last is not None else None)


LATE = timedelta(hours=1)
LATE_NIGHTLY = Timetable("0 3 * * *", deadline=LATE)
DUE = [
    ("not yet", NIGHTLY, "2026-11-25 00:00", None, "2026-11-25 02:59", None),
    ("at its minute", NIGHTLY, "2026-11-25 00:00", None, "2026-11-25 03:00", "2026-11-25 03:00"),
    ("known since that very minute", NIGHTLY, "2026-11-25 03:00", None, "2026-11-25 03:00", None),
    ("taken", NIGHTLY, "2026-11-20 00:00", "2026-11-25 03:00", "2026-11-25 12:00", None),
    ("of nine missed ones the last", NIGHTLY, "2026-11-16 00:00", None, "2026-11-24 12:00", "2026-11-24 03:00"),
    ("taken long ago", NIGHTLY, "2020-01-01 00:00", "2026-01-01 03:00", "2026-11-24 12:00", "2026-11-24 03:00"),
    ("suspended", Timetable("0 3 * * *", suspend=True), "2026-11-16 00:00", None, "2026-11-24 12:00", None),
    ("at the end of its deadline", LATE_NIGHTLY, "2026-11-16 00:00", None, "2026-11-24 04:00", "2026-11-24 03:00"),
    ("past its deadline", LATE_NIGHTLY, "2026-11-16 00:00", None, "2026-11-24 04:01", None),
    ("clocks jump over it: right after", BERLIN, "2026-03-28 12:00", None, "2026-03-29 01:00", "2026-03-29 01:00"),
    ("clocks jump over it: not before", BERLIN, "2026-03-28 12:00", None, "2026-03-29 00:59", None),
    ("it comes twice: the first", BERLIN, "2026-10-24 12:00", None, "2026-10-25 00:30", "2026-10-25 00:30"),
    ("and not the second", BERLIN, "2026-10-24 12:00", "2026-10-25 00:30", "2026-10-25 01:30", None),
    ("a month without a 31st", MONTH_END, "2026-04-01 00:00", "2026-03-31 00:00", "2026-05-30 23:59", None),
    ("the next 31st", MONTH_END, "2026-04-01 00:00", "2026-03-31 00:00", "2026-05-31 00:00", "2026-05-31 00:00"),
    ("no leap year", LEAP_DAY, "2026-01-01 00:00", None, "2027-12-31 00:00", None),
    ("a leap day, missed", LEAP_DAY, "2026-01-01 00:00", None, "2028-03-07 00:00", "2028-02-29 12:00"),
    ("the clock steps back after it", NIGHTLY, "2026-11-20 00:00", "2026-11-25 03:00", "2026-11-25 02:59", None),
    ("and comes by again", NIGHTLY, "2026-11-20 00:00", "2026-11-25 03:00", "2026-11-25 03:00", None),
    ("the clock steps back over its beginning", NIGHTLY, "2026-11-25 03:30", None, "2026-11-25 03:10", None),
]


@pytest.mark.parametrize(("why", "table", "since", "last", "now", "tick"), DUE, ids=[row[0] for row in DUE])
def test_due_is_the_last_tick_that_nobody_has_seen_to(
    why: str, table: Timetable, since: str, last: str | None, now: str, tick: str | None
) -> None:
    assert due(table, known(table, since, last), at(now)) == (Tick(at(tick)) if tick else None), why


FOLLOWING = [
    ("later today", NIGHTLY, None, "2026-11-25 02:00", "2026-11-25 03:00"),
    ("tomorrow", NIGHTLY, None, "2026-11-25 03:00", "2026-11-26 03:00"),
    (
        "the clock stepped back: not the one that was",
        NIGHTLY,
        "2026-11-25 03:00",
        "2026-11-25 02:59",
        "2026-11-26 03:00",
    ),
    ("suspended", Timetable("0 3 * * *", suspend=True), None, "2026-11-25 02:00", None),
    ("over the jump", BERLIN, None, "2026-03-28 12:00", "2026-03-29 01:00"),
    ("past the hour that comes twice", BERLIN, "2026-10-25 00:30", "2026-10-25 00:45", "2026-10-26 01:30"),
]


@pytest.mark.parametrize(("why", "table", "last", "now", "tick"), FOLLOWING, ids=[row[0] for row in FOLLOWING])
def test_following_tick_is_one_that_has_not_been(
    why: str, table: Timetable, last: str | None, now: str, tick: str | None
) -> None:
    assert following(table, known(table, "2026-01-01 00:00", last), at(now)) == (at(tick) if tick else None), why


def test_schedule_that_cannot_be_read_is_told_also_while_suspended() -> None:
    wrong = Timetable("0 0 30 2 *")
    with pytest.raises(ScheduleError):
        due(wrong, Memory(), NOW)
    for table in (wrong, Timetable("0 0 30 2 *", suspend=True), Timetable("0 3 * * *", "Mars/Olympus")):
        with pytest.raises(ScheduleError):
            following(table, Memory(), NOW)


def test_timetable_that_is_new_or_another_catches_up_nothing_from_before() -> None:
    fresh = remembered(NIGHTLY, Memory(), NOW + timedelta(microseconds=7))
    assert fresh == Memory("0 3 * * * UTC", NOW)
    assert remembered(NIGHTLY, fresh, NOW + timedelta(days=9)) == fresh, "known, and so it stays"
    for other in (Timetable("0 2 * * *"), Timetable("0 3 * * *", "Europe/Berlin")):
        begun = remembered(other, known(NIGHTLY, "2026-11-01 00:00", "2026-11-25 03:00"), NOW)
        assert begun == Memory(other.text, NOW, at("2026-11-25 03:00"))
        assert due(other, begun, NOW) is None


def test_timetable_with_a_head_start_has_its_first_tick_at_once() -> None:
    table = Timetable("*/10 * * * *", head_start=timedelta(minutes=10))
    begun = remembered(table, Memory(), at("2026-11-25 12:04"))
    assert due(table, begun, at("2026-11-25 12:04")) == Tick(at("2026-11-25 12:00"))


def test_what_a_clock_remembered_that_was_far_ahead_keeps_no_tick() -> None:
    """An operator whose clock stood in another year for a minute had kept every sweep until that year."""
    for wrong in (known(NIGHTLY, "2031-01-01 00:00"), known(NIGHTLY, "2026-01-01 00:00", "2031-01-01 03:00")):
        begun = remembered(NIGHTLY, wrong, NOW)
        assert begun == Memory(NIGHTLY.text, NOW)
        assert due(NIGHTLY, begun, NOW) is None
        assert due(NIGHTLY, begun, NOW + timedelta(days=1)) == Tick(at("2026-11-26 03:00"))
    near = Memory(NIGHTLY.text, NOW, NOW + AHEAD)
    assert remembered(NIGHTLY, near, NOW) == near, "two operators may differ by that, and must not undo each other's"


def test_tick_that_came_to_nothing_is_due_again_and_a_request_is_no_time() -> None:
    memory, tick = known(NIGHTLY, "2026-11-20 00:00"), Tick(at("2026-11-25 03:00"))
    done = taken(memory, tick)
    assert due(NIGHTLY, done, NOW) is None
    assert due(NIGHTLY, given_back(done), NOW) == tick
    assert given_back(memory) == memory
    assert taken(memory, Tick(request="now")) == memory


def annotated(value: str) -> dict[str, str]:
    return {REQUESTED_AT: value, "other": "x"}


ASKED = [
    ("no annotations", None, None, None),
    ("another annotation", {"other": "x"}, None, None),
    ("the first", annotated("2026-11-25T12:00:00Z"), None, "2026-11-25T12:00:00Z"),
    ("the same", annotated("2026-11-25T12:00:00Z"), "2026-11-25T12:00:00Z", None),
    ("a newer time", annotated("2026-11-25T13:00:00Z"), "2026-11-25T12:00:00Z", "2026-11-25T13:00:00Z"),
    ("an older time: it is a token", annotated("2026-11-24T12:00:00Z"), "2026-11-25T12:00:00Z", "2026-11-24T12:00:00Z"),
    ("no time at all: it is a token", annotated("INC-1234"), "2026-11-25T12:00:00Z", "INC-1234"),
    ("empty", annotated(""), "2026-11-25T12:00:00Z", None),
    ("taken away", {}, "2026-11-25T12:00:00Z", None),
    ("several lines", annotated("a\nb"), None, "a\ufffdb"),
    ("too long: cut", annotated("x" * 500), None, "x" * 127 + "…"),
    ("too long, and seen to", annotated("x" * 500), "x" * 127 + "…", None),
]


@pytest.mark.parametrize(("why", "annotations", "handled", "request_"), ASKED, ids=[row[0] for row in ASKED])
def test_change_of_the_annotation_is_one_tick(
    why: str, annotations: dict[str, str] | None, handled: str | None, request_: str | None
) -> None:
    assert asked(annotations, handled) == (Tick(request=request_) if request_ is not None else None), why


KEYS = [
    (Tick(at("2026-11-25 03:00")), "2026-11-25T03:00:00Z"),
    (Tick(request="now"), "request now"),
    (Tick(request="2026-11-25T03:00:00Z"), "request 2026-11-25T03:00:00Z"),
    (Tick(request="request now"), "request request now"),
]


@pytest.mark.parametrize(("tick", "key"), KEYS, ids=[row[1] for row in KEYS])
def test_key_names_one_tick(tick: Tick, key: str) -> None:
    assert tick.key == key
    assert Tick.of_key(key) == tick


def test_what_is_no_key_names_no_tick() -> None:
    assert [Tick.of_key(text) for text in ("", "now", "25:00", "requestnow")] == [None] * 4
    for both in ({}, {"at": NOW, "request": "now"}):
        with pytest.raises(ValueError, match="a time or a request"):
            Tick(**both)


def test_wait_is_until_the_first_time_and_never_long() -> None:
    soon, late = NOW + timedelta(seconds=7), NOW + timedelta(days=1)
    assert wait_seconds([None, late, soon], NOW) == 7.0
    assert wait_seconds([late], NOW) == LONGEST_SECONDS
    assert wait_seconds([NOW - timedelta(hours=1), late], NOW) == 0.0
    assert wait_seconds([], NOW) == LONGEST_SECONDS


TABLES = st.builds(
    Timetable,
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 */3 * * *", "0 0 31 * *", "30 * * * *"]),
    st.sampled_from([None, "Europe/Berlin", "Australia/Lord_Howe"]),
    st.booleans(),
    st.sampled_from([None, timedelta(minutes=5), timedelta(days=2)]),
)
STEPS = st.lists(st.integers(-3 * 86_400, 5 * 86_400), max_size=40)


@given(st.lists(TABLES, min_size=1, max_size=3), STEPS)
def test_no_tick_is_taken_twice_nor_early_nor_late_however_the_clock_is_set(
    tables: list[Timetable], steps: list[int]
) -> None:
    """The timetable changes now and then; looks come at any time, also up to a day before earlier ones."""
    now = latest = at("2026-10-20 00:00")
    memory, ticks = Memory(), list[datetime]()
    for number, step in enumerate(steps):
        now = max(now + timedelta(seconds=step), latest - AHEAD)
        latest = max(latest, now)
        table = tables[number % len(tables)] if number % 5 == 0 else tables[0]
        memory = remembered(table, memory, now)
        tick = due(table, memory, now)
        if tick is not None:
            assert tick.at is not None
            assert not table.suspend
            assert tick.at <= now
            assert table.deadline is None or now - tick.at <= table.deadline
            ticks.append(tick.at)
            memory = taken(memory, tick)
        assert due(table, memory, now) is None
    assert ticks == sorted(set(ticks))
