"""Records without an object are closed, whatever else lies around."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import Forbidden
from invocation_operator.cluster.records import Lease, RecordStore
from invocation_operator.cluster.resources import ACTIONS, RECORDS, RETENTION_POLICIES
from invocation_operator.cluster.status import dump
from invocation_operator.reconcile.orphans import Orphans
from invocation_operator.reconcile.takeover import Leases
from tests.unit.cluster.test_cluster_records import SPEC
from tests.unit.reconcile.fake_kube import FakeKube
from tests.unit.reconcile.virtual import in_virtual_time


class Keeper(FakeKube):
    async def replace_status(self, resource: Any, namespace: str, name: str, body: Object) -> Object:
        return self.put(resource, namespace, name, spec=body["spec"], status=body["status"])

    def record(self, name: str, source: str, kind: str = "InvocationAction", **spec: Any) -> None:
        raw = dump(SPEC) | {"source": {"kind": kind, "namespace": "shop", "name": source, "uid": "u"}}
        self.put(RECORDS, "ops", name, spec=raw | spec, status={"observedGeneration": 1})

    def phase(self, name: str) -> str | None:
        status: dict[str, str] = self.objects[("invocationrecords", "ops", name)]["status"]
        return status.get("phase")


def orphans(kube: FakeKube, clock: Callable[[], float] = lambda: 0.0) -> Orphans:
    client = cast("KubeClient", kube)
    return Orphans(client, RecordStore(client, "ops", "me", Lease(), clock), Leases("me", Lease(), clock))


async def test_orphans_are_closed_beside_records_that_cannot_be_read() -> None:
    kube = Keeper()
    kube.record("a-newer", "gone", action="Teleport")
    kube.put(RECORDS, "ops", "b-broken", spec={"source": 7})
    kube.record("c-orphan", "gone")
    kube.record("d-alive", "alive")
    kube.record("e-newer-kind", "gone", kind="Teleporter")
    kube.put(ACTIONS, "shop", "alive", metadata={"uid": "u"})
    assert await orphans(kube).close_all() is False
    assert [kube.phase(name) for name in ("c-orphan", "d-alive", "e-newer-kind")] == ["Stopped", None, None]


async def test_orphans_are_runs_that_their_object_does_not_ask_for_any_more() -> None:
    """Its operator went away before the object's status told of the run, so the API server took a new ``runId``."""
    kube = Keeper()
    kube.record("a-first", "act")
    kube.record("b-before", "act", runId="one")
    kube.record("c-now", "act", runId="two")
    kube.put(ACTIONS, "shop", "act", metadata={"uid": "u"}, spec={"runId": "two"})
    assert await orphans(kube).close_all() is False
    assert [kube.phase(name) for name in ("a-first", "b-before", "c-now")] == ["Stopped", "Stopped", None]


async def test_orphans_without_the_right_to_look_close_nothing() -> None:
    kube = Keeper()
    kube.record("a-orphan", "gone")
    kube.forbidden.add(ACTIONS.plural)
    with pytest.raises(Forbidden):
        await orphans(kube).close_all()
    assert kube.phase("a-orphan") is None


async def test_orphans_of_namespaces_that_another_release_serves_are_left_to_it() -> None:
    kube = Keeper()
    kube.record("a-orphan", "gone")
    kube.forbidden.add(ACTIONS.plural)
    found = orphans(kube)
    found.namespaces = ("billing",)
    assert await found.close_all() is False
    assert kube.phase("a-orphan") is None


async def test_orphans_that_this_process_still_carries_out_end_by_themselves() -> None:
    """Its run was finishing what must not be left half done when the record was closed beneath it."""
    kube = Keeper()
    kube.record("a-orphan", "gone")
    found = orphans(kube)
    running = {"a-orphan"}
    found.running = running
    assert await found.close_all() is True
    assert kube.phase("a-orphan") is None
    running.clear()
    assert await found.close_all() is False
    assert kube.phase("a-orphan") == "Stopped"


async def test_run_of_a_policy_that_nobody_carries_out_is_told_of() -> None:
    """Another operator began it while this one found nothing for the same tick, and handed it over."""
    kube = Keeper()
    kube.put(RETENTION_POLICIES, "shop", "alive", metadata={"uid": "u"})
    kube.put(ACTIONS, "shop", "alive", metadata={"uid": "u"})
    kube.record("a-sweep", "alive", kind="RetentionPolicy")
    kube.record("b-action", "alive")
    told: list[str] = []
    clock, running = [0.0], {"a-sweep"}
    looking = orphans(kube, lambda: clock[0])
    looking.found = lambda record: told.append(record.name)
    looking.running = running
    await looking.close_all()
    assert told == []
    running.clear()
    await looking.close_all()
    assert told == ["a-sweep"]
    kube.objects["invocationrecords", "ops", "a-sweep"]["status"]["holder"] = "another"
    await looking.close_all()
    assert told == ["a-sweep"]
    clock[0] += Lease().seconds
    await looking.close_all()
    assert told == ["a-sweep"] * 2
    assert [kube.phase(name) for name in ("a-sweep", "b-action")] == [None, None]


@in_virtual_time
async def test_orphans_are_looked_for_the_less_often_the_longer_a_look_takes() -> None:
    """All records are read for it, and they are kept for a year."""
    looking, began = orphans(Keeper()), list[float]()

    async def slow() -> bool:
        began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(10.0)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Orphans, "close_all", lambda _: slow())
        patch.setattr(RecordStore, "note_newer", lambda *_: asyncio.sleep(0))
        task = asyncio.create_task(looking.run())
        await asyncio.sleep(500.0)
        task.cancel()
    assert [round(later - earlier) for earlier, later in pairwise(began)] == [210, 210]
