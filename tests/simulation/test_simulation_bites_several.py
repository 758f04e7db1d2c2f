"""The simulation bites, continued: what several runs on one engine share, broken on purpose."""

from collections.abc import Callable
from typing import Any

import pytest

from e2e.simulation import search
from e2e.simulation.applied import NAME, SERVICE, Applied
from e2e.simulation.crowds import QUICK
from e2e.simulation.scenarios import Event, Scenario
from invocation_operator.reconcile.budget import Budget, Lane
from invocation_operator.reconcile.claims import Claims
from invocation_operator.reconcile.execute import Executor
from invocation_operator.reconcile.line import Line
from tests.simulation.test_simulation_bites import Break, Plays, first_to_miss


def claims_are_not_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Claims, "take", lambda *_: True)


def each_has_a_budget_of_its_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budget, "lane", lambda self: Lane(Budget(self.max_in_flight, self.rate, self._clock)))


def changed_limits_of_the_engine_are_not_heeded(patch: pytest.MonkeyPatch) -> None:
    """While something runs."""
    real = Budget.set_limits
    patch.setattr(Budget, "set_limits", lambda self, *limits: None if self._lanes else real(self, *limits))


def own_limits_are_not_heeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Executor, "_take_limits", lambda _: None)


def who_was_refused_last_comes_first(patch: pytest.MonkeyPatch) -> None:
    def ahead(self: Line, one: object, now: float) -> int:
        later = [*self._awaited]
        later = later[later.index(one) + 1 :] if one in later else []
        return sum(self._awaited[other] > now for other in later)

    patch.setattr(Line, "ahead", ahead)


def run(number: int, action: str, size: int, *, covers: tuple[str, ...] = (), **spec: Any) -> Applied:
    terms = {"verification": {"timeout": "90s"}, **spec}
    name = f"{NAME}-{number}", f"{SERVICE}{number}"
    return Applied(action, (QUICK[action][0],) * size, terms, name=name[0], service=name[1], covers=covers)


def together(
    *beside: Applied, size: int = 12, slowness: float = 1.0, events: tuple[Event, ...] = (), **limits: int
) -> Callable[[], Plays]:
    """A Cancel with others beside it, in some orders."""
    first = Scenario("Cancel", (QUICK["Cancel"][0],) * size, {"verification": {"timeout": "90s"}}, epilogue=False)
    spec, calm = {**first.engine_spec, "limits": limits}, slowness == 1.0
    made = first.but(beside=beside, events=events, engine_spec=spec, slowness=slowness, calm=calm)
    return lambda: [lambda seed=seed: search.play(seed, made, None, disorder=True) for seed in range(20)]


SAME = run(1, "Cancel", 1, covers=(SERVICE,))
OTHERS = tuple(run(number, action, 6) for number, action in enumerate(("Kill", "Resume", "Purge"), 1))
SMALL = tuple(run(number, action, 2) for number, action in enumerate(("Kill", "Resume", "Purge", "Cancel"), 1))
SLOWER = Event(1.0, "engine-limits", {"operationsPerSecond": 1})
BROKEN: list[tuple[Break, str, Callable[[], Plays]]] = [
    (claims_are_not_taken, "once", together(SAME, slowness=50.0, operationsPerSecond=4)),
    (each_has_a_budget_of_its_own, "rate", together(*OTHERS, operationsPerSecond=2)),
    (each_has_a_budget_of_its_own, "bounded", together(*OTHERS, maxInFlight=2)),
    (changed_limits_of_the_engine_are_not_heeded, "rate", together(*OTHERS, events=(SLOWER,), operationsPerSecond=3)),
    (own_limits_are_not_heeded, "rate", together(run(1, "Kill", 8, limits={"operationsPerSecond": 2}))),
    (own_limits_are_not_heeded, "bounded", together(run(1, "Kill", 8, limits={"maxInFlight": 2}))),
    (who_was_refused_last_comes_first, "fair", together(*SMALL, size=30, operationsPerSecond=1)),
]


@pytest.mark.parametrize(
    ("broken", "guarantee", "histories"), BROKEN, ids=[f"{b.__name__}-{guarantee}" for b, guarantee, _ in BROKEN]
)
def test_broken_guarantee_is_missed(
    broken: Break, guarantee: str, histories: Callable[[], Plays], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_to_miss(broken, guarantee, histories, monkeypatch)


@pytest.mark.parametrize("histories", [row[2] for row in BROKEN], ids=[f"{b.__name__}-{g}" for b, g, _ in BROKEN])
def test_several_runs_keep_their_guarantees(histories: Callable[[], Plays]) -> None:
    """Some of the same histories, of an operator that nobody has broken."""
    for play in histories()[::10]:
        outcome = play()
        assert outcome.problems == [], outcome.problems
