"""The look after a wave: who is ill, who cannot be told, and what is said of them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine import errors
from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.models import Op
from invocation_operator.engine.rows import Row
from invocation_operator.plan.rollout import Health
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.health import BATCH, HealthLooker

BORN = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = datetime(2026, 1, 2, tzinfo=UTC)
WELL: Row = {"status": "running"}
ILL: Row = {"status": "paused", "paused_code": 503, "paused_message": "no provider"}


def inv(number: int) -> str:
    return f"inv_1{number:033d}"


def row(number: int, *, born: datetime = BORN, **fields: Any) -> Row:
    return {"id": inv(number), "created_at": born.isoformat(), **fields}


def child(number: int, of: int, after: float = 1, **fields: Any) -> Row:
    return row(number, born=STARTED + timedelta(seconds=after), restarted_from=inv(of), **fields)


class MemoryEngine:
    """Rows by id; knows nothing of ``unread`` before it was asked whether it has read its log."""

    def __init__(self, rows: Sequence[Row], unread: Sequence[Row] = ()) -> None:
        self._rows, self._unread = list(rows), list(unread)
        self.asked: list[str] = []
        self.probes = 0

    async def rows(self, sql: str) -> list[Row]:
        self.asked.append(sql)
        wanted = "restarted_from" if "where restarted_from" in sql else "id"
        return [found for found in self._rows if f"'{found.get(wanted)}'" in sql]

    async def operate(self, op: Op, id_: str) -> None:
        self.probes += 1
        if len(self.asked):
            self._rows += self._unread
            self._unread = []
        raise errors.NotFound("no such invocation", status=404)


async def look(engine: MemoryEngine, *numbers: int, restarts: bool = False, redact: bool = False) -> Health:
    async def same_engine() -> None:
        return None

    looker = HealthLooker(cast("EngineClient", engine), True, restarts, STARTED, redact, same_engine)
    return await looker.look(Planned(inv(n), BORN, InvocationStatus.PAUSED, f"checkout/{n}/pay") for n in numbers)


@pytest.mark.parametrize(
    ("found", "healthy", "unhealthy", "why"),
    [
        ([row(1, **WELL)], 1, 0, "it goes on"),
        ([row(1, **ILL)], 0, 1, "it is paused again"),
        ([row(1, born=STARTED, **ILL)], 0, 0, "somebody else's under the same id"),
        ([], 0, 0, "it is gone: nobody knows how it ended"),
        ([row(1, status="dreaming")], 0, 0, "a status of a newer engine"),
        ([row(1, status="completed", completion_result="success")], 1, 0, "it has ended well"),
        ([row(1, status="completed", completion_result="failure", completion_failure="[418] x")], 0, 1, "it has not"),
    ],
)
async def test_look_at_a_resumed_one_tells_by_its_own_row(
    found: list[Row], healthy: int, unhealthy: int, why: str
) -> None:
    seen = await look(MemoryEngine(found), 1)
    assert (seen.healthy, seen.unhealthy) == (healthy, unhealthy), why


@pytest.mark.parametrize(
    ("found", "healthy", "unhealthy", "why"),
    [
        ([child(10, 1, **WELL)], 1, 0, "its restart goes on"),
        ([child(10, 1, **ILL)], 0, 1, "its restart is paused"),
        ([row(1, **ILL)], 0, 0, "the original is not what was made"),
        ([child(10, 1, **WELL), child(11, 1, **ILL)], 0, 1, "the ill one speaks for both, and it counts once"),
        ([child(10, 1, after=-60, **ILL)], 0, 0, "an earlier run's restart"),
        ([child(10, 2, **ILL)], 0, 0, "another one's restart"),
        ([], 0, 0, "it left no row"),
    ],
)
async def test_look_at_a_restarted_one_tells_by_what_was_made_from_it(
    found: list[Row], healthy: int, unhealthy: int, why: str
) -> None:
    seen = await look(MemoryEngine(found), 1, restarts=True)
    assert (seen.healthy, seen.unhealthy) == (healthy, unhealthy), why


async def test_look_does_not_believe_that_one_is_gone_before_the_engine_has_read_its_log() -> None:
    engine = MemoryEngine([row(1, **WELL)], unread=[row(2, **ILL)])
    seen = await look(engine, 1, 2)
    assert (seen.healthy, seen.unhealthy) == (1, 1)


async def test_look_asks_whether_the_log_is_read_before_it_believes_anything() -> None:
    engine = MemoryEngine([row(1, **WELL)])
    await look(engine, 1)
    assert engine.probes > 0
    assert len(engine.asked) == 1


async def test_look_says_of_a_few_what_is_wrong() -> None:
    seen = await look(MemoryEngine([row(n, **ILL) for n in range(9)]), *range(9))
    assert seen.unhealthy == 9
    assert [(one.id, one.reason, one.error) for one in seen.sample] == [
        (inv(n), "Paused", "[503] no provider") for n in range(5)
    ]
    assert {one.outcome for one in seen.sample} == {Outcome.EFFECTIVE}


async def test_look_names_the_new_invocation_of_a_restart() -> None:
    (one,) = (await look(MemoryEngine([child(10, 1, **ILL)]), 1, restarts=True)).sample
    assert (one.id, one.new_id, one.target, one.error) == (inv(1), inv(10), "checkout/1/pay", "[503] no provider")


async def test_look_on_an_engine_with_redacted_keys_does_not_ask_what_is_wrong() -> None:
    engine = MemoryEngine([row(1, **ILL)])
    (one,) = (await look(engine, 1, redact=True)).sample
    assert (one.reason, one.error) == ("Paused", None)
    assert not any("message" in sql for sql in engine.asked)


async def test_look_at_many_asks_for_a_batch_at_a_time() -> None:
    engine = MemoryEngine([row(n, **WELL) for n in range(2 * BATCH + 1)])
    assert (await look(engine, *range(2 * BATCH + 1))).healthy == 2 * BATCH + 1
    assert len(engine.asked) == 3
