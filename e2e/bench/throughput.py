"""Each action on thousands of invocations, beside the official command line and a bare loop over the same endpoint.

All in one run, on equal and fresh populations, in an order that changes from round to round; medians of the rounds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.bench import crowd
from e2e.bench.crowd import Crowd
from e2e.bench.figures import Figure, median
from e2e.bench.relay import Relay
from e2e.bench.stage import NAMESPACE, ROOT, Stage
from e2e.bench.wire import Line, Watch, ready
from e2e.rig import Engine

SERVICES = "bulk"
SIZE = 10_000
GOAL_BARE = 0.8
GOAL_OFFICIAL = 3.0
RAISED = {"maxInFlight": 20_000, "operationsPerSecond": 100_000}

NOTE = (
    f"{SIZE:,} invocations each, medians of {{rounds}} in changing order, every side with a fresh set of its own. "
    "The bare loop knows the ids beforehand and posts them to the engine's batch endpoint, in batches of the same size "
    "and as many at once as the operator has; it reads no row, keeps no intent and verifies nothing. It and the "
    "operator are timed from the first such request to the last answer, by a relay that both go through. The official "
    "command line (`restate invocations … --yes --limit`) is timed from its start to its end and goes to the engine "
    "directly. "
    f"Raised limits: {RAISED['maxInFlight']:,} in flight, {RAISED['operationsPerSecond']:,} per second; the default "
    "ones are 500 and 1,000."
)


@dataclass(frozen=True)
class Subject:
    """An action, what the engine and the command line call it, what it is done to, and how that looks afterwards."""

    action: str
    operation: str
    populate: Callable[[Engine, str, int], Crowd]
    done: Callable[[dict[str, int]], bool]


def _none(counts: dict[str, int]) -> bool:
    return not counts


SUBJECTS = (
    Subject("Cancel", "cancel", Crowd.waiting, _none),
    Subject("Kill", "kill", Crowd.failing, lambda counts: set(counts) == {"completed"}),
    Subject("Pause", "pause", Crowd.failing, lambda counts: set(counts) == {"paused"}),
    Subject("Resume", "resume", Crowd.paused, lambda counts: "paused" not in counts),
    Subject("Purge", "purge", Crowd.completed, _none),
    Subject("RestartAsNew", "restart-as-new", Crowd.completed, lambda counts: sum(counts.values()) == 2 * SIZE),
)
TOPICS = {f"throughput-{subject.operation}": subject for subject in SUBJECTS}


@dataclass
class Times:
    """Seconds of one subject, a value for each round."""

    bare: list[float] = field(default_factory=list)
    official: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    """The operator, from its first to its last call."""
    last: list[float] = field(default_factory=list)
    """From the manifest to the last call."""
    whole: list[float] = field(default_factory=list)
    """From the manifest to Ready."""
    at_once: int = 1
    modest: float = 0.0
    """From the manifest to Ready with default limits."""


def measure(stage: Stage, rounds: int, subject: Subject) -> list[Figure]:
    times = Times()
    with Relay(stage.engine.admin_url) as relay, stage.operator("throughput") as operator:
        stage.connect("raised", relay.url, RAISED)
        sides: list[Callable[[str], None]] = [
            lambda name: _ours(stage, subject, relay, name, times),
            lambda name: _bare(stage, subject, relay, times),
            lambda name: _official(stage, subject, times),
        ]
        try:
            # Not counted: the first of everything is slow, and tells how many batches the operator has at once.
            _ours(stage, subject, relay, f"{subject.operation}-first", Times(), size=crowd.BATCH * 3)
            for number in range(rounds):
                for side in sides[number % 3 :] + sides[: number % 3]:
                    side(f"{subject.operation}-{number}")
            times.modest = _modest(stage, subject, f"{subject.operation}-modest")
        except TimeoutError as error:
            raise RuntimeError(f"{error}; the operator says:\n{operator.tail()}") from error
    return _figures(subject, times)


def _figures(subject: Subject, times: Times) -> list[Figure]:
    bare, official, calls = median(times.bare), median(times.official), median(times.calls)
    last, whole = median(times.last), median(times.whole)
    return [
        Figure("bare loop, first → last call", _rate(bare), f"batches of {crowd.BATCH}, {times.at_once} at once"),
        Figure("official command line, whole", _rate(official)),
        Figure(
            "operator, first → last call",
            _rate(calls),
            f"{bare / calls:.2f} of the bare loop, goal ≥ {GOAL_BARE}",
            bare / calls >= GOAL_BARE,
        ),
        Figure(
            "operator, first → last call, beside the command line",
            f"{official / calls:.1f} : 1",
            f"goal ≥ {GOAL_OFFICIAL:.0f}",
            official / calls >= GOAL_OFFICIAL,
        ),
        Figure("operator, apply → last call", f"{last:.2f} s", f"{official / last:.1f} times the command line"),
        Figure("operator, apply → Ready (verified), raised limits", f"{whole:.2f} s", _rate(whole)),
        Figure("operator, apply → Ready (verified), default limits", f"{times.modest:.2f} s", _rate(times.modest)),
    ]


def _rate(seconds: float) -> str:
    return f"{SIZE / seconds:,.0f}/s"


def _ours(stage: Stage, subject: Subject, relay: Relay, name: str, times: Times, *, size: int = SIZE) -> None:
    population = subject.populate(stage.engine, "Ours", size)
    relay.reset()
    applied, ended = _apply(stage, subject, population, name, "raised", size)
    first, last = relay.span()
    times.calls.append(last - first)
    times.last.append(last - applied)
    times.whole.append(ended - applied)
    times.at_once = relay.at_once()
    population.remove()


def _modest(stage: Stage, subject: Subject, name: str) -> float:
    """With the default limits, on the engine's own address: budgets are shared by address."""
    population = subject.populate(stage.engine, "Modest", SIZE)
    applied, ended = _apply(stage, subject, population, name, "production", SIZE)
    population.remove()
    return ended - applied


