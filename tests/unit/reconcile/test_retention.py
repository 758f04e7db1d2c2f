"""Values of services kept in force: what a lost answer, a failed write, a stop in between and a crash leave."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from e2e.simulation.wires import SimulatedEngineClient, SimulatedKube
from invocation_operator.api.v1alpha1.retention import RESTORE_FINALIZER
from invocation_operator.cluster.client import Object
from invocation_operator.cluster.errors import ClusterUnavailable
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.engine import errors
from invocation_operator.engine.models import EngineCapabilities, Service, ServiceBrief
from invocation_operator.reconcile import services
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.connect import address_of
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.restore import Restorer
from invocation_operator.reconcile.retention import RetentionReconciler
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.workbench import Done, Outcome, Retry
from tests.unit.reconcile.test_sweeps import API, Wires, seconds
from tests.unit.reconcile.virtual import in_virtual_time

SHOWN = {"idempotency_retention": "1d", "journal_retention": "1d", "inactivity_timeout": "1m", "abort_timeout": "10m"}
ADDRESS = address_of("http://engine.shop.svc:9070", "cluster.local")
Write = Callable[[], Awaitable[Service]]


class Shelf(SimulatedEngineClient):
    """The engine's client, with the services that the model has no values of."""

    def __init__(self, scene: "Scene", *args: Any, **options: Any) -> None:
        super().__init__(scene.wires, scene.wires, *args, **options)  # type: ignore[arg-type]
        self.scene = scene

    async def capabilities(self) -> EngineCapabilities:
        return replace(await super().capabilities(), scopes=self.scene.scopes)

    async def services_in_brief(self) -> list[ServiceBrief]:
        return [ServiceBrief(s.name, s.revision, s.deployment_id) for s in map(self._read, self.scene.services)]

    async def service(self, name: str) -> Service:
        if name not in self.scene.services:
            raise errors.NotFound(f"no service {name}", status=404)
        return self._read(name)

    async def set_service(self, name: str, values: Any) -> Service:
        async def write() -> Service:
            self.scene.writes.append((name, dict(values)))
            self.scene.services[name] |= values
            return await self.service(name)

        return await self.scene.on_write(name, write)

    def _read(self, name: str) -> Service:
        raw = self.scene.services[name]
        return Service(name, raw["ty"], raw["deployment_id"], raw["revision"], (), None, None, None, raw=raw)


