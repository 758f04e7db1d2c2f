"""Plans that wait for their approval: what is approved is what is done, once, and nothing else ever is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from e2e.rig import ControlPlane, Engine
from tests.operator.conftest import OPERATOR_NAMESPACE, Object, Stage, conditions, operator_for, results, unique
from tests.operator.fronts import fronted
from tests.operator.population import HOUR

CANCELLED = ("Effective", "Cancelled")


def sleeper(stage: Stage, key: str) -> str:
    return stage.send("obj_shared_sleep", HOUR, service="LabObj", key=key, status="suspended")


def waiting(stage: Stage, name: str = "approve", count: int = 2, **spec: object) -> tuple[str, list[str]]:
    """An action that waits for its approval, with the key and the ids that it shows."""
    key = unique("obj")
    ids = [sleeper(stage, key) for _ in range(count)]
    stage.create(stage.manifest(name, "Cancel", {"services": ["LabObj"], "keys": [key]}, mode="Approve", **spec))
    stage.reached(name, "AwaitingApproval", timeout=60)
    return key, ids


def plan_hash(stage: Stage, name: str = "approve") -> str:
    return str(stage.get(name)["status"]["plan"]["hash"])


def message(action: Object) -> str:
    return str(action["status"]["conditions"][0]["message"])


def reason(action: Object) -> str:
    return conditions(action)["Ready"][1]


def previews(stage: Stage) -> list[str]:
    reply = stage.control_plane.request("GET", f"/api/v1/namespaces/{stage.namespace}/configmaps")
    return [
        c["metadata"]["name"] for c in reply.expect(200).json()["items"] if c["metadata"]["name"].startswith("iact-")
    ]


def age_plan(stage: Stage, name: str = "approve") -> None:
    """Make the plan that is shown two hours old."""
    old = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/invocationactions/{name}/status"
    stage.control_plane.request("PATCH", path, {"status": {"plan": {"time": old}}}).expect(200)


def because(stage: Stage, wanted: str, name: str = "approve") -> Object:
    """Wait until the action waits for that reason, with its present specification."""
    stage.until(lambda: reason(stage.reached(name, "AwaitingApproval", timeout=60)) == wanted, 60)
    return stage.get(name)


def test_approved_plan_runs_what_it_showed_and_still_matches_and_no_other(stage: Stage) -> None:
    key, ids = waiting(stage, count=3)
    shown = stage.get("approve")
    assert conditions(shown) == {
        "Ready": ("False", "AwaitingApproval"),
        "Reconciling": ("True", "AwaitingApproval"),
    }
    digest = shown["status"]["plan"]["hash"]
    command = f"kubectl -n {stage.namespace} patch iact approve --type=merge -p "
    assert command in message(shown)
    assert stage.records("approve") == []
    assert len(previews(stage)) == 1
    stage.engine.operate(ids[0], "cancel")
    stage.engine.wait_status(ids[0], "completed")
    later = sleeper(stage, key)
    # The very command that the message shows.
    patch = message(shown).partition(command)[2].strip("'")
    stage.control_plane.kubectl("-n", stage.namespace, "patch", "iact", "approve", "--type=merge", "-p", patch)
    done = stage.ended("approve", "Succeeded", timeout=60)
    assert results(done) == {ids[1]: CANCELLED, ids[2]: CANCELLED}
    assert stage.status_of(later) == "suspended"
    approval = done["status"]["approval"]
    assert approval["hash"] == digest
    assert "by" not in approval, "nobody vouches for it here"
    assert stage.records("approve")[0]["spec"]["approval"] == approval
    stage.until(lambda: previews(stage) == [], 30)
    # Taken back afterwards, it changes nothing.
    stage.patch("approve", {"approvedPlan": None, "mode": "DryRun"})
    assert results(stage.ended("approve", timeout=60)) == results(done)

    def told() -> list[str]:
        return sorted(e["reason"] for e in stage.events("approve"))

    stage.until(lambda: len(told()) >= 4, 30)
    assert told() == ["Approved", "AwaitingApproval", "Started", "Succeeded"]


def test_approval_of_another_plan_than_the_present_one_runs_nothing_and_says_what_drifted(stage: Stage) -> None:
    key, ids = waiting(stage)
    first = plan_hash(stage)
    stage.patch("approve", {"approvedPlan": "sha256:" + 48 * "0"})
    refused = because(stage, "ApprovalMismatch")
    assert first in message(refused)
    stage.engine.operate(ids[0], "cancel")
    stage.engine.wait_status(ids[0], "completed")
    later = [sleeper(stage, key) for _ in range(2)]
    age_plan(stage)
    # It was right once, and is too old by now.
    stage.patch("approve", {"approvedPlan": first})
    stage.until(lambda: plan_hash(stage) != first, 60)
    late = because(stage, "ApprovalMismatch")
    assert late["status"]["plan"]["replaced"] == {"hash": first, "gone": 1, "added": 2}
    assert f"It replaces {first}: 1 of those are gone, 2 were added." in message(late)
    assert stage.records("approve") == []
    assert "approval" not in late["status"]
    assert len(previews(stage)) == 1
    stage.patch("approve", {"approvedPlan": late["status"]["plan"]["hash"]})
    done = stage.ended("approve", "Succeeded", timeout=60)
    assert results(done) == dict.fromkeys([ids[1], *later], CANCELLED)


def test_plan_that_is_too_old_but_the_same_when_made_anew_is_approved(stage: Stage) -> None:
    _, ids = waiting(stage)
    digest = plan_hash(stage)
    age_plan(stage)
    stage.patch("approve", {"approvedPlan": digest})
    done = stage.ended("approve", "Succeeded", timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    made = datetime.fromisoformat(done["status"]["approval"]["time"])
    assert abs(datetime.now(UTC) - made) < timedelta(minutes=30)


def test_exact_approval_of_a_set_that_lost_one_runs_nothing_and_shows_a_new_plan(stage: Stage) -> None:
    _, ids = waiting(stage, approval={"drift": "Exact"})
    first = plan_hash(stage)
    stage.engine.operate(ids[0], "cancel")
    stage.engine.wait_status(ids[0], "completed")
    stage.patch("approve", {"approvedPlan": first})
    late = because(stage, "ApprovalMismatch")
    assert late["status"]["plan"]["replaced"] == {"hash": first, "gone": 1, "added": 0}
    assert stage.status_of(ids[1]) == "suspended"
    assert "approval" not in late["status"]
    stage.patch("approve", {"approvedPlan": late["status"]["plan"]["hash"]})
    assert results(stage.ended("approve", "Succeeded", timeout=60)) == {ids[1]: CANCELLED}


@pytest.mark.parametrize("forged", [False, True], ids=["lost", "exchanged-for-another-set"])
def test_kept_set_that_is_not_what_was_shown_is_not_acted_upon(stage: Stage, forged: bool) -> None:
    """Who may write ConfigMaps may not widen what was approved; here the plan is made anew and found to be the same."""
    _, ids = waiting(stage)
    _, others = waiting(stage, "other")
    names = previews(stage)
    uid = stage.get("approve")["metadata"]["uid"]
    mine = next(n for n in names if uid in n)
    path = f"/api/v1/namespaces/{stage.namespace}/configmaps"
    theirs = stage.control_plane.request("GET", f"{path}/{next(n for n in names if n != mine)}").expect(200).json()
    stage.control_plane.request("DELETE", f"{path}/{mine}").expect(200)
    if forged:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": mine}, "data": theirs["data"]}
        stage.control_plane.request("POST", path, body).expect(201)
    stage.patch("approve", {"approvedPlan": plan_hash(stage)})
    done = stage.ended("approve", "Succeeded", timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    assert [stage.status_of(id_) for id_ in others] == ["suspended"] * 2


def test_waiting_plan_outlives_a_restart_of_the_operator_and_is_approved_while_it_is_away(
    quiet_control_plane: ControlPlane, engine: Engine, tmp_path: Path
) -> None:
    namespace = unique("approve")
    quiet_control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}).expect(201)
    stage = Stage(quiet_control_plane, engine, namespace, tmp_path / "1.log")
    options = ("--namespace", namespace, "--lease-seconds", "2")
    with operator_for(quiet_control_plane, stage.log, *options, operator_namespace=OPERATOR_NAMESPACE):
        stage.define_engine()
        key, ids = waiting(stage)
        stage.create(stage.manifest("held", "Cancel", {"ids": ids}, mode="Approve", suspend=True))
        stage.reached("held", "Suspended", timeout=60)
    shown = stage.get("approve")
    later = sleeper(stage, key)
    stage.log = tmp_path / "2.log"
    with operator_for(quiet_control_plane, stage.log, *options, operator_namespace=OPERATOR_NAMESPACE):
        stage.until(lambda: '"event": "ready"' in stage.log.read_text(), 60)
        stage.patch("held", {"suspend": False})
        held = stage.reached("held", "AwaitingApproval", timeout=60)
        assert stage.get("approve")["status"] == shown["status"], "planned anew"
    stage.patch("approve", {"approvedPlan": shown["status"]["plan"]["hash"]})
    stage.log = tmp_path / "3.log"
    with operator_for(quiet_control_plane, stage.log, *options, operator_namespace=OPERATOR_NAMESPACE):
        done = stage.ended("approve", "Succeeded", timeout=60)
        assert results(done) == dict.fromkeys(ids, CANCELLED)
        assert stage.status_of(later) == "suspended"
        assert held["status"]["plan"]["total"] == 2
    stage.delete("held")
    engine.operate(later, "kill")


def test_not_after_that_passes_while_it_waits_expires_it(stage: Stage) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    id_ = stage.send("sleep_long", HOUR, status="suspended")
    stage.create(stage.manifest("approve", "Cancel", {"ids": [id_]}, mode="Approve", notAfter=soon))
    expired = stage.ended("approve", "Expired", timeout=60)
    assert conditions(expired)["Stalled"] == ("True", "Expired")
    assert stage.status_of(id_) == "suspended"
    stage.until(lambda: previews(stage) == [], 30)


def test_guardrail_that_requires_an_approval_refuses_execute_and_lets_approve_run(stage: Stage) -> None:
    ids = [stage.send("sleep_long", HOUR, status="suspended") for _ in range(2)]
    with fronted(stage) as it:
        it.define(guardrails={"requireApprovalFor": ["Cancel"]})
        it.act("hasty", "Cancel", {"ids": ids}, mode="Approve")
        stage.reached("hasty", "AwaitingApproval", timeout=60)
        stage.patch("hasty", {"mode": "Execute"})
        assert reason(stage.ended("hasty", timeout=60)) == "ApprovalRequired"
        assert [stage.status_of(id_) for id_ in ids] == ["suspended"] * 2
        it.act("approve", "Cancel", {"ids": ids}, mode="DryRun")
        dry = stage.ended("approve", "Planned", timeout=60)
        stage.patch("approve", {"mode": "Approve"})
        stage.reached("approve", "AwaitingApproval", timeout=60)
        # The plan is the same, whatever becomes of it.
        assert plan_hash(stage) == dry["status"]["plan"]["hash"]
        stage.patch("approve", {"approvedPlan": plan_hash(stage)})
        assert results(stage.ended("approve", "Succeeded", timeout=60)) == dict.fromkeys(ids, CANCELLED)


def test_waiting_plan_that_is_executed_by_its_author_acts_on_what_it_showed(stage: Stage) -> None:
    key, ids = waiting(stage)
    later = sleeper(stage, key)
    stage.patch("approve", {"mode": "Execute"})
    done = stage.ended("approve", "Succeeded", timeout=60)
    assert results(done) == dict.fromkeys(ids, CANCELLED)
    assert "approval" not in done["status"]
    assert stage.status_of(later) == "suspended"


def test_approval_that_an_earlier_run_left_behind_is_none_of_the_next(stage: Stage) -> None:
    """The very same set, twice: the hash binds the run."""
    id_ = stage.send("hold", HOUR, status="running")
    stage.create(stage.manifest("approve", "Pause", {"ids": [id_]}, mode="Approve", runId="1"))
    stage.reached("approve", "AwaitingApproval", timeout=60)
    stage.patch("approve", {"approvedPlan": plan_hash(stage)})
    stage.ended("approve", "Succeeded", timeout=60)
    stage.engine.operate(id_, "resume")
    stage.engine.wait_status(id_, "running")
    stage.patch("approve", {"runId": "2"})
    again = because(stage, "ApprovalMismatch")
    assert "approval" not in again["status"]
    assert stage.status_of(id_) == "running"
