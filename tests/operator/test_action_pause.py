"""Pause in every status: only the status Paused proves a pause."""

from e2e.rig import Engine, ServicesProcess
from tests.operator.conftest import Stage, conditions, results
from tests.operator.population import ENDED, HOUR, MAKERS, outcomes, populate

PAUSED = ("Effective", "Paused")
ONE_PARTITION = {"RESTATE_DEFAULT_NUM_PARTITIONS": "1"}
"""The limit on what runs at a time holds for each partition."""
PAUSABLE = ["Running", "Ready", "BackingOff", "Suspended", "Paused"]

BY_STATUS = {
    "scheduled": ("Skipped", "Scheduled"),
    "pending behind a key": ("Skipped", "Pending"),
    "running an open sleep": PAUSED,
    "suspended": ("NoOp", "StillSuspended"),  # the engine answers 200 and does nothing
    "suspended and holding a key": ("NoOp", "StillSuspended"),
    "backing off": PAUSED,
    "paused by its policy": ("AlreadyDone", "Paused"),
    "paused by hand": ("AlreadyDone", "Paused"),
    **dict.fromkeys(ENDED, ("Skipped", "Completed")),
    "nothing retained": ("Failed", "NotFound"),
}


def test_pause_in_every_status_holds_where_the_engine_lets_it(any_stage: Stage) -> None:
    made = populate(any_stage, MAKERS)
    done = any_stage.run(
        "pause",
        "Pause",
        {"ids": list(made.values()), "statuses": PAUSABLE},
        verification={"timeout": "4s"},
        timeout=60,
    )
    assert outcomes(done, made) == BY_STATUS
    assert done["status"]["phase"] == "PartiallyFailed"
    assert done["status"]["progress"]["noOp"] == 2
    assert any("cannot be paused before it wakes up" in w for w in done["status"]["plan"]["warnings"])


def test_pause_of_suspended_ones_alone_never_succeeds(stage: Stage) -> None:
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    done = stage.run(
        "pause", "Pause", {"ids": [id_], "statuses": ["Suspended"]}, verification={"timeout": "2s"}, timeout=60
    )
    assert done["status"]["phase"] == "Failed"
    assert conditions(done)["Ready"] == ("False", "Failed")
    assert "1 without effect" in done["status"]["conditions"][0]["message"]
    assert stage.status_of(id_) == "suspended"


def test_pause_of_a_run_block_waits_until_the_block_ends(stage: Stage) -> None:
    id_ = stage.send("busy", 3.0, status="running")
    done = stage.run("pause", "Pause", {"ids": [id_]}, timeout=60)
    assert results(done) == {id_: PAUSED}
    assert stage.status_of(id_) == "paused"


def test_pause_of_what_ends_before_the_pause_holds_is_without_effect(stage: Stage) -> None:
    """The block is the last thing that the handler does: when it ends, so does the invocation."""
    id_ = stage.send("hold", 2.0, status="running")
    stage.run("dry", "Pause", {"ids": [id_]}, mode="DryRun", timeout=60)
    stage.engine.wait_status(id_, "completed", timeout=60)
    stage.patch("dry", {"mode": "Execute"})
    done = stage.ended("dry", "Succeeded", timeout=60)
    assert results(done) == {id_: ("Skipped", "Completed")}


def test_pause_by_filter_leaves_suspended_ones_out_and_counts_them(stage: Stage) -> None:
    running = stage.send("hold", HOUR, status="running")
    suspended = stage.send("sleep_long", HOUR, status="suspended")
    done = stage.run("pause", "Pause", {"ids": [running, suspended]}, timeout=60)
    assert results(done) == {running: PAUSED, suspended: ("Skipped", "Suspended")}
    assert done["status"]["phase"] == "Succeeded"


def test_pause_of_ready_ones_is_asked_until_it_holds(stage: Stage, lab: ServicesProcess) -> None:
    """Ready means: it waits for a place among those that run. The engine may lose a pause of such a one."""
    with Engine(env={"RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": "1", **ONE_PARTITION}) as crowded:
        crowded.register(lab.uri)
        holder = crowded.send("LabSvc", "hold", HOUR)
        crowded.wait_status(holder, "running")
        ids = [crowded.send("LabSvc", "hold", HOUR) for _ in range(3)]
        for id_ in ids:
            crowded.wait_status(id_, "ready")
        stage.define_engine("crowded", url=crowded.admin_url)
        for action, id_ in zip(("Pause", "Cancel", "Kill"), ids, strict=True):
            stage.create(stage.manifest(action.lower(), action, {"ids": [id_]}, engineRef={"name": "crowded"}))
        # A kill needs no place to run; the others take effect when the invocation has one.
        assert results(stage.ended("kill", timeout=60)) == {ids[2]: ("Effective", "Killed")}
        assert stage.get("pause")["status"]["phase"] in ("Running", "Verifying")
        crowded.operate(holder, "kill")
        assert results(stage.ended("pause", timeout=60)) == {ids[0]: PAUSED}
        assert results(stage.ended("cancel", timeout=60)) == {ids[1]: ("Effective", "Cancelled")}
        row = crowded.invocation(ids[0])
        assert row is not None
        assert row["status"] == "paused"
        stage.delete("crowded", "restateengines")
