"""Observation of planned invocations: rows by id, and the evidence that an operation asks for beside them.

One query for a batch of ids, another only when an operation needs the journal or restarted invocations.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine import evidence
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import BadReply, reading
from invocation_operator.engine.named import NamedRows
from invocation_operator.plan.operation.base import NEVER_STARTED, Child, Evidence, Seen, Signals
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.foresight import Foresight, children_of
from invocation_operator.target.row import InvocationRow, MalformedRow, row_from_json
from invocation_operator.target.sql import LOOK_COLUMNS, literal

MOMENT_SECONDS = 0.2
"""So long after the rows their evidence may be told; after more than that they are read once more."""
READ_AT_ONCE = 200
"""Rows that are read without giving way to anything else."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be known of one planned invocation."""

    planned: Planned
    evidence: frozenset[Evidence]
    new_id: str | None = None
    first: bool = False
    """Whether it was certainly not asked yet: then what was found out ahead of its turn will do."""


_UNSAID = datetime.min.replace(tzinfo=UTC)


class Looker:
    """Looks at invocations of one engine; raises the engine client's errors."""

    def __init__(
        self,
        client: EngineClient,
        *,
        scopes: bool,
        columns: Callable[[], Sequence[str]] = lambda: LOOK_COLUMNS,
        named: NamedRows | None = None,
        planned_change: datetime | None = None,
    ) -> None:
        """``columns`` tells at each look what is read of a row: more than the plan's for those who look at holds.
        ``named`` are the rows of the engine, where other runs look at theirs too. ``planned_change`` is when the last
        change of any planned row was, where the plan has kept that.
        """
        self._client = client
        self._named = named or NamedRows(client.rows)
        self._scopes = scopes
        self._columns = columns
        self._as_planned = {
            status: Seen(InvocationRow("", _UNSAID, status, modified_at=planned_change)) for status in InvocationStatus
        }
        """What a plan has kept of a row beside its identity, which is the planned one: one for all in a status."""
        self._foresight: Foresight | None = None

    def foresee(
        self, upcoming: Callable[[], Iterable[str]], clock: Callable[[], float], turn: Callable[[], float]
    ) -> None:
        """Find out ahead what is told of those whose turn to be asked comes next: see ``Foresight``."""
        self._foresight = Foresight(self._client, upcoming, clock, turn)

    async def children(self, ids: Sequence[str]) -> dict[str, list[Child]]:
        """Return what was restarted from those of ``ids`` that were not asked yet: that may have to be waited for."""
        if not ids or self._foresight is None:
            return await children_of(self._client, ids)
        return await self._foresight.children(ids)

    async def as_planned(
        self, planned: Sequence[Planned], evidence: frozenset[Evidence], children: Mapping[str, list[Child]]
    ) -> list[Seen]:
        """Return what the plan's own query has shown, and the ``evidence`` beside it: no row is read once more.

        ``children`` are told by ``children``.
        """
        started = [one.id for one in planned if one.status not in NEVER_STARTED] if Evidence.SIGNALS in evidence else []
        signals = await self._signals(started)
        if not (signals or children):
            return [self._as_planned[one.status] for one in planned]
        return [
            Seen(
                self._as_planned[one.status].row,
                signals=signals.get(one.id),
                children=tuple(children.get(one.id, ())),
            )
            for one in planned
        ]

    async def look(
        self, questions: Sequence[Question], foreseen: Mapping[str, list[Child]] | None = None
    ) -> list[Seen | None]:
        """Return what is seen, in the order of ``questions``. All ids must be well-formed. ``foreseen`` are the
        ``children`` of what was not asked yet, where these are known already.

        None stands for an invocation whose row cannot be read, such as one in a status of a newer engine: it is there,
        and nothing may be decided on it.
        """
        unstarted = {q.planned.id for q in questions if q.planned.status in NEVER_STARTED}
        wanted = [q.planned.id for q in questions if Evidence.SIGNALS in q.evidence]
        unknown = [
            q.planned.id
            for q in questions
            if Evidence.CHILDREN in q.evidence and not (q.first and foreseen is not None)
        ]
        new_ids = [q.new_id for q in questions if q.new_id is not None and Evidence.NEW in q.evidence]
        ids, now = [q.planned.id for q in questions], asyncio.get_running_loop().time
        (rows, unreadable, told_at), signals, children, new = await asyncio.gather(
            self._rows(ids),
            self._signals([id_ for id_ in wanted if id_ not in unstarted]),
            children_of(self._client, unknown),
            self._existing(new_ids),
        )
        children |= foreseen or {}
        # What has not started has no journal to look into; what has started since the plan does.
        started = [id_ for id_ in wanted if id_ in unstarted and id_ in rows and rows[id_].status not in NEVER_STARTED]
        signals |= await self._signals(started)
        paused = [q.planned.id for q in questions if Evidence.PAUSES in q.evidence and _is_paused(rows, q.planned.id)]
        pauses = await evidence.last_pauses(self._client, paused) if paused else {}
        if now() - told_at > MOMENT_SECONDS:
            rows, unreadable, _ = await self._rows(ids)
        return [
            None if q.planned.id in unreadable else _seen(q, rows.get(q.planned.id), signals, pauses, children, new)
            for q in questions
        ]

    async def _rows(self, ids: Sequence[str]) -> tuple[dict[str, InvocationRow], set[str], float]:
        """Return the rows by id, the ids of those that cannot be read, and when the engine had told them."""
        rows: dict[str, InvocationRow] = {}
        unreadable: set[str] = set()
        told_at = asyncio.get_running_loop().time()
        if not ids:
            return rows, unreadable, told_at
        answer = await self._named.rows(ids, self._columns(), scopes_supported=self._scopes)
        told_at = asyncio.get_running_loop().time()
        for number, found in enumerate(answer):
            if number % READ_AT_ONCE == READ_AT_ONCE - 1:
                await asyncio.sleep(0)
            try:
                row = row_from_json(found)
            except MalformedRow as error:
                id_ = found.get("id")
                if not isinstance(id_, str):
                    # It may be any of them, and none must be taken to be gone.
                    raise BadReply(str(error)) from error
                unreadable.add(id_)
            else:
                rows[row.id] = row
        return rows, unreadable, told_at

    async def _signals(self, ids: Sequence[str]) -> dict[str, Signals]:
        found = await evidence.cancel_signals(self._client, ids) if ids else {}
        return {
            id_: Signals(
                s.count,
                reacted=s.last_index is not None
                and s.journal_last_index is not None
                and s.journal_last_index > s.last_index,
                last_at=s.last_at,
            )
            for id_, s in found.items()
        }

    async def _existing(self, ids: Sequence[str]) -> frozenset[str]:
        if not ids:
            return frozenset()
        found = await self._client.rows(f"select id from sys_invocation where id in ({_listed(ids)})")
        with reading("new invocations"):
            return frozenset(row["id"] for row in found)


def _seen(
    question: Question,
    row: InvocationRow | None,
    signals: dict[str, Signals],
    pauses: dict[str, datetime],
    children: dict[str, list[Child]],
    new: frozenset[str],
) -> Seen:
    born_again = row is not None and row.created_at != question.planned.created_at
    key = question.planned.id
    return Seen(
        row=None if born_again else row,
        born_again=born_again,
        signals=signals.get(key),
        paused_at=pauses.get(key),
        children=tuple(children.get(key, ())),
        new_is_there=question.new_id in new,
    )


def _is_paused(rows: Mapping[str, InvocationRow], id_: str) -> bool:
    return id_ in rows and rows[id_].status is InvocationStatus.PAUSED


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(literal(id_) for id_ in ids)
