"""How the process is asked to stop, and what it does with its runs then."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import kopf
import pytest

from e2e.simulation import loop as virtual_time
from invocation_operator import app
from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.handlers import watch
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.duty import Duty
from invocation_operator.reconcile.workbench import Done, Outcome, Workbench
from invocation_operator.settings import Settings

OBJECT = {"metadata": {"namespace": "shop", "name": "x", "uid": "1", "resourceVersion": "1"}}


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Quiet:
    """Events that nobody reads."""

    async def drain(self, timeout_seconds: float) -> None:
        """Nothing to write."""


class Stubborn:
    """Runs that do not end by themselves."""

    def __init__(self) -> None:
        self.cancelled = False
        self.bench = Workbench("InvocationAction", self.reconcile, lambda obj: True)

    async def reconcile(self, cell: Cell) -> Outcome:
        """Hang until it is cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Done()


def house(stubborn: Stubborn) -> app.House:
    async def nothing(_: Cell) -> Outcome:
        return Done()

    idle = Workbench("RestateEngine", nothing, lambda obj: False)
    absent = cast("Any", None)
    duty = Duty(None, (idle, stubborn.bench), ())
    benches = stubborn.bench, idle, idle, idle
    return app.House(absent, cast("Any", Quiet()), *[absent] * 4, *benches, duty, absent)


async def hang() -> tuple[Stubborn, app.House]:
    stubborn = Stubborn()
    stubborn.bench.observe(dict(OBJECT))
    await asyncio.sleep(0)
    return stubborn, house(stubborn)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_app_first_signal_asks_and_the_second_insists(number: signal.Signals) -> None:
    shutdown = app.Shutdown()
    shutdown.listen()
    assert not shutdown.asked
    os.kill(os.getpid(), number)
    await asyncio.wait_for(shutdown.event.wait(), 30)
    assert shutdown.asked
    assert not shutdown.insisted.is_set()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(shutdown.insisted.wait(), 30)


async def test_app_runs_that_do_not_end_are_given_up_after_the_time_that_was_set() -> None:
    stubborn, wired = await hang()
    await asyncio.wait_for(app._hand_over(Settings(shutdown_seconds=0.01), wired, app.Shutdown()), 60)
    assert stubborn.cancelled
    assert stubborn.bench.active == 0


async def test_app_second_signal_does_not_wait_for_runs() -> None:
    stubborn, wired = await hang()
    shutdown = app.Shutdown()
    shutdown.insisted.set()
    await asyncio.wait_for(app._hand_over(Settings(shutdown_seconds=600), wired, shutdown), 60)
    assert stubborn.cancelled
    assert stubborn.bench.active == 0


async def test_app_without_runs_there_is_nothing_to_wait_for() -> None:
    stubborn = Stubborn()
    await asyncio.wait_for(app._hand_over(Settings(shutdown_seconds=600), house(stubborn), app.Shutdown()), 60)
    assert not stubborn.cancelled


async def test_app_watches_that_end_are_explained() -> None:
    async def fail() -> None:
        raise RuntimeError("no such kind")

    failed = asyncio.create_task(fail())
    await asyncio.wait({failed})
    with pytest.raises(ClusterError, match="the watches ended: no such kind"):
        app._explain(failed)
    finished = asyncio.create_task(asyncio.sleep(0))
    await finished
    with pytest.raises(ClusterError, match="the watches ended: without a word"):
        app._explain(finished)


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        (["invocationactions", "restateengines", "retentionpolicies"], ""),
        (["invocationactions", "retentionpolicies"], "restateengines"),
        ([], "invocationactions, restateengines, retentionpolicies"),
    ],
)
async def test_app_is_not_ready_when_kopf_did_not_find_a_kind(seen: list[str], missing: str) -> None:
    insights = app.Insights()
    insights.watched_resources.update(kopf.Resource(GROUP, VERSION, plural) for plural in seen)
    starting = asyncio.create_task(app._started(insights))
    insights.ready_resources.set()
    await asyncio.sleep(0)
    assert not starting.done(), "namespaces are not known yet"
    insights.ready_namespaces.set()
    if missing:
        with pytest.raises(ClusterError, match=f"does not show {missing} yet"):
            await starting
    else:
        await starting


@pytest.mark.parametrize("clusterwide", [True, False])
def test_app_lists_objects_in_chunks_and_posts_no_events_of_kopf(clusterwide: bool) -> None:
    settings = watch.settings(clusterwide=clusterwide)
    assert settings.watching.chunk_size == 500
    assert not settings.posting.enabled
    assert settings.scanning.disabled is not clusterwide


def test_watches_end_although_one_of_them_outlives_its_cancellation() -> None:
    """It takes it for a pause, and whoever ends the watches cancels each of them once."""

    async def stubborn() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600.0)
        await asyncio.sleep(3600.0)

    async def fail() -> None:
        raise ClusterError("gone")

    async def play() -> None:
        ignored = asyncio.all_tasks()
        root, left = asyncio.create_task(fail()), asyncio.create_task(stubborn())

        async def run() -> None:
            await asyncio.wait({root})
            left.cancel()
            await asyncio.wait({left})
            root.result()

        with pytest.raises(ClusterError, match="gone"):
            await watch.until_ended(asyncio.create_task(run()), {root}, ignored)
        assert left.cancelled()
        assert asyncio.get_running_loop().time() < 60.0

    virtual_time.run(play())
