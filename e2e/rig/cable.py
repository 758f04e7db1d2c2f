"""A TCP connection between an engine and its services that can be silenced and cut."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from e2e.rig.loopthread import LoopThread

PIECE = 65536
SECONDS = 10.0


class Cable:
    """Use as a context manager. `uri` leads to the port that is given."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._thread: LoopThread | None = None
        self._silent = False
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.uri = ""

    def __enter__(self) -> Self:
        self._thread = LoopThread("cable")
        self._wait(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._wait(self._close())
        self._thread.stop()

    def silence(self) -> None:
        """What the services say is lost from now on, until the cable is cut."""
        self._silent = True

    def cut(self) -> None:
        """End all connections; new ones are passed on again."""
        self._wait(self._cut())

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._thread is not None
        self._thread.run(work, seconds=SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.uri = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _cut(self) -> None:
        self._silent = False
        for end in list(self._ends):
            end.transport.abort()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=SECONDS / 2)

    async def _connect(self, engine: asyncio.StreamReader, to_engine: asyncio.StreamWriter) -> None:
        services, to_services = await asyncio.open_connection("127.0.0.1", self._to)
        ends = {to_engine, to_services}
        self._ends |= ends
        try:
            said, heard = self._pass(engine, to_services, back=False), self._pass(services, to_engine, back=True)
            await asyncio.gather(said, heard)
        finally:
            self._ends -= ends
            for end in ends:
                end.close()

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, back: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(PIECE):
                if back and self._silent:
                    continue
                to.write(data)
                await to.drain()
            if to.can_write_eof():
                to.write_eof()
