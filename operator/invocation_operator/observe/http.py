"""``/healthz``, ``/readyz`` and ``/metrics``.

Whoever cannot listen gets an ``OSError`` that names the option.
"""

import os
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from invocation_operator.observe.metrics import REGISTRY


async def serve_health(address: str, port: int, ready: Callable[[], bool]) -> web.AppRunner:
    """Serve health; alive as long as the event loop turns, ready once the watches run."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="not ready\n")

    return await _serve("health", address, port, [web.get("/healthz", healthz), web.get("/readyz", readyz)])


async def serve_metrics(address: str, port: int) -> web.AppRunner:
    """Serve metrics."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return await _serve("metrics", address, port, [web.get("/metrics", metrics)])


async def _serve(what: str, address: str, port: int, routes: list[web.RouteDef]) -> web.AppRunner:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
    except OSError as error:
        await runner.cleanup()
        raise OSError(f"--{what}-port: cannot listen on {address} port {port}: {_reason(error)}") from error
    return runner


def _reason(error: OSError) -> str:
    """Say why in the system's words; asyncio wraps them in its own."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
