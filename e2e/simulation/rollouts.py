"""Runs in waves: no wave begins before the one before it was carried out, left alone for its soak, and found well.

Part of the observer. Where waves end, how long a soak lasts and who is well is worked out here anew, from the manifest
and from what the engine knows: the operator's own arithmetic is what is looked at.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2e.simulation.applied import seconds_of
from e2e.simulation.engine import Invocation
from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.values.times import milliseconds

if TYPE_CHECKING:
    from e2e.simulation.history import World
    from e2e.simulation.runs import Call, Run

EPSILON_SECONDS = 0.05
"""The engine's clock has milliseconds, and an answer that tells its time is some under way."""
LEFT_ALONE = (Outcome.SKIPPED, Outcome.ALREADY_DONE)
"""Nothing is asked of these: a wave that has no others passes without a call."""


@dataclass
class _Progress:
    """How far a run is in its waves, as the calls show it."""

    wave: int = 0
    last: float = float("-inf")
    """When something was last asked, or arrived."""
    soaks: dict[int, Any] = field(default_factory=dict)
    """What the record has said by wave of the end of its soak."""


class Rollouts:
    """Watches the waves of one history."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._runs: dict[str, _Progress] = {}
        self._asked: dict[tuple[str, str], str] = {}
        """Record that an invocation was asked for, by the object and the invocation."""

    def _terms_of(self, run: "Run") -> Mapping[str, Any] | None:
        terms: Mapping[str, Any] | None = self._world.scenario.applied[run.of].spec.get("rollout")
        return terms

    def leaves(self, call: "Call", run: "Run") -> Iterator[str]:
        """A call on an invocation of ``run`` leaves."""
        terms = self._terms_of(run)
        if terms is None:
            return
        now, ends = self._world.loop.time(), ends_of(terms["waves"], len(run.planned))
        wave = next(number for number, end in enumerate(ends) if run.index[call.id] < end)
        seen = self._runs.setdefault(run.uid, _Progress())
        if wave < seen.wave:
            yield f"wave {wave + 1} is asked after wave {seen.wave + 1} has begun"
        elif wave > seen.wave:
            yield from self._may_begin(run, ends, wave, now - seen.last, terms)
            seen.wave = wave
        seen.last = now
        self._asked[run.of, call.id] = run.uid

    def arrives(self, call: "Call") -> None:
        """It is there, perhaps much later."""
        uid = self._asked.get((call.of or "", call.id))
        if uid is not None:
            seen = self._runs[uid]
            seen.last = max(seen.last, self._world.loop.time())

    def _may_begin(
        self, run: "Run", ends: list[int], wave: int, quiet: float, terms: Mapping[str, Any]
    ) -> Iterator[str]:
        before = ends[wave - 1]
        ledger, soak = run.ledger, seconds_of(terms["soak"])
        begun = ends[self._runs[run.uid].wave]
        if ledger is not None and any(ledger.outcome(n) not in LEFT_ALONE for n in range(begun, before)):
            yield f"wave {wave + 1} begins, and wave {wave} has not been"
        if ledger is None or any(ledger.outcome(number) is None for number in range(before)):
            yield f"wave {wave + 1} begins, and not all of the {before} before it have an outcome in the record"
            return
        if quiet < soak - EPSILON_SECONDS:
            yield f"wave {wave + 1} begins {quiet:.3f} s after the last call of wave {wave}, its soak is {soak} s"
        since = self._world.loop.time() - quiet + soak
        ill = [one.id for one in self._acted_upon(run, before) if self._ill_since(one, since)]
        looked_at = sum(ledger.outcome(number) is Outcome.EFFECTIVE for number in range(before)) + ledger.bad
        if exceeds(len(ill) + ledger.bad, looked_at, terms.get("maxUnhealthy", 0)):
            yield f"wave {wave + 1} begins although {ill} of wave {wave} are not well, and {ledger.bad} failed"

    def _acted_upon(self, run: "Run", most: int) -> Iterator[Invocation]:
        """What is to be well: the invocations themselves, or what was restarted from them."""
        engine, ledger = self._world.engine, run.ledger
        assert ledger is not None
        for number, planned in enumerate(run.planned[:most]):
            if ledger.outcome(number) is not Outcome.EFFECTIVE:
                continue
            if run.record.spec.action.value == "RestartAsNew":
                yield from (one for one in engine.living.values() if one.restarted_from == planned.id)
            else:
                one = engine.living.get(planned.id)
                if one is not None and round(one.created * 1000) == milliseconds(planned.created_at):
                    yield one

    @staticmethod
    def _ill_since(one: Invocation, at: float) -> bool:
        """Whether it has not been well from that moment until now."""
        return ill(one) and bool(one.left) and one.left[-1][0] <= at

    def stored(self, before: "Run | None", run: "Run") -> Iterator[str]:
        """The record says something new: a run never goes back, and no soak begins anew."""
        status = run.record.status.rollout
        if self._terms_of(run) is None or status is None:
            return
        seen = self._runs.setdefault(run.uid, _Progress())
        told = seen.soaks.setdefault(status.wave, status.soak_until)
        if told is None:
            seen.soaks[status.wave] = status.soak_until
        elif told != status.soak_until:
            yield f"the soak of wave {status.wave} was to end at {told}, now at {status.soak_until}"
        earlier = before.record.status.rollout if before is not None and before.uid == run.uid else None
        if earlier is not None and status.wave < earlier.wave:
            yield f"wave {status.wave} after wave {earlier.wave}"
        if status.unhealthy > self._ever_ill(run):
            yield f"{status.unhealthy} are told to be unhealthy, {self._ever_ill(run)} ever were"

    def _ever_ill(self, run: "Run") -> int:
        ids = {planned.id for planned in run.planned}
        restarts = run.record.spec.action.value == "RestartAsNew"
        mine = [one for one in self._world.engine.history if (one.restarted_from if restarts else one.id) in ids]
        bad = run.ledger.bad if run.ledger is not None else 0
        return bad + sum(ill(one) or any(status in _ILL for _, status in one.left) for one in mine)


_ILL = ("paused", "backing-off")


def ill(one: Invocation) -> bool:
    """Whether an invocation that was acted upon is in no good state now."""
    return one.status in _ILL or (one.status == "completed" and one.result == "failure")


def ends_of(waves: list[int | str], total: int) -> list[int]:
    """How many were acted upon when each wave ends; shares are rounded up, the last one is all."""
    reached = 0
    found = []
    for wave in [*waves, total]:
        share = isinstance(wave, str)
        end = (int(str(wave).rstrip("%")) * total + 99) // 100 if share else int(wave)
        if (end := min(end, total)) > reached:
            found.append(end)
            reached = end
    return found


def exceeds(count: int, of: int, most: int | str) -> bool:
    """Whether so many are more than is allowed."""
    return count * 100 > int(most.rstrip("%")) * of if isinstance(most, str) else count > most
