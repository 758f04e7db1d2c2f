"""Sending in batches when the batch endpoint does not do it: one by one, each with its own date, a stop in between."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.engine import errors
from invocation_operator.engine.client import Op
from invocation_operator.engine.models import Answer
from invocation_operator.plan.operation.base import Ask, Item, Seen, Verb
from invocation_operator.reconcile.control import Control
from invocation_operator.reconcile.flight import BATCHES_AT_ONCE, Batches, Call, Flight
from invocation_operator.reconcile.send import Sender
from tests.unit.reconcile.test_execute import scene


@dataclass
class Front:
    """Takes a moment for each single call; answers batches with ``batch``, single calls with ``single`` in turn."""

    batch: errors.EngineError
    single: Iterator[errors.EngineError | None] = field(default_factory=lambda: itertools.repeat(None))
    takes: float = 0.3
    batches: int = 0
    asked: list[str] = field(default_factory=list)

    async def post_internal(self, *_: str, body: dict[str, Any]) -> dict[str, Any]:
        self.batches += 1
        raise self.batch

    async def operate(self, op: Op, id_: str, **_: Any) -> Answer:
        self.asked.append(id_)
        await asyncio.sleep(self.takes)
        if (error := next(self.single)) is not None:
            raise error
        return Answer(202)


@dataclass
class Batch:
    """Decided cancels and who sends them."""

    sender: Sender
    control: Control
    calls: list[Call]


def decided(front: Front, count: int = 5) -> Batch:
    made = scene(count, now=asyncio.get_running_loop().time)
    sender = made.executor.sender
    sender.client, sender.batches = front, Batches(usable=True)  # type: ignore[assignment]
    flights = [Flight(Item(n, planned)) for n, planned in enumerate(made.executor.run.targets)]
    return Batch(sender, made.control, [Call(flight, Ask(Verb.CANCEL), Seen(None)) for flight in flights])


@pytest.mark.parametrize(
    ("refusal", "again"),
    [
        pytest.param(errors.NotFound("no such endpoint", status=404), False, id="the endpoint is gone"),
        pytest.param(errors.Unauthorized("not for you", status=403), False, id="a front keeps it for itself"),
        pytest.param(errors.Rejected("too large", status=413), True, id="this batch is refused"),
    ],
)
def test_batch_that_is_refused_is_asked_one_by_one(refusal: errors.EngineError, again: bool) -> None:
    async def play() -> None:
        front = Front(refusal)
        made = decided(front)
        await made.sender.send(made.calls, 0.0)
        assert front.asked == [call.flight.item.planned.id for call in made.calls]
        assert made.sender.batches.usable is again
        assert [call.flight.item.asks for call in made.calls] == [1] * 5

    virtual_time.run(play())


def test_batch_that_is_refused_dates_each_call_by_its_own_sending() -> None:
    """A lost answer is judged when its call can no longer arrive: counted from the batch, that were too early."""

    async def play() -> None:
        lost = errors.Unreachable("reset", sent=True)
        front = Front(errors.Unprocessable("one is malformed", status=422), iter([None, None, None, None, lost]))
        made = decided(front)
        await made.sender.send(made.calls, 0.0)
        dates = [call.flight.item.asked_at for call in made.calls]
        assert dates == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.2], abs=0.001)
        assert [call.flight.item.lost for call in made.calls] == [False] * 4 + [True]

    virtual_time.run(play())


@pytest.mark.parametrize("how", ["deleted", "hold lost", "outage"])
def test_batch_that_is_refused_is_stopped_between_two_calls(how: str) -> None:
    async def play() -> None:
        down = errors.Unreachable("connection refused", sent=False)
        front = Front(errors.NotFound("no such endpoint", status=404))
        made = decided(front)
        if how == "outage":
            front.single = iter([None, down])
        sending = asyncio.create_task(made.sender.send(made.calls, 0.0))
        await asyncio.sleep(0.45)
        if how == "deleted":
            made.control.cell.put(None)
        elif how == "hold lost":
            made.control.holds = lambda: False
        await sending
        assert len(front.asked) == 2
        asks = [call.flight.item.asks for call in made.calls]
        assert asks == ([1, 0, 0, 0, 0] if how == "outage" else [1, 1, 0, 0, 0])
        assert not any(call.flight.item.lost for call in made.calls)

    virtual_time.run(play())


def test_batch_without_the_right_token_is_not_asked_and_tried_again_as_a_batch() -> None:
    async def play() -> None:
        front = Front(errors.Unauthorized("who are you", status=401))
        made = decided(front)
        await made.sender.send(made.calls, 0.0)
        assert front.asked == []
        assert made.sender.batches.usable
        assert isinstance(made.sender.outage.error, errors.Unauthorized)
        assert [call.flight.item.asks for call in made.calls] == [0] * 5

    virtual_time.run(play())


@pytest.mark.parametrize(
    ("seconds", "asked"), [pytest.param(1.0, 5, id="for a moment"), pytest.param(30.0, 0, id="until rows are old")]
)
def test_calls_held_up_by_others_are_sent_only_while_what_was_seen_is_current(seconds: float, asked: int) -> None:
    """Three batches of other runs are with the engine, which is slow to answer: what waits is looked at once more."""

    async def play() -> None:
        made = decided(front := Front(errors.Rejected("too large", status=413), takes=0.0))
        for _ in range(BATCHES_AT_ONCE):
            await made.sender.batches.gate.acquire()
        asyncio.get_running_loop().call_later(seconds, made.sender.batches.gate.release)
        await made.sender.send(made.calls, 0.0)
        assert len(front.asked) == asked
        assert [call.flight.item.asks for call in made.calls] == [int(asked > 0)] * 5

    virtual_time.run(play())


def test_batch_that_is_refused_is_asked_one_by_one_only_while_what_was_seen_is_current() -> None:
    async def play() -> None:
        made = decided(front := Front(errors.Rejected("too large", status=413), takes=1.0))
        await made.sender.send(made.calls, 0.0)
        assert len(front.asked) == 2
        assert [call.flight.item.asks for call in made.calls] == [1, 1, 0, 0, 0]

    virtual_time.run(play())