def _apply(stage: Stage, subject: Subject, population: Crowd, name: str, engine: str, size: int) -> tuple[float, float]:
    """When the manifest was applied, and when it was Ready with everything done and verified."""
    path = f"{ROOT}/namespaces/{NAMESPACE}/invocationactions"
    target = {"services": [population.service]}
    manifest = stage.action(name, subject.action, target, engineRef={"name": engine}, limits={"maxTargets": size})
    with Watch(stage.control_plane, path) as watch:
        line = Line.to(stage.control_plane)
        applied = time.perf_counter()
        line.request("POST", path, manifest)
        ended, obj = watch.first(lambda obj: obj["metadata"]["name"] == name and _over(obj), timeout=180)
    status = obj["status"]
    if not ready(obj) or status["progress"]["effective"] != size:
        raise RuntimeError(f"{name} was to do all of it: {status}")
    return applied, ended


def _over(obj: dict[str, object]) -> bool:
    status = obj.get("status")
    return isinstance(status, dict) and "completionTime" in status


def _bare(stage: Stage, subject: Subject, relay: Relay, times: Times) -> None:
    population = subject.populate(stage.engine, "Bare", SIZE)
    ids = population.ids()
    relay.reset()
    crowd.operate(relay.url, subject.operation, ids, at_once=times.at_once)
    first, last = relay.span()
    times.bare.append(last - first)
    population.wait(subject.done)
    population.remove()


def _official(stage: Stage, subject: Subject, times: Times) -> None:
    population = subject.populate(stage.engine, "Official", SIZE)
    begun = time.perf_counter()
    arguments = ["invocations", subject.operation, population.service, "--yes", "--limit", str(SIZE)]
    stage.engine.cli(*arguments)
    times.official.append(time.perf_counter() - begun)
    population.wait(subject.done)
    population.remove()
