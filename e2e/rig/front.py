"""A TLS reverse proxy before an engine's admin API, as people put one there; and its ways to misbehave.

The engine itself knows neither TLS nor tokens, so whoever protects it uses a front.
It runs in a thread of its own with its own event loop, so that a test holds it by
its methods, and it notes what it was asked, so that a test can tell what was sent.
"""

import asyncio
import enum
import re
import ssl
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, web

from e2e.rig.certs import Authority, KeyPair
from e2e.rig.loopthread import LoopThread
from e2e.rig.process import free_ports

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


class Misbehaviour(enum.Enum):
    """What the front does instead of passing a request on."""

    HTML = "a 200 with a login page, as portals answer"
    CUT_JSON = "the real answer, cut in half, with a matching length"
    CUT_STREAM = "the real answer's first half, then the connection is closed"
    REDIRECT = "a 302 to another host"
    UNAUTHORIZED = "a 401"
    FORBIDDEN = "a 403"
    UNAVAILABLE = "a 503"
    TOO_MANY = "a 429 with Retry-After"
    HANG = "no answer at all"
    CLOSE = "the connection is closed before any answer"
    LOST_ANSWER = "the engine does it, but the connection is closed before the answer"


@dataclass(frozen=True)
class Asked:
    """One request as it came in; the token itself is not kept, only whether it was the right one."""

    method: str
    path: str
    authorized: bool
    with_credentials: bool
    client: str | None
    """The common name of the client certificate, with mutual TLS."""
    engine: str
    """The engine that the front led to then."""


