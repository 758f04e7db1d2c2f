"""What may change of an action after its creation: little, or everything together with a new `runId`.

Each test has an object of its own, because a status decides too.
"""

from typing import Any

import pytest

from tests.apiserver.conftest import Admission

Spec = dict[str, Any]
KIND = "InvocationAction"

FULL: Spec = {
    "engineRef": {"name": "production"},
    "action": "Cancel",
    "reason": "INC-1234",
    "target": {"services": ["checkout"], "olderThan": "30m", "not": {"keys": ["1"]}, "anyOf": [{"handlers": ["pay"]}]},
    "mode": "DryRun",
    "limits": {"maxTargets": 10, "maxFailures": "5%", "maxInFlight": 5, "operationsPerSecond": 5},
    "verification": {"timeout": "10m", "repeat": "WhenUnchanged", "repeatAfter": "1m"},
    "expedite": True,
    "escalation": {"killAfter": "4m"},
    "suspend": False,
    "timeout": "1h",
    "notAfter": "2030-01-01T00:00:00Z",
    "runId": "1",
    "runPolicy": "OncePerSpec",
}
RESUME: Spec = {
    "action": "Resume",
    "target": {"ids": ["inv_1"]},
    "resume": {"deployment": "Keep"},
    "rollout": {"waves": [1, "5%"], "soak": "2m", "maxUnhealthy": "5%"},
    "runId": "1",
}
RESTART: Spec = {"action": "RestartAsNew", "target": {"ids": ["inv_1"]}, "restart": {"fromEntry": 0}, "runId": "1"}
WAITING: Spec = {
    "action": "Kill",
    "target": {"ids": ["inv_1"]},
    "mode": "Approve",
    "approval": {"drift": "Exact", "planMaxAge": "2h"},
    "runId": "1",
}
LEAST: Spec = {"action": "Cancel", "target": {"ids": ["inv_1"]}}
ADVICE = "immutable after creation: to run this action again or to run something else, set a new spec.runId"


def changed(spec: Spec, field: str, value: Any) -> Spec:
    """`field` set to `value` (None: removed)."""
    first, _, second = field.partition(".")
    outer = dict(spec)
    if second:
        outer[first] = changed(outer.get(first, {}), second, value)
    elif value is None:
        outer.pop(first)
    else:
        outer[first] = value
    return outer


MUTABLE: list[tuple[str, Spec, str, Any]] = [
    ("to stop it", FULL, "suspend", True),
    ("what is off by default", FULL, "suspend", None),
    ("to carry out the plan", FULL, "mode", "Execute"),
    ("to carry out the plan by default", FULL, "mode", None),
    ("a Git revert", LEAST, "mode", "DryRun"),
    ("to wait for an approval", FULL, "mode", "Approve"),
    ("to approve the plan", LEAST, "approvedPlan", "sha256:" + 48 * "a"),
    ("faster", FULL, "limits.maxInFlight", 500),
    ("as fast as the engine allows", FULL, "limits.maxInFlight", None),
    ("slower", FULL, "limits.operationsPerSecond", 1),
    ("a TTL where there was none", LEAST, "ttlSecondsAfterFinished", 60),
    ("a TTL for failures", FULL, "ttlSecondsAfterFailed", 3600),
    ("a limit where there was none", LEAST, "limits", {"maxInFlight": 1, "operationsPerSecond": 1}),
    ("the default said aloud", LEAST, "runPolicy", "OncePerSpec"),
    ("the default said aloud: expedite", LEAST, "expedite", False),
    (
        "lists that are sets in another order",
        changed(LEAST, "target.ids", ["inv_1", "inv_2"]),
        "target.ids",
        ["inv_2", "inv_1"],
    ),
]

