"""``onDelete: Restore``: the finalizer that it needs, and what is written back before it goes.

A deletion never hangs: after a minute, or when the engine cannot be used, the policy is let go as it is. Restored is
only what the policy changed, on the very revision on which it changed it, and only where nobody else changed it since.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from invocation_operator.api.v1alpha1.engine import Operation
from invocation_operator.api.v1alpha1.retention import (
    RESTORE_FINALIZER,
    Drift,
    OnDelete,
    RetentionSpec,
    ServiceRetention,
    ServiceState,
)
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterError, ClusterUnavailable, ObjectNotFound
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.engine import errors
from invocation_operator.plan.guardrails import check_operations, out_of_bounds
from invocation_operator.plan.retention import Observed, Values, restorable
from invocation_operator.reconcile import services, threshold
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting
from invocation_operator.reconcile.workbench import Done, Outcome, Retry

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 60.0
"""How long a deletion waits for the restoration."""
AGAIN_SECONDS = 2.0
CONFLICTED = ServiceState.CONFLICTED
UNREAD = "its specification cannot be read."
CAUSED = frozenset({Operation.SET_RETENTION})
"""What guardrails are asked for, to set values as to write them back."""


@dataclass(slots=True)
class Restorer:
    """Puts the finalizer on and takes it off."""

    client: KubeClient
    engines: Engines
    events: EventRecorder
    clock: Callable[[], float]
    """Monotonic seconds."""
    _begun: dict[str, float] = field(default_factory=dict)
    """Since when policies are being let go by this process: its own clock may be another than the API server's."""

    async def mark(self, cell: Cell, obj: Object, *, wanted: bool) -> Object:
        """Make sure that ``obj`` carries the finalizer if and only if it is ``wanted``; return it as it is then.

        Raises the errors of ``cluster.errors``.
        """
        before = list(obj["metadata"].get("finalizers") or ())
        if (RESTORE_FINALIZER in before) is wanted:
            return obj
        after = [*before, RESTORE_FINALIZER] if wanted else [name for name in before if name != RESTORE_FINALIZER]
        metadata = obj["metadata"]
        patch = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "finalizers": after}
        changed = await self.client.patch(
            RETENTION_POLICIES, metadata["namespace"], metadata["name"], {"metadata": patch}
        )
        cell.keep(changed)
        return changed

    async def part(
        self, cell: Cell, obj: Object, spec: RetentionSpec | None, known: Mapping[str, ServiceRetention]
    ) -> Outcome:
        """Restore what a policy that is being deleted had changed, and let it go."""
        metadata = obj["metadata"]
        if RESTORE_FINALIZER not in (metadata.get("finalizers") or ()):
            return Done()
        left: str | Retry | None = None
        if spec is None:
            left = UNREAD if (obj.get("spec") or {}).get("onDelete") == OnDelete.RESTORE else None
        elif restores(spec):
            # It may say something else since the finalizer was put on.
            left = await self._try(obj, spec, known)
        if isinstance(left, Retry):
            if not self._patience_is_over(metadata):
                return left
            left = f"it was tried for {PATIENCE_SECONDS:.0f} seconds."
        if left is not None:
            self.events.tell(obj, "RestoreGivenUp", f"deleted without restoring everything: {left}", "Warning")
        try:
            await self.mark(cell, obj, wanted=False)
        except ObjectNotFound:
            # Somebody else took it off.
            log.info("the policy is gone already")
        self._begun.pop(metadata["uid"], None)
        return Done()

    def _patience_is_over(self, metadata: Mapping[str, Any]) -> bool:
        """After a minute by either clock: one that is behind must not keep the policy, nor may a restart of ours."""
        waited = self.clock() - self._begun[metadata["uid"]]
        since = datetime.now(UTC) - datetime.fromisoformat(metadata["deletionTimestamp"])
        return max(waited, since.total_seconds()) >= PATIENCE_SECONDS

    async def _try(self, obj: Object, spec: RetentionSpec, known: Mapping[str, ServiceRetention]) -> str | Retry | None:
        """Restore; return what could not be, or that it may go better later, or None when all is well."""
        begun = self._begun.setdefault(obj["metadata"]["uid"], self.clock())
        try:
            async with asyncio.timeout(max(AGAIN_SECONDS, PATIENCE_SECONDS - (self.clock() - begun))):
                return await self._restore(obj, spec, known)
        except Waiting as waiting:
            return Retry(AGAIN_SECONDS) if waiting.reason == "EngineSuspended" else waiting.message
        except (errors.EngineError, ClusterUnavailable, TimeoutError) as error:
            log.info("could not restore yet", error=str(error))
            return Retry(AGAIN_SECONDS)

    async def _restore(self, obj: Object, spec: RetentionSpec, known: Mapping[str, ServiceRetention]) -> str | None:
        """Write back; return what could not be, None when all is well. Raises ``Waiting`` and the engine's errors."""
        changed = [entry for entry in known.values() if entry.previous is not None and entry.state is not CONFLICTED]
        if not changed:
            return None
        resolved = await self._engine(obj, spec)
        refused = check_operations(CAUSED, spec.reason, resolved.guardrails, resolved.namespace_labels)
        if refused is not None:
            return refused.message
        found = {entry.name: await services.observe_one(resolved.station.client, entry.name) for entry in changed}
        seen = {name: service for name, service in found.items() if service is not None}
        kept_off = out_of_bounds(seen, CAUSED, resolved.guardrails, resolved.namespace_labels)
        restored: list[str] = []
        left: list[str] = []
        if kept_off:
            left.append(f"the engine's guardrails keep it off {', '.join(sorted(kept_off)[:5])}.")
        try:
            for entry in changed:
                service = seen.get(entry.name)
                back = restorable(entry, service) if entry.name not in kept_off else {}
                if back and service is not None and await self._write_back(resolved, service, back, left):
                    restored.append(entry.name)
        finally:
            if restored:
                shown = ", ".join(sorted(restored)[:5])
                more = f" and {len(restored) - 5} more" if len(restored) > 5 else ""
                self.events.tell(obj, "Restored", f"wrote back what held before the policy on {shown}{more}.")
        return " ".join(left[:5]) or None

    async def _write_back(self, resolved: Resolved, service: Observed, back: Values, left: list[str]) -> bool:
        """Restore one service and tell whether it is; one that is gone or refused keeps nobody, and is ``left``."""

        def require() -> None:
            threshold.require_switched_on(self.engines, resolved.station.address)

        try:
            await services.change(resolved.station, service, back, require)
        except errors.NotFound:
            return False
        except errors.Throttled:
            # That says nothing of the values.
            raise
        except errors.Rejected as error:
            left.append(f"{service.name}: {error.message}.")
            return False
        return True

    async def _engine(self, obj: Object, spec: RetentionSpec) -> Resolved:
        try:
            located = await self.engines.locate(spec.engine_ref, obj["metadata"]["namespace"])
            resolved = await self.engines.connect(located, fresh=True)
        except ClusterUnavailable:
            raise
        except ClusterError as error:
            raise Waiting("Unreachable", str(error)) from error
        told = (obj.get("status") or {}).get("engine") or {}
        if told.get("clusterName") not in (None, resolved.identity.cluster_name):
            raise Waiting("EngineChanged", "another engine answers now; it is left as it is.")
        threshold.require_switched_on(self.engines, resolved.station.address)
        return resolved


def restores(spec: RetentionSpec) -> bool:
    """Whether a policy writes back what held before when it goes; what only reports changes nothing."""
    return spec.on_delete is OnDelete.RESTORE and spec.drift is Drift.ENFORCE
