"""The shop of the demo: a checkout saga, its payment provider, stock per article, and reports.

The payment provider is a switch of the outside world (`/_world`): "ok", "hangs" or
"fails". While it hangs, checkouts wait for it; a cancelled checkout undoes what it has done,
a killed one does not. `stock`, `charges`, `released` and `refunded` show the effects.
"""

import asyncio
import os
from datetime import timedelta
from typing import Any

import restate
from restate import Context, ObjectContext, Service, VirtualObject
from restate.exceptions import TerminalError
from restate.retry_policy import InvocationRetryPolicy

WORLD: dict[str, Any] = {
    "provider": os.environ.get("SHOP_PROVIDER", "ok"),
    "stock": {},
    "charges": [],
    "released": [],
    "refunded": [],
}

patient = InvocationRetryPolicy(
    initial_interval=timedelta(seconds=1), exponentiation_factor=2.0, max_interval=timedelta(minutes=10)
)
then_pause = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=100), max_attempts=3, on_max_attempts="pause"
)

inventory = VirtualObject("inventory", inactivity_timeout=timedelta(seconds=1))


@inventory.handler()
async def reserve(ctx: ObjectContext, order: str) -> int:
    """Take one piece of the article (the key); how many are reserved now."""
    reserved = (await ctx.get("reserved", type_hint=int) or 0) + 1
    ctx.set("reserved", reserved)
    WORLD["stock"][ctx.key()] = reserved
    return reserved


@inventory.handler()
async def release(ctx: ObjectContext, order: str) -> int:
    reserved = max((await ctx.get("reserved", type_hint=int) or 0) - 1, 0)
    ctx.set("reserved", reserved)
    WORLD["stock"][ctx.key()] = reserved
    WORLD["released"].append(order)
    return reserved


@inventory.handler()
async def recount(ctx: ObjectContext, minutes: float) -> str:
    """Holds the article's key while it counts, so that every checkout of it queues."""
    await ctx.sleep(timedelta(minutes=minutes))
    return "counted"


payment = Service("payment", inactivity_timeout=timedelta(seconds=1))


@payment.handler(invocation_retry_policy=patient)
async def charge(ctx: Context, order: str) -> str:
    """Asks the provider; waits for its answer as long as it hangs, is retried while it fails."""
    while WORLD["provider"] == "hangs":
        await ctx.sleep(timedelta(seconds=5))
    if WORLD["provider"] == "fails":
        raise ConnectionError("payment provider answers 503")

    async def book() -> str:
        WORLD["charges"].append(order)
        return f"charge-{order}"

    return await ctx.run_typed("charge", book)


@payment.handler()
async def refund(ctx: Context, order: str) -> None:
    async def undo() -> None:
        # The refund is asked for before it is known whether the charge went through.
        if order in WORLD["charges"]:
            WORLD["refunded"].append(order)

    await ctx.run_typed("refund", undo)


checkout = Service("checkout", inactivity_timeout=timedelta(seconds=1))


@checkout.handler()
async def place(ctx: Context, order: dict[str, str]) -> str:
    """Reserve, charge, send the receipt; whatever stops it is undone step by step, then reported."""
    number, article = order["number"], order["article"]
    undo = []
    try:
        undo.append(lambda: ctx.object_call(release, key=article, arg=number))
        await ctx.object_call(reserve, key=article, arg=number)
        undo.append(lambda: ctx.service_call(refund, arg=number))
        receipt = await ctx.service_call(charge, arg=number)
    except TerminalError:
        for step in reversed(undo):
            await step()
        raise
    ctx.service_send(daily, arg=number, send_delay=timedelta(hours=6))
    return receipt


report = Service("report", inactivity_timeout=timedelta(seconds=1), journal_retention=timedelta(days=1))


@report.handler()
async def daily(ctx: Context, subject: str) -> str:
    """A report in three durable steps."""
    parts = []
    for part in ("collect", "sum", "render"):

        async def work(part: str = part) -> str:
            await asyncio.sleep(0.05)
            return part

        parts.append(await ctx.run_typed(part, work))
    return f"{subject}: {', '.join(parts)}"


@report.handler(invocation_retry_policy=then_pause)
async def export(ctx: Context, subject: str) -> str:
    """Sends a report out; three failures in a row and it pauses until somebody resumes it."""
    if WORLD["provider"] == "fails":
        raise ConnectionError("the archive answers 503")
    return f"{subject} exported"


app = restate.app([checkout, payment, inventory, report])
