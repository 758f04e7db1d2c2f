"""One HTTP exchange with an engine: sent within explicit timeouts, its answer bounded, its failure given a name.

Called by ``engine.client`` only. Invariants: a write is sent at most once (neither here nor in aiohttp is it
repeated), and only if it may be at the moment at which its connection is there; a read is repeated once, and only when
a kept-alive connection turned out to be closed; redirects are never followed, cookies never kept, the environment
(proxies, netrc) never read; no error carries a reply's text other than the engine's own JSON ``message``.
"""

import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp.connector import Connection as Connector
from yarl import URL

from invocation_operator.engine import errors
from invocation_operator.engine.models import Connection
from invocation_operator.engine.replies import failure, json_object, refusal
from invocation_operator.engine.tls import tls_context

REPLY_LIMIT = 1024 * 1024
"""Longest body of an answer that is no query result, in bytes."""
_KEEPALIVE = 10.0
"""Seconds an idle connection is kept: less than any proxy's, so that few writes meet a connection just closed."""
_USER_AGENT = "restate-invocation-operator"
_NEARBY = "gzip;q=0.5, identity"
"""Plain http is next door, where compressing costs the engine more than it saves: 50,000 rows took 0.27 s with gzip and
0.10 s without. What comes compressed all the same is taken."""
_HOST = re.compile(r"[0-9A-Za-z_]([-0-9A-Za-z_.:]{0,251}[0-9A-Za-z_])?")


@dataclass(slots=True)
class Exchange:
    """What is known of a request while it runs, for the case that it fails."""

    sent: bool = False
    reused: bool = False


