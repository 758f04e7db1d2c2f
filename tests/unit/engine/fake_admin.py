"""An admin API that answers whatever a test tells it to, down to single bytes and closed sockets."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from invocation_operator.engine.client import Connection, EngineClient


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def sql(self) -> str:
        text: str = json.loads(self.body)["query"]
        return text


class Wire:
    """The way back to the client, for one request."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self, status: int, body: bytes = b"", *, kind: str = "application/json", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}"]
        if kind:
            lines.append(f"content-type: {kind}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def json(self, status: int, value: Any, **headers: str) -> None:
        await self.reply(status, json.dumps(value).encode(), **headers)

    async def chunked(self, *pieces: bytes, end: bool = True, pause: float = 0.0) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            await self.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if pause:
                await asyncio.sleep(pause)
        if end:
            await self.send(b"0\r\n\r\n")

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Asked, Wire], Awaitable[None]]


@dataclass
class FakeAdmin:
    """What it was asked, and where it listens."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[EngineClient]:
        """A client of this server, closed in the end."""
        made = {name: options.pop(name) for name in list(options) if name in Connection.__dataclass_fields__}
        client = EngineClient(Connection(**{"url": self.url, **made}), **options)
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def fake_admin(
    script: Script, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[FakeAdmin]:
    """Serve `script`, which answers each request by its wire."""
    admin = FakeAdmin()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        admin.connections += 1
        number = admin.connections
        try:
            while asked := await _read(reader, number):
                admin.asked.append(asked)
                await script(asked, Wire(writer))
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            running.discard(task)

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    admin.url = f"{'https' if context else 'http'}://{shown}:{port}"
    try:
        yield admin
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader, connection: int) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body, connection)
