"""The engine that is meant may change at any time: what was begun is found again, and ends once.

For an object that names none another one may be the default; and an engine looks like another one when all its
deployments were replaced since the run began.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.simulation import search
from e2e.simulation.applied import NAMESPACE
from e2e.simulation.engine import Invocation
from e2e.simulation.history import Outcome, World
from e2e.simulation.scenarios import OPERATOR_NAMESPACE, POPULATIONS, VERIFICATION, Event, Scenario
from e2e.simulation.wires import CRASH_AFTER, CRASH_BEFORE, LOST_ANSWER, REFUSED, Fault

URL = {"url": "http://engine:9070"}
WHILE_NOBODY_IS_THERE = 0.1
"""Seconds after a crash: the next operator starts later."""


@dataclass(frozen=True)
class ByDefault(Scenario):
    """Its manifest names no engine."""

    def manifest(self, population: Sequence[Invocation]) -> dict[str, Any]:
        made = super().manifest(population)
        del made["spec"]["engineRef"]
        return made


@dataclass(frozen=True)
class Happens(Event):
    """What `value` does to the world."""

    def happen(self, world: World) -> None:
        self.value(world)


def shared(world: World) -> None:
    spec = {**URL, "allowedNamespaces": {"from": "All"}}
    world.api.create("restateengines", OPERATOR_NAMESPACE, {"metadata": {"name": "default"}, "spec": spec})


def appears(world: World) -> None:
    """The namespace gets a default of its own: a run that has begun goes on with the other one."""
    world.api.create("restateengines", NAMESPACE, {"metadata": {"name": "default"}, "spec": URL})


def moves(world: World) -> None:
    """The operator's is gone, too: a run that has begun cannot go on."""
    world.api.delete("restateengines", OPERATOR_NAMESPACE, "default")
    appears(world)


def vanishes(world: World) -> None:
    """No engine is the default then: a run that has begun cannot go on."""
    world.api.delete("restateengines", OPERATOR_NAMESPACE, "default")


def play(faults: dict[int, Fault], *events: Event) -> Outcome:
    action = "RestartAsNew"
    events = (Happens(-0.1, "", shared), *events)
    population = (POPULATIONS[action][0],) * 2
    scenario = ByDefault(action, population, spec=dict(VERIFICATION), events=events, epilogue=False)
    return search.play(0, scenario, faults)


def crash(outcome: Outcome, boundary: int, happens: Callable[[World], None]) -> tuple[dict[int, Fault], Event]:
    """A crash at a boundary of the history without faults, and what happens before the next operator is there."""
    line = next(line for line in outcome.trace if f" #{boundary} " in line)
    at = float(line.split()[0]) - ByDefault.first_seconds + WHILE_NOBODY_IS_THERE
    return {boundary: Fault(CRASH_AFTER)}, Happens(at, "", happens)


def redeployed(world: World) -> None:
    world.engine.deploy()


def replaced(world: World) -> None:
    """The deployment that was there is removed, when nothing needs it any more."""
    engine = world.engine
    engine.deployments = engine.deployments[-1:]
    engine._tables.deployments(engine.deployments, engine.services.items())


def test_run_goes_on_after_a_crash_though_all_deployments_were_replaced_since_it_began() -> None:
    """As those of a run in waves are: it was stopped, "another cluster answers now"."""
    wave = {**VERIFICATION, "rollout": {"waves": [1], "soak": "60s"}}
    events = (Happens(8.0, "", redeployed), Happens(20.0, "", replaced), Event(40.0, "kill", 0))
    population = (POPULATIONS["RestartAsNew"][0],) * 3
    outcome = search.play(0, Scenario("RestartAsNew", population, spec=wave, events=events, epilogue=False), {})
    assert (outcome.problems, outcome.phase, outcome.calls) == ([], "Succeeded", 3)


def told(outcomes: Sequence[Outcome]) -> list[tuple[dict[int, Fault], list[str]]]:
    return [(outcome.faults, outcome.problems) for outcome in outcomes if outcome.problems]


@pytest.mark.parametrize(
    ("happens", "phases"),
    [(appears, {"Succeeded"}), (moves, {"Succeeded", "Stopped"}), (vanishes, {"Succeeded", "Stopped"})],
)
def test_run_of_the_default_engine_that_crashed_before_another_one_was_it_ends(
    happens: Callable[[World], None], phases: set[str]
) -> None:
    clean = play({})
    outcomes = []
    for boundary in range(search._record(clean), len(clean.sides)):
        faults, event = crash(clean, boundary, happens)
        outcomes.append(play(faults, event))
    assert told(outcomes) == []
    assert {outcome.phase for outcome in outcomes} == phases


def test_run_that_was_closed_without_its_object_hearing_of_it_is_not_done_again_on_another_default_engine() -> None:
    """It was begun and cut off, and could not go on: that is written down, and then the write to the object fails."""
    clean = play({})
    faults, event = crash(clean, search._record(clean), moves)
    stopped = play(faults, event)
    closed = next(n for n, line in enumerate(stopped.trace) if "PUT" in line and "/invocationrecords/" in line)
    first = int(stopped.trace[closed].partition("#")[2].split()[0])
    outcomes = []
    for boundary in range(first, len(stopped.sides)):
        for kind in (CRASH_BEFORE, CRASH_AFTER, LOST_ANSWER, REFUSED):
            outcomes.append(play({**faults, boundary: Fault(kind)}, event))
    assert len(outcomes) >= 8
    assert told(outcomes) == []
    assert {(outcome.phase, outcome.calls) for outcome in outcomes} == {("Stopped", 0)}
