"""A directory in Git that the libraries of Flux apply: executed once, and stopped in an emergency."""

import pytest

from e2e.rig.judges import JudgeError, Judges
from tests.operator.conftest import Stage
from tests.operator.judging import ACTION, NAME, directory
from tests.operator.judging import judges as judges
from tests.operator.population import HOUR


def test_flux_directory_is_executed_once_whatever_is_applied_again(stage: Stage, judges: Judges) -> None:
    stage.delete("production", "restateengines")
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    manifests = directory(stage, id_)
    assert set(judges.apply(manifests).values()) == {"created"}
    judges.wait(manifests, 60)
    before = stage.get(NAME)
    assert before["status"]["phase"] == "Succeeded"
    assert set(judges.apply(manifests).values()) == {"unchanged"}

    second = stage.send("sleep_long", HOUR, status="suspended")
    stage.delete(NAME)
    assert judges.apply(manifests)[ACTION] == "created"
    judges.wait(manifests, 60)
    healed = stage.get(NAME)
    assert healed["metadata"]["uid"] != before["metadata"]["uid"]
    assert healed["status"]["phase"] == "AlreadyExecuted"

    manifests[2]["spec"]["target"]["ids"] = [second]
    with pytest.raises(JudgeError, match=r"set a new spec\.runId"):
        judges.apply(manifests)
    assert stage.status_of(second) == "suspended"
    assert len(stage.records(NAME)) == 1
    judges.apply(manifests, force=True)
    assert stage.ended(NAME)["status"]["phase"] == "Succeeded", "what the page warns of: it is another manifest"
    stage.engine.wait_status(second, "completed")

    assert judges.prune(manifests[2:]) == {ACTION: "deleted"}
    assert len(stage.records(NAME)) == 2, "the audit trail stays"


def test_flux_health_check_of_what_others_depend_on_waits_and_fails_at_once(stage: Stage, judges: Judges) -> None:
    (engine, *_), target = directory(stage, url="http://127.0.0.1:1"), {"ids": ["nonsense"]}
    engine["metadata"]["name"] = "away"
    judges.apply([engine])
    with pytest.raises(JudgeError, match=r"RestateEngine.*InProgress|would exceed context deadline"):
        judges.wait([engine], 3)
    failing = stage.manifest("failing", "Kill", target)
    judges.apply([failing])
    with pytest.raises(JudgeError, match=r"InvocationAction.*Failed"):
        judges.wait([failing], 60)


def test_flux_leaves_an_emergency_stop_that_has_a_name_of_its_own(stage: Stage, judges: Judges) -> None:
    held = stage.manifest("held", "Cancel", {"ids": ["nonsense"]}, engineRef={"name": "nowhere"})
    path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/invocationactions/held"

    def stopped_by(manager: str) -> bool:
        stop = {"spec": {"suspend": True}}
        stage.control_plane.request("PATCH", f"{path}?fieldManager={manager}", stop).expect(200)
        judges.apply([held])
        return bool(stage.get("held")["spec"]["suspend"])

    judges.apply([held])
    assert not stopped_by("kubectl-patch"), "what the page warns of"
    assert stopped_by("on-call")
    assert stopped_by("on-call")
