"""One task for each object that needs work, none for those that do not.

kopf tells of every object and every change, at least once; ten thousand finished objects must cost nothing but a look.
A task reconciles its object until there is nothing left to do, waits when told to, and starts over when the object
changed meanwhile.

What is known of an object is kept until the watch has told of it too: a word that comes late, of a time before our own
last write, must not have it taken up anew, as a crowd of them comes when there is much to do.

A workbench that rests, because another process leads, takes in what the watch says and starts no task: what it holds is
what there is to do at the moment at which it begins.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from invocation_operator.cluster.client import Object
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.reconcile.cell import Cell, Key, version_of
from invocation_operator.reconcile.turns import Turns

log = structlog.get_logger(__name__)

ERROR_BACKOFF_SECONDS = 1.0
ERROR_BACKOFF_LIMIT_SECONDS = 60.0
CANCEL_SECONDS = 5.0
"""How long a cancelled task may take to end when the process does."""


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do until the object changes."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Look again after ``seconds``, or when the object changes.

    With ``most`` the wait doubles from one to the next up to that, with jitter: a thousand objects that wait for one
    engine must not ask the API server for ever as often as one does. Whatever rings begins anew.
    """

    seconds: float
    most: float | None = None


Outcome = Done | Retry
Reconcile = Callable[[Cell], Awaitable[Outcome]]


class Workbench:
    """Tasks of one kind."""

    def __init__(
        self,
        kind: str,
        reconcile: Reconcile,
        needs_work: Callable[[Object], bool],
        *,
        resting: bool = False,
        turns: Turns | None = None,
    ) -> None:
        """``turns``: of those of which there may be crowds few are worked on at a time."""
        self._kind = kind
        self._turns = turns
        self._reconcile = reconcile
        self._needs_work = needs_work
        self._cells: dict[Key, Cell] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._closing = False
        self._resting = resting

    def observe(self, obj: Object, *, deleted: bool = False) -> None:
        """Take in what the watch says of an object."""
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        cell = self._cells.get(key)
        if deleted:
            # A late deletion of a predecessor says nothing about the object that now has its name.
            if cell is not None and cell.has(obj):
                cell.put(None)
                self._take_up(cell)
            return
        if cell is not None:
            cell.put(obj)
        elif self._needs_work(obj):
            cell = self._cells[key] = Cell(key, obj)
        if cell is not None:
            cell.told = max(cell.told, version_of(obj))
            self._take_up(cell)

    def ring_all(self) -> None:
        """Wake all waiting tasks: something that they depend on has changed."""
        for cell in self._cells.values():
            cell.ring()

    def begin(self) -> None:
        """Work, from now on, and on all that is there."""
        self._resting = False
        for cell in list(self._cells.values()):
            self._take_up(cell)

    async def rest(self) -> None:
        """Cut off what is being done, and start nothing until told to begin: somebody else does it."""
        self._resting = True
        await self._cancel(list(self._tasks.values()))

    @property
    def active(self) -> int:
        """Number of objects being worked on."""
        return len(self._tasks)

    def count(self, phase: str) -> int:
        """Return how many of the objects being worked on are in ``phase``; none while another process works on them."""
        if self._resting:
            return 0
        phases = ((cell.obj or {}).get("status", {}).get("phase") for cell in self._cells.values())
        return sum(found == phase for found in phases)

    async def close(self, timeout_seconds: float) -> None:
        """Let the tasks finish what cannot be left, then cancel them."""
        self._closing = True
        tasks = list(self._tasks.values())
        self.ring_all()
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=timeout_seconds)
        await self._cancel(left)

    @staticmethod
    async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        # Bounded: a task that does not heed its cancellation must not keep the process.
        _, left = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        if left:
            log.warning("tasks that do not end are left behind", tasks=sorted(task.get_name() for task in left))

    def _take_up(self, cell: Cell) -> None:
        """Start a task for ``cell`` unless it has one; what rests keeps only cells that need work."""
        if cell.key in self._tasks or self._closing:
            return
        if not self._resting:
            name = f"{self._kind} {'/'.join(cell.key)}"
            self._tasks[cell.key] = asyncio.create_task(self._work(cell), name=name)
        elif cell.obj is None or not self._needs_work(cell.obj):
            del self._cells[cell.key]

    async def _work(self, cell: Cell) -> None:
        # Whatever is logged in this task is about this object.
        structlog.contextvars.bind_contextvars(kind=self._kind, object="/".join(cell.key))
        failures = waits = 0
        done = False
        try:
            with cell.bell() as bell:
                while self._wanted(cell):
                    bell.clear()
                    version = cell.version
                    outcome: Outcome
                    try:
                        outcome, failures = await self._in_turn(cell), 0
                    except ClusterError as error:
                        # The API server away, or rights too small to write a status: known, and told in one line.
                        outcome, failures = Retry(_backoff(failures)), failures + 1
                        log.warning("reconcile failed", error=str(error))
                    except Exception:
                        # One object's trouble, also a mistake of ours, must not end the others' tasks.
                        outcome, failures = Retry(_backoff(failures)), failures + 1
                        log.exception("reconcile failed")
                    if isinstance(outcome, Retry):
                        rung = await bell.wait(_pause(outcome, waits))
                        waits = 0 if rung or outcome.most is None else waits + 1
                    elif cell.version == version:
                        done = True
                        return
        finally:
            self._tasks.pop(cell.key, None)
            if self._closing or cell.obj is None or (done and not cell.ahead):
                self._cells.pop(cell.key, None)
            elif not done:
                # Told to rest; perhaps it was told to begin again before this task heeded that.
                self._take_up(cell)

    def _wanted(self, cell: Cell) -> bool:
        return not self._closing and not self._resting and cell.obj is not None

    async def _in_turn(self, cell: Cell) -> Outcome:
        """Reconcile when the turn of ``cell`` comes, unless it is not wanted any more by then."""
        if self._turns is None:
            return await self._reconcile(cell)
        async with self._turns.take(cell):
            return await self._reconcile(cell) if self._wanted(cell) else Retry(0.0)


def _pause(retry: Retry, waits: int) -> float:
    if retry.most is None:
        return retry.seconds
    nominal = retry.seconds * 2.0 ** min(waits, 16)
    return min(nominal * random.uniform(0.8, 1.0), retry.most)  # noqa: S311 - jitter, nothing secret


def _backoff(failures: int) -> float:
    limit = min(ERROR_BACKOFF_SECONDS * 2.0 ** min(failures, 16), ERROR_BACKOFF_LIMIT_SECONDS)
    return limit * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, nothing secret
