"""A compensation that came twice: whether the engine ran its step again, or it was cancelled twice."""

from typing import Any

import pytest

from e2e.scenarios.sagas import Story

BEGUN = ["entered", "cancelled", "step begun"]
DONE = [*BEGUN, "step done"]
LOST = [*DONE, "compensation left: SuspendedException"]
ENDED = ["entered", "cancelled", "compensated"]
STEP = {"entry_type": "Command: Run", "name": "unbook"}
CANCEL = {"entry_type": "Notification: Signal", "cancel": True}


@pytest.mark.parametrize(
    ("attempts", "journal", "again"),
    [
        pytest.param([["entered"], LOST, LOST, ENDED], [CANCEL, STEP], True, id="an attempt was lost after its step"),
        pytest.param([LOST, [*DONE, "compensated"]], [CANCEL, STEP], True, id="the last attempt ran it to the end"),
        pytest.param([LOST, LOST, ENDED], [CANCEL, STEP, CANCEL], False, id="cancelled twice"),
        pytest.param([LOST, LOST, ENDED], [CANCEL, STEP, STEP], False, id="two steps in the journal"),
        pytest.param([LOST, LOST, ENDED], [STEP], False, id="never cancelled"),
        pytest.param([[*DONE, *DONE], ENDED], [CANCEL, STEP], False, id="twice in one attempt"),
        pytest.param([[*DONE, "compensated"], LOST], [CANCEL, STEP], False, id="again after it was complete"),
        pytest.param([LOST, ENDED], [CANCEL, STEP], False, id="once"),
        pytest.param([BEGUN, BEGUN], [CANCEL, STEP], False, id="never"),
    ],
)
def test_story_says_that_a_step_was_run_again_only_where_the_evidence_shows_it(
    attempts: list[list[str]], journal: list[dict[str, Any]], again: bool
) -> None:
    timed = [[(float(number), what) for number, what in enumerate(attempt)] for attempt in attempts]
    story = Story("inv_1", timed, journal, [], {})
    assert story.step_was_run_again is again
    assert str(story).count("attempt ") == len(attempts)
