"""What a run says of itself: counts, bounded results, the phase it ends in and the sentence for people.

Status stays small at any number of targets: counters are exact, single results are kept up to ``RESULTS`` with what
needs attention first.
"""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from invocation_operator.api.v1alpha1.action import (
    ActionProgress,
    ActionStatus,
    NamedCount,
    Outcome,
    Phase,
    Result,
)
from invocation_operator.api.v1alpha1.base import Model
from invocation_operator.plan.build import counts
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.pausing import LEFT_PAUSED
from invocation_operator.values.text import cut

RESULTS = 50
REASONS = 20
TEXT = 128
"""Characters of an error."""
STATUS_LIMIT = 60_000
"""Bytes that a status may have as JSON: less than 64 KiB, with room for whoever writes JSON in another way."""

_ORDER = (
    Outcome.FAILED,
    Outcome.AMBIGUOUS,
    Outcome.UNVERIFIED,
    Outcome.NO_OP,
    Outcome.ESCALATED,
    Outcome.SKIPPED,
    Outcome.EFFECTIVE,
    Outcome.ALREADY_DONE,
)
_RANK = {outcome: rank for rank, outcome in enumerate(_ORDER)}
_WORDS = {
    Outcome.EFFECTIVE: "effective",
    Outcome.ALREADY_DONE: "already done",
    Outcome.ESCALATED: "killed after their cancel",
    Outcome.SKIPPED: "skipped",
    Outcome.FAILED: "failed",
    Outcome.AMBIGUOUS: "ambiguous",
    Outcome.UNVERIFIED: "not verified in time",
    Outcome.NO_OP: "without effect",
}


@dataclass(slots=True)
class Findings:
    """Bounded results of single invocations, and why some were skipped. Counts are the ledger's."""

    redact: bool = False
    sink: Callable[[int, Result], None] | None = None
    """Takes every result, where all of them are kept."""
    _kept: list[tuple[int, int, int, Result]] = field(default_factory=list)
    _serial: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, index: int, result: Result) -> None:
        """Keep ``result`` if it is among the most important; ``index`` is its place in the plan."""
        if result.outcome is Outcome.SKIPPED:
            self.skipped[result.reason or "Unknown"] += 1
        self._serial += 1
        shown = self._cut(result)
        if self.sink is not None:
            self.sink(index, shown)
        # A heap of the worst kept: what is least important (highest rank, latest) is on top and leaves first.
        entry = (-self._rank(result), -index, -self._serial, shown)
        if len(self._kept) < RESULTS:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heappushpop(self._kept, entry)

    def wants(self, outcome: Outcome, index: int) -> bool:
        """Whether ``add`` would do anything with a result: of most in a large run it is known that it would not."""
        if outcome is not Outcome.EFFECTIVE or self.sink is not None or len(self._kept) < RESULTS:
            return True
        return (-_RANK[outcome], -index) > self._kept[0][:2]

    def restore(self, results: Sequence[Result], skipped: Sequence[NamedCount]) -> None:
        """Take in what an earlier holder of the run had kept."""
        self._kept.clear()
        for index, result in enumerate(results):
            self.add(index, result)
        self.skipped = Counter({count.name: count.count for count in skipped})

    def results(self) -> list[Result]:
        """Return the kept results, what needs attention first."""
        return [entry[3] for entry in sorted(self._kept, key=lambda e: (-e[0], -e[1], -e[2]))]

    def skipped_reasons(self) -> list[NamedCount]:
        """Return why invocations were skipped, most frequent first."""
        return counts(self.skipped, REASONS)

    @staticmethod
    def _rank(result: Result) -> int:
        return -1 if result.reason == LEFT_PAUSED else _RANK[result.outcome]

    def _cut(self, result: Result) -> Result:
        if result.error is None:
            return result
        if self.redact:
            return result.model_copy(update={"error": None})
        # The engine's messages name the invocation, which the result does too: the room is for what went wrong.
        said = result.error.replace(f"'{result.id}'", "'…'")
        return result.model_copy(update={"error": cut(said, TEXT, 2 * TEXT)})


def within(status: ActionStatus, most: int = STATUS_LIMIT) -> ActionStatus:
    """Return ``status`` in at most ``most`` bytes of JSON. What is least needed leaves first: the last of many
    results, samples, warnings, then what a condition says beyond its first sentences.
    """
    for shrink in (_fewer_results(10), _no_sample, _fewer_results(0), _no_breakdown, _short_messages):
        excess = size_of(status) - most
        if excess <= 0:
            break
        status = shrink(status, excess)
    return status


