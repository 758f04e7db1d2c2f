"""Calls between decision and answer."""

from datetime import UTC, datetime

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.operation.base import Ask, Item, Seen, Verb
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.flight import Call, Flight, Flights

BORN = datetime(2026, 1, 1, tzinfo=UTC)


def call() -> Call:
    item = Item(0, Planned("inv_a", BORN, InvocationStatus.RUNNING, "Svc/h"))
    return Call(Flight(item), Ask(Verb.KILL), Seen(None))


def test_taken_call_vouches_from_when_it_was_sent_however_late_its_answer_came() -> None:
    """The engine may have gone away and come back, its log unread, while the answer was under way."""
    made = call()
    made.mark(100.0)
    made.taken(None)
    assert made.flight.item.vouched_at == 100.0


def test_call_that_was_not_asked_vouches_for_nothing() -> None:
    made = call()
    made.mark(100.0)
    made.unmark()
    assert made.flight.item.vouched_at == float("-inf")
    assert made.flight.item.asks == 0


def test_flights_count_those_whose_turn_has_not_come_each_once() -> None:
    flights = Flights()
    planned = Planned("inv_a", BORN, InvocationStatus.RUNNING, "Svc/h")
    first, second, third = (Flight(Item(index, planned)) for index in range(3))
    flights.launch([first, second, third])
    assert flights.queued == 3
    flights.turn_came(first)
    flights.turn_came(first)
    assert flights.queued == 2
    flights.queue(first)
    flights.queue(first)
    assert flights.queued == 3, "what follows its first call waits like any other"
    flights.land(first)
    flights.land(second)
    assert (flights.queued, list(flights), 2 in flights, 1 in flights) == (1, [third], True, False)
    assert second.landed
