"""What GitOps tools make of every state that our objects can be in: Flux's kstatus, Argo CD's health checks.

The objects are those of the real API server, written by the real operator.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.rig.judges import Judges
from tests.operator.conftest import Object, Stage
from tests.operator.fronts import fronted
from tests.operator.judging import judges as judges
from tests.operator.policies import Shelf
from tests.operator.policies import shelf as shelf
from tests.operator.population import HOUR

GOOD = ("Current", "Healthy")
BAD = ("Failed", "Degraded")
WORKING = ("InProgress", "Progressing")
HELD = ("InProgress", "Suspended")
"""Nothing goes on before a person does something; Flux has no word for that."""
OFF = ("InProgress", "Healthy")
"""A policy that is switched off: a sync of Argo CD must not wait for it."""


def verdicts(judges: Judges, objects: dict[str, Object]) -> dict[str, tuple[str, str]]:
    found = list(objects.values())
    return dict(zip(objects, zip(judges.kstatus(found), judges.health(found), strict=True), strict=True))


def waiting_for_a_retry(stage: Stage) -> str:
    """A cancel of it is accepted, and has its effect in an hour."""
    return stage.send("run_fails_slow", "x", status="backing-off")


def test_judges_of_an_action_in_every_state_agree_with_what_it_says(stage: Stage, judges: Judges) -> None:
    def sleeper() -> dict[str, Any]:
        return {"ids": [stage.send("sleep_long", HOUR)]}

    def stuck(count: int) -> dict[str, Any]:
        return {"ids": [waiting_for_a_retry(stage) for _ in range(count)]}

    nonsense = {"ids": ["nonsense"]}
    mixed = {"ids": [*sleeper()["ids"], "nonsense"]}
    cases: list[tuple[str, str, Object, Object, str, tuple[str, str]]] = [
        ("pending", "Cancel", sleeper(), {"engineRef": {"name": "nowhere"}}, "Pending", WORKING),
        ("running", "Cancel", stuck(2), {"limits": {"maxInFlight": 1}}, "Running", WORKING),
        ("verifying", "Cancel", stuck(1), {}, "Verifying", WORKING),
        ("suspended", "Cancel", sleeper(), {"suspend": True}, "Suspended", HELD),
        ("awaiting", "Cancel", sleeper(), {"mode": "Approve"}, "AwaitingApproval", HELD),
        ("planned", "Cancel", sleeper(), {"mode": "DryRun"}, "Planned", GOOD),
        ("succeeded", "Cancel", sleeper(), {}, "Succeeded", GOOD),
        ("again", "Kill", sleeper(), {}, "AlreadyExecuted", GOOD),
        ("long-ago", "Cancel", sleeper(), {"notAfter": "2020-01-01T00:00:00Z"}, "Expired", GOOD),
        ("too-late", "Cancel", sleeper(), {"suspend": True}, "Expired", BAD),
        ("partial", "Kill", mixed, {}, "PartiallyFailed", BAD),
        ("failed", "Kill", nonsense, {}, "Failed", BAD),
        ("refused", "Cancel", stuck(2), {"limits": {"maxTargets": 1}}, "Refused", BAD),
        ("stopped", "Cancel", stuck(2), {"limits": {"maxInFlight": 1}, "timeout": "1s"}, "Stopped", BAD),
    ]
    quick = {"stopped": {"verification": {"timeout": "1s"}}}
    manifests = {name: stage.manifest(name, *what, **spec, **quick.get(name, {})) for name, *what, spec, _, _ in cases}
    unseen = stage.manifest("unseen", "Cancel", nonsense)
    path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/invocationactions?dryRun=All"
    seen = {"unseen": stage.control_plane.request("POST", path, unseen).expect(201).json()}
    for name, manifest in manifests.items():
        if name == "too-late":
            soon = datetime.now(UTC) + timedelta(seconds=4)
            manifest["spec"]["notAfter"] = soon.strftime("%Y-%m-%dT%H:%M:%SZ")
        stage.create(manifest)
    stage.ended("again")
    stage.delete("again")
    stage.create(manifests["again"])
    seen |= {name: stage.reached(name, phase, timeout=60) for name, *_, phase, _ in cases}
    seen["patched"] = stage.patch("suspended", {"suspend": False})

    said = verdicts(judges, seen)
    assert said == {"unseen": WORKING, "patched": WORKING} | {name: verdict for name, *_, verdict in cases}
    records = {record["metadata"]["name"]: record for name in ("succeeded", "failed") for record in stage.records(name)}
    by_phase = {records[name]["status"]["phase"]: said for name, said in verdicts(judges, records).items()}
    assert by_phase == {"Succeeded": GOOD, "Failed": BAD}
    (running,) = stage.records("running")
    assert verdicts(judges, {"running": running}) == {"running": WORKING}


def test_judges_of_an_action_that_is_being_deleted_wait_for_its_end(stage: Stage, judges: Judges) -> None:
    manifest = stage.manifest("leaving", "Cancel", {"ids": [stage.send("sleep_long", HOUR)]})
    manifest["metadata"]["finalizers"] = ["ops.restate.dev/test"]
    stage.create(manifest)
    stage.ended("leaving")
    path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{stage.namespace}/invocationactions/leaving"
    stage.control_plane.request("DELETE", path).expect(200)
    leaving = stage.get("leaving")
    stage.control_plane.request("PATCH", path, {"metadata": {"finalizers": None}}).expect(200)
    assert verdicts(judges, {"leaving": leaving}) == {"leaving": ("Terminating", "Progressing")}


def test_judges_of_an_engine_in_every_state_agree_with_what_it_says(stage: Stage, judges: Judges) -> None:
    with fronted(stage) as it:
        it.define()
        it.define("away", url="http://127.0.0.1:1")
        seen = {"usable": it.engine_says("Reachable"), "away": it.engine_says("Unreachable", name="away")}
        stage.patch("front", {"suspend": True}, "restateengines")
        seen["off"] = it.engine_says("Suspended")
        it.act("held", "Cancel", {"ids": ["nonsense"]})
        seen["held"] = it.action_says("EngineSuspended", "held")
        stage.patch("front", {"suspend": False}, "restateengines")
        it.front.answer("/version", json.dumps({"version": "1.5.0"}))
        seen["old"] = it.engine_says("VersionUnsupported")
    # The switch itself works. What it holds up is Suspended, and what stands in a wave behind it is applied.
    wanted = {"usable": GOOD, "away": WORKING, "off": GOOD, "held": HELD, "old": BAD}
    assert verdicts(judges, seen) == wanted


def test_judges_of_a_policy_in_every_state_agree_with_what_it_says(shelf: Shelf, judges: Judges) -> None:
    def reads(name: str, reason: str) -> Object:
        return shelf.until(name, lambda s: s["conditions"][0]["reason"] == reason)

    seen = {}
    cases: list[tuple[str, str, Object, tuple[str, str]]] = [
        ("in-force", "InForce", {"retention": {"journal": "2h"}}, GOOD),
        ("younger", "Conflicted", {"retention": {"journal": "3h"}}, BAD),
        ("off", "Suspended", {"retention": {"journal": "4h"}, "suspend": True}, OFF),
        ("lost", "EngineNotFound", {"retention": {"journal": "5h"}, "engineRef": {"name": "nowhere"}}, WORKING),
    ]
    for name, reason, spec, _ in cases:
        shelf.create(shelf.manifest(name, "LabSvc", **spec))
        seen[name] = reads(name, reason)
    assert verdicts(judges, seen) == {name: verdict for name, *_, verdict in cases}
