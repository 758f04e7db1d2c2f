"""Sweeps on the models of engine and API server: ticks by a clock that is set, and what a crash leaves."""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from e2e.simulation import admin
from e2e.simulation.apiserver import ApiServer
from e2e.simulation.engine import Engine
from e2e.simulation.tables import Tables
from e2e.simulation.wires import SimulatedEngineClient, SimulatedKube
from invocation_operator.api.v1alpha1.action import Phase
from invocation_operator.api.v1alpha1.sweep import SweepRun, SweepStatus
from invocation_operator.cluster.chunks import SetSizes
from invocation_operator.cluster.client import Object, Resource
from invocation_operator.cluster.errors import ClusterError, Forbidden, WriteRefused
from invocation_operator.cluster.events import EventRecorder
from invocation_operator.cluster.records import Lease, RecordStore
from invocation_operator.observe.retention import SWEPT
from invocation_operator.plan.sweeps import ended as ended_with
from invocation_operator.reconcile.authors import REQUESTED_BY, Authors
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.lock import Lock
from invocation_operator.reconcile.policies import Policies
from invocation_operator.reconcile.runner import Runner
from invocation_operator.reconcile.schema import SchemaGate
from invocation_operator.reconcile.sweepboard import SweepEntries
from invocation_operator.reconcile.sweeps import SweepReconciler
from invocation_operator.reconcile.takeover import Leases
from invocation_operator.reconcile.workbench import Done, Retry
from tests.unit.reconcile.virtual import in_virtual_time

API = "ops.restate.dev/v1alpha1"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


PATIENCE_SECONDS = 60.0


