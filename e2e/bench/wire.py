"""Connections that stay open, and a watch that notes the time of every event, so that measuring costs little."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from e2e.rig import ControlPlane

Object = dict[str, Any]


class Line:
    """One kept-alive connection. Not for use by several threads."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, token: str = "") -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._headers = {"accept": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection
        if tls is not None:
            self._connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=60, context=tls)
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    @classmethod
    def to(cls, control_plane: ControlPlane) -> "Line":
        """A connection to the API server as its administrator."""
        tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
        return cls(control_plane.url, tls=tls, token=control_plane.token)

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """Send and read one exchange, JSON that is encoded already as it is; RuntimeError unless it is a 2xx."""
        text = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {**self._headers, **({"content-type": kind} if text else {})}
        self._connection.request(method, path, body=text, headers=headers)
        response = self._connection.getresponse()
        said = response.read()
        if response.status == 429:
            # The API server is still filling its cache of a new kind.
            time.sleep(1)
            return self.request(method, path, body, kind)
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {said[:300]!r}")
        return json.loads(said) if said else None

    def stream(self, path: str) -> http.client.HTTPResponse:
        self._connection.request("GET", path, headers=self._headers)
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


class Watch:
    """A watch on one collection in a thread of its own: (time, type, object) of every event, in order."""

    def __init__(self, control_plane: ControlPlane, path: str) -> None:
        self._control_plane, self._path = control_plane, path
        self.events: list[tuple[float, str, Object]] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._line = Line.to(control_plane)

    def __enter__(self) -> Self:
        listed = self._line.request("GET", self._path)
        self._since = listed["metadata"]["resourceVersion"]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The thread is a daemon that waits in a read; it ends with the server or with us.
        pass

    def _run(self) -> None:
        line = Line.to(self._control_plane)
        try:
            response = line.stream(f"{self._path}?watch=true&timeoutSeconds=3600&resourceVersion={self._since}")
            while text := response.readline():
                at = time.perf_counter()
                event = json.loads(text)
                with self._news:
                    self.events.append((at, event["type"], event["object"]))
                    self._news.notify_all()
        except (OSError, http.client.HTTPException, ValueError):
            return

    def first(self, wanted: Callable[[Object], bool], *, since: int = 0, timeout: float = 30) -> tuple[float, Object]:
        """Wait for the first event whose object is wanted; the time it arrived, and the object."""
        deadline = time.monotonic() + timeout
        looked = since
        with self._news:
            while True:
                for at, _, obj in self.events[looked:]:
                    if wanted(obj):
                        return at, obj
                looked = len(self.events)
                if not self._news.wait(max(deadline - time.monotonic(), 0)) and time.monotonic() >= deadline:
                    raise TimeoutError(f"no such event on {self._path} in {timeout:.0f} s")

    def writes(self, name: str) -> int:
        """How often the object of that name was written after its creation."""
        return sum(1 for _, kind, obj in self.events if kind == "MODIFIED" and obj["metadata"]["name"] == name)


def ready(obj: Object) -> bool:
    """Whether the condition Ready is True for the present specification."""
    status = obj.get("status", {})
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
