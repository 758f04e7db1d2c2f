"""The engine's version and abilities, and what a RestateEngine shows of them."""

import json

from e2e.rig import Engine
from tests.operator.conftest import Stage, conditions
from tests.operator.fronts import Fronted, fronted, message_of


def reporting(it: Fronted, version: str) -> None:
    """From now on the engine claims to be of this version."""
    it.front.answer("/version", json.dumps({"version": version}))


def test_version_that_is_too_old_is_refused_until_it_is_upgraded(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        reporting(it, "1.5.3")
        it.define()
        found = it.engine_says("VersionUnsupported")
        assert conditions(found)["Stalled"] == ("True", "VersionUnsupported")
        assert "1.5.3" in message_of(found)
        assert "upgrade" in message_of(found)
        it.cancel(id_)
        assert "upgrade" in it.waits("VersionUnsupported")

        it.front.answer("/version", '{"version": "as you like it"}')
        assert "admin API" in message_of(it.engine_says("BadReply"))
        it.front.answer("/version", '{"name": "something else"}')
        stage.until(lambda: "no version" in message_of(it.engine_says("BadReply")), 60)
        it.waits("BadReply")
        assert not it.front.writes()

        it.front.behave()
        assert stage.ended("act", timeout=60)["status"]["phase"] == "Succeeded"


def test_version_newer_than_what_was_tried_is_used_and_said_to_be_so(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        reporting(it, "1.8.0-rc.1")
        it.define()
        found = it.engine_says("Reachable")
        assert conditions(found) == {"Ready": ("True", "Reachable")}
        assert found["status"]["version"] == "1.8.0-rc.1"
        assert "newer than" in message_of(found)
        it.cancel(id_)
        assert stage.ended("act", timeout=60)["status"]["phase"] == "Succeeded"


def test_engine_shows_what_it_offers_and_how_many_invocations_it_has(stage: Stage, engine_old: Engine) -> None:
    old = engine_old.send("LabSvc", "sleep_long", 3600.0)
    engine_old.wait_status(old, "suspended")
    stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage) as it:
        it.define("newest")
        it.define("oldest", url=engine_old.admin_url)
        newest = it.engine_says("Reachable", name="newest")["status"]
        oldest = it.engine_says("Reachable", name="oldest")["status"]
        engine_old.operate(old, "kill")
        assert (newest["version"], oldest["version"]) == ("1.7.12", "1.6.1")
        assert newest["capabilities"] == {
            "pause": True,
            "batch": True,
            "scopes": True,
            "automaticIdempotencyKeys": newest["capabilities"]["automaticIdempotencyKeys"],
        }
        assert oldest["capabilities"] == {
            "pause": True,
            "batch": True,
            "scopes": False,
            "automaticIdempotencyKeys": False,
        }
        for status in (newest, oldest):
            assert {count["name"]: count["count"] for count in status["invocations"]}["Suspended"] >= 1
        assert newest["clusterName"] == stage.engine.cluster_name
        assert oldest["clusterName"] == engine_old.cluster_name

        shown = stage.control_plane.kubectl("get", "reng", "newest", "oldest", "-n", stage.namespace).stdout
        header, *rows = [line.split() for line in shown.splitlines()]
        assert header == ["NAME", "URL", "VERSION", "READY", "REASON", "AGE"]
        assert [row[:5] for row in rows] == [
            ["newest", it.front.url, "1.7.12", "True", "Reachable"],
            ["oldest", engine_old.admin_url, "1.6.1", "True", "Reachable"],
        ]
