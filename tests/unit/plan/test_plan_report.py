"""Counts add up, results stay bounded with what needs attention first, and a run's end follows from its counts."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.action import (
    ActionProgress,
    ActionStatus,
    Cascade,
    NamedCount,
    Outcome,
    Phase,
    PlannedTarget,
    PlanStatus,
    Result,
)
from invocation_operator.api.v1alpha1.base import Condition
from invocation_operator.plan import report
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.pausing import LEFT_PAUSED
from invocation_operator.plan.report import RESULTS, Findings
from invocation_operator.plan.targets import label

NOW = datetime(2026, 1, 1, tzinfo=UTC)
outcomes = st.lists(st.sampled_from(Outcome), max_size=120)
BAD = ("failed", "ambiguous", "unverified", "no_op")


def texts(most: int) -> st.SearchStrategy[str]:
    """As long as the CRD allows, of characters that take much, or whatever."""
    heavy = st.builds(lambda c, n: c * n, st.sampled_from('a界😀<\x01"\u2028'), st.integers(1, most))
    return heavy | st.text(st.characters(codec="utf-8"), min_size=1, max_size=min(most, 20))


counts = st.lists(st.builds(NamedCount, name=texts(256), count=st.integers(0, 10**6)), max_size=20)
statuses = st.builds(
    ActionStatus,
    phase=st.sampled_from(Phase),
    run_id=st.none() | texts(256),
    requested_by=st.none() | texts(256),
    plan=st.none()
    | st.builds(
        PlanStatus,
        hash=st.just("sha256:x"),
        total=st.integers(0, 10**6),
        by_service=counts,
        cascade=st.none() | st.builds(Cascade, by_service=counts),
        warnings=st.lists(texts(1024), max_size=10),
        sample=st.lists(st.builds(PlannedTarget, id=texts(128), target=texts(256)), max_size=10),
    ),
    results=st.none()
    | st.lists(
        st.builds(Result, id=texts(128), target=texts(256), error=texts(256), reason=texts(256)),
        min_size=1,
        max_size=50,
    ),
    skipped_reasons=counts,
    conditions=st.lists(
        st.builds(
            Condition,
            type=st.just("Ready"),
            status=st.just("False"),
            last_transition_time=st.just(NOW),
            reason=st.just("R"),
            message=texts(2048),
        ),
        min_size=1,
        max_size=3,
    ),
)


def inv(number: int) -> str:
    return f"inv_1{number:033d}"


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


def test_findings_spend_no_room_of_an_error_on_the_id_that_stands_beside_it() -> None:
    id_ = "inv_10XepBuoGKjj0JzMTohHaL7TnJcnnWEJsO"
    said = f"The journal '{id_}' up to 'from' (included) contains some Commands without respective Completions for them"
    findings = Findings()
    findings.add(0, Result(id=id_, outcome=Outcome.FAILED, error=said))
    assert findings.results()[0].error == said.replace(id_, "…")


def test_findings_cut_long_errors_and_keep_none_when_redacted() -> None:
    for redact, expected in ((False, "e" * 127 + "…"), (True, None)):
        made = Findings(redact=redact)
        made.add(0, Result.model_construct(id="inv_1", outcome=Outcome.FAILED, reason="x", error="e" * 5000))
        assert made.results()[0].error == expected


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        pytest.param("a", 50, id="plain"),
        pytest.param("é", 20, id="two bytes"),
        pytest.param("界", 20, id="three bytes, six in ASCII"),
        pytest.param("😀", 20, id="four bytes, twelve in ASCII"),
        pytest.param("\x01", 20, id="control characters"),
        pytest.param('"', 20, id="escaped"),
        pytest.param("<", 20, id="escaped for HTML"),
    ],
)
def test_status_of_any_characters_stays_below_64_kib_and_shows_much(character: str, shown: int) -> None:
    made = Findings()
    key = label("Service", "handler", character * 300)
    for number in range(100):
        full = Result(id=inv(number), target=key, outcome=Outcome.FAILED, reason="R" * 64, error=character * 256)
        made.add(number, full)
    sample = [PlannedTarget(id=inv(n), target=key, status="Running") for n in range(10)]
    said = Condition(type="Ready", status="False", last_transition_time=NOW, reason="R", message=character * 512)
    plan = PlanStatus(total=100, sample=sample, warnings=["w" * 1024] * 3)
    status = report.within(ActionStatus(results=made.results(), plan=plan, conditions=[said]))
    stored = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert len(json.dumps(stored)) < 60_000
    assert len(json.dumps(stored, ensure_ascii=False).encode()) < 60_000
    assert len(status.results or ()) >= shown


@given(statuses)
def test_status_of_any_content_stays_below_its_limit_and_keeps_the_first_results(status: ActionStatus) -> None:
    shown = report.within(status)
    stored = json.dumps(shown.model_dump(by_alias=True, exclude_none=True, mode="json"))
    assert len(stored) + 5 * sum(stored.count(c) for c in "<>&") <= report.STATUS_LIMIT
    kept = shown.results or []
    assert kept == (status.results or [])[: len(kept)]
    unchanged = {"observed_generation", "phase", "run_id", "record", "progress", "start_time", "completion_time"}
    assert shown.model_dump(include=unchanged) == status.model_dump(include=unchanged)
    assert [c.reason for c in shown.conditions or ()] == [c.reason for c in status.conditions or ()]
    assert (shown.plan is None) == (status.plan is None)
    if shown.plan is not None and status.plan is not None:
        assert (shown.plan.hash, shown.plan.total) == (status.plan.hash, status.plan.total)


@given(statuses)
def test_status_that_fits_is_left_as_it_is(status: ActionStatus) -> None:
    assert report.within(report.within(status)) == report.within(status)
    small = status.model_copy(update={"results": (status.results or [])[:2] or None, "conditions": None, "plan": None})
    assert report.within(small) == small


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


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.integers(0, 200)), max_size=200, unique_by=lambda one: one[1]))
def test_findings_lose_nothing_when_only_what_they_want_is_added(found: list[tuple[Outcome, int]]) -> None:
    every, wanted = Findings(), Findings()
    for outcome, index in found:
        result = Result(id=f"inv_{index}", outcome=outcome, reason="Gone")
        every.add(index, result)
        if wanted.wants(outcome, index):
            wanted.add(index, result)
    assert wanted.results() == every.results()
    assert wanted.skipped_reasons() == every.skipped_reasons()


def test_findings_that_are_handed_on_want_everything() -> None:
    findings = Findings()
    for index in range(2 * RESULTS):
        findings.add(index, Result(id=f"inv_{index}", outcome=Outcome.EFFECTIVE, reason="Gone"))
    assert not findings.wants(Outcome.EFFECTIVE, 2 * RESULTS)
    findings.sink = lambda _index, _result: None
    assert findings.wants(Outcome.EFFECTIVE, 2 * RESULTS)
