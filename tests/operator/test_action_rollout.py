"""Waves: act, soak, look, and go on or stop; held up by a suspend, and through the death of the operator."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from e2e.rig import ControlPlane
from e2e.scenarios import truth
from e2e.scenarios.cases import World
from e2e.scenarios.lane import Lane, until
from tests.operator.conftest import Object, Stage, conditions, results
from tests.operator.population import HOUR
from tests.operator.test_action_restart import new_ids, restarts

SICK, WELL = "run_fails_then_pause", "hold"
"""Handlers: resumed, the first is paused by its policy again, the second goes on."""


def paused(stage: Stage, handler: str, count: int) -> list[str]:
    """Paused invocations, in the order of the plan."""
    ids = [stage.send(handler, HOUR if handler == WELL else "x") for _ in range(count)]
    for id_ in ids:
        if handler == WELL:
            stage.engine.wait_status(id_, "running", timeout=60)
            stage.engine.operate(id_, "pause")
        stage.engine.wait_status(id_, "paused", timeout=60)
    return sorted(ids)


def pauses(stage: Stage, ids: list[str]) -> dict[str, int]:
    """How often each came to be paused."""
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    query = f"select id from sys_journal_events where event_type = 'Paused' and id in ({listed})"
    found = [row["id"] for row in stage.engine.sql(query)]
    return {id_: found.count(id_) for id_ in ids}


def completed(stage: Stage, handler: str, count: int) -> list[str]:
    ids = [stage.send(handler, "x") for _ in range(count)]
    for id_ in ids:
        stage.engine.wait_status(id_, "completed", timeout=60)
    return sorted(ids)


def message(action: Object) -> str:
    return str(action["status"]["conditions"][0]["message"])


def test_rollout_whose_first_wave_pauses_again_stops_and_leaves_the_others_untouched(any_stage: Stage) -> None:
    ids = paused(any_stage, SICK, 6)
    rollout = {"waves": [2, "50%"], "soak": "2s"}
    done = any_stage.run("resume", "Resume", {"ids": ids}, rollout=rollout, timeout=90)
    assert conditions(done) == {"Ready": ("False", "Unhealthy"), "Stalled": ("True", "Unhealthy")}
    assert done["status"]["phase"] == "Stopped"
    assert done["status"]["plan"]["waves"] == [2, 3, 6]
    stood = done["status"]["rollout"]
    assert (stood["wave"], stood["waves"], stood["healthy"], stood["unhealthy"]) == (1, 3, 0, 2)
    assert [(one["id"], one["reason"]) for one in stood["sample"]] == [(id_, "Paused") for id_ in ids[:2]]
    assert all("run block fails" in one["error"] for one in stood["sample"])
    assert "after wave 1 of 3, 2 of 2 invocations are not healthy" in message(done)
    assert f"{ids[0]} LabSvc/{SICK}: Paused" in message(done)
    assert "4 not touched" in message(done)
    assert "set a new spec.runId" in message(done)
    assert set(results(done)) == set(ids[:2])
    assert pauses(any_stage, ids) == dict.fromkeys(ids[:2], 2) | dict.fromkeys(ids[2:], 1)
    record = any_stage.records("resume")[0]
    assert record["status"]["phase"] == "Stopped"
    assert record["status"]["rollout"] == stood
    assert record["spec"]["plan"]["firstBatch"] == 2, "what may have been asked after a crash is no more than a wave"


def test_rollout_that_is_well_goes_through_all_its_waves(stage: Stage) -> None:
    ids = paused(stage, WELL, 5)
    rollout = {"waves": [1, "50%", "100%"], "soak": "500ms"}
    done = stage.run("resume", "Resume", {"ids": ids}, rollout=rollout, timeout=90)
    assert done["status"]["phase"] == "Succeeded"
    assert results(done) == dict.fromkeys(ids, ("Effective", "Running"))
    stood = done["status"]["rollout"]
    assert (stood["wave"], stood["waves"], stood["healthy"], stood["unhealthy"]) == (3, 3, 5, 0)


def test_rollout_tolerates_as_many_unhealthy_ones_as_it_is_told(stage: Stage) -> None:
    """One of two may fail; the second wave has more of them than the first, and they are all counted."""
    well, sick = paused(stage, WELL, 2), paused(stage, SICK, 2)
    rollout = {"waves": [1], "soak": "2s", "maxUnhealthy": "50%"}
    done = stage.run("resume", "Resume", {"ids": well + sick}, rollout=rollout, timeout=90)
    stood = done["status"]["rollout"]
    first_is_well = min(well + sick) in well
    if first_is_well:
        assert (done["status"]["phase"], stood["wave"], stood["unhealthy"]) == ("Succeeded", 2, 2)
    else:
        assert (done["status"]["phase"], stood["wave"], stood["unhealthy"]) == ("Stopped", 1, 1)


def test_rollout_of_restarts_looks_at_the_new_invocations(any_stage: Stage) -> None:
    sick, well = completed(any_stage, "fail_terminal", 3), completed(any_stage, "echo", 3)
    rollout = {"waves": [1], "soak": "1s"}
    any_stage.create(any_stage.manifest("sick", "RestartAsNew", {"ids": sick}, rollout=rollout))
    any_stage.create(any_stage.manifest("well", "RestartAsNew", {"ids": well}, rollout=rollout))
    stopped, done = any_stage.ended("sick", timeout=90), any_stage.ended("well", timeout=90)
    assert (stopped["status"]["phase"], done["status"]["phase"]) == ("Stopped", "Succeeded")
    (one,) = stopped["status"]["rollout"]["sample"]
    assert one == {
        "id": sick[0],
        "target": "LabSvc/fail_terminal",
        "outcome": "Effective",
        "reason": "Failed",
        "newId": new_ids(stopped)[sick[0]],
        "error": "[418] x",
    }
    assert [len(restarts(any_stage, id_)) for id_ in sick] == [1, 0, 0]
    assert [len(restarts(any_stage, id_)) for id_ in well] == [1, 1, 1]
    assert done["status"]["rollout"]["healthy"] == 3


def test_rollout_on_an_engine_with_redacted_keys_tells_no_failure(stage: Stage) -> None:
    stage.define_engine("redacted", redactKeys=True)
    ids = paused(stage, SICK, 2)
    spec = {"engineRef": {"name": "redacted"}, "rollout": {"waves": [1], "soak": "2s"}}
    done = stage.run("resume", "Resume", {"ids": ids}, timeout=90, **spec)
    assert done["status"]["phase"] == "Stopped"
    assert [one["reason"] for one in done["status"]["rollout"]["sample"]] == ["Paused"]
    assert "run block" not in str(done["status"])
    assert "run block" not in str(stage.records("resume")[0]["status"])


def test_rollout_suspended_in_its_soak_waits_and_looks_at_once_when_it_is_lifted(stage: Stage) -> None:
    ids = paused(stage, WELL, 2)
    rollout = {"waves": [1], "soak": "4s"}
    stage.create(stage.manifest("resume", "Resume", {"ids": ids}, rollout=rollout))
    stage.until(lambda: "soakUntil" in stage.get("resume")["status"].get("rollout", {}), 60)
    soaking = stage.get("resume")
    assert conditions(soaking)["Ready"] == ("False", "Soaking")
    assert soaking["status"]["phase"] == "Running"
    assert "Wave 1 of 2 is done; looking at it at" in message(soaking)
    stage.patch("resume", {"suspend": True})
    held = stage.reached("resume", "Suspended", timeout=60)
    time.sleep(5)
    assert [stage.status_of(id_) for id_ in ids] == ["running", "paused"]
    before = held["status"]["rollout"]["soakUntil"]
    assert stage.get("resume")["status"]["rollout"]["soakUntil"] == before
    stage.patch("resume", {"suspend": False, "ttlSecondsAfterFinished": 3600})
    # The second wave soaks as well; the first must not soak anew.
    stage.until(lambda: stage.status_of(ids[1]) == "running", 60)
    done = stage.ended("resume", "Succeeded", timeout=60)
    assert done["status"]["rollout"]["healthy"] == 2


def test_rollout_deleted_in_its_soak_ends_at_once(stage: Stage) -> None:
    ids = paused(stage, WELL, 2)
    rollout = {"waves": [1], "soak": "1h"}
    stage.create(stage.manifest("resume", "Resume", {"ids": ids}, rollout=rollout, timeout="61m"))
    stage.until(lambda: "soakUntil" in _rollout(stage), 60)
    stage.delete("resume")
    stage.until(lambda: stage.records("resume")[0]["status"].get("phase") == "Stopped", 60)
    assert [stage.status_of(id_) for id_ in ids] == ["running", "paused"]


def test_rollout_that_times_out_in_a_soak_ends_at_once(stage: Stage) -> None:
    """In the second of two that do not fit, or in the first when the machine is slow."""
    ids = paused(stage, WELL, 3)
    rollout = {"waves": [1, 2], "soak": "2500ms"}
    stage.create(stage.manifest("resume", "Resume", {"ids": ids}, rollout=rollout, timeout="4s"))
    stage.until(lambda: "soakUntil" in _rollout(stage), 60)
    ended = stage.ended("resume", "Stopped", timeout=60)
    assert conditions(ended)["Ready"] == ("False", "TimedOut")
    assert "soakUntil" in _rollout(stage)
    resumed = [outcome for outcome, _ in results(ended).values()].count("Effective")
    assert 1 <= resumed <= 2
    assert [stage.status_of(id_) for id_ in ids] == ["running"] * resumed + ["paused"] * (3 - resumed)


def _rollout(stage: Stage) -> Object:
    records = stage.records("resume")
    return records[0].get("status", {}).get("rollout", {}) if records else {}


@pytest.fixture
def lane(quiet_control_plane: ControlPlane, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    with Lane(quiet_control_plane, world.engine, tmp_path_factory.mktemp("rollout")) as made:
        yield made


def test_rollout_killed_in_its_soak_waits_for_the_rest_of_it_and_looks(lane: Lane, world: World) -> None:
    """The successor neither begins the second wave early nor the soak anew, and finds the restarts of the first."""
    engine = world.engine
    ids = sorted(engine.send("LabSvc", "echo", "x") for _ in range(4))
    for id_ in ids:
        engine.wait_status(id_, "completed", timeout=60)
    victim = lane.start_operator()
    lane.create(lane.manifest("restart", "RestartAsNew", {"ids": ids}, rollout={"waves": [2], "soak": "10s"}))
    soaking = until(lambda: lane.records("restart") and _soaking(lane.records("restart")[0]), "it does not soak")
    victim.kill()
    lane.revive()
    until(lambda: lane.records("restart")[0]["status"]["holder"] != soaking["holder"], "nobody took it over")
    assert _soaking(lane.records("restart")[0])["rollout"]["soakUntil"] == soaking["rollout"]["soakUntil"]
    assert truth.children(engine, ids).total() == 2
    until(lambda: truth.children(engine, ids).total() == 4, lambda: f"no second wave\n{lane.logs()}")
    lane.delete("restart")
    truth.none(truth.one_child_each(engine, ids))
    born = {
        row["restarted_from"]: datetime.fromisoformat(row["created_at"])
        for row in engine.sql(
            "select restarted_from, created_at from sys_invocation where restarted_from in "
            f"({', '.join(repr(id_) for id_ in ids)})"
        )
    }
    looked = datetime.fromisoformat(soaking["rollout"]["soakUntil"])
    assert all(born[id_] < looked - timedelta(seconds=5) for id_ in ids[:2])
    assert all(born[id_] >= looked for id_ in ids[2:])


def test_rollout_taken_over_after_its_soak_finds_what_is_unhealthy(lane: Lane, world: World) -> None:
    """The soak ends while nobody is there; what was restarted before the crash is found and looked at."""
    engine = world.engine
    ids = sorted(engine.send("LabSvc", "fail_terminal", "x") for _ in range(3))
    for id_ in ids:
        engine.wait_status(id_, "completed", timeout=60)
    victim = lane.start_operator()
    lane.create(lane.manifest("restart", "RestartAsNew", {"ids": ids}, rollout={"waves": [1], "soak": "3s"}))
    until(lambda: lane.records("restart") and _soaking(lane.records("restart")[0]), "it does not soak")
    victim.kill()
    time.sleep(3)
    lane.revive()
    done = lane.ended("restart", timeout=120)
    assert conditions(done)["Stalled"] == ("True", "Unhealthy")
    assert [one["reason"] for one in done["status"]["rollout"]["sample"]] == ["Failed"]
    assert truth.children(engine, ids).total() == 1


def _soaking(record: Object) -> Object:
    """The status of a record whose run soaks, else nothing."""
    status: Object = record.get("status", {})
    return status if "soakUntil" in status.get("rollout", {}) and status.get("phase") == "Running" else {}
