"""The values of a RetentionPolicy, brought to its services: looked at, written down, set one by one, and read back.

One look of ``retention``. Nothing is set before what is to be restored was written down. Many services take a while, at
the engine's pace: before each it is seen that the policy still says so, and that the engine may still be changed.

A look may end anywhere: an answer is lost, the engine goes, a status cannot be written. The next one then finds
nothing to do where this one was done, so what was asked for is remembered until it was told.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from invocation_operator.api.v1alpha1.retention import Drift, RetentionSpec, ServiceRetention
from invocation_operator.api.v1alpha1.retention import ServiceState as State
from invocation_operator.cluster.client import Object
from invocation_operator.cluster.errors import Forbidden, WriteRefused
from invocation_operator.engine import errors
from invocation_operator.plan import retention as plan
from invocation_operator.plan.caps import warnings
from invocation_operator.plan.guardrails import out_of_bounds
from invocation_operator.plan.retention import Assessment, Drifted, Observed, Values
from invocation_operator.reconcile import services, threshold
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.keepsake import Keepsakes
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.policytalk import Findings
from invocation_operator.reconcile.restore import CAUSED, restores
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting, told

log = structlog.get_logger(__name__)

GONE = "the engine has no such service any more; it is taken in again when it is back."


class Overtaken(Exception):
    """What a look was decided by has changed since: it ends, and the next one sees how it is now."""


@dataclass(slots=True)
class Memory:
    """What this process remembers of one policy beside its status, which holds 200 services at most."""

    entries: dict[str, ServiceRetention] = field(default_factory=dict)
    right_at: dict[str, datetime] = field(default_factory=dict)
    """When a service was last seen as it should be, on the engine's clock."""
    asked: dict[str, Drifted | None] = field(default_factory=dict)
    """Services that were, or may have been, changed and of which nothing was told yet; what that corrects, if it is a
    drift."""
    counted: int = -1
    """Generation of the policy whose holds were counted last."""
    counted_at: float = float("-inf")
    kept_in: str | None = None
    """Where what held before was kept when the last look was told; status names another one after one that was not."""

    def keep(self, known: Mapping[str, ServiceRetention]) -> None:
        """Forget what is not of the services that are ``known``."""
        self.entries = dict(known)
        self.right_at = {name: at for name, at in self.right_at.items() if name in known}
        self.asked = {name: drift for name, drift in self.asked.items() if name in known}

    def told(self, findings: Findings) -> None:
        """Take in what a look found, now that it was told."""
        self.entries, self.kept_in = findings.entries, findings.kept_in
        self.asked.clear()
        right = (entry.name for entry in findings.entries.values() if entry.state in (State.IN_FORCE, State.CAPPED))
        self.right_at |= dict.fromkeys(right, findings.now)


