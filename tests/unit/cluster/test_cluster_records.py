"""Records of newer operators, and conflicts that are our own."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.action import ActionType, Phase, PlanStatus
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.record import RecordPlan, RecordSource, RecordSpec, RecordStatus
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import UnreadableObject, WriteConflict
from invocation_operator.cluster.records import Hold, HoldLost, Lease, Record, RecordStore
from invocation_operator.cluster.resources import RECORDS
from invocation_operator.cluster.status import dump
from tests.unit.reconcile.fake_kube import FakeKube

SPEC = RecordSpec(
    hash_version=1,
    source=RecordSource(kind="InvocationAction", namespace="shop", name="a", uid="u"),
    engine=EngineIdentity(name="e"),
    action=ActionType.CANCEL,
    start_time=datetime(2026, 1, 1, tzinfo=UTC),
    holder="me",
    specification="{}",
    plan=RecordPlan(total=0, summary=PlanStatus()),
)


class Keeper(FakeKube):
    """Answers the first writes with a conflict."""

    conflicts = 0

    async def replace_status(self, resource: Any, namespace: str, name: str, body: Object) -> Object:
        if self.conflicts:
            self.conflicts -= 1
            raise WriteConflict("stale")
        return self.put(resource, namespace, name, spec=body["spec"], status=body["status"])


def kept(kube: FakeKube, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> Object:
    return kube.put(RECORDS, "ops", "iact-1", spec=dump(SPEC) | (spec or {}), status=status or {})


def store(kube: FakeKube) -> RecordStore:
    return RecordStore(cast("KubeClient", kube), "ops", "me", Lease(), lambda: 0.0)


@pytest.mark.parametrize(
    ("spec", "status", "place"),
    [
        pytest.param({}, {"phase": "Dreaming"}, "phase", id="a phase of tomorrow"),
        pytest.param({"action": "Teleport"}, {}, "action", id="an action of tomorrow"),
        pytest.param({"plan": None}, {}, "plan", id="damaged"),
    ],
)
async def test_record_of_a_newer_operator_is_unreadable(spec: Any, status: Any, place: str) -> None:
    kube = FakeKube()
    kept(kube, spec, status)
    with pytest.raises(UnreadableObject, match=f"iact-1: {place}"):
        await store(kube).find("iact-1")


async def test_record_that_can_be_read_is_found() -> None:
    kube = FakeKube()
    kept(kube, status={"phase": "Succeeded", "newField": 1})
    found = await store(kube).find("iact-1")
    assert found is not None
    assert found.finished
    assert await store(kube).find("iact-2") is None


@pytest.mark.parametrize(
    ("status", "mine"),
    [
        pytest.param({"holder": "me", "phase": "Running"}, True, id="our own unanswered try"),
        pytest.param({"holder": "other", "phase": "Running"}, False, id="another holder"),
        pytest.param({"holder": "other", "phase": "Dreaming"}, False, id="another holder, and newer"),
        pytest.param({"phase": "Dreaming"}, False, id="closed by a newer one"),
        pytest.param({}, False, id="nobody"),
    ],
)
async def test_hold_that_meets_a_conflict_is_kept_only_if_it_was_its_own(status: dict[str, Any], mine: bool) -> None:
    kube = Keeper()
    record = Record.of(kept(kube))
    hold = Hold(cast("KubeClient", kube), record, "me", Lease(), lambda: 0.0, held=True)
    kept(kube, status=status)
    kube.conflicts = 1
    if mine:
        await hold.commit(lambda: RecordStatus(phase=Phase.RUNNING))
        assert hold.certain
    else:
        with pytest.raises(HoldLost):
            await hold.commit(lambda: RecordStatus(phase=Phase.RUNNING))
        assert not hold.certain


async def test_takeover_does_not_write_over_a_late_write_of_an_earlier_life() -> None:
    """It ended a soak, came after the record had been read, and the soak began anew."""
    kube = Keeper()
    record = Record.of(kept(kube, status={"holder": "me", "phase": "Running", "ledger": "before"}))
    late = kept(kube, status={"holder": "me", "phase": "Running", "ledger": "after"})
    kube.conflicts = 1
    assert await store(kube).take_over(record) is None
    assert (await kube.get(RECORDS, "ops", "iact-1"))["status"] == late["status"]


async def test_hold_that_is_renewed_slowly_tells_how_slowly_and_since_when() -> None:
    """What an operator that loses its hold writes to its log: whether it was the API server that was slow."""
    now = 100.0

    class Slow(Keeper):
        async def replace_status(self, *args: Any) -> Object:
            nonlocal now
            now += 1.5
            return await super().replace_status(*args)

    kube = Slow()
    record = Record.of(kept(kube))
    hold = Hold(cast("KubeClient", kube), record, "me", Lease(seconds=3), lambda: now, held=True)
    await hold.commit(lambda: record.status)
    now += 0.4
    assert (hold.slowest_seconds, hold.unrenewed_seconds) == (1.5, pytest.approx(1.9)), "it counts from the sending"
    assert hold.certain
    now += 0.2
    assert not hold.certain
