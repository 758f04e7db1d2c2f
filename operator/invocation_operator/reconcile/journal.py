"""Where a run keeps what it knows: the record's status, written ahead of every batch.

Between the executor, which calls ``commit``, and ``cluster.records``, which holds the lock.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import stamina

from invocation_operator.api.v1alpha1.action import ActionProgress, Phase, Result, RolloutStatus
from invocation_operator.api.v1alpha1.record import AskMark, RecordStatus
from invocation_operator.api.v1alpha1.report import ReportStatus
from invocation_operator.cluster.errors import ClusterError, ClusterUnavailable
from invocation_operator.cluster.records import Hold, HoldLost
from invocation_operator.plan.asked import AskTimes
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.report import Findings, progress
from invocation_operator.plan.rollout import Waves
from invocation_operator.reconcile.reporting import Reporter
from invocation_operator.reconcile.runclock import RunClock


@asynccontextmanager
async def kept_alive(hold: Hold) -> AsyncIterator[None]:
    """Renew ``hold`` during a block that may take long, before anything is asked."""

    async def renew() -> None:
        while True:
            await hold.turn()
            try:
                await hold.commit(lambda: hold.record.status)
            except HoldLost:
                # Whoever asks next is told.
                return
            except ClusterError:
                continue

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass(slots=True)
class Journal:
    """One run's memory. ``named`` are results of ids that were named and not planned."""

    hold: Hold
    ledger: Ledger
    findings: Findings
    named: list[Result]
    clock: RunClock
    waves: Waves | None = None
    asked: AskTimes = field(default_factory=AskTimes)
    before_write: Callable[[], None] = lambda: None
    """Brings ``asked`` up to date; set by who has things in flight."""
    report: Reporter | None = None
    first_batch: int = 0
    """How many targets, from the first, the record names as perhaps asked. A ledger that is written takes its place."""

    def covers(self, last: int) -> bool:
        """Whether it is kept already that the first ``last`` targets may have been asked."""
        return last <= self.first_batch

    def progress(self) -> ActionProgress:
        """Return the counts as they are now."""
        return progress(self.ledger, self.named)

    def rollout(self) -> RolloutStatus | None:
        """Return where a run in waves stands."""
        return None if self.waves is None else self.waves.status()

    def report_status(self) -> ReportStatus | None:
        """Return where the full outcome is, as far as it is written."""
        return None if self.report is None else self.report.status()

    async def commit(self) -> None:
        """Keep ledger and results before returning, however long the API server is away. Raises ``HoldLost``."""
        await self._insist(Phase.RUNNING, None, None)
        if self.report is not None:
            await self.report.room()

    async def renew(self) -> None:
        """Show that the holder is alive, and keep what is settled meanwhile."""
        await self._keep(Phase.RUNNING, None, None)

    async def finish(self, phase: Phase, message: str, at: datetime) -> None:
        """Write the end of the run and let it go. Raises ``HoldLost``."""
        await self._insist(phase, message, at, release=True)

    async def hand_over(self) -> None:
        """Let an unfinished run go, for the next operator to take up at once. Raises ``HoldLost``."""
        await self._keep(Phase.RUNNING, None, None, release=True)

    async def report_all(self) -> None:
        """Have everything that is settled in the report, however long the API server is away. Raises ``HoldLost``."""
        if self.report is None or not self.report.backlog:
            return
        await self._insist(Phase.RUNNING, None, None)
        retries = stamina.retry_context(on=ClusterUnavailable, attempts=None, timeout=None, wait_max=5.0)
        async for attempt in retries:
            with attempt:
                if not self.hold.certain:
                    raise HoldLost(self.hold.record.name)
                await self.report.flush(everything=True)

    async def _insist(self, phase: Phase, message: str | None, at: datetime | None, *, release: bool = False) -> None:
        retries = stamina.retry_context(on=ClusterUnavailable, attempts=None, timeout=None, wait_max=5.0)
        async for attempt in retries:
            with attempt:
                await self._keep(phase, message, at, release=release)

    async def _keep(self, phase: Phase, message: str | None, at: datetime | None, *, release: bool = False) -> None:
        held = 0

        def compose() -> RecordStatus:
            nonlocal held
            held = self.report.added if self.report is not None else 0
            return self._status(phase, message, at)

        await self.hold.commit(compose, release=release)
        if self.report is not None:
            self.report.keep(held)

    def _status(self, phase: Phase, message: str | None, at: datetime | None) -> RecordStatus:
        # Read from now on instead of what the record says: a renewal before the first call holds no intent.
        self.first_batch = 0
        self.before_write()
        marks = [AskMark(below=below, time=self.clock.engine_time(seconds)) for below, seconds in self.asked.marks]
        return RecordStatus(
            asked=marks or None if at is None else None,
            phase=phase,
            ledger=self.ledger.encode(),
            intent_time=self.clock.engine_time(self.clock.now()),
            progress=self.progress(),
            rollout=self.rollout(),
            results=self.findings.results() or None,
            skipped_reasons=self.findings.skipped_reasons() or None,
            report=self.report.state() if self.report is not None else None,
            message=message[:1024] if message else None,
            completion_time=at,
        )
