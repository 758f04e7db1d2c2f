"""What a large run costs: requests to the engine, writes of the record, bytes of memory. Nothing here is timed."""

import asyncio
import re
import tracemalloc
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine import errors
from invocation_operator.engine.models import Answer
from invocation_operator.engine.rows import Row
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation import operation_for
from invocation_operator.plan.report import Findings
from invocation_operator.plan.targets import Planned, PlannedSet
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.claims import Claims
from invocation_operator.reconcile.execute import Executor
from invocation_operator.reconcile.flight import Batches
from invocation_operator.reconcile.look import Looker
from invocation_operator.reconcile.run import Run
from invocation_operator.reconcile.runclock import Reading, RunClock
from tests.unit.reconcile.calm import calm
from tests.unit.reconcile.virtual import in_virtual_time

BORN = datetime(2026, 1, 1, tzinfo=UTC)
TIME = "2026-01-01T00:00:00Z"
ID = re.compile(r"inv_1\w{33}")


@dataclass
class Engine:
    """Scheduled invocations, which a cancel makes vanish; it counts what it is asked."""

    gone: set[str] = field(default_factory=set)
    queries: int = 0
    batches: list[int] = field(default_factory=list)
    probes: int = 0
    singles: int = 0

    async def rows(self, sql: str, **_: Any) -> list[Row]:
        self.queries += 1
        await asyncio.sleep(0)
        return [
            {"id": id_, "created_at": TIME, "status": "scheduled", "target_service_name": "Svc"}
            for id_ in ID.findall(sql)
            if id_ not in self.gone
        ]

    async def post_internal(self, *_: str, body: dict[str, Any]) -> dict[str, Any]:
        ids: list[str] = body["invocation_ids"]
        await asyncio.sleep(0)
        if ids[0].endswith("0" * 22):
            self.probes += 1
            return {
                "succeeded": [],
                "failed": [{"invocation_id": id_, "error": f"Invocation '{id_}' not found"} for id_ in ids],
            }
        assert self.gone.isdisjoint(ids), "asked twice"
        self.batches.append(len(ids))
        self.gone.update(ids)
        return {"succeeded": ids, "failed": []}

    async def operate(self, _op: Any, id_: str, **_: Any) -> Answer:
        if id_.endswith("0" * 22):
            self.probes += 1
            raise errors.NotFound("no such invocation", status=404)
        assert id_ not in self.gone, "asked twice"
        self.singles += 1
        self.gone.add(id_)
        return Answer(200)


@dataclass
class Kept:
    """Counts the writes of the record and the bytes of its ledger in them."""

    ledger: Ledger
    sizes: list[int] = field(default_factory=list)

    def covers(self, last: int) -> bool:
        return False

    async def commit(self) -> None:
        self.sizes.append(len(self.ledger.encode()))
        await asyncio.sleep(0)


def planned(size: int) -> PlannedSet:
    ids = (f"inv_1{number:011d}{'5' * 22}" for number in range(size))
    return PlannedSet(Planned(id_, BORN, InvocationStatus.SCHEDULED, "Svc/go") for id_ in ids)


def executor(engine: Engine, size: int, in_flight: int, rate: int) -> tuple[Executor, Kept]:
    spec = ActionSpec.model_validate({"action": "Cancel", "target": {"services": ["Svc"]}})
    ledger = Ledger(size)
    now = asyncio.get_running_loop().time
    clock = RunClock(BORN, Reading(BORN, now(), now()), now)
    cell = Cell(("ns", "a"), {"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {}})
    control = calm(cell, now=clock.now)
    kept = Kept(ledger)

    async def same_engine() -> None:
        return None

    made = Executor(
        run=Run(
            operation=operation_for(spec, settle_lost_after=0.3),
            targets=planned(size),
            ledger=ledger,
            findings=Findings(),
        ),
        client=engine,  # type: ignore[arg-type]
        looker=Looker(engine, scopes=False),  # type: ignore[arg-type]
        intent=kept,
        lane=Budget(in_flight, rate, now).lane(),
        control=control,
        clock=clock,
        confirm_engine=same_engine,
        batches=Batches(usable=True),
        claims=Claims(now),
    )
    return made, kept


@in_virtual_time
async def test_bulk_run_asks_in_full_batches_and_little_besides() -> None:
    engine = Engine()
    made, kept = executor(engine, 5000, in_flight=10_000, rate=100_000)
    async with asyncio.timeout(60):
        assert await made.execute() is None
    assert made.run.ledger.count(Outcome.EFFECTIVE) == 5000
    assert engine.batches == [1000] * 5
    assert engine.singles == 0
    # Each is looked at once before it is asked and once after, a thousand at a time (10 queries); journals of
    # what has not started are not looked into.
    assert engine.queries <= 20
    assert engine.probes <= 10
    assert len(kept.sizes) <= 10
    assert max(kept.sizes) < 200


@in_virtual_time
async def test_bulk_run_looks_at_what_was_asked_when_all_calls_are_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invocation_operator.reconcile.flight.PATIENCE_SECONDS", 600.0)
    early: list[int] = []

    class Slow(Engine):
        async def rows(self, sql: str, **more: Any) -> list[Row]:
            if not self.gone.isdisjoint(ID.findall(sql)) and len(self.batches) < 5:
                early.append(len(self.batches))
            return await super().rows(sql, **more)

        async def post_internal(self, *segments: str, body: dict[str, Any]) -> dict[str, Any]:
            # Long after the first look at what was in the batch before, had it not to wait.
            await asyncio.sleep(0.05 * len(self.batches))
            return await super().post_internal(*segments, body=body)

    made, _ = executor(Slow(), 5000, in_flight=10_000, rate=100_000)
    async with asyncio.timeout(60):
        assert await made.execute() is None
    assert made.run.ledger.count(Outcome.EFFECTIVE) == 5000
    assert not early


@in_virtual_time
async def test_bulk_run_tells_at_its_first_call_of_all_that_come_next() -> None:
    """What is asked ahead is asked once for all of them, and not again while they are being asked."""
    upcoming: list[set[str]] = []

    class Asking(Engine):
        async def post_internal(self, *segments: str, body: dict[str, Any]) -> dict[str, Any]:
            upcoming.append({*made.upcoming(), *body["invocation_ids"]})
            return await super().post_internal(*segments, body=body)

    made, _ = executor(Asking(), 10_000, in_flight=20_000, rate=100_000)
    async with asyncio.timeout(60):
        assert await made.execute() is None
    assert len(upcoming[0]) == 10_000


@in_virtual_time
async def test_bulk_run_within_small_limits_writes_once_for_each_helping() -> None:
    engine = Engine()
    made, kept = executor(engine, 1000, in_flight=100, rate=100_000)
    async with asyncio.timeout(60):
        assert await made.execute() is None
    assert sum(engine.batches) + engine.singles == 1000
    assert max(engine.batches) <= 90
    assert engine.singles == 0
    assert len(kept.sizes) <= 20
    assert engine.queries <= 30


@pytest.mark.parametrize("many", [12_000])
@in_virtual_time
async def test_bulk_run_needs_no_more_memory_for_more_targets_than_their_packed_set(many: int) -> None:
    """What is in flight is bounded by the limits, so a run of many peaks as one of few does, but for the set itself."""
    peaks = []
    for size in (2000, many):
        engine = Engine()
        made, _ = executor(engine, size, in_flight=1000, rate=100_000)
        tracemalloc.start()
        try:
            async with asyncio.timeout(120):
                assert await made.execute() is None
            # The engine's memory of what is gone grows with its texts, of which it keeps none of its own.
            engine.gone.clear()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + many * 180
