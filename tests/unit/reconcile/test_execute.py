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
from invocation_operator.plan.operation.base import Child, Seen, Signals
from invocation_operator.plan.report import Findings
from invocation_operator.plan.rollout import Waves
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.execute import Executor
from invocation_operator.reconcile.look import Question
from invocation_operator.reconcile.run import Run
from invocation_operator.reconcile.runclock import Reading, RunClock
from invocation_operator.reconcile.soak import Looks
from invocation_operator.target.row import InvocationRow
from tests.unit.reconcile.calm import calm

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
    signals: Signals | None = None
    """Cancel signals in every journal."""
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

    async def children(self, ids: Sequence[str]) -> dict[str, list[Child]]:
        return {}

    async def look(self, questions: Sequence[Question], foreseen: object = None) -> list[Seen]:
        await asyncio.sleep(0)
        return [self._see(q.planned.id) for q in questions]

    async def as_planned(self, planned: Sequence[Planned], *_: Any) -> list[Seen]:
        await asyncio.sleep(0)
        return [self._see(one.id) for one in planned]

    def _see(self, id_: str) -> Seen:
        if id_ in self._asked:
            self._asked[id_] += 1
            if self._asked[id_] == self.effect_after:
                self.statuses[id_] = S.COMPLETED
                self.in_flight -= 1
        status = self.statuses[id_]
        outcome = CompletionOutcome.CANCELLED if status is S.COMPLETED else None
        return Seen(InvocationRow(id_, BORN, status, modified_at=BORN, outcome=outcome), signals=self.signals)


