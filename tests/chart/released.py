"""What tests of releases that run have in common."""

import time
from collections.abc import Callable
from typing import Any

from e2e.rig.wire import NOBODY_THERE, exchange

PATIENCE_SECONDS = 90.0
WAIT = ("--wait", "--timeout", "100s")
ON_ONE_MACHINE = [
    {"name": "INVOCATION_OPERATOR_BIND_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
]
"""Pods here share a network and have loopback addresses of their own."""


def until(condition: Callable[[], Any], told: Callable[[], str]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)
    return found


def answer(address: str, port: int, path: str) -> str:
    try:
        reply = exchange("GET", f"http://{address}:{port}{path}", timeout=5)
    except NOBODY_THERE:
        return ""
    return reply.body.decode() if reply.status == 200 else ""
