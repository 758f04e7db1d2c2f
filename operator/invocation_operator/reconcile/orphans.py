"""Records whose run nobody will finish: the object was deleted while no operator was there to see it, or asks for
another run by now.

Looked at now and then. Such a run is closed as stopped, so that the audit trail says how it ended. One that its policy
may have passed over is told of: it has a name of its own for each tick, and is not met like that of an action.
"""

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import structlog

from invocation_operator.api.v1alpha1.action import ACTION_KIND
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import (
    ClusterError,
    ClusterUnavailable,
    Forbidden,
    ObjectNotFound,
    UnreadableObject,
)
from invocation_operator.cluster.records import Record, RecordStore
from invocation_operator.cluster.resources import SOURCES
from invocation_operator.plan.identity import HASH_VERSION
from invocation_operator.reconcile import parse
from invocation_operator.reconcile.control import Stop
from invocation_operator.reconcile.narrate import STOPS, abandoned
from invocation_operator.reconcile.takeover import Leases

log = structlog.get_logger(__name__)

EVERY_SECONDS = 60.0
FIRST_SECONDS = 5.0
WATCHING_SECONDS = 5.0
"""How often a record is looked at whose holder may still be alive."""
TIMES_AS_LONG = 20.0
"""So many times longer than a look the pause after it is: records are kept for a year, and all of them are read."""
ANOTHER_RUN = "the operator was interrupted, and the object asks for another run by now (spec.runId)"


@dataclass(slots=True)
class Orphans:
    """Closes unfinished records without an object that asks for their run."""

    client: KubeClient
    records: RecordStore
    leases: Leases
    running: Container[str] = frozenset()
    """Records of the runs that this very process carries out: they see by themselves that the object is gone."""
    namespaces: Sequence[str] = ()
    """Namespaces that are served; none: all. Others may keep their records beside ours, and see to them."""
    found: Callable[[Record], None] = lambda record: None
    """Told of a record whose object is there and acts at many times, and which nobody carries out."""

    async def run(self) -> None:
        """Look until cancelled."""
        pause, clock = FIRST_SECONDS, asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(pause)
            began = clock()
            try:
                await self.records.note_newer(HASH_VERSION)
                waiting = await self.close_all()
            except ClusterError as error:
                log.warning("could not look for orphaned records", error=str(error))
                waiting = False
            except Exception:
                # Also a mistake of ours must not end this task: nobody would look again.
                log.exception("could not look for orphaned records")
                waiting = False
            pause = max(WATCHING_SECONDS if waiting else EVERY_SECONDS, TIMES_AS_LONG * (clock() - began))

    async def close_all(self) -> bool:
        """Close what can be closed; True when a holder's lease must run out first."""
        waiting = False
        async for obj in self.records.unfinished():
            try:
                waiting |= await self._close(Record.of(obj))
            except UnreadableObject as error:
                log.debug("a record of a newer operator is left alone", error=str(error))
            except (ClusterUnavailable, Forbidden):
                raise
            except Exception:
                # One record's trouble, also a mistake of ours, must not keep the others open.
                log.exception("could not close a record", record=obj["metadata"]["name"])
        return waiting

    async def _close(self, record: Record) -> bool:
        """Close one if it is an orphan; True when its holder's lease must run out first."""
        if self.namespaces and record.spec.source.namespace not in self.namespaces:
            return False
        why = await self._forsaken(record)
        if why is None:
            if record.spec.source.kind != ACTION_KIND.kind and self._free(record):
                self.found(record)
            return False
        if record.name in self.running:
            return True
        if self.leases.wait_seconds(record) > 0:
            return True
        self.leases.forget(record.name)
        if await self.records.close(record, abandoned(why)) is None:
            return True
        log.info("closed the record of a run that nobody finishes", record=record.name, why=why)
        return False

    def _free(self, record: Record) -> bool:
        """Whether nobody carries it out, or has told so for a lease."""
        return record.name not in self.running and self.leases.wait_seconds(record) == 0

    async def _forsaken(self, record: Record) -> str | None:
        """Return why nobody will finish the run, as its object tells; None: somebody will."""
        source = record.spec.source
        resource = SOURCES.get(source.kind)
        if resource is None:
            # Of a kind that only a newer operator knows: not ours to end.
            return None
        acts = source.kind == ACTION_KIND.kind
        try:
            obj = await self.client.get(resource, source.namespace, source.name, metadata_only=not acts)
        except ObjectNotFound:
            return STOPS[Stop.DELETED]
        if obj["metadata"]["uid"] != source.uid:
            return STOPS[Stop.DELETED]
        # Its status may never have told of this run: then the API server has let another one be asked for.
        return ANOTHER_RUN if acts and parse.run_id_of(obj) != record.spec.run_id else None
