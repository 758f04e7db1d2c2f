"""InvocationRecords: the lock behind *once*, the write-ahead ledger, and the audit trail.

Creating the record is the one step that decides who runs: the API server lets exactly one creation of a name succeed.
A run is worked on by one holder at a time. The holder shows that it is alive by renewing; somebody else takes over
only after it has watched the same renewal for the whole lease on its *own* clock, so that clocks never need to agree,
and every write carries the resourceVersion that was read, so that a holder that lost the run cannot write any more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from invocation_operator import conditions
from invocation_operator.api.v1alpha1.action import Phase
from invocation_operator.api.v1alpha1.base import API_VERSION, Condition
from invocation_operator.api.v1alpha1.record import RECORD_KIND, RecordSource, RecordSpec, RecordStatus
from invocation_operator.cluster.chunks import delete_chunks
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import (
    ClusterError,
    ObjectExists,
    ObjectNotFound,
    UnreadableObject,
    WriteConflict,
)
from invocation_operator.cluster.resources import RECORDS
from invocation_operator.cluster.status import dump

TERMINAL = frozenset(
    {
        Phase.PLANNED,
        Phase.SUCCEEDED,
        Phase.PARTIALLY_FAILED,
        Phase.FAILED,
        Phase.REFUSED,
        Phase.STOPPED,
        Phase.EXPIRED,
        Phase.ALREADY_EXECUTED,
    }
)
"""Phases in which nothing more happens without a person."""


VERSION_LABEL = "ops.restate.dev/hash-version"
"""Label of a record with the version of the canonical form behind its name, so that few are read to find others."""


@dataclass(frozen=True, slots=True)
class Lease:
    """How long the right to work on a run lasts without a renewal, in seconds."""

    seconds: float = 10.0
    """After this long without a renewal a run may be taken over."""

    @property
    def renew_seconds(self) -> float:
        """How often a holder renews; as seldom as the API server answers where that takes longer."""
        return self.seconds / 4

    @property
    def hold_seconds(self) -> float:
        """A holder that could not renew for this long stops asking: some time before anybody else may start."""
        return self.seconds * 2 / 3


class HoldLost(Exception):
    """Somebody else holds the run now, or it may be so: nothing more may be asked."""


@dataclass(slots=True)
class Record:
    """A record as it was last read or written."""

    obj: Object
    spec: RecordSpec
    status: RecordStatus

    @property
    def name(self) -> str:
        """Name of the record."""
        return str(self.obj["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the record: the operator's."""
        return str(self.obj["metadata"]["namespace"])

    @property
    def chunk_prefix(self) -> str:
        """What the names of its chunks begin with: bound to this object, not only to its name.

        A record whose run had asked nothing is deleted and made anew, under the same name and with another set; the
        chunks of the first one may still be there, or be written late by whoever held it.
        """
        return f"{self.name}-{self.obj['metadata']['uid'][:8]}"

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.status.phase in TERMINAL

    @property
    def holder(self) -> str:
        """Identity of who works on the run; empty when it was let go."""
        if self.status.observed_generation < 0:
            return self.spec.holder
        return self.status.holder or ""

    @classmethod
    def of(cls, obj: Object) -> "Record":
        """Read a record. Raises ``UnreadableObject``: a newer operator knows phases and actions that this one lacks."""
        try:
            spec = RecordSpec.model_validate(obj.get("spec") or {})
            return cls(obj, spec, RecordStatus.model_validate(obj.get("status") or {}))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise UnreadableObject(f"the record {obj['metadata']['name']}: {place}: {first['msg']}") from error