class Scene:
    """Policies, one engine and its services."""

    def __init__(self) -> None:
        self.wires = Wires()
        # A deletion's time is compared with that of the wall.
        self.wires.api.now = time.time
        self.services: dict[str, Object] = {}
        self.writes: list[tuple[str, Object]] = []
        self.told: list[str] = []
        self.scopes = True
        for namespace in ("shop", "ops"):
            self.wires.api.create("namespaces", None, {"metadata": {"name": namespace}})
        self.make("RestateEngine", "restateengines", "default", {"url": "http://engine.shop.svc:9070"})
        self.start()

    async def on_write(self, name: str, write: Write) -> Service:
        """What becomes of a change: a test puts a fault here."""
        return await write()

    def start(self) -> None:
        """A process that knows nothing of what was before."""
        kube: Any = SimulatedKube(self.wires, self.wires)  # type: ignore[arg-type]
        self.kube = kube
        self.engines = Engines(
            kube,
            operator_namespace="ops",
            cluster_domain="cluster.local",
            trusted_namespaces=(),
            call_timeout=5.0,
            batch_endpoints=True,
            clock=seconds,
            engine_client=lambda connection, **options: Shelf(self, connection, **options),
        )
        for obj in self.wires.api.all("restateengines"):
            self.engines.observe(obj, deleted=False)
        events = EventRecorder(kube, "me")
        events.tell = self._tell  # type: ignore[assignment, method-assign]
        self.policies = Policies(self.engines, kube)
        self.cell = Cell(("shop", "p"), None)
        self.reconciler = RetentionReconciler(
            kube,
            self.engines,
            self.policies,
            Restorer(kube, self.engines, events, seconds),
            events,
            SchemaGate(kube, seconds),
            seconds,
            lambda: None,
        )

    def _tell(self, _: Object, reason: str, message: str, kind: str = "Normal") -> None:
        self.told.append(f"{reason}: {message}")

    def make(self, kind: str, plural: str, name: str, spec: Object) -> Object:
        body = {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}
        return self.wires.api.create(plural, "shop", body)

    def policy(self, *names: str, **spec: Any) -> None:
        given = {"services": list(names), "retention": {"journal": "2h"}, **spec}
        self.make("RetentionPolicy", "retentionpolicies", "p", given)

    def serve(self, *names: str, revision: int = 1, **values: str) -> None:
        """Register services, at the values of their code."""
        for name in names:
            own = {"ty": "Service", "revision": revision, "deployment_id": f"dp_{revision}"}
            self.services[name] = {**SHOWN, **own, **values}

    @property
    def obj(self) -> Object | None:
        return self.wires.api.get("retentionpolicies", "shop", "p")

    @property
    def status(self) -> Object:
        return dict((self.obj or {}).get("status") or {})

    def entry(self, name: str) -> Object:
        return next(e for e in self.status["services"] if e["name"] == name)

    def reason(self) -> str:
        return str(self.status["conditions"][0]["reason"])

    def patch(self, patch: Object) -> None:
        self.wires.api.patch("retentionpolicies", "shop", "p", patch)

    def journals(self) -> dict[str, str]:
        return {name: raw["journal_retention"] for name, raw in self.services.items()}

    def observe(self) -> None:
        """What the watch does."""
        for policy in self.wires.api.all("retentionpolicies"):
            self.policies.observe(policy, deleted=False)
        self.cell.put(self.obj)

    async def look(self) -> Outcome:
        self.observe()
        return await self.reconciler.reconcile(self.cell)

    async def delete(self) -> None:
        """Delete the policy and see it through."""
        self.wires.api.delete("retentionpolicies", "shop", "p")
        for _ in range(100):
            if self.obj is None:
                return
            outcome = await self.look()
            await asyncio.sleep(outcome.seconds if isinstance(outcome, Retry) else 0.0)
        raise AssertionError(f"it is not let go: {self.obj}")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def lost_once(scene: Scene, at: str) -> None:
    """The answer to a change of ``at`` is lost: it was made."""
    struck: list[str] = []

    async def on_write(name: str, write: Write) -> Service:
        found = await write()
        if name == at and not struck:
            struck.append(name)
            raise errors.Unreachable("reset", sent=True)
        return found

    scene.on_write = on_write  # type: ignore[method-assign]


@in_virtual_time
async def test_what_was_changed_is_restored_though_the_answer_was_lost(scene: Scene) -> None:
    scene.serve("a", "b", "c")
    scene.policy("a", "b", "c", onDelete="Restore")
    lost_once(scene, "b")
    await scene.look()
    assert scene.reason() == "Unreachable"
    await asyncio.sleep(60)
    await scene.look()
    assert scene.status["summary"] == "3/3"
    assert [e["previous"] for e in scene.status["services"]] == [{"journal": "1d"}] * 3
    await scene.delete()
    assert scene.journals() == dict.fromkeys("abc", "1d")


@in_virtual_time
async def test_policy_whose_deletion_the_watch_missed_is_not_kept_in_force(scene: Scene) -> None:
    gone: list[Object] = []
    scene.reconciler.gone = gone.append
    scene.serve("a")
    scene.policy("a")
    await scene.look()
    last = scene.obj
    scene.wires.api.delete("retentionpolicies", "shop", "p")
    scene.serve("a", revision=2)
    assert isinstance(await scene.reconciler.reconcile(scene.cell), Done)
    assert (gone, scene.journals()) == ([last], {"a": "1d"})


