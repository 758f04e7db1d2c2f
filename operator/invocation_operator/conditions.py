"""Conditions in the kstatus convention: constructors, and the merge that keeps transition times honest.

Finished well is ``Ready=True``. Working or waiting is ``Ready=False`` with ``Reconciling=True``. Finished badly, or in
need of a person, is ``Ready=False`` with ``Stalled=True``. ``Reconciling`` and ``Stalled`` are absent when not true:
tools that judge by kstatus read a false one as "in progress for ever".

Called by the reconcilers, which pass the time; nothing here has a clock.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum

from invocation_operator.api.v1alpha1.action import Phase
from invocation_operator.api.v1alpha1.base import Condition

MESSAGE_LIMIT = 2048
"""Characters that the CRD allows in a condition's message."""


class Verdict(StrEnum):
    """What the three conditions say together."""

    READY = "Ready"
    WORKING = "Reconciling"
    STALLED = "Stalled"


_OF_PHASES = {
    Phase.SUCCEEDED: Verdict.READY,
    Phase.PLANNED: Verdict.READY,
    Phase.ALREADY_EXECUTED: Verdict.READY,
    Phase.PARTIALLY_FAILED: Verdict.STALLED,
    Phase.FAILED: Verdict.STALLED,
    Phase.REFUSED: Verdict.STALLED,
    Phase.STOPPED: Verdict.STALLED,
    Phase.EXPIRED: Verdict.STALLED,
}


def of_phase(phase: Phase | None) -> Verdict:
    """Return what the phase of an action, or of its record, says by itself."""
    return Verdict.WORKING if phase is None else _OF_PHASES.get(phase, Verdict.WORKING)


def build(
    verdict: Verdict,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
    previous: Sequence[Condition] | None = None,
) -> list[Condition]:
    """Return the conditions for ``verdict``; one whose status did not change keeps its time from ``previous``."""
    wanted: list[tuple[str, bool]] = [("Ready", verdict is Verdict.READY)]
    if verdict is not Verdict.READY:
        wanted.append((verdict.value, True))
    before = {c.type: c for c in previous or ()}
    return [
        Condition(
            type=kind,
            status="True" if true else "False",
            observed_generation=generation,
            last_transition_time=_since(before.get(kind), true=true, now=now),
            reason=reason,
            message=message[:MESSAGE_LIMIT],
        )
        for kind, true in wanted
    ]


def find(conditions: Iterable[Condition] | None, kind: str) -> Condition | None:
    """Return the condition of type ``kind``, or None."""
    return next((c for c in conditions or () if c.type == kind), None)


def _since(before: Condition | None, *, true: bool, now: datetime) -> datetime:
    if before is not None and (before.status == "True") is true:
        return before.last_transition_time
    return now.replace(microsecond=0)
