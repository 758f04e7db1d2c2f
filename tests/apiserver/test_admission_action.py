"""Which actions are admitted: what is asked can apply, options fit the action, times are in order."""

from typing import Any

import pytest

from tests.apiserver.conftest import Admission

Spec = dict[str, Any]

ONE = {"ids": ["inv_1"]}
ACTIONS = ("Cancel", "Kill", "Pause", "Resume", "Purge", "PurgeJournal", "RestartAsNew")
STATUSES = ("Pending", "Scheduled", "Ready", "Running", "Suspended", "BackingOff", "Paused", "Completed")
LIVING = set(STATUSES) - {"Completed"}
POSSIBLE = {
    "Cancel": LIVING,
    "Kill": LIVING,
    "Pause": {"Ready", "Running", "Suspended", "BackingOff", "Paused"},
    "Resume": {"Paused", "BackingOff", "Suspended"},
    "Purge": {"Completed"},
    "PurgeJournal": {"Completed"},
    "RestartAsNew": {"Completed"},
}


def cancel(**fields: Any) -> Spec:
    return {"action": "Cancel", "target": ONE, **fields}


def escalated(kill_after: str, verification: str | None = None, timeout: str | None = None) -> Spec:
    spec = cancel(escalation={"killAfter": kill_after})
    if verification is not None:
        spec["verification"] = {"timeout": verification}
    if timeout is not None:
        spec["timeout"] = timeout
    return spec


def resumed(more: Spec | None = None, /, **rollout: Any) -> Spec:
    return {"action": "Resume", "target": ONE, "rollout": rollout, **(more or {})}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("action", ACTIONS)
def test_action_is_admitted_for_the_statuses_it_can_apply_to(admission: Admission, action: str, status: str) -> None:
    for target in (
        ONE | {"statuses": [status]},
        {"anyOf": [{"services": ["a"]}, {"services": ["b"], "statuses": [status]}]},
    ):
        refusal = admission.refusal("InvocationAction", {"action": action, "target": target})
        if status in POSSIBLE[action]:
            assert refusal is None
        else:
            assert refusal is not None
            assert "can only apply to" in refusal


@pytest.mark.parametrize("action", ACTIONS)
def test_action_may_exclude_statuses_that_it_cannot_apply_to(admission: Admission, action: str) -> None:
    target = {"services": ["a"], "not": {"statuses": list(STATUSES)}}
    assert admission.refusal("InvocationAction", {"action": action, "target": target}) is None


@pytest.mark.parametrize(
    "ended", [{"outcomes": ["Failed"]}, {"completedBefore": "2026-01-01T00:00:00Z"}, {"completedFor": "1d"}], ids=str
)
@pytest.mark.parametrize("action", ACTIONS)
def test_action_on_the_living_does_not_filter_by_how_it_ended(
    admission: Admission, action: str, ended: dict[str, Any]
) -> None:
    for target in (ONE | ended, {"services": ["a"], "anyOf": [ended]}):
        refusal = admission.refusal("InvocationAction", {"action": action, "target": target})
        if POSSIBLE[action] == {"Completed"}:
            assert refusal is None
        else:
            assert refusal is not None
            assert "could match nothing" in refusal
    assert admission.refusal("InvocationAction", {"action": action, "target": ONE | {"not": ended}}) is None


