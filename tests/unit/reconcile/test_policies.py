"""What is known of all policies: watches that are behind, policies that cannot be read, when holds begin and end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from invocation_operator.cluster.client import KubeClient, Object, Resource
from invocation_operator.cluster.resources import RETENTION_POLICIES
from invocation_operator.reconcile.connect import address_of
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.policies import Policies
from tests.unit.reconcile.fake_kube import FakeKube

URL = "http://127.0.0.1:9070"
ADDRESS = address_of(URL, "cluster.local")
HOLD = {"name": "case", "target": {"outcomes": ["Failed"]}}


class SlowKube(FakeKube):
    """Lists take a while, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0

    async def list(
        self, resource: Resource, namespace: str | None = None, *, metadata_only: bool = False
    ) -> AsyncIterator[Object]:
        self.lists += 1
        found = [obj async for obj in super().list(resource, namespace)]
        await asyncio.sleep(0.01)
        for obj in found:
            yield obj


class Desk:
    """Policies of one namespace, whose engine is there."""

    def __init__(self) -> None:
        self.kube = SlowKube()
        self.engines = Engines(
            cast("KubeClient", self.kube),
            operator_namespace="operator-system",
            cluster_domain="cluster.local",
            trusted_namespaces=(),
            call_timeout=5.0,
            batch_endpoints=True,
            clock=lambda: 0.0,
        )
        self.kube.engine("shop", "default", url=URL)
        self.rings = 0
        self.policies = Policies(self.engines, cast("KubeClient", self.kube), ring=self.rung)

    def rung(self) -> None:
        self.rings += 1

    def put(self, name: str, uid: str = "", **spec: Any) -> Object:
        metadata = {"creationTimestamp": "2026-11-25T12:00:00Z", "uid": uid or f"uid-{name}"}
        spec = {"services": ["checkout"], **spec}
        return self.kube.put(RETENTION_POLICIES, "shop", name, metadata=metadata, spec=spec)

    def held(self) -> set[str]:
        return {held.label for held in self.engines.holds(ADDRESS)}


async def test_holds_are_known_before_the_watch_has_told_of_them() -> None:
    desk = Desk()
    desk.put("legal", holds=[HOLD])
    desk.put("other", retention={"journal": "1d"})
    await desk.engines.know_holds()
    assert desk.held() == {"shop/legal (case)"}


async def test_crowd_that_asks_at_once_reads_once_and_a_later_one_anew() -> None:
    desk = Desk()
    first = asyncio.create_task(desk.policies.read())
    await asyncio.sleep(0)
    desk.put("legal", holds=[HOLD])
    # The first reading may have begun before the hold was there: these must not be content with it.
    await asyncio.gather(*(desk.policies.read() for _ in range(20)))
    assert desk.held() == {"shop/legal (case)"}
    assert desk.kube.lists == 2
    await first


async def test_policy_that_is_gone_is_not_brought_back_by_an_older_list() -> None:
    desk = Desk()
    policy = desk.put("legal", holds=[HOLD])
    await desk.policies.read()
    reading = asyncio.create_task(desk.policies.read())
    await asyncio.sleep(0.005)
    desk.policies.observe(policy, deleted=True)
    await reading
    assert desk.held() == set()
    # Its successor under the same name is another one.
    desk.put("legal", "uid-successor", holds=[{**HOLD, "name": "again"}])
    await desk.policies.read()
    assert desk.held() == {"shop/legal (again)"}


async def test_policy_that_went_while_the_watch_was_interrupted_holds_and_claims_nothing_more() -> None:
    desk = Desk()
    desk.put("older", retention={"journal": "1d"}, holds=[HOLD])
    desk.put("younger", retention={"journal": "2d"})
    await desk.policies.read()
    desk.policies.lead("uid-older", ADDRESS)
    assert await desk.policies.claimed(("shop", "younger"), ADDRESS, ["checkout"]) == {"checkout": "shop/older"}
    del desk.kube.objects[(RETENTION_POLICIES.plural, "shop", "older")]
    rings = desk.rings
    await desk.policies.read()
    assert desk.held() == set()
    assert await desk.policies.claimed(("shop", "younger"), ADDRESS, ["checkout"]) == {}
    assert desk.rings == rings + 1, "the younger one takes over at once"
    await desk.policies.read()
    assert desk.rings == rings + 1, "no news, no ring"


