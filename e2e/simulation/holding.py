"""Holds: what somebody holds is neither planned nor purged by whoever knows of it, and it is known in time.

Part of the observer. What was held before a purge was asked for is not planned, and what was held before a run was
taken over is not asked any more. Beside that a process knows of a hold once it has read it in a list of all policies,
and answers for it once it has written into the policy's status that it is in force. Watches may be late, and count for
nothing here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from e2e.simulation import sweeping
from e2e.simulation.runs import Sender
from invocation_operator.api.v1alpha1.action import ActionType

if TYPE_CHECKING:
    from e2e.simulation.apiserver import Answered
    from e2e.simulation.history import World
    from e2e.simulation.processes import Process
    from e2e.simulation.runs import Call, Run

HEEDED_SECONDS = 2.0
"""What was decided before a hold was known may be under way for so long."""
SLEPT_SECONDS = 4.0
"""A process that stood still between its last look and its call is the window that the documentation names."""
POLICIES = "/retentionpolicies"
CLEARING = {ActionType.PURGE: "purge", ActionType.PURGE_JOURNAL: "purge-journal"}


@dataclass(frozen=True)
class Kept:
    """One policy that holds something, as it is stored."""

    uid: str
    ids: frozenset[str]
    handlers: frozenset[str]
    """Whatever these made is held."""
    since: float


class Holding:
    """Watches the holds of one history."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._kept: dict[str, Kept] = {}
        self._heeded: dict[tuple[str, str], float] = {}
        """From when on a process must leave alone what a policy holds."""
        self._read: dict[str, frozenset[str]] = {}
        """The policies that a process has read last."""
        self._planned: dict[Sender, frozenset[str]] = {}
        """Those that it had read when it made the last plan for an object."""
        self._asked_for: dict[str, float] = {}
        """When the objects were created that ask for a purge, by UID."""

    def stored(self, event: str, obj: dict[str, Any]) -> None:
        """A policy was written, or is gone."""
        uid, holds = obj["metadata"]["uid"], obj["spec"].get("holds") or ()
        if event == "DELETED" or not holds:
            self._kept.pop(uid, None)
            return
        targets = [hold["target"] for hold in holds]
        ids = frozenset(id_ for target in targets for id_ in target.get("ids", ()))
        handlers = frozenset(name for target in targets for name in target.get("handlers", ()))
        since = self._kept[uid].since if uid in self._kept else self._world.loop.time()
        self._kept[uid] = Kept(uid, ids, handlers, since)

    def asked_for(self, event: str, obj: dict[str, Any]) -> None:
        """Something that may cause a purge was written."""
        if event == "ADDED":
            self._asked_for[obj["metadata"]["uid"]] = self._world.loop.time()

    def served(self, process: "Process", method: str, url: str, found: "Answered") -> None:
        """The API server did what a process asked."""
        if method == "PATCH" and POLICIES in url and found.status == 200 and found.body["status"].get("holds"):
            self._heed(process, found.body["metadata"]["uid"], self._world.loop.time())

    def got(self, process: "Process", method: str, url: str, answer: tuple[int, str, bytes]) -> None:
        """A process has its answer."""
        status, kind, body = answer
        if method == "GET" and f"{POLICIES}?" in url and status == 200 and kind == "application/json":
            there = frozenset(obj["metadata"]["uid"] for obj in from_json(body)["items"])
            self._read[process.name] = there
            for uid in there:
                self._heed(process, uid, self._world.loop.time() + HEEDED_SECONDS)

    def _heed(self, process: "Process", uid: str, at: float) -> None:
        key = process.name, uid
        self._heeded[key] = min(at, self._heeded.get(key, at))

    def plans(self, who: Sender) -> None:
        """The query of a plan leaves."""
        self._planned[who] = self._read.get(who[0], frozenset())

    def begun(self, run: "Run") -> Iterator[str]:
        """A record was created."""
        planner = run.record.holder
        if run.record.spec.action not in CLEARING or planner is None:
            return
        asked = self._asked_for.get(run.record.spec.source.uid, 0.0)
        read = self._planned.get((planner, run.of), frozenset())
        if self._world.scenario.applied[run.of].sweep == sweeping.TICK:
            asked = max(asked, sweeping.TICK_SECONDS)
        for kept in self._kept.values():
            if kept.since < asked or kept.uid in read:
                for one in run.planned:
                    if self._holds(kept, one.id):
                        yield f"{one.id} is planned by {planner} although it is held since {kept.since:.3f}"

    def taken_over(self, process: str) -> None:
        """A process has become the holder of a run that was another's: what is held now is left alone."""
        for uid in self._kept:
            self._heeded[process, uid] = self._world.loop.time()

    def leaves(self, call: "Call") -> Iterator[str]:
        """A call leaves."""
        now, process = self._world.loop.time(), call.process
        if call.op not in CLEARING.values() or now - process.woke_at < SLEPT_SECONDS:
            return
        for kept in self._kept.values():
            since = self._heeded.get((process.name, kept.uid))
            # Of two without an election, one may show a hold while the other one purges.
            alone = self._world.scenario.elected or len(self._world.processes) == 1
            late = 0.0 if alone else HEEDED_SECONDS
            if since is not None and now > since + late and self._holds(kept, call.id):
                yield f"it is held, and {process.name} has known so for {now - since:.2f} s"

    def _holds(self, kept: Kept, id_: str) -> bool:
        living = self._world.engine.living.get(id_)
        return id_ in kept.ids or (living is not None and living.handler in kept.handlers)
