"""A policy with sweeps as its reconciler sees it, and what a record tells of a run that this process did not see."""

from dataclasses import dataclass
from datetime import UTC, datetime

from invocation_operator.api.v1alpha1.action import ActionStatus
from invocation_operator.api.v1alpha1.record import RecordSource
from invocation_operator.api.v1alpha1.retention import RetentionSpec
from invocation_operator.api.v1alpha1.sweep import SweepRun
from invocation_operator.cluster.client import Object
from invocation_operator.cluster.records import Record
from invocation_operator.plan import sweeps as plan
from invocation_operator.plan.sweeps import Occasion
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.sweepboard import SweepEntries, run_of
from invocation_operator.values import schedule
from invocation_operator.values.schedule import Tick
from invocation_operator.values.text import cut


@dataclass(frozen=True, slots=True)
class Scene:
    """A policy with sweeps, read."""

    cell: Cell
    spec: RetentionSpec
    entries: SweepEntries
    source: RecordSource
    """The policy as a record names it."""
    generation: int
    """That of ``spec``; ``obj`` may be of a later one by now."""

    @property
    def obj(self) -> Object:
        """The policy."""
        return self.entries.obj

    @property
    def request(self) -> Tick | None:
        """What the annotation asks for, if that was not seen to yet."""
        return _request(self.obj)

    def occasion_of(self, record: Record) -> Occasion | None:
        """Return what the run of ``record`` is, or was, for; None when the policy has no such sweep any more."""
        return plan.occasion_of(self.spec, record.spec.run_id or "", self.request)


def _request(obj: Object) -> Tick | None:
    return schedule.asked(obj["metadata"].get("annotations"), (obj.get("status") or {}).get("lastHandledRequest"))


def needs_work(obj: Object) -> bool:
    """Whether a policy has, or had, anything to do with sweeps."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return bool(spec.get("sweeps") or spec.get("applyToExisting") or status.get("sweeps") or _request(obj) is not None)


def recorded(occasion: Occasion, record: Record) -> SweepRun:
    """How a run ended, from its record."""
    kept = record.status
    status = ActionStatus(
        phase=kept.phase,
        record=record.name,
        start_time=record.spec.start_time,
        completion_time=kept.completion_time or datetime.now(UTC),
        plan=record.spec.plan.summary,
        progress=kept.progress,
    )
    return run_of(occasion, status, None).model_copy(update={"message": cut(kept.message or "", 512) or None})
