"""Of a crowd few at a time, each in its line; nobody behind what only waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from e2e.simulation import loop as virtual_time
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.turns import BEGUN_SECONDS, TURN_SECONDS, Turns


def cell(name: str, namespace: str = "shop", engine: Any = "production") -> Cell:
    spec = {"engineRef": {"name": engine}}
    return Cell((namespace, name), {"metadata": {"namespace": namespace, "name": name}, "spec": spec})


class Crowd:
    """Takes turns, and notes who has begun, and when."""

    def __init__(self, at_once: int) -> None:
        self.turns = Turns(at_once)
        self.began: list[tuple[float, str]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def come(self, one: Cell, seconds: float, *, begins_a_run: bool = False) -> "asyncio.Task[None]":
        async def work() -> None:
            async with self.turns.take(one):
                self.began.append((asyncio.get_running_loop().time(), one.key[1]))
                if begins_a_run:
                    self.turns.begun(one.key)
                await asyncio.sleep(seconds)

        self._tasks.append(asyncio.create_task(work()))
        return self._tasks[-1]

    async def end(self) -> None:
        await asyncio.gather(*self._tasks)


def play(story: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(story)


def test_crowd_takes_turns_in_the_order_in_which_it_came() -> None:
    async def story() -> None:
        crowd = Crowd(2)
        for number in range(6):
            crowd.come(cell(f"a{number}"), 1.0)
        await crowd.end()
        assert [(round(at), name) for at, name in crowd.began] == [
            (0, "a0"),
            (0, "a1"),
            (1, "a2"),
            (1, "a3"),
            (2, "a4"),
            (2, "a5"),
        ]

    play(story())


def test_other_namespace_and_other_engine_wait_for_nobody() -> None:
    async def story() -> None:
        crowd = Crowd(1)
        crowd.come(cell("first"), 3.0)
        crowd.come(cell("second"), 0.0)
        crowd.come(cell("elsewhere", namespace="other"), 0.0)
        crowd.come(cell("other-engine", engine="staging"), 0.0)
        crowd.come(cell("odd", engine=["not", "a", "name"]), 0.0)
        await crowd.end()
        assert [name for at, name in crowd.began if at == 0] == ["first", "elsewhere", "other-engine", "odd"]

    play(story())


def test_run_that_goes_on_gives_its_turn_up_soon() -> None:
    async def story() -> None:
        crowd = Crowd(1)
        crowd.come(cell("long"), 3600.0, begins_a_run=True)
        crowd.come(cell("next"), 0.0)
        await crowd.end()
        assert crowd.began == [(0.0, "long"), (BEGUN_SECONDS, "next")]

    play(story())


def test_work_that_hangs_loses_its_turn() -> None:
    async def story() -> None:
        crowd = Crowd(1)
        crowd.come(cell("hangs"), 3600.0)
        crowd.come(cell("next"), 0.0)
        await crowd.end()
        assert crowd.began == [(0.0, "hangs"), (TURN_SECONDS, "next")]

    play(story())


def test_run_that_begins_after_its_turn_was_lost_frees_no_second_one() -> None:
    async def story() -> None:
        crowd, late = Crowd(1), cell("late")

        async def begin_late() -> None:
            async with crowd.turns.take(late):
                await asyncio.sleep(TURN_SECONDS + 1)
                crowd.turns.begun(late.key)
                await asyncio.sleep(3600)

        lingering = asyncio.create_task(begin_late())
        await asyncio.sleep(TURN_SECONDS + 2)
        crowd.come(cell("first"), 4.0)
        crowd.come(cell("second"), 0.0)
        await crowd.end()
        assert [round(at - TURN_SECONDS) for at, _ in crowd.began] == [2, 6]
        lingering.cancel()

    play(story())


def test_one_who_is_cut_off_while_it_waits_leaves_the_line() -> None:
    async def story() -> None:
        crowd = Crowd(1)
        crowd.come(cell("first"), 1.0)
        waiting = crowd.come(cell("impatient"), 1.0)
        crowd.come(cell("last"), 0.0)
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(2)
        assert [name for _, name in crowd.began] == ["first", "last"]
        assert not crowd.turns._lines, "a line that is empty is not kept"

    play(story())
