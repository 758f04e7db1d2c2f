"""What is played: a population of invocations, a manifest, and what people and machines do meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from e2e.simulation import sweeping
from e2e.simulation.applied import ENGINE, NAME, NAMESPACE, SERVICE, Applied, seconds_of
from e2e.simulation.engine import Engine, Invocation
from invocation_operator.cluster.chunks import SetSizes
from invocation_operator.cluster.records import TERMINAL

if TYPE_CHECKING:
    from e2e.simulation.history import World

Happen = Callable[["World", Any], None]
HappenToOne = Callable[["World", Applied, Any], None]
OPERATOR_NAMESPACE = "operator-system"


@dataclass(frozen=True)
class Event:
    """Something that happens `at` so many seconds after the manifest was applied, or (below zero) just before."""

    at: float
    kind: str
    value: Any = None
    of: str = NAME
    """To which of the objects it happens, if to one."""

    def happen(self, world: "World") -> None:
        """Let it happen."""
        if self.kind in OF_ONE:
            OF_ONE[self.kind](world, world.scenario.applied[self.of], self.value)
        else:
            HAPPENINGS[self.kind](world, self.value)


@dataclass(frozen=True)
class Scenario(Applied):
    """All that a history is made of beside its seed and its faults: what is applied first, and everything else."""

    beside: tuple[Applied, ...] = ()
    """What else is applied, on the same engine."""
    calm: bool = False
    """Whether nothing goes wrong or is slow, so that of several runs each must get its turns in time."""
    events: tuple[Event, ...] = ()
    engine_spec: dict[str, Any] = field(default_factory=lambda: {"url": "http://engine:9070"})
    batches: bool = True
    slowness: float = 1.0
    skew_seconds: float = 0.0
    lease_seconds: float = 15.0
    call_timeout_seconds: float = 10.0
    first_seconds: float = 0.2
    faulty_seconds: float = 0.0
    fault_rate: float = 0.0
    epilogue: bool = True
    sizes: SetSizes = field(default_factory=SetSizes)
    """How planned sets are kept; small ones let few invocations fill chunks."""
    elected: bool = False
    """Whether two operators elect one that works."""

    @property
    def applied(self) -> dict[str, Applied]:
        """All that is applied, by name."""
        return {one.name: one for one in (self, *self.beside)}

    def populate_all(self, engine: Engine) -> list[Invocation]:
        """Make the invocations of all."""
        return [made for one in (self, *self.beside) for made in one.populate(engine)]

    def longest_seconds(self) -> float:
        """How long the runs may take when no effect is ever seen."""
        if not self.beside:
            return self._longest_of(self, 500)
        limits = [self.engine_spec.get("limits") or {}]
        limits += [event.value for event in self.events if event.kind == "engine-limits"]
        at_once = min(limit.get("maxInFlight") or 500 for limit in limits)
        rate = min(limit.get("operationsPerSecond") or 1000 for limit in limits)
        together = sum(self._longest_of(one, at_once) for one in self.applied.values())
        return together + 3 * sum(len(one.handlers) for one in self.applied.values()) / rate

    def _longest_of(self, one: Applied, at_once: int) -> float:
        specs = [one.spec, *(event.value for event in self.events if event.kind == "patch" and event.of == one.name)]
        limits = [(spec.get("limits") or {}).get("maxInFlight") or at_once for spec in specs]
        size = sum(len(other.handlers) for other in self.applied.values() if other.service in one.services)
        waves = one.spec.get("rollout")
        soaks = 0.0 if waves is None else seconds_of(waves["soak"]) * (len(waves["waves"]) + 1)
        steps = -(-size // min(*limits, size, at_once)) + (0 if waves is None else len(waves["waves"]))
        return soaks + one.verification_seconds() * steps

    def but(self, **changes: Any) -> "Scenario":
        """This one with other fields."""
        return replace(self, **changes)


# What happens.


def _one(world: "World", number: int) -> Invocation:
    return world.population[number % len(world.population)]


def _finish(world: "World", number: int) -> None:
    world.engine.finish(_one(world, number))


def _born_again(world: "World", number: int) -> None:
    """It goes away, and the same key makes the same id live again: somebody else's invocation."""
    found = _one(world, number)
    if not found.lives:
        return
    world.engine._vanish(found)
    status = {"completed": "completed"}.get(found.status, "suspended")
    world.later(0.05, lambda: _revive(world, found, status))


def _revive(world: "World", found: Invocation, status: str) -> None:
    if found.id not in world.engine.living:
        world.engine.add(found.service, found.handler, status, id=found.id, script=found.script)


def _more(world: "World", count: int) -> None:
    """Others come to match after the run's start."""
    handler, status = world.scenario.handlers[0]
    for _ in range(count):
        world.engine.add(SERVICE, handler, status)


def _object(world: "World", one: Applied) -> dict[str, Any] | None:
    return world.api.get(one.plural, NAMESPACE, one.name)


