"""What stops, delays, bounds or repeats a run: modes, suspend, timeout, notAfter, limits, deletion, runId."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from e2e.rig import Engine
from tests.operator.conftest import Object, Stage, bad_outcomes, conditions, results, unique
from tests.operator.population import HOUR

CANCELLED = ("Effective", "Cancelled")
SLOWLY = {"operationsPerSecond": 2, "maxInFlight": 1}


def sleepers(stage: Stage, count: int) -> list[str]:
    """Suspended invocations."""
    ids = [stage.send("sleep_long", HOUR) for _ in range(count)]
    for id_ in ids:
        stage.engine.wait_status(id_, "suspended", timeout=60)
    return ids


def alive(stage: Stage, ids: list[str]) -> list[str]:
    """Those that have not ended."""
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    found = stage.engine.sql(f"select id from sys_invocation where id in ({listed}) and status <> 'completed'")
    return sorted(row["id"] for row in found)


def message(action: Object) -> str:
    return str(action["status"]["conditions"][0]["message"])


def instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# Modes.


def test_dry_run_shows_the_plan_and_touches_nothing_and_leaves_no_record(stage: Stage) -> None:
    ids = sleepers(stage, 2)
    done = stage.run("dry", "Kill", {"ids": ids}, mode="DryRun", timeout=60)
    assert done["status"]["phase"] == "Planned"
    assert conditions(done) == {"Ready": ("True", "Planned")}
    plan = done["status"]["plan"]
    assert plan["total"] == 2
    assert plan["byStatus"] == [{"name": "Suspended", "count": 2}]
    assert plan["byService"] == [{"name": "LabSvc", "count": 2}]
    assert {entry["id"] for entry in plan["sample"]} == set(ids)
    assert plan["hash"].startswith("sha256:")
    assert "set spec.mode to Execute" in message(done)
    assert "progress" not in done["status"]
    assert stage.records("dry") == []
    assert set(alive(stage, ids)) == set(ids)


def test_dry_run_whose_plan_a_quota_keeps_from_being_written_down_says_so_and_waits(stage: Stage) -> None:
    ids = sleepers(stage, 1)
    quotas = f"/api/v1/namespaces/{stage.namespace}/resourcequotas"
    body = {"metadata": {"name": "few"}, "spec": {"hard": {"count/configmaps": "0"}}}
    stage.control_plane.request("POST", quotas, body).expect(201)
    stage.until(lambda: "hard" in stage.control_plane.request("GET", f"{quotas}/few").json()["status"], 60)
    stage.create(stage.manifest("dry", "Cancel", {"ids": ids}, mode="DryRun"))
    waiting = stage.reached("dry", "Pending", timeout=60)
    assert conditions(waiting) == {"Ready": ("False", "QuotaExceeded"), "Reconciling": ("True", "QuotaExceeded")}
    assert "exceeded quota: few" in message(waiting)
    stage.control_plane.request("DELETE", f"{quotas}/few").expect(200)
    # A change has it looked at now.
    stage.patch("dry", {"limits": {"maxInFlight": 7}})
    assert stage.ended("dry", timeout=60)["status"]["phase"] == "Planned"


def test_dry_run_that_is_executed_on_another_engine_is_refused(stage: Stage, engine_old: Engine) -> None:
    """It would have begun there, with none of what was shown."""
    ids = sleepers(stage, 1)
    assert stage.run("dry", "Cancel", {"ids": ids}, mode="DryRun", timeout=60)["status"]["plan"]["total"] == 1
    stage.patch("production", {"url": engine_old.admin_url}, "restateengines")
    stage.patch("dry", {"mode": "Execute"})
    done = stage.ended("dry", "Refused", timeout=60)
    assert conditions(done)["Stalled"] == ("True", "EngineChanged")
    assert "than when the plan was shown" in message(done)
    assert stage.records("dry") == []
    assert set(alive(stage, ids)) == set(ids)


def test_dry_run_that_is_executed_acts_on_what_it_showed_and_still_matches(stage: Stage) -> None:
    key = unique("obj")

    def shared() -> str:
        return stage.send("obj_shared_sleep", HOUR, service="LabObj", key=key, status="suspended")

    shown = [shared() for _ in range(3)]
    stage.run("dry", "Cancel", {"services": ["LabObj"], "keys": [key]}, mode="DryRun", timeout=60)
    stage.engine.operate(shown[0], "cancel")
    stage.engine.wait_status(shown[0], "completed")
    later = shared()
    stage.patch("dry", {"mode": "Execute"})
    done = stage.ended("dry", "Succeeded", timeout=60)
    assert results(done) == {shown[1]: CANCELLED, shown[2]: CANCELLED}
    assert stage.status_of(later) == "suspended"
    assert len(stage.records("dry")) == 1


def test_dry_run_of_a_new_run_id_binds_its_execution_too(stage: Stage) -> None:
    """The object has run before, so it has a record already; what is shown is what is done all the same."""
    key = unique("obj")
    target = {"services": ["LabObj"], "keys": [key]}
    stage.run("again", "Cancel", target, runId="first", timeout=60)
    shown = stage.send("obj_shared_sleep", HOUR, service="LabObj", key=key, status="suspended")
    stage.patch("again", {"runId": "second", "mode": "DryRun"})
    planned = stage.ended("again", timeout=60)
    assert planned["status"]["plan"]["total"] == 1
    later = stage.send("obj_shared_sleep", HOUR, service="LabObj", key=key, status="suspended")
    stage.patch("again", {"mode": "Execute"})
    done = stage.ended("again", "Succeeded", timeout=60)
    assert results(done) == {shown: CANCELLED}
    assert stage.status_of(later) == "suspended"


def test_execute_that_is_reverted_to_dry_run_stays_as_it_ended(stage: Stage) -> None:
    ids = sleepers(stage, 1)
    ended = stage.run("cancel", "Cancel", {"ids": ids}, timeout=60)
    stage.patch("cancel", {"mode": "DryRun"})
    reverted = stage.ended("cancel", timeout=60)
    assert reverted["metadata"]["generation"] == ended["metadata"]["generation"] + 1
    assert reverted["status"]["phase"] == "Succeeded"
    assert results(reverted) == results(ended)
    stage.patch("cancel", {"mode": "Execute"})
    assert stage.ended("cancel", timeout=60)["status"]["phase"] == "Succeeded"
    assert len(stage.records("cancel")) == 1


# Suspend.


def test_suspend_before_the_start_holds_everything_up_and_goes_on_when_it_is_lifted(stage: Stage) -> None:
    ids = sleepers(stage, 1)
    stage.create(stage.manifest("cancel", "Cancel", {"ids": ids}, suspend=True))
    held = stage.reached("cancel", "Suspended", timeout=60)
    assert conditions(held) == {"Ready": ("False", "Suspended"), "Reconciling": ("True", "Suspended")}
    assert stage.records("cancel") == []
    stage.patch("cancel", {"suspend": False})
    assert results(stage.ended("cancel", timeout=60)) == {ids[0]: CANCELLED}


@pytest.fixture
def slow(stage: Stage) -> Callable[..., list[str]]:
    """Starts a run of two operations a second, and returns its ids when the first of them has ended."""

    def start(name: str, count: int = 8, **spec: object) -> list[str]:
        ids = sleepers(stage, count)
        stage.create(stage.manifest(name, "Cancel", {"ids": ids}, **{"limits": SLOWLY, **spec}))
        stage.until(lambda: len(alive(stage, ids)) < count, 60)
        return ids

    return start


def test_suspend_in_mid_run_takes_effect_between_operations_and_goes_on_later(
    stage: Stage, slow: Callable[..., list[str]]
) -> None:
    ids = slow("cancel")
    stage.patch("cancel", {"suspend": True})
    held = stage.reached("cancel", "Suspended", timeout=60)
    left = alive(stage, ids)
    assert 0 < len(left) < len(ids)
    assert "Goes on when spec.suspend is false" in message(held)
    time.sleep(2)
    assert alive(stage, ids) == left
    stage.patch("cancel", {"suspend": False, "limits": {"operationsPerSecond": 1000, "maxInFlight": None}})
    done = stage.ended("cancel", timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    told = [event["reason"] for event in stage.events("cancel")]
    assert (told.count("Started"), told.count("Suspended")) == (1, 1)


def test_mode_that_is_reverted_in_mid_run_changes_nothing(stage: Stage, slow: Callable[..., list[str]]) -> None:
    """A Git revert while it runs: what was begun is finished, and a stop is what suspend and deletion are for."""
    ids = slow("cancel", count=4)
    stage.patch("cancel", {"mode": "DryRun"})
    done = stage.ended("cancel", timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    assert done["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("action", "born_again_as"),
    [pytest.param("Cancel", "scheduled", id="cancel"), pytest.param("Purge", "completed", id="purge")],
)
def test_an_id_that_is_born_again_in_mid_run_is_left_alone(stage: Stage, action: str, born_again_as: str) -> None:
    """The same key gives the same id, and what lives under it now was not in the plan."""
    keys = [unique("key") for _ in range(8)]

    def send(key: str) -> str:
        if action == "Cancel":
            return stage.send("echo", "x", delay="1h", idempotency_key=key)
        return stage.send("run", 0.0, service="LabWf", key=key)

    def put_an_end_to(id_: str) -> None:
        stage.engine.operate(id_, "kill" if action == "Cancel" else "purge")
        stage.engine.wait_status(id_, "absent")

    by_id = {send(key): key for key in keys}
    for id_ in by_id:
        stage.engine.wait_status(id_, born_again_as, timeout=60)
    stage.create(stage.manifest("slow", action, {"ids": list(by_id)}, limits=SLOWLY))
    stage.until(lambda: any(stage.status_of(id_) == "absent" for id_ in by_id), 60)
    stage.patch("slow", {"suspend": True})
    stage.reached("slow", "Suspended", timeout=60)
    left = [id_ for id_ in by_id if stage.status_of(id_) == born_again_as]
    assert left
    for id_ in left:
        put_an_end_to(id_)
        assert send(by_id[id_]) == id_
        stage.engine.wait_status(id_, born_again_as, timeout=60)
    stage.patch("slow", {"suspend": False, "limits": {"operationsPerSecond": 1000}})
    done = stage.ended("slow", timeout=60)
    assert {id_: results(done)[id_] for id_ in left} == dict.fromkeys(left, ("Skipped", "BornAgain"))
    assert done["status"]["phase"] == "Succeeded"
    for id_ in left:
        assert stage.status_of(id_) == born_again_as


# Time.


def test_timeout_stops_the_work_and_leaves_the_rest_untouched(stage: Stage, slow: Callable[..., list[str]]) -> None:
    ids = slow("cancel", count=10, timeout="3s", verification={"timeout": "2s"})
    done = stage.ended("cancel", timeout=60)
    assert done["status"]["phase"] == "Stopped"
    assert conditions(done)["Stalled"] == ("True", "TimedOut")
    left = alive(stage, ids)
    assert left
    assert f"{len(left)} not touched" in message(done)
    time.sleep(1.5)
    assert alive(stage, ids) == left
    progress = done["status"]["progress"]
    assert progress["total"] - progress["done"] == len(left)


def test_not_after_in_the_past_expires_untouched_and_is_ready(stage: Stage) -> None:
    """A manifest from Git that meets a cluster made anew, years later: nobody needs to look."""
    ids = sleepers(stage, 1)
    done = stage.run("old", "Cancel", {"ids": ids}, notAfter="2020-01-01T00:00:00Z", timeout=60)
    assert done["status"]["phase"] == "Expired"
    assert conditions(done) == {"Ready": ("True", "ExpiredBeforeCreation")}
    assert alive(stage, ids) == ids
    assert stage.records("old") == []


@pytest.mark.parametrize(
    ("spec", "held_up_by"),
    [
        pytest.param({"engineRef": {"name": "nowhere"}}, "EngineNotFound", id="while-its-engine-is-missing"),
        pytest.param({"suspend": True}, "Suspended", id="while-it-is-suspended"),
    ],
)
def test_not_after_that_passes_expires_and_is_stalled(stage: Stage, spec: Object, held_up_by: str) -> None:
    ids = sleepers(stage, 1)
    until = instant(datetime.now(UTC) + timedelta(seconds=4))
    stage.create(stage.manifest("late", "Cancel", {"ids": ids}, **{**spec, "notAfter": until}))
    held = stage.reached("late", "Pending", "Suspended", timeout=60)
    assert conditions(held)["Reconciling"] == ("True", held_up_by)
    done = stage.ended("late", timeout=60)
    assert done["status"]["phase"] == "Expired"
    assert conditions(done)["Stalled"] == ("True", "Expired")
    assert alive(stage, ids) == ids


# Limits.


def test_more_matches_than_max_targets_are_refused_untouched(stage: Stage) -> None:
    ids = sleepers(stage, 3)
    by_id = stage.run("by-id", "Cancel", {"ids": ids}, limits={"maxTargets": 2}, timeout=60)
    by_name = {"services": ["LabSvc"], "handlers": ["sleep_long"]}
    by_filter = stage.run("by-filter", "Cancel", by_name, limits={"maxTargets": 2}, timeout=60)
    for done in (by_id, by_filter):
        assert done["status"]["phase"] == "Refused"
        assert conditions(done)["Stalled"] == ("True", "TooManyTargets")
        assert "more than spec.limits.maxTargets (2)" in message(done)
    assert message(by_id).startswith("3 invocations match")
    assert set(alive(stage, ids)) == set(ids)
    assert stage.records("by-id") == stage.records("by-filter") == []


def test_more_of_a_service_than_its_share_is_refused_untouched(stage: Stage) -> None:
    ids = sleepers(stage, 3)
    living = "select count(*) as n from sys_invocation where target_service_name = 'LabSvc' and status <> 'completed'"
    existing = stage.engine.sql(living)[0]["n"]
    below, above = 300 // existing - 1, min(100, 300 // existing + 1)
    refused = stage.run("below", "Cancel", {"ids": ids}, limits={"maxPercentOfService": max(1, below)}, timeout=60)
    assert conditions(refused)["Stalled"] == ("True", "TooMuchOfService")
    assert f"3 of the {existing} of 'LabSvc' would be acted upon" in message(refused)
    assert set(alive(stage, ids)) == set(ids)
    assert stage.records("below") == []
    done = stage.run("above", "Cancel", {"ids": ids}, limits={"maxPercentOfService": above}, timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)


def test_a_refused_run_can_be_run_with_a_new_run_id_and_a_higher_limit(stage: Stage) -> None:
    ids = sleepers(stage, 3)
    stage.run("cancel", "Cancel", {"ids": ids}, limits={"maxTargets": 2}, timeout=60)
    stage.patch("cancel", {"runId": "2", "limits": {"maxTargets": 3}})
    done = stage.ended("cancel", timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    assert done["status"]["runId"] == "2"


def test_a_target_limit_takes_the_oldest_and_leaves_the_others_alone(stage: Stage) -> None:
    key = unique("obj")
    ids = []
    for _ in range(4):
        ids.append(stage.send("obj_shared_sleep", HOUR, service="LabObj", key=key))
        time.sleep(0.02)
    for id_ in ids:
        stage.engine.wait_status(id_, "suspended", timeout=60)
    target = {"services": ["LabObj"], "keys": [key], "oldestFirst": True, "limit": 2}
    done = stage.run("cancel", "Cancel", target, limits={"maxTargets": 2}, timeout=60)
    assert results(done) == dict.fromkeys(ids[:2], CANCELLED)
    assert set(alive(stage, ids)) == set(ids[2:])


def test_max_failures_stops_the_run_before_the_rest_is_touched(stage: Stage) -> None:
    """Pauses of suspended invocations are without effect: each counts."""
    ids = sleepers(stage, 6)
    done = stage.run(
        "pause",
        "Pause",
        {"ids": ids, "statuses": ["Suspended"]},
        limits={"maxFailures": "1", "maxInFlight": 1},
        verification={"timeout": "500ms"},
        timeout=60,
    )
    assert done["status"]["phase"] == "Stopped"
    assert conditions(done)["Stalled"] == ("True", "TooManyFailures")
    assert done["status"]["progress"]["noOp"] == 2
    assert "4 not touched" in message(done)


def test_max_in_flight_is_never_exceeded_and_may_be_raised_in_mid_run(stage: Stage) -> None:
    """A saga compensates for two seconds, so what is asked and not yet verified can be counted in the engine."""
    ids = [stage.send("saga", HOUR) for _ in range(8)]
    for id_ in ids:
        stage.engine.wait_status(id_, "suspended", timeout=60)

    def in_flight() -> int:
        return sum(1 for id_ in alive(stage, ids) if stage.status_of(id_) != "suspended")

    stage.create(stage.manifest("cancel", "Cancel", {"ids": ids}, limits={"maxInFlight": 2}))
    seen = []
    while len(alive(stage, ids)) > 4:
        seen.append(in_flight())
        time.sleep(0.05)
    assert max(seen) == 2
    stage.patch("cancel", {"limits": {"maxInFlight": 4}})
    while alive(stage, ids):
        seen.append(in_flight())
        time.sleep(0.05)
    assert 2 < max(seen) <= 4
    done = stage.ended("cancel", timeout=60)
    assert done["status"]["progress"]["effective"] == 8
    assert done["metadata"]["generation"] == 2


def test_operations_per_second_are_not_exceeded(stage: Stage) -> None:
    ids = sleepers(stage, 9)
    done = stage.run("cancel", "Cancel", {"ids": ids}, limits={"operationsPerSecond": 3}, timeout=60)
    assert done["status"]["phase"] == "Succeeded"
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    rows = stage.engine.sql(
        "select appended_at from sys_journal where entry_type = 'Notification: Signal' "
        f"and id in ({listed}) order by appended_at"
    )
    asked = [datetime.fromisoformat(row["appended_at"]) for row in rows]
    # Nine operations at three a second take at least eight intervals, but for the first tenth of a second.
    assert len(asked) == 9
    assert asked[-1] - asked[0] >= timedelta(seconds=8 / 3 - 0.2)


# The end of the object.


def test_deletion_in_mid_run_stops_it_and_leaves_the_rest_untouched(
    stage: Stage, slow: Callable[..., list[str]]
) -> None:
    ids = slow("cancel")
    stage.delete("cancel")
    stage.until(lambda: stage.records("cancel")[0]["status"].get("phase") == "Stopped", 60)
    left = alive(stage, ids)
    assert left
    time.sleep(1.5)
    assert alive(stage, ids) == left
    status = stage.records("cancel")[0]["status"]
    assert status["progress"]["total"] - status["progress"]["done"] == len(left)
    assert "deleted in mid-run" in status["message"]


# What may change.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"action": "Kill"}, "action", id="another-action"),
        pytest.param({"target": {"ids": ["inv_1bVxBXhIjT8p0000000000000000000000"]}}, "target", id="another-target"),
        pytest.param({"reason": "another"}, "reason", id="another-reason"),
        pytest.param({"engineRef": {"name": "other"}}, "engineRef", id="another-engine"),
        pytest.param({"limits": {"maxTargets": 5}}, "limits.maxTargets", id="a-higher-ceiling"),
        pytest.param({"timeout": "1h"}, "timeout", id="a-field-that-was-not-there"),
        pytest.param({"notAfter": None}, "notAfter", id="a-field-that-goes"),
    ],
)
def test_a_change_of_what_was_run_is_refused_with_what_to_do(stage: Stage, change: Object, named: str) -> None:
    manifest = stage.manifest("cancel", "Cancel", {"ids": ["inv_none"]}, suspend=True, notAfter="2099-01-01T00:00:00Z")
    stage.create(manifest)
    path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/invocationactions/cancel"
    reply = stage.control_plane.request("PATCH", path, {"spec": change})
    assert reply.status == 422
    told = str(reply.json()["message"])
    assert f"{named} is immutable after creation" in told
    assert "set a new spec.runId" in told


def test_a_new_run_id_is_refused_while_the_run_goes_on(stage: Stage) -> None:
    stage.create(stage.manifest("cancel", "Cancel", {"ids": ["inv_none"]}, suspend=True))
    stage.reached("cancel", "Suspended", timeout=60)
    path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/invocationactions/cancel"
    reply = stage.control_plane.request("PATCH", path, {"spec": {"runId": "2"}})
    assert reply.status == 422
    assert "its phase is Suspended" in reply.json()["message"]


def test_a_new_run_id_runs_again_and_an_old_one_does_not(stage: Stage) -> None:
    id_ = stage.send("hold", HOUR, status="running")
    stage.run("pause", "Pause", {"ids": [id_]}, runId="1", timeout=60)

    def go_on() -> None:
        stage.engine.operate(id_, "resume")
        stage.engine.wait_status(id_, "running", timeout=60)

    go_on()
    stage.patch("pause", {"runId": "2"})
    second = stage.ended("pause", timeout=60)
    assert results(second) == {id_: ("Effective", "Paused")}
    go_on()
    stage.patch("pause", {"runId": "1"})
    old = stage.ended("pause", timeout=60)
    assert old["status"]["phase"] == "AlreadyExecuted"
    assert "To run it again set a new spec.runId" in message(old)
    assert stage.status_of(id_) == "running"
    assert len(stage.records("pause")) == 2


# What a person sees.


def test_status_of_a_large_run_stays_small_and_shows_failures_first(stage: Stage) -> None:
    unknown = [f"inv_{'1' * 20}{n:014d}" for n in range(300)]
    ids = sleepers(stage, 60)
    done = stage.run("cancel", "Cancel", {"ids": [*unknown, *ids]}, timeout=90)
    assert len(json.dumps(done["status"])) < 64 * 1024
    assert len(done["status"]["results"]) == 50
    assert len(bad_outcomes(done)) == 50
    progress = done["status"]["progress"]
    assert (progress["total"], progress["failed"], progress["effective"]) == (360, 300, 60)


def test_events_tell_each_transition_once(stage: Stage) -> None:
    ids = sleepers(stage, 20)
    stage.run("cancel", "Cancel", {"ids": ids}, mode="DryRun", timeout=60)
    stage.patch("cancel", {"mode": "Execute"})
    stage.ended("cancel", "Succeeded", timeout=60)

    def told() -> list[tuple[str, str, int]]:
        return [(e["type"], e["reason"], e.get("count", 1)) for e in stage.events("cancel")]

    expected = [("Normal", "Planned", 1), ("Normal", "Started", 1), ("Normal", "Succeeded", 1)]
    stage.until(lambda: len(told()) >= len(expected), 30)
    assert sorted(told()) == sorted(expected)


def test_columns_show_action_phase_progress_and_counts(stage: Stage) -> None:
    ids = sleepers(stage, 2)
    stage.run("cancel", "Cancel", {"ids": [*ids, "nonsense"]}, timeout=60)
    shown = stage.control_plane.kubectl("get", "iact", "cancel", "-n", stage.namespace).stdout.splitlines()
    assert shown[0].split() == ["NAME", "ACTION", "PHASE", "PROGRESS", "MATCHED", "FAILED", "AGE"]
    assert shown[1].split()[:6] == ["cancel", "Cancel", "PartiallyFailed", "3/3", "2", "1"]
