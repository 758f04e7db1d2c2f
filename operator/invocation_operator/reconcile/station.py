"""What a RestateEngine amounts to at each step: referred to (``Located``), connected (``Station``), looked at
(``Probe``), and ready to be used by one that refers to it (``Resolved``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from invocation_operator.api.v1alpha1.base import EngineIdentity
from invocation_operator.api.v1alpha1.engine import EngineSpec, Guardrails
from invocation_operator.engine import errors
from invocation_operator.engine.client import Connection, EngineClient
from invocation_operator.engine.models import EngineCapabilities
from invocation_operator.engine.named import NamedRows
from invocation_operator.engine.version import Version
from invocation_operator.plan.holds import Holds
from invocation_operator.reconcile.budget import Budget
from invocation_operator.reconcile.flight import Batches
from invocation_operator.reconcile.waiting import Waiting

T = TypeVar("T")

Key = tuple[str, str]
"""Namespace and name of a RestateEngine."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What an engine said of itself."""

    version: Version
    cluster_name: str
    capabilities: EngineCapabilities
    at: float


@dataclass(slots=True)
class Station:
    """What a RestateEngine leads to: the connection, what is offered there, and the budget that everything shares.

    It lives as long as the RestateEngine leads to the same address. New credentials go into the same client, so that
    runs that are under way go on with them.
    """

    address: str
    connection: Connection
    query_timeout: float
    client: EngineClient
    budget: Budget
    connections: asyncio.Semaphore
    holds: Holds = field(default_factory=Holds)
    """What no purge on this engine touches; shared by all RestateEngines that lead to it."""
    batches: Batches = field(default_factory=lambda: Batches(usable=False))
    probe: Probe | None = None
    failure: tuple[Waiting, float] | None = None
    """The last probe's failure and when it was: a crowd that waits for one engine asks it once."""
    settled_at: float = float("-inf")
    """When all partitions were last known to have read their log."""
    unsettled: tuple[errors.EngineError, float] | None = None
    """How asking them failed last, and when: a crowd that starts at once asks them once."""
    settling: asyncio.Lock = field(default_factory=asyncio.Lock)
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)
    named: NamedRows = field(init=False)
    """Rows by id, for all runs: many of them are on one invocation."""

    def __post_init__(self) -> None:
        self.named = NamedRows(self.client.rows)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a question of those who begin a run: see ``Repeats``."""
        return await self.budget.repeats.ask(question)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A RestateEngine that may be used, and the station that it leads to."""

    identity: EngineIdentity
    spec: EngineSpec
    station: Station
    probe: Probe
    guardrails: Sequence[Guardrails]
    namespace_labels: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the RestateEngine."""
        return self.identity.namespace or "", self.identity.name or ""

    @property
    def name(self) -> str:
        """``namespace/name`` of the RestateEngine."""
        return "/".join(self.key)


@dataclass(frozen=True, slots=True)
class Located:
    """A RestateEngine that is referred to, allowed and well-formed; nothing was asked of the engine itself yet."""

    namespace: str
    name: str
    uid: str
    spec: EngineSpec
    referrer: str
    """Namespace of what refers to it."""
    namespace_labels: Mapping[str, str] | None
    """Labels of that namespace; None when nothing has asked for them yet."""

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"
