"""The executor and an engine that answers looks and fails calls, on a virtual clock: how often it is asked."""

import asyncio
import itertools
from collections.abc import Callable, Iterator

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.engine import errors
from tests.unit.reconcile.test_execute import scene

OUTAGE_SECONDS = 120.0
FAILURES: dict[str, Callable[[], errors.EngineError]] = {
    "429 without a word of when": lambda: errors.Throttled("slow down"),
    "429 that asks for 20 s": lambda: errors.Throttled("slow down", retry_after=20.0),
    "503 before the engine": lambda: errors.ServerFault("later", status=503),
    "connection refused": lambda: errors.Unreachable("connection refused", sent=False),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_run_whose_calls_fail_for_long_asks_less_and_less_and_then_all(failure: str) -> None:
    asked: list[float] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        # The memory engine's virtual 503 took effect: those are judged by what is seen, and not asked again.
        made = scene(40, now=loop.time)

        def answers() -> Iterator[BaseException | None]:
            while True:
                asked.append(loop.time())
                yield FAILURES[failure]() if loop.time() < OUTAGE_SECONDS else None

        made.engine.answer = answers()
        assert await made.executor.execute() is None
        assert made.ledger.count(Outcome.EFFECTIVE) == 40

    virtual_time.run(play())
    early = sum(1 for at in asked if at < OUTAGE_SECONDS / 2)
    late = sum(1 for at in asked if OUTAGE_SECONDS / 2 <= at < OUTAGE_SECONDS)
    # Whatever was under way when the first call failed, and then a pause that doubles up to 15 s.
    assert late <= 9
    assert early <= 40 + 12
    assert len(asked) <= early + late + 40


def test_run_goes_on_with_one_call_when_a_single_answer_was_lost() -> None:
    async def play() -> None:
        made = scene(30, limits={"maxInFlight": 3}, now=asyncio.get_running_loop().time)
        lost = errors.Unreachable("reset", sent=True)
        made.engine.answer = itertools.chain([None, lost], itertools.repeat(None))
        assert await made.executor.execute() is None
        assert made.ledger.count(Outcome.EFFECTIVE) == 30
        assert len(made.engine.calls) == 30

    virtual_time.run(play())
