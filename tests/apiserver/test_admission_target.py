"""Which targets are admitted: they narrow or say `all: true`, and hold nothing empty, null or impossible."""

from typing import Any

import pytest

from tests.apiserver.conftest import Admission

Target = dict[str, Any]

WIDE = "must narrow by"
CONTRADICTS = "all: true stands alone"

ACCEPTED: list[tuple[str, Target]] = [
    ("an id", {"ids": ["inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz"]}),
    ("a malformed id fails alone, later", {"ids": ["nonsense"]}),
    ("a service", {"services": ["checkout"]}),
    ("a prefix of services", {"services": ["report-*"]}),
    ("a key", {"keys": ["42"]}),
    ("keys are literal, a star included", {"keys": ["*"]}),
    ("a prefix of keys", {"keyPrefixes": ["tenant-1/"]}),
    ("a deployment", {"deployments": ["dp_11xyz"]}),
    ("a caller", {"invokedBy": ["gateway"]}),
    ("an idempotency key", {"idempotencyKeys": ["order-1"]}),
    ("a scope", {"scopes": ["tenant"]}),
    ("what it was restarted from", {"restartedFrom": ["inv_1"]}),
    ("each alternative narrows", {"anyOf": [{"services": ["a"]}, {"keys": ["1"], "olderThan": "1h"}]}),
    (
        "narrowing beside alternatives that do not",
        {"services": ["a"], "anyOf": [{"olderThan": "1h"}, {"rootsOnly": True}]},
    ),
    ("everything, said aloud", {"all": True}),
    ("everything but", {"all": True, "not": {"services": ["payments"]}}),
    (
        "all with filters that do not narrow",
        {"all": True, "olderThan": "30d", "rootsOnly": True, "failureCodes": [503]},
    ),
    (
        "all with alternatives of which one does not narrow",
        {"all": True, "anyOf": [{"services": ["a"]}, {"olderThan": "1h"}]},
    ),
    ("all: false says nothing", {"all": False, "services": ["a"]}),
    ("an exclusion with alternatives", {"services": ["a"], "not": {"handlers": ["b"], "anyOf": [{"keys": ["1"]}]}}),
    ("the oldest few", {"services": ["a"], "oldestFirst": True, "limit": 10}),
    (
        "a span of time",
        {"services": ["a"], "createdAfter": "2026-01-01T00:00:00Z", "createdBefore": "2026-02-01T00:00:00+01:00"},
    ),
    ("retries while backing off", {"services": ["a"], "statuses": ["BackingOff"], "minRetries": 10}),
    (
        "retries in a branch of its own",
        {"services": ["a"], "anyOf": [{"statuses": ["Paused"]}, {"statuses": ["BackingOff"], "minRetries": 5}]},
    ),
    ("any character in keys", {"keys": ["a'b\"c%_\n\u00fc\U0001f680 "]}),
    ("64 services of the greatest length", {"services": [f"{i:03}" + "x" * 252 + "*" for i in range(64)]}),
    ("1000 ids", {"ids": [f"inv_{i}" for i in range(1000)]}),
    ("8 alternatives", {"anyOf": [{"services": [f"s{i}"]} for i in range(8)]}),
]

