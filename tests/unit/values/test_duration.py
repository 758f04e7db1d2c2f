"""Durations: the engine's grammar (tried on 1.7.12), one canonical spelling."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.values.duration import (
    DURATION_PATTERN,
    LONGEST,
    DurationError,
    format_duration,
    parse_duration,
)

ACCEPTED = [
    ("30s", "30s", "plain"),
    ("15m", "15m", "plain"),
    ("1d12h", "1d12h", "two units"),
    ("1h 30m", "1h30m", "space between units"),
    ("1h, 30m", "1h30m", "comma and space between units"),
    ("1h,  30m", "1h30m", "more space after a comma"),
    ("1h\t30m\n", "1h30m", "any white space, also at the end (a YAML block)"),
    ("1 h", "1h", "space before the unit"),
    ("90s", "1m30s", "larger units are used"),
    ("60m", "1h", "as the engine shows it"),
    ("1.5h", "1h30m", "a fraction"),
    ("1,5h", "1h30m", "a fraction with a comma"),
    ("1h1.5m", "1h1m30s", "a fraction in the last unit"),
    ("2 hrs 3 min", "2h3m", "words"),
    ("1 week", "7d", "weeks are seven days"),
    ("1wks 2days 3hours", "9d3h", "plural of one"),
    ("500ms", "500ms", "milliseconds"),
    ("500us", "500us", "microseconds"),
    ("1µs", "1us", "the micro sign"),
    ("1000ns", "1us", "nanoseconds that are whole microseconds"),
    ("24:00:00", "1d", "clock"),
    ("1:2:3", "1h2m3s", "clock, single digits"),
    ("01:60:00", "2h", "clock, sixty minutes"),
    ("1d 01:00:00.5", "1d1h500ms", "days and clock"),
    ("1w1d01:00:00", "8d1h", "weeks, days and clock"),
    ("PT15M", "15m", "ISO 8601"),
    ("pt15m", "15m", "ISO 8601, lower case"),
    ("P1D", "1d", "ISO days"),
    ("P1W", "7d", "ISO weeks"),
    ("P1W1DT2H", "8d2h", "ISO, all of it"),
    ("PT1.5H", "1h30m", "ISO fraction"),
    ("PT86400S", "1d", "as sys_invocation shows a day"),
    ("P0D", "0s", "as sys_invocation shows zero"),
    ("0", "0s", "zero needs no unit"),
    ("0s", "0s", "zero"),
    ("00001d", "1d", "leading zeros"),
    ("7304484d", "7304484d", "the longest"),
]

REFUSED = [
    ("", "15m", "empty"),
    (" ", "15m", "blank"),
    ("5", "5s", "a unit is missing"),
    ("1500", "a unit is missing", "the engine refuses it too"),
    ("00", "a unit is missing", "only 0 stands alone"),
    ("-1h", "no sign", "negative"),
    ("+1h", "no sign", "positive sign"),
    ("-P1D", "no sign", "negative ISO"),
    ("1h ago", "no sign", "negative in words"),
    ("1 month", "days", "months vary"),
    ("1mo", "days", "months vary"),
    ("1y", "days", "years vary"),
    ("200y", "days", "years vary"),
    ("P1M", "days", "ISO months"),
    ("P1Y2D", "days", "ISO years"),
    ("abc", "15m", "no duration"),
    (" 1h", "15m", "space in front"),
    ("1H", "lower case", "upper case"),
    ("1M", "lower case", "minutes or months?"),
    ("1h30", "15m", "last unit missing"),
    ("30m1h", "largest unit first", "order"),
    ("1h1h", "largest unit first", "twice"),
    ("1h,30m", "15m", "comma without space"),
    ("1h, ", "15m", "comma at the end"),
    ("1h,", "15m", "comma at the end"),
    ("1h , 30m", "15m", "space before comma"),
    ("1.5d", "not in days", "fractional days"),
    ("1.5w", "not in days", "fractional weeks"),
    ("P1.5D", "not in days", "fractional ISO days"),
    ("1.5h30m", "fraction only in the last", "fraction in the middle"),
    ("PT1.5H30M", "fraction only in the last", "fraction in the middle, ISO"),
    ("1.h", "15m", "fraction without digits"),
    (".5h", "15m", "fraction without whole"),
    ("01:00", "15m", "clock without seconds"),
    ("1h 01:00:00", "15m", "clock after hours"),
    ("P", "15m", "empty ISO"),
    ("PT", "15m", "empty ISO time"),
    ("P1DT", "15m", "empty ISO time"),
    ("PT1H ", "15m", "space after ISO"),
    ("PT1S1M", "largest unit first", "order, ISO"),
    ("1h and 30m", "15m", "words between"),
    ("1e3s", "15m", "exponent"),
    ("١h", "15m", "Arabic digit"),
    ("１h", "15m", "wide digit"),
    ("1\u00a0h", "15m", "no-break space"),
    ("1\vh", "15m", "vertical tab"),
    ("1μs", "15m", "the Greek letter is not the micro sign"),
    ("1h\x00", "15m", "NUL"),
    ("1ns", "250us", "finer than a microsecond"),
    ("1.5us", "250us", "finer than a microsecond"),
    ("7304485d", "7304484d", "the engine's own limit"),
    ("175307617h", "7304484d", "the engine drops the connection at this one"),
    ("1043497w 6d", "7304484d", "and at this one"),
    ("99999999999999999999h", "7304484d", "absurd"),
]


@pytest.mark.parametrize(("text", "shown", "reason"), ACCEPTED, ids=[row[0].strip() for row in ACCEPTED])
def test_duration_that_the_engine_accepts_is_read(text: str, shown: str, reason: str) -> None:
    assert format_duration(parse_duration(text)) == shown, reason


@pytest.mark.parametrize(("text", "hint", "reason"), REFUSED, ids=[repr(row[0]) for row in REFUSED])
def test_duration_that_is_none_is_refused_with_advice(text: str, hint: str, reason: str) -> None:
    with pytest.raises(DurationError) as caught:
        parse_duration(text)
    assert hint in str(caught.value), reason


@pytest.mark.parametrize("text", [row[0] for row in ACCEPTED])
def test_pattern_accepts_what_is_accepted(text: str) -> None:
    assert re.fullmatch(DURATION_PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        t
        for t, hint, _ in REFUSED
        if hint not in {"250us", "7304484d"} and t not in {"1h, ", "1\vh", "1h\x00", "١h", "１h", "1\u00a0h"}
    ],
)
def test_pattern_refuses_what_is_refused(text: str) -> None:
    """Exceptions: what no RE2 pattern can say, and classes that RE2 reads as ASCII and Python does not."""
    assert not re.fullmatch(DURATION_PATTERN, text)


def test_pattern_has_nothing_that_re2_lacks() -> None:
    assert not re.search(r"\(\?[=!<]|\\[1-9]|[*+?]\+", DURATION_PATTERN)
    assert len(DURATION_PATTERN) < 1000


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
def test_format_of_any_length_is_read_back_exactly(length: timedelta) -> None:
    text = format_duration(length)
    assert parse_duration(text) == length
    assert format_duration(parse_duration(text)) == text
    assert len(text) <= 64


def test_format_of_a_negative_length_raises() -> None:
    with pytest.raises(DurationError):
        format_duration(timedelta(seconds=-1))


@given(st.text(alphabet="0123456789.,:+- \nPTWDHMSdhmsuwnµeconaiy", max_size=20))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        length = parse_duration(text)
    except DurationError:
        return
    assert timedelta(0) <= length <= LONGEST
    assert re.fullmatch(DURATION_PATTERN, text)
