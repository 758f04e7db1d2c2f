"""What must be so before the watches start: the CRDs are there, the operator may read what it lives on, and every
RestateEngine is known (a ceiling must not come too late), and so is what newer operators have run.

CRDs may come after the operator, as when both are in one directory that is applied: it waits for them. Rights that are
too small end the start with a message, because watches without them would only look as if they ran.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import stamina
import structlog

from invocation_operator.api.v1alpha1.base import GROUP, VERSION
from invocation_operator.cluster.client import KubeClient, Resource
from invocation_operator.cluster.errors import ClusterError, ClusterUnavailable, Forbidden, ObjectNotFound
from invocation_operator.cluster.records import RecordStore
from invocation_operator.cluster.resources import ACTIONS, ENGINES, LEASES, RECORDS, RETENTION_POLICIES
from invocation_operator.plan.identity import HASH_VERSION
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.policies import Policies

log = structlog.get_logger(__name__)

LOOK_AGAIN_SECONDS = 2.0
REMIND_EVERY = 15
"""After this many looks, what is missing is said again."""
UNAVAILABLE_SECONDS = 60.0
"""How long an API server that cannot serve now is asked again before the process gives up and is started anew."""


@dataclass(slots=True)
class Opening:
    """Opens the house."""

    client: KubeClient
    engines: Engines
    records: RecordStore
    policies: Policies
    namespaces: Sequence[str | None]
    operator_namespace: str
    unserved_engine_namespaces: Sequence[str] = ()
    """Those beside ``namespaces`` whose engines are used too; without a right to them the operator starts as well."""
    lease: str | None = None
    """Name of the Lease that an election needs."""

    async def run(self) -> None:
        """Wait for the CRDs, then read. Raises ``ClusterError`` when the operator cannot start like this."""
        await self._crds()
        # A CRD that was just created is served before its storage is there: 429 for some moments.
        retries = stamina.retry_context(on=ClusterUnavailable, attempts=None, timeout=UNAVAILABLE_SECONDS, wait_max=5.0)
        try:
            async for attempt in retries:
                with attempt:
                    await self._read()
        except Forbidden as error:
            message = f"the operator's role is too small, helm upgrade --install gives it the right one: {error}"
            raise ClusterError(message) from error

    async def _read(self) -> None:
        await self.engines.load(self.namespaces)
        for elsewhere in self.unserved_engine_namespaces:
            # What refers to an engine reads it again. Whoever looks at these from now on tells what is not allowed.
            with contextlib.suppress(Forbidden):
                await self.engines.load((elsewhere,))
        await self.policies.read()
        for namespace in self.namespaces:
            await self._may_read(ACTIONS, namespace)
        await self._may_read(RECORDS, self.operator_namespace)
        await self.records.note_newer(HASH_VERSION)
        if self.lease is not None:
            with contextlib.suppress(ObjectNotFound):
                await self.client.get(LEASES, self.operator_namespace, self.lease)

    async def _crds(self) -> None:
        looks = 0
        while missing := await self._missing():
            if looks % REMIND_EVERY == 0:
                log.warning(
                    "waiting for the CRDs",
                    missing=[f"{plural}.{GROUP}" for plural in missing],
                    next_step="invocation-operator crds | kubectl apply --server-side -f -, or helm upgrade --install",
                )
            looks += 1
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        if looks:
            log.info("the CRDs are there")

    async def _missing(self) -> list[str]:
        wanted = {resource.plural for resource in (ACTIONS, ENGINES, RECORDS, RETENTION_POLICIES)}
        return sorted(wanted - await self.client.served(GROUP, VERSION))

    async def _may_read(self, resource: Resource, namespace: str | None) -> None:
        async for _ in self.client.list(resource, namespace, page=1):
            return
