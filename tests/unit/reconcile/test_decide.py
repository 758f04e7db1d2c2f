"""What two runs do to one invocation: one asks, and the other one says so only when that is true."""

import time

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome
from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.operation import operation_for
from invocation_operator.plan.operation.base import Ask, Decision, Item, Seen, Settled, Signals, Verb
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.claims import Claims
from invocation_operator.reconcile.decide import Decider
from invocation_operator.reconcile.flight import Call, Flight
from invocation_operator.target.row import InvocationRow
from tests.unit.reconcile.test_execute import BORN

SUSPENDED = Seen(InvocationRow("inv_1", BORN, InvocationStatus.SUSPENDED), signals=Signals(0))


def decider(claims: Claims) -> Decider:
    spec = ActionSpec.model_validate({"action": "Cancel", "target": {"ids": ["inv_1"]}})
    return Decider(operation_for(spec, settle_lost_after=1.0), claims)


def flight() -> Flight:
    return Flight(Item(0, Planned("inv_1", BORN, InvocationStatus.SUSPENDED, "Svc/h")))


def decided(by: Decider, on: Flight) -> Decision:
    ((_, _, decision),) = by.decide([on], [SUSPENDED], 0.0)
    return decision


def test_cancel_that_another_run_has_only_meant_to_send_is_not_told_to_be_pending() -> None:
    """The other one waited for an engine that refused calls, and was deleted: nobody had cancelled anything."""
    claims = Claims(time.monotonic)
    one, other = decider(claims), decider(claims)
    ones, others = flight(), flight()
    assert decided(one, ones) == Ask(Verb.CANCEL)
    assert decided(other, others) is None
    call = Call(ones, Ask(Verb.CANCEL), SUSPENDED)
    call.mark(1.0)
    assert decided(other, others) == Settled(Outcome.SKIPPED, "CancelPending")
    call.unmark()
    assert decided(other, others) is None
    one.let_go(ones.item, None, 1.0)
    assert decided(other, others) == Ask(Verb.CANCEL)
