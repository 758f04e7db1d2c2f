"""What people are told while a run goes on: its object's status, and an Event for each transition.

Called by the runner at a run's beginning, beside it, and at its end. Status is written when something changed, soon at
first and less often in a long run; what a person did to the run (suspend, the kill switch) shows at once.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from invocation_operator.cluster.errors import ClusterError, ObjectNotFound, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.reconcile import narrate
from invocation_operator.reconcile.board import Bulletin
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.execute import Executor
from invocation_operator.reconcile.journal import Journal
from invocation_operator.reconcile.narrate import Turn
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting, unreachable

PROGRESS_SECONDS = 1.0
PROGRESS_LIMIT_SECONDS = 5.0
REST_SECONDS = 1.0
"""Before it is told that a run is held up, what was sent is answered, unless that takes longer: whoever reads it relies
on nothing being asked any more."""

_GOING_ON = frozenset({"Running", "Verifying"})
"""Reasons between which nothing happens that an Event is worth."""


@dataclass(slots=True)
class Teller:
    """Tells of one run."""

    events: EventRecorder
    bulletin: Bulletin
    journal: Journal
    resolved: Resolved

    async def begin(self, run_id: str | None, planned: int, *, recovered: bool) -> None:
        """Say that it runs. Done before the record is closed, so that a status that was lost is told from this."""
        journal, record = self.journal, self.journal.hold.record
        turn = narrate.running(journal.progress(), verifying=False, stop=None, outage=None, waves=journal.waves)
        status = narrate.apply(
            self.bulletin.status,
            turn,
            generation=self.bulletin.generation,
            now=datetime.now(UTC),
            run_id=run_id,
            record=record.name,
            start_time=record.spec.start_time,
            completion_time=None,
            engine=self.resolved.identity,
            plan=record.spec.plan.summary,
            approval=record.spec.approval,
            progress=journal.progress(),
            rollout=journal.rollout(),
            results=None,
            skipped_reasons=None,
            report=journal.report_status(),
            requested_by=record.spec.requested_by,
        )
        with contextlib.suppress(ObjectNotFound, WriteConflict):
            await self.bulletin.write(status, insist=True)
        self._event("TakenOver" if recovered else "Started", narrate.started(planned, recovered=recovered))

    async def follow(self, cell: Cell, executor: Executor, control: Control) -> None:
        """Tell of progress until cancelled.

        Nothing of an object that is gone, nor once somebody else may hold the run: the status is theirs, and may tell
        its end already.
        """
        pause, stop, reason = PROGRESS_SECONDS, control.stop(), "Running"
        told: tuple[object, ...] = ()
        while True:
            await _pause(cell, pause, control, stop)
            pause = min(pause * 1.25, PROGRESS_LIMIT_SECONDS)
            stop = control.stop()
            if stop is not None and executor.dispatcher.tasks:
                await asyncio.wait(executor.dispatcher.tasks, timeout=REST_SECONDS)
            turn = narrate.running(
                self.journal.progress(),
                verifying=executor.all_asked,
                stop=stop,
                outage=self._outage(executor),
                waves=self.journal.waves,
                detail=control.detail,
            )
            if stop in (Stop.HOLD_LOST, Stop.DELETED) or told == (turn.phase, turn.message):
                continue
            told = (turn.phase, turn.message)
            with contextlib.suppress(ClusterError):
                await self._write(turn)
            if turn.reason != reason and not {turn.reason, reason} <= _GOING_ON:
                self._event(turn.reason, turn.message)
            reason = turn.reason

    async def end(self, turn: Turn, at: datetime) -> None:
        """Say how it ended, for as long as the API server is away."""
        with contextlib.suppress(ObjectNotFound, WriteConflict):
            await self._write(turn, completion_time=at, insist=True)
        if self.journal.report is not None and self.journal.report.problem:
            self._event("ReportIncomplete", self.journal.report.problem, "Warning")
        self._event(turn.reason, turn.message, "Normal" if turn.ready else "Warning")

    async def _write(self, turn: Turn, *, completion_time: datetime | None = None, insist: bool = False) -> None:
        journal = self.journal
        status = narrate.apply(
            self.bulletin.status,
            turn,
            generation=self.bulletin.generation,
            now=datetime.now(UTC),
            completion_time=completion_time,
            progress=journal.progress(),
            rollout=journal.rollout(),
            results=journal.findings.results() or None,
            skipped_reasons=journal.findings.skipped_reasons() or None,
            report=journal.report_status(),
        )
        await self.bulletin.write(status, insist=insist)

    def _event(self, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal") -> None:
        self.events.tell(self.bulletin.obj, reason, f"{self.bulletin.title}{message}", kind)

    def _outage(self, executor: Executor) -> Waiting | None:
        """Return what people are told of an engine that cannot be asked now: the same as before a run."""
        error = executor.outage.error
        if error is None:
            return None
        return unreachable(self.resolved.station.address, error, redact=self.resolved.spec.redact_keys)


async def _pause(cell: Cell, seconds: float, control: Control, stop: Stop | None) -> None:
    """Wait for ``seconds``, or until what holds the run up is not ``stop`` any more."""
    with contextlib.suppress(TimeoutError), cell.bell() as bell:
        async with asyncio.timeout(seconds):
            while control.stop() is stop:
                bell.clear()
                await bell.wait(None)
