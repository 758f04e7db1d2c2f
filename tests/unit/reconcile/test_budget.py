"""The engine's budget: exact, fair, and never stuck."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invocation_operator.reconcile.budget import HELPING, HELPING_ALONE, TURN_SECONDS, Budget, Lane


@dataclass
class Clock:
    """Time that moves when told."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def budget(most: int, rate: int = 1000) -> Budget:
    return Budget(most, rate, Clock())


async def granted(lane: Lane, wanted: int = 1000) -> int:
    """What is granted at once; 0 when it has to wait."""
    try:
        async with asyncio.timeout(0.01):
            return await lane.acquire(wanted)
    except TimeoutError:
        return 0


async def test_budget_grants_helpings_up_to_its_limit_less_a_reserve() -> None:
    lane = budget(HELPING_ALONE + 3000).lane()
    taken = [await granted(lane, HELPING_ALONE + 3000) for _ in range(5)]
    assert max(taken) == HELPING_ALONE
    assert sum(taken) == HELPING_ALONE + 3000 - HELPING  # a helping is kept for who comes next


async def test_budget_that_is_shared_grants_small_helpings() -> None:
    shared = budget(1000)
    lane, other = shared.lane(), shared.lane()
    assert await granted(lane) == HELPING
    other.close()
    assert await granted(lane) == 800


async def test_lane_has_as_much_slack_as_could_be_granted_now() -> None:
    shared = budget(100)
    lane = shared.lane()
    assert lane.slack() == 90
    await lane.acquire(30)
    assert lane.slack() == 60
    lane.max_in_flight = 40
    assert lane.slack() == 10


async def test_budget_of_one_grants_one_at_a_time() -> None:
    lane = budget(1).lane()
    assert await granted(lane) == 1
    assert await granted(lane) == 0
    lane.release()
    assert await granted(lane) == 1


async def test_budget_lets_a_small_run_begin_beside_a_huge_one_at_once() -> None:
    shared = budget(500)
    huge = shared.lane()
    while await granted(huge):
        pass
    small = shared.lane()
    assert await granted(small, 5) == 5


async def test_budget_is_shared_evenly_by_those_who_want_more() -> None:
    shared = budget(90)
    lanes = [shared.lane() for _ in range(3)]
    for _ in range(10):
        for lane in lanes:
            await granted(lane)
    assert [lane.held for lane in lanes] == [30, 30, 30]


async def test_budget_grants_what_is_given_back_to_who_waits() -> None:
    shared = budget(10)
    first, second = shared.lane(), shared.lane()
    assert await granted(first) == 5
    assert await granted(second) == 5
    waiting = asyncio.create_task(second.acquire(3))
    await asyncio.sleep(0)
    assert not waiting.done()  # its own share is used up
    second.release(2)
    assert await waiting == 2


async def test_budget_of_a_run_that_ends_goes_to_the_others() -> None:
    shared = budget(10)
    first, second = shared.lane(), shared.lane()
    await granted(first)
    await granted(second)
    waiting = asyncio.create_task(second.acquire(4))
    await asyncio.sleep(0)
    first.close()
    assert await waiting == 4


async def test_budget_takes_back_a_grant_that_nobody_waits_for_any_more() -> None:
    shared = budget(1)
    lane = shared.lane()
    await lane.acquire(1)
    other = shared.lane()
    waiting = asyncio.create_task(other.acquire(1))
    await asyncio.sleep(0)
    lane.release()  # grants to the other, which is cancelled before it hears of it
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert other.held == 0
    assert await granted(lane) == 1


async def test_budget_that_is_lowered_lets_finish_what_is_in_flight_and_grants_no_more() -> None:
    shared = budget(100)
    lane = shared.lane()
    held = await granted(lane)
    shared.set_limits(10, 1000)
    assert await granted(lane) == 0
    lane.release(held - 5)
    assert await granted(lane) == 4
    assert lane.held == 9


async def test_budget_that_is_raised_wakes_who_waits() -> None:
    shared = budget(1)
    lane = shared.lane()
    await lane.acquire(1)
    waiting = asyncio.create_task(lane.acquire(2))
    await asyncio.sleep(0)
    shared.set_limits(100, 1000)
    assert await waiting == 2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["take", "give", "limit"]), st.integers(1, 50)), max_size=40),
)
def test_budget_never_grants_more_than_its_limit(most: int, steps: list[tuple[int, str, int]]) -> None:
    async def play() -> None:
        shared = budget(most)
        lanes = [shared.lane() for _ in range(4)]
        limit = most
        for which, what, number in steps:
            lane = lanes[which]
            before = sum(each.held for each in lanes)
            match what:
                case "take":
                    waiting = asyncio.create_task(lane.acquire(number))
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    if not waiting.done():
                        waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                case "give":
                    lane.release(min(number, lane.held))
                case _:
                    limit = number
                    shared.set_limits(number, 1000)
            held = sum(each.held for each in lanes)
            assert held == shared._held
            assert held <= max(limit, before)
            assert all(each.held >= 0 for each in lanes)
        # Whoever asks when everything was given back is served.
        for each in lanes:
            each.release(each.held)
        for each in lanes:
            async with asyncio.timeout(5):
                assert await each.acquire(1) == 1
            each.release(1)

    asyncio.run(play())


# Operations per second.


def turns(lane: Lane, clock: Clock, count: int) -> list[float]:
    """When ``count`` operations may start, by a clock that moves only by the waits that were asked for."""
    starts = []
    for _ in range(count):
        clock.now += max(0.0, lane.reserve(1).delay)
        starts.append(clock.now)
    return starts


