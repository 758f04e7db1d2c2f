"""The gate in front of everything: CRDs that are older than the operator have pruned fields that it knows, and a
manifest that lost a filter means more than its author wrote. With such CRDs nothing executes.
"""

import asyncio
from collections.abc import Callable

from invocation_operator.api.v1alpha1.action import ACTION_KIND
from invocation_operator.api.v1alpha1.base import SCHEMA_REVISION, SCHEMA_REVISION_ANNOTATION
from invocation_operator.api.v1alpha1.engine import ENGINE_KIND
from invocation_operator.api.v1alpha1.record import RECORD_KIND
from invocation_operator.api.v1alpha1.retention import RETENTION_KIND
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ClusterError, Forbidden
from invocation_operator.cluster.resources import CRDS
from invocation_operator.reconcile.waiting import Waiting, forbidden

RELY_SECONDS = 1.0
"""How long one look is relied on: short enough for a rollback, long enough for a crowd of actions."""

KINDS = (ACTION_KIND, ENGINE_KIND, RECORD_KIND, RETENTION_KIND)


class SchemaGate:
    """Looks at the CRDs' revision before each run."""

    def __init__(self, client: KubeClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._failure: Waiting | ClusterError | None = None

    async def check(self) -> None:
        """Raise ``Waiting`` while a CRD is older than this operator, or may not be read.

        Raises the errors of ``cluster.errors`` too. A crowd that comes at once looks once.
        """
        async with self._looking:
            if self._clock() - self._looked_at >= RELY_SECONDS:
                self._failure = await self._look()
                self._looked_at = self._clock()
            failure = self._failure
        if failure is not None:
            raise failure.with_traceback(None)

    async def _look(self) -> Waiting | ClusterError | None:
        try:
            await self._compare()
        except Forbidden as error:
            return forbidden(error)
        except (Waiting, ClusterError) as failure:
            return failure
        return None

    async def _compare(self) -> None:
        for kind in KINDS:
            crd = await self._client.get(CRDS, None, kind.crd_name, metadata_only=True)
            found = (crd["metadata"].get("annotations") or {}).get(SCHEMA_REVISION_ANNOTATION, "0")
            if not str(found).isdigit() or int(found) < SCHEMA_REVISION:
                raise Waiting(
                    "CRDsOutdated",
                    f"the CRD {kind.crd_name} has schema revision {found}, this operator needs {SCHEMA_REVISION}: "
                    "nothing is executed until the CRDs are upgraded (helm upgrade, or kubectl apply -f crds/).",
                )
