"""The clock on the wall, the dice and the log of a history.

The operator asks `datetime.now` in a few places (times that people read) and `random` for its jitter. Within a history
both belong to the seed: modules that ask for the time see this clock instead, which is the real one at any other time.
"""

import inspect
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import structlog

from e2e.simulation.engine import EPOCH
from invocation_operator.engine import replay

PARTITIONS_ASKED = 4
"""Of so many partitions, and not of 32, it is asked whether they have read their log: the model has one log for all,
and two thirds of all requests would be these.
"""

_current: Callable[[], float] | None = None


class _Kind(type(datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class _Wall(datetime, metaclass=_Kind):
    """`datetime` as a module of the operator knows it."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        if _current is None:
            return datetime.now(tz)
        return datetime.fromtimestamp(EPOCH.timestamp() + _current(), tz or UTC)


def _uuid4() -> UUID:
    return uuid4() if _current is None else UUID(int=random.getrandbits(128))


@cache
def _install() -> None:
    """Once: what is imported later belongs to nobody's history."""
    for name, module in list(sys.modules.items()):
        ours = name.startswith("invocation_operator.") and getattr(module, "datetime", None) is datetime
        if ours and "datetime.now(" in inspect.getsource(module):
            module.datetime = _Wall  # type: ignore[attr-defined]
        if name.startswith("invocation_operator.") and getattr(module, "uuid4", None) is uuid4:
            module.uuid4 = _uuid4  # type: ignore[attr-defined]


@contextmanager
def belongs_to(seed: int, time: Callable[[], float], told: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Let clock and dice belong to a history; `told` gets every entry of the operator's log."""
    global _current
    _install()
    state, log = random.getstate(), structlog.get_config()

    def keep(_: Any, level: str, entry: Any) -> Any:
        entry["level"] = level
        if entry.pop("exc_info", None):
            entry["error"] = repr(sys.exc_info()[1])
            entry["mistake"] = sys.exc_info()[1]
        told(entry)
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        cache_logger_on_first_use=False,
    )
    random.seed(seed)
    _current = time
    asked, replay.SPREAD = replay.SPREAD, PARTITIONS_ASKED
    try:
        yield
    finally:
        _current = None
        replay.SPREAD = asked
        random.setstate(state)
        structlog.configure(**log)
