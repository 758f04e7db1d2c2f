"""Of several reasons to stop, the one that leaves least to be done wins."""

import pytest

from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Stop
from tests.unit.reconcile.calm import calm

CELL = Cell(("shop", "a"), {"metadata": {"uid": "u", "resourceVersion": "1"}, "spec": {}})


def test_control_without_a_reason_lets_go_on() -> None:
    assert calm(CELL).stop() is None


@pytest.mark.parametrize("uid", ["u", "another"])
def test_control_without_the_hold_stops_for_that_also_when_the_object_is_gone(uid: str) -> None:
    """A run that is stopped by a deletion finishes what must not be left half done; without its hold it must not."""
    lost = calm(CELL, uid=uid, holds=lambda: False)
    assert lost.stop() is Stop.HOLD_LOST


def test_control_of_a_deleted_object_stops_for_that_before_its_time_is_up() -> None:
    assert calm(CELL, uid="another", deadline=0.0).stop() is Stop.DELETED
