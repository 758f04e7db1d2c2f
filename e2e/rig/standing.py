"""What `make up` leaves running and `make down` finds again: `.rig/` in the checkout.

The state file is written after every start, so that also what a failed or interrupted
`up` left behind is known, and holds each process with the proof that its id still means it.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2e.rig import operator_process
from e2e.rig.controlplane import Cluster, ControlPlane
from e2e.rig.engine import Engine
from e2e.rig.process import Child, Identity
from e2e.rig.services import ServicesProcess
from e2e.rig.toolchain import ROOT

PLACE = ROOT / ".rig"
_NAMESPACE = "shop"
_ENGINE = "production"


class Standing:
    """The processes and addresses of one `up`, as remembered in the state file."""

    def __init__(self, place: Path = PLACE) -> None:
        self.place = place
        self._file = place / "state.json"
        known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.processes = {name: Identity(**fields) for name, fields in known.get("processes", {}).items()}
        self.addresses: dict[str, str] = known.get("addresses", {})
        self._children: list[Child] = []

    @property
    def whole(self) -> bool:
        return bool(self.processes) and all(process.alive() for process in self.processes.values())

    def note(self, child: Child) -> None:
        """Remember a process as soon as it exists."""
        self.processes[child.name] = child.identity()
        self._children.append(child)
        self._save()

    def let_go(self) -> None:
        for child in self._children:
            child.let_go()

    def tell(self, **addresses: str) -> None:
        self.addresses.update(addresses)
        self._save()

    def stop(self) -> list[str]:
        """End what still runs, youngest first; the names of what did."""
        stopped = []
        for name, process in reversed(self.processes.items()):
            if process.alive():
                process.stop(grace=2)
                stopped.append(name)
        self.processes.clear()
        self.addresses.clear()
        self._file.unlink(missing_ok=True)
        return stopped

    def lines(self) -> list[str]:
        states = [
            f"{name:<24} {'running' if process.alive() else 'GONE'} (pid {process.pid})"
            for name, process in self.processes.items()
        ]
        return [*states, "", *(f"{name}={value}" for name, value in self.addresses.items())]

    def _save(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        processes = {name: asdict(process) for name, process in self.processes.items()}
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"processes": processes, "addresses": self.addresses}, indent=2))
        fresh.replace(self._file)


@contextlib.contextmanager
def alone(place: Path = PLACE) -> Iterator[None]:
    """One `up` or `down` at a time."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up(place: Path = PLACE) -> Standing:
    """Start what is not there; a half-dead one is replaced, a whole one left alone."""
    standing = Standing(place)
    if standing.whole:
        return standing
    standing.stop()
    for leftover in ("controlplane", "engine", "shop", "operator"):
        shutil.rmtree(place / leftover, ignore_errors=True)
    try:
        _start(standing)
    except BaseException:
        standing.stop()
        raise
    standing.let_go()
    return standing


def _start(standing: Standing) -> None:
    place = standing.place
    cluster: Cluster = Cluster()
    kubeconfig = None
    if os.environ.get("CLUSTER") != "current":
        cluster = ours = ControlPlane(work=place / "controlplane", detached=standing.note).start()
        kubeconfig = ours.kubeconfig
        standing.tell(KUBECONFIG=str(kubeconfig))
    crds = cluster.apply_crds(ROOT / "crds")

    engine = Engine(work=place / "engine", cleanup_interval="10s", detached=standing.note).start()
    standing.tell(RESTATE_ADMIN_URL=engine.admin_url, RESTATE_INGRESS_URL=engine.ingress_url)

    shop = ServicesProcess("shop", work=place / "shop", detached=standing.note).start()
    standing.tell(SHOP_URL=shop.uri)
    engine.register(shop.uri)

    if any(name.startswith("restateengines.") for name in crds):
        meta = {"name": _ENGINE, "namespace": _NAMESPACE}
        connection = {"apiVersion": "ops.restate.dev/v1alpha1", "kind": "RestateEngine", "metadata": meta}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        cluster.apply([namespace, {**connection, "spec": {"url": engine.admin_url}}])
        standing.tell(ENGINE_REF=f"{_ENGINE} in namespace {_NAMESPACE}")
        if operator_process.available():
            child = operator_process.start(kubeconfig, log=place / "operator" / "operator.log", detached=standing.note)
            child.wait_until(lambda: _connected(cluster), 60, interval=0.2)


def _connected(cluster: Cluster) -> bool:
    """Whether the operator has reached the engine and said so."""
    status = cluster.get("restateengine", _ENGINE, "-n", _NAMESPACE).get("status", {})
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))
