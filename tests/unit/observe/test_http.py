"""The pages of health and metrics."""

import socket
from contextlib import closing

import aiohttp
import pytest

from e2e.rig.process import free_ports
from invocation_operator.observe import http


async def get(port: int, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as reply:
        return reply.status, reply.headers["Content-Type"], await reply.text()


async def test_http_health_follows_readiness() -> None:
    (port,) = free_ports(1)
    ready = False
    runner = await http.serve_health("127.0.0.1", port, lambda: ready)
    try:
        assert (await get(port, "/healthz"))[0] == 200
        assert (await get(port, "/readyz"))[0] == 503
        ready = True
        assert (await get(port, "/readyz"))[0] == 200
        assert (await get(port, "/metrics"))[0] == 404
    finally:
        await runner.cleanup()


async def test_http_metrics_are_in_the_text_format() -> None:
    (port,) = free_ports(1)
    runner = await http.serve_metrics("127.0.0.1", port)
    try:
        code, kind, text = await get(port, "/metrics")
    finally:
        await runner.cleanup()
    assert code == 200
    assert kind.startswith("text/plain; version=")
    assert "# TYPE invocation_operator_runs_total counter" in text


async def test_http_port_in_use_names_the_option_and_the_port() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        expected = f"^--health-port: cannot listen on 127.0.0.1 port {port}: Address already in use$"
        with pytest.raises(OSError, match=expected):
            await http.serve_health("127.0.0.1", port, lambda: True)


async def test_http_address_without_a_meaning_names_the_option() -> None:
    with pytest.raises(OSError, match=r"^--metrics-port: cannot listen on nowhere\.invalid port 1234: "):
        await http.serve_metrics("nowhere.invalid", 1234)
