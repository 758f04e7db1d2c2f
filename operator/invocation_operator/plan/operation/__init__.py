"""The seven actions as decisions, and the choice of the one that a specification asks for."""

from collections.abc import Mapping

from invocation_operator.api.v1alpha1.action import ActionSpec, ActionType
from invocation_operator.plan.operation.base import Operation, Timing, Verb
from invocation_operator.plan.operation.clearing import Clear
from invocation_operator.plan.operation.ending import Cancel, Kill
from invocation_operator.plan.operation.pausing import Pause, Resume
from invocation_operator.plan.operation.restarting import Restart
from invocation_operator.plan.operations import wanted_statuses


def operation_for(
    spec: ActionSpec,
    *,
    settle_lost_after: float,
    latest: Mapping[str, str] | None = None,
) -> Operation:
    """Return the operation that ``spec`` asks for.

    ``latest`` maps services to the deployment that was the latest when the run started; ``settle_lost_after`` see
    ``Timing``. Raises ``DurationError``.
    """
    timing = Timing.of(spec, settle_lost_after)
    statuses = wanted_statuses(spec)
    match spec.action:
        case ActionType.CANCEL:
            return Cancel(timing, statuses, expedite=spec.expedite)
        case ActionType.KILL:
            return Kill(timing, statuses)
        case ActionType.PAUSE:
            return Pause(timing, statuses)
        case ActionType.RESUME:
            deployment = _deployment(spec.resume.deployment if spec.resume else "Keep")
            return Resume(timing, statuses, None if deployment == "keep" else deployment, latest)
        case ActionType.PURGE:
            return Clear(Verb.PURGE, timing)
        case ActionType.PURGE_JOURNAL:
            return Clear(Verb.PURGE_JOURNAL, timing)
        case ActionType.RESTART_AS_NEW:
            options = spec.restart
            return Restart(
                timing,
                deployment=_deployment(options.deployment) if options else None,
                from_entry=options.from_entry if options and options.from_entry else None,
                allow_repeated=options.allow_repeated if options else False,
            )


def _deployment(choice: str) -> str:
    return choice if choice.startswith("dp_") else choice.lower()