class RecordStore:
    """Records in the operator's namespace, for one operator process."""

    def __init__(
        self, client: KubeClient, namespace: str, identity: str, lease: Lease, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._namespace = namespace
        self.identity = identity
        self.lease = lease
        self._clock = clock
        self._newer: dict[tuple[str | None, ...], str] = {}

    async def find(self, name: str) -> Record | None:
        """Return the record of that name, or None. Raises ``UnreadableObject``."""
        try:
            return Record.of(await self._client.get(RECORDS, self._namespace, name))
        except ObjectNotFound:
            return None

    async def unfinished(self) -> AsyncIterator[Object]:
        """Yield the records whose run has not ended."""
        async for obj in self._client.list(RECORDS, self._namespace):
            if (obj.get("status") or {}).get("phase") not in TERMINAL:
                # A list leaves out what each item is.
                yield {"apiVersion": API_VERSION, "kind": RECORD_KIND.kind, **obj}

    async def metadata(self) -> AsyncIterator[Object]:
        """Yield the metadata of all records."""
        async for obj in self._client.list(RECORDS, self._namespace, metadata_only=True):
            yield obj["metadata"]

    async def labelled(self, selector: str) -> AsyncIterator[Record]:
        """Yield the records that a label selector selects."""
        async for obj in self._client.list(RECORDS, self._namespace, label_selector=selector):
            yield Record.of({"apiVersion": API_VERSION, "kind": RECORD_KIND.kind, **obj})

    async def note_newer(self, known_version: int) -> None:
        """Take in which objects have run under a newer operator, whose records have names that this one cannot make.

        After an operator was rolled back such a record would not be met by its name, and its manifest be run again.
        """
        selector = f"{VERSION_LABEL},{VERSION_LABEL} notin ({','.join(str(n + 1) for n in range(known_version))})"
        found: dict[tuple[str | None, ...], str] = {}
        async for obj in self._client.list(RECORDS, self._namespace, label_selector=selector):
            spec = obj.get("spec") or {}
            source = spec.get("source") or {}
            asked_for = source.get("kind"), source.get("namespace"), source.get("name"), spec.get("runId")
            found[asked_for] = str(obj["metadata"]["name"])
        self._newer = found

    def newer(self, source: RecordSource, run_id: str | None) -> str | None:
        """Return the name of the record that a newer operator made for this run of ``source``, as far as is known."""
        return self._newer.get((source.kind, source.namespace, source.name, run_id))

    async def create(self, name: str, spec: RecordSpec, labels: dict[str, str]) -> "Hold | None":
        """Create the record: the lock. None when the name is taken, which means: executed already, or being so."""
        body: Object = {
            "apiVersion": API_VERSION,
            "kind": RECORD_KIND.kind,
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {**labels, VERSION_LABEL: str(spec.hash_version)},
            },
            "spec": dump(spec),
        }
        try:
            obj = await self._client.create(RECORDS, self._namespace, body)
        except ObjectExists:
            return None
        return Hold(self._client, Record.of(obj), self.identity, self.lease, self._clock, held=True)

    async def take_over(self, record: Record) -> "Hold | None":
        """Become the holder of an unfinished run. None when somebody else was faster or it moved meanwhile."""
        hold = Hold(self._client, record, self.identity, self.lease, self._clock)
        try:
            await hold.commit(lambda: record.status)
        except HoldLost:
            return None
        return hold

    async def discard(self, record: Record) -> bool:
        """Delete a record, if nobody has touched it since it was read: the lock of a run that has asked nothing yet,
        or one that has served its time. False when somebody has.
        """
        try:
            await self._client.delete(
                RECORDS, self._namespace, record.name, resource_version=record.obj["metadata"]["resourceVersion"]
            )
        except WriteConflict:
            return False
        return True

    async def close(self, record: Record, message: str) -> Record | None:
        """Write the end of an unfinished run that nobody holds any more, and remove its set: it is stopped, and what it
        may have asked for last is not known.

        None when somebody has written since it was read: then that is not its end.
        """
        update = {"phase": Phase.STOPPED, "message": message, "completion_time": datetime.now(UTC)}
        status = record.status.model_copy(update=update)
        hold = Hold(self._client, record, "", self.lease, self._clock)
        try:
            await hold.commit(lambda: status)
        except HoldLost:
            return None
        await drop_set(self._client, hold.record)
        return hold.record


async def drop_set(client: KubeClient, record: Record) -> None:
    """Remove what is kept beside the record of a run that has ended, as far as the API server lets us: whatever is left
    goes with the record.
    """
    with suppress(ClusterError):
        await delete_chunks(client, record.namespace, record.chunk_prefix, record.spec.plan.chunks)


