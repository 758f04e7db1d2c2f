"""The planned set: what is kept is what is read, and labels fit."""

import base64
import json
import random
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.targets import (
    LABEL_LIMIT,
    TEXT_LIMIT,
    DamagedSet,
    Planned,
    PlannedSet,
    decode,
    encode,
    label,
)
from invocation_operator.values.text import clean, cut

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
BORN = datetime(2026, 5, 1, tzinfo=UTC)

planned = st.builds(
    Planned,
    id=st.text("abcdefghijklmnop0123456789", min_size=1, max_size=40).map(lambda tail: f"inv_{tail}"),
    created_at=st.datetimes(timezones=st.just(UTC)),
    status=st.sampled_from(InvocationStatus),
    label=names,
)


def kept(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


@given(st.lists(planned, max_size=20))
def test_set_that_is_kept_reads_the_same(targets: list[Planned]) -> None:
    assert decode(encode(targets)) == targets


@given(st.lists(planned, max_size=20))
def test_packed_set_reads_as_what_was_put_in(targets: list[Planned]) -> None:
    packed = PlannedSet(targets)
    assert list(packed) == targets
    assert [packed[n] for n in range(-len(targets), len(targets))] == targets * 2
    assert packed[1:3] == targets[1:3]
    assert decode(encode(packed)) == targets


@given(st.lists(planned, max_size=20, unique_by=lambda target: target.id), planned)
def test_packed_set_finds_what_is_in_it_and_nothing_else(targets: list[Planned], other: Planned) -> None:
    packed = PlannedSet(targets)
    assert [packed.find(target.id) for target in targets] == list(range(len(targets)))
    assert all(packed.holds(target.id, target.created_at) for target in targets)
    assert not any(packed.holds(target.id, target.created_at + timedelta(microseconds=1)) for target in targets)
    assert packed.holds(other.id, other.created_at) is ((other.id, other.created_at) in identities(targets))
    assert list(packed.identities()) == [(id_, at.isoformat()) for id_, at in sorted(identities(targets))]


def identities(targets: list[Planned]) -> set[tuple[str, datetime]]:
    return {(target.id, target.created_at) for target in targets}


@pytest.mark.parametrize("id_", ["", "inv_\0"])
def test_packed_set_refuses_what_is_no_id(id_: str) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="invocation id"):
        PlannedSet([Planned(id_, at, InvocationStatus.PAUSED, "Svc/h")])


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        pytest.param(1, 60, id="one label for all"),
        pytest.param(20_000, 160, id="a key of its own for each, most of them not shared"),
    ],
)
def test_packed_set_takes_few_bytes_for_each(keys: int, most: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    size = 20_000
    tracemalloc.start()
    try:
        packed = PlannedSet(
            Planned(f"inv_1{n:033d}", at, InvocationStatus.PAUSED, f"Svc/{n % keys:016d}/handler") for n in range(size)
        )
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(packed) == size
    assert taken / size < most


def test_set_keeps_microseconds_because_they_are_identity() -> None:
    at = datetime(2026, 5, 1, 12, 0, 0, 123457, tzinfo=UTC)
    (read,) = decode(encode([Planned("inv_1", at, InvocationStatus.PAUSED, "Svc/h")]))
    assert read.created_at == at


def test_set_that_an_earlier_version_kept_is_read() -> None:
    entries = json.dumps({"v": 1, "labels": ["Svc/h"], "set": [["inv_1", 1777636800123457, 6, 0]]})
    at = datetime(2026, 5, 1, 12, 0, 0, 123457, tzinfo=UTC)
    assert decode(kept(entries)) == [Planned("inv_1", at, InvocationStatus.PAUSED, "Svc/h")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not base64!",
        base64.b64encode(b"not compressed").decode(),
        kept("not json"),
        kept('{"v": 2, "labels": [], "set": []}'),  # of a newer version
        kept('{"v": 1, "labels": []}'),
        kept('{"v": 1, "labels": [], "set": [["inv_1", 0, 0, 0]]}'),  # no such label
        kept('{"v": 1, "labels": ["a"], "set": [["inv_1", 0, 99, 0]]}'),  # no such status
        kept('{"v": 1, "labels": ["a"], "set": [["inv_1"]]}'),
        # Whoever may write ConfigMaps may put anything in the place of a preview.
        kept('{"v": 1, "labels": ["a"], "set": [["inv_1", 1e300, 0, 0]]}'),
        kept('{"v": 1, "labels": ["a"], "set": [["inv_1", 1' + "0" * 40 + ", 0, 0]]}"),
        kept('{"v": 1, "labels": ["a"], "set": [[1, 0, 0, 0]]}'),
        kept('{"v": 1, "labels": [1], "set": [["inv_1", 0, 0, 0]]}'),
        kept('{"v": 1, "labels": ["a"], "set": [["\\ud800", 0, 0, 0]]}'),
        kept("[" * 100_000),
        kept("{}")[:-8],
    ],
)
def test_set_that_is_damaged_is_refused(text: str) -> None:
    with pytest.raises(DamagedSet):
        decode(text)


