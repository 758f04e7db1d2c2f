"""Waves: each invocation in one of them, none too early, and a judgement that survives a crash."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome, Result, RolloutStatus
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.plan.rollout import Health, Waves, ailment, exceeds, first_end, wave_ends, waves_of
from invocation_operator.plan.targets import DamagedSet
from invocation_operator.target.row import InvocationRow
from invocation_operator.values.times import LATEST

S, E = InvocationStatus, CompletionOutcome
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

WAVES = st.lists(st.one_of(st.integers(1, 2_000), st.integers(1, 100).map(lambda n: f"{n}%")), min_size=1, max_size=20)

ENDS: list[tuple[list[int | str], int, list[int], str]] = [
    ([1, "5%", "100%"], 200, [1, 10, 200], "as documented"),
    ([1, "5%"], 200, [1, 10, 200], "the last is all, also when it is not written"),
    ([1, "5%", "100%"], 10, [1, 10], "5% of ten is one, which the first wave has already"),
    (["5%"], 21, [2, 21], "shares are rounded up"),
    (["1%"], 1, [1], "one of one is all"),
    ([10, 100], 5, [5], "more than there are is all"),
    (["50%", "5%", 3, "60%"], 10, [5, 6, 10], "what reaches no further is left out"),
    (["100%", 1], 10, [10], "nothing is left for a second one"),
    ([1, 1, 2], 3, [1, 2, 3], "the same twice is once"),
    ([1], 0, [], "nothing is planned"),
    (["33%"], 1_000_000, [330_000, 1_000_000], "no float rounds"),
]


@pytest.mark.parametrize(("waves", "total", "expected", "why"), ENDS, ids=[row[3] for row in ENDS])
def test_waves_end_where_they_say(waves: list[int | str], total: int, expected: list[int], why: str) -> None:
    assert wave_ends(waves, total) == expected, why


@given(WAVES, st.integers(1, 1_500))
def test_waves_have_every_planned_invocation_once(waves: list[int | str], total: int) -> None:
    ends = wave_ends(waves, total)
    assert ends[0] >= 1
    assert ends == sorted(set(ends))
    assert ends[-1] == total
    members = [range(first, last) for first, last in zip([0, *ends], ends, strict=False)]
    assert [index for wave in members for index in wave] == list(range(total))


@given(WAVES, st.integers(1, 1_500))
def test_waves_never_reach_further_than_any_of_them_says(waves: list[int | str], total: int) -> None:
    """The first is as large as what is written first; each end is what some wave says, rounded up, or all."""
    ends = wave_ends(waves, total)
    said = {-(-total * int(w[:-1]) // 100) if isinstance(w, str) else min(w, total) for w in waves}
    assert set(ends) <= said | {total}
    first = waves[0]
    assert ends[0] == (min(first, total) if isinstance(first, int) else -(-total * int(first[:-1]) // 100))


EXCEEDS: list[tuple[int, int, int | str, bool, str]] = [
    (0, 5, 0, False, "all are well"),
    (1, 4, 0, True, "one is not"),
    (2, 3, 2, False, "as many as allowed"),
    (3, 2, 2, True, "one more than allowed"),
    (1, 19, "5%", False, "a twentieth exactly"),
    (2, 38, "5%", False, "a twentieth exactly"),
    (2, 37, "5%", True, "a little more than a twentieth"),
    (1, 0, "99%", True, "all that were looked at"),
    (5, 0, "100%", False, "everything is allowed"),
    (0, 0, "0%", False, "nothing was there to be looked at"),
    (1, 999, "0%", True, "one is more than nothing"),
]


@pytest.mark.parametrize(("unhealthy", "healthy", "most", "expected", "why"), EXCEEDS, ids=[row[4] for row in EXCEEDS])
def test_unhealthy_ones_exceed_what_is_allowed(
    unhealthy: int, healthy: int, most: int | str, expected: bool, why: str
) -> None:
    assert exceeds(Health(healthy, unhealthy), most) is expected, why


AILMENTS: list[tuple[InvocationStatus, CompletionOutcome | None, str | None]] = [
    (S.PAUSED, None, "Paused"),
    (S.BACKING_OFF, None, "BackingOff"),
    (S.COMPLETED, E.FAILED, "Failed"),
    (S.COMPLETED, E.CANCELLED, "Cancelled"),
    (S.COMPLETED, E.KILLED, "Killed"),
    (S.COMPLETED, E.SUCCEEDED, None),
    (S.RUNNING, None, None),
    (S.READY, None, None),
    (S.SUSPENDED, None, None),
    (S.PENDING, None, None),
    (S.SCHEDULED, None, None),
]


@pytest.mark.parametrize(("status", "outcome", "expected"), AILMENTS)
def test_invocation_is_ill_when_it_stands_still_or_has_failed(
    status: InvocationStatus, outcome: CompletionOutcome | None, expected: str | None
) -> None:
    assert ailment(InvocationRow("inv_1", NOW, status, outcome=outcome)) == expected


def test_every_status_is_either_well_or_ill() -> None:
    assert {status for status, _, _ in AILMENTS} == set(S)


def waves(*ends: int, soak: float = 60, most: int | str = 0) -> Waves:
    return Waves(list(ends), timedelta(seconds=soak), most)


def test_waves_go_on_one_by_one_while_they_are_well() -> None:
    run = waves(1, 5, 20)
    reached = []
    while not run.over:
        reached.append(run.end)
        assert run.acted_upon(NOW)
        assert run.looked_at(Health(run.end, 0), NOW)
    assert reached == [1, 5, 20]
    assert run.status() == RolloutStatus(wave=3, waves=3, wave_start_time=NOW, soak_until=NOW + run.soak, healthy=20)


def test_waves_stay_where_one_is_not_well() -> None:
    run = waves(1, 5, 20, most=1)
    run.acted_upon(NOW)
    assert run.looked_at(Health(0, 1), NOW)
    run.acted_upon(NOW)
    assert not run.looked_at(Health(3, 2), NOW)
    assert (run.wave, run.end, run.over) == (1, 5, False)


def test_soak_that_has_begun_does_not_begin_again() -> None:
    run = waves(1, 5)
    assert run.acted_upon(NOW)
    assert not run.acted_upon(NOW + timedelta(hours=1))
    assert run.soak_until == NOW + timedelta(seconds=60)


def test_soak_beyond_the_end_of_time_begins() -> None:
    run = Waves([1, 5], timedelta(days=7_304_484), 0)
    assert run.acted_upon(NOW)
    assert run.soak_until == LATEST


@given(st.integers(0, 2), st.booleans())
def test_waves_that_are_kept_and_restored_stand_where_they_stood(passed: int, soaking: bool) -> None:
    run = waves(1, 5, 20)
    for _ in range(passed):
        run.acted_upon(NOW)
        run.looked_at(Health(run.end, 0), NOW)
    if soaking:
        run.acted_upon(NOW)
    again = waves(1, 5, 20)
    again.restore(RolloutStatus.model_validate_json(run.status().model_dump_json(by_alias=True)))
    assert again == run


@pytest.mark.parametrize("kept", [RolloutStatus(wave=1, waves=2), RolloutStatus(wave=4, waves=3), RolloutStatus()])
def test_waves_of_another_plan_are_not_taken_up(kept: RolloutStatus) -> None:
    with pytest.raises(DamagedSet):
        waves(1, 5, 20).restore(kept)


def test_verdict_names_the_wave_the_numbers_and_some_of_the_ill_within_a_records_message() -> None:
    run = waves(7, 50, most="5%")
    run.acted_upon(NOW)
    ill = [
        Result(id=f"inv_{n}" + "x" * 34, target="é" * 120, outcome=Outcome.EFFECTIVE, reason="Paused", error="💥" * 60)
        for n in range(5)
    ]
    assert not run.looked_at(Health(2, 5, ill), NOW)
    told = run.verdict()
    assert told.startswith("after wave 1 of 2, 5 of 7 invocations are not healthy")
    assert "spec.rollout.maxUnhealthy (5%)" in told
    assert "inv_2" in told
    assert "inv_3" not in told
    assert len(told) < 750, "the record's message has 1024 characters, and more is said after this"


def action(**fields: Any) -> ActionSpec:
    return ActionSpec.model_validate({"action": "Resume", "target": {"all": True}, **fields})


def test_run_without_a_rollout_has_no_waves() -> None:
    assert waves_of(action(), 10) is None
    assert first_end(action(), 10) == 10


def test_run_of_nothing_has_no_waves() -> None:
    assert waves_of(action(rollout={"waves": [1]}), 0) is None
    assert first_end(action(rollout={"waves": [1]}), 0) == 0


def test_run_in_waves_soaks_for_a_minute_and_tolerates_nothing_unless_told() -> None:
    made = waves_of(action(rollout={"waves": [3]}), 10)
    assert made == Waves([3, 10], timedelta(minutes=1), 0)
    assert first_end(action(rollout={"waves": [3]}), 10) == 3