def size_of(status: Model) -> int:
    """Return the bytes of a status, or of a part of it, as JSON where it takes most."""
    return _size(status.model_dump(by_alias=True, exclude_none=True, mode="json"))


def _size(value: object) -> int:
    """Bytes of ``value`` as JSON where it takes most: ASCII only, and what HTML could misread escaped too."""
    text = json.dumps(value)
    return len(text) + 5 * (text.count("<") + text.count(">") + text.count("&"))


def _fewer_results(least: int) -> Callable[[ActionStatus, int], ActionStatus]:
    def shrink(status: ActionStatus, excess: int) -> ActionStatus:
        kept = list(status.results or ())
        while len(kept) > least and excess > 0:
            excess -= size_of(kept.pop()) + 2
        return status.model_copy(update={"results": kept or None})

    return shrink


def _no_sample(status: ActionStatus, _: int) -> ActionStatus:
    plan = status.plan
    if status.rollout is not None:
        status = status.model_copy(update={"rollout": status.rollout.model_copy(update={"sample": None})})
    if plan is None:
        return status
    warnings = [cut(warning, 256, 512) for warning in plan.warnings or ()]
    return status.model_copy(update={"plan": plan.model_copy(update={"sample": None, "warnings": warnings or None})})


def _no_breakdown(status: ActionStatus, _: int) -> ActionStatus:
    plan = status.plan
    if plan is not None:
        cascade = plan.cascade and plan.cascade.model_copy(update={"by_service": None})
        update = {"by_service": None, "warnings": None, "excluded_by_status": None, "cascade": cascade}
        plan = plan.model_copy(update=update)
    return status.model_copy(update={"plan": plan, "skipped_reasons": None})


def _short_messages(status: ActionStatus, _: int) -> ActionStatus:
    shorter = [c.model_copy(update={"message": cut(c.message, 512, 1024)}) for c in status.conditions or ()]
    return status.model_copy(update={"conditions": shorter or None})


def progress(ledger: Ledger, named: list[Result]) -> ActionProgress:
    """Return the counts of the planned invocations and of the ids that were named in vain."""
    extra = Counter(result.outcome for result in named)
    total = len(ledger) + len(named)
    done = ledger.settled + len(named)

    def of(outcome: Outcome) -> int:
        return ledger.count(outcome) + extra[outcome]

    return ActionProgress(
        total=total,
        done=done,
        percent=100 if not total else done * 100 // total,
        summary=f"{done}/{total}",
        effective=of(Outcome.EFFECTIVE),
        already_done=of(Outcome.ALREADY_DONE),
        escalated=of(Outcome.ESCALATED),
        skipped=of(Outcome.SKIPPED),
        no_op=of(Outcome.NO_OP),
        unverified=of(Outcome.UNVERIFIED),
        ambiguous=of(Outcome.AMBIGUOUS),
        failed=of(Outcome.FAILED),
    )


def bad(counted: ActionProgress) -> int:
    """Return how many did not end as they should."""
    return counted.failed + counted.ambiguous + counted.unverified + counted.no_op


def final_phase(counted: ActionProgress) -> Phase:
    """Return the phase of a run that reached every planned invocation."""
    if not bad(counted):
        return Phase.SUCCEEDED
    good = counted.effective + counted.already_done + counted.escalated
    return Phase.PARTIALLY_FAILED if good else Phase.FAILED


def sentence(counted: ActionProgress) -> str:
    """Return the counts as a sentence: ``3 effective, 1 skipped``."""
    numbers = {
        Outcome.EFFECTIVE: counted.effective,
        Outcome.ALREADY_DONE: counted.already_done,
        Outcome.ESCALATED: counted.escalated,
        Outcome.SKIPPED: counted.skipped,
        Outcome.FAILED: counted.failed,
        Outcome.AMBIGUOUS: counted.ambiguous,
        Outcome.UNVERIFIED: counted.unverified,
        Outcome.NO_OP: counted.no_op,
    }
    parts = [f"{number} {_WORDS[outcome]}" for outcome, number in numbers.items() if number]
    return ", ".join(parts) or "nothing to do"
