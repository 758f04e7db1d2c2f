"""What is refused, and what the refusal tells to write instead."""

from typing import Any

import pytest

from invocation_operator.api.v1alpha1.target import Exclusion, InvocationStatus, Leaf, Target
from invocation_operator.target.narrow import named_statuses, narrows, problems

FINE = [
    ({"services": ["a"]}, "a service narrows"),
    ({"ids": ["inv_bogus"]}, "malformed ids fail one by one, later"),
    ({"keys": ["*"]}, "a key may be an asterisk"),
    ({"keys": ["a/b"]}, "and hold a slash"),
    ({"keyPrefixes": ["x"]}, "prefixes of keys narrow"),
    ({"deployments": ["dp_1"]}, "a deployment narrows"),
    ({"invokedBy": ["a*"]}, "a caller narrows"),
    ({"idempotencyKeys": ["k"]}, "an idempotency key narrows"),
    ({"scopes": ["s"]}, "a scope narrows"),
    ({"restartedFrom": ["inv_x"]}, "what was restarted narrows"),
    ({"services": ["a*"]}, "a prefix narrows"),
    ({"all": True}, "everything, said so"),
    ({"all": True, "statuses": ["Paused"], "olderThan": "1h", "not": {"services": ["b"]}}, "all, but described"),
    (
        {"all": True, "anyOf": [{"services": ["a"]}, {"statuses": ["Paused"]}]},
        "not every branch narrows, so all is due",
    ),
    ({"anyOf": [{"services": ["a"]}, {"keys": ["k"]}]}, "each branch narrows"),
    ({"services": ["a"], "anyOf": [{"statuses": ["Paused"]}]}, "beside the branches"),
    ({"services": ["a"], "all": False}, "false is the default"),
    ({"services": ["a"], "minRetries": 3}, "Paused among the defaults is simply not matched"),
    (
        {
            "services": ["a"],
            "statuses": ["Paused", "BackingOff"],
            "anyOf": [{"minRetries": 3, "statuses": ["BackingOff"]}],
        },
        "the branch has statuses of its own",
    ),
    ({"services": ["a"], "not": {"anyOf": [{"keys": ["k"]}]}}, "an exclusion of alternatives"),
    ({"services": ["a"], "not": {"statuses": ["Paused"]}, "minRetries": 1}, "what is excluded is not asked for"),
]

REFUSED = [
    ({}, "", "all: true", "nothing at all"),
    ({"statuses": ["Paused"]}, "", "all: true", "describes, but does not narrow"),
    ({"handlers": ["pay"]}, "", "services", "a handler alone exists in many services"),
    ({"all": False}, "", "all: true", "false says nothing"),
    ({"not": {"services": ["a"]}}, "", "all: true", "leaving out does not narrow"),
    ({"anyOf": [{"services": ["a"]}, {"statuses": ["Paused"]}]}, "", "each branch", "one branch reaches everything"),
    ({"all": True, "services": ["a"]}, "all", "remove", "all beside a narrowing filter"),
    ({"all": True, "ids": ["inv_1"]}, "all", "remove", "all beside ids"),
    ({"all": True, "anyOf": [{"keys": ["a"]}]}, "all", "remove", "all beside branches that narrow"),
    ({"services": ["a"], "anyOf": [{}]}, "anyOf[0]", "every invocation", "an empty branch is everything"),
    ({"services": ["a"], "anyOf": [{"rootsOnly": False}]}, "anyOf[0]", "every invocation", "false says nothing"),
    ({"services": ["a"], "not": {}}, "not", "every invocation", "an empty exclusion is everything"),
    ({"services": ["a"], "not": {"keys": ["k"], "anyOf": [{}]}}, "not.anyOf[0]", "every invocation", "the same below"),
    ({"services": ["a"], "handlers": ["checkout/pay"]}, "handlers", "handlers: [pay]", "a path is no handler"),
    ({"services": ["checkout/pay"]}, "services", "alone", "a path is no service"),
    (
        {"services": ["a"], "not": {"handlers": ["x/y"]}},
        "not.handlers",
        "handlers: [pay]",
        "it would leave out nothing",
    ),
    ({"services": ["a"], "statuses": ["Paused"], "minRetries": 1}, "minRetries", "Paused", "no count for paused"),
    (
        {"services": ["a"], "minRetries": 1, "anyOf": [{"statuses": ["Paused"]}]},
        "anyOf[0].minRetries",
        "Paused",
        "they meet in a branch",
    ),
    (
        {"services": ["a"], "statuses": ["Paused"], "anyOf": [{"minRetries": 1}]},
        "anyOf[0].minRetries",
        "Paused",
        "they meet the other way round",
    ),
    (
        {"services": ["a"], "not": {"statuses": ["Paused"], "minRetries": 1}},
        "not.minRetries",
        "Paused",
        "it would leave out nothing",
    ),
    (
        {"services": ["a"], "createdAfter": "2026-01-02T00:00:00Z", "createdBefore": "2026-01-01T00:00:00Z"},
        "createdAfter",
        "before createdBefore",
        "an empty span",
    ),
]

