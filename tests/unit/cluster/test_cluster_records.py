"""Records of newer operators, and conflicts that are our own."""

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.action import ActionType, Phase, PlanStatus
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.record import RecordPlan, RecordSource, RecordSpec, RecordStatus
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterUnavailable, UnreadableObject, WriteConflict
from invocation_operator.cluster.records import Hold, HoldLost, Lease, Record, RecordStore
from invocation_operator.cluster.resources import CONFIG_MAPS, RECORDS
from invocation_operator.cluster.status import dump
from invocation_operator.reconcile.journal import kept_alive
from tests.unit.reconcile.fake_kube import FakeKube
from tests.unit.reconcile.virtual import in_virtual_time

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


class Mute(Keeper):
    """Carries out the first write and does not answer; then versions count."""

    mute = True

    async def replace_status(self, resource: Any, namespace: str, name: str, body: Object) -> Object:
        found = await self.get(resource, namespace, name)
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise WriteConflict("stale")
        made = await super().replace_status(resource, namespace, name, body)
        if self.mute:
            self.mute = False
            raise ClusterUnavailable("no answer")
        return made


@pytest.mark.parametrize("meanwhile", [None, "other", "closed"])
async def test_hold_that_lets_go_and_is_not_answered_knows_its_own_write_again(meanwhile: str | None) -> None:
    """The end of a run: it would else be told from the record, without what is done after it."""
    kube = Mute()
    hold = Hold(cast("KubeClient", kube), Record.of(kept(kube)), "me", Lease(), lambda: 0.0, held=True)

    async def end() -> None:
        await hold.commit(lambda: RecordStatus(phase=Phase.SUCCEEDED), release=True)

    with pytest.raises(ClusterUnavailable):
        await end()
    if meanwhile is None:
        there = await kube.get(RECORDS, "ops", "iact-1")
        await end()
        assert there["status"]["phase"] == "Succeeded"
        assert await kube.get(RECORDS, "ops", "iact-1") == there, "what has ended is not changed any more"
        return
    # Somebody else holds the run by now, or has ended it.
    kept(kube, status={"holder": "other"} if meanwhile == "other" else {"renewTime": "2026-01-01T00:00:00Z"})
    with pytest.raises(HoldLost):
        await end()


async def test_record_that_is_closed_keeps_no_set_beside_it() -> None:
    kube = Keeper()
    obj = kept(kube, {"plan": {**dump(SPEC)["plan"], "total": 2, "chunks": 2}}, {"phase": "Running"})
    record = Record.of(obj)

    async def delete(resource: Any, namespace: str, name: str, **_: Any) -> None:
        kube.objects.pop((resource.plural, namespace, name), None)

    kube.delete = delete  # type: ignore[method-assign]
    for number in range(2):
        kube.put(CONFIG_MAPS, "ops", f"{record.chunk_prefix}-{number}")
    closed = await store(kube).close(record, "nobody goes on with it")
    assert closed is not None
    assert (closed.finished, closed.status.message) == (True, "nobody goes on with it")
    assert [plural for plural, _, _ in kube.objects] == ["invocationrecords"]


@pytest.mark.parametrize("silent", [True, False])
async def test_record_is_closed_only_when_nobody_has_written_since_it_was_read(silent: bool) -> None:
    """The object was told to be stopped, and its run went on."""
    kube = Keeper()
    record = Record.of(kept(kube, status={"holder": "other", "phase": "Running"}))
    kube.conflicts = 0 if silent else 1
    assert (await store(kube).close(record, "nobody goes on with it") is not None) is silent
    phase = (await kube.get(RECORDS, "ops", "iact-1"))["status"]["phase"]
    assert phase == ("Stopped" if silent else "Running")


async def test_takeover_does_not_write_over_a_late_write_of_an_earlier_life() -> None:
    """It ended a soak, came after the record had been read, and the soak began anew."""
    kube = Keeper()
    record = Record.of(kept(kube, status={"holder": "me", "phase": "Running", "ledger": "before"}))
    late = kept(kube, status={"holder": "me", "phase": "Running", "ledger": "after"})
    kube.conflicts = 1
    assert await store(kube).take_over(record) is None
    assert (await kube.get(RECORDS, "ops", "iact-1"))["status"] == late["status"]


class Slow(Keeper):
    """Takes its time to answer, or to fail."""

    def __init__(self, seconds: float, *, fails: bool = False) -> None:
        super().__init__()
        self.seconds, self.fails = seconds, fails
        self.asked_at: list[float] = []

    async def replace_status(self, *args: Any) -> Object:
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise ClusterUnavailable("away")
        return await super().replace_status(*args)


def held(kube: Keeper, lease: Lease) -> Hold:
    clock = asyncio.get_running_loop().time
    return Hold(cast("KubeClient", kube), Record.of(kept(kube)), "me", lease, clock, held=True)


@in_virtual_time
async def test_hold_that_is_renewed_slowly_tells_how_slowly_and_since_when() -> None:
    """What an operator that loses its hold writes to its log: whether it was the API server that was slow."""
    hold = held(Slow(1.5), Lease(seconds=3))
    await hold.commit(lambda: hold.record.status)
    await asyncio.sleep(0.4)
    told = (hold.slowest_seconds, hold.unrenewed_seconds)
    assert told == (pytest.approx(1.5), pytest.approx(1.9)), "it counts from the sending"
    assert hold.certain
    await asyncio.sleep(0.2)
    assert not hold.certain


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0.01, id="quick"),
        pytest.param(2.4, id="answers within the time after which it is renewed"),
        pytest.param(3.2, id="answers within half of the time for which it is held"),
    ],
)
@in_virtual_time
async def test_hold_on_a_slow_api_server_is_certain_all_the_time(seconds: float) -> None:
    """Of ten seconds it is certain for 6.7; renewed 2.5 s after an *answer* it was lost from answers of 2.1 s on."""
    kube = Slow(seconds)
    hold = held(kube, Lease())
    async with kept_alive(hold):
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert hold.certain
    pauses = [after - before for before, after in itertools.pairwise(kube.asked_at)]
    assert all(pause >= Lease().renew_seconds - 0.001 for pause in pauses), "and it is not renewed more often"


@pytest.mark.parametrize("seconds", [pytest.param(0.0, id="at once"), pytest.param(1.0, id="after a while")])
@in_virtual_time
async def test_hold_that_cannot_be_renewed_is_tried_no_more_often(seconds: float) -> None:
    kube = Slow(seconds, fails=True)
    async with kept_alive(held(kube, Lease())):
        await asyncio.sleep(60)
    assert len(kube.asked_at) == 60 / Lease().renew_seconds - 1


@in_virtual_time
async def test_hold_that_is_lost_is_not_renewed_any_more() -> None:
    kube = Slow(0.01)
    hold = held(kube, Lease())
    async with kept_alive(hold):
        await asyncio.sleep(3)
        kube.put(RECORDS, "ops", "iact-1", status={"holder": "another one"})
        kube.conflicts = 1
        await asyncio.sleep(60)
    assert not hold.certain
    assert len(kube.asked_at) == 2
