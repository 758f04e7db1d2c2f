"""Two operators of which one works: how tests start them, follow their runs, and see who leads.

Shared by the tests of high availability and by `make chaos`.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.rig import Child
from e2e.rig.killproxy import KillProxy, Script
from e2e.rig.process import free_ports
from e2e.rig.wire import NOBODY_THERE, exchange
from e2e.scenarios import truth
from e2e.scenarios.cases import Case, RestartAsNew, World
from e2e.scenarios.lane import Lane, until
from e2e.scenarios.storms import CALLS

PACED = {"operationsPerSecond": 4}
LEASE = 6


def elected(seconds: float = LEASE) -> tuple[str, ...]:
    return "--leader-elect", "true", "--lease-seconds", str(seconds), "--call-timeout-seconds", "1"


@dataclass
class Operator:
    """A process with a way of its own to the API server, and what it says of itself."""

    child: Child
    cluster: KillProxy
    wrote: Script
    health: int
    metrics: int

    @property
    def leads(self) -> bool:
        return "invocation_operator_leader 1.0" in self._ask(self.metrics, "/metrics")

    @property
    def ready(self) -> bool:
        return self._ask(self.health, "/readyz") == "ok\n"

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.child.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    @staticmethod
    def _ask(port: int, path: str) -> str:
        try:
            reply = exchange("GET", f"http://127.0.0.1:{port}{path}", timeout=2)
        except NOBODY_THERE:
            return ""
        return reply.body.decode() if reply.status == 200 else ""


def any_write(method: str, path: str, body: bytes) -> str | None:
    return f"{method} {path}" if method != "GET" else None


@contextmanager
def operators(lane: Lane, count: int = 2) -> Iterator[list[Operator]]:
    """So many operators; the first one leads."""
    plane, made = lane.control_plane, []
    proxies: list[KillProxy] = []
    try:
        for number in range(count):
            script = Script()
            proxy = KillProxy(plane.url, script, any_write, upstream_ca=plane.ca_file)
            proxies.append(proxy.__enter__())
            kubeconfig = plane.kubeconfig_through(proxy.url, proxy.ca_pem, f"{lane.namespace}-{number}")
            health, metrics = free_ports(2)
            ports = ("--health-port", str(health), "--metrics-port", str(metrics))
            child = lane.start_operator(*ports, wait=False, kubeconfig=kubeconfig)
            made.append(Operator(child, proxy, script, health, metrics))
        until(lambda: any(one.leads for one in made), lambda: f"nobody leads\n{lane.logs()}")
        made.sort(key=lambda one: not one.leads)
        yield made
    finally:
        for operator in made:
            operator.child.kill()
        for proxy in proxies:
            proxy.__exit__(None, None, None)


def begun(lane: Lane, world: World, name: str, size: int, case: Case | None = None) -> list[str]:
    """A run that is under way; restarts if nothing else is given."""
    case = case or RestartAsNew(world)
    ids = case.prepare(size)
    lane.create(lane.manifest(name, case.action, {"ids": ids}, limits=PACED, **case.spec))
    until(lambda: len(asked(lane)) >= 3, lambda: f"too little was asked\n{lane.logs()}")
    return ids


def asked(lane: Lane) -> list[str]:
    """The calls on invocations, in their order."""
    return [write.what for write in list(lane.script.writes) if re.search(CALLS, write.what)]


def ended_once(lane: Lane, world: World, name: str, ids: Sequence[str], case: Case | None = None) -> None:
    lane.ended(name)
    problems = truth.told(lane, name, len(ids)) + (case or RestartAsNew(world)).wrong(ids)
    truth.none(truth.evidence(world.engine, problems))
    calls = asked(lane)
    assert sorted(set(calls)) == sorted(calls), "somebody asked twice"


def taken_over(lane: Lane, operator: Operator, since: float) -> float:
    """Wait until another operator leads; the seconds until it asked the engine for something, from `since` on."""
    until(lambda: operator.leads, lambda: f"it did not take over\n{lane.logs()}")
    before = time.monotonic()
    until(lambda: lane.script.count("restart-as-new", since=before), lambda: f"nothing is asked\n{lane.logs()}")
    return next(write.at for write in lane.script.writes if write.at > before) - since


def leases(lane: Lane) -> list[dict[str, Any]]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{lane.operator_namespace}/leases"
    items: list[dict[str, Any]] = lane.control_plane.request("GET", path).expect(200).json()["items"]
    return items
