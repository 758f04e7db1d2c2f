"""What is made sure of at the moment at which a run begins, whatever kind it is of: called before its plan is made.

Nothing is planned on an engine that has not read its log yet, or that is another one than it was; and nothing is purged
before everything that is held is known.
"""

import asyncio
from datetime import datetime

from invocation_operator.engine.models import EngineIdentity
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting


def require_switched_on(engines: Engines, address: str) -> None:
    """Raise ``Waiting`` while the kill switch of any RestateEngine that leads to ``address`` is on."""
    if switches := engines.switches(address):
        message = f"the kill switch (spec.suspend) of RestateEngine {', '.join(switches)} is on; waiting for it."
        raise Waiting("EngineSuspended", message)


async def cross(engines: Engines, resolved: Resolved, *, clears: bool) -> tuple[datetime, EngineIdentity]:
    """Return the engine's time and what it is. A run that ``clears`` is told of what is held.

    Raises ``Waiting``, the engine client's errors and those of ``cluster.errors``.
    """
    client, ask = resolved.station.client, resolved.station.ask
    now, seen, _ = await asyncio.gather(
        ask(client.now), ask(client.identity), engines.require_caught_up(resolved.station)
    )
    if seen.cluster_name != resolved.identity.cluster_name:
        resolved.station.probe = None
        raise Waiting("EngineChanged", "another cluster answers behind the engine's address; looking again.")
    if clears:
        # After the engine told the time of the plan: what was held by then is known, however long that took.
        await engines.know_holds()
    return now, seen
