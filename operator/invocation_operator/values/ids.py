"""Invocation ids, decoded as the engine decodes them.

One malformed id makes the engine answer 500 (``non valid invocation id``) to a whole query, so no text goes into an
``IN`` list that has not passed here; and nothing that the engine accepts may fail here, or an invocation could not be
named. The form (restate ``crates/types/src/id_util.rs``, tried on 1.6.1 and 1.7.12): ``inv_``, the scheme's version
``1``, a partition key of 64 bits in 11 and a random part of 128 bits in 22 digits of base 62. There is no checksum, so
each id has exactly one spelling. 1.6.1 lets longer texts into a query, where they equal nothing.
"""

_PREFIX = "inv_1"
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = {digit: n for n, digit in enumerate(_ALPHABET)}
_PARTITION_DIGITS, _PARTITION_BITS = 11, 64
_RANDOM_DIGITS, _RANDOM_BITS = 22, 128


def is_invocation_id(text: str) -> bool:
    """Whether the engine takes ``text`` for an invocation id (not whether there is such an invocation)."""
    if not text.startswith(_PREFIX):
        return False
    digits = text[len(_PREFIX) :]
    return (
        len(digits) == _PARTITION_DIGITS + _RANDOM_DIGITS
        and _fits(digits[:_PARTITION_DIGITS], _PARTITION_BITS)
        and _fits(digits[_PARTITION_DIGITS:], _RANDOM_BITS)
    )


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
    value = 0
    for digit in digits:
        if digit not in _DIGITS:
            return False
        value = value * 62 + _DIGITS[digit]
    return value < 1 << bits
