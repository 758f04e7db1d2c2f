"""One run from its lock to its end: executes, keeps the hold, tells of progress, watches the engine, closes the books.

Shared by a fresh run and one that is taken over. The order at the end matters: the record first, then the object; a
crash in between is finished from the record.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from invocation_operator.api.v1alpha1.action import ActionSpec, ActionType, Result
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ClusterError
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.records import Hold, HoldLost, drop_set
from invocation_operator.engine.models import EngineIdentity as EngineSeen
from invocation_operator.observe import metrics
from invocation_operator.plan.asked import AskTimes
from invocation_operator.plan.guardrails import Reach
from invocation_operator.plan.holds import CLEARS
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation import operation_for
from invocation_operator.plan.operation.base import Operation, Timing
from invocation_operator.plan.operation.withheld import Withheld
from invocation_operator.plan.report import Findings
from invocation_operator.plan.rollout import Waves, waves_of
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile import narrate
from invocation_operator.reconcile.board import Bulletin
from invocation_operator.reconcile.ceilings import Ceilings
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.enginewatch import EngineWatch
from invocation_operator.reconcile.execute import Executor
from invocation_operator.reconcile.health import HealthLooker
from invocation_operator.reconcile.journal import Journal, kept_alive
from invocation_operator.reconcile.look import Looker
from invocation_operator.reconcile.reporting import Reporter
from invocation_operator.reconcile.run import Run
from invocation_operator.reconcile.runclock import Reading, RunClock
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.teller import Teller
from invocation_operator.target.sql import HOLD_COLUMNS, LOOK_COLUMNS
from invocation_operator.values.duration import parse_duration

log = structlog.get_logger(__name__)

LOST_MARGIN_SECONDS = 2.0
"""After the call timeout and this, a call whose answer was lost can no longer arrive at the engine."""
REPORT_AGAIN_SECONDS = 1.0


@dataclass(slots=True)
class Task:
    """What is to be carried out, fixed."""

    spec: ActionSpec
    resolved: Resolved
    hold: Hold
    targets: Sequence[Planned]
    engine_clock: Reading
    ledger: Ledger
    findings: Findings
    reach: Reach
    first_batch: int
    """How many of the targets, from the first, may have been asked by what the record itself says."""
    recovered: bool
    changed_at: datetime | None = None
    """The last change of any of the targets before they were planned, where that was read and is still known."""

    @property
    def named(self) -> list[Result]:
        """Results of ids that were named and not planned."""
        return self.hold.record.spec.plan.named or []

    @property
    def cluster_name(self) -> str:
        """Name of the cluster that the run was planned on."""
        return self.hold.record.spec.engine.cluster_name or ""

    @property
    def started(self) -> datetime:
        """When the run started, on the engine's clock."""
        return self.hold.record.spec.start_time


