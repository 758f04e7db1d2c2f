"""The simulation bites, continued: what is held, broken on purpose."""

from collections.abc import Callable

import pytest

from e2e.simulation import search
from e2e.simulation.scenarios import Event, Scenario, smallest
from invocation_operator.plan.holds import Holds
from invocation_operator.reconcile import retention
from invocation_operator.reconcile.policies import Policies
from tests.simulation.test_simulation_bites import Break, Plays, first_to_miss

HELD = (3,)


def holds_are_not_read(patch: pytest.MonkeyPatch) -> None:
    """What the watch has told is thought to be all."""

    async def read(_: Policies) -> None:
        return

    patch.setattr(Policies, "read", read)


def holds_are_known_to_plans_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holds, "watcher", lambda *_: lambda __: None)


def hold_is_told_to_be_in_force_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "HEEDED_SECONDS", 0.0)


def scenario(*events: Event, rate: int = 1) -> Scenario:
    made = smallest("Purge", 6)
    spec = {**made.spec, "limits": {"operationsPerSecond": rate}}
    return made.but(epilogue=False, spec=spec, events=events)


def orders(made: Scenario, count: int = 40) -> Plays:
    return [lambda seed=seed: search.play(seed, made, None, disorder=True) for seed in range(count)]


def held_before_it_is_asked_for() -> Plays:
    """The policy is there a moment before the action."""
    return orders(scenario(Event(-0.005, "hold", ("legal", HELD)), rate=50))


def held_in_mid_run() -> Plays:
    return orders(scenario(Event(1.0, "hold", ("legal", (5,)))))


def held_while_nobody_works() -> Plays:
    """The operator dies, somebody holds something, another one takes the run over."""
    return orders(scenario(Event(1.0, "kill", 0), Event(1.1, "hold", ("legal", (5,)))))


def held_at_one_moment_after_the_other() -> Plays:
    plays: Plays = []
    for number in range(80):
        made = scenario(Event(0.5 + number / 40, "hold", ("legal", (2, 3, 4, 5))))
        plays.append(lambda made=made: search.play(0, made, {}))
    return plays


BROKEN: list[tuple[Break, str, Callable[[], Plays]]] = [
    (holds_are_not_read, "held", held_before_it_is_asked_for),
    (holds_are_known_to_plans_only, "held", held_in_mid_run),
    (hold_is_told_to_be_in_force_at_once, "held", held_at_one_moment_after_the_other),
]


@pytest.mark.parametrize(("broken", "guarantee", "histories"), BROKEN, ids=[b.__name__ for b, _, _ in BROKEN])
def test_broken_guarantee_is_missed(
    broken: Break, guarantee: str, histories: Callable[[], Plays], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_to_miss(broken, guarantee, histories, monkeypatch)


HISTORIES = (held_before_it_is_asked_for, held_in_mid_run, held_while_nobody_works, held_at_one_moment_after_the_other)


@pytest.mark.parametrize("histories", HISTORIES, ids=[histories.__name__ for histories in HISTORIES])
def test_what_is_held_is_left_alone(histories: Callable[[], Plays]) -> None:
    """Some of the same histories, of an operator that nobody has broken."""
    for play in histories()[::8]:
        outcome = play()
        assert outcome.problems == [], outcome.problems