@dataclass(frozen=True, slots=True)
class Enforcer:
    """Looks at services and brings them to what a policy says."""

    engines: Engines
    policies: Policies
    keepsakes: Keepsakes

    async def look(
        self,
        cell: Cell,
        obj: Object,
        spec: RetentionSpec,
        resolved: Resolved,
        memory: Memory,
        known: Mapping[str, ServiceRetention],
        *,
        anew: bool = False,
    ) -> Findings:
        """Look at every service, and bring it to what it should be. ``anew``: the RestateEngine was created again, so
        that what is known counts only of services that prove to be the same.

        Raises ``Overtaken``, ``Waiting``, the engine client's errors and those of ``cluster.errors``.
        """
        station = resolved.station
        now, seen = await asyncio.gather(station.client.now(), services.observe(station.client, spec.services))
        if anew:
            known = plan.proven(known, seen)
            memory.keep(known)
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
                found.set_aside(name, State.CONFLICTED, message, before, service)
            elif name in kept_off:
                message = "the engine's guardrails do not let this namespace change this service."
                found.set_aside(name, State(kept_off[name]), message, before, service)
            else:
                assessed.append((plan.assess(wanted, service, before, spec.drift), before))
        found.kept_in = await self._keep(cell, obj, spec, assessed, found.entries.values())

        def require() -> None:
            self._require_as_decided(cell, obj, resolved)

        for assessment, before in assessed:
            await self._bring(spec, resolved, memory, found, assessment, before, require)
        gone = [before for name, before in known.items() if name not in seen and plan.selected(spec, name)]
        for before in plan.remembered(gone):
            found.set_aside(before.name, State.GONE, GONE, before)
        found.warnings = warnings(
            wanted,
            [s for s in found.after.values() if s.name not in claimed],
            automatic_keys=resolved.probe.capabilities.automatic_idempotency_keys,
        )
        return found

    async def _keep(
        self,
        cell: Cell,
        obj: Object,
        spec: RetentionSpec,
        assessed: list[tuple[Assessment, ServiceRetention | None]],
        aside: Iterable[ServiceRetention],
    ) -> str | None:
        """Write down what is about to be changed, where that is to be restored; else nothing is changed."""
        kept: list[ServiceRetention] = []
        if restores(spec):
            foreseen = (plan.foreseen(assessment, before) for assessment, before in assessed)
            kept = [entry for entry in foreseen if entry is not None]
            kept += [plan.reminder(entry) for entry in aside if entry.previous is not None]
        try:
            return await self.keepsakes.keep(cell, obj, kept)
        except (Forbidden, WriteRefused) as error:
            message = f"what onDelete: Restore needs cannot be written down, so nothing is changed: {error}"
            raise Waiting("RestoreNotKept", message, retry_seconds=60.0, stalled=True) from error

    def _require_as_decided(self, cell: Cell, obj: Object, resolved: Resolved) -> None:
        """Raise ``Overtaken`` or ``Waiting`` unless what a look was decided by is as it was."""
        current, address = cell.obj, resolved.station.address
        if current is None or not cell.has(obj) or "deletionTimestamp" in current["metadata"]:
            raise Overtaken("the policy is gone, or going")
        if current["metadata"]["generation"] != obj["metadata"]["generation"]:
            raise Overtaken("the policy says something else by now")
        threshold.require_switched_on(self.engines, address)
        rails = [rail for _, rail in self.engines.guardrails_at(address)]
        if self.engines.replaced(resolved) or any(rail not in resolved.guardrails for rail in rails):
            raise Overtaken("the engine, or what is allowed on it, is another one by now")

    async def _bring(
        self,
        spec: RetentionSpec,
        resolved: Resolved,
        memory: Memory,
        found: Findings,
        assessment: Assessment,
        before: ServiceRetention | None,
        require: Callable[[], None],
    ) -> None:
        """Set what differs, once, and read it back; one service's refusal leaves the others alone."""
        after, rejected, late = assessment.observed, None, 0
        name, enforces = after.name, spec.drift is Drift.ENFORCE
        drift = Drifted(name, assessment.cause, _was(assessment)) if assessment.cause is not None else None
        if assessment.differing and enforces:
            memory.asked.setdefault(name, drift)
            try:
                after = await services.change(resolved.station, assessment.observed, assessment.differing, require)
            except errors.NotFound:
                found.set_aside(name, State.GONE, GONE, before)
                return
            except errors.Throttled:
                # That says nothing of the values.
                raise
            except errors.Rejected as error:
                rejected = told(error, redact=resolved.spec.redact_keys)
                del memory.asked[name]
        if enforces:
            drift = memory.asked.get(name, drift)
        if drift is not None:
            since = memory.right_at.get(name) or (before.since if before is not None else None)
            if since is not None and enforces and _concerns_rows(assessment.requested):
                late = await _missed(resolved, after, since)
            found.drifts.append(replace(drift, missed=late))
        elif enforces and name in memory.asked:
            found.changed.append(name)
        judged = replace(assessment, cause=drift.cause if drift is not None else None)
        made = plan.entry(judged, after, before, drift=spec.drift, now=found.now, missed=late, rejected=rejected)
        found.after[name], found.entries[name] = after, made


async def _missed(resolved: Resolved, after: Observed, since: datetime) -> int:
    """Count what was made with other values; it is nice to know and keeps no service from what it should be."""
    try:
        return await services.missed(resolved, after, since)
    except errors.EngineError as error:
        log.warning("invocations with another retention were not counted", service=after.name, error=error.message)
        return 0


def _concerns_rows(requested: Values) -> bool:
    """Whether an invocation keeps any of it for good; timeouts are looked up when they are needed."""
    return any(setting.engine_name.endswith("_retention") for setting in requested)


def _was(assessment: Assessment) -> Values:
    found: Observed = assessment.observed
    return {s: found.values[s] for s in assessment.differing if s in found.values}