@in_virtual_time
async def test_drift_whose_correction_was_not_answered_is_counted_and_told_once(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a")
    await scene.look()
    scene.serve("a", revision=2)
    lost_once(scene, "a")
    await scene.look()
    await asyncio.sleep(60)
    await scene.look()
    await scene.look()
    assert (scene.entry("a")["drifts"], scene.entry("a").get("lastDriftReason")) == (1, "NewDeployment")
    assert sum(text.startswith("DriftCorrected") for text in scene.told) == 1
    assert "journal was 1d and is 2h again" in next(t for t in scene.told if t.startswith("DriftCorrected"))


@in_virtual_time
async def test_drift_is_told_though_what_it_missed_cannot_be_counted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any) -> int:
        raise errors.Unreachable("the query took too long", sent=True)

    monkeypatch.setattr(services, "missed", slow)
    scene.serve("a", "b")
    scene.policy("a", "b")
    await scene.look()
    scene.serve("a", "b", revision=2)
    await scene.look()
    assert scene.journals() == {"a": "2h", "b": "2h"}, "one that cannot be counted keeps nobody"
    assert scene.status["drifts"] == 2
    assert scene.reason() == "InForce"


@in_virtual_time
async def test_kill_switch_stops_between_services(scene: Scene) -> None:
    scene.serve("a", "b", "c")
    scene.policy("a", "b", "c")

    async def on_write(name: str, write: Write) -> Service:
        found = await write()
        engine = scene.wires.api.patch("restateengines", "shop", "default", {"spec": {"suspend": True}})
        scene.engines.observe(engine, deleted=False)
        return found

    scene.on_write = on_write  # type: ignore[method-assign]
    await scene.look()
    assert [name for name, _ in scene.writes] == ["a"]
    assert scene.reason() == "EngineSuspended"


CHANGES = [
    ({"spec": {"suspend": True}}, "Suspended", "suspended"),
    ({"spec": {"drift": "Report"}}, "Drifted", "told to report"),
    ({"spec": {"services": ["a"]}}, "InForce", "narrowed"),
]


@pytest.mark.parametrize(("patch", "reason", "why"), CHANGES, ids=[row[2] for row in CHANGES])
@in_virtual_time
async def test_policy_that_is_changed_meanwhile_sets_nothing_more_of_what_it_said(
    scene: Scene, patch: Object, reason: str, why: str
) -> None:
    scene.serve("a", "b", "c")
    scene.policy("a", "b", "c")

    async def on_write(name: str, write: Write) -> Service:
        found = await write()
        scene.patch(patch)
        scene.observe()
        return found

    scene.on_write = on_write  # type: ignore[method-assign]
    await scene.look()
    await scene.look()
    assert [name for name, _ in scene.writes] == ["a"], why
    assert scene.reason() == reason


@in_virtual_time
async def test_policy_that_is_deleted_meanwhile_sets_nothing_more(scene: Scene) -> None:
    scene.serve("a", "b", "c")
    scene.policy("a", "b", "c")

    async def on_write(name: str, write: Write) -> Service:
        found = await write()
        scene.wires.api.delete("retentionpolicies", "shop", "p")
        scene.cell.put(None)
        return found

    scene.on_write = on_write  # type: ignore[method-assign]
    await scene.look()
    assert [name for name, _ in scene.writes] == ["a"]


