"""Two operators of which one works: the other one stands by, ready, and takes over when the first is killed, stops,
freezes, or cannot reach the API server any more. What was asked before is asked once in all of this.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.rig import Child, ControlPlane
from e2e.rig.killproxy import KillProxy, Script
from e2e.rig.process import free_ports
from e2e.rig.wire import NOBODY_THERE, exchange
from e2e.scenarios import truth
from e2e.scenarios.cases import RestartAsNew, World
from e2e.scenarios.lane import Lane, until

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


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leading")


def begun(lane: Lane, world: World, name: str, size: int) -> list[str]:
    """A run that is under way."""
    ids = RestartAsNew(world).prepare(size)
    lane.create(lane.manifest(name, "RestartAsNew", {"ids": ids}, limits=PACED))
    until(lambda: lane.script.count("restart-as-new") >= 3, lambda: f"too little was asked\n{lane.logs()}")
    return ids


def ended_once(lane: Lane, world: World, name: str, ids: Sequence[str]) -> None:
    lane.ended(name)
    truth.none(truth.told(lane, name, len(ids)) + truth.one_child_each(world.engine, ids))
    asked = [write.what for write in lane.script.writes if "restart-as-new" in write.what]
    assert sorted(set(asked)) == sorted(asked), "somebody asked twice"


def taken_over(lane: Lane, operator: Operator, since: float) -> float:
    """Wait until another operator leads; the seconds until it asked the engine for something, from `since` on."""
    until(lambda: operator.leads, lambda: f"it did not take over\n{lane.logs()}")
    before = time.monotonic()
    until(lambda: lane.script.count("restart-as-new", since=before), lambda: f"nothing is asked\n{lane.logs()}")
    return next(write.at for write in lane.script.writes if write.at > before) - since


def test_standby_is_ready_writes_nothing_and_takes_over_in_time_when_the_leader_is_killed(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    """With the lease that is the default, and a run in the middle."""
    with Lane(quiet_control_plane, world.engine, scratch, *elected(10)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "killed", 14)
        assert (first.ready, first.leads) == (True, True)
        until(lambda: second.ready, "the one that stands by is not ready")
        assert not second.leads
        assert second.wrote.writes == [], "who stands by writes nothing"
        killed_at = time.monotonic()
        first.child.kill()
        took = taken_over(lane, second, killed_at)
        print(f"SIGKILL: the next one asked the engine after {took:.1f} s")
        ended_once(lane, world, "killed", ids)
        assert len(second.said("run taken over")) == 1


def test_leader_that_is_asked_to_stop_hands_over_without_waiting_for_any_lease(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    """With leases of five minutes: whoever waited for one would not be done within the patience of this test."""
    with Lane(quiet_control_plane, world.engine, scratch, *elected(300)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "stopped", 12)
        stopped_at = time.monotonic()
        first.child.signal(15)
        took = taken_over(lane, second, stopped_at)
        print(f"SIGTERM: the next one asked the engine after {took:.1f} s")
        until(lambda: first.said("stopped"), "it does not end")
        ended_once(lane, world, "stopped", ids)
        (lease,) = leases(lane)
        assert lease["spec"]["leaseTransitions"] == 1
        assert second.child.stop(grace=30) == 0
        (lease,) = leases(lane)
        assert lease["spec"]["holderIdentity"] == "", "given back, for whoever comes"


def test_leader_that_was_frozen_wakes_up_asks_nothing_stands_by_and_leads_again_in_its_turn(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    with Lane(quiet_control_plane, world.engine, scratch, *elected(3)) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "frozen", 28)
        frozen_at = time.monotonic()
        first.child.pause()
        taken_over(lane, second, frozen_at)
        wrote = len(first.wrote.writes)
        first.child.resume()
        until(lambda: first.said("another one leads"), "it did not notice")
        until(lambda: first.ready and not first.leads, "it does not stand by")
        ended_once(lane, world, "frozen", ids)
        late = [write.what for write in first.wrote.writes[wrote:] if "/leases/" not in write.what]
        assert late == [], "it wrote although another one leads"
        again = RestartAsNew(world).prepare(2)
        second.child.kill()
        lane.create(lane.manifest("again", "RestartAsNew", {"ids": again}))
        until(lambda: first.leads, "it does not lead again")
        ended_once(lane, world, "again", again)


def test_leader_that_the_api_server_does_not_answer_ceases_before_the_next_one_begins(
    quiet_control_plane: ControlPlane, world: World, scratch: Path
) -> None:
    with Lane(quiet_control_plane, world.engine, scratch, *elected()) as lane, operators(lane) as (first, second):
        ids = begun(lane, world, "stalled", 40)
        stalled_at = time.monotonic()
        first.cluster.hold()
        taken_over(lane, second, stalled_at)
        until(lambda: not first.ready, "it could not take over, and says so")
        times = [write.at for write in lane.script.writes if write.at > stalled_at and "restart" in write.what]
        silence = max(after - before for before, after in itertools.pairwise(times))
        # From two thirds of the lease on the first asks nothing, and not before its end the second one does.
        assert silence > LEASE / 3 * 0.75, f"the longest silence is {silence:.2f} s"
        first.cluster.release()
        until(lambda: first.ready and not first.leads, "it does not stand by")
        ended_once(lane, world, "stalled", ids)


def leases(lane: Lane) -> list[dict[str, Any]]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{lane.operator_namespace}/leases"
    items: list[dict[str, Any]] = lane.control_plane.request("GET", path).expect(200).json()["items"]
    return items
