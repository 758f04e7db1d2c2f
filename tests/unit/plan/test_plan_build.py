"""The plan: counts, hints and warnings that a person reads before it is carried out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.action import ActionSpec, Cascade
from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.plan.build import PlanBuilder, unknown_names
from invocation_operator.plan.operations import DEFAULT, POSSIBLE, caused_operations, wanted_statuses, with_statuses
from invocation_operator.target.row import InvocationRow

S = InvocationStatus
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENGINE = {"checkout": ["pay", "refund"], "report-daily": ["run"], "report-weekly": ["run"]}


def spec(action: str = "Cancel", **fields: Any) -> ActionSpec:
    return ActionSpec.model_validate({"action": action, "target": {"services": ["checkout"]}, **fields})


def row(number: int, status: S, service: str = "checkout", key: str | None = None) -> InvocationRow:
    return InvocationRow(f"inv_{number}", NOW, status, service=service, handler="pay", key=key)


def warnings(given_spec: ActionSpec, *statuses: S, cascade: Cascade | None = None) -> list[str]:
    builder = PlanBuilder(given_spec)
    for number, status in enumerate(statuses):
        builder.add(row(number, status))
    return builder.finish(time=NOW, excluded_by_status={}, cascade=cascade, services=None).warnings


@given(st.lists(st.tuples(st.sampled_from(S), st.sampled_from([f"svc-{n}" for n in range(40)])), max_size=60))
def test_plan_counts_add_up_and_stay_bounded(rows: list[tuple[S, str]]) -> None:
    builder = PlanBuilder(spec())
    for number, (status, service) in enumerate(rows):
        builder.add(row(number, status, service))
    plan = builder.finish(time=NOW, excluded_by_status={}, cascade=None, services=None)
    shown = plan.status()
    assert plan.total == shown.total == len(rows)
    assert sum(count.count for count in shown.by_status or ()) == len(rows)
    assert len(shown.by_service or ()) == min(20, len({service for _, service in rows}))
    assert len(shown.sample or ()) == min(10, len(rows))
    assert [count.count for count in shown.by_service or ()] == sorted(
        (count.count for count in shown.by_service or ()), reverse=True
    )


def test_plan_reaches_its_own_and_their_descendants() -> None:
    builder = PlanBuilder(spec("Kill"))
    builder.add(row(1, S.RUNNING))
    plan = builder.finish(time=NOW, excluded_by_status={}, cascade=Cascade(total=4), services=None)
    assert (plan.total, plan.reach) == (1, 5)


def test_plan_keeps_when_the_last_of_its_rows_had_changed() -> None:
    builder = PlanBuilder(spec("Resume"))
    changes = [None, NOW, NOW + timedelta(hours=1), NOW + timedelta(minutes=1)]
    for number, at in enumerate(changes):
        builder.add(replace(row(number, S.PAUSED), modified_at=at))
    plan = builder.finish(time=NOW, excluded_by_status={}, cascade=None, services=None)
    assert plan.changed_at == NOW + timedelta(hours=1)


def test_plan_with_redacted_keys_shows_none() -> None:
    builder = PlanBuilder(spec(), redact_keys=True)
    builder.add(row(1, S.RUNNING, key="customer-7"))
    builder.unfit(row(2, S.COMPLETED, key="customer-8"), "Completed")
    plan = builder.finish(time=NOW, excluded_by_status={S.COMPLETED: 1, S.PAUSED: 0}, cascade=None, services=None)
    assert plan.status().sample is not None
    assert "customer" not in plan.status().model_dump_json()
    assert "customer" not in plan.named[0].model_dump_json()
    assert [count.name for count in plan.status().excluded_by_status or ()] == ["Completed"]


@pytest.mark.parametrize(
    ("given_spec", "statuses", "told"),
    [
        (spec(), [S.SUSPENDED], []),
        (spec(), [S.PAUSED, S.PAUSED], ["2 of them are paused: a cancel resumes them."]),
        (spec(), [S.BACKING_OFF], ["1 of them wait for a retry"]),
        (spec(expedite=True), [S.BACKING_OFF], []),
        (spec(verification={"repeat": "WhenUnchanged"}), [S.RUNNING], ["aborts a compensation"]),
        (spec("Kill"), [S.RUNNING], ["no compensation runs"]),
        (spec("PurgeJournal"), [S.COMPLETED], ["cannot be restarted"]),
        (spec("Pause"), [S.RUNNING], []),
        (spec("Pause", target={"all": True, "statuses": ["Suspended"]}), [S.SUSPENDED], ["before it wakes up"]),
        (spec("Resume"), [S.PAUSED], []),
        (spec("Resume", resume={"deployment": "Keep"}), [S.BACKING_OFF], []),
        (spec("Resume", resume={"deployment": "Latest"}), [S.BACKING_OFF, S.PAUSED], ["1 of them back off and are"]),
        (spec("RestartAsNew"), [S.COMPLETED], []),
    ],
)
def test_plan_warns_of_what_the_action_brings_with_it(
    given_spec: ActionSpec, statuses: list[S], told: list[str]
) -> None:
    found = warnings(given_spec, *statuses)
    assert len(found) == len(told)
    for part, warning in zip(told, found, strict=True):
        assert part in warning


def test_plan_of_a_kill_tells_how_many_die_with_it() -> None:
    told = warnings(spec("Kill"), S.RUNNING, cascade=Cascade(total=7, truncated=True))
    assert "7 or more descendants die with them, one-way calls included." in told


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ({"services": ["checkout"]}, []),
        ({"services": ["report-*"]}, []),  # a prefix that somebody has
        (
            {"services": ["Checkout"]},
            ["no service 'Checkout' (names match exactly, case included); did you mean 'checkout'?"],
        ),
        ({"services": ["chekout"]}, ["did you mean 'checkout'?"]),
        ({"services": ["rapport-*"]}, ["no service 'rapport-*'"]),
        ({"services": ["zzz"]}, ["the engine has no service 'zzz' (names match exactly, case included)"]),
        ({"services": ["checkout"], "handlers": ["payy"]}, ["no handler 'payy'"]),
        ({"all": True, "anyOf": [{"handlers": ["pay"]}, {"handlers": ["refnd"]}]}, ["did you mean 'refund'"]),
        # An exclusion that matches nothing leaves nothing out.
        ({"all": True, "not": {"services": ["chekout"]}}, ["did you mean 'checkout'?"]),
        ({"all": True, "not": {"anyOf": [{"handlers": ["refnd"]}]}}, ["no handler 'refnd'"]),
        ({"services": ["zzz", "zzz"]}, ["'zzz'"]),  # told once
    ],
)
def test_unknown_names_are_told_with_the_nearest(target: dict[str, Any], told: list[str]) -> None:
    found = unknown_names(Target.model_validate(target), ENGINE)
    assert len(found) == len(told)
    for part, warning in zip(told, found, strict=True):
        assert part in warning


# What each action applies to.


@pytest.mark.parametrize("action", POSSIBLE)
def test_default_statuses_are_possible_ones(action: Any) -> None:
    assert DEFAULT[action] <= POSSIBLE[action]


@pytest.mark.parametrize(
    ("action", "target", "expected"),
    [
        ("Resume", {}, {S.PAUSED}),
        ("Resume", {"statuses": ["BackingOff"]}, {S.BACKING_OFF}),
        ("Resume", {"anyOf": [{"statuses": ["BackingOff"]}]}, {S.BACKING_OFF}),
        ("Resume", {"anyOf": [{"statuses": ["BackingOff"]}, {"handlers": ["a"]}]}, {S.BACKING_OFF, S.PAUSED}),
        ("Resume", {"anyOf": [{"handlers": ["a"]}]}, {S.PAUSED}),
        ("Purge", {}, {S.COMPLETED}),
    ],
)
def test_wanted_statuses_are_those_named_or_the_actions_own(action: str, target: Any, expected: set[S]) -> None:
    given_spec = spec(action, target={"services": ["checkout"], **target})
    assert wanted_statuses(given_spec) == expected


def test_statuses_of_one_branch_do_not_widen_another() -> None:
    given_spec = spec("Resume", target={"all": True, "anyOf": [{"statuses": ["BackingOff"]}, {"handlers": ["a"]}]})
    filled, _ = with_statuses(given_spec.target, given_spec.action)
    assert [branch.statuses for branch in filled.any_of or ()] == [[S.BACKING_OFF], [S.PAUSED]]


BACKING_OFF = {"services": ["checkout"], "statuses": ["BackingOff"]}
IN_A_BRANCH = {"services": ["checkout"], "anyOf": [{"statuses": ["BackingOff"]}, {"handlers": ["a"]}]}


@pytest.mark.parametrize(
    ("given_spec", "expected"),
    [
        (spec(), {"Cancel"}),
        (spec(escalation={"killAfter": "1m"}), {"Cancel", "Kill"}),
        (spec(expedite=True), {"Cancel", "Resume"}),
        (spec("PurgeJournal"), {"PurgeJournal"}),
        # What backs off is paused on its way to another deployment.
        (spec("Resume", target=BACKING_OFF, resume={"deployment": "Latest"}), {"Resume", "Pause"}),
        (spec("Resume", target=BACKING_OFF, resume={"deployment": "dp_1"}), {"Resume", "Pause"}),
        (spec("Resume", target=BACKING_OFF, resume={"deployment": "Keep"}), {"Resume"}),
        (spec("Resume", target=BACKING_OFF), {"Resume"}),
        (spec("Resume", target=IN_A_BRANCH, resume={"deployment": "Latest"}), {"Resume", "Pause"}),
        (spec("Resume", resume={"deployment": "Latest"}), {"Resume"}),
    ],
)
def test_caused_operations_hold_what_an_option_would_do(given_spec: ActionSpec, expected: set[str]) -> None:
    assert {operation.value for operation in caused_operations(given_spec)} == expected
