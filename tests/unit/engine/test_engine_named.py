"""Rows by id: a crowd is answered by few queries, each of it with its own rows, and nobody is kept by another's."""

import asyncio
import re
from dataclasses import dataclass, field

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.engine import errors
from invocation_operator.engine.named import MOST, PATIENCE_SECONDS, SMALL, NamedRows
from invocation_operator.engine.rows import Row

COLUMNS = ("id", "status")


def inv(number: int) -> str:
    return f"inv_1{number:033d}"


@dataclass
class Engine:
    """Has a row for every id that is asked for; answers when it is let."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[list[str]] = field(default_factory=list)
    failure: errors.EngineError | None = None
    poison: str | None = None
    """An id with which a query fails."""
    nameless: str | None = None
    """An id whose row comes without it."""

    async def query(self, sql: str) -> list[Row]:
        ids = re.findall(r"'(inv_\w+)'", sql)
        self.asked.append(ids)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if self.poison in ids:
            raise errors.ServerFault("it cannot be read", status=500)
        return [{"status": "running"} if id_ == self.nameless else {"id": id_, "status": "running"} for id_ in ids]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def ask(named: NamedRows, *numbers: int, columns: tuple[str, ...] = COLUMNS) -> "asyncio.Task[list[Row]]":
    ids = [inv(number) for number in numbers]
    return asyncio.create_task(named.rows(ids, columns, scopes_supported=True))


def ids_of(rows: list[Row]) -> set[str]:
    return {row["id"] for row in rows}


async def test_crowd_is_answered_by_one_query_and_each_gets_its_own() -> None:
    engine = Engine()
    named = NamedRows(engine.query)
    crowd = [ask(named, number, number + 1000) for number in range(100)]
    engine.gate.set()
    for number, rows in enumerate(await asyncio.gather(*crowd)):
        assert ids_of(rows) == {inv(number), inv(number + 1000)}
    assert len(engine.asked) == 1


async def test_one_who_asks_while_a_query_is_under_way_is_answered_by_a_later_one() -> None:
    engine = Engine()
    named = NamedRows(engine.query)
    first = ask(named, 1)
    await settle()
    later = [ask(named, 1), ask(named, 2)]
    await settle()
    assert engine.asked == [[inv(1)]], "what is under way may be older than their question"
    engine.gate.set()
    await asyncio.gather(first, *later)
    assert engine.asked == [[inv(1)], [inv(1), inv(2)]]


def test_query_that_takes_long_keeps_the_next_one_only_a_moment() -> None:
    async def play() -> None:
        engine = Engine()
        named = NamedRows(engine.query)
        stuck = ask(named, 1)
        await settle()
        later = ask(named, 2)
        await asyncio.sleep(PATIENCE_SECONDS + 0.01)
        assert engine.asked == [[inv(1)], [inv(2)]]
        engine.gate.set()
        assert ids_of(await later) == {inv(2)}
        assert ids_of(await stuck) == {inv(1)}

    virtual_time.run(play())


async def test_large_question_and_other_columns_are_asked_by_themselves() -> None:
    engine = Engine()
    engine.gate.set()
    named = NamedRows(engine.query)
    large = ask(named, *range(100, 101 + SMALL))
    await asyncio.gather(ask(named, 1), ask(named, 2, columns=("id",)), large)
    assert sorted(map(len, engine.asked)) == [1, 1, SMALL + 1]


async def test_crowd_beyond_what_one_query_takes_is_answered_by_several() -> None:
    engine = Engine()
    engine.gate.set()
    named = NamedRows(engine.query)
    assert len(await asyncio.gather(*(ask(named, number) for number in range(2 * MOST)))) == 2 * MOST
    assert [len(ids) for ids in engine.asked] == [MOST, MOST]


async def test_row_that_the_engine_cannot_tell_fails_its_own_asker_alone() -> None:
    engine = Engine(poison=inv(2))
    engine.gate.set()
    named = NamedRows(engine.query)
    first, second, third = [ask(named, number) for number in (1, 2, 3)]
    assert ids_of(await first) == {inv(1)}
    assert ids_of(await third) == {inv(3)}
    with pytest.raises(errors.ServerFault):
        await second


async def test_row_without_an_id_is_given_to_whom_it_may_belong_to() -> None:
    engine = Engine(nameless=inv(2))
    engine.gate.set()
    named = NamedRows(engine.query)
    first, second = ask(named, 1), ask(named, 2)
    assert ids_of(await first) == {inv(1)}
    assert await second == [{"status": "running"}], "whoever asked for it judges what it is worth"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(errors.Unreachable("away", sent=True), id="away"),
        pytest.param(errors.ServerFault("starting", status=503), id="starting"),
        pytest.param(errors.Throttled("too much"), id="too much"),
        pytest.param(errors.Unauthorized("no", status=401), id="not authorized"),
    ],
)
async def test_engine_that_cannot_be_asked_is_asked_once_for_all(failure: errors.EngineError) -> None:
    engine = Engine(failure=failure)
    engine.gate.set()
    named = NamedRows(engine.query)
    for answer in await asyncio.gather(*(ask(named, number) for number in range(50)), return_exceptions=True):
        assert answer is failure
    assert len(engine.asked) == 1


async def test_one_who_gives_up_does_not_take_the_answer_from_others() -> None:
    engine = Engine()
    named = NamedRows(engine.query)
    impatient, patient = ask(named, 1), ask(named, 2)
    await settle()
    impatient.cancel()
    await settle()
    engine.gate.set()
    assert ids_of(await patient) == {inv(2)}
    assert ids_of(await ask(named, 3)) == {inv(3)}


async def test_malformed_id_is_refused_before_anybody_is_asked() -> None:
    engine = Engine()
    named = NamedRows(engine.query)
    with pytest.raises(ValueError, match="no invocation id"):
        await named.rows(["inv_'"], COLUMNS, scopes_supported=True)
    assert engine.asked == []
