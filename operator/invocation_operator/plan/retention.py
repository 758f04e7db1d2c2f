"""RetentionPolicy as decisions: what a service must be told, what of it drifted and why, and what status says of it.

Pure: specification, services as they are now, what status said before, and the time go in; changes and entries come
out. Values are compared as lengths of time, never as text: the engine answers ``1h`` for ``60m``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from invocation_operator.api.v1alpha1.retention import (
    Drift,
    HandlerOverride,
    RetentionSpec,
    ServiceRetention,
    Settings,
)
from invocation_operator.api.v1alpha1.retention import (
    ServiceState as State,
)
from invocation_operator.plan.names import matches
from invocation_operator.values.duration import format_duration, parse_duration
from invocation_operator.values.text import cut

WORKFLOW = "Workflow"
HANDLERS_SHOWN = 16
GONE_SHOWN = 50
"""Services that were gone before and are told of still."""
MESSAGE = 512


class Setting(StrEnum):
    """A value of a service, by its field in status. ``engine_name`` is the engine's own."""

    IDEMPOTENCY = "idempotency"
    WORKFLOW_COMPLETION = "workflow_completion"
    JOURNAL = "journal"
    INACTIVITY_TIMEOUT = "inactivity_timeout"
    ABORT_TIMEOUT = "abort_timeout"

    @property
    def engine_name(self) -> str:
        """The field of ``PATCH /services/{name}``."""
        return self.value if self in (Setting.INACTIVITY_TIMEOUT, Setting.ABORT_TIMEOUT) else f"{self.value}_retention"

    @property
    def field_name(self) -> str:
        """The field of the policy."""
        head, *rest = self.value.split("_")
        return head + "".join(part.capitalize() for part in rest)


Values = Mapping[Setting, timedelta]


class Cause(StrEnum):
    """Why a service's values are others than they were set to."""

    NEW_DEPLOYMENT = "NewDeployment"
    FORCED_REGISTRATION = "ForcedRegistration"
    DEPLOYMENT_REMOVED = "DeploymentRemoved"
    CHANGED_ELSEWHERE = "ChangedElsewhere"

    @property
    def words(self) -> str:
        """For people."""
        return _CAUSES[self]


_CAUSES = {
    Cause.NEW_DEPLOYMENT: "a new deployment brought its defaults",
    Cause.FORCED_REGISTRATION: "a forced registration reset it",
    Cause.DEPLOYMENT_REMOVED: "a deployment was removed, and an older revision serves again",
    Cause.CHANGED_ELSEWHERE: "somebody else changed it",
}


@dataclass(frozen=True, slots=True)
class Observed:
    """A service as the engine shows it now."""

    name: str
    type: str
    """``Service``, ``VirtualObject`` or ``Workflow``."""
    revision: int
    deployment: str
    values: Values
    """Defaults included: the engine does not tell them apart."""
    handlers: Mapping[str, Values] = field(default_factory=dict)
    """Handlers' own values, of those that have any."""
    runs: frozenset[str] = frozenset()
    """Handlers that are a workflow's run."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is to be done about one service."""

    observed: Observed
    requested: Values
    """Of what the policy says, what this type of service has."""
    differing: Values
    """Of that, what must be sent."""
    cause: Cause | None
    """Set when values that were once set have changed."""
    not_applicable: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Drifted:
    """A drift, for an Event and the counters."""

    service: str
    cause: Cause
    was: Values
    """What was found, of the values that differ."""
    missed: int = 0
    """Invocations that were made meanwhile and keep what held then."""


def requested_values(spec: RetentionSpec) -> dict[Setting, timedelta]:
    """Return everything that ``spec`` asks for. Raises ``DurationError``, which admission foresees."""
    texts: dict[Setting, str | None] = {}
    if spec.retention is not None:
        texts |= {
            Setting.IDEMPOTENCY: spec.retention.idempotency,
            Setting.WORKFLOW_COMPLETION: spec.retention.workflow_completion,
            Setting.JOURNAL: spec.retention.journal,
        }
    if spec.timeouts is not None:
        texts |= {
            Setting.INACTIVITY_TIMEOUT: spec.timeouts.inactivity_timeout,
            Setting.ABORT_TIMEOUT: spec.timeouts.abort_timeout,
        }
    return {setting: parse_duration(text) for setting, text in texts.items() if text is not None}