REJECTED: list[tuple[str, Target, str]] = [
    ("nothing at all", {}, WIDE),
    ("age alone", {"olderThan": "1h"}, WIDE),
    ("statuses alone", {"statuses": ["Running"]}, WIDE),
    ("handlers alone: every service may have one of that name", {"handlers": ["run"]}, WIDE),
    ("roots alone", {"rootsOnly": True}, WIDE),
    ("failures alone", {"failureCodes": [503], "failureMessage": "x"}, WIDE),
    ("a limit does not narrow", {"limit": 5, "oldestFirst": True}, WIDE),
    ("an exclusion does not narrow", {"not": {"services": ["a"]}}, WIDE),
    ("one alternative does not narrow", {"anyOf": [{"services": ["a"]}, {"olderThan": "1h"}]}, WIDE),
    ("all: false alone", {"all": False}, WIDE),
    ("all: false with what does not narrow", {"all": False, "olderThan": "1h"}, WIDE),
    ("all beside a service", {"all": True, "services": ["a"]}, CONTRADICTS),
    ("all beside ids", {"all": True, "ids": ["inv_1"]}, CONTRADICTS),
    (
        "all beside alternatives that narrow",
        {"all": True, "anyOf": [{"services": ["a"]}, {"keys": ["1"]}]},
        CONTRADICTS,
    ),
    *[
        (f"all beside {field}", {"all": True, field: ["dp_1"]}, CONTRADICTS)
        for field in ("keys", "keyPrefixes", "deployments", "invokedBy", "idempotencyKeys", "scopes", "restartedFrom")
    ],
    *[
        (f"a bare star in {field}", {"keys": ["1"], field: ["*"]}, field)
        for field in ("services", "handlers", "invokedBy")
    ],
    ("two stars", {"services": ["a**"]}, "services"),
    ("a star in the middle", {"services": ["a*b"]}, "services"),
    *[
        (f"an empty string in {field}", {field: [""]}, "should be at least 1 chars long")
        for field in (
            "ids",
            "services",
            "handlers",
            "keys",
            "keyPrefixes",
            "deployments",
            "invokedBy",
            "idempotencyKeys",
            "scopes",
            "restartedFrom",
        )
    ],
    *[
        (f"an empty list of {field}", {"ids": ["inv_1"], "keys": ["1"], field: []}, "should have at least 1 items")
        for field in (
            "ids",
            "services",
            "handlers",
            "keys",
            "keyPrefixes",
            "statuses",
            "outcomes",
            "deployments",
            "failureCodes",
            "invokedBy",
            "idempotencyKeys",
            "scopes",
            "restartedFrom",
            "anyOf",
        )
    ],
    ("an empty alternative matches everything", {"services": ["a"], "anyOf": [{}]}, "at least 1 properties"),
    ("an empty exclusion leaves nothing", {"services": ["a"], "not": {}}, "at least 1 properties"),
    ("an empty failure message", {"services": ["a"], "failureMessage": ""}, "at least 1 chars"),
    ("a path for a handler", {"services": ["a"], "handlers": ["checkout/pay"]}, "a path is no name"),
    (
        "a path for a service, where it would leave nothing out",
        {"services": ["a"], "not": {"services": ["a/b"]}},
        "a path is no name",
    ),
    ("an unknown status", {"services": ["a"], "statuses": ["Stuck"]}, 'supported values: "Pending"'),
    ("an unknown outcome", {"services": ["a"], "outcomes": ["Lost"]}, 'supported values: "Succeeded"'),
    ("statuses are CamelCase", {"services": ["a"], "statuses": ["backing-off"]}, "supported values"),
    ("not a deployment id", {"deployments": ["latest"]}, "deployments"),
    ("the same value twice", {"services": ["a", "a"]}, "Duplicate value"),
    ("a time that is none", {"services": ["a"], "createdBefore": "yesterday"}, "createdBefore"),
    ("a time without a zone", {"services": ["a"], "createdBefore": "2026-01-01T00:00:00"}, "createdBefore"),
    (
        "an impossible span",
        {"services": ["a"], "createdAfter": "2026-02-01T00:00:00Z", "createdBefore": "2026-01-01T00:00:00Z"},
        "nothing was created",
    ),
    ("a number for a string", {"services": [1]}, "must be of type string"),
    ("a string for a list", {"services": "checkout"}, "must be of type array"),
    ("a template that was not filled in, as null among values", {"services": [None]}, "must be of type string"),
    ("no more than 8 alternatives", {"anyOf": [{"services": [f"s{i}"]} for i in range(9)]}, "at most 8 items"),
    ("no more than 1000 ids", {"ids": [f"inv_{i}" for i in range(1001)]}, "at most 1000 items"),
    ("limit 0", {"services": ["a"], "limit": 0}, "greater than or equal to 1"),
    (
        "retries of paused ones",
        {"services": ["a"], "statuses": ["Paused", "BackingOff"], "minRetries": 3},
        "minRetries cannot",
    ),
    (
        "retries here, paused in a branch",
        {"services": ["a"], "minRetries": 3, "anyOf": [{"statuses": ["Paused"]}]},
        "minRetries cannot",
    ),
    (
        "paused here, retries in a branch",
        {"services": ["a"], "statuses": ["Paused"], "anyOf": [{"minRetries": 3}]},
        "minRetries in anyOf cannot",
    ),
    (
        "both in a branch",
        {"services": ["a"], "anyOf": [{"minRetries": 3, "statuses": ["Paused"]}]},
        "minRetries cannot",
    ),
    (
        "both in an exclusion",
        {"services": ["a"], "not": {"minRetries": 3, "statuses": ["Paused"]}},
        "minRetries cannot",
    ),
    (
        "both in an exclusion's branch",
        {"services": ["a"], "not": {"anyOf": [{"minRetries": 3, "statuses": ["Paused"]}]}},
        "minRetries cannot",
    ),
]

