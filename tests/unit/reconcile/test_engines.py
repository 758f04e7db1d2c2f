"""What RestateEngines that lead to one engine share, and how changes of them are taken in."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest

from invocation_operator.api.v1alpha1.base import EngineRef
from invocation_operator.cluster.client import KubeClient
from invocation_operator.cluster.errors import ObjectNotFound
from invocation_operator.reconcile.connect import located
from invocation_operator.reconcile.engines import PROBE_SECONDS, Engines
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting
from tests.unit.engine.fake_admin import Asked, FakeAdmin, Wire, fake_admin
from tests.unit.reconcile.fake_kube import FakeKube


class House:
    """Engines on a fake API, a clock that is set by hand, and an admin API that takes one token."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.now = 1000.0
        self.token: str | None = None
        self.version = "1.7.12"
        self.trusted: tuple[str, ...] = ()
        self.engines = self.restarted()

    def restarted(self) -> Engines:
        """A new life of the operator."""
        self.engines = Engines(
            cast("KubeClient", self.kube),
            operator_namespace="operator-system",
            cluster_domain="cluster.local",
            trusted_namespaces=self.trusted,
            call_timeout=5.0,
            batch_endpoints=True,
            clock=lambda: self.now,
        )
        return self.engines

    def define(self, namespace: str, name: str = "engine", *, uid: str | None = None, **spec: Any) -> dict[str, Any]:
        """Create or replace a RestateEngine, and let the watch tell of it."""
        obj = self.kube.engine(namespace, name, uid=uid, **spec)
        self.engines.observe(obj, deleted=False)
        return obj

    async def resolve(self, namespace: str, name: str = "engine", *, of: str | None = None) -> Resolved:
        """What an object in ``namespace`` gets."""
        ref = EngineRef(namespace=of or namespace, name=name)
        return await self.engines.connect(await self.engines.locate(ref, namespace))

    async def admin(self, asked: Asked, wire: Wire) -> None:
        if self.token is not None and asked.headers.get("authorization") != f"Bearer {self.token}":
            await wire.json(401, {"message": "no"})
        elif asked.path == "/version":
            await wire.json(200, {"version": self.version})
        elif asked.path == "/cluster-health":
            await wire.json(200, {"cluster_name": "c"})
        elif asked.path == "/query":
            await wire.json(200, {"rows": []})
        else:
            await wire.reply(404, kind="")


@asynccontextmanager
async def a_house() -> AsyncIterator[tuple[House, FakeAdmin]]:
    house = House()
    async with fake_admin(house.admin) as admin:
        try:
            yield house, admin
        finally:
            await house.engines.close()


def spelled(url: str) -> str:
    """The same address, written in another way."""
    return url.replace("127.0.0.1", "LocalHost") + "/"


async def test_engines_of_one_address_share_the_strictest_of_all() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url, limits={"maxInFlight": 50, "operationsPerSecond": 7})
        house.define("ops", url=spelled(admin.url), limits={"maxInFlight": 5}, guardrails={"maxTargets": 3})
        one, other = await house.resolve("shop"), await house.resolve("ops")
        assert one.station.budget is other.station.budget
        assert (one.station.budget.max_in_flight, one.station.budget.rate) == (5, 7)
        assert sorted(rails.max_targets or 0 for rails in one.guardrails) == [0, 3]


async def test_engines_created_later_tighten_what_is_in_use_and_loosen_it_when_they_go() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        budget = (await house.resolve("shop")).station.budget
        strict = house.define("ops", url=spelled(admin.url), limits={"maxInFlight": 5}, suspend=True)
        address = (await house.resolve("shop")).station.address
        assert budget.max_in_flight == 5
        assert house.engines.switches(address) == ["ops/engine"]
        house.engines.observe(strict | {"metadata": strict["metadata"] | {"resourceVersion": "999"}}, deleted=True)
        assert budget.max_in_flight == 500
        assert not house.engines.suspended(address)


async def test_engines_that_lead_elsewhere_share_nothing_any_more() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        house.define("ops", url=admin.url, limits={"maxInFlight": 5}, suspend=True)
        one = await house.resolve("shop")
        house.define("ops", url="http://elsewhere.example", limits={"maxInFlight": 5}, suspend=True)
        assert one.station.budget.max_in_flight == 500
        assert not house.engines.suspended(one.station.address)


async def test_engines_after_a_restart_share_before_the_other_was_ever_asked() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        house.define("ops", url=spelled(admin.url), guardrails={"maxTargets": 3}, suspend=True)
        await house.engines.close()
        engines = house.restarted()
        await engines.load((None,))
        one = await house.resolve("shop")
        assert len(one.guardrails) == 2
        assert engines.suspended(one.station.address)


async def test_engines_of_the_cloud_share_after_a_restart_too() -> None:
    async with a_house() as (house, _):
        house.kube.environment("prod", environmentId="env_1", region="eu")
        house.kube.engine("ops", "engine", cloud="prod", suspend=True)
        house.kube.engine("lost", "engine", cloud="missing", suspend=True)
        await house.engines.load((None,))
        assert house.engines.switches("1.env.eu.restate.cloud:9070") == ["ops/engine"]


