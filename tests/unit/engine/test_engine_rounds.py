"""Rounds: a crowd is answered by few requests, and nobody by one that was sent before they asked."""

import asyncio
from dataclasses import dataclass, field

import pytest

from invocation_operator.engine.rounds import Rounds


@dataclass
class Clock:
    """Answers with the number of the request, when it is let."""

    sent: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: int = 0
    """The request that fails."""

    async def ask(self) -> int:
        self.sent += 1
        mine = self.sent
        await self.gate.wait()
        if mine == self.fails:
            raise ConnectionError("away")
        return mine


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_rounds_answer_a_crowd_by_one_request() -> None:
    clock = Clock()
    rounds = Rounds(clock.ask)
    crowd = [asyncio.create_task(rounds()) for _ in range(100)]
    await settle()
    clock.gate.set()
    assert set(await asyncio.gather(*crowd)) == {1}


async def test_rounds_answer_who_comes_later_by_a_later_request() -> None:
    clock = Clock()
    rounds = Rounds(clock.ask)
    first = asyncio.create_task(rounds())
    await settle()
    assert clock.sent == 1
    later = [asyncio.create_task(rounds()) for _ in range(3)]
    await settle()
    assert clock.sent == 1, "one request is under way at a time"
    clock.gate.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2, 2, 2]
    assert await rounds() == 3


async def test_rounds_after_a_failure_ask_again() -> None:
    clock = Clock(fails=1)
    rounds = Rounds(clock.ask)
    crowd = [asyncio.create_task(rounds()) for _ in range(2)]
    await settle()
    later = asyncio.create_task(rounds())
    clock.gate.set()
    for one in crowd:
        with pytest.raises(ConnectionError):
            await one
    assert await later == 2


async def test_rounds_outlive_one_who_gives_up() -> None:
    clock = Clock()
    rounds = Rounds(clock.ask)
    impatient, patient = asyncio.create_task(rounds()), asyncio.create_task(rounds())
    await settle()
    impatient.cancel()
    await settle()
    clock.gate.set()
    assert await patient == 1
