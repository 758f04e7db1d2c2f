"""InvocationAction: one operation on a set of invocations, done once."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.action_rules import ROOT_RULES, SPEC_RULES
from invocation_operator.api.v1alpha1.approval import Approval, ApprovalStatus, PlanHash, ReplacedPlan
from invocation_operator.api.v1alpha1.base import (
    Column,
    Condition,
    CountOrShare,
    Duration,
    EngineIdentity,
    EngineRef,
    Kind,
    ListType,
    Model,
    Name,
    PositiveCountOrShare,
    Rule,
    ShortText,
    StrictModel,
    Text,
)
from invocation_operator.api.v1alpha1.report import Report, ReportStatus
from invocation_operator.api.v1alpha1.target import Target


class ActionType(StrEnum):
    """What is done to each invocation."""

    CANCEL = "Cancel"
    KILL = "Kill"
    PAUSE = "Pause"
    RESUME = "Resume"
    PURGE = "Purge"
    PURGE_JOURNAL = "PurgeJournal"
    RESTART_AS_NEW = "RestartAsNew"


class Mode(StrEnum):
    """Whether the plan is carried out."""

    EXECUTE = "Execute"
    DRY_RUN = "DryRun"
    APPROVE = "Approve"


class RunPolicy(StrEnum):
    """What counts as the same run."""

    ONCE_PER_SPEC = "OncePerSpec"
    ONCE_PER_OBJECT = "OncePerObject"


class RepeatPolicy(StrEnum):
    """Whether a cancel that shows no reaction is sent again."""

    NEVER = "Never"
    WHEN_UNCHANGED = "WhenUnchanged"


class Phase(StrEnum):
    """Where a run stands."""

    PENDING = "Pending"
    PLANNING = "Planning"
    AWAITING_APPROVAL = "AwaitingApproval"
    RUNNING = "Running"
    VERIFYING = "Verifying"
    SUSPENDED = "Suspended"
    PLANNED = "Planned"
    SUCCEEDED = "Succeeded"
    PARTIALLY_FAILED = "PartiallyFailed"
    FAILED = "Failed"
    REFUSED = "Refused"
    STOPPED = "Stopped"
    EXPIRED = "Expired"
    ALREADY_EXECUTED = "AlreadyExecuted"


class Outcome(StrEnum):
    """What became of one invocation."""

    EFFECTIVE = "Effective"
    ALREADY_DONE = "AlreadyDone"
    ESCALATED = "Escalated"
    SKIPPED = "Skipped"
    NO_OP = "NoOp"
    UNVERIFIED = "Unverified"
    AMBIGUOUS = "Ambiguous"
    FAILED = "Failed"


Count = Annotated[int, Field(ge=0)]


class Limits(StrictModel):
    """Ceilings of this run; the engine's own are never exceeded."""

    max_targets: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """More matches than this refuse the run before anything is touched."""
    max_percent_of_service: Annotated[int, Field(ge=1, le=100)] | None = None
    """More than this share (percent) of any one service's invocations refuses the run before anything is touched.
    Counted when the plan is made: what would be acted upon, living descendants of a Cancel or Kill included, of that
    service's invocations in the statuses that the action applies to. Default: no limit."""
    max_failures: Annotated[str, StringConstraints(max_length=16, pattern=r"^([0-9]+|(100|[1-9]?[0-9])%)$")] | None = (
        None
    )
    """Failures (a count such as `10`, or a share of the plan such as `5%`) after which the run stops."""
    max_in_flight: Annotated[int, Field(ge=1, le=20_000)] | None = None
    """Invocations asked and not yet verified at any time. Default: the engine's limit."""
    operations_per_second: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Operations started per second. Default: the engine's limit."""


class Verification(StrictModel):
    """How the effect is looked for: the engine answers before the effect is there."""

    timeout: Duration = "5m"
    """How long the effect of an operation is waited for, from the moment it was asked for."""
    repeat: RepeatPolicy = RepeatPolicy.NEVER
    """Cancel only. `WhenUnchanged` sends the cancel again to invocations that show no reaction at all. A second cancel
    aborts a running compensation, therefore the default is `Never`."""
    repeat_after: Duration = "30s"
    """How long to wait for a reaction before asking again."""


