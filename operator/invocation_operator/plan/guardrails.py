"""The engine's ceilings, checked before the plan (what may be caused at all) and after it (what was matched).

Several RestateEngines can lead to one engine; the guardrails of all of them hold, so the strictest wins. Called by the
reconcilers of every kind that causes operations.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import ActionSpec, Mode
from invocation_operator.api.v1alpha1.engine import Guardrails, NamespaceGuardrail, Operation
from invocation_operator.plan import names
from invocation_operator.plan import refusal as r
from invocation_operator.plan.operations import caused_operations
from invocation_operator.plan.refusal import Refusal
from invocation_operator.plan.selector import selects

SHARES_SHOWN = 3
"""Services that a refused share names."""
_CAUSES = "an escalation is a Kill, expedite a Resume, moving what backs off to another deployment a Pause"


@dataclass(frozen=True, slots=True)
class Reach:
    """What ceilings count of a plan: invocations, living descendants included, and their services."""

    total: int
    services: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Excess:
    """What goes beyond a ceiling, and what can be done before a run begins."""

    reason: str
    what: str
    advice: str


def check_specification(
    spec: ActionSpec, guardrails: Sequence[Guardrails], namespace_labels: Mapping[str, str]
) -> Refusal | None:
    """Refuse what ``spec`` may not cause, whatever it would match. ``namespace_labels`` are those of its namespace."""
    caused = caused_operations(spec)
    for rails in guardrails:
        refused = (
            _allowed(caused, rails)
            or _approval(spec, caused, rails)
            or _reason(spec.reason, caused, rails)
            or _not_after(spec, rails)
            or _namespace(caused, rails, namespace_labels)
        )
        if refused is not None:
            return refused
    return None


def check_operations(
    caused: frozenset[Operation],
    reason: str | None,
    guardrails: Sequence[Guardrails],
    namespace_labels: Mapping[str, str],
) -> Refusal | None:
    """Refuse what a policy of that namespace may not cause, whatever it would reach. It has no time of its own, so that
    ``requireNotAfter`` does not concern it.
    """
    for rails in guardrails:
        refused = (
            _allowed(caused, rails)
            or _unapproved(caused, rails)
            or _reason(reason, caused, rails)
            or _namespace(caused, rails, namespace_labels)
        )
        if refused is not None:
            return refused
    return None


def out_of_bounds(
    services: Iterable[str],
    caused: frozenset[Operation],
    guardrails: Sequence[Guardrails],
    namespace_labels: Mapping[str, str],
) -> dict[str, str]:
    """Return those of ``services`` that must not be touched, each with its reason."""
    reached = set(services)
    found: dict[str, str] = {}
    for rails in guardrails:
        found |= dict.fromkeys(_outside(reached, rails, namespace_labels, caused), r.SERVICE_NOT_ALLOWED)
    for rails in guardrails:
        found |= dict.fromkeys(names.selected(rails.protected_services or (), reached), r.PROTECTED_SERVICE)
    return found


def check_plan(
    reach: Reach,
    max_targets: int,
    guardrails: Sequence[Guardrails],
    namespace_labels: Mapping[str, str],
    caused: frozenset[Operation],
) -> Refusal | None:
    """Refuse a plan that reaches too much; ``max_targets`` is the run's own limit."""
    total = reach.total
    if total > max_targets:
        return Refusal(
            r.TOO_MANY_TARGETS,
            f"{total} invocations would be acted upon, more than spec.limits.maxTargets ({max_targets}); nothing was "
            "touched. Narrow the target, or raise the limit.",
        )
    for rails in guardrails:
        excess = _excess(reach, rails, namespace_labels, caused)
        if excess is not None:
            return Refusal(excess.reason, f"{excess.what}; nothing was touched. {excess.advice}")
    return None


def no_longer_allowed(
    spec: ActionSpec, reach: Reach, rails: Guardrails, namespace_labels: Mapping[str, str]
) -> str | None:
    """Return why a run that is under way may not go on under ``rails``, or None."""
    refused = check_specification(spec, [rails], namespace_labels)
    if refused is not None:
        return refused.message
    excess = _excess(reach, rails, namespace_labels, caused_operations(spec))
    return excess.what if excess is not None else None


def _excess(
    reach: Reach, rails: Guardrails, namespace_labels: Mapping[str, str], caused: frozenset[Operation]
) -> _Excess | None:
    if rails.max_targets is not None and reach.total > rails.max_targets:
        return _Excess(
            r.TOO_MANY_TARGETS,
            f"{reach.total} invocations would be acted upon (descendants included), more than the engine's guardrail "
            f"maxTargets ({rails.max_targets})",
            "Narrow the target.",
        )
    protected = names.selected(rails.protected_services or (), reach.services)
    if protected:
        return _Excess(
            r.PROTECTED_SERVICE,
            f"the engine protects {_listed(protected)}, which this would act upon (directly or as descendants)",
            "Exclude it under spec.target.not.",
        )
    outside = _outside(reach.services, rails, namespace_labels, caused)
    if outside:
        return _Excess(
            r.SERVICE_NOT_ALLOWED,
            f"the engine's guardrails do not let this namespace act upon {_listed(outside)}",
            "Narrow spec.target.services.",
        )
    return None


