"""Sweeps that wait: told once, kept from nobody else's turn, and not for ever."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from invocation_operator.cluster.chunks import SetSizes
from invocation_operator.cluster.client import Object, Resource
from invocation_operator.cluster.errors import Forbidden
from invocation_operator.reconcile import sweeps
from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.workbench import Retry
from tests.unit.reconcile.test_sweeps import API, NOON, Scene
from tests.unit.reconcile.virtual import in_virtual_time


@pytest.fixture
def scene() -> Scene:
    return Scene()


def told(scene: Scene) -> list[Object]:
    """The Events that wait to be written."""
    queue = scene.reconciler.events._queue
    return [queue.get_nowait() for _ in range(queue.qsize())]


def quota(scene: Scene) -> list[str]:
    """Keep sets out of the cluster, as long as what is returned is not empty."""
    lock, counted = scene.reconciler.lock, ["refusing"]
    lock.sizes = SetSizes(inline=2, chunk=2)
    create = lock.client.create

    async def refuses(resource: Resource, namespace: str | None, body: Object) -> Object:
        if counted and resource.plural == "configmaps":
            counted.append("again")
            name = body["metadata"]["name"]
            raise Forbidden(f'configmaps "{name}" is forbidden: exceeded quota: few, used: {len(counted)}')
        return await create(resource, namespace, body)

    lock.client.create = refuses  # type: ignore[method-assign]
    return counted


async def reconciled(scene: Scene) -> Retry:
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    outcome = await scene.reconciler.reconcile(scene.cell)
    assert isinstance(outcome, Retry)
    return outcome


@in_virtual_time
async def test_wait_for_a_quota_is_told_once_however_often_it_is_tried(scene: Scene) -> None:
    scene.completed(3)
    quota(scene)
    scene.policy()
    scene.ask("now")
    for _ in range(5):
        assert await scene.settle() == 30.0
        await asyncio.sleep(30)
    assert [event["reason"] for event in told(scene)] == ["QuotaExceeded"]


@in_virtual_time
async def test_sweep_that_waits_for_a_quota_does_not_keep_the_others_from_their_turn(scene: Scene) -> None:
    large, small = scene.completed(3), scene.completed(1, "fail_terminal")
    refusing = quota(scene)
    sweeps = [
        {"name": "large", "schedule": "0 3 * * *", "action": "Purge", "target": {"outcomes": ["Succeeded"]}},
        {"name": "small", "schedule": "0 3 * * *", "action": "Purge", "target": {"outcomes": ["Failed"]}},
    ]
    scene.make("RetentionPolicy", "retentionpolicies", "p", {"services": ["checkout"], "sweeps": sweeps})
    await scene.settle()
    scene.now = NOON + timedelta(days=1)
    assert await scene.settle() == 30.0
    assert small
    assert scene.left() == set(large)
    refusing.clear()
    await scene.settle()
    assert scene.left() == set()
    assert [len(entry["history"]) for entry in scene.status["sweeps"]] == [1, 1]


@in_virtual_time
async def test_request_that_is_withdrawn_while_it_waits_leaves_no_message(scene: Scene) -> None:
    scene.policy()
    scene.wires.engine.down = True
    scene.ask("now")
    await reconciled(scene)
    assert "cannot be used" in scene.status["sweeps"][0]["message"]
    scene.patch({"metadata": {"annotations": {"ops.restate.dev/requestedAt": None}}})
    await scene.settle()
    assert "message" not in scene.status["sweeps"][0]


@in_virtual_time
async def test_sweep_that_is_suspended_while_it_waits_leaves_no_message(scene: Scene) -> None:
    scene.policy()
    await scene.settle()
    scene.wires.engine.down = True
    scene.now = NOON + timedelta(days=1)
    await reconciled(scene)
    assert "cannot be used" in scene.status["sweeps"][0]["message"]
    scene.patch({"spec": {"suspend": True}})
    await scene.settle()
    assert "message" not in scene.status["sweeps"][0]


@in_virtual_time
async def test_request_for_a_sweep_whose_schedule_is_none_waits_and_is_told_once(scene: Scene) -> None:
    scene.policy(schedule="0 0 31 2 *")
    scene.wires.engine.down = True
    scene.ask("now")
    for _ in range(3):
        await reconciled(scene)
        await asyncio.sleep(5)
    assert len(told(scene)) == 1
    assert scene.status["sweeps"][0]["message"].startswith("schedule: "), "that needs a person"


@in_virtual_time
async def test_run_whose_engine_is_gone_after_a_crash_is_closed_and_keeps_no_sweep_of_another_engine(
    scene: Scene,
) -> None:
    scene.completed(40)
    scene.reconciler.lock.sizes = SetSizes(inline=2, chunk=20)
    scene.policy(limits={"operationsPerSecond": 20, "maxInFlight": 2})
    scene.ask("one")
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    working = asyncio.create_task(scene.reconciler.reconcile(scene.cell))
    await scene.until_left(36, working)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    scene.wires.api.delete("restateengines", "shop", "default")
    scene.make("RestateEngine", "restateengines", "other", {"url": "http://engine.shop.svc:9070"})
    scene.patch({"spec": {"engineRef": {"name": "other"}}})
    scene.ask("two")
    scene.cell = Cell(("shop", "p"), None)
    await scene.settle(scene.operator("other"))
    assert scene.left() == set()
    assert [(run["phase"], run["request"]) for run in scene.history] == [("Succeeded", "two"), ("Stopped", "one")]
    assert "the engine changed" in scene.history[1]["message"]
    assert scene.wires.api.all("configmaps") == [], "nothing is kept of a run that cannot go on"


@in_virtual_time
async def test_run_whose_engine_may_not_be_used_after_a_crash_keeps_no_sweep_of_the_engine_that_is_named_now(
    scene: Scene,
) -> None:
    scene.completed(40)
    scene.wires.api.delete("restateengines", "shop", "default")
    shared = {"url": "http://engine.shop.svc:9070", "allowedNamespaces": {"from": "All"}}
    made = {"apiVersion": API, "kind": "RestateEngine", "metadata": {"name": "shared", "namespace": "ops"}}
    scene.wires.api.create("restateengines", "ops", {**made, "spec": shared})
    scene.policy(limits={"operationsPerSecond": 20, "maxInFlight": 2})
    scene.patch({"spec": {"engineRef": {"name": "shared", "namespace": "ops"}}})
    scene.ask("one")
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    working = asyncio.create_task(scene.reconciler.reconcile(scene.cell))
    await scene.until_left(36, working)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    scene.wires.api.patch("restateengines", "ops", "shared", {"spec": {"allowedNamespaces": {"from": "Same"}}})
    other = scene.operator("other")
    scene.cell = Cell(("shop", "p"), None)
    assert await scene.settle(other) == 30.0, "it may be allowed again"
    assert "does not allow" in scene.status["sweeps"][0]["message"]
    scene.make("RestateEngine", "restateengines", "own", {"url": "http://engine.shop.svc:9070"})
    scene.patch({"spec": {"engineRef": {"name": "own", "namespace": None}}})
    scene.ask("two")
    await scene.settle(other)
    assert scene.left() == set()
    assert [(run["phase"], run["request"]) for run in scene.history] == [("Succeeded", "two"), ("Stopped", "one")]


@in_virtual_time
async def test_long_request_that_is_taken_over_is_told_once(scene: Scene) -> None:
    scene.completed(40)
    scene.policy(limits={"operationsPerSecond": 20, "maxInFlight": 2})
    scene.ask("x" * 128)
    scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
    working = asyncio.create_task(scene.reconciler.reconcile(scene.cell))
    await scene.until_left(36, working)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    scene.cell = Cell(("shop", "p"), None)
    await scene.settle(scene.operator("other"))
    assert [run["request"] for run in scene.history] == ["x" * 128]


@in_virtual_time
async def test_what_exists_is_not_swept_before_it_was_told_for_this_specification(scene: Scene) -> None:
    scene.completed(2)
    spec = {"services": ["checkout"], "retention": {"journal": "1d"}, "applyToExisting": True}
    scene.make("RetentionPolicy", "retentionpolicies", "p", spec)

    def tell(generation: int) -> None:
        status = {"observedGeneration": generation, "wouldRelease": {"results": 0, "journals": 0}}
        path = "/apis/ops.restate.dev/v1alpha1/namespaces/shop/retentionpolicies/p/status"
        scene.wires.api.request("PATCH", path, {"status": status})

    tell(0)
    await scene.settle()
    assert all("history" not in entry for entry in scene.status["sweeps"])
    assert all("message" not in entry for entry in scene.status["sweeps"])
    tell(1)
    # The model of the engine has no values of services: it is asked for them.
    await reconciled(scene)
    assert "cannot be used" in scene.status["sweeps"][0]["message"]


@pytest.mark.parametrize("watched", [True, False])
@in_virtual_time
async def test_policy_that_is_edited_while_a_sweep_is_planned_is_planned_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    good, bad = scene.completed(3), scene.completed(2, "fail_terminal")
    scene.policy()
    scene.ask("now")
    planned, edited = sweeps.make_plan, list[bool]()

    async def slow(*args: Any, **options: Any) -> Any:
        made = await planned(*args, **options)
        if not edited:
            edited.append(True)
            narrower = {
                "name": "nightly",
                "schedule": "0 3 * * *",
                "action": "Purge",
                "target": {"outcomes": ["Failed"]},
            }
            scene.patch({"spec": {"sweeps": [narrower]}})
            if watched:
                scene.cell.put(scene.wires.api.get("retentionpolicies", "shop", "p"))
        return made

    monkeypatch.setattr(sweeps, "make_plan", slow)
    await scene.settle()
    assert bad
    assert scene.left() == set(good)
