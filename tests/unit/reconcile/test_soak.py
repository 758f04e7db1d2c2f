"""The executor in waves: never further than looked at, and what a stop, an outage or a crash does to a soak."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import pytest

from invocation_operator.api.v1alpha1.action import Outcome, RolloutStatus
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.engine import errors
from invocation_operator.plan.operation.base import Decision, Item, Operation, Seen
from invocation_operator.plan.rollout import Health, Waves
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.control import Stop
from tests.unit.reconcile.test_execute import BORN, Scene, scene, until

S = InvocationStatus


@dataclass
class Doctor:
    """Writes down who was looked at, and finds as many ill as it is told, one entry for each look."""

    ill: Iterator[int | errors.EngineError] = field(default_factory=lambda: itertools.repeat(0))
    looks: list[int] = field(default_factory=list)
    while_looking: Callable[[], None] = lambda: None

    async def look(self, planned: Iterable[Planned]) -> Health:
        there = len(list(planned))
        self.looks.append(there)
        self.while_looking()
        await asyncio.sleep(0)
        ill = next(self.ill)
        if isinstance(ill, errors.EngineError):
            raise ill
        return Health(there - ill, ill)


def in_waves(
    count: int, ends: list[int], doctor: Doctor, *, soak: float = 0.0, most: int | str = 0, **more: object
) -> Scene:
    waves = Waves(ends, timedelta(seconds=soak), most)
    return scene(count, "Resume", status=S.PAUSED, waves=waves, looks=doctor, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("ends", [[1, 30], [1, 2, 3, 30], [15, 30], [30]])
async def test_run_in_waves_asks_no_further_than_was_looked_at(ends: list[int]) -> None:
    doctor = Doctor()
    made = in_waves(30, ends, doctor)
    reached: list[tuple[int, int]] = []
    made.engine.before_call = lambda id_: reached.append((int(id_[4:]), len(doctor.looks)))
    assert await made.execute() is None
    assert made.ledger.count(Outcome.EFFECTIVE) == 30
    assert doctor.looks == ends
    assert all(index < ends[looks] for index, looks in reached)
    assert all(looks == 0 or index >= ends[looks - 1] for index, looks in reached)


async def test_run_in_waves_keeps_its_other_limits() -> None:
    made = in_waves(20, [8, 20], Doctor(), limits={"maxInFlight": 3})
    assert await made.execute() is None
    assert made.engine.most_in_flight == 3


async def test_run_in_waves_keeps_each_intent_and_each_soak_before_it_goes_on() -> None:
    made = in_waves(3, [1, 2, 3], Doctor())
    kept: list[tuple[int, int]] = []
    made.engine.before_call = lambda id_: kept.append((int(id_[4:]), made.kept.commits))
    assert await made.execute() is None
    assert kept == [(0, 1), (1, 3), (2, 5)], "an intent, and that the soak has begun, for each wave"


async def test_run_whose_wave_is_unhealthy_stops_and_leaves_the_rest_untouched() -> None:
    made = in_waves(30, [2, 5, 30], Doctor(iter([0, 1])))
    assert await made.execute() is Stop.UNHEALTHY
    assert made.ledger.settled == 5
    assert made.ledger.untouched == 25
    assert made.ledger.intended() == []


async def test_run_whose_last_wave_is_unhealthy_does_not_end_well() -> None:
    made = in_waves(4, [2, 4], Doctor(iter([0, 1])))
    assert await made.execute() is Stop.UNHEALTHY
    assert made.ledger.settled == 4


async def test_operation_without_effect_is_a_sign_as_bad_as_illness() -> None:
    made = scene(
        6,
        "Pause",
        waves=Waves([2, 6], timedelta(0), 1),
        looks=Doctor(),
        verification={"timeout": "20ms"},
    )
    assert await made.execute() is Stop.UNHEALTHY
    assert made.ledger.count(Outcome.NO_OP) == 2
    assert made.ledger.untouched == 4


async def test_soak_is_waited_for() -> None:
    made = in_waves(2, [1, 2], doctor := Doctor(), soak=0.3)
    looked: list[float] = []
    doctor.while_looking = lambda: looked.append(made.control.now())
    assert await made.execute() is None
    waves = made.executor.run.waves
    assert waves is not None
    assert looked[0] >= 0.3
    assert looked[1] >= looked[0] + 0.3


async def test_soak_that_is_suspended_goes_on_at_once_when_its_time_has_passed() -> None:
    made = in_waves(2, [1, 2], doctor := Doctor(), soak=0.3)
    running = asyncio.create_task(made.execute())
    await until(lambda: made.ledger.settled == 1)
    made.change(suspend=True)
    await asyncio.sleep(0.8)
    assert doctor.looks == []
    made.change(suspend=False)
    await until(lambda: bool(doctor.looks))
    assert await running is None


async def test_look_during_which_a_suspend_comes_is_made_again_afterwards() -> None:
    made = in_waves(2, [1, 2], doctor := Doctor())
    doctor.while_looking = lambda: made.change(suspend=True) if len(doctor.looks) == 1 else None
    running = asyncio.create_task(made.execute())
    await until(lambda: doctor.looks == [1])
    await asyncio.sleep(0.4)
    assert made.ledger.settled == 1
    made.change(suspend=False)
    assert await running is None
    assert doctor.looks == [1, 1, 2]


async def test_look_that_meets_an_outage_is_made_again_when_it_is_over() -> None:
    down = errors.Unreachable("connection refused", sent=False)
    made = in_waves(2, [1, 2], doctor := Doctor(iter([down, 0, 0])))
    assert await made.execute() is None
    assert doctor.looks == [1, 1, 2]


@pytest.mark.parametrize("waves", [[1, 4], [4]], ids=["in a wave", "in the last wave"])
async def test_deletion_during_a_soak_ends_the_run_at_once(waves: list[int]) -> None:
    made = in_waves(4, waves, doctor := Doctor(), soak=3600)
    running = asyncio.create_task(made.execute())
    await until(lambda: made.ledger.settled == waves[0])
    made.cell.put(None)
    assert await running is Stop.DELETED
    assert doctor.looks == []


async def test_shutdown_during_the_last_soak_leaves_the_look_to_the_next_holder() -> None:
    made = in_waves(2, [2], Doctor(), soak=3600)
    running = asyncio.create_task(made.execute())
    await until(lambda: made.ledger.settled == 2)
    made.control.shutting_down = lambda: True
    made.cell.ring()
    assert await running is Stop.SHUTDOWN


@pytest.mark.parametrize("ill", [0, 1])
async def test_run_that_is_recovered_in_its_soak_waits_for_the_rest_of_it_and_looks(ill: int) -> None:
    made = in_waves(4, [2, 4], doctor := Doctor(iter([ill, 0])), soak=3600, recovered=True)
    waves = made.executor.run.waves
    assert waves is not None
    for index in range(2):
        made.ledger.settle(index, Outcome.EFFECTIVE)
    waves.restore(RolloutStatus(wave=1, waves=2, soak_until=made.executor.clock.engine_time(made.control.now() + 0.3)))
    waves.soak = timedelta(0)
    looked: list[float] = []
    begun = made.control.now()
    doctor.while_looking = lambda: looked.append(made.control.now())
    assert await made.execute() is (Stop.UNHEALTHY if ill else None)
    assert doctor.looks == ([2] if ill else [2, 4])
    assert looked[0] >= begun + 0.29
    assert [id_ for _, id_ in made.engine.calls] == ([] if ill else ["inv_2", "inv_3"])


async def test_intent_that_was_lost_is_not_older_than_its_wave() -> None:
    """What somebody else did while earlier waves soaked is no trace of it."""
    made = in_waves(4, [2, 4], Doctor(), recovered=True)
    waves = made.executor.run.waves
    assert waves is not None
    began = BORN + timedelta(hours=1)
    waves.restore(RolloutStatus(wave=2, waves=2, wave_start_time=began))
    for index in range(2):
        made.ledger.settle(index, Outcome.EFFECTIVE)
    made.ledger.intend(2, 3)
    intended: list[datetime | None] = []
    operation = made.executor.run.operation

    @dataclass
    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(operation, name)

        def judge(self, item: Item, seen: Seen, now: float) -> Decision:
            intended.append(item.intended_time)
            return operation.judge(item, seen, now)

    watched = cast("Operation", Watched())
    made.executor.run.operation = made.executor.sender.operation = made.executor.decider.operation = watched
    assert await made.execute() is None
    assert intended[0] == began


async def test_run_that_soaks_leaves_its_share_of_the_engine_to_others() -> None:
    budget = Budget(100, 1000, asyncio.get_running_loop().time)
    soaking, other = budget.lane(), budget.lane()
    assert await other.acquire(90) == 50
    other.release(50)
    soaking.rest()
    assert await other.acquire(90) == 90
    other.release(90)
    assert await soaking.acquire(1) == 1
    assert await other.acquire(90) == 50


def test_run_in_waves_that_nobody_looks_after_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="somebody who looks"):
        scene(2, "Resume", status=S.PAUSED, waves=Waves([1, 2], timedelta(0), 0))