def check_share(reached: Mapping[str, int], existing: Mapping[str, int], most: int) -> Refusal | None:
    """Refuse a plan that reaches more than ``most`` percent of any service.

    ``reached`` counts what would be acted upon by service, ``existing`` that service's invocations in the statuses that
    the action applies to. What came into being between the two counts makes a service larger, never a share smaller
    than it is; a service that nothing is left of is reached whole.
    """
    excess = [
        (name, number, total)
        for name, number in sorted(reached.items())
        if number * 100 > most * (total := max(existing.get(name, 0), number))
    ]
    if not excess:
        return None
    told = ", ".join(f"{number} of the {total} of {name!r}" for name, number, total in excess[:SHARES_SHOWN])
    more = f" and of {len(excess) - SHARES_SHOWN} more services" if len(excess) > SHARES_SHOWN else ""
    return Refusal(
        r.TOO_MUCH_OF_SERVICE,
        f"{told}{more} would be acted upon, more than spec.limits.maxPercentOfService ({most}%); nothing was touched. "
        "Narrow the target, or raise the limit.",
    )


def _allowed(caused: frozenset[Operation], rails: Guardrails) -> Refusal | None:
    if rails.allowed_actions is None:
        return None
    extra = sorted(caused - set(rails.allowed_actions))
    if not extra:
        return None
    return Refusal(
        r.ACTION_NOT_ALLOWED,
        f"the engine's guardrails do not allow {_listed(extra)} ({_CAUSES}); allowed: "
        f"{_listed(sorted(rails.allowed_actions)) or 'nothing'}.",
    )


def _approval(spec: ActionSpec, caused: frozenset[Operation], rails: Guardrails) -> Refusal | None:
    needed = sorted(caused & set(rails.require_approval_for or ()))
    if not needed or spec.mode is not Mode.EXECUTE:
        # Neither a dry run nor a plan that waits for its approval touches anything.
        return None
    return Refusal(
        r.APPROVAL_REQUIRED,
        f"the engine's guardrails require an approved plan for {_listed(needed)} ({_CAUSES}): use spec.mode: Approve.",
    )


def _unapproved(caused: frozenset[Operation], rails: Guardrails) -> Refusal | None:
    """What happens by itself has no plan that anybody could approve."""
    needed = sorted(caused & set(rails.require_approval_for or ()))
    if not needed:
        return None
    return Refusal(
        r.APPROVAL_REQUIRED,
        f"the engine's guardrails require an approved plan for {_listed(needed)}, and a policy has none to approve.",
    )


def _reason(reason: str | None, caused: frozenset[Operation], rails: Guardrails) -> Refusal | None:
    needed = sorted(caused & set(rails.require_reason_for or ()))
    if not needed or (reason or "").strip():
        return None
    return Refusal(r.REASON_REQUIRED, f"the engine's guardrails require spec.reason for {_listed(needed)}.")


def _not_after(spec: ActionSpec, rails: Guardrails) -> Refusal | None:
    if not rails.require_not_after or spec.not_after is not None:
        return None
    return Refusal(
        r.NOT_AFTER_REQUIRED,
        "the engine's guardrails require spec.notAfter: an absolute time past which this never starts, for the day a "
        "cluster is rebuilt from Git.",
    )


def _namespace(caused: frozenset[Operation], rails: Guardrails, labels: Mapping[str, str]) -> Refusal | None:
    if rails.namespaces is None:
        return None
    entries = _entries(rails.namespaces, labels)
    if not entries:
        return Refusal(r.NAMESPACE_NOT_ALLOWED, "the engine's guardrails select no entry for this namespace.")
    if any(entry.actions is None or caused <= set(entry.actions) for entry in entries):
        return None
    return Refusal(
        r.ACTION_NOT_ALLOWED,
        f"the engine's guardrails do not let this namespace cause {_listed(sorted(caused))} ({_CAUSES}).",
    )


def _outside(
    reached: Set[str], rails: Guardrails, labels: Mapping[str, str], caused: frozenset[Operation]
) -> list[str]:
    """Services that no entry for this namespace covers *together with* the operations: entries do not mix."""
    if rails.namespaces is None:
        return []
    fitting = [e for e in _entries(rails.namespaces, labels) if e.actions is None or caused <= set(e.actions)]
    if any(entry.services is None for entry in fitting):
        return []
    patterns = [p for entry in fitting for p in entry.services or ()]
    return sorted(reached - set(names.selected(patterns, reached)))


def _entries(entries: Iterable[NamespaceGuardrail], labels: Mapping[str, str]) -> list[NamespaceGuardrail]:
    return [entry for entry in entries if selects(entry.selector, labels)]


def _listed(words: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(str(w) for w in words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"