def test_set_that_stands_for_gigabytes_is_refused_and_not_unpacked() -> None:
    text = kept('{"v": 1, "labels": [], "set": []' + " " * 64 * 1024 * 1024 + "}")
    assert len(text) < 100_000
    tracemalloc.start()
    with pytest.raises(DamagedSet):
        decode(text)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 1024 * 1024


def test_set_of_the_longest_labels_fits_what_is_unpacked() -> None:
    labels = (cut(f"S/{n:04}" + '"' * 400, 256) for n in range(8000))
    made = [Planned(f"inv_{n:036}", BORN, InvocationStatus.COMPLETED, told) for n, told in enumerate(labels)]
    assert decode(encode(made, most=10**9)) == made


def test_set_of_many_takes_few_characters_for_each() -> None:
    start = datetime(2026, 5, 1, tzinfo=UTC)
    targets = [
        Planned(f"inv_1{n * 7919:032x}", start + timedelta(milliseconds=n * 37), InvocationStatus.SUSPENDED, "Svc/h")
        for n in range(1000)
    ]
    assert len(encode(targets)) / 1000 < 60


@pytest.mark.parametrize(
    ("characters", "most"),
    [
        pytest.param("0123456789abcdef", 64, id="digests"),
        pytest.param("".join(chr(0x4E00 + n) for n in range(5000)), 128, id="CJK"),
        pytest.param("".join(chr(0x1F300 + n) for n in range(500)), 128, id="emoji"),
    ],
)
def test_set_of_the_longest_keys_fits_a_chunk_and_loses_nothing_but_keys(characters: str, most: int) -> None:
    chance = random.Random(1)
    at = datetime(2026, 5, 1, tzinfo=UTC)
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    targets = [
        Planned(
            "inv_1" + "".join(chance.choices(digits, k=33)),
            at + timedelta(milliseconds=chance.randrange(10**10)),
            InvocationStatus.SUSPENDED,
            label("checkout", "pay", "".join(chance.choices(characters, k=most))),
        )
        for _ in range(8000)
    ]
    text = encode(targets)
    assert len(text) <= TEXT_LIMIT
    read = decode(text)
    assert [(t.id, t.created_at, t.status) for t in read] == [(t.id, t.created_at, t.status) for t in targets]
    assert all(t.label.startswith("checkout/") and t.label.endswith("/pay") for t in read)


@given(names, names, st.none() | names)
def test_label_fits_and_begins_with_the_service(service: str, handler: str, key: str | None) -> None:
    made = label(service, handler, key)
    assert len(made.encode()) <= LABEL_LIMIT
    assert made.startswith(clean(service)[: LABEL_LIMIT // 4 - 1])


def test_label_shortens_a_long_key_before_the_handler() -> None:
    made = label("Svc", "pay", "k" * 500)
    assert made.startswith("Svc/kkk")
    assert made.endswith("…/pay")
    assert len(made) < 150


def test_label_with_a_redacted_key_does_not_show_it() -> None:
    assert label("Svc", "pay", "secret", redact_key=True) == "Svc/…/pay"