FROZEN: list[tuple[str, Spec, str, Any]] = [
    ("another engine", FULL, "engineRef.name", "staging"),
    ("another namespace's engine", FULL, "engineRef.namespace", "other"),
    ("the default engine", FULL, "engineRef", None),
    ("an engine where there was none", LEAST, "engineRef", {"name": "staging"}),
    ("another action", LEAST, "action", "Kill"),
    ("another reason", FULL, "reason", "INC-9999"),
    ("no reason", FULL, "reason", None),
    ("a reason afterwards", LEAST, "reason", "because"),
    ("another target", FULL, "target.services", ["payments"]),
    ("a filter less", FULL, "target.olderThan", None),
    ("a filter more", FULL, "target.rootsOnly", True),
    ("another exclusion", FULL, "target.not", {"keys": ["2"]}),
    ("no exclusion", FULL, "target.not", None),
    ("another alternative", FULL, "target.anyOf", [{"handlers": ["pay"]}, {"handlers": ["refund"]}]),
    ("a filter that nobody knows", FULL, "target.typo", 1),
    ("another ceiling", FULL, "limits.maxTargets", 100000),
    ("no ceiling", FULL, "limits.maxTargets", None),
    ("no limits at all", FULL, "limits", None),
    ("a ceiling where there was none", LEAST, "limits", {"maxTargets": 5}),
    ("a share where there was none", FULL, "limits.maxPercentOfService", 100),
    ("more failures", FULL, "limits.maxFailures", "50%"),
    ("any number of failures", FULL, "limits.maxFailures", None),
    ("another verification", FULL, "verification.timeout", "20m"),
    ("another repetition", FULL, "verification.repeat", "Never"),
    ("no verification", FULL, "verification", None),
    ("verification where there was none", LEAST, "verification", {"repeat": "WhenUnchanged"}),
    ("not expedited", FULL, "expedite", False),
    ("not expedited by default", FULL, "expedite", None),
    ("expedited afterwards", LEAST, "expedite", True),
    ("a kill that comes sooner", FULL, "escalation.killAfter", "1s"),
    ("no kill", FULL, "escalation", None),
    ("a kill where there was none", LEAST, "escalation", {"killAfter": "1s"}),
    ("another deployment to resume on", RESUME, "resume.deployment", "Latest"),
    ("no options of Resume", RESUME, "resume", None),
    ("other waves", RESUME, "rollout.waves", [1, "50%"]),
    ("a number for a share", RESUME, "rollout.waves", [1, 5]),
    ("a shorter soak", RESUME, "rollout.soak", "1s"),
    ("more that may be unhealthy", RESUME, "rollout.maxUnhealthy", 5),
    ("all at once", RESUME, "rollout", None),
    ("waves where there were none", RESTART, "rollout", {"waves": [1]}),
    ("another entry", RESTART, "restart.fromEntry", 5),
    ("repeated restarts", RESTART, "restart.allowRepeated", True),
    ("no options of RestartAsNew", RESTART, "restart", None),
    ("a later end of the work", FULL, "timeout", "2h"),
    ("no end of the work", FULL, "timeout", None),
    ("an end where there was none", LEAST, "timeout", "2h"),
    ("a later start", FULL, "notAfter", "2031-01-01T00:00:00Z"),
    ("a start at any time", FULL, "notAfter", None),
    ("a last start where there was none", LEAST, "notAfter", "2031-01-01T00:00:00Z"),
    ("a laxer approval", WAITING, "approval.drift", "Subset"),
    ("no approval block", WAITING, "approval", None),
    ("an approval block where there was none", LEAST, "approval", {"drift": "Exact"}),
    ("a report afterwards", LEAST, "report", "ConfigMap"),
    ("another meaning of once", FULL, "runPolicy", "OncePerObject"),
]


def prepare(admission: Admission, spec: Spec, request: pytest.FixtureRequest, phase: str | None = None) -> str:
    name = f"i{abs(hash(request.node.nodeid))}"
    admission.create(KIND, spec, name)
    if phase:
        admission.set_status(KIND, {"observedGeneration": 1, "phase": phase}, name).expect(200)
    return name


@pytest.mark.parametrize(("reason", "spec", "field", "value"), MUTABLE, ids=[row[0] for row in MUTABLE])
def test_action_mutable_field_may_change_at_any_time(
    admission: Admission, request: pytest.FixtureRequest, reason: str, spec: Spec, field: str, value: Any
) -> None:
    name = prepare(admission, spec, request, "Running")
    assert admission.change(KIND, changed(spec, field, value), name).status == 200, reason


@pytest.mark.parametrize(("reason", "spec", "field", "value"), FROZEN, ids=[row[0] for row in FROZEN])
def test_action_immutable_field_changes_only_with_a_new_run(
    admission: Admission, request: pytest.FixtureRequest, reason: str, spec: Spec, field: str, value: Any
) -> None:
    name = prepare(admission, spec, request, "Succeeded")
    new = changed(spec, field, value)
    refusal = admission.change(KIND, new, name).expect(422).json()["message"]
    assert ADVICE in refusal, reason
    assert f"spec.{field.partition('.')[0]}" in refusal
    assert admission.change(KIND, new | {"runId": "2"}, name).status == 200, reason


