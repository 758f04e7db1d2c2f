"""The operator as a process, between the real API server and the real engine.

``stage`` is the room that most tests play in: a namespace of its own, a RestateEngine ``production`` in it that leads
to the shared engine, and the session's operator, which watches every namespace. Tests that stop, kill or double the
operator start their own with ``operator_for``, on a control plane of their own.
"""

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from e2e.rig import ControlPlane, Engine, ServicesProcess, operator_process
from e2e.rig.process import Child

API_VERSION = "ops.restate.dev/v1alpha1"
ROOT = f"/apis/{API_VERSION}"
OPERATOR_NAMESPACE = "operator-system"
TERMINAL = (
    "Planned",
    "Succeeded",
    "PartiallyFailed",
    "Failed",
    "Refused",
    "Stopped",
    "Expired",
    "AlreadyExecuted",
)

Object = dict[str, Any]


@contextmanager
def operator_for(
    control_plane: ControlPlane,
    log: Path,
    *args: str,
    operator_namespace: str = OPERATOR_NAMESPACE,
    env: Mapping[str, str] | None = None,
) -> Iterator[Child]:
    """An operator process on ``control_plane``; ready when the block begins, stopped after it."""
    control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": operator_namespace}}).expect(201, 409)
    options = ["--operator-namespace", operator_namespace, "--bind-address", "127.0.0.1", "--metrics-port", "0"]
    options += ["--health-port", "0", "--log-format", "json", *args]
    child = operator_process.start(control_plane.kubeconfig, log=log, args=("run", *options), env=env)
    try:
        child.wait_until(lambda: '"event": "ready"' in log.read_text(), 30)
        yield child
    finally:
        if child.running:
            child.stop()


