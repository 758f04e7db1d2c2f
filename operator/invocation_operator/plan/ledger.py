"""The ledger of a run: one byte per planned invocation, in the order of the plan.

It is what makes a run survive a crash with true counts: *intended* is written before an invocation is asked, its
outcome after. Bytes of a million targets compress to little, so the ledger fits into the record.
"""

import base64
import zlib
from collections import Counter
from collections.abc import Iterator

from invocation_operator.api.v1alpha1.action import Outcome

UNTOUCHED = ord(".")
INTENDED = ord("i")
CODES: dict[Outcome, int] = {
    Outcome.EFFECTIVE: ord("E"),
    Outcome.ALREADY_DONE: ord("D"),
    Outcome.ESCALATED: ord("X"),
    Outcome.SKIPPED: ord("S"),
    Outcome.NO_OP: ord("N"),
    Outcome.UNVERIFIED: ord("U"),
    Outcome.AMBIGUOUS: ord("A"),
    Outcome.FAILED: ord("F"),
}
BAD = frozenset({Outcome.FAILED, Outcome.AMBIGUOUS, Outcome.UNVERIFIED, Outcome.NO_OP})
"""Outcomes of operations that did not do what they should: they count against ``maxFailures``, and as unhealthy."""

_OUTCOMES = {code: outcome for outcome, code in CODES.items()}


class Ledger:
    """What became of each planned invocation so far."""

    def __init__(self, size: int) -> None:
        self._codes = bytearray([UNTOUCHED]) * size
        self._counts: Counter[int] = Counter({UNTOUCHED: size})

    def __len__(self) -> int:
        return len(self._codes)

    def intend(self, first: int, last: int) -> None:
        """Mark the untouched among ``first`` (included) to ``last`` (excluded) as about to be asked."""
        for index in range(first, last):
            if self._codes[index] == UNTOUCHED:
                self._set(index, INTENDED)

    def release(self, index: int) -> None:
        """Take back an intent of which it is certain that nothing was sent."""
        if self._codes[index] == INTENDED:
            self._set(index, UNTOUCHED)

    def settle(self, index: int, outcome: Outcome) -> None:
        """Write the outcome of one invocation; an outcome is never overwritten."""
        if self._codes[index] in (UNTOUCHED, INTENDED):
            self._set(index, CODES[outcome])

    def outcome(self, index: int) -> Outcome | None:
        """Return the outcome of one invocation, or None while it has none."""
        return _OUTCOMES.get(self._codes[index])

    def intended(self) -> list[int]:
        """Return the invocations that may have been asked and have no outcome."""
        return [i for i, code in enumerate(self._codes) if code == INTENDED]

    def next_untouched(self, start: int) -> int:
        """Return the first untouched index at or after ``start``, or the size."""
        found = self._codes.find(UNTOUCHED, start)
        return len(self._codes) if found < 0 else found

    def untouched_run(self, start: int, most: int) -> int:
        """Return how many from ``start`` on are untouched without a gap, at most ``most``."""
        end = min(start + most, len(self._codes))
        length = 0
        while start + length < end and self._codes[start + length] == UNTOUCHED:
            length += 1
        return length

    def count(self, outcome: Outcome) -> int:
        """Return how many have ``outcome``."""
        return self._counts[CODES[outcome]]

    @property
    def bad(self) -> int:
        """How many did not end as they should."""
        return sum(self.count(outcome) for outcome in BAD)

    def having(self, outcome: Outcome, most: int) -> Iterator[int]:
        """Yield those with ``outcome``; of more than ``most`` an even sample of that many."""
        total, code = self.count(outcome), CODES[outcome]
        found = -1
        for nth in range(total):
            found = self._codes.find(code, found + 1)
            if total <= most or (nth + 1) * most // total > nth * most // total:
                yield found

    @property
    def untouched(self) -> int:
        """How many were never asked."""
        return self._counts[UNTOUCHED]

    @property
    def settled(self) -> int:
        """How many have an outcome."""
        return len(self._codes) - self._counts[UNTOUCHED] - self._counts[INTENDED]

    def encode(self) -> str:
        """Return the text that is kept in the record."""
        return base64.b64encode(zlib.compress(bytes(self._codes), 6)).decode()

    @classmethod
    def decode(cls, text: str, size: int) -> "Ledger":
        """Return the ledger that ``encode`` kept. Raises ValueError when it is damaged or of another size."""
        try:
            codes = zlib.decompress(base64.b64decode(text, validate=True))
        except (ValueError, zlib.error) as error:
            raise ValueError("the ledger cannot be read") from error
        known = {UNTOUCHED, INTENDED, *_OUTCOMES}
        if len(codes) != size or not set(codes) <= known:
            raise ValueError("the ledger does not fit its plan")
        ledger = cls(0)
        ledger._codes = bytearray(codes)
        ledger._counts = Counter(codes)
        return ledger

    def _set(self, index: int, code: int) -> None:
        self._counts[self._codes[index]] -= 1
        self._counts[code] += 1
        self._codes[index] = code
