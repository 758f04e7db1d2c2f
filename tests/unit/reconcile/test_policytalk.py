"""What a RetentionPolicy says stays within what an object may hold, the gravest first."""

from datetime import UTC, datetime

from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.retention import (
    HandlerOverride,
    RetentionSpec,
    RetentionStatus,
    ServiceRetention,
    ServiceState,
    Settings,
)
from invocation_operator.conditions import Verdict
from invocation_operator.plan.report import size_of
from invocation_operator.plan.retention import Cause, Drifted
from invocation_operator.reconcile.policytalk import STATUS_LIMIT, Findings, verdict_of, within

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


def test_status_of_few_services_keeps_their_handlers() -> None:
    status = within(RetentionStatus().model_copy(update=findings(2).fields(EngineIdentity())))
    assert [len(e.handlers or ()) for e in status.services or ()] == [16, 16]


def test_verdict_names_the_gravest_state_and_one_service() -> None:
    found = findings(3)
    found.set_aside("b", ServiceState.CONFLICTED, "an older one has it", None)
    found.set_aside("c", ServiceState.CONFLICTED, "an older one has it", None)
    talk = verdict_of(SPEC, found)
    assert (talk.verdict, talk.reason) == (Verdict.STALLED, "Conflicted")
    assert talk.message == "in force on 3 of 5 services. b: an older one has it The same state: c."


def test_many_drifts_at_once_are_few_events() -> None:
    found = findings(40)
    found.drifts = [Drifted(name, Cause.NEW_DEPLOYMENT, {}) for name in found.entries]
    told = list(found.events({}, corrected=True))
    assert len(told) == 6
    assert "and 30 more" in told[-1][1]
