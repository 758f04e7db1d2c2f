"""Instants at the engine's resolution."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.values import times

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "reason"),
    [
        ("2026-01-01T12:00:00.518Z", NOON + timedelta(milliseconds=518), "as the engine writes"),
        ("2026-01-01T12:00:00Z", NOON, "without a fraction when it is zero"),
        ("2026-01-01T12:00:00.5Z", NOON + timedelta(milliseconds=500), "short fraction"),
        ("2026-01-01T14:00:00+02:00", NOON, "an offset"),
        ("2026-01-01T12:00:00", NOON, "no zone is UTC"),
    ],
)
def test_time_of_the_engine_is_read_as_utc(text: str, moment: datetime, reason: str) -> None:
    assert times.parse_time(text) == moment, reason
    assert times.parse_time(text).tzinfo is UTC


def test_format_is_rfc_3339_in_utc() -> None:
    assert times.format_time(NOON.astimezone(timezone(timedelta(hours=5)))) == "2026-01-01T12:00:00Z"
    assert times.format_time(NOON + timedelta(microseconds=5)) == "2026-01-01T12:00:00.000005Z"


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 10**14))
def test_full_millisecond_keeps_every_comparison_with_engine_times(bound: datetime, millis: int) -> None:
    """Both ``t < bound`` and ``t >= bound`` are the same before and after raising, for whole milliseconds."""
    raised = times.full_millisecond(bound)
    moment = times.EPOCH + timedelta(milliseconds=millis)
    assert (moment < bound) == (moment < raised)
    assert raised.microsecond % 1000 == 0
    assert times.EPOCH + timedelta(milliseconds=times.milliseconds(raised)) == raised


def test_before_beyond_the_year_one_stays_there() -> None:
    assert times.before(NOON, timedelta(days=7_304_484)) == times.EARLIEST
    assert times.before(NOON, timedelta(microseconds=1)) == NOON
    assert times.before(NOON, timedelta(milliseconds=1)) == NOON - timedelta(milliseconds=1)


def test_after_beyond_the_year_9999_stays_there() -> None:
    assert times.after(NOON, timedelta(days=7_304_484)) == times.LATEST
    assert times.after(NOON, times.LATEST - NOON) == times.LATEST
    assert times.after(NOON, timedelta(seconds=1)) == NOON + timedelta(seconds=1)


@pytest.mark.parametrize("moment", [datetime.max.replace(tzinfo=timezone(timedelta(hours=h))) for h in (0, -5)])
def test_end_of_time_is_a_full_millisecond(moment: datetime) -> None:
    assert times.full_millisecond(moment) == times.LATEST


def test_beginning_of_time_in_an_eastern_zone_stays_in_range() -> None:
    assert times.in_utc(datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))) == times.EARLIEST
