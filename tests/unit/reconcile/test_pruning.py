"""Old records: which are deleted, and which are not."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.records import Lease, RecordStore
from invocation_operator.cluster.resources import ACTIONS, RECORDS
from invocation_operator.cluster.status import dump
from invocation_operator.reconcile import pruning
from invocation_operator.reconcile.pruning import Pruning
from tests.unit.cluster.test_cluster_records import SPEC
from tests.unit.reconcile.fake_kube import FakeKube

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OLD, YOUNG = NOW - timedelta(days=401), NOW - timedelta(days=399)


def record(
    kube: FakeKube, name: str = "r", *, created: datetime = OLD, ended: datetime | None = OLD, **fields: Any
) -> None:
    source = {"kind": fields.pop("kind", "InvocationAction"), "namespace": "shop", "name": "a", "uid": "u"}
    status: dict[str, Any] = {"observedGeneration": 1, "phase": fields.pop("phase", "Succeeded")}
    if ended is not None:
        status["completionTime"] = ended.isoformat()
    metadata = {"creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ")}
    kube.put(RECORDS, "ops", name, spec=dump(SPEC) | {"source": source} | fields, status=status, metadata=metadata)


def pruned(kube: FakeKube, days: float | None = 400) -> Pruning:
    client = cast("KubeClient", kube)
    retention = None if days is None else timedelta(days=days)
    return Pruning(client, RecordStore(client, "ops", "me", Lease(), lambda: 0.0), retention, lambda: NOW)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PER_SECOND", 100_000)


@pytest.mark.parametrize(
    ("fields", "goes"),
    [
        ({}, True),
        ({"phase": "Stopped"}, True),
        ({"created": YOUNG, "ended": YOUNG}, False),
        ({"ended": YOUNG}, False),  # a run of weeks: it counts from its end
        ({"phase": "Running", "ended": None}, False),  # it is somebody's lock
        ({"action": "Teleport"}, False),  # a newer operator's: not to be judged here
    ],
)
async def test_records_are_deleted_by_the_age_of_their_end(fields: dict[str, Any], goes: bool) -> None:
    kube = FakeKube()
    record(kube, **fields)
    assert await pruned(kube).prune() == int(goes)
    assert (("invocationrecords", "ops", "r") not in kube.objects) is goes


@pytest.mark.parametrize(
    ("uid", "kind", "told", "goes"),
    [
        ("u", "InvocationAction", None, False),  # restored without its status, it must find that it has run
        ("another", "InvocationAction", None, True),  # it has the name only
        ("another", "InvocationAction", "r", False),  # created anew, and AlreadyExecuted: it must stay so
        ("another", "InvocationAction", "r2", True),  # a later run of it has a record of its own
        ("u", "RetentionPolicy", None, True),  # it makes one record after the other, and none of them is its lock
    ],
)
async def test_records_of_actions_that_exist_are_kept(uid: str, kind: str, told: str | None, goes: bool) -> None:
    kube = FakeKube()
    record(kube, kind=kind)
    kube.put(ACTIONS, "shop", "a", metadata={"uid": uid}, status={"record": told})
    assert await pruned(kube).prune() == int(goes)


async def test_records_whose_actions_may_not_be_looked_for_are_kept() -> None:
    kube = FakeKube()
    record(kube)
    kube.forbidden.add(ACTIONS.plural)
    assert await pruned(kube).prune() == 0


async def test_records_that_somebody_touches_meanwhile_are_kept() -> None:
    kube = FakeKube()
    record(kube)
    kube.touched_before_delete = True
    assert await pruned(kube).prune() == 0
    assert ("invocationrecords", "ops", "r") in kube.objects


async def test_records_behind_many_that_are_kept_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    kube = FakeKube()
    for name in ("a", "b", "c"):
        record(kube, name, phase="Running", ended=None)
    record(kube, "d")
    passes = pruned(kube)
    assert [await passes.prune() for _ in range(4)] == [0, 1, 0, 0]


async def test_records_are_kept_for_ever_when_nothing_says_how_long() -> None:
    kube = FakeKube()
    record(kube)
    assert await pruned(kube, None).prune() == 0
