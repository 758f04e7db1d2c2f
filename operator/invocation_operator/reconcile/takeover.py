"""When an unfinished run may be taken over: its holder let it go, is this very process, or has not renewed for a lease.

The lease is watched on this process's own clock, from the moment a renewal was first seen, so that no two clocks need
to agree.
"""

from collections.abc import Callable

from invocation_operator.cluster.records import Lease, Record


class Leases:
    """Renewals of other holders, as this process saw them."""

    def __init__(self, identity: str, lease: Lease, clock: Callable[[], float]) -> None:
        self._identity = identity
        self._lease = lease
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}

    def wait_seconds(self, record: Record) -> float:
        """Return how long to wait before ``record`` may be taken over; 0: now."""
        if record.holder in ("", self._identity):
            self.forget(record.name)
            return 0.0
        now = self._clock()
        version = str(record.obj["metadata"]["resourceVersion"])
        known = self._seen.get(record.name)
        if known is None or known[0] != version:
            self._seen[record.name] = (version, now)
            return self._lease.seconds
        return max(0.0, known[1] + self._lease.seconds - now)

    def forget(self, name: str) -> None:
        """The record needs no watching any more."""
        self._seen.pop(name, None)
