"""Rows out of the engine's JSON query result while it arrives, in flat memory and linear time.

``POST /query`` answers ``{"rows":[{…},{…}]}`` in one line, chunked, and a failure after the first batch shows only as
a body that stops. Called by ``engine.client``; pure. Invariant: either every row of the body comes out, each exactly
once and in order, or ``finish`` raises; rows are never silently fewer.

How: text up to the last ``},{"`` is parsed as one list by the C decoder. That sequence may also lie within a string
or a nested list; then the prefix is not valid JSON (an open string, an open bracket), and the rows are taken one by
one instead. What remains after an attempt is looked at again only when it has doubled, so that a long row is not
scanned once per chunk.
"""

import codecs
import json
import re
from typing import Any

ROW_LIMIT = 4 * 1024 * 1024
"""Longest row, in characters."""

_OPENING = re.compile(r'\s*\{\s*"rows"\s*:\s*\[\s*')
_OPENING_LIMIT = 256
_BOUNDARY = '},{"'
_SPACE = " \t\r\n"
_CLOSING = re.compile(r"\s*\]\s*\}\s*")

Row = dict[str, Any]


class RowsError(ValueError):
    """The text is not a query result."""


class TruncatedRowsError(RowsError):
    """The text is the beginning of a query result and not all of it."""


def _no_constant(name: str) -> None:
    raise RowsError(f"{name} is no JSON")


class RowDecoder:
    """Feed the body's bytes as they come, then ``finish``. Every call returns the rows that are complete by then.

    Integers keep their value whatever their size. Null columns are not in a row (the engine omits them).
    """

    def __init__(self, row_limit: int = ROW_LIMIT) -> None:
        self._row_limit = row_limit
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(parse_constant=_no_constant)
        self._pieces: list[str] = []
        self._length = 0
        self._due = 0
        self._opened = False
        self._first = True
        self._closed = False

    def feed(self, data: bytes) -> list[Row]:
        """Take the next bytes. Raises RowsError when they cannot belong to a query result."""
        text = self._decode(data, final=False)
        self._pieces.append(text)
        self._length += len(text)
        if self._length < self._due:
            return []
        return self._take(final=False)

    def finish(self) -> list[Row]:
        """The body ended. Raises TruncatedRowsError unless the result is complete."""
        self._pieces.append(self._decode(b"", final=True))
        rows = self._take(final=True)
        if not self._closed:
            raise TruncatedRowsError("the result ends before its last row")
        return rows

    def _decode(self, data: bytes, *, final: bool) -> str:
        try:
            return self._text.decode(data, final)
        except UnicodeDecodeError:
            if final:
                raise TruncatedRowsError("the result ends within a character") from None
            raise RowsError("the result is not UTF-8") from None

    def _take(self, *, final: bool) -> list[Row]:
        buffer = "".join(self._pieces)
        rows: list[Row] = []
        position = self._open(buffer)
        if self._opened and not self._closed:
            position = self._batch(buffer, position, rows)
            position = self._one_by_one(buffer, position, rows, final=final)
        if self._closed and buffer[position:].strip(_SPACE):
            raise RowsError("there is more after the end of the result")
        rest = "" if self._closed else buffer[position:]
        if len(rest) > self._row_limit:
            raise RowsError(f"a row has more than {self._row_limit} characters")
        self._pieces = [rest]
        self._length = len(rest)
        self._due = 2 * len(rest)
        return rows

    def _open(self, buffer: str) -> int:
        if self._opened:
            return 0
        match = _OPENING.match(buffer)
        if match is not None:
            self._opened = True
            return match.end()
        if len(buffer) > _OPENING_LIMIT or not _may_open(buffer):
            raise RowsError("the result does not begin with rows")
        return 0

    def _batch(self, buffer: str, position: int, rows: list[Row]) -> int:
        """Everything up to the last boundary in one go, if that is where a row ends."""
        end = buffer.rfind(_BOUNDARY, position)
        if end < 0:
            return position
        start = position
        if not self._first:
            start = _skip_space(buffer, position)
            if buffer[start] != ",":
                return position
            start += 1
        try:
            batch = self._json.decode(f"[{buffer[start : end + 1]}]")
        except (ValueError, RecursionError):
            return position
        for row in batch:
            if not isinstance(row, dict):
                raise RowsError("a row is not an object")
        rows.extend(batch)
        self._first = False
        return end + 1

    def _one_by_one(self, buffer: str, position: int, rows: list[Row], *, final: bool) -> int:
        """The rows that the batch did not take, then the end, as far as the text goes."""
        while True:
            closing = _CLOSING.match(buffer, position)
            if closing is not None:
                self._closed = True
                return closing.end()
            start = self._next_row(buffer, position)
            if start is None:
                return position
            try:
                row, position = self._json.raw_decode(buffer, start)
            except RowsError:
                raise
            except RecursionError:
                raise RowsError("a row is nested too deeply") from None
            except ValueError:
                if final:
                    raise TruncatedRowsError("the result ends within a row") from None
                return position
            rows.append(row)
            self._first = False

    def _next_row(self, buffer: str, position: int) -> int | None:
        """Where the next row begins; None when the text does not go that far."""
        start = _skip_space(buffer, position)
        if start == len(buffer):
            return None
        if buffer[start] == "]":
            if buffer[start + 1 :].strip(_SPACE):
                raise RowsError("there is more after the last row")
            return None
        if not self._first:
            if buffer[start] != ",":
                raise RowsError("rows are not separated")
            start = _skip_space(buffer, start + 1)
            if start == len(buffer):
                return None
        if buffer[start] != "{":
            raise RowsError("a row is not an object")
        return start


def _skip_space(buffer: str, position: int) -> int:
    while position < len(buffer) and buffer[position] in _SPACE:
        position += 1
    return position


def _may_open(buffer: str) -> bool:
    """Whether ``buffer`` can still become an opening."""
    compact = "".join(buffer.split())
    return '{"rows":['.startswith(compact)
