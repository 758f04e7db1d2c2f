"""Holds on one engine: what no Purge and no PurgeJournal touches, asked when a set is planned and before each call.

Pure: the time comes with each question. A hold never holds less than it says: one that cannot be read for an engine (it
has no scopes) is not passed over, whoever would purge is refused; of one that this operator cannot read, the filters
are left out, which holds more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from invocation_operator.api.v1alpha1.action import ActionType
from invocation_operator.api.v1alpha1.hold import Hold, HoldStatus
from invocation_operator.api.v1alpha1.target import InvocationStatus, Target
from invocation_operator.target.freeze import FrozenTarget, freeze
from invocation_operator.target.predicate import matcher
from invocation_operator.target.row import InvocationRow

CLEARS = frozenset({ActionType.PURGE, ActionType.PURGE_JOURNAL})
"""Actions that holds concern."""
_COMPLETED = frozenset({InvocationStatus.COMPLETED})


_AGAIN = timedelta(seconds=1)
"""How long relative times of holds are relied on while a run goes on."""
NOT_COUNTED = "in force; not counted yet."


@dataclass(frozen=True, slots=True)
class Held:
    """One hold, with the services that it is about."""

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


def held_by(policy: str, services: Sequence[str], holds: Sequence[Hold]) -> tuple[Held, ...]:
    """Return the holds of a policy, each as it says: on the services and ids that it names, whether they are the
    policy's or not. Where it names neither, the policy's services are meant.
    """
    return tuple(Held(policy, hold.name, _target(hold, services)) for hold in holds)


def _target(hold: Hold, services: Sequence[str]) -> Target:
    given = hold.target.model_dump(exclude_none=True)
    branches: list[dict[str, Any]] = given.get("any_of") or []
    if given.get("services") or given.get("ids"):
        return Target.model_validate(given)
    if any(branch.get("services") for branch in branches):
        return Target.model_validate(given | {"any_of": [{"services": services, **branch} for branch in branches]})
    return Target.model_validate(given | {"services": services})


def held_unread(policy: str, spec: Mapping[str, Any]) -> tuple[Held, ...]:
    """Return the holds of a specification that cannot be read as a whole: what is not understood of one is left out of
    it, so that it holds more and not less.
    """
    holds, services = spec.get("holds"), spec.get("services")
    return tuple(_unread(policy, raw, services, number) for number, raw in enumerate(_list(holds)))


def _unread(policy: str, raw: Any, services: Any, number: int) -> Held:
    given = raw if isinstance(raw, Mapping) else {}
    target = given.get("target")
    own = target.get("services") if isinstance(target, Mapping) else None
    name = str(given.get("name", number))[:40]
    with suppress(ValidationError):
        return Held(policy, name, _target(Hold.model_validate(raw), _list(services)))
    with suppress(ValidationError):
        return Held(policy, name, Target.model_validate({"services": own if own is not None else services}))
    return Held(policy, name, Target(all=True))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def shown(holds: Sequence[Hold] | None, known: Sequence[HoldStatus] | None) -> list[HoldStatus]:
    """Return what status says of holds that are in force: what was counted of them, or that nothing was yet."""
    counted = {entry.name: entry for entry in known or ()}
    return [counted.get(hold.name) or HoldStatus(name=hold.name, message=NOT_COUNTED) for hold in holds or ()]


@dataclass(slots=True)
class Holds:
    """All holds on one engine; changed while runs ask."""

    clearing: int = 0
    """Runs that purge on this engine now: what they have looked at may be asked for yet when a hold comes."""
    _by_policy: dict[str, tuple[Held, ...]] = field(default_factory=dict)
    _changes: int = 0

    def put(self, uid: str, holds: tuple[Held, ...]) -> None:
        """Take in the holds of a policy; none: it has no more."""
        self._changes += self._by_policy.get(uid, ()) != holds
        if holds:
            self._by_policy[uid] = holds
        else:
            self._by_policy.pop(uid, None)

    def __bool__(self) -> bool:
        return bool(self._by_policy)

    def __iter__(self) -> Iterator[Held]:
        # As they are now: whoever walks through them may wait in between, and another hold come.
        return (held for holds in list(self._by_policy.values()) for held in holds)

    def frozen(self, now: datetime) -> list[FrozenTarget]:
        """Return everything that is held as of ``now``."""
        return [held.frozen(now) for held in self]

    def watcher(self, now: Callable[[], datetime]) -> Callable[[InvocationRow], str | None]:
        """Return what tells by whom a row is held now; None: by nobody. ``now`` is the engine's clock.

        The holds are those of the moment of asking, and so are their relative times, to the second.
        """
        known, since = -1, datetime.min.replace(tzinfo=UTC)
        matchers: list[tuple[str, Callable[[InvocationRow], bool]]] = []

        def holder(row: InvocationRow) -> str | None:
            nonlocal known, since, matchers
            if not self:
                return None
            moment = now()
            if known != self._changes or moment - since >= _AGAIN:
                known, since = self._changes, moment
                matchers = [(held.label, matcher(held.frozen(moment), any_status=True)) for held in self]
            return next((label for label, matches in matchers if matches(row)), None)

        return holder
