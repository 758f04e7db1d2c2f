"""One task for each object that needs work: retries, changes, deletions, mistakes."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from e2e.simulation import loop as virtual_time
from invocation_operator.cluster.errors import ClusterUnavailable, Forbidden
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.turns import Turns
from invocation_operator.reconcile.workbench import CANCEL_SECONDS, Done, Outcome, Retry, Workbench


def thing(name: str = "a", version: int = 1, uid: str = "u", **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version), "generation": version}
    return {"metadata": metadata, "spec": spec}


class Story:
    """Reconciles by a script: what it answers each time, and when it was asked about which version."""

    def __init__(self, *answers: Outcome | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, str | None]] = []
        self.during: Callable[[], None] = lambda: None

    async def __call__(self, cell: Cell) -> Outcome:
        await asyncio.sleep(0)
        version = cell.obj["metadata"]["resourceVersion"] if cell.obj else None
        self.asked.append((asyncio.get_running_loop().time(), version))
        self.during()
        answer = self.answers.pop(0) if self.answers else Done()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def versions(self) -> list[str | None]:
        return [version for _, version in self.asked]


def bench(story: Story) -> Workbench:
    return Workbench("Thing", story, lambda obj: not obj["spec"].get("settled"))


async def idle(made: Workbench) -> None:
    """Until no object is worked on."""
    while made.active:  # noqa: ASYNC110 - time is virtual
        await asyncio.sleep(1)


def test_object_is_reconciled_until_nothing_is_left_to_do() -> None:
    async def play() -> None:
        story = Story(Retry(5), Retry(20), Done())
        made = bench(story)
        made.observe(thing())
        await idle(made)
        assert [round(at) for at, _ in story.asked] == [0, 5, 25]

    virtual_time.run(play())


def test_waits_in_a_row_double_up_to_their_limit_and_begin_anew_after_a_ring() -> None:
    async def play() -> None:
        story = Story(*[Retry(5, 60)] * 5, Done())
        made = bench(story)
        made.observe(thing())
        await asyncio.sleep(20.5)
        made.ring_all()
        await idle(made)
        times = [at for at, _ in story.asked]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert 4 <= waits[0] <= 5
        assert 8 <= waits[1] <= 10
        assert times[3] == 20.5, "the third wait was to be the longest"
        assert 4 <= waits[3] <= 5, "rung, it begins anew"

    virtual_time.run(play())


def test_object_without_work_costs_no_task() -> None:
    async def play() -> None:
        story = Story()
        made = bench(story)
        for number in range(1000):
            made.observe(thing(f"t{number}", settled=True))
        assert made.active == 0
        await asyncio.sleep(60)
        assert story.asked == []

    virtual_time.run(play())


def test_change_ends_a_wait_at_once() -> None:
    async def play() -> None:
        story = Story(Retry(3600))
        made = bench(story)
        made.observe(thing())
        await asyncio.sleep(1)
        made.observe(thing(version=2))
        await idle(made)
        assert story.versions == ["1", "2"]
        assert story.asked[1][0] == 1

    virtual_time.run(play())


def test_change_during_a_reconcile_is_not_missed() -> None:
    async def play() -> None:
        story = Story(Done(), Done())
        made = bench(story)
        story.during = lambda: made.observe(thing(version=2)) if len(story.asked) == 1 else None
        made.observe(thing())
        await idle(made)
        assert story.versions == ["1", "2"]

    virtual_time.run(play())


def test_older_version_that_the_watch_brings_late_changes_nothing() -> None:
    async def play() -> None:
        story = Story(Retry(100))
        made = bench(story)
        made.observe(thing(version=5))
        await asyncio.sleep(1)
        made.observe(thing(version=4))
        await asyncio.sleep(1)
        assert story.versions == ["5"]
        await idle(made)
        assert story.versions == ["5", "5"]

    virtual_time.run(play())


def test_deleted_object_ends_its_task() -> None:
    async def play() -> None:
        story = Story(Retry(3600))
        made = bench(story)
        made.observe(thing())
        await asyncio.sleep(1)
        made.observe(thing(), deleted=True)
        await asyncio.sleep(1)
        assert made.active == 0
        assert story.versions == ["1"]

    virtual_time.run(play())


def test_late_deletion_of_a_predecessor_leaves_the_successor_alone() -> None:
    async def play() -> None:
        story = Story(Retry(10))
        made = bench(story)
        made.observe(thing(uid="new", version=7))
        await asyncio.sleep(1)
        made.observe(thing(uid="old", version=3), deleted=True)
        await idle(made)
        assert story.versions == ["7", "7"]

    virtual_time.run(play())


def test_object_created_again_while_its_predecessor_is_worked_on_is_taken_up() -> None:
    async def play() -> None:
        story = Story(Retry(3600), Done())
        made = bench(story)
        made.observe(thing(uid="old"))
        await asyncio.sleep(1)
        made.observe(thing(uid="old"), deleted=True)
        made.observe(thing(uid="new", version=2))
        await idle(made)
        assert story.versions == ["1", "2"]

    virtual_time.run(play())


def test_mistake_is_tried_again_ever_more_slowly_and_disturbs_nobody_else() -> None:
    async def play() -> None:
        troubled = Story(*(RuntimeError("a mistake of ours") for _ in range(10)))
        made = bench(troubled)
        made.observe(thing("troubled"))
        await idle(made)
        times = [at for at, _ in troubled.asked]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert len(pauses) == 10
        assert all(0.5 <= pause <= 60 for pause in pauses)
        assert pauses[0] <= 1
        assert pauses[-1] >= 30

    virtual_time.run(play())


def test_ring_wakes_all_that_wait() -> None:
    async def play() -> None:
        story = Story(Retry(3600), Retry(3600))
        made = bench(story)
        made.observe(thing("a"))
        made.observe(thing("b"))
        await asyncio.sleep(1)
        made.ring_all()
        await idle(made)
        assert len(story.asked) == 4
        assert asyncio.get_running_loop().time() < 10

    virtual_time.run(play())


@pytest.mark.parametrize("wait", [0.0, 5.0])
def test_closing_lets_a_waiting_task_go_at_once_and_starts_no_other(wait: float) -> None:
    async def play() -> None:
        story = Story(Retry(3600))
        made = bench(story)
        made.observe(thing())
        await asyncio.sleep(1)
        await made.close(wait)
        made.observe(thing("late"))
        assert made.active == 0
        assert asyncio.get_running_loop().time() <= 1 + wait

    virtual_time.run(play())


def test_closing_cancels_what_does_not_end_in_time() -> None:
    async def play() -> None:
        async def stuck(_: Cell) -> Outcome:
            await asyncio.sleep(3600)
            return Done()

        made = Workbench("Thing", stuck, lambda _: True)
        made.observe(thing())
        await asyncio.sleep(1)
        await made.close(10)
        assert made.active == 0
        assert asyncio.get_running_loop().time() == pytest.approx(11)

    virtual_time.run(play())


def test_closing_does_not_wait_for_ever_for_a_task_that_heeds_no_cancellation() -> None:
    async def play() -> None:
        async def deaf(_: Cell) -> Outcome:
            for _again in range(3):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
            return Done()

        made = Workbench("Thing", deaf, lambda _: True)
        made.observe(thing())
        await asyncio.sleep(1)
        await made.close(10)
        assert asyncio.get_running_loop().time() == pytest.approx(11 + CANCEL_SECONDS)
        await idle(made)

    virtual_time.run(play())


def test_trouble_with_the_api_server_is_told_without_a_traceback() -> None:
    async def play() -> None:
        story = Story(ClusterUnavailable("no answer"), Forbidden("403"), Done())
        made = bench(story)
        with capture_logs() as logs:
            made.observe(thing())
            await idle(made)
        assert [(line["log_level"], line["error"], "exc_info" in line) for line in logs] == [
            ("warning", "no answer", False),
            ("warning", "403", False),
        ]

    virtual_time.run(play())


def test_resting_bench_holds_what_there_is_to_do_and_does_it_once_told_to_begin() -> None:
    async def play() -> None:
        story = Story()
        made = Workbench("Thing", story, lambda obj: not obj["spec"].get("settled"), resting=True)
        made.observe(thing("settled meanwhile"))
        made.observe(thing("deleted meanwhile"))
        made.observe(thing("changed meanwhile"))
        made.observe(thing("settled from the start", settled=True))
        made.observe(thing("settled meanwhile", version=2, settled=True))
        made.observe(thing("deleted meanwhile"), deleted=True)
        made.observe(thing("changed meanwhile", version=3))
        await asyncio.sleep(60)
        assert (story.asked, made.active) == ([], 0)
        made.observe({**thing("waits"), "status": {"phase": "AwaitingApproval"}})
        assert made.count("AwaitingApproval") == 0, "whoever works on it counts it"
        made.begin()
        assert made.count("AwaitingApproval") == 1
        await idle(made)
        assert story.versions == ["3", "1"]

    virtual_time.run(play())


def test_bench_that_is_told_to_rest_cuts_off_its_tasks_and_begins_anew_when_told_to() -> None:
    async def play() -> None:
        cut: list[str] = []
        begun = 0

        async def slow(cell: Cell) -> Outcome:
            nonlocal begun
            begun += 1
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cut.append(cell.key[1])
                raise
            return Done()

        made = Workbench("Thing", slow, lambda obj: not obj["spec"].get("settled"))
        made.observe(thing("a"))
        made.observe(thing("b"))
        await asyncio.sleep(1)
        await made.rest()
        assert (sorted(cut), made.active) == (["a", "b"], 0)
        made.observe(thing("b", version=2, settled=True))
        made.begin()
        await asyncio.sleep(1)
        assert (begun, made.active) == (3, 1)
        await idle(made)

    virtual_time.run(play())


def test_bench_that_begins_before_a_deaf_task_has_heard_that_it_should_rest_loses_no_object() -> None:
    async def play() -> None:
        begun = 0

        async def deaf(_: Cell) -> Outcome:
            nonlocal begun
            begun += 1
            for _again in range(2):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
            return Retry(1) if begun == 1 else Done()

        made = Workbench("Thing", deaf, lambda _: True)
        made.observe(thing())
        await asyncio.sleep(1)
        await made.rest()
        made.begin()
        await idle(made)
        assert begun == 2

    virtual_time.run(play())


def test_word_of_a_time_before_our_own_last_write_takes_nothing_up_anew() -> None:
    async def play() -> None:
        story = Story()
        made = bench(story)

        def write() -> None:
            made._cells["ns", "a"].keep(thing(version=7, settled=True))

        story.during = write
        made.observe(thing(version=3))
        await idle(made)
        for version in (4, 6):
            made.observe(thing(version=version))
        await idle(made)
        assert "4" not in story.versions
        assert "6" not in story.versions
        made.observe(thing(version=7, settled=True))
        await idle(made)
        assert not made._cells, "what the watch has told of too is not kept"
        taken = len(story.asked)
        made.observe(thing(version=8))
        await idle(made)
        assert story.versions[taken:] == ["8"]

    virtual_time.run(play())


def test_successor_of_what_is_still_kept_is_taken_up() -> None:
    async def play() -> None:
        story = Story()
        made = bench(story)
        story.during = lambda: made._cells["ns", "a"].keep(thing(version=7, settled=True))
        made.observe(thing(version=3))
        await idle(made)
        story.during = lambda: None
        made.observe(thing(version=7, settled=True), deleted=True)
        made.observe(thing(version=9, uid="new"))
        await idle(made)
        assert story.versions[-1] == "9"
        assert not made._cells

    virtual_time.run(play())


def test_crowd_is_worked_on_few_at_a_time_and_ends_at_once_when_the_process_does() -> None:
    async def play() -> None:
        began: list[str] = []

        async def slowly(cell: Cell) -> Outcome:
            began.append(cell.key[1])
            await asyncio.sleep(1)
            return Done()

        made = Workbench("Thing", slowly, lambda obj: True, turns=Turns(2))
        for number in range(20):
            made.observe(thing(f"t{number}", version=number))
        await asyncio.sleep(2.5)
        assert began == [f"t{number}" for number in range(6)]
        await made.close(10)
        assert len(began) == 6, "what waits for its turn when the process ends is not begun"
        assert made.active == 0

    virtual_time.run(play())
