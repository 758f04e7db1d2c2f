"""Cancel and Kill: the two ways to end an invocation.

Engine facts behind the decisions: both answer 200 and the row vanishes at once for scheduled and pending invocations;
202 to a cancel means *signal appended*, and each further signal aborts a running compensation, so a cancel is repeated
only when it was asked for and nothing reacted; a cancel of one that waits for a retry takes effect at the retry, or at
once after a resume; only a kill ends one whose endpoint does not answer.
"""

from dataclasses import dataclass
from datetime import timedelta

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.plan.operation.base import (
    CLOCK_MARGIN,
    NEVER_STARTED,
    Ask,
    Decision,
    Evidence,
    Item,
    Refused,
    Seen,
    Settled,
    Timing,
    Verb,
    alive,
    ended_as,
    expired,
    failed,
    skipped,
    still,
    unseen,
)
from invocation_operator.plan.targets import Planned

_NONE: frozenset[Evidence] = frozenset()


def _ended(seen: Seen) -> str | None:
    """How the planned invocation ended, or None while it lives."""
    if seen.row is None or seen.born_again:
        return "Gone"
    return None if alive(seen.row.status) else ended_as(seen.row)


def _already_ended(refused: Refused) -> Settled | None:
    if refused.status == 404:
        return Settled(Outcome.ALREADY_DONE, "Gone")
    if refused.status == 409:
        return Settled(Outcome.ALREADY_DONE, "Completed")
    return failed(refused)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cooperative: asked at most once for each invocation, unless a repeat was asked for and nothing reacted."""

    timing: Timing
    statuses: frozenset[InvocationStatus]
    expedite: bool = False
    begin_evidence: frozenset[Evidence] = frozenset({Evidence.SIGNALS})
    begins_by_plan: bool = True

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """The journal is asked only when an answer was lost or a repeat is due."""
        return self.begin_evidence if item.lost or self.timing.repeat_cancel else _NONE

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask, unless it has ended, changed out of the target, or carries an unsettled cancel already."""
        if seen.born_again:
            return skipped("BornAgain")
        end = _ended(seen)
        if end is not None:
            return Settled(Outcome.ALREADY_DONE, end)
        assert seen.row is not None
        if seen.row.status not in self.statuses:
            return skipped("StatusChanged")
        if seen.signals is not None and seen.signals.count:
            return skipped("CancelPending")
        return Ask(Verb.CANCEL)

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """A refused resume or kill on the way is no end: the next look judges."""
        return _already_ended(refused) if ask.verb is Verb.CANCEL else None

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Settle what ended; else repeat, expedite, escalate or wait, as the specification says."""
        end = _ended(seen)
        if end is not None:
            return Settled(Outcome.ESCALATED if self._killed(item, seen, end) else Outcome.EFFECTIVE, end)
        assert seen.row is not None
        if item.lost and (item.last is None or item.last.verb is Verb.CANCEL):
            return self._after_lost_answer(item, seen, now)
        return self._push(item, seen, now)

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning, but for what follows a cancel that left its signal: also a repeat that was asked for."""
        return ask if item.signalled(seen) or ask.verb is not Verb.CANCEL else self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """A cancel stands alone."""
        return False

    def _killed(self, item: Item, seen: Seen, end: str) -> bool:
        """Whether it was the escalation that ended it. Where nobody knows whether a kill was sent, a kill is taken for
        ours if it came when ours could have.
        """
        if Verb.KILL in item.done:
            return end in (CompletionOutcome.KILLED, "Gone")
        if end != CompletionOutcome.KILLED or self.timing.kill_after is None or not item.lost:
            return False
        if item.last is not None:
            return item.last.verb is Verb.KILL
        ended_at = seen.row.modified_at if seen.row is not None else None
        if ended_at is None or item.intended_time is None:
            return True
        return ended_at - item.intended_time >= timedelta(seconds=self.timing.kill_after) - CLOCK_MARGIN

    def _after_lost_answer(self, item: Item, seen: Seen, now: float) -> Decision:
        if item.signalled(seen):
            return self._push(item, seen, now)
        if now - item.asked_at < self.timing.settle_lost_after:
            return None
        assert seen.row is not None
        count = seen.signals.count if seen.signals is not None else None
        if count:
            # From before the run: ours never came, or it would be the last one.
            return skipped("CancelPending")
        if expired(item, now, self.timing.timeout):
            return Settled(Outcome.AMBIGUOUS, still(seen.row))
        if count == 0 or seen.row.status in NEVER_STARTED:
            # No trace although the call can no longer arrive: it never did, and asking is the first time.
            return Ask(Verb.CANCEL)
        return self._push(item, seen, now)

    def _push(self, item: Item, seen: Seen, now: float) -> Decision:
        assert seen.row is not None
        timing = self.timing
        waits = seen.row.status is InvocationStatus.BACKING_OFF
        if self.expedite and waits and Verb.RESUME not in item.done:
            return Ask(Verb.RESUME)
        if timing.kill_after is not None and expired(item, now, timing.kill_after):
            due = Verb.KILL not in item.done or now - item.asked_at >= timing.ask_again_after
            if due and not expired(item, now, timing.timeout):
                return Ask(Verb.KILL)
        if expired(item, now, timing.timeout):
            # With its signal in the journal it is known to have been asked; what it led to is not seen.
            unknown = item.unknown and not item.signalled(seen)
            return Settled(Outcome.AMBIGUOUS if unknown else Outcome.UNVERIFIED, still(seen.row))
        if timing.repeat_cancel and now - item.asked_at >= timing.repeat_after and _no_reaction(seen):
            return Ask(Verb.CANCEL)
        return None


def _no_reaction(seen: Seen) -> bool:
    """Whether nothing at all followed the cancel. One that runs may be in an unjournaled compensation."""
    quiet = seen.row is not None and seen.row.status in (InvocationStatus.SUSPENDED, InvocationStatus.BACKING_OFF)
    return quiet and seen.signals is not None and bool(seen.signals.count) and not seen.signals.reacted


@dataclass(frozen=True, slots=True)
class Kill:
    """The last resort; safe to repeat while the same invocation is seen alive."""

    timing: Timing
    statuses: frozenset[InvocationStatus]
    begin_evidence: frozenset[Evidence] = _NONE
    begins_by_plan: bool = True

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """The row says it all."""
        return _NONE

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask, unless it has ended or changed out of the target."""
        if seen.born_again:
            return skipped("BornAgain")
        end = _ended(seen)
        if end is not None:
            return Settled(Outcome.ALREADY_DONE, end)
        assert seen.row is not None
        return Ask(Verb.KILL) if seen.row.status in self.statuses else skipped("StatusChanged")

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """Refused because it has ended is done; anything else failed."""
        return _already_ended(refused)

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Settle what ended; ask again what still lives."""
        end = _ended(seen)
        if end is not None:
            return Settled(Outcome.EFFECTIVE, end)
        assert seen.row is not None
        if expired(item, now, self.timing.timeout):
            return unseen(item, Outcome.UNVERIFIED, still(seen.row))
        return Ask(Verb.KILL) if now - item.asked_at >= self.timing.ask_again_after else None

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning."""
        return self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """A kill stands alone."""
        return False
