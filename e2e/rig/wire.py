"""Plain HTTP exchanges for the rig itself.

The standard library's `http.client` on purpose: no proxy from the environment, no redirects, and nothing that would
outlive a test and warn about it.
"""

import http.client
import json
import select
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """What a server answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def expect(self, *statuses: int) -> "Reply":
        """Itself if the status is one of these (any 2xx when none is given), else RuntimeError with the body."""
        fine = self.status in statuses if statuses else 200 <= self.status < 300
        if not fine:
            raise RuntimeError(f"HTTP {self.status}: {self.body[:500].decode(errors='replace')}")
        return self


def exchange(
    method: str,
    url: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send one request (a body that is not bytes goes as JSON) and read the whole answer.

    Raises OSError or http.client.HTTPException when nobody answers properly.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        return _asked(connection, method, path, body, headers)
    finally:
        connection.close()


class KeptConnections:
    """Connections to one server by TLS that are kept between requests: a handshake costs more than what is asked.

    Any thread may ask. A connection that the server has ended meanwhile is passed over before anything is sent on it,
    so nothing is ever sent twice. Whoever made it closes it.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._idle: deque[http.client.HTTPSConnection] = deque()

    def exchange(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout: float
    ) -> Reply:
        """Like the function of this name, of a path on this server."""
        connection = self._taken(timeout)
        try:
            reply = _asked(connection, method, path, body, headers)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    def close(self) -> None:
        """Close those that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _taken(self, timeout: float) -> http.client.HTTPSConnection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
            if connection.sock is not None and not _has_something(connection.sock):
                connection.timeout = timeout
                connection.sock.settimeout(timeout)
                return connection
            connection.close()


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: Mapping[str, str] | None
) -> Reply:
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("content-type", "application/json")
    connection.request(method, path, body=body, headers=sent)
    response = connection.getresponse()
    with response:
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def _has_something(sock: Any) -> bool:
    """Whether there is something to read although nothing was asked: the end, most of all."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    return bool(waiting.poll(0))


#: what `exchange` raises while a server is still starting
NOBODY_THERE = (OSError, http.client.HTTPException)