class Transport:
    """A pool of connections to one engine. ``close`` it."""

    def __init__(
        self,
        connection: Connection,
        *,
        connect_timeout: float,
        call_timeout: float,
        max_connections: int,
        may_write: Callable[[], bool],
    ) -> None:
        """Opens nothing yet. Raises ``CertificateInvalid`` for unusable PEM, ``ValueError`` for anything else that
        cannot be used; neither message holds what was given.
        """
        self._base = base_url(connection.url)
        self._token = _checked_token(connection.token)
        if connection.server_name is not None and _HOST.fullmatch(connection.server_name) is None:
            raise ValueError("the server name is no host name")
        self._connection = connection
        self._connect_timeout = connect_timeout
        self._call_timeout = call_timeout
        self._max_connections = max_connections
        self._request_class = _guarded(may_write)
        self._ssl: ssl.SSLContext | bool = True
        if self._base.scheme == "https":
            self._ssl = tls_context(connection.ca_pem, connection.client_cert_pem, connection.client_key_pem)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close all connections. Requests that are under way fail."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def url(self, *segments: str) -> URL:
        """The base URL and ``segments``, each percent-encoded whatever it holds, so that none can leave its place."""
        path = self._base.raw_path.rstrip("/")
        for segment in segments:
            path += "/" + _encoded(segment)
        return self._base.with_path(path, encoded=True)

    async def call(
        self, method: str, url: URL, *, body: Any = None, repeatable: bool
    ) -> tuple[int, dict[str, Any] | None]:
        """Ask and read a short answer: its status (2xx) and its JSON object, None when the body is empty.

        Raises: any of ``engine.errors``.
        """
        timeouts = self.timeouts(self._call_timeout)
        async with self.exchange(method, url, body=body, repeatable=repeatable, timeouts=timeouts) as response:
            return response.status, await json_object(response, REPLY_LIMIT)

    def timeouts(self, total: float) -> aiohttp.ClientTimeout:
        """``total`` seconds for everything, of which at most ``connect_timeout`` to connect. Waiting for a free
        connection counts for ``total`` only.
        """
        return aiohttp.ClientTimeout(total=total, connect=None, sock_connect=self._connect_timeout, sock_read=total)

    @contextlib.asynccontextmanager
    async def exchange(
        self, method: str, url: URL, *, body: Any, repeatable: bool, timeouts: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send and yield the 2xx response. Errors in the block that come from the connection are named too."""
        state = Exchange()
        try:
            response = await self._send(method, url, body, timeouts, state, repeatable=repeatable)
            try:
                if not 200 <= response.status < 300:
                    raise await refusal(response, self._token)
                _acknowledge(response)
                yield response
            except BaseException:
                response.close()  # an answer that was not read to its end must not be met by the next request
                raise
            finally:
                response.release()
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
            raise failure(error, self._base.raw_authority, sent=state.sent, hint=self._hint(state)) from None

    def _hint(self, state: Exchange) -> str:
        """With TLS 1.3 a front that refuses our certificate, or misses it, may just hang up after the handshake."""
        if self._base.scheme != "https" or state.reused:
            return ""
        given = self._connection.client_cert_pem is not None
        fault = "may not accept the client certificate" if given else "may want a client certificate"
        return f"; it {fault}: look at the clientCertSecret"

    async def _send(
        self,
        method: str,
        url: URL,
        body: Any,
        timeouts: aiohttp.ClientTimeout,
        state: Exchange,
        *,
        repeatable: bool,
    ) -> aiohttp.ClientResponse:
        session = self._opened()
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        for attempt in (1, 2):
            try:
                return await session.request(
                    method,
                    url,
                    data=data,
                    headers=headers,
                    allow_redirects=False,
                    timeout=timeouts,
                    server_hostname=self._connection.server_name if self._base.scheme == "https" else None,
                    trace_request_ctx=state,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                stale = state.reused and not isinstance(error, aiohttp.ClientConnectorError)
                if attempt == 2 or not repeatable or not stale:
                    raise
                state.reused = False
        raise AssertionError

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise errors.Unreachable("the connection to the engine was closed by the operator", sent=False)
        if self._session is None:
            headers = {
                "Accept": "application/json",
                "Accept-Encoding": "gzip" if self._base.scheme == "https" else _NEARBY,
                "User-Agent": _USER_AGENT,
            }
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=self._ssl, limit=self._max_connections, keepalive_timeout=_KEEPALIVE, ttl_dns_cache=10
                ),
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                raise_for_status=False,
                request_class=self._request_class,
                trace_configs=[_trace()],
            )
        return self._session


def base_url(text: str) -> URL:
    """The admin API's URL, checked. Raises ValueError, which does not quote it: it might hold credentials."""
    try:
        url = URL(text)
    except ValueError:
        raise ValueError("the engine's URL cannot be read") from None
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("the engine's URL must be http:// or https:// and name a host")
    if url.user is not None or url.password is not None:
        raise ValueError("the engine's URL must not hold credentials")
    if url.query_string or url.fragment:
        raise ValueError("the engine's URL must not hold a query or a fragment")
    return url


def _acknowledge(response: aiohttp.ClientResponse) -> None:
    """Acknowledge what has arrived at once. The engine writes an answer in pieces and holds each small one back until
    the one before is acknowledged, which Linux puts off by 40 ms: queries of 5 ms would take 50.
    """
    transport = response.connection.transport if response.connection is not None else None
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is not None and hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _encoded(segment: str) -> str:
    if not segment.strip("."):
        return segment.replace(".", "%2E")
    return quote(segment, safe="", errors="surrogatepass")


def _checked_token(token: str | None) -> str | None:
    if token is None:
        return None
    token = token.strip()
    if not token or any(not "!" <= character <= "~" for character in token):
        raise ValueError("the bearer token is empty or holds characters that a header cannot")
    return token


def _guarded(may_write: Callable[[], bool]) -> type[aiohttp.ClientRequest]:
    """Return requests that ask ``may_write`` when the connection is there and not a byte is written yet.

    Waiting for a connection takes seconds at worst, after which whoever asked may not be the one who may any more.
    Queries are posted, and change nothing.
    """

    class Guarded(aiohttp.ClientRequest):
        async def send(self, conn: Connector) -> aiohttp.ClientResponse:
            if self.method != "GET" and self.url.name != "query" and not may_write():
                raise errors.Withheld
            return await super().send(conn)

    return Guarded


def _trace() -> aiohttp.TraceConfig:
    """Notes how far a request came, in its ``Exchange``."""

    async def reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        _exchange(context).reused = True
        _exchange(context).sent = True

    async def created(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        _exchange(context).sent = True

    config = aiohttp.TraceConfig()
    config.on_connection_reuseconn.append(reused)
    config.on_connection_create_end.append(created)
    return config


def _exchange(context: SimpleNamespace) -> Exchange:
    exchange: Exchange = context.trace_request_ctx
    return exchange
