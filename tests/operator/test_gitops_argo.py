"""A directory in Git that Argo CD syncs: executed once; no diff stays; self-heal and pruning do no harm."""

import pytest

from e2e.rig.judges import JudgeError, Judges
from tests.operator.conftest import ROOT, Object, Stage
from tests.operator.fronts import fronted
from tests.operator.judging import ACTION, ENGINE, NAME, POLICY, directory
from tests.operator.judging import judges as judges
from tests.operator.population import HOUR

PLURALS = {
    "InvocationAction": "invocationactions",
    "RestateEngine": "restateengines",
    "RetentionPolicy": "retentionpolicies",
}


def settled(stage: Stage, judges: Judges, manifests: list[Object], **how: bool) -> dict[str, Object]:
    """Argo CD's comparison, once it has seen the objects as they are now."""
    found: dict[str, Object] = {}

    def seen() -> bool:
        found.clear()
        found.update(judges.compare(manifests, **how))
        return all(
            one["version"] == stage.get(one["name"], PLURALS[one["kind"]])["metadata"]["resourceVersion"]
            for one in found.values()
            if one["version"]
        )

    stage.until(seen, 30)
    return found


def differing(compared: dict[str, Object]) -> dict[str, tuple[str, str]]:
    return {name: (one["live"], one["wanted"]) for name, one in compared.items() if one["modified"]}


def let_go(stage: Stage) -> bool:
    """Whether the action waits for nothing, but for Kubernetes' garbage collector, which takes half a minute to know a
    new kind.
    """
    path = f"{ROOT}/namespaces/{stage.namespace}/invocationactions/{NAME}"
    reply = stage.control_plane.request("GET", path)
    return reply.status == 404 or reply.expect(200).json()["metadata"].get("finalizers") == ["foregroundDeletion"]


@pytest.mark.parametrize("server_side", [False, True], ids=["client-side", "server-side"])
def test_argo_directory_is_executed_once_whatever_is_synced_again(
    stage: Stage, judges: Judges, server_side: bool
) -> None:
    stage.delete("production", "restateengines")
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    manifests = directory(stage, id_)
    how = {"serverSide": server_side}
    compared = judges.compare(manifests, **how)
    assert {one["missing"] for one in compared.values()} == {True}

    synced = judges.sync(manifests, **how)
    assert list(synced) == [ENGINE, POLICY, ACTION], "in the order of their waves"
    assert stage.ended(NAME)["status"]["phase"] == "Succeeded"
    stage.engine.wait_status(id_, "completed")
    compared = settled(stage, judges, manifests, **how)
    assert differing(compared) == {}
    assert {name: one["health"] for name, one in compared.items()} == dict.fromkeys((ENGINE, POLICY, ACTION), "Healthy")

    before = stage.get(NAME)
    for again in ({}, {"replace": True}):
        judges.sync(manifests, **how, **again)
        after = stage.get(NAME)
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["status"] == before["status"]
        assert differing(settled(stage, judges, manifests, **how)) == {}

    second = stage.send("sleep_long", HOUR, status="suspended")
    stage.delete(NAME)
    stage.until(lambda: judges.compare(manifests, **how)[ACTION]["missing"])
    judges.sync(manifests, **how)
    healed = stage.ended(NAME)
    assert healed["metadata"]["uid"] != before["metadata"]["uid"]
    assert healed["status"]["phase"] == "AlreadyExecuted"
    compared = settled(stage, judges, manifests, **how)
    assert (differing(compared), compared[ACTION]["health"]) == ({}, "Healthy")
    assert stage.status_of(second) == "suspended"

    judges.sync(manifests, force=True, replace=True)
    assert stage.ended(NAME)["status"]["phase"] == "AlreadyExecuted"
    assert len(stage.records(NAME)) == 1

    pruned = judges.sync(manifests[:2], **how)
    assert pruned[ACTION]["message"] == "pruned"
    stage.until(lambda: let_go(stage), 30)
    assert len(stage.records(NAME)) == 1, "the audit trail stays"


def test_argo_change_without_a_new_run_id_fails_the_sync_and_says_what_to_do(stage: Stage, judges: Judges) -> None:
    first, second = (stage.send("sleep_long", HOUR, status="suspended") for _ in range(2))
    judges.sync(directory(stage, first))
    assert stage.ended(NAME)["status"]["phase"] == "Succeeded"
    changed = directory(stage, second)
    with pytest.raises(JudgeError, match="Failed") as failed:
        judges.sync(changed)
    said = {one["name"]: one["message"] for one in failed.value.said}
    assert "set a new spec.runId" in said[NAME]
    assert stage.status_of(second) == "suspended"
    changed[2]["spec"]["runId"] = "2"
    judges.sync(changed)
    assert stage.ended(NAME)["status"]["phase"] == "Succeeded"
    stage.engine.wait_status(second, "completed")


def test_argo_waves_wait_for_an_engine_that_can_be_used_and_pass_one_that_is_switched_off(
    stage: Stage, judges: Judges
) -> None:
    stage.delete("production", "restateengines")
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    with pytest.raises(JudgeError, match=r"waiting for healthy state of ops\.restate\.dev/RestateEngine/production"):
        judges.sync(directory(stage, id_, url="http://127.0.0.1:1"), seconds=3)
    assert judges.compare(directory(stage, id_))[ACTION]["missing"]
    with fronted(stage) as it:
        judges.sync(directory(stage, id_, url=it.front.url, suspend=True))
        it.action_says("EngineSuspended", NAME)
        assert judges.health([stage.get(NAME)]) == ["Suspended"]
        judges.sync(directory(stage, id_, url=it.front.url))
        assert stage.ended(NAME)["status"]["phase"] == "Succeeded"


def test_argo_leaves_an_emergency_stop_alone_and_keeps_what_its_ttl_would_delete(stage: Stage, judges: Judges) -> None:
    manifests = directory(stage, stage.send("sleep_long", HOUR, status="suspended"))
    manifests[2]["spec"]["ttlSecondsAfterFinished"] = 1
    for server_side in (False, True):
        judges.sync(manifests, serverSide=server_side)
        stage.patch(NAME, {"suspend": True})
        compared = settled(stage, judges, manifests, serverSide=server_side)
        assert differing(compared) == {}
        judges.sync(manifests, serverSide=server_side)
        assert stage.get(NAME)["spec"]["suspend"] is True
    stage.patch(NAME, {"suspend": False})
    assert stage.ended(NAME)["status"]["phase"] == "Succeeded"
    stage.until(lambda: "TTLWithheld" in [event["reason"] for event in stage.events(NAME)], 30)
    assert settled(stage, judges, manifests)[ACTION]["version"]
