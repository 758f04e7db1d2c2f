"""The plan of a run: the fixed set, its breakdown, and what a person should know before it is carried out.

Rows come in one by one (they are streamed), so only what must be kept is kept. Called by ``reconcile``; the result is
shown in status, hashed, and written before anything is touched.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from invocation_operator.api.v1alpha1.action import (
    ActionSpec,
    ActionType,
    Cascade,
    NamedCount,
    Outcome,
    PlannedTarget,
    PlanStatus,
    Result,
)
from invocation_operator.api.v1alpha1.target import InvocationStatus, Leaf, Target
from invocation_operator.plan.names import matches
from invocation_operator.plan.operations import pauses_first
from invocation_operator.plan.rollout import wave_ends
from invocation_operator.plan.targets import Planned, PlannedSet, label
from invocation_operator.target.row import InvocationRow

SAMPLE = 10
SERVICES_SHOWN = 20
WARNINGS_SHOWN = 10
STATUSES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """A finished plan. ``refused`` are named ids that can never be acted upon; ``skipped`` counts them by reason."""

    targets: PlannedSet
    by_service: Counter[str]
    by_status: Counter[InvocationStatus]
    named: list[Result]
    excluded_by_status: Counter[str]
    cascade: Cascade | None
    warnings: list[str]
    time: datetime
    waves: Sequence[int] = ()
    """How many of ``targets`` have been acted upon when each wave ends."""
    changed_at: datetime | None = None
    """The last change of any of ``targets``, as far as it was read."""
    hash: str = ""

    @property
    def total(self) -> int:
        """Number of planned invocations."""
        return len(self.targets)

    @property
    def reach(self) -> int:
        """Planned invocations and their living descendants: what the ceilings count."""
        return self.total + (self.cascade.total if self.cascade else 0)

    def status(self) -> PlanStatus:
        """Return what status shows of the plan."""
        return PlanStatus(
            hash=self.hash,
            total=self.total,
            by_service=counts(self.by_service, SERVICES_SHOWN) or None,
            by_status=counts(self.by_status) or None,
            excluded_by_status=counts(self.excluded_by_status, STATUSES_SHOWN) or None,
            cascade=self.cascade,
            warnings=[w[:1024] for w in self.warnings[:WARNINGS_SHOWN]] or None,
            sample=[
                PlannedTarget(id=t.id, target=t.label, status=t.status.value, created_at=t.created_at)
                for t in self.targets[:SAMPLE]
            ]
            or None,
            waves=list(self.waves) or None,
            time=self.time,
        )


@dataclass(slots=True)
class PlanBuilder:
    """Collects rows into a plan. ``redact_keys`` keeps keys out of everything that people see."""

    spec: ActionSpec
    redact_keys: bool = False
    targets: PlannedSet = field(default_factory=PlannedSet)
    by_service: Counter[str] = field(default_factory=Counter)
    by_status: Counter[InvocationStatus] = field(default_factory=Counter)
    named: list[Result] = field(default_factory=list)
    changed_at: datetime | None = None

    def add(self, row: InvocationRow) -> None:
        """Plan the invocation of ``row``."""
        name = label(row.service, row.handler, row.key, redact_key=self.redact_keys)
        self.targets.append(Planned(row.id, row.created_at, row.status, name))
        self.by_service[row.service] += 1
        self.by_status[row.status] += 1
        if row.modified_at is not None and (self.changed_at is None or row.modified_at > self.changed_at):
            self.changed_at = row.modified_at

    def invalid(self, invocation_id: str) -> None:
        """A named id that is no invocation id: fails alone."""
        self.named.append(
            Result(id=invocation_id, outcome=Outcome.FAILED, reason="InvalidId", error="this is no invocation id")
        )

    def unknown(self, invocation_id: str) -> None:
        """A named id that the engine does not know: fails alone."""
        error = "the engine knows no such invocation (it may have been purged or have expired)"
        self.named.append(Result(id=invocation_id, outcome=Outcome.FAILED, reason="NotFound", error=error))

    def unreadable(self, invocation_id: str) -> None:
        """A named id whose row cannot be read, as in a status that only a newer engine knows: skipped."""
        self.named.append(Result(id=invocation_id, outcome=Outcome.SKIPPED, reason="UnknownStatus"))

    def unfit(self, row: InvocationRow, reason: str) -> None:
        """A named id that exists and does not apply: skipped with its reason."""
        name = label(row.service, row.handler, row.key, redact_key=self.redact_keys)
        self.named.append(Result(id=row.id, target=name, outcome=Outcome.SKIPPED, reason=reason))

    def finish(
        self,
        *,
        time: datetime,
        excluded_by_status: Mapping[str, int],
        cascade: Cascade | None,
        services: Mapping[str, Iterable[str] | None] | None,
    ) -> Plan:
        """Return the plan. ``services`` maps the engine's services to their handlers, for hints on unknown names; None
        for what is not known.
        """
        excluded = Counter({str(s): n for s, n in excluded_by_status.items() if n})
        warnings = _warnings(self.spec, self.by_status, cascade)
        if services is not None:
            warnings += unknown_names(self.spec.target, services)
        rollout = self.spec.rollout
        return Plan(
            targets=self.targets,
            by_service=self.by_service,
            by_status=self.by_status,
            named=self.named,
            excluded_by_status=excluded,
            cascade=cascade,
            warnings=warnings,
            time=time,
            waves=wave_ends(rollout.waves, len(self.targets)) if rollout else (),
            changed_at=self.changed_at,
        )


def counts(counter: Mapping[Any, int], most: int | None = None) -> list[NamedCount]:
    """Return ``counter`` as a list for status, largest first, then by name."""
    ordered = sorted(counter.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [NamedCount(name=str(name)[:256], count=count) for name, count in ordered[:most] if count]


def every_leaf(target: Target) -> list[Leaf]:
    """Return all parts of ``target`` that hold filters. Exclusions too: a misspelt one leaves nothing out."""
    excluded = [] if target.not_ is None else [target.not_, *(target.not_.any_of or ())]
    return [target, *(target.any_of or ()), *excluded]


def unknown_names(target: Target, services: Mapping[str, Iterable[str] | None]) -> list[str]:
    """Return a warning for each service and handler that the engine does not have, with the nearest names.

    Nothing is said of handlers when those of a service are not known (None).
    """
    warnings: dict[str, None] = {}
    handlers = {handler for names in services.values() for handler in names or ()}
    all_known = None not in services.values()
    for leaf in every_leaf(target):
        for pattern in leaf.services or ():
            if not any(matches(pattern, name) for name in services):
                warnings[_unknown("service", pattern, services)] = None
        for pattern in (leaf.handlers or ()) if all_known else ():
            if not any(matches(pattern, name) for name in handlers):
                warnings[_unknown("handler", pattern, handlers)] = None
    return list(warnings)


def _unknown(what: str, pattern: str, known: Iterable[str]) -> str:
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(pattern.rstrip("*").lower(), lowered, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(repr(lowered[n]) for n in near)}?" if near else ""
    return f"the engine has no {what} {pattern!r} (names match exactly, case included){hint}"


def _warnings(spec: ActionSpec, by_status: Mapping[InvocationStatus, int], cascade: Cascade | None) -> list[str]:
    warnings: list[str] = []
    paused = by_status.get(InvocationStatus.PAUSED, 0)
    backing_off = by_status.get(InvocationStatus.BACKING_OFF, 0)
    match spec.action:
        case ActionType.CANCEL:
            if paused:
                warnings.append(f"{paused} of them are paused: a cancel resumes them.")
            if backing_off and not spec.expedite:
                warnings.append(
                    f"{backing_off} of them wait for a retry and meet the cancel only then; expedite resumes them."
                )
            if spec.verification.repeat.value == "WhenUnchanged":
                warnings.append(
                    "a repeated cancel aborts a compensation that has begun without a trace in the journal."
                )
        case ActionType.KILL:
            warnings.append("no compensation runs in what is killed.")
            if cascade and cascade.total:
                more = " or more" if cascade.truncated else ""
                warnings.append(f"{cascade.total}{more} descendants die with them, one-way calls included.")
        case ActionType.PURGE_JOURNAL:
            warnings.append("what has no journal cannot be restarted any more.")
        case ActionType.PAUSE if by_status.get(InvocationStatus.SUSPENDED):
            warnings.append(
                "a suspended invocation cannot be paused before it wakes up; the pause is asked again then."
            )
        case ActionType.RESUME:
            moved = sum(n for status, n in by_status.items() if pauses_first(spec, status))
            if moved:
                warnings.append(f"{moved} of them back off and are paused first, then resumed onto the deployment.")
        case _:
            pass
    return warnings