@dataclass(slots=True)
class Runner:
    """Carries out tasks."""

    client: KubeClient
    engines: Engines
    events: EventRecorder
    clock: Callable[[], float]
    shutting_down: Callable[[], bool]
    call_timeout: float
    leads: Callable[[], bool] = lambda: True
    """Whether this process may act at all; asked beside the hold of each run."""
    running: set[str] = field(default_factory=set)
    """Records of the runs that are carried out now."""

    async def run(self, cell: Cell, board: Bulletin, task: Task) -> None:
        """Carry out ``task`` and close its books. Raises ``HoldLost`` when somebody else has the run."""
        name = task.hold.record.name
        self.running.add(name)
        try:
            await self._run(cell, board, task)
        finally:
            self.running.discard(name)

    async def _run(self, cell: Cell, board: Bulletin, task: Task) -> None:
        run_clock = RunClock(task.started, task.engine_clock, self.clock)
        waves = _waves(task)
        asked = AskTimes((mark.below, run_clock.seconds(mark.time)) for mark in task.hold.record.status.asked or ())
        report = await self._reporter(board, task)
        journal = Journal(task.hold, task.ledger, task.findings, task.named, run_clock, waves, asked, report=report)
        journal.first_batch = task.first_batch
        deployments = frozenset(task.hold.record.spec.deployments or ())
        lost_after = self.call_timeout + LOST_MARGIN_SECONDS
        record = task.hold.record.spec
        ceilings = Ceilings(
            self.engines,
            task.resolved,
            task.spec,
            task.reach,
            record.source.namespace,
            approved=record.approval is not None,
        )
        control = self._control(cell, board, task, run_clock, ceilings)
        known = EngineSeen(task.cluster_name, None, deployments)
        watch = EngineWatch(self.engines, task.resolved, control, known, task.targets)
        operation: Operation = operation_for(task.spec, settle_lost_after=lost_after, latest=await _latest(task))
        holds, clears = task.resolved.station.holds, task.spec.action in CLEARS
        if clears:
            if task.recovered:
                # Its plan is of an earlier time; what is held now is left alone.
                await self.engines.know_holds()
            holder = holds.watcher(lambda: run_clock.engine_time(run_clock.now()))
            operation = Withheld(operation, holder, lambda: bool(holds))
        executor = Executor(
            run=Run(
                operation=operation,
                targets=task.targets,
                ledger=task.ledger,
                findings=task.findings,
                recovered=task.recovered,
                max_failures=_max_failures(task.spec, len(task.targets)),
                waves=waves,
                asked=asked,
                carried_seconds=Timing.of(task.spec, lost_after).carried,
            ),
            client=task.resolved.station.client,
            looker=Looker(
                task.resolved.station.client,
                scopes=task.resolved.probe.capabilities.scopes,
                columns=lambda: HOLD_COLUMNS if clears and holds else LOOK_COLUMNS,
                named=task.resolved.station.named,
                planned_change=task.changed_at,
            ),
            intent=journal,
            lane=task.resolved.station.budget.lane(),
            control=control,
            clock=run_clock,
            confirm_engine=watch.confirm,
            looks=_looks(task, watch),
            batches=task.resolved.station.batches,
            claims=task.resolved.station.budget.claims,
            connections=task.resolved.station.connections,
        )
        journal.before_write = executor.note_asked
        executor.looker.foresee(executor.upcoming, run_clock.now, executor.turn)
        teller = Teller(self.events, board, journal, task.resolved)
        begun = asyncio.create_task(teller.begin(task.spec.run_id, len(task.targets), recovered=task.recovered))
        helpers = [
            asyncio.create_task(self._renew(journal)),
            asyncio.create_task(teller.follow(cell, executor, control)),
            asyncio.create_task(watch.run()),
            asyncio.create_task(ceilings.learn()),
            asyncio.create_task(self._report(journal)),
        ]
        holds.clearing += clears
        try:
            stop = await self._execute(executor, task.hold)
            await asyncio.gather(begun, return_exceptions=True)
        finally:
            holds.clearing -= clears
            for helper in (*helpers, begun):
                helper.cancel()
            await asyncio.gather(*helpers, begun, return_exceptions=True)
        await self._close(teller, task, journal, stop, control.detail)

    async def _execute(self, executor: Executor, hold: Hold) -> Stop | None:
        """Carry it out; a loss is told at once, and not when the API server, which may be why, has taken a status."""
        try:
            stop = await executor.execute()
        except HoldLost:
            stop = Stop.HOLD_LOST
        if stop is Stop.HOLD_LOST:
            self._tell_loss(hold)
        return stop

    def _control(self, cell: Cell, board: Bulletin, task: Task, clock: RunClock, ceilings: Ceilings) -> Control:
        timeout = task.spec.timeout
        address = task.resolved.station.address
        return Control(
            cell=cell,
            uid=board.obj["metadata"]["uid"],
            knobs=board.knobs,
            engine_suspended=lambda: self.engines.suspended(address),
            engine_replaced=lambda: self.engines.replaced(task.resolved),
            not_allowed=ceilings.broken,
            holds=lambda: task.hold.certain and self.leads(),
            shutting_down=self.shutting_down,
            deadline=parse_duration(timeout).total_seconds() if timeout else None,
            now=clock.now,
        )

    async def _reporter(self, board: Bulletin, task: Task) -> Reporter | None:
        if task.spec.report is None:
            return None
        record = task.hold.record
        async with kept_alive(task.hold):
            report = await Reporter.begin(self.client, board.obj, record, task.targets)
        task.findings.sink = report.add
        return report

    async def _report(self, journal: Journal) -> None:
        """Write a page whenever there is enough for one; what is left at the end is written then."""
        report = journal.report
        if report is None:
            return
        while True:
            await report.due.wait()
            try:
                if report.needs_commit:
                    await journal.renew()
                await report.flush()
            except HoldLost:
                return
            except ClusterError as error:
                log.warning("could not write the report", record=journal.hold.record.name, error=str(error))
                await asyncio.sleep(REPORT_AGAIN_SECONDS)
                report.due.set()

    async def _renew(self, journal: Journal) -> None:
        while True:
            await journal.hold.turn()
            try:
                await journal.renew()
            except HoldLost:
                return
            except ClusterError as error:
                log.warning("could not renew the hold", record=journal.hold.record.name, error=str(error))

    async def _close(self, teller: Teller, task: Task, journal: Journal, stop: Stop | None, detail: str | None) -> None:
        if stop is Stop.HOLD_LOST:
            raise HoldLost(task.hold.record.name)
        if stop is Stop.SHUTDOWN:
            await journal.hand_over()
            log.info("run handed over", record=task.hold.record.name, **_numbers(journal))
            return
        if stop is not Stop.DELETED:
            await journal.report_all()
        counted = journal.progress()
        again = teller.bulletin.again
        turn = narrate.ended(counted, stop, len(task.targets), detail=detail, again=again, waves=journal.waves)
        at = journal.clock.engine_time(journal.clock.now())
        await journal.finish(turn.phase, turn.message, at)
        metrics.run_ended(task.spec.action, turn.phase, journal.clock.now(), counted)
        log.info(
            "run ended",
            record=task.hold.record.name,
            phase=turn.phase.value,
            reason=turn.reason,
            seconds=round(journal.clock.now(), 3),
            **_numbers(journal),
        )
        # Before its object is told, which nobody looks at again: after a crash in between, the set is dropped then.
        await drop_set(self.client, task.hold.record)
        if stop is not Stop.DELETED:
            if journal.report is not None:
                await journal.report.rest(task.ledger)
            await teller.end(turn, at)

    def _tell_loss(self, hold: Hold) -> None:
        """Why a run pauses and is taken over, perhaps by this very process: a slow API server is told from a process
        that does not get to work.
        """
        log.warning(
            "hold lost",
            record=hold.record.name,
            unrenewed_seconds=round(hold.unrenewed_seconds, 3),
            slowest_write_seconds=round(hold.slowest_seconds, 3),
            leads=self.leads(),
        )


