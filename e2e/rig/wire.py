"""One plain HTTP exchange for the rig itself.

The standard library's `http.client` on purpose: no proxy from the environment,
no redirects, no pooled connection that would outlive a test and warn about it.
"""

import http.client
import json
import ssl
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
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("content-type", "application/json")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        with response:
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


#: what `exchange` raises while a server is still starting
NOBODY_THERE = (OSError, http.client.HTTPException)
