"""How kopf watches, and how that ends, for the composition root."""

import asyncio
from collections.abc import Collection
from typing import Any

import kopf

WATCHES_END_SECONDS = 8.0
"""kopf gives what it has begun five seconds to end, before it cancels it."""


def settings(*, clusterwide: bool) -> kopf.OperatorSettings:
    """Return how kopf watches: nothing but that, and in pieces that are bounded."""
    chosen = kopf.OperatorSettings()
    # Looking for new namespaces and kinds needs rights that an operator of single namespaces does not have.
    chosen.scanning.disabled = not clusterwide
    chosen.posting.enabled = False
    chosen.watching.client_timeout = 600
    chosen.watching.connect_timeout = 10
    # Ten thousand finished objects in one answer are a spike of memory here and in the API server.
    chosen.watching.chunk_size = 500
    chosen.networking.request_timeout = 30
    chosen.process.ultimate_exiting_timeout = None
    chosen.queueing.exit_timeout = 1.0
    return chosen


async def until_ended(
    running: asyncio.Task[None], roots: Collection[asyncio.Task[None]], ignored: Collection[asyncio.Task[Any]]
) -> None:
    """Wait for the end of ``running``, which is to come when one of ``roots`` has ended, and see to it that it comes.

    kopf cancels what is left once. A watch that was about to try again takes that for a pause, goes on, finds its
    session closed and waits for another one, which nobody makes any more: the process would never end.
    """
    try:
        await asyncio.wait({running, *roots}, return_when=asyncio.FIRST_COMPLETED)
        patience = WATCHES_END_SECONDS
        while not (await asyncio.wait({running}, timeout=patience))[0]:
            patience = 1.0
            for task in asyncio.all_tasks().difference(ignored, {running}):
                task.cancel()
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise
    running.result()
