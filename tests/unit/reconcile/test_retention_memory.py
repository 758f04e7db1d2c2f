"""What a policy remembers of services: of an engine that was created again, and of services that are there no more."""

import asyncio

import pytest

from tests.unit.reconcile.test_retention import Scene
from tests.unit.reconcile.virtual import in_virtual_time

URL = {"url": "http://engine.shop.svc:9070"}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def created_again(scene: Scene, name: str = "default") -> None:
    """As a GitOps tool does that prunes and applies."""
    [engine] = scene.wires.api.all("restateengines")
    scene.wires.api.delete("restateengines", "shop", engine["metadata"]["name"])
    scene.engines.observe(engine, deleted=True)
    scene.engines.observe(scene.make("RestateEngine", "restateengines", name, URL), deleted=False)


@pytest.mark.parametrize("restarted", [False, True])
@in_virtual_time
async def test_engine_that_is_created_again_restores_what_held_on_the_deployments_that_were_noted(
    scene: Scene, restarted: bool
) -> None:
    scene.serve("a", "b")
    scene.policy("a", "b", onDelete="Restore")
    await scene.look()
    scene.serve("a", revision=2, journal_retention="5h")
    await scene.look()
    created_again(scene)
    if restarted:
        scene.start()
    # What is another deployment by now cannot be known to be the same service.
    scene.serve("b", revision=3, journal_retention="7h")
    await scene.look()
    assert (scene.entry("a")["drifts"], scene.entry("a")["previous"]) == (1, {"journal": "5h"})
    assert (scene.entry("b").get("drifts", 0), scene.entry("b")["previous"]) == (0, {"journal": "7h"})
    await scene.delete()
    assert scene.journals() == {"a": "5h", "b": "7h"}


@in_virtual_time
async def test_engine_of_another_name_gets_nothing_back_that_was_noted_on_the_one_before(scene: Scene) -> None:
    """Two clusters may have one name, and a copy of one the same deployments."""
    scene.serve("a", journal_retention="5h")
    scene.policy("a", onDelete="Restore")
    await scene.look()
    created_again(scene, "other")
    scene.patch({"spec": {"engineRef": {"name": "other"}}})
    await scene.look()
    assert "previous" not in scene.entry("a")
    await scene.delete()
    assert scene.journals() == {"a": "2h"}


@in_virtual_time
async def test_services_that_are_gone_hide_no_others_and_become_not_more_for_ever(scene: Scene) -> None:
    """A name for each release, and a prefix that means them all."""
    scene.policy("release-*", interval="1s")
    scene.serve("release-stays")
    for first in range(0, 240, 80):
        names = [f"release-{number:03}" for number in range(first, first + 80)]
        scene.serve(*names)
        await scene.look()
        for name in names:
            del scene.services[name]
        await scene.look()
        assert "and 75 more: the engine has them no more" in scene.told[-1]
        # Times of a status are whole seconds.
        await asyncio.sleep(2)
    await scene.look()
    shown = [entry["name"] for entry in scene.status["services"]]
    assert shown[0] == "release-stays"
    assert len(shown) == 51
    assert min(shown[1:]) >= "release-160", "the last that went are told of"
    assert scene.status.get("omitted", 0) == 0


@in_virtual_time
async def test_what_was_taken_out_of_a_policy_is_left_as_it_is(scene: Scene) -> None:
    scene.serve("a", "b")
    scene.policy("a", "b", onDelete="Restore", timeouts={"abortTimeout": "5m"})
    await scene.look()
    scene.patch({"spec": {"services": ["a"], "timeouts": None}})
    await scene.look()
    await scene.delete()
    assert scene.journals() == {"a": "1d", "b": "2h"}
    assert scene.services["a"]["abort_timeout"] == "5m"
