"""Several runs on one engine: together they keep its limits, each keeps its own, and none waits for ever.

Part of the observer. Limits are those of one operator process (without an election each has its own budget). What is in
flight is counted from the calls and from what the engine knows, so it is less than what the operator counts: who has
seen an effect gives its permit back later than the effect was there.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from e2e.simulation.applied import seconds_of
from e2e.simulation.runs import Call, Run
from e2e.simulation.standing import IN_FLIGHT, PER_SECOND, Standings

if TYPE_CHECKING:
    from e2e.simulation.history import World
    from e2e.simulation.processes import Process

TOLD_SECONDS = 4.5
"""A changed limit is known to the operator by then, unless a watch was cut."""
OLDEST_LOOK_SECONDS = 2.0
SLEPT_SECONDS = 1.5
"""What was due while a process stood still leaves when it goes on."""
ENDS = ("hold lost", "run handed over", "reconcile failed")
"""Entries of the log after which a process counts nothing of a run any more."""
Key = tuple[str, str]
"""Object and invocation."""


class Sharing:
    """Watches what the runs of one history share."""

    def __init__(
        self, world: "World", standings: Standings, runs: Mapping[str, Run], blind: Callable[[float], bool]
    ) -> None:
        self._world = world
        self._standings = standings
        self._runs = runs
        self._blind = blind
        self._under_way: dict[str, dict[Key, list[Call]]] = defaultdict(dict)
        """By process: what may be in flight."""
        self._first: dict[Key, float] = {}
        """When an invocation was first asked for an object."""
        self._by_number: dict[int, list[Call]] = defaultdict(list)
        self._left: dict[tuple[str, str | None], deque[float]] = defaultdict(deque)
        """When calls left within the last second, by process, and by process and object."""
        self._lost: dict[Key, float] = {}
        """When a process (here in the place of an invocation) lost its hold of an object's run."""

    # What is told.

    def leaves(self, call: Call) -> Iterator[tuple[str, str]]:
        """A call leaves."""
        if call.of is None:
            yield "set", "nobody knows which object it is for"
            return
        key = call.of, call.id
        self._first.setdefault(key, call.sent_at)
        self._by_number[call.number].append(call)
        self._under_way[call.process.name].setdefault(key, []).append(call)
        yield from self._rates(call, call.of)
        yield from self.bounds(call.process)

    def answered(self, number: int) -> None:
        """The sender of a request has its answer, or learned that there is none."""
        for call in self._by_number.pop(number, ()):
            call.answered = True

    def accepted(self, call: Call, before: Sequence[Call]) -> Iterator[tuple[str, str]]:
        """The engine has carried out what must come once: what two runs of one operator must not ask both while one of
        them has no outcome. ``before`` are earlier calls of its kind.
        """
        for other in before:
            if other.of != call.of and other.process is call.process and not self._lost_since(other):
                yield "once", f"#{other.number} of {other.of} asked for the same"

    def logged(self, entry: Mapping[str, Any], process: "Process | None") -> None:
        """The operator says something."""
        if process is not None and entry.get("event") in ENDS and "object" in entry:
            name = str(entry["object"]).partition("/")[2]
            self._lost[name, process.name] = self._world.loop.time()
            held = self._under_way[process.name]
            for key in [key for key in held if key[0] == name]:
                del held[key]

    def _lost_since(self, call: Call) -> bool:
        return self._lost.get((call.of or "", call.process.name), float("-inf")) >= call.sent_at

    # Operations per second.

    def _rates(self, call: Call, of: str) -> Iterator[tuple[str, str]]:
        now = call.sent_at
        since = float("-inf") if self._blind(now - 60.0) else now - 1.0 - TOLD_SECONDS
        slept = now - call.process.woke_at < SLEPT_SECONDS
        for name, limits in ((None, self._standings.engine), (of, self._standings.of[of].limits)):
            left = self._left[call.process.name, name]
            left.append(now)
            while left[0] <= now - 1.0 + 1e-9:
                left.popleft()
            rate = limits.most(PER_SECOND, since)
            if rate is not None and len(left) > most_in_a_second(rate) and not slept:
                yield "rate", f"{len(left)} calls of {name or 'all'} within a second, {rate} allowed"

    # In flight.

    def bounds(self, process: "Process") -> Iterator[tuple[str, str]]:
        """What is in flight of a process, over all runs and of each."""
        if process.shutdown is None or process.shutdown.event.is_set():
            return
        counts: dict[str | None, int] = defaultdict(int)
        under_way = self._under_way[process.name]
        for key, calls in list(under_way.items()):
            calls[:] = [call for call in calls if not self._done(call)]
            if not calls:
                del under_way[key]
            elif self._certain(process, key):
                counts[None] += 1
                counts[key[0]] += 1
        since = float("-inf") if self._blind(self._world.loop.time() - 60.0) else self._world.loop.time() - 60.0
        for name, count in counts.items():
            limits = self._standings.engine if name is None else self._standings.of[name].limits
            allowed = limits.most(IN_FLIGHT, since)
            if allowed is not None and count > allowed:
                yield "bounded", f"{count} of {name or 'all'} in flight of {process.name}, {allowed} allowed"

    def _certain(self, process: "Process", key: Key) -> bool:
        """Whether a run still counts what it has asked and has not seen done."""
        of, id_ = key
        now, one = self._world.loop.time(), self._world.scenario.applied[of]
        standing = self._standings.of[of]
        if standing.stopped_since is not None or now - self._first[key] >= one.verification_seconds():
            return False
        if "timeout" in one.spec and now - standing.added_at >= seconds_of(one.spec["timeout"]):
            return False
        mine = [run for run in self._runs.values() if run.of == of and id_ in run.index]
        return any(
            run.record.holder == process.name and not run.record.finished and not run.settled(id_) for run in mine
        )

    def _done(self, call: Call) -> bool:
        """Whether its run may know by now what became of it."""
        now = self._world.loop.time()
        if not call.answered:
            return now - call.sent_at >= self._world.scenario.call_timeout_seconds - 0.01
        # One that has not arrived although its sender knows of no answer may never arrive.
        return call.met is None or call.status is None or call.status >= 300 or self._effective(call)

    def _effective(self, call: Call) -> bool:
        """Whether what was asked for is there, or can never be."""
        one = call.met
        assert one is not None
        if not one.alive:
            return True
        match call.op:
            case "cancel" | "kill":
                return False
            case "pause":
                was = any(at >= call.sent_at and status == "paused" for at, status in one.left)
                return was or one.status == "paused"
            case "resume":
                # Another run may have resumed it between the look and the call.
                return any(at >= call.sent_at - OLDEST_LOOK_SECONDS for at, _ in one.left)
            case _:
                return True


def most_in_a_second(rate: int) -> int:
    """How many calls may leave within a second: a tenth more than the rate, and one request may hold another tenth."""
    return ceil(1.1 * rate) + max(0, rate // 10 - 1)
