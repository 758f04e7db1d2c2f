"""Children of what is about to be restarted: one question for many, believed for a moment only."""

import asyncio
from typing import Any, cast

from invocation_operator.engine.client import EngineClient
from invocation_operator.engine.rows import Row
from invocation_operator.reconcile.flight import CURRENT_SECONDS
from invocation_operator.reconcile.foresight import MOST, Foresight

IDS = [f"inv_1{number:033d}" for number in range(30)]


class Engine:
    """Restarts that there are, and the questions that were asked."""

    def __init__(self) -> None:
        self.restarted = {IDS[1]}
        self.questions: list[str] = []

    async def rows(self, sql: str, **_: Any) -> list[Row]:
        self.questions.append(sql)
        await asyncio.sleep(0)
        return [
            {"id": f"child_of_{id_}", "created_at": "2026-01-01T00:00:00Z", "restarted_from": id_}
            for id_ in sorted(self.restarted)
            if f"'{id_}'" in sql
        ]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def foresight(engine: Engine, clock: Clock, upcoming: list[str] = IDS) -> Foresight:
    return Foresight(cast("EngineClient", engine), lambda: upcoming, clock)


async def test_foresight_asks_once_for_those_whose_turn_is_next() -> None:
    engine = Engine()
    known = foresight(engine, Clock())
    first, second = await asyncio.gather(known.children(IDS[:10]), known.children(IDS[10:20]))
    assert [*first] == [IDS[1]]
    assert first[IDS[1]][0].id == f"child_of_{IDS[1]}"
    assert not second
    assert len(engine.questions) == 1


async def test_foresight_is_asked_anew_when_it_is_old_and_sees_what_came_meanwhile() -> None:
    engine, clock = Engine(), Clock()
    known = foresight(engine, clock)
    assert not await known.children([IDS[2]])
    engine.restarted.add(IDS[2])
    clock.now = CURRENT_SECONDS * 0.9
    assert not await known.children([IDS[2]])
    clock.now = CURRENT_SECONDS
    assert [*await known.children([IDS[2]])] == [IDS[2]]
    assert len(engine.questions) == 2


async def test_foresight_counts_from_when_it_was_asked_and_not_from_the_answer() -> None:
    engine, clock = Engine(), Clock()

    class Slow(Engine):
        async def rows(self, sql: str, **more: Any) -> list[Row]:
            clock.now += CURRENT_SECONDS
            return await engine.rows(sql, **more)

    known = foresight(Slow(), clock)
    await known.children([IDS[0]])
    await known.children([IDS[0]])
    assert len(engine.questions) == 2


async def test_foresight_answers_for_whom_it_did_not_expect() -> None:
    engine = Engine()
    known = foresight(engine, Clock(), upcoming=IDS[5:6])
    assert not await known.children([IDS[5]])
    assert [*await known.children([IDS[1]])] == [IDS[1]]
    assert len(engine.questions) == 2


async def test_foresight_names_no_more_than_its_most_in_one_question() -> None:
    engine = Engine()
    many = [f"inv_1{number:033d}" for number in range(MOST + 500)]
    await foresight(engine, Clock(), upcoming=many).children(many[:1])
    assert engine.questions[0].count("inv_1") == MOST
