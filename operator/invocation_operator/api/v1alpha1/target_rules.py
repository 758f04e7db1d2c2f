"""What a target may not be, as CEL: it must narrow or say that it means everything, and it must be able to match.

Read by ``target`` (rules that hold for a target alone) and ``action`` (rules about the action and its target).
"""

from invocation_operator.api.v1alpha1.base import Rule
from invocation_operator.api.v1alpha1.cel import any_given, one_of

NARROWING = (
    "services",
    "keys",
    "keyPrefixes",
    "deployments",
    "invokedBy",
    "idempotencyKeys",
    "scopes",
    "restartedFrom",
)
"""Filters that narrow, besides ``ids``."""

_NARROWS = (
    f"has(self.ids) || {any_given('self', NARROWING)} || "
    f"(has(self.anyOf) && self.anyOf.all(branch, {any_given('branch', NARROWING)}))"
)

LEAF_RULES = (
    Rule(
        "!has(self.minRetries) || !has(self.statuses) || !('Paused' in self.statuses)",
        message="minRetries cannot be combined with Paused: the engine keeps no count of retries there; use "
        "failureCodes or failureMessage, or leave Paused out of statuses",
    ),
    Rule(
        "!has(self.createdAfter) || !has(self.createdBefore) || self.createdAfter < self.createdBefore",
        message="nothing was created both after createdAfter and before createdBefore",
    ),
)

TARGET_RULES = (
    Rule(
        f"(has(self.all) && self.all) || {_NARROWS}",
        message=f"the target must narrow by ids, {', '.join(NARROWING)} (with anyOf: in each branch or beside it), or "
        "say all: true to mean every invocation",
    ),
    Rule(
        f"!(has(self.all) && self.all && ({_NARROWS}))",
        message=f"all: true stands alone or with filters that do not narrow, not with ids, {', '.join(NARROWING)}",
    ),
    Rule(
        "!has(self.minRetries) || !has(self.anyOf) || "
        "self.anyOf.all(branch, !has(branch.statuses) || !('Paused' in branch.statuses))",
        message="minRetries cannot be combined with Paused in anyOf: the engine keeps no count of retries there",
    ),
    Rule(
        "!has(self.statuses) || !('Paused' in self.statuses) || !has(self.anyOf) || "
        "self.anyOf.all(branch, !has(branch.minRetries) || has(branch.statuses))",
        message="minRetries in anyOf cannot be combined with Paused: the engine keeps no count of retries there; give "
        "that branch its own statuses",
    ),
)


def statuses_rule(actions: tuple[str, ...], possible: tuple[str, ...], advice: str) -> Rule:
    """Return the rule at the specification that ``actions`` are asked only for statuses that they can apply to."""
    fits = f"statuses.all(status, status in {one_of(possible)})"
    return Rule(
        f"!(self.action in {one_of(actions)}) || ("
        f"(!has(self.target.statuses) || self.target.{fits}) && "
        f"(!has(self.target.anyOf) || self.target.anyOf.all(branch, !has(branch.statuses) || branch.{fits})))",
        message=f"{', '.join(actions)} can only apply to {', '.join(possible)}: {advice}",
        field_path=".target",
    )


def living_rule(actions: tuple[str, ...]) -> Rule:
    """Return the rule that ``actions`` on living invocations do not filter by how or when something ended."""
    ended = ("outcomes", "completedBefore", "completedFor")
    return Rule(
        f"!(self.action in {one_of(actions)}) || !({any_given('self.target', ended)} || "
        f"(has(self.target.anyOf) && self.target.anyOf.exists(branch, {any_given('branch', ended)})))",
        message=f"{', '.join(actions)} act on invocations that have not ended: {', '.join(ended)} could match nothing",
        field_path=".target",
    )