async def test_policy_that_comes_while_a_list_is_read_is_not_taken_for_gone() -> None:
    desk = Desk()
    reading = asyncio.create_task(desk.policies.read())
    await asyncio.sleep(0.005)
    desk.policies.observe(desk.put("legal", holds=[HOLD]), deleted=False)
    desk.policies.lead("uid-legal", ADDRESS)
    await reading
    assert desk.held() == {"shop/legal (case)"}


async def test_older_version_of_a_policy_does_not_undo_a_newer_one() -> None:
    desk = Desk()
    older = desk.put("legal")
    newer = desk.put("legal", holds=[HOLD])
    assert desk.policies.observe(newer, deleted=False)
    desk.policies.lead("uid-legal", ADDRESS)
    assert not desk.policies.observe(older, deleted=False)
    assert desk.held() == {"shop/legal (case)"}


async def test_policy_that_cannot_be_read_holds_until_it_is_gone() -> None:
    desk = Desk()
    desk.put("legal", holds=[{"name": "case", "target": {"outcomes": ["Failed"], "tenant": "a"}}])
    await desk.policies.read()
    [held] = desk.engines.holds(ADDRESS)
    assert (held.label, held.target.outcomes) == ("shop/legal (case)", None), "the filter is left out: it holds more"
    desk.policies.observe(desk.kube.objects[(RETENTION_POLICIES.plural, "shop", "legal")], deleted=True)
    assert desk.held() == set()


async def test_policy_whose_engine_is_not_there_holds_nothing_and_stops_nobody() -> None:
    desk = Desk()
    desk.put("lost", engineRef={"name": "nowhere"}, holds=[HOLD])
    desk.put("legal", holds=[HOLD])
    await desk.policies.read()
    assert desk.held() == {"shop/legal (case)"}
    assert not desk.policies.leads("uid-lost")


async def test_policy_of_another_engine_claims_nothing_here() -> None:
    desk = Desk()
    desk.kube.engine("shop", "second", url="http://127.0.0.1:9071")
    desk.put("a", retention={"journal": "1d"}, engineRef={"name": "second"})
    desk.put("b", retention={"journal": "1d"})
    await desk.policies.read()
    desk.policies.lead("uid-a", address_of("http://127.0.0.1:9071", "cluster.local"))
    assert await desk.policies.claimed(("shop", "b"), ADDRESS, ["checkout"]) == {}


async def test_policy_that_moves_to_another_engine_holds_there_and_not_here() -> None:
    desk = Desk()
    desk.kube.engine("shop", "second", url="http://127.0.0.1:9071")
    desk.put("legal", holds=[HOLD])
    await desk.policies.read()
    desk.put("legal", engineRef={"name": "second"}, holds=[HOLD])
    await desk.policies.read()
    assert desk.held() == set()
    assert [held.name for held in desk.engines.holds(address_of("http://127.0.0.1:9071", "cluster.local"))] == ["case"]


async def test_older_policy_that_was_not_looked_at_yet_claims_though_its_credentials_are_not_there() -> None:
    desk = Desk()
    desk.kube.engine("shop", "locked", url=URL, auth={"bearerTokenSecret": {"name": "missing", "key": "token"}})
    desk.put("a", retention={"journal": "1d"}, engineRef={"name": "locked"})
    desk.put("b", retention={"journal": "2d"})
    await desk.policies.read()
    assert await desk.policies.claimed(("shop", "b"), ADDRESS, ["checkout"]) == {"checkout": "shop/a"}
