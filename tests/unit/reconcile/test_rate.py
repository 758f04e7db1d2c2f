"""The rate holds over any second also when turns are given back, and when the engine is slow to answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.engine import errors
from invocation_operator.engine.client import Op
from invocation_operator.engine.models import Answer
from invocation_operator.plan.operation.base import Ask, Item, Seen, Verb
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.flight import Batches, Call, Flight
from tests.unit.reconcile.test_budget import Clock
from tests.unit.reconcile.test_execute import scene


def busiest_second(starts: Sequence[float]) -> int:
    """Return how many of ``starts``, in seconds, are in the second that has most of them."""
    return max(sum(1 for other in starts if start <= other < start + 1.0) for start in starts)


def test_rate_is_not_exceeded_when_turns_before_those_of_others_are_given_back() -> None:
    clock = Clock(100.0)
    shared = Budget(1000, 100, clock)
    suspended, other, third = (shared.lane() for _ in range(3))
    first = [suspended.reserve(1) for _ in range(50)]
    starts = [clock.now + other.reserve(1).delay for _ in range(50)]
    for turn in first:
        suspended.give_back(turn)
    starts += [clock.now + third.reserve(1).delay for _ in range(100)]
    starts.sort()
    worst = busiest_second(starts)
    assert worst <= 111


def test_rate_is_not_exceeded_when_turns_are_given_back_after_it_was_lowered() -> None:
    clock = Clock(100.0)
    shared = Budget(1000, 1000, clock)
    one, two = shared.lane(), shared.lane()
    shared.set_limits(1000, 10)
    starts = [clock.now + one.reserve(1).delay for _ in range(10)]
    shared.set_limits(1000, 1000)
    unused = two.reserve(100)
    shared.set_limits(1000, 10)
    two.give_back(unused)
    starts += [clock.now + one.reserve(1).delay for _ in range(10)]
    starts.sort()
    worst = busiest_second(starts)
    assert worst <= 12


def test_rate_that_a_person_lowers_once_everything_was_asked_holds_for_what_follows() -> None:
    """Nothing is left to be fed then, and what escalates is asked as fast as before."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        spec: dict[str, Any] = {"escalation": {"killAfter": "8s"}}
        made = scene(12, limits={"operationsPerSecond": 50}, now=loop.time, **spec)
        made.engine.effect_after = 1000
        killed: list[float] = []
        made.engine.before_call = lambda _: killed.append(loop.time()) if loop.time() > 5.0 else None
        running = asyncio.create_task(made.executor.execute())
        await asyncio.sleep(2.0)
        assert len(made.engine.calls) == 12
        made.change(limits={"operationsPerSecond": 2})
        await asyncio.sleep(14.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(killed) >= 6
        assert busiest_second(killed) <= 3

    virtual_time.run(play())


@dataclass
class Slow:
    """Answers nothing for a while, and everything at once after that."""

    until: float = 1.5
    refuses: bool = False
    """Whether it takes no batches."""
    sent: list[float] = field(default_factory=list)

    async def post_internal(self, *_: str, body: dict[str, Any]) -> dict[str, Any]:
        now = asyncio.get_running_loop().time()
        ids = body["invocation_ids"]
        if self.refuses:
            await asyncio.sleep(max(0.005, self.until - now))
            raise errors.Rejected("too large", status=413)
        self.sent += [now] * len(ids)
        await asyncio.sleep(max(0.005, self.until - now))
        return {"succeeded": ids, "failed": []}

    async def operate(self, op: Op, id_: str, **_: Any) -> Answer:
        now = asyncio.get_running_loop().time()
        self.sent.append(now)
        await asyncio.sleep(max(0.005, self.until - now))
        return Answer(202)


@pytest.mark.parametrize(("batched", "refuses"), [(True, False), (False, False), (True, True)])
def test_rate_is_not_exceeded_after_the_engine_was_slow(batched: bool, refuses: bool) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        made = scene(1000, now=loop.time)
        sender = made.executor.sender
        front = Slow(0.6 if refuses else 1.5, refuses)
        budget = Budget(1000, 200, loop.time)
        sender.lane = budget.lane()
        sender.client, sender.batches = front, Batches(usable=batched)  # type: ignore[assignment]
        flights = [Flight(Item(n, planned)) for n, planned in enumerate(made.executor.run.targets)]
        tasks = []
        while flights and loop.time() < 4.0:
            many = sender.lane.turns(len(flights)).count
            calls = [Call(f, Ask(Verb.CANCEL), Seen(None)) for f in flights[:many]]
            del flights[:many]
            if calls:
                tasks.append(asyncio.create_task(sender.send(calls, loop.time())))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        worst = busiest_second(front.sent)
        assert len(front.sent) > (100 if refuses else 300)
        assert worst <= 220 + (20 if batched else 1), "a tenth of a second's worth, and what is sent in one request"

    virtual_time.run(play())


@pytest.mark.parametrize("whose", ["engine", "run"])
def test_batches_that_have_their_turn_when_the_rate_is_lowered_keep_to_it_and_block_nobody(whose: str) -> None:
    """One that started as it was would take the time of a minute, also of other runs, and when the rate is raised."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        made = scene(1000, now=loop.time)
        sender, front, budget = made.executor.sender, Slow(0.0), Budget(1000, 1000, loop.time)
        sender.lane = budget.lane()
        sender.client, sender.batches = front, Batches(usable=True)  # type: ignore[assignment]
        flights = [Flight(Item(n, planned)) for n, planned in enumerate(made.executor.run.targets)]
        calls = [Call(f, Ask(Verb.CANCEL), Seen(None)) for f in flights]
        sending = asyncio.create_task(sender.send(calls, loop.time()))
        await asyncio.sleep(0.25)
        lowered = loop.time()
        if whose == "engine":
            budget.set_limits(1000, 2)
        else:
            sender.lane.set_limits(None, 2)
        await sending
        assert 1 <= sum(1 for at in front.sent if at > lowered) <= 5, "of two seconds, and one"
        budget.set_limits(1000, 1000)
        sender.lane.set_limits(None, None)
        assert sender.lane.start(1) <= 0.5

    virtual_time.run(play())
