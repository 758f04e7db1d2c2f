"""Old records are deleted: they are small, but a schedule makes one every few minutes, for years.

Only what has ended is deleted, as it was when it was judged, and not while the action that it locks still exists: an
action that is restored without its status must still find that it has run. The list is asked for metadata only, in
pages, and the deletions come at a slow pace, so that neither the API server nor anybody's run notices.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError, Forbidden, ObjectNotFound, UnreadableObject, WriteConflict
from invocation_operator.cluster.records import Record, RecordStore
from invocation_operator.cluster.resources import ACTIONS
from invocation_operator.observe import metrics

log = structlog.get_logger(__name__)

FIRST_SECONDS = 5.0
EVERY_SECONDS = 3600.0
PER_SECOND = 10
"""Most records that are looked at, and perhaps deleted, in a second."""
AT_ONCE = 10_000
"""Most records of one pass: the rest is there in an hour too, and comes first then."""
ACTION_KIND = "InvocationAction"


@dataclass(slots=True)
class Pruning:
    """Deletes records that ended longer ago than ``retention``; None: never."""

    client: KubeClient
    records: RecordStore
    retention: timedelta | None
    now: Callable[[], datetime]
    _last: str = ""
    """Where a pass ended that did not get to all of them; the next one begins behind it."""

    async def run(self) -> None:
        """Look until cancelled."""
        if self.retention is None:
            return
        pause = FIRST_SECONDS
        while True:
            await asyncio.sleep(pause)
            # Operators that started together must not look together for ever.
            pause = EVERY_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, nothing secret
            try:
                await self.prune()
            except ClusterError as error:
                log.warning("could not prune old records", error=str(error))
            except Exception:
                # Also a mistake of ours must not end this task: nobody would look again.
                log.exception("could not prune old records")

    async def prune(self) -> int:
        """Delete what is old enough; return how many."""
        if self.retention is None:
            return 0
        before = self.now() - self.retention
        deleted = 0
        for name in await self._created_before(before):
            deleted += await self._prune(name, before)
            await asyncio.sleep(1.0 / PER_SECOND)
        if deleted:
            log.info("pruned old records", deleted=deleted, retention_days=self.retention / timedelta(days=1))
        return deleted

    async def _created_before(self, moment: datetime) -> list[str]:
        """Return the names of those of one pass: most of the first ones may be kept, and must not hide the others."""
        found: list[str] = []
        async for metadata in self.records.metadata():
            if datetime.fromisoformat(metadata["creationTimestamp"]) < moment:
                found.append(metadata["name"])
        chosen = sorted(found, key=lambda name: (name <= self._last, name))[:AT_ONCE]
        self._last = chosen[-1] if len(chosen) < len(found) else ""
        return chosen

    async def _prune(self, name: str, before: datetime) -> bool:
        try:
            record = await self.records.find(name)
            if record is None or not record.finished or (record.status.completion_time or before) > before:
                return False
            if await self._has_action(record):
                return False
            if not await self.records.discard(record):
                return False
        except (UnreadableObject, Forbidden, WriteConflict) as error:
            # A newer operator's, or of a namespace that this one does not serve (any more): not to be judged here.
            log.debug("an old record is kept", record=name, error=str(error))
            return False
        metrics.RECORDS_PRUNED.inc()
        return True

    async def _has_action(self, record: Record) -> bool:
        source = record.spec.source
        if source.kind != ACTION_KIND:
            return False
        try:
            obj: Object = await self.client.get(ACTIONS, source.namespace, source.name)
        except ObjectNotFound:
            return False
        # One that was created anew, and was told by this record that it had run, must find that the next time too.
        told = (obj.get("status") or {}).get("record")
        return bool(obj["metadata"]["uid"] == source.uid or told == record.name)
