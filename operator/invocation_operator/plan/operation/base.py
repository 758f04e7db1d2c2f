"""The vocabulary between the executor and the operations: what was seen, what to ask, what it amounts to.

The executor does the I/O and owns the items; an operation only judges. The engine answers before the effect is there,
so an answer settles nothing unless it is a refusal: what settles is what is *seen*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Protocol

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome, Result
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.plan.targets import Planned
from invocation_operator.target.row import InvocationRow
from invocation_operator.values.duration import parse_duration

NEVER_STARTED = frozenset({InvocationStatus.SCHEDULED, InvocationStatus.PENDING})
"""They have no journal; a cancel makes them vanish, so one that is still there was not cancelled."""


CLOCK_MARGIN = timedelta(seconds=5)
"""How far the clocks of an engine's nodes may be apart."""


class Verb(StrEnum):
    """Calls on one invocation, named as the engine names them."""

    CANCEL = "cancel"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    PURGE_JOURNAL = "purge-journal"
    RESTART_AS_NEW = "restart-as-new"


class Evidence(Enum):
    """What an operation needs to know beside the row."""

    SIGNALS = auto()
    """Cancel signals in the journal, and whether anything came after them."""
    PAUSES = auto()
    """When one that is paused came to be so."""
    CHILDREN = auto()
    """Invocations that were restarted from this one."""
    NEW = auto()
    """The row of the new invocation that a restart answered with."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Cancel signals in one journal. ``reacted``: an entry was written after the last of them; ``last_at``: when that
    one came, on the engine's clock.

    ``count`` is None when the journal cannot tell: there is none, or it is of a format that keeps no signals.
    """

    count: int | None
    reacted: bool = False
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """An invocation restarted from the one that is looked at."""

    id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation. ``row`` is None when the planned invocation is gone; ``born_again`` tells that its id lives
    on as a younger invocation, which is somebody else's.
    """

    row: InvocationRow | None
    born_again: bool = False
    signals: Signals | None = None
    paused_at: datetime | None = None
    """When one that is paused came to be so, on the engine's clock; None: nobody has asked, or it is not paused."""
    children: Sequence[Child] = ()
    new_is_there: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this call."""

    verb: Verb
    deployment: str | None = None
    from_entry: int | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of an item. ``reason`` is a CamelCase word: what it ended as, or why."""

    outcome: Outcome
    reason: str
    error: str | None = None
    new_id: str | None = None

    def result(self, planned: Planned) -> Result:
        """Return what is told of ``planned``, which ended so."""
        return Result(
            id=planned.id,
            target=planned.label,
            outcome=self.outcome,
            reason=self.reason,
            new_id=self.new_id,
            error=self.error[:256] if self.error else None,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine's refusal of a call: HTTP status and its own message."""

    status: int
    message: str


@dataclass(slots=True)
class Item:
    """One invocation between its intent and its outcome; owned and changed by the executor, read by operations.

    Times are seconds on the run's clock (zero at the run's start, the pace of a monotonic clock).
    """

    index: int
    planned: Planned
    before: Seen | None = None
    """What was seen before the last call; None after a crash."""
    intended_time: datetime | None = None
    """When the intent was written, on the engine's clock."""
    first_asked_at: float = 0.0
    asked_at: float = 0.0
    asks: int = 0
    last: Ask | None = None
    lost: bool = False
    """The answer to the last call is missing: it may or may not have been carried out."""
    traced: bool = False
    """Whether a cancel was seen in its journal since: then it is known to have been asked."""
    vouched_at: float = float("-inf")
    """When the last call on it that the engine took was sent: its partition had read its log then, or later."""
    new_id: str | None = None
    done: list[Verb] = field(default_factory=list)
    """Calls that the engine accepted, in their order."""

    def signalled(self, seen: Seen) -> bool:
        """Whether its journal holds a cancel that may be ours: after a crash, one that came after the intent."""
        signals = seen.signals
        if signals is None or not signals.count:
            return False
        if self.before is not None or signals.last_at is None or self.intended_time is None:
            return True
        return signals.last_at >= self.intended_time - CLOCK_MARGIN

    @property
    def unknown(self) -> bool:
        """Whether nobody can tell if the last call was carried out."""
        return self.lost and not (self.traced and (self.last is None or self.last.verb is Verb.CANCEL))


@dataclass(frozen=True, slots=True)
class Timing:
    """Lengths of time in seconds."""

    timeout: float
    repeat_after: float
    repeat_cancel: bool
    kill_after: float | None
    settle_lost_after: float
    """When a call whose answer was lost can no longer arrive at the engine: request timeout plus a margin."""
    ask_again_after: float = 5.0
    """When a call that is safe to repeat is repeated while its effect is not seen."""

    @property
    def carried(self) -> float:
        """How much of the time that went by before a takeover counts, at most.

        An escalation that is due comes at once. What a lost answer takes to be settled is left in any case, so that a
        long absence of every operator does not end all that was in flight unseen.
        """
        due = self.timeout if self.kill_after is None else self.kill_after
        return max(0.0, min(due, self.timeout - 2 * self.settle_lost_after))

    @classmethod
    def of(cls, spec: ActionSpec, settle_lost_after: float) -> "Timing":
        """Return the timing that ``spec`` asks for. Raises ``DurationError``."""
        verification, escalation = spec.verification, spec.escalation
        return cls(
            timeout=_seconds(verification.timeout),
            repeat_after=_seconds(verification.repeat_after),
            repeat_cancel=verification.repeat.value == "WhenUnchanged",
            kill_after=_seconds(escalation.kill_after) if escalation else None,
            settle_lost_after=settle_lost_after,
        )


Decision = Ask | Settled | None
"""``None``: look again later."""


class Operation(Protocol):
    """One action, as decisions. All methods are pure."""

    @property
    def timing(self) -> Timing:
        """When to look, to ask again, and to give up."""

    @property
    def begins_by_plan(self) -> bool:
        """Whether ``begin`` needs no more of a row than a plan keeps: identity and status. Then the plan's own query
        was the look at it, as long as that is not old.
        """

    @property
    def begin_evidence(self) -> frozenset[Evidence]:
        """What ``begin`` must know beside the row."""

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """What ``judge`` must know about ``item`` beside the row."""

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Decide on an invocation that was not asked yet."""

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """Judge a refusal; None: look again, it may be asked once more."""

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Judge what is seen after an ask, at ``now`` seconds on the run's clock."""

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """Judge the first ask of an item whose intent was found after a crash, when it turns out that nothing had been
        asked: what ``begin`` would not ask is not asked now either.
        """

    def inseparable(self, item: Item) -> bool:
        """Whether ``item`` must not be left as it is: a suspend, timeout or deletion lets it finish."""


def skipped(reason: str) -> Settled:
    """The invocation is left alone."""
    return Settled(Outcome.SKIPPED, reason)


def failed(refused: Refused, reason: str | None = None) -> Settled:
    """The engine refused for good."""
    return Settled(Outcome.FAILED, reason or _FAILED.get(refused.status, "Rejected"), error=refused.message)


def unseen(item: Item, outcome: Outcome, reason: str) -> Settled:
    """No effect was seen in time: ``outcome``, which says that it was asked, unless nobody can tell whether it was."""
    return Settled(Outcome.AMBIGUOUS if item.unknown else outcome, reason)


def ended_as(row: InvocationRow) -> str:
    """Return how a completed invocation ended, as a word."""
    return (row.outcome or CompletionOutcome.SUCCEEDED).value


def out_of_reach(planned: Planned, seen: Seen) -> Settled | None:
    """Skip what is no longer the planned invocation: purged, expired, or born again under the same id."""
    if seen.born_again:
        return skipped("BornAgain")
    return None if seen.row is not None else skipped("Gone")


def expired(item: Item, now: float, after: float) -> bool:
    """Whether ``after`` seconds have passed since the first ask."""
    return now - item.first_asked_at >= after


def moved(item: Item, seen: Seen) -> bool:
    """Whether something happened to the invocation after the last call, also when its status is the same again.

    The time of modification does not tell: retries leave it alone, and timers that fire change it while it is paused.
    So a pause is told by the time of its event, an attempt by the number of retries.
    """
    row, before = seen.row, item.before
    if row is None:
        return True
    known = before.row if before is not None else None
    if row.status is not (known.status if known is not None else item.planned.status):
        return True
    if row.status is InvocationStatus.PAUSED:
        return _paused_again(item, seen)
    if known is None:
        return row.modified_at is not None and item.intended_time is not None and row.modified_at > item.intended_time
    return (row.modified_at, row.retry_count) != (known.modified_at, known.retry_count)


def _paused_again(item: Item, seen: Seen) -> bool:
    """Whether its pause is younger than the intent, and than all that had happened to it when it was seen before.

    The pause that it was in is neither: the engine dates it no later than the row, and the intent came after the plan,
    which found it paused. After a crash the intent alone must do. Where an engine's nodes differ in their clocks, a
    younger one may pass for the former; then the resume is asked once more, which does no harm.
    """
    known = item.before.row.modified_at if item.before is not None and item.before.row is not None else None
    since = max((time for time in (item.intended_time, known) if time is not None), default=None)
    return seen.paused_at is not None and since is not None and seen.paused_at > since


def still(row: InvocationRow) -> str:
    """Return the reason for an invocation that did not leave its status."""
    return f"Still{row.status.value}"


def alive(status: InvocationStatus) -> bool:
    """Whether an invocation in ``status`` has not ended."""
    return status is not InvocationStatus.COMPLETED


_FAILED = {400: "Invalid", 404: "NotFound", 409: "Conflict", 410: "Gone", 422: "NotSupported", 425: "NotReady"}


def _seconds(duration: str) -> float:
    length: timedelta = parse_duration(duration)
    return length.total_seconds()
