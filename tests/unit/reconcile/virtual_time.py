"""An event loop whose time passes only while everything waits, and then at once."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Impatient(selectors.DefaultSelector):
    """Instead of waiting, moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and nothing will ever wake it"
            self.now += max(timeout, 0.0)
        return ready


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run ``coroutine`` to its end; ``asyncio.get_running_loop().time()`` is the virtual time."""

    def loop() -> asyncio.AbstractEventLoop:
        selector = _Impatient()
        made = asyncio.SelectorEventLoop(selector)
        made.time = lambda: selector.now  # type: ignore[method-assign]
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(coroutine)
