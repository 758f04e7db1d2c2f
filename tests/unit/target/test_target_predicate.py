"""Which invocations a target means, filter by filter, with the reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus, Target
from invocation_operator.target.freeze import freeze
from invocation_operator.target.predicate import matches
from invocation_operator.target.row import InvocationRow

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVERY = frozenset(InvocationStatus)
ROW = InvocationRow(
    id="inv_1" + "0" * 33,
    created_at=NOW - timedelta(hours=1),
    status=InvocationStatus.SUSPENDED,
    service="checkout",
    handler="pay",
    key="it's_50%*",
    service_type="virtual_object",
    source="ingress",
    modified_at=NOW - timedelta(minutes=30),
)
CALLED = replace(ROW, source="service", invoked_by="cart", key=None)
ENDED = replace(
    ROW,
    status=InvocationStatus.COMPLETED,
    completed_at=NOW - timedelta(minutes=10),
    outcome=CompletionOutcome.SUCCEEDED,
)
FAILED = replace(ENDED, outcome=CompletionOutcome.FAILED, failure_code=418, failure_message="no tea in the pot")
CANCELLED = replace(ENDED, outcome=CompletionOutcome.CANCELLED, failure_code=409, failure_message="cancelled")
BACKING_OFF = replace(ROW, status=InvocationStatus.BACKING_OFF, retry_count=3, failure_code=500, failure_message="down")
PAUSED = replace(ROW, status=InvocationStatus.PAUSED, retry_count=7, failure_code=503, failure_message="busy")
RUNNING = replace(ROW, status=InvocationStatus.RUNNING, retry_count=1)

CASES = [
    ({"services": ["checkout"]}, ROW, True, "the exact name"),
    ({"services": ["Checkout"]}, ROW, False, "case counts"),
    ({"services": ["check"]}, ROW, False, "not a prefix without *"),
    ({"services": ["check*"]}, ROW, True, "a prefix"),
    ({"services": ["checkout*"]}, ROW, True, "a prefix is of itself"),
    ({"services": ["other", "checkout"]}, ROW, True, "any value within a list"),
    ({"services": ["checkout"], "handlers": ["refund"]}, ROW, False, "all fields must hold"),
    ({"handlers": ["pa*"]}, ROW, True, "handlers know prefixes"),
    ({"keys": ["it's_50%*"]}, ROW, True, "keys are literal"),
    ({"keys": ["it's*"]}, ROW, False, "an asterisk in a key is an asterisk"),
    ({"keys": ["itxs_50%*"]}, ROW, False, "an underscore is no wildcard"),
    ({"keyPrefixes": ["it's_"]}, ROW, True, "prefixes of keys"),
    ({"keyPrefixes": ["it's*"]}, ROW, False, "prefixes are literal too"),
    ({"keys": ["x"]}, CALLED, False, "no key is no key"),
    ({"not": {"keys": ["x"]}}, CALLED, True, "no key is a value like any other for not"),
    ({"not": {"keyPrefixes": ["x"], "services": ["checkout"]}}, CALLED, True, "the same in company"),
    ({"statuses": ["Suspended"]}, ROW, True, "the status"),
    ({"statuses": ["Running"]}, ROW, False, "another status"),
    ({"invokedBy": ["cart"]}, CALLED, True, "the caller"),
    ({"invokedBy": ["ca*"]}, CALLED, True, "a prefix of the caller"),
    ({"invokedBy": ["cart"]}, ROW, False, "no caller"),
    ({"rootsOnly": True}, ROW, True, "called from outside"),
    ({"rootsOnly": True}, CALLED, False, "called by another invocation"),
    ({"rootsOnly": True}, replace(ROW, source="restart_as_new"), True, "a restart was called by nobody"),
    ({"rootsOnly": False}, CALLED, True, "false is no filter"),
    ({"olderThan": "1h"}, ROW, False, "exactly as old is not longer ago"),
    ({"olderThan": "59m59.999s"}, ROW, True, "longer ago"),
    ({"createdBefore": "2026-01-01T11:00:00Z"}, ROW, False, "before is exclusive"),
    ({"createdBefore": "2026-01-01T11:00:00.000001Z"}, ROW, True, "a microsecond later"),
    ({"createdAfter": "2026-01-01T11:00:00Z"}, ROW, True, "after is inclusive"),
    ({"createdAfter": "2026-01-01T11:00:00.000001Z"}, ROW, False, "a microsecond later"),
    ({"createdBefore": "2026-01-01T11:30:00Z", "olderThan": "2h"}, ROW, False, "both bounds hold"),
    ({"unmodifiedFor": "29m"}, ROW, True, "at rest for longer"),
    ({"unmodifiedFor": "30m"}, ROW, False, "exactly as long is not longer"),
    ({"completedFor": "5m"}, ENDED, True, "completed longer ago"),
    ({"completedFor": "5m"}, ROW, False, "not completed"),
    ({"not": {"completedFor": "5m"}}, ROW, True, "not completed is not excluded"),
    ({"completedBefore": "2026-01-01T11:50:00.001Z"}, ENDED, True, "completed before"),
    ({"outcomes": ["Succeeded"]}, ENDED, True, "succeeded"),
    ({"outcomes": ["Failed"]}, FAILED, True, "failed"),
    ({"outcomes": ["Failed"]}, CANCELLED, False, "failed means neither cancelled nor killed"),
    ({"outcomes": ["Cancelled", "Killed"]}, CANCELLED, True, "cancelled"),
    ({"outcomes": ["Succeeded"]}, ROW, False, "not ended"),
    ({"failureCodes": [418]}, FAILED, True, "the code of the completion"),
    ({"failureCodes": [409]}, CANCELLED, True, "a cancelled one has a code too"),
    ({"failureCodes": [500]}, BACKING_OFF, True, "the code of the last attempt"),
    ({"failureCodes": [503]}, PAUSED, True, "the code of what paused it"),
    ({"failureCodes": [41]}, FAILED, False, "codes are whole"),
    ({"not": {"failureCodes": [418]}}, ROW, True, "never failed is not excluded"),
    ({"failureMessage": "tea"}, FAILED, True, "a part"),
    ({"failureMessage": "Tea"}, FAILED, False, "case counts"),
    ({"failureMessage": "418"}, FAILED, False, "the code is not part of the message"),
    ({"minRetries": 3}, BACKING_OFF, True, "failed three times"),
    ({"minRetries": 4}, BACKING_OFF, False, "but not four"),
    ({"minRetries": 1}, RUNNING, False, "a first attempt that runs has failed never, though the engine counts 1"),
    ({"minRetries": 1}, replace(RUNNING, retry_count=2), True, "the second attempt"),
    ({"minRetries": 1}, PAUSED, False, "the engine keeps no count that could be trusted"),
    ({"minRetries": 1}, ROW, False, "no count"),
    ({"idempotencyKeys": ["k"]}, replace(ROW, idempotency_key="k"), True, "the idempotency key"),
    ({"scopes": ["s"]}, replace(ROW, scope="s"), True, "the scope"),
    ({"scopes": ["s"]}, ROW, False, "no scope"),
    ({"deployments": ["dp_1"]}, replace(ROW, pinned_deployment_id="dp_1"), True, "pinned to it"),
    ({"deployments": ["dp_1"]}, ROW, False, "not pinned"),
    ({"restartedFrom": ["inv_x"]}, replace(ROW, restarted_from="inv_x"), True, "its origin"),
    ({"ids": [ROW.id]}, ROW, True, "named"),
    ({"ids": ["inv_bogus"]}, ROW, False, "not named"),
    ({"anyOf": [{"services": ["x"]}, {"handlers": ["pay"]}]}, ROW, True, "one alternative"),
    ({"anyOf": [{"services": ["x"]}]}, ROW, False, "no alternative"),
    ({"services": ["x"], "anyOf": [{"handlers": ["pay"]}]}, ROW, False, "the alternatives come on top"),
    ({"anyOf": [{"statuses": ["Running"]}]}, ROW, False, "a branch has statuses of its own"),
    ({"not": {"services": ["checkout"], "handlers": ["refund"]}}, ROW, True, "excluded only if all of it holds"),
    ({"not": {"anyOf": [{"handlers": ["x"]}, {"handlers": ["pay"]}]}}, ROW, False, "excluded by an alternative"),
    ({"not": {"services": ["checkout"], "anyOf": [{"handlers": ["x"]}]}}, ROW, True, "alternatives come on top"),
]


@pytest.mark.parametrize(("form", "row", "expected", "reason"), CASES, ids=[f"{c[3]}-{n}" for n, c in enumerate(CASES)])
def test_filter_means_what_it_says(form: dict[str, Any], row: InvocationRow, expected: bool, reason: str) -> None:
    assert matches(freeze(Target.model_validate(form), NOW, EVERY), row) is expected, reason


def test_default_statuses_hold_until_they_are_lifted() -> None:
    frozen = freeze(Target.model_validate({"services": ["checkout"]}), NOW, frozenset({InvocationStatus.PAUSED}))
    assert not matches(frozen, ROW)
    assert matches(frozen, ROW, any_status=True)
    assert matches(frozen, PAUSED)


def test_default_statuses_hold_beside_the_statuses_of_branches() -> None:
    form = {"anyOf": [{"services": ["checkout"], "statuses": ["Suspended"]}]}
    frozen = freeze(Target.model_validate(form), NOW, frozenset({InvocationStatus.PAUSED}))
    assert not matches(frozen, ROW)