async def test_guardrails_of_another_engine_see_the_labels_of_the_namespace() -> None:
    """Only the other one asks for labels: they must be read all the same, or its selectors would judge by none."""
    async with a_house() as (house, admin):
        house.kube.namespace("shop", team="a")
        house.define("shop", url=admin.url)
        house.define("ops", url=admin.url, guardrails={"namespaces": [{"selector": {"matchLabels": {"team": "a"}}}]})
        assert (await house.resolve("shop")).namespace_labels == {"team": "a"}


async def test_engine_that_cannot_be_read_counts_as_suspended() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        one = await house.resolve("shop")
        house.define("shop", url=admin.url, guardrails={"maxTargets": "many"})
        assert house.engines.suspended(one.station.address)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://restate.example:65536", id="a port that there is not"),
        pytest.param("https://restate.example:0", id="port 0 means another one to some"),
        pytest.param("http://[:::::]:9070", id="brackets around no address"),
        pytest.param("http://[192.0.2.1]:9070", id="brackets around an address of version 4"),
    ],
)
async def test_engine_whose_url_nobody_can_take_apart_keeps_no_other_from_being_known(url: str) -> None:
    """One of them, in any namespace, would else have ended each start of the operator. Earlier CRDs admitted it."""
    async with a_house() as (house, admin):
        house.kube.engine("a", "engine", url=url)
        house.kube.engine("shop", "engine", url=admin.url, suspend=True)
        await house.engines.load((None,))
        assert house.engines.suspended((await house.resolve("shop")).station.address)
        with pytest.raises(Waiting, match=r"spec\.url: a port is a number from 1 to 65535") as caught:
            await house.resolve("a")
        assert (caught.value.reason, caught.value.stalled) == ("EngineInvalid", True)


async def test_engine_whose_queries_would_never_end_is_not_used() -> None:
    """To the HTTP client a timeout of nothing is none: one query that hangs would hold everything up."""
    async with a_house() as (house, admin):
        house.kube.engine("shop", "engine", url=admin.url, limits={"queryTimeout": "0s"})
        with pytest.raises(Waiting, match=r"spec\.limits\.queryTimeout: it must be longer than nothing"):
            await house.resolve("shop")


async def test_engine_that_was_created_while_its_absence_was_told_stays_known() -> None:
    async with a_house() as (house, admin):
        missing = house.kube.get

        async def slow(resource: Any, namespace: str | None, name: str, **options: Any) -> Any:
            with suppress(ObjectNotFound):
                return await missing(resource, namespace, name, **options)
            house.define("shop", url=admin.url, suspend=True)
            raise ObjectNotFound(name)

        house.kube.get = slow  # type: ignore[method-assign]
        await house.engines.refresh(("shop", "engine"))
        assert house.engines.uid(("shop", "engine")) == "uid-shop-engine"


# Credentials that change.


async def test_token_that_is_rotated_goes_into_the_client_that_is_in_use() -> None:
    async with a_house() as (house, admin):
        auth = {"bearerTokenSecret": {"name": "token", "key": "token"}}
        house.token = "old"
        house.kube.secret("shop", "token", token="old")
        house.define("shop", url=admin.url, auth=auth)
        under_way = await house.resolve("shop")
        house.token = "new"
        house.kube.secret("shop", "token", token="new")
        await house.engines.renew(under_way)
        assert await under_way.station.client.cluster_name() == "c"
        assert (await house.resolve("shop")).station is under_way.station


async def test_token_that_is_rotated_wrongly_is_not_hidden_by_what_was_learned_before() -> None:
    async with a_house() as (house, admin):
        house.token = "old"
        house.kube.secret("shop", "token", token="old")
        house.define("shop", url=admin.url, auth={"bearerTokenSecret": {"name": "token", "key": "token"}})
        await house.resolve("shop")
        house.kube.secret("shop", "token", token="wrong")
        with pytest.raises(Waiting) as caught:
            await house.resolve("shop")
        assert caught.value.reason == "Unauthorized"
        assert "wrong" not in caught.value.message


async def test_query_timeout_that_is_changed_holds_at_once() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        one = await house.resolve("shop")
        house.define("shop", url=admin.url, limits={"queryTimeout": "3s"})
        await house.resolve("shop")
        assert one.station.query_timeout == 3.0


# Replaced in mid-run.


@pytest.mark.parametrize("change", ["recreated", "deleted", "moved"])
async def test_engine_that_is_another_one_now_is_noticed(change: str) -> None:
    async with a_house() as (house, admin):
        obj = house.define("shop", url=admin.url)
        under_way = await house.resolve("shop")
        assert not house.engines.replaced(under_way)
        if change == "recreated":
            house.define("shop", url=admin.url, uid="another")
        elif change == "moved":
            house.define("shop", url="http://elsewhere.example")
        else:
            house.engines.observe(obj | {"metadata": obj["metadata"] | {"resourceVersion": "999"}}, deleted=True)
        assert house.engines.replaced(under_way)


