"""Stops that nobody asks for: what a test changes is the one that it is about."""

from typing import Any

from invocation_operator.reconcile.cell import Cell
from invocation_operator.reconcile.control import Control


def calm(cell: Cell, **changes: Any) -> Control:
    """The stops of a run that nothing stops, on the object with the UID `u` in ``cell``, but for ``changes``."""
    fields: dict[str, Any] = {
        "uid": "u",
        "knobs": dict,
        "engine_suspended": lambda: False,
        "engine_replaced": lambda: False,
        "not_allowed": lambda: None,
        "holds": lambda: True,
        "shutting_down": lambda: False,
        "deadline": None,
        "now": lambda: 0.0,
    }
    return Control(cell=cell, **{**fields, **changes})
