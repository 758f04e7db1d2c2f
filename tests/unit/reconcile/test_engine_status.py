"""The status of a RestateEngine, whatever the engine and an earlier status say."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from invocation_operator.cluster.client import KubeClient, Object
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.observe.metrics import REGISTRY
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.engine import FORGET_SECONDS, SAMPLE_SECONDS, EngineReconciler
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.workbench import Done, Retry
from tests.unit.engine.fake_admin import Asked, Wire, fake_admin
from tests.unit.reconcile.fake_kube import FakeKube

KNOWN = ("pending", "scheduled", "ready", "running", "suspended", "backing-off", "paused", "completed")


class Kube(FakeKube):
    async def patch_status(self, resource: Any, namespace: str, name: str, patch: Object) -> Object:
        obj = self.objects[(resource.plural, namespace, name)]
        status = {k: v for k, v in ({**(obj.get("status") or {})} | patch["status"]).items() if v is not None}
        uid = {"uid": obj["metadata"]["uid"]}
        return self.put(resource, namespace, name, spec=obj["spec"], status=status, metadata=uid)


class House:
    def __init__(self, counts: list[dict[str, Any]]) -> None:
        self.counts = counts
        self.kube = Kube()
        self.now = 0.0
        self.gone: Callable[[], object] = lambda: None
        """Called when the engine is asked for its counts."""
        client = cast("KubeClient", self.kube)
        self.engines = Engines(
            client,
            operator_namespace="ops",
            cluster_domain="cluster.local",
            trusted_namespaces=(),
            call_timeout=5.0,
            batch_endpoints=True,
            clock=lambda: self.now,
        )
        self.reconciler = EngineReconciler(client, self.engines, EventRecorder(client, "me"), lambda: self.now)

    async def admin(self, asked: Asked, wire: Wire) -> None:
        if asked.path == "/version":
            await wire.json(200, {"version": "1.7.12"})
        elif asked.path == "/cluster-health":
            await wire.json(200, {"cluster_name": "c"})
        elif asked.path == "/query":
            if "count(*) as n" in asked.sql:
                self.gone()
            await wire.json(200, {"rows": self.counts if "count(*) as n" in asked.sql else []})
        else:
            await wire.reply(404, kind="")

    async def status(self, url: str, name: str = "e", **fields: Any) -> dict[str, Any]:
        obj = self.kube.engine("shop", name, url=url, **fields.pop("spec", {}))
        obj.update(fields)
        self.engines.observe(obj, deleted=False)
        outcome = await self.reconciler.reconcile(Cell(("shop", name), obj))
        assert isinstance(outcome, Retry)
        found: dict[str, Any] = self.kube.objects[("restateengines", "shop", name)]["status"]
        return found


def ready(status: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in status["conditions"] if c["type"] == "Ready")
    return found


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        pytest.param([{"status": "running", "n": 3}], {"Running": 3}, id="known"),
        pytest.param([{"status": "dreaming", "n": 3}], {"dreaming": 3}, id="the engine's own word"),
        pytest.param([{"n": 3}], None, id="without a word"),
        pytest.param([{"status": "running"}], None, id="without a number"),
        pytest.param([{"status": "running", "n": "many"}], None, id="no number"),
    ],
)
async def test_engine_is_reachable_whatever_its_counts_say(counts: Any, shown: Any) -> None:
    house = House(counts)
    async with fake_admin(house.admin) as admin:
        status = await house.status(admin.url)
        await house.engines.close()
    assert ready(status)["reason"] == "Reachable"
    found = status.get("invocations")
    assert (found and {c["name"]: c["count"] for c in found}) == shown


async def test_engine_with_more_statuses_than_the_crd_takes_shows_the_known_ones() -> None:
    house = House([{"status": word, "n": 1} for word in ("dreaming", "undone", *KNOWN)])
    async with fake_admin(house.admin) as admin:
        status = await house.status(admin.url)
        await house.engines.close()
    assert len(status["invocations"]) == 8
    assert not {"dreaming", "undone"} & {c["name"] for c in status["invocations"]}


async def test_engine_status_of_a_newer_operator_is_written_anew() -> None:
    house = House([])
    async with fake_admin(house.admin) as admin:
        before = {"conditions": [{"type": "Ready", "status": "Dreaming"}], "invocations": 7}
        status = await house.status(admin.url, status=before)
        await house.engines.close()
    assert ready(status)["status"] == "True"


async def test_engine_whose_secret_may_not_be_read_says_so() -> None:
    house = House([])
    house.kube.forbidden.add("secrets")
    spec = {"auth": {"bearerTokenSecret": {"name": "t", "key": "t"}}}
    condition = ready(await house.status("http://127.0.0.1:9", spec=spec))
    assert (condition["status"], condition["reason"]) == ("False", "Forbidden")
    assert "role" in condition["message"]


async def test_engines_that_are_not_looked_at_any_more_are_forgotten() -> None:
    house = House([])
    async with fake_admin(house.admin) as admin:
        for number in range(5):
            await house.status(admin.url, f"e{number}")
        house.now += FORGET_SECONDS
        await house.status(admin.url, "e4")
        assert set(house.reconciler._sampled) == {"uid-shop-e4"}
        await house.engines.close()


async def test_engine_that_goes_while_it_is_looked_at_leaves_no_series_behind() -> None:
    house = House([{"status": "running", "n": 3}])
    labels = {"namespace": "shop", "engine": "leaves"}
    async with fake_admin(house.admin) as admin:
        await house.status(admin.url, "leaves")
        assert REGISTRY.get_sample_value("invocation_operator_engine_up", labels) == 1
        obj = house.kube.objects[("restateengines", "shop", "leaves")]
        cell = Cell(("shop", "leaves"), obj)
        house.now += SAMPLE_SECONDS

        def delete() -> None:
            house.engines.observe(obj, deleted=True)
            cell.put(None)

        house.gone = delete
        await house.reconciler.reconcile(cell)
        await house.engines.close()
    assert "leaves" not in [s.labels.get("engine") for metric in REGISTRY.collect() for s in metric.samples]


async def test_engine_in_a_namespace_whose_labels_may_not_be_read_is_reachable_all_the_same() -> None:
    house = House([])
    house.kube.forbidden.add("namespaces")
    rails = {"namespaces": [{"selector": {"matchLabels": {"team": "shop"}}, "actions": ["Cancel"]}]}
    async with fake_admin(house.admin) as admin:
        status = await house.status(admin.url, spec={"guardrails": rails})
        await house.engines.close()
    assert ready(status)["reason"] == "Reachable"


async def test_engine_whose_deletion_the_watch_missed_does_not_hold_for_ever() -> None:
    house = House([])
    async with fake_admin(house.admin) as admin:
        await house.status(admin.url, "missed", spec={"suspend": True})
        obj = house.kube.objects[("restateengines", "shop", "missed")]
        address = admin.url.removeprefix("http://")
        assert house.engines.switches(address) == ["shop/missed"]
        cell = Cell(("shop", "missed"), obj)
        assert isinstance(await house.reconciler.reconcile(cell), Retry)
        del house.kube.objects[("restateengines", "shop", "missed")]
        assert isinstance(await house.reconciler.reconcile(cell), Done)
        await house.engines.close()
    assert (cell.obj, house.engines.switches(address)) == (None, [])
    assert "missed" not in [s.labels.get("engine") for metric in REGISTRY.collect() for s in metric.samples]
