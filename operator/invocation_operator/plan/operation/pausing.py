"""Pause and Resume.

Engine facts behind the decisions: a pause of a suspended invocation answers 200 and does nothing; one of a ready
invocation answers 202 and may be lost; one of a running invocation holds when the running block ends. So only the
status Paused proves a pause, and it is asked again until it holds or time is up. The deployment can be changed only of
paused and suspended invocations; an immediate resume after a pause is refused (409), so Paused is waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.action import Outcome
from invocation_operator.api.v1alpha1.target import InvocationStatus as S
from invocation_operator.plan.operation.base import (
    Ask,
    Decision,
    Evidence,
    Item,
    Refused,
    Seen,
    Settled,
    Timing,
    Verb,
    expired,
    failed,
    moved,
    out_of_reach,
    skipped,
    still,
    unseen,
)
from invocation_operator.plan.targets import Planned
from invocation_operator.target.row import InvocationRow

LEFT_PAUSED = "LeftPaused"
"""Reason of an invocation that was paused on the way to another deployment and could not be resumed."""

_NONE: frozenset[Evidence] = frozenset()
_PAUSABLE = frozenset({S.RUNNING, S.READY, S.BACKING_OFF})


@dataclass(frozen=True, slots=True)
class Pause:
    """Done when the status is Paused, nothing less."""

    timing: Timing
    statuses: frozenset[S]
    begin_evidence: frozenset[Evidence] = _NONE
    begins_by_plan: bool = True

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """The row says it all."""
        return _NONE

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask what can be paused."""
        away = out_of_reach(planned, seen)
        if away is not None:
            return away
        assert seen.row is not None
        if seen.row.status is S.PAUSED:
            return Settled(Outcome.ALREADY_DONE, "Paused")
        if seen.row.status not in self.statuses:
            return skipped("Completed" if seen.row.status is S.COMPLETED else "StatusChanged")
        return Ask(Verb.PAUSE)

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """404 and 409 say that it ended or moved on meanwhile: the next look tells which."""
        return None if refused.status in (404, 409) else failed(refused)

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Settle what is paused or ended; ask again what could be paused."""
        if seen.row is None or seen.born_again or seen.row.status is S.COMPLETED:
            return unseen(item, Outcome.NO_OP, "EndedBeforePause")
        if seen.row.status is S.PAUSED:
            return Settled(Outcome.EFFECTIVE, "Paused")
        if expired(item, now, self.timing.timeout):
            return unseen(item, Outcome.NO_OP, still(seen.row))
        return Ask(Verb.PAUSE) if _pause_again(item, seen.row, now, self.timing) else None

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning."""
        return self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """A pause stands alone."""
        return False