HASH = "sha256:" + 48 * "a"
ACCEPTED: list[tuple[str, Spec]] = [
    ("the least", cancel()),
    (
        "the example of the documentation",
        {
            "engineRef": {"name": "production"},
            "action": "Cancel",
            "reason": "INC-1234 payment provider down",
            "target": {
                "services": ["checkout"],
                "statuses": ["Running", "Suspended", "BackingOff"],
                "olderThan": "30m",
            },
            "verification": {"timeout": "10m"},
            "escalation": {"killAfter": "5m"},
        },
    ),
    ("an engine of another namespace", cancel(engineRef={"name": "production.v2", "namespace": "platform"})),
    ("a dry run", cancel(mode="DryRun")),
    ("a report", cancel(report="ConfigMap")),
    ("a plan that waits for its approval", cancel(mode="Approve")),
    ("an approval of all or none", cancel(mode="Approve", approval={"drift": "Exact", "planMaxAge": "PT1M"})),
    ("suspended from the start", cancel(suspend=True)),
    (
        "every limit",
        cancel(
            limits={
                "maxTargets": 1000000,
                "maxPercentOfService": 100,
                "maxFailures": "5%",
                "maxInFlight": 1,
                "operationsPerSecond": 1,
            }
        ),
    ),
    ("failures as a count", cancel(limits={"maxFailures": "10"})),
    ("a cancel that is repeated", cancel(verification={"repeat": "WhenUnchanged", "repeatAfter": "1m"})),
    ("expedite with Cancel", cancel(expedite=True)),
    ("expedite: false with any", {"action": "Kill", "target": ONE, "expedite": False}),
    ("repeat: Never with any", {"action": "Kill", "target": ONE, "verification": {"repeat": "Never"}}),
    (
        "repeatAfter with Pause, which is always asked again",
        {"action": "Pause", "target": ONE, "verification": {"repeatAfter": "5s"}},
    ),
    *[
        (f"resume on {deployment}", {"action": "Resume", "target": ONE, "resume": {"deployment": deployment}})
        for deployment in ("Keep", "Latest", "dp_11xyz")
    ],
    ("resume without options", {"action": "Resume", "target": ONE, "resume": {}}),
    (
        "every option of a restart",
        {
            "action": "RestartAsNew",
            "target": ONE,
            "restart": {"deployment": "Keep", "fromEntry": 3, "allowRepeated": True},
        },
    ),
    *[
        (f"{action} in waves", {"action": action, "target": ONE, "rollout": {"waves": [1, "5%", "100%"]}})
        for action in ("Resume", "RestartAsNew")
    ],
    ("every option of a rollout", resumed(waves=[1], soak="0s", maxUnhealthy="10%")),
    ("as many waves as there may be", resumed(waves=[*range(1, 19), "50%", "100%"], maxUnhealthy=0)),
    ("a soak that ends before the work", resumed({"timeout": "61s"}, waves=[1])),
    ("an end", cancel(notAfter="2030-01-01T00:00:00Z", timeout="1h")),
    ("a short timeout ends a verification of default length", cancel(timeout="1m")),
    ("a token", cancel(runId="2026-11-23 evening", runPolicy="OncePerObject")),
    ("retries of what backs off", {"action": "Resume", "target": ONE | {"minRetries": 5, "statuses": ["BackingOff"]}}),
    ("retries with what Cancel looks at by default", cancel(target=ONE | {"minRetries": 5})),
]

