"""What must be so before the watches start, when the API server cannot serve it for a while."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from invocation_operator.cluster.client import Object, Resource
from invocation_operator.cluster.errors import ClusterError, ClusterUnavailable, Forbidden
from invocation_operator.cluster.resources import ACTIONS, ENGINES, RECORDS, RETENTION_POLICIES
from invocation_operator.reconcile.opening import Opening


class FreshCrds:
    """An API server on which the CRDs were just created: it serves them before their storage is there."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.listed: list[str] = []
        self.forbidden: set[str] = set()
        self.loaded: list[str | None] = []

    async def served(self, group: str, version: str) -> set[str]:
        return {resource.plural for resource in (ACTIONS, ENGINES, RECORDS, RETENTION_POLICIES)}

    async def list(self, resource: Resource, namespace: str | None, **_: Any) -> AsyncIterator[Object]:
        if self.refusals:
            self.refusals -= 1
            raise ClusterUnavailable(f"GET {resource.plural}: 429 storage is (re)initializing")
        self.listed.append(resource.plural)
        return
        yield

    async def load(self, namespaces: Sequence[str | None]) -> None:
        if forbidden := self.forbidden & set(namespaces):
            raise Forbidden(f"GET restateengines: 403 in {forbidden}")
        self.loaded += namespaces

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


async def test_opening_knows_the_engines_outside_of_what_is_served_as_far_as_it_may() -> None:
    cluster: Any = FreshCrds(refusals=0)
    cluster.forbidden = {"removed"}
    await Opening(cluster, cluster, cluster, cluster, ("shop",), "operator", ("operator", "removed", "platform")).run()
    assert cluster.loaded == ["shop", "operator", "platform"]


async def test_opening_without_a_right_to_engines_that_are_served_ends_and_says_what_to_do() -> None:
    cluster: Any = FreshCrds(refusals=0)
    cluster.forbidden = {"shop"}
    with pytest.raises(ClusterError, match="helm upgrade"):
        await Opening(cluster, cluster, cluster, cluster, ("shop",), "operator").run()