@dataclass
class Stage:
    """A namespace, an engine in it, and what tests do with them."""

    control_plane: ControlPlane
    engine: Engine
    namespace: str
    log: Path
    ids: list[str] = field(default_factory=list)

    def define_engine(self, name: str = "production", **spec: Any) -> Object:
        """Create or replace a RestateEngine that leads to the shared engine."""
        spec = {"url": self.engine.admin_url, **spec}
        body = {"apiVersion": API_VERSION, "kind": "RestateEngine", "metadata": self._metadata(name), "spec": spec}
        self.control_plane.apply_at(self._path(name, "restateengines"), body)
        return body

    def manifest(self, name: str, action: str, target: Object, **spec: Any) -> Object:
        """An InvocationAction on `production`."""
        spec = {"engineRef": {"name": "production"}, "action": action, "target": target, **spec}
        return {"apiVersion": API_VERSION, "kind": "InvocationAction", "metadata": self._metadata(name), "spec": spec}

    def create(self, manifest: Object) -> Object:
        """Create an InvocationAction; fails when admission refuses it."""
        path = f"{ROOT}/namespaces/{self.namespace}/invocationactions"
        return dict(self.control_plane.request("POST", path, manifest).expect(201).json())

    def run(self, name: str, action: str, target: Object, *, timeout: float = 30, **spec: Any) -> Object:
        """Create an InvocationAction and return it when it has ended."""
        self.create(self.manifest(name, action, target, **spec))
        return self.ended(name, timeout=timeout)

    def get(self, name: str, plural: str = "invocationactions") -> Object:
        """One object."""
        return dict(self.control_plane.request("GET", self._path(name, plural)).expect(200).json())

    def patch(self, name: str, spec: Object, plural: str = "invocationactions") -> Object:
        """Merge into an object's specification."""
        reply = self.control_plane.request("PATCH", self._path(name, plural), {"spec": spec})
        return dict(reply.expect(200).json())

    def delete(self, name: str, plural: str = "invocationactions") -> None:
        """Delete an object and wait until it is gone."""
        self.control_plane.request("DELETE", self._path(name, plural)).expect(200)
        self.until(lambda: self.control_plane.request("GET", self._path(name, plural)).status == 404)

    def ended(self, name: str, *phases: str, timeout: float = 30) -> Object:
        """Wait until the action's status speaks of its present specification in one of ``phases`` (any end)."""
        return self.reached(name, *(phases or TERMINAL), timeout=timeout)

    def reached(self, name: str, *phases: str, timeout: float = 30) -> Object:
        """Wait until the action is in one of ``phases`` for its present specification."""
        found: Object = {}

        def there() -> bool:
            found.clear()
            found.update(self.get(name))
            status = found.get("status", {})
            now = status.get("observedGeneration") == found["metadata"]["generation"]
            return now and status.get("phase") in phases

        try:
            self.until(there, timeout)
        except TimeoutError:
            tail = self.log.read_text()[-3000:]
            status = json.dumps(found.get("status"), indent=1)
            raise TimeoutError(f"{name} did not reach {phases} in {timeout} s:\n{status}\n{tail}") from None
        return found

    def records(self, name: str) -> list[Object]:
        """InvocationRecords of an action in this namespace."""
        reply = self.control_plane.request("GET", f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/invocationrecords")
        wanted = (self.namespace, name)
        items = reply.expect(200).json()["items"]
        return [r for r in items if (r["spec"]["source"]["namespace"], r["spec"]["source"]["name"]) == wanted]

    def events(self, name: str) -> list[Object]:
        """Events on an object in this namespace, oldest first."""
        reply = self.control_plane.request("GET", f"/api/v1/namespaces/{self.namespace}/events")
        found = [e for e in reply.expect(200).json()["items"] if e["involvedObject"]["name"] == name]
        return sorted(found, key=lambda e: (e["firstTimestamp"], int(e["metadata"]["resourceVersion"])))

    def send(self, handler: str, body: Any = None, *, service: str = "LabSvc", status: str = "", **options: Any) -> str:
        """Send an invocation and, with ``status``, wait until it is in it."""
        id_ = self.engine.send(service, handler, body, **options)
        self.ids.append(id_)
        if status:
            self.engine.wait_status(id_, status)
        return id_

    def status_of(self, id_: str) -> str:
        """Status of an invocation, `absent` when it is gone."""
        row = self.engine.invocation(id_)
        return str(row["status"]) if row else "absent"

    @staticmethod
    def until(condition: Any, timeout: float = 15) -> None:
        """Wait for ``condition``."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("did not come true")
            time.sleep(0.02)

    def _metadata(self, name: str) -> Object:
        return {"name": name, "namespace": self.namespace}

    def _path(self, name: str, plural: str) -> str:
        return f"{ROOT}/namespaces/{self.namespace}/{plural}/{name}"


def conditions(obj: Object) -> dict[str, tuple[str, str]]:
    """Conditions of an object: type to (status, reason)."""
    return {c["type"]: (c["status"], c["reason"]) for c in obj["status"].get("conditions", ())}


def results(obj: Object) -> dict[str, tuple[str, str | None]]:
    """Results of an action: id to (outcome, reason)."""
    return {r["id"]: (r["outcome"], r.get("reason")) for r in obj["status"].get("results", ())}


def without_status(frozen: Object) -> Object:
    """What is created of an object: status comes after."""
    kept = {key: frozen["metadata"][key] for key in ("name", "namespace", "labels") if key in frozen["metadata"]}
    return {**{key: value for key, value in frozen.items() if key != "status"}, "metadata": kept}


@pytest.fixture(scope="session")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's operator, on all namespaces; its log."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with operator_for(control_plane, log):
        yield log


@pytest.fixture
def stage(control_plane: ControlPlane, engine: Engine, operator: Path, namespace: str) -> Iterator[Stage]:
    """A stage with a RestateEngine `production`; what it sent and still lives is killed afterwards."""
    made = Stage(control_plane, engine, namespace, operator)
    made.define_engine()
    yield made
    for id_ in made.ids:
        engine.operate(id_, "kill")


@pytest.fixture
def stage_old(control_plane: ControlPlane, engine_old: Engine, operator: Path, namespace: str) -> Iterator[Stage]:
    """Like ``stage``, on the oldest supported engine."""
    made = Stage(control_plane, engine_old, namespace, operator)
    made.define_engine()
    yield made
    for id_ in made.ids:
        engine_old.operate(id_, "kill")


@pytest.fixture(params=["newest", "oldest"])
def any_stage(request: pytest.FixtureRequest) -> Stage:
    """The newest supported engine and the oldest, in turn."""
    found: Stage = request.getfixturevalue("stage" if request.param == "newest" else "stage_old")
    return found


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{secrets.token_hex(4)}"


def bad_outcomes(obj: Object, outcomes: Sequence[str] = ("Failed", "Ambiguous", "Unverified", "NoOp")) -> list[Object]:
    """Results that did not end as they should."""
    return [r for r in obj["status"].get("results", ()) if r["outcome"] in outcomes]


@pytest.fixture(scope="session")
def shelf_services() -> Iterator[ServicesProcess]:
    """Services that no other test uses, one of them with retentions of its handlers' own."""
    with ServicesProcess("lab", prefix="Kept", retention="handler") as running:
        yield running
