"""Reverse proxies that strike at a chosen write: the operator dies before it is passed on, or after the server acted.

One before the API server and one before the engine's admin API share a `Script`, which counts the writes of both in the
order in which they came in. So a test can kill an operator at *every* write of a run, one run for each, and on either
side of the instant at which the server acted. Beside that each proxy has `faults` of its own: what a network or a
server in trouble does to requests.
"""

import asyncio
import enum
import json
import re
import signal
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

from e2e.rig.certs import Authority
from e2e.rig.faults import ACTED, DRIP_SECONDS, STALL_SECONDS, STATUSES, Fault, Faults
from e2e.rig.loopthread import LoopThread
from e2e.rig.process import Child, free_ports

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


class Cut(enum.Enum):
    """What happens at the chosen write."""

    KILL_BEFORE = "killed before the write reaches the server"
    KILL_AFTER = "killed after the server acted, before the answer arrives"
    KILL_LATE = "killed, and the write reaches the server some time after"
    LOSE_ANSWER = "the server acts, the connection closes instead of the answer"
    DELIVER_LATE = "the connection closes, and the write reaches the server some time after"

    @property
    def kills(self) -> bool:
        return self in (Cut.KILL_BEFORE, Cut.KILL_AFTER, Cut.KILL_LATE)


@dataclass(frozen=True)
class Write:
    """One write as it came in; `what` is short: `PUT invocationrecords/status`, `PATCH cancel inv_…`."""

    what: str
    at: float
    """Monotonic seconds."""


@dataclass
class Script:
    """The count of writes over all proxies that share this, and what becomes of the nth."""

    writes: list[Write] = field(default_factory=list)
    hit: Write | None = None
    """The write that was cut."""
    _nth: int = 0
    _cut: Cut | None = None
    _victim: Child | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    late_seconds: float = 0.0

    def arm(self, nth: int, cut: Cut | None, victim: Child | None = None, *, late_seconds: float = 0.0) -> None:
        """Count from here; strike at the nth write (from 1)."""
        with self._lock:
            self.writes, self.hit = [], None
            self._nth, self._cut, self._victim, self.late_seconds = nth, cut, victim, late_seconds

    def came_in(self, what: str) -> Cut | None:
        """Count one write; what is to become of it. The victim is dead when this says so."""
        with self._lock:
            write = Write(what, time.monotonic())
            self.writes.append(write)
            if self._cut is None or len(self.writes) != self._nth:
                return None
            self.hit = write
            if self._cut.kills and self._cut is not Cut.KILL_AFTER:
                self.kill()
            return self._cut

    def kill(self) -> None:
        if self._victim is not None:
            self._victim.signal(signal.SIGKILL)

    def count(self, pattern: str, *, since: float = 0.0) -> int:
        """How many writes since that monotonic time match the regular expression."""
        return sum(1 for write in list(self.writes) if write.at >= since and re.search(pattern, write.what))


Label = Callable[[str, str, bytes], str | None]
"""From method, path and body to the name of a write that counts, or None."""


def cluster_write(method: str, path: str, body: bytes) -> str | None:
    """Writes to the API server that belong to a run; Events and the health of engines are told apart from it."""
    found = re.search(r"/(invocationactions|invocationrecords|configmaps)(?:/[^/]+)?(/status)?$", path)
    return f"{method} {found[1]}{found[2] or ''}" if found and method != "GET" else None


_NOBODY = r"inv_1\w{11}0{22}"
"""An id that no invocation has: a call on it asks whether the engine has read its log."""


def engine_write(method: str, path: str, body: bytes) -> str | None:
    """Operations on invocations, and changes of services; what only asks what the engine can do (operations on no real
    id) does not count.
    """
    if re.search(rf"/invocations/{_NOBODY}/", path):
        return None
    if method == "PATCH" and (found := re.search(r"/services/([^/]+)$", path)):
        return f"PATCH service {found[1]}"
    if found := re.search(r"/invocations/(inv_1[^/]+)/([a-z-]+)$", path):
        return f"{method} {found[2]} {found[1]}"
    if found := re.search(r"/invocations_batch_operations/([a-z-]+)$", path):
        ids = (
            [id_ for id_ in json.loads(body).get("invocation_ids", ()) if not re.fullmatch(_NOBODY, id_)]
            if body
            else []
        )
        return f"{method} batch-{found[1]} of {len(ids)}" if ids else None
    return None


