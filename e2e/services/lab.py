"""Services that reach every status an invocation can have, for tests of its management.

Settings by environment variable:
  LAB_VARIANT    what `variant` and `steps` answer (to tell deployments apart)
  LAB_RETENTION  "handler" or "service": where LabRet sets its retention; anything else: nowhere
  LAB_PROTOCOL   "bidi" (default) or "request_response"
  LAB_PREFIX     goes before all service names
  LAB_INACT_MS   inactivity timeout of LabSvc in milliseconds (default 500)
"""

import asyncio
import os
import time
from datetime import timedelta
from typing import Any

import restate
from restate import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from restate.exceptions import TerminalError
from restate.retry_policy import InvocationRetryPolicy

VARIANT = os.environ.get("LAB_VARIANT", "v1")
RET = os.environ.get("LAB_RETENTION", "")
PROTO = os.environ.get("LAB_PROTOCOL", "bidi")
PREFIX = os.environ.get("LAB_PREFIX", "")

# state of the outside world; lets a test flip a failing handler to success
WORLD: dict[str, Any] = {"heal": False, "compensations": [], "sagas": {}}


def saw(attempt: list[Any], what: str) -> None:
    """Write down what an attempt of a saga came to, and when."""
    attempt.append([round(time.time(), 3), what])


fast_retry = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=200), exponentiation_factor=1.5, max_interval=timedelta(seconds=2)
)
slow_retry = InvocationRetryPolicy(
    initial_interval=timedelta(seconds=3600), exponentiation_factor=1.0, max_interval=timedelta(seconds=3600)
)
pause_policy = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    exponentiation_factor=1.0,
    max_interval=timedelta(milliseconds=50),
    max_attempts=2,
    on_max_attempts="pause",
)
kill_policy = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    exponentiation_factor=1.0,
    max_interval=timedelta(milliseconds=50),
    max_attempts=2,
    on_max_attempts="kill",
)

svc = Service(PREFIX + "LabSvc", inactivity_timeout=timedelta(milliseconds=int(os.environ.get("LAB_INACT_MS", "500"))))


@svc.handler()
async def echo(ctx: Context, x: str) -> str:
    return f"echo:{x}"


@svc.handler()
async def variant(ctx: Context, x: str) -> str:
    return VARIANT


@svc.handler()
async def sleep_long(ctx: Context, seconds: float) -> str:
    """suspends (after inactivity_timeout) on a durable sleep"""
    await ctx.sleep(timedelta(seconds=seconds))
    return "slept"


@svc.handler()
async def busy(ctx: Context, seconds: float) -> str:
    """stays in `running`: a run block that does not return for a while"""

    async def spin():
        await asyncio.sleep(seconds)
        return "done"

    return await ctx.run_typed("spin", spin)


@svc.handler(inactivity_timeout=timedelta(hours=1))
async def hold(ctx: Context, seconds: float) -> str:
    """stays in `running`: durable sleep with a long inactivity timeout (connection is kept open)"""
    await ctx.sleep(timedelta(seconds=seconds))
    return "held"


@svc.handler()
async def wait_awakeable(ctx: Context, x: str) -> str:
    _, fut = ctx.awakeable()
    return await fut


@svc.handler()
async def fail_terminal(ctx: Context, msg: str) -> str:
    raise TerminalError(msg or "boom", 418)


@svc.handler(invocation_retry_policy=fast_retry)
async def fail_fast_retry(ctx: Context, x: str) -> str:
    if WORLD["heal"]:
        return "healed"
    raise RuntimeError("retryable failure")


@svc.handler(invocation_retry_policy=slow_retry)
async def fail_slow_retry(ctx: Context, x: str) -> str:
    """stays in backing-off for an hour after the first attempt"""
    if WORLD["heal"]:
        return "healed"
    raise RuntimeError("retryable failure")


@svc.handler(invocation_retry_policy=slow_retry)
async def fail_slow_after_step(ctx: Context, x: str) -> str:
    async def one():
        return 1

    await ctx.run_typed("one", one)
    if WORLD["heal"]:
        return "healed"
    raise RuntimeError("retryable failure after a step")


