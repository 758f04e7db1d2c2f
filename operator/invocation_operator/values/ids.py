"""Invocation ids, decoded as the engine decodes them.

One malformed id makes the engine answer 500 (``non valid invocation id``) to a whole query, so no text goes into an
``IN`` list that has not passed here; and nothing that the engine accepts may fail here, or an invocation could not be
named. The form (restate ``crates/types/src/id_util.rs``, tried on 1.6.1 and 1.7.12): ``inv_``, the scheme's version
``1``, a partition key of 64 bits in 11 and a random part of 128 bits in 22 digits of base 62. There is no checksum, so
each id has exactly one spelling. 1.6.1 lets longer texts into a query, where they equal nothing.
"""

import re

_PREFIX = "inv_1"
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = {digit: n for n, digit in enumerate(_ALPHABET)}
_PARTITION_DIGITS, _PARTITION_BITS = 11, 64
_RANDOM_DIGITS, _RANDOM_BITS = 22, 128


_MOST: dict[int, int] = {
    bits: ((1 << bits) - 1) // 62 ** (digits - 1)
    for digits, bits in ((_PARTITION_DIGITS, _PARTITION_BITS), (_RANDOM_DIGITS, _RANDOM_BITS))
}
"""The first digit of the largest number."""
_FORM = re.compile(f"{_PREFIX}([0-9a-zA-Z]{{{_PARTITION_DIGITS}}})([0-9a-zA-Z]{{{_RANDOM_DIGITS}}})")


def is_invocation_id(text: str) -> bool:
    """Whether the engine takes ``text`` for an invocation id (not whether there is such an invocation)."""
    form = _FORM.fullmatch(text)
    return form is not None and _fits(form[1], _PARTITION_BITS) and _fits(form[2], _RANDOM_BITS)


NOBODY = "0" * _RANDOM_DIGITS
"""The random part of an id that no invocation has: the engine draws it from 128 bits."""


def sibling(invocation_id: str) -> str:
    """Return the id in the partition of ``invocation_id`` that no invocation has."""
    return invocation_id[: len(_PREFIX) + _PARTITION_DIGITS] + NOBODY


def spread(count: int) -> list[str]:
    """Return ``count`` ids that no invocation has and whose partition keys lie evenly in the key space."""
    step = (1 << _PARTITION_BITS) // count
    keys = (step * number + step // 2 for number in range(count))
    return [_PREFIX + _written(key, _PARTITION_DIGITS) + NOBODY for key in keys]


def _written(value: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        value, digit = divmod(value, 62)
        text = _ALPHABET[digit] + text
    return text


def _fits(digits: str, bits: int) -> bool:
    # A hundred thousand are checked before a hundred thousand calls, and the first digit tells of nearly all.
    first, most = _DIGITS[digits[0]], _MOST[bits]
    if first != most:
        return first < most
    value = 0
    for digit in digits:
        value = value * 62 + _DIGITS[digit]
    return value < 1 << bits
