"""The bearer token of an engine: where it comes from, where it never goes, and how it changes."""

import json

from tests.operator.conftest import Stage
from tests.operator.fronts import AUTH, fronted, message_of


def test_token_from_a_labelled_secret_opens_the_engine_and_shows_nowhere(stage: Stage) -> None:
    token = "correct-horse-battery-staple"
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    with fronted(stage, token=token) as it:
        it.define(auth=AUTH)
        it.cancel(id_)
        assert it.waits("SecretNotFound")
        assert f"{stage.namespace}/token" in message_of(it.engine_says("SecretNotFound"))

        it.secret(token=token, labelled=False)
        assert "ops.restate.dev/engine-credential" in message_of(it.engine_says("SecretNotLabelled"))
        assert "is not read" in it.waits("SecretNotLabelled")

        it.secret(other=token)
        assert "'token'" in message_of(it.engine_says("SecretNotFound"))
        assert not it.front.asked, "the engine was asked without a token that it demands"

        it.secret(token="battery-staple-wrong")
        found = it.engine_says("Unauthorized")
        assert "bearerTokenSecret" in message_of(found)
        assert "bearerTokenSecret" in it.waits("Unauthorized")

        it.secret(token=f"  {token}\r\n")
        it.engine_says("Reachable")
        assert stage.ended("act", timeout=60)["status"]["phase"] == "Succeeded"

        shown = stage.log.read_text() + json.dumps([stage.get("front", "restateengines"), stage.get("act")])
        shown += json.dumps([*stage.events("front"), *stage.events("act"), *stage.records("act")])
        assert "battery-staple" not in shown


def test_token_rotated_in_mid_run_is_picked_up_without_a_restart(stage: Stage) -> None:
    ids = [stage.send("sleep_long", 3600.0) for _ in range(24)]
    stage.engine.wait_status(ids[-1], "suspended")
    with fronted(stage, token="first") as it:
        it.secret(token="first")
        it.define(auth=AUTH)
        it.engine_says("Reachable")
        it.act("act", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 6})
        stage.until(lambda: len(it.front.writes()) >= 3, 60)
        it.front.rotate_token("second")
        seen = len(it.front.asked)
        stage.until(lambda: any(not asked.authorized for asked in it.front.asked[seen:]), 60)
        waiting = it.action_says("Unauthorized")
        assert waiting["status"]["phase"] == "Running"
        assert "bearerTokenSecret" in message_of(waiting), "in mid-run, the same as before a run"
        it.secret(token="second")
        assert stage.ended("act", timeout=90)["status"]["phase"] == "Succeeded"
        it.engine_says("Reachable")
        done = [asked.path for asked in it.front.writes() if asked.authorized]
        assert len(done) == len(set(done)) == len(ids), "each is asked once, before or after the rotation"


def test_token_never_travels_over_plain_http_to_elsewhere(stage: Stage) -> None:
    """Admission refuses such a URL already; what got past it meets the operator."""
    with fronted(stage, token="secret") as it:
        it.secret(token="secret")
        path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/restateengines"
        body = {
            "apiVersion": "ops.restate.dev/v1alpha1",
            "kind": "RestateEngine",
            "metadata": {"name": "plain"},
            "spec": {"url": "http://engine.example:9070", "auth": AUTH},
        }
        reply = stage.control_plane.request("POST", path, body)
        assert reply.status == 422
        assert "plain http" in reply.json()["message"]
        it.define("otherdomain", url="http://engine.shop.svc.elsewhere.example:9070", auth=AUTH)
        found = it.engine_says("TokenOverPlainHttp", name="otherdomain")
        assert {c["type"] for c in found["status"]["conditions"]} == {"Ready", "Stalled"}