async def test_engine_respelled_is_the_same_one() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url)
        under_way = await house.resolve("shop")
        house.define("shop", url=spelled(admin.url))
        assert not house.engines.replaced(under_way)


async def test_watch_that_is_behind_does_not_bring_the_past_back() -> None:
    """The object was read afresh for an action; the watch tells of its predecessor's last change only then."""
    async with a_house() as (house, admin):
        old = house.define("shop", url=admin.url, uid="first")
        house.kube.engine("shop", "engine", uid="second", url=admin.url, suspend=True)
        under_way = await house.resolve("shop")
        house.engines.observe(old, deleted=False)
        assert not house.engines.replaced(under_way)
        assert house.engines.suspended(under_way.station.address)


# Probes.


@pytest.mark.parametrize(
    ("version", "reason", "stalled"),
    [("1.5.3", "VersionUnsupported", True), ("2.0.0", "VersionUnsupported", True), ("banana", "BadReply", False)],
)
async def test_version_that_cannot_be_used(version: str, reason: str, stalled: bool) -> None:
    async with a_house() as (house, admin):
        house.version = version
        house.define("shop", url=admin.url)
        with pytest.raises(Waiting) as caught:
            await house.resolve("shop")
        assert (caught.value.reason, caught.value.stalled) == (reason, stalled)


async def test_probe_is_relied_on_for_a_while_and_not_by_who_wants_it_fresh() -> None:
    async with a_house() as (house, admin):
        obj = house.define("shop", url=admin.url)
        await house.resolve("shop")
        house.now += PROBE_SECONDS / 2
        asked = len(admin.asked)
        await house.resolve("shop")
        assert len(admin.asked) == asked
        await house.engines.connect(located(obj), fresh=True)
        assert len(admin.asked) > asked


# Who may refer.


async def test_default_is_the_one_of_the_own_namespace_else_of_the_operator() -> None:
    async with a_house() as (house, _):
        house.define("operator-system", "default", url="http://a.example", allowedNamespaces={"from": "All"})
        house.define("shop", "default", url="http://b.example")
        assert (await house.engines.locate(None, "shop")).full_name == "shop/default"
        assert (await house.engines.locate(None, "other")).full_name == "operator-system/default"


async def test_default_of_the_operator_may_be_closed() -> None:
    async with a_house() as (house, _):
        house.define("operator-system", "default", url="http://a.example")
        with pytest.raises(Waiting) as caught:
            await house.engines.locate(None, "shop")
        assert caught.value.reason == "EngineNotAllowed"


@pytest.mark.parametrize(
    ("trusted", "of", "reason"),
    [
        pytest.param((), "ops", None, id="nobody is named: all are trusted"),
        pytest.param(("ops",), "ops", None, id="named"),
        pytest.param(("infra",), "ops", "EngineNotAllowed", id="another is named"),
        pytest.param(("infra",), "shop", None, id="for itself a namespace defines what it likes"),
    ],
)
async def test_trusted_namespaces_define_engines_for_others(
    trusted: tuple[str, ...], of: str, reason: str | None
) -> None:
    async with a_house() as (house, _):
        house.trusted = trusted
        house.restarted()
        for namespace in ("ops", "shop"):
            house.define(namespace, url="http://a.example", allowedNamespaces={"from": "All"})
        if reason is None:
            assert (await house.engines.locate(EngineRef(namespace=of, name="engine"), "shop")).namespace == of
            return
        with pytest.raises(Waiting) as caught:
            await house.engines.locate(EngineRef(namespace=of, name="engine"), "shop")
        assert caught.value.reason == reason
        assert "trustedEngineNamespaces" in caught.value.message


async def test_engine_that_is_missing_is_named_with_what_to_do() -> None:
    async with a_house() as (house, _):
        with pytest.raises(Waiting) as caught:
            await house.engines.locate(None, "shop")
        assert caught.value.reason == "EngineNotFound"
        assert "shop" in caught.value.message
        assert "operator-system" in caught.value.message


async def test_operator_without_the_rights_to_look_says_which() -> None:
    async with a_house() as (house, admin):
        house.define("shop", url=admin.url, allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {}}})
        for missing in ("namespaces", "restateengines"):
            house.kube.forbidden = {missing}
            with pytest.raises(Waiting, match=missing) as caught:
                await house.resolve("other", of="shop")
            assert caught.value.reason == "Forbidden"


async def test_engines_that_are_gone_leave_nothing_behind() -> None:
    async with a_house() as (house, admin):
        for number in range(50):
            made = house.define("shop", f"e{number}", url=f"{admin.url}/{number}", suspend=True)
            with suppress(Waiting):
                await house.resolve("shop", f"e{number}")
            newer = made["metadata"] | {"resourceVersion": str(int(made["metadata"]["resourceVersion"]) + 1)}
            house.engines.observe(made | {"metadata": newer}, deleted=True)
            assert not house.engines.observe(made, deleted=False), "an older version comes late"
            house.now += 60.0
        gc.collect()
        assert dict(house.engines._budgets) == {}
        assert len(house.engines._versions) == len(house.engines._gone) <= 12