class Escalation(StrictModel):
    """Cancel only: what to do with invocations that outlive their cancellation."""

    kill_after: Duration
    """Kill what is still alive this long after its cancel. Must be shorter than `verification.timeout`."""


class ResumeOptions(StrictModel):
    """Resume only."""

    deployment: Annotated[str, StringConstraints(max_length=128, pattern=r"^(Keep|Latest|dp_[0-9A-Za-z]+)$")] = "Keep"
    """`Keep`, `Latest` or a deployment id: the deployment on which the invocation goes on."""


class RestartOptions(StrictModel):
    """RestartAsNew only."""

    deployment: Annotated[str, StringConstraints(max_length=128, pattern=r"^(Keep|Latest|dp_[0-9A-Za-z]+)$")] = "Latest"
    """`Keep`, `Latest` or a deployment id: the deployment on which the new invocation runs."""
    from_entry: Annotated[int, Field(ge=0, le=2_147_483_647)] = 0
    """Journal entry up to which the journal is copied; 0 copies the input only."""
    allow_repeated: bool = False
    """Restart also what has been restarted before. Default: such invocations are skipped (`AlreadyRestarted`)."""


class Rollout(StrictModel):
    """Resume and RestartAsNew only: act in waves, and look after each of them whether what was acted upon is well."""

    waves: Annotated[list[PositiveCountOrShare], Field(min_length=1, max_length=20), ListType("atomic")]
    """How many of the planned invocations have been acted upon when each wave ends: numbers such as `10` or shares of
    the plan such as `"5%"`, counted from the first and rounded up. A wave that reaches no further than the one before
    it is left out. The last wave is always `100%`, also when it is not written."""
    soak: Duration = "1m"
    """How long to wait after a wave before looking at it. `0s` looks at once."""
    max_unhealthy: CountOrShare = 0
    """How many (a number, or a share of those looked at such as `"5%"`) may be paused, backing off or have failed again
    after a wave, or could not be acted upon in it. One more stops the run."""


