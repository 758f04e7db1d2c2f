"""A run as the executor sees it: what is done to which invocations, how far it is, and where that is kept.

No resource is named here: every kind that acts on invocations makes one of these.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.plan.asked import AskTimes
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.base import Item, Operation, Settled
from invocation_operator.plan.report import Findings
from invocation_operator.plan.rollout import Waves
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.runclock import RunClock


class Intent(Protocol):
    """Where intent and outcomes are kept."""

    def covers(self, last: int) -> bool:
        """Whether it is kept already that the first ``last`` targets may have been asked."""

    async def commit(self) -> None:
        """Keep the run's ledger durably before returning; repeats until the keeper answers. Raises ``HoldLost``."""


@dataclass(slots=True)
class Run:
    """What is carried out.

    ``recovered`` is set when another operator, or an earlier life of this one, began the run: its open intents are then
    lost answers.
    """

    operation: Operation
    targets: Sequence[Planned]
    ledger: Ledger
    findings: Findings
    recovered: bool = False
    max_failures: int | None = None
    waves: Waves | None = None
    """In which steps it is carried out; None: in one, and what became of it is not looked at afterwards."""
    asked: AskTimes = field(default_factory=AskTimes)
    carried_seconds: float = 0.0
    """How much of the time before a takeover counts, at most: see ``Timing.carried``."""

    @property
    def reach(self) -> int:
        """How many of the targets, from the first, may be asked by now."""
        return len(self.targets) if self.waves is None else self.waves.end

    @property
    def began(self) -> datetime | None:
        """When the last of these came to be so, on the engine's clock; None: with the run."""
        return None if self.waves is None else self.waves.began

    @property
    def complete(self) -> bool:
        """Whether every target has an outcome, and the last wave was looked at."""
        return self.ledger.settled == len(self.targets) and (self.waves is None or self.waves.over)

    def fresh(self, first: int, last: int, clock: RunClock) -> list[Item]:
        """Return the invocations from ``first`` (included) to ``last`` (excluded), which are about to be asked."""
        now = clock.now()
        intended = clock.engine_time(now)
        targets = enumerate(self.targets[first:last], first)
        return [Item(index, planned, None, intended, now, now) for index, planned in targets]

    def lost(self, index: int, clock: RunClock) -> Item:
        """Return an invocation that an earlier life may have asked."""
        now = clock.now()
        # It was intended at some time after its wave began, and may have been sent until a moment ago: the earliest
        # time finds its traces, the latest one lets it arrive.
        intended = self.began or clock.engine_time(0.0)
        made = Item(index, self.targets[index], None, intended, now, now, lost=True)
        if (asked := self.asked.asked_by(index)) is not None:
            made.first_asked_at = max(min(asked, now), now - self.carried_seconds)
        return made

    def settle(self, index: int, settled: Settled) -> None:
        """Write down what became of an invocation."""
        self.ledger.settle(index, settled.outcome)
        if self.findings.wants(settled.outcome, index):
            self.findings.add(index, settled.result(self.targets[index]))

    def tidy(self, stop: str, earlier: Container[int], handed_over: Container[int] | None) -> None:
        """Intents that never came into flight: of this life nothing was sent, of an earlier one nobody knows.

        ``stop`` is why; ``handed_over`` is what is in flight when somebody else goes on with it; None: nobody does.
        """
        for index in self.ledger.intended():
            if index in earlier and handed_over is None:
                self.settle(index, Settled(Outcome.AMBIGUOUS, stop))
            elif index not in earlier and index not in (handed_over or ()):
                self.ledger.release(index)

    def note_asked(self, in_flight: Iterable[Item], launching: int | None, now: float) -> None:
        """Take in since when what is ``in_flight`` was asked; ``launching`` is the first of those that are intended
        and not in flight yet.
        """
        below = self.ledger.next_untouched(0) if launching is None else min(launching, self.ledger.next_untouched(0))
        lowest = below
        for item in in_flight:
            index = item.index
            lowest = min(lowest, index)
            if index < below and not item.asks and self.asked.asked_by(index) is None:
                below = index
        self.asked.note(below, now, lowest_open=lowest)
