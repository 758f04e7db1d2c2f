"""How long a deletion waits for a restoration, by whichever clock."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.retention import RESTORE_FINALIZER, RetentionSpec, ServiceRetention
from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.restore import PATIENCE_SECONDS, Restorer
from invocation_operator.reconcile.waiting import Waiting
from invocation_operator.reconcile.workbench import Done, Retry

SPEC = RetentionSpec.model_validate({"services": ["s"], "retention": {"journal": "2h"}, "onDelete": "Restore"})
KNOWN = {"s": ServiceRetention.model_validate({"name": "s", "state": "InForce", "previous": {"journal": "1d"}})}


class Desk:
    """A policy that is being deleted, an engine that is not to be had, and a clock that is set by hand."""

    def __init__(self, reason: str, deleted: timedelta) -> None:
        self.now, self.reason = 1000.0, reason
        self.finalizers: list[str] = [RESTORE_FINALIZER]
        self.told: list[str] = []
        moment = datetime.now(UTC) - deleted
        metadata = {"namespace": "shop", "name": "p", "uid": "u", "resourceVersion": "1", "generation": 2}
        metadata |= {"deletionTimestamp": moment.isoformat(), "finalizers": list(self.finalizers)}
        self.obj: Object = {"metadata": metadata}
        me = cast("Any", self)
        self.restorer = Restorer(
            cast("KubeClient", me), cast("Engines", me), cast("EventRecorder", me), lambda: self.now
        )

    async def locate(self, *_: Any) -> None:
        raise Waiting(self.reason, "not now")

    async def patch(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        self.finalizers = body["metadata"]["finalizers"]
        return {**self.obj, "metadata": {**self.obj["metadata"], "resourceVersion": "2"}}

    def tell(self, _: Object, reason: str, message: str, kind: str) -> None:
        self.told.append(f"{reason}: {message}")

    async def part(self) -> Done | Retry:
        return await self.restorer.part(Cell(("shop", "p"), self.obj), self.obj, SPEC, KNOWN)


HOUR = timedelta(hours=1)
CASES = [
    ("EngineSuspended", timedelta(), [0, 30, 59], 60, "the kill switch may be switched off again: a minute"),
    ("EngineSuspended", -HOUR, [0, 30, 59], 60, "an API server whose clock is ahead does not make it longer"),
    ("EngineSuspended", HOUR, [], 0, "one whose clock is behind, or a deletion of long ago: one try"),
    ("Unreachable", timedelta(), [], 0, "an engine that cannot be used is not waited for"),
]


@pytest.mark.parametrize(("reason", "deleted", "waits", "ends", "why"), CASES, ids=[row[4] for row in CASES])
async def test_deletion_waits_a_minute_at_most(
    reason: str, deleted: timedelta, waits: list[int], ends: int, why: str
) -> None:
    desk = Desk(reason, deleted)
    start = desk.now
    for seconds in waits:
        desk.now = start + seconds
        assert isinstance(await desk.part(), Retry), why
        assert desk.finalizers == [RESTORE_FINALIZER]
    desk.now = start + ends
    assert await desk.part() == Done(), why
    assert desk.finalizers == []
    assert [text.partition(":")[0] for text in desk.told] == ["RestoreGivenUp"]
    assert PATIENCE_SECONDS == 60
