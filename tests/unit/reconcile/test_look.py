"""What cannot be read is not taken to be gone."""

import asyncio
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.errors import BadReply
from invocation_operator.engine.rows import Row
from invocation_operator.plan.operation.base import Child, Evidence
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.look import Looker, Question

BORN = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryEngine:
    def __init__(self, rows: list[Row], evidence: list[Row]) -> None:
        self._rows, self._evidence = rows, evidence

    async def rows(self, sql: str) -> list[Row]:
        plain = "sys_invocation" in sql and "restarted_from in" not in sql and "select id from" not in sql
        return self._rows if plain else self._evidence


def inv(number: int) -> str:
    return f"inv_1{number:033d}"


def row(number: int, **fields: Any) -> Row:
    base: Row = {"id": inv(number), "created_at": BORN.isoformat(), "status": "running"}
    return {name: value for name, value in (base | fields).items() if value is not None}


def looker(rows: list[Row], evidence: list[Row] | None = None) -> Looker:
    return Looker(cast("EngineClient", MemoryEngine(rows, evidence or [])), scopes=True)


def question(number: int, *evidence: Evidence) -> Question:
    planned = Planned(inv(number), BORN, InvocationStatus.RUNNING, "checkout/pay")
    return Question(planned, frozenset(evidence), "inv_new")


@pytest.mark.parametrize("odd", [row(2, status="dreaming"), row(2, status=None), row(2, created_at=7)])
async def test_look_leaves_what_cannot_be_read_unjudged_and_tells_the_others(odd: Row) -> None:
    first, second, third = await looker([row(1), odd]).look([question(1), question(2), question(3)])
    assert first is not None
    assert first.row is not None
    assert second is None
    assert third is not None
    assert third.row is None


async def test_look_at_a_row_without_an_id_is_none() -> None:
    with pytest.raises(BadReply):
        await looker([row(1, id=None)]).look([question(1)])


@pytest.mark.parametrize(
    ("evidence", "answer"),
    [
        (Evidence.SIGNALS, {"last": 1, "cancels": 1}),
        (Evidence.SIGNALS, {"id": inv(1), "cancels": 1, "old": 0}),
        (Evidence.SIGNALS, {"id": inv(1), "cancels": "many", "old": 0, "last": 1}),
        (Evidence.PAUSES, {"id": inv(1)}),
        (Evidence.PAUSES, {"pauses": 1, "paused_at": BORN.isoformat()}),
        (Evidence.CHILDREN, {"id": "inv_2", "created_at": BORN.isoformat()}),
        (Evidence.CHILDREN, {"id": "inv_2", "created_at": "soon", "restarted_from": inv(1)}),
        (Evidence.NEW, {}),
    ],
)
async def test_evidence_that_cannot_be_read_is_a_bad_reply(evidence: Evidence, answer: Row) -> None:
    with pytest.raises(BadReply):
        await looker([row(1, status="paused")], [answer]).look([question(1, evidence)])


async def test_look_asks_since_when_they_are_paused_of_those_that_are() -> None:
    class Asked(MemoryEngine):
        questions: ClassVar[list[str]] = []

        async def rows(self, sql: str) -> list[Row]:
            self.questions.append(sql)
            return await super().rows(sql)

    rows = [row(1), row(2, status="paused")]
    engine = Asked(rows, [{"id": inv(2), "paused_at": BORN.isoformat()}])
    look = Looker(cast("EngineClient", engine), scopes=True).look
    first, second, third = await look([question(number, Evidence.PAUSES) for number in (1, 2, 3)])
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.paused_at, second.paused_at, third.paused_at) == (None, BORN, None)
    assert not any(inv(1) in sql or inv(3) in sql for sql in engine.questions if "sys_journal" in sql)
    engine.questions.clear()
    rows.pop()
    await look([question(1, Evidence.PAUSES)])
    assert not any("sys_journal" in sql for sql in engine.questions)


async def test_look_as_planned_reads_no_row_and_only_the_journals_that_there_are() -> None:
    class Rowless(MemoryEngine):
        async def rows(self, sql: str) -> list[Row]:
            assert "sys_journal" in sql
            assert inv(2) not in sql
            return self._evidence

    told = Looker(cast("EngineClient", Rowless([], [{"id": inv(1), "last": 4, "old": 0, "cancels": 1}])), scopes=True)
    planned = [
        Planned(inv(1), BORN, InvocationStatus.RUNNING, "checkout/pay"),
        Planned(inv(2), BORN, InvocationStatus.SCHEDULED, "checkout/pay"),
    ]
    child = Child("inv_3", BORN)
    started, scheduled = await told.as_planned(planned, frozenset({Evidence.SIGNALS}), {inv(2): [child]})
    assert started.row is not None
    assert scheduled.row is not None
    assert (started.row.status, started.signals and started.signals.count, started.children) == (
        InvocationStatus.RUNNING,
        1,
        (),
    )
    assert (scheduled.row.status, scheduled.signals, scheduled.children) == (InvocationStatus.SCHEDULED, None, (child,))


async def test_look_as_planned_tells_the_last_change_of_all_that_is_planned() -> None:
    """One row's own change is not kept; none of them had changed later than that."""
    told = Looker(cast("EngineClient", MemoryEngine([], [])), scopes=True, planned_change=BORN)
    planned = [Planned(inv(number), BORN, InvocationStatus.PAUSED, "checkout/pay") for number in (1, 2)]
    first, second = await told.as_planned(planned, frozenset(), {})
    assert first is second
    assert first.row is not None
    assert (first.row.status, first.row.modified_at) == (InvocationStatus.PAUSED, BORN)


@pytest.mark.parametrize(("slow", "status"), [(0.1, InvocationStatus.RUNNING), (3.0, InvocationStatus.SUSPENDED)])
def test_look_reads_rows_once_more_when_their_evidence_was_slow(slow: float, status: InvocationStatus) -> None:
    """They are what is relied on when it is asked, and may have changed since."""

    class Slow(MemoryEngine):
        looks = 0

        async def rows(self, sql: str) -> list[Row]:
            found = await super().rows(sql)
            if found is self._evidence:
                await asyncio.sleep(slow)
                return found
            self.looks += 1
            return [row(1, status="running" if self.looks == 1 else "suspended")]

    async def play() -> None:
        [seen] = await Looker(cast("EngineClient", Slow([], [])), scopes=True).look([question(1, Evidence.SIGNALS)])
        assert seen is not None
        assert seen.row is not None
        assert seen.row.status is status

    virtual_time.run(play())
