"""The real API server as a judge of single specifications.

Plain requests rather than kubectl, so that a table of a hundred rows takes a second; what differs between
clients is tried with kubectl itself in `test_admission_clients.py`.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.rig import ControlPlane, Reply

GROUP = "/apis/ops.restate.dev/v1alpha1/namespaces"
PLURALS = {
    "InvocationAction": "invocationactions",
    "RestateEngine": "restateengines",
    "RetentionPolicy": "retentionpolicies",
}


@dataclass(frozen=True)
class Admission:
    """Asks the API server about objects of one namespace."""

    control_plane: ControlPlane
    namespace: str

    def manifest(self, kind: str, spec: dict[str, Any], name: str = "probe") -> dict[str, Any]:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "ops.restate.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        return "/".join(part for part in (GROUP, self.namespace, PLURALS[kind], name, subresource) if part)

    def ask(self, kind: str, spec: dict[str, Any]) -> Reply:
        """Whether it would be created."""
        return self.control_plane.request("POST", self.path(kind) + "?dryRun=All", self.manifest(kind, spec))

    def refusal(self, kind: str, spec: dict[str, Any]) -> str | None:
        """Why it would not be created; None when it would."""
        reply = self.ask(kind, spec)
        return None if reply.status == 201 else str(reply.expect(400, 422).json()["message"])

    def create(self, kind: str, spec: dict[str, Any], name: str = "probe") -> dict[str, Any]:
        body = self.manifest(kind, spec, name)
        created: dict[str, Any] = self.control_plane.request("POST", self.path(kind), body).expect(201).json()
        return created

    def get(self, kind: str, name: str = "probe") -> dict[str, Any]:
        found: dict[str, Any] = self.control_plane.request("GET", self.path(kind, name)).expect(200).json()
        return found

    def change(self, kind: str, spec: dict[str, Any], name: str = "probe", *, dry_run: bool = True) -> Reply:
        """Replace the whole specification."""
        changed = deepcopy(self.get(kind, name)) | {"spec": spec}
        query = "?dryRun=All" if dry_run else ""
        return self.control_plane.request("PUT", self.path(kind, name) + query, changed)

    def set_status(self, kind: str, status: dict[str, Any], name: str = "probe") -> Reply:
        changed = self.get(kind, name) | {"status": status}
        return self.control_plane.request("PUT", self.path(kind, name, "status"), changed)


@pytest.fixture(scope="module")
def admission(control_plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[Admission]:
    """A namespace for a whole table: nothing is kept in it but what a test creates by a name of its own."""
    namespace = request.module.__name__.rpartition(".")[2].replace("_", "-")
    body = {"metadata": {"name": namespace}}
    control_plane.request("POST", "/api/v1/namespaces", body).expect()
    yield Admission(control_plane, namespace)
    control_plane.request("DELETE", f"/api/v1/namespaces/{namespace}").expect()
