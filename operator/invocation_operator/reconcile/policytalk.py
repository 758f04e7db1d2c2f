"""What a RetentionPolicy says: its status within what an object may hold, its conditions, and its Events.

Pure but for nothing; the reconciler writes what comes out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.hold import EXPIRING, HoldStatus
from invocation_operator.api.v1alpha1.retention import RetentionSpec, RetentionStatus, ServiceRetention
from invocation_operator.api.v1alpha1.retention import ServiceState as State
from invocation_operator.api.v1alpha1.sweep import HISTORY, SweepStatus
from invocation_operator.conditions import Verdict
from invocation_operator.plan import retention as plan
from invocation_operator.plan.report import size_of
from invocation_operator.plan.retention import Drifted, Observed
from invocation_operator.plan.sweeps import no_schedule, waits, went_badly
from invocation_operator.values.duration import format_duration
from invocation_operator.values.text import cut

SHOWN = 200
STATUS_LIMIT = 60_000
"""Bytes that a status may have as JSON."""
SWEEPS_LIMIT = 20_000
"""Bytes of that for sweeps, when it is too large."""
HOLDS_LIMIT = 10_000
"""Bytes of that for holds, when it is too large."""
WARNINGS = 2
"""Warnings then."""
TERSE = (128, 24)
"""Characters of a sweep's messages then."""
NAMED = 5
"""Services that one message or Event names."""
EVENTS = 5
"""Drifts of one look that have an Event each; the others share one."""

COLUMN = 40
"""Characters of a service's name in a printer column."""
_GOOD = frozenset({State.IN_FORCE, State.NOT_APPLICABLE})

Event = tuple[str, str, Literal["Normal", "Warning"]]


@dataclass(frozen=True, slots=True)
class Talk:
    """What the conditions say."""

    verdict: Verdict
    reason: str
    message: str


@dataclass(slots=True)
class Findings:
    """What one look at all services found and did. ``now`` is the engine's clock."""

    now: datetime
    entries: dict[str, ServiceRetention] = field(default_factory=dict)
    after: dict[str, Observed] = field(default_factory=dict)
    drifts: list[Drifted] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept_in: str | None = None
    """Where what held before is kept."""

    def set_aside(
        self, name: str, state: State, message: str, before: ServiceRetention | None, seen: Observed | None = None
    ) -> None:
        """Note a service that is not looked after; ``seen`` if it is there."""
        self.entries[name] = plan.set_aside(name, state, message, before, self.now, seen)

    def fields(self, engine: EngineIdentity) -> dict[str, object]:
        """Return the fields of status that this is about."""
        listed = plan.ordered(self.entries.values())
        matched = [e for e in listed if e.state is not State.GONE]
        in_force = sum(e.state in _GOOD for e in matched)
        return {
            "engine": engine,
            "matched": len(matched),
            "in_force": in_force,
            "summary": f"{in_force}/{len(matched)}",
            "not_in_force": _not_in_force([e for e in matched if e.state not in _GOOD]),
            "drifts": sum(e.drifts for e in listed),
            "services": listed[:SHOWN] or None,
            "omitted": max(0, len(listed) - SHOWN),
            "warnings": [w[:1024] for w in self.warnings[:10]] or None,
        }

    def events(self, known: Mapping[str, ServiceRetention], *, corrected: bool) -> Iterator[Event]:
        """Yield what is told once: changes, drifts, what came and what vanished."""
        if self.changed:
            yield "RetentionSet", f"set on {listed(self.changed)}.", "Normal"
        for drift in self.drifts[:EVENTS]:
            yield _drift(drift, self.entries[drift.service], corrected=corrected)
        if len(self.drifts) > EVENTS:
            names = [drift.service for drift in self.drifts[EVENTS:]]
            yield _reason(corrected=corrected), f"the same on {listed(names)}.", "Warning"
        gone = [e.name for e in self.entries.values() if e.state is State.GONE and _was_not(known, e)]
        if gone:
            yield State.GONE.value, f"{listed(gone)}: the engine has them no more.", "Warning"


def _not_in_force(entries: list[ServiceRetention]) -> str | None:
    """The first of them, so that a table stays one: ``payment: Conflicted and 2 more``."""
    if not entries:
        return None
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    return f"{cut(entries[0].name, COLUMN)}: {entries[0].state.value}{more}"


def _was_not(known: Mapping[str, ServiceRetention], entry: ServiceRetention) -> bool:
    before = known.get(entry.name)
    return before is None or before.state is not entry.state


def _reason(*, corrected: bool) -> str:
    return "DriftCorrected" if corrected else "Drifted"


def _drift(drift: Drifted, entry: ServiceRetention, *, corrected: bool) -> Event:
    meant = plan.values_of(entry.requested)
    values = ", ".join(
        f"{s.field_name} was {format_duration(was)}"
        + (f" and is {format_duration(meant[s])} again" if corrected and s in meant else "")
        for s, was in drift.was.items()
    )
    kept = f" {drift.missed} invocations made meanwhile keep what held then." if drift.missed else ""
    return _reason(corrected=corrected), f"{drift.service}: {values}: {drift.cause.words}.{kept}", "Warning"


