"""Whether a record tells the truth: each outcome against what became of the invocation."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from e2e.simulation.engine import Invocation
from invocation_operator.api.v1alpha1.action import ActionType, Outcome, Phase
from invocation_operator.plan.operation.base import CLOCK_MARGIN
from invocation_operator.values.times import milliseconds

if TYPE_CHECKING:
    from e2e.simulation.runs import Call, Run

TRACED = (ActionType.CANCEL, ActionType.RESTART_AS_NEW)
"""After a crash the engine's record tells whether these were asked, and not by which of two runs: see "once"."""
Lives = Mapping[tuple[str, int], Invocation]
VERBS = {
    ActionType.CANCEL: "cancel",
    ActionType.KILL: "kill",
    ActionType.PAUSE: "pause",
    ActionType.RESUME: "resume",
    ActionType.PURGE: "purge",
    ActionType.PURGE_JOURNAL: "purge-journal",
    ActionType.RESTART_AS_NEW: "restart-as-new",
}


def judge(
    run: "Run", lives: Lives, calls: Sequence["Call"], *, uncertain: bool, others: Container[tuple[str, str]] = ()
) -> Iterator[tuple[str, str]]:
    """Yield what is not as the record says, as kind and sentence. ``calls`` are those for the object of the run,
    ``others`` what was asked for other objects, and of which invocation.
    """
    record = run.record
    action, ledger = record.spec.action, run.ledger
    if not record.finished or ledger is None:
        return
    yield from _counts(run)
    by_id: dict[str, list[Call]] = {}
    for call in calls:
        by_id.setdefault(call.id, []).append(call)
    for index, planned in enumerate(run.planned):
        one = lives.get((planned.id, milliseconds(planned.created_at)))
        if one is None:
            yield "set", f"{planned.id} was planned and never was"
            continue
        mine = [call for call in by_id.get(planned.id, ()) if call.op == VERBS[action]]
        done = [call for call in mine if call.met is one and call.status is not None and call.status < 300]
        outcome = ledger.outcome(index)
        told = f"{planned.id} ({planned.status.value}) is {outcome}"
        if outcome is None:
            touched = index not in ledger.intended() and mine
            if touched:
                yield "untouched", f"{planned.id} counts as not touched, and was asked by #{mine[0].number}"
            if index in ledger.intended() and record.status.phase is not Phase.STOPPED:
                yield "ledger", f"{planned.id} has no outcome in a finished run"
            continue
        wrong = _wrong(action, outcome, one, mine, done, lives, record.spec.start_time.timestamp())
        if wrong is not None and not (uncertain and action in TRACED and (VERBS[action], planned.id) in others):
            yield "truth", f"{told}: {wrong}"
        if outcome is Outcome.AMBIGUOUS and not uncertain:
            yield "truth", f"{told}, and nothing went wrong"


def _counts(run: "Run") -> Iterator[tuple[str, str]]:
    status, ledger = run.record.status, run.ledger
    told = status.progress
    if told is None or ledger is None:
        yield "counts", "a finished record without counts"
        return
    named = run.record.spec.plan.named or []
    for outcome, number in (
        (Outcome.EFFECTIVE, told.effective),
        (Outcome.ALREADY_DONE, told.already_done),
        (Outcome.ESCALATED, told.escalated),
        (Outcome.SKIPPED, told.skipped),
        (Outcome.NO_OP, told.no_op),
        (Outcome.UNVERIFIED, told.unverified),
        (Outcome.AMBIGUOUS, told.ambiguous),
        (Outcome.FAILED, told.failed),
    ):
        counted = ledger.count(outcome) + sum(result.outcome is outcome for result in named)
        if counted != number:
            yield "counts", f"{number} {outcome.value} told, {counted} in the ledger"


def _wrong(
    action: ActionType,
    outcome: Outcome,
    one: Invocation,
    mine: Sequence["Call"],
    done: Sequence["Call"],
    lives: Lives,
    since: float,
) -> str | None:
    if outcome is Outcome.SKIPPED:
        return f"#{done[0].number} was carried out" if done else None
    if outcome in (Outcome.EFFECTIVE, Outcome.ESCALATED, Outcome.ALREADY_DONE):
        return _effect(action, outcome, one, mine, done, lives, since)
    if outcome in (Outcome.NO_OP, Outcome.UNVERIFIED) and not mine:
        return "it was never asked"
    return None


def _effect(
    action: ActionType,
    outcome: Outcome,
    one: Invocation,
    mine: Sequence["Call"],
    done: Sequence["Call"],
    lives: Lives,
    since: float,
) -> str | None:
    match action:
        case ActionType.CANCEL | ActionType.KILL:
            return "it lives" if one.alive else None
        case ActionType.PURGE:
            return "it is there" if one.lives else None
        case ActionType.PURGE_JOURNAL:
            return "it has a journal" if one.lives and one.journal else None
        case ActionType.PAUSE:
            return None if one.pauses else "it was never paused"
        case ActionType.RESUME:
            left = any(status in ("paused", "suspended", "backing-off") for _, status in one.left)
            return None if left or not one.lives else f"it never left {one.status}"
        case ActionType.RESTART_AS_NEW:
            made = [other for other in lives.values() if other.restarted_from == one.id]
            if outcome is Outcome.EFFECTIVE and not made:
                return "nothing was restarted from it"
            if done or outcome is not Outcome.EFFECTIVE or any(call.met is not None for call in mine):
                # Also one that was born again between look and call: the window that the documentation names.
                return None
            # After a crash the times must do, and clocks may be apart by that much.
            near = any(other.created >= since - CLOCK_MARGIN.total_seconds() for other in made)
            return None if near else "somebody else restarted it"
