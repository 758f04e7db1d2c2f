"""What a RetentionPolicy says stays within what an object may hold, the gravest first."""

from datetime import UTC, datetime
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import Phase
from invocation_operator.api.v1alpha1.base import Condition, EngineIdentity
from invocation_operator.api.v1alpha1.hold import HeldInvocation, HoldStatus
from invocation_operator.api.v1alpha1.retention import (
    HandlerOverride,
    RetentionSpec,
    RetentionStatus,
    ServiceRetention,
    ServiceState,
    Settings,
)
from invocation_operator.api.v1alpha1.sweep import SweepRun, SweepStatus
from invocation_operator.conditions import Verdict
from invocation_operator.plan.report import size_of
from invocation_operator.plan.retention import Cause, Drifted
from invocation_operator.reconcile.policytalk import STATUS_LIMIT, Findings, Talk, verdict_of, with_sweeps, within

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SPEC = RetentionSpec.model_validate({"services": ["s*"], "retention": {"journal": "1d"}})


def findings(count: int, state: ServiceState = ServiceState.IN_FORCE) -> Findings:
    long = "a-service-with-a-name-as-long-as-people-give-them-when-they-generate-them"
    found = Findings(NOW)
    for n in range(count):
        name = f"s{n:04}-{long}"
        values = Settings(idempotency="1d12h", workflow_completion="7d", journal="1d12h30m", abort_timeout="10m")
        handlers = [HandlerOverride(name=f"handler-{i}", effective=values) for i in range(16)]
        found.entries[name] = ServiceRetention(
            name=name, state=state, requested=values, effective=values, previous=values, since=NOW, handlers=handlers
        )
    return found


def test_status_of_a_thousand_services_stays_within_its_limit_and_counts_the_rest() -> None:
    found = findings(1000)
    found.entries["zz-rejected"] = ServiceRetention(name="zz-rejected", state=ServiceState.REJECTED, message="no")
    status = within(RetentionStatus().model_copy(update=found.fields(EngineIdentity())))
    assert size_of(status) <= STATUS_LIMIT
    shown = status.services or []
    assert shown[0].name == "zz-rejected", "what needs attention comes first"
    assert len(shown) + status.omitted == 1001
    assert (status.summary, status.matched) == ("1000/1001", 1001)


def crowded() -> RetentionStatus:
    """Everything that a policy may have at once, each as long as it can be."""
    held = HeldInvocation(id="inv_1" + "x" * 123, target="ü" * 256, expires=NOW, journal_expires=NOW)
    run = SweepRun(
        request="ü" * 128, start_time=NOW, completion_time=NOW, phase=Phase.PARTIALLY_FAILED, planned=10**6,
        freed=10**6, bytes_freed=10**12, record="rpol-" + "0" * 64, message="ü" * 512,
    )  # fmt: skip
    sweeps = [
        SweepStatus(
            name=f"{n:040}", schedule="s" * 192, since=NOW, last_schedule_time=NOW, next_schedule_time=NOW,
            active="rpol-" + "0" * 64, progress="1000000/1000000", history=[run] * 5, message="ü" * 512,
        )
        for n in range(18)
    ]  # fmt: skip
    holds = [HoldStatus(name=f"{n:040}", held=10**6, expiring=[held] * 10, message="m" * 512) for n in range(16)]
    conditions = [
        Condition(type=kind, status="False", reason="R" * 64, message="ü" * 1024, last_transition_time=NOW)
        for kind in ("Ready", "Stalled")
    ]
    base = RetentionStatus(sweeps=sweeps, holds=holds, conditions=conditions, last_handled_request="ü" * 128)
    return base.model_copy(
        update=findings(1000, ServiceState.REJECTED).fields(EngineIdentity(name="e" * 253))
        | {"warnings": ["w" * 1024] * 10}
    )


def test_status_with_everything_at_its_longest_stays_within_its_limit() -> None:
    whole = crowded()
    status = within(whole)
    assert size_of(whole) > 2 * STATUS_LIMIT
    assert size_of(status) <= STATUS_LIMIT
    assert [len(e.history or ()) for e in status.sweeps or ()] == [1] * 18, (
        "the last run tells which request was seen to"
    )
    assert all(e.held == 10**6 and len(e.expiring or ()) + e.omitted == 10 for e in status.holds or ())
    assert len(status.services or ()) + status.omitted == 1000
    assert within(status) == status


def test_status_of_few_services_keeps_their_handlers() -> None:
    status = within(RetentionStatus().model_copy(update=findings(2).fields(EngineIdentity())))
    assert [len(e.handlers or ()) for e in status.services or ()] == [16, 16]


def test_verdict_names_the_gravest_state_and_one_service() -> None:
    found = findings(3)
    found.set_aside("b", ServiceState.CONFLICTED, "an older one has it", None)
    found.set_aside("c", ServiceState.CONFLICTED, "an older one has it", None)
    talk = verdict_of(SPEC, found)
    assert (talk.verdict, talk.reason) == (Verdict.STALLED, "Conflicted")
    assert found.fields(EngineIdentity())["not_in_force"] == "b: Conflicted and 1 more"
    assert talk.message == "in force on 3 of 5 services. b: an older one has it The same state: c."


def test_many_drifts_at_once_are_few_events() -> None:
    found = findings(40)
    found.drifts = [Drifted(name, Cause.NEW_DEPLOYMENT, {}) for name in found.entries]
    told = list(found.events({}, corrected=True))
    assert len(told) == 6
    assert "and 30 more" in told[-1][1]


SWEEPS = [
    ([], "InForce", "nothing is wrong"),
    ([{"message": "exceeded quota"}], "SweepWaiting", "one that waits is not ready"),
    ([{"message": "schedule: never comes"}], "ScheduleInvalid", "that needs a person"),
    ([{"message": "exceeded quota"}, {"history": [{"phase": "Refused"}]}], "SweepFailed", "the gravest is told"),
]


@pytest.mark.parametrize(("entries", "reason", "why"), SWEEPS, ids=[row[2] for row in SWEEPS])
def test_values_in_force_are_not_all_where_a_sweep_waits_or_needs_a_person(
    entries: list[dict[str, Any]], reason: str, why: str
) -> None:
    sweeps = [SweepStatus.model_validate({"name": f"s{number}", **entry}) for number, entry in enumerate(entries)]
    talk = with_sweeps(Talk(Verdict.READY, "InForce", "in force"), RetentionStatus(sweeps=sweeps))
    assert talk.reason == reason, why
