"""What must be so before the watches start, when the API server cannot serve it for a while."""

from collections.abc import AsyncIterator
from typing import Any

from invocation_operator.cluster.client import Object, Resource
from invocation_operator.cluster.errors import ClusterUnavailable
from invocation_operator.cluster.resources import ACTIONS, ENGINES, RECORDS, RETENTION_POLICIES
from invocation_operator.reconcile.opening import Opening


class FreshCrds:
    """An API server on which the CRDs were just created: it serves them before their storage is there."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.listed: list[str] = []

    async def served(self, group: str, version: str) -> set[str]:
        return {resource.plural for resource in (ACTIONS, ENGINES, RECORDS, RETENTION_POLICIES)}

    async def list(self, resource: Resource, namespace: str | None, **_: Any) -> AsyncIterator[Object]:
        if self.refusals:
            self.refusals -= 1
            raise ClusterUnavailable(f"GET {resource.plural}: 429 storage is (re)initializing")
        self.listed.append(resource.plural)
        return
        yield

    async def load(self, *_: Any) -> None:
        """No engine is known yet."""

    async def read(self) -> None:
        """And no policy."""

    async def note_newer(self, _: int) -> None:
        async for _obj in self.list(RECORDS, "operator"):
            raise AssertionError("there is none")


async def test_opening_while_the_storage_of_a_new_crd_is_made_waits_for_it() -> None:
    cluster: Any = FreshCrds(refusals=2)
    await Opening(cluster, cluster, cluster, cluster, (None,), "operator").run()
    assert cluster.refusals == 0
    assert cluster.listed == [ACTIONS.plural, RECORDS.plural, RECORDS.plural]