@svc.handler(invocation_retry_policy=pause_policy)
async def fail_then_pause(ctx: Context, x: str) -> str:
    if WORLD["heal"]:
        return "healed"
    raise RuntimeError("retryable failure, then pause")


@svc.handler(invocation_retry_policy=kill_policy)
async def fail_then_kill(ctx: Context, x: str) -> str:
    raise RuntimeError("retryable failure, then kill")


@svc.handler()
async def call_tree(ctx: Context, seconds: float) -> str:
    """awaits a child that sleeps"""
    return await ctx.service_call(sleep_long, arg=seconds)


@svc.handler()
async def call_tree2(ctx: Context, seconds: float) -> str:
    """two levels"""
    return await ctx.service_call(call_tree, arg=seconds)


@svc.handler()
async def send_children(ctx: Context, seconds: float) -> str:
    """one-way + delayed one-way children, then an awaited one"""
    ctx.service_send(sleep_long, arg=seconds)
    ctx.service_send(sleep_long, arg=seconds, send_delay=timedelta(hours=1))
    await ctx.service_call(sleep_long, arg=seconds)
    return "ok"


@svc.handler()
async def swallow_cancel(ctx: Context, seconds: float) -> str:
    """catches the cancellation twice, then lets it through"""
    caught = 0
    while True:
        try:
            await ctx.sleep(timedelta(seconds=seconds))
            return f"finished after {caught} cancellations"
        except TerminalError as e:
            if e.status_code != 409:
                raise
            caught += 1
            if caught > 1:
                raise


@svc.handler()
async def swallow_and_succeed(ctx: Context, seconds: float) -> str:
    try:
        await ctx.sleep(timedelta(seconds=seconds))
        return "slept"
    except TerminalError as e:
        return f"cancelled gracefully ({e.status_code} {e.message})"


@svc.handler()
async def swallow_and_refail(ctx: Context, seconds: float) -> str:
    try:
        await ctx.sleep(timedelta(seconds=seconds))
        return "slept"
    except TerminalError as e:
        raise TerminalError("my own failure", 500) from e


@svc.handler()
async def saga(ctx: Context, seconds: float) -> str:
    """A step, a long wait, and a compensation of two seconds. Each attempt leaves its story in `WORLD["sagas"]`: a step
    that is run again, because what came of it was lost, is told from a compensation that was asked for twice.
    """
    id_ = ctx.request().id
    attempt: list[Any] = []
    WORLD["sagas"].setdefault(id_, []).append(attempt)

    async def book():
        return "booked"

    async def unbook():
        saw(attempt, "step begun")
        try:
            await asyncio.sleep(2)
        except BaseException as error:
            saw(attempt, f"step cut: {type(error).__name__}")
            raise
        WORLD["compensations"].append(id_)
        saw(attempt, "step done")
        return "unbook"

    saw(attempt, "entered")
    try:
        await ctx.run_typed("book", book)
        await ctx.sleep(timedelta(seconds=seconds))
        return "saga done"
    except TerminalError:
        saw(attempt, "cancelled")
        try:
            await ctx.run_typed("unbook", unbook)
        except BaseException as error:
            saw(attempt, f"compensation left: {type(error).__name__}")
            raise
        saw(attempt, "compensated")
        raise


@svc.handler()
async def saga_long(ctx: Context, seconds: float) -> str:
    """compensation itself durable-sleeps 3 s"""
    try:
        await ctx.sleep(timedelta(seconds=seconds))
        return "saga done"
    except TerminalError:
        await ctx.sleep(timedelta(seconds=3))
        raise


@svc.handler()
async def steps(ctx: Context, x: str) -> str:
    """journal: input, run a, run b, output"""

    async def a():
        return "A-" + VARIANT

    async def b():
        return "B-" + VARIANT

    ra = await ctx.run_typed("a", a)
    rb = await ctx.run_typed("b", b)
    return f"{x}:{ra}:{rb}"


