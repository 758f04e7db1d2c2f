"""The lock of a run and what is kept with it: taking it, taking it over, and the set that a dry run has shown.

What asks for a run is a *source*: an InvocationAction, or a part of another kind that runs something by itself.

Between the reconciler, which decides, and ``cluster.records`` and ``cluster.chunks``, which keep.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from invocation_operator.api.v1alpha1.action import ActionSpec
from invocation_operator.api.v1alpha1.approval import ApprovalStatus
from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.record import RecordPlan, RecordSource, RecordSpec
from invocation_operator.cluster.chunks import (
    SetSizes,
    delete_chunks,
    read_chunks,
    write_chunks,
)
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import Forbidden, ObjectNotFound, TooLarge, WriteRefused
from invocation_operator.cluster.records import Hold, Record, RecordStore
from invocation_operator.engine.models import EngineIdentity as EngineSeen
from invocation_operator.plan import identity
from invocation_operator.plan.build import Plan
from invocation_operator.plan.guardrails import Reach
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.report import Findings
from invocation_operator.plan.rollout import first_end
from invocation_operator.plan.targets import DamagedSet, Planned, PlannedSet, decode, encode
from invocation_operator.reconcile.budget import HELPING, Budget
from invocation_operator.reconcile.journal import kept_alive
from invocation_operator.reconcile.parse import Subject
from invocation_operator.reconcile.planning import Planning, hash_of
from invocation_operator.reconcile.runclock import Reading, read_clock
from invocation_operator.reconcile.runner import Task
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.takeover import Leases
from invocation_operator.reconcile.waiting import not_kept

SOURCE_LABELS = ("ops.restate.dev/source-namespace", "ops.restate.dev/source-name")
DEPLOYMENTS = 64
"""Deployments that a record keeps."""

SERVICES = 1000
"""Services that a record keeps."""


@dataclass(frozen=True, slots=True)
class PlanLost:
    """The set that was shown cannot be read any more; carrying out another one would betray the preview."""

    message: str


class TooLate(Exception):
    """The time after which the run must not start has passed while its plan was made."""

    def __init__(self, not_after: datetime) -> None:
        super().__init__(not_after)
        self.not_after = not_after


@dataclass(slots=True)
class Lock:
    """Locks of runs."""

    client: KubeClient
    records: RecordStore
    leases: Leases
    sizes: SetSizes = field(default_factory=SetSizes)

    # Previews.

    async def keep_preview(self, subject: Subject, plan: Plan) -> None:
        """Keep the set that is shown, so that nothing else is acted upon when it is carried out. Raises ``Waiting``."""
        owner: Object = subject.obj
        try:
            await write_chunks(self.client, owner, preview_prefix(subject.uid, plan.hash), self._chunks(plan.targets))
        except TooLarge:
            raise
        except (Forbidden, WriteRefused) as error:
            raise not_kept(error) from error

    async def previewed(self, subject: Subject, spec: ActionSpec) -> PlannedSet | PlanLost:
        """Return the identities that the dry run, or the plan that waited for its approval, showed.

        Whoever may write ConfigMaps could have put another set in its place: what is kept must hash to what was shown.
        """
        status = subject.status
        plan = status.plan
        if plan is None or plan.hash is None:
            return PlanLost("the plan that was shown is not in status any more; let it be planned anew.")
        prefix = preview_prefix(subject.uid, plan.hash)
        try:
            targets = await self._read(subject.namespace, prefix, self.sizes.chunks(plan.total))
        except (ObjectNotFound, DamagedSet):
            return PlanLost("the planned set that was shown cannot be read any more; let it be planned anew.")
        if await hash_of(status.engine or EngineIdentity(), spec, targets) != plan.hash:
            return PlanLost("the planned set that is kept is not the one that was shown; let it be planned anew.")
        return targets

    async def drop_preview(self, subject: Subject) -> None:
        """Remove a preview that was carried out, or replaced."""
        plan = subject.status.plan
        if plan is not None and plan.hash is not None:
            prefix = preview_prefix(subject.uid, plan.hash)
            await delete_chunks(self.client, subject.namespace, prefix, self.sizes.chunks(plan.total))

    # The lock.

    async def acquire(
        self,
        source: RecordSource,
        spec: ActionSpec,
        resolved: Resolved,
        planning: Planning,
        name: str,
        seen: EngineSeen,
        approval: ApprovalStatus | None = None,
        *,
        requested_by: str | None = None,
    ) -> Task | None:
        """Create the record, and with it the right to act. None when it exists already.

        Everything that can fail is asked before: what fails after it makes a run that has to be recovered. Raises
        ``TooLate``, by ``spec.notAfter``, and ``Waiting`` when the API server does not take what must be kept.
        """
        plan = planning.plan
        inline = plan.total <= self.sizes.inline
        chunks = 0 if inline else self.sizes.chunks(plan.total)
        # With the set in the record, the record itself is the intent of the first batch. A larger set is written
        # after the lock: until the first intent is written too, nothing can have been asked.
        first_batch = _first_batch(spec, resolved.station.budget, plan.total) if inline else 0
        record_spec = RecordSpec(
            hash_version=identity.HASH_VERSION,
            source=source,
            engine=resolved.identity,
            action=spec.action,
            reason=spec.reason,
            requested_by=requested_by,
            approval=approval,
            run_id=spec.run_id,
            start_time=plan.time,
            holder=self.records.identity,
            deployments=sorted(seen.deployments)[:DEPLOYMENTS] or None,
            specification=identity.canonical_json(identity.canonical_spec(spec)),
            plan=RecordPlan(
                total=plan.total,
                summary=plan.status(),
                statement=planning.statement[:65536],
                targets=encode(plan.targets) if inline else None,
                chunks=chunks,
                services=sorted({name[:256] for name in planning.reach.services})[:SERVICES] or None,
                named=plan.named or None,
                first_batch=first_batch,
            ),
        )
        engine_clock = await self._engine_clock(resolved)
        if spec.not_after is not None and engine_clock.latest >= spec.not_after:
            raise TooLate(spec.not_after)
        try:
            hold = await self.records.create(name, record_spec, _labels(source))
        except Forbidden as error:
            raise not_kept(error) from error
        if hold is None:
            return None
        if chunks:
            await self._keep_set(hold, plan)
        return Task(
            spec=spec,
            resolved=resolved,
            hold=hold,
            targets=plan.targets,
            engine_clock=engine_clock,
            ledger=Ledger(plan.total),
            findings=_findings(hold.record, resolved),
            reach=planning.reach,
            first_batch=first_batch,
            recovered=False,
            changed_at=plan.changed_at,
        )

    async def _keep_set(self, hold: Hold, plan: Plan) -> None:
        """Write the chunks of a set. Where they are not taken nothing was asked: the lock is let go of."""
        try:
            async with kept_alive(hold):
                await write_chunks(self.client, hold.record.obj, hold.record.chunk_prefix, self._chunks(plan.targets))
        except (Forbidden, WriteRefused) as error:
            await self.records.discard(hold.record)
            if isinstance(error, TooLarge):
                raise
            raise not_kept(error) from error

    async def take_over(self, record: Record, spec: ActionSpec, resolved: Resolved) -> Task | None:
        """Become the holder of an unfinished run and read where it stands.

        None when somebody else was faster, or when the run had asked nothing yet and starts over. Raises
        ``DamagedSet`` when what was kept cannot be read.
        """
        self.leases.forget(record.name)
        kept = record.spec.plan
        if kept.chunks and record.status.ledger is None:
            await self.records.discard(record)
            return None
        hold = await self.records.take_over(record)
        if hold is None:
            return None
        async with kept_alive(hold):
            try:
                targets = await self._read(record.namespace, record.chunk_prefix, kept.chunks)
            except ObjectNotFound as error:
                raise DamagedSet("a part of the planned set is missing") from error
            engine_clock = await self._engine_clock(resolved)
        if kept.targets:
            targets = PlannedSet(decode(kept.targets))
        findings = _findings(record, resolved)
        if record.status.ledger is not None:
            findings.restore(record.status.results or [], record.status.skipped_reasons or [])
        return Task(
            spec=spec,
            resolved=resolved,
            hold=hold,
            targets=targets,
            engine_clock=engine_clock,
            ledger=_ledger(record, len(targets)),
            findings=findings,
            reach=_reach(record),
            first_batch=0,
            recovered=True,
        )

    async def _engine_clock(self, resolved: Resolved) -> Reading:
        station, loop = resolved.station, asyncio.get_running_loop()
        return await station.ask(lambda: read_clock(station.client.now, loop.time))

    async def _read(self, namespace: str, prefix: str, count: int) -> PlannedSet:
        targets = PlannedSet()
        async for text in read_chunks(self.client, namespace, prefix, count):
            targets.extend(decode(text))
        return targets

    async def _chunks(self, targets: Sequence[Planned]) -> AsyncIterator[str]:
        for start in range(0, len(targets), self.sizes.chunk):
            # Each takes some 50 ms, in which other runs have calls to answer.
            yield await asyncio.to_thread(encode, targets[start : start + self.sizes.chunk])

    async def begun_of(self, source: RecordSource, run_id: str | None, spec: ActionSpec | None) -> Record | None:
        """Return the record of this very object and run, whatever its name is: an unfinished one, or one of ``spec``.

        An object that names no engine means another record once another engine is the default; the run that it began
        must be found all the same, also when it has ended and the object could not be told.
        """
        form = identity.canonical_json(identity.canonical_spec(spec)) if spec is not None else None
        ended = None
        labels = ",".join(f"{key}={value}" for key, value in _labels(source).items())
        async for record in self.records.labelled(labels):
            if record.spec.source.uid != source.uid or record.spec.run_id != run_id:
                continue
            if not record.finished:
                return record
            if record.spec.specification == form:
                ended = record
        return ended

    async def unfinished(self, source: RecordSource) -> list[Record]:
        """Return the unfinished records of this very object, whatever runs they are."""
        found = []
        labels = ",".join(f"{key}={value}" for key, value in _labels(source).items())
        async for record in self.records.labelled(labels):
            if record.spec.source.uid == source.uid and not record.finished:
                found.append(record)
        return found


def preview_prefix(uid: str, digest: str) -> str:
    """Return the name of the chunks of a preview: bound to the object and to the plan that was shown."""
    return f"iact-plan-{uid}-{digest.removeprefix('sha256:')[:12]}"


def _first_batch(spec: ActionSpec, budget: Budget, total: int) -> int:
    """No more than may be in flight at once, or than the first wave has: after a crash each of these counts as one that
    may have been asked.
    """
    own = (spec.limits.max_in_flight, spec.limits.operations_per_second)
    return min(
        first_end(spec, total),
        HELPING,
        budget.max_in_flight,
        budget.rate,
        *(limit for limit in own if limit is not None),
    )


def recorded_spec(record: Record) -> ActionSpec:
    """Return the specification that a run was started with; what the object says by now may be another one."""
    form = json.loads(record.spec.specification)
    if record.spec.run_id is not None:
        form["runId"] = record.spec.run_id
    return ActionSpec.model_validate(form)


def _ledger(record: Record, size: int) -> Ledger:
    if record.status.ledger is None:
        ledger = Ledger(size)
        ledger.intend(0, record.spec.plan.first_batch)
        return ledger
    try:
        return Ledger.decode(record.status.ledger, size)
    except ValueError as error:
        raise DamagedSet(str(error)) from error


def _reach(record: Record) -> Reach:
    """Return what guardrails count of a run that is taken over."""
    summary = record.spec.plan.summary
    cascade = summary.cascade
    shown = [*(summary.by_service or ()), *(cascade.by_service or () if cascade else ())]
    # Records of earlier versions keep no more than what is shown.
    services = frozenset(record.spec.plan.services or (count.name for count in shown))
    return Reach(record.spec.plan.total + (cascade.total if cascade else 0), services)


def _findings(record: Record, resolved: Resolved) -> Findings:
    findings = Findings(redact=resolved.spec.redact_keys)
    for result in record.spec.plan.named or ():
        findings.add(-1, result)
    return findings


def _labels(source: RecordSource) -> dict[str, str]:
    """Labels to find a record by its source; names that do not fit a label's value are cut."""
    return dict(zip(SOURCE_LABELS, (source.namespace[:63].rstrip("-."), source.name[:63].rstrip("-.")), strict=True))
