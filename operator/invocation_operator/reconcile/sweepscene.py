"""A policy with sweeps as its reconciler sees it, and what a record tells of a run that this process did not see."""

from dataclasses import dataclass
from datetime import UTC, datetime

from invocation_operator.api.v1alpha1.action import ActionStatus
from invocation_operator.api.v1alpha1.record import RecordSource
from invocation_operator.api.v1alpha1.retention import REQUESTED_AT, RetentionSpec
from invocation_operator.api.v1alpha1.sweep import SweepRun
from invocation_operator.cluster.client import Object
from invocation_operator.cluster.records import Record
from invocation_operator.plan import sweeps as plan
from invocation_operator.plan.sweeps import Occasion
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.sweepboard import SweepEntries, read_status, run_of
from invocation_operator.values.text import cut
from invocation_operator.values.times import parse_time

REQUEST = 128
"""Characters of a request that are told apart and shown."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A policy with sweeps, read."""

    cell: Cell
    spec: RetentionSpec
    entries: SweepEntries
    source: RecordSource
    """The policy as a record names it."""

    @property
    def obj(self) -> Object:
        """The policy."""
        return self.entries.obj

    @property
    def request(self) -> str | None:
        """What the annotation asks for, if that was not seen to yet."""
        value = (self.obj["metadata"].get("annotations") or {}).get(REQUESTED_AT)
        asked = cut(value, REQUEST) if value else None
        return asked if asked != read_status(self.obj).last_handled_request else None


def needs_work(obj: Object) -> bool:
    """Whether a policy has, or had, anything to do with sweeps."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    asked = (obj["metadata"].get("annotations") or {}).get(REQUESTED_AT)
    return bool(
        spec.get("sweeps")
        or spec.get("applyToExisting")
        or status.get("sweeps")
        or (asked and asked != status.get("lastHandledRequest"))
    )


def occasion_of(spec: RetentionSpec, record: Record) -> Occasion | None:
    """Return what a record's run was for; None when the policy has no such sweep any more."""
    name, _, what = (record.spec.run_id or "").partition(" ")
    sweep = next((s for s in plan.sweeps_of(spec) if s.name == name), None)
    if sweep is None:
        return None
    if what.startswith("request "):
        return Occasion(sweep, request=what.removeprefix("request "))
    try:
        return Occasion(sweep, tick=parse_time(what))
    except ValueError:
        return None


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
