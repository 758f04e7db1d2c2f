"""What people ask for, as the API server has it: of each object whether it is stopped, and which limits held when.

Part of the observer.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e.simulation import sweeping

if TYPE_CHECKING:
    from e2e.simulation.history import World

IN_FLIGHT, PER_SECOND = "maxInFlight", "operationsPerSecond"
ENGINE_LIMITS = {IN_FLIGHT: 500, PER_SECOND: 1000}
"""Those of a RestateEngine that names none."""


class Limits:
    """Two limits over time."""

    def __init__(self) -> None:
        self._were: list[tuple[float, dict[str, int]]] = []

    def put(self, now: float, limits: dict[str, int]) -> None:
        """They are these from now on."""
        if not self._were or self._were[-1][1] != limits:
            self._were.append((now, limits))

    def most(self, name: str, since: float) -> int | None:
        """The greatest that one of them was since then; None: it was none."""
        found: int | None = None
        for at, limits in reversed(self._were):
            if name not in limits:
                return None
            found = max(found or 0, limits[name])
            if at <= since:
                break
        return found

    def least(self, name: str) -> int | None:
        """The least that one of them ever was; None: it was none all the time."""
        return min((limits[name] for _, limits in self._were if name in limits), default=None)


@dataclass
class Standing:
    """One object."""

    suspended: bool = False
    deleted: bool = False
    stopped_since: float | None = None
    """None: it goes on."""
    first_known: str | None = None
    """Since when a policy's schedule was followed when that was told for the first time."""
    added_at: float = float("inf")
    limits: Limits = field(default_factory=Limits)


class Standings:
    """Every object that is applied, and the engine."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.of = {name: Standing() for name in world.scenario.applied}
        self.engine = Limits()
        self._switched = False

    def stored(self, event: str, obj: dict[str, Any]) -> None:
        """Something that was applied is as it is now."""
        now, spec = self._world.loop.time(), obj["spec"]
        one = self.of[obj["metadata"]["name"]]
        one.deleted = event == "DELETED" or "deletionTimestamp" in obj["metadata"]
        if event == "ADDED":
            one.first_known, one.added_at = None, now
        one.first_known = one.first_known or sweeping.known_since(obj)
        one.suspended = bool(spec.get("suspend"))
        limits = (spec.get("sweeps") or [spec])[0].get("limits") or {}
        one.limits.put(now, {name: limits[name] for name in (IN_FLIGHT, PER_SECOND) if limits.get(name)})
        self._stops()

    def engine_stored(self, _: str, obj: dict[str, Any]) -> None:
        """The RestateEngine is as it is now."""
        self._switched = bool(obj["spec"].get("suspend"))
        self.engine.put(self._world.loop.time(), {**ENGINE_LIMITS, **(obj["spec"].get("limits") or {})})
        self._stops()

    def _stops(self) -> None:
        for one in self.of.values():
            if not (one.suspended or self._switched or one.deleted):
                one.stopped_since = None
            elif one.stopped_since is None:
                one.stopped_since = self._world.loop.time()
