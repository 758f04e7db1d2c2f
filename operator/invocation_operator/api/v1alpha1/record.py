"""InvocationRecord: the lock that makes a run happen once, and its audit trail.

One per run, in the operator's namespace, named by the hash of what is run (``plan.identity``). It is created before
anything is touched; that it exists already means *executed*. People read it and never write it.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.action import (
    ActionProgress,
    ActionType,
    Count,
    NamedCount,
    Phase,
    PlanStatus,
    Result,
    RolloutStatus,
)
from invocation_operator.api.v1alpha1.approval import ApprovalStatus
from invocation_operator.api.v1alpha1.base import (
    Column,
    Condition,
    EngineIdentity,
    Kind,
    ListType,
    Model,
    Name,
    Rule,
    ShortText,
    Text,
)
from invocation_operator.api.v1alpha1.report import RecordReport

Blob = Annotated[str, StringConstraints(max_length=1_000_000)]
"""zlib-compressed bytes in base64."""


class RecordSource(Model):
    """The object that asked for the run."""

    kind: ShortText
    """Its kind."""
    namespace: Name
    """Its namespace."""
    name: Name
    """Its name."""
    uid: ShortText
    """Its UID."""


class RecordPlan(Model):
    """What the run was decided to do, fixed."""

    total: Count
    """Number of planned invocations."""
    statement: Annotated[str, StringConstraints(max_length=65536)] | None = None
    """The condition that the engine was asked for, in its SQL."""
    summary: PlanStatus
    """What the plan shows."""
    targets: Blob | None = None
    """The planned invocations (id, created_at, status, target), compressed; absent when they are in chunks."""
    chunks: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of ConfigMaps `<record>-<uid>-<n>` that hold the planned invocations."""
    services: Annotated[list[ShortText] | None, Field(max_length=1000), ListType("set")] = None
    """Services that are acted upon, directly or as descendants; the first 1000 by name."""
    named: Annotated[list[Result] | None, Field(max_length=1000), ListType("atomic")] = None
    """Named ids that were not planned, and why."""
    first_batch: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many of the planned invocations, from the first, may have been asked once this record exists."""


class RecordSpec(Model):
    """Who, why, what, when. Immutable."""

    hash_version: Annotated[int, Field(ge=1, le=1000)]
    """Version of the canonical form behind this record's name."""
    source: RecordSource
    """The object that asked for the run."""
    engine: EngineIdentity
    """The engine."""
    action: ActionType
    """What is done."""
    reason: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Why."""
    requested_by: ShortText | None = None
    """Who asked for it."""
    approval: ApprovalStatus | None = None
    """The approval of its plan, where one was needed."""
    run_id: ShortText | None = None
    """`spec.runId` of the run."""
    start_time: datetime
    """When the run started, on the engine's clock."""
    holder: ShortText
    """Identity of the operator process that created this record and works on it first."""
    deployments: Annotated[list[ShortText] | None, Field(max_length=64), ListType("set")] = None
    """Some of the engine's deployments, to tell it from another cluster of the same name."""
    specification: Annotated[str, StringConstraints(max_length=262_144)]
    """The canonical specification, as JSON."""
    plan: RecordPlan
    """What the run does."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self == oldSelf", "a record is immutable: it is the lock and the audit trail of a run"),
    )


class AskMark(Model):
    """By when a part of the plan had been asked."""

    below: Annotated[int, Field(ge=1, le=1_000_000)]
    """Every planned invocation before this place in the plan that has no outcome had been asked."""
    time: datetime
    """By this time, on the engine's clock."""


class RecordStatus(Model):
    """What happened; written by the operator that holds the run."""

    observed_generation: int = -1
    """Generation that this status speaks of; -1: not seen yet."""
    holder: ShortText | None = None
    """Identity of the operator process that works on the run; empty: nobody."""
    renew_time: datetime | None = None
    """When the holder last showed that it is alive, on its own clock."""
    ledger: Blob | None = None
    """One byte per planned invocation, in the order of the plan, compressed: untouched, intended, or its outcome."""
    intent_time: datetime | None = None
    """When the last intent was written, on the engine's clock."""
    asked: Annotated[list[AskMark] | None, Field(max_length=16), ListType("atomic")] = None
    """Since when what has no outcome yet was asked: whoever takes the run over goes on counting from there."""
    phase: Phase | None = None
    """Where the run stands, or how it ended."""
    progress: ActionProgress | None = None
    """Counts."""
    rollout: RolloutStatus | None = None
    """Where a run in waves stands."""
    results: Annotated[list[Result] | None, Field(max_length=50), ListType("atomic")] = None
    """Outcomes of single invocations, what needs attention first."""
    skipped_reasons: Annotated[list[NamedCount] | None, Field(max_length=20), ListType("map")] = None
    """Why invocations were skipped."""
    report: RecordReport | None = None
    """What is known of the run's report."""
    message: Text | None = None
    """How it ended, in a sentence."""
    completion_time: datetime | None = None
    """When it ended."""
    conditions: Annotated[list[Condition] | None, Field(max_length=8), ListType("map", key="type")] = None
    """`Ready`, and while they are true `Reconciling` or `Stalled`."""


RECORD_KIND = Kind(
    kind="InvocationRecord",
    plural="invocationrecords",
    singular="invocationrecord",
    short_names=("irec",),
    description="Lock and audit trail of one run: who, why, what, when, how it ended. Written only by the operator.",
    columns=(
        Column("Action", "string", ".spec.action", "What was done"),
        Column("Namespace", "string", ".spec.source.namespace", "Namespace of the object that asked for it"),
        Column("Source", "string", ".spec.source.name", "Name of the object that asked for it"),
        Column("Phase", "string", ".status.phase", "How it ended"),
        Column("Targets", "integer", ".spec.plan.total", "Planned invocations"),
        Column("Reason", "string", ".spec.reason", "Why", priority=1),
        Column("By", "string", ".spec.requestedBy", "Who", priority=1),
        Column("Age", "date", ".metadata.creationTimestamp", "Since the run"),
    ),
)