def _patch(world: "World", one: Applied, spec: dict[str, Any]) -> None:
    if _object(world, one) is not None:
        world.api.patch(one.plural, NAMESPACE, one.name, {"spec": spec})


def _say(world: "World", one: Applied, spec: dict[str, Any]) -> None:
    """The manifest is changed where it is kept, and applied."""
    world.said.setdefault(one.name, {}).update(spec)
    _patch(world, one, spec)


def _again(world: "World", one: Applied, run_id: str, tries: int = 200) -> None:
    """A person wants it done again, and is heard once the run has ended: before, the API server refuses it."""
    obj = _object(world, one)
    if obj is None or not tries:
        return
    if one.phase(obj) in TERMINAL:
        _say(world, one, {"runId": run_id})
        return
    world.events_left += 1

    def once_more() -> None:
        world.events_left -= 1
        _again(world, one, run_id, tries - 1)

    world.later(0.3, once_more)


def _delete(world: "World", one: Applied, _: Any) -> None:
    world.api.delete(one.plural, NAMESPACE, one.name)
    world.later(1.0, world.api.collect_garbage)


def _create(world: "World", one: Applied, _: Any) -> None:
    if _object(world, one) is None:
        made = one.manifest(world.population)
        said = world.said.get(one.name, {})
        world.api.create(one.plural, NAMESPACE, {**made, "spec": {**made["spec"], **said}})


def _engine_limits(world: "World", limits: dict[str, int]) -> None:
    world.api.patch("restateengines", NAMESPACE, ENGINE, {"spec": {"limits": limits}})


def _switch(world: "World", on: bool) -> None:
    world.api.patch("restateengines", NAMESPACE, ENGINE, {"spec": {"suspend": on}})


def _hold(world: "World", value: tuple[str, tuple[int, ...] | str]) -> None:
    """Somebody holds some of the invocations, or whatever a handler made."""
    name, what = value
    ids = None if isinstance(what, str) else [_one(world, number).id for number in what]
    target = {"handlers": [what]} if ids is None else {"ids": ids}
    services = [one.service for one in world.scenario.applied.values()]
    spec = {"engineRef": {"name": ENGINE}, "services": services, "holds": [{"name": "held", "target": target}]}
    if world.api.get("retentionpolicies", NAMESPACE, name) is None:
        world.api.create("retentionpolicies", NAMESPACE, {"metadata": {"name": name}, "spec": spec})


def _let_go(world: "World", name: str) -> None:
    world.api.delete("retentionpolicies", NAMESPACE, name)


def _engine_restarts(world: "World", value: tuple[float, float, str]) -> None:
    down, unread, shows = value
    world.observer.outage("engine", down)
    world.engine.restart(down, unread, shows=shows)


def _api_down(world: "World", seconds: float) -> None:
    world.observer.outage("kube", seconds)
    world.api_down = True
    world.api_outages += 1
    mine = world.api_outages
    for process in world.processes:
        if not process.killed:
            process.break_watches()

    def up() -> None:
        # One that went away again meanwhile is not back yet.
        if mine == world.api_outages:
            world.api_down = False

    world.later(seconds, up)


def _break_watches(world: "World", _: Any) -> None:
    for process in world.processes:
        if not process.killed:
            process.break_watches()


def _kill(world: "World", number: int) -> None:
    alive = [process for process in world.processes if process.alive]
    if alive:
        world.crash(alive[number % len(alive)])


def _drain(world: "World", number: int) -> None:
    """A rolling update: one is asked to stop, the next one starts."""
    alive = [process for process in world.processes if process.alive]
    if alive:
        alive[number % len(alive)].ask_to_stop()
        world.second()


def _stand_still(world: "World", value: tuple[int, float]) -> None:
    number, seconds = value
    alive = [process for process in world.processes if process.alive and not process.frozen]
    if alive:
        # Another one, or the same afterwards, takes over what it had in flight, and may have no time left to find out.
        world.observer.uncertain = True
        world.stop(alive[number % len(alive)], seconds)


def _isolate(world: "World", value: tuple[int, float]) -> None:
    """One operator loses the API server, and keeps the engine."""
    number, seconds = value
    alive = [process for process in world.processes if process.alive]
    if not alive:
        return
    lonely = alive[number % len(alive)]
    lonely.isolated = True
    lonely.break_watches()
    world.observer.uncertain = True

    def back() -> None:
        lonely.isolated = False

    world.later(seconds, back)


def _shown(world: "World", one: Applied) -> str | None:
    """The hash of the plan that waits for its approval."""
    obj = _object(world, one)
    status = (obj or {}).get("status") or {}
    waits = status.get("phase") == "AwaitingApproval"
    return str(status["plan"]["hash"]) if waits and (status.get("plan") or {}).get("hash") else None


def _approve(world: "World", one: Applied, delay: float) -> None:
    """A person reads the plan, and approves what they read so much later, whatever is shown by then."""
    digest = _shown(world, one)
    if digest is not None:
        world.later(delay, lambda: _patch(world, one, {"approvedPlan": digest}))


