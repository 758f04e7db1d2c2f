"""What to do with invocations that were looked at. Part of the executor.

An operation judges each by itself; what two runs must not ask both, the first to decide has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.plan.operation.base import Ask, Decision, Item, Operation, Seen, Settled, Verb
from invocation_operator.reconcile.claims import Claims
from invocation_operator.reconcile.flight import Flight

CLAIMED = frozenset({Verb.CANCEL, Verb.RESTART_AS_NEW})
"""What must not be asked by two runs at the same time."""


@dataclass(slots=True)
class Decider:
    """Decides for one run."""

    operation: Operation
    claims: Claims
    """What runs on this engine are cancelling and restarting now; shared by all of them."""
    _mine: dict[str, Item] = field(default_factory=dict)
    """What this run has claimed."""

    def decide(
        self, flights: Sequence[Flight], seen: Sequence[Seen | None], began: float
    ) -> Iterator[tuple[Flight, Seen | None, Decision]]:
        """Yield each of ``flights`` with what was seen of it, as far as that goes, and what to do.

        ``began``: when the look did. What has reached the engine after that need not be in ``seen``, and so nothing is
        judged by a later time. One that is there and cannot be read is looked at again later: nothing may be decided
        from it.
        """
        begun: tuple[Seen, Decision] | None = None
        for flight, view in zip(flights, seen, strict=False):
            if view is None:
                yield flight, None, None
            elif not flight.fresh:
                yield flight, view, self._claimed(flight.item, self._judged(flight.item, view, began))
            else:
                if begun is None or begun[0] is not view:
                    # Those of which only the plan tells have one view in common, and so what it leads to.
                    begun = view, self.operation.begin(flight.item.planned, view)
                yield flight, view, self._claimed(flight.item, begun[1])

    def let_go(self, item: Item, settled: Settled | None, now: float) -> None:
        """Leave ``item`` to other runs, with the outcome that it has, at ``now`` seconds on the run's clock."""
        # A restart may not be visible yet to others, who look ahead, and a cancel to those who look while it is asked.
        restarted = item.last is not None and item.last.verb is Verb.RESTART_AS_NEW
        open_ = settled is None or settled.outcome in (Outcome.AMBIGUOUS, Outcome.UNVERIFIED)
        # A call of which nobody knows may arrive until then.
        lost = open_ and (item.lost or settled is None)
        seconds = item.asked_at + self.operation.timing.settle_lost_after - now if lost else 0.0
        self.claims.release(item.planned.id, self, linger=restarted or (open_ and item.asks > 0), seconds=seconds)
        self._mine.pop(item.planned.id, None)

    def _judged(self, item: Item, seen: Seen, began: float) -> Decision:
        decision = self.operation.judge(item, seen, began)
        if isinstance(decision, Ask) and not item.asks:
            return self.operation.first_ask(item, seen, decision)
        return decision

    def _claimed(self, item: Item, decision: Decision) -> Decision:
        """Two runs that look at the same time see no cancel, and would both send one: the first to decide has it. The
        other one leaves the invocation to it as soon as it has asked.
        """
        if item.asks or not isinstance(decision, Ask) or decision.verb not in CLAIMED:
            return decision
        id_ = item.planned.id
        if self.claims.take(id_, self):
            self._mine[id_] = item
            return decision
        holder = self.claims.holder(id_)
        if decision.verb is not Verb.CANCEL or (isinstance(holder, Decider) and not holder.may_have_asked(id_)):
            # What comes of a restart will be seen in a moment; and who has not asked yet may never do so.
            return None
        return Settled(Outcome.SKIPPED, "CancelPending")

    def may_have_asked(self, invocation_id: str) -> bool:
        """Whether what this run has claimed may have been asked."""
        item = self._mine.get(invocation_id)
        return item is not None and (item.asks > 0 or item.lost)
