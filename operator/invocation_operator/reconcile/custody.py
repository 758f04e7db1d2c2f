"""What a policy's holds keep, as its status tells: how many, and which of them the engine itself will expire, and when.

A hold stops the operator and not the engine: whoever holds something has to read it before its retention ends.
"""

from collections.abc import Mapping
from datetime import datetime

from invocation_operator.api.v1alpha1.hold import EXPIRING, HeldInvocation, HoldStatus
from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.engine import errors
from invocation_operator.plan.holds import Held, held_by
from invocation_operator.plan.targets import label
from invocation_operator.reconcile.services import RETENTION_COLUMNS, length
from invocation_operator.reconcile.station import Resolved
from invocation_operator.target.sql import UnsupportedFilter, count_by_status, held_rows
from invocation_operator.values.times import parse_time

ROWS = 1000
"""Held invocations that are looked at for those that expire first."""


async def holds(spec: RetentionSpec, policy: str, resolved: Resolved, now: datetime) -> list[HoldStatus]:
    """Return what status says of a policy's holds. Raises the engine client's errors."""
    return [await _one(held, resolved, now) for held in held_by(policy, spec.services, spec.holds or [])]


async def _one(held: Held, resolved: Resolved, now: datetime) -> HoldStatus:
    scopes, frozen = resolved.probe.capabilities.scopes, held.frozen(now)
    client = resolved.station.client
    try:
        rows = await client.rows(count_by_status(frozen, scopes_supported=scopes))
        with errors.reading("counts"):
            number = sum(int(row["count"]) for row in rows if row["status"] == "completed")
        expiring: list[HeldInvocation] = []
        if number and resolved.probe.capabilities.columns >= RETENTION_COLUMNS:
            shown = await client.rows(held_rows(frozen, scopes_supported=scopes, limit=ROWS))
            with errors.reading("held invocations"):
                read = [_expiring(row, redact=resolved.spec.redact_keys) for row in shown]
            expiring = sorted((one for one in read if one is not None), key=lambda one: one.expires)[:EXPIRING]
    except UnsupportedFilter as error:
        return HoldStatus(name=held.name, message=f"{error}; until then nothing can be purged on this engine.")
    omitted = number - len(expiring) if expiring else 0
    return HoldStatus(name=held.name, held=number, expiring=expiring or None, omitted=max(0, omitted))


def _expiring(row: Mapping[str, object], *, redact: bool) -> HeldInvocation | None:
    kept, journal = length(row.get("completion_retention")), length(row.get("journal_retention"))
    if kept is None:
        return None
    completed = parse_time(str(row["completed_at"]))
    key = row.get("target_service_key")
    try:
        return HeldInvocation(
            id=str(row["id"]),
            target=label(
                str(row["target_service_name"]),
                str(row["target_handler_name"]),
                str(key) if key is not None else None,
                redact_key=redact,
            ),
            expires=(completed + kept).replace(microsecond=0),
            journal_expires=(completed + journal).replace(microsecond=0) if journal is not None else None,
        )
    except OverflowError:
        # Kept for longer than the calendar goes.
        return None