def seconds() -> float:
    """Return the time of the story, which has not begun while its scene is set."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0


class Wires:
    """No latency and no faults: every request arrives at once."""

    name = "operator"
    dead = False

    def __init__(self) -> None:
        self.api = ApiServer(lambda: NOON.timestamp() + seconds())
        self.engine = Engine(self.later, seconds, Random(1), Tables())

    def boundary(self, *_: Any) -> tuple[int, None]:
        return 0, None

    def answered(self, *_: Any) -> None:
        """Nobody notes it."""

    def sent(self, *_: Any) -> None:
        """Nobody notes it."""

    wrote = served = got = sent

    def arrived(self, _: Any, operation: Callable[[], admin.Answer]) -> admin.Answer:
        return operation()

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay, callback)

    def latency(self) -> float:
        return 0.0

    def cut_off(self, _: Any, side: str) -> bool:
        return side == "engine" and self.engine.down

    def under_way(self, _: int) -> None:
        """Nobody counts it."""

    def crash(self, _: Any) -> None:
        raise AssertionError("no faults here")

    stop = second = crash


class Scene:
    """One policy, one engine, and a reconciler whose clock is set by hand."""

    def __init__(self) -> None:
        self.wires = Wires()
        self.now = NOON
        for namespace in ("shop", "ops"):
            self.wires.api.create("namespaces", None, {"metadata": {"name": namespace}})
        spec = {"url": "http://engine.shop.svc:9070"}
        self.make("RestateEngine", "restateengines", "default", spec)
        self.ended = 0
        self.reconciler = self.operator()
        self.cell = Cell(("shop", "p"), None)

    def lose_status(self) -> None:
        """What became of the sweep is not told any more."""
        entry = {"name": "nightly", "schedule": "0 3 * * * UTC", "since": "2026-11-25T12:00:00Z"}
        self.wires.api.request(
            "PATCH",
            f"/apis/{API}/namespaces/shop/retentionpolicies/p/status",
            {"status": {"sweeps": [entry], "nextSweepTime": None, "lastSweep": None}},
        )

    def operator(self, identity: str = "me") -> SweepReconciler:
        """A process that knows nothing of what was before."""
        kube: Any = SimulatedKube(self.wires, self.wires)  # type: ignore[arg-type]
        engines = Engines(
            kube,
            operator_namespace="ops",
            cluster_domain="cluster.local",
            trusted_namespaces=(),
            call_timeout=5.0,
            batch_endpoints=True,
            clock=seconds,
            engine_client=lambda connection, **options: SimulatedEngineClient(
                self.wires,  # type: ignore[arg-type]
                self.wires,
                connection,
                **options,
            ),
        )
        for obj in self.wires.api.all("restateengines"):
            engines.observe(obj, deleted=False)
        lease = Lease(0.5)
        records = RecordStore(kube, "ops", identity, lease, seconds)
        leases = Leases(identity, lease, seconds)
        events = EventRecorder(kube, identity)

        def ended() -> None:
            self.ended += 1

        return SweepReconciler(
            client=kube,
            engines=engines,
            policies=Policies(engines, kube),
            records=records,
            lock=Lock(kube, records, leases),
            runner=Runner(kube, engines, events, seconds, lambda: False, 5.0),
            events=events,
            gate=SchemaGate(kube, seconds),
            leases=leases,
            authors=Authors(vouched=True),
            now=lambda: self.now,
            ended=ended,
        )

    def make(self, kind: str, plural: str, name: str, spec: Object) -> Object:
        body = {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}
        return self.wires.api.create(plural, "shop", body)

    def policy(self, **sweep: Any) -> None:
        made = {"name": "nightly", "schedule": "0 3 * * *", "action": "Purge", **sweep}
        self.make("RetentionPolicy", "retentionpolicies", "p", {"services": ["checkout"], "sweeps": [made]})

    def completed(self, count: int, handler: str = "echo") -> list[str]:
        return [self.wires.engine.add("checkout", handler, "completed").id for _ in range(count)]

    def left(self) -> set[str]:
        return set(self.wires.engine.living)

    @property
    def status(self) -> Object:
        found = self.wires.api.get("retentionpolicies", "shop", "p")
        assert found is not None
        return dict(found.get("status") or {})

    @property
    def history(self) -> list[Object]:
        return list(self.status["sweeps"][0].get("history", ()))

    def patch(self, patch: Object) -> None:
        self.wires.api.patch("retentionpolicies", "shop", "p", patch)

    def ask(self, value: str) -> None:
        self.patch({"metadata": {"annotations": {"ops.restate.dev/requestedAt": value}}})

    async def until_left(self, count: int, working: asyncio.Task[Any]) -> None:
        """Wait until so few are left, while ``working`` works."""
        while len(self.left()) > count:
            if working.done():
                raise AssertionError(f"it ended before that: {working.result()}")
            await asyncio.sleep(0.01)

    async def settle(self, reconciler: SweepReconciler | None = None) -> float:
        """Reconcile until there is nothing to do now; return how long there is not."""
        deadline = seconds() + PATIENCE_SECONDS
        while seconds() < deadline:
            found = self.wires.api.get("retentionpolicies", "shop", "p")
            self.cell.put(found)
            outcome = await (reconciler or self.reconciler).reconcile(self.cell)
            if isinstance(outcome, Done):
                return float("inf")
            assert isinstance(outcome, Retry)
            if outcome.seconds > 5.0:
                return outcome.seconds
            await asyncio.sleep(min(outcome.seconds, 0.05))
        raise AssertionError(f"it does not settle: {self.status}")


@pytest.fixture
def scene() -> Scene:
    return Scene()


@in_virtual_time
async def test_sweep_is_recorded_as_asked_for_by_the_author_of_its_policy(scene: Scene) -> None:
    scene.completed(1)
    scene.policy()
    scene.patch({"metadata": {"annotations": {REQUESTED_BY: "alice"}}})
    scene.ask("now")
    await scene.settle()
    [record] = scene.wires.api.all("invocationrecords")
    assert record["spec"]["requestedBy"] == "alice"


@in_virtual_time
async def test_sweep_runs_at_its_tick_and_not_before_and_not_again(scene: Scene) -> None:
    ids = scene.completed(3)
    scene.policy()
    assert await scene.settle() == 60.0
    assert scene.left() == set(ids)
    assert scene.status["nextSweepTime"] == "2026-11-26T03:00:00Z"
    scene.now = datetime(2026, 11, 26, 2, 59, 30, tzinfo=UTC)
    assert await scene.settle() == 30.0
    assert scene.left() == set(ids)
    scene.now = datetime(2026, 11, 26, 3, tzinfo=UTC)
    await scene.settle()
    assert scene.left() == set()
    [run] = scene.history
    assert (run["phase"], run["freed"], run["scheduledTime"]) == ("Succeeded", 3, "2026-11-26T03:00:00Z")
    assert scene.status["nextSweepTime"] == "2026-11-27T03:00:00Z"
    assert scene.status["lastSweep"].startswith("nightly: 3 freed")
    later = scene.completed(1)
    await scene.settle()
    assert scene.left() == set(later)
    assert scene.ended == 1


QUOTA = 'configmaps "x-0" is forbidden: exceeded quota: few, requested: count/configmaps=1, limited: count/configmaps=0'


@in_virtual_time
@pytest.mark.parametrize(
    ("plural", "refusal", "told"),
    [
        pytest.param("configmaps", Forbidden(QUOTA), "exceeded quota: few", id="a quota keeps out its set"),
        pytest.param("invocationrecords", Forbidden(QUOTA), "raise that", id="a quota keeps out its record"),
        pytest.param("configmaps", Forbidden("no right"), "extend its role", id="a right is missing"),
        pytest.param("configmaps", WriteRefused("a webhook says no"), "webhook says no", id="a webhook refuses"),
    ],
)
async def test_sweep_whose_set_cannot_be_written_down_waits_says_why_and_holds_no_lock(
    scene: Scene, plural: str, refusal: ClusterError, told: str
) -> None:
    ids, lock = scene.completed(3), scene.reconciler.lock
    lock.sizes = SetSizes(inline=0, chunk=2)
    create, refusing = lock.client.create, [True]

    async def refuses(resource: Resource, namespace: str | None, body: Object) -> Object:
        # The second chunk: the first is there by then.
        if refusing and resource.plural == plural and not body["metadata"]["name"].endswith("-0"):
            raise refusal
        return await create(resource, namespace, body)

    lock.client.create = refuses  # type: ignore[method-assign]
    scene.policy()
    scene.ask("now")
    assert await scene.settle() == 30.0
    assert told in scene.status["sweeps"][0]["message"]
    assert scene.wires.api.all("invocationrecords") == [], "nothing was asked, so it may be run later"
    assert scene.left() == set(ids)
    refusing.clear()
    await scene.settle()
    assert scene.left() == set()
    assert scene.history[0]["freed"] == 3


@in_virtual_time
async def test_missed_ticks_are_caught_up_once(scene: Scene) -> None:
    scene.completed(2)
    scene.policy()
    await scene.settle()
    scene.now = NOON + timedelta(days=9)
    await scene.settle()
    assert [run["scheduledTime"] for run in scene.history] == ["2026-12-04T03:00:00Z"]
    assert len(scene.wires.api.all("invocationrecords")) == 1


@in_virtual_time
async def test_tick_that_another_process_has_seen_to_is_not_run_again_though_status_was_lost(scene: Scene) -> None:
    scene.policy()
    await scene.settle()
    scene.completed(2)
    scene.now = NOON + timedelta(days=1)
    await scene.settle()
    later = scene.completed(2)
    scene.lose_status()
    await scene.settle(scene.operator("other"))
    assert scene.left() == set(later)
    [run] = scene.history
    assert (run["phase"], run["freed"]) == ("Succeeded", 2), "the record tells how it ended"


@in_virtual_time
async def test_tick_that_was_seen_to_is_not_run_again_on_another_default_engine_though_status_was_lost(
    scene: Scene,
) -> None:
    shared = {"url": "http://engine.shop.svc:9070", "allowedNamespaces": {"from": "All"}}
    scene.wires.api.delete("restateengines", "shop", "default")
    scene.wires.api.create("restateengines", "ops", {"metadata": {"name": "default"}, "spec": shared})
    scene.reconciler = scene.operator()
    scene.policy()
    await scene.settle()
    scene.completed(2)
    scene.now = NOON + timedelta(days=1)
    await scene.settle()
    assert scene.left() == set()
    later = scene.completed(2)
    scene.make("RestateEngine", "restateengines", "default", {"url": "http://engine.shop.svc:9070"})
    scene.lose_status()
    await scene.settle(scene.operator("other"))
    assert scene.left() == set(later)
    assert [(run["phase"], run["freed"]) for run in scene.history] == [("Succeeded", 2)]
    scene.now = NOON + timedelta(days=2)
    await scene.settle()
    assert scene.left() == set(), "the next tick is another one"


@in_virtual_time
async def test_keep_last_counts_by_handler_and_completion(scene: Scene) -> None:
    echoes, others = scene.completed(4), scene.completed(2, "fail_terminal")
    for number, id_ in enumerate(reversed(echoes)):
        scene.wires.engine.living[id_].completed = scene.wires.engine.now() + number
        scene.wires.engine._touch(scene.wires.engine.living[id_])
    scene.policy(keepLast=3)
    scene.ask("now")
    await scene.settle()
    assert scene.left() == {*echoes[:3], *others}, "the last to complete are the first that were made"
    assert scene.status["lastHandledRequest"] == "now"


@in_virtual_time
async def test_sweep_that_is_refused_is_told_and_its_tick_passes(scene: Scene) -> None:
    ids = scene.completed(3)
    scene.policy(limits={"maxTargets": 2})
    await scene.settle()
    scene.now = NOON + timedelta(days=1)
    await scene.settle()
    assert scene.left() == set(ids)
    [run] = scene.history
    assert run["phase"] == "Refused"
    assert "TooManyTargets" in run["message"]
    assert scene.wires.api.all("invocationrecords") == []
    assert await scene.settle() == 60.0


@in_virtual_time
async def test_suspended_sweep_waits_and_its_last_tick_is_caught_up(scene: Scene) -> None:
    scene.completed(1)
    scene.policy(suspend=True)
    await scene.settle()
    scene.now = NOON + timedelta(days=3)
    await scene.settle()
    assert len(scene.left()) == 1
    assert "nextSweepTime" not in scene.status
    scene.patch({"spec": {"sweeps": [{"name": "nightly", "schedule": "0 3 * * *", "action": "Purge"}]}})
    await scene.settle()
    assert scene.left() == set()
    assert [run["scheduledTime"] for run in scene.history] == ["2026-11-28T03:00:00Z"]


@in_virtual_time
async def test_sweep_that_leaves_the_policy_leaves_status(scene: Scene) -> None:
    scene.policy()
    await scene.settle()
    scene.patch({"spec": {"sweeps": None, "retention": {"journal": "1d"}}})
    assert await scene.settle() == float("inf")
    assert "sweeps" not in scene.status


@in_virtual_time
async def test_sweep_waits_for_its_engine_and_says_so(scene: Scene) -> None:
    ids = scene.completed(1)
    scene.policy()
    await scene.settle()
    scene.wires.engine.down = True
    scene.now = NOON + timedelta(days=1)
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    outcome = await scene.reconciler.reconcile(scene.cell)
    assert isinstance(outcome, Retry)
    assert "cannot be used" in scene.status["sweeps"][0]["message"]
    scene.wires.engine.down = False
    await asyncio.sleep(2.1)
    await scene.settle()
    assert scene.left().isdisjoint(ids)
    assert "message" not in scene.status["sweeps"][0]


@in_virtual_time
async def test_run_that_a_crash_cut_short_is_taken_over_and_told_once(scene: Scene) -> None:
    ids = scene.completed(40)
    scene.policy(limits={"operationsPerSecond": 20, "maxInFlight": 2})
    scene.ask("now")
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    working = asyncio.create_task(scene.reconciler.reconcile(scene.cell))
    await scene.until_left(36, working)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert scene.left() & set(ids)
    scene.cell = Cell(("shop", "p"), None)
    await scene.settle(scene.operator("other"))
    assert scene.left() == set()
    [run] = scene.history
    assert (run["phase"], run["planned"], run["request"]) == ("Succeeded", 40, "now")
    assert len(scene.wires.api.all("invocationrecords")) == 1


@in_virtual_time
@pytest.mark.parametrize("why", ["its policy is deleted", "the operator stops"])
async def test_sweep_that_does_not_come_to_its_end_does_not_count_the_run_before_it_again(
    scene: Scene, why: str
) -> None:
    def freed() -> float:
        return SWEPT.labels("shop", "p", "nightly")._value.get()  # type: ignore[no-any-return]

    before, stopping = freed(), list[bool]()
    scene.reconciler.runner.shutting_down = lambda: bool(stopping)
    scene.completed(5)
    scene.policy(limits={"operationsPerSecond": 10, "maxInFlight": 1})
    scene.ask("one")
    await scene.settle()
    assert freed() - before == 5
    scene.completed(9)
    scene.ask("two")
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    working = asyncio.create_task(scene.reconciler.reconcile(scene.cell))
    await scene.until_left(7, working)
    if why == "the operator stops":
        stopping.append(True)
    else:
        scene.cell.put(None)
    await working
    assert scene.left()
    assert freed() - before == 5


@in_virtual_time
async def test_sweep_that_leaves_its_policy_in_mid_run_stops_and_leaves_status(scene: Scene) -> None:
    ids = scene.completed(12)
    scene.policy(limits={"operationsPerSecond": 10, "maxInFlight": 1})
    scene.ask("now")
    working = asyncio.create_task(scene.settle())
    await scene.until_left(10, working)
    other = {"name": "other", "schedule": "0 4 * * *", "action": "Purge", "suspend": True}
    scene.patch({"spec": {"sweeps": [other]}})
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    await working
    assert scene.left() & set(ids), "it stopped"
    assert [entry["name"] for entry in scene.status["sweeps"]] == ["other"]
    [record] = scene.wires.api.all("invocationrecords")
    assert record["status"]["phase"] == "Stopped"


@in_virtual_time
async def test_sweep_that_is_edited_in_mid_run_goes_on_with_what_was_planned(scene: Scene) -> None:
    ids, others = scene.completed(8), scene.completed(3, "fail_terminal")
    made = {"name": "nightly", "schedule": "0 3 * * *", "action": "Purge", "target": {"outcomes": ["Succeeded"]}}
    scene.policy(target={"outcomes": ["Succeeded"]}, limits={"operationsPerSecond": 10, "maxInFlight": 1})
    scene.ask("now")
    working = asyncio.create_task(scene.settle())
    await scene.until_left(9, working)
    # Another schedule, another action and a wider target: all for the next time.
    scene.patch({"spec": {"sweeps": [{**made, "schedule": "0 4 * * *", "action": "PurgeJournal", "target": {}}]}})
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    await working
    assert scene.left() == set(others)
    assert ids
    [run] = scene.history
    assert (run["phase"], run["freed"]) == ("Succeeded", 8)
    assert scene.status["nextSweepTime"] == "2026-11-26T04:00:00Z"
    assert scene.status["lastHandledRequest"] == "now"


@in_virtual_time
async def test_what_is_held_is_planned_by_no_sweep_and_asked_by_none(scene: Scene) -> None:
    good, bad = scene.completed(3), scene.completed(2, "fail_terminal")
    holds = [{"name": "failures", "target": {"outcomes": ["Failed"]}}]
    made = scene.make("RetentionPolicy", "retentionpolicies", "legal", {"services": ["check*"], "holds": holds})
    policies = scene.reconciler.policies
    scene.policy()
    scene.ask("one")
    await scene.settle()
    assert scene.left() == set(bad)
    assert [(run["planned"], run["freed"]) for run in scene.history] == [(3, 3)]
    [record] = scene.wires.api.all("invocationrecords")
    assert "2 that match are held by RetentionPolicy shop/legal (failures)" in str(record["spec"]["plan"]["summary"])
    assert good
    policies.observe(made, deleted=True)
    scene.ask("two")
    await scene.settle()
    assert scene.left() == set()


@in_virtual_time
async def test_hold_that_comes_in_mid_run_is_heeded_from_then_on(scene: Scene) -> None:
    ids = scene.completed(12)
    scene.policy(limits={"operationsPerSecond": 10, "maxInFlight": 1})
    scene.ask("now")
    policies = scene.reconciler.policies
    working = asyncio.create_task(scene.settle())
    await scene.until_left(10, working)
    hold = {"services": ["checkout"], "holds": [{"name": "all", "target": {"ids": ids}}]}
    policies.observe(scene.make("RetentionPolicy", "retentionpolicies", "legal", hold), deleted=False)
    await policies.read()
    kept = len(scene.left())
    await working
    [run] = scene.history
    assert (run["phase"], run["planned"]) == ("Succeeded", 12)
    assert kept - 1 <= len(scene.left()) <= kept, "one may have been asked for already"
    [record] = scene.wires.api.all("invocationrecords")
    assert record["status"]["skippedReasons"] == [{"name": "Held", "count": len(scene.left())}]


# Two operators without an election.


@in_virtual_time
async def test_entry_that_is_written_on_an_older_status_takes_nothing_of_another_operator_back(scene: Scene) -> None:
    scene.policy()
    await scene.settle()
    found = scene.wires.api.get("retentionpolicies", "shop", "p")
    assert found is not None
    one, other = (SweepEntries(scene.reconciler.client, Cell(("shop", "p"), None), deepcopy(found)) for _ in range(2))

    def ended(entries: dict[str, SweepStatus]) -> None:
        run = SweepRun(scheduled_time=NOON, phase=Phase.SUCCEEDED, planned=0, freed=0)
        entries["nightly"] = ended_with(entries["nightly"], run)

    def waits(entries: dict[str, SweepStatus]) -> None:
        entries["nightly"] = entries["nightly"].model_copy(update={"message": "the engine cannot be used"})

    await one.change(ended)
    await other.change(waits)
    assert len(scene.history) == 1
    assert scene.status["sweeps"][0]["message"] == "the engine cannot be used"


@in_virtual_time
async def test_wait_that_another_operator_has_ended_is_not_told(scene: Scene) -> None:
    scene.policy()
    await scene.settle()
    scene.now = NOON + timedelta(days=1)
    stale = deepcopy(scene.wires.api.get("retentionpolicies", "shop", "p"))
    await scene.settle()
    assert len(scene.history) == 1
    scene.wires.engine.down = True
    late = scene.operator("other")
    await late.reconcile(Cell(("shop", "p"), stale))
    assert len(scene.history) == 1
    assert "message" not in scene.status["sweeps"][0]