class ActionSpec(StrictModel):
    """What to do, to which invocations, within which limits. Immutable after creation but for `suspend`, `mode`,
    `approvedPlan`, the TTLs, `limits.maxInFlight` and `limits.operationsPerSecond`; set a new `runId` to run something
    again or something else.
    """

    engine_ref: EngineRef | None = None
    """The engine. Default: the RestateEngine named `default` in this namespace, else in the operator's."""
    action: ActionType
    """What is done to each invocation. `Cancel` is cooperative and lets compensations run; `Kill` is the last resort
    and runs none."""
    reason: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Why, for the record."""
    target: Target
    """Which invocations."""
    mode: Mode = Mode.EXECUTE
    """`DryRun` writes the plan to status and touches nothing; change it to `Execute` to carry it out. `Approve` writes
    the plan and waits until `approvedPlan` equals `status.plan.hash`."""
    approval: Approval = Approval()
    """Approve only: what an approval covers, and for how long."""
    approved_plan: PlanHash | None = None
    """Approve only: the `status.plan.hash` of the plan that may be carried out. Not accepted at creation, when there is
    no plan yet; of no effect once the run has begun."""
    limits: Limits = Limits()
    """Ceilings of this run."""
    verification: Verification = Verification()
    """How the effect is verified."""
    expedite: bool = False
    """Cancel only: resume an invocation that waits for a retry right after its cancel, so that it meets the
    cancellation now and not in an hour."""
    escalation: Escalation | None = None
    """Cancel only: kill what outlives its cancellation."""
    resume: ResumeOptions | None = None
    """Resume only: options."""
    restart: RestartOptions | None = None
    """RestartAsNew only: options."""
    rollout: Rollout | None = None
    """Resume and RestartAsNew only: act in waves. Default: all at once, within the limits."""
    suspend: bool = False
    """Stop between operations; go on when it is set back to false."""
    timeout: Duration | None = None
    """End the work this long after the run started, verification included. What was not reached is left alone."""
    not_after: datetime | None = None
    """Never start after this time."""
    report: Report | None = None
    """`ConfigMap` writes what became of each single invocation into ConfigMaps beside this object, which are deleted
    with it. `status.report` names them. Default: `status.results` shows the most important ones."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """Delete this object so many seconds after it has ended; its InvocationRecord stays, so that the same manifest does
    not run again. Never done to an object that Argo CD, Flux or Helm owns: they would create it again. Default: it
    stays."""
    ttl_seconds_after_failed: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """The same for one that has ended badly (`Stalled`). Default: `ttlSecondsAfterFinished`."""
    run_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """A token of your choice. The same specification with the same token never runs twice; a new token in a finished
    action runs it again."""
    run_policy: RunPolicy = RunPolicy.ONCE_PER_SPEC
    """`OncePerSpec`: the same manifest never runs twice, also when it is deleted and created again. `OncePerObject`: a
    new object is a new run, as with plain Kubernetes Jobs."""

    rules: ClassVar[tuple[Rule, ...]] = SPEC_RULES


class NamedCount(Model):
    """A count with its name."""

    name: ShortText
    """What is counted."""
    count: Count
    """How many."""


class Cascade(Model):
    """Descendants that the operation reaches through the invocations that it acts upon."""

    total: Count = 0
    """Living descendants."""
    by_service: Annotated[list[NamedCount] | None, Field(max_length=20), ListType("map")] = None
    """Descendants by service, largest first."""
    truncated: bool = False
    """The count was cut short; there are more."""


class Result(Model):
    """What became of one invocation."""

    id: Annotated[str, StringConstraints(max_length=128)]
    """Invocation id."""
    target: Annotated[str, StringConstraints(max_length=256)] | None = None
    """`Service/handler` or `Service/key/handler`, cut to fit."""
    outcome: Outcome
    """Outcome."""
    reason: ShortText | None = None
    """What it ended as or why: a CamelCase word."""
    new_id: Annotated[str, StringConstraints(max_length=128)] | None = None
    """RestartAsNew: id of the new invocation."""
    error: Annotated[str, StringConstraints(max_length=256)] | None = None
    """What the engine said, cut to fit."""


class PlannedTarget(Model):
    """A planned invocation, as the preview shows it."""

    id: Annotated[str, StringConstraints(max_length=128)]
    """Invocation id."""
    target: Annotated[str, StringConstraints(max_length=256)] | None = None
    """`Service/handler` or `Service/key/handler`, cut to fit."""
    status: ShortText | None = None
    """Status when the plan was made."""
    created_at: datetime | None = None
    """When the invocation was created."""


class PlanStatus(Model):
    """What the run does, decided before anything is touched."""

    hash: Annotated[str, StringConstraints(max_length=80)] | None = None
    """Binds engine, canonical specification and planned ids."""
    total: Count = 0
    """Invocations that are acted upon."""
    by_service: Annotated[list[NamedCount] | None, Field(max_length=20), ListType("map")] = None
    """Planned invocations by service, largest first."""
    by_status: Annotated[list[NamedCount] | None, Field(max_length=8), ListType("map")] = None
    """Planned invocations by status."""
    excluded_by_status: Annotated[list[NamedCount] | None, Field(max_length=8), ListType("map")] = None
    """Invocations that match but are left out because the action's default statuses do not include theirs."""
    cascade: Cascade | None = None
    """Descendants that the operation reaches too."""
    warnings: Annotated[list[Text] | None, Field(max_length=10), ListType("atomic")] = None
    """What a person should know before the plan is carried out."""
    sample: Annotated[list[PlannedTarget] | None, Field(max_length=10), ListType("atomic")] = None
    """Some of the planned invocations."""
    waves: Annotated[list[Count] | None, Field(max_length=21), ListType("atomic")] = None
    """How many of the planned invocations have been acted upon when each wave ends."""
    time: datetime | None = None
    """When the plan was made, on the engine's clock. Relative times count from here."""
    replaced: ReplacedPlan | None = None
    """While an approval is awaited: the plan that this one replaced."""


