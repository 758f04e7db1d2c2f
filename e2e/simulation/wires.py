"""What lies between the operator's processes and the servers: every request of either kind passes here.

Each is a *boundary* with a number. A fault may be laid on it: the process dies before it leaves or after it took
effect, the answer is lost, the request is, it arrives late, something else answers. A request that left arrives,
whatever becomes of its process.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from pydantic_core import from_json, to_json
from yarl import URL

from e2e.simulation import admin
from e2e.simulation.apiserver import Answered, ApiServer
from e2e.simulation.engine import Engine
from invocation_operator.cluster.client import REQUEST_TIMEOUT_SECONDS, KubeClient
from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.models import Connection
from invocation_operator.engine.transport import Exchange, Transport

CRASH_BEFORE = "crash-before"
CRASH_AFTER = "crash-after"
LOST_ANSWER = "lost-answer"
LOST_REQUEST = "lost-request"
REFUSED = "refused"
LATE = "late"
"""The connection breaks at once, and the request arrives all the same, up to the timeout later."""
STALLED = "stalled"
"""It arrives late, and its sender waits in vain."""
SLOW_REQUEST = "slow-request"
"""It arrives late, and its sender waits and gets the answer."""
SLOW_ANSWER = "slow-answer"
"""It arrives and takes effect at once; what its sender is told then is of a time long past."""
FAULT = "fault"
"""503 and nothing done."""
FAULT_AFTER = "fault-after"
"""502 although it was done: a proxy gave up waiting."""
THROTTLED = "throttled"
GARBAGE = "garbage"
"""It was done, and what comes back is no answer."""
SLEEP = "sleep"
"""The process stands still, as with SIGSTOP, and goes on later."""
SECOND = "second"
"""Another operator starts now."""

ENGINE_FAULTS = (
    CRASH_BEFORE,
    CRASH_AFTER,
    LOST_ANSWER,
    LOST_REQUEST,
    REFUSED,
    LATE,
    STALLED,
    SLOW_REQUEST,
    SLOW_ANSWER,
    FAULT,
    FAULT_AFTER,
    THROTTLED,
    GARBAGE,
    SECOND,
)
ELECTED_FAULTS = (*ENGINE_FAULTS, SLEEP)
"""Also what only an election can stand: a process that sleeps right before its call leaves."""
KUBE_FAULTS = tuple(kind for kind in ENGINE_FAULTS if kind not in (REFUSED, THROTTLED, GARBAGE))

WAITS = (LOST_ANSWER, LOST_REQUEST, STALLED, SLOW_REQUEST, SLOW_ANSWER)
"""After which a sender waits, perhaps until its request's time is over."""
SLOW = (SLOW_REQUEST, SLOW_ANSWER)
LASTING = (LATE, STALLED, *SLOW)
"""Those that take some seconds, up to the timeout."""


@dataclass(frozen=True)
class Fault:
    """A fault at one boundary; `seconds` for those that last."""

    kind: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.seconds:.3f}" if self.seconds else self.kind


class Sender(Protocol):
    """A process, as the wires see it."""

    name: str
    dead: bool


class Network(Protocol):
    """The world, as the wires see it."""

    api: ApiServer
    engine: Engine

    def boundary(self, process: Any, side: str, label: str) -> tuple[int, Fault | None]: ...

    def answered(self, number: int, value: Any) -> None: ...

    def sent(self, process: Any, number: int, method: str, path: list[str], body: Any) -> Any: ...

    def wrote(self, process: Any, method: str, path: str) -> None: ...

    def served(self, process: Any, method: str, url: str, found: Answered) -> None: ...

    def got(self, process: Any, method: str, url: str, answer: admin.Answer) -> None: ...

    def arrived(self, token: Any, operation: Callable[[], admin.Answer]) -> admin.Answer: ...

    def later(self, delay: float, callback: Callable[[], None]) -> None: ...

    def latency(self) -> float: ...

    def cut_off(self, process: Any, side: str) -> bool: ...

    def under_way(self, change: int) -> None: ...

    def crash(self, process: Any) -> None: ...

    def stop(self, process: Any, seconds: float) -> None: ...

    def second(self) -> None: ...


Serve = Callable[[], Any]