@pytest.mark.parametrize(("rate", "own"), [(10, None), (1000, 5), (5, 1000), (2, None), (100, 100)])
def test_rate_is_never_exceeded_over_any_second(rate: int, own: int | None) -> None:
    clock = Clock(100.0)
    lane = Budget(1000, rate, clock).lane()
    lane.rate = own
    starts = turns(lane, clock, 60)
    strictest = min(rate, own or rate)
    for first in range(len(starts)):
        within = [moment for moment in starts[first:] if moment < starts[first] + 1.0]
        # A tenth of a second's worth may come at once, because timers are coarse.
        assert len(within) <= strictest + max(1, strictest // 10) + 1


def test_rate_that_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    lane = Budget(1000, 10, clock).lane()
    turns(lane, clock, 5)
    clock.now += 3600
    starts = turns(lane, clock, 12)
    assert starts[-1] - starts[0] > 0.99


@pytest.mark.parametrize("own", [None, 20])
def test_rate_turns_that_are_given_back_are_there_for_others(own: int | None) -> None:
    clock = Clock()
    lane = Budget(1000, 10, clock).lane()
    lane.rate = own
    lane.reserve(1)
    taken = [lane.reserve(50), lane.reserve(1)]
    assert taken[-1].delay > 2
    for turn in taken:
        lane.give_back(turn)
    assert lane.reserve(1).delay <= 0.1


@pytest.mark.parametrize(("engine", "own", "expected"), [(100, None, 100), (100, 7, 7), (5, 7, 5)])
async def test_per_second_is_the_stricter_of_both(engine: int, own: int | None, expected: int) -> None:
    lane = Budget(1, engine, Clock()).lane()
    lane.rate = own
    assert lane.per_second() == expected


# Turns: how many may wait for theirs.


@pytest.mark.parametrize(("rate", "own"), [(2, None), (2, 1), (10, 3), (1000, None), (7, 100)])
@pytest.mark.parametrize("lanes", [1, 2, 5, 40])
def test_turns_are_taken_by_no_more_than_can_have_theirs_in_time(rate: int, own: int | None, lanes: int) -> None:
    """Whoever asks how many may, and takes no more, waits no longer than what was seen is relied on."""
    clock = Clock(100.0)
    shared = Budget(1000, rate, clock)
    taken = [shared.lane() for _ in range(lanes)]
    waits, served = [], 0
    for _ in range(400):
        for lane in taken:
            lane.rate = own
            for _ in range(lane.turns(rate).count):
                waits.append(lane.reserve(1).delay)
                # Only what is reserved counts here: that its turn came is told in time.
                lane.came(1)
                served += 1
        clock.now += 0.05
    assert max(waits) <= TURN_SECONDS + 0.5 / min(rate, own or rate)
    assert served >= 0.8 * min(rate, (own or rate) * lanes) * 20.0, "nor is the rate left unused"


@pytest.mark.parametrize("wanted", [1, 3, 30])
@pytest.mark.parametrize("others", [0, 1, 4])
@pytest.mark.parametrize("own", [None, 1, 2, 7])
@pytest.mark.parametrize("rate", [1, 3, 10, 1000])
def test_turns_that_are_refused_are_asked_for_again_after_a_while(
    rate: int, own: int | None, others: int, wanted: int
) -> None:
    """And not at once: whoever asks looks at invocations before, and would do so without a pause. As when the run's
    part of a second's worth waits already, and its own rate alone had room.
    """
    shared = budget(1000, rate)
    lanes = [shared.lane() for _ in range(1 + others)]
    for lane in lanes:
        lane.rate = own
    for _ in range(3):
        for lane in lanes:
            turns = lane.turns(wanted)
            if turns.count < wanted:
                assert turns.again >= 0.05 / rate
            if turns.count:
                lane.reserve(turns.count)


def test_turns_of_runs_that_share_an_engine_are_shared_too() -> None:
    shared = Budget(1000, 100, Clock(100.0))
    lanes = [shared.lane() for _ in range(4)]
    assert [lane.queue() for lane in lanes] == [25] * 4
    lanes[0].reserve(5)
    unused = lanes[0].reserve(15)
    assert [lane.turns(100).count for lane in lanes] == [5, 25, 25, 25]
    lanes[0].give_back(unused)
    lanes[0].came(5)
    assert lanes[0].turns(100).count == 25


def test_run_beside_more_others_than_there_are_turns_may_still_take_one() -> None:
    shared = Budget(1000, 2, Clock(100.0))
    lanes = [shared.lane() for _ in range(5)]
    assert all(lane.queue() == 1 for lane in lanes)


async def test_run_whose_own_limit_is_lowered_while_it_waits_is_granted_no_more_than_that() -> None:
    shared = budget(10)
    lane, other = shared.lane(), shared.lane()
    assert await granted(lane) == 5
    waiting = asyncio.create_task(lane.acquire(5))
    await asyncio.sleep(0)
    lane.set_limits(6, None)
    other.close()
    assert await waiting == 1


async def test_run_whose_own_limit_is_raised_is_granted_what_it_waits_for() -> None:
    lane = budget(100).lane()
    lane.set_limits(1, None)
    assert await lane.acquire(1) == 1
    waiting = asyncio.create_task(lane.acquire(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    lane.set_limits(3, None)
    assert await waiting == 2