@dataclass(frozen=True, slots=True)
class Resume:
    """Done when it left the status it was in; with a deployment, when it is pinned to it.

    ``deployment`` is what the engine is asked for (``latest``, ``dp_...`` or None for keep); ``latest`` the deployment
    that must be seen then, by service: what ``latest`` meant when the run started.
    """

    timing: Timing
    statuses: frozenset[S]
    deployment: str | None = None
    latest: Mapping[str, str] | None = None
    begin_evidence: frozenset[Evidence] = _NONE

    @property
    def begins_by_plan(self) -> bool:
        """What tells that it moved is what it was like before: of a paused one when it last changed, of others more of
        the row than a plan keeps.
        """
        return self.deployment is None and self.statuses == {S.PAUSED}

    def evidence(self, item: Item) -> frozenset[Evidence]:
        """The time of its pause tells one that was resumed and paused again from one that never moved."""
        return frozenset({Evidence.PAUSES})

    def begin(self, planned: Planned, seen: Seen) -> Ask | Settled:
        """Ask what still waits; onto another deployment, pause first what backs off."""
        away = out_of_reach(planned, seen)
        if away is not None:
            return away
        assert seen.row is not None
        status = seen.row.status
        if status is S.COMPLETED:
            return skipped("Completed")
        if status not in self.statuses:
            moved_on = self.deployment is None and status in (S.RUNNING, S.READY)
            return Settled(Outcome.ALREADY_DONE, status.value) if moved_on else skipped("StatusChanged")
        if self.deployment is not None and status is S.BACKING_OFF:
            return Ask(Verb.PAUSE)
        return self._resume()

    def refused(self, item: Item, ask: Ask, refused: Refused) -> Settled | None:
        """A conflict may pass (it is not paused yet, or just ended); what is refused after our pause is left paused."""
        if refused.status in (404, 409) or ask.verb is Verb.PAUSE:
            return None
        return failed(refused, LEFT_PAUSED if self._paused_by_us(item) else None)

    def judge(self, item: Item, seen: Seen, now: float) -> Decision:
        """Settle what moved; carry a pause on to its resume."""
        if self.deployment is None and _only_refused(item):
            # It left its status before our call: that is not our doing.
            decision = self.begin(item.planned, seen)
            if isinstance(decision, Settled):
                return decision
        if seen.row is None or seen.born_again:
            return Settled(Outcome.EFFECTIVE, "Gone")
        row = seen.row
        if self.deployment is not None:
            return self._judge_move(item, seen, row, now)
        if moved(item, seen):
            return Settled(Outcome.EFFECTIVE, _where(item, row))
        if expired(item, now, self.timing.timeout):
            return unseen(item, Outcome.NO_OP, still(row))
        return self._resume() if self._again(item, now) else None

    def first_ask(self, item: Item, seen: Seen, ask: Ask) -> Ask | Settled:
        """As at the beginning, but for the resume that completes a pause of ours."""
        completes = ask.verb is Verb.RESUME and self._perhaps_pausing(item)
        return ask if completes else self.begin(item.planned, seen)

    def inseparable(self, item: Item) -> bool:
        """Paused by us and not resumed yet: nobody wants to find it so."""
        return self._paused_by_us(item)

    def _judge_move(self, item: Item, seen: Seen, row: InvocationRow, now: float) -> Decision:
        """Pause until it holds, resume onto the deployment, and see it pinned there."""
        if item.last is not None:
            pausing = item.last.verb is Verb.PAUSE
        else:
            pausing = row.status is S.PAUSED and self._perhaps_pausing(item)
        if row.status is S.COMPLETED:
            return skipped("Completed") if pausing else Settled(Outcome.EFFECTIVE, "Completed")
        if not pausing and self._pinned(item, row) and moved(item, seen):
            return Settled(Outcome.EFFECTIVE, _where(item, row))
        if expired(item, now, self.timing.timeout):
            if self._paused_by_us(item) and row.status is S.PAUSED:
                error = "the pause held, the resume onto the other deployment did not"
                return Settled(Outcome.FAILED, LEFT_PAUSED, error=error)
            return unseen(item, Outcome.NO_OP, still(row))
        if row.status in (S.PAUSED, S.SUSPENDED):
            return self._resume() if pausing or self._again(item, now) else None
        # Only where a pause is part of what was asked for: it must not come over what somebody else has set going.
        may_pause = S.BACKING_OFF in self.statuses and _pause_again(item, row, now, self.timing)
        return Ask(Verb.PAUSE) if may_pause else None

    def _resume(self) -> Ask:
        return Ask(Verb.RESUME, deployment=self.deployment)

    def _pinned(self, item: Item, row: InvocationRow) -> bool:
        if self.deployment != "latest":
            return row.pinned_deployment_id == self.deployment
        wanted = (self.latest or {}).get(row.service)
        if wanted is None or row.pinned_deployment_id == wanted:
            return True
        # Another one may have become the latest since the run started: what the resume itself has changed is it.
        before = item.before.row if item.before is not None else None
        return before is not None and row.pinned_deployment_id not in (None, before.pinned_deployment_id)

    def _again(self, item: Item, now: float) -> bool:
        wait = self.timing.settle_lost_after if item.lost else self.timing.ask_again_after
        return now - item.asked_at >= wait

    def _perhaps_pausing(self, item: Item) -> bool:
        """After a crash nobody knows how far it was: one that backed off may be paused by us by now."""
        return self.deployment is not None and item.last is None and item.planned.status is S.BACKING_OFF

    def _paused_by_us(self, item: Item) -> bool:
        if item.done:
            return item.done[-1] is Verb.PAUSE
        return item.lost and self._perhaps_pausing(item)


def _only_refused(item: Item) -> bool:
    """Whether the one call on ``item`` was refused: an earlier life that may have called would have been waited for."""
    return item.asks == 1 and not item.done and not item.lost


def _pause_again(item: Item, row: InvocationRow, now: float, timing: Timing) -> bool:
    """A pause is asked again while the invocation could take it: at once when its first one met it suspended."""
    return row.status in _PAUSABLE and now - item.asked_at >= timing.ask_again_after


def _where(item: Item, row: InvocationRow) -> str:
    return f"{row.status.value}Again" if row.status is item.planned.status else row.status.value
