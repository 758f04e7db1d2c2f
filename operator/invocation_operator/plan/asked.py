"""Since when what a run has asked was asked, kept so that a successor need not begin to count again.

Invocations are asked roughly in the order of the plan, so a few *marks* tell enough: every open one below an index had
been asked by some time. A mark never tells a time before an invocation was asked, so what comes "so long after the
call" (an escalation) never comes too early by it; it may come later, where marks were thinned out or not kept yet.
"""

from bisect import bisect_right
from collections.abc import Iterable

MARKS = 16
"""Most marks that are kept."""


class AskTimes:
    """Marks ``(below, seconds)``, both ascending; seconds on the run's clock."""

    def __init__(self, marks: Iterable[tuple[int, float]] = ()) -> None:
        self._marks = sorted(marks)[-MARKS:]

    @property
    def marks(self) -> list[tuple[int, float]]:
        """The marks as they are."""
        return list(self._marks)

    def note(self, below: int, at: float, *, lowest_open: int) -> None:
        """Take in that by ``at`` every open invocation below ``below`` has been asked; ``lowest_open`` is the first
        that has no outcome.
        """
        self._marks = [mark for mark in self._marks if lowest_open < mark[0] <= below]
        if below > lowest_open and (not self._marks or self._marks[-1][0] < below):
            self._marks.append((below, at))
        if len(self._marks) > MARKS:
            # Of two neighbours the later one holds for both.
            self._marks = self._marks[-1:0:-2][::-1]

    def asked_by(self, index: int) -> float | None:
        """Return a time by which the open invocation ``index`` had been asked; None when that is not known."""
        place = bisect_right(self._marks, index, key=lambda mark: mark[0])
        return self._marks[place][1] if place < len(self._marks) else None

    def forget(self, index: int) -> None:
        """It turned out never to have been asked: what was said of it does not hold."""
        self._marks = [mark for mark in self._marks if mark[0] <= index]