class KillProxy:
    """A proxy before `upstream`; use as a context manager. With `upstream_ca` it speaks TLS, by its own authority."""

    def __init__(self, upstream: str, script: Script, label: Label, *, upstream_ca: Path | None = None) -> None:
        self._upstream = upstream.rstrip("/")
        self._upstream_tls = ssl.create_default_context(cafile=str(upstream_ca)) if upstream_ca else None
        self._script = script
        self._label = label
        self._authority = Authority("kill proxy")
        self._thread: LoopThread | None = None
        self._runner: web.AppRunner | None = None
        self._session: ClientSession | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        """What outlives a request: streams, and writes that are delivered late."""
        self._port = 0
        self._open_door = asyncio.Event()
        self._shut = asyncio.Event()
        self.faults = Faults()

    @property
    def url(self) -> str:
        return f"{'https' if self._upstream_tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_pem(self) -> str:
        return self._authority.pem

    def __enter__(self) -> Self:
        self._open_door.set()
        self._thread = LoopThread("kill proxy")
        self._wait(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._wait(self._close())
        self._thread.stop()

    def hold(self) -> None:
        """Let requests wait at the door, as a network that stalls does, until `release()`."""
        self._wait(self._turn(self._open_door.clear))

    def release(self) -> None:
        """Let everything that waits go on, and all that comes."""
        self._wait(self._turn(self._open_door.set))

    async def _turn(self, turn: Callable[[], None]) -> None:
        turn()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._thread is not None
        self._thread.run(work, seconds=60)

    # --- inside the thread ---

    async def _open(self) -> None:
        self._session = ClientSession(
            timeout=ClientTimeout(total=None, connect=10), connector=TCPConnector(limit=0), auto_decompress=False
        )
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        for last in (False, False, True):
            (self._port,) = free_ports(1)
            site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._served_tls())
            try:
                await site.start()
                return
            except OSError:
                if last:
                    raise

    async def _close(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        self._open_door.set()
        self._shut.set()
        for task in (left := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()
        # Connections that broke are closed by the loop a little later.
        await asyncio.sleep(0.25)

    def _served_tls(self) -> ssl.SSLContext | None:
        if self._upstream_tls is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory(prefix="killproxy-") as scratch:
            context.load_cert_chain(*self._authority.server().write(Path(scratch), "killproxy"))
        return context

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        await self._open_door.wait()
        what = self._label(request.method, request.path, body)
        cut = self._script.came_in(what) if what else None
        fault = self.faults.meet(what or f"{request.method} {request.path}")
        if cut is Cut.KILL_BEFORE:
            return _closed(request)
        if cut in (Cut.KILL_LATE, Cut.DELIVER_LATE):
            self._later(request, body, self._script.late_seconds)
            return _closed(request)
        if fault is not None and fault not in ACTED:
            return await self._refuse(request, fault)
        if fault is Fault.LATE:
            # The connection stays open meanwhile: that nobody hears of it is the client's own decision.
            await asyncio.sleep(self.faults.late_seconds)
        try:
            async with self._ask(request, body) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
                if "watch" in request.query:
                    return await self._stream(request, answer.status, kept, answer.content)
                text = await answer.read()
        except (ClientError, OSError):
            return _closed(request)
        if cut is Cut.KILL_AFTER:
            self._script.kill()
        if cut is not None:
            return _closed(request)
        if fault is not None:
            return await self._spoil(request, fault, answer.status, kept, text)
        return web.Response(status=answer.status, headers=kept, body=text)

    async def _refuse(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        """Answer, or not, without the server."""
        if fault is Fault.STALL:
            await self._stall()
        if fault not in STATUSES:
            return _closed(request)
        headers = {} if fault is Fault.ERROR else {"Retry-After": self.faults.retry_after}
        return web.json_response(_trouble(STATUSES[fault]), status=STATUSES[fault], headers=headers)

    async def _spoil(
        self, request: web.Request, fault: Fault, status: int, headers: dict[str, str], text: bytes
    ) -> web.StreamResponse:
        """The server has acted; what becomes of its answer."""
        if fault in STATUSES:
            return web.json_response(_trouble(STATUSES[fault]), status=STATUSES[fault])
        if fault is Fault.GARBAGE:
            return web.Response(status=200, body=bytes(range(256)), headers={"Content-Type": "application/json"})
        if fault is Fault.TRUNCATED:
            return web.Response(status=status, headers=headers, body=text[: len(text) // 2] or b"{")
        if fault is Fault.STALL_AFTER:
            await self._stall()
        if fault not in (Fault.CUT, Fault.DRIP):
            return _closed(request)
        stream = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(text) + 1)})
        try:
            await stream.prepare(request)
            if fault is Fault.CUT:
                await stream.write(text[: len(text) // 2])
            for position in range(len(text) if fault is Fault.DRIP else 0):
                await stream.write(text[position : position + 1])
                await asyncio.sleep(DRIP_SECONDS)
        except (ClientError, OSError):
            pass
        return _closed(request)

    async def _stall(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(STALL_SECONDS):
                await self._shut.wait()

    def _later(self, request: web.Request, body: bytes, seconds: float) -> None:
        task = asyncio.create_task(self._deliver_late(request, body, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ask(self, request: web.Request, body: bytes) -> Any:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        return self._session.request(
            request.method,
            self._upstream + request.raw_path,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            ssl=self._upstream_tls or True,
        )

    async def _stream(
        self, request: web.Request, status: int, headers: dict[str, str], content: Any
    ) -> web.StreamResponse:
        own = asyncio.current_task()
        assert own is not None
        self._tasks.add(own)
        own.add_done_callback(self._tasks.discard)
        stream = web.StreamResponse(status=status, headers=headers)
        await stream.prepare(request)
        try:
            async for piece in content.iter_any():
                await stream.write(piece)
        except (ClientError, OSError):
            return _closed(request)
        return stream

    async def _deliver_late(self, request: web.Request, body: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            async with self._ask(request, body) as answer:
                await answer.read()
        except (ClientError, OSError):
            return


def _trouble(status: int) -> dict[str, Any]:
    """An error in words that both the engine's clients and Kubernetes' take for the server's own."""
    said = f"the fault proxy says {status}"
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": said, "code": status}


def _closed(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()
