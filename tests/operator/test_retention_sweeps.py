"""Sweeps on a real engine: at their tick, when asked for, within bounds, once."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.operator.conftest import OPERATOR_NAMESPACE, ROOT, Object, conditions, unique
from tests.operator.policies import PLURAL, Shelf
from tests.operator.policies import any_shelf as any_shelf
from tests.operator.policies import shelf as shelf

NEVER = "0 0 29 2 *"
"""No test runs that long."""


def sweep(name: str = "nightly", action: str = "Purge", **more: object) -> Object:
    return {"name": name, "schedule": NEVER, "action": action, **more}


def completed(shelf: Shelf, count: int, handler: str = "echo") -> list[str]:
    """Completed invocations, oldest first."""
    body = "boom" if handler == "fail_terminal" else "x"
    return [shelf.stage.send(handler, body, service=shelf.service("LabSvc"), status="completed") for _ in range(count)]


def ask(shelf: Shelf, name: str, value: str | None) -> None:
    path = f"{ROOT}/namespaces/{shelf.stage.namespace}/{PLURAL}/{name}"
    patch = {"metadata": {"annotations": {"ops.restate.dev/requestedAt": value}}}
    shelf.stage.control_plane.request("PATCH", path, patch).expect(200)


def handled(shelf: Shelf, name: str, value: str, timeout: float = 60) -> Object:
    """Wait until a request was seen to; return the sweeps by name."""
    policy = shelf.until(name, lambda s: s.get("lastHandledRequest") == value, timeout)
    return {entry["name"]: entry for entry in policy["status"]["sweeps"]}


def records(shelf: Shelf) -> list[Object]:
    reply = shelf.stage.control_plane.request("GET", f"{ROOT}/namespaces/{OPERATOR_NAMESPACE}/invocationrecords")
    namespace = shelf.stage.namespace
    return [r for r in reply.expect(200).json()["items"] if r["spec"]["source"]["namespace"] == namespace]


def test_sweep_that_is_asked_for_purges_what_matches_once_and_tells_what_it_freed(shelf: Shelf) -> None:
    good, bad = completed(shelf, 3), completed(shelf, 2, "fail_terminal")
    target = {"outcomes": ["Succeeded"]}
    shelf.apply("sweeper", "LabSvc", sweeps=[sweep(target=target), sweep("off", suspend=True)])
    ask(shelf, "sweeper", "now-1")
    entries = handled(shelf, "sweeper", "now-1")
    run = entries["nightly"]["history"][0]
    assert (run["phase"], run["planned"], run["freed"], run["request"]) == ("Succeeded", 3, 3, "now-1")
    assert run["bytesFreed"] > 0
    assert "history" not in entries["off"]
    assert [shelf.stage.status_of(id_) for id_ in good] == ["absent"] * 3
    assert [shelf.stage.status_of(id_) for id_ in bad] == ["completed"] * 2
    policy = shelf.until("sweeper", lambda s: s["conditions"][0]["reason"] == "SweepsOnly")
    assert policy["status"]["lastSweep"].startswith("nightly: 3 freed")
    [record] = records(shelf)
    assert record["spec"]["source"]["kind"] == "RetentionPolicy"
    assert record["spec"]["runId"] == "nightly request now-1"
    assert record["status"]["phase"] == "Succeeded"
    # The same value again, also in a new object of that name, is the same request.
    later = completed(shelf, 1)
    shelf.stage.delete("sweeper", PLURAL)
    made = shelf.manifest("sweeper", "LabSvc", sweeps=[sweep(target=target)])
    made["metadata"]["annotations"] = {"ops.restate.dev/requestedAt": "now-1"}
    shelf.create(made)
    again = handled(shelf, "sweeper", "now-1")["nightly"]["history"][0]
    assert again["phase"] == "AlreadyExecuted"
    assert shelf.stage.status_of(later[0]) == "completed"
    # Taking the annotation away does nothing; a new value does.
    ask(shelf, "sweeper", None)
    ask(shelf, "sweeper", "now-2")
    runs = handled(shelf, "sweeper", "now-2")["nightly"]["history"]
    assert [(run["request"], run["freed"]) for run in runs] == [("now-2", 1), ("now-1", 0)]


def test_sweep_of_missed_ticks_is_caught_up_once_with_the_last_of_them(shelf: Shelf) -> None:
    ids = completed(shelf, 2)
    shelf.apply("sweeper", "LabSvc", suspend=True, sweeps=[sweep(schedule="*/5 * * * *", timeZone="Asia/Kolkata")])
    policy = shelf.until("sweeper", lambda s: s.get("sweeps"))
    entry = policy["status"]["sweeps"][0]
    assert "nextScheduleTime" not in entry
    # Nobody looked for an hour: twelve ticks were missed.
    past = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = f"{ROOT}/namespaces/{shelf.stage.namespace}/{PLURAL}/sweeper/status"
    patch = {"status": {"sweeps": [{**entry, "since": past}]}}
    shelf.stage.control_plane.request("PATCH", path, patch).expect(200)
    shelf.stage.patch("sweeper", {"suspend": False}, PLURAL)
    policy = shelf.until("sweeper", lambda s: s["sweeps"][0].get("history"), 60)
    [run] = policy["status"]["sweeps"][0]["history"]
    tick = datetime.fromisoformat(run["scheduledTime"])
    assert (run["phase"], run["freed"], tick.minute % 5, tick.second) == ("Succeeded", 2, 0, 0)
    assert datetime.now(UTC) - tick < timedelta(minutes=10)
    assert [shelf.stage.status_of(id_) for id_ in ids] == ["absent"] * 2
    policy = shelf.until("sweeper", lambda s: s["sweeps"][0].get("nextScheduleTime"))
    shown = policy["status"]["sweeps"][0]
    assert datetime.fromisoformat(shown["nextScheduleTime"]) > tick
    assert policy["status"]["nextSweepTime"] == shown["nextScheduleTime"]
    assert len(records(shelf)) == 1


def test_sweep_keeps_the_last_of_each_handler_by_completion(any_shelf: Shelf) -> None:
    shelf = any_shelf
    echoes, variants = completed(shelf, 4), completed(shelf, 3, "variant")
    failed = completed(shelf, 2, "fail_terminal")
    shelf.apply("sweeper", "LabSvc", sweeps=[sweep(keepLast=2, target={"outcomes": ["Succeeded"]})])
    ask(shelf, "sweeper", "now")
    run = handled(shelf, "sweeper", "now")["nightly"]["history"][0]
    assert (run["planned"], run["freed"]) == (3, 3)
    left = [id_ for id_ in [*echoes, *variants] if shelf.stage.status_of(id_) != "absent"]
    assert left == [*echoes[-2:], *variants[-2:]]
    assert [shelf.stage.status_of(id_) for id_ in failed] == ["completed"] * 2


def test_sweep_in_two_tiers_frees_journals_first_and_keeps_results(shelf: Shelf) -> None:
    [id_] = completed(shelf, 1)
    tiers = [
        sweep("results", "Purge", target={"completedFor": "1h"}),
        sweep("journals", "PurgeJournal", target={"completedFor": "0s"}),
    ]
    shelf.apply("sweeper", "LabSvc", sweeps=tiers)
    ask(shelf, "sweeper", "now")
    entries = handled(shelf, "sweeper", "now")
    assert [entries[n]["history"][0]["freed"] for n in ("results", "journals")] == [0, 1]
    row = shelf.engine.invocation(id_)
    assert row is not None
    assert row["journal_size"] == 0


REFUSALS = [
    ("more than it may", {"limits": {"maxTargets": 2}}, {}, "TooManyTargets"),
    ("services of others", {"target": {"services": ["LabRet", "elsewhere-*"]}}, {}, "among the policy's services"),
    ("a purge that the engine's owner does not allow", {}, {"allowedActions": ["SetRetention"]}, "ActionNotAllowed"),
    ("a protected service", {}, {"protectedServices": ["KeptLabSvc"]}, "ProtectedService"),
    ("a reason that is missing", {}, {"requireReasonFor": ["Purge"]}, "ReasonRequired"),
    ("the engine's own limit", {"limits": {"maxTargets": 10}}, {"maxTargets": 1}, "TooManyTargets"),
]


@pytest.mark.parametrize(("why", "more", "guardrails", "told"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_sweep_that_must_not_be_touches_nothing_and_says_so(
    shelf: Shelf, why: str, more: Object, guardrails: Object, told: str
) -> None:
    ids = completed(shelf, 3)
    shelf.stage.define_engine(guardrails=guardrails)
    shelf.apply("sweeper", "LabSvc", sweeps=[sweep(**more)])
    ask(shelf, "sweeper", "now")
    run = handled(shelf, "sweeper", "now")["nightly"]["history"][0]
    assert run["phase"] == "Refused", why
    assert told in run["message"]
    assert [shelf.stage.status_of(id_) for id_ in ids] == ["completed"] * 3
    assert records(shelf) == []
    policy = shelf.until("sweeper", lambda s: s["conditions"][0]["reason"] == "SweepFailed")
    assert conditions(policy)["Stalled"] == ("True", "SweepFailed")


def test_sweep_with_a_schedule_that_never_comes_is_told(shelf: Shelf) -> None:
    shelf.apply("sweeper", "LabSvc", sweeps=[sweep(schedule="0 0 30 2 *"), sweep("lost", timeZone="Mars/Olympus")])
    policy = shelf.until("sweeper", lambda s: s["conditions"][0]["reason"] == "ScheduleInvalid")
    messages = {e["name"]: e["message"] for e in policy["status"]["sweeps"]}
    assert "never comes" in messages["nightly"]
    assert "no time zone" in messages["lost"]


def test_sweep_stops_while_suspended_and_goes_on(shelf: Shelf) -> None:
    ids = completed(shelf, 6)
    limits = {"operationsPerSecond": 2, "maxInFlight": 1}
    shelf.apply("sweeper", "LabSvc", sweeps=[sweep(limits=limits)])
    ask(shelf, "sweeper", "now")
    shelf.stage.until(lambda: any(shelf.stage.status_of(id_) == "absent" for id_ in ids), 30)
    shelf.stage.patch("sweeper", {"suspend": True}, PLURAL)
    policy = shelf.get("sweeper")
    assert policy["status"]["sweeps"][0]["active"]
    shelf.stage.patch("sweeper", {"suspend": False}, PLURAL)
    run = handled(shelf, "sweeper", "now")["nightly"]["history"][0]
    assert (run["phase"], run["freed"]) == ("Succeeded", 6)


def test_sweep_whose_policy_is_deleted_stops_and_its_record_says_so(shelf: Shelf) -> None:
    ids = completed(shelf, 6)
    shelf.apply("sweeper", "LabSvc", sweeps=[sweep(limits={"operationsPerSecond": 1, "maxInFlight": 1})])
    ask(shelf, "sweeper", unique("now"))
    shelf.stage.until(lambda: any(shelf.stage.status_of(id_) == "absent" for id_ in ids), 30)
    shelf.stage.delete("sweeper", PLURAL)
    shelf.stage.until(lambda: [r["status"].get("phase") for r in records(shelf)] == ["Stopped"], 30)
    assert any(shelf.stage.status_of(id_) == "completed" for id_ in ids)


def test_sweep_beside_values_delays_neither_and_both_are_told(shelf: Shelf) -> None:
    completed(shelf, 4)
    slow = sweep(limits={"operationsPerSecond": 1, "maxInFlight": 1})
    shelf.apply("sweeper", "LabSvc", retention={"journal": "2h"}, sweeps=[slow])
    shelf.reached("sweeper", "LabSvc", lambda e: e["state"] == "InForce")
    ask(shelf, "sweeper", "now")
    shelf.until("sweeper", lambda s: s["sweeps"][0].get("active"))
    shelf.patched("LabSvc", journal_retention="9h")
    entry = shelf.reached("sweeper", "LabSvc", lambda e: e["drifts"] == 1)
    assert entry["state"] == "InForce"
    run = handled(shelf, "sweeper", "now")["nightly"]["history"][0]
    assert (run["phase"], run["freed"]) == ("Succeeded", 4)
    policy = shelf.get("sweeper")
    assert shelf.entry(policy, "LabSvc")["drifts"] == 1