@dataclass
class Kept:
    """Counts what is kept, and can be made to wait."""

    commits: int = 0
    first_batch: int = 0

    def covers(self, last: int) -> bool:
        return last <= self.first_batch

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
    settle_lost_after: float = 0.3,
    budget: Budget | None = None,
    **spec: Any,
) -> Scene:
    ids = [f"inv_{n}" for n in range(count)]
    parsed = ActionSpec.model_validate({"action": action, "target": {"ids": ids, "statuses": [status.value]}, **spec})
    engine = MemoryEngine(dict.fromkeys(ids, status))
    ledger = Ledger(count)
    clock = RunClock(BORN, Reading(BORN, now(), now()), now)
    cell = Cell(("ns", "a"), {"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {"limits": limits or {}}})
    control = calm(cell, knobs=lambda: cell.obj["spec"] if cell.obj else {}, deadline=deadline, now=clock.now)
    run = Run(
        operation=operation_for(parsed, settle_lost_after=settle_lost_after),
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
        lane=(budget or Budget(1000, 100_000, now)).lane(),
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


async def test_run_taken_over_that_had_failed_too_often_asks_nothing_more() -> None:
    """Its holder had stopped asking, and went away while what it had asked was still looked for."""
    made = scene(6, recovered=True, max_failures=1)
    made.ledger.settle(0, Outcome.FAILED)
    made.ledger.settle(1, Outcome.FAILED)
    made.ledger.intend(2, 3)
    made.engine.statuses["inv_2"] = S.COMPLETED
    assert await made.execute() is Stop.TOO_MANY_FAILURES
    assert made.engine.calls == []
    assert made.ledger.untouched == 3


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


@pytest.mark.parametrize(
    ("bad", "lost_hold", "stop", "outcome"),
    [
        pytest.param(1, False, Stop.TIMED_OUT, Outcome.EFFECTIVE, id="one bad answer: looked at again"),
        pytest.param(1000, False, Stop.TIMED_OUT, Outcome.UNVERIFIED, id="it does not answer: said so, in the end"),
        pytest.param(1000, True, Stop.HOLD_LOST, None, id="somebody else may hold the run: they look"),
    ],
)
def test_run_that_is_stopped_looks_once_more_also_after_a_bad_answer(
    bad: int, lost_hold: bool, stop: Stop, outcome: Outcome | None
) -> None:
    async def play() -> None:
        clock = asyncio.get_running_loop().time
        made = scene(3, "Kill", status=S.RUNNING, deadline=5.0, now=clock)
        made.engine.effect_after = 1_000_000
        look, began, answers = made.engine.look, clock(), itertools.count()

        async def bad_at_the_end(*asked: Any, **more: Any) -> list[Seen]:
            seen = await look(*asked, **more)
            if clock() - began >= 5.0:
                made.engine.statuses.update(dict.fromkeys(made.engine.statuses, S.COMPLETED))
                if next(answers) < bad:
                    raise errors.BadReply("not JSON")
                return await look(*asked, **more)
            return seen

        made.engine.look = bad_at_the_end  # type: ignore[method-assign]
        made.control.holds = lambda: not lost_hold or clock() - began < 6.0
        assert await made.executor.execute() is stop
        assert made.ledger.outcome(0) is outcome
        assert clock() - began < 20.0
        assert next(answers) < 10, "an engine that does not answer is not asked in a busy loop"

    virtual_time.run(play())


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


@pytest.mark.parametrize(
    ("look_seconds", "call_seconds", "least", "most"),
    [
        pytest.param(30.0, 0.0, 1.0, 1.5, id="looks that stall are dropped"),
        pytest.param(0.0, 5.0, 5.0, 5.5, id="calls are waited for"),
    ],
)
def test_run_that_lost_its_hold_waits_for_calls_and_not_for_looks(
    look_seconds: float, call_seconds: float, least: float, most: float
) -> None:
    async def play() -> None:
        clock = asyncio.get_running_loop().time
        made = scene(3, "Pause", status=S.RUNNING, limits={"maxInFlight": 1}, now=clock)
        look, operate = made.engine.look, made.engine.operate

        async def slow_look(*asked: Any, **more: Any) -> list[Seen]:
            await asyncio.sleep(look_seconds if made.engine.calls else 0.0)
            return await look(*asked, **more)

        async def slow_operate(*asked: Any, **more: Any) -> Answer:
            await asyncio.sleep(call_seconds)
            return await operate(*asked, **more)

        made.engine.look, made.engine.operate = slow_look, slow_operate  # type: ignore[method-assign]
        began = clock()
        made.control.holds = lambda: clock() - began < 1.0
        assert await made.executor.execute() is Stop.HOLD_LOST
        assert least <= clock() - began < most
        assert made.engine.calls == [("pause", "inv_0")]
        assert made.ledger.intended() == [0], "the next holder looks at it"

    virtual_time.run(play())


@pytest.mark.parametrize("slow", range(6))
def test_call_that_arrives_late_is_not_asked_again_for_what_a_slow_look_did_not_see(slow: int) -> None:
    """A lost answer is judged after 3 s here, by what the engine shows then, and not by what it showed before."""

    async def play() -> None:
        loop = asyncio.get_running_loop()
        made = scene(1, now=loop.time, settle_lost_after=3.0)
        engine, sent, looks = made.engine, [], itertools.count()
        engine.signals = Signals(0)
        look = engine.look

        def arrives() -> None:
            engine.signals = Signals(1)
            engine.statuses["inv_0"] = S.RUNNING
            loop.call_later(10.0, engine.statuses.update, {"inv_0": S.COMPLETED})

        async def lost(op: Op, id_: str, **_: Any) -> Answer:
            if id_ not in engine.statuses:
                raise errors.NotFound("no such invocation", status=404)
            sent.append(op)
            loop.call_later(2.0, arrives)
            raise errors.Unreachable("no answer within the timeout", sent=True)

        async def slow_look(*asked: Any, **more: Any) -> list[Seen]:
            seen = await look(*asked, **more)
            # The answer is on its way while the call arrives and the time passes after which it is judged.
            await asyncio.sleep(2.9 if sent and next(looks) == slow else 0.0)
            return seen

        engine.operate, engine.look = lost, slow_look  # type: ignore[method-assign]
        assert await made.executor.execute() is None
        assert sent == [Op.CANCEL]
        assert made.ledger.count(Outcome.EFFECTIVE) == 1

    virtual_time.run(play())


async def test_run_whose_guardrails_are_tightened_asks_nothing_more_and_lets_settle_what_was_asked() -> None:
    made = scene(30, limits={"maxInFlight": 3})
    made.engine.effect_after = 6
    told: list[str] = []
    made.control.not_allowed = lambda: told[0] if told else None
    made.engine.before_call = lambda id_: told.append("RestateEngine ops/e: no") if id_ == "inv_5" else None
    assert await made.execute() is Stop.GUARDRAIL_TIGHTENED
    assert made.control.detail == "RestateEngine ops/e: no"
    asked = len(made.engine.calls)
    assert 6 <= asked <= 8
    assert made.ledger.count(Outcome.EFFECTIVE) == asked
    assert made.ledger.untouched == 30 - asked


async def test_run_whose_guardrails_forbid_its_escalation_leaves_alive_what_outlives_the_cancel() -> None:
    made = scene(2, escalation={"killAfter": "100ms"}, verification={"timeout": "400ms"})
    made.engine.effect_after = 1_000_000
    told: list[str] = []
    made.control.not_allowed = lambda: told[0] if told else None
    made.engine.before_call = lambda _: told.append("no Kill")
    assert await made.execute() is Stop.GUARDRAIL_TIGHTENED
    assert {op for op, _ in made.engine.calls} == {"cancel"}
    assert made.ledger.count(Outcome.UNVERIFIED) == len(made.engine.calls)


async def test_run_whose_guardrails_are_tightened_when_all_is_asked_and_done_ends_as_if_nothing_was() -> None:
    made = scene(2)
    told: list[str] = []
    made.control.not_allowed = lambda: told[0] if told else None
    made.engine.before_call = lambda _: told.append("no") if len(made.engine.calls) == 1 else None
    assert await made.execute() is None
    assert made.ledger.count(Outcome.EFFECTIVE) == 2


@pytest.mark.parametrize("stop", ["deadline", "guardrail"])
async def test_run_that_is_recovered_and_stopped_at_once_looks_at_what_was_asked_before(stop: str) -> None:
    made = scene(4, recovered=True, deadline=0.0 if stop == "deadline" else None, verification={"timeout": "500ms"})
    if stop == "guardrail":
        made.control.not_allowed = lambda: "no"
    made.ledger.intend(0, 2)
    made.engine.statuses["inv_0"] = S.COMPLETED
    assert await made.execute() is (Stop.TIMED_OUT if stop == "deadline" else Stop.GUARDRAIL_TIGHTENED)
    assert made.engine.calls == []
    assert made.ledger.outcome(0) is Outcome.EFFECTIVE
    assert made.ledger.outcome(1) is Outcome.AMBIGUOUS, "nobody knows whether it was asked"
    assert made.ledger.untouched == 2


@pytest.mark.parametrize(("signals", "outcome"), [(1, Outcome.UNVERIFIED), (0, Outcome.AMBIGUOUS)])
async def test_run_that_is_recovered_and_out_of_time_knows_that_a_cancel_in_the_journal_was_asked(
    signals: int, outcome: Outcome
) -> None:
    made = scene(1, recovered=True, deadline=0.0)
    made.ledger.intend(0, 1)
    made.engine.signals = Signals(signals)
    assert await made.execute() is Stop.TIMED_OUT
    assert made.engine.calls == []
    assert made.ledger.outcome(0) is outcome


# What counts from the call goes on counting after a takeover.


def taken_over(asked: float | None, *, traced: bool, carried: float = 3600.0, **spec: Any) -> Scene:
    """A run in its second life: one cancel was intended, and asked by ``asked`` on the run's clock."""
    made = scene(1, recovered=True, escalation={"killAfter": "10s"}, verification={"timeout": "20s"}, **spec)
    made.ledger.intend(0, 1)
    made.engine.effect_after = 1_000_000
    made.engine.signals = Signals(1 if traced else 0)
    made.executor.run.carried_seconds = carried
    if asked is not None:
        made.executor.run.asked.note(1, asked, lowest_open=0)
    return made


async def asks_within(made: Scene, seconds: float) -> list[str]:
    """The calls of the first ``seconds``."""
    running = asyncio.create_task(made.execute())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return [op for op, _ in made.engine.calls]


async def test_run_taken_over_escalates_when_it_would_have_been_due() -> None:
    made = taken_over(asked=-11.0, traced=True)
    running = asyncio.create_task(made.execute())
    await until(lambda: bool(made.engine.calls))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert made.engine.calls == [("kill", "inv_0")]


@pytest.mark.parametrize(
    ("asked", "traced", "carried"),
    [
        (None, True, 3600.0),  # when it was asked is not known: it may have been a moment ago
        (-5.0, True, 3600.0),  # not yet
        (-11.0, True, 5.0),  # no more than that counts
    ],
)
async def test_run_taken_over_does_not_escalate_too_early(asked: float | None, traced: bool, carried: float) -> None:
    assert await asks_within(taken_over(asked, traced=traced, carried=carried), 1.0) == []


async def test_run_taken_over_counts_from_the_call_when_there_was_none_before() -> None:
    made = taken_over(asked=-11.0, traced=False)
    assert await asks_within(made, 2.0) == ["cancel"], "the kill is due ten seconds after this first cancel"
    assert made.executor.run.asked.asked_by(0) is None


async def test_run_notes_what_it_has_asked_and_not_what_still_waits_for_its_turn() -> None:
    made = scene(6, limits={"operationsPerSecond": 2})
    made.engine.effect_after = 1_000_000
    running = asyncio.create_task(made.execute())
    await until(lambda: len(made.engine.calls) >= 2)
    made.executor.note_asked()
    known = [made.executor.run.asked.asked_by(index) is not None for index in range(6)]
    asked = {int(id_.removeprefix("inv_")) for _, id_ in made.engine.calls}
    assert {index for index, noted in enumerate(known) if noted} <= asked
    assert known[0]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_run_taken_over_and_not_allowed_any_more_leaves_untouched_what_was_never_asked() -> None:
    made = taken_over(asked=None, traced=False)
    made.control.not_allowed = lambda: "no"
    assert await made.execute() is Stop.GUARDRAIL_TIGHTENED
    assert made.engine.calls == []
    assert made.ledger.untouched == 1
