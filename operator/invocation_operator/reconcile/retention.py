"""RetentionPolicy: gather what the engine's services are now, decide, change what differs, and say what is in force.

The engine forgets every value that was set from outside with each new revision of a service, so this looks again and
again: once in each interval, and whenever the policy, another policy or the engine's RestateEngine changes. Nothing is
changed before the guardrails were asked, and what an older policy of the same engine has is left alone.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import structlog
from pydantic import ValidationError

from invocation_operator import conditions
from invocation_operator.api.v1alpha1.engine import Operation
from invocation_operator.api.v1alpha1.retention import (
    Drift,
    OnDelete,
    RetentionSpec,
    RetentionStatus,
    ServiceRetention,
)
from invocation_operator.api.v1alpha1.retention import ServiceState as State
from invocation_operator.cluster import status as status_writer
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import Forbidden, ObjectNotFound, WriteConflict, WriteRefused
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.conditions import Verdict
from invocation_operator.engine import errors
from invocation_operator.observe import retention as metrics
from invocation_operator.plan import holds as plan_holds
from invocation_operator.plan import retention as plan
from invocation_operator.plan.caps import warnings
from invocation_operator.plan.guardrails import check_operations, out_of_bounds
from invocation_operator.plan.retention import Assessment, Drifted, Observed, Values
from invocation_operator.reconcile import custody, services
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.keepsake import Keepsakes
from invocation_operator.reconcile.parse import refusal_of
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.policytalk import Findings, Talk, verdict_of, with_sweeps, within, without_values
from invocation_operator.reconcile.release import release
from invocation_operator.reconcile.restore import Restorer
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.sweepboard import read_status
from invocation_operator.reconcile.waiting import Waiting, told, unreachable
from invocation_operator.reconcile.workbench import Done, Outcome, Retry
from invocation_operator.values.duration import parse_duration

log = structlog.get_logger(__name__)

CUSTODY_SECONDS = 600.0
"""How often what is held, and what would be released, is counted."""
HELD_UNREAD = " What it holds stays held as far as it can be read, and rather more than less."
HEEDED_SECONDS = 2.0
"""A run that purges has asked for what it looked at before a hold came, or looks again, after this."""
CAUSED = frozenset({Operation.SET_RETENTION})


@dataclass(slots=True)
class _Memory:
    """What this process remembers of one policy beside its status, which holds 200 services at most."""

    entries: dict[str, ServiceRetention] = field(default_factory=dict)
    right_at: dict[str, datetime] = field(default_factory=dict)
    """When a service was last seen as it should be, on the engine's clock."""
    counted: int = -1
    """Generation of the policy whose holds were counted last."""
    counted_at: float = float("-inf")
    kept_in: str | None = None
    """Where what held before was kept when this process last looked."""


