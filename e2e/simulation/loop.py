"""An event loop without a world: virtual time, no sockets, no threads, and a seed that chooses what runs next.

Time passes only while nothing is ready, and then at once. What belongs to a process (a context variable says so) can be
frozen for good: a crash is exactly that, so no `finally` of a dead process ever runs while the history goes on.
"""

import asyncio
import contextvars
import heapq
import itertools
import math
import sys
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Protocol, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

STEPS_IN_AN_INSTANT = 200_000
"""More steps than this without time passing are a busy loop."""


class Freezable(Protocol):
    """A process, as the loop sees it: whether its callbacks may run, and where they are kept meanwhile."""

    frozen: bool
    kept: list[asyncio.Handle]


OWNER: contextvars.ContextVar[Freezable | None] = contextvars.ContextVar("owner", default=None)
"""The process that a callback belongs to; None: the world."""


class BusyLoop(Exception):
    """Something runs for ever without letting time pass."""


class Deadlock(Exception):
    """Everything waits, and nothing will ever wake it."""


class _Task(asyncio.Task[Any]):
    """Hashed by its number and not by its address, so that sets of tasks have the same order in every replay."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **options: Any) -> None:
        self._number = next(_Task._numbers)
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in the order in which they became ready, or with `random` in any order."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random
        self._ready: list[asyncio.Handle] = []
        self._next = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = itertools.count()
        self._now = 0.0
        self._steps = 0
        self._closed = False
        self.problems: list[dict[str, Any]] = []
        """What was handed to the exception handler: mistakes that nobody has awaited."""
        _Task._numbers = itertools.count()

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run `main` to its end."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._finalize)
        asyncio.events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            asyncio.events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def drain(self) -> None:
        """Run what is ready now, without letting time pass; used to bury what is left at the end."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._finalize)
        asyncio.events._set_running_loop(self)
        try:
            while self._next < len(self._ready):
                self._step()
        finally:
            asyncio.events._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def pass_by(self, seconds: float) -> None:
        """Let so much time pass outside of `run`, for a world without tasks."""
        end = self._now + seconds
        self.call_at(end, lambda: None)
        while self._now < end or self._next < len(self._ready):
            self._step()

    def thaw(self, owner: Freezable) -> None:
        """Let the callbacks of a frozen process run again."""
        owner.frozen = False
        self._ready.extend(owner.kept)
        owner.kept.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._closed:
            heapq.heappush(self._timers, (when, next(self._serial), handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        # However short it is, time passes: who waits for the rest of a rounding would else wait for ever.
        least = math.nextafter(self._now, math.inf) if delay > 0 else self._now
        return self.call_at(max(self._now + delay, least), callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        return _Task(coro, loop=self, name=name, context=context)

    def run_in_executor(self, executor: Any, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """There are no threads: it is done at once."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    def set_exception_handler(self, handler: Any) -> None:
        """Kept by nobody: every mistake is a finding."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    def _finalize(self, generator: Any) -> None:
        self.call_soon(self.create_task, generator.aclose())

    # One step.

    def _step(self) -> None:
        ready = self._ready
        if self._next >= len(ready):
            ready.clear()
            self._next = 0
            self._pass_time()
            return
        if self._random is None:
            handle = ready[self._next]
            self._next += 1
            if self._next > 512:
                del ready[: self._next]
                self._next = 0
        else:
            chosen = int(self._random.random() * len(ready))
            handle = ready[chosen]
            ready[chosen] = ready[-1]
            ready.pop()
        if handle._cancelled:
            return
        owner = handle._context.get(OWNER)  # type: ignore[attr-defined]  # whose it is, asyncio keeps to itself
        if owner is not None and owner.frozen:
            owner.kept.append(handle)
            return
        self._steps += 1
        if self._steps > STEPS_IN_AN_INSTANT:
            raise BusyLoop(f"{self._steps} steps at {self._now:.3f} s: {handle!r}"[:500])
        handle._run()

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Deadlock("everything waits, and nothing will ever wake it")
        when = timers[0][0]
        if when > self._now:
            self._now = when
            self._steps = 0
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if not handle._cancelled:
                self._ready.append(handle)


def run(main: Coroutine[Any, Any, Any], random: Random | None = None) -> Any:
    """Run `main` in virtual time; `asyncio.get_running_loop().time()` tells it."""
    loop = VirtualLoop(random)  # type: ignore[abstract]  # what needs sockets, threads or processes is not there
    try:
        return loop.run(main)
    finally:
        loop.drain()
        loop.close()