# What the models refuse already; the room does not rely on it.
UNCHECKED = [
    (Target.model_construct(services=["*"]), "services", "bare *"),
    (Target.model_construct(services=["a*b"]), "services", "trailing *"),
    (Target.model_construct(services=["**"]), "services", "trailing *"),
    (Target.model_construct(services=[""]), "services", "empty string"),
    (Target.model_construct(services=[]), "services", "empty list"),
    (Target.model_construct(services=["a"], statuses=[]), "statuses", "empty list"),
    (Target.model_construct(services=["a"], failure_message=""), "failureMessage", "empty string"),
    (Target.model_construct(services=["a"], older_than="1 month"), "olderThan", "days"),
    (
        Target.model_construct(services=["a"], any_of=[Leaf.model_construct(unmodified_for="5")]),
        "anyOf[0].unmodifiedFor",
        "a unit is missing",
    ),
    (
        Target.model_construct(services=["a"], not_=Exclusion.model_construct(completed_for="-1h")),
        "not.completedFor",
        "no sign",
    ),
    (
        Target.model_construct(services=["a"], not_=Exclusion.model_construct(invoked_by=["*"])),
        "not.invokedBy",
        "bare *",
    ),
    (Target.model_construct(services=["a"], any_of=[]), "anyOf", "empty list"),
]


@pytest.mark.parametrize(("form", "reason"), FINE, ids=[row[-1] for row in FINE])
def test_target_that_says_enough_has_no_problems(form: dict[str, Any], reason: str) -> None:
    assert problems(Target.model_validate(form)) == [], reason


@pytest.mark.parametrize(("form", "path", "hint", "reason"), REFUSED, ids=[row[-1] for row in REFUSED])
def test_target_that_means_too_much_is_refused_with_advice(
    form: dict[str, Any], path: str, hint: str, reason: str
) -> None:
    found = problems(Target.model_validate(form))
    assert [problem.path for problem in found] == [path], reason
    assert hint in found[0].advice
    assert found[0].message.startswith(f"target.{path}: " if path else "target: ")


@pytest.mark.parametrize(
    ("target", "path", "hint"), UNCHECKED, ids=[f"{row[1]}-{n}" for n, row in enumerate(UNCHECKED)]
)
def test_target_that_passed_no_schema_is_refused_all_the_same(target: Target, path: str, hint: str) -> None:
    assert any(problem.path == path and hint in problem.advice for problem in problems(target))


def test_min_retries_for_an_action_that_means_paused_is_refused() -> None:
    target = Target.model_validate({"services": ["a"], "minRetries": 2})
    found = problems(target, frozenset({InvocationStatus.PAUSED}))
    assert [problem.path for problem in found] == ["minRetries"]
    assert problems(target, frozenset(InvocationStatus)) == []


def test_every_problem_is_told_at_once() -> None:
    target = Target.model_validate({"handlers": ["a/b"], "not": {}, "minRetries": 1, "statuses": ["Paused"]})
    assert {problem.path for problem in problems(target)} == {"", "handlers", "not", "minRetries"}


def test_narrows_and_named_statuses_look_into_branches_and_not_into_exclusions() -> None:
    target = Target.model_validate(
        {"statuses": ["Running"], "anyOf": [{"keys": ["k"], "statuses": ["Paused"]}], "not": {"statuses": ["Ready"]}}
    )
    assert narrows(target)
    assert named_statuses(target) == {InvocationStatus.RUNNING, InvocationStatus.PAUSED}
