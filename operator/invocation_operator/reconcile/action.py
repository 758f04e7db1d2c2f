"""InvocationAction: from a manifest to a run that happens once, and to the status that tells of it.

The order of the steps is the guarantee. Nothing is asked of the engine before the record exists; the record is created
only from a plan that passed every check; whoever finds the record already there executes nothing, unless it takes over
an unfinished run of the very same object.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from invocation_operator.api.v1alpha1.action import ActionSpec, Mode, Phase, PlanStatus
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ClusterError, ObjectNotFound, TooLarge, UnreadableObject, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.records import HoldLost, Record, RecordStore, drop_set
from invocation_operator.cluster.resources import ACTIONS
from invocation_operator.conditions import Verdict
from invocation_operator.engine.errors import EngineError
from invocation_operator.observe import metrics
from invocation_operator.plan import identity
from invocation_operator.plan import refusal as r
from invocation_operator.plan.guardrails import check_specification
from invocation_operator.plan.holds import CLEARS
from invocation_operator.plan.refusal import Refusal
from invocation_operator.plan.targets import DamagedSet
from invocation_operator.reconcile import narrate, parse, reporting, threshold
from invocation_operator.reconcile.approval import Approvals
from invocation_operator.reconcile.authors import Authors
from invocation_operator.reconcile.board import Board
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Stop
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.lock import Lock, PlanLost, TooLate, recorded_spec
from invocation_operator.reconcile.narrate import Turn
from invocation_operator.reconcile.parse import Subject
from invocation_operator.reconcile.planning import Planning, check_target, make_plan
from invocation_operator.reconcile.runner import Runner
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.station import Located, Resolved
from invocation_operator.reconcile.takeover import Leases, engine_again
from invocation_operator.reconcile.turns import Turns
from invocation_operator.reconcile.waiting import LONGEST_SECONDS, Waiting, unreachable
from invocation_operator.reconcile.workbench import Done, Outcome, Retry

log = structlog.get_logger(__name__)

RESTORED_LABEL = "velero.io/restore-name"
LOOK_AGAIN_SECONDS = 2.0


@dataclass(slots=True)
class ActionReconciler:
    """Reconciles InvocationActions."""

    client: KubeClient
    engines: Engines
    records: RecordStore
    lock: Lock
    runner: Runner
    events: EventRecorder
    gate: SchemaGate
    leases: Leases
    approvals: Approvals
    authors: Authors
    turns: Turns

    async def reconcile(self, cell: Cell) -> Outcome:
        """Do what is left to do for the object in ``cell``."""
        if cell.obj is None or parse.settled(cell.obj):
            return Done()
        subject = parse.read(cell.obj)
        if subject.spec is not None:
            structlog.contextvars.bind_contextvars(action=subject.spec.action.value, run=subject.spec.run_id)
        board = Board(self.client, cell, cell.obj, subject.status)
        try:
            if _ended(subject):
                return await self._acknowledge(board, subject)
            try:
                return await self._advance(cell, board, subject)
            except Waiting as waiting:
                return await self._wait(board, subject, waiting)
            except UnreadableObject as error:
                message = f"{error}; upgrade this operator. Nothing is executed."
                return await self._wait(board, subject, Waiting("RecordVersionUnknown", message, stalled=True))
            except TooLarge as error:
                return await self._refuse(board, subject, Refusal(r.INVALID_SPEC, f"it is too large: {error}"))
        except HoldLost:
            return Retry(LOOK_AGAIN_SECONDS)
        except (ObjectNotFound, WriteConflict):
            # Gone, or its name is another one's: if the watch missed that, it is seen now.
            await self._see(cell, subject)
            return Retry(LOOK_AGAIN_SECONDS)

    async def _see(self, cell: Cell, subject: Subject) -> Subject | None:
        """Read the object again; None when it is gone or another one. The cell says what is there then: a successor of
        which the watch has told already must not be forgotten.
        """
        try:
            obj = await self.client.get(ACTIONS, subject.namespace, subject.name)
        except ObjectNotFound:
            obj = None
        known = cell.obj
        mine = known is not None and known["metadata"]["uid"] == subject.uid
        if obj is not None and obj["metadata"]["uid"] != subject.uid:
            if known is None or mine:
                cell.put(obj)
            return None
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            if mine:
                cell.put(None)
            return None
        cell.keep(obj)
        return parse.read(obj)

    async def _advance(self, cell: Cell, board: Board, subject: Subject) -> Outcome:
        """What was begun comes first, whatever the object says by now."""
        begun = await self._begun(subject)
        if begun is None and parse.terminal(subject):
            # A dry run. Where it was to be carried out for a moment it may have been begun, and its operator gone.
            begun = await self.lock.begun_of(subject.source, subject.run_id, subject.spec)
            if begun is None:
                return await self._acknowledge(board, subject)
        if begun is not None:
            return await self._meet(cell, board, subject, begun)
        spec = subject.spec
        refused = subject.refusal or (spec and self._refusal(subject, spec))
        if spec is None or refused is not None:
            return await self._refuse(board, subject, refused or Refusal(r.INVALID_SPEC, "it cannot be read."))
        if narrate.of_this_run(subject.status, subject.run_id).approval is not None:
            # What was approved is carried out as approved, whatever mode and approvedPlan say by now.
            spec = spec.model_copy(update={"mode": Mode.APPROVE})
        await self.gate.check()
        try:
            located = await self.engines.locate(spec.engine_ref, subject.namespace)
        except Waiting:
            # Its record's name cannot be told then; what was begun before its status could tell is met all the same.
            if record := await self.lock.begun_of(subject.source, subject.run_id, spec):
                return await self._meet(cell, board, subject, record)
            raise
        name = self._record_name(subject, spec, located)
        record = await self.records.find(name)
        if record is None and spec.engine_ref is None:
            record = await self.lock.begun_of(subject.source, subject.run_id, spec)
        if record is not None:
            return await self._meet(cell, board, subject, record)
        if newer := self.records.newer(subject.source, subject.run_id):
            raise _made_by_newer(newer)
        if spec.suspend and spec.mode is not Mode.DRY_RUN:
            return await self._hold_up(board, subject, "Suspended", "waiting until spec.suspend is false.")
        refused = check_specification(spec, [located.spec.guardrails], located.namespace_labels or {})
        if refused is not None:
            return await self._refuse(board, subject, refused)
        resolved = await self.engines.connect(located)
        if switches := self.engines.switches(resolved.station.address):
            message = f"the kill switch (spec.suspend) of RestateEngine {', '.join(switches)} is on; waiting for it."
            return await self._hold_up(board, subject, "EngineSuspended", message)
        try:
            return await self._start(cell, board, subject, spec, resolved, name)
        except EngineError as error:
            self.engines.doubt(resolved.station)
            raise unreachable(resolved.station.address, error, redact=resolved.spec.redact_keys) from error

    async def _begun(self, subject: Subject) -> Record | None:
        """Return the record of the run that status says is under way."""
        status = narrate.of_this_run(subject.status, subject.run_id)
        return await self.records.find(status.record) if status.record is not None else None

    async def _begun_by_now(self, subject: Subject) -> bool:
        """Whether another operator was faster: its run may have ended since, and what it ran on be gone.

        A record that status names and that is not there was taken back: its run had asked nothing and starts over.
        """
        return parse.terminal(subject) or await self._begun(subject) is not None

    def _refusal(self, subject: Subject, spec: ActionSpec) -> Refusal | None:
        labels = subject.obj["metadata"].get("labels") or {}
        if RESTORED_LABEL in labels:
            return Refusal(
                r.RESTORED_FROM_BACKUP,
                f"this object was restored from a backup (label {RESTORED_LABEL}) and is not executed. If it is meant, "
                "remove the label.",
            )
        return check_target(spec)

    def _record_name(self, subject: Subject, spec: ActionSpec, located: Located) -> str:
        return identity.record_name(
            spec, engine=located.full_name, namespace=subject.namespace, name=subject.name, uid=subject.uid
        )

    # A run of its own.

    async def _start(
        self, cell: Cell, board: Board, subject: Subject, spec: ActionSpec, resolved: Resolved, name: str
    ) -> Outcome:
        now, seen = await threshold.cross(self.engines, resolved, clears=spec.action in CLEARS)
        refused = check_specification(spec, resolved.guardrails, resolved.namespace_labels)
        if refused is not None:
            return await self._refuse(board, subject, refused)
        if spec.not_after is not None and now >= spec.not_after:
            return await self._expire(board, subject, spec.not_after)
        if spec.mode is Mode.APPROVE:
            # Whether it is approved is decided on the object as it is now.
            current = await self._see(cell, subject)
            if current is None or current.generation != subject.generation or await self._begun_by_now(current):
                return Retry(0.0)
            subject, board = current, Board(self.client, cell, current.obj, current.status)
        planning = await self._planning(board, subject, spec, resolved, now)
        if isinstance(planning, Refusal):
            return await self._refuse(board, subject, planning)
        if isinstance(planning, Retry):
            return planning
        if spec.mode is Mode.DRY_RUN:
            await self.lock.keep_preview(subject, planning.plan)
            return await self._planned(board, subject, resolved, planning.plan.status(), now)
        current = await self._see(cell, subject)
        if current is None or current.generation != subject.generation:
            # Deleted, suspended or changed while the plan was made.
            return Retry(0.0)
        status = narrate.of_this_run(current.status, current.run_id)
        # Who asked for what was approved was written down with the approval.
        asker = self.authors.requester(current.obj) if status.approval is None else status.requested_by
        try:
            task = await self.lock.acquire(
                current.source, spec, resolved, planning, name, seen, status.approval, requested_by=asker
            )
        except TooLate as late:
            board = Board(self.client, cell, current.obj, current.status)
            return await self._expire(board, current, late.not_after)
        if task is None:
            # Somebody else was faster: it is their run, or it was ours before.
            return Retry(0.0)
        log.info("run starts", record=name, engine=resolved.name, planned=planning.plan.total)
        self.turns.begun(cell.key)
        await self.runner.run(cell, board, task)
        if self._was_planned(current, spec):
            await self.lock.drop_preview(current)
        return Done()

    async def _planning(
        self, board: Board, subject: Subject, spec: ActionSpec, resolved: Resolved, now: datetime
    ) -> Planning | Refusal | Retry:
        if spec.mode is Mode.APPROVE:
            return await self.approvals.judge(board, subject, spec, resolved, now)
        was_planned = self._was_planned(subject, spec)
        if was_planned and subject.status.engine not in (None, resolved.identity):
            message = "another RestateEngine or another cluster answers now than when the plan was shown."
            return Refusal(r.ENGINE_CHANGED, message)
        shown = await self.lock.previewed(subject, spec) if was_planned else None
        if isinstance(shown, PlanLost):
            return Refusal(r.PLAN_LOST, shown.message)
        return await make_plan(spec, resolved, now, only=shown)

    @staticmethod
    def _was_planned(subject: Subject, spec: ActionSpec) -> bool:
        """Whether a person saw a plan of this very run: then nothing else may be acted upon."""
        status = subject.status
        seen = status.plan is not None and status.record is None and status.run_id == spec.run_id
        return seen and spec.mode is not Mode.DRY_RUN

    # A record that is there already.

    async def _meet(self, cell: Cell, board: Board, subject: Subject, record: Record) -> Outcome:
        """The watch may be behind: what is decided here is decided on the object as it is now."""
        current = await self._see(cell, subject)
        if current is None:
            return Done()
        board = Board(self.client, cell, current.obj, current.status)
        if _ended(current) or current.run_id != subject.run_id:
            return Done() if parse.settled(current.obj) else Retry(0.0)
        try:
            return await self._resume_or_tell(cell, board, current, record)
        except Waiting as waiting:
            return await self._wait(board, current, waiting, begun=True)

    async def _resume_or_tell(self, cell: Cell, board: Board, subject: Subject, record: Record) -> Outcome:
        if record.spec.hash_version > identity.HASH_VERSION:
            raise _made_by_newer(record.name)
        mine = record.spec.source.uid == subject.uid
        if record.finished and mine and subject.status.record == record.name:
            return await self._finish_from(board, subject, record)
        if record.finished or not mine:
            return await self._already_executed(board, subject, record)
        wait = self.leases.wait_seconds(record)
        if wait > 0:
            return Retry(min(wait, LOOK_AGAIN_SECONDS))
        return await self._take_over(cell, board, subject, record)

    async def _take_over(self, cell: Cell, board: Board, subject: Subject, record: Record) -> Outcome:
        """Go on with what the record says, on the engine that it names."""
        await self.gate.check()
        resolved = await engine_again(self.engines, record, subject.namespace)
        if resolved is None:
            return await self._abandon(board, subject, record, narrate.STOPS[Stop.ENGINE_CHANGED])
        try:
            task = await self.lock.take_over(record, recorded_spec(record), resolved)
            if task is None:
                return Retry(0.1)
            log.info("run taken over", record=record.name, engine=resolved.name, planned=len(task.targets))
            self.turns.begun(cell.key)
            await self.runner.run(cell, board, task)
            with suppress(ClusterError):
                await self.lock.drop_preview(subject)
        except (DamagedSet, ValidationError) as error:
            return await self._abandon(board, subject, record, str(error)[:256])
        except EngineError as error:
            self.engines.doubt(resolved.station)
            raise unreachable(resolved.station.address, error, redact=resolved.spec.redact_keys) from error
        return Done()

    async def _abandon(self, board: Board, subject: Subject, record: Record, why: str) -> Outcome:
        status = narrate.of_this_run(subject.status, subject.run_id)
        if status.record != record.name:
            # As at a run's beginning: of one that ends without it, status would tell as of another object's.
            await board.decide(status.model_copy(update={"record": record.name}), subject.obj)
            return Retry(0.0)
        closed = await self.records.close(record, narrate.abandoned(why))
        return Retry(0.1) if closed is None else await self._finish_from(board, subject, closed)

    # What status says.

    async def _acknowledge(self, board: Board, subject: Subject) -> Outcome:
        """A change that does not concern a finished run: only the generation is told."""
        conditions = [
            c.model_copy(update={"observed_generation": subject.generation}) for c in subject.status.conditions or ()
        ]
        update = {"observed_generation": subject.generation, "conditions": conditions or None}
        # Another operator may have begun the next run by now, and ended it.
        await board.decide(subject.status.model_copy(update=update), subject.obj)
        return Done()

    async def _refuse(self, board: Board, subject: Subject, refusal: Refusal) -> Outcome:
        turn = narrate.refused(refusal)
        return await self._conclude(board, subject, turn, plan=None, progress=None, results=None)

    async def _expire(self, board: Board, subject: Subject, not_after: datetime) -> Outcome:
        created = datetime.fromisoformat(subject.obj["metadata"]["creationTimestamp"])
        return await self._conclude(board, subject, narrate.expired(not_after, created))

    async def _already_executed(self, board: Board, subject: Subject, record: Record) -> Outcome:
        turn = narrate.already_executed(record)
        return await self._conclude(board, subject, turn, record=record.name, engine=record.spec.engine)

    async def _planned(
        self, board: Board, subject: Subject, resolved: Resolved, plan: PlanStatus, now: datetime
    ) -> Outcome:
        turn = narrate.planned(plan.total)
        fields = {"engine": resolved.identity, "plan": plan, "start_time": now, "progress": None, "results": None}
        asker = self.authors.requester(subject.obj)
        return await self._conclude(board, subject, turn, requested_by=asker, **fields)

    async def _finish_from(self, board: Board, subject: Subject, record: Record) -> Outcome:
        """The operator went away between the record's end and the object's: the record knows how it ended."""
        await drop_set(self.client, record)
        status = record.status
        turn = narrate.recorded(record)
        return await self._conclude(
            board,
            subject,
            turn,
            record=record.name,
            engine=record.spec.engine,
            plan=record.spec.plan.summary,
            approval=record.spec.approval,
            requested_by=record.spec.requested_by,
            start_time=record.spec.start_time,
            progress=status.progress,
            rollout=status.rollout,
            results=status.results,
            skipped_reasons=status.skipped_reasons,
            report=await reporting.recorded(self.client, subject.obj, record),
            completion_time=status.completion_time,
        )

    async def _conclude(self, board: Board, subject: Subject, turn: Turn, **fields: object) -> Outcome:
        """Write the end, decided on the object as it was read: where two operators work, the other one may have begun
        and ended this run meanwhile, or the next one.
        """
        now = datetime.now(UTC)
        ended = {"completion_time": now, **fields}
        known = narrate.of_this_run(board.status, subject.run_id)
        status = narrate.apply(known, turn, generation=subject.generation, now=now, **ended)
        await board.decide(status, subject.obj)
        self.events.tell(board.obj, turn.reason, turn.message, "Warning" if turn.stalled else "Normal")
        metrics.run_concluded(subject.action, turn.phase)
        log.info("concluded", phase=turn.phase.value, reason=turn.reason, message=turn.message)
        shown, stands = subject.status.plan, status.plan if turn.phase is Phase.PLANNED else None
        if shown is None or subject.status.record not in (None, status.record):
            return Done()
        if stands is None or stands.hash != shown.hash:
            # Nobody carries it out any more. Whatever is left of it goes with the object.
            with suppress(ClusterError):
                await self.lock.drop_preview(subject)
        return Done()

    async def _hold_up(self, board: Board, subject: Subject, reason: str, message: str) -> Outcome:
        seconds = LOOK_AGAIN_SECONDS if reason == "EngineSuspended" else 60.0
        return await self._wait(board, subject, Waiting(reason, message, retry_seconds=seconds), Phase.SUSPENDED)

    async def _wait(
        self,
        board: Board,
        subject: Subject,
        waiting: Waiting,
        waiting_in: Phase = Phase.PENDING,
        *,
        begun: bool = False,
    ) -> Outcome:
        seconds, most = waiting.retry_seconds, LONGEST_SECONDS
        not_after = subject.spec.not_after if subject.spec else None
        begun = begun or narrate.of_this_run(subject.status, subject.run_id).record is not None
        if not_after is not None and not begun:
            left = (not_after - datetime.now(UTC)).total_seconds()
            if left <= 0:
                return await self._expire(board, subject, not_after)
            most = min(most, left)
        stays = waiting_in is Phase.PENDING and subject.status.phase in _UNDER_WAY
        phase = subject.status.phase if stays and subject.status.phase else waiting_in
        verdict = Verdict.STALLED if waiting.reason in _NEEDS_A_PERSON else None
        await self._pending(board, subject, Turn(phase, waiting.reason, waiting.message, verdict))
        return Retry(seconds, most)

    async def _pending(self, board: Board, subject: Subject, turn: Turn) -> None:
        before = next((c for c in board.status.conditions or () if c.type == "Ready"), None)
        known = narrate.of_this_run(board.status, subject.run_id)
        status = narrate.apply(known, turn, generation=subject.generation, now=datetime.now(UTC))
        # What happened meanwhile must not be undone: an approval that was taken up, another operator's whole run.
        await board.decide(status, subject.obj)
        if before is None or before.reason != turn.reason:
            self.events.tell(board.obj, turn.reason, turn.message, "Warning")
            log.info("waiting", reason=turn.reason, message=turn.message)


def _ended(subject: Subject) -> bool:
    """Whether a run has ended, by what its object tells; a dry run is none."""
    return parse.terminal(subject) and subject.status.phase is not Phase.PLANNED


def _made_by_newer(record: str) -> Waiting:
    message = f"the record {record} was made by a newer operator; upgrade this one. Nothing is executed."
    return Waiting("RecordVersionUnknown", message, stalled=True)


_NEEDS_A_PERSON = frozenset({"RecordVersionUnknown"})
"""Waits that do not heal by themselves. A wait for an engine may, whatever is wrong with it: its own status tells."""

_UNDER_WAY = (Phase.AWAITING_APPROVAL, Phase.RUNNING, Phase.VERIFYING)
