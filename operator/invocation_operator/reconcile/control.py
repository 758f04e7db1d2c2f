"""What can stop a run between two operations, looked at before each of them.

A person sets ``suspend``, deletes the object, pulls the engine's kill switch, tightens its guardrails; time runs out;
too much fails; another process holds the run. Everything is read from what the watches last said, so a stop takes
effect at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from invocation_operator.reconcile.cell import Cell


class Stop(StrEnum):
    """Why nothing more is asked. The value is the reason that people see."""

    SUSPENDED = "Suspended"
    ENGINE_SUSPENDED = "EngineSuspended"
    DELETED = "ObjectDeleted"
    TIMED_OUT = "TimedOut"
    TOO_MANY_FAILURES = "TooManyFailures"
    UNHEALTHY = "Unhealthy"
    ENGINE_CHANGED = "EngineChanged"
    SHUTDOWN = "OperatorStopping"
    HOLD_LOST = "HoldLost"
    GUARDRAIL_TIGHTENED = "GuardrailTightened"

    @property
    def passes(self) -> bool:
        """Whether the run goes on when the reason is gone."""
        return self in (Stop.SUSPENDED, Stop.ENGINE_SUSPENDED)

    @property
    def hands_over(self) -> bool:
        """Whether another holder, or a later life of this one, goes on with what is in flight."""
        return self in (Stop.SHUTDOWN, Stop.HOLD_LOST)

    @property
    def lets_settle(self) -> bool:
        """Whether what was asked is looked at until it has an outcome, and not only once more."""
        return self in (Stop.TOO_MANY_FAILURES, Stop.GUARDRAIL_TIGHTENED)


@dataclass(slots=True)
class Control:
    """The stops of one run. Later fields win over earlier ones only where they are final."""

    cell: Cell
    uid: str
    knobs: Callable[[], Mapping[str, Any] | None]
    """The part of the object's specification, as it is now, that holds ``suspend`` and ``limits`` of this run; None
    when it holds no such part any more.
    """
    engine_suspended: Callable[[], bool]
    engine_replaced: Callable[[], bool]
    not_allowed: Callable[[], str | None]
    """What guardrails do not allow any more, and whose they are."""
    holds: Callable[[], bool]
    shutting_down: Callable[[], bool]
    deadline: float | None
    now: Callable[[], float]
    final: Stop | None = None
    """Set from within the run: too many failures, an unhealthy wave, another engine, a guardrail."""
    detail: str | None = None
    """What people are told beside ``final``."""

    def stop(self) -> Stop | None:
        """Return why nothing more may be asked now, or None."""
        if not self.holds():
            # Before all else: not even what must not be left half done may be finished without it.
            return Stop.HOLD_LOST
        if self.deleted:
            return Stop.DELETED
        if self.final is None and self.engine_replaced():
            self.final = Stop.ENGINE_CHANGED
        if self.final is Stop.ENGINE_CHANGED:
            return self.final
        if self.final is None and (detail := self.not_allowed()) is not None:
            self.final, self.detail = Stop.GUARDRAIL_TIGHTENED, detail
        if self.deadline is not None and self.now() >= self.deadline:
            return Stop.TIMED_OUT
        if self.final is not None:
            return self.final
        if self.shutting_down():
            return Stop.SHUTDOWN
        if (self.knobs() or {}).get("suspend"):
            return Stop.SUSPENDED
        return Stop.ENGINE_SUSPENDED if self.engine_suspended() else None

    @property
    def deleted(self) -> bool:
        """Whether the object is gone, being deleted, or another one has its name; or asks for the run no more."""
        obj = self.cell.obj
        if obj is None or obj["metadata"]["uid"] != self.uid:
            return True
        return "deletionTimestamp" in obj["metadata"] or self.knobs() is None

    def limit(self, name: str) -> int | None:
        """Return a limit that may be changed while the run goes on."""
        limits = (self.knobs() or {}).get("limits")
        value = limits.get(name) if isinstance(limits, dict) else None
        return value if isinstance(value, int) else None
