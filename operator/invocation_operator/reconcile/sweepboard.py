"""Where a sweep's run tells how far it is: one entry of its policy's status, beside what others write there.

The run speaks as of an InvocationAction; this turns it into the entry. Every write begins with the newest status that
is known and changes nothing but the sweeps in it.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import stamina
from pydantic import ValidationError

from invocation_operator.api.v1alpha1.action import ActionStatus
from invocation_operator.api.v1alpha1.retention import RetentionStatus
from invocation_operator.api.v1alpha1.sweep import SweepRun, SweepStatus
from invocation_operator.cluster import status as status_writer
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ClusterUnavailable
from invocation_operator.cluster.records import TERMINAL
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.plan import sweeps as plan
from invocation_operator.plan.sweeps import Occasion
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.policytalk import within
from invocation_operator.values.schedule.ticks import REQUESTED_AT
from invocation_operator.values.text import cut

Change = Callable[[dict[str, SweepStatus]], Mapping[str, object] | None]
"""Changes the entries by name; what it returns are further fields of the status."""


class SweepEntries:
    """The sweeps in the status of the policy in ``cell``, as long as it is the one that ``obj`` is."""

    def __init__(self, client: KubeClient, cell: Cell, obj: Object) -> None:
        self._client = client
        self._cell = cell
        self._obj = obj
        self._turn = asyncio.Lock()

    @property
    def obj(self) -> Object:
        """The newest version of the policy that is known."""
        return self._cell.latest(self._obj)

    def read(self) -> dict[str, SweepStatus]:
        """Return the entries by name, as they are known now."""
        return {entry.name: entry for entry in read_status(self.obj).sweeps or ()}

    async def change(self, change: Change, *, insist: bool = False) -> None:
        """Write what ``change`` makes of the entries; with ``insist`` for as long as the API server is away.

        Raises the errors of ``cluster.errors``.
        """
        async with self._turn:
            attempts = None if insist else 1
            retries = stamina.retry_context(on=ClusterUnavailable, attempts=attempts, timeout=None, wait_max=5.0)
            async for attempt in retries:
                with attempt:
                    await self._change(change)

    async def _change(self, change: Change) -> None:
        def made(current: Object) -> RetentionStatus:
            status = read_status(current)
            entries = {entry.name: entry for entry in status.sweeps or ()}
            more = change(entries) or {}
            update = {
                "sweeps": list(entries.values()) or None,
                "next_sweep_time": plan.next_sweep(entries.values()),
                "last_sweep": plan.last_sweep(entries.values()),
                **more,
            }
            return within(status.model_copy(update=update))

        # Made anew where another operator has written meanwhile: of the older entries it would take theirs back.
        obj = await status_writer.change(self._client, RETENTION_POLICIES, self.obj, made)
        self._obj = obj
        self._cell.keep(obj)


class SweepBoard:
    """The bulletin of one run of a sweep (``reconcile.board.Bulletin``)."""

    def __init__(self, entries: SweepEntries, occasion: Occasion, planned_bytes: int | None) -> None:
        self._entries = entries
        self._occasion = occasion
        self._planned_bytes = planned_bytes
        self.status = ActionStatus()

    @property
    def obj(self) -> Object:
        """The policy."""
        return self._entries.obj

    @property
    def generation(self) -> int:
        """Generation of the policy's specification."""
        return int(self.obj["metadata"].get("generation", 1))

    @property
    def title(self) -> str:
        """Which of the policy's sweeps it is."""
        return f"sweep {self._occasion.sweep.name}: "

    @property
    def again(self) -> str:
        """How a person has it done again."""
        return f"It runs again at its next time, or when the annotation {REQUESTED_AT} has a new value."

    def knobs(self) -> Mapping[str, Any] | None:
        """Return the sweep as the policy says it now, with the policy's own ``suspend``; None when it is gone."""
        spec: Mapping[str, Any] = self.obj.get("spec") or {}
        if self._occasion.sweep.name in plan.EXISTING:
            return {"suspend": bool(spec.get("suspend"))} if spec.get("applyToExisting") else None
        found = next((s for s in spec.get("sweeps") or () if s.get("name") == self._occasion.sweep.name), None)
        if found is None:
            return None
        return {**found, "suspend": bool(spec.get("suspend") or found.get("suspend"))}

    async def write(self, status: ActionStatus, *, insist: bool = False) -> None:
        """Say ``status`` in the sweep's entry. Raises ``ObjectNotFound`` or ``WriteConflict``."""
        self.status = status
        await self._entries.change(self._into, insist=insist)

    def _into(self, entries: dict[str, SweepStatus]) -> None:
        name = self._occasion.sweep.name
        if self.knobs() is None:
            # It has left the policy: the record tells how it ended, status has no place for it any more.
            entries.pop(name, None)
            return
        entry = plan.begun(entries.get(name) or SweepStatus(name=name), self._occasion)
        if self.status.phase in TERMINAL:
            entries[name] = plan.ended(entry, run_of(self._occasion, self.status, self._planned_bytes))
            return
        counted = self.status.progress
        entries[name] = entry.model_copy(
            update={"active": self.status.record, "progress": counted.summary if counted is not None else None}
        )


def run_of(occasion: Occasion, status: ActionStatus, planned_bytes: int | None) -> SweepRun:
    """Return a run that has ended, as the history tells it."""
    counted = status.progress
    phase = status.phase
    if phase is None:
        raise ValueError("a run that has ended has a phase")
    ready = next((c for c in status.conditions or () if c.type == "Ready"), None)
    return SweepRun(
        scheduled_time=occasion.tick.at,
        request=occasion.tick.request,
        start_time=status.start_time,
        completion_time=status.completion_time or datetime.now(UTC).replace(microsecond=0),
        phase=phase,
        planned=status.plan.total if status.plan is not None else 0,
        freed=counted.effective if counted is not None else 0,
        bytes_freed=plan.freed_bytes(planned_bytes, counted),
        record=status.record,
        message=cut(ready.message, 512) if ready is not None else None,
    )


def read_status(obj: Object) -> RetentionStatus:
    """Return the status that is there. One that a newer operator wrote and that cannot be read counts as none."""
    try:
        return RetentionStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return RetentionStatus()
