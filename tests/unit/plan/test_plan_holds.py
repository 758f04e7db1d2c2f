"""What a hold holds: as it says, never less, and more where it cannot be read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.hold import HoldStatus
from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.plan.holds import Holds, held_by, held_unread, shown
from invocation_operator.target.row import InvocationRow

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ID = "inv_1" + "0" * 33


def row(service: str, **fields: Any) -> InvocationRow:
    known = {"handler": "pay", "status": InvocationStatus.COMPLETED, "outcome": CompletionOutcome.FAILED, "id": ID}
    times = {name: NOW - timedelta(hours=1) for name in ("created_at", "completed_at", "modified_at")}
    return InvocationRow(service=service, key=None, service_type="service", source="ingress", **known | times | fields)


def holder(spec: Mapping[str, Any], *, unread: bool = False) -> Holds:
    holds = Holds()
    if unread:
        holds.put("uid", held_unread("shop/legal", spec))
    else:
        read = RetentionSpec.model_validate(spec)
        holds.put("uid", held_by("shop/legal", read.services, read.holds or []))
    return holds


def held(spec: Mapping[str, Any], one: InvocationRow, *, unread: bool = False) -> bool:
    return holder(spec, unread=unread).watcher(lambda: NOW)(one) is not None


SAID = [
    ({}, "checkout", True, "everything of the policy's services"),
    ({}, "payment", False, "and of no others"),
    ({"outcomes": ["Failed"]}, "checkout", True, "a filter, within the policy's services"),
    ({"outcomes": ["Succeeded"]}, "checkout", False, "which does not hold"),
    ({"services": ["payment"]}, "payment", True, "a service that is not the policy's"),
    ({"services": ["payment"]}, "checkout", False, "then not the policy's"),
    ({"services": ["payment", "checkout"]}, "payment", True, "one that is and one that is not"),
    ({"ids": [ID]}, "payment", True, "an id, of whatever service"),
    ({"ids": [ID], "services": ["checkout"]}, "payment", False, "an id of a service that is named"),
    ({"anyOf": [{"services": ["payment"]}, {"outcomes": ["Failed"]}]}, "payment", True, "a branch with services"),
    ({"anyOf": [{"services": ["payment"]}, {"outcomes": ["Failed"]}]}, "checkout", True, "and one without"),
    ({"anyOf": [{"services": ["payment"]}, {"outcomes": ["Failed"]}]}, "ledger", False, "which means the policy's"),
    ({"not": {"handlers": ["pay"]}}, "checkout", False, "what is left out"),
]


@pytest.mark.parametrize(("target", "service", "expected", "why"), SAID, ids=[r[3] for r in SAID])
def test_hold_holds_what_it_says(target: dict[str, Any], service: str, expected: bool, why: str) -> None:
    spec = {"services": ["check*"], "holds": [{"name": "case", "target": target}]}
    assert held(spec, row(service)) is expected, why


UNREAD = [
    ({"target": {"outcomes": ["Succeeded"]}}, "checkout", False, "a hold that can be read is as it says"),
    ({"target": {"outcomes": ["Succeeded"], "tenants": ["a"]}}, "checkout", True, "an unknown filter is left out"),
    ({"target": {"tenants": ["a"]}}, "payment", False, "within the policy's services"),
    ({"target": {"services": ["payment"], "tenants": ["a"]}}, "payment", True, "or its own"),
    ({"target": {"services": ["payment"], "outcomes": None}}, "payment", True, "a null is no filter"),
    ({"target": {"services": "payment"}}, "ledger", True, "services that cannot be read: all"),
    ({"target": "everything"}, "checkout", True, "no target at all: the policy's services"),
    ("case", "checkout", True, "no hold at all"),
]


@pytest.mark.parametrize(("hold", "service", "expected", "why"), UNREAD, ids=[r[3] for r in UNREAD])
def test_hold_of_a_policy_that_cannot_be_read_holds_rather_more(
    hold: Any, service: str, expected: bool, why: str
) -> None:
    named = {"name": "case", **hold} if isinstance(hold, dict) else hold
    spec = {"services": ["check*"], "sweepz": [], "holds": [named]}
    assert held(spec, row(service), unread=True) is expected, why


def test_policy_without_services_that_can_be_read_holds_everything() -> None:
    assert held({"holds": [{"name": "case", "target": {}}]}, row("ledger"), unread=True)
    assert held_unread("shop/legal", {"services": ["checkout"]}) == ()


def test_relative_times_of_a_hold_go_on_while_a_run_does() -> None:
    moment = NOW
    spec = {"services": ["checkout"], "holds": [{"name": "old", "target": {"completedFor": "2h"}}]}
    watch = holder(spec).watcher(lambda: moment)
    assert watch(row("checkout")) is None
    moment = NOW + timedelta(hours=1, seconds=1)
    assert watch(row("checkout")) == "shop/legal (old)"


def test_hold_that_goes_is_heeded_no_more() -> None:
    holds = holder({"services": ["checkout"], "holds": [{"name": "case", "target": {}}]})
    watch = holds.watcher(lambda: NOW)
    assert watch(row("checkout")) == "shop/legal (case)"
    holds.put("uid", ())
    assert watch(row("checkout")) is None


def test_hold_that_comes_while_somebody_walks_through_all_does_not_stop_them() -> None:
    holds = holder({"services": ["checkout"], "holds": [{"name": "case", "target": {}}]})
    walk = iter(holds)
    first = next(walk)
    holds.put("another", (first,))
    assert list(walk) == []
    assert len(list(holds)) == 2


def test_hold_that_has_come_into_force_is_shown_before_it_was_counted() -> None:
    spec = RetentionSpec.model_validate(
        {"services": ["a"], "holds": [{"name": name, "target": {}} for name in ("old", "new")]}
    )
    made = shown(spec.holds, [HoldStatus(name="old", held=7), HoldStatus(name="gone", held=1)])
    assert [(entry.name, entry.held, entry.message) for entry in made] == [
        ("old", 7, None),
        ("new", 0, "in force; not counted yet."),
    ]
