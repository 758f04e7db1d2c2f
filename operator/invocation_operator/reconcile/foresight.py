"""What has been restarted already, asked for many that are about to be restarted at once.

The engine keeps ``restarted_from`` in a column without an index: a question for one batch reads the whole table, and so
does one for all that follow soon. Part of the looker of one run.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import reading
from invocation_operator.plan.operation.base import Child
from invocation_operator.reconcile.flight import CURRENT_SECONDS
from invocation_operator.target.sql import literal
from invocation_operator.values.times import parse_time

MOST = 10_000
"""Invocations that one question names."""


class Foresight:
    """Children of invocations that were not asked yet; raises the engine client's errors."""

    def __init__(
        self,
        client: EngineClient,
        upcoming: Callable[[], Iterable[str]],
        clock: Callable[[], float],
        turn: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``upcoming``: ids whose turn comes next, the first of them first. ``clock``: seconds. ``turn``: in how many
        seconds the turn of what is looked at now comes.
        """
        self._turn = turn
        self._client = client
        self._upcoming = upcoming
        self._clock = clock
        self._asking = asyncio.Lock()
        self._at = float("-inf")
        self._known: frozenset[str] = frozenset()
        self._children: dict[str, list[Child]] = {}

    async def children(self, ids: Sequence[str]) -> dict[str, list[Child]]:
        """Return those of ``ids`` that have children, as they were a moment ago."""
        async with self._asking:
            if self._clock() + self._turn() - self._at >= CURRENT_SECONDS or not self._known.issuperset(ids):
                wanted = dict.fromkeys(ids)
                for id_ in self._upcoming():
                    if len(wanted) >= MOST:
                        break
                    wanted[id_] = None
                at = self._clock()
                self._children = await children_of(self._client, list(wanted))
                self._at, self._known = at, frozenset(wanted)
        return {id_: found for id_ in ids if (found := self._children.get(id_)) is not None}


async def children_of(client: EngineClient, ids: Sequence[str]) -> dict[str, list[Child]]:
    """Return what was restarted from each of ``ids``, as far as anything was."""
    children: defaultdict[str, list[Child]] = defaultdict(list)
    if ids:
        listed = ", ".join(literal(id_) for id_ in ids)
        found = await client.rows(
            f"select id, created_at, restarted_from from sys_invocation where restarted_from in ({listed})"  # noqa: S608 - quoted
        )
        with reading("restarted invocations"):
            for row in found:
                children[row["restarted_from"]].append(Child(row["id"], parse_time(row["created_at"])))
    return children
