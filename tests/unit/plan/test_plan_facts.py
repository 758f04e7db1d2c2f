"""Facts of a report: what is kept comes back, in the room that there is, and a page is as large as it may be."""

import base64
import gzip
import json
import secrets
import tracemalloc
import zlib
from datetime import UTC, datetime

import pytest

from invocation_operator.api.v1alpha1.action import Outcome, Result
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.facts import DamagedFacts, Fact, decode, encode, line, lines_in, page
from invocation_operator.plan.targets import Planned

BORN = datetime(2026, 1, 1, tzinfo=UTC)
TARGETS = [Planned(f"inv_{n}", BORN, InvocationStatus.COMPLETED, f"checkout/\u00e9-{n}/pay") for n in range(3)]
NAMED = [Result(id="nonsense", outcome=Outcome.FAILED, reason="InvalidId", error="this is no invocation id")]

FACTS = [
    Fact(0, Outcome.EFFECTIVE, "Restarted", "inv_new"),
    Fact(1, Outcome.FAILED, "Rejected", None, "[500] no"),
    Fact(2, Outcome.SKIPPED, "BornAgain"),
    Fact(2, Outcome.EFFECTIVE),
    Fact(1, Outcome.AMBIGUOUS, "NoTraceOfRestart", "inv_x", "lost"),
    Fact(-1, Outcome.FAILED, "InvalidId", None, "this is no invocation id"),
    Fact(0, None),
]


def test_facts_that_are_kept_come_back() -> None:
    assert decode(encode(FACTS)) == FACTS
    assert decode(encode(Fact(0, outcome) for outcome in Outcome)) == [Fact(0, outcome) for outcome in Outcome]


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", encode(FACTS)[:-8]])
def test_facts_that_are_damaged_are_not_taken_for_others(text: str) -> None:
    with pytest.raises(DamagedFacts):
        decode(text)


def test_facts_of_a_later_version_are_told_as_such() -> None:
    later = base64.b64encode(zlib.compress(b'{"v": 2}')).decode()
    with pytest.raises(DamagedFacts, match="version 2"):
        decode(later)


def test_facts_without_room_lose_what_was_said_first_and_then_new_ids_and_never_an_outcome() -> None:
    many = [Fact(n, Outcome.FAILED, "Rejected", secrets.token_hex(16), secrets.token_hex(60)) for n in range(2000)]
    whole = len(encode(many))
    without_errors = encode(many, whole - 1)
    assert decode(without_errors) == [found._replace(error=None) for found in many]
    assert len(without_errors) < whole / 2
    least = encode(many, len(without_errors) - 1)
    assert decode(least) == [found._replace(error=None, new_id=None) for found in many]


def test_facts_of_a_record_are_small() -> None:
    """A thousand of them are written with every batch."""
    assert len(encode(Fact(n, Outcome.EFFECTIVE, "Cancelled") for n in range(1000))) < 8_000
    restarted = (Fact(n, Outcome.EFFECTIVE, "Restarted", f"inv_1{secrets.token_urlsafe(24)}") for n in range(1000))
    assert len(encode(restarted)) < 48_000


def test_line_tells_who_and_what_and_nothing_that_is_not_there() -> None:
    told = [json.loads(line(found, TARGETS, NAMED)) for found in FACTS]
    assert told[0] == {
        "id": "inv_0",
        "target": "checkout/\u00e9-0/pay",
        "outcome": "Effective",
        "reason": "Restarted",
        "newId": "inv_new",
    }
    assert told[1]["error"] == "[500] no"
    assert told[5] == {
        "id": "nonsense",
        "outcome": "Failed",
        "reason": "InvalidId",
        "error": "this is no invocation id",
    }
    assert told[6] == {"id": "inv_0", "target": "checkout/\u00e9-0/pay", "outcome": "NotTouched"}


def test_page_holds_as_many_lines_as_fit() -> None:
    lines = [secrets.token_hex(100) for _ in range(1000)]
    content, count = page(lines, 30_000)
    assert len(content) <= 30_000
    assert 100 < count < 1000
    assert gzip.decompress(content).decode().splitlines() == lines[:count]
    assert lines_in(content) == count
    assert page(lines)[1] == 1000
    # The same facts make the same page.
    assert page(lines, 30_000) == (content, count)


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"a line\n")[:-9]], ids=["none", "other", "cut"])
def test_page_that_is_none_is_told(content: bytes) -> None:
    with pytest.raises(DamagedFacts):
        lines_in(content)


def test_page_that_stands_for_gigabytes_is_told_and_not_unpacked() -> None:
    content = gzip.compress(b"\n" * 64 * 1024 * 1024)
    assert len(content) < 100_000
    tracemalloc.start()
    with pytest.raises(DamagedFacts):
        lines_in(content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40 * 1024 * 1024
