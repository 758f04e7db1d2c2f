"""Freezing: what a target means from the moment a run starts.

Relative times become absolute on the engine's clock, once, so that a run that goes on for hours keeps meaning the same
invocations; statuses that the action implies are filled in, and that they were implied is remembered. Called when a
plan is made. Bounds are whole milliseconds, the engine's resolution (see ``values.times``).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus, Leaf, Target
from invocation_operator.values import times
from invocation_operator.values.duration import parse_duration

Values = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class FrozenLeaf:
    """Filters that must all hold; None is no filter. Times are exclusive before, inclusive after."""

    services: Values = None
    handlers: Values = None
    keys: Values = None
    key_prefixes: Values = None
    statuses: tuple[InvocationStatus, ...] | None = None
    outcomes: tuple[CompletionOutcome, ...] | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    modified_before: datetime | None = None
    completed_before: datetime | None = None
    deployments: Values = None
    failure_codes: tuple[int, ...] | None = None
    failure_message: str | None = None
    min_retries: int | None = None
    invoked_by: Values = None
    roots_only: bool = False
    idempotency_keys: Values = None
    scopes: Values = None
    restarted_from: Values = None


@dataclass(frozen=True, slots=True)
class FrozenTarget:
    """A target at rest. ``leaf.statuses`` is None when the target names none: then ``default_statuses`` hold."""

    leaf: FrozenLeaf
    default_statuses: frozenset[InvocationStatus]
    ids: Values = None
    any_of: tuple[FrozenLeaf, ...] = ()
    excluded: FrozenLeaf | None = None
    excluded_any_of: tuple[FrozenLeaf, ...] = ()
    oldest_first: bool = False
    limit: int | None = None

    @property
    def statuses_were_defaulted(self) -> bool:
        """Whether the statuses are the action's and not the target's own."""
        return self.leaf.statuses is None

    @property
    def statuses(self) -> frozenset[InvocationStatus]:
        """The statuses that hold for the whole target."""
        return self.default_statuses if self.leaf.statuses is None else frozenset(self.leaf.statuses)

    @property
    def names_alone(self) -> bool:
        """Whether it is ids, in statuses, and nothing else is to be known of a row."""
        unfiltered = replace(self.leaf, statuses=None) == FrozenLeaf()
        return self.ids is not None and unfiltered and not self.any_of and self.excluded is None

    def leaves(self) -> tuple[FrozenLeaf, ...]:
        """Every leaf, exclusions included."""
        excluded = () if self.excluded is None else (self.excluded,)
        return (self.leaf, *self.any_of, *excluded, *self.excluded_any_of)


def freeze(target: Target, now: datetime, default_statuses: frozenset[InvocationStatus]) -> FrozenTarget:
    """Return ``target`` as of ``now``, the engine's clock. Raises ``DurationError``, which ``problems`` foresees."""

    def leaf(source: Leaf) -> FrozenLeaf:
        return _leaf(source, times.in_utc(now))

    excluded = target.not_
    return FrozenTarget(
        leaf=leaf(target),
        default_statuses=default_statuses,
        ids=_set(target.ids),
        any_of=tuple(leaf(branch) for branch in target.any_of or ()),
        excluded=None if excluded is None else leaf(excluded),
        excluded_any_of=() if excluded is None else tuple(leaf(branch) for branch in excluded.any_of or ()),
        oldest_first=bool(target.oldest_first),
        limit=target.limit,
    )


def _leaf(source: Leaf, now: datetime) -> FrozenLeaf:
    return FrozenLeaf(
        services=_set(source.services),
        handlers=_set(source.handlers),
        keys=_set(source.keys),
        key_prefixes=_set(source.key_prefixes),
        statuses=None if source.statuses is None else tuple(sorted(set(source.statuses))),
        outcomes=None if source.outcomes is None else tuple(sorted(set(source.outcomes))),
        created_before=_bound(min, now, source.created_before, source.older_than),
        created_after=_bound(max, now, source.created_after, None),
        modified_before=_bound(min, now, None, source.unmodified_for),
        completed_before=_bound(min, now, source.completed_before, source.completed_for),
        deployments=_set(source.deployments),
        failure_codes=None if source.failure_codes is None else tuple(sorted(set(source.failure_codes))),
        failure_message=source.failure_message,
        min_retries=source.min_retries,
        invoked_by=_set(source.invoked_by),
        roots_only=bool(source.roots_only),
        idempotency_keys=_set(source.idempotency_keys),
        scopes=_set(source.scopes),
        restarted_from=_set(source.restarted_from),
    )


def _set(values: Iterable[str] | None) -> Values:
    return None if values is None else tuple(sorted(set(values)))


def _bound(
    tighter: Callable[[list[datetime]], datetime], now: datetime, absolute: datetime | None, relative: str | None
) -> datetime | None:
    bounds = [] if absolute is None else [times.full_millisecond(absolute)]
    if relative is not None:
        bounds.append(times.before(now, parse_duration(relative)))
    return tighter(bounds) if bounds else None
