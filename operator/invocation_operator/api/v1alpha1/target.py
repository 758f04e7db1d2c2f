"""The target language: one way to say *which invocations*, for every kind.

Every field that is given must hold; any value within a list matches. Unknown fields and explicit nulls are refused,
never dropped: a filter that vanishes widens the target.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.base import Duration, ListType, Nullable, Rule, StrictModel
from invocation_operator.api.v1alpha1.target_rules import LEAF_RULES, TARGET_RULES


class InvocationStatus(StrEnum):
    """Status of an invocation as the engine shows it."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    READY = "Ready"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    BACKING_OFF = "BackingOff"
    PAUSED = "Paused"
    COMPLETED = "Completed"


class CompletionOutcome(StrEnum):
    """How a completed invocation ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    KILLED = "Killed"


NamePattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256, pattern=r"^[^*]+\*?$"),
    # No name holds a slash, so a path would match nothing, and below `not` leave nothing out.
    Rule("!self.contains('/')", message="a path is no name: give the service (checkout) and the handler (pay) apart"),
]
"""An exact name, or a prefix when it ends in `*`. A bare `*` is refused."""
Key = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
DeploymentId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^dp_[0-9A-Za-z]+$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
"""An invocation id. Malformed ones are not refused at admission: they fail one by one, the others go on."""


class Leaf(StrictModel):
    """Filters on the invocation itself. All given fields must hold; any value within a list matches."""

    services: Annotated[list[NamePattern] | None, Field(min_length=1, max_length=64), ListType("set"), Nullable()] = (
        None
    )
    """Services, exact names; a trailing `*` makes a prefix (`report-*`)."""
    handlers: Annotated[list[NamePattern] | None, Field(min_length=1, max_length=64), ListType("set"), Nullable()] = (
        None
    )
    """Handlers, bare names (`pay`, not `checkout/pay`); a trailing `*` makes a prefix."""
    keys: Annotated[list[Key] | None, Field(min_length=1, max_length=256), ListType("set"), Nullable()] = None
    """Keys of virtual objects or workflows, literal: every character counts, `*` included."""
    key_prefixes: Annotated[list[Key] | None, Field(min_length=1, max_length=64), ListType("set"), Nullable()] = None
    """Prefixes of keys, literal."""
    statuses: Annotated[
        list[InvocationStatus] | None, Field(min_length=1, max_length=8), ListType("set"), Nullable()
    ] = None
    """Statuses. Default: those that the action can apply to (what that left out is told in `status.plan`)."""
    outcomes: Annotated[
        list[CompletionOutcome] | None, Field(min_length=1, max_length=4), ListType("set"), Nullable()
    ] = None
    """How completed invocations ended. `Failed` means failed but neither cancelled nor killed."""
    created_before: Annotated[datetime | None, Nullable()] = None
    """Created before this time."""
    created_after: Annotated[datetime | None, Nullable()] = None
    """Created at or after this time."""
    older_than: Annotated[Duration | None, Nullable()] = None
    """Created longer ago than this when the run starts, on the engine's clock."""
    unmodified_for: Annotated[Duration | None, Nullable()] = None
    """Not modified for this long when the run starts, on the engine's clock."""
    completed_before: Annotated[datetime | None, Nullable()] = None
    """Completed before this time."""
    completed_for: Annotated[Duration | None, Nullable()] = None
    """Completed longer ago than this when the run starts, on the engine's clock."""
    deployments: Annotated[
        list[DeploymentId] | None, Field(min_length=1, max_length=64), ListType("set"), Nullable()
    ] = None
    """Deployments (`dp_...`) that the invocation is pinned to."""
    failure_codes: Annotated[
        list[Annotated[int, Field(ge=0, le=65535)]] | None,
        Field(min_length=1, max_length=64),
        ListType("set"),
        Nullable(),
    ] = None
    """Codes of the failure: of the completion, of the last attempt while backing off, or of what led to the pause."""
    failure_message: Annotated[Annotated[str, StringConstraints(min_length=1, max_length=512)] | None, Nullable()] = (
        None
    )
    """Part of the failure's message, literal, case included."""
    min_retries: Annotated[Annotated[int, Field(ge=1, le=1_000_000_000)] | None, Nullable()] = None
    """Retried at least this often. Cannot be combined with `Paused`: the engine keeps no count there."""
    invoked_by: Annotated[list[NamePattern] | None, Field(min_length=1, max_length=64), ListType("set"), Nullable()] = (
        None
    )
    """Services that made the call; a trailing `*` makes a prefix."""
    roots_only: Annotated[bool | None, Nullable()] = None
    """Only invocations that no other invocation called (`true`)."""
    idempotency_keys: Annotated[list[Key] | None, Field(min_length=1, max_length=256), ListType("set"), Nullable()] = (
        None
    )
    """Idempotency keys, literal."""
    scopes: Annotated[list[Key] | None, Field(min_length=1, max_length=64), ListType("set"), Nullable()] = None
    """Scopes of the invocation, literal (engine 1.7 or newer)."""
    restarted_from: Annotated[list[Id] | None, Field(min_length=1, max_length=256), ListType("set"), Nullable()] = None
    """Ids of the invocations that these were restarted from."""

    rules: ClassVar[tuple[Rule, ...]] = LEAF_RULES
    min_properties: ClassVar[int] = 1


class Exclusion(Leaf):
    """What is left out: filters, and alternatives of filters."""

    any_of: Annotated[list[Leaf] | None, Field(min_length=1, max_length=8), ListType("atomic"), Nullable()] = None
    """At least one of these must hold as well for an invocation to be left out."""


class Target(Leaf):
    """Which invocations are acted upon. It must narrow by `ids`, `services`, `keys`, `keyPrefixes`, `deployments`,
    `invokedBy`, `idempotencyKeys`, `scopes` or `restartedFrom` (with `anyOf`: in each branch or beside it), or say
    `all: true`.
    """

    ids: Annotated[list[Id] | None, Field(min_length=1, max_length=1000), ListType("set"), Nullable()] = None
    """Invocation ids. One that is malformed, unknown or not in a fitting status fails or is skipped alone."""
    all: Annotated[bool | None, Nullable()] = None
    """`true`: every invocation that the other filters leave. Only without filters that narrow."""
    oldest_first: Annotated[bool | None, Nullable()] = None
    """Work from the oldest to the newest by creation time; with `limit` the oldest are taken. Default: by id, an order
    without meaning."""
    limit: Annotated[Annotated[int, Field(ge=1, le=1_000_000)] | None, Nullable()] = None
    """Take at most this many; the others are left alone."""
    any_of: Annotated[list[Leaf] | None, Field(min_length=1, max_length=8), ListType("atomic"), Nullable()] = None
    """Alternatives: at least one of these must hold as well."""
    not_: Annotated[Exclusion | None, Field(alias="not"), Nullable()] = None
    """What is left out although it matches."""

    rules: ClassVar[tuple[Rule, ...]] = (*LEAF_RULES, *TARGET_RULES)
