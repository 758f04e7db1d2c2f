"""The simulation bites: each guarantee is broken on purpose, in the operator, and must be missed within so many seeds.

Attributes are replaced here and nowhere else: a guarantee that nothing could break needs no watching.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from e2e.simulation import search
from e2e.simulation.scenarios import Event, Scenario, smallest
from e2e.simulation.wires import LATE
from invocation_operator.cluster.records import Hold, RecordStore
from invocation_operator.plan.operation.base import Seen, Timing
from invocation_operator.plan.operation.ending import Cancel
from invocation_operator.plan.operation.restarting import Restart
from invocation_operator.reconcile import execute, look, send
from invocation_operator.reconcile.budget import Lane
from invocation_operator.reconcile.control import Control, Stop
from invocation_operator.reconcile.journal import Journal
from invocation_operator.reconcile.outage import Outage
from invocation_operator.reconcile.send import Sender
from invocation_operator.reconcile.takeover import Leases

Break = Callable[[pytest.MonkeyPatch], None]
SEEDS = 400


def no_intent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "covers", lambda *_: True)


def plan_stays_new(patch: pytest.MonkeyPatch) -> None:
    """What was planned is taken to be there still, however long ago that was."""
    for room in (execute, send):
        patch.setattr(room, "CURRENT_SECONDS", float("inf"))


def lost_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sender, "_unanswered", lambda self, calls, error: self._not_asked(calls, error))


def lost_is_judged_at_once(patch: pytest.MonkeyPatch) -> None:
    real = Restart.judge
    patch.setattr(
        Restart,
        "judge",
        lambda self, *rest: real(replace(self, timing=replace(self.timing, settle_lost_after=0.0)), *rest),
    )


def birth_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    real = look._seen

    def seen(question: Any, row: Any, *rest: Any) -> Seen:
        born = question.planned.created_at
        return real(question, None if row is None else replace(row, created_at=born), *rest)

    patch.setattr(look, "_seen", seen)


def take_over_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Leases, "wait_seconds", lambda *_: 0.0)


def hold_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "certain", property(lambda _: True))


def no_lock(patch: pytest.MonkeyPatch) -> None:
    """A record that is there is taken for one's own."""
    real = RecordStore.create

    async def find(_: RecordStore, __: str) -> None:
        return None

    async def create(self: RecordStore, name: str, spec: Any, labels: Any) -> Any:
        return await real(self, f"{name[:40]}{self._clock():08.3f}".replace(".", ""), spec, labels)

    patch.setattr(RecordStore, "find", find)
    patch.setattr(RecordStore, "create", create)


def no_suspend(patch: pytest.MonkeyPatch) -> None:
    real = Control.stop
    heeded = (Stop.SUSPENDED, Stop.ENGINE_SUSPENDED, Stop.DELETED)
    patch.setattr(Control, "stop", lambda self: None if (found := real(self)) in heeded else found)


def no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "room", lambda _: 100)


def cancel_twice(patch: pytest.MonkeyPatch) -> None:
    real = Timing.of
    patch.setattr(Timing, "of", lambda *given: replace(real(*given), repeat_cancel=True, repeat_after=3.0))


def accepted_is_done(patch: pytest.MonkeyPatch) -> None:
    """What the engine took counts as effective, unseen."""
    real = Cancel.judge

    def judge(self: Cancel, item: Any, seen: Seen, now: float) -> Any:
        row = seen.row
        return real(self, item, replace(seen, row=None) if item.done and row is not None else seen, now)

    patch.setattr(Cancel, "judge", judge)


def no_pause_in_outages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Outage, "failed", lambda self, error, now: None)


Plays = list[Callable[[], search.Outcome]]


def faulty(action: str, **changes: Any) -> Callable[[], Plays]:
    """A late call at every boundary of a small run, from about its plan on."""
    scenario = smallest(action, 2).but(epilogue=False, **changes)
    kinds = (LATE,)
    return lambda: [lambda f=f: search.play(0, scenario, f) for f in search.singles(scenario, kinds=kinds, begun=True)]


def seeds(wanted: Callable[[Scenario], bool] = lambda _: True) -> Callable[[], Plays]:
    """Histories from seeds."""
    chosen = [seed for seed in range(SEEDS) if wanted(search.drawn(seed, most=12))]
    return lambda: [lambda seed=seed: search.play_seed(seed, most=12) for seed in chosen]


def one(action: str, size: int, *events: Event, **changes: Any) -> Callable[[], Plays]:
    """One scenario, in some orders."""
    made = smallest(action, size)
    scenario = made.but(events=events, **{**changes, "spec": {**made.spec, **changes.get("spec", {})}})
    return lambda: [lambda seed=seed: search.play(seed, scenario, None, disorder=True) for seed in range(20)]


def happens(*kinds: str) -> Callable[[Scenario], bool]:
    return lambda scenario: any(event.kind in kinds for event in scenario.events)


ONE_BY_ONE = {"limits": {"maxInFlight": 1}}
SLOWLY = {"limits": {"operationsPerSecond": 1}}
LONELY = Event(0.5, "isolate", (0, 60.0))
SUSPENDED = Event(0.5, "patch", {"suspend": True})
BROKEN: list[tuple[Break, str, Callable[[], Plays]]] = [
    (no_intent, "intent", one("Cancel", 4, spec=ONE_BY_ONE)),
    (plan_stays_new, "look", one("Cancel", 6, spec=SLOWLY)),
    (lost_is_not_asked, "once", faulty("RestartAsNew")),
    (lost_is_judged_at_once, "once", faulty("RestartAsNew")),
    (birth_is_not_looked_at, "identity", one("Cancel", 6, Event(1.0, "born-again", 5), spec=SLOWLY)),
    (take_over_at_once, "holder", one("Cancel", 8, Event(0.05, "second"), spec=ONE_BY_ONE)),
    (hold_for_ever, "holder", one("Pause", 2, Event(0.1, "second"), LONELY, slowness=5000.0)),
    (no_lock, "once", one("Cancel", 2)),
    (no_suspend, "stop", one("Cancel", 12, SUSPENDED, spec=SLOWLY)),
    (no_limit, "bounded", one("Cancel", 8, spec=ONE_BY_ONE, slowness=100.0)),
    (cancel_twice, "once", one("Cancel", 2, handlers=(("run_fails_slow", "backing-off"),) * 2)),
    (accepted_is_done, "truth", one("Cancel", 2, slowness=100.0)),
    (no_pause_in_outages, "storm", seeds(happens("engine-restarts"))),
]


@pytest.mark.parametrize(("broken", "guarantee", "histories"), BROKEN, ids=[b.__name__ for b, _, _ in BROKEN])
def test_broken_guarantee_is_missed(
    broken: Break, guarantee: str, histories: Callable[[], Plays], monkeypatch: pytest.MonkeyPatch
) -> None:
    first_to_miss(broken, guarantee, histories, monkeypatch)


def first_to_miss(
    broken: Break, guarantee: str, histories: Callable[[], Plays], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Break it, and play until somebody has missed it."""
    played = histories()
    broken(monkeypatch)
    for number, play in enumerate(played, 1):
        found = [problem for problem in play().problems if problem.startswith(f"{guarantee}:")]
        if found:
            print(f"{broken.__name__}: {guarantee}, in history {number}: {found[0]}")
            return
    pytest.fail(f"{len(played)} histories, and nobody has missed it")
