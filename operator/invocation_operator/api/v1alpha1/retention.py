"""RetentionPolicy: how long completed work stays on an engine, kept in force against everything that resets it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.action import Count
from invocation_operator.api.v1alpha1.base import (
    Column,
    Condition,
    Duration,
    EngineIdentity,
    EngineRef,
    Kind,
    ListType,
    Model,
    Name,
    Rule,
    ShortText,
    StrictModel,
    Text,
)
from invocation_operator.api.v1alpha1.hold import HOLDS, Hold, HoldStatus
from invocation_operator.api.v1alpha1.retention_rules import RETENTION_RULES, SPEC_RULES, TIMEOUT_RULES
from invocation_operator.api.v1alpha1.sweep import SWEEPS, Sweep, SweepStatus
from invocation_operator.api.v1alpha1.target import NamePattern

RESTORE_FINALIZER = "ops.restate.dev/restore-retention"
"""On a policy with `onDelete: Restore`, so that its deletion waits for the restoration, a minute at most."""


class Drift(StrEnum):
    """What is done when a service's values are not what the policy says."""

    ENFORCE = "Enforce"
    REPORT = "Report"


class OnDelete(StrEnum):
    """What becomes of the services when the policy is deleted."""

    KEEP = "Keep"
    RESTORE = "Restore"


class ServiceState(StrEnum):
    """Whether the policy is in force on one service."""

    IN_FORCE = "InForce"
    PENDING = "Pending"
    DRIFTED = "Drifted"
    CAPPED = "Capped"
    NOT_APPLICABLE = "NotApplicable"
    CONFLICTED = "Conflicted"
    PROTECTED = "ProtectedService"
    NOT_ALLOWED = "ServiceNotAllowed"
    REJECTED = "Rejected"
    GONE = "ServiceGone"


class Retention(StrictModel):
    """How long the engine keeps what has completed. It holds for new invocations: those that exist keep what held when
    they were made.
    """

    idempotency: Duration | None = None
    """How long the result of a call with an idempotency key is kept. On engines that give every ingress call a key of
    its own (clusters made by 1.7) this governs all ingress calls to services and virtual objects."""
    workflow_completion: Duration | None = None
    """How long a completed workflow run is kept. Services of other types have no such setting; for them it is shown as
    not applicable."""
    journal: Duration | None = None
    """How long the journal is kept. The engine keeps no journal longer than the completion that it belongs to."""

    rules: ClassVar[tuple[Rule, ...]] = RETENTION_RULES
    min_properties: ClassVar[int] = 1


class Timeouts(StrictModel):
    """How long the engine lets a handler be silent."""

    inactivity_timeout: Duration | None = None
    """How long an invocation may do nothing before the engine asks it to suspend."""
    abort_timeout: Duration | None = None
    """How long it may take to comply before the attempt is aborted."""

    rules: ClassVar[tuple[Rule, ...]] = TIMEOUT_RULES
    min_properties: ClassVar[int] = 1


class RetentionSpec(StrictModel):
    """Which services, which values, and what is done when they are not so."""

    engine_ref: EngineRef | None = None
    """The engine. Default: the RestateEngine named `default` in this namespace, else in the operator's."""
    services: Annotated[list[NamePattern], Field(min_length=1, max_length=64), ListType("set")]
    """Services, exact names; a trailing `*` makes a prefix (`report-*`). Those that appear later are taken in."""
    retention: Retention | None = None
    """How long completed work stays. A value that is not given is left as it is."""
    timeouts: Timeouts | None = None
    """Timeouts of handlers, which the engine sets by the same call. A value that is not given is left as it is."""
    apply_to_existing: bool = False
    """Purge also what exists already and has outlived the values of `retention`: results past the completion that fits
    them, journals past `journal`. `status.wouldRelease` says beforehand how much that is. Looked at every ten minutes,
    by the sweeps `existing-results` and `existing-journals` in status. Handlers with values of their own are left."""
    sweeps: Annotated[list[Sweep] | None, Field(min_length=1, max_length=SWEEPS), ListType("map")] = None
    """Purges on a schedule. A new, non-empty value of the annotation `ops.restate.dev/requestedAt` sweeps now."""
    holds: Annotated[list[Hold] | None, Field(min_length=1, max_length=HOLDS), ListType("map")] = None
    """What is never purged by the operator on this engine, neither by sweeps nor by InvocationActions. A hold is in
    force once status shows it, also while the policy is suspended."""
    drift: Drift = Drift.ENFORCE
    """`Enforce` corrects a service whose values are others (each new deployment and each forced registration resets
    them); `Report` only tells, and changes nothing, not the first time either."""
    on_delete: OnDelete = OnDelete.KEEP
    """`Keep` leaves the services as they are when this object is deleted. `Restore` writes back what they had before,
    as long as a service's revision is still the one that was changed; deletion waits for it, a minute at most. Services
    and values that were taken out of the policy before are left as they are."""
    interval: Duration = "30s"
    """How often the services are looked at (1s to 1d)."""
    reason: Annotated[str, StringConstraints(max_length=512)] | None = None
    """Why, for guardrails that require one."""
    suspend: bool = False
    """Look at nothing, change nothing and sweep nothing until it is set back to false. A sweep that is under way stops
    between operations, and goes on then."""

    rules: ClassVar[tuple[Rule, ...]] = SPEC_RULES


Length = Annotated[str, StringConstraints(max_length=64)]


class Settings(Model):
    """Values of a service, as durations in their shortest form. What is absent is not set by the policy, or the service
    has no such setting.
    """

    idempotency: Length | None = None
    """Idempotency retention."""
    workflow_completion: Length | None = None
    """Retention of completed workflow runs."""
    journal: Length | None = None
    """Journal retention."""
    inactivity_timeout: Length | None = None
    """Inactivity timeout."""
    abort_timeout: Length | None = None
    """Abort timeout."""


