"""Rows of the engine's JSON."""

from datetime import UTC, datetime
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.target.row import MalformedRow, row_from_json
from invocation_operator.target.vocabulary import ENGINE_STATUS

LEAST: dict[str, Any] = {"id": "inv_1", "created_at": "2026-11-23T15:27:58.518Z", "status": "ready"}


def test_row_without_its_nulls_is_read() -> None:
    row = row_from_json(LEAST)
    assert row.created_at == datetime(2026, 11, 23, 15, 27, 58, 518000, tzinfo=UTC)
    assert row.status is InvocationStatus.READY
    assert (row.key, row.outcome, row.failure_code, row.retry_count) == (None, None, None, None)


@pytest.mark.parametrize("status", list(InvocationStatus))
def test_every_status_has_its_word(status: InvocationStatus) -> None:
    assert row_from_json(LEAST | {"status": ENGINE_STATUS[status]}).status is status


@pytest.mark.parametrize(
    ("failure", "outcome", "code", "message", "reason"),
    [
        ("[409] cancelled", CompletionOutcome.CANCELLED, 409, "cancelled", "Python SDK"),
        ("[409] Cancelled", CompletionOutcome.CANCELLED, 409, "Cancelled", "TypeScript SDK"),
        ("[409] killed", CompletionOutcome.KILLED, 409, "killed", "the engine"),
        ("[409] cancelled order", CompletionOutcome.FAILED, 409, "cancelled order", "the whole text counts"),
        ("[418] cancelled", CompletionOutcome.FAILED, 418, "cancelled", "and the code"),
        ("[500] it] [x", CompletionOutcome.FAILED, 500, "it] [x", "brackets in the message"),
        ("[500] ", CompletionOutcome.FAILED, 500, "", "no message"),
    ],
)
def test_failure_of_a_completed_one_is_told_apart(
    failure: str, outcome: CompletionOutcome, code: int, message: str, reason: str
) -> None:
    form = {"status": "completed", "completion_result": "failure", "completion_failure": failure}
    row = row_from_json(LEAST | form)
    assert (row.outcome, row.failure_code, row.failure_message) == (outcome, code, message), reason


def test_failure_while_backing_off_has_a_named_code() -> None:
    row = row_from_json(
        LEAST | {"status": "backing-off", "last_failure": "[500 Internal] boom\nTraceback", "retry_count": 2}
    )
    assert (row.failure_code, row.failure_message, row.retry_count) == (500, "boom\nTraceback", 2)


def test_failure_of_a_paused_one_comes_from_its_event() -> None:
    row = row_from_json(LEAST | {"status": "paused", "paused_code": 503, "paused_message": "busy"})
    assert (row.failure_code, row.failure_message) == (503, "busy")


def test_failure_of_an_earlier_pause_or_attempt_is_not_that_of_a_running_one() -> None:
    form = {"status": "running", "paused_code": 503, "paused_message": "busy", "last_failure": "[500] boom"}
    row = row_from_json(LEAST | form)
    assert (row.failure_code, row.failure_message) == (None, None)


@pytest.mark.parametrize(
    "form",
    [
        {},
        LEAST | {"status": "thinking"},
        LEAST | {"created_at": "yesterday"},
        {**LEAST, "created_at": None},
        LEAST | {"last_failure": 5, "status": "backing-off"},
    ],
)
def test_row_that_lacks_what_it_must_have_is_refused(form: dict[str, Any]) -> None:
    with pytest.raises(MalformedRow):
        row_from_json(form)
