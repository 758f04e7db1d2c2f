"""One watched object and its bells."""

import asyncio
from typing import Any

from e2e.simulation import loop as virtual_time
from invocation_operator.reconcile.cell import Cell


def thing(version: int, *, uid: str = "u", generation: int = 1) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": str(version), "generation": generation}}


def cell(version: int = 5) -> Cell:
    return Cell(("ns", "a"), thing(version))


def test_cell_takes_in_newer_versions_only() -> None:
    made = cell(9)
    made.put(thing(10))  # versions are numbers, not texts
    assert made.obj == thing(10)
    made.put(thing(9))
    made.put(thing(10))
    assert made.obj == thing(10)
    assert made.version == 1


def test_cell_takes_in_another_object_of_the_same_name_whatever_its_version() -> None:
    made = cell(9)
    made.put(thing(3, uid="other"))
    assert made.obj == thing(3, uid="other")


def test_cell_does_not_take_the_late_answer_of_a_write_to_a_predecessor_for_its_successor() -> None:
    """Every write to the successor had conflicted from then on, until somebody changed it."""
    made = cell(5)
    made.put(thing(9, uid="other"))
    made.keep(thing(8))
    assert made.obj == thing(9, uid="other")
    made.keep(thing(12, uid="third"))
    assert (made.obj, made.version) == (thing(12, uid="third"), 2), "one that was read anew is news"


def test_cell_of_a_deleted_object_takes_in_its_successor() -> None:
    made = cell(9)
    made.put(None)
    made.put(thing(3, uid="other"))
    assert made.obj == thing(3, uid="other")


def rung(change: Any) -> bool:
    """Whether ``change`` of a cell wakes who waits."""
    heard: list[bool] = []

    async def play() -> None:
        made = cell()
        with made.bell() as bell:
            bell.clear()
            waiting = asyncio.create_task(bell.wait(10))
            await asyncio.sleep(1)
            change(made)
            heard.append(await waiting)

    virtual_time.run(play())
    return heard[0]


def test_bell_rings_for_what_the_watch_says() -> None:
    assert rung(lambda made: made.put(thing(6)))
    assert rung(lambda made: made.put(None))
    assert rung(lambda made: made.ring())


def test_bell_is_silent_for_what_is_old_and_for_ones_own_write() -> None:
    assert not rung(lambda made: made.put(thing(5)))
    assert not rung(lambda made: made.keep(thing(6)))


def test_bell_rings_when_ones_own_write_shows_a_changed_specification() -> None:
    assert rung(lambda made: made.keep(thing(6, generation=2)))


def test_bell_that_was_taken_down_hears_nothing() -> None:
    made = cell()
    with made.bell() as bell:
        pass
    made.ring()
    assert not bell._event.is_set()


def test_bell_keeps_a_ring_until_it_is_waited_for() -> None:
    async def play() -> None:
        made = cell()
        with made.bell() as bell:
            bell.clear()
            made.ring()
            assert await bell.wait(10)
            assert asyncio.get_running_loop().time() == 0

    virtual_time.run(play())


def test_bell_hears_a_cancellation_that_comes_together_with_a_ring() -> None:
    async def play() -> None:
        made = cell()
        with made.bell() as bell:
            waiting = asyncio.create_task(bell.wait(10))
            await asyncio.sleep(1)
            made.ring()
            waiting.cancel()
            (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
            assert isinstance(outcome, asyncio.CancelledError)

    virtual_time.run(play())
