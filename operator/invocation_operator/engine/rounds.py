"""One question that many have at the same time, asked once for all of them.

Who asks gets an answer to a request that was sent after they asked, never an older one: while a request is under way,
all who come wait for the next. So a crowd of actions costs an engine as many requests as fit one after the other, and
nobody is told less than the truth of the moment they asked. Used by ``engine.client``, and for what a crowd reads of
Kubernetes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Rounds(Generic[T]):
    """Rounds of one question."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._under_way: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return self._next is None and (self._under_way is None or self._under_way.done())

    async def __call__(self) -> T:
        """Return the answer of the next round. Raises what the question raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._round(self._under_way))
            self._next.add_done_callback(_heard)
        # One who gives up must not take the others' answer away.
        return await asyncio.shield(self._next)

    async def _round(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            with suppress(Exception):
                await asyncio.shield(before)
        self._under_way, self._next = self._next, None
        return await self._ask()


def _heard(task: asyncio.Task[T]) -> None:
    """Nobody may be left to hear a failure."""
    if not task.cancelled():
        task.exception()
