"""Many runs that share an engine at a low rate: each of them goes on, and nothing of the rate is lost."""

import asyncio
from collections.abc import Sequence

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.line import AWAITED_SECONDS, Line
from tests.unit.reconcile.test_execute import Scene, scene

SECONDS = 60.0


def calls_within(seconds: float, rate: int, sizes: Sequence[int]) -> list[int]:
    """Return how many calls each of the runs has made after that time."""

    async def play() -> list[int]:
        loop = asyncio.get_running_loop()
        shared = Budget(1000, rate, loop.time)
        scenes: list[Scene] = [scene(size, now=loop.time) for size in sizes]
        for one in scenes:
            one.executor.lane = one.executor.sender.lane = shared.lane()
        tasks = [asyncio.create_task(one.executor.execute()) for one in scenes]
        await asyncio.sleep(seconds)
        calls = [len(one.engine.calls) for one in scenes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return calls

    return virtual_time.run(play())


@pytest.mark.parametrize(("runs", "rate"), [(1, 1), (2, 1), (8, 1), (20, 5), (42, 40), (3, 10)])
def test_runs_that_share_a_rate_have_equal_parts_of_it_and_use_it_up(runs: int, rate: int) -> None:
    calls = calls_within(SECONDS, rate, [1000] * runs)
    assert max(calls) - min(calls) <= 1 + rate // runs, calls
    assert 0.98 * rate * SECONDS <= sum(calls) <= rate * (SECONDS + 1), calls


def test_small_runs_beside_huge_ones_wait_for_one_turn_of_each() -> None:
    calls = calls_within(22.0, 1, [1000] * 8 + [1] * 12)
    assert calls[8:] == [1] * 12, calls


def test_line_keeps_the_order_in_which_they_were_refused() -> None:
    line = Line()
    for name in "abc":
        line.stand(name, 10.0)
    line.stand("a", 12.0)
    assert [line.ahead(name, 10.0) for name in "abcd"] == [0, 1, 2, 3]
    line.leave("b")
    line.stand("b", 12.0)
    assert [line.ahead(name, 10.0) for name in "acb"] == [0, 1, 2]


def test_line_waits_for_nobody_who_is_late_and_keeps_the_place() -> None:
    line = Line()
    line.stand("late", 10.0)
    line.stand("next", 20.0)
    assert line.ahead("next", 9.9 + AWAITED_SECONDS) == 1
    assert line.ahead("next", 10.1 + AWAITED_SECONDS) == 0
    assert line.ahead("late", 10.1 + AWAITED_SECONDS) == 0
    line.stand("late", 20.0)
    assert line.ahead("next", 20.0) == 1
