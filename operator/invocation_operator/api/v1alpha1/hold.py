"""Holds of a RetentionPolicy: completed invocations that are not purged, whoever asks."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.action import Count
from invocation_operator.api.v1alpha1.base import ListType, Model, Nullable, ShortText, StrictModel
from invocation_operator.api.v1alpha1.sweep import CompletedTarget
from invocation_operator.api.v1alpha1.target import Id

HOLDS = 16
"""Most holds of a policy."""
EXPIRING = 10
"""Held invocations that status names."""


class HoldTarget(CompletedTarget):
    """Which invocations are held: on the services and ids that it names, whether the policy has them or not; where it
    names neither, among those of the policy's services. Without filters: all of them.
    """

    ids: Annotated[list[Id] | None, Field(min_length=1, max_length=1000), ListType("set"), Nullable()] = None
    """Invocation ids, of any service."""


class Hold(StrictModel):
    """One hold. From when status lists it until it is removed, or its policy is gone, no Purge and no PurgeJournal of
    the operator on this engine touches what it matches: no sweep of any policy, and no InvocationAction of any
    namespace; also while the policy is suspended, conflicted or being deleted. The engine's own expiry it cannot stop.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """Name of the hold, within the policy."""
    reason: Annotated[str, StringConstraints(max_length=256)] | None = None
    """Why: an investigation, a case."""
    target: HoldTarget
    """What is held: on the services and ids that it names, whether the policy has them or not; where it names neither,
    on the policy's services. Without filters: everything there. Relative times are those of each moment.
    """


class HeldInvocation(Model):
    """A held invocation that the engine will expire."""

    id: Annotated[str, StringConstraints(max_length=128)]
    """Invocation id."""
    target: Annotated[str, StringConstraints(max_length=256)] | None = None
    """`Service/handler` or `Service/key/handler`, cut to fit."""
    expires: datetime
    """When its retention ends. The engine removes it some time after that."""
    journal_expires: datetime | None = None
    """When that of its journal does."""


class HoldStatus(Model):
    """One hold."""

    name: ShortText
    """Name of the hold."""
    held: Count = 0
    """Completed invocations that it matches, as they were last counted."""
    expiring: Annotated[list[HeldInvocation] | None, Field(max_length=EXPIRING), ListType("atomic")] = None
    """Those that the engine will expire first. Read what you need of them before that."""
    omitted: Count = 0
    """Held invocations that are not in that list."""
    message: Annotated[str, StringConstraints(max_length=512)] | None = None
    """What is wrong with it, or that it was not counted yet."""
