"""Sweeps of RetentionPolicies: at each tick, and when they are asked for, a run like that of an InvocationAction.

One task for each policy beside the one that keeps its values in force, so that a sweep of an hour delays neither that
nor another policy; the sweeps of one policy go one after the other. A tick happens once, by the name of its
InvocationRecord, whatever crashes and whoever else runs; of all that were missed the last is caught up.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog
from pydantic import ValidationError

from invocation_operator.api.v1alpha1.action import ActionSpec, Phase
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND
from invocation_operator.api.v1alpha1.sweep import SweepRun, SweepStatus
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ObjectNotFound, TooLarge, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.records import HoldLost, Record, RecordStore, drop_set
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.engine.errors import EngineError, reading
from invocation_operator.observe import metrics
from invocation_operator.observe import retention as retention_metrics
from invocation_operator.plan import identity
from invocation_operator.plan import refusal as r
from invocation_operator.plan import sweeps as plan
from invocation_operator.plan.existing import COLUMNS, outlived
from invocation_operator.plan.guardrails import check_operations
from invocation_operator.plan.operations import caused_operations
from invocation_operator.plan.refusal import Refusal
from invocation_operator.plan.retention import requested_values
from invocation_operator.plan.sweeps import Occasion
from invocation_operator.plan.targets import DamagedSet
from invocation_operator.reconcile import narrate, threshold
from invocation_operator.reconcile.authors import Authors
from invocation_operator.reconcile.board import AGAIN
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Stop
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.lock import Lock, recorded_spec
from invocation_operator.reconcile.parse import source_of
from invocation_operator.reconcile.planning import Planning, check_target, make_plan
from invocation_operator.reconcile.policies import Policies, parse_spec
from invocation_operator.reconcile.release import in_force
from invocation_operator.reconcile.runner import Runner
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.sweepboard import SweepBoard, SweepEntries, read_status
from invocation_operator.reconcile.sweepscene import Scene, recorded
from invocation_operator.reconcile.takeover import Leases, engine_again
from invocation_operator.reconcile.waiting import Waiting, unreachable
from invocation_operator.reconcile.workbench import Done, Outcome, Retry
from invocation_operator.target.sql import Also, journal_bytes
from invocation_operator.values.schedule import wait_seconds
from invocation_operator.values.text import cut

log = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 2.0
OWN = frozenset({"QuotaExceeded", "NotKept"})
"""Reasons to wait of one sweep, which may not be those of the others: theirs is another set."""
BYTES_SECONDS = 20.0
"""How long counting the bytes of journals may take; without an answer they are not told."""


@dataclass(slots=True)
class SweepReconciler:
    """Runs the sweeps of RetentionPolicies."""

    client: KubeClient
    engines: Engines
    policies: Policies
    records: RecordStore
    lock: Lock
    runner: Runner
    events: EventRecorder
    gate: SchemaGate
    leases: Leases
    authors: Authors
    now: Callable[[], datetime]
    ended: Callable[[], None]
    """Told when a run has ended, or waits: the policy's conditions speak of it."""
    _searched: WeakValueDictionary[str, Cell] = field(default_factory=WeakValueDictionary)
    """Policies whose unfinished runs were looked for in this life of the process, and of which none was found since."""
    _told: WeakKeyDictionary[Cell, dict[str, str]] = field(default_factory=WeakKeyDictionary)
    """For what the sweeps of a policy wait, as was told."""

    def recall(self, record: Record) -> None:
        """Look for unfinished runs of the policy of ``record`` once more: nobody carries out this one.

        Without an election another operator may begin a run while this one finds nothing to do for the same tick, tells
        so, and never asks for that tick again.
        """
        cell = self._searched.pop(record.spec.source.uid, None)
        if cell is not None:
            cell.ring()

    async def reconcile(self, cell: Cell) -> Outcome:
        """Do what is due for the policy in ``cell``."""
        obj = cell.obj
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return Done()
        spec = parse_spec(obj)
        if spec is None:
            return Done()
        entries, source = SweepEntries(self.client, cell, obj), source_of(RETENTION_KIND.kind, obj)
        scene = Scene(cell, spec, entries, source, obj["metadata"]["generation"])
        try:
            return await self._advance(scene)
        except HoldLost:
            return Retry(LOOK_AGAIN_SECONDS)
        except (ObjectNotFound, WriteConflict):
            return Retry(LOOK_AGAIN_SECONDS)

    async def _advance(self, scene: Scene) -> Outcome:
        """What was begun comes first, then what was asked for, then what is due."""
        now = self.now()
        await self._synchronise(scene, now)
        left = await self._unfinished(scene)
        if left is not None:
            return left
        sweeps = plan.sweeps_of(scene.spec)
        if scene.spec.suspend:
            self._told.pop(scene.cell, None)
            return Retry(wait_seconds((), now)) if sweeps else Done()
        entries, request = scene.entries.read(), scene.request
        if any(sweep.name not in entries for sweep in sweeps):
            # Another operator, which knows another version of the policy, has written meanwhile.
            return Retry(0.1)
        status = read_status(scene.obj)
        # Of this very specification: another one may release more than was told.
        released = status.would_release is not None and status.observed_generation == scene.generation
        waiting: dict[str, float] = {}
        while True:
            occasion = plan.next_occasion(scene.spec, entries, request, now, released=released, besides=waiting)
            if occasion is None:
                break
            attempted = await self._attempt(scene, occasion)
            if not isinstance(attempted, Waiting):
                return attempted
            waiting[occasion.sweep.name] = attempted.retry_seconds
            if attempted.reason not in OWN:
                break
        await self._wait_no_more(scene, waiting)
        if waiting:
            return Retry(min(waiting.values()))
        if request is not None:
            await scene.entries.change(lambda _: {"last_handled_request": request.request})
        times = [entry.next_schedule_time for entry in scene.entries.read().values()]
        return Retry(wait_seconds(times, now)) if sweeps else Done()

    async def _synchronise(self, scene: Scene, now: datetime) -> None:
        sweeps, suspended = plan.sweeps_of(scene.spec), scene.spec.suspend

        def change(entries: dict[str, SweepStatus]) -> None:
            made = plan.synchronised(sweeps, entries, now, suspended=suspended)
            entries.clear()
            entries.update({entry.name: entry for entry in made})

        before = scene.entries.read().keys()
        await scene.entries.change(change)
        for name in before - {sweep.name for sweep in sweeps}:
            retention_metrics.forget_sweep(scene.source.namespace, scene.source.name, name)
        for entry in scene.entries.read().values():
            retention_metrics.next_sweep(
                scene.source.namespace, scene.source.name, entry.name, entry.next_schedule_time
            )

    # A run.

    async def _attempt(self, scene: Scene, occasion: Occasion) -> Outcome | Waiting:
        try:
            return await self._run(scene, occasion)
        except Waiting as waiting:
            await self._note(scene, occasion, waiting)
            return waiting
        except TooLarge as error:
            return await self._refuse(scene, occasion, Refusal(r.INVALID_SPEC, f"it is too large: {error}"))

    async def _run(self, scene: Scene, occasion: Occasion) -> Outcome:
        await self.gate.check()
        action = plan.specification(scene.spec, f"{scene.source.namespace}/{scene.source.name}", occasion)
        if isinstance(action, Refusal):
            return await self._refuse(scene, occasion, action)
        refused = check_target(action)
        if refused is not None:
            return await self._refuse(scene, occasion, refused)
        located = await self.engines.locate(scene.spec.engine_ref, scene.source.namespace)
        name = identity.sweep_record_name(
            engine=located.full_name,
            namespace=scene.source.namespace,
            name=scene.source.name,
            sweep=occasion.sweep.name,
            once=occasion.once,
        )
        record = await self.records.find(name)
        if record is None and scene.spec.engine_ref is None:
            # Another engine may have been the default when it was done, and status have lost that.
            record = await self.lock.begun_of(scene.source, action.run_id, action)
        if record is not None:
            return await self._meet(scene, occasion, record)
        resolved = await self.engines.connect(located)
        threshold.require_switched_on(self.engines, resolved.station.address)
        refused = check_operations(
            caused_operations(action), scene.spec.reason, resolved.guardrails, resolved.namespace_labels
        )
        if refused is not None:
            return await self._refuse(scene, occasion, refused)
        try:
            return await self._start(scene, occasion, action, resolved, name)
        except EngineError as error:
            self.engines.doubt(resolved.station)
            raise unreachable(resolved.station.address, error, redact=resolved.spec.redact_keys) from error

    async def _start(
        self, scene: Scene, occasion: Occasion, action: ActionSpec, resolved: Resolved, name: str
    ) -> Outcome:
        now, seen = await threshold.cross(self.engines, resolved, clears=True)
        also = await self._outlived(scene, occasion, resolved, now) if occasion.sweep.name in plan.EXISTING else None
        planning = await make_plan(action, resolved, now, keep_last=occasion.sweep.keep_last, also=also)
        if isinstance(planning, Refusal):
            return await self._refuse(scene, occasion, planning)
        if not planning.plan.total:
            # Nothing to lock, and an hourly sweep of nothing would leave thousands of records.
            run = SweepRun(phase=Phase.SUCCEEDED, start_time=now, message="no invocation matched; nothing was touched.")
            return await self._conclude(scene, occasion, run, told=occasion.sweep.name not in plan.EXISTING)
        size = await self._bytes(resolved, planning)
        if not await self._unchanged(scene):
            return Retry(0.0)
        board = SweepBoard(scene.entries, occasion, size)
        asker = self.authors.requester(scene.obj)
        task = await self.lock.acquire(scene.source, action, resolved, planning, name, seen, requested_by=asker)
        if task is None:
            # Somebody else was faster: it is their run.
            return Retry(LOOK_AGAIN_SECONDS)
        log.info("sweep starts", record=name, engine=resolved.name, sweep=occasion.sweep.name)
        await self.runner.run(scene.cell, board, task)
        return self._over(scene, occasion, name)

    async def _outlived(self, scene: Scene, occasion: Occasion, resolved: Resolved, now: datetime) -> Also:
        """Return the condition for what exists and has outlived the policy's values."""
        ask = resolved.station.ask
        found = await ask(lambda: in_force(self.policies, scene.cell.key, scene.spec, resolved))
        conditions = outlived(found, requested_values(scene.spec), now)
        results = occasion.sweep.name == plan.EXISTING_RESULTS
        return Also(conditions.completions if results else conditions.journals, COLUMNS)

    async def _bytes(self, resolved: Resolved, planning: Planning) -> int | None:
        """Count the bytes of the journals that are planned; it is nice to know and stops nothing."""
        try:
            rows = await resolved.station.client.rows(journal_bytes(planning.statement), timeout=BYTES_SECONDS)
            with reading("bytes"):
                return int(rows[0].get("bytes", 0))
        except EngineError as error:
            log.info("the bytes of journals were not counted", error=error.message)
            return None

    async def _unchanged(self, scene: Scene) -> bool:
        """Whether the policy is there and says what was planned: it may have changed since, and the watch be behind."""
        read = await self.client.get(RETENTION_POLICIES, scene.source.namespace, scene.source.name)
        scene.cell.keep(read)
        metadata = read["metadata"]
        if "deletionTimestamp" in metadata:
            return False
        return bool(metadata["uid"] == scene.source.uid and metadata["generation"] == scene.generation)

    def _over(self, scene: Scene, occasion: Occasion, record: str) -> Outcome:
        entry = scene.entries.read().get(occasion.sweep.name)
        # One that was handed over, or whose policy is gone, has not been told: an earlier run stands first then.
        if entry is not None and entry.history and entry.history[0].record == record:
            retention_metrics.swept(scene.source.namespace, scene.source.name, entry.name, entry.history[0])
        self.ended()
        return Retry(0.0)

    # A record that is there already.

    async def _unfinished(self, scene: Scene) -> Outcome | None:
        """Go on with a run that a crash or a shutdown cut short; None when there is none."""
        uid = scene.source.uid
        active = any(entry.active is not None for entry in scene.entries.read().values())
        if uid in self._searched and not active:
            return None
        for record in await self.lock.unfinished(scene.source):
            wait = self.leases.wait_seconds(record)
            if wait > 0:
                return Retry(min(wait, LOOK_AGAIN_SECONDS))
            return await self._take_over(scene, record)
        self._searched[uid] = scene.cell
        if active:
            await self._settle_active(scene)
        return None

    async def _settle_active(self, scene: Scene) -> None:
        """Runs that status calls active have ended by their records: the record knows how."""
        for entry in list(scene.entries.read().values()):
            record = await self.records.find(entry.active) if entry.active is not None else None
            occasion = scene.occasion_of(record) if record is not None else None
            if record is not None and record.finished and occasion is not None:
                await drop_set(self.client, record)
                await self._conclude(scene, occasion, recorded(occasion, record))
            elif entry.active is not None:
                name = entry.name

                def gone(entries: dict[str, SweepStatus], name: str = name) -> None:
                    if name in entries:
                        entries[name] = plan.undone(entries[name])

                await scene.entries.change(gone)

    async def _meet(self, scene: Scene, occasion: Occasion, record: Record) -> Outcome:
        """The occasion has been seen to, or is being."""
        mine = record.spec.source.uid == scene.source.uid
        if mine and not record.finished:
            self._searched.pop(scene.source.uid, None)
            return Retry(LOOK_AGAIN_SECONDS)
        if mine:
            return await self._conclude(scene, occasion, recorded(occasion, record), told=False)
        turn = narrate.already_executed(record)
        message = turn.message.replace(AGAIN, "").strip()
        run = SweepRun(phase=turn.phase, record=record.name, message=cut(message, 512))
        return await self._conclude(scene, occasion, run)

    async def _take_over(self, scene: Scene, record: Record) -> Outcome:
        """Go on with what the record says, on the engine that it names."""
        occasion = scene.occasion_of(record)
        if occasion is None:
            await self.records.close(record, narrate.abandoned("the sweep is not in the policy any more"))
            return Retry(0.0)
        try:
            await self.gate.check()
            resolved = await engine_again(self.engines, record, scene.source.namespace)
            if resolved is None:
                return await self._abandon(scene, occasion, record, narrate.STOPS[Stop.ENGINE_CHANGED])
            task = await self.lock.take_over(record, recorded_spec(record), resolved)
            if task is None:
                return Retry(0.1)
            log.info("sweep taken over", record=record.name, engine=resolved.name, planned=len(task.targets))
            await self.runner.run(scene.cell, SweepBoard(scene.entries, occasion, None), task)
        except (DamagedSet, ValidationError) as error:
            return await self._abandon(scene, occasion, record, str(error)[:256])
        except EngineError as error:
            log.warning("the engine cannot be used for a sweep that was begun", error=error.message)
            return Retry(LOOK_AGAIN_SECONDS)
        except Waiting as waiting:
            if await self._leads_elsewhere(scene, record):
                # It must not keep the sweeps of the engine that the policy is about now.
                return await self._abandon(
                    scene, occasion, record, f"the policy has another engine now; {waiting.message}"
                )
            await self._note(scene, occasion, waiting)
            return Retry(waiting.retry_seconds)
        return self._over(scene, occasion, record.name)

    async def _leads_elsewhere(self, scene: Scene, record: Record) -> bool:
        """Whether the policy names another RestateEngine by now than that on which a run was begun."""
        try:
            located = await self.engines.locate(scene.spec.engine_ref, scene.source.namespace)
        except Waiting:
            return False
        return (located.namespace, located.name) != (record.spec.engine.namespace, record.spec.engine.name)

    async def _abandon(self, scene: Scene, occasion: Occasion, record: Record, why: str) -> Outcome:
        closed = await self.records.close(record, narrate.abandoned(why))
        return Retry(0.1) if closed is None else await self._conclude(scene, occasion, recorded(occasion, closed))

    # What status says.

    async def _note(self, scene: Scene, occasion: Occasion, waiting: Waiting) -> None:
        name, message = occasion.sweep.name, cut(waiting.message, 512)

        def change(entries: dict[str, SweepStatus]) -> None:
            # Unless another operator has seen to it meanwhile: what does not wait any more is not waited for.
            if name in entries and not plan.seen_to(entries[name], occasion):
                entries[name] = plan.waiting_for(entries[name], message)

        await scene.entries.change(change)
        told = self._told.setdefault(scene.cell, {})
        # By its reason: what it says in detail may be something else each time.
        if told.get(name) != waiting.reason:
            told[name] = waiting.reason
            self.events.tell(scene.obj, waiting.reason, f"sweep {name}: {message}", "Warning")
            self.ended()

    async def _wait_no_more(self, scene: Scene, waiting: Collection[str]) -> None:
        """What was waited for is not any more where nothing is to run: a request was withdrawn, a sweep suspended."""
        told = self._told.get(scene.cell, {})
        for name in told.keys() - set(waiting):
            del told[name]

        def change(entries: dict[str, SweepStatus]) -> None:
            for name, entry in entries.items():
                if name not in waiting:
                    entries[name] = plan.waiting_for(entry, None)

        await scene.entries.change(change)

    async def _refuse(self, scene: Scene, occasion: Occasion, refusal: Refusal) -> Outcome:
        run = SweepRun(phase=Phase.REFUSED, message=cut(f"{refusal.reason}: {refusal.message}", 512))
        return await self._conclude(scene, occasion, run)

    async def _conclude(self, scene: Scene, occasion: Occasion, run: SweepRun, *, told: bool = True) -> Outcome:
        name = occasion.sweep.name
        made = run.model_copy(
            update={
                "scheduled_time": occasion.tick.at,
                "request": occasion.tick.request,
                "completion_time": run.completion_time or self.now().replace(microsecond=0),
            }
        )

        def change(entries: dict[str, SweepStatus]) -> None:
            entry = plan.begun(entries.get(name) or SweepStatus(name=name), occasion)
            entries[name] = plan.ended(entry, made)

        await scene.entries.change(change)
        if told:
            bad = run.phase is not Phase.SUCCEEDED and run.phase is not Phase.ALREADY_EXECUTED
            message = f"sweep {name}: {run.message or run.phase.value}"
            self.events.tell(scene.obj, f"Sweep{run.phase.value}", message, "Warning" if bad else "Normal")
            metrics.run_concluded(plan.action_of(occasion.sweep), run.phase)
            retention_metrics.swept(scene.source.namespace, scene.source.name, name, made)
            log.info("sweep concluded", sweep=name, phase=run.phase.value, message=run.message)
        self.ended()
        return Retry(0.0)
