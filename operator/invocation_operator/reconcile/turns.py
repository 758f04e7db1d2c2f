"""Of a crowd few at a time, in the order in which they came.

A thousand objects that are worked on all at once take longer than one after the other: by the time an answer is read
what it says has grown old and is asked for again, holds are renewed, progress is told that is over in a moment. Nobody
waits for those of another line (another namespace, or another engine), nor behind what only waits itself: a turn ends
with the work, soon after a run has begun, which may go on for hours, and at the latest when its time is up.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from invocation_operator.cluster.client import Object
from invocation_operator.reconcile.cell import Cell, Key

AT_ONCE = 32
"""Turns of one line at the same time: enough to keep two servers and this process busy."""
TURN_SECONDS = 5.0
"""Longer than anything takes that is not held up by a server."""
BEGUN_SECONDS = 0.5
"""After this a run that was begun waits for something: one of a single invocation is over before, as a rule."""

Name = tuple[str, str, str]


@dataclass(slots=True)
class _Line:
    """Those who have a turn, or wait for one."""

    free: asyncio.Semaphore
    members: int = 0


@dataclass(slots=True)
class _Turn:
    line: _Line
    timer: asyncio.TimerHandle | None = None
    over: bool = False

    def ends_in(self, seconds: float) -> None:
        """Have it end then."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        """Let the next one begin; once."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.over:
            self.over = True
            self.line.free.release()


@dataclass(slots=True)
class Turns:
    """Turns of the objects of one kind."""

    at_once: int = AT_ONCE
    _lines: dict[Name, _Line] = field(default_factory=dict)
    _taken: dict[Key, _Turn] = field(default_factory=dict)

    @asynccontextmanager
    async def take(self, cell: Cell) -> AsyncIterator[None]:
        """Wait for a turn, and have it during the block."""
        name = _line_of(cell)
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(asyncio.Semaphore(self.at_once))
        line.members += 1
        try:
            await line.free.acquire()
            turn = self._taken[cell.key] = _Turn(line)
            turn.ends_in(TURN_SECONDS)
            try:
                yield
            finally:
                turn.end()
                del self._taken[cell.key]
        finally:
            line.members -= 1
            if not line.members:
                self._lines.pop(name, None)

    def begun(self, key: Key) -> None:
        """The object's run has begun, and may go on for hours."""
        turn = self._taken.get(key)
        if turn is not None and not turn.over:
            turn.ends_in(BEGUN_SECONDS)


def _line_of(cell: Cell) -> Name:
    """Return the namespace of an object and the engine that it names; of one that cannot be read, something."""
    obj: Object = cell.obj or {}
    spec = obj.get("spec")
    ref = spec.get("engineRef") if isinstance(spec, dict) else None
    named = ref if isinstance(ref, dict) else {}
    return cell.key[0], str(named.get("namespace") or ""), str(named.get("name") or "")
