"""The ledger: what is kept is what is read, and counts always add up."""

import base64
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.plan.ledger import CODES, Ledger

SIZES = st.integers(0, 60)


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Any ledger that a run can come to."""
    size = draw(SIZES)
    ledger = Ledger(size)
    for _ in range(draw(st.integers(0, 20)) if size else 0):
        index = draw(st.integers(0, size - 1))
        match draw(st.sampled_from(("intend", "settle", "release"))):
            case "intend":
                ledger.intend(index, draw(st.integers(index, size)))
            case "settle":
                ledger.settle(index, draw(st.sampled_from(Outcome)))
            case _:
                ledger.release(index)
    return ledger


@given(ledgers())
def test_ledger_that_is_kept_reads_the_same(ledger: Ledger) -> None:
    again = Ledger.decode(ledger.encode(), len(ledger))
    assert [again.outcome(n) for n in range(len(ledger))] == [ledger.outcome(n) for n in range(len(ledger))]
    assert (again.intended(), again.untouched, again.settled) == (ledger.intended(), ledger.untouched, ledger.settled)
    assert again.encode() == ledger.encode()


@given(ledgers())
def test_ledger_counts_each_invocation_once(ledger: Ledger) -> None:
    assert sum(ledger.count(outcome) for outcome in Outcome) == ledger.settled
    assert ledger.settled + ledger.untouched + len(ledger.intended()) == len(ledger)


@given(ledgers(), st.sampled_from(Outcome), st.sampled_from(Outcome))
def test_ledger_never_overwrites_an_outcome(ledger: Ledger, first: Outcome, second: Outcome) -> None:
    for index in range(len(ledger)):
        before = ledger.outcome(index)
        ledger.settle(index, first)
        ledger.settle(index, second)
        ledger.intend(index, index + 1)
        ledger.release(index)
        assert ledger.outcome(index) is (before or first)


@given(ledgers(), SIZES, st.integers(0, 80))
def test_ledger_finds_what_is_untouched_without_a_gap(ledger: Ledger, start: int, most: int) -> None:
    first = ledger.next_untouched(start)
    length = ledger.untouched_run(first, most)
    assert 0 <= length <= most
    kept = ledger.untouched
    ledger.intend(first, first + length)
    assert ledger.untouched == kept - length
    if first < len(ledger) and most:
        assert length


@given(ledgers(), st.sampled_from(Outcome), st.integers(1, 80))
def test_ledger_tells_who_has_an_outcome_or_a_sample_of_them(ledger: Ledger, outcome: Outcome, most: int) -> None:
    having = [n for n in range(len(ledger)) if ledger.outcome(n) is outcome]
    found = list(ledger.having(outcome, most))
    assert len(found) == min(len(having), most)
    assert found == sorted(set(found) & set(having))


def test_ledger_samples_evenly() -> None:
    ledger = Ledger(1000)
    for index in range(1000):
        ledger.settle(index, Outcome.EFFECTIVE)
    found = list(ledger.having(Outcome.EFFECTIVE, 10))
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {100}


def test_ledger_of_a_million_stays_small() -> None:
    ledger = Ledger(1_000_000)
    ledger.intend(0, 500_100)
    for index in range(500_000):
        ledger.settle(index, Outcome.EFFECTIVE if index % 1000 else Outcome.FAILED)
    assert len(ledger.encode()) < 50_000


def packed(codes: bytes) -> str:
    return base64.b64encode(zlib.compress(codes)).decode()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 1),
        ("not base64!", 1),
        (base64.b64encode(b"not compressed").decode(), 1),
        (packed(b".."), 3),  # of another plan
        (packed(b"?"), 1),  # of a newer version
    ],
)
def test_ledger_that_is_damaged_is_refused(text: str, size: int) -> None:
    with pytest.raises(ValueError, match="ledger"):
        Ledger.decode(text, size)


def test_ledger_codes_never_change() -> None:
    """Records of earlier versions are read with them."""
    assert {outcome.value: chr(code) for outcome, code in CODES.items()} == {
        "Effective": "E",
        "AlreadyDone": "D",
        "Escalated": "X",
        "Skipped": "S",
        "NoOp": "N",
        "Unverified": "U",
        "Ambiguous": "A",
        "Failed": "F",
    }
