"""``/healthz``, ``/readyz`` and ``/metrics``."""

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

    return await _serve(address, port, [web.get("/healthz", healthz), web.get("/readyz", readyz)])


async def serve_metrics(address: str, port: int) -> web.AppRunner:
    """Serve metrics."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return await _serve(address, port, [web.get("/metrics", metrics)])


async def _serve(address: str, port: int, routes: list[web.RouteDef]) -> web.AppRunner:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    return runner
