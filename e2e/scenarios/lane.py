"""A namespace with an operator of its own behind kill proxies: killed, started again, frozen, doubled.

Several lanes share one control plane and one engine and run side by side; none sees another's objects, because each
operator watches its lane's namespace only and keeps its records in the lane's own operator namespace.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.rig import Child, ControlPlane, Engine, operator_process
from e2e.rig.killproxy import KillProxy, Script, cluster_write, engine_write

API_VERSION = "ops.restate.dev/v1alpha1"
ROOT = f"/apis/{API_VERSION}"
BATCHED = ("--lease-seconds", "2", "--call-timeout-seconds", "1")
"""Options that make takeovers quick."""
QUICK = (*BATCHED, "--batch-endpoints", "false")
"""The same, with one public call for each invocation: more writes to strike at."""
TERMINAL = frozenset(
    {"Planned", "Succeeded", "PartiallyFailed", "Failed", "Refused", "Stopped", "Expired", "AlreadyExecuted"}
)
PATIENCE = 60.0
"""Seconds until a wait is given up; the machine may be busy with other things."""

Object = dict[str, Any]


def until(condition: Callable[[], Any], told: Callable[[], str] | str, timeout: float = PATIENCE) -> Any:
    """Wait for something true and return it; `told` says what was waited for."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:.0f} s: {told if isinstance(told, str) else told()}")
        time.sleep(0.05)
    return found