def selected(spec: RetentionSpec, name: str) -> bool:
    """Whether the policy means the service."""
    return any(matches(pattern, name) for pattern in spec.services)


def assess(wanted: Values, observed: Observed, known: ServiceRetention | None, drift: Drift) -> Assessment:
    """Compare one service with what is wanted and with what status said of it."""
    not_applicable = tuple(s for s in wanted if not applies(s, observed.type))
    requested = {s: length for s, length in wanted.items() if s not in not_applicable}
    before = values_of(known.effective) if known is not None else {}
    settled = _SETTLED | {State.DRIFTED} if drift is Drift.REPORT else _SETTLED
    steady = known is not None and known.state in settled and values_of(known.requested) == requested
    differing = {s: length for s, length in requested.items() if observed.values.get(s) != length}
    if steady and known is not None and _of_same(known, observed.revision, observed.deployment):
        # What the engine caps below the request reads otherwise for ever; what was only told was told.
        differing = {s: length for s, length in differing.items() if observed.values.get(s) != before.get(s)}
    cause = _cause(known, observed) if steady and known is not None and differing else None
    return Assessment(observed, requested, differing, cause, not_applicable)


_SETTLED = frozenset({State.IN_FORCE, State.CAPPED})
"""States of a service whose values had been set, or seen right."""


def applies(setting: Setting, service_type: str) -> bool:
    """Whether services of this type have the setting: the engine refuses the workflow's elsewhere."""
    return setting is not Setting.WORKFLOW_COMPLETION or service_type == WORKFLOW


def _of_same(known: ServiceRetention, revision: int | None, deployment: str | None) -> bool:
    """Whether what is known is of that very revision: a service that was removed and registered anew begins with 1."""
    return known.revision == revision and (None in (known.deployment, deployment) or known.deployment == deployment)


def _cause(known: ServiceRetention, observed: Observed) -> Cause:
    if known.revision is None or _of_same(known, observed.revision, observed.deployment):
        return Cause.CHANGED_ELSEWHERE
    if observed.revision < known.revision:
        return Cause.DEPLOYMENT_REMOVED
    return Cause.NEW_DEPLOYMENT if observed.deployment != known.deployment else Cause.FORCED_REGISTRATION


def entry(
    assessment: Assessment,
    after: Observed,
    known: ServiceRetention | None,
    *,
    drift: Drift,
    now: datetime,
    missed: int = 0,
    rejected: str | None = None,
) -> ServiceRetention:
    """Return what status says of a service. ``after`` is how it is now that the changes were made, if any were;
    ``rejected`` is the engine's refusal.
    """
    requested, cause = assessment.requested, assessment.cause
    state, message = _state(assessment, after, drift=drift, rejected=rejected)
    drifts, drift_time, drift_reason, missed_before = _history(known)
    shown = handlers(requested, after)
    return ServiceRetention(
        name=after.name,
        state=state,
        requested=settings(requested) if requested else None,
        effective=settings({s: after.values[s] for s in requested if s in after.values}) if requested else None,
        previous=_previous(assessment, after, known),
        since=_since(known, state, now),
        revision=after.revision,
        deployment=after.deployment,
        drifts=drifts + (1 if cause else 0),
        last_drift_time=_whole(now) if cause else drift_time,
        last_drift_reason=cause.value if cause else drift_reason,
        missed_invocations=missed_before + missed,
        not_applicable=[s.field_name for s in assessment.not_applicable] or None,
        handlers=shown[:HANDLERS_SHOWN] or None,
        handlers_omitted=max(0, len(shown) - HANDLERS_SHOWN),
        message=cut(message, MESSAGE) if message else None,
    )


def _history(known: ServiceRetention | None) -> tuple[int, datetime | None, str | None, int]:
    if known is None:
        return 0, None, None, 0
    return known.drifts, known.last_drift_time, known.last_drift_reason, known.missed_invocations


