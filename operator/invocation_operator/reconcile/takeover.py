"""When an unfinished run may be taken over: its holder let it go, is this very process, has led before this one (and
does not work any more), or has not renewed for a lease. And on which engine: the one that it was begun on, or none.

The lease is watched on this process's own clock, from the moment a renewal was first seen, so that no two clocks need
to agree.
"""

from collections.abc import Callable
from dataclasses import dataclass

from invocation_operator.api.v1alpha1.base import EngineRef
from invocation_operator.cluster.records import Lease, Record
from invocation_operator.reconcile.engines import Engines
from invocation_operator.reconcile.station import Resolved
from invocation_operator.reconcile.waiting import ENGINE_NOT_FOUND, Waiting

UNWATCHED_SECONDS = 300.0
"""A record that nobody has asked about for this long, beyond a lease, ended elsewhere."""


@dataclass(slots=True)
class _Watched:
    """A renewal, since when it is the last one, and when somebody last asked."""

    version: str
    since: float
    asked_at: float


class Leases:
    """Renewals of other holders, as this process saw them."""

    def __init__(
        self,
        identity: str,
        lease: Lease,
        clock: Callable[[], float],
        outlived: Callable[[str], bool] = lambda holder: False,
    ) -> None:
        """``outlived`` tells whether a holder is known to have ceased to work (``cluster.election``)."""
        self._identity = identity
        self._outlived = outlived
        self._lease = lease
        self._clock = clock
        self._seen: dict[str, _Watched] = {}

    def wait_seconds(self, record: Record) -> float:
        """Return how long to wait before ``record`` may be taken over; 0: now."""
        if record.holder in ("", self._identity) or self._outlived(record.holder):
            self.forget(record.name)
            return 0.0
        now = self._clock()
        version = str(record.obj["metadata"]["resourceVersion"])
        known = self._seen.get(record.name)
        if known is None or known.version != version:
            self._drop_unwatched(now)
            self._seen[record.name] = _Watched(version, now, now)
            return self._lease.seconds
        known.asked_at = now
        return max(0.0, known.since + self._lease.seconds - now)

    def forget(self, name: str) -> None:
        """The record needs no watching any more."""
        self._seen.pop(name, None)

    def _drop_unwatched(self, now: float) -> None:
        """Most runs of other holders end there, and nobody asks here again."""
        longest = self._lease.seconds + UNWATCHED_SECONDS
        for name in [name for name, known in self._seen.items() if now - known.asked_at > longest]:
            del self._seen[name]


async def engine_again(engines: Engines, record: Record, namespace: str) -> Resolved | None:
    """Return the engine that an unfinished run was begun on, for its object in ``namespace``; None when it is another
    one by now: a RestateEngine that is gone does not come back, what is created under its name has another UID.

    Raises ``Waiting`` and the errors of ``cluster.errors``.
    """
    before = record.spec.engine
    try:
        located = await engines.locate(EngineRef(name=before.name or "", namespace=before.namespace), namespace)
    except Waiting as waiting:
        if waiting.reason != ENGINE_NOT_FOUND:
            raise
        return None
    if located.uid != before.uid:
        return None
    resolved = await engines.connect(located, fresh=True)
    return resolved if resolved.identity.cluster_name == before.cluster_name else None
