"""What is to be looked at, by when it is due."""

from datetime import UTC, datetime

from invocation_operator.api.v1alpha1.target import InvocationStatus
from invocation_operator.plan.operation.base import Item
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.due import Due
from invocation_operator.reconcile.flight import Flight

BORN = datetime(2026, 1, 1, tzinfo=UTC)


def waiting(*dues: float) -> tuple[Due, list[Flight]]:
    due = Due()
    flights = [
        Flight(Item(number, Planned(f"inv_{number}", BORN, InvocationStatus.RUNNING, "Svc/h")), due=at)
        for number, at in enumerate(dues)
    ]
    due.put(flights)
    return due, flights


def test_due_flights_come_earliest_first_then_as_they_were_put_and_no_more_than_wanted() -> None:
    due, flights = waiting(3.0, 1.0, 2.0, 1.0, 9.0)
    assert due.next == 1.0
    assert due.take(5.0, 3) == [flights[1], flights[3], flights[2]]
    assert due.take(5.0, 3) == [flights[0]]
    assert due.take(5.0, 3) == []
    assert (due.next, [flight.busy for flight in flights]) == (9.0, [True, True, True, True, False])


def test_due_flight_that_a_stop_dropped_is_neither_taken_nor_waited_for() -> None:
    due, flights = waiting(1.0, 2.0, 3.0)
    flights[0].landed = flights[2].landed = True
    assert due.next == 2.0
    assert due.take(5.0, 9) == [flights[1]]
    assert due.next is None


def test_due_flight_that_was_seen_to_comes_again_when_it_is_due_again() -> None:
    due, [flight] = waiting(1.0)
    assert due.take(1.0, 9) == [flight]
    flight.due = 4.0
    due.put([flight])
    assert (due.take(3.9, 9), due.next) == ([], 4.0)
    assert due.take(4.0, 9) == [flight]


def test_due_batch_that_is_taken_in_parts_keeps_its_order_and_passes_over_what_was_dropped() -> None:
    due, flights = waiting(1.0, 1.0, 1.0, 1.0, 1.0)
    assert due.take(1.0, 2) == flights[:2]
    flights[3].landed = True
    due.put(flights[:1])
    assert due.take(1.0, 9) == [flights[2], flights[4], flights[0]]
    assert due.next is None
