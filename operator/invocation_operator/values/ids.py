"""Invocation ids, decoded as the engine decodes them.

One malformed id makes the engine answer 500 (``non valid invocation id``) to a whole query, so no text goes into an
``IN`` list that has not passed here; and nothing that the engine accepts may fail here, or an invocation could not be
named. The form (restate ``crates/types/src/id_util.rs``, tried on 1.6.1 and 1.7.12): ``inv_``, the scheme's version
``1``, a partition key of 64 bits in 11 and a random part of 128 bits in 22 digits of base 62. There is no checksum, so
each id has exactly one spelling. 1.6.1 lets longer texts into a query, where they equal nothing.
"""

_PREFIX = "inv_1"
_DIGITS = {digit: n for n, digit in enumerate("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")}
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


def _fits(digits: str, bits: int) -> bool:
    value = 0
    for digit in digits:
        if digit not in _DIGITS:
            return False
        value = value * 62 + _DIGITS[digit]
    return value < 1 << bits