NULLABLE = (
    "ids", "services", "handlers", "keys", "keyPrefixes", "statuses", "outcomes", "createdBefore", "createdAfter",
    "olderThan", "unmodifiedFor", "completedBefore", "completedFor", "deployments", "failureCodes", "failureMessage",
    "minRetries", "invokedBy", "rootsOnly", "idempotencyKeys", "scopes", "restartedFrom",
)  # fmt: skip


@pytest.mark.parametrize(("reason", "target"), ACCEPTED, ids=[row[0] for row in ACCEPTED])
def test_target_that_says_what_it_means_is_admitted(admission: Admission, reason: str, target: Target) -> None:
    assert admission.refusal("InvocationAction", {"action": "Cancel", "target": target}) is None, reason


@pytest.mark.parametrize(("reason", "target", "message"), REJECTED, ids=[row[0] for row in REJECTED])
def test_target_that_could_mean_more_is_refused(
    admission: Admission, reason: str, target: Target, message: str
) -> None:
    refusal = admission.refusal("InvocationAction", {"action": "Cancel", "target": target})
    assert refusal is not None, reason
    assert message in refusal


@pytest.mark.parametrize("field", [*NULLABLE, "all", "oldestFirst", "limit", "anyOf", "not"])
def test_target_null_is_refused_and_named(admission: Admission, field: str) -> None:
    beside = {"keys": ["1"]} if field == "ids" else {"ids": ["inv_1"]}
    refusal = admission.refusal("InvocationAction", {"action": "Cancel", "target": beside | {field: None}})
    assert refusal is not None
    assert f"{field} is null: give it a value or leave it out" in refusal


@pytest.mark.parametrize("field", NULLABLE[1:])
def test_target_null_below_is_refused_and_named(admission: Admission, field: str) -> None:
    inner = {"ids": ["inv_1"], "handlers": ["h"]}
    leaf = {"rootsOnly" if field == "handlers" else "handlers": True if field == "handlers" else ["h"], field: None}
    for target in (
        inner | {"anyOf": [leaf]},
        inner | {"not": leaf},
        inner | {"not": {"services": ["a"], "anyOf": [leaf]}},
    ):
        refusal = admission.refusal("InvocationAction", {"action": "Cancel", "target": target})
        assert refusal is not None
        assert f"{field} is null" in refusal


def test_target_nulls_are_all_named(admission: Admission) -> None:
    refusal = admission.refusal(
        "InvocationAction", {"action": "Cancel", "target": {"ids": ["inv_1"], "keys": None, "services": None}}
    )
    assert refusal is not None
    assert "keys, services is null" in refusal or "services, keys is null" in refusal


@pytest.mark.parametrize(
    "path",
    [(), ("not",), ("anyOf", 0), ("not", "anyOf", 0)],
    ids=["target", "not", "anyOf", "not.anyOf"],
)
def test_target_unknown_field_survives_for_the_operator_to_refuse(
    admission: Admission, path: tuple[str | int, ...]
) -> None:
    target: Target = {
        "services": ["a"],
        "anyOf": [{"handlers": ["h"]}],
        "not": {"handlers": ["n"], "anyOf": [{"keys": ["1"]}]},
    }
    place: Any = target
    for step in path:
        place = place[step]
    place["olderthan"] = {"anything": [1, None]}
    created = admission.ask("InvocationAction", {"action": "Cancel", "target": target}).expect(201).json()
    assert created["spec"]["target"] == target