def _approve_from_now_on(world: "World", one: Applied, _: Any) -> None:
    """Whatever is shown is approved soon after."""
    digest = _shown(world, one)
    obj = _object(world, one)
    if digest is not None and obj is not None and obj["spec"].get("approvedPlan") != digest:
        _patch(world, one, {"approvedPlan": digest})
    world.later(0.7, lambda: _approve_from_now_on(world, one, None))


def _revoke(world: "World", one: Applied, approved: str | None) -> None:
    """The approval is withdrawn, or turned into one of something else."""
    _patch(world, one, {"approvedPlan": approved})


SOMETHING_ELSE = "sha256:" + "0" * 48

HAPPENINGS: dict[str, Happen] = {
    "finish": _finish,
    "born-again": _born_again,
    "more": _more,
    "kill-switch": _switch,
    "engine-limits": _engine_limits,
    "hold": _hold,
    "let-go": _let_go,
    "engine-restarts": _engine_restarts,
    "api-down": _api_down,
    "watches-break": _break_watches,
    "kill": _kill,
    "drain": _drain,
    "second": lambda world, _: world.second(),
    "stand-still": _stand_still,
    "isolate": _isolate,
}
OF_ONE: dict[str, HappenToOne] = {
    "patch": _patch,
    "say": _say,
    "again": _again,
    "delete": _delete,
    "create": _create,
    "approve": _approve,
    "approve-from-now-on": _approve_from_now_on,
    "revoke": _revoke,
}

# The smallest ones, and those drawn from a seed.

POPULATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Cancel": (
        ("sleep_long", "suspended"),
        ("hold", "running"),
        ("saga", "suspended"),
        ("sleep_long", "scheduled"),
        ("run_fails_slow", "backing-off"),
        ("run_fails_then_pause", "paused"),
        ("swallow_cancel", "suspended"),
        ("swallow_and_succeed", "suspended"),
    ),
    "Kill": (
        ("sleep_long", "suspended"),
        ("hold", "running"),
        ("fail_slow_retry", "backing-off"),
        ("fail_then_pause", "paused"),
        ("sleep_long", "scheduled"),
    ),
    "Pause": (("hold", "running"), ("busy", "running"), ("fail_slow_retry", "backing-off")),
    "Resume": (("hold", "paused"), ("sleep_long", "paused"), ("fail_then_pause", "paused")),
    "Purge": (("echo", "completed"), ("fail_terminal", "completed")),
    "PurgeJournal": (("echo", "completed"), ("fail_terminal", "completed")),
    "RestartAsNew": (("echo", "completed"), ("fail_terminal", "completed"), ("sleep_long", "completed")),
}
VERIFICATION = {"verification": {"timeout": "40s"}}


def smallest(action: str, size: int = 1) -> Scenario:
    """The first kind of invocation that an action applies to, `size` times."""
    return Scenario(action, (POPULATIONS[action][0],) * size, spec=dict(VERIFICATION))


def in_waves(scenario: Scenario) -> Scenario:
    """One first, then the others."""
    return scenario.but(spec={**scenario.spec, "rollout": {"waves": [1], "soak": "3s"}})


def with_approval(scenario: Scenario) -> Scenario:
    """Its plan waits for a person."""
    events = (*scenario.events, Event(0.5, "approve-from-now-on"))
    return scenario.but(spec={**scenario.spec, "mode": "Approve"}, events=events)


def in_chunks(scenario: Scenario) -> Scenario:
    """Every set is beside its record, one invocation in each chunk."""
    return scenario.but(sizes=SetSizes(inline=0, chunk=1))


def with_election(scenario: Scenario) -> Scenario:
    """Two operators, one of which works."""
    return scenario.but(elected=True, lease_seconds=4.0)


def as_sweep(scenario: Scenario) -> Scenario:
    """A policy's sweep purges, because its annotation asks for it."""
    return scenario.but(sweep=sweeping.ASKED, spec={})


def at_tick(scenario: Scenario) -> Scenario:
    """A policy's sweep purges, because its time has come."""
    return scenario.but(sweep=sweeping.TICK, spec={})


def among_others(scenario: Scenario) -> Scenario:
    """One does the same to the same at the same time, and to one more; another one kills; an engine has little room."""
    same = Applied(scenario.action, scenario.handlers[:1], dict(scenario.spec), covers=(scenario.service,))
    kill = Applied("Kill", POPULATIONS["Kill"][:1], dict(VERIFICATION))
    beside = [replace(one, name=f"{NAME}-{n}", service=f"{SERVICE}{n}") for n, one in enumerate((same, kill), 1)]
    limits = {"maxInFlight": 2, "operationsPerSecond": 4}
    return scenario.but(beside=tuple(beside), engine_spec={**scenario.engine_spec, "limits": limits})


VARIANTS: dict[str, Callable[[Scenario], Scenario]] = {
    "waves": in_waves,
    "approval": with_approval,
    "chunks": in_chunks,
    "election": with_election,
    "sweep": as_sweep,
    "tick": at_tick,
    "several": among_others,
}