def _state(assessment: Assessment, after: Observed, *, drift: Drift, rejected: str | None) -> tuple[State, str | None]:
    if rejected is not None:
        return State.REJECTED, f"the engine refuses the values: {rejected}"
    if not assessment.requested:
        words = ", ".join(s.field_name for s in assessment.not_applicable)
        return State.NOT_APPLICABLE, f"a service of type {after.type} has no {words}."
    off = {s: v for s, v in assessment.requested.items() if after.values.get(s) != v}
    if not off:
        return State.IN_FORCE, None
    if drift is Drift.REPORT:
        return State.DRIFTED, f"{_told(off, after.values)}; drift is Report, so it is left."
    return State.CAPPED, f"{_told(off, after.values)}: the engine was asked for it and holds to its own maximum."


def _told(wanted: Values, found: Values) -> str:
    return ", ".join(
        f"{s.field_name} is {format_duration(found[s]) if s in found else 'not shown'} and not {format_duration(v)}"
        for s, v in wanted.items()
    )


def _previous(assessment: Assessment, after: Observed, known: ServiceRetention | None) -> Settings | None:
    """What is written back on deletion: values of this very revision, as they were before the policy touched it."""
    found = assessment.observed
    kept = _kept(found, known)
    for s in assessment.differing:
        if s not in kept and s in found.values and after.values.get(s) != found.values[s]:
            kept[s] = found.values[s]
    return settings(kept) if kept else None


def _kept(found: Observed, known: ServiceRetention | None) -> dict[Setting, timedelta]:
    same = known is not None and _of_same(known, found.revision, found.deployment)
    return dict(values_of(known.previous)) if known is not None and same else {}


def foreseen(assessment: Assessment, known: ServiceRetention | None) -> ServiceRetention | None:
    """Return what must be written down of a service before it is changed, so that it can be restored whatever happens
    then; None when there is nothing to restore.
    """
    found, differing = assessment.observed, assessment.differing
    previous = {s: found.values[s] for s in differing if s in found.values} | _kept(found, known)
    if not previous:
        return None
    ours = {s: differing.get(s, found.values.get(s)) for s in previous}
    return ServiceRetention(
        name=found.name,
        state=State.PENDING,
        previous=settings(previous),
        effective=settings({s: length for s, length in ours.items() if length is not None}),
        revision=found.revision,
        deployment=found.deployment,
    )


def recalled(kept: Mapping[str, ServiceRetention], shown: Iterable[ServiceRetention]) -> dict[str, ServiceRetention]:
    """Return what is known of services after a restart: what status shows, and for what it does not, or where it is
    older, what was written down before a change.
    """
    found = dict(kept)
    for entry in shown:
        newer = kept.get(entry.name)
        if newer is None or _of_same(newer, entry.revision, entry.deployment):
            found[entry.name] = entry if entry.previous or newer is None else _with(entry, newer)
        else:
            found[entry.name] = _with(entry, newer)
    return found


def _with(entry: ServiceRetention, kept: ServiceRetention) -> ServiceRetention:
    update = {name: getattr(kept, name) for name in ("previous", "effective", "revision", "deployment")}
    return entry.model_copy(update=update)


def _since(known: ServiceRetention | None, state: State, now: datetime) -> datetime:
    if known is not None and known.state is state and known.since is not None:
        return known.since
    return _whole(now)


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def set_aside(
    name: str,
    state: State,
    message: str,
    known: ServiceRetention | None,
    now: datetime,
    seen: Observed | None = None,
) -> ServiceRetention:
    """Return the entry of a service that is not looked after: gone, another policy's, or out of bounds.

    As long as it is ``seen`` with what the policy made of it, what held before is not forgotten.
    """
    drifts, drift_time, drift_reason, missed = _history(known)
    ours = known if known is not None and seen is not None and _unchanged(known, seen) else None
    made = ServiceRetention(
        name=name,
        state=state,
        since=_since(known, state, now),
        drifts=drifts,
        last_drift_time=drift_time,
        last_drift_reason=drift_reason,
        missed_invocations=missed,
        message=cut(message, MESSAGE),
    )
    return _with(made, ours) if ours is not None else made


