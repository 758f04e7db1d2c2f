"""A run as the executor sees it: what is done to which invocations, how far it is, and where that is kept.

No resource is named here: every kind that acts on invocations makes one of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.base import Operation
from invocation_operator.plan.report import Findings
from invocation_operator.plan.rollout import Waves
from invocation_operator.plan.targets import Planned


class Intent(Protocol):
    """Where intent and outcomes are kept."""

    async def commit(self) -> None:
        """Keep the run's ledger durably before returning; repeats until the keeper answers. Raises ``HoldLost``."""


@dataclass(slots=True)
class Run:
    """What is carried out.

    ``committed`` tells how many targets, from the first, have an intent that is kept already. ``recovered`` is set
    when another operator, or an earlier life of this one, began the run: its open intents are then lost answers.
    """

    operation: Operation
    targets: Sequence[Planned]
    ledger: Ledger
    findings: Findings
    committed: int = 0
    recovered: bool = False
    max_failures: int | None = None
    waves: Waves | None = None
    """In which steps it is carried out; None: in one, and what became of it is not looked at afterwards."""

    @property
    def reach(self) -> int:
        """How many of the targets, from the first, may be asked by now."""
        return len(self.targets) if self.waves is None else self.waves.end

    @property
    def complete(self) -> bool:
        """Whether every target has an outcome, and the last wave was looked at."""
        return self.ledger.settled == len(self.targets) and (self.waves is None or self.waves.over)
