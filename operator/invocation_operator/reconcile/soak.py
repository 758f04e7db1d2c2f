"""Between two waves: wait out the soak, look at what became of the wave, and let the run go on or stop it.

Part of the executor, whose feeder waits here. That a soak has begun is kept before it is waited for, so that after a
crash the rest of it is waited for and no more. A stop that is final ends the feeder, and this with it; one that passes
(suspend) is waited out, and the time that passes meanwhile counts.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.engine import errors
from invocation_operator.plan.rollout import Health, Waves
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.budget import Lane
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.outage import Outage
from invocation_operator.reconcile.run import Intent, Run
from invocation_operator.reconcile.runclock import RunClock

log = structlog.get_logger(__name__)

LOOKED_AT = 100_000
"""Invocations that one look reads; of more it takes an even sample."""
TICK_SECONDS = 0.25
"""How often a wait looks whether it is over, or goes on after a suspend."""


class Looks(Protocol):
    """Tells how invocations are that were acted upon."""

    async def look(self, planned: Iterable[Planned]) -> Health:
        """Return how ``planned`` are. Raises the engine client's errors."""


@dataclass(slots=True)
class Soak:
    """The pauses between the waves of one run."""

    run: Run
    waves: Waves
    looks: Looks
    intent: Intent
    lane: Lane
    control: Control
    clock: RunClock
    outage: Outage

    async def after_wave(self) -> None:
        """Everything of the wave has an outcome: soak, look, and set ``waves`` further, or the stop."""
        # Whoever takes this over has a clock of their own, which may be ahead of this one.
        if self.waves.acted_upon(self.clock.engine_time(self.clock.at_most())):
            await self.intent.commit()
        self.lane.rest()
        found = await self._found()
        wave, well = self.waves.wave + 1, self.waves.looked_at(found, self._engine_now())
        log.info("wave looked at", wave=wave, well=well, healthy=found.healthy, unhealthy=found.unhealthy)
        if not well:
            self.control.final = self.control.final or Stop.UNHEALTHY

    async def _found(self) -> Health:
        while True:
            await self._until_due()
            try:
                found = await self.looks.look(self._acted_upon())
            except errors.EngineError as error:
                self.outage.failed(error, self.clock.now())
                continue
            # A look asks by calls too, whether the engine has read its log.
            self.outage.called()
            if self.control.stop() is None:
                # What could not be acted upon is no sign that the rest can.
                found.unhealthy += self.run.ledger.bad
                return found

    def _engine_now(self) -> datetime:
        return self.clock.engine_time(self.clock.now())

    def _acted_upon(self) -> Iterable[Planned]:
        return (self.run.targets[index] for index in self.run.ledger.having(Outcome.EFFECTIVE, LOOKED_AT))

    async def _until_due(self) -> None:
        assert self.waves.soak_until is not None
        soaked = self.clock.seconds(self.waves.soak_until)
        while True:
            now, due = self.clock.now(), max(soaked, self.outage.until)
            if now >= due and self.control.stop() is None:
                return
            await asyncio.sleep(min(TICK_SECONDS, max(due - now, 0.01)))
