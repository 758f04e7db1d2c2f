"""RetentionPolicies in tests: made, waited for, and services of the tests' own, since what a policy sets concerns all
that use a service.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.rig import Engine, ServicesProcess
from tests.operator.conftest import API_VERSION, ROOT, Object, Stage

PLURAL = "retentionpolicies"


@dataclass
class Shelf:
    """A policy's stage: `stage`, and services whose names begin with `prefix`."""

    stage: Stage
    services: ServicesProcess
    prefix: str

    @property
    def engine(self) -> Engine:
        return self.stage.engine

    def service(self, name: str) -> str:
        return self.prefix + name

    def shown(self, name: str) -> Object:
        """A service as the engine shows it, by its name without the prefix."""
        return dict(self.engine.admin("GET", f"/services/{self.service(name)}").expect().json())

    def patched(self, name: str, **values: str) -> Object:
        """A person's own change."""
        return dict(self.engine.admin("PATCH", f"/services/{self.service(name)}", values).expect().json())

    def manifest(self, name: str, *services: str, **spec: Any) -> Object:
        spec = {"engineRef": {"name": "production"}, "services": [self.service(s) for s in services], **spec}
        spec = {"interval": "1s", **spec}
        metadata = {"name": name, "namespace": self.stage.namespace}
        return {"apiVersion": API_VERSION, "kind": "RetentionPolicy", "metadata": metadata, "spec": spec}

    def apply(self, name: str, *services: str, **spec: Any) -> Object:
        """Create a policy and wait until its status speaks of it."""
        self.create(self.manifest(name, *services, **spec))
        return self.until(name, lambda _: True)

    def create(self, manifest: Object) -> Object:
        path = f"{ROOT}/namespaces/{self.stage.namespace}/{PLURAL}"
        return dict(self.stage.control_plane.request("POST", path, manifest).expect(201).json())

    def get(self, name: str) -> Object:
        return self.stage.get(name, PLURAL)

    def until(self, name: str, holds: Callable[[Object], bool], timeout: float = 30) -> Object:
        """Wait until the status of a policy's present specification is as ``holds`` says; return the policy."""
        found: Object = {}

        def there() -> bool:
            found.clear()
            found.update(self.get(name))
            status = found["status"]
            return bool(status["observedGeneration"] == found["metadata"]["generation"] and holds(status))

        try:
            self.stage.until(there, timeout)
        except TimeoutError:
            log = self.stage.log.read_text()[-3000:]
            raise TimeoutError(f"{name} is not as it should be: {found.get('status')}\n{log}") from None
        return found

    def entry(self, policy: Object, name: str) -> Object:
        """What a policy's status says of a service."""
        found: Object = next(e for e in policy["status"]["services"] if e["name"] == self.service(name))
        return found

    def reached(self, name: str, service: str, holds: Callable[[Object], bool], timeout: float = 30) -> Object:
        """Wait until a policy's entry of a service is as ``holds`` says; return the entry."""

        def there(status: Object) -> bool:
            entries = [e for e in status.get("services", ()) if e["name"] == self.service(service)]
            return bool(entries) and holds(entries[0])

        return self.entry(self.until(name, there, timeout), service)

    def purge(self) -> None:
        """End and forget what earlier tests have left of these services."""
        for row in self.engine.sql(f"select id from sys_invocation where target_service_name like '{self.prefix}Lab%'"):
            self.engine.operate(row["id"], "kill")
            self.engine.operate(row["id"], "purge")

    def clear(self) -> None:
        """Delete all policies of this namespace and wait until they are gone."""
        path = f"{ROOT}/namespaces/{self.stage.namespace}/{PLURAL}"
        for policy in self.stage.control_plane.request("GET", path).expect(200).json()["items"]:
            self.stage.delete(policy["metadata"]["name"], PLURAL)

    def reasons(self, name: str) -> list[str]:
        return [event["reason"] for event in self.stage.events(name)]


def second_later(shelf: Shelf, name: str) -> bool:
    """Whether what is created now is younger than a policy: the creation time has seconds."""
    probe = shelf.manifest("probe", "LabSvc", retention={"journal": "2h"})
    path = f"{ROOT}/namespaces/{shelf.stage.namespace}/{PLURAL}?dryRun=All"
    made = shelf.stage.control_plane.request("POST", path, probe).expect(201).json()
    return bool(made["metadata"]["creationTimestamp"] > shelf.get(name)["metadata"]["creationTimestamp"])


@pytest.fixture
def shelf(stage: Stage, shelf_services: ServicesProcess) -> Iterator[Shelf]:
    """Services at the values of their code; policies that a test leaves are gone before the next one."""
    yield from _shelf(stage, shelf_services)


@pytest.fixture
def any_shelf(any_stage: Stage, shelf_services: ServicesProcess) -> Iterator[Shelf]:
    """The same on the newest supported engine and on the oldest, in turn."""
    yield from _shelf(any_stage, shelf_services)


def _shelf(stage: Stage, services: ServicesProcess) -> Iterator[Shelf]:
    stage.engine.register(services.uri, force=True)
    made = Shelf(stage, services, "Kept")
    made.purge()
    yield made
    made.clear()
    # Its guardrails hold for whoever uses the engine, and its namespace goes in its own time.
    stage.delete("production", "restateengines")