class ActionProgress(Model):
    """How far the run is. Each planned or named invocation is in at most one of the counts after `percent`."""

    total: Count = 0
    """Invocations that the run answers for: planned ones, and named ones that failed or were skipped."""
    done: Count = 0
    """Those with an outcome."""
    percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of `done`."""
    summary: ShortText | None = None
    """`done/total`, for the printer column."""
    effective: Count = 0
    """The effect was seen."""
    already_done: Count = 0
    """Nothing was left to do when it was asked for."""
    escalated: Count = 0
    """Killed because the cancel did not end them in time."""
    skipped: Count = 0
    """Left alone, with a reason."""
    no_op: Count = 0
    """The engine accepted the call and nothing happened."""
    unverified: Count = 0
    """The effect was not seen in time."""
    ambiguous: Count = 0
    """It is not known whether the call took effect, and it is not safe to repeat."""
    failed: Count = 0
    """The engine refused."""


class RolloutStatus(Model):
    """Where a run in waves stands."""

    wave: Count = 0
    """The wave under way, or the one that ended the run; from 1."""
    waves: Count = 0
    """How many there are."""
    wave_start_time: datetime | None = None
    """When this wave began, on the engine's clock; absent in the first one, which begins with the run."""
    soak_until: datetime | None = None
    """When this wave is looked at, on the engine's clock; absent while it is being acted upon."""
    healthy: Count = 0
    """Those that were well at the last look."""
    unhealthy: Count = 0
    """Those that were not: paused, backing off or failed again, or an operation that had no effect."""
    sample: Annotated[list[Result] | None, Field(max_length=5), ListType("atomic")] = None
    """Some of those that were not well, and in `reason` and `error` what is wrong with them."""


class ActionStatus(Model):
    """What happened."""

    observed_generation: int = -1
    """Generation of the specification that this status speaks of; -1: not seen yet."""
    phase: Phase | None = None
    """Where the run stands."""
    run_id: ShortText | None = None
    """`spec.runId` of this run."""
    record: Name | None = None
    """Name of the InvocationRecord (lock and audit trail) in the operator's namespace."""
    start_time: datetime | None = None
    """When the run started, on the engine's clock."""
    completion_time: datetime | None = None
    """When it ended."""
    requested_by: ShortText | None = None
    """Who asked for it. Empty where no admission policy vouches for it."""
    engine: EngineIdentity | None = None
    """The engine that was resolved."""
    plan: PlanStatus | None = None
    """What the run does."""
    approval: ApprovalStatus | None = None
    """The approval that the run was started with; it stands, whatever becomes of `spec.approvedPlan`."""
    progress: ActionProgress | None = None
    """How far it is."""
    rollout: RolloutStatus | None = None
    """Where a run in waves stands."""
    results: Annotated[list[Result] | None, Field(max_length=50), ListType("atomic")] = None
    """Outcomes of single invocations, what needs attention first; bounded."""
    skipped_reasons: Annotated[list[NamedCount] | None, Field(max_length=20), ListType("map")] = None
    """Why invocations were skipped."""
    report: ReportStatus | None = None
    """With `spec.report`: where the full outcome is."""
    conditions: Annotated[list[Condition] | None, Field(max_length=8), ListType("map", key="type")] = None
    """`Ready`, and while they are true `Reconciling` or `Stalled`."""


ACTION_KIND = Kind(
    kind="InvocationAction",
    plural="invocationactions",
    singular="invocationaction",
    short_names=("iact",),
    description="One operation on a set of durable invocations, planned, bounded, done once and verified.",
    columns=(
        Column("Action", "string", ".spec.action", "What is done"),
        Column("Phase", "string", ".status.phase", "Where the run stands"),
        Column("Progress", "string", ".status.progress.summary", "Invocations with an outcome, of all"),
        Column("Matched", "integer", ".status.plan.total", "Invocations in the plan"),
        Column("Failed", "integer", ".status.progress.failed", "Refused by the engine"),
        Column(
            "Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is in this phase", priority=1
        ),
        Column("Wave", "integer", ".status.rollout.wave", "The wave under way", priority=1),
        Column("Engine", "string", ".status.engine.name", "The engine", priority=1),
        Column("Plan", "string", ".status.plan.hash", "What spec.approvedPlan must say to approve it", priority=1),
        Column("Age", "date", ".metadata.creationTimestamp", "Since its creation"),
    ),
    rules=ROOT_RULES,
)
