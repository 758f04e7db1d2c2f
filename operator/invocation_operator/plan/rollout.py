"""Waves: how far a run may go, and whether it goes on after what it did was looked at.

The executor's feeder asks how far (``end``), and tells when a wave was acted upon and what became of it; nothing here
has a clock. Invariants: every planned invocation is in exactly one wave; no wave begins before the one before it was
looked at and found well; where a run stands survives a crash (``status`` and ``restore``), so that a look is never
skipped and a soak never begins again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome, Result, RolloutStatus
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.plan.targets import DamagedSet
from invocation_operator.target.row import InvocationRow
from invocation_operator.values.duration import parse_duration
from invocation_operator.values.text import cut
from invocation_operator.values.times import after

SAMPLE = 5
"""Unhealthy invocations that status shows."""
TOLD = 3
"""Those that the message names; the record's has 1024 characters."""


@dataclass(slots=True)
class Health:
    """What one look has found."""

    healthy: int = 0
    unhealthy: int = 0
    sample: list[Result] = field(default_factory=list)

    def add(self, ailment: Result | None) -> None:
        """Count one that is well (None), or what ails it."""
        if ailment is None:
            self.healthy += 1
            return
        self.unhealthy += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(ailment)


@dataclass(slots=True)
class Waves:
    """The waves of one run, and where it stands in them."""

    ends: Sequence[int]
    """How many of the planned invocations, from the first, have been acted upon when each wave ends."""
    soak: timedelta
    max_unhealthy: int | str
    wave: int = 0
    """The wave under way, from 0."""
    began: datetime | None = None
    """When the last look let it begin, on the engine's clock; None: with the run."""
    soak_until: datetime | None = None
    """When it is looked at, on the engine's clock; None while it is being acted upon."""
    over: bool = False
    """Whether the last wave was looked at and is well."""
    health: Health = field(default_factory=Health)
    """What the last look has found."""

    @property
    def end(self) -> int:
        """How many of the planned invocations, from the first, may be acted upon by now."""
        return self.ends[self.wave]

    def acted_upon(self, now: datetime) -> bool:
        """All of this wave have an outcome: its soak begins, unless it has begun before. Whether it begins."""
        if self.soak_until is not None:
            return False
        self.soak_until = after(now, self.soak)
        return True

    def looked_at(self, found: Health, now: datetime) -> bool:
        """Judge this wave at ``now``. True when it is well: then the next one may begin, or the run is over."""
        self.health = found
        if exceeds(found, self.max_unhealthy):
            return False
        if self.wave + 1 == len(self.ends):
            self.over = True
        else:
            self.wave += 1
            self.began, self.soak_until = now, None
        return True

    def status(self) -> RolloutStatus:
        """Return where the run stands, for people and for whoever takes it over."""
        return RolloutStatus(
            wave=self.wave + 1,
            waves=len(self.ends),
            wave_start_time=self.began,
            soak_until=self.soak_until,
            healthy=self.health.healthy,
            unhealthy=self.health.unhealthy,
            sample=self.health.sample or None,
        )

    def restore(self, kept: RolloutStatus) -> None:
        """Take in where an earlier holder of the run stood. Raises ``DamagedSet``."""
        if kept.waves != len(self.ends) or not 1 <= kept.wave <= kept.waves:
            raise DamagedSet("where the run stood in its waves does not fit its plan")
        self.wave = kept.wave - 1
        self.began, self.soak_until = kept.wave_start_time, kept.soak_until
        self.health = Health(kept.healthy, kept.unhealthy, list(kept.sample or ()))

    def standing(self) -> str:
        """Return where the run stands, as a sentence for people."""
        place = f"Wave {self.wave + 1} of {len(self.ends)}"
        if self.soak_until is None:
            return f"{place}, up to {self.end} of {self.ends[-1]}."
        return f"{place} is done; looking at it at {self.soak_until:%H:%M:%S} UTC."

    def verdict(self) -> str:
        """Return why the run is stopped, as the beginning of a sentence for people."""
        found = self.health
        named = ", ".join(_told(one) for one in found.sample[:TOLD])
        return (
            f"after wave {self.wave + 1} of {len(self.ends)}, {found.unhealthy} of {found.unhealthy + found.healthy} "
            f"invocations are not healthy, more than spec.rollout.maxUnhealthy ({self.max_unhealthy}) allows"
            f"{f' ({named})' if named else ''}"
        )


def waves_of(spec: ActionSpec, total: int) -> Waves | None:
    """Return the waves in which ``total`` planned invocations are acted upon; None: all at once.

    Raises ``DurationError``.
    """
    if spec.rollout is None or not total:
        return None
    ends = wave_ends(spec.rollout.waves, total)
    return Waves(ends, parse_duration(spec.rollout.soak), spec.rollout.max_unhealthy)


def wave_ends(waves: Sequence[int | str], total: int) -> list[int]:
    """Return how many of ``total`` have been acted upon when each wave ends: strictly growing, the last is all.

    Shares are rounded up. A wave that reaches no further than one before it adds nothing and is left out.
    """
    ends: list[int] = []
    for wave in (*waves, total):
        end = -(-total * int(wave[:-1]) // 100) if isinstance(wave, str) else min(wave, total)
        if end > (ends[-1] if ends else 0):
            ends.append(end)
    return ends


def exceeds(found: Health, most: int | str) -> bool:
    """Whether more are unhealthy than ``most`` allows: a number, or a share of those that were looked at."""
    if isinstance(most, int):
        return found.unhealthy > most
    return found.unhealthy * 100 > int(most[:-1]) * (found.healthy + found.unhealthy)


def ailment(row: InvocationRow) -> str | None:
    """Return what is wrong with an invocation that was resumed, or made by a restart, some time ago; None: it is well.

    That it was resumed was seen when the operation was verified, so whatever it is in now it came to afterwards.
    """
    if row.status in (InvocationStatus.PAUSED, InvocationStatus.BACKING_OFF):
        return row.status.value
    if row.status is InvocationStatus.COMPLETED and row.outcome not in (None, CompletionOutcome.SUCCEEDED):
        return row.outcome.value
    return None


def first_end(spec: ActionSpec, total: int) -> int:
    """Return how many of ``total`` may be acted upon before anything is looked at."""
    waves = waves_of(spec, total)
    return total if waves is None else waves.end


def _told(one: Result) -> str:
    what = one.reason or Outcome(one.outcome).value
    return f"{one.id} {cut(one.target or '', 48, 96)}: {what}{f', {cut(one.error, 80, 120)}' if one.error else ''}"