@in_virtual_time
async def test_policy_that_says_keep_by_now_restores_nothing(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    # Suspended it is not looked at: the finalizer stays.
    scene.patch({"spec": {"onDelete": "Keep", "suspend": True}})
    await scene.look()
    assert (scene.obj or {})["metadata"]["finalizers"] == [RESTORE_FINALIZER]
    await scene.delete()
    assert scene.journals() == {"a": "2h"}


@in_virtual_time
async def test_restoration_goes_on_beside_a_service_that_vanishes_or_is_refused(scene: Scene) -> None:
    scene.serve("a", "b", "c", "d")
    scene.policy("a", "b", "c", "d", onDelete="Restore")
    await scene.look()

    async def on_write(name: str, write: Write) -> Service:
        if name == "a":
            del scene.services["a"]
            raise errors.NotFound("no service a", status=404)
        if name == "c":
            raise errors.Rejected("not that", status=400)
        return await write()

    scene.on_write = on_write  # type: ignore[method-assign]
    await scene.delete()
    assert scene.journals() == {"b": "1d", "c": "2h", "d": "1d"}
    assert any(text.startswith("Restored: ") and "b, d" in text for text in scene.told)
    assert any(text.startswith("RestoreGivenUp: ") and "c" in text for text in scene.told)


@in_virtual_time
async def test_restoration_outlives_a_guardrail_that_was_there_for_a_while(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    for services_kept in (["a"], None):
        patch = {"spec": {"guardrails": {"protectedServices": services_kept}}}
        scene.engines.observe(scene.wires.api.patch("restateengines", "shop", "default", patch), deleted=False)
        await scene.look()
    assert scene.reason() == "InForce"
    await scene.delete()
    assert scene.journals() == {"a": "1d"}


@in_virtual_time
async def test_policy_that_sets_values_no_more_says_nothing_of_services(scene: Scene) -> None:
    scene.serve("a")
    sweep = {"name": "nightly", "schedule": "0 3 * * *", "action": "Purge"}
    scene.policy("a", sweeps=[sweep])
    await scene.look()
    assert scene.status["summary"] == "1/1"
    scene.patch({"spec": {"retention": None}})
    await scene.look()
    assert scene.reason() == "SweepsOnly"
    shown = {name for name in ("services", "summary", "notInForce", "warnings") if name in scene.status}
    assert shown == set()
    assert scene.status.get("matched", 0) == 0


@in_virtual_time
async def test_engine_that_throttles_is_waited_for_and_refuses_no_values(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    throttled: list[str] = []

    async def on_write(name: str, write: Write) -> Service:
        throttled.append(name)
        if len(throttled) in (1, 3):
            raise errors.Throttled("slow down", status=429, retry_after=1.0)
        return await write()

    scene.on_write = on_write  # type: ignore[method-assign]
    await scene.look()
    assert scene.reason() == "Throttled"
    await scene.look()
    assert scene.reason() == "InForce"
    await scene.delete()
    assert scene.journals() == {"a": "1d"}
    assert not any(text.startswith("RestoreGivenUp") for text in scene.told)


@in_virtual_time
async def test_restoration_outlives_an_api_server_that_is_away_for_a_moment(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    located, failed = scene.engines.locate, list[str]()

    async def away_once(*args: Any) -> Any:
        if not failed:
            failed.append("once")
            raise ClusterUnavailable("503")
        return await located(*args)

    scene.engines.locate = away_once  # type: ignore[assignment, method-assign]
    await scene.delete()
    assert scene.journals() == {"a": "1d"}


@in_virtual_time
async def test_what_was_set_is_told_and_restored_though_status_could_not_be_written(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    scene.serve("a", revision=2, journal_retention="5h")
    write, failed = scene.kube.patch_status, list[str]()

    async def away_once(resource: Any, namespace: str, name: str, patch: Object) -> Object:
        if "services" in patch["status"] and not failed:
            failed.append(name)
            raise ClusterUnavailable("503")
        return dict(await write(resource, namespace, name, patch))

    scene.kube.patch_status = away_once
    with pytest.raises(ClusterUnavailable):
        await scene.look()
    await scene.look()
    await scene.look()
    assert (scene.entry("a")["drifts"], scene.entry("a")["lastDriftReason"]) == (1, "NewDeployment")
    assert sum(text.startswith("DriftCorrected") for text in scene.told) == 1
    await scene.delete()
    assert scene.journals() == {"a": "5h"}


@pytest.mark.parametrize("looks", [0, 1, 2])
@in_virtual_time
async def test_what_was_changed_is_restored_by_the_next_process_though_the_engine_was_away(
    scene: Scene, looks: int
) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    scene.serve("a", revision=2, journal_retention="5h")
    lost_once(scene, "a")
    await scene.look()
    scene.start()
    scene.wires.engine.down = True
    for _ in range(looks):
        await scene.look()
        await asyncio.sleep(60)
    scene.wires.engine.down = False
    await scene.look()
    assert scene.reason() == "InForce"
    await scene.delete()
    assert scene.journals() == {"a": "5h"}


@in_virtual_time
async def test_hold_that_cannot_be_asked_of_the_engine_stops_nobody_else(scene: Scene) -> None:
    scene.scopes = False
    scene.serve("a")
    scene.policy("a", holds=[{"name": "case", "target": {"scopes": ["x"]}}])
    assert await scene.look() == Retry(30.0)
    assert scene.reason() == "InForce"
    assert "nothing can be purged" in scene.status["holds"][0]["message"]


@in_virtual_time
async def test_what_would_be_released_is_that_of_the_specification_which_status_speaks_of(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a")
    await scene.look()
    assert scene.status["wouldRelease"]["results"] == 0
    scene.wires.engine.down = True
    await asyncio.sleep(60)
    scene.patch({"spec": {"retention": {"journal": "1h"}, "applyToExisting": True}})
    await scene.look()
    assert "wouldRelease" not in scene.status
    scene.wires.engine.down = False
    await asyncio.sleep(60)
    await scene.look()
    assert scene.status["wouldRelease"]["results"] == 0


@in_virtual_time
async def test_service_of_an_older_policy_is_not_restored_by_the_younger(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    older = {"services": ["a"], "retention": {"journal": "2h"}}
    scene.make("RetentionPolicy", "retentionpolicies", "a", older)
    scene.policies.lead(scene.wires.api.get("retentionpolicies", "shop", "a")["metadata"]["uid"], ADDRESS)  # type: ignore[index]
    await scene.look()
    assert scene.reason() == "Conflicted"
    await scene.delete()
    assert scene.journals() == {"a": "2h"}


@in_virtual_time
async def test_service_that_was_removed_and_registered_anew_is_another_one_though_of_the_same_revision(
    scene: Scene,
) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    scene.serve("a", deployment_id="dp_other", journal_retention="5h")
    await scene.look()
    assert (scene.entry("a")["lastDriftReason"], scene.entry("a")["previous"]) == ("NewDeployment", {"journal": "5h"})
    scene.start()
    await scene.delete()
    assert scene.journals() == {"a": "5h"}


@in_virtual_time
async def test_service_that_was_removed_and_registered_anew_is_not_restored(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    # Its code says by chance what the policy said.
    scene.serve("a", deployment_id="dp_other", journal_retention="2h")
    await scene.delete()
    assert scene.journals() == {"a": "2h"}


@in_virtual_time
async def test_hold_that_was_taken_out_is_not_listed_though_the_rest_cannot_be_read(scene: Scene) -> None:
    scene.serve("a")
    holds = [{"name": name, "target": {"outcomes": ["Failed"]}} for name in ("one", "two")]
    scene.policy("a", holds=holds)
    await scene.look()
    assert [entry["name"] for entry in scene.status["holds"]] == ["one", "two"]
    scene.patch({"spec": {"holds": holds[:1], "unknown": True}})
    await scene.look()
    assert scene.reason() == "UnknownField"
    assert {held.name for held in scene.engines.holds(ADDRESS)} == {"one"}
    assert [entry["name"] for entry in scene.status["holds"]] == ["one"]


@in_virtual_time
async def test_everything_settles(scene: Scene) -> None:
    scene.serve("a")
    scene.policy("a")
    outcome = await scene.look()
    assert outcome == Retry(30.0)
    await scene.delete()
    assert await scene.look() == Done()
