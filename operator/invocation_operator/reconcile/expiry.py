"""Deletes finished objects when their TTL has passed, and withholds that from what a GitOps tool owns.

One task and a heap for all of them: an object without a TTL costs nothing here, one with a TTL about a kilobyte. An
object is deleted only as it was when it was judged; what changed it meanwhile comes by the watch and is judged anew.
"""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.errors import ClusterError, ObjectNotFound, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.plan.expiry import expires_at, gitops_owner
from invocation_operator.reconcile.cell import Key

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 30.0
"""How long to wait before a deletion that failed is tried again."""
TOLD_SECONDS = 60.0
"""A TTL that ended longer ago than this was told by an earlier life of this process, or by another operator."""
LONGEST_SECONDS = 3600.0
"""The longest sleep: a clock that is set must not keep objects for ever."""


@dataclass(frozen=True, slots=True)
class _Due:
    """An object as it was when it was judged: what an Event and a deletion need of it."""

    at: datetime
    obj: Object
    owner: str | None


@dataclass(slots=True)
class Expiry:
    """Deletes finished objects of one kind."""

    client: KubeClient
    events: EventRecorder
    resource: Resource
    finished: Callable[[Object], bool]
    now: Callable[[], datetime]
    _due: dict[Key, _Due] = field(default_factory=dict)
    _heap: list[tuple[datetime, Key]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, obj: Object, *, deleted: bool = False) -> None:
        """Take in what the watch says of an object."""
        metadata = obj["metadata"]
        key = (metadata["namespace"], metadata["name"])
        before = self._due.pop(key, None)
        if deleted or "deletionTimestamp" in metadata or not self.finished(obj):
            return
        at = expires_at(obj)
        if at is not None:
            due = _Due(at, _slim(obj), gitops_owner(metadata))
            if before is not None and before.at == at:
                # It stands in the heap already: a watch that tells of it again and again must not make that grow.
                self._due[key] = due
            else:
                self._schedule(key, due)

    @property
    def waiting(self) -> int:
        """Number of objects with a TTL that has not been seen to."""
        return len(self._due)

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            self._changed.clear()
            pause = await self._delete_due()
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _schedule(self, key: Key, due: _Due) -> None:
        self._due[key] = due
        first = not self._heap or due.at < self._heap[0][0]
        heapq.heappush(self._heap, (due.at, key))
        if first:
            self._changed.set()

    async def _delete_due(self) -> float:
        """Delete what is due; return how long nothing is."""
        while self._heap:
            at, key = self._heap[0]
            due = self._due.get(key)
            if due is None or due.at != at:
                heapq.heappop(self._heap)
                continue
            left = (at - self.now()).total_seconds()
            if left > 0:
                return min(left, LONGEST_SECONDS)
            heapq.heappop(self._heap)
            del self._due[key]
            try:
                await self._end(key, due)
                continue
            except ClusterError as error:
                log.warning("could not delete what its TTL has ended", object="/".join(key), error=str(error))
            except Exception:
                # Also a mistake of ours must not end this task: nothing would be deleted any more.
                log.exception("could not delete what its TTL has ended", object="/".join(key))
            if key not in self._due:
                self._schedule(key, _Due(self.now() + timedelta(seconds=AGAIN_SECONDS), due.obj, due.owner))
        return LONGEST_SECONDS

    async def _end(self, key: Key, due: _Due) -> None:
        namespace, name = key
        if due.owner is not None:
            if self.now() - due.at < timedelta(seconds=TOLD_SECONDS):
                message = (
                    f"its TTL has ended, but {due.owner} owns this object and would create it again: it is kept. "
                    "Remove it where it comes from."
                )
                self.events.tell(due.obj, "TTLWithheld", message)
                log.info("kept an object whose TTL has ended", object="/".join(key), owner=due.owner)
            return
        try:
            version = due.obj["metadata"]["resourceVersion"]
            await self.client.delete(self.resource, namespace, name, resource_version=version)
        except (ObjectNotFound, WriteConflict):
            # It changed, or another one has its name: the watch tells of it, and it is judged then.
            return
        log.info("deleted a finished object whose TTL has ended", object="/".join(key))


def _slim(obj: Object) -> Object:
    """Return what an Event and a deletion need of ``obj``: managed fields and status are most of it."""
    metadata = {name: obj["metadata"][name] for name in ("namespace", "name", "uid", "resourceVersion")}
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata": metadata}
