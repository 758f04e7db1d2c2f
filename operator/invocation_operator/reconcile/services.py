"""Services of an engine as a RetentionPolicy looks at them, and the change of one: the I/O between both.

What the engine shows is read into ``plan.retention``'s terms here; what it would pass over in silence is found by
reading its answer.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.models import Service
from invocation_operator.plan import names
from invocation_operator.plan.retention import WORKFLOW, Observed, Setting, Values, expected
from invocation_operator.reconcile.station import Resolved, Station
from invocation_operator.target.sql import literal
from invocation_operator.values.duration import DurationError, format_duration, parse_duration
from invocation_operator.values.times import format_time

AT_ONCE = 8
"""Services that are asked for at the same time."""
RETENTION_COLUMNS = frozenset({"completion_retention", "journal_retention"})


async def observe(client: EngineClient, patterns: Sequence[str]) -> dict[str, Observed]:
    """Return the services that ``patterns`` select, by name. Raises the engine client's errors."""
    known = [brief.name for brief in await client.services_in_brief()]
    turns = asyncio.Semaphore(AT_ONCE)

    async def look(name: str) -> Observed | None:
        async with turns:
            return await observe_one(client, name)

    found = await asyncio.gather(*(look(name) for name in names.selected(patterns, known)))
    return {service.name: service for service in found if service is not None}


async def observe_one(client: EngineClient, name: str) -> Observed | None:
    """Return one service, None when it is gone. Raises the engine client's errors."""
    try:
        return observed(await client.service(name))
    except errors.NotFound:
        return None


async def change(station: Station, service: Observed, values: Values, require: Callable[[], None]) -> Observed:
    """Set ``values`` and return the service as the engine shows it afterwards, in a look of its own.

    Takes its turn in the engine's budget like every other operation; ``require`` raises when its turn has come and it
    may not be asked for any more. Raises the engine client's errors.
    """
    lane = station.budget.lane()
    try:
        await lane.acquire(1)
        await lane.take_turn()
        require()
        asked = {setting.engine_name: format_duration(length) for setting, length in values.items()}
        await station.client.set_service(service.name, asked)
    finally:
        lane.close()
    after = await observe_one(station.client, service.name)
    if after is None:
        raise errors.NotFound(f"the service {service.name} vanished while it was changed", status=404)
    return after


def observed(service: Service) -> Observed:
    """Return what a policy looks at."""
    return Observed(
        name=service.name,
        type=service.ty,
        revision=service.revision,
        deployment=service.deployment_id,
        values=_values(service.raw),
        handlers={h.name: own for h in service.handlers if (own := _values(h.raw))},
        runs=frozenset(h.name for h in service.handlers if h.ty == WORKFLOW),
    )


def _values(raw: Mapping[str, object]) -> dict[Setting, timedelta]:
    """The values that are shown. One that cannot be read counts as not shown: nothing is concluded from it."""
    found = {}
    for setting in Setting:
        value = length(raw.get(setting.engine_name))
        if value is not None:
            found[setting] = value
    return found


def length(text: object) -> timedelta | None:
    """Return a duration that the engine wrote; None for what is none, or cannot be read."""
    if not isinstance(text, str):
        return None
    try:
        return parse_duration(text)
    except DurationError:
        return None


async def missed(resolved: Resolved, after: Observed, since: datetime) -> int:
    """Return how many invocations of a service were made since ``since`` with another retention than it has now.

    They keep it. Zero on engines that do not show the retention of an invocation. Raises the engine client's errors.
    """
    if not resolved.probe.capabilities.columns >= RETENTION_COLUMNS:
        return 0
    rows = await resolved.station.client.rows(
        "select target_handler_name as handler, idempotency_key is not null as keyed, completion_retention as "
        "completion, journal_retention as journal, count(*) as count from sys_invocation where target_service_name = "
        f"{literal(after.name)} and created_at >= {literal(format_time(since))} "
        "group by target_handler_name, idempotency_key is not null, completion_retention, journal_retention"
    )
    with errors.reading("retentions"):
        return sum(int(row["count"]) for row in rows if not _as_expected(row, after))


def _as_expected(row: Mapping[str, object], after: Observed) -> bool:
    found = length(row.get("completion")), length(row.get("journal"))
    handler = str(row["handler"])
    own = after.handlers.get(handler, {})
    meant = expected(after.values, own, runs=handler in after.runs, keyed=bool(row.get("keyed")))
    return meant is None or None in found or found == meant
