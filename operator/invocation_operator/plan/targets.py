"""Planned invocations: the fixed set of a run, and the compact text it is kept in.

The set is written before the first call and read again after a crash, so the text carries a version and every entry the
identity ``(id, created_at)``: after a purge, the same key gives the same id again.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.values.text import MARK, clean, cut

_VERSION = 1
_STATUSES = tuple(InvocationStatus)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

LABEL_LIMIT = 256
"""Bytes of ``Service/key/handler`` that are kept for people."""
KEY_LIMIT = 128
"""Characters of a key that are kept for people."""
TEXT_LIMIT = 480 * 1024
"""Characters that the kept text of one chunk has at most."""

_ORDINALS = {status: number for number, status in enumerate(_STATUSES)}
_SHORTER = (32, 1)
"""Characters of keys when all of them together are too long to be kept."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One invocation of a plan. ``label`` is ``Service/handler`` or ``Service/key/handler``, cut to fit."""

    id: str
    created_at: datetime
    status: InvocationStatus
    label: str


def identities(targets: Iterable[Planned]) -> Iterator[tuple[str, str]]:
    """Yield ``(id, created_at)`` of a set in the order of the ids, for its hash."""
    for target in sorted(targets, key=attrgetter("id")):
        yield target.id, target.created_at.isoformat()


class DamagedSet(ValueError):
    """The kept text of a planned set cannot be read; a run that depends on it must not go on."""


def label(service: str, handler: str, key: str | None, *, redact_key: bool = False, most: int = LABEL_LIMIT) -> str:
    """Return ``Service/handler`` or ``Service/key/handler``; a key is shortened first when it does not fit."""
    if key is None:
        return cut(f"{service}/{handler}", most, most)
    service, handler = clean(service), clean(handler)
    room = most - len(service.encode()) - len(handler.encode()) - 2
    shown = MARK if redact_key else cut(key, max(1, min(KEY_LIMIT, room)), max(4, room))
    return cut(f"{service}/{shown}/{handler}", most, most)


def encode(targets: Sequence[Planned], *, most: int = TEXT_LIMIT) -> str:
    """Return the kept text of ``targets``: JSON, compressed, base64; about 45 characters for each.

    Labels are for people only: where long keys would make the text longer than ``most``, they are shortened.
    """
    text = _encode(targets, None)
    for characters in _SHORTER:
        if len(text) > most:
            text = _encode(targets, characters)
    return text


def _encode(targets: Iterable[Planned], key_characters: int | None) -> str:
    labels: dict[str, int] = {}
    entries = [
        [
            t.id,
            (t.created_at - _EPOCH) // _MICROSECOND,
            _ORDINALS[t.status],
            labels.setdefault(_shortened(t.label, key_characters), len(labels)),
        ]
        for t in targets
    ]
    text = json.dumps(
        {"v": _VERSION, "labels": list(labels), "set": entries}, separators=(",", ":"), ensure_ascii=False
    )
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def _shortened(label: str, key_characters: int | None) -> str:
    if key_characters is None:
        return label
    service, _, rest = label.partition("/")
    key, slash, handler = rest.rpartition("/")
    return f"{service}/{cut(key, key_characters)}/{handler}" if slash else label


def decode(text: str) -> list[Planned]:
    """Return the targets that ``encode`` kept. Raises ``DamagedSet``."""
    try:
        kept = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
        if kept["v"] != _VERSION:
            raise DamagedSet(f"the planned set is kept in version {kept['v']}, this operator reads {_VERSION}")
        labels: Sequence[str] = kept["labels"]
        return [
            Planned(id_, _EPOCH + micros * _MICROSECOND, _STATUSES[status], labels[name])
            for id_, micros, status, name in kept["set"]
        ]
    except (ValueError, KeyError, IndexError, TypeError, zlib.error) as error:
        if isinstance(error, DamagedSet):
            raise
        raise DamagedSet("the planned set cannot be read") from error