async def _latest(task: Task) -> dict[str, str] | None:
    """Return what ``Latest`` means for each service now, so that it can be verified."""
    resume = task.spec.resume
    if resume is None or resume.deployment != "Latest":
        return None
    station = task.resolved.station
    return await station.ask(station.client.deployments_of_services)


def _waves(task: Task) -> Waves | None:
    """Return the waves of the run, where an earlier holder left them. Raises ``DamagedSet``."""
    waves, kept = waves_of(task.spec, len(task.targets)), task.hold.record.status.rollout
    if waves is not None and kept is not None:
        waves.restore(kept)
    return waves


def _looks(task: Task, watch: EngineWatch) -> HealthLooker:
    return HealthLooker(
        client=task.resolved.station.client,
        scopes=task.resolved.probe.capabilities.scopes,
        restarts=task.spec.action is ActionType.RESTART_AS_NEW,
        since=task.started,
        redact=task.resolved.spec.redact_keys,
        confirm_engine=watch.confirm,
    )


def _max_failures(spec: ActionSpec, total: int) -> int | None:
    limit = spec.limits.max_failures
    if limit is None:
        return None
    return total * int(limit[:-1]) // 100 if limit.endswith("%") else int(limit)


def _numbers(journal: Journal) -> dict[str, int]:
    counted = journal.progress().model_dump(exclude={"summary", "percent"})
    return {name: number for name, number in counted.items() if number}
