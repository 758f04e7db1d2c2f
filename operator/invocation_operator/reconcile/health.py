"""Looking at what became of invocations some time after they were acted upon: are they well?

A resumed invocation is looked at itself, by its id; a restarted one through what was restarted from it, which the
engine knows by ``restarted_from``: so nothing has to be remembered, and a look after a crash is the same as one
without. One query for a batch of ids, of short columns; what is wrong is read for a few of them only.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from invocation_operator.api.v1alpha1.action import Outcome, Result
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import BadReply
from invocation_operator.engine.replay import require_caught_up
from invocation_operator.engine.rows import Row
from invocation_operator.plan.operation.base import CLOCK_MARGIN
from invocation_operator.plan.rollout import SAMPLE, Health, ailment
from invocation_operator.plan.targets import Planned
from invocation_operator.target.row import InvocationRow, MalformedRow, row_from_json
from invocation_operator.target.sql import literal, select_ids
from invocation_operator.values.text import cut

BATCH = 1000
"""Ids in one query: 1000 took 80 ms among 20,000 invocations, by id and by ``restarted_from``."""
ERROR = 128
"""Characters of what is wrong with one."""

_SHORT = ("completion_result", "completion_failure")
_CAUSE = (*_SHORT, "last_failure", "paused_code", "paused_message")


@dataclass(slots=True)
class HealthLooker:
    """Looks at what one run has acted upon; raises the engine client's errors."""

    client: EngineClient
    scopes: bool
    restarts: bool
    """Whether the invocations were restarted: then what was restarted from them is looked at."""
    since: datetime
    """When the run started, on the engine's clock."""
    redact: bool
    confirm_engine: Callable[[], Awaitable[None]]

    async def look(self, planned: Iterable[Planned]) -> Health:
        """Return how they are. What left no row is not counted: nobody can tell any more how it ended."""
        found = Health()
        ailing: list[tuple[Result, str]] = []
        await self.confirm_engine()
        await require_caught_up(self.client)
        remaining = iter(planned)
        while batch := list(islice(remaining, BATCH)):
            seen = await self._see(batch)
            if missing := [one for one in batch if one.id not in seen]:
                # Not believed at once: an engine that was restarted knows nothing before it has read its log.
                await self.confirm_engine()
                await require_caught_up(self.client, [one.id for one in missing])
                seen |= await self._see(missing)
            for one in batch:
                for row in _worst_first(seen.get(one.id, ())):
                    ill = ailment(row)
                    found.add(None if ill is None else _result(one, row, ill))
                    if ill is not None and len(ailing) < SAMPLE:
                        ailing.append((_result(one, row, ill), row.id))
                    break
        if ailing and not self.redact:
            found.sample = await self._with_causes(ailing)
        return found

    async def _see(self, planned: Sequence[Planned]) -> dict[str, list[InvocationRow]]:
        """Return the rows to judge by planned id: its own, or those that were restarted from it in this run."""
        ids = [one.id for one in planned]
        if not self.restarts:
            rows = _readable(await self.client.rows(select_ids(ids, _SHORT, scopes_supported=self.scopes)))
            by_id = {row.id: row for row in rows}
            born = {one.id: one.created_at for one in planned}
            return {id_: [row] for id_, row in by_id.items() if born.get(id_) == row.created_at}
        listed = ", ".join(literal(id_) for id_ in ids)
        rows = _readable(
            await self.client.rows(
                "select id, created_at, status, completion_result, completion_failure, restarted_from "  # noqa: S608
                f"from sys_invocation where restarted_from in ({listed})"
            )
        )
        made: defaultdict[str, list[InvocationRow]] = defaultdict(list)
        for row in rows:
            if row.restarted_from is not None and row.created_at >= self.since - CLOCK_MARGIN:
                made[row.restarted_from].append(row)
        return dict(made)

    async def _with_causes(self, ailing: Sequence[tuple[Result, str]]) -> list[Result]:
        rows = await self.client.rows(select_ids([id_ for _, id_ in ailing], _CAUSE, scopes_supported=self.scopes))
        causes = {row.id: _cause(row) for row in _readable(rows)}
        return [result.model_copy(update={"error": causes.get(id_)}) for result, id_ in ailing]


def _readable(rows: Iterable[Row]) -> list[InvocationRow]:
    """Rows but for those in a status that only a newer engine knows: nothing is decided from them."""
    read: list[InvocationRow] = []
    for row in rows:
        try:
            read.append(row_from_json(row))
        except MalformedRow as error:
            if not isinstance(row.get("id"), str):
                raise BadReply(str(error)) from error
    return read


def _worst_first(rows: Iterable[InvocationRow]) -> list[InvocationRow]:
    """One that is ill speaks for all that were restarted from one invocation."""
    return sorted(rows, key=lambda row: ailment(row) is None)


def _result(one: Planned, row: InvocationRow, ill: str) -> Result:
    new_id = row.id if row.id != one.id else None
    return Result(id=one.id, target=one.label, outcome=Outcome.EFFECTIVE, reason=ill, new_id=new_id)


def _cause(row: InvocationRow) -> str | None:
    said = row.failure_message
    if said is None:
        return None
    code = f"[{row.failure_code}] " if row.failure_code is not None else ""
    return cut(f"{code}{said}", ERROR, 2 * ERROR)
