"""Cancel in every status, and what else a cancel can lead to than a cancelled invocation."""

import time

import pytest

from e2e.rig import ServicesProcess
from tests.operator.conftest import Stage, conditions, results, unique
from tests.operator.population import ALIVE, ENDED, HOUR, MAKERS, outcomes, populate

CANCELLED = ("Effective", "Cancelled")

BY_STATUS = {
    "scheduled": ("Effective", "Gone"),  # the engine keeps no row of what never started
    "pending behind a key": ("Effective", "Gone"),
    "running an open sleep": CANCELLED,
    "suspended": CANCELLED,
    "suspended and holding a key": CANCELLED,
    "backing off": CANCELLED,  # expedited
    "paused by its policy": CANCELLED,  # a cancel resumes it
    "paused by hand": CANCELLED,
    **dict.fromkeys(ENDED, ("Skipped", "Completed")),
    "nothing retained": ("Failed", "NotFound"),
}


def journal_signals(stage: Stage, id_: str) -> int:
    """Cancels that the invocation's journal holds."""
    found = stage.engine.sql(
        f"select count(*) as n from sys_journal where id = '{id_}' and entry_type = 'Notification: Signal'"
    )
    return int(found[0]["n"])


def test_cancel_in_every_status_ends_what_lives_and_skips_what_has_ended(any_stage: Stage) -> None:
    made = populate(any_stage, MAKERS)
    done = any_stage.run("cancel", "Cancel", {"ids": list(made.values())}, expedite=True, timeout=60)
    assert outcomes(done, made) == BY_STATUS
    assert done["status"]["phase"] == "PartiallyFailed"
    assert done["status"]["skippedReasons"] == [{"name": "Completed", "count": len(ENDED)}]
    progress = done["status"]["progress"]
    assert (progress["effective"], progress["skipped"], progress["failed"]) == (len(ALIVE), len(ENDED), 1)
    assert progress["summary"] == f"{len(made)}/{len(made)}"
    assert "2 of them are paused: a cancel resumes them." in done["status"]["plan"]["warnings"]
    for name in ALIVE:
        assert any_stage.status_of(made[name]) in ("completed", "absent")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        pytest.param("swallow_and_succeed", "Succeeded", id="the-handler-returns-normally"),
        pytest.param("swallow_and_refail", "Failed", id="the-handler-throws-an-error-of-its-own"),
        pytest.param("saga_long", "Cancelled", id="the-compensation-suspends-on-the-way"),
    ],
)
def test_cancel_of_a_handler_that_reacts_tells_what_it_ended_as(stage: Stage, handler: str, reason: str) -> None:
    id_ = stage.send(handler, HOUR, status="suspended")
    done = stage.run("cancel", "Cancel", {"ids": [id_]}, timeout=60)
    assert results(done) == {id_: ("Effective", reason)}
    assert done["status"]["phase"] == "Succeeded"


