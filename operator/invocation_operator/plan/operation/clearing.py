"""Purge and PurgeJournal: free what is completed.

Engine facts behind the decisions: a purged row is gone at the first read; a purge frees the key, and the same key gives
the same id again, so a younger row under the id proves the purge. A purged journal has size 0 and cannot be restarted.
"""

from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.plan.operation.base import (
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
    expired,
    failed,
    skipped,
    still,
    unseen,
)
from invocation_operator.plan.targets import Planned

_NONE: frozenset[Evidence] = frozenset()


@dataclass(frozen=True, slots=True)
class Clear:
    """Both purges; ``verb`` says which. Safe to repeat while the same invocation is seen."""

    verb: Verb
    timing: Timing
    begin_evidence: frozenset[Evidence] = _NONE

    @property
    def begins_by_plan(self) -> bool:
        """Whether a journal is purged already is no matter of status."""
        return self.verb is Verb.PURGE

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """The row says it all."""
        return _NONE

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask, unless nothing is left to free."""
        if seen.born_again:
            return skipped("BornAgain")
        if seen.row is None:
            return Settled(Outcome.ALREADY_DONE, "Gone")
        if alive(seen.row.status):
            return skipped("NotCompleted")
        if self.verb is Verb.PURGE_JOURNAL and seen.row.journal_size == 0:
            return Settled(Outcome.ALREADY_DONE, "JournalPurged")
        return Ask(self.verb)

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """Not found is done: it was purged or expired between two looks."""
        if refused.status == 404:
            return Settled(Outcome.ALREADY_DONE, "Gone")
        return skipped("NotCompleted") if refused.status == 409 else failed(refused)

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Settle what is freed; ask again what is still there."""
        if seen.row is None or seen.born_again:
            return Settled(Outcome.EFFECTIVE, "Purged" if self.verb is Verb.PURGE else "Gone")
        if self.verb is Verb.PURGE_JOURNAL and seen.row.journal_size == 0:
            return Settled(Outcome.EFFECTIVE, "JournalPurged")
        if expired(item, now, self.timing.timeout):
            return unseen(item, Outcome.UNVERIFIED, still(seen.row))
        return Ask(self.verb) if now - item.asked_at >= self.timing.ask_again_after else None

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning."""
        return self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """A purge stands alone."""
        return False
