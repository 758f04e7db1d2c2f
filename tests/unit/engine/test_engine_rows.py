import itertools
import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invocation_operator.engine.rows import RowDecoder, RowsError, TruncatedRowsError

_TEXT = st.one_of(
    st.text(max_size=12),
    st.text(alphabet='{}[],:"\\ é€😀ab', max_size=12),
    st.sampled_from(['},{"', "abc},{", '"},{"', "]}", '{"rows":[{"a":1}]}', "\\", '\\"', "},", "\u2028"]),
)
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=6,
)
_ROWS = st.lists(st.dictionaries(_TEXT, _VALUES, max_size=4), max_size=8)
_STYLES = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 1}])


def _decode(pieces: list[bytes], row_limit: int | None = None) -> list[dict[str, Any]]:
    decoder = RowDecoder() if row_limit is None else RowDecoder(row_limit)
    rows = [row for piece in pieces for row in decoder.feed(piece)]
    return rows + decoder.finish()


def _cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


@settings(deadline=None)
@given(_ROWS, _STYLES, st.booleans(), st.lists(st.integers(min_value=0), max_size=12))
def test_rows_cut_anywhere_come_out_all_and_in_order(
    rows: list[dict[str, Any]], style: dict[str, Any], ascii_only: bool, places: list[int]
) -> None:
    body = json.dumps({"rows": rows}, ensure_ascii=ascii_only, **style).encode()
    assert _decode(_cut(body, places)) == rows
    assert _decode([bytes([byte]) for byte in body]) == rows


@settings(deadline=None)
@given(_ROWS, _STYLES, st.lists(st.integers(min_value=0), max_size=4))
def test_rows_truncated_at_every_byte_raise(
    rows: list[dict[str, Any]], style: dict[str, Any], places: list[int]
) -> None:
    body = json.dumps({"rows": rows}, ensure_ascii=False, **style).encode()
    for length in range(len(body)):
        with pytest.raises(TruncatedRowsError):
            _decode(_cut(body[:length], places))


@settings(deadline=None)
@given(_ROWS, st.lists(st.integers(min_value=0), max_size=4), st.sampled_from(["x", "{}", ",", "]", '{"rows":[]}']))
def test_rows_followed_by_anything_raise(rows: list[dict[str, Any]], places: list[int], more: str) -> None:
    body = (json.dumps({"rows": rows}) + more).encode()
    with pytest.raises(RowsError):
        _decode(_cut(body, places))


@given(st.binary(max_size=64))
def test_rows_of_arbitrary_bytes_raise_nothing_but_rows_error(body: bytes) -> None:
    try:
        rows = _decode([body])
    except RowsError:
        return
    assert json.loads(body) == {"rows": rows}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "nothing"),
        (b"[]", "no object"),
        (b"<html>", "no JSON"),
        (b'{"message":"no"}', "an error body"),
        (b'{"row":[]}', "another key"),
        (b'{"rows":{}}', "no list"),
        (b'{"rows":[1]}', "a row that is no object"),
        (b'{"rows":[{"a":1},[]]}', "a row that is a list"),
        (b'{"rows":[{"a":1}{"a":2}]}', "no comma"),
        (b'{"rows":[{"a":1},]}', "a comma too many at the end"),
        (b'{"rows":[,{"a":1}]}', "a comma too many at the start"),
        (b'{"rows":[{"a":1},,{"a":2},{"a":3}]}', "two commas"),
        (b'{"rows":[{"a":NaN}]}', "a constant that JSON does not have"),
        (b'{"rows":[{"a":1},{"a":Infinity},{"a":2}]}', "the same in the middle"),
        (b'{"rows":[{"a":1}],"more":1}', "another key after the rows"),
        (b'{"rows":[{"a":"\xff"}]}', "not UTF-8"),
        (b'{"rows":[{"a":1}]},{"a":2}', "rows after the end"),
        (b'{"rows":[{"a":' + b"[" * 200_000, "nested without end"),
    ],
)
def test_rows_malformed_raise(body: bytes, why: str) -> None:
    with pytest.raises(RowsError):
        _decode([body])
    with pytest.raises(RowsError):
        _decode(_cut(body, list(range(0, min(len(body), 200), 3))))


def test_rows_come_out_as_soon_as_they_are_complete() -> None:
    decoder = RowDecoder()
    assert decoder.feed(b'{"rows":[{"a":1},{"a"') == [{"a": 1}]
    assert decoder.feed(b':2},{"a":3}') == [{"a": 2}, {"a": 3}]
    assert decoder.feed(b"]}") == []
    assert decoder.finish() == []


def test_rows_large_integers_stay_exact() -> None:
    assert _decode([b'{"rows":[{"a":18446744073709551615,"b":-9223372036854775808}]}']) == [
        {"a": 18446744073709551615, "b": -9223372036854775808}
    ]


def test_rows_with_an_integer_too_long_to_convert_raise() -> None:
    with pytest.raises(RowsError):
        _decode([b'{"rows":[{"a":' + b"9" * 5000 + b"}]}"])


def test_rows_longer_than_the_limit_raise_before_they_are_complete() -> None:
    decoder = RowDecoder(row_limit=1000)
    decoder.feed(b'{"rows":[{"a":1},{"a":"')

    def go_on() -> None:
        for _ in range(1000):
            decoder.feed(b"x" * 10)

    with pytest.raises(RowsError):
        go_on()


def _seconds(size: int) -> float:
    """For one row of `size` characters with a false boundary every few, in small pieces."""
    body = json.dumps({"rows": [{"a": [{"b": 1}] * (size // 8)}, {"a": 1}]}, separators=(",", ":")).encode()
    started = time.perf_counter()
    assert len(_decode([body[i : i + 512] for i in range(0, len(body), 512)])) == 2
    return time.perf_counter() - started


def test_rows_of_a_long_row_take_linear_time() -> None:
    _seconds(100_000)
    short, long = _seconds(250_000), _seconds(2_000_000)
    assert long < 40 * max(short, 0.002)  # linear: 8 times; scanned again for every piece: 64 times and more


def test_rows_of_a_large_result_need_flat_memory() -> None:
    row = json.dumps({"id": "inv_" + "x" * 30, "status": "suspended"}).encode()
    decoder = RowDecoder()
    decoder.feed(b'{"rows":[' + row)
    tracemalloc.start()
    try:
        for _ in range(2000):
            assert len(decoder.feed((b"," + row) * 50)) == 50
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.feed(b"]}") == []
    assert decoder.finish() == []
    assert peak < 1_000_000
