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
from invocation_operator.api.v1alpha1.retention import (
    Drift,
    RetentionSpec,
    RetentionStatus,
    ServiceRetention,
)
from invocation_operator.cluster import status as status_writer
from invocation_operator.cluster.client import KubeClient, Object, still_there
from invocation_operator.cluster.errors import ObjectNotFound, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.conditions import Verdict
from invocation_operator.engine import errors
from invocation_operator.observe import retention as metrics
from invocation_operator.plan import holds as plan_holds
from invocation_operator.plan import retention as plan
from invocation_operator.plan.guardrails import check_operations
from invocation_operator.reconcile import custody, threshold
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.enforce import Enforcer, Memory, Overtaken
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.keepsake import Keepsakes
from invocation_operator.reconcile.parse import refusal_of
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.policytalk import Findings, Talk, verdict_of, with_sweeps, within, without_values
from invocation_operator.reconcile.release import release
from invocation_operator.reconcile.restore import CAUSED, Restorer, restores
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.sweepboard import read_status
from invocation_operator.reconcile.waiting import Waiting, unreachable
from invocation_operator.reconcile.workbench import Done, Outcome, Retry
from invocation_operator.values.duration import parse_duration

log = structlog.get_logger(__name__)

CUSTODY_SECONDS = 600.0
"""How often what is held, and what would be released, is counted."""
HELD_UNREAD = " What it holds stays held as far as it can be read, and rather more than less."
HEEDED_SECONDS = 2.0
"""A run that purges has asked for what it looked at before a hold came, or looks again, after this."""


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
    gone: Callable[[Object], None] = lambda obj: None
    """Told of a policy that is found to be gone."""
    enforcer: Enforcer = field(init=False)
    _memories: dict[str, Memory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.enforcer = Enforcer(self.engines, self.policies, Keepsakes(self.client))

    async def reconcile(self, cell: Cell) -> Outcome:
        """Look once at all services of the policy in ``cell``."""
        obj = cell.obj
        if obj is None:
            return Done()
        if not await still_there(self.client, RETENTION_POLICIES, obj):
            # Its values would be kept in force, and its services from younger policies, for ever.
            self.gone(obj)
            return Done()
        try:
            return await self._reconcile(cell, obj)
        except (ObjectNotFound, WriteConflict, Overtaken):
            # Somebody wrote meanwhile, or it is gone: the watch tells.
            return Retry(1.0)

    async def _reconcile(self, cell: Cell, obj: Object) -> Outcome:
        status = read_status(obj)
        memory = self._memories.setdefault(obj["metadata"]["uid"], Memory())
        known = {**memory.entries, **{entry.name: entry for entry in status.services or ()}}
        if status.restore_from not in (None, memory.kept_in):
            # Another life of the process, or another process, has written it; or a look that did not end.
            kept = await self.enforcer.keepsakes.read(obj, status)
            known = memory.entries | plan.recalled(kept, status.services or ())
        try:
            spec = RetentionSpec.model_validate(obj.get("spec") or {})
        except ValidationError as error:
            refusal = refusal_of(error)
            if "deletionTimestamp" in obj["metadata"]:
                return await self.restorer.part(cell, obj, None, known)
            held = plan_holds.held_unread("", obj.get("spec") or {})
            # What was taken out is not held any more, whatever else cannot be read.
            listed = [entry for entry in status.holds or () if entry.name in {each.name for each in held}]
            told = HELD_UNREAD if held else ""
            await self._say(
                cell, obj, {"holds": listed or None}, Talk(Verdict.STALLED, refusal.reason, refusal.message + told)
            )
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
        memory: Memory,
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
            await self._tell_no_values(cell, obj, resolved)
            return
        threshold.require_switched_on(self.engines, resolved.station.address)
        enforces = spec.drift is Drift.ENFORCE
        if enforces:
            refused = check_operations(CAUSED, spec.reason, resolved.guardrails, resolved.namespace_labels)
            if refused is not None:
                raise Waiting(refused.reason, refused.message, retry_seconds=60.0, stalled=True)
        obj = await self.restorer.mark(cell, obj, wanted=restores(spec))
        anew = _is_created_again(status, resolved)
        if status.engine is not None and not anew and not _same_engine(status, resolved):
            # What was noted there is of other services, whatever their names are.
            known = {}
            memory.keep(known)
        try:
            findings = await self.enforcer.look(cell, obj, spec, resolved, memory, known, anew=anew)
        except errors.EngineError as error:
            raise unreachable(resolved.station.address, error, redact=resolved.spec.redact_keys) from error
        await self._tell(cell, obj, spec, resolved, known, findings)
        memory.told(findings)
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

    async def _custody(self, cell: Cell, obj: Object, spec: RetentionSpec, resolved: Resolved, memory: Memory) -> None:
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
        newest = read_status(cell.obj or obj)
        await self._say(cell, obj, findings.fields(resolved.identity), with_sweeps(verdict_of(spec, findings), newest))
        # What is not written is told again.
        metrics.drifted(metadata["namespace"], metadata["name"], (d.cause for d in findings.drifts))
        for reason, message, kind in findings.events(known, corrected=spec.drift is Drift.ENFORCE):
            self.events.tell(obj, reason, message, kind)
            log.info("retention", reason=reason, message=message)

    async def _tell_no_values(self, cell: Cell, obj: Object, resolved: Resolved) -> None:
        """What status said of services is not looked after any more."""
        metrics.services(obj["metadata"]["namespace"], obj["metadata"]["name"], ())
        talk = without_values(read_status(cell.obj or obj))
        nothing = Findings(datetime.now(UTC)).fields(resolved.identity)
        await self._say(cell, obj, {**nothing, "summary": None}, talk)

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
        # What was counted was of another specification.
        counted = {} if status.observed_generation == metadata["generation"] else {"would_release": None}
        update = {**counted, **own, "observed_generation": metadata["generation"], "conditions": built}
        made = within(status.model_copy(update=update))
        cell.keep(await status_writer.write(self.client, RETENTION_POLICIES, current, made, shared=True))
        if earlier is None or earlier.reason != talk.reason:
            kind: Literal["Normal", "Warning"] = "Warning" if talk.verdict is Verdict.STALLED else "Normal"
            self.events.tell(obj, talk.reason, talk.message, kind)
            log.info("retention policy", reason=talk.reason, message=talk.message)


def _same_engine(status: RetentionStatus, resolved: Resolved) -> bool:
    known, now = status.engine, resolved.identity
    return known is not None and (known.uid, known.cluster_name) == (now.uid, now.cluster_name)


def _is_created_again(status: RetentionStatus, resolved: Resolved) -> bool:
    """Whether the RestateEngine is another object of the same name, as after a prune; many clusters have one name."""
    known, now = status.engine, resolved.identity
    return known is not None and known.uid != now.uid and known.model_copy(update={"uid": now.uid}) == now
