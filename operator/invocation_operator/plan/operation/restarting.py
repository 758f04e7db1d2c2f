"""RestartAsNew: a new id, the same input; at most one restart for each invocation and run.

Engine facts behind the decisions: the call is not idempotent, and its only trace is ``restarted_from`` of the new row,
so after a lost answer that column is asked, and not before the call can no longer arrive. Workflow runs cannot be
restarted (422), nor invocations whose journal was purged (410).
"""

from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.plan.operation.base import (
    CLOCK_MARGIN,
    Ask,
    Child,
    Decision,
    Evidence,
    Item,
    Refused,
    Seen,
    Settled,
    Timing,
    Verb,
    alive,
    expired,
    failed,
    out_of_reach,
    skipped,
)
from invocation_operator.plan.targets import Planned

WORKFLOW = "workflow"
"""``target_service_ty`` of workflow runs and of their shared handlers."""

_SKIPS = {404: "Gone", 409: "NotCompleted", 410: "JournalPurged", 422: "WorkflowNotRestartable", 425: "NotCompleted"}


@dataclass(frozen=True, slots=True)
class Restart:
    """``deployment`` and ``from_entry`` are the engine's own options."""

    timing: Timing
    deployment: str | None = None
    from_entry: int | None = None
    allow_repeated: bool = False

    begin_evidence: frozenset[Evidence] = frozenset({Evidence.CHILDREN})
    begins_by_plan: bool = True
    """What else keeps it from being restarted, the engine refuses for the same reasons."""

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """With an answer, the new row is looked at; without, what was restarted from this one."""
        return frozenset({Evidence.NEW if item.new_id else Evidence.CHILDREN})

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask what can be restarted and was not."""
        away = out_of_reach(planned, seen)
        if away is not None:
            return away
        assert seen.row is not None
        if alive(seen.row.status):
            return skipped("NotCompleted")
        if seen.row.service_type == WORKFLOW:
            return skipped("WorkflowNotRestartable")
        if seen.row.journal_size == 0:
            return skipped("JournalPurged")
        if seen.children and not self.allow_repeated:
            return skipped("AlreadyRestarted")
        return Ask(Verb.RESTART_AS_NEW, deployment=self.deployment, from_entry=self.from_entry)

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """A refusal restarted nothing; most say that it does not apply."""
        reason = _SKIPS.get(refused.status)
        return skipped(reason) if reason else failed(refused)

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Settle when the new invocation is seen; after a lost answer, by what the engine recorded."""
        if item.new_id is not None:
            if seen.new_is_there:
                return Settled(Outcome.EFFECTIVE, "Restarted", new_id=item.new_id)
            if expired(item, now, self.timing.timeout):
                return Settled(Outcome.UNVERIFIED, "NewInvocationNotSeen", new_id=item.new_id)
            return None
        child = self._ours(item, seen)
        if child is not None:
            return Settled(Outcome.EFFECTIVE, "Restarted", new_id=child.id)
        if now - item.asked_at < self.timing.settle_lost_after:
            return None
        if seen.row is None or seen.born_again:
            # Without the original nothing tells whether its restart came and went with the same short retention.
            return Settled(Outcome.AMBIGUOUS, "OriginalGone")
        if expired(item, now, self.timing.timeout):
            return Settled(Outcome.AMBIGUOUS, "NoTraceOfRestart")
        return Ask(Verb.RESTART_AS_NEW, deployment=self.deployment, from_entry=self.from_entry)

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning."""
        return self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """A restart stands alone."""
        return False

    def _ours(self, item: Item, seen: Seen) -> Child | None:
        """The oldest restart that was not there before our call.

        What was there before is known but after a crash; then the times must do, and with a margin, because the clock
        that dated the child need not be the one that dated our intent.
        """
        if item.before is not None:
            earlier = {child.id for child in item.before.children}
            made = [child for child in seen.children if child.id not in earlier]
        else:
            since = item.intended_time
            made = [c for c in seen.children if since is not None and c.created_at >= since - CLOCK_MARGIN]
        return min(made, key=lambda child: child.created_at, default=None)
