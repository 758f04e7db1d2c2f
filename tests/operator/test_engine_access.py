"""Who may refer to an engine, and what happens to a reference that is not allowed."""

from collections.abc import Iterator

import pytest

from tests.operator.conftest import Stage, unique
from tests.operator.fronts import fronted


@pytest.fixture
def platform(stage: Stage) -> Iterator[str]:
    """Another namespace, where a platform team keeps its engines."""
    name = unique("platform")
    stage.control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).expect(201)
    yield name
    stage.control_plane.request("DELETE", f"/api/v1/namespaces/{name}").expect()


def label(stage: Stage, **labels: str) -> None:
    path = f"/api/v1/namespaces/{stage.namespace}"
    stage.control_plane.request("PATCH", path, {"metadata": {"labels": labels}}).expect(200)


def test_reference_that_is_not_allowed_waits_and_touches_nothing(stage: Stage, platform: str) -> None:
    ids = [stage.send("sleep_long", 3600.0, status="suspended") for _ in range(3)]
    selector = {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}
    with fronted(stage) as it:
        it.define("closed", namespace=platform)
        it.define("chosen", namespace=platform, allowedNamespaces=selector)
        for name, id_ in (("closed", ids[0]), ("chosen", ids[1])):
            manifest = stage.manifest(name, "Cancel", {"ids": [id_]})
            manifest["spec"]["engineRef"] = {"name": name, "namespace": platform}
            stage.create(manifest)
            message = it.waits("EngineNotAllowed", name)
            assert "allowedNamespaces" in message
            assert f"{platform}/{name}" in message
        assert not it.front.writes()

        label(stage, team="b")
        it.touch("chosen", "invocationactions")
        it.waits("EngineNotAllowed", "chosen")
        label(stage, team="a")
        it.touch("chosen", "invocationactions")
        assert stage.ended("chosen", timeout=60)["status"]["phase"] == "Succeeded"

        path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{platform}/restateengines/closed"
        it.api.request("PATCH", path, {"spec": {"allowedNamespaces": {"from": "All"}}}).expect(200)
        assert stage.ended("closed", timeout=60)["status"]["phase"] == "Succeeded"

        label(stage, team="b")
        manifest = stage.manifest("late", "Cancel", {"ids": [ids[2]]})
        manifest["spec"]["engineRef"] = {"name": "chosen", "namespace": platform}
        stage.create(manifest)
        it.waits("EngineNotAllowed", "late")
        assert stage.status_of(ids[2]) == "suspended"


def test_engine_that_is_missing_is_waited_for(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.cancel(id_)
        assert f"{stage.namespace}/front" in it.waits("EngineNotFound")
        it.define()
        assert stage.ended("act", timeout=60)["status"]["phase"] == "Succeeded"


def test_engine_called_default_is_meant_when_nothing_is_said(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.define("default")
        manifest = stage.manifest("act", "Cancel", {"ids": [id_]})
        del manifest["spec"]["engineRef"]
        stage.create(manifest)
        done = stage.ended("act", timeout=60)
        assert done["status"]["phase"] == "Succeeded"
        assert (done["status"]["engine"]["namespace"], done["status"]["engine"]["name"]) == (stage.namespace, "default")
