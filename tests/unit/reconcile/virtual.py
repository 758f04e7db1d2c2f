"""Tests that play in virtual time: how busy the machine is changes nothing, and nothing is waited for."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from e2e.simulation import loop as virtual_time

_P = ParamSpec("_P")


def in_virtual_time(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Make a test of a coroutine that asks no clock but the loop's."""

    @wraps(test)
    def played(*args: _P.args, **kwargs: _P.kwargs) -> None:
        virtual_time.run(test(*args, **kwargs))

    return played
