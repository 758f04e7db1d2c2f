"""What an InvocationAction's status says at each turn: phase, conditions, counts, in words that tell what to do next.

Pure but for the time it is given; the reconciler writes what comes out.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from invocation_operator import conditions
from invocation_operator.api.v1alpha1.action import ActionProgress, ActionStatus, Phase, PlanStatus
from invocation_operator.cluster.records import Record
from invocation_operator.conditions import Verdict
from invocation_operator.plan import report
from invocation_operator.plan.refusal import Refusal
from invocation_operator.plan.rollout import Waves
from invocation_operator.reconcile.board import AGAIN
from invocation_operator.reconcile.control import Stop
from invocation_operator.reconcile.waiting import Waiting

CAUSE = "Find out why and correct it first."

STOPS = {
    Stop.TIMED_OUT: "spec.timeout was reached before the work was done",
    Stop.TOO_MANY_FAILURES: "more failed than spec.limits.maxFailures allows",
    Stop.ENGINE_CHANGED: "the engine changed in mid-run: another RestateEngine or another cluster answers now",
    Stop.DELETED: "the object was deleted in mid-run",
    Stop.GUARDRAIL_TIGHTENED: "the engine's guardrails do not allow this run any more",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """A phase with its reason and message. ``verdict`` overrides what the phase alone says."""

    phase: Phase
    reason: str
    message: str
    verdict: Verdict | None = None

    @property
    def judged(self) -> Verdict:
        """What the conditions say."""
        return self.verdict or conditions.of_phase(self.phase)

    @property
    def ready(self) -> bool:
        """Whether it ended well."""
        return self.judged is Verdict.READY

    @property
    def stalled(self) -> bool:
        """Whether it needs a person."""
        return self.judged is Verdict.STALLED


def apply(status: ActionStatus, turn: Turn, *, generation: int, now: datetime, **fields: Any) -> ActionStatus:
    """Return ``status`` after ``turn``, with ``fields`` set."""
    built = conditions.build(
        turn.judged, turn.reason, turn.message, generation=generation, now=now, previous=status.conditions
    )
    return status.model_copy(
        update={"observed_generation": generation, "phase": turn.phase, "conditions": built, **fields}
    )


def of_this_run(status: ActionStatus, run_id: str | None) -> ActionStatus:
    """Return ``status`` without what an earlier run in the same object has left there."""
    if status.run_id == run_id:
        return status
    return status.model_copy(update={**dict.fromkeys(_OF_ONE_RUN), "run_id": run_id})


_OF_ONE_RUN = (
    "record",
    "start_time",
    "completion_time",
    "plan",
    "approval",
    "requested_by",
    "progress",
    "rollout",
    "results",
    "skipped_reasons",
    "report",
)


def refused(refusal: Refusal) -> Turn:
    """A run that must not happen."""
    return Turn(Phase.REFUSED, refusal.reason, f"{refusal.message} Correct it and set a new spec.runId.")


def planned(total: int) -> Turn:
    """A dry run has ended."""
    if not total:
        return Turn(Phase.PLANNED, "Planned", "no invocation matches; nothing would be done.")
    message = f"{total} invocation{'' if total == 1 else 's'} would be acted upon; set spec.mode to Execute to do it."
    return Turn(Phase.PLANNED, "Planned", message)


def awaiting(namespace: str, name: str, plan: PlanStatus, approved: str | None) -> Turn:
    """A plan that waits for its approval; ``approved`` is what ``spec.approvedPlan`` says, which is not its hash."""
    many = f"{plan.total} invocation{'' if plan.total == 1 else 's'}"
    what = f"{many} would be acted upon" if plan.total else "no invocation matches, nothing would be done"
    patch = f'{{"spec":{{"approvedPlan":"{plan.hash}"}}}}'
    how = f"To approve exactly that: kubectl -n {namespace} patch iact {name} --type=merge -p '{patch}'"
    if approved is None:
        return Turn(Phase.AWAITING_APPROVAL, "AwaitingApproval", f"{what}. {_drift(plan)}{how}")
    message = (
        f"spec.approvedPlan ({approved}) is not the hash of the present plan ({plan.hash}): nothing is done. By the "
        f"present plan {what}. {_drift(plan)}{how}"
    )
    return Turn(Phase.AWAITING_APPROVAL, "ApprovalMismatch", message)


def _drift(plan: PlanStatus) -> str:
    before = plan.replaced
    if before is None:
        return ""
    if before.gone is None or before.added is None:
        return f"It replaces {before.hash}. "
    return f"It replaces {before.hash}: {before.gone} of those are gone, {before.added} were added. "


def approved(plan: PlanStatus, matching: int) -> Turn:
    """An approval was taken up: nothing but the set of that plan is acted upon."""
    message = (
        f"plan {plan.hash} is approved; {matching} of its {plan.total} invocations still match and are acted upon."
    )
    return Turn(Phase.PLANNING, "Approved", message)


def started(total: int, *, recovered: bool) -> str:
    """What the Event says when a run begins."""
    what = "goes on with a run that was interrupted" if recovered else "acts"
    return f"{what}: {total} invocation{'' if total == 1 else 's'} planned."


def running(
    counted: ActionProgress,
    *,
    verifying: bool,
    stop: Stop | None,
    outage: Waiting | None,
    waves: Waves | None = None,
    detail: str | None = None,
) -> Turn:
    """A run under way, or held up."""
    numbers = f"{counted.summary} done{f' ({report.sentence(counted)})' if counted.done else ''}."
    if waves is not None:
        numbers = f"{numbers} {waves.standing()}"
    if stop is Stop.SUSPENDED:
        return Turn(Phase.SUSPENDED, "Suspended", f"{numbers} Goes on when spec.suspend is false.")
    if stop is Stop.ENGINE_SUSPENDED:
        return Turn(Phase.SUSPENDED, "EngineSuspended", f"{numbers} The engine's kill switch (spec.suspend) is on.")
    if stop is not None and stop.lets_settle:
        return Turn(Phase.VERIFYING, stop.value, f"{numbers} Nothing more is asked: {_told(stop, detail)}.")
    if outage is not None:
        return Turn(Phase.RUNNING, outage.reason, f"{numbers} Waiting: {outage.message}")
    if waves is not None and waves.soak_until is not None:
        return Turn(Phase.RUNNING, "Soaking", numbers)
    if verifying:
        return Turn(Phase.VERIFYING, "Verifying", f"{numbers} All are asked; their effect is being looked for.")
    return Turn(Phase.RUNNING, "Running", numbers)


def ended(
    counted: ActionProgress,
    stop: Stop | None,
    planned_total: int,
    *,
    detail: str | None = None,
    again: str = AGAIN,
    waves: Waves | None = None,
) -> Turn:
    """A run has ended, or was stopped for good. ``detail`` is told beside the stop, ``again`` how it is done again."""
    sentence = report.sentence(counted)
    if stop is Stop.UNHEALTHY and waves is not None:
        left = counted.total - counted.done
        message = f"{waves.verdict()}; {sentence}; {left} not touched. See status.rollout.sample. {CAUSE} {again}"
        return Turn(Phase.STOPPED, stop.value, message)
    if stop is not None:
        left = counted.total - counted.done
        message = f"{_told(stop, detail)}; {sentence}; {left} not touched. {again}"
        return Turn(Phase.STOPPED, stop.value, message)
    phase = report.final_phase(counted)
    if phase is Phase.SUCCEEDED:
        if not counted.total:
            return Turn(phase, "NothingMatched", "no invocation matched; nothing was touched.")
        if not planned_total:
            return Turn(phase, "NothingToDo", f"{sentence}.")
        return Turn(phase, "Succeeded", f"{sentence}.")
    hint = "See status.results for what needs attention."
    return Turn(phase, phase.value, f"{sentence}. {hint} {again}")


def _told(stop: Stop, detail: str | None) -> str:
    return f"{STOPS[stop]} ({detail.rstrip('.')})" if detail else STOPS[stop]


def already_executed(record: Record) -> Turn:
    """The lock says that this ran before."""
    spec, status = record.spec, record.status
    when = spec.start_time.strftime("%Y-%m-%d %H:%M:%S UTC")
    if record.finished:
        how = f"and ended as {status.phase}: {(status.message or 'no details').replace(AGAIN, '').strip()}"
    else:
        how = "by an earlier object of this name, whose run ended with it"
    message = f"executed at {when} {how} Nothing was done now. {AGAIN}"
    return Turn(Phase.ALREADY_EXECUTED, "AlreadyExecuted", message)


def recorded(record: Record) -> Turn:
    """How a run ended, from its record."""
    phase = record.status.phase or Phase.STOPPED
    return Turn(phase, phase.value, record.status.message or "")


def abandoned(why: str) -> str:
    """The message of an unfinished run that cannot go on."""
    return f"{why}; what was asked last may or may not have taken effect: look at the invocations. {AGAIN}"


def expired(not_after: datetime, created: datetime) -> Turn:
    """Its time has passed before it could start; one that was made after it never meant to start."""
    before_creation = not_after <= created
    message = f"spec.notAfter ({not_after.isoformat()}) had passed before this could start; nothing was touched."
    if before_creation:
        return Turn(Phase.EXPIRED, "ExpiredBeforeCreation", message, Verdict.READY)
    return Turn(Phase.EXPIRED, "Expired", f"{message} {AGAIN}")
