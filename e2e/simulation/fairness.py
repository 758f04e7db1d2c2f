"""Several runs on one engine: each gets its turns, however large the others are and however many.

Part of the observer, for histories in which nothing goes wrong (`Scenario.calm`): only then there is nothing but the
others that a run may wait for. Bounds are wide where requests are slow now and then, and narrow enough for one that
starves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2e.simulation.runs import Call, Run
from e2e.simulation.standing import IN_FLIGHT, PER_SECOND, Limits, Standings

if TYPE_CHECKING:
    from e2e.simulation.history import World

MARGIN_SECONDS = 6.0
"""What a look, a write to the record and a call may take when some of their packets are slow."""
LANDING_SECONDS = 1.0
"""How long one invocation may be in flight. Of what another object pauses it may be until nobody waits any more."""
ROUNDS = 2
"""So many rounds of all runs may pass before the next call of one of them."""
SHARE = 0.4
"""So much of its even share a run gets at least, where nothing but the rate is scarce."""
SCARCE_PER_SECOND = 2.0
"""Where each run could have more than this per second, other things than the rate decide."""


@dataclass
class _Waits:
    """One run that has something left to ask."""

    able_at: float
    """When it became so, or could go on after a stop."""
    since: float
    """When it last made a step; infinite while it is stopped."""
    done_before: int = 0
    """How many had been asked, or left alone, by then."""
    asked: set[str] = field(default_factory=set)

    def done(self, run: Run) -> int:
        """How many have been asked by now, or left alone."""
        return sum(id_ in self.asked or run.settled(id_) for id_ in run.index)


class Fairness:
    """Watches the turns of the runs of one history."""

    def __init__(self, world: "World", standings: Standings, runs: Mapping[str, Run]) -> None:
        self._world = world
        self._standings = standings
        self._runs = runs
        self._waits: dict[str, _Waits] = {}
        """By object: those that have something left to ask."""
        self._over: set[str] = set()

    def leaves(self, call: Call) -> Iterator[str]:
        """A call leaves."""
        waits = self._waits.get(call.of or "")
        if waits is not None:
            waits.asked.add(call.id)
            yield from self._step(call.of or "", waits)

    def stored(self, before: Run | None, run: Run) -> Iterator[str]:
        """A record was written."""
        if not self._world.scenario.calm or run.of in self._over:
            return
        now = self._world.loop.time()
        waits = self._waits.setdefault(run.of, _Waits(now, now))
        if run.record.finished or self._settled(run) > self._settled(before):
            yield from self._step(run.of, waits)

    def stops_or_goes_on(self) -> None:
        """People have suspended something, or let it go on: waiting begins anew."""
        for of, waits in self._waits.items():
            if self._standings.of[of].stopped_since is not None:
                waits.since = float("inf")
            elif waits.since == float("inf"):
                run = self._run(of)
                waits.able_at = waits.since = self._world.loop.time()
                waits.done_before = 0 if run is None else waits.done(run)

    def final(self) -> Iterator[str]:
        """Nobody may wait still."""
        for of, waits in list(self._waits.items()):
            yield from self._step(of, waits)

    def _run(self, of: str) -> Run | None:
        return next((run for run in self._runs.values() if run.of == of), None)

    @staticmethod
    def _settled(run: Run | None) -> int:
        return 0 if run is None or run.ledger is None else run.ledger.settled

    def _step(self, of: str, waits: _Waits) -> Iterator[str]:
        """It got on, after having waited."""
        now, run = self._world.loop.time(), self._run(of)
        waited, waits.since = now - waits.since, max(now, waits.since)
        if waited > (most := self._longest(of)):
            yield f"{of} has waited for {waited:.1f} s, of {len(self._standings.of)} runs; at most {most:.1f} s"
        if run is None or waits.done(run) == len(run.index):
            if run is not None:
                yield from self._share(of, waits.done(run) - waits.done_before, now - waits.able_at)
            self._over.add(of)
            del self._waits[of]

    def _rate(self, limits: Limits) -> float:
        """The least that it was; without an own limit nothing keeps it."""
        return limits.least(PER_SECOND) or float("inf")

    def _longest(self, of: str) -> float:
        count, limits = len(self._standings.of), self._standings
        own = limits.of[of].limits
        rate, own_rate = self._rate(limits.engine), self._rate(own)
        at_once = limits.engine.least(IN_FLIGHT) or float("inf")
        own_at_once = own.least(IN_FLIGHT) or float("inf")
        landing = max(self._landing(one) for one in self._world.scenario.applied)
        others = count / rate + count * landing / at_once
        return MARGIN_SECONDS + ROUNDS * (others + 1 / own_rate + self._landing(of) / own_at_once)

    def _landing(self, of: str) -> float:
        one, paused = self._world.scenario.applied[of], set[str]()
        for other in self._world.scenario.applied.values():
            if other is not one and other.action == "Pause":
                paused.update(other.services)
        return LANDING_SECONDS if paused.isdisjoint(one.services) else one.verification_seconds()

    def _share(self, of: str, done: int, seconds: float) -> Iterator[str]:
        count, limits = len(self._standings.of), self._standings
        even = self._rate(limits.engine) / count
        own = limits.of[of].limits
        scarce = even <= min(SCARCE_PER_SECOND, self._rate(own))
        for some in (limits.engine, own):
            scarce = scarce and (some.least(IN_FLIGHT) or float("inf")) >= 2 * count
        least = SHARE * even * (seconds - MARGIN_SECONDS)
        if scarce and done < least:
            yield f"{of} asked {done} in {seconds:.1f} s beside {count - 1} others; its share is {least:.1f} at least"