@pytest.mark.parametrize(
    ("reason", "hash_"), [("a word", "yes"), ("no hash", "sha256:"), ("too long", "sha256:" + 49 * "a")]
)
def test_action_approves_by_a_hash_and_nothing_else(
    admission: Admission, request: pytest.FixtureRequest, reason: str, hash_: str
) -> None:
    name = prepare(admission, WAITING, request, "AwaitingApproval")
    refusal = admission.change(KIND, WAITING | {"approvedPlan": hash_}, name).expect(422).json()["message"]
    assert "spec.approvedPlan" in refusal, reason


def test_action_approval_may_be_changed_and_taken_back(admission: Admission, request: pytest.FixtureRequest) -> None:
    name = prepare(admission, WAITING, request, "AwaitingApproval")
    for given in ({"approvedPlan": "sha256:" + 48 * "a"}, {"approvedPlan": "sha256:" + 48 * "b"}, {}):
        admission.change(KIND, WAITING | given, name, dry_run=False).expect(200)


TERMINAL = ("Planned", "Succeeded", "PartiallyFailed", "Failed", "Refused", "Stopped", "Expired", "AlreadyExecuted")
ALIVE = (None, "Pending", "Planning", "AwaitingApproval", "Running", "Verifying", "Suspended")


@pytest.mark.parametrize("phase", [*TERMINAL, *ALIVE])
@pytest.mark.parametrize("spec", [FULL, LEAST], ids=["another token", "a first token"])
def test_action_new_run_is_accepted_only_when_the_last_one_has_ended(
    admission: Admission, request: pytest.FixtureRequest, spec: Spec, phase: str | None
) -> None:
    name = prepare(admission, spec, request, phase)
    reply = admission.change(KIND, spec | {"runId": "again", "target": {"ids": ["inv_2"]}}, name)
    if phase in TERMINAL:
        assert reply.status == 200
    else:
        message = reply.expect(422).json()["message"]
        assert "a new spec.runId is accepted only when the run has ended" in message
        assert f"its phase is {phase or 'Pending'}" in message


@pytest.mark.parametrize("phase", ["Succeeded", "Running"])
def test_action_token_may_not_be_removed(admission: Admission, request: pytest.FixtureRequest, phase: str) -> None:
    name = prepare(admission, FULL, request, phase)
    refusal = admission.change(KIND, changed(FULL, "runId", None), name).expect(422).json()["message"]
    assert "runId may not be removed" in refusal


def test_action_old_token_is_admitted_again_and_left_to_the_lock(
    admission: Admission, request: pytest.FixtureRequest
) -> None:
    name = prepare(admission, FULL, request, "Succeeded")
    admission.change(KIND, FULL | {"runId": "2"}, name, dry_run=False).expect(200)
    assert admission.change(KIND, FULL, name).status == 200


def test_action_status_may_be_written_in_any_phase(admission: Admission, request: pytest.FixtureRequest) -> None:
    name = prepare(admission, FULL, request)
    for phase in (*ALIVE[1:], *TERMINAL):
        admission.set_status(KIND, {"observedGeneration": 1, "phase": phase}, name).expect(200)


def test_action_metadata_may_change_in_any_phase(admission: Admission, request: pytest.FixtureRequest) -> None:
    name = prepare(admission, FULL, request, "Running")
    found = admission.get(KIND, name)
    found["metadata"]["labels"] = {"a": "b"}
    admission.control_plane.request("PUT", admission.path(KIND, name), found).expect(200)


def test_action_of_the_greatest_size_stays_within_the_budget_of_the_rules(
    admission: Admission, request: pytest.FixtureRequest
) -> None:
    """A megabyte of filters: the budget at run time is another one than that of the estimate."""

    def leaf(n: int) -> dict[str, Any]:
        return {
            "services": [f"{n}-{i:03}" + "s" * 240 + "*" for i in range(64)],
            "keys": [f"{n}-{i:03}" + "k" * 220 for i in range(256)],
            "olderThan": "7 weeks, 6 days, 23 hours, 59 minutes, 59 seconds",
        }

    target = {
        "ids": [f"inv_{i:04}" + "x" * 120 for i in range(1000)],
        "anyOf": [leaf(n) for n in range(5)],
        "not": leaf(6) | {"anyOf": [leaf(n) for n in range(7, 9)]},
    }
    spec = {"action": "Cancel", "target": target}
    name = prepare(admission, spec, request, "Running")
    admission.change(KIND, spec | {"suspend": True}, name, dry_run=False).expect(200)
    less = spec | {"target": target | {"ids": target["ids"][:-1]}}
    assert ADVICE in admission.change(KIND, less, name).expect(422).json()["message"]
