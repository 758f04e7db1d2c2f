"""Who may ask what must come once, while several runs look at the same invocations."""

from datetime import UTC, datetime

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.operation import operation_for
from invocation_operator.plan.operation.base import Ask, Item, Settled, Verb
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.claims import LINGER_SECONDS, Claims
from invocation_operator.reconcile.decide import Decider


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_claim_of_one_run_keeps_the_others_until_it_is_given_up() -> None:
    claims, one, other = Claims(Clock()), object(), object()
    assert claims.take("a", one)
    assert claims.take("a", one)
    assert not claims.take("a", other)
    claims.release("a", other, linger=False)
    assert not claims.take("a", other)
    claims.release("a", one, linger=False)
    assert claims.take("a", other)


def test_claim_that_lingers_keeps_the_others_for_a_while_and_not_its_own_run() -> None:
    clock = Clock()
    claims, one, other = Claims(clock), object(), object()
    claims.take("a", one)
    claims.release("a", one, linger=True)
    assert not claims.take("a", other)
    assert claims.take("a", one)
    claims.release("a", one, linger=True)
    clock.now += LINGER_SECONDS
    assert claims.take("a", other)


def test_claim_that_was_given_up_while_somebody_looked_counts_until_they_have_decided() -> None:
    """However slow the engine is to answer: what they are told may be of a time before."""
    clock = Clock()
    claims, one, other = Claims(clock), object(), object()
    claims.take("a", one)
    with claims.look():
        clock.now += 0.5
        with claims.look():
            claims.release("a", one, linger=True)
            clock.now += 30.0
            assert not claims.take("a", other)
        assert not claims.take("a", other)
    assert claims.take("a", other)


def test_claim_lingers_as_long_as_a_call_may_still_arrive_and_keeps_nobody_from_anything_else() -> None:
    clock = Clock()
    claims, one, other = Claims(clock), object(), object()
    for name in ("lost", "answered"):
        claims.take(name, one)
        claims.release(name, one, linger=True, seconds=12.0 if name == "lost" else 0.0)
    clock.now += LINGER_SECONDS
    assert claims.take("answered", other)
    clock.now = 11.9
    assert not claims.take("lost", other)
    clock.now = 12.0
    assert claims.take("lost", other)


@pytest.mark.parametrize(
    ("outcome", "lost", "asks", "seconds"),
    [
        pytest.param(Outcome.EFFECTIVE, False, 1, 0.0, id="it has ended, and who looks sees it"),
        pytest.param(Outcome.EFFECTIVE, True, 1, 0.0, id="it has ended, whatever comes late"),
        pytest.param(Outcome.UNVERIFIED, False, 1, LINGER_SECONDS, id="who looks at the same moment sees no signal"),
        pytest.param(Outcome.AMBIGUOUS, True, 1, 12.0, id="the call may still arrive"),
        pytest.param(None, False, 1, 12.0, id="somebody else goes on, and a call may be under way"),
        pytest.param(None, False, 0, 0.0, id="nothing was asked"),
    ],
)
def test_cancelled_invocation_is_left_to_other_runs_once_they_can_see_what_came_of_it(
    outcome: Outcome | None, lost: bool, asks: int, seconds: float
) -> None:
    clock, other, born = Clock(), object(), datetime(2026, 3, 1, tzinfo=UTC)
    spec = ActionSpec.model_validate({"action": "Cancel", "target": {"ids": ["a"]}})
    decider = Decider(operation_for(spec, settle_lost_after=12.0), Claims(clock))
    item = Item(0, Planned("a", born, InvocationStatus.SUSPENDED, "Svc/h"), None, born, 0.0, 0.0)
    item.lost, item.asks, item.last = lost, asks, Ask(Verb.CANCEL)
    assert decider.claims.take("a", decider)
    decider.let_go(item, None if outcome is None else Settled(outcome, "x"), 0.0)
    if seconds:
        clock.now = seconds - 0.1
        assert not decider.claims.take("a", other)
    clock.now = seconds
    assert decider.claims.take("a", other)


def test_claims_that_were_given_up_are_forgotten() -> None:
    clock = Clock()
    claims, run = Claims(clock), object()
    for number in range(1000):
        claims.take(str(number), run)
        claims.release(str(number), run, linger=True)
        clock.now += 0.1
    assert len(claims._lingering) <= LINGER_SECONDS / 0.1 + 1
    assert len(claims._order) <= LINGER_SECONDS / 0.1 + 1
    assert not claims._claims
