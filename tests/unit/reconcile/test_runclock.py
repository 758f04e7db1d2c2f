"""Time of a run: the engine's clock asked once, and counted locally from then on."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from invocation_operator.reconcile.runclock import Reading, RunClock, read_clock

STARTED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class Monotonic:
    """A local clock that began at any time."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("begun_at", [0.0, 5.0, 1e6, -3.0])
def test_runclock_counts_from_the_runs_start_whatever_the_local_clock_says(begun_at: float) -> None:
    local = Monotonic(begun_at)
    clock = RunClock(STARTED, Reading(STARTED, begun_at, begun_at), local)
    assert clock.now() == pytest.approx(0.0)
    local.now += 90
    assert clock.now() == pytest.approx(90.0)
    assert abs(clock.engine_time(clock.now()) - (STARTED + timedelta(seconds=90))) < timedelta(milliseconds=1)


def test_runclock_of_a_run_that_is_taken_over_goes_on_in_the_same_time() -> None:
    clock = RunClock(STARTED, Reading(STARTED + timedelta(minutes=7), 1000.0, 1000.0), Monotonic(1000.0))
    assert clock.now() == pytest.approx(420.0)


def test_runclock_turns_engine_times_into_seconds_and_back() -> None:
    clock = RunClock(STARTED, Reading(STARTED, 0.0, 0.0), Monotonic(0.0))
    moment = STARTED + timedelta(seconds=12.5)
    assert clock.seconds(moment) == 12.5
    assert clock.engine_time(12.5) == moment


def test_runclock_knows_between_what_the_engines_clock_is_when_its_answer_took_long() -> None:
    """The engine said noon at some time in these three seconds, and a while passed before the clock was made."""
    local = Monotonic(10.0)

    async def slow() -> datetime:
        local.now += 3
        return STARTED

    reading = asyncio.run(read_clock(slow, local))
    local.now += 2
    clock = RunClock(STARTED, reading, local)
    assert (clock.now(), clock.at_most()) == (pytest.approx(2.0), pytest.approx(5.0))
