"""Engines outside of the served namespaces: what changes there, what goes, and what cannot be looked at."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from e2e.simulation import loop as virtual_time
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ClusterUnavailable
from invocation_operator.cluster.resources import ENGINES
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.enginenews import LIMIT_SECONDS, LOOK_SECONDS, EngineNews, Outskirts, Seen
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.workbench import Outcome, Retry, Workbench
from tests.unit.reconcile.fake_kube import FakeKube

OWN, TRUSTED = "operator-system", "platform"
ADDRESS = "engine.example:9070"
URL = f"http://{ADDRESS}"


class Scene:
    """Outskirts on a fake API, and what their news brings about."""

    def __init__(self, *namespaces: str) -> None:
        self.kube = FakeKube()
        client = cast("KubeClient", self.kube)
        self.engines = Engines(
            client,
            operator_namespace=OWN,
            cluster_domain="cluster.local",
            trusted_namespaces=(TRUSTED,),
            call_timeout=5.0,
            batch_endpoints=True,
            clock=lambda: 0.0,
        )
        self.rung = 0
        self.reconciled: list[tuple[str, str | None]] = []
        self.bench = Workbench("RestateEngine", self._reconcile, lambda obj: True)
        self.outskirts = Outskirts(client, EngineNews(self.engines, self.bench, self._ring), namespaces or (OWN,))

    def _ring(self) -> None:
        self.rung += 1

    async def _reconcile(self, cell: Cell) -> Outcome:
        metadata = (cell.obj or {}).get("metadata", {})
        self.reconciled.append(("/".join(cell.key), metadata.get("resourceVersion")))
        return Retry(1_000_000)

    def looks(self, namespace: str = OWN) -> int:
        """How often one namespace was looked at."""
        return self.kube.asked.count((ENGINES.plural, namespace, "*"))

    async def look(self, seen: Seen) -> Seen:
        """Look once, and let the workbench do what follows."""
        found = await self.outskirts.look(OWN, seen)
        await asyncio.sleep(0.1)
        return found


def play(scene: Scene, story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await story()
        finally:
            await scene.bench.close(0.0)
            await scene.engines.close()

    virtual_time.run(whole())


def test_engines_elsewhere_are_taken_in_once_and_again_when_they_change() -> None:
    scene = Scene()

    async def story() -> None:
        first = scene.kube.engine(OWN, "default", url=URL, suspend=False)
        scene.kube.engine("shop", "default", url=URL, suspend=True)
        seen = await scene.look({})
        assert scene.engines.switches(ADDRESS) == [], "of the other namespaces the watch tells"
        assert (scene.rung, scene.reconciled) == (1, [(f"{OWN}/default", first["metadata"]["resourceVersion"])])
        seen = await scene.look(seen)
        assert (scene.rung, len(scene.reconciled)) == (1, 1), "nothing is new"
        scene.kube.engine(OWN, "default", url=URL, suspend=True)
        await scene.look(seen)
        assert scene.engines.switches(ADDRESS) == [f"{OWN}/default"]
        assert (scene.rung, len(scene.reconciled)) == (2, 2)

    play(scene, story)


def test_engine_elsewhere_that_is_deleted_binds_nobody_any_more() -> None:
    """Also when somebody has read a later version of it than the last look did."""
    scene = Scene()

    async def story() -> None:
        scene.kube.engine(OWN, "default", url=URL, suspend=True)
        seen = await scene.look({})
        scene.engines.observe(scene.kube.engine(OWN, "default", url=URL, suspend=True), deleted=False)
        await scene.kube.delete(ENGINES, OWN, "default", resource_version="102")
        seen = await scene.look(seen)
        assert not scene.engines.suspended(ADDRESS)
        assert (scene.rung, scene.bench.active, seen) == (2, 0, {})

    play(scene, story)


def test_engine_elsewhere_that_was_replaced_is_another_one() -> None:
    scene = Scene()

    async def story() -> None:
        scene.kube.engine(OWN, "default", uid="old", url=URL, suspend=True)
        seen = await scene.look({})
        second = scene.kube.engine(OWN, "default", uid="new", url=URL)
        await scene.look(seen)
        assert scene.engines.uid((OWN, "default")) == "new"
        assert not scene.engines.suspended(ADDRESS)
        assert scene.reconciled[-1] == (f"{OWN}/default", second["metadata"]["resourceVersion"])
        assert scene.bench.active == 1

    play(scene, story)


def test_engines_elsewhere_while_the_api_server_is_away_stay_as_they_are() -> None:
    scene = Scene()

    async def story() -> None:
        scene.kube.engine(OWN, "default", url=URL, suspend=True)
        seen = await scene.look({})
        scene.kube.objects.clear()
        scene.kube.unavailable = True
        with pytest.raises(ClusterUnavailable):
            await scene.look(seen)
        assert scene.engines.suspended(ADDRESS), "what cannot be seen is not gone"

    play(scene, story)


async def during(work: Awaitable[None], seconds: float) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_outskirts_look_again_and_again_and_end_when_they_are_cancelled() -> None:
    scene = Scene(OWN, TRUSTED)

    async def story() -> None:
        await during(scene.outskirts.run(), 100 * LOOK_SECONDS)
        looks = scene.looks(OWN), scene.looks(TRUSTED)
        await asyncio.sleep(1000)
        assert (scene.looks(OWN), scene.looks(TRUSTED)) == looks
        assert all(100 <= number <= 126 for number in looks)

    play(scene, story)


@pytest.mark.parametrize(
    ("trouble", "most", "next_step"),
    [
        pytest.param("unavailable", 10, "503", id="an API server that is away is asked ever more seldom"),
        pytest.param("forbidden", 7, "helm upgrade", id="what is not allowed is not tried every few seconds"),
    ],
)
def test_outskirts_that_cannot_be_looked_at_are_tried_seldom_and_told_of_once(
    trouble: str, most: int, next_step: str
) -> None:
    scene = Scene(OWN)
    troubles: dict[str, Any] = {"unavailable": True, "forbidden": {ENGINES.plural}}

    async def story() -> None:
        before = getattr(scene.kube, trouble)
        setattr(scene.kube, trouble, troubles[trouble])
        task = asyncio.ensure_future(scene.outskirts.run())
        with capture_logs() as logs:
            await asyncio.sleep(4.5 * LIMIT_SECONDS)
        assert 5 <= scene.looks() <= most
        (line,) = logs
        assert (line["log_level"], line["namespace"]) == ("warning", OWN)
        assert next_step in line["error"]
        # It heals by itself.
        setattr(scene.kube, trouble, before)
        scene.kube.engine(OWN, "default", url=URL, suspend=True)
        await asyncio.sleep(LIMIT_SECONDS + 1)
        assert scene.engines.suspended(ADDRESS)
        looks = scene.looks()
        await asyncio.sleep(LIMIT_SECONDS)
        assert scene.looks() - looks >= LIMIT_SECONDS / LOOK_SECONDS - 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(scene, story)
