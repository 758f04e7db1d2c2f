"""Kill in every status, what dies with it, and the guardrails that count it."""

from e2e.rig import Front
from tests.operator.conftest import Stage, conditions, results, unique
from tests.operator.population import ALIVE, ENDED, HOUR, MAKERS, outcomes, populate

KILLED = ("Effective", "Killed")

BY_STATUS = {
    **dict.fromkeys(ALIVE, KILLED),
    "scheduled": ("Effective", "Gone"),  # the engine keeps no row of what never started
    "pending behind a key": ("Effective", "Gone"),
    **dict.fromkeys(ENDED, ("Skipped", "Completed")),
    "nothing retained": ("Failed", "NotFound"),
}


def descendants(stage: Stage, parent: str) -> list[str]:
    """Ids of all living descendants."""
    found, waiting = [], [parent]
    while waiting:
        rows = stage.engine.sql(
            f"select id from sys_invocation where invoked_by_id = '{waiting.pop()}' and status <> 'completed'"
        )
        found += [row["id"] for row in rows]
        waiting += [row["id"] for row in rows]
    return found


def test_kill_in_every_status_ends_what_lives_and_skips_what_has_ended(any_stage: Stage) -> None:
    made = populate(any_stage, MAKERS)
    busy = made["busy"] = any_stage.send("busy", 20.0, status="running")
    done = any_stage.run("kill", "Kill", {"ids": list(made.values())}, timeout=60)
    assert outcomes(done, made) == {**BY_STATUS, "busy": KILLED}
    assert any_stage.status_of(busy) == "completed"
    assert "no compensation runs in what is killed." in done["status"]["plan"]["warnings"]


def test_kill_takes_descendants_of_several_levels_and_the_plan_counts_them(stage: Stage) -> None:
    deep = stage.send("call_tree2", HOUR)
    wide = stage.send("send_children", HOUR)
    stage.until(lambda: (len(descendants(stage, deep)), len(descendants(stage, wide))) == (2, 3), 60)
    below = descendants(stage, deep) + descendants(stage, wide)
    done = stage.run("kill", "Kill", {"ids": [deep, wide]}, timeout=60)
    assert results(done) == dict.fromkeys((deep, wide), KILLED)
    plan = done["status"]["plan"]
    assert plan["cascade"] == {"total": 5, "byService": [{"name": "LabSvc", "count": 5}], "truncated": False}
    assert "5 descendants die with them, one-way calls included." in plan["warnings"]
    stage.until(lambda: {stage.status_of(id_) for id_ in below} <= {"completed", "absent"}, 60)


def test_kill_counts_a_descendant_that_is_named_itself_once(stage: Stage) -> None:
    parent = stage.send("call_tree2", HOUR)
    stage.until(lambda: len(descendants(stage, parent)) == 2, 60)
    child = descendants(stage, parent)[0]
    done = stage.run("kill", "Kill", {"ids": [parent, child]}, timeout=60)
    assert done["status"]["plan"]["total"] == 2
    assert done["status"]["plan"]["cascade"]["total"] == 1
    assert done["status"]["phase"] == "Succeeded"


def test_kill_whose_descendants_exceed_max_targets_is_refused_and_touches_nothing(stage: Stage) -> None:
    parent = stage.send("send_children", HOUR)
    stage.until(lambda: len(descendants(stage, parent)) == 3, 60)
    done = stage.run("kill", "Kill", {"ids": [parent]}, limits={"maxTargets": 3}, timeout=60)
    assert done["status"]["phase"] == "Refused"
    assert conditions(done)["Stalled"] == ("True", "TooManyTargets")
    assert "4 invocations would be acted upon" in done["status"]["conditions"][0]["message"]
    assert len(descendants(stage, parent)) == 3
    assert stage.records("kill") == []


def test_kill_counts_descendants_for_the_share_of_their_service(stage: Stage) -> None:
    parent = stage.send("send_children", HOUR)
    stage.until(lambda: len(descendants(stage, parent)) == 3, 60)
    done = stage.run("kill", "Kill", {"ids": [parent]}, limits={"maxPercentOfService": 1}, timeout=60)
    assert conditions(done)["Stalled"] == ("True", "TooMuchOfService")
    assert "4 of the " in done["status"]["conditions"][0]["message"]
    assert len(descendants(stage, parent)) == 3


def test_kill_whose_descendants_exceed_or_break_a_guardrail_is_refused(stage: Stage) -> None:
    parent = stage.send("call_tree", HOUR)
    stage.until(lambda: len(descendants(stage, parent)) == 1, 60)
    # At another address, so that these ceilings hold for this test alone.
    with Front(stage.engine.admin_url, tls=False) as front:
        for guardrails, reason, told in (
            ({"maxTargets": 1}, "TooManyTargets", "2 invocations would be acted upon (descendants included)"),
            ({"protectedServices": ["LabS*"]}, "ProtectedService", "the engine protects LabSvc"),
        ):
            stage.define_engine("guarded", url=front.url, guardrails=guardrails)
            manifest = stage.manifest(
                f"kill-{reason.lower()}", "Kill", {"ids": [parent]}, engineRef={"name": "guarded"}
            )
            stage.create(manifest)
            done = stage.ended(manifest["metadata"]["name"], timeout=60)
            assert conditions(done) == {"Ready": ("False", reason), "Stalled": ("True", reason)}
            assert told in done["status"]["conditions"][0]["message"]
        stage.delete("guarded", "restateengines")
    assert stage.status_of(parent) != "completed"


def test_kill_of_what_ends_by_itself_meanwhile_is_already_done(stage: Stage) -> None:
    """A set that is fixed in a plan may have ended when it is its turn."""
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    stage.run("kill", "Kill", {"ids": [id_]}, mode="DryRun", timeout=60)
    stage.engine.operate(id_, "cancel")
    stage.engine.wait_status(id_, "completed")
    stage.patch("kill", {"mode": "Execute"})
    done = stage.ended("kill", "Succeeded", timeout=60)
    assert results(done) == {id_: ("Skipped", "Completed")}


def test_kill_of_a_scheduled_call_that_is_born_again_at_once_kills_only_the_first(stage: Stage) -> None:
    key = unique("reborn")
    id_ = stage.send("echo", "x", delay="1h", idempotency_key=key, status="scheduled")
    stage.run("kill", "Kill", {"ids": [id_]}, timeout=60)
    assert stage.send("echo", "x", delay="1h", idempotency_key=key, status="scheduled") == id_
    again = stage.run("kill-again", "Kill", {"ids": [id_]}, timeout=60)
    assert results(again) == {id_: ("Effective", "Gone")}