def _unchanged(known: ServiceRetention, seen: Observed) -> bool:
    """Whether a service that was changed is still as the change left it."""
    left, changed = values_of(known.effective), values_of(known.previous)
    same = all(s in left and seen.values.get(s) == left[s] for s in changed)
    return bool(changed) and _of_same(known, seen.revision, seen.deployment) and same


def remembered(gone: Iterable[ServiceRetention]) -> list[ServiceRetention]:
    """Return those of the services that are ``gone`` which are told of: all that went now, and of the others the last.
    Names that are made up for each release would otherwise become more for ever.
    """
    listed = list(gone)
    before = [entry for entry in listed if entry.state is State.GONE]
    before.sort(key=lambda e: (-e.since.timestamp() if e.since is not None else 0.0, e.name))
    return [entry for entry in listed if entry.state is not State.GONE] + before[:GONE_SHOWN]


def proven(known: Mapping[str, ServiceRetention], seen: Mapping[str, Observed]) -> dict[str, ServiceRetention]:
    """Return what is known of services that are certainly the very same: on the deployment that was noted, whose id no
    other cluster has, at the revision that was noted.
    """
    return {
        name: entry
        for name, entry in known.items()
        if name in seen and (entry.revision, entry.deployment) == (seen[name].revision, seen[name].deployment)
    }


def reminder(entry: ServiceRetention) -> ServiceRetention:
    """Return what is written down of a service that is not looked after and may have to be restored all the same."""
    return _with(ServiceRetention(name=entry.name, state=entry.state), entry)


def handlers(requested: Values, observed: Observed) -> list[HandlerOverride]:
    """Return the handlers whose own values win over any of ``requested``, with what holds for them."""
    found = []
    for name, own in sorted(observed.handlers.items()):
        winning = {s: own[s] for s in requested if s in own}
        if winning:
            found.append(HandlerOverride(name=name[:256], effective=settings(winning)))
    return found


def restorable(known: ServiceRetention, observed: Observed | None) -> dict[Setting, timedelta]:
    """Return what is written back when the policy goes: nothing when the service has another revision by now, and no
    value that somebody else changed since.
    """
    if observed is None or not _of_same(known, observed.revision, observed.deployment):
        return {}
    ours = values_of(known.effective)
    return {
        s: length
        for s, length in values_of(known.previous).items()
        if observed.values.get(s) == ours.get(s) and observed.values.get(s) != length
    }


def expected(values: Values, own: Values, *, runs: bool, keyed: bool) -> tuple[timedelta, timedelta] | None:
    """Return how long completion and journal of a new invocation are kept, by what the engine does with the values of
    its service and of its handler (``own``), which ``runs`` a workflow or not; None when the engine does not show them
    all.
    """
    effective = {**values, **own}
    journal = effective.get(Setting.JOURNAL)
    completion = journal
    if runs:
        completion = effective.get(Setting.WORKFLOW_COMPLETION)
    elif keyed:
        completion = effective.get(Setting.IDEMPOTENCY)
    if journal is None or completion is None:
        return None
    return completion, min(journal, completion)


def values_of(shown: Settings | None) -> dict[Setting, timedelta]:
    """Return settings of a status as lengths of time."""
    if shown is None:
        return {}
    texts = {setting: getattr(shown, setting.value) for setting in Setting}
    return {setting: parse_duration(text) for setting, text in texts.items() if text is not None}


def settings(values: Values) -> Settings:
    """Return lengths of time as a status shows them."""
    return Settings(**{setting.value: format_duration(length) for setting, length in values.items()})


ATTENTION = (
    State.REJECTED,
    State.CONFLICTED,
    State.PROTECTED,
    State.NOT_ALLOWED,
    State.DRIFTED,
    State.CAPPED,
    State.PENDING,
    State.IN_FORCE,
    State.NOT_APPLICABLE,
    State.GONE,
)
_RANK = {state: rank for rank, state in enumerate(ATTENTION)}


def ordered(entries: Iterable[ServiceRetention]) -> list[ServiceRetention]:
    """Return the entries as status lists them: what needs attention first, then by name."""
    return sorted(entries, key=lambda e: (_RANK[e.state], e.name))
