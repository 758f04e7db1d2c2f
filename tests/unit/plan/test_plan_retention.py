"""RetentionPolicy's decisions: what differs, what drifted and why, what is restored, what the engine makes of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.retention import Drift, RetentionSpec, ServiceRetention, ServiceState
from invocation_operator.plan import retention as plan
from invocation_operator.plan.caps import warnings
from invocation_operator.plan.retention import Observed, Setting

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
H = timedelta(hours=1)
DAY = timedelta(days=1)
J, I, W = Setting.JOURNAL, Setting.IDEMPOTENCY, Setting.WORKFLOW_COMPLETION  # noqa: E741 - as they stand in tables
WANTED = {J: 2 * H, W: 5 * H}


def service(journal: timedelta | None = DAY, *, ty: str = "Service", revision: int = 1, deployment: str = "dp_1",
            idempotency: timedelta = DAY, **handlers: Any) -> Observed:  # fmt: skip
    values = {I: idempotency} | ({J: journal} if journal is not None else {})
    if ty == "Workflow":
        values[W] = DAY
    return Observed("Svc", ty, revision, deployment, values, handlers)


def known(state: ServiceState = ServiceState.IN_FORCE, **fields: Any) -> ServiceRetention:
    told = {
        "name": "Svc", "requested": {"journal": "2h"}, "effective": {"journal": "2h"}, "revision": 1,
        "deployment": "dp_1", "since": NOW - DAY, **fields,
    }  # fmt: skip
    return ServiceRetention.model_validate({"state": state, **told})


DRIFTS = [
    ("nothing known of it", service(), None, {J: 2 * H}, None),
    ("right, and nothing known", service(2 * H), None, {}, None),
    ("as it was set", service(2 * H), known(), {}, None),
    ("a person's value", service(4 * H), known(), {J: 2 * H}, "ChangedElsewhere"),
    ("registered by force", service(revision=2), known(), {J: 2 * H}, "ForcedRegistration"),
    ("another deployment", service(revision=2, deployment="dp_2"), known(), {J: 2 * H}, "NewDeployment"),
    ("the newer one removed", service(), known(revision=2, deployment="dp_2"), {J: 2 * H}, "DeploymentRemoved"),
    ("a new revision with the same value", service(2 * H, revision=2), known(), {}, None),
    ("the policy asks for something else", service(3 * H), known(requested={"journal": "3h"}), {J: 2 * H}, None),
    (
        "capped, as it was",
        service(1 * H),
        known(ServiceState.CAPPED, effective={"journal": "1h"}),
        {},
        None,
    ),
    (
        "capped, and changed since",
        service(DAY),
        known(ServiceState.CAPPED, effective={"journal": "1h"}),
        {J: 2 * H},
        "ChangedElsewhere",
    ),
    ("it was only reported, and is enforced now", service(), known(ServiceState.DRIFTED), {J: 2 * H}, None),
    ("it was another policy's", service(), known(ServiceState.CONFLICTED), {J: 2 * H}, None),
    ("it was gone", service(revision=3), known(ServiceState.GONE), {J: 2 * H}, None),
    ("a value that cannot be read", service(None), known(ServiceState.CAPPED, effective={}), {}, None),
]


@pytest.mark.parametrize(("why", "seen", "before", "differing", "cause"), DRIFTS, ids=[row[0] for row in DRIFTS])
def test_service_is_told_what_differs_and_drift_has_a_cause(
    why: str, seen: Observed, before: ServiceRetention | None, differing: dict[Setting, timedelta], cause: str | None
) -> None:
    found = plan.assess(WANTED, seen, before, Drift.ENFORCE)
    assert (found.differing, found.cause and found.cause.value) == (differing, cause), why
    assert found.not_applicable == (W,)


def test_report_tells_one_drift_once() -> None:
    told = known(ServiceState.DRIFTED, effective={"journal": "1d"})
    assert plan.assess({J: 2 * H}, service(DAY), told, Drift.REPORT).cause is None
    assert plan.assess({J: 2 * H}, service(3 * H), told, Drift.REPORT).cause is not None


def made(seen: Observed, after: Observed, before: ServiceRetention | None = None, **more: Any) -> ServiceRetention:
    assessment = plan.assess(WANTED, seen, before, Drift.ENFORCE)
    return plan.entry(assessment, after, before, **{"drift": Drift.ENFORCE, "now": NOW, **more})


def test_entry_keeps_what_held_before_the_first_change_of_a_revision() -> None:
    first = made(service(), service(2 * H))
    assert (first.state, first.previous) == (ServiceState.IN_FORCE, plan.settings({J: DAY}))
    # A person's value in between is not what the policy found: the first one is written back.
    again = made(service(4 * H), service(2 * H), first)
    assert (again.drifts, again.previous) == (1, plan.settings({J: DAY}))
    # A new revision has values of its own.
    anew = made(service(7 * H, revision=2), service(2 * H, revision=2), again)
    assert (anew.drifts, anew.previous, anew.last_drift_reason) == (2, plan.settings({J: 7 * H}), "ForcedRegistration")


def test_entry_of_a_refusal_has_changed_nothing() -> None:
    entry = made(service(), service(), rejected="no")
    assert (entry.state, entry.previous) == (ServiceState.REJECTED, None)


def test_entry_of_a_value_that_the_engine_holds_below_is_capped() -> None:
    entry = made(service(), service(H))
    assert entry.state is ServiceState.CAPPED
    assert entry.message is not None
    assert "journal is 1h and not 2h" in entry.message


def test_entry_of_a_type_without_any_of_the_values_is_not_applicable() -> None:
    assessment = plan.assess({W: H}, service(), None, Drift.ENFORCE)
    entry = plan.entry(assessment, service(), None, drift=Drift.ENFORCE, now=NOW)
    assert (entry.state, entry.requested, entry.not_applicable) == (
        ServiceState.NOT_APPLICABLE, None, ["workflowCompletion"],
    )  # fmt: skip


RESTORED = [
    ("as the policy left it", service(2 * H), {J: DAY}),
    ("another revision", service(2 * H, revision=2), {}),
    ("somebody else's value", service(9 * H), {}),
    ("gone", None, {}),
]


@pytest.mark.parametrize(("why", "seen", "back"), RESTORED, ids=[row[0] for row in RESTORED])
def test_restored_is_only_what_is_still_ours(why: str, seen: Observed | None, back: dict[Setting, timedelta]) -> None:
    assert plan.restorable(known(previous={"journal": "1d"}), seen) == back, why


EXPECTED = [
    ("keyed", False, {}, True, (DAY, 2 * H)),
    ("without a key, also of a workflow's other handlers", False, {}, False, (2 * H, 2 * H)),
    ("the handler's journal", False, {J: 3 * DAY}, True, (DAY, DAY)),
    ("a workflow run", True, {}, False, (5 * H, 2 * H)),
    ("a handler's completion below its journal", False, {I: H}, True, (H, H)),
]


@pytest.mark.parametrize(("why", "runs", "own", "keyed", "kept"), EXPECTED, ids=[row[0] for row in EXPECTED])
def test_retention_of_a_new_invocation_is_what_the_engine_gives_it(
    why: str, runs: bool, own: dict[Setting, timedelta], keyed: bool, kept: tuple[timedelta, timedelta]
) -> None:
    assert plan.expected({J: 2 * H, I: DAY, W: 5 * H}, own, runs=runs, keyed=keyed) == kept, why


def test_warnings_are_silent_where_nothing_is_capped() -> None:
    assert warnings({J: H, I: DAY}, [service(H)], automatic_keys=True) == []
    assert warnings({I: H}, [service(DAY, idempotency=H)], automatic_keys=True) == []


def test_names_of_settings_are_those_of_the_policy_and_of_the_engine() -> None:
    assert {s.field_name: s.engine_name for s in Setting} == {
        "idempotency": "idempotency_retention",
        "workflowCompletion": "workflow_completion_retention",
        "journal": "journal_retention",
        "inactivityTimeout": "inactivity_timeout",
        "abortTimeout": "abort_timeout",
    }
    spec = RetentionSpec.model_validate(
        {"services": ["a"], "retention": {"journal": "60m"}, "timeouts": {"abortTimeout": "PT1M"}}
    )
    assert plan.requested_values(spec) == {J: H, Setting.ABORT_TIMEOUT: timedelta(minutes=1)}


def noted(revision: int = 1, previous: str | None = "1d", **fields: Any) -> ServiceRetention:
    """What status or a keepsake says of a service whose journal was set to two hours."""
    fields = {"name": "s", "state": "InForce", "effective": {"journal": "2h"}, "revision": revision, **fields}
    return ServiceRetention.model_validate(fields | ({"previous": {"journal": previous}} if previous else {}))


RECALLED = [
    (None, noted(), ("1d", 1), "shown and not kept"),
    (noted(), None, ("1d", 1), "kept and not shown: one of more than status takes"),
    (noted(previous="1d"), noted(previous=None), ("1d", 1), "changed, and not shown yet when the process died"),
    (noted(2, "3d"), noted(1, "1d"), ("3d", 2), "kept of a newer revision, before it was changed"),
    (noted(previous="3d"), noted(previous="1d"), ("1d", 1), "shown after it was changed"),
]


@pytest.mark.parametrize(("kept", "shown", "expected", "why"), RECALLED, ids=[r[3] for r in RECALLED])
def test_recalled_is_what_can_be_restored_after_a_crash(
    kept: ServiceRetention | None, shown: ServiceRetention | None, expected: tuple[str, int], why: str
) -> None:
    found = plan.recalled({"s": kept} if kept else {}, [shown] if shown else [])["s"]
    assert (found.previous and found.previous.journal, found.revision) == expected, why


def test_foreseen_is_what_a_change_will_have_changed_and_stays_so_after_it() -> None:
    before, wanted = service(DAY), {J: 2 * H}
    assessed = plan.assess(wanted, before, None, Drift.ENFORCE)
    written = plan.foreseen(assessed, None)
    assert written is not None
    assert (written.previous, written.effective) == (plan.settings({J: DAY}), plan.settings({J: 2 * H}))
    after = service(2 * H)
    made = plan.entry(assessed, after, None, drift=Drift.ENFORCE, now=NOW)
    again = plan.foreseen(plan.assess(wanted, after, made, Drift.ENFORCE), made)
    assert again == written, "nothing is written anew while nothing changes"
    assert plan.restorable(written, after) == {J: DAY}
    assert plan.restorable(written, before) == {}, "the process died before it changed anything"
    assert plan.foreseen(plan.assess(wanted, after, None, Drift.ENFORCE), None) is None, "it was so before"
