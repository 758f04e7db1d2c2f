"""RestartAsNew in every status: at most once for each invocation, and never by accident."""

from tests.operator.conftest import Object, Stage, results, unique
from tests.operator.population import HOUR, MAKERS, outcomes, populate

RESTARTED = ("Effective", "Restarted")

BY_STATUS = {
    "scheduled": ("Skipped", "Scheduled"),
    "pending behind a key": ("Skipped", "Pending"),
    "running an open sleep": ("Skipped", "Running"),
    "suspended": ("Skipped", "Suspended"),
    "suspended and holding a key": ("Skipped", "Suspended"),
    "backing off": ("Skipped", "BackingOff"),
    "paused by its policy": ("Skipped", "Paused"),
    "paused by hand": ("Skipped", "Paused"),
    "nothing retained": ("Failed", "NotFound"),
    "succeeded": RESTARTED,
    "failed": RESTARTED,
    "killed": RESTARTED,
    "cancelled": RESTARTED,
    "object call": RESTARTED,
    "workflow run": ("Skipped", "WorkflowNotRestartable"),
    "journal purged": ("Skipped", "JournalPurged"),
}


def restarts(stage: Stage, id_: str) -> list[str]:
    """Ids of all that were restarted from ``id_``."""
    found = [row["id"] for row in stage.engine.sql(f"select id from sys_invocation where restarted_from = '{id_}'")]
    stage.ids.extend(found)
    return found


def new_ids(action: Object) -> dict[str, str]:
    return {r["id"]: r["newId"] for r in action["status"]["results"] if "newId" in r}


def test_restart_in_every_status_begins_anew_what_has_ended_and_has_its_journal(any_stage: Stage) -> None:
    made = populate(any_stage, MAKERS)
    done = any_stage.run("restart", "RestartAsNew", {"ids": list(made.values())}, timeout=60)
    assert outcomes(done, made) == BY_STATUS
    for name, expected in BY_STATUS.items():
        told = new_ids(done).get(made[name])
        assert restarts(any_stage, made[name]) == ([told] if expected == RESTARTED else []), name
    assert any_stage.status_of(made["succeeded"]) == "completed"


def test_restart_of_what_was_restarted_before_is_skipped_unless_allowed(stage: Stage) -> None:
    id_ = stage.send("echo", "x", status="completed")
    first = stage.run("first", "RestartAsNew", {"ids": [id_]}, timeout=60)
    second = stage.run("second", "RestartAsNew", {"ids": [id_]}, timeout=60)
    assert results(second) == {id_: ("Skipped", "AlreadyRestarted")}
    assert second["status"]["skippedReasons"] == [{"name": "AlreadyRestarted", "count": 1}]
    assert restarts(stage, id_) == [new_ids(first)[id_]]
    third = stage.run("third", "RestartAsNew", {"ids": [id_]}, restart={"allowRepeated": True}, timeout=60)
    assert results(third) == {id_: RESTARTED}
    assert sorted(restarts(stage, id_)) == sorted([new_ids(first)[id_], new_ids(third)[id_]])


def test_restart_of_what_was_restarted_by_hand_is_skipped(stage: Stage) -> None:
    id_ = stage.send("echo", "x", status="completed")
    stage.engine.operate(id_, "restart-as-new")
    done = stage.run("restart", "RestartAsNew", {"ids": [id_]}, timeout=60)
    assert results(done) == {id_: ("Skipped", "AlreadyRestarted")}


def test_restart_of_a_restart_is_a_first_restart(stage: Stage) -> None:
    id_ = stage.send("echo", "x", status="completed")
    new = new_ids(stage.run("first", "RestartAsNew", {"ids": [id_]}, timeout=60))[id_]
    stage.engine.wait_status(new, "completed", timeout=60)
    done = stage.run("second", "RestartAsNew", {"ids": [new]}, timeout=60)
    assert results(done) == {new: RESTARTED}


def test_restart_from_an_entry_keeps_what_the_journal_holds_up_to_it(stage: Stage) -> None:
    ids = [stage.send("steps", "x", status="completed") for _ in range(2)]
    stage.create(stage.manifest("kept", "RestartAsNew", {"ids": ids[:1]}, restart={"fromEntry": 4}))
    stage.create(stage.manifest("beyond", "RestartAsNew", {"ids": ids[1:]}, restart={"fromEntry": 99}))
    kept, beyond = stage.ended("kept", timeout=60), stage.ended("beyond", timeout=60)
    assert results(kept) == {ids[0]: RESTARTED}
    new = stage.engine.wait_status(new_ids(kept)[ids[0]], "completed", timeout=60)
    assert new is not None
    assert new["completion_result"] == "success"
    assert results(beyond) == {ids[1]: ("Failed", "Invalid")}
    assert beyond["status"]["phase"] == "Failed"
    assert "Completions" in beyond["status"]["results"][0]["error"]
    assert restarts(stage, ids[1]) == []


def test_restart_on_a_busy_object_queues_behind_its_key(stage: Stage) -> None:
    key = unique("busy")
    ended = stage.send("obj_echo", "x", service="LabObj", key=key, status="completed")
    holder = stage.send("obj_sleep", HOUR, service="LabObj", key=key, status="suspended")
    done = stage.run("restart", "RestartAsNew", {"ids": [ended]}, timeout=60)
    assert results(done) == {ended: RESTARTED}
    new = new_ids(done)[ended]
    assert stage.status_of(new) == "pending"
    stage.engine.operate(holder, "kill")
    stage.engine.wait_status(new, "completed", timeout=60)


def test_restart_of_what_nothing_is_retained_of_is_seen_by_the_engines_answer(stage: Stage) -> None:
    """The new invocation may be gone before it is looked at; its id is told all the same."""
    id_ = stage.send("short_echo", "x", service="LabShort", status="completed")
    done = stage.run("restart", "RestartAsNew", {"ids": [id_]}, timeout=60)
    assert results(done) == {id_: RESTARTED}


def test_restart_never_feeds_itself(stage: Stage) -> None:
    """What the run itself brings forth matches its own target, and is not restarted."""
    key = unique("loop")
    ids = [stage.send("obj_echo", "x", service="LabObj", key=key, status="completed") for _ in range(5)]
    slowly = {"maxInFlight": 1}
    done = stage.run("restart", "RestartAsNew", {"services": ["LabObj"], "keys": [key]}, limits=slowly, timeout=60)
    assert results(done) == dict.fromkeys(ids, RESTARTED)
    for id_ in ids:
        (new,) = restarts(stage, id_)
        stage.engine.wait_status(new, "completed", timeout=60)
        assert restarts(stage, new) == []
