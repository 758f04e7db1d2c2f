"""What is played: a population of invocations, a manifest, and what people and machines do meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from e2e.simulation.engine import SCRIPTS, Engine, Invocation, Script
from invocation_operator.cluster.chunks import SetSizes

if TYPE_CHECKING:
    from e2e.simulation.history import World

Happen = Callable[["World", Any], None]
NAMESPACE = "shop"
OPERATOR_NAMESPACE = "operator-system"
ENGINE = "production"
NAME = "act"
SERVICE = "Svc"
SIGNAL_ACTIONS = ("Cancel", "RestartAsNew")


@dataclass(frozen=True)
class Event:
    """Something that happens `at` so many seconds after the manifest was applied, or (below zero) just before."""

    at: float
    kind: str
    value: Any = None

    def happen(self, world: "World") -> None:
        """Let it happen."""
        HAPPENINGS[self.kind](world, self.value)


@dataclass(frozen=True)
class Scenario:
    """All that a history is made of beside its seed and its faults."""

    action: str
    handlers: tuple[tuple[str, str], ...]
    """Handler and status of each invocation of the population."""
    spec: dict[str, Any] = field(default_factory=dict)
    by_ids: bool = False
    """Whether the target names the ids, or selects by service."""
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
    def approved(self) -> bool:
        """Whether a person has to approve the plan."""
        return self.spec.get("mode") == "Approve"

    def populate(self, engine: Engine) -> list[Invocation]:
        """Make the invocations."""
        return [engine.add(SERVICE, handler, status) for handler, status in self.handlers]

    def manifest(self, ids: Sequence[str]) -> dict[str, Any]:
        """The InvocationAction; `ids` are those of the population."""
        target: dict[str, Any] = {"ids": list(ids)} if self.by_ids else {"services": [SERVICE]}
        target |= self.spec.get("target", {})
        spec = {"engineRef": {"name": ENGINE}, "action": self.action, **self.spec, "target": target}
        return {
            "apiVersion": "ops.restate.dev/v1alpha1",
            "kind": "InvocationAction",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": spec,
        }

    def verification_seconds(self) -> float:
        """How long an effect is waited for."""
        return seconds_of(self.spec["verification"]["timeout"])

    def longest_seconds(self) -> float:
        """How long the run may take when no effect is ever seen."""
        specs = [self.spec, *(event.value for event in self.events if event.kind == "patch")]
        limits = [(spec.get("limits") or {}).get("maxInFlight") or 500 for spec in specs]
        at_once = min(*limits, len(self.handlers))
        waves = self.spec.get("rollout")
        soaks = 0.0 if waves is None else seconds_of(waves["soak"]) * (len(waves["waves"]) + 1)
        steps = -(-len(self.handlers) // at_once) + (0 if waves is None else len(waves["waves"]))
        return soaks + self.verification_seconds() * steps

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


def _patch(world: "World", spec: dict[str, Any]) -> None:
    if world.api.get("invocationactions", NAMESPACE, NAME) is not None:
        world.api.patch("invocationactions", NAMESPACE, NAME, {"spec": spec})


def _delete(world: "World", _: Any) -> None:
    world.api.delete("invocationactions", NAMESPACE, NAME)
    world.later(1.0, world.api.collect_garbage)


def _create(world: "World", _: Any) -> None:
    if world.api.get("invocationactions", NAMESPACE, NAME) is None:
        world.api.create("invocationactions", NAMESPACE, world.manifest())


def _switch(world: "World", on: bool) -> None:
    world.api.patch("restateengines", NAMESPACE, ENGINE, {"spec": {"suspend": on}})


def _hold(world: "World", value: tuple[str, tuple[int, ...] | str]) -> None:
    """Somebody holds some of the invocations, or whatever a handler made."""
    name, what = value
    ids = None if isinstance(what, str) else [_one(world, number).id for number in what]
    target = {"handlers": [what]} if ids is None else {"ids": ids}
    spec = {"engineRef": {"name": ENGINE}, "services": [SERVICE], "holds": [{"name": "held", "target": target}]}
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
    for process in world.processes:
        if not process.killed:
            process.break_watches()

    def up() -> None:
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


def _shown(world: "World") -> str | None:
    """The hash of the plan that waits for its approval."""
    obj = world.api.get("invocationactions", NAMESPACE, NAME)
    status = (obj or {}).get("status") or {}
    waits = status.get("phase") == "AwaitingApproval"
    return str(status["plan"]["hash"]) if waits and (status.get("plan") or {}).get("hash") else None


def _approve(world: "World", delay: float) -> None:
    """A person reads the plan, and approves what they read so much later, whatever is shown by then."""
    digest = _shown(world)
    if digest is not None:
        world.later(delay, lambda: _patch(world, {"approvedPlan": digest}))


def _approve_from_now_on(world: "World", _: Any) -> None:
    """Whatever is shown is approved soon after."""
    digest = _shown(world)
    obj = world.api.get("invocationactions", NAMESPACE, NAME)
    if digest is not None and obj is not None and obj["spec"].get("approvedPlan") != digest:
        _patch(world, {"approvedPlan": digest})
    world.later(0.7, lambda: _approve_from_now_on(world, None))


def _revoke(world: "World", approved: str | None) -> None:
    """The approval is withdrawn, or turned into one of something else."""
    _patch(world, {"approvedPlan": approved})


WAVES: tuple[list[int | str], ...] = ([1], [1, "50%"], ["10%", "50%"], [2, 4], ["1%"])
SOMETHING_ELSE = "sha256:" + "0" * 48

HAPPENINGS: dict[str, Happen] = {
    "finish": _finish,
    "born-again": _born_again,
    "more": _more,
    "patch": _patch,
    "delete": _delete,
    "create": _create,
    "kill-switch": _switch,
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


VARIANTS: dict[str, Callable[[Scenario], Scenario]] = {
    "waves": in_waves,
    "approval": with_approval,
    "chunks": in_chunks,
    "election": with_election,
}


def drawn(seed: int, *, most: int = 40) -> Scenario:
    """A scenario drawn from a seed."""
    dice = Random(f"{seed}/scenario")
    action = dice.choice(("Cancel", "Cancel", "RestartAsNew", "RestartAsNew", *POPULATIONS))
    size = dice.choice((1, 2, 3, 5, 8, dice.randint(1, most)))
    handlers = tuple(dice.choice(POPULATIONS[action]) for _ in range(size))
    spec: dict[str, Any] = {"verification": {"timeout": dice.choice(("15s", "40s", "90s"))}}
    limits: dict[str, Any] = {}
    if dice.random() < 0.5:
        limits["maxInFlight"] = dice.choice((1, 2, 5))
    if dice.random() < 0.25:
        limits["operationsPerSecond"] = dice.choice((2, 10, 50))
    if limits:
        spec["limits"] = limits
    if action == "Cancel" and dice.random() < 0.2:
        spec["escalation"] = {"killAfter": "5s"}
    if action == "Cancel" and dice.random() < 0.2:
        spec["expedite"] = True
    if action == "Resume" and dice.random() < 0.4:
        spec["resume"] = {"deployment": "Latest"}
        spec["target"] = {"statuses": ["Paused", "BackingOff", "Suspended"]}
        handlers = tuple(dice.choice((*POPULATIONS[action], ("fail_slow_retry", "backing-off"))) for _ in range(size))
    if dice.random() < 0.1:
        spec["timeout"] = dice.choice(("5s", "100s"))
    batches = dice.random() < 0.6
    made = Scenario(
        action,
        handlers,
        spec,
        by_ids=dice.random() < 0.3,
        events=tuple(_events(dice, size)),
        batches=batches,
        slowness=dice.choice((1.0, 1.0, 5.0, 100.0)),
        skew_seconds=dice.choice((0.0, 0.0, -3600.0, 7200.5)),
        lease_seconds=dice.choice((15.0, 15.0, 4.0)),
        call_timeout_seconds=dice.choice((10.0, 10.0, 2.0)),
        faulty_seconds=dice.choice((1.0, 5.0, 30.0)),
        fault_rate=dice.choice((0.0, 0.003, 0.01, 0.03, 0.1)),
        epilogue=dice.random() < 0.4,
    )
    return _held(_varied(made, Random(f"{seed}/variants")), Random(f"{seed}/holds"))


def _held(scenario: Scenario, dice: Random) -> Scenario:
    """Now and then somebody holds some of what would be purged, before or after it is asked for."""
    if scenario.action not in ("Purge", "PurgeJournal") or dice.random() < 0.4:
        return scenario
    events, size, spec = list(scenario.events), len(scenario.handlers), dict(scenario.spec)
    if dice.random() < 0.5:
        # Slowly, so that a hold comes in mid-run.
        spec["limits"] = {**spec.get("limits", {}), "operationsPerSecond": 1}
    for name in dice.choice((("legal",), ("legal",), ("legal", "audit"))):
        # The last of them more often than others: their turn comes late.
        some = tuple({*dice.sample(range(size), dice.randint(1, size)), size - 1})
        at = dice.choice((dice.uniform(-0.15, 0.0), dice.uniform(0.0, 0.2), dice.uniform(0.0, size / 2)))
        events.append(Event(at, "hold", (name, dice.choice((some, some, "fail_terminal")))))
        if dice.random() < 0.3:
            events.append(Event(at + dice.uniform(0.1, 20.0), "let-go", name))
    return scenario.but(spec=spec, events=tuple(events))


def _varied(scenario: Scenario, dice: Random) -> Scenario:
    """Now and then in waves, with an approval, in chunks, with an election; or several of these."""
    spec, changes = dict(scenario.spec), dict[str, Any]()
    events = list(scenario.events)
    if scenario.action in ("Resume", "RestartAsNew") and dice.random() < 0.5:
        spec["rollout"] = {"waves": dice.choice(WAVES), "soak": dice.choice(("1s", "6s", "20s"))}
        if (most := dice.choice((None, 0, 1, 3, "20%", "50%", "100%", "100%"))) is not None:
            spec["rollout"]["maxUnhealthy"] = most
    if dice.random() < 0.25:
        spec["mode"] = "Approve"
        drift, age = dice.choice(("Subset", "Subset", "Exact")), dice.choice(("1m", "1h"))
        spec["approval"] = {"drift": drift, "planMaxAge": age}
        for _ in range(dice.choice((0, 1, 1, 2, 4))):
            at = dice.choice((dice.uniform(0.1, 3.0), dice.uniform(0.1, 30.0), dice.uniform(50.0, 80.0)))
            delay = dice.choice((0.0, dice.uniform(0.0, 3.0)))
            other = (Event(at, "approve", delay), Event(at, "revoke"), Event(at, "revoke", SOMETHING_ELSE))
            events.append(dice.choice((other[0], *other)))
    if dice.random() < 0.25:
        inline = dice.choice((0, 2))
        changes["sizes"] = SetSizes(inline=inline, chunk=dice.choice((1, 2, 5)))
    if dice.random() < 0.2:
        changes["elected"] = True
        for _ in range(dice.choice((0, 1, 1, 2))):
            event = Event(dice.uniform(0.0, 20.0), "stand-still", (dice.randrange(3), dice.uniform(1.0, 40.0)))
            events.append(event)
    return scenario.but(spec=spec, events=tuple(events), **changes)


def seconds_of(text: str) -> float:
    """Seconds of what manifests here say: `90s`, `1m`, `1h`."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def _events(dice: Random, size: int) -> Sequence[Event]:
    found: list[Event] = []

    def at() -> float:
        return dice.choice((dice.uniform(0.0, 0.4), dice.uniform(0.0, 3.0), dice.uniform(0.0, 25.0)))

    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        kind = dice.choice(KINDS)
        match kind:
            case "finish" | "born-again":
                found.append(Event(at(), kind, dice.randrange(size)))
            case "more":
                found.append(Event(at(), kind, dice.randint(1, 3)))
            case "suspend":
                begin = at()
                found += [Event(begin, "patch", {"suspend": True})]
                found += [Event(begin + dice.uniform(0.5, 20.0), "patch", {"suspend": False})]
            case "limit":
                found.append(Event(at(), "patch", {"limits": {"maxInFlight": dice.choice((1, 3, 7))}}))
            case "delete-create":
                begin = at()
                found += [Event(begin, "delete"), Event(begin + dice.uniform(0.05, 5.0), "create")]
            case "delete":
                found.append(Event(at(), kind))
            case "kill-switch":
                begin = at()
                found += [Event(begin, kind, True), Event(begin + dice.uniform(0.5, 20.0), kind, False)]
            case "engine-restarts":
                value = (dice.uniform(0.1, 15.0), dice.uniform(0.02, 1.0), dice.choice(("nothing", "old")))
                found.append(Event(at(), kind, value))
            case "api-down":
                found.append(Event(at(), kind, dice.uniform(0.5, 30.0)))
            case "isolate":
                found.append(Event(at(), kind, (dice.randrange(3), dice.uniform(1.0, 40.0))))
                found.append(Event(at(), "second", 0))
            case "stand-still":
                found.append(Event(at(), kind, (dice.randrange(3), dice.choice((1.0, 3.0)))))
            case _:
                found.append(Event(at(), kind, dice.randrange(3)))
    return found


KINDS = (
    "finish",
    "born-again",
    "born-again",
    "more",
    "suspend",
    "limit",
    "delete-create",
    "delete",
    "kill-switch",
    "engine-restarts",
    "engine-restarts",
    "api-down",
    "watches-break",
    "kill",
    "kill",
    "drain",
    "second",
    "stand-still",
    "isolate",
)

__all__ = ["SCRIPTS", "Event", "Scenario", "Script", "drawn", "smallest"]
