"""Before the operator is uninstalled: whoever leads is deposed, and nothing keeps a finalizer of ours."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.retention import RESTORE_FINALIZER
from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.errors import ObjectNotFound, WriteConflict
from invocation_operator.cluster.resources import LEASES, RETENTION_POLICIES
from invocation_operator.reconcile.withdraw import HOLDER, withdraw
from tests.unit.reconcile.fake_kube import FakeKube

OTHER = "example.com/theirs"


class Keeper(FakeKube):
    """Takes writes, as long as they say of which version they are."""

    disturb = 0
    missing = False

    def policy(self, namespace: str, name: str, *finalizers: str) -> None:
        self.put(RETENTION_POLICIES, namespace, name, metadata={"finalizers": list(finalizers)})

    def finalizers(self, namespace: str, name: str) -> list[str]:
        found: list[str] = self.objects[("retentionpolicies", namespace, name)]["metadata"]["finalizers"]
        return found

    def holder(self) -> str:
        return str(self.objects[("leases", "ops", "op")]["spec"]["holderIdentity"])

    async def list(self, resource: Any, namespace: str | None = None) -> AsyncIterator[Object]:
        if self.missing:
            raise ObjectNotFound("404, no such kind")
        async for obj in super().list(resource, namespace):
            yield obj

    async def patch(self, resource: Any, namespace: str, name: str, patch: Object) -> Object:
        known = self.objects[(resource.plural, namespace, name)]
        if self.disturb:
            self.disturb -= 1
            self.put(resource, namespace, name, metadata={"finalizers": known["metadata"]["finalizers"]})
            raise WriteConflict("stale")
        assert patch["metadata"]["resourceVersion"] == known["metadata"]["resourceVersion"]
        return self.put(resource, namespace, name, metadata={"finalizers": patch["metadata"]["finalizers"]})

    async def replace(self, resource: Any, namespace: str, name: str, body: Object) -> Object:
        assert resource is LEASES
        return self.put(resource, namespace, name, spec=body["spec"])


async def withdrawn(kube: Keeper, *namespaces: str, lease: str | None = "op") -> tuple[int, list[float]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        assert kube.holder() == HOLDER, "first deposed, then waited for"
        slept.append(seconds)
        # What the leader still did before it ceased.
        kube.policy("shop", "late", RESTORE_FINALIZER)

    count = await withdraw(cast("KubeClient", kube), namespaces, "ops", lease, 10.0, sleep=sleep)
    return count, slept


@pytest.fixture
def kube() -> Keeper:
    made = Keeper()
    made.put(LEASES, "ops", "op", spec={"holderIdentity": "a", "leaseTransitions": 3})
    return made


async def test_withdraw_takes_off_our_finalizer_and_no_other_once_the_leader_has_ceased(kube: Keeper) -> None:
    kube.policy("shop", "restores", RESTORE_FINALIZER, OTHER)
    kube.policy("shop", "keeps", OTHER)
    assert await withdrawn(kube) == (2, [10.0])
    assert kube.finalizers("shop", "restores") == [OTHER]
    assert kube.finalizers("shop", "keeps") == [OTHER]
    assert kube.finalizers("shop", "late") == []
    assert kube.holder() == HOLDER


async def test_withdraw_with_nothing_to_let_go_deposes_nobody_and_waits_for_nothing(kube: Keeper) -> None:
    kube.policy("shop", "keeps", OTHER)
    assert await withdrawn(kube) == (0, [])
    assert kube.holder() == "a"


async def test_withdraw_looks_only_where_it_is_served(kube: Keeper) -> None:
    kube.policy("elsewhere", "restores", RESTORE_FINALIZER)
    assert await withdrawn(kube, "shop", "billing") == (0, [])
    assert kube.finalizers("elsewhere", "restores") == [RESTORE_FINALIZER]


async def test_withdraw_of_what_somebody_else_changes_meanwhile_tries_again(kube: Keeper) -> None:
    kube.policy("shop", "restores", RESTORE_FINALIZER)
    kube.disturb = 3
    assert (await withdrawn(kube))[0] == 2
    assert kube.finalizers("shop", "restores") == []


async def test_withdraw_without_an_election_waits_for_nobody(kube: Keeper) -> None:
    kube.policy("shop", "restores", RESTORE_FINALIZER)
    assert await withdrawn(kube, lease=None) == (1, [])
    assert kube.holder() == "a"


async def test_withdraw_where_the_kind_is_gone_already_has_nothing_to_let_go(kube: Keeper) -> None:
    """A hook that fails keeps a release from being uninstalled."""
    kube.missing = True
    assert await withdrawn(kube) == (0, [])
    assert kube.holder() == "a"


async def test_withdraw_takes_a_lease_that_says_nothing_yet(kube: Keeper) -> None:
    kube.policy("shop", "restores", RESTORE_FINALIZER)
    kube.put(LEASES, "ops", "op")
    assert (await withdrawn(kube))[0] == 2
    assert kube.holder() == HOLDER