_STALLED = (State.REJECTED, State.CONFLICTED, State.PROTECTED, State.NOT_ALLOWED, State.DRIFTED, State.CAPPED)
"""States that need a person, the gravest first."""


def verdict_of(spec: RetentionSpec, findings: Findings) -> Talk:
    """Return what the conditions say of one look."""
    states = Counter(entry.state for entry in findings.entries.values())
    matched = sum(states.values()) - states[State.GONE]
    good = states[State.IN_FORCE] + states[State.NOT_APPLICABLE]
    numbers = f"in force on {good} of {matched} services"
    for state in _STALLED:
        entries = [e for e in plan.ordered(findings.entries.values()) if e.state is state]
        if entries:
            why = f"{entries[0].name}: {entries[0].message}"
            more = f" The same state: {listed([e.name for e in entries[1:]])}." if entries[1:] else ""
            return Talk(Verdict.STALLED, state.value, f"{numbers}. {why}{more}")
    if not matched:
        patterns = listed(spec.services)
        return Talk(Verdict.READY, "NoServices", f"the engine has no service {patterns}; what appears is taken in.")
    return Talk(Verdict.READY, State.IN_FORCE.value, f"{numbers}.")


def with_sweeps(talk: Talk, status: RetentionStatus) -> Talk:
    """Return what is said of the values, unless a sweep needs a person, or waits, and the values do not."""
    if talk.verdict is not Verdict.READY:
        return talk
    for entry in status.sweeps or ():
        bad = went_badly(entry)
        if bad is not None:
            why = bad.message or bad.phase.value
            return Talk(Verdict.STALLED, "SweepFailed", f"the last run of sweep {entry.name} was {bad.phase}: {why}")
        if no_schedule(entry):
            return Talk(Verdict.STALLED, "ScheduleInvalid", f"sweep {entry.name}: {entry.message}")
    for entry in filter(waits, status.sweeps or ()):
        return Talk(Verdict.WORKING, "SweepWaiting", f"sweep {entry.name}: {entry.message}")
    return talk


def without_values(status: RetentionStatus) -> Talk:
    """Return what the conditions say of a policy that sets no values."""
    if not status.sweeps and status.holds:
        total = sum(entry.held for entry in status.holds)
        return Talk(Verdict.READY, "HoldsOnly", f"{total} completed invocations are held.")
    names = [entry.name for entry in status.sweeps or ()]
    return with_sweeps(Talk(Verdict.READY, "SweepsOnly", f"sweeps: {listed(names) or 'none yet'}."), status)


def listed(names: list[str]) -> str:
    """Return some of ``names`` as a text."""
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def within(status: RetentionStatus, most: int = STATUS_LIMIT) -> RetentionStatus:
    """Return ``status`` in at most ``most`` bytes of JSON, whoever writes it: what is the longest story is cut first
    (runs of sweeps, held invocations), then the last services leave, and are counted.
    """
    if size_of(status) <= most:
        return status
    shorter = {"sweeps": _fewer_runs(status.sweeps), "holds": _fewer_held(status.holds)}
    status = status.model_copy(update={**shorter, "warnings": (status.warnings or [])[:WARNINGS] or None})
    if size_of(status) <= most:
        return status
    kept = [e.model_copy(update={"handlers": None, "handlers_omitted": _handlers(e)}) for e in status.services or ()]
    sizes = [size_of(entry) + 2 for entry in kept]
    room = most - size_of(status.model_copy(update={"services": None}))
    while kept and sum(sizes) > room:
        kept.pop()
        sizes.pop()
    omitted = status.omitted + len(status.services or ()) - len(kept)
    return status.model_copy(update={"services": kept or None, "omitted": omitted})


def _fewer_runs(entries: list[SweepStatus] | None) -> list[SweepStatus] | None:
    """The last run stays in any case: it says which request was seen to."""
    made = entries or []
    for runs in range(HISTORY - 1, 0, -1):
        if sum(map(size_of, made)) <= SWEEPS_LIMIT:
            return made or None
        made = [e.model_copy(update={"history": (e.history or [])[:runs] or None}) for e in made]
    for characters in TERSE:
        if sum(map(size_of, made)) > SWEEPS_LIMIT:
            made = [_terse(e, characters) for e in made]
    return made or None


def _terse(entry: SweepStatus, characters: int) -> SweepStatus:
    def short(message: str | None) -> str | None:
        return cut(message, characters) if message is not None else None

    runs = [run.model_copy(update={"message": short(run.message)}) for run in entry.history or ()]
    return entry.model_copy(update={"message": short(entry.message), "history": runs or None})


def _fewer_held(entries: list[HoldStatus] | None) -> list[HoldStatus] | None:
    made = entries or []
    for number in (EXPIRING // 2, EXPIRING // 5, 1, 0):
        if sum(map(size_of, made)) <= HOLDS_LIMIT:
            break
        made = [_fewer(entry, number) for entry in made]
    return made or None


def _fewer(entry: HoldStatus, number: int) -> HoldStatus:
    listed = entry.expiring or []
    left = max(0, len(listed) - number)
    return entry.model_copy(update={"expiring": listed[:number] or None, "omitted": entry.omitted + left})


def _handlers(entry: ServiceRetention) -> int:
    return entry.handlers_omitted + len(entry.handlers or ())
