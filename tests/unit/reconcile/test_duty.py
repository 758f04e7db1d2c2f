"""What begins when a process comes to lead, and what ends when it does not any more."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

from e2e.simulation import loop as virtual_time
from invocation_operator.api.v1alpha1.action import Phase
from invocation_operator.api.v1alpha1.retention import ServiceState
from invocation_operator.api.v1alpha1.sweep import SweepRun
from invocation_operator.cluster.election import Elector
from invocation_operator.observe import metrics
from invocation_operator.observe import retention as retention_metrics
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.duty import Duty
from invocation_operator.reconcile.workbench import Outcome, Retry, Workbench
from tests.unit.reconcile.test_workbench import thing


class Ballot:
    """An election whose result a test decides."""

    def __init__(self) -> None:
        self.turned = asyncio.Event()
        self.leading = self.certain = False
        self.released: list[bool] = []
        self.running = False

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False

    async def release(self) -> None:
        assert not self.running, "it would take it again"
        self.released.append(self.leading)

    async def turn(self, *, leading: bool, certain: bool | None = None) -> None:
        self.leading, self.certain = leading, leading if certain is None else certain
        self.turned.set()
        await asyncio.sleep(1)


class Scene:
    def __init__(self) -> None:
        self.ballot = Ballot()
        self.looks = 0
        self.chores = 0
        self.bench = Workbench("Thing", self.look, lambda _: True, resting=True)
        self.duty = Duty(cast("Elector", self.ballot), (self.bench,), (self.chore,))
        self.bench.observe(thing())

    async def look(self, _: Cell) -> Outcome:
        self.looks += 1
        return Retry(3600)

    async def chore(self) -> None:
        self.chores += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.chores -= 1


def leader() -> float:
    value: float = metrics.LEADER._value.get()
    return value


def play(story: Any) -> None:
    async def staged() -> None:
        scene = Scene()
        task = asyncio.create_task(scene.duty.run())
        await asyncio.sleep(1)
        assert not scene.ballot.running, "it does not see yet what there is to do"
        scene.duty.opened.set()
        await asyncio.sleep(1)
        assert scene.ballot.running
        try:
            await story(scene)
        finally:
            task.cancel()
            await scene.duty.stop()
            await scene.bench.close(0.0)
            await scene.duty.give_back()
            await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(staged())


def test_duty_begins_with_the_lead_and_ends_with_it() -> None:
    async def story(scene: Scene) -> None:
        assert (scene.looks, scene.chores, leader()) == (0, 0, 0)
        await scene.ballot.turn(leading=True)
        assert (scene.looks, scene.chores, scene.bench.active, leader()) == (1, 1, 1, 1)
        metrics.ENGINE_UP.labels("shop", "production").set(1)
        retention_metrics.services("shop", "keep", [ServiceState.CONFLICTED])
        retention_metrics.next_sweep("shop", "keep", "nightly", datetime.now(UTC))
        run = SweepRun(phase=Phase.FAILED, completion_time=datetime.now(UTC))
        retention_metrics.swept("shop", "keep", "nightly", run)
        await scene.ballot.turn(leading=False)
        assert (scene.chores, scene.bench.active, leader()) == (0, 0, 0)
        policies = (retention_metrics.SERVICES, retention_metrics.NEXT_SWEEP, retention_metrics.LAST_SWEEP)
        for gauge in (metrics.ENGINE_UP, *policies):
            assert next(iter(gauge.collect())).samples == [], "another one looks at them now"
        await scene.ballot.turn(leading=True)
        assert (scene.looks, scene.chores, scene.bench.active, leader()) == (2, 1, 1, 1)

    play(story)


def test_duty_certain_again_wakes_what_waits_and_starts_nothing_twice() -> None:
    async def story(scene: Scene) -> None:
        await scene.ballot.turn(leading=True)
        await scene.ballot.turn(leading=True, certain=False)
        assert (scene.looks, scene.chores) == (1, 1)
        await scene.ballot.turn(leading=True)
        assert (scene.looks, scene.chores, scene.bench.active) == (2, 1, 1)

    play(story)


def test_duty_that_stops_gives_the_lead_back_last() -> None:
    async def story(scene: Scene) -> None:
        await scene.ballot.turn(leading=True)
        await scene.duty.stop()
        assert (scene.chores, scene.bench.active) == (0, 1), "what is under way goes on"
        assert scene.ballot.released == []
        await scene.duty.give_back()
        assert scene.ballot.released == [True]

    play(story)


def test_duty_that_stops_does_not_begin_when_it_is_elected_after_all() -> None:
    async def story(scene: Scene) -> None:
        await scene.duty.stop()
        await scene.ballot.turn(leading=True)
        assert (scene.looks, scene.chores) == (0, 0)

    play(story)


def test_duty_without_an_election_always_leads() -> None:
    async def staged() -> None:
        scene = Scene()
        duty = Duty(None, (scene.bench,), (scene.chore,))
        await duty.run()
        await asyncio.sleep(1)
        assert (scene.looks, scene.chores, leader(), duty.certain, duty.able) == (1, 1, 1, True, True)
        await duty.stop()
        await scene.bench.close(0.0)
        await duty.give_back()

    virtual_time.run(staged())
