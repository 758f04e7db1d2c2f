"""What exists and has outlived a policy's values: which services are meant, and how much that is.

Counted by the policy's own reconciler, purged by the sweeps of ``applyToExisting``, by the same conditions.
"""

from contextlib import suppress
from datetime import datetime

from invocation_operator.api.v1alpha1.engine import Operation
from invocation_operator.api.v1alpha1.retention import Release, RetentionSpec
from invocation_operator.engine import errors
from invocation_operator.plan.existing import COLUMNS, outlived
from invocation_operator.plan.guardrails import out_of_bounds
from invocation_operator.plan.retention import Observed, requested_values
from invocation_operator.reconcile import services
from invocation_operator.reconcile.cell import Key
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.station import Resolved
from invocation_operator.target.sql import Also, UnsupportedFilter, count_also, journal_bytes, select_also

CAUSED = frozenset({Operation.PURGE, Operation.PURGE_JOURNAL})
BYTES_SECONDS = 20.0
"""How long counting bytes may take."""


async def in_force(policies: Policies, key: Key, spec: RetentionSpec, resolved: Resolved) -> list[Observed]:
    """Return the services that are the policy's to clear: no older policy's, and none that guardrails keep it off.

    Raises the engine client's errors.
    """
    seen = await services.observe(resolved.station.client, spec.services)
    claimed = await policies.claimed(key, resolved.station.address, seen)
    kept_off = out_of_bounds(seen, CAUSED, resolved.guardrails, resolved.namespace_labels)
    return [service for name, service in seen.items() if name not in claimed and name not in kept_off]


async def release(
    policies: Policies, key: Key, spec: RetentionSpec, resolved: Resolved, now: datetime
) -> Release | None:
    """Count what the policy would release; None when it says nothing that invocations keep, or when something is held
    that cannot be asked of this engine: nothing can be purged there.

    Raises the engine client's errors.
    """
    if spec.retention is None:
        return None
    with suppress(UnsupportedFilter):
        return await _count(policies, key, spec, resolved, now)
    return None


async def _count(policies: Policies, key: Key, spec: RetentionSpec, resolved: Resolved, now: datetime) -> Release:
    conditions = outlived(await in_force(policies, key, spec, resolved), requested_values(spec), now)
    client, held = resolved.station.client, resolved.station.holds.frozen(now)
    scopes = resolved.probe.capabilities.scopes
    numbers = []
    for sql in (conditions.completions, conditions.journals):
        rows = await client.rows(count_also(Also(sql, COLUMNS), held, scopes_supported=scopes))
        with errors.reading("counts"):
            numbers.append(int(rows[0]["count"]))
    size: int | None = 0
    if any(numbers):
        try:
            either = select_also(Also(conditions.either, COLUMNS), held, scopes_supported=scopes)
            rows = await client.rows(journal_bytes(either), timeout=BYTES_SECONDS)
            with errors.reading("bytes"):
                size = int(rows[0].get("bytes", 0))
        except errors.EngineError:
            size = None
    return Release(results=numbers[0], journals=numbers[1], bytes=size, time=now.replace(microsecond=0))
