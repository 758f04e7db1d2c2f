"""Texts of others are cut to what a status can hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.values.text import clean, cut


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("界 é 😀", "界 é 😀"),
        ("a\nb\tc\x00", "a�b�c�"),
        ("\x7f\x85\u2028\u2029", "����"),
        ("\ud800x", "�x"),  # half a character, which JSON may hold
        ("👩\u200d🚀", "👩\u200d🚀"),  # invisible, and part of one
    ],
)
def test_clean_replaces_what_would_break_a_line(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("text", "characters", "octets", "shown"),
    [
        ("abc", 3, None, "abc"),
        ("abcd", 3, None, "ab…"),
        ("界界界", 3, 9, "界界界"),
        ("界界界", 3, 8, "界…"),
        ("a界界", 3, 6, "a…"),
        ("😀😀", 2, 7, "😀…"),
        ("😀", 2, 3, "…"),
    ],
)
def test_cut_counts_characters_and_bytes(text: str, characters: int, octets: int | None, shown: str) -> None:
    assert cut(text, characters, octets) == shown


@given(st.text(), st.integers(1, 50), st.integers(3, 100))
def test_cut_text_fits_and_is_a_beginning(text: str, characters: int, octets: int) -> None:
    shown = cut(text, characters, octets)
    assert len(shown) <= characters
    assert len(shown.encode()) <= octets
    assert clean(text).startswith(shown.removesuffix("…"))
    assert json.loads(json.dumps(shown)) == shown
