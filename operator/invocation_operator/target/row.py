"""One invocation as the engine's ``/query`` shows it, in the words of the API.

Read by the planner and the executor; made only by ``row_from_json`` from the columns of ``sql``. Columns that were not
asked for are None, like those that are null.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any

from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.target import vocabulary
from invocation_operator.values.times import parse_time

_CODE = re.compile(r"\[([0-9]{1,5})[\] ]")


class MalformedRow(ValueError):
    """A row of the engine's answer that lacks what it must have; nothing may be decided from it."""


@dataclass(frozen=True, slots=True)
class InvocationRow:
    """An invocation. Identity is ``(id, created_at)``: the same id can live again after a purge."""

    id: str
    created_at: datetime
    status: InvocationStatus
    service: str = ""
    handler: str = ""
    key: str | None = None
    """Key of a virtual object or workflow."""
    service_type: str | None = None
    """``service``, ``virtual_object`` or ``workflow``."""
    source: str | None = None
    """How it was invoked: ``ingress``, ``service``, ``subscription``, ``restart_as_new`` or ``restate``."""
    invoked_by: str | None = None
    """Service that made the call, when another invocation did."""
    invoked_by_id: str | None = None
    """Invocation that made the call."""
    idempotency_key: str | None = None
    """Engines from 1.7 on give ingress calls a random one of their own."""
    scope: str | None = None
    restarted_from: str | None = None
    pinned_deployment_id: str | None = None
    modified_at: datetime | None = None
    """Not touched by retries: a row that backs off keeps the time of its last transition."""
    completed_at: datetime | None = None
    journal_size: int | None = None
    """Entries, not bytes."""
    retry_count: int | None = None
    """Attempts begun since the current leader took it up: a first attempt that runs shows 1."""
    outcome: CompletionOutcome | None = None
    failure_code: int | None = None
    """Code of what the invocation failed, backs off or was paused with."""
    failure_message: str | None = None
    """Its message without the code; with the stack trace, if there is one, while backing off."""


def row_from_json(row: Mapping[str, Any]) -> InvocationRow:
    """Return the row of one JSON object of ``/query`` (null columns are omitted there). Raises ``MalformedRow``."""
    try:
        status = vocabulary.STATUS[row["status"]]
        code, message = _failure(status, row)
        return InvocationRow(
            id=row["id"],
            created_at=parse_time(row["created_at"]),
            status=status,
            service=intern(row.get("target_service_name", "")),
            handler=intern(row.get("target_handler_name", "")),
            key=row.get("target_service_key"),
            service_type=_shared(row.get("target_service_ty")),
            source=_shared(row.get("invoked_by")),
            invoked_by=_shared(row.get("invoked_by_service_name")),
            invoked_by_id=row.get("invoked_by_id"),
            idempotency_key=row.get("idempotency_key"),
            scope=row.get("scope"),
            restarted_from=row.get("restarted_from"),
            pinned_deployment_id=_shared(row.get("pinned_deployment_id")),
            modified_at=_time(row.get("modified_at")),
            completed_at=_time(row.get("completed_at")),
            journal_size=row.get("journal_size"),
            retry_count=row.get("retry_count"),
            outcome=_outcome(row),
            failure_code=code,
            failure_message=message,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise MalformedRow(f"the engine answered a row that cannot be read: {str(error)[:200]}") from error


def _shared(text: str | None) -> str | None:
    """One string for all rows that say the same: thousands of rows are held while their invocations are worked."""
    return None if text is None else intern(text)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)


def _outcome(row: Mapping[str, Any]) -> CompletionOutcome | None:
    result = row.get("completion_result")
    if result is None:
        return None
    if result == "success":
        return CompletionOutcome.SUCCEEDED
    failure = row.get("completion_failure")
    if failure in vocabulary.CANCELLED:
        return CompletionOutcome.CANCELLED
    return CompletionOutcome.KILLED if failure in vocabulary.KILLED else CompletionOutcome.FAILED


def _failure(status: InvocationStatus, row: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The engine keeps the cause in three places; ``filters`` looks into the same ones."""
    match status:
        case InvocationStatus.PAUSED:
            return row.get("paused_code"), row.get("paused_message")
        case InvocationStatus.COMPLETED:
            return _split(row.get("completion_failure"))
        case InvocationStatus.BACKING_OFF:
            return _split(row.get("last_failure"))
        case _:
            return None, None


def _split(failure: str | None) -> tuple[int | None, str | None]:
    """``[418] boom`` or ``[500 Internal] boom`` as code and message."""
    if failure is None:
        return None, None
    code = _CODE.match(failure)
    return int(code[1]) if code else None, failure[failure.find("] ") + 2 :]
