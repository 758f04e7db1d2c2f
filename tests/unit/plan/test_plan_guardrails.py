"""The engine's ceilings: what a specification may cause, and what a plan may reach."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.api.v1alpha1.action import ActionSpec
from invocation_operator.api.v1alpha1.engine import Guardrails, Operation
from invocation_operator.plan import names
from invocation_operator.plan.guardrails import Reach, check_plan, check_share, check_specification, no_longer_allowed

TEAM = {"matchLabels": {"team": "shop"}}
SHOP = {"team": "shop"}


def spec(action: str = "Cancel", **fields: Any) -> ActionSpec:
    return ActionSpec.model_validate({"action": action, "target": {"services": ["checkout"]}, **fields})


def rails(**fields: Any) -> Guardrails:
    return Guardrails.model_validate(fields)


ESCALATING = {"escalation": {"killAfter": "1m"}}


@pytest.mark.parametrize(
    ("given_spec", "guardrails", "labels", "reason"),
    [
        (spec(), {}, {}, None),
        # allowedActions
        (spec(), {"allowedActions": ["Cancel"]}, {}, None),
        (spec("Kill"), {"allowedActions": ["Cancel"]}, {}, "ActionNotAllowed"),
        (spec(), {"allowedActions": []}, {}, "ActionNotAllowed"),
        (spec(**ESCALATING), {"allowedActions": ["Cancel"]}, {}, "ActionNotAllowed"),  # it causes a Kill
        (spec(**ESCALATING), {"allowedActions": ["Cancel", "Kill"]}, {}, None),
        (spec(expedite=True), {"allowedActions": ["Cancel"]}, {}, "ActionNotAllowed"),  # it causes a Resume
        (spec(expedite=True), {"allowedActions": ["Cancel", "Resume"]}, {}, None),
        # requireApprovalFor
        (spec("Kill", mode="Approve"), {"requireApprovalFor": ["Kill"]}, {}, None),
        (spec("Kill", mode="DryRun"), {"requireApprovalFor": ["Kill"]}, {}, None),  # it touches nothing
        (spec(expedite=True), {"requireApprovalFor": ["Resume"]}, {}, "ApprovalRequired"),
        (spec("Kill"), {"requireApprovalFor": ["Kill"]}, {}, "ApprovalRequired"),
        (spec(**ESCALATING), {"requireApprovalFor": ["Kill"]}, {}, "ApprovalRequired"),
        (spec(), {"requireApprovalFor": ["Kill"]}, {}, None),
        # requireReasonFor
        (spec("Kill"), {"requireReasonFor": ["Kill"]}, {}, "ReasonRequired"),
        (spec("Kill", reason="  "), {"requireReasonFor": ["Kill"]}, {}, "ReasonRequired"),  # blanks are none
        (spec("Kill", reason="INC-1"), {"requireReasonFor": ["Kill"]}, {}, None),
        # requireNotAfter
        (spec(), {"requireNotAfter": True}, {}, "NotAfterRequired"),
        (spec(notAfter="2030-01-01T00:00:00Z"), {"requireNotAfter": True}, {}, None),
        # namespaces
        (spec(), {"namespaces": [{"selector": TEAM}]}, SHOP, None),
        (spec(), {"namespaces": [{"selector": TEAM}]}, {}, "NamespaceNotAllowed"),
        (spec(), {"namespaces": []}, SHOP, "NamespaceNotAllowed"),
        (spec(), {"namespaces": [{"selector": TEAM, "actions": ["Cancel"]}]}, SHOP, None),
        (spec("Kill"), {"namespaces": [{"selector": TEAM, "actions": ["Cancel"]}]}, SHOP, "ActionNotAllowed"),
        (spec(**ESCALATING), {"namespaces": [{"selector": TEAM, "actions": ["Cancel"]}]}, SHOP, "ActionNotAllowed"),
        (
            spec(**ESCALATING),
            # Two entries do not add up: no one of them lets both through.
            {"namespaces": [{"selector": TEAM, "actions": ["Cancel"]}, {"selector": TEAM, "actions": ["Kill"]}]},
            SHOP,
            "ActionNotAllowed",
        ),
    ],
)
def test_specification_is_refused_for_what_it_may_not_cause(
    given_spec: ActionSpec, guardrails: dict[str, Any], labels: dict[str, str], reason: str | None
) -> None:
    refusal = check_specification(given_spec, [rails(**guardrails)], labels)
    assert (refusal.reason if refusal else None) == reason


def test_specification_meets_the_guardrails_of_every_engine_object() -> None:
    refusal = check_specification(spec("Kill"), [rails(), rails(allowedActions=["Cancel"])], {})
    assert refusal is not None
    assert "Kill" in refusal.message


def plan(
    services: list[str],
    below: list[str] = [],  # noqa: B006 - never changed
    *,
    guardrails: list[Guardrails],
    most: int = 1000,
    labels: dict[str, str] | None = None,
    caused: frozenset[Operation] = frozenset({Operation.KILL}),
) -> str | None:
    reach = Reach(len(services) + len(below), frozenset(services) | frozenset(below))
    refusal = check_plan(reach, most, guardrails, labels or SHOP, caused)
    return refusal.reason if refusal else None


@pytest.mark.parametrize(
    ("services", "below", "guardrails", "reason"),
    [
        (["checkout"], [], {}, None),
        (["checkout"] * 3, [], {"maxTargets": 2}, "TooManyTargets"),
        (["checkout"] * 2, ["cart"], {"maxTargets": 2}, "TooManyTargets"),  # descendants count
        (["checkout"] * 2, [], {"maxTargets": 2}, None),
        (["billing"], [], {"protectedServices": ["billing"]}, "ProtectedService"),
        (["checkout"], ["billing"], {"protectedServices": ["billing"]}, "ProtectedService"),  # killed with its parent
        (["billing-eu"], [], {"protectedServices": ["billing-*"]}, "ProtectedService"),
        (["billing-eu"], [], {"protectedServices": ["billing"]}, None),  # names match exactly
        (["Billing"], [], {"protectedServices": ["billing"]}, None),  # case included
        (["checkout"], [], {"namespaces": [{"selector": TEAM, "services": ["checkout"]}]}, None),
        (["cart"], [], {"namespaces": [{"selector": TEAM, "services": ["checkout"]}]}, "ServiceNotAllowed"),
        (["checkout"], ["cart"], {"namespaces": [{"selector": TEAM, "services": ["checkout"]}]}, "ServiceNotAllowed"),
        (
            ["checkout"],
            [],
            # The entry with the service does not allow the operation, and the one with the operation not the service.
            {
                "namespaces": [
                    {"selector": TEAM, "services": ["checkout"], "actions": ["Cancel"]},
                    {"selector": TEAM, "services": ["cart"], "actions": ["Kill"]},
                ]
            },
            "ServiceNotAllowed",
        ),
    ],
)
def test_plan_is_refused_for_what_it_would_reach(
    services: list[str], below: list[str], guardrails: dict[str, Any], reason: str | None
) -> None:
    assert plan(services, below, guardrails=[rails(**guardrails)]) == reason


SERVICES = st.lists(st.sampled_from(["a", "ab", "abc", "b", "ba", "A"]), max_size=8)
PATTERNS = st.lists(st.sampled_from(["a", "a*", "ab", "b*", "A", "zz*"]), min_size=1, max_size=3, unique=True)


@given(SERVICES, SERVICES, st.lists(PATTERNS, min_size=1, max_size=3))
def test_a_protected_service_is_never_selected(services: list[str], below: list[str], each: list[list[str]]) -> None:
    accepted = plan(services, below, guardrails=[rails(protectedServices=p) for p in each]) is None
    protected = any(names.matches(pattern, name) for p in each for pattern in p for name in services + below)
    assert accepted is not protected


@given(st.integers(0, 30), st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(1, 30))
def test_never_more_than_the_strictest_limit(total: int, ceilings: list[int], own: int) -> None:
    guardrails = [rails(maxTargets=ceiling) for ceiling in ceilings]
    accepted = plan(["a"] * total, guardrails=guardrails, most=own) is None
    assert accepted is (total <= min(own, *ceilings))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("checkout", "checkout", True),
        ("checkout", "checkout2", False),
        ("checkout", "Checkout", False),
        ("report-*", "report-", True),
        ("report-*", "report-daily", True),
        ("report-*", "reports", False),
        ("a.c", "abc", False),  # no pattern language but the trailing star
    ],
)
def test_name_matches_exactly_or_by_prefix(pattern: str, name: str, expected: bool) -> None:
    assert names.matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("reached", "existing", "most", "told"),
    [
        ({"checkout": 10}, {"checkout": 100}, 10, None),
        ({"checkout": 11}, {"checkout": 100}, 10, "11 of the 100 of 'checkout' would"),
        ({"checkout": 1}, {"checkout": 1}, 99, "1 of the 1 of 'checkout' would"),  # the last one is all of it
        ({"checkout": 1}, {"checkout": 1}, 100, None),
        ({"checkout": 1, "cart": 5}, {"checkout": 100, "cart": 9}, 50, "5 of the 9 of 'cart' would"),  # each by itself
        ({"checkout": 5}, {}, 50, "5 of the 5 of 'checkout' would"),  # gone between the two counts
        ({"checkout": 5}, {}, 100, None),
        ({f"s{n}": 1 for n in range(9)}, {}, 50, "1 of the 1 of 's2' and of 6 more services would"),
        ({}, {"checkout": 1}, 1, None),
    ],
)
def test_share_of_each_service_stays_within_its_limit(
    reached: dict[str, int], existing: dict[str, int], most: int, told: str | None
) -> None:
    refused = check_share(reached, existing, most)
    if told is None:
        assert refused is None
    else:
        assert refused is not None
        assert refused.reason == "TooMuchOfService"
        assert told in refused.message


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 100))
def test_share_that_is_let_through_is_never_above_its_limit(reached: int, existing: int, most: int) -> None:
    let_through = check_share({"a": reached}, {"a": existing}, most) is None
    assert let_through == (min(reached, existing) * 100 <= most * existing)


@pytest.mark.parametrize(
    ("rails", "expected"),
    [
        ({}, None),
        ({"maxTargets": 3, "allowedActions": ["Cancel", "Kill"]}, None),
        ({"maxTargets": 2}, "3 invocations"),
        ({"allowedActions": ["Cancel"]}, "Kill"),  # it would come later, by the escalation
        ({"protectedServices": ["ca*"]}, "cart"),  # reached as a descendant
        ({"namespaces": [{"selector": {}, "services": ["checkout"]}]}, "cart"),
        ({"namespaces": [{"selector": {"matchLabels": {"team": "b"}}}]}, "no entry"),
        ({"requireReasonFor": ["Kill"]}, "spec.reason"),
    ],
)
def test_run_under_way_is_held_to_what_guardrails_say_now(rails: dict[str, Any], expected: str | None) -> None:
    escalating = {"escalation": {"killAfter": "1m"}}
    given = ActionSpec.model_validate({"action": "Cancel", "target": {"services": ["checkout"]}, **escalating})
    reach = Reach(3, frozenset({"checkout", "cart"}))
    told = no_longer_allowed(given, reach, Guardrails.model_validate(rails), {"team": "a"})
    assert (told is None) == (expected is None)
    assert (expected or "") in (told or "")
    assert "nothing was touched" not in (told or ""), "it was"