@dataclass(slots=True)
class RetentionReconciler:
    """Reconciles RetentionPolicies."""

    client: KubeClient
    engines: Engines
    policies: Policies
    restorer: Restorer
    events: EventRecorder
    gate: SchemaGate
    clock: Callable[[], float]
    counted: Callable[[], None]
    """Told when it is known what would be released."""
    keepsakes: Keepsakes = field(init=False)
    _memories: dict[str, _Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keepsakes = Keepsakes(self.client)

    async def reconcile(self, cell: Cell) -> Outcome:
        """Look once at all services of the policy in ``cell``."""
        obj = cell.obj
        if obj is None:
            return Done()
        try:
            return await self._reconcile(cell, obj)
        except (ObjectNotFound, WriteConflict):
            # Somebody wrote meanwhile, or it is gone: the watch tells.
            return Retry(1.0)

    async def _reconcile(self, cell: Cell, obj: Object) -> Outcome:
        status = read_status(obj)
        memory = self._memories.setdefault(obj["metadata"]["uid"], _Memory())
        known = {**memory.entries, **{entry.name: entry for entry in status.services or ()}}
        if status.restore_from not in (None, memory.kept_in):
            # Another life of the process, or another process, has written it.
            known = memory.entries | plan.recalled(await self.keepsakes.read(obj, status), status.services or ())
            memory.entries, memory.kept_in = known, status.restore_from
        try:
            spec = RetentionSpec.model_validate(obj.get("spec") or {})
        except ValidationError as error:
            refusal = refusal_of(error)
            if "deletionTimestamp" in obj["metadata"]:
                return await self.restorer.part(cell, obj, None, known)
            held = HELD_UNREAD if (obj.get("spec") or {}).get("holds") else ""
            await self._say(cell, obj, {}, Talk(Verdict.STALLED, refusal.reason, refusal.message + held))
            return Done()
        if "deletionTimestamp" in obj["metadata"]:
            return await self.restorer.part(cell, obj, spec, known)
        pause = parse_duration(spec.interval).total_seconds()
        try:
            await self._round(cell, obj, spec, status, memory, known)
        except Waiting as waiting:
            verdict = Verdict.STALLED if waiting.stalled else Verdict.WORKING
            # What leads to no engine holds nothing, whatever was said before.
            own = {} if self.policies.leads(obj["metadata"]["uid"]) else {"holds": None}
            await self._say(cell, obj, own, Talk(verdict, waiting.reason, waiting.message))
            return Retry(min(pause, waiting.retry_seconds))
        return Retry(pause)

    def forget(self, obj: Object) -> None:
        """A policy is gone."""
        metadata = obj["metadata"]
        self._memories.pop(metadata["uid"], None)
        metrics.forget(metadata["namespace"], metadata["name"])

    async def _round(
        self,
        cell: Cell,
        obj: Object,
        spec: RetentionSpec,
        status: RetentionStatus,
        memory: _Memory,
        known: Mapping[str, ServiceRetention],
    ) -> None:
        await self.gate.check()
        metadata = obj["metadata"]
        located = await self.engines.locate(spec.engine_ref, metadata["namespace"])
        address = self.engines.address(located)
        if address is not None:
            obj = await self._lead(cell, obj, spec, address)
        if spec.suspend:
            raise Waiting("Suspended", "nothing is looked at or changed until spec.suspend is false.")
        resolved = await self.engines.connect(located)
        obj = await self._lead(cell, obj, spec, resolved.station.address)
        if not self.policies.sets_values(spec):
            await self._custody(cell, obj, spec, resolved, memory)
            await self._say(cell, obj, {"engine": resolved.identity}, without_values(read_status(cell.obj or obj)))
            return
        if switches := self.engines.switches(resolved.station.address):
            message = f"the kill switch (spec.suspend) of RestateEngine {', '.join(switches)} is on; waiting for it."
            raise Waiting("EngineSuspended", message)
        enforces = spec.drift is Drift.ENFORCE
        if enforces:
            refused = check_operations(CAUSED, spec.reason, resolved.guardrails, resolved.namespace_labels)
            if refused is not None:
                raise Waiting(refused.reason, refused.message, retry_seconds=60.0, stalled=True)
        obj = await self.restorer.mark(cell, obj, wanted=enforces and spec.on_delete is OnDelete.RESTORE)
        if status.engine is not None and not _same_engine(status, resolved):
            # What was noted there is of other services, whatever their names are.
            known, memory.entries, memory.right_at = {}, {}, {}
        try:
            findings = await self._look(cell, obj, spec, resolved, memory, known)
        except errors.EngineError as error:
            raise unreachable(resolved.station.address, error, redact=resolved.spec.redact_keys) from error
        await self._tell(cell, obj, spec, resolved, known, findings)
        memory.entries = findings.entries
        # Last: what reads many invocations must not delay what keeps values in force.
        await self._custody(cell, obj, spec, resolved, memory)

    async def _lead(self, cell: Cell, obj: Object, spec: RetentionSpec, address: str) -> Object:
        """Take in which engine the policy leads to. What it holds is in force from here on, whatever comes later, and
        is shown as soon as no run can be about to purge it.
        """
        uid = obj["metadata"]["uid"]
        if self.policies.lead(uid, address):
            self.policies.ring()
        status = read_status(cell.obj or obj)
        shown = plan_holds.shown(spec.holds, status.holds)
        listed = [entry.name for entry in shown] == [entry.name for entry in status.holds or ()]
        if listed and (not shown or status.observed_generation == obj["metadata"]["generation"]):
            return obj
        if self.engines.holds(address).clearing:
            await asyncio.sleep(HEEDED_SECONDS)
        if listed:
            return obj
        current = cell.latest(obj)
        update = {"holds": shown or None}
        written = await status_writer.write(
            self.client,
            RETENTION_POLICIES,
            current,
            read_status(current).model_copy(update=update),
            shared=True,
        )
        cell.keep(written)
        return obj if written["metadata"]["generation"] != obj["metadata"]["generation"] else written

    async def _custody(self, cell: Cell, obj: Object, spec: RetentionSpec, resolved: Resolved, memory: _Memory) -> None:
        """Count what is held and what would be released, now and then: it reads many invocations."""
        generation, now = obj["metadata"]["generation"], self.clock()
        known = read_status(cell.obj or obj)
        if not spec.holds and spec.retention is None and known.holds is None and known.would_release is None:
            return
        if memory.counted == generation and now - memory.counted_at < CUSTODY_SECONDS:
            return
        name = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        try:
            moment = await resolved.station.client.now()
            made = await custody.holds(spec, name, resolved, moment)
            freed = await release(self.policies, cell.key, spec, resolved, moment)
        except errors.EngineError as error:
            # A query that takes too long on a large engine is no reason not to keep values in force.
            log.warning("what is held and would be released was not counted", error=error.message)
            memory.counted, memory.counted_at = generation, now
            return
        first = known.would_release is None and freed is not None
        memory.counted, memory.counted_at = generation, now
        current = cell.latest(obj)
        status = within(read_status(current).model_copy(update={"holds": made or None, "would_release": freed}))
        cell.keep(await status_writer.write(self.client, RETENTION_POLICIES, current, status, shared=True))
        if first and spec.apply_to_existing:
            self.counted()

    # Looking and changing.

    async def _look(
        self,
        cell: Cell,
        obj: Object,
        spec: RetentionSpec,
        resolved: Resolved,
        memory: _Memory,
        known: Mapping[str, ServiceRetention],
    ) -> Findings:
        """Look at every service, and bring it to what it should be. Raises the engine client's errors."""
        station = resolved.station
        now, seen = await asyncio.gather(station.client.now(), services.observe(station.client, spec.services))
        wanted = plan.requested_values(spec)
        found = Findings(now)
        claimed = await self.policies.claimed(cell.key, station.address, seen)
        kept_off = {}
        if spec.drift is Drift.ENFORCE:
            kept_off = out_of_bounds(seen, CAUSED, resolved.guardrails, resolved.namespace_labels)
        assessed: list[tuple[Assessment, ServiceRetention | None]] = []
        for name, service in seen.items():
            before = known.get(name)
            if name in claimed:
                message = f"the older RetentionPolicy {claimed[name]} of this engine has this service; it wins."
                found.set_aside(name, State.CONFLICTED, message, before)
            elif name in kept_off:
                message = "the engine's guardrails do not let this namespace change this service."
                found.set_aside(name, State(kept_off[name]), message, before)
            else:
                assessed.append((plan.assess(wanted, service, before, spec.drift), before))
        memory.kept_in = await self._keep(cell, obj, spec, assessed)
        for assessment, before in assessed:
            await self._bring(spec, resolved, memory, found, assessment, before)
        for name in known.keys() - seen.keys():
            if plan.selected(spec, name):
                message = "the engine has no such service any more; it is taken in again when it is back."
                found.set_aside(name, State.GONE, message, known[name])
        found.warnings = warnings(
            wanted,
            [s for s in found.after.values() if s.name not in claimed],
            automatic_keys=resolved.probe.capabilities.automatic_idempotency_keys,
        )
        return found

    async def _keep(
        self, cell: Cell, obj: Object, spec: RetentionSpec, assessed: list[tuple[Assessment, ServiceRetention | None]]
    ) -> str | None:
        """Write down what is about to be changed, where that is to be restored; else nothing is changed."""
        restores = spec.drift is Drift.ENFORCE and spec.on_delete is OnDelete.RESTORE
        foreseen = (plan.foreseen(assessment, before) for assessment, before in assessed if restores)
        try:
            return await self.keepsakes.keep(cell, obj, [entry for entry in foreseen if entry is not None])
        except (Forbidden, WriteRefused) as error:
            message = f"what onDelete: Restore needs cannot be written down, so nothing is changed: {error}"
            raise Waiting("RestoreNotKept", message, retry_seconds=60.0, stalled=True) from error

    async def _bring(
        self,
        spec: RetentionSpec,
        resolved: Resolved,
        memory: _Memory,
        found: Findings,
        assessment: Assessment,
        before: ServiceRetention | None,
    ) -> None:
        """Set what differs, once, and read it back; one service's refusal leaves the others alone."""
        after, rejected, late = assessment.observed, None, 0
        name = after.name
        if assessment.differing and spec.drift is Drift.ENFORCE:
            try:
                after = await services.change(resolved.station, assessment.observed, assessment.differing)
            except errors.NotFound:
                return
            except errors.Rejected as error:
                rejected = told(error, redact=resolved.spec.redact_keys)
        if assessment.cause is not None:
            since = memory.right_at.get(name) or (before.since if before is not None else None)
            if since is not None and spec.drift is Drift.ENFORCE and _concerns_rows(assessment.requested):
                late = await services.missed(resolved, after, since)
            found.drifts.append(Drifted(name, assessment.cause, _was(assessment), late))
        elif assessment.differing and after is not assessment.observed:
            found.changed.append(name)
        made = plan.entry(assessment, after, before, drift=spec.drift, now=found.now, missed=late, rejected=rejected)
        found.after[name], found.entries[name] = after, made
        if made.state in (State.IN_FORCE, State.CAPPED):
            memory.right_at[name] = found.now

    # Telling.

    async def _tell(
        self,
        cell: Cell,
        obj: Object,
        spec: RetentionSpec,
        resolved: Resolved,
        known: Mapping[str, ServiceRetention],
        findings: Findings,
    ) -> None:
        metadata = obj["metadata"]
        metrics.services(metadata["namespace"], metadata["name"], (e.state for e in findings.entries.values()))
        metrics.drifted(metadata["namespace"], metadata["name"], (d.cause for d in findings.drifts))
        newest = read_status(cell.obj or obj)
        await self._say(cell, obj, findings.fields(resolved.identity), with_sweeps(verdict_of(spec, findings), newest))
        for reason, message, kind in findings.events(known, corrected=spec.drift is Drift.ENFORCE):
            self.events.tell(obj, reason, message, kind)
            log.info("retention", reason=reason, message=message)

    async def _say(self, cell: Cell, obj: Object, own: Mapping[str, object], talk: Talk) -> None:
        """Write the fields that are this reconciler's ``own``; what sweeps say meanwhile stays as it is."""
        metadata = obj["metadata"]
        current = cell.latest(obj)
        status = read_status(current)
        earlier = conditions.find(status.conditions, "Ready")
        built = conditions.build(
            talk.verdict,
            talk.reason,
            talk.message,
            generation=metadata["generation"],
            now=datetime.now(UTC),
            previous=status.conditions,
        )
        update = {**own, "observed_generation": metadata["generation"], "conditions": built}
        made = within(status.model_copy(update=update))
        cell.keep(await status_writer.write(self.client, RETENTION_POLICIES, current, made, shared=True))
        if earlier is None or earlier.reason != talk.reason:
            kind: Literal["Normal", "Warning"] = "Warning" if talk.verdict is Verdict.STALLED else "Normal"
            self.events.tell(obj, talk.reason, talk.message, kind)
            log.info("retention policy", reason=talk.reason, message=talk.message)


def _same_engine(status: RetentionStatus, resolved: Resolved) -> bool:
    known, now = status.engine, resolved.identity
    return known is not None and (known.uid, known.cluster_name) == (now.uid, now.cluster_name)


def _concerns_rows(requested: Values) -> bool:
    """Whether an invocation keeps any of it for good; timeouts are looked up when they are needed."""
    return any(setting.engine_name.endswith("_retention") for setting in requested)


def _was(assessment: Assessment) -> Values:
    found: Observed = assessment.observed
    return {s: found.values[s] for s in assessment.differing if s in found.values}
