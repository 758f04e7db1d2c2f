"""A purge that leaves alone what is held, also when the hold came after the plan: looked at before every call."""

from collections.abc import Callable
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.plan.operation.base import (
    Ask,
    Decision,
    Evidence,
    Item,
    Operation,
    Refused,
    Seen,
    Settled,
    Timing,
)
from invocation_operator.plan.targets import Planned
from invocation_operator.target.row import InvocationRow


@dataclass(frozen=True, slots=True)
class Withheld:
    """An operation whose calls are withheld from what is held. ``holder`` says by whom a row is, None: by nobody."""

    operation: Operation
    holder: Callable[[InvocationRow], str | None]
    holding: Callable[[], bool]
    """Whether anything is held at all."""

    @property
    def timing(self) -> Timing:
        """As the operation has it."""
        return self.operation.timing

    @property
    def begins_by_plan(self) -> bool:
        """A hold looks at more of a row than a plan keeps."""
        return self.operation.begins_by_plan and not self.holding()

    @property
    def begin_evidence(self) -> frozenset[Evidence]:
        """The row says it all."""
        return self.operation.begin_evidence

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """As the operation has it."""
        return self.operation.evidence(item)

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask, unless it is held."""
        decision = self.operation.begin(planned, seen)
        return self._held(seen) or decision if isinstance(decision, Ask) else decision

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """As the operation has it."""
        return self.operation.refused(item, ask, refused)

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Ask again, unless it is held. What was asked before the hold came may yet show that it was carried out: an
        engine that was restarted tells what was before.
        """
        decision = self.operation.judge(item, seen, now)
        held = self._held(seen) if isinstance(decision, Ask) else None
        return decision if held is None else None if item.asks else held

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning."""
        return self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """A purge stands alone."""
        return self.operation.inseparable(item)

    def _held(self, seen: Seen) -> Settled | None:
        holder = self.holder(seen.row) if seen.row is not None else None
        if holder is None:
            return None
        return Settled(Outcome.SKIPPED, "Held", error=f"held by RetentionPolicy {holder}")
