"""One history: a world made from a seed, faults at its boundaries, and what came of it.

A history is given by its seed, its scenario and its faults; the same three give the same history to the last step.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

from e2e.simulation import sweeping, wall
from e2e.simulation.admin import Answer
from e2e.simulation.apiserver import Answered, ApiServer
from e2e.simulation.applied import ENGINE, NAMESPACE, Applied
from e2e.simulation.engine import EPOCH, Engine, Invocation
from e2e.simulation.loop import BusyLoop, VirtualLoop
from e2e.simulation.observer import Observer
from e2e.simulation.processes import Process
from e2e.simulation.scenarios import OPERATOR_NAMESPACE, Event, Scenario
from e2e.simulation.tables import Tables
from e2e.simulation.wires import ELECTED_FAULTS, ENGINE_FAULTS, KUBE_FAULTS, LASTING, SLEEP, SLOW, WAITS, Fault
from invocation_operator.observe import metrics
from invocation_operator.settings import Settings
from invocation_operator.values.ids import NOBODY

Faults = Mapping[int, Fault]
"""Faults by the number of their boundary."""

MOST_SECONDS = 300.0
SLOW_FROM = 100_000
"""The first seed that also draws answers that are merely slow: those below stand in tests, and stay what they are."""
"""Virtual seconds after which a run that has not ended never will."""


@cache
def _tables() -> Tables:
    return Tables()


@cache
def _settings(lease: float, call_timeout: float, *, batches: bool) -> Settings:
    return Settings(
        operator_namespace=OPERATOR_NAMESPACE,
        identity="op",
        lease_seconds=lease,
        call_timeout_seconds=call_timeout,
        batch_endpoints=batches,
    )


@dataclass
class Outcome:
    """What came of a history."""

    seed: int
    problems: list[str]
    faults: dict[int, Fault]
    boundaries: int
    seconds: float
    trace: list[str]
    phase: str | None
    calls: int
    sides: list[str] = field(default_factory=list)
    """`engine`, `kube` or `probe` (whether the engine has read its log), by boundary."""


class World:
    """Everything there is in one history."""

    def __init__(self, seed: int, scenario: Scenario, faults: Faults | None, *, disorder: bool = True) -> None:
        self.seed = seed
        self.scenario = scenario
        self._plan = faults
        self._disorder = disorder
        self.faults: dict[int, Fault] = {}
        self._dice = {name: Random(f"{seed}/{name}") for name in ("order", "latency", "faults", "engine", "events")}
        self.loop = VirtualLoop(self._dice["order"] if disorder else None)  # type: ignore[abstract]
        self._world = contextvars.Context()
        self._latency = 0.001 if not disorder else self._dice["latency"].choice((0.0005, 0.002, 0.01, 0.05))
        self.boundaries = 0
        self.sides: list[str] = []
        """`engine`, `kube` or `probe`, by boundary."""
        self.events_left = self._unapplied = 0
        self.quiet = False
        """Faults have stopped: from now on everything must come to its end."""
        self._trace: list[tuple[float, str, str]] = []
        self.processes: list[Process] = []
        self.api = ApiServer(lambda: EPOCH.timestamp() + self.loop.time())
        self.api_down = False
        self.api_outages = 0
        self._under_way = 0
        self.engine = Engine(self.later, self.loop.time, self._dice["engine"], _tables(), skew=scenario.skew_seconds)
        self.engine.slowness = scenario.slowness
        self.population: list[Invocation] = []
        self.said: dict[str, dict[str, Any]] = {}
        """What of the specifications was changed where manifests are kept, by the object's name."""
        self.observer = Observer(self)
        self.api.watch("invocationrecords", self._collect_late)
        self.engine.noted = self.observer.noted

    # What the wires ask.

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        """Call something in the world, which nothing that happens to a process can stop."""
        self.loop.call_later(delay, callback, context=self._world)

    def latency(self) -> float:
        """Of one way, in seconds."""
        dice = self._dice["latency"]
        if not self._disorder:
            return self._latency
        return self._latency * (0.5 + dice.random()) if dice.random() < 0.97 else dice.random() * 0.5

    def cut_off(self, process: Process, side: str) -> bool:
        """Whether a request finds nobody."""
        if side == "engine":
            return self.engine.down
        return self.api_down or process.isolated

    def under_way(self, change: int) -> None:
        """Count what was sent and has not arrived."""
        self._under_way += change

    def watch_delay(self) -> float:
        """Until a watch tells."""
        dice = self._dice["latency"]
        if not self._disorder:
            return 0.005
        return 0.002 + 0.03 * dice.random() if dice.random() < 0.95 else dice.random() * 3.0

    def boundary(self, process: Process, side: str, label: str) -> tuple[int, Fault | None]:
        """Number one request, and say what goes wrong with it."""
        number, self.boundaries = self.boundaries, self.boundaries + 1
        self.sides.append("probe" if side == "engine" and NOBODY in label else side)
        fault = self._fault(number, side)
        if fault is not None:
            self.faults[number] = fault
            # Of reads from the API server only those that keep somebody waiting, perhaps until a run's time is over.
            if side == "engine" or not label.startswith("GET ") or fault.kind in WAITS:
                self.observer.uncertain = True
        self.tell(process.name, f"#{number} {label}" + (f"   !! {fault}" if fault else ""))
        self.observer.asked(process, side)
        return number, fault

    def _fault(self, number: int, side: str) -> Fault | None:
        if self._plan is not None:
            return self._plan.get(number)
        dice = self._dice["faults"]
        if self.quiet or dice.random() >= self.scenario.fault_rate:
            return None
        engine_faults = ELECTED_FAULTS if self.scenario.elected else ENGINE_FAULTS
        kinds: tuple[str, ...] = engine_faults if side == "engine" else KUBE_FAULTS
        if self.seed < SLOW_FROM:
            kinds = tuple(kind for kind in kinds if kind not in SLOW)
        kind = dice.choice(kinds)
        if kind == SLEEP:
            return Fault(kind, dice.uniform(0.1, 3 * self.scenario.lease_seconds))
        if kind not in LASTING:
            return Fault(kind)
        longest = 14.0 if side == "kube" else 0.95 * self.scenario.call_timeout_seconds
        return Fault(kind, dice.uniform(0.1, longest))

    def answered(self, number: int, value: Any) -> None:
        """Tell of an answer."""
        self.observer.answered(number)
        if isinstance(value, tuple) and value[1] == "application/json":
            self.observer.told(number)
        shown = repr(value) if isinstance(value, BaseException) else f"{value[0]} {value[2][:300].decode()}"
        self.tell("", f"#{number} -> {shown}")

    def sent(self, process: Process, number: int, method: str, path: list[str], body: Any) -> Any:
        return self.observer.sent(process, number, method, path, body)

    def wrote(self, process: Process, method: str, path: str) -> None:
        self.observer.wrote(process, method, path)

    def served(self, process: Process, method: str, url: str, found: Answered) -> None:
        self.observer.served(process, method, url, found)

    def got(self, process: Process, method: str, url: str, answer: Answer) -> None:
        self.observer.got(process, method, url, answer)

    def arrived(self, token: Any, operation: Callable[[], Any]) -> Any:
        return self.observer.arrived(token, operation)

    def tell(self, who: str, what: str) -> None:
        """Keep one line of the event log."""
        self._trace.append((self.loop.time(), who, what))

    # What happens to processes.

    def start(self) -> Process:
        """Start an operator."""
        number = len(self.processes) + 1
        scenario = self.scenario
        settings = _settings(scenario.lease_seconds, scenario.call_timeout_seconds, batches=scenario.batches)
        name = f"op{number}"
        settings = settings.model_copy(update={"identity": name, "leader_elect": scenario.elected})
        process = Process(self, name, settings, scenario.sizes)
        self.processes.append(process)
        self.tell(process.name, "starts")
        process.start()
        return process

    def crash(self, process: Process) -> None:
        """Kill it; something starts another one a moment later."""
        if process.killed:
            return
        self.tell(process.name, "dies")
        process.kill()
        self.observer.uncertain = True
        self.later(self._dice["events"].choice((0.3, 2.0, 8.0)), self._ensure)

    def ended(self, process: Process) -> None:
        """It went by itself: could not start, or was asked to stop."""
        self.tell(process.name, "ends")
        self.later(1.0, self._ensure)

    def failed(self, process: Process, error: BaseException | None) -> None:
        """It ended by a mistake."""
        self.observer.problem("mistake", f"{process.name} ended: {error!r}")

    def stop(self, process: Process, seconds: float) -> None:
        """It stands still for a while."""
        self.tell(process.name, f"stands still for {seconds:.1f} s")
        process.frozen = True

        def wake() -> None:
            if not process.killed:
                self.tell(process.name, "goes on")
                process.woke_at = self.loop.time()
                self.loop.thaw(process)

        self.later(seconds, wake)

    def second(self) -> None:
        """Another operator beside the one that is there."""
        if sum(process.alive for process in self.processes) < 3:
            self.later(0.0, self._start)

    def _start(self) -> None:
        self.start()

    def _collect_late(self, event: str, _: dict[str, Any]) -> None:
        """The garbage collector is never in a hurry."""
        if event == "DELETED":
            self.later(self._dice["events"].uniform(0.5, 20.0), self.api.collect_garbage)

    def _ensure(self) -> None:
        if not any(process.alive for process in self.processes):
            self.start()

    def apply(self, one: Applied) -> None:
        """Apply a manifest, again and again the same, unless it is there."""
        Event(0.0, "create", of=one.name).happen(self)

    # The story.

    def play(self) -> Outcome:
        """Run it from beginning to end."""
        problems: list[str] = []
        with wall.belongs_to(self.seed, self.loop.time, self.observer.logged):
            try:
                self.loop.run(self._story())
            except Exception as error:
                problems.append(f"{type(error).__name__}: {error}")
            finally:
                self._bury()
        problems = [*self.observer.problems, *problems]
        for context in self.loop.problems:
            problems.append(f"nobody awaited: {context.get('message')} {context.get('exception')!r}")
        return Outcome(
            self.seed,
            problems,
            self.faults,
            self.boundaries,
            self.loop.time(),
            [f"{at:9.3f} {who:4} {what}" for at, who, what in self._trace],
            self.observer.phase(),
            len(self.observer.calls),
            self.sides,
        )

    async def _story(self) -> None:
        scenario = self.scenario
        self.population = scenario.populate_all(self.engine)
        self.api.create("namespaces", None, {"metadata": {"name": NAMESPACE}})
        self.api.create("restateengines", NAMESPACE, {"metadata": {"name": ENGINE}, "spec": scenario.engine_spec})
        self.start()
        if scenario.elected:
            self.start()
        self.events_left = len(scenario.events)
        before = [event for event in scenario.events if event.at < 0]
        for event in before:
            self.later(scenario.first_seconds + event.at, partial(self._happen, event))
        await asyncio.sleep(scenario.first_seconds)
        self.apply(scenario)
        self._unapplied = len(scenario.beside)
        for one in scenario.beside:
            self.later(one.after_seconds, partial(self._also, one))
        for event in scenario.events:
            if event not in before:
                self.later(event.at, partial(self._happen, event))
        await asyncio.sleep(scenario.faulty_seconds if self._plan is None else 0.0)
        while self.events_left or self._unapplied or not self._faults_done():
            if self.observer.finished() and self._plan is not None and not (self.events_left or self._unapplied):
                break
            await asyncio.sleep(0.5)
        self.quiet = True
        for one in scenario.applied.values():
            if one.approved:
                Event(0.0, "approve-from-now-on", of=one.name).happen(self)
        self._ensure_later()
        await self._until_finished()
        while self._under_way:
            # What comes late must not go unseen.
            await asyncio.sleep(0.5)
        if not self.observer.problems and scenario.epilogue and self.observer.records():
            await self._epilogue()
        self.observer.final()

    def _faults_done(self) -> bool:
        return self._plan is None or self.boundaries > max(self._plan, default=-1)

    def _ensure_later(self) -> None:
        self.later(10.0, self._ensure)

    async def _until_finished(self) -> None:
        most = MOST_SECONDS + self.scenario.longest_seconds()
        deadline = self.loop.time() + most
        while not self.observer.finished():
            if self.loop.time() > deadline:
                self.observer.problem("liveness", f"the run has not ended {most} s after the last fault")
                return
            await asyncio.sleep(0.25)

    async def _epilogue(self) -> None:
        """Whatever is done with the same manifest afterwards, nothing is asked again."""
        self.observer.closed = True
        for process in self.processes:
            if process.alive:
                process.kill()
        self.tell("", "epilogue: another operator finds it all")
        self.start()
        await asyncio.sleep(2.0)
        for one in self.scenario.applied.values():
            # One that was deleted before its run began has never run.
            asked_for = self.said.get(one.name, {}).get("runId")
            runs = self.observer.records(one)
            # What was asked for last may have been deleted before it was begun: then it is done now.
            if any(one.sweep is not None or record.spec.run_id == asked_for for record in runs):
                await self._again(one)

    async def _again(self, one: Applied) -> None:
        found = self.api.get(one.plural, NAMESPACE, one.name)
        if found is not None:
            self.tell("", f"epilogue: {one.name} is restored without its status")
            path = f"/apis/ops.restate.dev/v1alpha1/namespaces/{NAMESPACE}/{one.plural}/{one.name}"
            self.api.request("PUT", f"{path}/status", {**found, "status": {"observedGeneration": -1}})
            await self._settled(one, "AlreadyExecuted")
        self.tell("", f"epilogue: {one.name} is deleted and created again")
        self.api.delete(one.plural, NAMESPACE, one.name)
        await asyncio.sleep(0.2)
        self.apply(one)
        await self._settled(one, "AlreadyExecuted")

    async def _settled(self, one: Applied, phase: str) -> None:
        found = None
        if one.sweep == sweeping.TICK:
            # Its only tick is of an earlier time, which nobody catches up.
            await asyncio.sleep(5.0)
            return
        for _ in range(240):
            obj = self.api.get(one.plural, NAMESPACE, one.name)
            found = one.phase(obj)
            # Of a sweep whose status was lost the record tells how it ended.
            if found == phase or (one.sweep is not None and obj is not None and one.ended(obj)):
                return
            await asyncio.sleep(0.25)
        if self.observer.records(one):
            self.observer.problem("once", f"the same manifest again is {found}, not {phase}")

    def _also(self, one: Applied) -> None:
        self._unapplied -= 1
        self.tell("", f"{one.name} is applied")
        self.apply(one)

    def _happen(self, event: Event) -> None:
        self.events_left -= 1
        self.tell("", f"event: {event.kind} {event.value}" + (f" of {event.of}" if self.scenario.beside else ""))
        event.happen(self)

    def _bury(self) -> None:
        """Unwind what is left of all processes, so that nothing of this history leaks into the next."""
        found = len(self.loop.problems)
        for process in self.processes:
            process.bury()
            self.loop.thaw(process)
        for _ in range(20):
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            # Of a history that ended in a busy loop it may go on here.
            with suppress(BusyLoop):
                self.loop.drain()
        del self.loop.problems[found:]
        metrics.LEADER.set(0)
        self.loop.close()
