"""Invocation ids: exactly what the engine decodes (each row tried against /query of 1.6.1 and 1.7.12)."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.values.ids import is_invocation_id

ALPHABET = string.digits + string.ascii_lowercase + string.ascii_uppercase
ZEROS = "0" * 33


def encoded(value: int, width: int) -> str:
    text = ""
    while value:
        value, digit = divmod(value, 62)
        text = ALPHABET[digit] + text
    return text.rjust(width, "0")


IDS = [
    ("inv_1790vcqKo6rN3A7h6Mz06sfieq6FjIr0Q4", True, "a real one"),
    (f"inv_1{ZEROS}", True, "zero"),
    (f"inv_1{encoded(2**64 - 1, 11)}{encoded(2**128 - 1, 22)}", True, "the largest"),
    (f"inv_1{encoded(2**64, 11)}{'0' * 22}", False, "partition key above 64 bits"),
    (f"inv_1{'0' * 11}{encoded(2**128, 22)}", False, "random part above 128 bits"),
    (f"inv_1{'Z' * 33}", False, "far above"),
    (f"inv_1{ZEROS[1:]}", False, "too short"),
    (f"inv_1{ZEROS}0", False, "too long (1.6.1 lets it into a query, where it equals nothing)"),
    (f"inv_2{ZEROS}", False, "another version"),
    (f"INV_1{ZEROS}", False, "case"),
    (f"dp_1{ZEROS}", False, "a deployment"),
    (f"inv_1-{ZEROS[1:]}", False, "not a digit"),
    (f"inv_1_{ZEROS[1:]}", False, "not a digit"),
    (f"inv_1+{ZEROS[1:]}", False, "not a digit"),
    (f"inv_1é{ZEROS[1:]}", False, "not ASCII"),
    (f"inv_1٣{ZEROS[1:]}", False, "a digit elsewhere"),
    (f" inv_1{ZEROS}", False, "space before"),
    (f"inv_1{ZEROS}\n", False, "newline after"),
    ("", False, "empty"),
    ("inv_bogus", False, "bogus"),
    ("' or 1=1 --", False, "a quote"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), IDS, ids=[f"{row[2]}-{n}" for n, row in enumerate(IDS)])
def test_id_is_recognised_as_the_engine_does(text: str, expected: bool, reason: str) -> None:
    assert is_invocation_id(text) is expected, reason


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**128 - 1))
def test_every_id_that_the_engine_can_make_is_recognised(partition: int, random: int) -> None:
    assert is_invocation_id(f"inv_1{encoded(partition, 11)}{encoded(random, 22)}")


@given(st.text())
def test_text_with_anything_but_letters_and_digits_is_no_id(text: str) -> None:
    if is_invocation_id(f"inv_1{text}"):
        assert len(text) == 33
        assert text.isascii()
        assert text.isalnum()
