"""What a report says of each invocation: kept compactly while a run goes on, and written out as lines of JSON.

A fact that is in no page of the report yet is kept in the record, in the same write as the outcome in the ledger, so
that no takeover loses one. There it names its invocation by its place in the plan; the page has the id.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from invocation_operator.api.v1alpha1.action import Outcome, Result
from invocation_operator.plan.ledger import CODES
from invocation_operator.plan.targets import Planned

FORMAT = "jsonl.gz"
NOT_TOUCHED = "NotTouched"
"""What a report gives as the outcome of an invocation that a stopped run did not reach."""
KEPT_LIMIT = 700_000
"""Characters of kept facts that a record has room for, beside everything else in it."""
PAGE_LIMIT = 700_000
"""Bytes of a page: a ConfigMap takes a mebibyte."""
UNPACKED_LIMIT = 16 * 1024 * 1024
"""Bytes of a page once it is unpacked: more than its lines can have."""
FIRST_PAGES = 10
FEW_LINES = 1000
MANY_LINES = 4000
"""Lines of a page. The first ones are short, so that something can be read soon."""

_OUTCOMES = {chr(code): outcome for outcome, code in CODES.items()}
_VERSION = 1
_GZIP = 16 + zlib.MAX_WBITS


class Fact(NamedTuple):
    """The outcome of one invocation. ``place`` is its index in the plan; -1, -2 … are ids named in vain."""

    place: int
    outcome: Outcome | None
    reason: str | None = None
    new_id: str | None = None
    error: str | None = None


class DamagedFacts(ValueError):
    """Kept facts cannot be read."""


def fact(place: int, result: Result) -> Fact:
    """Return what is kept of ``result``."""
    return Fact(place, result.outcome, result.reason, result.new_id, result.error)


def page_lines(number: int) -> int:
    """Return how many lines make a page."""
    return FEW_LINES if number < FIRST_PAGES else MANY_LINES


def encode(facts: Iterable[Fact], most: int = KEPT_LIMIT) -> str:
    """Return the kept text of ``facts``, in at most ``most`` characters.

    What the engine said leaves first, new ids last. That much of it is kept only when the API server takes no pages for
    a while, and read only after a crash.
    """
    known = list(facts)
    text = _encode(known)
    if len(text) > most:
        known = [found._replace(error=None) for found in known]
        text = _encode(known)
    if len(text) > most:
        text = _encode([found._replace(new_id=None) for found in known])
    return text


def _encode(facts: Sequence[Fact]) -> str:
    words: dict[str | None, int] = {}
    entries = []
    for place, outcome, reason, new_id, error in facts:
        entry: list[object] = [place, chr(CODES[outcome]) if outcome else "", words.setdefault(reason, len(words))]
        # Most have neither of these.
        entries.append([*entry, new_id, error] if error else [*entry, new_id] if new_id else entry)
    kept = {"v": _VERSION, "words": list(words), "facts": entries}
    return base64.b64encode(zlib.compress(json.dumps(kept, separators=(",", ":")).encode(), 1)).decode()


def decode(text: str) -> list[Fact]:
    """Return what ``encode`` kept. Raises ``DamagedFacts``."""
    try:
        kept = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
        if kept["v"] != _VERSION:
            raise DamagedFacts(f"facts are kept in version {kept['v']}, this operator reads {_VERSION}")
        words = kept["words"]
        return [
            Fact(place, _OUTCOMES[code] if code else None, words[word], *more)
            for place, code, word, *more in kept["facts"]
        ]
    except (ValueError, KeyError, IndexError, TypeError, zlib.error) as error:
        if isinstance(error, DamagedFacts):
            raise
        raise DamagedFacts("the kept facts cannot be read") from error


def line(found: Fact, targets: Sequence[Planned], named: Sequence[Result]) -> str:
    """Return ``found`` as people read it."""
    id_, target = _who(found.place, targets, named)
    told = {
        "id": id_,
        "target": target,
        "outcome": found.outcome.value if found.outcome else NOT_TOUCHED,
        "reason": found.reason,
        "newId": found.new_id,
        "error": found.error,
    }
    shown = {name: value for name, value in told.items() if value is not None}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def _who(place: int, targets: Sequence[Planned], named: Sequence[Result]) -> tuple[str, str | None]:
    if place < 0:
        result = named[-1 - place]
        return result.id, result.target
    return targets[place].id, targets[place].label


def page(lines: Sequence[str], most: int = PAGE_LIMIT) -> tuple[bytes, int]:
    """Return the first of ``lines`` as a page of at most ``most`` bytes, and how many are in it."""
    count = len(lines)
    while True:
        content = gzip.compress("".join(f"{text}\n" for text in lines[:count]).encode(), 6, mtime=0)
        if len(content) <= most or count <= 1:
            return content, count
        count //= 2


def lines_in(content: bytes) -> int:
    """Return how many lines a page has. Raises ``DamagedFacts``.

    Whoever may write ConfigMaps may have made it, of a few bytes that stand for gigabytes.
    """
    packed = zlib.decompressobj(_GZIP)
    try:
        unpacked = packed.decompress(content, UNPACKED_LIMIT)
    except zlib.error as error:
        raise DamagedFacts("a page of the report cannot be read") from error
    if not packed.eof:
        raise DamagedFacts("a page of the report is longer than one can be, or cut off")
    return unpacked.count(b"\n")
