"""A relay before an engine that passes bytes on and notes when batches of operations begin and are answered.

So the span from the first to the last engine call is seen from outside, in the same way for everybody who is measured.
"""

import asyncio
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_BATCH = b"POST /internal/invocations_batch_operations/"
_REQUESTS = (b"POST ", b"PATCH ", b"GET ")
_NOBODY = b"0" * 22 + b'"'
"""End of ids that nobody has: with batches of them the operator asks whether partitions can be believed."""


@dataclass(slots=True)
class Call:
    """One request for a batch of operations; times by ``time.perf_counter``."""

    begun: float
    answered: float = 0.0


class Relay:
    """Use as a context manager; what it noted since ``reset`` is in ``calls``."""

    def __init__(self, engine_url: str) -> None:
        parts = urlsplit(engine_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._upstream = (parts.hostname, parts.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="relay")
        self._port = 0
        self.calls: list[Call] = []
        self.requests = 0
        """Requests of any kind."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def reset(self) -> None:
        self.calls, self.requests = [], 0

    def span(self) -> tuple[float, float]:
        """When the first of the batches was sent, and when the last answer was there."""
        return min(call.begun for call in self.calls), max(call.answered for call in self.calls)

    def at_once(self) -> int:
        """How many batches were under way at the same time, at most."""
        return max(sum(other.begun <= call.begun < other.answered for other in self.calls) for call in self.calls)

    def __enter__(self) -> Self:
        self._thread.start()
        self._port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _listen(self) -> int:
        server = await self._loop.create_server(lambda: _Client(self, self._upstream), "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port


class _Client(asyncio.Protocol):
    """A connection of who asks."""

    def __init__(self, relay: Relay, upstream: tuple[str, int]) -> None:
        self._relay = relay
        self._upstream = upstream
        self._engine: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self.call: Call | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._task = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        self._engine, _ = await asyncio.get_running_loop().create_connection(lambda: _Engine(self), *self._upstream)
        for data in self._early:
            self._engine.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        # A request begins with a piece of its own: nobody here sends the next one before the answer.
        if data.startswith(_REQUESTS):
            self._relay.requests += 1
            self.call = None
            if data.startswith(_BATCH):
                self.call = Call(time.perf_counter())
                self._relay.calls.append(self.call)
        if self.call is not None and _NOBODY in data:
            self._relay.calls.remove(self.call)
            self.call = None
        if self._engine is None:
            self._early.append(data)
        else:
            self._engine.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._engine is not None:
            self._engine.close()


class _Engine(asyncio.Protocol):
    """The connection to the engine that belongs to it."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        if self._client.call is not None:
            self._client.call.answered = time.perf_counter()
        self._client.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.transport.close()
