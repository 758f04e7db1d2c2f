"""Finished objects go when their TTL ends: not before, as they were judged, and never what a GitOps tool owns."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from e2e.simulation import loop as virtual_time
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterUnavailable, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.resources import ACTIONS
from invocation_operator.reconcile.expiry import AGAIN_SECONDS, Expiry

START = datetime(2026, 1, 1, tzinfo=UTC)


class Cluster:
    """Notes deletions with their time, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, float, str | None]] = []
        self.told: list[tuple[str, str]] = []
        self.failures: list[Exception] = []

    async def delete(self, _: object, namespace: str | None, name: str, *, resource_version: str | None = None) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.deleted.append((f"{namespace}/{name}", asyncio.get_running_loop().time(), resource_version))

    def tell(self, obj: Object, reason: str, message: str) -> None:
        self.told.append((obj["metadata"]["name"], f"{reason}: {message}"))


def finished(name: str, ttl: int, *, version: str = "1", ended: float = 0.0, **metadata: Any) -> Object:
    at = (START + timedelta(seconds=ended)).isoformat()
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": f"u-{name}", "resourceVersion": version, **metadata},
        "spec": {"ttlSecondsAfterFinished": ttl},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]},
    }


def play(story: Callable[[Cluster, Expiry], Coroutine[Any, Any, None]]) -> Cluster:
    """Run ``story`` beside the room, on a clock that passes at once."""
    cluster = Cluster()

    async def stage() -> None:
        loop = asyncio.get_running_loop()
        expiry = Expiry(
            cast("KubeClient", cluster),
            cast("EventRecorder", cluster),
            ACTIONS,
            lambda obj: "unfinished" not in obj,
            lambda: START + timedelta(seconds=loop.time()),
        )
        running = asyncio.create_task(expiry.run())
        await story(cluster, expiry)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(stage())
    return cluster


def test_objects_are_deleted_in_the_order_of_their_ttls_as_they_were_judged() -> None:
    async def story(_: Cluster, expiry: Expiry) -> None:
        await asyncio.sleep(1)
        expiry.observe(finished("late", 9000))
        expiry.observe(finished("soon", 10, version="7"))
        await asyncio.sleep(9500)
        assert expiry.waiting == 0

    assert play(story).deleted == [("shop/soon", 10.0, "7"), ("shop/late", 9000.0, "1")]


def test_object_that_changed_is_judged_anew() -> None:
    async def story(_: Cluster, expiry: Expiry) -> None:
        for name in ("longer", "none", "runs", "gone", "leaving"):
            expiry.observe(finished(name, 10))
        await asyncio.sleep(5)
        expiry.observe(finished("longer", 20, version="2"))
        without = finished("none", 10, version="2")
        del without["spec"]["ttlSecondsAfterFinished"]
        expiry.observe(without)
        expiry.observe(finished("runs", 10, version="2") | {"unfinished": True})
        expiry.observe(finished("gone", 10), deleted=True)
        expiry.observe(finished("leaving", 10, deletionTimestamp="2026-01-01T00:00:05Z"))
        await asyncio.sleep(100)

    assert play(story).deleted == [("shop/longer", 20.0, "2")]


def test_object_seen_a_thousand_times_is_kept_once_with_its_last_version() -> None:
    async def story(_: Cluster, expiry: Expiry) -> None:
        for version in range(1000):
            expiry.observe(finished("seen", 10, version=str(version)))
        assert len(expiry._heap) == 1
        await asyncio.sleep(100)

    assert play(story).deleted == [("shop/seen", 10.0, "999")]


def test_object_of_a_gitops_tool_is_kept_and_its_owner_told_once() -> None:
    async def story(_: Cluster, expiry: Expiry) -> None:
        helm = {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
        await asyncio.sleep(1000)
        expiry.observe(finished("fresh", 10, ended=1000, **helm))
        expiry.observe(finished("told-by-an-earlier-life", 10, **helm))
        await asyncio.sleep(10000)

    cluster = play(story)
    assert cluster.deleted == []
    assert [(name, said.partition(",")[0]) for name, said in cluster.told] == [
        ("fresh", "TTLWithheld: its TTL has ended")
    ]
    assert "Helm owns this object" in cluster.told[0][1]


def test_deletion_that_fails_is_tried_again_and_one_of_a_changed_object_is_not() -> None:
    async def story(cluster: Cluster, expiry: Expiry) -> None:
        cluster.failures = [ClusterUnavailable("away"), WriteConflict("changed"), RuntimeError("a mistake")]
        for number, name in enumerate(("first", "second", "third"), 1):
            expiry.observe(finished(name, number))
        await asyncio.sleep(1000)

    again = [("shop/first", 1.0 + AGAIN_SECONDS, "1"), ("shop/third", 3.0 + AGAIN_SECONDS, "1")]
    assert play(story).deleted == again
