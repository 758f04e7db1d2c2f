"""Several operators with one Lease: at most one acts, and who stands by changes nothing.

Part of the observer. Who leads is who the API server says holds the Lease at the moment at which something leaves.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from e2e.simulation.scenarios import OPERATOR_NAMESPACE

if TYPE_CHECKING:
    from e2e.simulation.history import World
    from e2e.simulation.processes import Process
    from e2e.simulation.runs import Call


class Leading:
    """Watches the lead of one history."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def _leader(self) -> str | None:
        leases = self._world.api.all("leases")
        return leases[0]["spec"].get("holderIdentity") if leases else None

    def leaves(self, call: "Call") -> Iterator[str]:
        """A call on an invocation leaves."""
        if self._world.scenario.elected and self._leader() != call.process.name:
            yield f"{self._leader()} leads"

    def writes(self, process: "Process", method: str, path: str) -> Iterator[str]:
        """A write to the API server leaves. One that was decided upon before its process fell asleep cannot be held
        back any more: versions and names make it harmless.
        """
        if not self._world.scenario.elected or method == "GET" or f"/{OPERATOR_NAMESPACE}/leases" in path:
            return
        if self._leader() != process.name and process.woke_at < self._world.loop.time():
            yield f"{method} {path} by {process.name}, while {self._leader()} leads"
