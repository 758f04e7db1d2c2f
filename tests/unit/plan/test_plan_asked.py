"""Since when invocations were asked, in a few marks: never earlier than it was."""

from hypothesis import given
from hypothesis import strategies as st

from invocation_operator.plan.asked import MARKS, AskTimes


def test_marks_tell_the_first_time_by_which_an_invocation_was_asked() -> None:
    times = AskTimes()
    times.note(3, 1.0, lowest_open=0)
    times.note(3, 2.0, lowest_open=0)
    times.note(5, 3.0, lowest_open=1)
    assert [times.asked_by(index) for index in (0, 2, 3, 4, 5)] == [1.0, 1.0, 3.0, 3.0, None]
    assert AskTimes(reversed(times.marks)).marks == times.marks == [(3, 1.0), (5, 3.0)]


def test_marks_of_what_has_its_outcome_leave() -> None:
    times = AskTimes([(3, 1.0), (5, 3.0)])
    times.note(5, 4.0, lowest_open=3)
    assert times.marks == [(5, 3.0)]
    times.note(9, 5.0, lowest_open=9)
    assert times.marks == []


def test_marks_above_what_was_taken_back_or_never_asked_do_not_hold() -> None:
    times = AskTimes([(3, 1.0), (5, 3.0)])
    times.forget(3)
    assert [times.asked_by(index) for index in (2, 3)] == [1.0, None]
    times = AskTimes([(3, 1.0), (5, 3.0)])
    times.note(4, 9.0, lowest_open=0)
    assert times.marks == [(3, 1.0), (4, 9.0)]


@given(st.lists(st.integers(1, 40), max_size=80), st.integers(0, 200))
def test_marks_never_tell_a_time_before_the_call(steps: list[int], index: int) -> None:
    """Invocations are asked in order, ``steps`` of them at each second, and none has an outcome."""
    times, asked = AskTimes(), 0
    asked_at: dict[int, int] = {}
    for second, step in enumerate(steps):
        asked_at |= dict.fromkeys(range(asked, asked + step), second)
        asked += step
        times.note(asked, float(second), lowest_open=0)
    assert len(times.marks) <= MARKS
    told = times.asked_by(index)
    assert (told is None) == (index not in asked_at)
    if told is not None:
        assert told >= asked_at[index]
