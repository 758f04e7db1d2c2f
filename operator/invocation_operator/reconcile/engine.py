"""RestateEngine: whether the engine can be used, what it is, and how many invocations it has, looked at regularly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from invocation_operator import conditions
from invocation_operator.api.v1alpha1.action import NamedCount
from invocation_operator.api.v1alpha1.engine import Capabilities, EngineStatus
from invocation_operator.cluster import status as status_writer
from invocation_operator.cluster.client import KubeClient, Object, still_there
from invocation_operator.cluster.errors import ObjectNotFound, WriteConflict
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.resources import ENGINES
from invocation_operator.conditions import Verdict
from invocation_operator.engine.errors import EngineError, reading
from invocation_operator.engine.version import Support, supported
from invocation_operator.observe import metrics
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.connect import located, parse_spec
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting
from invocation_operator.reconcile.workbench import Done, Outcome, Retry
from invocation_operator.target.vocabulary import STATUS

log = structlog.get_logger(__name__)

PROBE_SECONDS = 30.0
PROBE_FAILED_SECONDS = 5.0
PROBE_FAILED_LIMIT_SECONDS = 15.0
SAMPLE_SECONDS = 60.0
"""How often invocations are counted: a count reads every invocation of the engine."""
FORGET_SECONDS = 20 * SAMPLE_SECONDS
STATUSES_SHOWN = 8
"""As many as the CRD takes."""


@dataclass(slots=True)
class EngineReconciler:
    """Probes engines and writes what it finds."""

    client: KubeClient
    engines: Engines
    events: EventRecorder
    clock: Callable[[], float]
    is_up: Callable[[], None] = lambda: None
    """Told when an engine can be used that could not be, or is gone: what waits for it need not wait any longer."""
    _sampled: dict[str, float] = field(default_factory=dict)

    async def reconcile(self, cell: Cell) -> Outcome:
        """Probe the engine in ``cell`` and write its status."""
        obj = cell.obj
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return Done()
        if not await still_there(self.client, ENGINES, obj):
            # A status that stays as it is is not written, and its kill switch and ceilings would hold for ever.
            await self.engines.refresh(cell.key)
            if cell.has(obj):
                cell.put(None)
            self.is_up()
            return Done()
        before = _status(obj)
        try:
            # It refers to itself and carries nothing out: no guardrail looks at labels here, and those of a namespace
            # that is not served may not be read.
            resolved = await self.engines.connect(replace(located(obj), namespace_labels={}), fresh=True)
        except Waiting as waiting:
            verdict = Verdict.STALLED if waiting.stalled else Verdict.WORKING
            status = before.model_copy(update={"url": self._url(obj) or before.url})
            await self._write(cell, obj, status, verdict, waiting.reason, waiting.message)
            if waiting.stalled:
                return Retry(PROBE_SECONDS)
            return Retry(min(waiting.retry_seconds, PROBE_FAILED_SECONDS), PROBE_FAILED_LIMIT_SECONDS)
        found = await self._look(cell, obj, before, resolved)
        reason, message = _verdict(resolved, self.engines.switches(resolved.station.address))
        await self._write(cell, obj, found, Verdict.READY, reason, message)
        return Retry(PROBE_SECONDS)

    def _url(self, obj: Object) -> str | None:
        """Return where an engine is looked for that cannot be used; None when that is not known."""
        spec = parse_spec(obj)
        return self.engines.static_url(obj["metadata"]["namespace"], spec) if spec is not None else None

    async def _look(self, cell: Cell, obj: Object, before: EngineStatus, resolved: Resolved) -> EngineStatus:
        offered = resolved.probe.capabilities
        update: dict[str, object] = {
            "url": resolved.station.connection.url,
            "version": resolved.probe.version.text,
            "cluster_name": resolved.probe.cluster_name,
            "capabilities": Capabilities(
                pause=offered.pause,
                batch=offered.batch,
                scopes=offered.scopes,
                automatic_idempotency_keys=offered.automatic_idempotency_keys,
            ),
        }
        uid, now = obj["metadata"]["uid"], self.clock()
        if now - self._sampled.get(uid, float("-inf")) >= SAMPLE_SECONDS:
            # What was not sampled for long is gone, or starts over when it is back.
            self._sampled = {u: at for u, at in self._sampled.items() if now - at < FORGET_SECONDS} | {uid: now}
            try:
                counted = await self._count(cell, obj, resolved)
            except EngineError as error:
                log.warning("could not count invocations", error=error.message)
            else:
                if counted != before.invocations:
                    update |= {"invocations": counted, "last_probe_time": datetime.now(UTC).replace(microsecond=0)}
        return before.model_copy(update=update)

    async def _count(self, cell: Cell, obj: Object, resolved: Resolved) -> list[NamedCount]:
        rows = await resolved.station.client.rows("select status, count(*) as n from sys_invocation group by status")
        # A newer engine may have statuses that are not known here: they keep the engine's own word.
        words = {word: status.value for word, status in STATUS.items()}
        with reading("counts"):
            found = {words.get(row["status"], str(row["status"])[:256]): int(row["n"]) for row in rows}
            known_first = sorted(found, key=lambda name: (name not in words.values(), -found[name]))
            counted = [NamedCount(name=name, count=found[name]) for name in known_first[:STATUSES_SHOWN]]
        metadata = obj["metadata"]
        for status in STATUS.values() if cell.has(obj) else ():
            number = next((c.count for c in counted if c.name == status.value), 0)
            metrics.ENGINE_INVOCATIONS.labels(metadata["namespace"], metadata["name"], status.value).set(number)
        return sorted(counted, key=lambda c: c.name)

    async def _write(
        self, cell: Cell, obj: Object, status: EngineStatus, verdict: Verdict, reason: str, message: str
    ) -> None:
        if not cell.has(obj):
            # It went while it was looked at: whoever saw that has dropped its series, and nobody would drop new ones.
            return
        metadata = obj["metadata"]
        up = verdict is Verdict.READY
        metrics.ENGINE_UP.labels(metadata["namespace"], metadata["name"]).set(1 if up else 0)
        before = conditions.find(status.conditions, "Ready")
        built = conditions.build(
            verdict,
            reason,
            message,
            generation=metadata["generation"],
            now=datetime.now(UTC),
            previous=status.conditions,
        )
        status = status.model_copy(update={"observed_generation": metadata["generation"], "conditions": built})
        try:
            cell.keep(await status_writer.write(self.client, ENGINES, obj, status))
        except ObjectNotFound:
            metrics.forget_engine(metadata["namespace"], metadata["name"])
            return
        except WriteConflict:
            return
        if up and (before is None or before.status != "True"):
            self.is_up()
        if before is None or before.reason != reason:
            self.events.tell(obj, reason, message, "Normal" if up else "Warning")
            log.info("engine can be used" if up else "engine cannot be used", reason=reason, message=message)


def _status(obj: Object) -> EngineStatus:
    """Return the status that is there. One that a newer operator wrote and that cannot be read counts as none."""
    try:
        return EngineStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return EngineStatus()


def _verdict(resolved: Resolved, switches: Sequence[str]) -> tuple[str, str]:
    version = resolved.probe.version
    told = f"version {version.text}, cluster {resolved.probe.cluster_name!r}."
    if switches:
        which = ", ".join(switches)
        return "Suspended", f"{told} Nothing is executed on this engine: spec.suspend of RestateEngine {which} is on."
    if supported(version) is Support.UNTESTED:
        return "Reachable", f"{told} This version is newer than those the operator was tried with (1.6.1 to 1.7.x)."
    return "Reachable", told