class HandlerOverride(Model):
    """A handler whose own values win: they are set in its code and cannot be changed from outside."""

    name: ShortText
    """Name of the handler."""
    effective: Settings
    """What holds for it, of the values that the policy sets."""


class ServiceRetention(Model):
    """One service."""

    name: ShortText
    """Name of the service."""
    state: ServiceState
    """`InForce`, `Pending` (not seen to yet), `Drifted` (other values, which `drift: Report` leaves), `Capped` (the
    engine holds less than was asked for), `NotApplicable` (no value applies to this type of service), `Conflicted` (an
    older policy has it), `ProtectedService` or `ServiceNotAllowed` (the engine's guardrails), `Rejected` (the engine
    refuses the values), `ServiceGone`."""
    requested: Settings | None = None
    """What the policy asks for, as far as it applies to this type of service."""
    effective: Settings | None = None
    """What the engine shows at the service."""
    previous: Settings | None = None
    """What held before the policy changed it, of the values that it changed."""
    since: datetime | None = None
    """Since when the state is so."""
    revision: Annotated[int, Field(ge=0)] | None = None
    """Revision of the service that this speaks of; the engine forgets the values with each new one."""
    deployment: ShortText | None = None
    """Deployment of that revision."""
    drifts: Count = 0
    """How often the values were found to be others than they had been set to."""
    last_drift_time: datetime | None = None
    """When that was last."""
    last_drift_reason: ShortText | None = None
    """Why: `NewDeployment`, `ForcedRegistration`, `DeploymentRemoved` or `ChangedElsewhere`."""
    missed_invocations: Count = 0
    """Invocations that were made while other values held: they keep those."""
    not_applicable: Annotated[list[ShortText] | None, Field(max_length=8), ListType("atomic")] = None
    """Values that this type of service does not have."""
    handlers: Annotated[list[HandlerOverride] | None, Field(max_length=16), ListType("map")] = None
    """Handlers whose own values win."""
    handlers_omitted: Count = 0
    """How many more there are."""
    message: Annotated[str, StringConstraints(max_length=512)] | None = None
    """What a person should know."""


class Release(Model):
    """What exists and has outlived the values of the policy, on the services on which it is in force."""

    results: Count = 0
    """Completed invocations past the completion that fits them."""
    journals: Count = 0
    """Journals past `journal`."""
    bytes: Count | None = None
    """Bytes of all those journals; absent when they could not be counted in time, and on engines before 1.7, which do
    not tell.
    """
    time: datetime | None = None
    """When it was counted, on the engine's clock."""


class RetentionStatus(Model):
    """What is in force."""

    observed_generation: int = -1
    """Generation of the specification that this status speaks of; -1: not seen yet."""
    engine: EngineIdentity | None = None
    """The engine that was resolved."""
    matched: Count = 0
    """Services that match."""
    in_force: Count = 0
    """Services on which everything that applies is in force."""
    summary: ShortText | None = None
    """`inForce/matched`, for the printer column."""
    not_in_force: ShortText | None = None
    """Where it is not in force and why, the gravest first, for the printer column."""
    drifts: Count = 0
    """How often values were found changed, over all services."""
    services: Annotated[list[ServiceRetention] | None, Field(max_length=200), ListType("map")] = None
    """The services, what needs attention first."""
    omitted: Count = 0
    """Services that are not shown. They are looked after all the same."""
    restore_from: Name | None = None
    """ConfigMap beside the policy with what `onDelete: Restore` writes back, of all services, also those not shown."""
    would_release: Release | None = None
    """What `applyToExisting` purges, or would purge; counted every ten minutes, or as seldom as `interval` says."""
    sweeps: Annotated[list[SweepStatus] | None, Field(max_length=SWEEPS + 2), ListType("map")] = None
    """The sweeps, and those of `applyToExisting`."""
    holds: Annotated[list[HoldStatus] | None, Field(max_length=HOLDS), ListType("map")] = None
    """The holds that are in force."""
    next_sweep_time: datetime | None = None
    """When the next one is."""
    last_sweep: ShortText | None = None
    """What the last one freed, or how far the one is that is under way."""
    last_handled_request: ShortText | None = None
    """The last value of the annotation `ops.restate.dev/requestedAt` that was seen to."""
    warnings: Annotated[list[Text] | None, Field(max_length=10), ListType("atomic")] = None
    """What a person should know about the values."""
    conditions: Annotated[list[Condition] | None, Field(max_length=8), ListType("map", key="type")] = None
    """`Ready`, and while they are true `Reconciling` or `Stalled`."""


RETENTION_KIND = Kind(
    kind="RetentionPolicy",
    plural="retentionpolicies",
    singular="retentionpolicy",
    short_names=("rpol",),
    description="How long completed work stays on an engine, kept in force against what resets it, and sweeps.",
    columns=(
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether all of it is in force"),
        Column("Services", "string", ".status.summary", "Services on which it is in force, of those that match"),
        Column("Not in force", "string", ".status.notInForce", "Where it is not in force, and why"),
        Column("Drifts", "integer", ".status.drifts", "How often values were found changed"),
        Column("Next sweep", "string", ".status.nextSweepTime", "When the next sweep is"),
        Column("Last sweep", "string", ".status.lastSweep", "What the last one freed, or how far it is"),
        Column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why"),
        Column("Engine", "string", ".status.engine.name", "The engine", priority=1),
        Column("Suspended", "boolean", ".spec.suspend", "Whether it is suspended", priority=1),
        Column("Age", "date", ".metadata.creationTimestamp", "Since its creation"),
    ),
)
