"""What every topic starts from: a control plane, an engine, the lab's services and, when asked for, the operator."""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.rig import ControlPlane, Engine, ServicesProcess, operator_process, toolchain
from e2e.rig.process import Child

API = "ops.restate.dev/v1alpha1"
ROOT = f"/apis/{API}"
NAMESPACE = "bench"
"""The namespace that the operator watches."""
BARE = "bare"
"""A namespace that it does not watch, for the bare cost of requests."""
OPERATOR_NAMESPACE = "bench-operator"


@dataclass
class Stage:
    control_plane: ControlPlane
    engine: Engine
    work: Path

    def action(self, name: str, action: str, target: dict[str, Any], **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": API,
            "kind": "InvocationAction",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"engineRef": {"name": "production"}, "action": action, "target": target, **spec},
        }

    def start_operator(self, name: str, *more: str) -> Child:
        """Start one, with ``more`` options, and return at once."""
        options = ["--namespace", NAMESPACE, "--operator-namespace", OPERATOR_NAMESPACE, "--log-format", "json"]
        options += ["--bind-address", "127.0.0.1", "--metrics-port", "0", "--health-port", "0"]
        log = self.work / f"{name}.log"
        return operator_process.start(self.control_plane.kubeconfig, log=log, args=("run", *options, *more))

    def connect(self, name: str, url: str, limits: dict[str, Any] | None = None) -> None:
        """A RestateEngine, or other limits of the first one; the operator, which runs, has connected to it.

        Those with one address share one budget, by the strictest limits among them.
        """
        meta = {"name": name, "namespace": NAMESPACE}
        spec = {"url": url, **({"limits": limits} if limits else {})}
        self.control_plane.apply({"apiVersion": API, "kind": "RestateEngine", "metadata": meta, "spec": spec})
        deadline = time.monotonic() + 60
        while not self.connected(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the operator did not connect to {name}")
            time.sleep(0.05)

    @contextmanager
    def operator(self, name: str) -> Iterator[Child]:
        """One that is connected to the engine."""
        child = self.start_operator(name)
        try:
            child.wait_until(self.connected, 60)
            yield child
        finally:
            child.stop(grace=10)

    def connected(self, name: str = "production") -> bool:
        path = f"{ROOT}/namespaces/{NAMESPACE}/restateengines/{name}"
        found = self.control_plane.request("GET", path).expect(200).json()
        status = found.get("status", {})
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return False
        return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))

    def waiting(self, count: int) -> list[str]:
        """Ids of so many scheduled invocations, with the application ``bulk``."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda _: self.engine.send("WaitsModest", "go", "x", delay="1h"), range(count)))

    def suspended(self, count: int) -> list[str]:
        """Ids of so many invocations that sleep for an hour."""
        ids = [self.engine.send("LabSvc", "sleep_long", 3600.0) for _ in range(count)]
        for id_ in ids:
            self.engine.wait_status(id_, "suspended")
        return ids


@contextmanager
def stage(services: str = "lab") -> Iterator[Stage]:
    """``services``: the application of e2e/services that runs on the engine."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as work,
        ControlPlane() as control_plane,
        ServicesProcess(services) as application,
        Engine() as engine,
    ):
        control_plane.apply_crds(toolchain.ROOT / "crds")
        engine.register(application.uri)
        for name in (NAMESPACE, BARE, OPERATOR_NAMESPACE):
            control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        meta = {"name": "production", "namespace": NAMESPACE}
        spec = {"url": engine.admin_url}
        control_plane.apply({"apiVersion": API, "kind": "RestateEngine", "metadata": meta, "spec": spec})
        yield Stage(control_plane, engine, Path(work))
