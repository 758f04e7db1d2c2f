"""Planned invocations: the fixed set of a run, and the compact text it is kept in.

The set is written before the first call and read again after a crash, so the text carries a version and every entry the
identity ``(id, created_at)``: after a purge, the same key gives the same id again.

In memory it is packed: a hundred thousand objects with their texts are 30 MB, as columns they are 6.
"""

import base64
import json
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import overload

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
UNPACKED_LIMIT = 8 * 1024 * 1024
"""Bytes of a kept text once it is unpacked: more than the largest chunk with the longest labels has."""

_ORDINALS = {status: number for number, status in enumerate(_STATUSES)}
_SHORTER = (32, 1)
"""Characters of keys when all of them together are too long to be kept."""
_LABELS_SHARED = 10_000
"""Different labels that are kept once and not with each invocation; keys can make all of them different."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One invocation of a plan. ``label`` is ``Service/handler`` or ``Service/key/handler``, cut to fit."""

    id: str
    created_at: datetime
    status: InvocationStatus
    label: str


class PlannedSet(Sequence[Planned]):
    """Planned invocations as columns. Reading one makes its ``Planned``.

    ``append`` only: the order is the plan's, and what is in it never changes.
    """

    __slots__ = (
        "_created",
        "_ids",
        "_known",
        "_label_ends",
        "_label_of",
        "_labels",
        "_order",
        "_ordered",
        "_statuses",
        "_width",
    )

    def __init__(self, targets: Iterable[Planned] = ()) -> None:
        self._width = 0
        """Bytes of the longest id: all ids of an engine are of one length."""
        self._ids = bytearray()
        self._created = array("q")
        self._statuses = bytearray()
        self._label_of = array("I")
        self._labels = bytearray()
        self._label_ends = array("Q")
        self._known: dict[str, int] = {}
        self._ordered = True
        self._order = array("I")
        self.extend(targets)

    def append(self, target: Planned) -> None:
        """Add one. Raises ``DamagedSet`` for an id that cannot be one."""
        id_ = target.id.encode()
        if not id_ or b"\0" in id_:
            raise DamagedSet("this is no invocation id")
        if len(id_) > self._width:
            self._widen(len(id_))
        if self._ordered and self._created and id_ <= self._id(len(self) - 1):
            self._ordered = False
        self._ids += id_.ljust(self._width, b"\0")
        self._created.append((target.created_at - _EPOCH) // _MICROSECOND)
        self._statuses.append(_ORDINALS[target.status])
        self._label_of.append(self._place(target.label))

    def extend(self, targets: Iterable[Planned]) -> None:
        """Add some."""
        for target in targets:
            self.append(target)

    def __len__(self) -> int:
        return len(self._created)

    @overload
    def __getitem__(self, index: int) -> Planned: ...
    @overload
    def __getitem__(self, index: slice) -> list[Planned]: ...
    def __getitem__(self, index: int | slice) -> Planned | list[Planned]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        size = len(self)
        if not -size <= index < size:
            raise IndexError(index)
        index %= size
        at = _EPOCH + timedelta(microseconds=self._created[index])
        return Planned(self._id(index).decode(), at, _STATUSES[self._statuses[index]], self._label(index))

    def __iter__(self) -> Iterator[Planned]:
        return map(self.__getitem__, range(len(self)))

    def identities(self) -> Iterator[tuple[str, str]]:
        """Yield ``(id, created_at)`` in the order of the ids, for a hash."""
        for index in self._by_id():
            at = _EPOCH + timedelta(microseconds=self._created[index])
            yield self._id(index).decode(), at.isoformat()

    def _id(self, index: int) -> bytes:
        return bytes(self._ids[index * self._width : (index + 1) * self._width]).rstrip(b"\0")

    def find(self, invocation_id: str) -> int | None:
        """Return the place of an invocation in the set."""
        id_ = invocation_id.encode()
        order = self._by_id()
        place = bisect_left(order, id_, key=self._id)
        return order[place] if place < len(order) and self._id(order[place]) == id_ else None

    def holds(self, invocation_id: str, created_at: datetime) -> bool:
        """Whether this very invocation is in the set, and not only one of its id."""
        index = self.find(invocation_id)
        return index is not None and self._created[index] == (created_at - _EPOCH) // _MICROSECOND

    def _by_id(self) -> Sequence[int]:
        # The engine gives them in this order, unless the oldest come first.
        if self._ordered:
            return range(len(self))
        if len(self._order) != len(self):
            self._order = array("I", sorted(range(len(self)), key=self._id))
        return self._order

    def _label(self, index: int) -> str:
        place = self._label_of[index]
        start = self._label_ends[place - 1] if place else 0
        return self._labels[start : self._label_ends[place]].decode()

    def _place(self, label: str) -> int:
        place = self._known.get(label)
        if place is None:
            place = len(self._label_ends)
            self._labels += label.encode()
            self._label_ends.append(len(self._labels))
            if len(self._known) < _LABELS_SHARED:
                self._known[label] = place
        return place

    def _widen(self, width: int) -> None:
        known = [self._id(index) for index in range(len(self))]
        self._width = width
        self._ids = bytearray(b"".join(id_.ljust(width, b"\0") for id_ in known))


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
    """Return the targets that ``encode`` kept. Raises ``DamagedSet`` for anything else.

    Whoever may write ConfigMaps may have put something in the place of a preview.
    """
    try:
        kept = json.loads(_unpacked(text))
        if kept["v"] != _VERSION:
            raise DamagedSet(f"the planned set is kept in version {kept['v']}, this operator reads {_VERSION}")
        labels = [_text(label) for label in kept["labels"]]
        return [
            Planned(_text(id_), _EPOCH + micros * _MICROSECOND, _STATUSES[status], labels[name])
            for id_, micros, status, name in kept["set"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error) as error:
        if isinstance(error, DamagedSet):
            raise
        raise DamagedSet("the planned set cannot be read") from error


def _unpacked(text: str) -> bytes:
    """A few bytes can stand for gigabytes: no more are unpacked than a set can have."""
    packed = zlib.decompressobj()
    content = packed.decompress(base64.b64decode(text, validate=True), UNPACKED_LIMIT)
    if not packed.eof:
        raise DamagedSet("the planned set is longer than one can be, or cut off")
    return content


def _text(value: str) -> str:
    value.encode()
    return value
