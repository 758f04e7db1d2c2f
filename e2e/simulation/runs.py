"""A run as the servers know it, and the calls that were made for it: what all parts of the observer look at."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from structlog.contextvars import get_contextvars

from e2e.simulation.engine import Invocation
from invocation_operator.cluster.records import Record
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.targets import Planned
from invocation_operator.values.times import milliseconds

if TYPE_CHECKING:
    from e2e.simulation.processes import Process

Identity = tuple[str, int]
"""Id and creation, in milliseconds."""
Sender = tuple[str, str | None]
"""A process, and the object whose task has sent something."""


def sender(process: "Process") -> Sender:
    """Who sends what is about to leave."""
    return process.name, str(get_contextvars().get("object", "")).partition("/")[2] or None


@dataclass
class Call:
    """One call on one invocation, from when it left to what it met."""

    op: str
    id: str
    of: str | None
    """The object whose task has sent it: of several runs on one invocation it is the one that asks."""
    process: "Process"
    number: int
    sent_at: float
    looked_at: float
    truly_planned_at: float
    """When the query of its object's plan last returned it, of an engine that had read its log."""
    truly_read_at: float
    """The same of rows that were read by id, for whichever of its process's runs."""
    runs: frozenset[str] = frozenset()
    """Records of the runs of which it may be a part: an object may ask for several, one after the other."""
    status: int | None = None
    met: Invocation | None = None
    answered: bool = False
    """Whether its sender knows what became of it, or that nobody does."""
    made: Invocation | None = None
    """What a restart has made."""

    @property
    def left_a_trace(self) -> bool:
        """Whether the engine still knows of it: a restart is forgotten together with what it has made."""
        return self.made is None or self.made.lives


@dataclass
class Run:
    """One record, read: the set, and where each stands."""

    record: Record
    planned: list[Planned]
    ledger: Ledger | None
    index: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def uid(self) -> str:
        """Of this very record: the next one of its name is another run."""
        return str(self.record.obj["metadata"]["uid"])

    @property
    def of(self) -> str:
        """The object that asks for it."""
        return self.record.spec.source.name

    @property
    def identities(self) -> set[Identity]:
        """Whom it is meant for."""
        return {(one.id, milliseconds(one.created_at)) for one in self.planned}

    def intended(self, id_: str) -> bool:
        """Whether it is written down that this one may have been asked."""
        at = self.index[id_]
        if self.ledger is None:
            return at < self.record.spec.plan.first_batch
        return at in self.ledger.intended()

    def settled(self, id_: str) -> bool:
        """Whether it is written down what became of this one."""
        return self.ledger is not None and self.ledger.outcome(self.index[id_]) is not None


def identity(one: Invocation) -> Identity:
    """Of an invocation in one of its lives."""
    return one.id, round(one.created * 1000)