class Front:
    """Use as a context manager, or `start()` and `stop()`.

    `tls` false serves plain http. `client_certs` demands a certificate from `issue_client_cert()`.
    `token` demands that bearer token (401 without).
    """

    def __init__(
        self, engine_url: str, *, tls: bool = True, client_certs: bool = False, token: str | None = None
    ) -> None:
        self._upstream = engine_url.rstrip("/")
        self._tls = tls
        self._client_certs = client_certs
        self._token = token
        self._authority = Authority("front")
        self._clients = Authority("front clients")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._faults: dict[str, Misbehaviour] = {}
        self._answers: dict[str, str] = {}
        self._thread: LoopThread | None = None
        self._released: asyncio.Event | None = None
        self._runner: web.AppRunner | None = None
        self._session: ClientSession | None = None
        self._port = 0
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_pem(self) -> str:
        """The authority that the front's certificate is from (until `serve_certificate_of_another_ca`)."""
        return self._authority.pem

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        self._load(self._authority.server())
        if self._client_certs:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(cadata=self._clients.pem)
        self._thread = LoopThread("front")
        self._wait(self._open())
        return self

    def stop(self) -> None:
        if self._thread is None:
            return
        self._wait(self._close())
        self._thread.stop()
        self._thread = None

    # --- what a test turns ---

    def rotate_token(self, token: str | None) -> None:
        """From now on this token is demanded (None: none)."""
        self._token = token

    def issue_client_cert(self, name: str = "operator", *, days: int = 365) -> KeyPair:
        return self._clients.client(name, days=days)

    def serve_good_certificate(self) -> None:
        self._serve(self._authority.server())

    def serve_certificate_of_another_host(self, host: str = "elsewhere.example") -> None:
        self._serve(self._authority.server([host]))

    def serve_certificate_of_another_ca(self) -> Authority:
        """Serve a certificate that `ca_pem` does not cover; the authority that does."""
        other = Authority("another")
        self._serve(other.server())
        return other

    def serve_expired_certificate(self) -> None:
        self._serve(self._authority.server(days=-1))

    def misbehave(self, how: Misbehaviour, prefix: str = "/") -> None:
        """Answer requests below this path prefix so, until `behave()`; the longest prefix counts."""
        self._faults[prefix] = how

    def answer(self, path: str, text: str) -> None:
        """Answer requests of exactly this path with a 200 and this JSON, until `behave()`."""
        self._answers[path] = text

    def lead_to(self, engine_url: str) -> None:
        """Pass everything on to another engine from now on, as an address that was given to another one."""
        self._upstream = engine_url.rstrip("/")

    def writes(self) -> list[Asked]:
        """What was asked that may have changed something: operations on invocations that there can be."""
        nobody = re.compile(r"/inv_none/|/inv_1\w{11}0{22}/")
        return [asked for asked in self.asked if asked.method == "PATCH" and not nobody.search(asked.path)]

    def behave(self) -> None:
        """Pass everything on again, and let go of the requests that hang."""
        self._faults.clear()
        self._answers.clear()
        self._wait(self._release())

    # --- inside the thread ---

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._thread is not None, "the front is not running"
        self._thread.run(work, seconds=30)

    async def _open(self) -> None:
        self._released = asyncio.Event()
        self._session = ClientSession(timeout=ClientTimeout(total=120), auto_decompress=False)
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        for last in (False, False, True):
            (self._port,) = free_ports(1)
            site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._context if self._tls else None)
            try:
                await site.start()
                return
            except OSError:
                if last:
                    raise

    async def _close(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._release()
        await self._drop_connections()
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.01)

    async def _release(self) -> None:
        assert self._released is not None
        self._released.set()
        self._released = asyncio.Event()

    def _load(self, pair: KeyPair) -> None:
        with tempfile.TemporaryDirectory(prefix="front-") as scratch:
            self._context.load_cert_chain(*pair.write(Path(scratch), "front"))

    def _serve(self, pair: KeyPair) -> None:
        """New handshakes get the new certificate; old connections are closed, or nobody would shake hands again."""
        self._load(pair)
        self._wait(self._drop_connections())

    async def _drop_connections(self) -> None:
        assert self._runner is not None
        if self._runner.server:
            for connection in list(self._runner.server.connections):
                connection.force_close()
                if connection.transport:
                    # An orderly end of TLS would wait for the peer, past the end of this loop.
                    connection.transport.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("authorization")
        authorized = self._token is None or authorization == f"Bearer {self._token}"
        certificate = request.get_extra_info("peercert")
        names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
        self.asked.append(
            Asked(
                request.method,
                request.path_qs,
                authorized,
                authorization is not None,
                names[0] if names else None,
                self._upstream,
            )
        )
        prefixes = [prefix for prefix in self._faults if request.path.startswith(prefix)]
        if prefixes:
            return await self._misbehave(request, self._faults[max(prefixes, key=len)])
        if not authorized:
            return _json(401, '{"message": "missing or wrong bearer token"}')
        if request.path in self._answers:
            return _json(200, self._answers[request.path])
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.Response:
        assert self._session is not None
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP | {"authorization"}
        }
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.path_qs,
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
                return web.Response(status=answer.status, headers=kept, body=await answer.read())
        except ClientConnectionError:
            return _json(502, '{"message": "the engine behind the front is unreachable"}')

    async def _misbehave(self, request: web.Request, how: Misbehaviour) -> web.StreamResponse:
        simple: dict[Misbehaviour, Callable[[], web.Response]] = {
            Misbehaviour.HTML: lambda: web.Response(
                text="<html><body>Please log in</body></html>", content_type="text/html"
            ),
            Misbehaviour.REDIRECT: lambda: web.Response(
                status=302, headers={"location": f"https://elsewhere.example{request.path_qs}"}
            ),
            Misbehaviour.UNAUTHORIZED: lambda: _json(401, '{"message": "no"}'),
            Misbehaviour.FORBIDDEN: lambda: _json(403, '{"message": "no"}'),
            Misbehaviour.UNAVAILABLE: lambda: _json(503, '{"message": "later"}'),
            Misbehaviour.TOO_MANY: lambda: web.Response(status=429, headers={"retry-after": "1"}),
        }
        if how in simple:
            return simple[how]()
        if how is Misbehaviour.HANG:
            assert self._released is not None
            await self._released.wait()
            return _close(request)
        if how is Misbehaviour.CLOSE:
            return _close(request)
        answer = await self._pass_on(request)
        body = answer.body if isinstance(answer.body, bytes) else b""
        half = body[: len(body) // 2]
        if how is Misbehaviour.CUT_JSON:
            return web.Response(status=answer.status, content_type="application/json", body=half)
        if how is Misbehaviour.CUT_STREAM:
            stream = web.StreamResponse(
                status=answer.status, headers={"content-type": "application/json", "content-length": str(len(body))}
            )
            await stream.prepare(request)
            await stream.write(half)
        return _close(request)


def _json(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="application/json")


def _close(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()
