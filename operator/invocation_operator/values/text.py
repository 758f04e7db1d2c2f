"""Texts of others (keys, messages of an engine) brought into a form that a status can hold: on one line, and short.

A status is stored as JSON, so length is counted in characters for people and in bytes for the store.
"""

import re

MARK = "…"
"""Stands where something was cut off."""

# A lone surrogate is no text at all: neither UTF-8 nor the API server takes it.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """Return ``text`` with a replacement character for each control character."""
    return text if text.isprintable() else _UNPRINTABLE.sub("\ufffd", text)


def cut(text: str, characters: int, octets: int | None = None) -> str:
    """Return ``text``, cleaned, in at most ``characters`` and at most ``octets`` bytes of UTF-8 (at least 3)."""
    text = clean(text)
    if len(text) > characters:
        text = text[: characters - 1] + MARK
    if octets is None or len(text) * 4 <= octets:
        return text
    encoded = text.encode()
    if len(encoded) <= octets:
        return text
    return encoded[: octets - len(MARK.encode())].decode(errors="ignore") + MARK
