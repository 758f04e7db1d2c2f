"""Conditions in the kstatus convention."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator import conditions
from invocation_operator.api.v1alpha1.base import Condition
from invocation_operator.conditions import MESSAGE_LIMIT, Verdict, build, find

NOON = datetime(2026, 1, 1, 12, 0, 0, 987654, tzinfo=UTC)
WHOLE = NOON.replace(microsecond=0)


def shown(found: list[Condition]) -> dict[str, str]:
    return {condition.type: condition.status for condition in found}


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict.READY, {"Ready": "True"}),
        (Verdict.WORKING, {"Ready": "False", "Reconciling": "True"}),
        (Verdict.STALLED, {"Ready": "False", "Stalled": "True"}),
    ],
)
def test_conditions_of_a_verdict_hold_no_false_extras(verdict: Verdict, expected: dict[str, str]) -> None:
    found = build(verdict, "Because", "of this", generation=3, now=NOON)
    assert shown(found) == expected
    assert {(c.reason, c.message, c.observed_generation) for c in found} == {("Because", "of this", 3)}


def test_condition_times_are_whole_seconds_as_kubernetes_writes_them() -> None:
    (ready,) = build(Verdict.READY, "A", "b", generation=1, now=NOON)
    assert ready.last_transition_time == WHOLE


def test_condition_that_stays_as_it_was_keeps_its_time_whatever_its_reason() -> None:
    first = build(Verdict.WORKING, "Planning", "x", generation=1, now=NOON)
    later = build(Verdict.WORKING, "Running", "y", generation=2, now=NOON + timedelta(hours=1), previous=first)
    assert [c.last_transition_time for c in later] == [WHOLE, WHOLE]
    assert [c.reason for c in later] == ["Running", "Running"]


def test_condition_that_changes_gets_the_new_time() -> None:
    first = build(Verdict.WORKING, "Running", "x", generation=1, now=NOON)
    later = build(Verdict.STALLED, "Failed", "y", generation=1, now=NOON + timedelta(hours=1), previous=first)
    ready, stalled = later
    assert ready.last_transition_time == WHOLE  # it was not ready before either
    assert stalled.last_transition_time == WHOLE + timedelta(hours=1)


def test_condition_message_is_cut_to_what_the_crd_allows() -> None:
    (ready,) = build(Verdict.READY, "A", "m" * 5000, generation=1, now=NOON)
    assert len(ready.message) == MESSAGE_LIMIT


def test_find_returns_the_condition_of_a_type_or_none() -> None:
    found = build(Verdict.STALLED, "A", "b", generation=1, now=NOON)
    stalled = find(found, "Stalled")
    assert stalled is not None
    assert stalled.status == "True"
    assert find(found, "Reconciling") is None
    assert find(None, "Ready") is None


@given(st.lists(st.sampled_from(Verdict), min_size=1, max_size=10))
def test_transition_times_never_run_ahead_and_move_only_with_the_status(verdicts: list[Verdict]) -> None:
    known: list[Condition] = []
    for hour, verdict in enumerate(verdicts):
        now = NOON + timedelta(hours=hour)
        made = build(verdict, "A", "b", generation=hour, now=now, previous=known)
        for condition in made:
            before = conditions.find(known, condition.type)
            assert condition.last_transition_time <= now
            if before is not None and before.status == condition.status:
                assert condition.last_transition_time == before.last_transition_time
        known = made
