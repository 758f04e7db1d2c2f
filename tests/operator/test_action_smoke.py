"""One Cancel from a manifest to its verified end."""

from tests.operator.conftest import Stage, conditions, results


def test_action_cancel_of_a_suspended_invocation_is_seen_cancelled(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    done = stage.run("cancel", "Cancel", {"ids": [id_]}, reason="INC-1")
    assert done["status"]["phase"] == "Succeeded"
    assert conditions(done) == {"Ready": ("True", "Succeeded")}
    assert results(done) == {id_: ("Effective", "Cancelled")}
    assert stage.status_of(id_) == "completed"


def test_action_leaves_no_annotation_and_no_finalizer(stage: Stage) -> None:
    id_ = stage.send("sleep_long", 3600.0, status="suspended")
    done = stage.run("kill", "Kill", {"ids": [id_]})
    assert "annotations" not in done["metadata"]
    assert "finalizers" not in done["metadata"]


def test_action_applied_again_after_deletion_does_nothing_and_says_so(stage: Stage) -> None:
    id_ = stage.send("hold", 3600.0, status="running")
    stage.run("pause", "Pause", {"ids": [id_]})
    stage.engine.operate(id_, "resume")
    stage.engine.wait_status(id_, "running")
    stage.delete("pause")
    again = stage.run("pause", "Pause", {"ids": [id_]})
    assert again["status"]["phase"] == "AlreadyExecuted"
    assert conditions(again) == {"Ready": ("True", "AlreadyExecuted")}
    assert stage.status_of(id_) == "running"
    assert len(stage.records("pause")) == 1
