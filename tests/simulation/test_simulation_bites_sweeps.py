"""The simulation bites, continued: sweeps of a policy, broken on purpose."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from e2e.simulation import search
from e2e.simulation.scenarios import Event, Scenario, as_sweep, at_tick, in_chunks, smallest
from e2e.simulation.wires import CRASH_BEFORE
from invocation_operator.plan import identity
from invocation_operator.plan import sweeps as plan
from invocation_operator.reconcile.sweeps import SweepReconciler
from tests.simulation.test_simulation_bites import Break, Plays, first_to_miss, no_suspend
from tests.simulation.test_simulation_bites_holds import holds_are_known_to_plans_only

SLOWLY = {"limits": {"operationsPerSecond": 1}}


def ticks_have_no_name(patch: pytest.MonkeyPatch) -> None:
    """Each run of one tick has a record of its own."""
    real, numbers = identity.sweep_record_name, count()
    patch.setattr(identity, "sweep_record_name", lambda **of: f"{real(**of)[:48]}{next(numbers)}")


def nobody_takes_over(patch: pytest.MonkeyPatch) -> None:
    async def unfinished(*_: Any) -> None:
        return

    patch.setattr(SweepReconciler, "_unfinished", unfinished)


def what_was_taken_back_is_not_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "undone", lambda entry: entry.model_copy(update={"active": None}))


def orders(made: Scenario, number: int = 40) -> Plays:
    return [lambda seed=seed: search.play(seed, made, None, disorder=True) for seed in range(number)]


def swept(size: int, *events: Event, vary: Callable[[Scenario], Scenario] = as_sweep, **spec: Any) -> Scenario:
    made = vary(smallest("Purge", size)).but(epilogue=False, events=events)
    return made.but(spec={**made.spec, **spec})


def found_again_after_others_came() -> Plays:
    """Its status is lost, and it is deleted and created again, when there is something to purge again."""
    return orders(swept(2, Event(3.0, "more", 2)).but(epilogue=True))


def killed_in_mid_run() -> Plays:
    return orders(swept(6, Event(1.0, "kill", 0), **SLOWLY))


def killed_before_anything_was_asked() -> Plays:
    made = in_chunks(swept(3, vary=at_tick))
    return [lambda f=f: search.play(0, made, f) for f in search.singles(made, kinds=(CRASH_BEFORE,), begun=True)][:20]


def suspended_in_mid_run() -> Plays:
    events = Event(0.5, "patch", {"suspend": True}), Event(20.0, "patch", {"suspend": False})
    return orders(swept(12, *events, **SLOWLY))


def held_in_mid_run() -> Plays:
    return orders(swept(6, Event(1.0, "hold", ("legal", (5,))), **SLOWLY))


BROKEN: list[tuple[Break, str, Callable[[], Plays]]] = [
    (ticks_have_no_name, "once", found_again_after_others_came),
    (nobody_takes_over, "liveness", killed_in_mid_run),
    (what_was_taken_back_is_not_due, "liveness", killed_before_anything_was_asked),
    (no_suspend, "stop", suspended_in_mid_run),
    (holds_are_known_to_plans_only, "held", held_in_mid_run),
]


@pytest.mark.parametrize(("broken", "guarantee", "histories"), BROKEN, ids=[b.__name__ for b, _, _ in BROKEN])
def test_broken_guarantee_is_missed(
    broken: Break, guarantee: str, histories: Callable[[], Plays], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_to_miss(broken, guarantee, histories, monkeypatch)


@pytest.mark.parametrize("histories", [row[2] for row in BROKEN], ids=[row[2].__name__ for row in BROKEN])
def test_sweep_keeps_its_guarantees(histories: Callable[[], Plays]) -> None:
    """Some of the same histories, of an operator that nobody has broken."""
    for play in histories()[::20]:
        outcome = play()
        assert outcome.problems == [], outcome.problems
