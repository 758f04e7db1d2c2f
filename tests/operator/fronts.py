"""RestateEngines behind fronts of their own: an address that no other test uses, and credentials for it.

All RestateEngines that lead to one address share guardrails, limits and kill switches. A test of these must not lead
to the address of the shared engine, or it would hold up everybody else's.
"""

import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.rig import ControlPlane, Front
from tests.operator.conftest import API_VERSION, ROOT, Object, Stage, conditions

LABEL = {"ops.restate.dev/engine-credential": "true"}
AUTH = {"bearerTokenSecret": {"name": "token", "key": "token"}}


@dataclass
class Fronted:
    """What a test does with RestateEngines in the namespace of its stage."""

    stage: Stage
    front: Front

    @property
    def api(self) -> ControlPlane:
        """The API server."""
        return self.stage.control_plane

    def define(self, name: str = "front", *, namespace: str | None = None, **spec: Any) -> Object:
        """Create a RestateEngine that leads to the front, unless ``spec`` says where else."""
        if not {"url", "service", "cluster", "cloud"} & set(spec):
            spec["url"] = self.front.url
        where = namespace or self.stage.namespace
        body = {"apiVersion": API_VERSION, "kind": "RestateEngine", "metadata": {"name": name}, "spec": spec}
        path = f"{ROOT}/namespaces/{where}/restateengines"
        return dict(self.api.request("POST", path, body).expect(201).json())

    def secret(self, name: str = "token", *, labelled: bool = True, **data: str) -> None:
        """Create or replace a Secret; ``_`` in keys stands for ``.``."""
        encoded = {key.replace("_", "."): b64encode(value.encode()).decode() for key, value in data.items()}
        metadata = {"name": name, "labels": LABEL if labelled else {}}
        path = f"/api/v1/namespaces/{self.stage.namespace}/secrets"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
        if self.api.request("POST", path, body).expect(201, 409).status == 409:
            self.api.request("PUT", f"{path}/{name}", body).expect(200)

    def touch(self, name: str, plural: str = "restateengines") -> None:
        """Have an object looked at now, not only when it is its turn again."""
        path = f"{ROOT}/namespaces/{self.stage.namespace}/{plural}/{name}"
        body = {"metadata": {"annotations": {"touched": str(time.monotonic())}}}
        self.api.request("PATCH", path, body).expect(200)

    def engine_says(self, reason: str, *, name: str = "front", timeout: float = 60) -> Object:
        """Wait until a RestateEngine gives ``reason`` for its present specification."""
        return self._says(reason, name, "restateengines", timeout)

    def action_says(self, reason: str, name: str = "act", timeout: float = 60) -> Object:
        """Wait until an action gives ``reason``."""
        return self._says(reason, name, "invocationactions", timeout)

    def waits(self, reason: str, name: str = "act", timeout: float = 60) -> str:
        """Wait until an action waits for ``reason``, as kstatus has it, and return the message."""
        found = self.action_says(reason, name, timeout)
        assert found["status"]["phase"] == "Pending"
        assert conditions(found) == {"Ready": ("False", reason), "Reconciling": ("True", reason)}
        assert not self.stage.records(name), "a run was locked although nothing may be asked"
        return message_of(found)

    def cancel(self, id_: str, name: str = "act", engine: str = "front", **spec: Any) -> Object:
        """Create a Cancel of one invocation on the engine behind the front."""
        return self.act(name, "Cancel", {"ids": [id_]}, engine, **spec)

    def act(self, name: str, action: str, target: Object, engine: str = "front", **spec: Any) -> Object:
        """Create an action on the engine behind the front."""
        return self.stage.create(self.stage.manifest(name, action, target, engineRef={"name": engine}, **spec))

    def _says(self, reason: str, name: str, plural: str, timeout: float) -> Object:
        found: Object = {}
        touched = float("-inf")

        def said() -> bool:
            nonlocal touched
            found.clear()
            found.update(self.stage.get(name, plural))
            status = found["status"]
            if time.monotonic() - touched > 2.5:
                self.touch(name, plural)
                touched = time.monotonic()
            if status["observedGeneration"] != found["metadata"]["generation"]:
                return False
            return conditions(found).get("Ready", ("", ""))[1] == reason

        try:
            self.stage.until(said, timeout)
        except TimeoutError:
            raise TimeoutError(f"{plural}/{name} did not say {reason}: {found.get('status')}") from None
        return found


def message_of(obj: Object) -> str:
    """Message of the Ready condition."""
    return str(next(c["message"] for c in obj["status"]["conditions"] if c["type"] == "Ready"))


@contextmanager
def fronted(stage: Stage, **options: Any) -> Iterator[Fronted]:
    """A front before the shared engine; plain http unless ``options`` say otherwise."""
    with Front(stage.engine.admin_url, **{"tls": False, **options}) as front:
        yield Fronted(stage, front)
