"""Counts add up, results stay bounded with what needs attention first, and a run's end follows from its counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.action import ActionProgress, ActionStatus, NamedCount, Outcome, Phase, Result
from invocation_operator.plan import report
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.pausing import LEFT_PAUSED
from invocation_operator.plan.report import RESULTS, Findings

outcomes = st.lists(st.sampled_from(Outcome), max_size=120)
BAD = ("failed", "ambiguous", "unverified", "no_op")


def result(number: int, outcome: Outcome, reason: str = "Because", error: str | None = None) -> Result:
    return Result(id=f"inv_{number}", outcome=outcome, reason=reason, error=error)


def findings(of: list[Outcome]) -> Findings:
    made = Findings()
    for number, outcome in enumerate(of):
        made.add(number, result(number, outcome))
    return made


@given(outcomes, outcomes, st.integers(0, 10))
def test_progress_counts_add_up_to_what_is_done(planned: list[Outcome], named: list[Outcome], left: int) -> None:
    ledger = Ledger(len(planned) + left)
    for index, outcome in enumerate(planned):
        ledger.settle(index, outcome)
    counted = report.progress(ledger, [result(n, outcome) for n, outcome in enumerate(named)])
    numbers = counted.model_dump(exclude={"total", "done", "percent", "summary"})
    assert sum(numbers.values()) == counted.done == len(planned) + len(named)
    assert counted.total == counted.done + left
    assert counted.summary == f"{counted.done}/{counted.total}"
    assert (counted.percent == 100) is (left == 0)


@given(outcomes)
def test_findings_are_bounded_and_show_failures_first(of: list[Outcome]) -> None:
    shown = findings(of).results()
    assert len(shown) == min(len(of), RESULTS)
    ranks = [report._RANK[r.outcome] for r in shown]
    assert ranks == sorted(ranks)
    failed = sum(outcome is Outcome.FAILED for outcome in of)
    assert sum(r.outcome is Outcome.FAILED for r in shown) == min(failed, RESULTS)


@given(outcomes)
def test_findings_of_equal_weight_keep_the_plans_order(of: list[Outcome]) -> None:
    shown = [int(r.id.removeprefix("inv_")) for r in findings(of).results() if r.outcome is Outcome.EFFECTIVE]
    assert shown == sorted(shown)


@given(outcomes)
def test_findings_that_are_kept_and_restored_are_the_same(of: list[Outcome]) -> None:
    before = findings(of)
    after = Findings()
    after.restore(before.results(), before.skipped_reasons())
    assert after.results() == before.results()
    assert after.skipped_reasons() == before.skipped_reasons()


def test_findings_put_what_was_left_paused_before_every_other_failure() -> None:
    made = findings([Outcome.FAILED] * 80)
    made.add(80, result(80, Outcome.FAILED, LEFT_PAUSED))
    assert made.results()[0].reason == LEFT_PAUSED
    assert len(made.results()) == RESULTS


def test_findings_count_skipped_ones_by_reason_beyond_what_is_shown() -> None:
    made = Findings()
    for number in range(200):
        made.add(number, result(number, Outcome.SKIPPED, "Gone" if number % 4 else "BornAgain"))
    assert made.skipped_reasons() == [NamedCount(name="Gone", count=150), NamedCount(name="BornAgain", count=50)]


def test_findings_cut_long_errors_and_keep_none_when_redacted() -> None:
    for redact, expected in ((False, "e" * 256), (True, None)):
        made = Findings(redact=redact)
        made.add(0, Result.model_construct(id="inv_1", outcome=Outcome.FAILED, reason="x", error="e" * 5000))
        assert made.results()[0].error == expected


def test_status_of_the_most_that_is_shown_stays_below_64_kib() -> None:
    made = Findings()
    for number in range(1000):
        full = Result(
            id=f"inv_{number:0124d}", target="t" * 256, outcome=Outcome.FAILED, reason="R" * 64, error="e" * 256
        )
        made.add(number, full)
    status = ActionStatus(results=made.results())
    assert len(status.model_dump_json()) < 64 * 1024


@pytest.mark.parametrize(
    ("counted", "phase"),
    [
        ({}, Phase.SUCCEEDED),  # nothing to do
        ({"effective": 3}, Phase.SUCCEEDED),
        ({"skipped": 3}, Phase.SUCCEEDED),  # with reasons
        ({"already_done": 1, "escalated": 2}, Phase.SUCCEEDED),
        ({"effective": 1, "failed": 1}, Phase.PARTIALLY_FAILED),
        ({"already_done": 1, "unverified": 1}, Phase.PARTIALLY_FAILED),
        ({"escalated": 1, "ambiguous": 1}, Phase.PARTIALLY_FAILED),
        ({"effective": 1, "no_op": 1}, Phase.PARTIALLY_FAILED),  # never Succeeded
        ({"failed": 1}, Phase.FAILED),
        ({"skipped": 5, "no_op": 1}, Phase.FAILED),  # nothing good came of it
    ],
)
def test_phase_of_an_ended_run_follows_from_its_counts(counted: dict[str, int], phase: Phase) -> None:
    assert report.final_phase(ActionProgress(**counted)) is phase


@given(st.fixed_dictionaries({name: st.integers(0, 3) for name in (*BAD, "effective", "skipped", "escalated")}))
def test_phase_is_succeeded_only_without_anything_bad(counted: dict[str, int]) -> None:
    phase = report.final_phase(ActionProgress(**counted))
    assert (phase is Phase.SUCCEEDED) is not any(counted[name] for name in BAD)


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ({}, "nothing to do"),
        ({"effective": 3, "skipped": 1}, "3 effective, 1 skipped"),
        ({"escalated": 2, "no_op": 1}, "2 killed after their cancel, 1 without effect"),
        ({"failed": 1, "unverified": 4, "ambiguous": 2}, "1 failed, 2 ambiguous, 4 not verified in time"),
    ],
)
def test_sentence_names_what_happened(counted: dict[str, int], expected: str) -> None:
    assert report.sentence(ActionProgress(**counted)) == expected