def test_cancel_of_a_saga_runs_its_compensation_fully_and_once(stage: Stage, lab: ServicesProcess) -> None:
    ids = [stage.send("saga", HOUR, status="suspended") for _ in range(3)]
    # A repeat that is due while the compensation runs must not be sent: it would abort it.
    repeating = {"timeout": "1m", "repeat": "WhenUnchanged", "repeatAfter": "500ms"}
    done = stage.run("cancel", "Cancel", {"ids": ids}, verification=repeating, timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    compensated = lab.world()["compensations"]
    assert [compensated.count(id_) for id_ in ids] == [1, 1, 1]
    assert [journal_signals(stage, id_) for id_ in ids] == [1, 1, 1]


def test_cancel_that_is_swallowed_is_not_repeated_and_not_verified(stage: Stage) -> None:
    id_ = stage.send("swallow_cancel", HOUR, status="suspended")
    done = stage.run("cancel", "Cancel", {"ids": [id_]}, verification={"timeout": "3s"}, timeout=60)
    assert done["status"]["phase"] == "Failed"
    assert conditions(done)["Stalled"] == ("True", "Failed")
    (outcome, reason) = results(done)[id_]
    assert outcome == "Unverified"
    assert reason in ("StillSuspended", "StillRunning")
    assert journal_signals(stage, id_) == 1


def test_cancel_of_what_another_action_has_cancelled_is_skipped_until_it_is_settled(stage: Stage) -> None:
    id_ = stage.send("swallow_cancel", HOUR, status="suspended")
    stage.create(stage.manifest("first", "Cancel", {"ids": [id_]}, verification={"timeout": "10s"}))
    stage.until(lambda: journal_signals(stage, id_) == 1, 60)
    second = stage.run("second", "Cancel", {"ids": [id_]}, timeout=60)
    assert results(second) == {id_: ("Skipped", "CancelPending")}
    assert second["status"]["phase"] == "Succeeded"
    assert second["status"]["skippedReasons"] == [{"name": "CancelPending", "count": 1}]
    assert journal_signals(stage, id_) == 1


def test_cancel_of_one_that_reacted_is_not_repeated_when_unchanged_is_asked_for(stage: Stage) -> None:
    """It slept again after the first cancel, so its journal went on: that is a reaction."""
    reacted = stage.send("swallow_cancel", HOUR, status="suspended")
    quiet = stage.send("run_fails_slow", "x", status="backing-off")
    repeating = {"timeout": "5s", "repeat": "WhenUnchanged", "repeatAfter": "1s"}
    done = stage.run("cancel", "Cancel", {"ids": [reacted, quiet]}, verification=repeating, timeout=60)
    assert {outcome for outcome, _ in results(done).values()} == {"Unverified"}
    assert journal_signals(stage, reacted) == 1
    assert journal_signals(stage, quiet) > 1
    assert any("aborts a compensation" in warning for warning in done["status"]["plan"]["warnings"])


def test_cancel_of_one_that_backs_off_is_not_verified_and_warns_unless_expedited(stage: Stage) -> None:
    ids = [stage.send("run_fails_slow", "x", status="backing-off") for _ in range(2)]
    stage.create(stage.manifest("plain", "Cancel", {"ids": ids[:1]}, verification={"timeout": "3s"}))
    stage.create(stage.manifest("expedited", "Cancel", {"ids": ids[1:]}, expedite=True))
    plain, expedited = stage.ended("plain", timeout=60), stage.ended("expedited", timeout=60)
    assert results(plain) == {ids[0]: ("Unverified", "StillBackingOff")}
    assert any("expedite" in warning for warning in plain["status"]["plan"]["warnings"])
    assert results(expedited) == {ids[1]: CANCELLED}
    assert "warnings" not in expedited["status"]["plan"]


def test_cancel_with_escalation_kills_what_outlives_it(stage: Stage) -> None:
    stubborn = stage.send("swallow_cancel", HOUR, status="suspended")
    waiting = stage.send("run_fails_slow", "x", status="backing-off")
    yielding = stage.send("sleep_long", HOUR, status="suspended")
    done = stage.run(
        "cancel", "Cancel", {"ids": [stubborn, waiting, yielding]}, escalation={"killAfter": "2s"}, timeout=60
    )
    assert results(done) == {
        stubborn: ("Escalated", "Killed"),
        waiting: ("Escalated", "Killed"),
        yielding: CANCELLED,
    }
    assert done["status"]["phase"] == "Succeeded"
    assert done["status"]["progress"]["escalated"] == 2
    assert "2 killed after their cancel" in done["status"]["conditions"][0]["message"]


def test_cancel_of_a_run_block_is_seen_when_the_block_ends(stage: Stage) -> None:
    id_ = stage.send("busy", 3.0, status="running")
    time.sleep(0.7)  # past the inactivity timeout the engine hands the signal over with the next attempt only
    done = stage.run("cancel", "Cancel", {"ids": [id_]}, timeout=60)
    assert results(done)[id_][0] == "Effective"
    assert stage.status_of(id_) == "completed"


def test_cancel_of_a_key_holder_lets_the_next_call_run(stage: Stage) -> None:
    key = unique("queue")
    holder = stage.send("obj_sleep", HOUR, service="LabObj", key=key, status="suspended")
    behind = stage.send("obj_echo", "x", service="LabObj", key=key, status="pending")
    done = stage.run("cancel", "Cancel", {"ids": [holder]}, timeout=60)
    assert results(done) == {holder: CANCELLED}
    stage.engine.wait_status(behind, "completed", timeout=60)


def test_cancel_of_a_parent_ends_awaited_children_and_leaves_one_way_ones(stage: Stage) -> None:
    parent = stage.send("send_children", HOUR)

    def children() -> dict[str, str]:
        rows = stage.engine.sql(f"select id, status from sys_invocation where invoked_by_id = '{parent}'")
        return {row["id"]: row["status"] for row in rows}

    stage.until(lambda: sorted(children().values()) == ["scheduled", "suspended", "suspended"], 60)
    done = stage.run("cancel", "Cancel", {"ids": [parent]}, timeout=60)
    assert results(done) == {parent: CANCELLED}
    assert done["status"]["plan"]["cascade"]["total"] == 1
    stage.until(lambda: sorted(children().values()) == ["completed", "scheduled", "suspended"], 60)
    stage.ids.extend(children())


def test_cancel_of_a_previewed_call_whose_key_lives_again_leaves_the_younger_one_alone(stage: Stage) -> None:
    """The key gives the same id again; the younger invocation is somebody else's."""
    key = unique("again")
    id_ = stage.send("echo", "x", delay="1h", idempotency_key=key, status="scheduled")
    dry = stage.run("cancel", "Cancel", {"ids": [id_]}, mode="DryRun", timeout=60)
    assert dry["status"]["plan"]["total"] == 1
    stage.engine.operate(id_, "kill")
    stage.until(lambda: stage.status_of(id_) == "absent")
    again = stage.send("echo", "x", delay="1h", idempotency_key=key, status="scheduled")
    assert again == id_
    stage.patch("cancel", {"mode": "Execute"})
    done = stage.ended("cancel", "Succeeded", "Failed", "PartiallyFailed", timeout=60)
    assert stage.status_of(id_) == "scheduled"
    assert results(done) == {id_: ("Skipped", "NotInPreview")}


def test_cancel_by_filter_tells_what_the_default_statuses_left_out(stage: Stage) -> None:
    key = unique("obj")
    ended = stage.send("obj_echo", "x", service="LabObj", key=key, status="completed")
    alive = stage.send("obj_sleep", HOUR, service="LabObj", key=key, status="suspended")
    done = stage.run("cancel", "Cancel", {"services": ["LabObj"], "keys": [key]}, timeout=60)
    assert results(done) == {alive: CANCELLED}
    assert done["status"]["plan"]["excludedByStatus"] == [{"name": "Completed", "count": 1}]
    assert stage.status_of(ended) == "completed"


def test_cancel_at_an_unreachable_endpoint_is_not_verified_and_kill_works(stage: Stage) -> None:
    prefix = unique("Gone").replace("-", "")
    with ServicesProcess("lab", prefix=prefix) as services:
        stage.engine.register(services.uri)
        service = f"{prefix}LabSvc"
        ids = [stage.send("sleep_long", HOUR, service=service, status="suspended") for _ in range(3)]
        services.stop()
        stage.create(stage.manifest("cancel", "Cancel", {"ids": ids[:1]}, verification={"timeout": "4s"}))
        stage.create(stage.manifest("escalated", "Cancel", {"ids": ids[1:2]}, escalation={"killAfter": "2s"}))
        stage.create(stage.manifest("kill", "Kill", {"ids": ids[2:]}))
        cancel, escalated, kill = (stage.ended(name, timeout=60) for name in ("cancel", "escalated", "kill"))
    outcome, reason = results(cancel)[ids[0]]
    assert outcome == "Unverified"
    assert reason in ("StillBackingOff", "StillRunning")
    assert results(escalated) == {ids[1]: ("Escalated", "Killed")}
    assert results(kill) == {ids[2]: ("Effective", "Killed")}
