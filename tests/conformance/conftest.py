"""The same questions to the model and to the real server: whoever answers, the answer must be the same.

The simulation in `e2e/simulation` is worth what its models are worth. A test here is written once and runs twice.
"""

import json
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest

from e2e.rig import ControlPlane
from e2e.rig import Engine as RealEngine
from e2e.simulation import admin
from e2e.simulation.apiserver import ApiServer
from e2e.simulation.engine import EPOCH, Engine
from e2e.simulation.loop import VirtualLoop
from e2e.simulation.tables import Tables

Row = dict[str, Any]


class AnyEngine(Protocol):
    """An engine with the lab's services, real or not."""

    def send(
        self,
        service: str,
        handler: str,
        body: Any = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        delay: str | None = None,
    ) -> str: ...

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the JSON (or text) that came with it."""

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None: ...


class Reality:
    """The real engine."""

    def __init__(self, engine: RealEngine) -> None:
        self._engine = engine

    def send(self, service: str, handler: str, body: Any = None, **options: Any) -> str:
        return self._engine.send(service, handler, body, **options)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        reply = self._engine.admin(method, path, body)
        is_json = reply.headers.get("content-type", "").startswith("application/json")
        return reply.status, reply.json() if is_json and reply.body else reply.body.decode()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not come true"
            time.sleep(0.02)


class Model:
    """The model, in virtual time."""

    def __init__(self) -> None:
        self._loop = VirtualLoop()
        self._engine = Engine(self._loop.call_later, self._loop.time, Random(1), Tables())

    def send(
        self,
        service: str,
        handler: str,
        body: Any = None,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        delay: str | None = None,
    ) -> str:
        made = self._engine.submit(
            service, handler, key=key, idempotency_key=idempotency_key, delayed=delay is not None
        )
        if service == "LabWf":
            made.service_ty = "workflow"
            self._engine.finish(made)
        return made.id

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        parts = urlsplit(path)
        steps = [step for step in parts.path.split("/") if step]
        self._loop.pass_by(0.001)
        status, kind, content = admin.answer(self._engine, method, steps, dict(parse_qsl(parts.query)), body)
        return status, json.loads(content) if kind == "application/json" else content.decode()

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        end = self._loop.time() + seconds
        while not condition():
            assert self._loop.time() < end, "did not come true"
            self._loop.pass_by(0.02)


@pytest.fixture(scope="session", params=["model", "real"])
def any_engine(request: pytest.FixtureRequest) -> AnyEngine:
    """The model, then the newest engine."""
    if request.param == "model":
        return Model()
    return Reality(request.getfixturevalue("engine"))


class AnyApiServer(Protocol):
    """An API server with our CRDs, real or not."""

    def ask(self, method: str, path: str, body: Any = None, accept: str = "") -> tuple[int, Row]: ...

    def watched(self, path: str, version: str, seconds: float = 1.0) -> list[tuple[str, Row]]:
        """What a watch from `version` on tells."""


class RealApiServer:
    """The real API server."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane

    def ask(self, method: str, path: str, body: Any = None, accept: str = "") -> tuple[int, Row]:
        reply = self._control_plane.request(method, path, body, accept=accept)
        return reply.status, reply.json()

    def watched(self, path: str, version: str, seconds: float = 1.0) -> list[tuple[str, Row]]:
        query = f"?watch=1&resourceVersion={version}&timeoutSeconds={max(1, int(seconds))}"
        reply = self._control_plane.request("GET", path + query)
        told = [json.loads(line) for line in reply.body.splitlines()]
        return [(event["type"], event["object"]) for event in told if event["type"] != "BOOKMARK"]


class ModelApiServer:
    """The model."""

    def __init__(self) -> None:
        self._server = ApiServer(lambda: EPOCH.timestamp())
        self._told: list[tuple[str, str, Row]] = []
        for plural in ("invocationactions", "invocationrecords", "configmaps"):
            self._server.watch(plural, lambda kind, obj, plural=plural: self._told.append((plural, kind, obj)))

    def ask(self, method: str, path: str, body: Any = None, accept: str = "") -> tuple[int, Row]:
        found = self._server.request(method, path, body, accept)
        return found.status, found.body

    def watched(self, path: str, version: str, seconds: float = 1.0) -> list[tuple[str, Row]]:
        plural, namespace = path.rsplit("/", 1)[1], path.split("/namespaces/")[1].split("/")[0]
        return [
            (kind, obj)
            for name, kind, obj in self._told
            if name == plural
            and obj["metadata"]["namespace"] == namespace
            and int(obj["metadata"]["resourceVersion"]) > int(version)
        ]


@pytest.fixture(scope="session", params=["model", "real"])
def any_api(request: pytest.FixtureRequest) -> Iterator[AnyApiServer]:
    """The model, then the real API server."""
    if request.param == "model":
        yield ModelApiServer()
    else:
        yield RealApiServer(request.getfixturevalue("control_plane"))
