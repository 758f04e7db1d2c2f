"""Whether a run still talks to the engine that it was planned on.

The RestateEngine may be replaced, and another cluster may come to answer behind the same address. The engine shows no
fingerprint, so clusters are told apart by name and by their deployments, whose ids no two clusters share.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from invocation_operator.cluster.errors import ClusterError
from invocation_operator.engine.errors import CertificateInvalid, EngineError, Unauthorized, reading
from invocation_operator.engine.models import EngineIdentity
from invocation_operator.plan.targets import Planned
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import Waiting
from invocation_operator.values.times import parse_time

WATCH_SECONDS = 5.0
WITNESSES = 100
"""So many of a run's invocations are looked for where no deployment is known any more; of the last, which were asked
least."""


@dataclass(slots=True)
class EngineWatch:
    """Watches the engine of one run and sets the run's stop when it is another one."""

    engines: Engines
    resolved: Resolved
    control: Control
    known: EngineIdentity
    """The cluster, as it was last seen; at first as the run's record has it, which may be of long ago."""
    targets: Sequence[Planned] = ()
    """What the run is about."""
    _looked: bool = False

    async def run(self) -> None:
        """Look now and then, until cancelled; not at the beginning, which comes right after a look."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with contextlib.suppress(EngineError, Waiting, ClusterError):
                await self._look()

    async def _look(self) -> None:
        # The watch may not cover the engine's namespace, or lag behind: its kill switch must not wait for that.
        await self.engines.refresh(self.resolved.key)
        try:
            await self.confirm()
        except (Unauthorized, CertificateInvalid):
            # Perhaps they were rotated: the run takes up what the Secrets say now.
            await self.engines.renew(self.resolved)

    async def confirm(self) -> None:
        """Look once. Raises the engine client's errors."""
        found = await self.resolved.station.client.identity()
        known = self.known
        replaced = self.engines.replaced(self.resolved)
        # Not one deployment in common: nobody replaces all of them between two looks, an engine that lost its data did.
        strangers = bool(known.deployments) and not known.deployments & found.deployments
        if strangers and not self._looked:
            # All may have been replaced, one by one, since the run began; its invocations are nowhere else.
            strangers = not await self._has_witnesses()
        if replaced or strangers or known.same_as(found) is False:
            self.control.final = self.control.final or Stop.ENGINE_CHANGED
        else:
            self.known, self._looked = found, True

    async def _has_witnesses(self) -> bool:
        """Whether any of the run's invocations is there, born when it was planned to have been."""
        born = {planned.id: planned.created_at for planned in self.targets[-WITNESSES:]}
        if not born:
            return False
        station, scopes = self.resolved.station, self.resolved.probe.capabilities.scopes
        rows = await station.named.rows(list(born), (), scopes_supported=scopes)
        with reading("invocations"):
            return any(born.get(str(row["id"])) == parse_time(str(row["created_at"])) for row in rows)
