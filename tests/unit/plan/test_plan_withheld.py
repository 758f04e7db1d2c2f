"""A purge of what came to be held after it was planned, before and after its call."""

from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.operation.base import Ask, Decision, Item, Seen, Settled, Verb
from invocation_operator.plan.operation.withheld import Withheld
from invocation_operator.target.row import InvocationRow
from tests.unit.plan.test_plan_operations import GONE, LOST_AFTER, ended, item, operation

HELD = Settled(Outcome.SKIPPED, "Held", error="held by RetentionPolicy shop/legal")
COMPLETED = InvocationStatus.COMPLETED
THERE = Seen(ended())


def withheld(action: str = "Purge", *, held: bool = True, **spec: Any) -> Withheld:
    def holder(_: InvocationRow) -> str | None:
        return "shop/legal" if held else None

    return Withheld(operation(action, **spec), holder, lambda: held)


@pytest.mark.parametrize(
    ("held", "expected"), [pytest.param(True, HELD, id="held"), pytest.param(False, Ask(Verb.PURGE), id="not held")]
)
def test_withheld_before_the_first_call_asks_only_what_is_not_held(held: bool, expected: Decision) -> None:
    assert withheld(held=held).begin(item(COMPLETED).planned, THERE) == expected


@pytest.mark.parametrize(
    ("asked", "seen", "now", "expected"),
    [
        # An engine that was restarted tells what was before: it may have been purged before the hold came.
        pytest.param(item(COMPLETED, Verb.PURGE), THERE, 20.0, None, id="asked: it is waited for"),
        pytest.param(
            item(COMPLETED, Verb.PURGE), GONE, 20.0, Settled(Outcome.EFFECTIVE, "Purged"), id="asked, and gone"
        ),
        pytest.param(item(COMPLETED, lost=True), THERE, LOST_AFTER + 1, HELD, id="an earlier life did not ask it"),
    ],
)
def test_withheld_after_a_call_waits_for_what_was_asked(
    asked: Item, seen: Seen, now: float, expected: Decision
) -> None:
    assert withheld(verification={"timeout": "1m"}).judge(asked, seen, now) == expected


def test_withheld_that_was_asked_and_never_vanishes_is_not_verified() -> None:
    decision = withheld(verification={"timeout": "1m"}).judge(item(COMPLETED, Verb.PURGE), THERE, 61.0)
    assert isinstance(decision, Settled)
    assert decision.outcome is Outcome.UNVERIFIED
