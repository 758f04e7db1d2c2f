"""Many runs that share an engine at a low rate: each of them goes on, and nothing of the rate is lost."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.plan.operation.base import Ask, Item, Verb
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.dispatch import Dispatcher
from invocation_operator.reconcile.flight import Batches, Flight
from invocation_operator.reconcile.line import AWAITED_SECONDS, Line
from tests.unit.reconcile.test_execute import S, Scene, scene

SECONDS = 60.0


@dataclass
class Shared:
    """An engine's limits, and the runs that share them."""

    runs: int
    rate: int
    most: int = 1000
    effect_after: int = 2
    """See ``MemoryEngine``."""
    spec: dict[str, Any] = field(default_factory=dict)


def calls_within(seconds: float, rate: int, sizes: Sequence[int]) -> list[int]:
    """Return how many calls each of the runs has made after that time."""

    async def play() -> list[int]:
        loop = asyncio.get_running_loop()
        shared = Budget(1000, rate, loop.time)
        scenes: list[Scene] = [scene(size, now=loop.time, budget=shared) for size in sizes]
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


def calls_after(change: Callable[[Budget, list[Scene]], None], seconds: float, shared: Shared) -> list[int]:
    """Return how many calls each of some runs makes within that time after a change, which comes after ten seconds."""

    async def play() -> list[int]:
        loop = asyncio.get_running_loop()
        budget = Budget(shared.most, shared.rate, loop.time)
        scenes = [scene(1000, now=loop.time, budget=budget, **shared.spec) for _ in range(shared.runs)]
        for one in scenes:
            one.engine.effect_after = shared.effect_after
        tasks = [asyncio.create_task(one.executor.execute()) for one in scenes]
        await asyncio.sleep(10.0)
        before = [len(one.engine.calls) for one in scenes]
        change(budget, scenes)
        await asyncio.sleep(seconds)
        calls = [len(one.engine.calls) for one in scenes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [now - then for now, then in zip(calls, before, strict=True)]

    return virtual_time.run(play())


def suspend_all_but_one(_: Budget, scenes: list[Scene]) -> None:
    for one in scenes[1:]:
        one.change(suspend=True)


def delete_all_but_one(_: Budget, scenes: list[Scene]) -> None:
    for one in scenes[1:]:
        one.cell.put(None)


@pytest.mark.parametrize("change", [suspend_all_but_one, delete_all_but_one])
def test_run_that_waits_behind_others_that_leave_the_line_is_called_at_once(
    change: Callable[[Budget, list[Scene]], None],
) -> None:
    """It was told to come back when they would have had their turns."""
    assert sum(calls_after(change, 10.0, Shared(runs=30, rate=1))) >= 9


def test_runs_that_wait_for_a_turn_at_a_low_rate_go_on_at_once_when_it_is_raised() -> None:
    calls = calls_after(lambda budget, _: budget.set_limits(1000, 10), 8.0, Shared(runs=40, rate=1))
    assert sum(calls) >= 65, "what was let wait at the low rate has the next second"


def test_run_that_is_suspended_leaves_its_share_of_the_engine_to_others() -> None:
    calls = calls_after(suspend_all_but_one, 10.0, Shared(runs=10, rate=20, most=200, effect_after=14))
    assert calls[0] >= 150


def test_run_that_is_suspended_takes_no_turns_for_what_it_may_not_ask() -> None:
    """Such as the kills that follow when what it cancelled does not end."""
    escalating = {"escalation": {"killAfter": "2s"}}
    shared = Shared(runs=10, rate=20, effect_after=10_000, spec=escalating)
    assert calls_after(suspend_all_but_one, 20.0, shared)[0] >= 360


@pytest.mark.parametrize(("half_done", "awaited"), [(True, 1), (False, 0)])
async def test_run_that_is_stopped_keeps_its_place_in_line_for_what_must_not_be_left_half_done(
    half_done: bool, awaited: int
) -> None:
    """And only for that: the pump sees to the stop several times a second."""
    budget = Budget(1000, 1, asyncio.get_running_loop().time)
    stopped, other = (
        scene(1, "Resume", status=S.BACKING_OFF, budget=budget, resume={"deployment": "dp_1"}),
        budget.lane(),
    )
    item = Item(0, stopped.executor.run.targets[0], asks=1, last=Ask(Verb.PAUSE))
    item.done += [Verb.PAUSE] if half_done else []
    stopped.executor.lane.insist(1)
    stopped.executor._flights.launch([Flight(item)])
    other.reserve(other.turns(1).count)
    assert stopped.executor.lane.turns(1).count == 0
    stopped.executor._drop_unasked()
    assert budget._line.ahead(other, 0.0) == awaited


@pytest.mark.parametrize(("refused", "seen_to"), [(True, 2), (False, 0)])
async def test_only_those_that_were_refused_a_turn_are_called_back_before_they_are_due(
    refused: bool, seen_to: int
) -> None:
    """What waits for something else, such as another run's claim, would be looked at without a pause."""
    handled: list[Flight] = []

    async def handle(flights: Sequence[Flight]) -> None:
        handled.extend(flights)

    dispatcher = Dispatcher(handle, Batches(usable=False), starved=lambda: False, free=lambda: 2)
    planned = scene(1).executor.run.targets[0]
    dispatcher.put([Flight(Item(n, planned), due=30.0 + n, refused=refused) for n in range(3)])
    dispatcher.start(10.0)
    await asyncio.gather(*dispatcher.tasks)
    assert len(handled) == seen_to


def test_what_is_no_run_takes_turns_with_the_runs() -> None:
    """Values of services are set one by one, of many policies at once: a queue of them would keep all runs waiting."""

    async def play() -> tuple[int, int]:
        shared = Budget(1000, 2, asyncio.get_running_loop().time)
        run = scene(1000, budget=shared, now=asyncio.get_running_loop().time)
        changed = 0

        async def change() -> None:
            nonlocal changed
            for _ in range(100):
                lane = shared.lane()
                try:
                    await lane.take_turn()
                    changed += 1
                finally:
                    lane.close()

        tasks = [asyncio.create_task(run.executor.execute()), *(asyncio.create_task(change()) for _ in range(7))]
        await asyncio.sleep(40.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return len(run.engine.calls), changed

    calls, changed = virtual_time.run(play())
    assert calls >= 8
    assert 70 <= calls + changed <= 84
