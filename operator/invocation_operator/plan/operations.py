"""What each action is able to do, from how the engine really behaves.

The statuses an action can apply to, those it applies to by default, and every operation that a specification can
*cause*: an escalation is a Kill, ``expedite`` a Resume, a move to another deployment a Pause. Used by the planner, the
guardrails and the target's freeze.
"""

from invocation_operator.api.v1alpha1.action import ActionSpec, ActionType
from invocation_operator.api.v1alpha1.engine import Operation
from invocation_operator.api.v1alpha1.target import InvocationStatus as S
from invocation_operator.api.v1alpha1.target import Target
from invocation_operator.target.sql import SET_COLUMNS

ALIVE = frozenset(S) - {S.COMPLETED}
"""Every status of an invocation that has not ended."""

_COMPLETED = frozenset({S.COMPLETED})

POSSIBLE: dict[ActionType, frozenset[S]] = {
    ActionType.CANCEL: ALIVE,
    ActionType.KILL: ALIVE,
    # The engine accepts a pause of a suspended invocation and does nothing (200); asked again, it may meet it running.
    ActionType.PAUSE: frozenset({S.RUNNING, S.BACKING_OFF, S.READY, S.SUSPENDED, S.PAUSED}),
    ActionType.RESUME: frozenset({S.PAUSED, S.BACKING_OFF, S.SUSPENDED}),
    ActionType.PURGE: _COMPLETED,
    ActionType.PURGE_JOURNAL: _COMPLETED,
    ActionType.RESTART_AS_NEW: _COMPLETED,
}
"""Statuses that an action can apply to at all; any other in ``target.statuses`` is refused."""

DEFAULT: dict[ActionType, frozenset[S]] = {
    ActionType.CANCEL: ALIVE,
    ActionType.KILL: ALIVE,
    ActionType.PAUSE: frozenset({S.RUNNING, S.BACKING_OFF, S.READY}),
    ActionType.RESUME: frozenset({S.PAUSED}),
    ActionType.PURGE: _COMPLETED,
    ActionType.PURGE_JOURNAL: _COMPLETED,
    ActionType.RESTART_AS_NEW: _COMPLETED,
}
"""Statuses that an action applies to when ``target.statuses`` says nothing."""

REACHES_DESCENDANTS = frozenset({ActionType.CANCEL, ActionType.KILL})
"""Actions that reach descendants: kill takes one-way children with it, cancel is handed on to awaited calls."""

CAN_BE_WATCHED = frozenset({ActionType.RESUME, ActionType.RESTART_AS_NEW})
"""Actions after which an invocation goes on, so that it can be seen whether it does well: these may go in waves."""


def with_statuses(target: Target, action: ActionType) -> tuple[Target, frozenset[S]]:
    """Return ``target`` and the statuses that hold for all of it when it names none itself.

    Branches of ``anyOf`` may name statuses of their own; then the default goes into the others, one by one, so that no
    branch is narrowed or widened by what another says.
    """
    branches = target.any_of or []
    if target.statuses is not None or not any(branch.statuses for branch in branches):
        return target, DEFAULT[action]
    default = sorted(DEFAULT[action])
    filled = [b if b.statuses else b.model_copy(update={"statuses": default}) for b in branches]
    named = frozenset(status for branch in filled for status in branch.statuses or ())
    return target.model_copy(update={"any_of": filled}), named


def planned_columns(spec: ActionSpec) -> tuple[str, ...]:
    """Return what a plan reads of each row. Of one that is resumed it must be known when it had last changed: it may be
    paused again.
    """
    return (*SET_COLUMNS, "modified_at") if spec.action is ActionType.RESUME else SET_COLUMNS


def wanted_statuses(spec: ActionSpec) -> frozenset[S]:
    """Return the statuses that an invocation must have to be asked."""
    return frozenset(spec.target.statuses or ()) or with_statuses(spec.target, spec.action)[1]


def countable_statuses(spec: ActionSpec) -> frozenset[S]:
    """Return the statuses that count when a share of a service is asked for: those that the action applies to by
    itself, and what the target names beyond them. The narrower of two readings, so that a share is never told smaller.
    """
    return DEFAULT[spec.action] | wanted_statuses(spec)


def caused_operations(spec: ActionSpec) -> frozenset[Operation]:
    """Return every operation that ``spec`` can cause."""
    caused = {Operation(spec.action.value)}
    if spec.escalation is not None:
        caused.add(Operation.KILL)
    if spec.expedite:
        caused.add(Operation.RESUME)
    if S.BACKING_OFF in wanted_statuses(spec) and pauses_first(spec, S.BACKING_OFF):
        caused.add(Operation.PAUSE)
    return frozenset(caused)


def pauses_first(spec: ActionSpec, status: S) -> bool:
    """Whether an invocation in ``status`` is paused on the way: the engine changes the deployment only of paused or
    suspended ones, so one that backs off is paused, seen paused, and then resumed.
    """
    return (
        spec.action is ActionType.RESUME
        and spec.resume is not None
        and spec.resume.deployment != "Keep"
        and status is S.BACKING_OFF
    )
