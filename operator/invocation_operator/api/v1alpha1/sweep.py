"""Sweeps of a RetentionPolicy: what is left of completed work is purged on a schedule."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from invocation_operator.api.v1alpha1.action import ActionType, Count, Limits, Phase
from invocation_operator.api.v1alpha1.base import ListType, Model, Name, Nullable, Rule, ShortText, StrictModel
from invocation_operator.api.v1alpha1.retention_rules import SCHEDULE_RULE, SWEEP_TARGET_RULES
from invocation_operator.api.v1alpha1.target import Exclusion, Leaf

SWEEPS = 16
"""Most sweeps of a policy."""
HISTORY = 5
"""Runs of a sweep that status keeps."""


class SweepAction(StrEnum):
    """What is done to what a sweep matches."""

    PURGE = ActionType.PURGE.value
    PURGE_JOURNAL = ActionType.PURGE_JOURNAL.value


class CompletedTarget(Leaf):
    """Which completed invocations are meant, among those of the policy's services. Without filters: all of them."""

    any_of: Annotated[list[Leaf] | None, Field(min_length=1, max_length=8), ListType("atomic"), Nullable()] = None
    """Alternatives: at least one of these must hold as well."""
    not_: Annotated[Exclusion | None, Field(alias="not"), Nullable()] = None
    """What is left out although it matches."""

    rules: ClassVar[tuple[Rule, ...]] = (*Leaf.rules, *SWEEP_TARGET_RULES)
    min_properties: ClassVar[int] = 0


class SweepTarget(CompletedTarget):
    """Which completed invocations are swept, among those of the policy's services. Without filters: all of them."""

    oldest_first: Annotated[bool | None, Nullable()] = None
    """Work from the oldest to the newest by creation time; with `limit` the oldest are taken."""
    limit: Annotated[Annotated[int, Field(ge=1, le=1_000_000)] | None, Nullable()] = None
    """Take at most this many; the others are left for the next time."""


Cron = Annotated[str, StringConstraints(min_length=1, max_length=128), SCHEDULE_RULE]


class Sweep(StrictModel):
    """One sweep."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """Name of the sweep, within the policy."""
    schedule: Cron
    """When, as a CronJob takes it: five fields (`0 3 * * *`) or a macro (`@daily`)."""
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Time zone of the schedule, such as `Europe/Berlin`. Default: UTC."""
    action: SweepAction
    """`Purge` forgets completed invocations; `PurgeJournal` frees their journals and keeps their results."""
    target: SweepTarget | None = None
    """Which completed invocations of the policy's services. Default: all."""
    keep_last: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Leave that many alone of what the target matches, for each service and handler: those that completed last."""
    limits: Limits | None = None
    """Ceilings of each run; more matches than `maxTargets` (default 1000) and nothing is touched that time."""
    suspend: bool = False
    """Begin no run, and stop between operations; what was missed is caught up at most once."""


class SweepRun(Model):
    """One run of a sweep."""

    scheduled_time: datetime | None = None
    """The tick that it was for; absent for one that was asked for."""
    request: ShortText | None = None
    """The value of the annotation that asked for it."""
    start_time: datetime | None = None
    """When it started."""
    completion_time: datetime | None = None
    """When it ended."""
    phase: Phase
    """How it ended."""
    planned: Count = 0
    """Invocations that matched."""
    freed: Count = 0
    """Those that were purged, as was seen."""
    bytes_freed: Count | None = None
    """Bytes of journal that this freed, counted before the run; a share of that if not all could be purged. Absent when
    they could not be counted, and on engines before 1.7, which do not tell.
    """
    record: Name | None = None
    """Name of its InvocationRecord in the operator's namespace."""
    message: Annotated[str, StringConstraints(max_length=512)] | None = None
    """How it ended, in a sentence."""


class SweepStatus(Model):
    """One sweep."""

    name: ShortText
    """Name of the sweep."""
    schedule: ShortText | None = None
    """The schedule and time zone that the times below are of."""
    since: datetime | None = None
    """Since when this schedule is known; no earlier tick is caught up."""
    last_schedule_time: datetime | None = None
    """The last tick that was begun, or passed over with a reason that the history tells."""
    next_schedule_time: datetime | None = None
    """The next tick; absent while suspended."""
    active: Name | None = None
    """Name of the InvocationRecord of the run that is under way."""
    progress: ShortText | None = None
    """How far it is."""
    history: Annotated[list[SweepRun] | None, Field(max_length=HISTORY), ListType("atomic")] = None
    """The last runs, newest first."""
    message: Annotated[str, StringConstraints(max_length=512)] | None = None
    """What it waits for, or what is wrong with it."""