class Hold:
    """The right to work on one run, as long as it is renewed."""

    def __init__(
        self,
        client: KubeClient,
        record: Record,
        identity: str,
        lease: Lease,
        clock: Callable[[], float],
        *,
        held: bool = False,
    ) -> None:
        self._client = client
        self.record = record
        self._held = held
        self.lease = lease
        self._identity = identity
        self._clock = clock
        self._renewed = self._sent = clock()
        self.slowest_seconds = 0.0
        """How long the slowest write took since the run is held."""
        self._lost = False
        self._unanswered: set[object] = set()
        """When those writes were made of which it is not known whether they are there."""
        self._writing = asyncio.Lock()

    @property
    def certain(self) -> bool:
        """Whether nobody else can hold the run now."""
        return not self._lost and self.unrenewed_seconds < self.lease.hold_seconds

    @property
    def unrenewed_seconds(self) -> float:
        """How long ago the last write that was answered had been sent."""
        return self._clock() - self._renewed

    async def turn(self) -> None:
        """Wait until the next renewal is due, counted from the *sending* of the last write: so an API server that is
        slow to answer does not make renewals rare, and one that is away is asked no more often.
        """
        await asyncio.sleep(max(0.0, self._sent + self.lease.renew_seconds - self._clock()))

    async def commit(self, compose: Callable[[], RecordStatus], *, release: bool = False) -> None:
        """Write what ``compose`` returns and renew; with ``release`` let the run go.

        ``compose`` is called when it is this write's turn: an intent that was written meanwhile must not be undone by
        a status from before it. Raises ``HoldLost`` when somebody else wrote, and the errors of ``cluster.errors``
        when the API server is away: then the write may or may not be there, and the same commit may be repeated.
        """
        async with self._writing:
            if self._lost:
                raise HoldLost(self.record.name)
            started = self._sent = self._clock()
            metadata = self.record.obj["metadata"]
            holder = None if release else self._identity
            generation, now = metadata.get("generation", 1), datetime.now(UTC)
            full = compose().model_copy(
                update={"observed_generation": generation, "holder": holder or None, "renew_time": now}
            )
            full = full.model_copy(update={"conditions": _told(full, self.record.status.conditions, now)})
            body = {**self.record.obj, "status": dump(full)}
            self._unanswered.add(body["status"]["renewTime"])
            try:
                obj = await self._client.replace_status(RECORDS, metadata["namespace"], metadata["name"], body)
            except WriteConflict:
                obj = await self._mine_after_all(full, release=release)
            except ObjectNotFound as error:
                self._lost = True
                raise HoldLost(self.record.name) from error
            finally:
                self.slowest_seconds = max(self.slowest_seconds, self._clock() - started)
            self._unanswered.clear()
            self.record.obj = obj
            self.record.status = full
            self._renewed = started
            self._held = True

    async def _mine_after_all(self, meant: RecordStatus, *, release: bool) -> Object:
        """A conflict is our own when an earlier, unanswered try of the same write went through.

        Not before the first write: then what is there may be the last write of an earlier life of this process, which
        came after the record was read, and knows more.
        """
        metadata = self.record.obj["metadata"]
        place = metadata["namespace"], metadata["name"]
        obj = await self._client.get(RECORDS, *place) if self._held else None
        told = (obj or {}).get("status") or {}
        if obj is not None and release and not told.get("holder") and told.get("renewTime") in self._unanswered:
            # It names no holder, and is known by its time. What has ended is not changed any more.
            return obj
        if obj is None or told.get("holder") != self._identity:
            self._lost = True
            raise HoldLost(self.record.name)
        body = {**obj, "status": dump(meant)}
        try:
            return await self._client.replace_status(RECORDS, *place, body)
        except WriteConflict as error:
            self._lost = True
            raise HoldLost(self.record.name) from error


def _told(status: RecordStatus, before: Sequence[Condition] | None, now: datetime) -> list[Condition]:
    """Return what the conditions say of a run's record."""
    phase = status.phase or Phase.RUNNING
    return conditions.build(
        conditions.of_phase(phase),
        phase.value,
        status.message or "under way, see status.progress.",
        generation=status.observed_generation,
        now=now,
        previous=before,
    )
