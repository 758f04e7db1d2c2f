"""TTLs: a finished action goes and its record stays; what a GitOps tool owns is kept."""

from tests.operator.conftest import Stage, conditions
from tests.operator.population import HOUR


def gone(stage: Stage, name: str) -> bool:
    return stage.control_plane.request("GET", stage._path(name, "invocationactions")).status == 404


def test_finished_action_is_deleted_after_its_ttl_and_its_manifest_does_nothing_again(stage: Stage) -> None:
    id_ = stage.send("sleep_long", HOUR)
    manifest = stage.manifest("passing", "Cancel", {"ids": [id_]}, ttlSecondsAfterFinished=2)
    stage.create(manifest)
    assert stage.ended("passing", timeout=60)["status"]["phase"] == "Succeeded"
    stage.until(lambda: gone(stage, "passing"), 30)
    assert [record["status"]["phase"] for record in stage.records("passing")] == ["Succeeded"]
    # A TTL is no part of what was done: with another one it is the same manifest.
    stage.create(stage.manifest("passing", "Cancel", {"ids": [id_]}))
    assert stage.ended("passing", timeout=60)["status"]["phase"] == "AlreadyExecuted"
    assert len(stage.records("passing")) == 1


def test_ttl_that_is_set_on_a_finished_action_holds_and_a_failed_one_has_its_own(stage: Stage) -> None:
    stage.run("later", "Kill", {"ids": ["nonsense"]}, ttlSecondsAfterFinished=1, ttlSecondsAfterFailed=3600, timeout=60)
    stage.run("now", "Kill", {"ids": ["nonsense"]}, timeout=60)
    stage.patch("now", {"ttlSecondsAfterFailed": 1})
    stage.until(lambda: gone(stage, "now"), 30)
    assert conditions(stage.get("later"))["Stalled"] == ("True", "Failed")


def test_finished_action_that_helm_owns_is_kept_and_says_so(stage: Stage) -> None:
    id_ = stage.send("sleep_long", HOUR)
    manifest = stage.manifest("released", "Cancel", {"ids": [id_]}, ttlSecondsAfterFinished=1)
    manifest["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    stage.create(manifest)
    stage.ended("released", timeout=60)
    stage.until(lambda: "TTLWithheld" in [event["reason"] for event in stage.events("released")], 30)
    assert not gone(stage, "released")
