"""Large, cheap populations for measurements: thousands of invocations in one status, made by one-way calls.

Each side that is compared has services of its own, so that equal sets exist side by side and the name of a service is
all that a tool needs to tell its set from the others. Handlers have no `_` in their names: the official command line
looks for names with LIKE, where that is slow.
"""

import os
from datetime import timedelta
from typing import Any

import restate
from restate import Context, Service
from restate.retry_policy import InvocationRetryPolicy

SIDES = os.environ.get("BULK_SIDES", "Ours,Modest,Bare,Official").split(",")
FILLS = os.environ.get("BULK_FILLS", "yes") == "yes"
"""Whether the service that makes the calls is among them: there is one, however many of these processes there are."""

WORLD: dict[str, Any] = {}

_hourly = InvocationRetryPolicy(
    initial_interval=timedelta(hours=1), exponentiation_factor=1.0, max_interval=timedelta(hours=1)
)


def _waits(side: str) -> Service:
    """Sleeps for an hour; called with a delay it is scheduled and never begins."""
    service = Service(f"Waits{side}", inactivity_timeout=timedelta(milliseconds=100))

    @service.handler()
    async def go(ctx: Context, x: str) -> str:
        await ctx.sleep(timedelta(hours=1))
        return x

    return service


def _fails(side: str) -> Service:
    """Fails and backs off for an hour."""
    service = Service(f"Fails{side}")

    @service.handler(invocation_retry_policy=_hourly)
    async def go(ctx: Context, x: str) -> str:
        raise RuntimeError("tried again in an hour")

    return service


def _ends(side: str) -> Service:
    """Completes at once."""
    service = Service(f"Ends{side}")

    @service.handler()
    async def go(ctx: Context, x: str) -> str:
        return x

    return service


bulk = Service("Bulk", journal_retention=timedelta(0), idempotency_retention=timedelta(0))


@bulk.handler()
async def fill(ctx: Context, x: dict[str, Any]) -> str:
    """Call ``x["service"]`` one way, ``x["count"]`` times, ``x["delay"]`` seconds from now."""
    delay = timedelta(seconds=x["delay"]) if x.get("delay") else None
    for _ in range(x["count"]):
        ctx.generic_send(x["service"], "go", b'"x"', send_delay=delay)
    return "sent"


app = restate.app(
    [*([bulk] if FILLS else []), *(make(side) for make in (_waits, _fails, _ends) for side in SIDES)], protocol="bidi"
)