@svc.handler()
async def spawn_sleepers(ctx: Context, n: int) -> str:
    for _ in range(n):
        ctx.service_send(sleep_long, arg=36000.0)
    return str(n)


@svc.handler(invocation_retry_policy=slow_retry)
async def run_fails_slow(ctx: Context, x: str) -> str:
    """the run block fails retryably; a cancellation can be delivered at the await of the run"""

    async def bad():
        if WORLD["heal"]:
            return "healed"
        raise RuntimeError("run block fails")

    return await ctx.run_typed("bad", bad)


@svc.handler(invocation_retry_policy=fast_retry)
async def run_fails_fast(ctx: Context, x: str) -> str:
    async def bad():
        if WORLD["heal"]:
            return "healed"
        raise RuntimeError("run block fails")

    return await ctx.run_typed("bad", bad)


@svc.handler(invocation_retry_policy=pause_policy)
async def run_fails_then_pause(ctx: Context, x: str) -> str:
    async def bad():
        if WORLD["heal"]:
            return "healed"
        raise RuntimeError("run block fails, then pause")

    return await ctx.run_typed("bad", bad)


@svc.handler()
async def headers(ctx: Context, x: str) -> dict:
    return dict(ctx.request().headers.items())


@svc.handler(abort_timeout=timedelta(seconds=2))
async def busy_short_abort(ctx: Context, seconds: float) -> str:
    async def spin():
        await asyncio.sleep(seconds)
        return "done"

    return await ctx.run_typed("spin", spin)


@svc.handler()
async def sleep_echo(ctx: Context, x: list) -> str:
    await ctx.sleep(timedelta(seconds=x[0]))
    return x[1]


obj = VirtualObject(PREFIX + "LabObj", inactivity_timeout=timedelta(milliseconds=500))


@obj.handler()
async def obj_sleep(ctx: ObjectContext, seconds: float) -> str:
    ctx.set("n", ((await ctx.get("n")) or 0) + 1)
    await ctx.sleep(timedelta(seconds=seconds))
    return "obj slept"


@obj.handler()
async def obj_echo(ctx: ObjectContext, x: str) -> str:
    return f"{ctx.key()}:{x}"


@obj.handler(kind="shared")
async def obj_shared_sleep(ctx: ObjectSharedContext, seconds: float) -> str:
    await ctx.sleep(timedelta(seconds=seconds))
    return "shared slept"


wf = Workflow(PREFIX + "LabWf", inactivity_timeout=timedelta(milliseconds=500))


@wf.main()
async def run(ctx: WorkflowContext, seconds: float) -> str:
    await ctx.sleep(timedelta(seconds=seconds))
    return "wf done"


@wf.handler()
async def wf_query(ctx: WorkflowSharedContext, x: str) -> str:
    return "wf query"


# services used for retention configuration
def td(s):
    return timedelta(seconds=s)


if RET == "service":
    ret = Service(
        PREFIX + "LabRet",
        journal_retention=td(3600),
        idempotency_retention=td(7200),
        inactivity_timeout=td(90),
        abort_timeout=td(120),
    )
else:
    ret = Service(PREFIX + "LabRet")


@ret.handler(**({"journal_retention": td(600), "idempotency_retention": td(900)} if RET == "handler" else {}))
async def ret_echo(ctx: Context, x: str) -> str:
    return f"ret:{x}"


@ret.handler()
async def ret_other(ctx: Context, x: str) -> str:
    return f"ret-other:{x}"


zero = Service(PREFIX + "LabZero", journal_retention=td(0), idempotency_retention=td(0))


@zero.handler()
async def zero_echo(ctx: Context, x: str) -> str:
    return f"zero:{x}"


short = Service(PREFIX + "LabShort", journal_retention=td(5), idempotency_retention=td(5))


@short.handler()
async def short_echo(ctx: Context, x: str) -> str:
    return f"short:{x}"


app = restate.app([svc, obj, wf, ret, zero, short], protocol=PROTO)
