"""Questions to an engine that are asked again at once when they failed: one for each budget, for those who begin a run.

A run begins with some ten questions. Where one of them fails now and then, all of them being asked anew, after a pause
that is long because of the many who may wait for one engine, would take minutes. So a question that failed is asked
again by itself, soon and only some times. In an outage that must not multiply what the engine is asked: what is asked
again is taken from an allowance that all who use the engine share, and that only answers fill again. Questions alone:
a call that changes something is never repeated here.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from weakref import WeakSet

from invocation_operator.engine import errors

T = TypeVar("T")

TRIES = 3
"""How often a question is asked at most before whoever asks it is told that it failed."""
SLOW_SECONDS = 5.0
SLOW_TRIES = 2
"""As many for one that took so long to fail: it may be heavy for the engine."""
PAUSES_SECONDS = ((0.2, 0.5), (0.5, 1.0))
"""From which to which, drawn at random, is waited before the second and the third time."""
ASKED_FOR_SECONDS = 1.0
"""An engine that asks for a longer pause than this gets it, and the question is not asked again before."""
ALLOWANCE = 10.0
"""How many questions may be asked again in a row while nothing is answered."""
GAIN = 0.25
"""What an answer adds to the allowance: in the long run a fifth of all questions may be repetitions."""


@dataclass(slots=True)
class Repeats:
    """The allowance of one engine."""

    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _left: float = ALLOWANCE
    _granted: WeakSet[errors.EngineError] = field(default_factory=WeakSet)
    """Failures that were paid for: many may share one answer, and all of them share the next one too."""

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to ``question``, which is asked anew from its start. Raises what it raised last."""
        for number, pause in enumerate((*PAUSES_SECONDS, None), 1):
            began = self.clock()
            try:
                answer = await question()
            except errors.EngineError as error:
                most = SLOW_TRIES if self.clock() - began >= SLOW_SECONDS else TRIES
                if pause is None or number >= most or not self._grants(error):
                    raise
                await self.sleep(max(random.uniform(*pause), error.retry_after or 0.0))  # noqa: S311 - jitter, nothing secret
            else:
                self._left = min(self._left + GAIN, ALLOWANCE)
                return answer
        raise AssertionError

    def _grants(self, error: errors.EngineError) -> bool:
        if not passes(error) or (error.retry_after or 0.0) > ASKED_FOR_SECONDS:
            return False
        if error not in self._granted:
            if self._left < 1:
                return False
            self._left -= 1
            self._granted.add(error)
        return True


def passes(error: errors.EngineError) -> bool:
    """Whether the same question may well be answered a moment later. A 500 is also what a mistake in a query gives."""
    match error:
        case errors.CertificateInvalid() | errors.Withheld():
            return False
        case errors.Unreachable() | errors.ServerFault() | errors.Throttled() | errors.BadReply():
            return True
        case _:
            return False