REJECTED: list[tuple[str, Spec, str]] = [
    *[
        (
            f"{action} in waves",
            {"action": action, "target": ONE, "rollout": {"waves": [1]}},
            "rollout is for action: Resume and RestartAsNew",
        )
        for action in ("Cancel", "Kill", "Pause", "Purge", "PurgeJournal")
    ],
    ("a rollout without waves", resumed(soak="1m"), "waves: Required value"),
    ("no waves", resumed(waves=[]), "should have at least 1 items"),
    ("too many waves", resumed(waves=[*range(1, 22)]), "must have at most 20 items"),
    ("a wave of nothing", resumed(waves=[0]), "greater than or equal to 1"),
    ("a wave of nothing as a share", resumed(waves=["0%"]), "waves[0]"),
    ("a wave beyond everything", resumed(waves=["101%"]), "waves[0]"),
    ("a count as text", resumed(waves=["5"]), "waves[0]"),
    ("half an invocation", resumed(waves=[1.5]), "waves[0]"),
    ("a wave that a template left empty", resumed(waves=[1, None]), "waves[1]"),
    ("a soak that a template left empty", resumed(waves=[1], soak=None), "soak is null"),
    ("a limit that a template left empty", resumed(waves=[1], maxUnhealthy=None), "maxUnhealthy is null"),
    ("a rollout that a template left empty", {"action": "Resume", "target": ONE, "rollout": None}, "rollout is null"),
    ("fewer than none", resumed(waves=[1], maxUnhealthy=-1), "greater than or equal to 0"),
    ("a share of nothing known", resumed(waves=[1], maxUnhealthy="many"), "maxUnhealthy"),
    ("a soak that is none", resumed(waves=[1], soak="soon"), "not a duration"),
    ("a soak beyond the work", resumed({"timeout": "5m"}, waves=[1], soak="300s"), "soak (default 1m) must be shorter"),
    ("a default soak beyond the work", resumed({"timeout": "1m"}, waves=[1]), "soak (default 1m) must be shorter"),
    ("no action", {"target": ONE}, "spec.action: Required value"),
    ("no target", {"action": "Cancel"}, "spec.target: Required value"),
    ("a target that is null", {"action": "Cancel", "target": None}, "spec.target"),
    ("an unknown action", {"action": "Delete", "target": ONE}, 'supported values: "Cancel"'),
    ("an action in another case", {"action": "cancel", "target": ONE}, "supported values"),
    ("a mode of a later version", cancel(mode="Vote"), 'supported values: "Execute", "DryRun", "Approve"'),
    (
        "an approval of a plan that nobody has seen",
        cancel(mode="Approve", approvedPlan=HASH),
        "not accepted at creation",
    ),
    ("the same in another mode", cancel(approvedPlan=HASH), "not accepted at creation"),
    ("a plan that is old before it is read", cancel(mode="Approve", approval={"planMaxAge": "59s"}), "1m or more"),
    ("an unknown drift", cancel(mode="Approve", approval={"drift": "Any"}), 'supported values: "Subset", "Exact"'),
    ("a report elsewhere", cancel(report="Bucket"), 'supported values: "ConfigMap"'),
    ("a report that a template left empty", cancel(report=None), "spec.report: Unsupported value"),
    ("an age that a template left empty", cancel(mode="Approve", approval={"planMaxAge": None}), "planMaxAge is null"),
    ("a mode that a template left empty would execute", cancel(mode=None), "spec.mode: Unsupported value"),
    ("a time limit that a template left empty", cancel(notAfter=None), "notAfter is null"),
    ("limits that a template left empty", cancel(limits=None), "limits is null"),
    ("one limit that a template left empty", cancel(limits={"maxTargets": None}), "maxTargets is null"),
    ("a null below verification", cancel(verification={"timeout": None}), "timeout is null"),
    (
        "a null below restart",
        {"action": "RestartAsNew", "target": ONE, "restart": {"fromEntry": None}},
        "fromEntry is null",
    ),
    ("a null below resume", {"action": "Resume", "target": ONE, "resume": {"deployment": None}}, "deployment is null"),
    ("a null below engineRef", cancel(engineRef={"name": "a", "namespace": None}), "namespace is null"),
    ("an engine without a name", cancel(engineRef={"namespace": "a"}), "spec.engineRef.name: Required"),
    ("an engine's name that no object can have", cancel(engineRef={"name": "Production"}), "spec.engineRef.name"),
    ("no targets allowed", cancel(limits={"maxTargets": 0}), "greater than or equal to 1"),
    ("more than a million targets", cancel(limits={"maxTargets": 1000001}), "less than or equal to 1000000"),
    ("a TTL of the past", cancel(ttlSecondsAfterFinished=-1), "greater than or equal to 0"),
    ("a TTL as a duration", cancel(ttlSecondsAfterFailed="1d"), "must be of type integer"),
    ("nothing of a service", cancel(limits={"maxPercentOfService": 0}), "greater than or equal to 1"),
    ("more than all of a service", cancel(limits={"maxPercentOfService": 101}), "less than or equal to 100"),
    ("a share as text", cancel(limits={"maxPercentOfService": "5%"}), "must be of type integer"),
    ("more than all may fail", cancel(limits={"maxFailures": "101%"}), "maxFailures"),
    ("failures as a number", cancel(limits={"maxFailures": 5}), "must be of type string"),
    ("an empty token", cancel(runId=""), "at least 1 chars"),
    ("a reason like a novel", cancel(reason="x" * 513), "may not be more than 512"),
    (
        "escalation without Cancel",
        {"action": "Kill", "target": ONE, "escalation": {"killAfter": "1m"}},
        "escalation is for action: Cancel",
    ),
    ("expedite without Cancel", {"action": "Pause", "target": ONE, "expedite": True}, "expedite is for action: Cancel"),
    (
        "repeat without Cancel",
        {"action": "Kill", "target": ONE, "verification": {"repeat": "WhenUnchanged"}},
        "WhenUnchanged is for action: Cancel",
    ),
    ("options of Resume without it", cancel(resume={"deployment": "Latest"}), "options of action: Resume"),
    ("options of RestartAsNew without it", cancel(restart={}), "options of action: RestartAsNew"),
    ("options of the other one", {"action": "Resume", "target": ONE, "restart": {}}, "options of action: RestartAsNew"),
    (
        "a deployment that is none",
        {"action": "Resume", "target": ONE, "resume": {"deployment": "newest"}},
        "deployment",
    ),
    ("an entry below the first", {"action": "RestartAsNew", "target": ONE, "restart": {"fromEntry": -1}}, "fromEntry"),
    (
        "retries of what Resume looks at by default",
        {"action": "Resume", "target": ONE | {"minRetries": 5}},
        "minRetries needs statuses",
    ),
    (
        "the same in a branch",
        {"action": "Resume", "target": ONE | {"anyOf": [{"minRetries": 5}]}},
        "minRetries needs statuses",
    ),
]


