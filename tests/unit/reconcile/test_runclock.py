"""Time of a run: the engine's clock asked once, and counted locally from then on."""

from datetime import UTC, datetime, timedelta

import pytest

from invocation_operator.reconcile.runclock import RunClock

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
    clock = RunClock(STARTED, STARTED, local)
    assert clock.now() == pytest.approx(0.0)
    local.now += 90
    assert clock.now() == pytest.approx(90.0)
    assert abs(clock.engine_time(clock.now()) - (STARTED + timedelta(seconds=90))) < timedelta(milliseconds=1)


def test_runclock_of_a_run_that_is_taken_over_goes_on_in_the_same_time() -> None:
    clock = RunClock(STARTED, STARTED + timedelta(minutes=7), Monotonic(1000.0))
    assert clock.now() == pytest.approx(420.0)


def test_runclock_turns_engine_times_into_seconds_and_back() -> None:
    clock = RunClock(STARTED, STARTED, Monotonic(0.0))
    moment = STARTED + timedelta(seconds=12.5)
    assert clock.seconds(moment) == 12.5
    assert clock.engine_time(12.5) == moment
