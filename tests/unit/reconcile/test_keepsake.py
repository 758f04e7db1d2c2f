"""What a policy restores, kept beside it: all of it, the newest alone, and never another one's."""

import base64
import gzip
from typing import Any, cast

from invocation_operator.api.v1alpha1.retention import ServiceRetention
from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.errors import ObjectExists, ObjectNotFound
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.keepsake import Keepsakes
from invocation_operator.reconcile.sweepboard import read_status

METADATA = {"namespace": "shop", "name": "p", "uid": "u", "resourceVersion": "1", "generation": 1}


class FakeCluster:
    """One policy and the ConfigMaps beside it."""

    def __init__(self) -> None:
        self.policy: Object = {"metadata": dict(METADATA)}
        self.maps: dict[str, Object] = {}
        self.writes: list[str] = []

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        self.writes.append("create")
        name = body["metadata"]["name"]
        if name in self.maps:
            raise ObjectExists(name)
        self.maps[name] = body
        return body

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        if name not in self.maps:
            raise ObjectNotFound(name)
        return self.maps[name]

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        self.writes.append("delete")
        self.maps.pop(name, None)

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        self.writes.append("status")
        merged = {**self.policy.get("status", {}), **patch["status"]}
        version = str(int(self.policy["metadata"]["resourceVersion"]) + 1)
        metadata = {**self.policy["metadata"], "resourceVersion": version}
        self.policy = {"metadata": metadata, "status": {k: v for k, v in merged.items() if v is not None}}
        return self.policy


def entries(count: int, previous: str = "1d") -> list[ServiceRetention]:
    told: dict[str, Any] = {"state": "Pending", "effective": {"journal": "2h"}, "previous": {"journal": previous}}
    return [ServiceRetention.model_validate({**told, "name": f"service-{n:05}", "revision": n}) for n in range(count)]


async def test_keepsake_of_thousands_of_services_is_one_small_object_of_the_policys_own() -> None:
    cluster = FakeCluster()
    keepsakes, cell = Keepsakes(cast("KubeClient", cluster)), Cell(("shop", "p"), cluster.policy)
    name = await keepsakes.keep(cell, cluster.policy, entries(5000))
    assert cluster.writes == ["create", "status"], "written before status says where"
    [made] = cluster.maps.values()
    assert len(made["binaryData"]["previous"]) < 256 * 1024
    assert [(ref["kind"], ref["uid"]) for ref in made["metadata"]["ownerReferences"]] == [("RetentionPolicy", "u")]
    assert read_status(cluster.policy).restore_from == name
    read = await keepsakes.read(cluster.policy, read_status(cluster.policy))
    assert list(read.values()) == entries(5000)


async def test_keepsake_is_written_again_only_when_it_says_something_else() -> None:
    cluster = FakeCluster()
    keepsakes, cell = Keepsakes(cast("KubeClient", cluster)), Cell(("shop", "p"), cluster.policy)
    first = await keepsakes.keep(cell, cluster.policy, entries(3))
    cluster.writes.clear()
    assert await keepsakes.keep(cell, cluster.policy, reversed(entries(3))) == first
    assert cluster.writes == []
    second = await keepsakes.keep(cell, cluster.policy, entries(3, "3d"))
    assert cluster.writes == ["create", "status", "delete"], "a crash at any point leaves one that status names"
    assert list(cluster.maps) == [second]
    assert await keepsakes.keep(cell, cluster.policy, []) is None
    assert (cluster.maps, read_status(cluster.policy).restore_from) == ({}, None)


async def test_keepsake_that_is_lost_or_another_ones_is_nothing() -> None:
    cluster = FakeCluster()
    keepsakes, cell = Keepsakes(cast("KubeClient", cluster)), Cell(("shop", "p"), cluster.policy)
    name = await keepsakes.keep(cell, cluster.policy, entries(3))
    assert name is not None
    stranger = {"metadata": {**METADATA, "uid": "successor"}}
    assert await keepsakes.read(stranger, read_status(cluster.policy)) == {}
    # Somebody made another one of that name, which says what they want to be restored.
    other = gzip.compress(b'[{"name": "checkout", "state": "Pending", "previous": {"journal": "1s"}}]')
    cluster.maps[name]["binaryData"]["previous"] = base64.b64encode(other).decode()
    assert await keepsakes.read(cluster.policy, read_status(cluster.policy)) == {}
    cluster.maps[name]["binaryData"]["previous"] = "bm90aGluZw=="
    assert await keepsakes.read(cluster.policy, read_status(cluster.policy)) == {}
    cluster.maps.clear()
    assert await keepsakes.read(cluster.policy, read_status(cluster.policy)) == {}
