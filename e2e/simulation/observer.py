"""What must hold in every history: the guarantees of the API, looked at with each call and once more at the end.

It reads what the servers know, never what the operator believes: calls as they leave and as they arrive, objects as
they are stored, invocations as they live and die.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from e2e.simulation import sweeping
from e2e.simulation.applied import NAMESPACE, Applied
from e2e.simulation.consent import Consent
from e2e.simulation.engine import Invocation
from e2e.simulation.fairness import Fairness
from e2e.simulation.holding import Holding
from e2e.simulation.judgement import judge
from e2e.simulation.leading import Leading
from e2e.simulation.loop import OWNER
from e2e.simulation.processes import Process
from e2e.simulation.rollouts import Rollouts
from e2e.simulation.runs import Call, Identity, Run, Sender, identity, sender
from e2e.simulation.sharing import Sharing
from e2e.simulation.standing import Standings
from e2e.simulation.wires import THROTTLED
from invocation_operator.cluster.records import Record
from invocation_operator.plan.ledger import Ledger
from invocation_operator.plan.operation.base import CLOCK_MARGIN
from invocation_operator.plan.targets import Planned, decode
from invocation_operator.values.ids import NOBODY

if TYPE_CHECKING:
    from e2e.simulation.history import World

LOOK_SECONDS = 2.0
"""How old the last look at an invocation may be when it is asked."""
STOP_SECONDS = 1.0
"""How long after a stop something may still be asked, beside what the watch takes to tell of it."""
_IDS = re.compile(r"'(inv_[^']*)'")
PLANNED_OPS = {"resume", "restart-as-new"}
"""Calls that a run in waves consists of."""
MAIN = {"cancel", "restart-as-new"}
"""Calls that must come once."""


class Observer:
    """Watches one history."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.problems: list[str] = []
        self.calls: list[Call] = []
        self.closed = False
        """After the end: nothing may be asked any more."""
        self.uncertain = False
        """Whether anything happened that may leave an outcome unknown."""
        # A plan's own query is a look of its object; rows that many want to read are asked for all of them at once.
        self._looks: dict[tuple[Sender, str], float] = {}
        self._untold: dict[int, list[tuple[Sender, str]]] = {}
        """Who looks at what, by the number of the request, until its answer is there."""
        self._true_looks: dict[tuple[Sender, str], float] = {}
        """Of them, those that an engine which has read its log has answered."""
        self._serving: Any = None
        self._runs: dict[str, Run] = {}
        self._sets: dict[str, tuple[list[Planned], dict[str, int]]] = {}
        self._accepted: dict[tuple[str, Identity], list[Call]] = defaultdict(list)
        self._outages: list[tuple[str, float, float]] = []
        self._asked: Counter[tuple[str, str, int]] = Counter()
        self._rollouts, self._consent, self._leading = Rollouts(world), Consent(world), Leading(world)
        self._holding, self._standings = Holding(world), Standings(world)
        self._sharing = Sharing(world, self._standings, self._runs, self._blind)
        self._fairness = Fairness(world, self._standings, self._runs)
        self.served, self.got = self._holding.served, self._holding.got
        world.api.watch("retentionpolicies", self._holding.stored)
        world.api.watch("configmaps", self._consent.kept)
        world.api.watch("invocationrecords", self._record)
        for plural in sorted({one.plural for one in world.scenario.applied.values()}):
            world.api.watch(plural, self._holding.asked_for)
            world.api.watch(plural, self._applied)
        world.api.watch("restateengines", self._engine)

    def problem(self, kind: str, text: str) -> None:
        """A guarantee does not hold."""
        self.world.tell("", f"!! {kind}: {text}")
        self.problems.append(f"{kind}: {text}")

    def _problems(self, kind: str, what: str, found: Iterable[str]) -> None:
        for text in found:
            self.problem(kind, f"{what}: {text}")

    # What the servers store.

    def _record(self, event: str, obj: dict[str, Any]) -> None:
        name = obj["metadata"]["name"]
        if event == "DELETED":
            self._runs.pop(name, None)
            return
        record = Record.of(obj)
        key = obj["metadata"]["uid"]
        known = key in self._sets
        planned, index = self._sets.get(key, ([], {}))
        if not known:
            planned = decode(record.spec.plan.targets) if record.spec.plan.targets else self._chunks(record)
            index = {one.id: n for n, one in enumerate(planned)}
            if len(planned) == record.spec.plan.total:
                self._sets[key] = planned, index
        text = record.status.ledger
        ledger = Ledger.decode(text, record.spec.plan.total) if text is not None else None
        before = self._runs.get(name)
        same = before is not None and before.record.obj["metadata"]["uid"] == key
        if before is not None and same and before.record.finished and obj["status"] != before.record.obj["status"]:
            self.problem("record", f"{name} was changed after its end")
        run = self._runs[name] = Run(record, planned, ledger, index)
        holder, earlier = record.holder, before.record.holder if before is not None and same else None
        if holder and earlier and holder != earlier:
            self._holding.taken_over(holder)
        if event == "ADDED":
            self._problems("approval", name, self._consent.begun(run))
            self._problems("held", name, self._holding.begun(run))
            self._problems("once", name, sweeping.repeated(run, self._runs))
        if not known and key in self._sets:
            self._problems("approval", name, self._consent.complete(run))
        self._problems("waves", name, self._rollouts.stored(before, run))
        self._problems("fair", name, self._fairness.stored(before, run))
        if record.finished and not (before is not None and same and before.record.finished):
            # Now, and not only in the end: what is told to be effective has to be so when it is told.
            self._judge(run)

    def _chunks(self, record: Record) -> list[Planned]:
        found: list[Planned] = []
        for number in range(record.spec.plan.chunks):
            chunk = self.world.api.get("configmaps", record.namespace, f"{record.chunk_prefix}-{number}")
            if chunk is None:
                return []
            found += decode(chunk["data"]["targets"])
        return found

    def _applied(self, event: str, obj: dict[str, Any]) -> None:
        name = obj["metadata"]["name"]
        if name in self._standings.of:
            if event != "DELETED" and not self.closed:
                self._problems("approval", name, self._consent.told(obj))
            self._standings.stored(event, obj)
            self._fairness.stops_or_goes_on()

    def _engine(self, event: str, obj: dict[str, Any]) -> None:
        self._standings.engine_stored(event, obj)
        self._fairness.stops_or_goes_on()

    # What the wires tell.

    def asked(self, process: Process, side: str) -> None:
        """Count requests, for what is a storm."""
        self._asked[process.name, side, int(self.world.loop.time())] += 1

    def wrote(self, process: Process, method: str, path: str) -> None:
        """A request to the API server leaves."""
        self._problems("leader", "a write", self._leading.writes(process, method, path))

    def outage(self, side: str, seconds: float) -> None:
        """A server is away. One that was away already comes back when this outage ends, be that sooner or later."""
        now = self.world.loop.time()
        self.uncertain = True
        self._outages = [(of, at, min(end, now) if of == side else end) for of, at, end in self._outages]
        self._outages.append((side, now, now + seconds))

    def logged(self, entry: dict[str, Any]) -> None:
        """One entry of the operator's log."""
        if "mistake" in entry:
            self.problem("mistake", f"{entry.get('event')}: {entry.get('error')}")
        owner = OWNER.get()
        self._sharing.logged(entry, owner if isinstance(owner, Process) else None)
        shown = {k: v for k, v in entry.items() if k not in ("event", "mistake", "kind", "level", "object", "run")}
        self.world.tell("log", f"{entry['level']} {entry.get('event')} {shown}")

    def sent(self, process: Process, number: int, method: str, path: list[str], body: Any) -> Any:
        """A request leaves."""
        if path == ["query"]:
            sql = body["query"]
            named = _IDS.findall(sql) if "from sys_invocation i where i.id in" in sql else ()
            # A plan's own query is a look at what it returns.
            plans = "select i.id as id" in sql and "raw_length" not in sql and not named
            if plans:
                self._holding.plans(sender(process))
                return sender(process), number, None
            return (process.name, None), number, named
        if path[0] == "invocations":
            op, ids = path[2], [path[1]]
        elif path[0] == "internal":
            op, ids = path[2], body["invocation_ids"]
        else:
            return None
        calls = {id_: self._call(op, id_, process, number) for id_ in ids if len(id_) > 20 and not id_.endswith(NOBODY)}
        return calls or None

    def _call(self, op: str, id_: str, process: Process, number: int) -> Call:
        now = self.world.loop.time()
        who, never = sender(process), float("-inf")
        keys = ((who, id_), ((process.name, None), id_))
        at = max(self._looks.get(key, never) for key in keys)
        planned_at, read_at = (self._true_looks.get(key, never) for key in keys)
        call = Call(op, id_, who[1], process, number, now, at, planned_at, read_at)
        self.calls.append(call)
        self._may_leave(call, now)
        return call

    def _may_leave(self, call: Call, now: float) -> None:
        told = f"{call.op} of {call.id} by {call.process.name} for {call.of} (#{call.number})"
        if self.closed:
            self.problem("once", f"{told}: after the run's end")
        self._shared(told, self._sharing.leaves(call))
        self._problems("fair", told, self._fairness.leaves(call))
        runs = [run for run in self._runs.values() if run.of == call.of and call.id in run.index]
        if len(runs) > 1:
            runs = [run for run in runs if not run.record.finished] or runs
        if not runs:
            self.problem("set", f"{told}: no record holds it")
            return
        self._problems("leader", told, self._leading.leaves(call))
        self._problems("held", told, self._holding.leaves(call))
        held = [run for run in runs if run.record.holder == call.process.name]
        meant = [run for run in held if run.intended(call.id)]
        call.runs = frozenset(run.name for run in meant)
        for run in meant or runs:
            if call.op in PLANNED_OPS:
                self._problems("waves", told, self._rollouts.leaves(call, run))
        if not held:
            self.problem("holder", f"{told}: the record is held by {[run.record.holder for run in runs]}")
        if not any(run.intended(call.id) for run in runs):
            self.problem("intent", f"{told}: no intent is written down")
        if now - call.looked_at > LOOK_SECONDS and now - call.process.woke_at > LOOK_SECONDS:
            self.problem("look", f"{told}: its row was read {now - call.looked_at:.2f} s ago")
        since = self._standings.of[runs[0].of].stopped_since
        grace = STOP_SECONDS + 3.5
        slept = now - call.process.woke_at < grace
        if since is not None and now - since > grace and call.op != "resume" and not slept and not self._blind(since):
            self.problem("stop", f"{told}: {now - since:.2f} s after a stop")

    def _blind(self, since: float) -> bool:
        """Whether the API server was away since: nobody could be told."""
        away = any(side == "kube" and end + 12.0 > since for side, _, end in self._outages)
        return away or any(event.kind in ("isolate", "watches-break") for event in self.world.scenario.events)

    def _shared(self, what: str, found: Iterable[tuple[str, str]]) -> None:
        for kind, text in found:
            self.problem(kind, f"{what}: {text}")

    def answered(self, number: int) -> None:
        """A sender has an answer, or knows that none will come."""
        self._sharing.answered(number)

    def told(self, number: int) -> None:
        """What the engine has answered is there."""
        self._looks |= dict.fromkeys(self._untold.pop(number, ()), self.world.loop.time())

    def arrived(self, token: Any, operation: Callable[[], Any]) -> Any:
        """A request is carried out."""
        now = self.world.loop.time()
        if isinstance(token, tuple):
            who, number, ids = token
            answer = operation()
            shown = [(who, id_) for id_ in (_returned(answer) if ids is None else ids)]
            self._untold[number] = shown
            if self.world.engine.replaying is None:
                self._true_looks |= dict.fromkeys(shown, now)
            return answer
        self._serving = token if isinstance(token, dict) else None
        for call in (self._serving or {}).values():
            self._rollouts.arrives(call)
        try:
            return operation()
        finally:
            self._serving = None

    def noted(self, op: str, id_: str, met: Invocation | None, status: int) -> None:
        """The engine carried an operation out, or refused it."""
        if self._serving is None or id_ not in self._serving:
            return
        call: Call = self._serving[id_]
        call.status, call.met = status, met
        if met is None or status >= 300:
            return
        told = f"{op} of {id_} by {call.process.name} (#{call.number})"
        runs = [run for run in self._runs.values() if identity(met) in run.identities]
        if not runs:
            born = met.created - self.world.engine.skew
            seconds = self.world.loop.time() + (born - self.world.engine.now() + self.world.engine.skew)
            # Rows that are read by id are not known to be read for this object, where others may want them too.
            asked_for_by = sum(met.service in one.services for one in self.world.scenario.applied.values())
            seen = max(call.truly_planned_at, call.truly_read_at if asked_for_by == 1 else float("-inf"))
            if seen > seconds:
                self.problem("identity", f"{told}: it was born again, and seen to be, before the call left")
            return
        self._shared(told, self._sharing.bounds(call.process))
        if op in MAIN:
            self._once(call, met, runs, told)

    def _once(self, call: Call, met: Invocation, runs: list[Run], told: str) -> None:
        """One more of what must come once was carried out."""
        op = call.op
        if op == "restart-as-new":
            call.made = self.world.engine.history[-1]
        before = [other for other in self._accepted[op, identity(met)] if other.left_a_trace]
        self._accepted[op, identity(met)].append(call)
        mine = sum(other.of == call.of and not other.runs.isdisjoint(call.runs) for other in before)
        # Each run has one, and so has the object that asks for it: a record that was taken back was not carried out.
        if len(before) >= len(runs) or mine:
            self.problem("once", f"{told}: for the {len(before) + 1}. time, {mine} of them for {call.of}")
        self._shared(told, self._sharing.accepted(call, before))

    # The end.

    def records(self, of: Applied | None = None) -> list[Record]:
        """All records, or those of one object."""
        return [run.record for run in self._runs.values() if of is None or run.of == of.name]

    def _object(self, one: Applied) -> dict[str, Any] | None:
        return self.world.api.get(one.plural, NAMESPACE, one.name)

    def phase(self) -> str | None:
        """What the first object says."""
        return self.world.scenario.phase(self._object(self.world.scenario))

    def finished(self) -> bool:
        """Whether everything has come to its end: each object tells it, and so does every record."""
        if any(not record.finished for record in self.records()):
            return False
        for name, one in self.world.scenario.applied.items():
            obj = self._object(one)
            if obj is not None and not one.ended(obj, self._standings.of[name].first_known):
                return False
        return True

    def final(self) -> None:
        """Compare what was told with what is."""
        if not self.problems:
            for run in self._runs.values():
                self._judge(run)
        for one in self.world.scenario.applied.values():
            self._status(one)
        self._problems("fair", "in the end", self._fairness.final())
        self._storms()

    def _judge(self, run: Run) -> None:
        lives = {identity(one): one for one in self.world.engine.history}
        mine = [call for call in self.calls if run.name in call.runs and not self._turned_away(call)]
        others = {(call.op, call.id) for call in self.calls if run.name not in call.runs and self._is_near(call, run)}
        for kind, text in judge(run, lives, mine, uncertain=self.uncertain, others=others):
            self.problem(kind, text)

    def _turned_away(self, call: Call) -> bool:
        """Whether it was answered with a 429: then it is certain that nothing was done."""
        fault = self.world.faults.get(call.number)
        return fault is not None and fault.kind == THROTTLED

    def _is_near(self, call: Call, run: Run) -> bool:
        """Whether what came of a call may be taken for the run's own after a crash: it did not come long before."""
        engine = self.world.engine
        began = run.record.spec.start_time.timestamp() - engine.now() + self.world.loop.time()
        arrives = call.sent_at + self.world.scenario.call_timeout_seconds
        return arrives >= began - CLOCK_MARGIN.total_seconds()

    def _status(self, one: Applied) -> None:
        obj = self._object(one)
        if obj is not None and one.sweep is not None:
            self._problems("status", one.name, sweeping.wrong(obj, self._runs))
            return
        status: dict[str, Any] = (obj or {}).get("status", {})
        run = self._runs.get(status.get("record") or "")
        if obj is None:
            return
        self._problems("status", one.name, self._told_of_another(obj, status))
        if run is None:
            return
        if status.get("phase") == "AlreadyExecuted":
            if run.record.spec.source.uid == obj["metadata"]["uid"] and not self.closed:
                self.problem("status", f"the own run of {one.name} is told to be an earlier one's")
            return
        if run.record.spec.source.uid != obj["metadata"]["uid"]:
            self.problem("status", f"{status.get('phase')} is told of a run that another object of this name has begun")
        told = run.record.obj.get("status", {})
        self._problems(
            "status", one.name, (f"it tells no {name}" for name in ("plan", "startTime") if name not in status)
        )
        for name in ("phase", "progress", "results"):
            if status.get(name) != told.get(name):
                self.problem("status", f"{name} of {one.name} is {status.get(name)}, the record says {told.get(name)}")

    def _told_of_another(self, obj: dict[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
        """Whether the object tells of the run that it asks for, and that it was carried out if it was."""
        asked_for, phase = (obj["metadata"]["uid"], obj["spec"].get("runId")), status.get("phase")
        if status.get("runId") != asked_for[1]:
            yield f"{phase} is told of the run {status.get('runId')}, and {asked_for[1]} is asked for"
        for run in self._runs.values():
            spec, told = run.record.spec, status.get("record")
            if (spec.source.uid, spec.run_id) == asked_for and told != run.name:
                yield f"{phase} is told of {told}, and the record of its run is {run.name}"

    def _storms(self) -> None:
        """In an outage few requests are made, however long it lasts."""
        for side, begin, end in self._outages:
            seconds = range(int(begin) + 2, int(end))
            for name in {name for name, _, _ in self._asked}:
                count = sum(self._asked[name, side, second] for second in seconds)
                most = 12 * len(seconds) + 20
                if count > most:
                    self.problem("storm", f"{name} asked {side} {count} times in {len(seconds)} s of an outage")


def _returned(answer: Any) -> list[str]:
    """Ids of the rows that a query was answered with."""
    status, _, body = answer
    return [row["id"] for row in json.loads(body)["rows"]] if status == 200 else []