async def exchanged(
    network: Network,
    process: Sender,
    side: str,
    label: str,
    timeout: float,
    leave: Callable[[int], Serve],
    state: Exchange | None = None,
) -> Any:
    """Send one request and return what comes back: what `leave` made serves it when it arrives.

    Raises as aiohttp does. `timeout` in seconds.
    """
    if process.dead:
        # It is being unwound: it waits, and its cancellation is on the way.
        await asyncio.get_running_loop().create_future()
    number, fault = network.boundary(process, side, label)
    kind = fault.kind if fault else None
    loop = asyncio.get_running_loop()
    if kind == SECOND:
        network.second()
    elif kind == SLEEP:
        assert fault is not None
        network.stop(process, fault.seconds)
        await asyncio.sleep(0)
    elif kind == CRASH_BEFORE:
        network.crash(process)
        await loop.create_future()
    reply: asyncio.Future[Any] = loop.create_future()

    def deliver(value: Any) -> None:
        network.answered(number, value)
        if not reply.done():
            reply.set_exception(value) if isinstance(value, BaseException) else reply.set_result(value)

    def answer(value: Any, seconds: float | None = None) -> None:
        network.later(network.latency() if seconds is None else seconds, lambda: deliver(value))

    if kind == REFUSED or network.cut_off(process, side):
        answer(aiohttp.ServerDisconnectedError("refused"))
        return await reply
    serve = leave(number)
    if state is not None:
        state.sent = True

    def arrive() -> None:
        network.under_way(-1)
        if network.cut_off(process, side):
            answer(aiohttp.ServerDisconnectedError("reset"))
            return
        if kind in (LOST_REQUEST, FAULT, THROTTLED):
            served: Any = {
                LOST_REQUEST: aiohttp.ServerDisconnectedError("reset"),
                FAULT: (503, "application/json", b'{"message":"unavailable"}'),
                THROTTLED: (429, "application/json", b'{"message":"slow down"}'),
            }[kind]
            answer(served)
            return
        served = serve()
        if kind == CRASH_AFTER:
            network.crash(process)
        elif kind == LOST_ANSWER:
            answer(aiohttp.ServerDisconnectedError("reset"))
        elif kind == FAULT_AFTER:
            answer((502, "application/json", b'{"message":"bad gateway"}'))
        elif kind == GARBAGE:
            answer((200, "text/html", b"<html>"))
        elif fault is not None and kind == SLOW_ANSWER:
            answer(served, fault.seconds)
        elif kind not in (LATE, STALLED):
            answer(served)

    network.under_way(+1)
    late = fault is not None and kind in (LATE, STALLED, SLOW_REQUEST)
    if kind == LATE:
        answer(aiohttp.ServerDisconnectedError("reset"))
    network.later(fault.seconds if fault is not None and late else network.latency(), arrive)
    async with asyncio.timeout(timeout):
        return await reply


class Response:
    """What aiohttp would give: a status, headers, and a body that is all there."""

    connection = None

    def __init__(self, status: int, kind: str, body: bytes) -> None:
        self.status = status
        self.headers = {"Content-Type": kind} if kind else {}
        self.content = self
        self._body = body

    async def readany(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield await self.readany()

    async def read(self) -> bytes:
        return await self.readany()

    def close(self) -> None:
        """Nothing is open."""

    def release(self) -> None:
        """Nothing is held."""


class SimulatedTransport(Transport):
    """The engine client's transport, down to the call that would send bytes."""

    def __init__(self, network: Network, process: Sender, connection: Connection, **options: Any) -> None:
        super().__init__(connection, **options)
        self._network = network
        self._process = process
        self._may_write = options["may_write"]

    async def close(self) -> None:
        self._closed = True

    async def _send(
        self, method: str, url: URL, body: Any, timeouts: aiohttp.ClientTimeout, state: Exchange, *, repeatable: bool
    ) -> Any:
        if self._closed:
            raise errors.Unreachable("the connection to the engine was closed by the operator", sent=False)
        network, path = self._network, [part for part in url.path.split("/") if part]
        engine, query = network.engine, dict(url.query)

        def leave(number: int) -> Serve:
            # What the real transport asks when the connection is there, and not a byte is written yet.
            if method != "GET" and path != ["query"] and not self._may_write():
                raise errors.Withheld
            token = network.sent(self._process, number, method, path, body)
            return lambda: network.arrived(token, lambda: admin.answer(engine, method, path, query, body))

        label = body["query"] if path == ["query"] else f"{method} {'/'.join(path)}{_ids(body)}"
        total = timeouts.total or 30.0
        served = await exchanged(network, self._process, "engine", label, total, leave, state)
        return Response(*served)


def _ids(body: Any) -> str:
    ids = body.get("invocation_ids") if isinstance(body, dict) else None
    return f" {len(ids)}: {', '.join(id_[-6:] for id_ in ids[:20])}" if ids else ""


class SimulatedEngineClient(EngineClient):
    """The engine client, on a simulated transport."""

    def __init__(self, network: Network, process: Sender, connection: Connection, **options: Any) -> None:
        self._network, self._process = network, process
        super().__init__(connection, **options)

    def _to(self, connection: Connection) -> Transport:
        return SimulatedTransport(
            self._network,
            self._process,
            connection,
            connect_timeout=self._connect_timeout,
            call_timeout=self._call_timeout,
            max_connections=self._max_connections,
            may_write=self._may_write,
        )


class SimulatedKube(KubeClient):
    """The Kubernetes client, on a simulated wire in the place of the library's."""

    def __init__(self, network: Network, process: Sender, *, may_write: Callable[[], bool] = lambda: True) -> None:
        self._api = self
        self._host = ""
        self._timeout_seconds = REQUEST_TIMEOUT_SECONDS
        self._may_write = may_write
        self.rest_client = self
        self._network = network
        self._process = process

    async def update_params_for_auth(self, *_: Any) -> None:
        """Nobody asks who it is."""

    async def close(self) -> None:
        """Nothing is open."""

    async def request(
        self, method: str, url: str, *, headers: dict[str, str], body: Any = None, _request_timeout: float = 15.0
    ) -> Response:
        network, sent = self._network, None if body is None else from_json(json.dumps(body))

        def leave(_: int) -> Serve:
            network.wrote(self._process, method, url)

            def serve() -> admin.Answer:
                found = network.api.request(method, url, sent, headers.get("Accept", ""))
                network.served(self._process, method, url, found)
                return found.status, "application/json", to_json(found.body)

            return serve

        served = await exchanged(network, self._process, "kube", f"{method} {url}", _request_timeout, leave)
        network.got(self._process, method, url, served)
        return Response(*served)
