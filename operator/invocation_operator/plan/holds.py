"""Holds on one engine: what no Purge and no PurgeJournal touches, asked when a set is planned and before each call.

Pure: the time comes with each question. A hold that cannot be read for an engine (it has no scopes) is not passed over:
whoever would purge is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from invocation_operator.api.v1alpha1.action import ActionType
from invocation_operator.api.v1alpha1.hold import Hold
from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.plan.sweeps import common
from invocation_operator.target.freeze import FrozenTarget, freeze
from invocation_operator.target.predicate import matcher
from invocation_operator.target.row import InvocationRow

CLEARS = frozenset({ActionType.PURGE, ActionType.PURGE_JOURNAL})
"""Actions that holds concern."""
_COMPLETED = frozenset({InvocationStatus.COMPLETED})


@dataclass(frozen=True, slots=True)
class Held:
    """One hold, with the services of its policy."""

    policy: str
    """``namespace/name``."""
    name: str
    target: Target

    @property
    def label(self) -> str:
        """For people: whose hold it is, and which."""
        return f"{self.policy} ({self.name})"

    def frozen(self, now: datetime) -> FrozenTarget:
        """Return what is held as of ``now``, the engine's clock."""
        return freeze(self.target, now, _COMPLETED)


def held_by(policy: str, services: list[str], holds: list[Hold]) -> tuple[Held, ...]:
    """Return the holds of a policy. One whose services are not the policy's holds nothing."""
    found = []
    for hold in holds:
        both = common(services, hold.target.services)
        if both:
            given = hold.target.model_dump(exclude_none=True, exclude={"services"})
            found.append(Held(policy, hold.name, Target.model_validate({**given, "services": both})))
    return tuple(found)


@dataclass(slots=True)
class Holds:
    """All holds on one engine; changed while runs ask."""

    _by_policy: dict[str, tuple[Held, ...]] = field(default_factory=dict)

    def put(self, uid: str, holds: tuple[Held, ...]) -> None:
        """Take in the holds of a policy; none: it has no more."""
        if holds:
            self._by_policy[uid] = holds
        else:
            self._by_policy.pop(uid, None)

    def __bool__(self) -> bool:
        return bool(self._by_policy)

    def __iter__(self) -> Iterator[Held]:
        return (held for holds in self._by_policy.values() for held in holds)

    def frozen(self, now: datetime) -> list[FrozenTarget]:
        """Return everything that is held as of ``now``."""
        return [held.frozen(now) for held in self]

    def watcher(self, now: Callable[[], datetime]) -> Callable[[InvocationRow], str | None]:
        """Return what tells by whom a row is held now; None: by nobody. ``now`` is the engine's clock.

        The holds are those of the moment of asking; what relative times mean is found out anew when the holds change.
        """
        known: dict[str, tuple[Held, ...]] = {}
        matchers: list[tuple[str, Callable[[InvocationRow], bool]]] = []

        def holder(row: InvocationRow) -> str | None:
            nonlocal known, matchers
            if known != self._by_policy:
                known = dict(self._by_policy)
                matchers = [(held.label, matcher(held.frozen(now()), any_status=True)) for held in self]
            return next((label for label, matches in matchers if matches(row)), None)

        return holder