@pytest.mark.parametrize(("reason", "spec"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_action_that_makes_sense_is_admitted(admission: Admission, reason: str, spec: Spec) -> None:
    assert admission.refusal("InvocationAction", spec) is None, reason


@pytest.mark.parametrize(("reason", "spec", "message"), REJECTED, ids=[row[0] for row in REJECTED])
def test_action_that_makes_none_is_refused(admission: Admission, reason: str, spec: Spec, message: str) -> None:
    refusal = admission.refusal("InvocationAction", spec)
    assert refusal is not None, reason
    assert message in refusal


DURATIONS = (
    "0", "0s", "30s", "15m", "1d12h", "250ms", "1500us", "1500µs", "2w", "1.5h", "1,5h", "1h 30m", "1 hour 30 minutes",
    "1h, 30m", "2 days", "24:00:00", "1d 02:00:00.5", "PT15M", "pt15m", "P1D", "P1W", "P1DT2H", "PT1.5S",
    "PT1H30M10,25S",
)  # fmt: skip
NOT_DURATIONS = (
    "-5m", "+5m", "5m ago", "5", "m", "5 fortnights", "1y", "1mo", "P1M", "P1Y", "PT", "P", "1h1h", "30m1h", "1.5d",
    "1.5h30m",     "five minutes", " 5m", "5m,", "1:30", "infinite", "*",
)  # fmt: skip


@pytest.mark.parametrize("duration", DURATIONS)
def test_action_duration_in_any_spelling_is_admitted(admission: Admission, duration: str) -> None:
    assert admission.refusal("InvocationAction", cancel(target=ONE | {"olderThan": duration})) is None


@pytest.mark.parametrize("duration", NOT_DURATIONS)
def test_action_duration_that_is_none_is_refused_with_an_example(admission: Admission, duration: str) -> None:
    for spec in (cancel(target=ONE | {"anyOf": [{"unmodifiedFor": duration}]}), cancel(timeout=duration)):
        refusal = admission.refusal("InvocationAction", spec)
        assert refusal is not None
        assert "not a duration: write 30s, 15m, 1d12h or PT15M" in refusal


IN_ORDER = [
    ("4m59s", None, None, "the default of verification.timeout is 5m"),
    ("299999ms", None, None, "in milliseconds"),
    ("5m", "10m", None, "as documented"),
    ("PT5M", "10m", "PT10M", "in different spellings, the end together with the verification"),
    ("90s", "2 minutes", "1h", "in words"),
    ("1h", "1d", "1w", "days and weeks"),
    ("23h59m", "1d", "24:00:00", "as a clock"),
    ("00:01:00", "90s", "1.5m", "as a clock, and fractions"),
    ("1 hour, 29 minutes", "1,5h", "90m", "with commas"),
    ("65.9m", "1.1h", "66m", "what doubles cannot say exactly is still equal"),
    ("999us", "1ms", "1ms", "microseconds are not minutes"),
    ("999 micros", "1 milli", "1000µs", "in words, and minutes are not meant"),
    ("P1DT1H", "P1DT1H1S", "P1W", "days in ISO 8601"),
    ("0", "1s", "1s", "at once"),
    ("1000w", "7304484d", "7304484d", "as long as the engine knows"),
]
OUT_OF_ORDER = [
    ("5m", None, None, "killAfter must be shorter than verification.timeout", "equal to the default"),
    ("6m", None, None, "killAfter must be shorter than verification.timeout", "above the default"),
    ("300s", "5m", None, "killAfter must be shorter than verification.timeout", "equal in another spelling"),
    ("P1D", "24h", None, "killAfter must be shorter than verification.timeout", "equal in ISO 8601"),
    ("1:00:00", "1h", None, "killAfter must be shorter than verification.timeout", "equal as a clock"),
    ("1h", "59m 59s 999ms", None, "killAfter must be shorter than verification.timeout", "by a millisecond"),
    ("1m", None, "30s", "killAfter must be shorter than timeout", "the end comes first"),
    ("1m", "11m", "10m", "verification.timeout must not be longer than timeout", "verification after the end"),
    ("1s", "1d", "23:59:59", "verification.timeout must not be longer than timeout", "as a clock"),
]


@pytest.mark.parametrize(("kill", "verification", "timeout", "reason"), IN_ORDER, ids=[row[3] for row in IN_ORDER])
def test_action_times_in_order_are_admitted(
    admission: Admission, kill: str, verification: str | None, timeout: str | None, reason: str
) -> None:
    assert admission.refusal("InvocationAction", escalated(kill, verification, timeout)) is None, reason


@pytest.mark.parametrize(
    ("kill", "verification", "timeout", "message", "reason"), OUT_OF_ORDER, ids=[row[4] for row in OUT_OF_ORDER]
)
def test_action_times_out_of_order_are_refused(
    admission: Admission, kill: str, verification: str | None, timeout: str | None, message: str, reason: str
) -> None:
    refusal = admission.refusal("InvocationAction", escalated(kill, verification, timeout))
    assert refusal is not None, reason
    assert message in refusal


@pytest.mark.parametrize(
    "place",
    [(), ("limits",), ("verification",), ("escalation",), ("engineRef",)],
    ids=lambda place: ".".join(("spec", *place)),
)
def test_action_unknown_field_survives_for_the_operator_to_refuse(admission: Admission, place: tuple[str, ...]) -> None:
    spec = cancel(limits={"maxTargets": 5}, verification={"timeout": "5m"}, escalation={"killAfter": "1m"}) | {
        "engineRef": {"name": "a"}
    }
    inner = spec
    for step in place:
        inner = inner[step]
    inner["maxTarget"] = 5
    kept = admission.ask("InvocationAction", spec).expect(201).json()["spec"]
    for step in place:
        kept = kept[step]
    assert kept["maxTarget"] == 5


def test_action_defaults_are_few_and_those_of_the_operator_are_not_written(admission: Admission) -> None:
    created = admission.ask("InvocationAction", cancel(limits={"maxInFlight": 5})).expect(201).json()
    plain = {"mode": "Execute", "suspend": False, "expedite": False, "runPolicy": "OncePerSpec"}
    assert created["spec"] == cancel(limits={"maxInFlight": 5}) | plain
    assert created["status"] == {"observedGeneration": -1}
