"""Lengths of time as people and the engine write them: ``30s``, ``1d 12h``, ``1.5h``, ``24:00:00``, ``PT15M``.

The grammar is the engine's own (jiff's friendly form and ISO 8601), tried on 1.7.12 text by text, so that a duration
means in a manifest what it means in ``PATCH /services``. Weeks and days are fixed lengths; months and years are not,
and are refused, as the engine does. Three things are stricter here: no sign, nothing finer than a microsecond, and a
cap on the total, because a sum above it makes the engine drop the connection instead of answering.

Used by the models (``DURATION_PATTERN``), the target language, canonical forms, and retention (compared as durations:
the engine answers ``1h`` for ``60m``).
"""

import re
from datetime import timedelta

LONGEST = timedelta(days=7_304_484)
"""The engine's own limit (jiff's range of days, about 20,000 years)."""

_UNITS = (
    ("weeks?|wks?|w", 604_800_000_000_000),
    ("days?|d", 86_400_000_000_000),
    ("hours?|hrs?|h", 3_600_000_000_000),
    ("minutes?|mins?|m", 60_000_000_000),
    ("seconds?|secs?|s", 1_000_000_000),
    ("milliseconds?|millis?|msecs?|ms", 1_000_000),
    ("microseconds?|micros?|usecs?|us|µs", 1_000),
    ("nanoseconds?|nanos?|nsecs?|ns", 1),
)
_FRACTION = r"(?:[.,]\d{1,9})?"


def _friendly() -> str:
    """Units from the largest to the smallest, each at most once; a fraction only on the last, and not on days."""

    def term(unit: int, fraction: str = "") -> str:
        return rf"\d+{fraction}\s*(?:{_UNITS[unit][0]})"

    def then(unit: int) -> str:
        return rf"(?:{term(unit)}(?:,?\s+)?)?"

    tail = then(7)
    for unit in range(6, 1, -1):
        tail = rf"(?:{term(unit, _FRACTION)}\s*|{then(unit)}{tail})"
    clock = rf"\d+:\d+:\d+{_FRACTION}\s*"
    return f"{then(0)}{then(1)}(?:{clock}|{tail})"


# \b after ^ demands a first character and \B after P and T a following one, without the lookahead that RE2 lacks.
_ISO_TIME = rf"[Tt]\B(?:\d+{_FRACTION}[Hh]|(?:\d+[Hh])?(?:\d+{_FRACTION}[Mm]|(?:\d+[Mm])?(?:\d+{_FRACTION}[Ss])?))"
_ISO = rf"[Pp]\B(?:\d+[Ww])?(?:\d+[Dd])?(?:{_ISO_TIME})?"

DURATION_PATTERN = rf"^\b(?:0|{_ISO}|{_friendly()})$"
"""What ``parse_duration`` accepts, as far as a regular expression (RE2, so that the CRD can carry it) can say: it does
not know the cap, sub-microsecond remainders, and a comma after the last unit."""

_SHAPE = re.compile(DURATION_PATTERN, re.ASCII)
_TERM = re.compile(r"(\d+)(?:[.,](\d{1,9}))?\s*([A-Za-zµ]+)", re.ASCII)
_CLOCK = re.compile(r"(\d+):(\d+):(\d+)(?:[.,](\d{1,9}))?\s*$", re.ASCII)
_CALENDAR = re.compile(r"\d\s*(?:y|yrs?|years?|mo|mos|months?)\b|^P[0-9WD]*\d+[YM]", re.IGNORECASE)
_ISO_UNITS = {"W": 0, "D": 1, "H": 2, "M": 3, "S": 4}
_FORMAT = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1))


class DurationError(ValueError):
    """A text that is no length of time; the message says what to write instead."""


def parse_duration(text: str) -> timedelta:
    """Return the length of time that ``text`` says, exactly. Raises ``DurationError``."""
    # fullmatch, because $ lets a newline through; a vertical tab is no space to RE2 and the engine.
    if not _SHAPE.fullmatch(text) or text.rstrip().endswith(",") or "\v" in text:
        raise DurationError(f"{text[:64]!r} is not a duration: {_advice(text)}")
    nanoseconds = _iso(text) if text[0] in "Pp" else _plain(text)
    if nanoseconds % 1_000:
        raise DurationError(f"{text[:64]!r} is not a duration: the finest unit is a microsecond, such as 250us")
    if nanoseconds // 1_000 > LONGEST // timedelta(microseconds=1):
        raise DurationError(f"{text[:64]!r} is too long: the most is {LONGEST.days}d")
    return timedelta(microseconds=nanoseconds // 1_000)


def format_duration(length: timedelta) -> str:
    """Return the one canonical text of ``length``: ``1d12h``, ``90s`` as ``1m30s``, nothing as ``0s``."""
    rest = length // timedelta(microseconds=1)
    if rest < 0:
        raise DurationError("a duration has no sign")
    text = ""
    for unit, size in _FORMAT:
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _iso(text: str) -> int:
    return sum(_amount(n, fraction, _ISO_UNITS[unit.upper()]) for n, fraction, unit in _TERM.findall(_spread(text)))


def _spread(text: str) -> str:
    """``P1DT2H`` as ``1D 2H``: one number and one letter at a time."""
    return re.sub(r"([A-Za-z])", r"\1 ", text[1:].upper().replace("T", ""))


def _plain(text: str) -> int:
    total = 0
    clock = _CLOCK.search(text)
    if clock:
        hours, minutes, seconds, fraction = clock.groups("")
        total = _amount(hours, "", 2) + _amount(minutes, "", 3) + _amount(seconds, fraction, 4)
        text = text[: clock.start()]
    return total + sum(_amount(n, fraction, _unit(word)) for n, fraction, word in _TERM.findall(text))


def _amount(whole: str, fraction: str, unit: int) -> int:
    """Nanoseconds; the engine cuts what a fraction says beyond them, and so does this."""
    size = _UNITS[unit][1]
    return int(whole) * size + int(fraction.ljust(9, "0")) * size // 1_000_000_000


def _unit(word: str) -> int:
    return next(i for i, (words, _) in enumerate(_UNITS) if re.fullmatch(words, word))


def _advice(text: str) -> str:
    if re.fullmatch(r"\s*\d+\s*", text):
        return f"a unit is missing, such as {text.strip()[:19]}s or {text.strip()[:19]}m"
    if text.lstrip().startswith(("-", "+")) or text.rstrip().endswith("ago"):
        return "it has no sign; write how long, such as 30m"
    if _CALENDAR.search(text):
        return "months and years differ in length; write days, such as 30d"
    return (
        "write 30s, 15m, 1d12h or PT15M (largest unit first, lower case, a fraction only in the last and not in days)"
    )
