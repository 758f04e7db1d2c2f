"""Purge and PurgeJournal in every status."""

import pytest

from tests.operator.conftest import Stage, conditions, results, unique
from tests.operator.population import ENDED, HOUR, MAKERS, outcomes, populate

STILL_ALIVE = {
    "scheduled": ("Skipped", "Scheduled"),
    "pending behind a key": ("Skipped", "Pending"),
    "running an open sleep": ("Skipped", "Running"),
    "suspended": ("Skipped", "Suspended"),
    "suspended and holding a key": ("Skipped", "Suspended"),
    "backing off": ("Skipped", "BackingOff"),
    "paused by its policy": ("Skipped", "Paused"),
    "paused by hand": ("Skipped", "Paused"),
    "nothing retained": ("Failed", "NotFound"),
}
BY_STATUS = {
    "Purge": {**STILL_ALIVE, **dict.fromkeys(ENDED, ("Effective", "Purged"))},
    "PurgeJournal": {
        **STILL_ALIVE,
        **dict.fromkeys(ENDED, ("Effective", "JournalPurged")),
        "journal purged": ("AlreadyDone", "JournalPurged"),
    },
}


@pytest.mark.parametrize("action", BY_STATUS)
def test_purge_in_every_status_frees_what_has_ended(any_stage: Stage, action: str) -> None:
    made = populate(any_stage, MAKERS)
    done = any_stage.run("purge", action, {"ids": list(made.values())}, timeout=60)
    assert outcomes(done, made) == BY_STATUS[action]
    for name in ENDED:
        row = any_stage.engine.invocation(made[name])
        if action == "Purge":
            assert row is None
        else:
            assert row is not None
            assert row["journal_size"] == 0
    assert any_stage.status_of(made["suspended"]) == "suspended"
    warned = "what has no journal cannot be restarted any more." in done["status"]["plan"].get("warnings", ())
    assert warned is (action == "PurgeJournal")


def test_purge_of_a_workflow_frees_its_key_and_leaves_the_next_run_under_the_same_id_alone(stage: Stage) -> None:
    key = unique("order")
    first = stage.send("run", 0.0, service="LabWf", key=key, status="completed")
    stage.run("dry", "Purge", {"ids": [first]}, mode="DryRun", timeout=60)
    done = stage.run("purge", "Purge", {"ids": [first]}, timeout=60)
    assert results(done) == {first: ("Effective", "Purged")}
    second = stage.send("run", 0.0, service="LabWf", key=key)
    assert second == first
    stage.engine.wait_status(second, "completed")
    # The plan of the dry run meant the first one.
    stage.patch("dry", {"mode": "Execute"})
    late = stage.ended("dry", "Succeeded", timeout=60)
    assert results(late) == {second: ("Skipped", "NotInPreview")}
    assert stage.status_of(second) == "completed"


def test_purge_by_filter_leaves_what_lives_and_tells_how_many(stage: Stage) -> None:
    key = unique("obj")
    ended = stage.send("obj_echo", "x", service="LabObj", key=key, status="completed")
    alive = stage.send("obj_sleep", HOUR, service="LabObj", key=key, status="suspended")
    done = stage.run("purge", "Purge", {"services": ["LabObj"], "keys": [key]}, timeout=60)
    assert results(done) == {ended: ("Effective", "Purged")}
    assert done["status"]["plan"]["excludedByStatus"] == [{"name": "Suspended", "count": 1}]
    assert stage.status_of(alive) == "suspended"


def test_purge_of_what_is_purged_already_fails_alone_by_id_and_matches_nothing_by_filter(stage: Stage) -> None:
    key = unique("obj")
    id_ = stage.send("obj_echo", "x", service="LabObj", key=key, status="completed")
    stage.run("first", "Purge", {"ids": [id_]}, timeout=60)
    by_id = stage.run("by-id", "Purge", {"ids": [id_]}, timeout=60)
    by_filter = stage.run("by-filter", "Purge", {"services": ["LabObj"], "keys": [key]}, timeout=60)
    assert results(by_id) == {id_: ("Failed", "NotFound")}
    assert by_filter["status"]["phase"] == "Succeeded"
    assert conditions(by_filter) == {"Ready": ("True", "NothingMatched")}
