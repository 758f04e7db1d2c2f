"""The executor against an engine in memory: limits, stops, lost answers."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.engine import errors
from invocation_operator.engine.client import Op
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation import operation_for
from invocation_operator.plan.operation.base import Seen
from invocation_operator.plan.report import Findings
from invocation_operator.plan.rollout import Waves
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.execute import Executor
from invocation_operator.reconcile.look import Question
from invocation_operator.reconcile.run import Run
from invocation_operator.reconcile.runclock import RunClock
from invocation_operator.reconcile.soak import Looks
from invocation_operator.target.row import InvocationRow

S = InvocationStatus
BORN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Answer:
    new_id: str | None = None


@dataclass
class MemoryEngine:
    """Rows by id. A cancel ends an invocation after ``effect_after`` looks; a pause does nothing to a suspended one."""

    statuses: dict[str, S]
    effect_after: int = 2
    calls: list[tuple[str, str]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    before_call: Callable[[str], None] = lambda _: None
    answer: Iterator[BaseException | None] = field(default_factory=lambda: itertools.repeat(None))
    _asked: dict[str, int] = field(default_factory=dict)

    async def operate(self, op: Op, id_: str, **_: Any) -> Answer:
        if id_ not in self.statuses:
            raise errors.NotFound("no such invocation", status=404)
        self.before_call(id_)
        await asyncio.sleep(0)
        error = next(self.answer)
        if error is None or getattr(error, "may_have_acted", False):
            self.calls.append((op.value, id_))
            if op is not Op.PAUSE:
                self._asked.setdefault(id_, 0)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if error is not None:
            raise error
        return Answer()

    async def look(self, questions: Sequence[Question]) -> list[Seen]:
        await asyncio.sleep(0)
        return [self._see(q.planned.id) for q in questions]

    def _see(self, id_: str) -> Seen:
        if id_ in self._asked:
            self._asked[id_] += 1
            if self._asked[id_] == self.effect_after:
                self.statuses[id_] = S.COMPLETED
                self.in_flight -= 1
        status = self.statuses[id_]
        outcome = CompletionOutcome.CANCELLED if status is S.COMPLETED else None
        return Seen(InvocationRow(id_, BORN, status, modified_at=BORN, outcome=outcome))


@dataclass
class Kept:
    """Counts what is kept, and can be made to wait."""

    commits: int = 0

    async def commit(self) -> None:
        await asyncio.sleep(0)
        self.commits += 1


@dataclass
class Scene:
    """One run with everything around it."""

    engine: MemoryEngine
    executor: Executor
    control: Control
    cell: Cell
    ledger: Ledger
    kept: Kept

    async def execute(self) -> Stop | None:
        async with asyncio.timeout(30):
            return await self.executor.execute()

    def change(self, **spec: Any) -> None:
        known = self.cell.obj
        assert known is not None
        version = str(int(known["metadata"]["resourceVersion"]) + 1)
        self.cell.put({"metadata": {**known["metadata"], "resourceVersion": version}, "spec": spec})


def scene(
    count: int,
    action: str = "Cancel",
    *,
    status: S = S.SUSPENDED,
    recovered: bool = False,
    max_failures: int | None = None,
    deadline: float | None = None,
    limits: dict[str, int] | None = None,
    now: Callable[[], float] = time.monotonic,
    waves: Waves | None = None,
    looks: Looks | None = None,
    **spec: Any,
) -> Scene:
    ids = [f"inv_{n}" for n in range(count)]
    parsed = ActionSpec.model_validate({"action": action, "target": {"ids": ids, "statuses": [status.value]}, **spec})
    engine = MemoryEngine(dict.fromkeys(ids, status))
    ledger = Ledger(count)
    clock = RunClock(BORN, BORN, now)
    cell = Cell(("ns", "a"), {"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {"limits": limits or {}}})
    control = Control(
        cell=cell,
        uid="u",
        knobs=lambda: cell.obj["spec"] if cell.obj else {},
        engine_suspended=lambda: False,
        engine_replaced=lambda: False,
        holds=lambda: True,
        shutting_down=lambda: False,
        deadline=deadline,
        now=clock.now,
    )
    run = Run(
        operation=operation_for(parsed, settle_lost_after=0.3),
        targets=[Planned(id_, BORN, status, "Svc/h") for id_ in ids],
        ledger=ledger,
        findings=Findings(),
        recovered=recovered,
        max_failures=max_failures,
        waves=waves,
    )
    kept = Kept()

    async def same_engine() -> None:
        return None

    executor = Executor(
        run=run,
        client=engine,  # type: ignore[arg-type]
        looker=engine,  # type: ignore[arg-type]
        intent=kept,
        lane=Budget(1000, 100_000, now).lane(),
        control=control,
        clock=clock,
        confirm_engine=same_engine,
        looks=looks,
    )
    return Scene(engine, executor, control, cell, ledger, kept)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody rings when a ledger changes
            await asyncio.sleep(0.01)


async def test_run_settles_each_target_with_one_call() -> None:
    made = scene(250)
    assert await made.execute() is None
    assert made.ledger.count(Outcome.EFFECTIVE) == 250
    assert sorted(made.engine.calls) == sorted(("cancel", f"inv_{n}") for n in range(250))


async def test_run_whose_targets_are_all_settled_ends_at_once() -> None:
    made = scene(1)
    made.ledger.settle(0, Outcome.EFFECTIVE)
    assert await made.execute() is None
    assert made.engine.calls == []


@pytest.mark.parametrize("most", [1, 2, 7])
async def test_run_never_has_more_in_flight_than_its_limit(most: int) -> None:
    made = scene(40, limits={"maxInFlight": most})
    assert await made.execute() is None
    assert made.engine.most_in_flight == most


@pytest.mark.parametrize("max_failures", [0, 1, 3])
async def test_run_with_too_many_failures_stops_at_once(max_failures: int) -> None:
    """Whatever is woken at the same moment: the feeder that waits for room must hear that it is over."""
    made = scene(
        12,
        "Pause",
        max_failures=max_failures,
        limits={"maxInFlight": 1},
        verification={"timeout": "20ms"},
    )
    assert await made.execute() is Stop.TOO_MANY_FAILURES
    assert made.ledger.count(Outcome.NO_OP) == max_failures + 1
    assert made.ledger.untouched == 12 - max_failures - 1
    assert made.ledger.intended() == []


async def test_run_whose_object_is_deleted_leaves_the_rest_untouched() -> None:
    made = scene(30, limits={"maxInFlight": 1})
    made.engine.before_call = lambda id_: made.cell.put(None) if id_ == "inv_5" else None
    assert await made.execute() is Stop.DELETED
    assert len(made.engine.calls) == 6
    assert made.ledger.settled == 6
    assert made.ledger.untouched == 24


async def test_run_past_its_deadline_leaves_the_rest_untouched() -> None:
    made = scene(50, deadline=0.15, limits={"maxInFlight": 1})
    assert await made.execute() is Stop.TIMED_OUT
    assert made.ledger.settled + made.ledger.untouched == 50
    assert made.ledger.settled == len(made.engine.calls) < 50


async def test_run_that_is_suspended_goes_on_when_it_is_lifted() -> None:
    made = scene(20, limits={"maxInFlight": 1})
    made.engine.before_call = lambda id_: made.change(suspend=True) if id_ == "inv_3" else None
    running = asyncio.create_task(made.execute())
    await until(lambda: made.ledger.settled == 4)
    await asyncio.sleep(0.6)
    assert len(made.engine.calls) == 4
    assert not running.done()
    made.change(suspend=False)
    assert await running is None
    assert len(made.engine.calls) == 20


async def test_run_that_meets_an_outage_asks_again_when_it_is_over() -> None:
    made = scene(5)
    down = errors.Unreachable("connection refused", sent=False)
    made.engine.answer = itertools.chain([down, down], itertools.repeat(None))
    assert await made.execute() is None
    assert made.ledger.count(Outcome.EFFECTIVE) == 5
    assert len(made.engine.calls) == 5


async def test_run_that_is_recovered_asks_what_was_never_asked_and_looks_at_the_rest() -> None:
    made = scene(4, recovered=True)
    made.ledger.settle(0, Outcome.EFFECTIVE)
    made.ledger.intend(1, 2)
    made.engine.statuses["inv_1"] = S.COMPLETED
    assert await made.execute() is None
    assert sorted(made.engine.calls) == [("cancel", "inv_2"), ("cancel", "inv_3")]
    assert made.ledger.settled == 4


async def test_run_keeps_its_intent_before_each_batch_is_asked() -> None:
    made = scene(30)
    kept_at_call = []
    made.engine.before_call = lambda _: kept_at_call.append(made.kept.commits)
    assert await made.execute() is None
    assert min(kept_at_call) >= 1


@pytest.mark.parametrize("at_call", [3, 4])
async def test_run_that_is_suspended_while_its_last_calls_wait_for_their_turn_goes_on(at_call: int) -> None:
    """All are fed by then, and those that were not asked yet become untouched again: somebody must feed them anew."""
    made = scene(5, limits={"operationsPerSecond": 5})
    made.engine.before_call = lambda _: (
        made.change(suspend=True, limits={"operationsPerSecond": 5}) if len(made.engine.calls) == at_call - 1 else None
    )
    running = asyncio.create_task(made.execute())
    await until(lambda: made.ledger.settled == at_call and not made.ledger.intended())
    made.engine.before_call = lambda _: None
    made.change(suspend=False)
    assert await running is None
    assert len(made.engine.calls) == 5


@pytest.mark.parametrize("passed", [0.5, 1.0, 1.5, 2.0])
def test_run_that_is_deleted_while_a_call_gives_up_its_turn_does_not_count_it_as_asked(passed: float) -> None:
    """The call looks at the stop at the very moment at which the run winds down."""

    async def deleted() -> None:
        made = scene(6, limits={"operationsPerSecond": 2, "maxInFlight": 1}, now=asyncio.get_running_loop().time)
        running = asyncio.create_task(made.execute())
        await asyncio.sleep(passed)
        made.cell.put(None)
        assert await running is Stop.DELETED
        assert made.ledger.settled == len(made.engine.calls)

    virtual_time.run(deleted())
