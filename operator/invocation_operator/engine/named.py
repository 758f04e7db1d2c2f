"""Rows of named invocations, asked for by many at the same moment: one query for all of them.

A thousand actions look at one invocation each, before and after their call, and what a query costs the engine is
planning it: one id took 5 ms, a thousand took 80. Who asks gets the answer to a query that was sent after they asked,
never to an older one. Used by the reconcilers, one for each engine client.

Invariants: everybody gets the rows of their own ids and no others; and where a query of many may have failed for the
sake of one, each is asked for alone: nobody's invocation keeps others from theirs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from invocation_operator.engine import errors
from invocation_operator.engine.rows import Row
from invocation_operator.target.sql import select_ids

SMALL = 20
"""Who asks for more than this asks alone: theirs is a large query anyway."""
MOST = 500
"""Ids in one query of several."""
PATIENCE_SECONDS = 0.25
"""A query that takes longer does not keep the next one waiting."""

Kind = tuple[tuple[str, ...], bool]
"""Columns, and whether the engine keeps scopes."""


@dataclass(slots=True)
class _Asker:
    ids: frozenset[str]
    statement: str
    answer: asyncio.Future[list[Row]]

    def tell(self, rows: Sequence[Row]) -> None:
        if not self.answer.done():
            self.answer.set_result([row for row in rows if row["id"] in self.ids])

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            # They may have given up by the time they would hear of it.
            self.answer.exception()


@dataclass(slots=True)
class _Line:
    """Those who wait for the next query of one kind."""

    waiting: list[_Asker] = field(default_factory=list)
    serving: asyncio.Task[None] | None = None


class NamedRows:
    """Rows by id, of one engine."""

    def __init__(self, query: Callable[[str], Awaitable[list[Row]]]) -> None:
        """``query`` returns all rows of a statement, or raises an error of ``engine.errors``."""
        self._query = query
        self._lines: dict[Kind, _Line] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def rows(self, ids: Sequence[str], columns: Sequence[str], *, scopes_supported: bool) -> list[Row]:
        """Return the rows of ``ids`` that there are, as ``sql.select_ids`` says. Raises ValueError for a malformed id,
        and the engine client's errors.
        """
        statement = select_ids(ids, columns, scopes_supported=scopes_supported)
        if len(ids) > SMALL:
            return await self._query(statement)
        kind = tuple(columns), scopes_supported
        line = self._lines.setdefault(kind, _Line())
        asker = _Asker(frozenset(ids), statement, asyncio.get_running_loop().create_future())
        line.waiting.append(asker)
        if line.serving is None:
            line.serving = asyncio.create_task(self._serve(kind, line))
        return await asker.answer

    async def _serve(self, kind: Kind, line: _Line) -> None:
        try:
            while askers := _next(line):
                task = asyncio.create_task(self._answer(kind, askers))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        finally:
            line.serving = None

    async def _answer(self, kind: Kind, askers: Sequence[_Asker]) -> None:
        if len(askers) == 1:
            return await self._alone(askers[0])
        columns, scopes_supported = kind
        every = frozenset().union(*(asker.ids for asker in askers))
        try:
            rows = await self._query(select_ids(every, columns, scopes_supported=scopes_supported))
            if not all(isinstance(row.get("id"), str) for row in rows):
                raise errors.BadReply("the engine gave a row without an id")
        except errors.EngineError as error:
            if _for_the_sake_of_one(error):
                await asyncio.gather(*(self._alone(asker) for asker in askers))
            else:
                _fail(askers, error)
        except BaseException as error:
            _fail(askers, error)
            raise
        else:
            for asker in askers:
                asker.tell(rows)
        return None

    async def _alone(self, asker: _Asker) -> None:
        if asker.answer.done():
            return
        try:
            rows = await self._query(asker.statement)
        except BaseException as error:
            asker.fail(error)
            if not isinstance(error, errors.EngineError):
                raise
        else:
            if not asker.answer.done():
                asker.answer.set_result(rows)


def _for_the_sake_of_one(error: errors.EngineError) -> bool:
    """Whether it may be one of the rows that the engine cannot tell of: a 500 is what many things give."""
    return isinstance(error, errors.BadReply) or (isinstance(error, errors.ServerFault) and error.status == 500)


def _fail(askers: Sequence[_Asker], error: BaseException) -> None:
    for asker in askers:
        asker.fail(error)


def _next(line: _Line) -> list[_Asker]:
    """Take those whom the next query answers, in the order in which they came."""
    taken: list[_Asker] = []
    total = 0
    while line.waiting and total < MOST:
        asker = line.waiting.pop(0)
        if not asker.answer.done():
            taken.append(asker)
            total += len(asker.ids)
    return taken
