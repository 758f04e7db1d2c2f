"""Each action as decisions: what is asked, and what is seen, becomes what outcome."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from invocation_operator.api.v1alpha1.action import ActionSpec, Outcome
from invocation_operator.api.v1alpha1.target import CompletionOutcome, InvocationStatus
from invocation_operator.plan.operation import operation_for
from invocation_operator.plan.operation.base import (
    CLOCK_MARGIN,
    Ask,
    Child,
    Evidence,
    Item,
    Operation,
    Refused,
    Seen,
    Settled,
    Signals,
    Verb,
)
from invocation_operator.plan.targets import Planned
from invocation_operator.target.row import InvocationRow

S = InvocationStatus
BORN = datetime(2026, 1, 1, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
ID = "inv_1"
LOST_AFTER = 12.0


def operation(action: str, **spec: Any) -> Operation:
    target = {"ids": [ID], **spec.pop("target", {})}
    parsed = ActionSpec.model_validate({"action": action, "target": target, **spec})
    return operation_for(parsed, settle_lost_after=LOST_AFTER, latest={"Svc": "dp_new"})


def row(status: S, **fields: Any) -> InvocationRow:
    return InvocationRow(ID, BORN, status, service="Svc", **{"modified_at": BORN, "journal_size": 3, **fields})


def ended(outcome: CompletionOutcome = CompletionOutcome.SUCCEEDED, **fields: Any) -> InvocationRow:
    return row(S.COMPLETED, outcome=outcome, **fields)


def item(status: S = S.SUSPENDED, *asked: Verb, **fields: Any) -> Item:
    """An item that was asked ``asked`` at second 0, the last of them accepted too."""
    made = Item(0, Planned(ID, BORN, status, "Svc/h"), before=Seen(row(status)), intended_time=BORN)
    made.asks = len(asked)
    made.done = list(asked)
    made.last = Ask(asked[-1]) if asked else None
    for name, value in fields.items():
        setattr(made, name, value)
    return made


PLANNED = Planned(ID, BORN, S.SUSPENDED, "Svc/h")
BORN_AGAIN = Seen(None, born_again=True)
GONE = Seen(None)
SIGNALLED = Signals(1)
EARLIER = Signals(1, last_at=BORN - CLOCK_MARGIN - timedelta(milliseconds=1))
REFUSED_RESUME = item(S.PAUSED, Verb.RESUME, done=[])


# begin


@pytest.mark.parametrize(
    ("action", "spec", "seen", "expected"),
    [
        # Cancel
        ("Cancel", {}, Seen(row(S.SUSPENDED), signals=Signals(0)), Ask(Verb.CANCEL)),
        ("Cancel", {}, Seen(row(S.SCHEDULED), signals=Signals(None)), Ask(Verb.CANCEL)),  # it has no journal
        ("Cancel", {}, Seen(row(S.PAUSED), signals=Signals(0)), Ask(Verb.CANCEL)),  # which resumes it
        ("Cancel", {}, Seen(row(S.SUSPENDED), signals=SIGNALLED), Settled(Outcome.SKIPPED, "CancelPending")),
        (
            "Cancel",
            {},
            Seen(row(S.SUSPENDED), signals=Signals(2, reacted=True)),
            Settled(Outcome.SKIPPED, "CancelPending"),
        ),
        ("Cancel", {}, GONE, Settled(Outcome.ALREADY_DONE, "Gone")),
        ("Cancel", {}, Seen(ended()), Settled(Outcome.ALREADY_DONE, "Succeeded")),
        ("Cancel", {}, Seen(ended(CompletionOutcome.CANCELLED)), Settled(Outcome.ALREADY_DONE, "Cancelled")),
        ("Cancel", {}, BORN_AGAIN, Settled(Outcome.SKIPPED, "BornAgain")),  # somebody else's
        (
            "Cancel",
            {"target": {"statuses": ["Paused"]}},
            Seen(row(S.RUNNING)),
            Settled(Outcome.SKIPPED, "StatusChanged"),
        ),
        # Kill
        ("Kill", {}, Seen(row(S.RUNNING)), Ask(Verb.KILL)),
        ("Kill", {}, GONE, Settled(Outcome.ALREADY_DONE, "Gone")),
        ("Kill", {}, Seen(ended(CompletionOutcome.KILLED)), Settled(Outcome.ALREADY_DONE, "Killed")),
        ("Kill", {}, BORN_AGAIN, Settled(Outcome.SKIPPED, "BornAgain")),
        ("Kill", {"target": {"statuses": ["Paused"]}}, Seen(row(S.RUNNING)), Settled(Outcome.SKIPPED, "StatusChanged")),
        # Pause
        ("Pause", {}, Seen(row(S.RUNNING)), Ask(Verb.PAUSE)),
        ("Pause", {}, Seen(row(S.BACKING_OFF)), Ask(Verb.PAUSE)),
        ("Pause", {}, Seen(row(S.PAUSED)), Settled(Outcome.ALREADY_DONE, "Paused")),
        ("Pause", {}, Seen(row(S.SUSPENDED)), Settled(Outcome.SKIPPED, "StatusChanged")),  # not among the default ones
        ("Pause", {"target": {"statuses": ["Suspended"]}}, Seen(row(S.SUSPENDED)), Ask(Verb.PAUSE)),
        ("Pause", {}, Seen(ended()), Settled(Outcome.SKIPPED, "Completed")),
        ("Pause", {}, GONE, Settled(Outcome.SKIPPED, "Gone")),
        ("Pause", {}, BORN_AGAIN, Settled(Outcome.SKIPPED, "BornAgain")),
        # Resume
        ("Resume", {}, Seen(row(S.PAUSED)), Ask(Verb.RESUME)),
        ("Resume", {}, Seen(row(S.RUNNING)), Settled(Outcome.ALREADY_DONE, "Running")),
        ("Resume", {}, Seen(row(S.SUSPENDED)), Settled(Outcome.SKIPPED, "StatusChanged")),
        ("Resume", {}, Seen(ended()), Settled(Outcome.SKIPPED, "Completed")),
        ("Resume", {}, GONE, Settled(Outcome.SKIPPED, "Gone")),
        ("Resume", {"resume": {"deployment": "Latest"}}, Seen(row(S.PAUSED)), Ask(Verb.RESUME, deployment="latest")),
        ("Resume", {"resume": {"deployment": "dp_x"}}, Seen(row(S.PAUSED)), Ask(Verb.RESUME, deployment="dp_x")),
        (
            "Resume",
            {"resume": {"deployment": "Latest"}, "target": {"statuses": ["BackingOff"]}},
            Seen(row(S.BACKING_OFF)),
            Ask(Verb.PAUSE),  # the engine refuses another deployment while it backs off
        ),
        ("Resume", {"target": {"statuses": ["BackingOff"]}}, Seen(row(S.BACKING_OFF)), Ask(Verb.RESUME)),
        (
            "Resume",
            {"resume": {"deployment": "Latest"}},
            Seen(row(S.RUNNING)),
            Settled(Outcome.SKIPPED, "StatusChanged"),  # it runs, but where is not what was asked for
        ),
        # Purge and PurgeJournal
        ("Purge", {}, Seen(ended()), Ask(Verb.PURGE)),
        ("Purge", {}, GONE, Settled(Outcome.ALREADY_DONE, "Gone")),
        ("Purge", {}, Seen(row(S.RUNNING)), Settled(Outcome.SKIPPED, "NotCompleted")),
        ("Purge", {}, Seen(ended(journal_size=0)), Ask(Verb.PURGE)),
        ("Purge", {}, BORN_AGAIN, Settled(Outcome.SKIPPED, "BornAgain")),
        ("PurgeJournal", {}, Seen(ended()), Ask(Verb.PURGE_JOURNAL)),
        ("PurgeJournal", {}, Seen(ended(journal_size=0)), Settled(Outcome.ALREADY_DONE, "JournalPurged")),
        # RestartAsNew
        ("RestartAsNew", {}, Seen(ended()), Ask(Verb.RESTART_AS_NEW)),
        ("RestartAsNew", {}, Seen(ended(journal_size=0)), Settled(Outcome.SKIPPED, "JournalPurged")),
        ("RestartAsNew", {}, Seen(ended(service_type="workflow")), Settled(Outcome.SKIPPED, "WorkflowNotRestartable")),
        ("RestartAsNew", {}, Seen(row(S.RUNNING)), Settled(Outcome.SKIPPED, "NotCompleted")),
        ("RestartAsNew", {}, GONE, Settled(Outcome.SKIPPED, "Gone")),
        ("RestartAsNew", {}, BORN_AGAIN, Settled(Outcome.SKIPPED, "BornAgain")),
        (
            "RestartAsNew",
            {},
            Seen(ended(), children=(Child("inv_2", BORN),)),
            Settled(Outcome.SKIPPED, "AlreadyRestarted"),
        ),
        (
            "RestartAsNew",
            {"restart": {"allowRepeated": True, "fromEntry": 2, "deployment": "Keep"}},
            Seen(ended(), children=(Child("inv_2", BORN),)),
            Ask(Verb.RESTART_AS_NEW, deployment="keep", from_entry=2),
        ),
    ],
)
def test_operation_before_the_first_call_asks_or_settles(
    action: str, spec: dict[str, Any], seen: Seen, expected: Ask | Settled
) -> None:
    assert operation(action, **spec).begin(PLANNED, seen) == expected


# judge

BEFORE, IN_TIME, LATE = 0.1, 8.0, 301.0
"""Seconds after the first call: too early for anything, time to ask again, past the default timeout of 5 m."""
ESCALATING = {"escalation": {"killAfter": "5s"}}
REPEATING = {"verification": {"repeat": "WhenUnchanged", "repeatAfter": "5s"}}
MOVING = {"resume": {"deployment": "Latest"}}
ON_OLD = Seen(row(S.PAUSED, pinned_deployment_id="dp_old"))


@pytest.mark.parametrize(
    ("action", "spec", "asked", "seen", "now", "expected"),
    [
        # A cancel is judged by how the invocation ended.
        ("Cancel", {}, item(S.SUSPENDED, Verb.CANCEL), GONE, BEFORE, Settled(Outcome.EFFECTIVE, "Gone")),
        ("Cancel", {}, item(S.SCHEDULED, Verb.CANCEL), BORN_AGAIN, BEFORE, Settled(Outcome.EFFECTIVE, "Gone")),
        (
            "Cancel",
            {},
            item(S.SUSPENDED, Verb.CANCEL),
            Seen(ended(CompletionOutcome.CANCELLED)),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Cancelled"),
        ),
        (
            "Cancel",
            {},
            item(S.SUSPENDED, Verb.CANCEL),
            Seen(ended(CompletionOutcome.FAILED)),  # its own way
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Failed"),
        ),
        # It is never sent twice by itself.
        ("Cancel", {}, item(S.SUSPENDED, Verb.CANCEL), Seen(row(S.SUSPENDED)), IN_TIME, None),
        (
            "Cancel",
            {},
            item(S.SUSPENDED, Verb.CANCEL),
            Seen(row(S.SUSPENDED)),
            LATE,
            Settled(Outcome.UNVERIFIED, "StillSuspended"),
        ),
        # A repeat needs silence: no entry after the cancel, and nothing that runs.
        ("Cancel", REPEATING, item(S.SUSPENDED, Verb.CANCEL), Seen(row(S.SUSPENDED), signals=SIGNALLED), BEFORE, None),
        (
            "Cancel",
            REPEATING,
            item(S.SUSPENDED, Verb.CANCEL),
            Seen(row(S.SUSPENDED), signals=SIGNALLED),
            IN_TIME,
            Ask(Verb.CANCEL),
        ),
        (
            "Cancel",
            REPEATING,
            item(S.SUSPENDED, Verb.CANCEL),
            Seen(row(S.SUSPENDED), signals=Signals(1, reacted=True)),
            IN_TIME,
            None,
        ),
        ("Cancel", REPEATING, item(S.SUSPENDED, Verb.CANCEL), Seen(row(S.RUNNING), signals=SIGNALLED), IN_TIME, None),
        ("Cancel", REPEATING, item(S.SUSPENDED, Verb.CANCEL), Seen(row(S.SUSPENDED)), IN_TIME, None),  # unknown
        # Expedite resumes once what waits for a retry.
        (
            "Cancel",
            {"expedite": True},
            item(S.BACKING_OFF, Verb.CANCEL),
            Seen(row(S.BACKING_OFF)),
            BEFORE,
            Ask(Verb.RESUME),
        ),
        (
            "Cancel",
            {"expedite": True},
            item(S.BACKING_OFF, Verb.CANCEL, Verb.RESUME),
            Seen(row(S.BACKING_OFF)),
            BEFORE,
            None,
        ),
        ("Cancel", {}, item(S.BACKING_OFF, Verb.CANCEL), Seen(row(S.BACKING_OFF)), BEFORE, None),
        # Escalation kills what outlives it, and says whose end it was.
        ("Cancel", ESCALATING, item(S.SUSPENDED, Verb.CANCEL), Seen(row(S.SUSPENDED)), BEFORE, None),
        ("Cancel", ESCALATING, item(S.SUSPENDED, Verb.CANCEL), Seen(row(S.SUSPENDED)), IN_TIME, Ask(Verb.KILL)),
        (
            "Cancel",
            ESCALATING,
            item(S.SUSPENDED, Verb.CANCEL, Verb.KILL),
            Seen(ended(CompletionOutcome.KILLED)),
            IN_TIME,
            Settled(Outcome.ESCALATED, "Killed"),
        ),
        (
            "Cancel",
            ESCALATING,
            item(S.SUSPENDED, Verb.CANCEL, Verb.KILL),
            Seen(ended(CompletionOutcome.CANCELLED)),  # the cancel was faster after all
            IN_TIME,
            Settled(Outcome.EFFECTIVE, "Cancelled"),
        ),
        (
            "Cancel",
            ESCALATING,
            item(S.SUSPENDED, Verb.CANCEL),
            Seen(row(S.SUSPENDED)),
            LATE,
            Settled(Outcome.UNVERIFIED, "StillSuspended"),  # too late to see a kill
        ),
        # After a lost answer the journal tells whether the cancel arrived.
        ("Cancel", {}, item(S.SUSPENDED, lost=True), Seen(row(S.SUSPENDED), signals=SIGNALLED), BEFORE, None),
        ("Cancel", {}, item(S.SUSPENDED, lost=True), Seen(row(S.SUSPENDED), signals=Signals(0)), IN_TIME, None),
        (
            "Cancel",
            {},
            item(S.SUSPENDED, lost=True),
            Seen(row(S.SUSPENDED), signals=Signals(0)),
            LOST_AFTER,
            Ask(Verb.CANCEL),
        ),
        ("Cancel", {}, item(S.SUSPENDED, lost=True), Seen(row(S.SUSPENDED), signals=Signals(None)), LOST_AFTER, None),
        ("Cancel", {}, item(S.SCHEDULED, lost=True), Seen(row(S.SCHEDULED)), LOST_AFTER, Ask(Verb.CANCEL)),
        (
            "Cancel",
            {},
            item(S.SUSPENDED, lost=True),
            Seen(row(S.SUSPENDED), signals=Signals(None)),
            LATE,
            Settled(Outcome.AMBIGUOUS, "StillSuspended"),
        ),
        (
            "Cancel",
            {},
            item(S.SUSPENDED, lost=True),
            Seen(row(S.SUSPENDED), signals=SIGNALLED),
            LATE,
            Settled(Outcome.UNVERIFIED, "StillSuspended"),  # its signal shows that it was asked
        ),
        # Nobody knows whether a kill was sent: the answer was lost, or whoever sent it is gone.
        (
            "Cancel",
            ESCALATING,
            item(S.RUNNING, Verb.CANCEL, last=Ask(Verb.KILL), lost=True),
            Seen(ended(CompletionOutcome.KILLED)),
            IN_TIME,
            Settled(Outcome.ESCALATED, "Killed"),
        ),
        (
            "Cancel",
            ESCALATING,
            item(S.RUNNING, Verb.CANCEL, last=Ask(Verb.KILL), lost=True),
            Seen(ended(CompletionOutcome.CANCELLED)),
            IN_TIME,
            Settled(Outcome.EFFECTIVE, "Cancelled"),
        ),
        (
            "Cancel",
            ESCALATING,
            item(lost=True, before=None),
            Seen(ended(CompletionOutcome.KILLED, modified_at=BORN + 6 * A_SECOND)),
            IN_TIME,
            Settled(Outcome.ESCALATED, "Killed"),
        ),
        (
            "Cancel",
            {"escalation": {"killAfter": "60s"}},
            item(lost=True, before=None),
            Seen(ended(CompletionOutcome.KILLED, modified_at=BORN + 6 * A_SECOND)),
            IN_TIME,
            Settled(Outcome.EFFECTIVE, "Killed"),  # ours was not due: somebody else's
        ),
        (
            "Cancel",
            {},
            item(lost=True, before=None),
            Seen(ended(CompletionOutcome.KILLED, modified_at=BORN + 6 * A_SECOND)),
            IN_TIME,
            Settled(Outcome.EFFECTIVE, "Killed"),  # none of ours
        ),
        # After a crash, one that was there before the run is somebody else's; ours would have come after it.
        ("Cancel", ESCALATING, item(lost=True, before=None), Seen(row(S.SUSPENDED), signals=EARLIER), IN_TIME, None),
        (
            "Cancel",
            ESCALATING,
            item(lost=True, before=None),
            Seen(row(S.SUSPENDED), signals=EARLIER),
            LOST_AFTER,
            Settled(Outcome.SKIPPED, "CancelPending"),
        ),
        (
            "Cancel",
            ESCALATING,
            item(lost=True, before=None),
            Seen(row(S.SUSPENDED), signals=Signals(2, last_at=BORN - CLOCK_MARGIN)),
            LOST_AFTER,
            Ask(Verb.KILL),
        ),
        # A kill is repeated while the same invocation lives.
        ("Kill", {}, item(S.RUNNING, Verb.KILL), Seen(row(S.RUNNING)), BEFORE, None),
        ("Kill", {}, item(S.RUNNING, Verb.KILL), Seen(row(S.RUNNING)), IN_TIME, Ask(Verb.KILL)),
        (
            "Kill",
            {},
            item(S.RUNNING, Verb.KILL),
            Seen(row(S.RUNNING)),
            LATE,
            Settled(Outcome.UNVERIFIED, "StillRunning"),
        ),
        ("Kill", {}, item(S.SCHEDULED, Verb.KILL), BORN_AGAIN, BEFORE, Settled(Outcome.EFFECTIVE, "Gone")),
        (
            "Kill",
            {},
            item(S.RUNNING, Verb.KILL),
            Seen(ended()),  # it was faster
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Succeeded"),
        ),
        # Only the status Paused proves a pause.
        ("Pause", {}, item(S.RUNNING, Verb.PAUSE), Seen(row(S.PAUSED)), BEFORE, Settled(Outcome.EFFECTIVE, "Paused")),
        ("Pause", {}, item(S.RUNNING, Verb.PAUSE), Seen(row(S.RUNNING)), BEFORE, None),
        ("Pause", {}, item(S.READY, Verb.PAUSE), Seen(row(S.READY)), IN_TIME, Ask(Verb.PAUSE)),  # it may be lost
        ("Pause", {}, item(S.SUSPENDED, Verb.PAUSE), Seen(row(S.SUSPENDED)), IN_TIME, None),  # it would do nothing
        ("Pause", {}, item(S.SUSPENDED, Verb.PAUSE), Seen(row(S.RUNNING)), IN_TIME, Ask(Verb.PAUSE)),
        (
            "Pause",
            {},
            item(S.SUSPENDED, Verb.PAUSE),
            Seen(row(S.SUSPENDED)),
            LATE,
            Settled(Outcome.NO_OP, "StillSuspended"),
        ),
        ("Pause", {}, item(S.RUNNING, Verb.PAUSE), Seen(ended()), BEFORE, Settled(Outcome.NO_OP, "EndedBeforePause")),
        ("Pause", {}, item(S.RUNNING, Verb.PAUSE), GONE, BEFORE, Settled(Outcome.NO_OP, "EndedBeforePause")),
        # What an earlier life may have asked, and this one had no time to ask again, is not told as asked.
        *(
            (action, {}, item(status, lost=True), Seen(row(status)), LATE, Settled(Outcome.AMBIGUOUS, f"Still{status}"))
            for action, status in (
                ("Kill", S.RUNNING),
                ("Pause", S.RUNNING),
                ("Resume", S.PAUSED),
                ("Purge", S.COMPLETED),
                ("PurgeJournal", S.COMPLETED),
            )
        ),
        ("Pause", {}, item(S.RUNNING, lost=True), Seen(ended()), LATE, Settled(Outcome.AMBIGUOUS, "EndedBeforePause")),
        ("Resume", MOVING, item(lost=True), Seen(row(S.SUSPENDED)), LATE, Settled(Outcome.AMBIGUOUS, "StillSuspended")),
        # A resume has worked when it left the status it was in.
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME),
            Seen(row(S.RUNNING)),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Running"),
        ),
        ("Resume", {}, item(S.PAUSED, Verb.RESUME), GONE, BEFORE, Settled(Outcome.EFFECTIVE, "Gone")),
        ("Resume", {}, item(S.PAUSED, Verb.RESUME), Seen(row(S.PAUSED)), BEFORE, None),
        # Its only call was refused: that it moved is not our doing.
        ("Resume", {}, REFUSED_RESUME, Seen(ended()), BEFORE, Settled(Outcome.SKIPPED, "Completed")),
        ("Resume", {}, REFUSED_RESUME, Seen(row(S.RUNNING)), BEFORE, Settled(Outcome.ALREADY_DONE, "Running")),
        ("Resume", {}, REFUSED_RESUME, GONE, BEFORE, Settled(Outcome.SKIPPED, "Gone")),
        ("Resume", {}, REFUSED_RESUME, Seen(row(S.PAUSED)), BEFORE, None),
        ("Resume", {}, REFUSED_RESUME, Seen(row(S.PAUSED)), IN_TIME, Ask(Verb.RESUME)),
        ("Resume", {}, item(S.PAUSED, Verb.RESUME), Seen(row(S.PAUSED)), IN_TIME, Ask(Verb.RESUME)),
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME),
            Seen(row(S.PAUSED)),
            LATE,
            Settled(Outcome.NO_OP, "StillPaused"),
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME, before=Seen(row(S.PAUSED, modified_at=BORN - A_SECOND))),
            Seen(row(S.PAUSED), paused_at=BORN + A_SECOND),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "PausedAgain"),
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME, before=Seen(row(S.PAUSED, modified_at=BORN - A_SECOND))),
            Seen(row(S.PAUSED, modified_at=BORN + A_SECOND), paused_at=BORN - A_SECOND),
            BEFORE,
            None,  # a timer that fires changes a paused one too
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME, before=Seen(row(S.PAUSED, modified_at=BORN + A_SECOND))),
            Seen(row(S.PAUSED), paused_at=BORN + A_SECOND),
            BEFORE,
            None,  # somebody else resumed it after our intent and before our call, and it was paused again
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME, before=Seen(row(S.PAUSED, modified_at=BORN - 2 * A_SECOND))),
            Seen(row(S.PAUSED), paused_at=BORN - A_SECOND),
            BEFORE,
            None,  # dated by another of the engine's clocks than its last change: then the intent tells
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, Verb.RESUME, before=Seen(row(S.PAUSED, modified_at=None)), intended_time=None),
            Seen(row(S.PAUSED), paused_at=BORN + A_SECOND),
            BEFORE,
            None,  # nothing is known that it could be younger than
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, before=None, lost=True),
            Seen(row(S.PAUSED), paused_at=BORN + A_SECOND),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "PausedAgain"),  # after a crash: paused after our intent
        ),
        (
            "Resume",
            {},
            item(S.PAUSED, before=None, lost=True),
            Seen(row(S.PAUSED), paused_at=BORN - A_SECOND),
            BEFORE,
            None,  # and before it
        ),
        (
            "Resume",
            {"target": {"statuses": ["BackingOff"]}},
            item(S.BACKING_OFF, Verb.RESUME, before=Seen(row(S.BACKING_OFF, retry_count=2))),
            Seen(row(S.BACKING_OFF, retry_count=3)),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "BackingOffAgain"),
        ),
        # Onto another deployment: pause, see it paused, resume, see it pinned there.
        ("Resume", MOVING, item(S.BACKING_OFF, Verb.PAUSE), Seen(row(S.BACKING_OFF)), BEFORE, None),
        ("Resume", MOVING, item(S.BACKING_OFF, Verb.PAUSE), Seen(row(S.RUNNING)), IN_TIME, Ask(Verb.PAUSE)),
        (
            "Resume",
            MOVING,
            item(S.BACKING_OFF, Verb.PAUSE),
            Seen(row(S.PAUSED)),
            BEFORE,
            Ask(Verb.RESUME, deployment="latest"),
        ),
        (
            "Resume",
            MOVING,
            item(S.BACKING_OFF, Verb.PAUSE),
            Seen(row(S.PAUSED)),
            LATE,
            Settled(
                Outcome.FAILED,
                "LeftPaused",
                error="the pause held, the resume onto the other deployment did not",
            ),
        ),
        (
            "Resume",
            MOVING,
            item(S.BACKING_OFF, Verb.PAUSE, Verb.RESUME, before=Seen(row(S.PAUSED))),
            Seen(row(S.RUNNING, pinned_deployment_id="dp_new")),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Running"),
        ),
        (
            "Resume",
            MOVING,
            item(S.PAUSED, Verb.RESUME, before=ON_OLD),
            Seen(row(S.RUNNING, pinned_deployment_id="dp_old")),
            BEFORE,
            None,  # it runs, and not yet where it should
        ),
        (
            "Resume",
            {**MOVING, "target": {"statuses": ["Paused"]}},
            item(S.PAUSED, Verb.RESUME, before=ON_OLD),
            Seen(row(S.RUNNING, pinned_deployment_id="dp_old")),
            IN_TIME,
            None,  # somebody else set it going; a pause is not what was asked for
        ),
        (
            "Resume",
            MOVING,
            item(S.PAUSED, Verb.RESUME, before=ON_OLD),
            Seen(row(S.RUNNING, pinned_deployment_id="dp_newer")),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Running"),  # deployed after the run had started: that is the latest now
        ),
        (
            "Resume",
            {"resume": {"deployment": "dp_new"}},
            item(S.PAUSED, Verb.RESUME, before=ON_OLD),
            Seen(row(S.RUNNING, pinned_deployment_id="dp_newer")),
            BEFORE,
            None,  # the one that was named, and no other
        ),
        (
            "Resume",
            MOVING,
            item(S.PAUSED, Verb.RESUME, before=ON_OLD),
            Seen(row(S.RUNNING, pinned_deployment_id="dp_old")),
            LATE,
            Settled(Outcome.NO_OP, "StillRunning"),
        ),
        (
            "Resume",
            MOVING,
            item(S.BACKING_OFF, Verb.PAUSE),
            Seen(ended()),  # it ended before the pause
            BEFORE,
            Settled(Outcome.SKIPPED, "Completed"),
        ),
        # A purge is proved by absence, or by a younger invocation under the id.
        ("Purge", {}, item(S.COMPLETED, Verb.PURGE), GONE, BEFORE, Settled(Outcome.EFFECTIVE, "Purged")),
        ("Purge", {}, item(S.COMPLETED, Verb.PURGE), BORN_AGAIN, BEFORE, Settled(Outcome.EFFECTIVE, "Purged")),
        ("Purge", {}, item(S.COMPLETED, Verb.PURGE), Seen(ended()), BEFORE, None),
        ("Purge", {}, item(S.COMPLETED, Verb.PURGE), Seen(ended()), IN_TIME, Ask(Verb.PURGE)),
        (
            "Purge",
            {},
            item(S.COMPLETED, Verb.PURGE),
            Seen(ended()),
            LATE,
            Settled(Outcome.UNVERIFIED, "StillCompleted"),
        ),
        (
            "PurgeJournal",
            {},
            item(S.COMPLETED, Verb.PURGE_JOURNAL),
            Seen(ended(journal_size=0)),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "JournalPurged"),
        ),
        ("PurgeJournal", {}, item(S.COMPLETED, Verb.PURGE_JOURNAL), Seen(ended()), BEFORE, None),
        ("PurgeJournal", {}, item(S.COMPLETED, Verb.PURGE_JOURNAL), GONE, BEFORE, Settled(Outcome.EFFECTIVE, "Gone")),
        # A restart is proved by the new row; without an answer by what the engine recorded.
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, Verb.RESTART_AS_NEW, new_id="inv_2"),
            Seen(ended(), new_is_there=True),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Restarted", new_id="inv_2"),
        ),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW, new_id="inv_2"), Seen(ended()), BEFORE, None),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, Verb.RESTART_AS_NEW, new_id="inv_2"),
            Seen(ended()),
            LATE,
            Settled(Outcome.UNVERIFIED, "NewInvocationNotSeen", new_id="inv_2"),
        ),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True),
            Seen(ended(), children=(Child("inv_3", BORN + timedelta(seconds=2)), Child("inv_2", BORN))),
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Restarted", new_id="inv_2"),  # the oldest since the intent
        ),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True, before=None),
            Seen(ended(), children=(Child("inv_2", BORN - timedelta(seconds=10)),)),  # somebody else's
            BEFORE,
            None,
        ),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True, before=None),
            Seen(ended(), children=(Child("inv_2", BORN - timedelta(seconds=1)),)),  # the clocks of two nodes
            BEFORE,
            Settled(Outcome.EFFECTIVE, "Restarted", new_id="inv_2"),
        ),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True),
            Seen(ended()),
            LOST_AFTER,
            Ask(Verb.RESTART_AS_NEW),  # it can no longer arrive
        ),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True),
            GONE,
            LOST_AFTER,
            Settled(Outcome.AMBIGUOUS, "OriginalGone"),
        ),
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True),
            Seen(ended()),
            LATE,
            Settled(Outcome.AMBIGUOUS, "NoTraceOfRestart"),
        ),
    ],
)
def test_operation_after_a_call_judges_by_what_is_seen(
    action: str, spec: dict[str, Any], asked: Item, seen: Seen, now: float, expected: object
) -> None:
    statuses = {"target": {"statuses": ["BackingOff", "Paused"]}} if spec is MOVING else {}
    assert operation(action, **{**spec, **statuses}).judge(asked, seen, now) == expected


# refused


@pytest.mark.parametrize(
    ("action", "spec", "asked", "status", "expected"),
    [
        ("Cancel", {}, item(S.SUSPENDED, Verb.CANCEL), 404, (Outcome.ALREADY_DONE, "Gone")),
        ("Cancel", {}, item(S.SUSPENDED, Verb.CANCEL), 409, (Outcome.ALREADY_DONE, "Completed")),
        ("Cancel", {}, item(S.SUSPENDED, Verb.CANCEL), 400, (Outcome.FAILED, "Invalid")),
        ("Cancel", ESCALATING, item(S.SUSPENDED, Verb.CANCEL, Verb.KILL), 409, None),  # the next look judges
        ("Kill", {}, item(S.SUSPENDED, Verb.KILL), 409, (Outcome.ALREADY_DONE, "Completed")),
        ("Pause", {}, item(S.RUNNING, Verb.PAUSE), 409, None),
        ("Pause", {}, item(S.RUNNING, Verb.PAUSE), 400, (Outcome.FAILED, "Invalid")),
        ("Resume", {}, item(S.PAUSED, Verb.RESUME), 409, None),
        ("Resume", {}, item(S.PAUSED, Verb.RESUME), 425, (Outcome.FAILED, "NotReady")),
        ("Resume", MOVING, item(S.BACKING_OFF, Verb.PAUSE), 409, None),
        ("Purge", {}, item(S.COMPLETED, Verb.PURGE), 404, (Outcome.ALREADY_DONE, "Gone")),
        ("Purge", {}, item(S.COMPLETED, Verb.PURGE), 409, (Outcome.SKIPPED, "NotCompleted")),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW), 404, (Outcome.SKIPPED, "Gone")),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW), 409, (Outcome.SKIPPED, "NotCompleted")),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW), 410, (Outcome.SKIPPED, "JournalPurged")),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW), 422, (Outcome.SKIPPED, "WorkflowNotRestartable")),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW), 400, (Outcome.FAILED, "Invalid")),
    ],
)
def test_operation_that_the_engine_refuses_settles_or_looks_again(
    action: str, spec: dict[str, Any], asked: Item, status: int, expected: tuple[Outcome, str] | None
) -> None:
    assert asked.last is not None
    found = operation(action, **spec).refused(asked, asked.last, Refused(status, "no"))
    assert (None if found is None else (found.outcome, found.reason)) == expected


def test_operation_refused_after_its_own_pause_says_that_it_left_it_paused() -> None:
    asked = item(S.BACKING_OFF, Verb.PAUSE, last=Ask(Verb.RESUME, deployment="dp_x"))
    found = operation("Resume", resume={"deployment": "dp_x"}).refused(
        asked, asked.last or Ask(Verb.RESUME), Refused(400, "no")
    )
    assert found == Settled(Outcome.FAILED, "LeftPaused", error="no")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (item(S.BACKING_OFF), False),  # nothing was done yet
        (item(S.BACKING_OFF, Verb.PAUSE), True),  # nobody wants to find it paused
        (item(S.BACKING_OFF, Verb.PAUSE, Verb.RESUME), False),
        (item(S.BACKING_OFF, Verb.PAUSE, Verb.RESUME, Verb.PAUSE), True),  # it had to be paused once more
        (item(S.PAUSED, Verb.RESUME), False),
    ],
)
def test_operation_on_the_way_to_another_deployment_is_inseparable_while_paused(asked: Item, expected: bool) -> None:
    assert operation("Resume", **MOVING).inseparable(asked) is expected


@pytest.mark.parametrize("action", ["Cancel", "Kill", "Pause", "Purge", "PurgeJournal", "RestartAsNew"])
def test_operation_of_one_call_is_never_inseparable(action: str) -> None:
    assert not operation(action).inseparable(item(S.RUNNING, Verb.PAUSE))


# evidence


@pytest.mark.parametrize(
    ("action", "spec", "asked", "expected"),
    [
        ("Cancel", {}, item(S.SUSPENDED, Verb.CANCEL), set()),  # one query less in each look
        ("Cancel", REPEATING, item(S.SUSPENDED, Verb.CANCEL), {Evidence.SIGNALS}),
        ("Cancel", {}, item(S.SUSPENDED, lost=True), {Evidence.SIGNALS}),
        ("Kill", {}, item(S.SUSPENDED, lost=True), set()),
        ("Resume", {}, item(S.PAUSED, Verb.RESUME), {Evidence.PAUSES}),
        ("RestartAsNew", {}, item(S.COMPLETED, lost=True), {Evidence.CHILDREN}),
        ("RestartAsNew", {}, item(S.COMPLETED, Verb.RESTART_AS_NEW, new_id="inv_2"), {Evidence.NEW}),
    ],
)
def test_operation_asks_for_no_more_evidence_than_it_needs(
    action: str, spec: dict[str, Any], asked: Item, expected: set[Evidence]
) -> None:
    assert operation(action, **spec).evidence(asked) == expected


def test_operation_with_a_deadline_between_two_looks_never_kills_when_it_cannot_be_seen() -> None:
    escalating = operation("Cancel", escalation={"killAfter": "5s"}, verification={"timeout": "6s"})
    asked = item(S.SUSPENDED, Verb.CANCEL)
    assert escalating.judge(asked, Seen(row(S.SUSPENDED)), 5.5) == Ask(Verb.KILL)
    assert escalating.judge(asked, Seen(row(S.SUSPENDED)), 6.5) == Settled(Outcome.UNVERIFIED, "StillSuspended")


def test_operation_that_lost_its_kill_asks_for_it_again() -> None:
    asked = replace(item(S.SUSPENDED, Verb.CANCEL), last=Ask(Verb.KILL), lost=True, asked_at=10.0)
    escalating = operation("Cancel", **ESCALATING)
    assert escalating.judge(asked, Seen(row(S.SUSPENDED), signals=SIGNALLED), 11.0) == Ask(Verb.KILL)


@pytest.mark.parametrize(
    ("action", "spec", "found", "seen", "ask", "expected"),
    [
        # What `begin` would not ask is not asked either when only the intent survived a crash.
        (
            "RestartAsNew",
            {},
            item(S.COMPLETED, lost=True, before=None),
            Seen(ended(), children=(Child("inv_2", BORN - timedelta(hours=1)),)),
            Ask(Verb.RESTART_AS_NEW),
            Settled(Outcome.SKIPPED, "AlreadyRestarted"),
        ),
        (
            "Kill",
            {"target": {"statuses": ["Paused"]}},
            item(S.PAUSED, lost=True, before=None),
            Seen(row(S.RUNNING)),
            Ask(Verb.KILL),
            Settled(Outcome.SKIPPED, "StatusChanged"),
        ),
        ("Kill", {}, item(lost=True, before=None), Seen(row(S.RUNNING)), Ask(Verb.KILL), Ask(Verb.KILL)),
        (
            "Cancel",
            {"escalation": {"killAfter": "1s"}},
            item(lost=True, before=None),
            Seen(row(S.RUNNING), signals=Signals(1)),
            Ask(Verb.KILL),
            Ask(Verb.KILL),  # the cancel arrived: this is what follows it
        ),
        (
            "Cancel",
            REPEATING,
            item(lost=True, before=None),
            Seen(row(S.SUSPENDED), signals=Signals(1)),
            Ask(Verb.CANCEL),
            Ask(Verb.CANCEL),  # it arrived, nothing reacted, and a repeat was asked for: not somebody else's cancel
        ),
        (
            "Resume",
            {**MOVING, "target": {"statuses": ["BackingOff"]}},
            item(S.BACKING_OFF, lost=True, before=None),
            Seen(row(S.PAUSED)),
            Ask(Verb.RESUME, deployment="dp_new"),
            Ask(Verb.RESUME, deployment="dp_new"),  # it may be our own pause: nobody wants it left so
        ),
    ],
)
def test_operation_after_a_crash_asks_for_the_first_time_only_what_it_would_begin(
    action: str, spec: dict[str, Any], found: Item, seen: Seen, ask: Ask, expected: Ask | Settled
) -> None:
    assert operation(action, **spec).first_ask(found, seen, ask) == expected


def test_operation_cancel_without_an_answer_ends_at_its_timeout() -> None:
    found = item(lost=True, before=None)
    seen = Seen(row(S.RUNNING), signals=Signals(0))
    assert operation("Cancel").judge(found, seen, 3600.0) == Settled(Outcome.AMBIGUOUS, "StillRunning")


def test_operation_move_found_paused_and_pinned_after_a_crash_is_resumed() -> None:
    found = item(S.BACKING_OFF, lost=True, before=None)
    seen = Seen(row(S.PAUSED, pinned_deployment_id="dp_new"))
    moving = operation("Resume", **MOVING, target={"statuses": ["BackingOff"]})
    assert moving.judge(found, seen, 1.0) == Ask(Verb.RESUME, deployment=MOVING["resume"]["deployment"].lower())
    assert moving.inseparable(found)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(ended(pinned_deployment_id="dp_new")), "Completed"),
        (Seen(row(S.RUNNING, pinned_deployment_id="dp_new")), "Running"),
    ],
)
def test_operation_move_that_was_resumed_before_a_crash_is_effective(seen: Seen, expected: str) -> None:
    found = item(S.BACKING_OFF, lost=True, before=None)
    moving = operation("Resume", **MOVING, target={"statuses": ["BackingOff"]})
    assert moving.judge(found, seen, 1.0) == Settled(Outcome.EFFECTIVE, expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, True),  # all are paused, and so those that moved are told by the time of their pause
        ({"target": {"statuses": ["Paused", "BackingOff"]}}, False),  # by what else the row says
        (MOVING, False),  # by where it was pinned
    ],
)
def test_operation_resume_begins_by_plan_where_its_pause_tells_what_moved(spec: dict[str, Any], expected: bool) -> None:
    assert operation("Resume", **spec).begins_by_plan is expected