class Lane:
    """Use as a context manager; the operator runs from `start_operator()` on, and dies with the lane."""

    def __init__(self, control_plane: ControlPlane, engine: Engine, scratch: Path, *options: str) -> None:
        self.control_plane = control_plane
        self.engine = engine
        self.namespace = f"lane-{secrets.token_hex(4)}"
        self.operator_namespace = f"{self.namespace}-operator"
        self.script = Script()
        self._scratch = scratch / self.namespace
        self._options = options or QUICK
        self._stack = ExitStack()
        self._started = 0
        self._operators: list[Child] = []
        self._kubeconfig = Path()
        self.admin: KillProxy
        self.cluster: KillProxy

    def __enter__(self) -> Self:
        self._scratch.mkdir(parents=True)
        plane = self.control_plane
        self.admin = self._stack.enter_context(KillProxy(self.engine.admin_url, self.script, engine_write))
        self.cluster = self._stack.enter_context(
            KillProxy(plane.url, self.script, cluster_write, upstream_ca=plane.ca_file)
        )
        self._kubeconfig = plane.kubeconfig_through(self.cluster.url, self.cluster.ca_pem, self.namespace)
        for namespace in (self.namespace, self.operator_namespace):
            plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}).expect()
        self.define_engine()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._operators:
            child.kill()
        self._stack.close()

    # --- operators ---

    @property
    def operator(self) -> Child:
        """The operator that was started last."""
        return self._operators[-1]

    def start_operator(
        self,
        *options: str,
        wait: bool = True,
        kubeconfig: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """Start one more operator, through the proxies; with `kubeconfig` by a way of its own to the API server."""
        self._started += 1
        log = self._scratch / f"operator-{self._started}.log"
        command = ["run", "--namespace", self.namespace, "--operator-namespace", self.operator_namespace]
        command += ["--bind-address", "127.0.0.1", "--metrics-port", "0", "--health-port", "0"]
        command += ["--log-format", "json", *self._options, *options]
        child = operator_process.start(kubeconfig or self._kubeconfig, log=log, args=command, env=env)
        self._operators.append(child)
        if wait:
            self.wait_ready(child)
        return child

    @staticmethod
    def wait_ready(child: Child) -> None:
        child.wait_until(lambda: '"event": "ready"' in child.log.read_text(), PATIENCE)

    def revive(self) -> Child:
        """Start an operator if the last one is dead."""
        return self.operator if self._operators and self.operator.running else self.start_operator()

    def logs(self, lines: int = 12) -> str:
        """The last lines of every operator that wrote any, for people who look at a failure."""
        return "\n".join(f"--- {child.name}\n{child.tail(lines)}" for child in self._operators[-3:])

    def dispose(self, child: Child) -> None:
        """Kill one operator."""
        child.kill()

    # --- objects ---

    def define_engine(self, name: str = "production", **spec: Any) -> None:
        """A RestateEngine that leads to the engine through the kill proxy."""
        metadata = {"name": name, "namespace": self.namespace}
        spec = {"url": self.admin.url, **spec}
        body = {"apiVersion": API_VERSION, "kind": "RestateEngine", "metadata": metadata, "spec": spec}
        self.control_plane.request("POST", self.path("restateengines"), body).expect()

    def manifest(self, name: str, action: str, target: Object, *, labels: Object | None = None, **spec: Any) -> Object:
        metadata: Object = {"name": name, "namespace": self.namespace}
        if labels:
            metadata["labels"] = labels
        spec = {"engineRef": {"name": "production"}, "action": action, "target": target, **spec}
        return {"apiVersion": API_VERSION, "kind": "InvocationAction", "metadata": metadata, "spec": spec}

    def create(self, manifest: Object) -> Object:
        return dict(self.control_plane.request("POST", self.path(), manifest).expect(201).json())

    def create_policy(self, name: str, services: list[str], **spec: Any) -> str:
        """Create a RetentionPolicy on `production`; its path."""
        spec = {"engineRef": {"name": "production"}, "services": services, **spec}
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": API_VERSION, "kind": "RetentionPolicy", "metadata": metadata, "spec": spec}
        self.control_plane.request("POST", self.path("retentionpolicies"), body).expect(201)
        return self.path("retentionpolicies", name)

    def get(self, name: str) -> Object:
        return dict(self.control_plane.request("GET", self.path(name=name)).expect(200).json())

    def exists(self, name: str) -> bool:
        return self.control_plane.request("GET", self.path(name=name)).status == 200

    def patch(self, name: str, body: Object, subresource: str = "") -> Object:
        path = self.path(name=name) + (f"/{subresource}" if subresource else "")
        return dict(self.control_plane.request("PATCH", path, body).expect(200).json())

    def delete(self, name: str) -> None:
        """Delete an action and wait until it is gone."""
        self.control_plane.request("DELETE", self.path(name=name)).expect(200)
        until(lambda: not self.exists(name), f"{name} did not go away")

    def reached(self, name: str, *phases: str, timeout: float = PATIENCE) -> Object:
        """The action once it is in one of `phases` for its present specification."""
        found: Object = {}

        def there() -> bool:
            found.clear()
            found.update(self.get(name))
            status = found.get("status", {})
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            return current and status.get("phase") in phases

        def told() -> str:
            return f"{name} is not {'/'.join(phases)}: {json.dumps(found.get('status'))[:1500]}\n{self.logs()}"

        until(there, told, timeout)
        return found

    def ended(self, name: str, timeout: float = PATIENCE) -> Object:
        """The action once it has ended, however."""
        return self.reached(name, *sorted(TERMINAL), timeout=timeout)

    def records(self, name: str) -> list[Object]:
        """InvocationRecords of an action of this lane."""
        path = f"{ROOT}/namespaces/{self.operator_namespace}/invocationrecords"
        items = self.control_plane.request("GET", path).expect(200).json()["items"]
        return [item for item in items if item["spec"]["source"]["name"] == name]

    def chunks(self) -> list[str]:
        """Names of the ConfigMaps that the operator has made in its own namespace."""
        path = f"/api/v1/namespaces/{self.operator_namespace}/configmaps"
        items = self.control_plane.request("GET", path).expect(200).json()["items"]
        return [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith("iact-")]

    def path(self, plural: str = "invocationactions", name: str = "") -> str:
        return f"{ROOT}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")
